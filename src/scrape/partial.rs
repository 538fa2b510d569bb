//! What of a page that was cut off can be kept: the families that are all there.
//!
//! A family is known to be whole when something of the next one came behind it, so the last one is left out.

use crate::scrape::content::Form;

/// Cuts `page` back to its whole families; nothing is left where there is none.
pub fn keep_whole(form: Form, page: &mut Vec<u8>) {
    let end = match form {
        Form::Protobuf => whole_messages(page),
        Form::Text | Form::OpenMetrics => whole_families(page),
    };
    page.truncate(end);
    if form == Form::OpenMetrics && end > 0 {
        page.extend_from_slice(b"# EOF\n");
    }
}

/// Where the last family among whole lines begins.
fn whole_families(page: &[u8]) -> usize {
    let (mut family, mut begin, mut at): (&[u8], usize, usize) = (b"", 0, 0);
    for end in memchr::memchr_iter(b'\n', page) {
        let line = &page[at..end];
        let is_same = match said_of(line) {
            Said::Nothing => true,
            Said::Family(name) => name == family,
            // Of `a` are `a_bucket` and `a_total`; where it is another family all the same, less is kept.
            Said::Sample(name) => !family.is_empty() && name.starts_with(family),
        };
        if let (false, Said::Family(name) | Said::Sample(name)) = (is_same, said_of(line)) {
            (family, begin) = (name, at);
        }
        at = end + 1;
    }
    begin
}

/// What a line is about.
enum Said<'a> {
    Nothing,
    Family(&'a [u8]),
    Sample(&'a [u8]),
}

fn said_of(line: &[u8]) -> Said<'_> {
    let line = line.trim_ascii();
    let Some(comment) = line.strip_prefix(b"#") else {
        let name = match line.strip_prefix(b"{") {
            Some(quoted) => first_text(quoted.trim_ascii_start()),
            None => until(line, |b| b == b'{' || b.is_ascii_whitespace()),
        };
        return if name.is_empty() { Said::Nothing } else { Said::Sample(name) };
    };
    let comment = comment.trim_ascii_start();
    let word = until(comment, |b| b.is_ascii_whitespace());
    if !matches!(word, b"HELP" | b"TYPE" | b"UNIT") {
        return Said::Nothing;
    }
    match first_text(comment[word.len()..].trim_ascii_start()) {
        b"" => Said::Nothing,
        name => Said::Family(name),
    }
}

/// A name, which may stand in quotes: as it stands there.
fn first_text(text: &[u8]) -> &[u8] {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        return until(text, |b| b.is_ascii_whitespace());
    };
    let mut is_escaped = false;
    until(quoted, |b| {
        let is_end = b == b'"' && !is_escaped;
        is_escaped = b == b'\\' && !is_escaped;
        is_end
    })
}

fn until(text: &[u8], is_end: impl FnMut(u8) -> bool) -> &[u8] {
    let end = text.iter().copied().position(is_end).unwrap_or(text.len());
    &text[..end]
}

/// Bytes of a length before a family.
const LENGTH_BYTES_MAX: usize = 5;

/// Where the last whole message ends. Each is a family.
fn whole_messages(page: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let (mut length, mut at) = (0u64, end);
        loop {
            let Some(byte) = page.get(at).filter(|_| at - end < LENGTH_BYTES_MAX) else { return end };
            length |= u64::from(byte & 0x7f) << (7 * (at - end));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if length > (page.len() - at) as u64 {
            return end;
        }
        end = at + length as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: Form, page: &str, expect: &str) {
        let mut kept = page.as_bytes().to_vec();
        keep_whole(form, &mut kept);
        assert_eq!(String::from_utf8_lossy(&kept), expect, "{page:?}");
    }

    #[test]
    fn the_last_family_is_not_believed() {
        check(Form::Text, "", "");
        check(Form::Text, "a 1\n", "");
        check(Form::Text, "a 1\nb 1", "");
        check(Form::Text, "a 1\nb 1\n", "a 1\n");
        check(Form::Text, "a{x=\"1\"} 1\na{x=\"2\"} 1\nb 1\nb", "a{x=\"1\"} 1\na{x=\"2\"} 1\n");
        let whole = "# HELP a An a.\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 2\n\n";
        check(Form::Text, &format!("{whole}# HELP b A b.\n"), whole);
        check(Form::Text, &format!("{whole}# HELP b A"), "");
        check(Form::Text, &format!("{whole}# a comment\nc 1\n"), &format!("{whole}# a comment\n"));
        let quoted = "# TYPE \"a.b\" counter\n{\"a.b\",x=\"1\"} 1\n{\"a.b\",x=\"2\"} 1\n";
        check(Form::Text, &format!("{quoted}{{\"c d\"}} 2\n"), quoted);
        check(Form::OpenMetrics, "a 1\nb 1\nc", "a 1\n# EOF\n");
        check(Form::OpenMetrics, "a 1\n", "");
    }

    #[test]
    fn messages_are_families() {
        check(Form::Protobuf, "\x02ab\x03abc\x04abc", "\x02ab\x03abc");
        check(Form::Protobuf, "\x02ab\x03abc", "\x02ab\x03abc");
        check(Form::Protobuf, "\x02a", "");
        let mut long = vec![0xff; 9];
        keep_whole(Form::Protobuf, &mut long);
        assert!(long.is_empty());
    }
}
