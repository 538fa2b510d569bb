//! Sizes in bytes as Prometheus reads and shows them: base 2, with units `B KB MB ...` or `KiB MiB ...`.

/// Units in order of size, as prefixes.
const PREFIXES: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

fn unit(text: &str) -> Option<f64> {
    let prefix = text.strip_suffix('B')?;
    let prefix = prefix.strip_suffix('i').filter(|p| !p.is_empty()).unwrap_or(prefix);
    let power = PREFIXES.iter().position(|p| *p == prefix)?;
    Some(1024f64.powi(power as i32))
}

/// Parses `15MB` or `1GiB512MiB`; `0` needs no unit. The error is worded as the units library words it.
pub fn parse_size(text: &str) -> Result<i64, String> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let invalid = || format!("units: invalid {text}");
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let value: f64 = rest[..number].parse().map_err(|_| invalid())?;
        let after = &rest[number..];
        let letters = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let name = &after[..letters];
        let size = unit(name).ok_or_else(|| format!("units: unknown unit {name} in {text}"))?;
        total += value * size;
        rest = &after[letters..];
    }
    if total >= i64::MAX as f64 {
        return Err("units: overflow parsing unit".to_owned());
    }
    Ok(if negative { -(total as i64) } else { total as i64 })
}

/// `15MiB`, `1GiB512MiB`: every unit that is not zero.
pub fn format_size(bytes: i64) -> String {
    let mut parts = Vec::new();
    let mut rest = bytes;
    for (i, prefix) in PREFIXES.iter().enumerate() {
        let digit = rest % 1024;
        if digit != 0 || (i == 0 && rest == 0) {
            parts.push(format!("{digit}{prefix}{}", if i == 0 { "B" } else { "iB" }));
        }
        rest /= 1024;
        if rest == 0 {
            break;
        }
    }
    parts.reverse();
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_show_as_prometheus_does() {
        for (text, bytes, shown) in [
            ("0", 0, "0B"),
            ("15MB", 15 << 20, "15MiB"),
            ("1GiB512MiB", (1 << 30) + (512 << 20), "1GiB512MiB"),
            ("1.5KB", 1536, "1KiB512B"),
            ("-1GB", -(1 << 30), "-1GiB"),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(format_size(bytes), shown, "{text}");
        }
        assert_eq!(parse_size("100"), Err("units: unknown unit  in 100".to_owned()));
        assert_eq!(parse_size("x"), Err("units: invalid x".to_owned()));
        assert!(parse_size("1XB").is_err() && parse_size("99999999EB").is_err() && parse_size("").is_err());
    }
}
