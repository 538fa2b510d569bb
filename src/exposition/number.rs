//! Values as Go's `strconv.ParseFloat` reads them, and a quick way for the numbers that pages are made of.

use model::quote::push_quoted_bytes;

/// Why a text is not a value; the caller puts the line around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// `_`, `p` or `P`: Go would read them, Prometheus does not want them.
    Unsupported,
    Syntax,
    Range,
}

impl NumberError {
    /// The text of Go's error for `input`.
    pub fn text(self, function: &str, input: &[u8]) -> String {
        let reason = match self {
            NumberError::Unsupported => return "unsupported character in float".to_owned(),
            NumberError::Syntax => "invalid syntax",
            NumberError::Range => "value out of range",
        };
        let mut out = format!("strconv.{function}: parsing ");
        push_quoted_bytes(&mut out, input);
        out.push_str(": ");
        out.push_str(reason);
        out
    }
}

/// A sample's value; any NaN becomes the one NaN that storage knows.
pub fn parse_value(text: &[u8]) -> Result<f64, NumberError> {
    if let Some((value, end)) = leading(text, 0)
        && end == text.len()
    {
        return Ok(value);
    }
    if text.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err(NumberError::Unsupported);
    }
    let text = std::str::from_utf8(text).map_err(|_| NumberError::Syntax)?;
    let value: f64 = text.parse().map_err(|_| NumberError::Syntax)?;
    if value.is_nan() {
        // Go knows no signed NaN; Rust does.
        return if text.len() == 3 { Ok(model::NORMAL_NAN) } else { Err(NumberError::Syntax) };
    }
    let spelled_infinite = text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    if value.is_infinite() && !spelled_infinite {
        return Err(NumberError::Range);
    }
    Ok(value)
}

/// Milliseconds of an explicit timestamp: `digits` are digits only.
pub fn parse_timestamp(digits: &[u8]) -> Result<i64, NumberError> {
    let mut t = 0i64;
    for d in digits {
        t = t.checked_mul(10).and_then(|t| t.checked_add(i64::from(d - b'0'))).ok_or(NumberError::Range)?;
    }
    Ok(t)
}

/// Powers of ten that a double holds exactly.
const POW10: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Digits of a `u64` mantissa that cannot overflow.
const MANTISSA_DIGITS_MAX: usize = 19;

/// The number that begins at `at` and the offset behind it, where it is of the plain kind: digits with an optional
/// point and exponent, `+Inf`, `-Inf`, `NaN`. `None` says nothing about validity: ask [`parse_value`].
#[inline]
pub fn leading(page: &[u8], at: usize) -> Option<(f64, usize)> {
    let first = *page.get(at)?;
    if !first.is_ascii_digit() && first != b'-' {
        return special(page, at);
    }
    let negative = first == b'-';
    let start = at + usize::from(negative);
    let mut mantissa = 0u64;
    let mut i = take_digits(page, start, &mut mantissa);
    let mut digits = i - start;
    if digits == 0 {
        return special(page, at);
    }
    let mut exponent = 0i32;
    if page.get(i) == Some(&b'.') {
        let point = i + 1;
        i = take_digits(page, point, &mut mantissa);
        digits += i - point;
        exponent = -((i - point) as i32);
    }
    if let Some(b'e' | b'E') = page.get(i) {
        let (e, end) = take_exponent(page, i + 1)?;
        exponent += e;
        i = end;
    }
    if digits > MANTISSA_DIGITS_MAX || mantissa > (1 << 53) || exponent.unsigned_abs() > 22 {
        return by_std(page, at, i);
    }
    // Both operands are exact, so one rounding gives the nearest double (Clinger's fast path).
    let m = mantissa as f64;
    let scale = POW10[exponent.unsigned_abs() as usize];
    let value = if exponent < 0 { m / scale } else { m * scale };
    Some((if negative { -value } else { value }, i))
}

#[cold]
fn by_std(page: &[u8], at: usize, end: usize) -> Option<(f64, usize)> {
    let value: f64 = std::str::from_utf8(&page[at..end]).ok()?.parse().ok()?;
    value.is_finite().then_some((value, end))
}

fn special(page: &[u8], at: usize) -> Option<(f64, usize)> {
    match page.get(at..)? {
        [b'N', b'a', b'N', ..] => Some((model::NORMAL_NAN, at + 3)),
        [b'+', b'I', b'n', b'f', ..] => Some((f64::INFINITY, at + 4)),
        [b'-', b'I', b'n', b'f', ..] => Some((f64::NEG_INFINITY, at + 4)),
        _ => None,
    }
}

#[inline]
fn take_digits(page: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    while let Some(chunk) = page.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes were asked for"));
        if !is_eight_digits(word) {
            break;
        }
        *mantissa = mantissa.wrapping_mul(100_000_000).wrapping_add(eight_digits(word));
        at += 8;
    }
    while let Some(d) = page.get(at).map(|b| b.wrapping_sub(b'0'))
        && d < 10
    {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(d));
        at += 1;
    }
    at
}

#[inline]
fn is_eight_digits(word: u64) -> bool {
    let low = word.wrapping_add(0x4646_4646_4646_4646);
    let high = word.wrapping_sub(0x3030_3030_3030_3030);
    (low | high) & 0x8080_8080_8080_8080 == 0
}

/// Eight ASCII digits, the first in the lowest byte, by three multiplications.
#[inline]
fn eight_digits(word: u64) -> u64 {
    let word = word.wrapping_sub(0x3030_3030_3030_3030);
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
    let high = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let low = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    high.wrapping_add(low) >> 32
}

#[inline]
fn take_exponent(page: &[u8], at: usize) -> Option<(i32, usize)> {
    let negative = page.get(at) == Some(&b'-');
    let start = at + usize::from(negative || page.get(at) == Some(&b'+'));
    let (mut i, mut e) = (start, 0i32);
    while let Some(d) = page.get(i).map(|b| b.wrapping_sub(b'0'))
        && d < 10
    {
        // Beyond this no double differs; the bound keeps the sum from overflowing.
        e = (e * 10 + i32::from(d)).min(100_000);
        i += 1;
    }
    (i > start).then_some((if negative { -e } else { e }, i))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, want: Result<f64, NumberError>) {
        let got = parse_value(text.as_bytes());
        assert_eq!(got.map(f64::to_bits), want.map(f64::to_bits), "{text}");
    }

    #[test]
    fn values_are_go_values() {
        check("1", Ok(1.0));
        check("+1", Ok(1.0));
        check("-0", Ok(-0.0));
        check("1.", Ok(1.0));
        check(".5", Ok(0.5));
        check("-.5e1", Ok(-5.0));
        check("7.424100000000001e-05", Ok(7.424100000000001e-05));
        check("18446744073709551615", Ok(18446744073709551615.0));
        check("123456789012345678901234567890", Ok(123456789012345678901234567890.0));
        check("1e-999", Ok(0.0));
        check("0e999999999999", Ok(0.0));
        for inf in ["+Inf", "Inf", "inf", "infinity", "+INFINITY"] {
            check(inf, Ok(f64::INFINITY));
        }
        check("-Inf", Ok(f64::NEG_INFINITY));
        for nan in ["NaN", "nan", "NAN"] {
            check(nan, Ok(model::NORMAL_NAN));
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for bad in [
            "", "true", "1e", "e5", ".", "-", "+", "+NaN", "-nan", "0x1", "1\r", "Infi", "--1", "1e5.0",
            "\u{e9}",
        ] {
            check(bad, Err(NumberError::Syntax));
        }
        for bad in ["1_2", "0x1p-3", "0x1P-3", "p"] {
            check(bad, Err(NumberError::Unsupported));
        }
        for bad in ["1e999", "-1e309", "1e99999999999"] {
            check(bad, Err(NumberError::Range));
        }
        assert_eq!(parse_timestamp(b"9223372036854775807"), Ok(i64::MAX));
        assert_eq!(parse_timestamp(b"9223372036854775808"), Err(NumberError::Range));
    }

    proptest! {
        #[test]
        fn the_quick_way_agrees_with_the_library(text in "-?[0-9]{1,22}(\\.[0-9]{0,20})?(e[+-]?[0-9]{1,3})?") {
            let want: f64 = text.parse().unwrap();
            if let Some((got, end)) = leading(text.as_bytes(), 0) {
                prop_assert_eq!(end, text.len());
                prop_assert_eq!(got.to_bits(), want.to_bits());
            } else {
                prop_assert!(want.is_infinite());
            }
        }

        #[test]
        fn every_double_survives_its_text(bits: u64) {
            let v = f64::from_bits(bits);
            prop_assume!(v.is_finite());
            let text = model::float_text::format_g(v);
            prop_assert_eq!(parse_value(text.as_bytes()).map(f64::to_bits), Ok(bits));
        }
    }
}
