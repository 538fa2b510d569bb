//! Lines of an OpenMetrics file: series with their values and times; exemplars are passed over.

use exposition::{MetricKind, key, number};
use model::Labels;
use model::quote::push_quoted_bytes;

/// One sample line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// The series as it is written.
    pub key: &'a [u8],
    pub value: f64,
    /// Milliseconds.
    pub time: Option<i64>,
}

/// What a line turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Read<'a> {
    Sample(Line<'a>),
    /// Metadata.
    Nothing,
    End,
}

/// Remembers what the last `# TYPE` line said: it decides how `le` and `quantile` are written.
#[derive(Default)]
pub struct Lines {
    kind: MetricKind,
}

impl Lines {
    pub fn labels(&self, line: &Line<'_>) -> Result<Labels, String> {
        let pairs = key::decode(line.key, self.kind).map_err(|e| e.to_string())?;
        Ok(Labels::from_pairs(pairs))
    }

    /// Reads one line, without its newline.
    pub fn read<'a>(&mut self, line: &'a [u8]) -> Result<Read<'a>, String> {
        if line == b"# EOF" {
            return Ok(Read::End);
        }
        if let Some(rest) = line.strip_prefix(b"# ") {
            self.read_metadata(rest).ok_or_else(|| refusal("a comment", line))?;
            return Ok(Read::Nothing);
        }
        if line.is_empty() || line[0] == b'#' {
            return Err(refusal("an empty line or comment", line));
        }
        sample(line).map(Read::Sample).ok_or_else(|| refusal("a sample", line))
    }

    fn read_metadata(&mut self, rest: &[u8]) -> Option<()> {
        let mut words = rest.splitn(3, |b| *b == b' ');
        let (keyword, _name, text) = (words.next()?, words.next()?, words.next().unwrap_or_default());
        match keyword {
            b"HELP" | b"UNIT" => Some(()),
            b"TYPE" => {
                self.kind = match text {
                    b"counter" => MetricKind::Counter,
                    b"gauge" => MetricKind::Gauge,
                    b"histogram" => MetricKind::Histogram,
                    b"gaugehistogram" => MetricKind::GaugeHistogram,
                    b"summary" => MetricKind::Summary,
                    b"info" => MetricKind::Info,
                    b"stateset" => MetricKind::StateSet,
                    b"unknown" => MetricKind::Unknown,
                    _ => return None,
                };
                Some(())
            }
            _ => None,
        }
    }
}

fn refusal(what: &str, line: &[u8]) -> String {
    let mut text = format!("expected {what} of OpenMetrics, got ");
    push_quoted_bytes(&mut text, line);
    text
}

/// `key value [seconds] [# exemplar]`, with one blank between.
fn sample(line: &[u8]) -> Option<Line<'_>> {
    let end = key_end(line)?;
    let (key, rest) = (&line[..end], line[end..].strip_prefix(b" ")?);
    let without_exemplar = rest.windows(3).position(|w| w == b" # ").map_or(rest, |at| &rest[..at]);
    let mut words = without_exemplar.split(|b| *b == b' ');
    let value = number::parse_value(words.next()?).ok()?;
    let time = match words.next() {
        None => None,
        Some(word) => Some(milliseconds(word)?),
    };
    words.next().is_none().then_some(Line { key, value, time })
}

/// Where the series' text ends: behind its braces, or behind its name.
fn key_end(line: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut depth, mut at) = (false, 0, 0);
    while let Some(&byte) = line.get(at) {
        match byte {
            b'\\' if is_quoted => at += 1,
            b'"' => is_quoted = !is_quoted,
            b'{' if !is_quoted => depth += 1,
            b'}' if !is_quoted && depth == 1 => return Some(at + 1),
            b' ' if !is_quoted && depth == 0 => return (at > 0).then_some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Seconds as text to milliseconds, cut toward zero.
fn milliseconds(word: &[u8]) -> Option<i64> {
    let seconds = number::parse_value(word).ok()?;
    seconds.is_finite().then_some((seconds * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Option<(&str, f64, Option<i64>)>) {
        let mut lines = Lines::default();
        let have = match lines.read(line.as_bytes()) {
            Ok(Read::Sample(s)) => {
                Some((lines.labels(&s).map(|l| l.to_string()).unwrap_or_else(|e| e), s.value, s.time))
            }
            _ => None,
        };
        assert_eq!(have, expect.map(|(l, v, t)| (l.to_owned(), v, t)), "{line}");
    }

    #[test]
    fn samples_are_read_with_seconds_and_without_exemplars() {
        let a = r#"{__name__="a"}"#;
        check("a 1 1700000000", Some((a, 1.0, Some(1_700_000_000_000))));
        check("a 1 1700000000.123", Some((a, 1.0, Some(1_700_000_000_123))));
        check("a 1", Some((a, 1.0, None)));
        check(
            "a{b=\"} \\\" {\"} 2 3 # {t=\"x\"} 1 4",
            Some((r#"{__name__="a", b="} \" {"}"#, 2.0, Some(3000))),
        );
        check(
            "{\"a b\",c=\"d\"} -Inf 1",
            Some((r#"{__name__="a b", c="d"}"#, f64::NEG_INFINITY, Some(1000))),
        );
        for bad in ["", "a", "a x", "a 1 2 3", "a{b=\"c 1", "# nonsense", "#", " 1", "a  1"] {
            check(bad, None);
        }
    }
}
