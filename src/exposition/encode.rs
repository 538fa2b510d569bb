//! Events as bytes: text 0.0.4 (and the quoted names of 1.0.0) for own metrics, federation and load generation.

use model::float_text::push_g;
use model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use model::{Labels, Timestamp};

use crate::text::MetricKind;

/// What a text answer is announced as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8";

pub fn push_help(out: &mut Vec<u8>, name: &str, help: &str) {
    push_meta(out, b"# HELP ", name);
    push_escaped(out, help, false);
    out.push(b'\n');
}

pub fn push_type(out: &mut Vec<u8>, name: &str, kind: MetricKind) {
    push_meta(out, b"# TYPE ", name);
    // The text format has no other words.
    let word = match kind {
        MetricKind::Counter | MetricKind::Gauge | MetricKind::Histogram | MetricKind::Summary => {
            kind.as_str()
        }
        _ => "untyped",
    };
    out.extend_from_slice(word.as_bytes());
    out.push(b'\n');
}

/// One sample line; the metric's name is the label `__name__` of `labels`.
pub fn push_sample(out: &mut Vec<u8>, labels: &Labels, value: f64, timestamp: Option<Timestamp>) {
    let name = labels.metric_name().unwrap_or_default();
    let rest = labels.iter().filter(|l| l.name != METRIC_NAME).map(|l| (l.name, l.value));
    push_line(out, name, rest, value, timestamp);
}

/// One sample line from a name and labels in the order given.
pub fn push_line<'a>(
    out: &mut Vec<u8>,
    name: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    value: f64,
    timestamp: Option<Timestamp>,
) {
    push_key(out, name, labels);
    out.push(b' ');
    push_g(out, value);
    if let Some(t) = timestamp {
        out.push(b' ');
        out.extend_from_slice(t.to_string().as_bytes());
    }
    out.push(b'\n');
}

/// The part of a line before its value.
pub fn push_key<'a>(out: &mut Vec<u8>, name: &str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let is_quoted = !is_legacy_metric_name(name);
    let mut between = b'{';
    if is_quoted {
        out.push(b'{');
        push_quoted(out, name);
        between = b',';
    } else {
        out.extend_from_slice(name.as_bytes());
    }
    for (label, value) in labels {
        out.push(between);
        between = b',';
        push_name(out, label, is_legacy_label_name(label));
        out.push(b'=');
        push_quoted(out, value);
    }
    if between == b',' {
        out.push(b'}');
    }
}

fn push_meta(out: &mut Vec<u8>, what: &[u8], name: &str) {
    out.extend_from_slice(what);
    push_name(out, name, is_legacy_metric_name(name));
    out.push(b' ');
}

fn push_name(out: &mut Vec<u8>, name: &str, is_legacy: bool) {
    if is_legacy {
        out.extend_from_slice(name.as_bytes());
    } else {
        push_quoted(out, name);
    }
}

fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text, true);
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &str, is_quoted: bool) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr3(b'\\', b'\n', b'"', rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ if is_quoted => out.extend_from_slice(b"\\\""),
            _ => out.push(b'"'),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;
    use crate::text::{Event, Parser, unescape_help};
    use proptest::prelude::*;

    #[test]
    fn lines_look_as_prometheus_writes_them() {
        let mut out = vec![];
        push_help(&mut out, "a", "one \\ two\n\"three\"");
        push_type(&mut out, "a", MetricKind::Counter);
        push_sample(&mut out, &Labels::from_pairs([("__name__", "a"), ("l", "x\"y\\z\n")]), 1e6, Some(-5));
        push_sample(&mut out, &Labels::from_pairs([("__name__", "a")]), f64::INFINITY, None);
        push_sample(&mut out, &Labels::from_pairs([("__name__", "a.b"), ("l.l", "x")]), 0.5, None);
        push_sample(&mut out, &Labels::from_pairs([("__name__", "a.b")]), 2.0, None);
        let want = "# HELP a one \\\\ two\\n\"three\"\n# TYPE a counter\na{l=\"x\\\"y\\\\z\\n\"} 1e+06 -5\na +Inf\n\
                    {\"a.b\",\"l.l\"=\"x\"} 0.5\n{\"a.b\"} 2\n";
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            name in "\\PC{1,8}", label in "\\PC{1,8}", value in "[\\PC\n\"\\\\]{1,8}", bits: u64, help in "[\\PC\n\\\\]{0,9}",
            at in proptest::option::of(0i64..i64::MAX),
        ) {
            prop_assume!(label != "__name__");
            let v = f64::from_bits(bits);
            prop_assume!(!v.is_nan());
            let mut out = vec![];
            push_help(&mut out, "a", &help);
            push_line(&mut out, &name, [(label.as_str(), value.as_str())], v, at);
            let mut parser = Parser::new(&out);
            let Ok(Some(Event::Help { text, .. })) = parser.next_event() else { panic!("no help") };
            if !help.trim_matches([' ', '\t']).is_empty() {
                prop_assert_eq!(unescape_help(text), help);
            }
            let Ok(Some(Event::Sample(s))) = parser.next_event() else { panic!("no sample") };
            prop_assert_eq!((s.value.to_bits(), s.timestamp), (bits, at));
            let got = key::decode(s.key, s.kind).unwrap();
            prop_assert_eq!(got, vec![("__name__".into(), name.into()), (label.into(), value.into())]);
        }
    }
}
