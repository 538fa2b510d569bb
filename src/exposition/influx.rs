//! InfluxDB's line protocol: `measurement,tag=value field=1.5,other=2i 1700000000000000000`.

use std::borrow::Cow;

/// One line: a point with numbers. Texts among the fields are passed over: they are no samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point<'a> {
    pub measurement: Cow<'a, str>,
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub fields: Vec<(Cow<'a, str>, f64)>,
    /// In the request's precision.
    pub time: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    #[error("missing fields")]
    NoFields,
    #[error("missing tag value")]
    NoTagValue,
    #[error("missing field value")]
    NoFieldValue,
    #[error("invalid number")]
    Number,
    #[error("unbalanced quotes")]
    Quotes,
    #[error("bad timestamp")]
    Time,
    #[error("invalid UTF-8")]
    NotText,
}

/// Reads a line without its newline. `None` where it says nothing: it is empty, or a comment.
pub fn read(line: &[u8]) -> Result<Option<Point<'_>>, PointError> {
    let line = std::str::from_utf8(line).map_err(|_| PointError::NotText)?;
    let line = line.trim_matches([' ', '\t', '\r']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let mut point = Point::default();
    let (measurement, mut rest) = split(line, &[',', ' ']);
    point.measurement = unescaped(measurement);
    while let Some(tags) = rest.strip_prefix(',') {
        let (key, behind) = split(tags, &['=', ',', ' ']);
        let value = behind.strip_prefix('=').ok_or(PointError::NoTagValue)?;
        let (value, behind) = split(value, &[',', ' ']);
        point.tags.push((unescaped(key), unescaped(value)));
        rest = behind;
    }
    rest = rest.trim_start_matches(' ');
    if rest.is_empty() {
        return Err(PointError::NoFields);
    }
    loop {
        let (key, behind) = split(rest, &['=', ',', ' ']);
        let value = behind.strip_prefix('=').ok_or(PointError::NoFieldValue)?;
        let (number, behind) = field_value(value)?;
        if let Some(number) = number {
            point.fields.push((unescaped(key), number));
        }
        match behind.strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                rest = behind;
                break;
            }
        }
    }
    let time = rest.trim_matches(' ');
    if !time.is_empty() {
        point.time = Some(time.parse().map_err(|_| PointError::Time)?);
    }
    Ok(Some(point))
}

/// Up to the first of `ends` without a backslash before it.
fn split<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    let mut is_escaped = false;
    for (i, c) in text.char_indices() {
        if !is_escaped && ends.contains(&c) {
            return text.split_at(i);
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    (text, "")
}

/// A backslash before a comma, an equals sign, a space or a backslash goes.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(&next @ (',' | '=' | ' ' | '\\'))) => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The number of a field, `None` for a text; and what follows.
fn field_value(text: &str) -> Result<(Option<f64>, &str), PointError> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (_, behind) = split(quoted, &['"']);
        return match behind.strip_prefix('"') {
            Some(behind) if behind.is_empty() || behind.starts_with([',', ' ']) => Ok((None, behind)),
            _ => Err(PointError::Quotes),
        };
    }
    let end = text.find([',', ' ']).unwrap_or(text.len());
    let (value, behind) = text.split_at(end);
    let number = match value {
        "" => return Err(PointError::NoFieldValue),
        "t" | "T" | "true" | "True" | "TRUE" => 1.0,
        "f" | "F" | "false" | "False" | "FALSE" => 0.0,
        _ => number(value).ok_or(PointError::Number)?,
    };
    Ok((Some(number), behind))
}

fn number(text: &str) -> Option<f64> {
    if let Some(whole) = text.strip_suffix('i') {
        return whole.parse::<i64>().ok().map(|v| v as f64);
    }
    if let Some(whole) = text.strip_suffix('u') {
        return whole.parse::<u64>().ok().map(|v| v as f64);
    }
    // Rust reads `inf`, `nan` and `infinity` too: these are not the protocol's.
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(line: &str) -> String {
        match read(line.as_bytes()) {
            Ok(None) => "-".to_owned(),
            Ok(Some(p)) => format!("{} {:?} {:?} {:?}", p.measurement, p.tags, p.fields, p.time),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn lines_are_points() {
        let check = |line: &str, expect: &str| assert_eq!(shown(line), expect, "{line}");
        check("", "-");
        check("# a comment", "-");
        check("m f=1", r#"m [] [("f", 1.0)] None"#);
        check(
            "m,a=b,c=d f=1.5,g=-2i,h=3u 1700",
            r#"m [("a", "b"), ("c", "d")] [("f", 1.5), ("g", -2.0), ("h", 3.0)] Some(1700)"#,
        );
        check(
            "m f=t,g=FALSE,s=\"a, b=\\\"c\\\" d\",h=1e3  5 ",
            r#"m [] [("f", 1.0), ("g", 0.0), ("h", 1000.0)] Some(5)"#,
        );
        check(r"a\ b\,c,t\=1=v\ w f\,x=1", r#"a b,c [("t=1", "v w")] [("f,x", 1.0)] None"#);
        check(r"m,path=C:\dir f=1", r#"m [("path", "C:\\dir")] [("f", 1.0)] None"#);
        check("m,a= f=1", r#"m [("a", "")] [("f", 1.0)] None"#);
        check("m", "missing fields");
        check("m,a f=1", "missing tag value");
        check("m f", "missing field value");
        check("m f=", "missing field value");
        check("m f=abc", "invalid number");
        check("m f=nan", "invalid number");
        check("m f=1.5i", "invalid number");
        check("m f=\"x", "unbalanced quotes");
        check("m f=1 x", "bad timestamp");
        assert_eq!(read(b"m f=1 \xff"), Err(PointError::NotText));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_line_of_the_usual_characters_makes_it_panic(line in r#"[a,= \\"0-9.itu#-]{0,40}"#) {
            let _ = read(line.as_bytes());
        }
    }
}
