//! Bulk imports: pages with timestamps, series as JSON lines, points of InfluxDB's line protocol.
//!
//! What cannot be read is told and left out; the rest is taken.

use std::borrow::Cow;

use exposition::remote_write::{Pairs, checked_labels};
use exposition::remote_write_build::RequestBuilder;
use exposition::text::Event;
use exposition::{Parser, influx, json_lines, key};
use model::Timestamp;
use model::labels::METRIC_NAME;

/// Faults that are told; further ones are counted.
const FAULTS_TOLD_MAX: usize = 100;

/// What a piece of a body may come to: 32 times its bytes, for labels are said once there and with each sample here.
const IMPORTED_BYTES_MAX: usize = 128 << 20;

/// What a body came to.
#[derive(Debug, Default)]
pub struct Imported {
    out: RequestBuilder,
    pub faults: Vec<String>,
    pub fault_count: u64,
}

/// Labels that are added to each series, in place of its own.
pub type Extra = [(String, String)];

impl Imported {
    /// A request of remote write 1.0, not packed.
    pub fn into_body(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    pub fn sample_count(&self) -> u64 {
        self.out.sample_count
    }

    /// `line` counts lines, from 1 on: only where somebody is told.
    fn fault(&mut self, line: impl FnOnce() -> usize, text: impl std::fmt::Display) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(format!("line {}: {text}", line()));
        }
    }

    /// Begins a series where the pairs name one.
    fn begin(&mut self, line: impl FnOnce() -> usize, pairs: &mut Pairs<'_>) -> bool {
        if self.out.bytes().len() > IMPORTED_BYTES_MAX {
            self.fault(line, "too many labels: send the rest by itself");
            return false;
        }
        match checked_labels(pairs) {
            Ok(labels) => {
                self.out.begin(labels.iter().map(|l| (l.name, l.value)));
                true
            }
            Err(fault) => {
                self.fault(line, fault);
                false
            }
        }
    }
}

fn push_pairs<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, extra: &'a Extra, pairs: &mut Pairs<'a>) {
    pairs.clear();
    let is_own = |name: &str| extra.iter().all(|(n, _)| n != name);
    pairs.extend(labels.filter(|(n, _)| is_own(n)).map(|(n, v)| (n.as_bytes(), v.as_bytes())));
    pairs.extend(extra.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
}

/// A page of Prometheus's text format; samples without a timestamp are of `now`. Behind a line that is no sample the
/// page goes on with the next one.
pub fn text(page: &[u8], now: Timestamp, extra: &Extra) -> Imported {
    let mut out = Imported::default();
    let (mut rest, mut line) = (page, 0);
    while !rest.is_empty() {
        let mut parser = Parser::new(rest);
        let (failure, stopped) = loop {
            match parser.next_event() {
                Ok(None) => return out,
                Ok(Some(Event::Sample(s))) => {
                    let line = || line + lines_before(rest, s.start);
                    match key::decode(s.key, s.kind) {
                        Ok(labels) => {
                            let mut pairs = Pairs::new();
                            push_pairs(labels.iter().map(|(n, v)| (&**n, &**v)), extra, &mut pairs);
                            if out.begin(line, &mut pairs) {
                                out.out.sample(s.timestamp.unwrap_or(now), s.value);
                                out.out.end();
                            }
                        }
                        Err(e) => out.fault(line, e),
                    }
                }
                Ok(Some(_)) => {}
                Err(e) => break (e, parser.event_start().min(rest.len())),
            }
        };
        out.fault(|| line + lines_before(rest, stopped), failure);
        let end = memchr::memchr(b'\n', &rest[stopped..]).map_or(rest.len(), |n| stopped + n + 1);
        line += rest[..end].iter().filter(|b| **b == b'\n').count();
        rest = &rest[end..];
    }
    out
}

/// The number of the line at an offset, from 1 on.
fn lines_before(page: &[u8], at: usize) -> usize {
    1 + memchr::memchr_iter(b'\n', &page[..at]).count()
}

/// VictoriaMetrics' JSON lines; `body` is used up.
pub fn json_lines(body: &mut [u8], extra: &Extra) -> Imported {
    let mut out = Imported::default();
    for (i, line) in body.split_mut(|b| *b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let series = match json_lines::read(line) {
            Ok(series) => series,
            Err(e) => {
                out.fault(|| i + 1, e);
                continue;
            }
        };
        let mut pairs = Pairs::new();
        push_pairs(series.labels.iter().copied(), extra, &mut pairs);
        if out.begin(|| i + 1, &mut pairs) {
            series.times.iter().zip(&series.values).for_each(|(t, v)| out.out.sample(*t, *v));
            out.out.end();
        }
    }
    out
}

/// The unit of a request's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    /// So many seconds.
    Seconds(i64),
}

impl Precision {
    /// By the `precision` parameter.
    pub fn of(text: &str) -> Option<Precision> {
        Some(match text {
            "" | "n" | "ns" => Precision::Nanoseconds,
            "u" | "us" | "µ" => Precision::Microseconds,
            "ms" => Precision::Milliseconds,
            "s" => Precision::Seconds(1),
            "m" => Precision::Seconds(60),
            "h" => Precision::Seconds(3600),
            _ => return None,
        })
    }

    fn to_ms(self, time: i64) -> Timestamp {
        match self {
            Precision::Nanoseconds => time.div_euclid(1_000_000),
            Precision::Microseconds => time.div_euclid(1000),
            Precision::Milliseconds => time,
            Precision::Seconds(n) => time.saturating_mul(1000 * n),
        }
    }
}

/// Points of InfluxDB: each number is a sample of `measurement_field`.
pub fn influx(body: &[u8], precision: Precision, now: Timestamp, extra: &Extra) -> Imported {
    let mut out = Imported::default();
    for (i, line) in body.split(|b| *b == b'\n').enumerate() {
        let point = match influx::read(line) {
            Ok(Some(point)) => point,
            Ok(None) => continue,
            Err(e) => {
                out.fault(|| i + 1, e);
                continue;
            }
        };
        let time = point.time.map_or(now, |t| precision.to_ms(t));
        for (field, value) in &point.fields {
            let name: Cow<'_, str> = match point.measurement.is_empty() {
                true => Cow::Borrowed(field),
                false => Cow::Owned(format!("{}_{field}", point.measurement)),
            };
            let tags = point.tags.iter().map(|(n, v)| (&**n, &**v));
            let mut pairs = Pairs::new();
            push_pairs(std::iter::once((METRIC_NAME, &*name)).chain(tags), extra, &mut pairs);
            if out.begin(|| i + 1, &mut pairs) {
                out.out.sample(time, *value);
                out.out.end();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::shown::lines;

    fn check(imported: Imported, expect: &[&str], faults: &[&str]) {
        assert_eq!(imported.faults, faults);
        assert_eq!(imported.fault_count, faults.len() as u64);
        assert_eq!(lines(&imported.into_body()), expect);
    }

    #[test]
    fn pages_are_imported_with_their_times() {
        let extra = [("job".to_owned(), "x".to_owned())];
        check(
            text(b"# TYPE m counter\nm{a=\"b\",job=\"own\"} 1 5000\nn 2\n", 9, &extra),
            &[r#"{__name__="m", a="b", job="x"} 1 @5000"#, r#"{__name__="n", job="x"} 2 @9"#],
            &[],
        );
        check(
            text(b"m 1\nm{ 2\n\nn{a=\"1\",a=\"2\"} 1\no 3\n", 9, &[]),
            &[r#"{__name__="m"} 1 @9"#, r#"{__name__="o"} 3 @9"#],
            &[
                "line 2: expected label name, got \"2\" (\"INVALID\") while parsing: \"m{ 2\"",
                "line 4: invalid labels for series, labels {__name__=\"n\", a=\"1\", a=\"2\"}, duplicated label a",
            ],
        );
    }

    #[test]
    fn json_lines_are_imported() {
        let mut body = br#"{"metric":{"__name__":"m"},"values":[1,2],"timestamps":[10,20]}

{"metric":{},"values":[1],"timestamps":[1]}
nonsense"#
            .to_vec();
        let imported = json_lines(&mut body, &[]);
        assert_eq!(imported.fault_count, 2);
        assert_eq!(imported.faults[0], "line 3: invalid metric name or labels, got {}");
        assert_eq!(lines(&imported.into_body()), [r#"{__name__="m"} 1 @10"#, r#"{__name__="m"} 2 @20"#]);
    }

    #[test]
    fn points_are_imported_field_by_field() {
        check(
            influx(
                b"cpu,host=a user=1,sys=2i 1700000000123456789\n#c\nmem f=1\nx\n",
                Precision::Nanoseconds,
                5,
                &[],
            ),
            &[
                r#"{__name__="cpu_user", host="a"} 1 @1700000000123"#,
                r#"{__name__="cpu_sys", host="a"} 2 @1700000000123"#,
                r#"{__name__="mem_f"} 1 @5"#,
            ],
            &["line 4: missing fields"],
        );
        assert_eq!(Precision::of("s").map(|p| p.to_ms(7)), Some(7000));
        assert_eq!(Precision::of("u").map(|p| p.to_ms(-1)), Some(-1));
        assert_eq!(Precision::of("h").map(|p| p.to_ms(i64::MAX)), Some(i64::MAX));
        assert_eq!(Precision::of("x"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_an_import_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = text(&bytes, 0, &[]);
            let _ = influx(&bytes, Precision::Milliseconds, 0, &[]);
            let _ = json_lines(&mut bytes, &[]);
        }

        #[test]
        fn no_odd_page_makes_an_import_panic(page in "[m{}a=\" 1\n#,\\\\]{0,60}") {
            let _ = text(page.as_bytes(), 0, &[]);
        }
    }
}
