//! Floats as Go's `strconv` writes them: shortest digits (by `zmij`) laid out as 'f', 'e' or 'g'.
//!
//! Prometheus prints values in the API as 'f' (as 'e' below 1e-6 and from 1e21 on), in expositions as 'g'.

/// Shortest digits of a finite positive number: the value is `0.d1d2d3... * 10^exp10`.
struct Digits {
    text: [u8; 24],
    count: usize,
    exp10: i32,
}

fn digits(v: f64) -> Digits {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(v.abs());
    let mut d = Digits { text: [0; 24], count: 0, exp10: 0 };
    let (mantissa, exp) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().unwrap_or(0)),
        None => (text, 0),
    };
    let mut point = None;
    for b in mantissa.bytes() {
        if b == b'.' {
            point = Some(d.count as i32);
        } else if d.count > 0 || b != b'0' {
            d.text[d.count] = b;
            d.count += 1;
        } else if point.is_some() {
            // A zero between the point and the first digit.
            d.exp10 -= 1;
        }
    }
    d.exp10 += point.unwrap_or(d.count as i32) + exp;
    while d.count > 0 && d.text[d.count - 1] == b'0' {
        d.count -= 1;
    }
    d
}

fn push_special(out: &mut Vec<u8>, v: f64) -> bool {
    if v.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if v.is_infinite() {
        out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if v == 0.0 {
        out.extend_from_slice(if v.is_sign_negative() { b"-0" } else { b"0" });
    } else {
        return false;
    }
    true
}

/// `strconv.FormatFloat(v, 'f', -1, 64)`.
pub fn push_f(out: &mut Vec<u8>, v: f64) {
    if push_special(out, v) {
        return;
    }
    if v < 0.0 {
        out.push(b'-');
    }
    let d = digits(v);
    let point = d.exp10;
    if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(&d.text[..d.count]);
        return;
    }
    let point = point as usize;
    if d.count <= point {
        out.extend_from_slice(&d.text[..d.count]);
        out.extend(std::iter::repeat_n(b'0', point - d.count));
    } else {
        out.extend_from_slice(&d.text[..point]);
        out.push(b'.');
        out.extend_from_slice(&d.text[point..d.count]);
    }
}

/// `strconv.FormatFloat(v, 'e', -1, 64)`; zero is written as Go does, `0e+00`.
pub fn push_e(out: &mut Vec<u8>, v: f64) {
    if v == 0.0 {
        out.extend_from_slice(if v.is_sign_negative() { b"-0e+00" } else { b"0e+00" });
        return;
    }
    if push_special(out, v) {
        return;
    }
    if v < 0.0 {
        out.push(b'-');
    }
    let d = digits(v);
    out.push(d.text[0]);
    if d.count > 1 {
        out.push(b'.');
        out.extend_from_slice(&d.text[1..d.count]);
    }
    let exp = d.exp10 - 1;
    out.extend_from_slice(if exp < 0 { b"e-" } else { b"e+" });
    let exp = exp.unsigned_abs();
    if exp < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(exp.to_string().as_bytes());
}

/// `strconv.FormatFloat(v, 'g', -1, 64)`: an exponent below 1e-4 and from 1e6 on.
pub fn push_g(out: &mut Vec<u8>, v: f64) {
    if push_special(out, v) {
        return;
    }
    let exp = digits(v).exp10 - 1;
    if !(-4..6).contains(&exp) { push_e(out, v) } else { push_f(out, v) }
}

/// A value as Prometheus's API writes it inside its quotes.
pub fn push_api(out: &mut Vec<u8>, v: f64) {
    let a = v.abs();
    if a != 0.0 && !(1e-6..1e21).contains(&a) && a.is_finite() { push_e(out, v) } else { push_f(out, v) }
}

fn text(push: fn(&mut Vec<u8>, f64), v: f64) -> String {
    let mut out = Vec::with_capacity(24);
    push(&mut out, v);
    out.into_iter().map(char::from).collect()
}

/// [`push_f`] as a string.
pub fn format_f(v: f64) -> String {
    text(push_f, v)
}

/// [`push_e`] as a string.
pub fn format_e(v: f64) -> String {
    text(push_e, v)
}

/// [`push_g`] as a string.
pub fn format_g(v: f64) -> String {
    text(push_g, v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_strconv() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
        let root = std::env::var("SYSTOLE_SHARED").unwrap_or_else(|_| beside.to_owned());
        let file = format!("{root}/data/floats/go_floats.tsv");
        let Ok(table) = std::fs::read_to_string(&file) else {
            println!("skipped: {file} is not here");
            return;
        };
        let mut rows = 0;
        for line in table.lines() {
            let mut columns = line.split('\t');
            let mut column = || columns.next().unwrap_or("");
            let v = f64::from_bits(u64::from_str_radix(column(), 16).expect("bits"));
            assert_eq!([format_f(v), format_g(v), format_e(v)], [column(), column(), column()], "{line}");
            rows += 1;
        }
        println!("{rows} floats equal");
    }
}
