//! The raw text of a series to its labels: done once when a series appears, never per sample.

use std::borrow::Cow;

use model::labels::METRIC_NAME;
use model::quote::push_quoted_bytes;

use crate::flat;
use crate::number;
use crate::text::{MetricKind, is_blank, is_name};

/// Labels in the order of the page, the metric's name first; names may repeat and values may be empty.
pub type SampleLabels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name that is not UTF-8: the scrape fails with this text.
    #[error("invalid metric name or label names: {0}")]
    NotUtf8(String),
    /// Not the key of any sample that the parser gave.
    #[error("not a series: {0}")]
    NotASeries(String),
}

/// Reads `key` as [`crate::Sample::key`] gave it; `kind` is that of the sample.
pub fn decode(key: &[u8], kind: MetricKind) -> Result<SampleLabels<'_>, KeyError> {
    let not_a_series = || KeyError::NotASeries(go_quoted(key));
    if let Some(parts) = flat::parts(key) {
        return flat::labels_of(parts, true).ok_or_else(not_a_series);
    }
    let mut out = SampleLabels::with_capacity(8);
    let brace = match brace_of(key) {
        Some(at) => at,
        None => {
            out.push((METRIC_NAME.into(), text(key, key)?));
            return Ok(out);
        }
    };
    if let Some(name) = name_before(key, brace) {
        out.push((METRIC_NAME.into(), text(name, key)?));
    }
    let mut at = brace + 1;
    loop {
        at = skip(key, at, |c| is_blank(c) || c == b',');
        let (name, end) = match key.get(at).ok_or_else(not_a_series)? {
            b'}' => break,
            b'"' => inside_quotes(key, at).ok_or_else(not_a_series)?,
            _ => {
                let end = skip(key, at, is_name);
                (&key[at..end], end)
            }
        };
        let next = skip(key, end, is_blank);
        if key.get(next) != Some(&b'=') {
            if key.get(at) != Some(&b'"') {
                return Err(not_a_series());
            }
            out.insert(0, (METRIC_NAME.into(), text(name, key)?));
            at = end;
            continue;
        }
        at = skip(key, next + 1, is_blank);
        let (value, end) = inside_quotes(key, at).ok_or_else(not_a_series)?;
        let name = text(name, key)?;
        let value = normalized(kind, &name, text(value, key)?);
        out.push((name, value));
        at = end;
    }
    Ok(out)
}

/// Reads what stands between the braces of an exemplar; Prometheus leaves escapes in values as they are.
pub fn exemplar_labels(raw: &[u8]) -> Result<SampleLabels<'_>, KeyError> {
    let mut out = SampleLabels::new();
    let not_labels = || KeyError::NotASeries(go_quoted(raw));
    if let Some(parts) = flat::parts(raw) {
        return flat::labels_of(parts, false).ok_or_else(not_labels);
    }
    let plain = |b| std::str::from_utf8(b).map(Cow::Borrowed).map_err(|_| not_labels());
    let mut at = 0;
    loop {
        at = skip(raw, at, |c| c == b',');
        let (name, end) = match raw.get(at) {
            None => return Ok(out),
            Some(b'"') => inside_quotes(raw, at).ok_or_else(not_labels)?,
            Some(_) => {
                let end = skip(raw, at, is_name);
                (&raw[at..end], end)
            }
        };
        if raw.get(end) != Some(&b'=') {
            return Err(not_labels());
        }
        let (value, end) = inside_quotes(raw, end + 1).ok_or_else(not_labels)?;
        out.push((plain(name)?, plain(value)?));
        at = end;
    }
}

/// The brace that opens the labels: a metric name before it has none.
fn brace_of(key: &[u8]) -> Option<usize> {
    memchr::memchr(b'{', key)
}

/// The name as the page has it: blanks before it are part of it, blanks behind it are not.
fn name_before(key: &[u8], brace: usize) -> Option<&[u8]> {
    let end = key[..brace].iter().rposition(|c| !is_blank(*c))? + 1;
    Some(&key[..end])
}

fn skip(key: &[u8], mut at: usize, class: impl Fn(u8) -> bool) -> usize {
    while key.get(at).is_some_and(|c| class(*c)) {
        at += 1;
    }
    at
}

/// What stands between the quote at `at` and its end, and the offset behind it.
///
/// Bytes NUL behind the closing quote of a label value belong to the token, as they do for Prometheus's lexer.
fn inside_quotes(key: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if key.get(at) != Some(&b'"') {
        return None;
    }
    let mut i = at + 1;
    loop {
        i += memchr::memchr2(b'"', b'\\', key.get(i..)?)?;
        if key[i] == b'"' {
            break;
        }
        i = skip(key, i + 1, |c| c == 0) + 1;
    }
    let behind = skip(key, i + 1, |c| c == 0);
    Some((&key[at + 1..behind - 1], behind))
}

fn text<'a>(raw: &'a [u8], key: &[u8]) -> Result<Cow<'a, str>, KeyError> {
    let text = std::str::from_utf8(raw).map_err(|_| KeyError::NotUtf8(go_quoted(key)))?;
    Ok(if raw.contains(&b'\\') { Cow::Owned(unescape(text)) } else { Cow::Borrowed(text) })
}

/// `\"`, `\\` and `\n` are read, other backslashes stay.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let read = match (c, chars.peek()) {
            ('\\', Some('"')) => '"',
            ('\\', Some('\\')) => '\\',
            ('\\', Some('n')) => '\n',
            _ => {
                out.push(c);
                continue;
            }
        };
        chars.next();
        out.push(read);
    }
    out
}

/// `le` of histograms and `quantile` of summaries are written as OpenMetrics writes floats, so that a target that
/// changes its format keeps its series.
fn normalized<'a>(kind: MetricKind, name: &str, value: Cow<'a, str>) -> Cow<'a, str> {
    let is_bound = (kind == MetricKind::Histogram && name == "le")
        || (kind == MetricKind::Summary && name == "quantile");
    if !is_bound {
        return value;
    }
    match number::parse_value(value.as_bytes()) {
        Ok(v) => Cow::Owned(openmetrics_float(v)),
        Err(_) => value,
    }
}

/// A float as OpenMetrics writes it: `1` is `1.0`.
pub fn openmetrics_float(v: f64) -> String {
    let mut out = model::float_text::format_g(v);
    if v.is_finite() && !out.contains(['e', '.']) {
        out.push_str(".0");
    }
    out
}

fn go_quoted(bytes: &[u8]) -> String {
    let mut out = String::new();
    push_quoted_bytes(&mut out, bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Event, Parser};
    use proptest::prelude::*;

    fn check(page: &str, want: &[(&str, &str)]) {
        let mut parser = Parser::new(page.as_bytes());
        while let Some(e) = parser.next_event().unwrap() {
            let Event::Sample(s) = e else { continue };
            let got = decode(s.key, s.kind).unwrap();
            let got: Vec<(&str, &str)> = got.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
            assert_eq!(got, want, "{page}");
        }
    }

    #[test]
    fn keys_become_labels() {
        check("a 1", &[("__name__", "a")]);
        check("a{} 1", &[("__name__", "a")]);
        check("a { b = \"c\" , d=\"\" } 1", &[("__name__", "a"), ("b", "c"), ("d", "")]);
        check("a{b=\"1\" c=\"2\"} 1", &[("__name__", "a"), ("b", "1"), ("c", "2")]);
        check(r#"a{b="\"x\" \\ \n \q"} 1"#, &[("__name__", "a"), ("b", "\"x\" \\ \n \\q")]);
        check("{q=\"0\",\"a.b\"} 1", &[("__name__", "a.b"), ("q", "0")]);
        check("{\"a\\\"{\",\"l,}\"=\"x}\"} 1", &[("__name__", "a\"{"), ("l,}", "x}")]);
        check("a{b=\"x\ny\0\"} 1", &[("__name__", "a"), ("b", "x\ny\0")]);
    }

    #[test]
    fn bounds_are_written_one_way() {
        let h = |le: &str, want: &str| {
            check(&format!("# TYPE h histogram\nh{{le=\"{le}\"}} 1"), &[("__name__", "h"), ("le", want)]);
        };
        h("1", "1.0");
        h("0.5", "0.5");
        h("+Inf", "+Inf");
        h("Inf", "+Inf");
        h("1e3", "1000.0");
        h("1e+25", "1e+25");
        h("x", "x");
        check(
            "# TYPE s summary\ns{quantile=\"0\",le=\"1\"} 1",
            &[("__name__", "s"), ("quantile", "0.0"), ("le", "1")],
        );
        check("# TYPE g gauge\ng{le=\"1\"} 1", &[("__name__", "g"), ("le", "1")]);
    }

    #[test]
    fn names_that_are_not_utf8_are_refused() {
        assert!(matches!(decode(b"{\"\xff\"}", MetricKind::Unknown), Err(KeyError::NotUtf8(_))));
        assert!(matches!(decode(b"a{", MetricKind::Unknown), Err(KeyError::NotASeries(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_labels_or_an_error(key in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&key, MetricKind::Histogram);
        }
    }
}
