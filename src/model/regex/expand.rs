//! `$1`, `$name`, `${name}` and `$$` in replacements, by the rules of Go's `Regexp.Expand`.

use super::Captures;

/// Appends `template` with its references replaced by what the groups matched; an unknown group is empty.
pub(super) fn expand(out: &mut String, mut template: &str, captures: &Captures<'_>) {
    while let Some(at) = template.find('$') {
        out.push_str(&template[..at]);
        template = &template[at + 1..];
        if let Some(after) = template.strip_prefix('$') {
            out.push('$');
            template = after;
            continue;
        }
        let Some((name, after)) = reference(template) else {
            out.push('$');
            continue;
        };
        template = after;
        out.push_str(match number(name) {
            Some(index) => captures.group(index).unwrap_or(""),
            None => captures.named(name).unwrap_or(""),
        });
    }
    out.push_str(template);
}

/// The name at the beginning of the text after a `$`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = inner.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inner.len());
    if end == 0 {
        return None;
    }
    let (name, after) = inner.split_at(end);
    Some((name, if braced { after.strip_prefix('}')? } else { after }))
}

/// A group's number; a name that only begins with digits, or has a leading zero, is a name.
fn number(name: &str) -> Option<usize> {
    if name.len() > 9
        || (name.len() > 1 && name.starts_with('0'))
        || !name.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    name.parse().ok()
}
