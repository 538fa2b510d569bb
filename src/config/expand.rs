//! `$name` and `${name}` in external labels, from the environment, by the rules of Go's `os.Expand`.

/// Expands `text`; `value` is asked for each name. `$$` is a dollar.
pub(super) fn expand(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, size) = shell_name(after);
        match name {
            "" if size == 0 => out.push('$'),
            // What is no name at all is eaten.
            "" => {}
            "$" => out.push('$'),
            name => out.push_str(&value(name)),
        }
        rest = &after[size..];
    }
    out.push_str(rest);
    out
}

/// The name at the beginning of `text`, and the bytes it takes with its braces.
fn shell_name(text: &str) -> (&str, usize) {
    let special = |b: u8| b"*#$@!?-0123456789".contains(&b);
    let bytes = text.as_bytes();
    match bytes.first() {
        None => ("", 0),
        Some(b'{') => match text[1..].find('}') {
            Some(0) => ("", 2),
            Some(end) => (&text[1..1 + end], end + 2),
            None => ("", 1),
        },
        Some(b) if special(*b) => (&text[..1], 1),
        Some(_) => {
            let size = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            (&text[..size], size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_expand_as_in_go() {
        for (text, want) in [
            ("foo${TEST}bar", "foo<TEST>bar"),
            ("$TEST-x", "<TEST>-x"),
            ("foo$$bar", "foo$bar"),
            ("foo$${TEST}", "foo${TEST}"),
            ("${", ""),
            ("${}x", "x"),
            ("a$ b", "a$ b"),
            ("$", "$"),
        ] {
            assert_eq!(expand(text, |n| format!("<{n}>")), want, "{text}");
        }
    }
}
