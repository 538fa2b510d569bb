//! Numbers and durations as Go's `strconv` and Prometheus read them.

use model::time::parse_duration;

use crate::token::quoted;

/// A number literal: an integer with Go's prefixes, otherwise a float. Errors: the text after
/// `error parsing number: `.
pub(crate) fn parse_number(text: &str) -> Result<f64, String> {
    if let Some(n) = parse_integer(text) {
        return Ok(n as f64);
    }
    let refused = |why: &str| Err(format!("strconv.ParseFloat: parsing {}: {why}", quoted(text.as_bytes())));
    match text.to_ascii_lowercase().as_str() {
        "inf" | "+inf" => return Ok(f64::INFINITY),
        "-inf" => return Ok(f64::NEG_INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let shaped = text.bytes().all(|b| b.is_ascii_digit() || b".eE+-_".contains(&b));
    if !shaped || !underscores_part_digits(text) {
        return refused("invalid syntax");
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(v) if v.is_infinite() => refused("value out of range"),
        Ok(v) => Ok(v),
        Err(_) => refused("invalid syntax"),
    }
}

/// `strconv.ParseInt(text, 0, 64)`: `0x`, `0b`, `0o` and a bare `0` are prefixes.
fn parse_integer(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !underscores_part_digits(&lower) {
        return None;
    }
    let digits = digits.replace('_', "");
    if !digits.starts_with(|c: char| c.is_digit(base)) {
        return None;
    }
    i64::from_str_radix(&digits, base).ok()
}

/// Whether every underscore stands between two digits, or between a prefix and a digit.
fn underscores_part_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let prefixed = matches!(bytes, [b'0', b'x' | b'X' | b'b' | b'B' | b'o' | b'O', ..]);
    let hex = matches!(bytes, [b'0', b'x' | b'X', ..]);
    let is_digit = |i: usize| match bytes.get(i) {
        Some(b) => b.is_ascii_digit() || (hex && b.is_ascii_hexdigit()) || (prefixed && i < 2),
        None => false,
    };
    (0..bytes.len()).all(|i| bytes[i] != b'_' || (i > 0 && is_digit(i - 1) && is_digit(i + 1)))
}

/// A duration literal in seconds.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    let ms = parse_duration(text).map_err(|e| e.to_string())?;
    Ok(millis_to_seconds(ms))
}

/// Go's `Duration.Seconds`: whole seconds and the rest converted apart.
fn millis_to_seconds(ms: i64) -> f64 {
    (ms / 1_000) as f64 + ((ms % 1_000) * 1_000_000) as f64 / 1e9
}

/// What a duration in seconds may be at most: what 63 bits of nanoseconds hold.
pub(crate) fn is_duration_out_of_range(seconds: f64) -> bool {
    const MAX: f64 = 9_223_372_036.854_776;
    !(-MAX..=MAX).contains(&seconds) && !seconds.is_nan()
}

/// Seconds to whole milliseconds: rounded to nanoseconds first, then cut.
pub(crate) fn seconds_to_millis(seconds: f64) -> i64 {
    ((seconds * 1e9).round() as i64) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_go_reads_them() {
        for (text, want) in [
            ("1", 1.0),
            ("0755", 493.0),
            ("08", 8.0),
            ("0x1F", 31.0),
            ("0x_1f", 31.0),
            ("1_000", 1000.0),
            ("0_7", 7.0),
            ("1_0.5e1_0", 10.5e10),
            (".5", 0.5),
            ("5.", 5.0),
            ("5e-3", 0.005),
            ("18446744073709551616", 18446744073709551616.0),
            ("InF", f64::INFINITY),
        ] {
            assert_eq!(parse_number(text), Ok(want), "{text}");
        }
        assert!(parse_number("NaN").is_ok_and(f64::is_nan));
        for (text, want) in [
            ("1e999", "strconv.ParseFloat: parsing \"1e999\": value out of range"),
            ("0x", "strconv.ParseFloat: parsing \"0x\": invalid syntax"),
        ] {
            assert_eq!(parse_number(text), Err(want.to_owned()), "{text}");
        }
    }
}
