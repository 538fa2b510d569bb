//! Durations and timestamps: milliseconds inside, Prometheus's text outside.
//!
//! Duration text (`1h30m`, `15s`, `100ms`) is prometheus/common's `model.ParseDuration`.

/// Milliseconds since the epoch.
pub type Timestamp = i64;

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The longest duration: what Go's nanosecond `time.Duration` holds, in milliseconds.
pub const DURATION_MS_MAX: i64 = i64::MAX / 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {}", crate::quote::quoted(.0))]
    Invalid(String),
    #[error("unknown unit {} in duration {}", crate::quote::quoted(unit), crate::quote::quoted(text))]
    UnknownUnit { unit: String, text: String },
    #[error("duration out of range")]
    OutOfRange,
}

/// Parses `1h30m`: units `y w d h m s ms` in this order, each at most once; plain `0` is allowed.
///
/// Returns milliseconds.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(0);
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let (mut rest, mut total, mut next_unit) = (text, 0i64, 0usize);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(invalid());
        }
        let after = &rest[digits..];
        let n: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let letters = after.bytes().take_while(|b| !b.is_ascii_digit()).count();
        let unit = &after[..letters];
        if unit.is_empty() {
            return Err(invalid());
        }
        let unknown = || DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() };
        let at = UNITS.iter().position(|(u, _)| *u == unit).ok_or_else(unknown)?;
        if at < next_unit {
            return Err(invalid());
        }
        let n = i64::try_from(n).map_err(|_| DurationError::OutOfRange)?;
        total = n
            .checked_mul(UNITS[at].1)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= DURATION_MS_MAX)
            .ok_or(DurationError::OutOfRange)?;
        next_unit = at + 1;
        rest = &after[letters..];
    }
    Ok(total)
}

/// The text of a duration, as `model.Duration.String`: years and weeks only where they divide what is left exactly.
pub fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms.unsigned_abs();
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
    }
    let mut unit = |name: &str, size: u64, exact: bool| {
        if exact && !rest.is_multiple_of(size) {
            return;
        }
        let n = rest / size;
        if n > 0 {
            out.push_str(&n.to_string());
            out.push_str(name);
            rest -= n * size;
        }
    };
    for (i, (name, size)) in UNITS.iter().enumerate() {
        unit(name, *size as u64, i < 2);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_prometheus() {
        for (text, ms, back) in [
            ("0", 0, "0s"),
            ("0w", 0, "0s"),
            ("324ms", 324, "324ms"),
            ("3s", 3_000, "3s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("4d", 345_600_000, "4d"),
            ("4d1h", 349_200_000, "4d1h"),
            ("14d", 1_209_600_000, "2w"),
            ("3w2d1h", 1_990_800_000, "23d1h"),
            ("10y", 315_360_000_000, "10y"),
            ("1m30s", 90_000, "1m30s"),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
            assert_eq!(format_duration(ms), back, "{text}");
        }
        for bad in ["1", "1y1m1d", "-1w", "1.5d", "d", "294y", "200y10400w", "107675d", "2584200h", ""] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for (bad, why) in [
            ("", "empty duration string"),
            ("5m1h", "not a valid duration string: \"5m1h\""),
            ("5y1hs", "unknown unit \"hs\" in duration \"5y1hs\""),
            ("300y", "duration out of range"),
        ] {
            assert_eq!(parse_duration(bad).map_err(|e| e.to_string()), Err(why.to_owned()), "{bad}");
        }
    }
}
