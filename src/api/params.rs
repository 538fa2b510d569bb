//! Parameters of a request: form body and query string merged, as Go's `ParseForm` does.

use model::Timestamp;
use model::civil::parse_rfc3339;
use model::quote::quoted;
use model::time::parse_duration;

use crate::api::error::ApiError;

/// What `time` means where it is left out: everything that can be said.
pub const TIME_MIN: Timestamp = (i64::MIN / 1000 + 62_135_596_801) * 1000;
pub const TIME_MAX: Timestamp = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;

const TIME_MIN_TEXT: &str = "-292273086-05-16T16:47:06Z";
const TIME_MAX_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// Name and value pairs in order: the body's first, then the query string's.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    pub fn parse(query: &str, body: &[u8]) -> Self {
        let mut pairs = Vec::new();
        push_pairs(&mut pairs, body);
        push_pairs(&mut pairs, query.as_bytes());
        Params(pairs)
    }

    /// The first value of `name`, empty where it is not given.
    pub fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A time that must be given.
    pub fn time(&self, name: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.first(name)).map_err(|e| ApiError::bad_parameter(name, e))
    }

    /// A time that may be left out.
    pub fn time_or(&self, name: &str, default: Timestamp) -> Result<Timestamp, ApiError> {
        match self.first(name) {
            "" => Ok(default),
            text => parse_time(text)
                .map_err(|e| ApiError::bad_parameter(name, format!("invalid time value for '{name}': {e}"))),
        }
    }

    /// A duration in milliseconds that must be given.
    pub fn duration(&self, name: &str) -> Result<i64, ApiError> {
        parse_step(self.first(name)).map_err(|e| ApiError::bad_parameter(name, e))
    }

    /// A count, 0 where it is left out.
    pub fn limit(&self) -> Result<usize, ApiError> {
        match self.first("limit") {
            "" => Ok(0),
            text => match text.parse::<i64>() {
                Ok(n) => usize::try_from(n)
                    .map_err(|_| ApiError::bad_parameter("limit", "limit must be non-negative")),
                Err(_) => Err(ApiError::bad_parameter("limit", go_atoi_error(text))),
            },
        }
    }

    /// A flag as Go's `strconv.ParseBool` reads it; `None` where it does not.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.first(name) {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
            _ => None,
        }
    }
}

/// The error of Go's `strconv.Atoi`.
pub fn go_atoi_error(text: &str) -> String {
    let is_number = text.strip_prefix(['-', '+']).unwrap_or(text).bytes().all(|b| b.is_ascii_digit());
    let why = if is_number && !text.is_empty() { "value out of range" } else { "invalid syntax" };
    format!("strconv.Atoi: parsing {}: {why}", quoted(text))
}

fn push_pairs(pairs: &mut Vec<(String, String)>, text: &[u8]) {
    for part in text.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
        let (name, value) = match part.iter().position(|b| *b == b'=') {
            Some(i) => (&part[..i], &part[i + 1..]),
            None => (part, &[][..]),
        };
        pairs.push((unescaped(name), unescaped(value)));
    }
}

/// `%41` and `+` undone; what is no UTF-8 afterwards is replaced.
pub fn unescaped(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        let hex = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (text[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(a), Some(b)) => {
                out.push((a * 16 + b) as u8);
                i += 3;
                continue;
            }
            (b'+', _, _) => out.push(b' '),
            (b, _, _) => out.push(b),
        }
        i += 1;
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Float seconds (rounded to milliseconds), RFC 3339, or the two ends of time as Prometheus prints them.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Some(seconds) = parse_go_float(text) {
        let whole = seconds.trunc();
        let ms = ((seconds - whole) * 1000.0).round();
        return Ok((whole * 1000.0 + ms) as i64);
    }
    match text {
        TIME_MIN_TEXT => Ok(TIME_MIN),
        TIME_MAX_TEXT => Ok(TIME_MAX),
        _ => parse_rfc3339(text).ok_or(format!("cannot parse {} to a valid timestamp", quoted(text))),
    }
}

/// Float seconds or a Prometheus duration, in milliseconds.
pub fn parse_step(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_go_float(text) {
        let nanos = seconds * 1e9;
        if !(i64::MIN as f64..=i64::MAX as f64).contains(&nanos) {
            return Err(format!("cannot parse {} to a valid duration. It overflows int64", quoted(text)));
        }
        return Ok((nanos as i64) / 1_000_000);
    }
    parse_duration(text).map_err(|_| format!("cannot parse {} to a valid duration", quoted(text)))
}

/// Rust's parser takes what Go's does, save for a lone sign and words that Go spells otherwise.
fn parse_go_float(text: &str) -> Option<f64> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_digit() || "+-.iInN".contains(c));
    if starts_well { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_before_query_strings_and_escapes_are_undone() {
        let p = Params::parse("query=b&x=%2B+%zz", b"query=a%20b&match[]=1&match%5B%5D=2");
        assert_eq!(p.first("query"), "a b");
        assert_eq!(p.first("x"), "+ %zz");
        assert_eq!(p.all("match[]").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(p.first("nope"), "");
    }

    #[test]
    fn times_and_steps_read_as_prometheus_reads_them() {
        for (text, ms) in [
            ("1435781451.781", 1_435_781_451_781),
            ("-1.5", -1500),
            ("4", 4000),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            (TIME_MIN_TEXT, TIME_MIN),
            (TIME_MAX_TEXT, TIME_MAX),
        ] {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
        assert_eq!(parse_time("foo"), Err("cannot parse \"foo\" to a valid timestamp".into()));
        for (text, ms) in [("15", 15_000), ("1.5", 1500), ("1m", 60_000), ("0", 0), ("-1", -1000)] {
            assert_eq!(parse_step(text), Ok(ms), "{text}");
        }
        assert_eq!(parse_step("x"), Err("cannot parse \"x\" to a valid duration".into()));
        assert!(parse_step("1e20").unwrap_err().ends_with("It overflows int64"));
    }
}
