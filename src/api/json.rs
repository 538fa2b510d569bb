//! JSON as Go's encoder writes it: HTML-safe strings, Prometheus's numbers, no blanks.

use model::Labels;
use model::Timestamp;
use model::float_text::{push_api, push_f};
use model::histogram::FloatHistogram;

use crate::query::value::{Element, SampleValue, Series, Value};

/// A JSON text under construction. Callers write commas by [`Json::item`].
#[derive(Default)]
pub struct Json {
    out: Vec<u8>,
    /// Whether the innermost open list or object has an item already.
    has_item: bool,
}

impl Json {
    pub fn new() -> Self {
        Json { out: Vec::with_capacity(4096), has_item: false }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Begins an item of a list: a comma unless it is the first.
    pub fn item(&mut self) {
        if self.has_item {
            self.out.push(b',');
        }
        self.has_item = true;
    }

    /// `[...]`, its items written by `f`.
    pub fn list(&mut self, f: impl FnOnce(&mut Self)) {
        self.nested(b'[', b']', f);
    }

    /// `{...}`, its members written by `f` with [`Json::key`].
    pub fn object(&mut self, f: impl FnOnce(&mut Self)) {
        self.nested(b'{', b'}', f);
    }

    fn nested(&mut self, open: u8, close: u8, f: impl FnOnce(&mut Self)) {
        let outer = self.has_item;
        self.has_item = false;
        self.out.push(open);
        f(self);
        self.out.push(close);
        self.has_item = outer;
    }

    /// `"name":`, with the comma before it.
    pub fn key(&mut self, name: &str) {
        self.item();
        self.text(name);
        self.out.push(b':');
    }

    /// A member whose value is a string.
    pub fn text_member(&mut self, name: &str, value: &str) {
        self.key(name);
        self.text(value);
    }

    /// A member whose value is already JSON: a number, a boolean, `null`.
    pub fn raw_member(&mut self, name: &str, value: &str) {
        self.key(name);
        self.raw(value);
    }

    /// A list of strings as an item's value.
    pub fn texts<'a>(&mut self, items: impl IntoIterator<Item = &'a str>) {
        self.list(|j| {
            for t in items {
                j.item();
                j.text(t);
            }
        });
    }

    /// A string, escaped as Go's `encoding/json`.
    pub fn text(&mut self, text: &str) {
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut from = 0;
        for (i, b) in bytes.iter().enumerate() {
            let is_plain = *b >= 0x20 && !matches!(b, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
            if is_plain {
                continue;
            }
            // U+2028 and U+2029 are e2 80 a8 and e2 80 a9.
            if *b == 0xe2 {
                if let Some([0x80, last @ (0xa8 | 0xa9)]) = bytes.get(i + 1..i + 3) {
                    self.out.extend_from_slice(&bytes[from..i]);
                    self.out.extend_from_slice(if *last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                    from = i + 3;
                }
                continue;
            }
            self.out.extend_from_slice(&bytes[from..i]);
            self.push_escape(*b);
            from = i + 1;
        }
        self.out.extend_from_slice(&bytes[from..]);
        self.out.push(b'"');
    }

    fn push_escape(&mut self, b: u8) {
        match b {
            b'"' => self.raw("\\\""),
            b'\\' => self.raw("\\\\"),
            b'\n' => self.raw("\\n"),
            b'\r' => self.raw("\\r"),
            b'\t' => self.raw("\\t"),
            0x08 => self.raw("\\b"),
            0x0c => self.raw("\\f"),
            b => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                self.raw("\\u00");
                self.out.push(HEX[usize::from(b >> 4)]);
                self.out.push(HEX[usize::from(b & 15)]);
            }
        }
    }

    pub fn number(&mut self, n: u64) {
        let mut buffer = itoa::Buffer::new();
        self.raw(buffer.format(n));
    }

    /// Seconds with up to three decimals, as Prometheus's `MarshalTimestamp`.
    pub fn timestamp(&mut self, ms: Timestamp) {
        if ms < 0 {
            self.out.push(b'-');
        }
        let ms = ms.unsigned_abs();
        self.number(ms / 1000);
        let fraction = ms % 1000;
        if fraction != 0 {
            self.out.push(b'.');
            let digits = [
                b'0' + (fraction / 100) as u8,
                b'0' + (fraction / 10 % 10) as u8,
                b'0' + (fraction % 10) as u8,
            ];
            let len = 3 - digits.iter().rev().take_while(|d| **d == b'0').count();
            self.out.extend_from_slice(&digits[..len]);
        }
    }

    /// A float between quotes.
    pub fn float_text(&mut self, v: f64) {
        self.out.push(b'"');
        push_api(&mut self.out, v);
        self.out.push(b'"');
    }

    /// A float as a bare number, as Go writes a `float64`; what JSON cannot say is `null`.
    pub fn float(&mut self, v: f64) {
        if !v.is_finite() {
            self.raw("null");
        } else if v != 0.0 && !(1e-6..1e21).contains(&v.abs()) {
            let text = model::float_text::format_e(v);
            // Go shortens e-09 to e-9.
            self.raw(&text.replace("e-0", "e-").replace("e+0", "e+"));
        } else {
            push_f(&mut self.out, v);
        }
    }

    pub fn labels(&mut self, labels: &Labels) {
        self.object(|j| {
            for l in labels {
                j.text_member(l.name, l.value);
            }
        });
    }

    fn sample(&mut self, time: Timestamp, v: f64) {
        self.raw("[");
        self.timestamp(time);
        self.raw(",");
        self.float_text(v);
        self.raw("]");
    }

    fn histogram_sample(&mut self, time: Timestamp, h: &FloatHistogram) {
        self.raw("[");
        self.timestamp(time);
        self.raw(",");
        self.histogram(h);
        self.raw("]");
    }

    fn histogram(&mut self, h: &FloatHistogram) {
        self.object(|j| {
            j.key("count");
            j.float_text(h.count);
            j.key("sum");
            j.float_text(h.sum);
            let buckets: Vec<_> = h.buckets().filter(|b| b.count != 0.0).collect();
            if buckets.is_empty() {
                return;
            }
            j.key("buckets");
            j.list(|j| {
                for b in buckets {
                    j.item();
                    j.raw("[");
                    j.raw(match (b.lower_inclusive, b.upper_inclusive) {
                        (false, true) => "0,",
                        (true, false) => "1,",
                        (false, false) => "2,",
                        (true, true) => "3,",
                    });
                    j.float_text(b.lower);
                    j.raw(",");
                    j.float_text(b.upper);
                    j.raw(",");
                    j.float_text(b.count);
                    j.raw("]");
                }
            });
        });
    }

    /// The `result` of a query.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Scalar(t, v) => self.scalar(*t, *v),
            Value::String(t, text) => {
                self.raw("[");
                self.timestamp(*t);
                self.raw(",");
                self.text(text);
                self.raw("]");
            }
            Value::Vector(elements) => self.list(|j| {
                for e in elements {
                    j.item();
                    j.element(e);
                }
            }),
            Value::Matrix(series) => self.list(|j| {
                for s in series {
                    j.item();
                    j.series(s);
                }
            }),
        }
    }

    /// Scalars are written plainly, without exponents.
    fn scalar(&mut self, t: Timestamp, v: f64) {
        self.raw("[");
        self.timestamp(t);
        self.raw(",\"");
        push_f(&mut self.out, v);
        self.raw("\"]");
    }

    fn element(&mut self, e: &Element) {
        self.object(|j| {
            j.key("metric");
            j.labels(&e.labels);
            match &e.value {
                SampleValue::Float(v) => {
                    j.key("value");
                    j.sample(e.time, *v);
                }
                SampleValue::Histogram(h) => {
                    j.key("histogram");
                    j.histogram_sample(e.time, h);
                }
            }
        });
    }

    fn series(&mut self, s: &Series) {
        self.object(|j| {
            j.key("metric");
            j.labels(&s.labels);
            if !s.floats.is_empty() {
                j.key("values");
                j.list(|j| {
                    for (t, v) in &s.floats {
                        j.item();
                        j.sample(*t, *v);
                    }
                });
            }
            if !s.histograms.is_empty() {
                j.key("histograms");
                j.list(|j| {
                    for (t, h) in &s.histograms {
                        j.item();
                        j.histogram_sample(*t, h);
                    }
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(f: impl FnOnce(&mut Json)) -> String {
        let mut j = Json::new();
        f(&mut j);
        String::from_utf8(j.into_bytes()).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        for (text, want) in [
            ("plain é", r#""plain é""#),
            ("a\"b\\c\n\t\r", r#""a\"b\\c\n\t\r""#),
            ("<a>&\u{1}\u{7f}", "\"\\u003ca\\u003e\\u0026\\u0001\u{7f}\""),
            ("\u{2028}x\u{2029}‰", "\"\\u2028x\\u2029‰\""),
        ] {
            assert_eq!(written(|j| j.text(text)), want);
        }
    }

    #[test]
    fn numbers_are_prometheus_numbers() {
        for (ms, want) in [(1_435_781_451_781, "1435781451.781"), (1000, "1"), (1500, "1.5"), (-10, "-0.01")]
        {
            assert_eq!(written(|j| j.timestamp(ms)), want);
        }
        for (v, want) in [(1.0, "\"1\""), (1e-7, "\"1e-07\""), (1e21, "\"1e+21\""), (f64::NAN, "\"NaN\"")] {
            assert_eq!(written(|j| j.float_text(v)), want);
        }
        assert_eq!(written(|j| j.float(0.25)), "0.25");
        assert_eq!(written(|j| j.float(1e-9)), "1e-9");
    }

    #[test]
    fn values_have_the_shapes_of_the_api() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]);
        let v = Value::Vector(vec![Element {
            labels: labels.clone(),
            time: 4000,
            value: SampleValue::Float(1.0),
        }]);
        assert_eq!(written(|j| j.value(&v)), r#"[{"metric":{"__name__":"up","job":"a"},"value":[4,"1"]}]"#);
        let m =
            Value::Matrix(vec![Series { labels, floats: vec![(0, 1.0), (500, 2.5)], histograms: vec![] }]);
        assert_eq!(
            written(|j| j.value(&m)),
            r#"[{"metric":{"__name__":"up","job":"a"},"values":[[0,"1"],[0.5,"2.5"]]}]"#
        );
        assert_eq!(written(|j| j.value(&Value::Scalar(4000, 2.0))), r#"[4,"2"]"#);
    }
}
