//! A page's other forms: OpenMetrics and the delimited protobuf of client libraries, made from the text form.
//!
//! In: a page in the text format. Out: the same samples in another form. Invariant: parts converted one by one and put
//! together are the whole page converted, the end mark aside. Never: sees a page that the generator did not make.

use crate::write::block::push_varint;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    #[default]
    Text,
    OpenMetrics,
    Protobuf,
}

impl Format {
    pub fn parse(name: &str) -> Result<Format, String> {
        match name {
            "text" => Ok(Format::Text),
            "openmetrics" => Ok(Format::OpenMetrics),
            "protobuf" => Ok(Format::Protobuf),
            _ => Err(format!("{name:?} is none of text, openmetrics, protobuf")),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::OpenMetrics => "openmetrics",
            Format::Protobuf => "protobuf",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Whether a scraper's `Accept` header, in lower case, asks for it.
    pub fn asked_for(self, accept: &str) -> bool {
        match self {
            Format::Text => true,
            Format::OpenMetrics => accept.contains("application/openmetrics-text"),
            Format::Protobuf => accept.contains("application/vnd.google.protobuf"),
        }
    }

    /// A part of a page in this form.
    pub fn convert(self, text: &[u8]) -> Vec<u8> {
        match self {
            Format::Text => text.to_vec(),
            Format::OpenMetrics => openmetrics(text),
            Format::Protobuf => protobuf(text),
        }
    }

    /// What a page ends with.
    pub fn end(self) -> &'static [u8] {
        if self == Format::OpenMetrics { b"# EOF\n" } else { b"" }
    }
}

/// OpenMetrics names the family of a counter without `_total`, wants every counter to have it, and says `unknown`.
fn openmetrics(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    // HELP comes first, and only TYPE says what the family's name is: it waits.
    let mut help: Option<(&[u8], &[u8])> = None;
    for line in text.split_inclusive(|&b| b == b'\n') {
        if let Some(rest) = line.strip_prefix(b"# HELP ") {
            help = split_word(rest);
        } else if let Some((name, kind)) = line.strip_prefix(b"# TYPE ").and_then(split_word) {
            let counter = kind.starts_with(b"counter");
            let short = name.strip_suffix(b"_total").filter(|_| counter);
            let kind: &[u8] = match (short, kind.trim_ascii_end()) {
                (None, b"counter" | b"untyped") => b"unknown",
                (_, kind) => kind,
            };
            let name = short.unwrap_or(name);
            if let Some((_, text)) = help.take() {
                out.extend_from_slice(&[b"# HELP ", name, b" ", text].concat());
            }
            out.extend_from_slice(&[b"# TYPE ", name, b" ", kind, b"\n"].concat());
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

fn split_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&b| b == b' ')?;
    Some((&text[..at], &text[at + 1..]))
}

/// `io.prometheus.client.MetricFamily` messages, each after its length.
fn protobuf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut family = Family::default();
    for line in text.split(|&b| b == b'\n') {
        if let Some((_, help)) = line.strip_prefix(b"# HELP ").and_then(split_word) {
            family.flush(&mut out);
            family.help = help.to_vec();
        } else if let Some((name, kind)) = line.strip_prefix(b"# TYPE ").and_then(split_word) {
            family.name = name.to_vec();
            // Number of the type, and of the field that holds the value.
            family.kind = match kind {
                b"counter" => (0, 3),
                b"gauge" => (1, 2),
                _ => (3, 5),
            };
        } else if !line.is_empty() {
            family.sample(line);
        }
    }
    family.flush(&mut out);
    out
}

#[derive(Default)]
struct Family {
    name: Vec<u8>,
    help: Vec<u8>,
    kind: (u8, u8),
    metrics: Vec<u8>,
}

impl Family {
    fn sample(&mut self, line: &[u8]) {
        let Some(at) = line.iter().rposition(|&b| b == b' ') else { return };
        let value: f64 =
            std::str::from_utf8(&line[at + 1..]).ok().and_then(|v| v.parse().ok()).unwrap_or(0.0);
        let mut metric = Vec::with_capacity(line.len() + 16);
        let labels =
            line[..at].iter().position(|&b| b == b'{').map_or(&[][..], |open| &line[open + 1..at - 1]);
        for_each_label(labels, |name, value| {
            let mut label = Vec::with_capacity(name.len() + value.len() + 4);
            push_bytes(&mut label, 1, name);
            push_bytes(&mut label, 2, value);
            push_bytes(&mut metric, 1, &label);
        });
        let mut held = vec![1 << 3 | 1];
        held.extend_from_slice(&value.to_le_bytes());
        push_bytes(&mut metric, self.kind.1, &held);
        push_bytes(&mut self.metrics, 4, &metric);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.metrics.is_empty() {
            let mut message = Vec::with_capacity(self.metrics.len() + 128);
            push_bytes(&mut message, 1, &self.name);
            push_bytes(&mut message, 2, &self.help);
            message.extend_from_slice(&[3 << 3, self.kind.0]);
            message.extend_from_slice(&self.metrics);
            push_varint(out, message.len() as u64);
            out.extend_from_slice(&message);
        }
        *self = Family::default();
    }
}

/// The generator's label values hold no quotes and no backslashes.
fn for_each_label(mut labels: &[u8], mut each: impl FnMut(&[u8], &[u8])) {
    while let Some(equals) = labels.windows(2).position(|w| w == b"=\"") {
        let value = &labels[equals + 2..];
        let Some(end) = value.iter().position(|&b| b == b'"') else { return };
        each(&labels[..equals], &value[..end]);
        labels = value[end + 1..].strip_prefix(b",").unwrap_or_default();
    }
}

/// A field that holds bytes.
pub fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_total How many.\n# TYPE a_total counter\na_total{x=\"1\",y=\"z\"} 3\n\
                        # HELP b Size.\n# TYPE b gauge\nb 0.5\n# HELP c Who knows.\n# TYPE c untyped\nc 1\n";

    #[test]
    fn openmetrics_has_short_names_of_counters() {
        let expect = "# HELP a How many.\n# TYPE a counter\na_total{x=\"1\",y=\"z\"} 3\n\
                      # HELP b Size.\n# TYPE b gauge\nb 0.5\n# HELP c Who knows.\n# TYPE c unknown\nc 1\n";
        assert_eq!(String::from_utf8_lossy(&Format::OpenMetrics.convert(PAGE.as_bytes())), expect);
    }

    #[test]
    fn protobuf_messages_are_delimited_and_hold_the_samples() {
        let out = Format::Protobuf.convert(PAGE.as_bytes());
        let first: &[u8] = b"\x0a\x07a_total\x12\x09How many.\x18\x00\x22\x1b\
                             \x0a\x06\x0a\x01x\x12\x011\x0a\x06\x0a\x01y\x12\x01z\x1a\x09\x09";
        assert_eq!(out[0] as usize, first.len() + 8);
        assert_eq!(&out[1..1 + first.len()], first);
        assert_eq!(out[1 + first.len()..][..8], 3.0f64.to_le_bytes());
        let mut at = 0;
        let mut messages = 0;
        while at < out.len() {
            at += 1 + out[at] as usize;
            messages += 1;
        }
        assert_eq!((at, messages), (out.len(), 3));
    }

    #[test]
    fn parts_make_the_whole() {
        let cut = PAGE.find("# HELP b").unwrap_or(0);
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            let (a, b) = PAGE.as_bytes().split_at(cut);
            assert_eq!([format.convert(a), format.convert(b)].concat(), format.convert(PAGE.as_bytes()));
        }
    }
}
