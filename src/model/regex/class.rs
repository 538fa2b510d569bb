//! Character classes in Go's syntax: brackets, `\d`, `[:alpha:]`, `\p{Greek}`, and single escapes.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::parse::{INVALID_CHAR_RANGE, INVALID_ESCAPE, MISSING_BRACKET, SyntaxError, TRAILING_BACKSLASH};

/// Ranges of code points while a class is being read.
pub(super) struct ClassSet {
    ranges: Vec<ClassUnicodeRange>,
}

impl ClassSet {
    fn new() -> Self {
        ClassSet { ranges: Vec::new() }
    }

    pub(super) fn of_char(code: u32) -> Self {
        let mut set = Self::new();
        set.push(code, code);
        set
    }

    /// Adds a range without its surrogates: no text that reaches a regex has them.
    fn push(&mut self, low: u32, high: u32) {
        for (low, high) in [(low, high.min(0xd7ff)), (low.max(0xe000), high)] {
            if let (true, Some(l), Some(h)) = (low <= high, char::from_u32(low), char::from_u32(high)) {
                self.ranges.push(ClassUnicodeRange::new(l, h));
            }
        }
    }

    fn extend(&mut self, other: ClassSet) {
        self.ranges.extend(other.ranges);
    }

    /// With every character that differs by case only.
    pub(super) fn folded(self) -> Self {
        let mut class = self.into_class();
        // The tables are compiled in: the error says that they are not.
        let _ = class.try_case_fold_simple();
        ClassSet { ranges: class.ranges().to_vec() }
    }

    fn negated(self) -> Self {
        let mut class = self.into_class();
        class.negate();
        ClassSet { ranges: class.ranges().to_vec() }
    }

    fn turned(self, fold: bool, negate: bool) -> Self {
        let set = if fold { self.folded() } else { self };
        if negate { set.negated() } else { set }
    }

    pub(super) fn into_class(self) -> ClassUnicode {
        ClassUnicode::new(self.ranges)
    }
}

/// Reads `[...]` at the beginning of `text`; returns the class and what follows.
pub(super) fn bracketed(text: &str, fold: bool) -> Result<(ClassSet, &str), SyntaxError> {
    let mut rest = &text[1..];
    let negate = rest.starts_with('^');
    if negate {
        rest = &rest[1..];
    }
    let mut set = ClassSet::new();
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        if let Some((named, after)) = posix_class(rest, fold)? {
            set.extend(named);
            rest = after;
            continue;
        }
        if let Some((escaped, after)) = escaped_class(rest, fold)? {
            set.extend(escaped);
            rest = after;
            continue;
        }
        let (low, high, after) = class_range(rest, text)?;
        let mut range = ClassSet::new();
        range.push(low, high);
        set.extend(if fold { range.folded() } else { range });
        rest = after;
    }
    Ok((set.turned(false, negate), &rest[1..]))
}

/// A character or a range of them inside brackets.
fn class_range<'t>(text: &'t str, whole: &str) -> Result<(u32, u32, &'t str), SyntaxError> {
    let (low, rest) = class_char(text, whole)?;
    // `[a-]` is the letter and the dash.
    let bytes = rest.as_bytes();
    if bytes.len() < 2 || bytes[0] != b'-' || bytes[1] == b']' {
        return Ok((low, low, rest));
    }
    let (high, rest) = class_char(&rest[1..], whole)?;
    if high < low {
        return Err(SyntaxError::new(INVALID_CHAR_RANGE, &text[..text.len() - rest.len()]));
    }
    Ok((low, high, rest))
}

fn class_char<'t>(text: &'t str, whole: &str) -> Result<(u32, &'t str), SyntaxError> {
    match text.chars().next() {
        None => Err(SyntaxError::new(MISSING_BRACKET, whole)),
        Some('\\') => escaped_char(text),
        Some(c) => Ok((c as u32, &text[c.len_utf8()..])),
    }
}

/// `\d`, `\pL` and their like at the beginning of `text`, if one is there.
pub(super) fn escaped_class(text: &str, fold: bool) -> Result<Option<(ClassSet, &str)>, SyntaxError> {
    let bytes = text.as_bytes();
    if bytes.len() < 2 || bytes[0] != b'\\' {
        return Ok(None);
    }
    let ranges: &[(u8, u8)] = match bytes[1] {
        b'd' | b'D' => &[(b'0', b'9')],
        b's' | b'S' => &[(b'\t', b'\n'), (0x0c, b'\r'), (b' ', b' ')],
        b'w' | b'W' => &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
        b'p' | b'P' => return unicode_class(text, fold).map(Some),
        _ => return Ok(None),
    };
    Ok(Some((ascii_set(ranges).turned(fold, bytes[1].is_ascii_uppercase()), &text[2..])))
}

fn ascii_set(ranges: &[(u8, u8)]) -> ClassSet {
    let mut set = ClassSet::new();
    for (low, high) in ranges {
        set.push(u32::from(*low), u32::from(*high));
    }
    set
}

/// `[:alpha:]` or `[:^alpha:]` at the beginning of `text`, if one is there.
fn posix_class(text: &str, fold: bool) -> Result<Option<(ClassSet, &str)>, SyntaxError> {
    let Some(inner) = text.strip_prefix("[:") else {
        return Ok(None);
    };
    let Some(end) = inner.find(":]") else {
        return Ok(None);
    };
    let (name, after) = (&inner[..end], &inner[end + 2..]);
    let (name, negate) = match name.strip_prefix('^') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let ranges: &[(u8, u8)] = match name {
        "alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        "alpha" => &[(b'A', b'Z'), (b'a', b'z')],
        "ascii" => &[(0, 0x7f)],
        "blank" => &[(b'\t', b'\t'), (b' ', b' ')],
        "cntrl" => &[(0, 0x1f), (0x7f, 0x7f)],
        "digit" => &[(b'0', b'9')],
        "graph" => &[(b'!', b'~')],
        "lower" => &[(b'a', b'z')],
        "print" => &[(b' ', b'~')],
        "punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        "space" => &[(b'\t', b'\r'), (b' ', b' ')],
        "upper" => &[(b'A', b'Z')],
        "word" => &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
        "xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        _ => {
            return Err(SyntaxError::new(INVALID_CHAR_RANGE, &text[..text.len() - after.len()]));
        }
    };
    Ok(Some((ascii_set(ranges).turned(fold, negate), after)))
}

/// `\pL`, `\p{Greek}`, `\P{^Greek}` at the beginning of `text`, which begins so.
fn unicode_class(text: &str, fold: bool) -> Result<(ClassSet, &str), SyntaxError> {
    let mut negate = text.as_bytes()[1] == b'P';
    let rest = &text[2..];
    let Some(c) = rest.chars().next() else {
        // Go's reader finds no character to name a class and falls through to the escape.
        return Err(SyntaxError::new(INVALID_ESCAPE, text));
    };
    let (name, after) = if c == '{' {
        let Some(end) = rest.find('}') else {
            return Err(SyntaxError::new(INVALID_CHAR_RANGE, text));
        };
        (&rest[1..end], &rest[end + 1..])
    } else {
        rest.split_at(c.len_utf8())
    };
    let name = match name.strip_prefix('^') {
        Some(name) => {
            negate = !negate;
            name
        }
        None => name,
    };
    let Some(set) = named_unicode_set(name) else {
        return Err(SyntaxError::new(INVALID_CHAR_RANGE, &text[..text.len() - after.len()]));
    };
    Ok((set.turned(fold, negate), after))
}

/// Scripts whose full name has four letters: any other four-letter script name is an abbreviation, which Go
/// does not know.
const SHORT_SCRIPTS: [&str; 9] = ["ahom", "cham", "kawi", "lisu", "miao", "modi", "newa", "thai", "toto"];

/// A general category (`L`, `Lu`, `Letter`, `Any`, ...) or a script by its full name.
fn named_unicode_set(name: &str) -> Option<ClassSet> {
    let plain: String = name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect();
    let plain = plain.to_ascii_lowercase();
    if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric()) || plain.starts_with("is") {
        return None;
    }
    match plain.as_str() {
        "cs" | "surrogate" => return Some(ClassSet::new()),
        "ascii" => return Some(ascii_set(&[(0, 0x7f)])),
        _ => {}
    }
    if let Some(set) = property_set(&format!("gc={plain}")) {
        return Some(set);
    }
    if plain.len() == 4 && !SHORT_SCRIPTS.contains(&plain.as_str()) {
        return None;
    }
    property_set(&format!("sc={plain}"))
}

fn property_set(query: &str) -> Option<ClassSet> {
    let hir = regex_syntax::parse(&format!("\\p{{{query}}}")).ok()?;
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(ClassSet { ranges: class.ranges().to_vec() }),
        // A class of one character becomes a literal.
        HirKind::Literal(l) => {
            let c = std::str::from_utf8(&l.0).ok()?.chars().next()?;
            Some(ClassSet::of_char(c as u32))
        }
        _ => None,
    }
}

/// An escape for one character at the beginning of `text`, which begins with a backslash.
pub(super) fn escaped_char(text: &str) -> Result<(u32, &str), SyntaxError> {
    let Some(c) = text[1..].chars().next() else {
        return Err(SyntaxError::new(TRAILING_BACKSLASH, ""));
    };
    let rest = &text[1 + c.len_utf8()..];
    let code = match c {
        // A single digit would refer back to a group, which this syntax does not have.
        '1'..='7' if !rest.starts_with(|d: char| ('0'..='7').contains(&d)) => None,
        '0'..='7' => return Ok(octal(&text[1..])),
        'x' => return hex(text, rest),
        'a' => Some(7),
        'f' => Some(12),
        'n' => Some(10),
        'r' => Some(13),
        't' => Some(9),
        'v' => Some(11),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c as u32),
        _ => None,
    };
    match code {
        Some(code) => Ok((code, rest)),
        None => Err(SyntaxError::new(INVALID_ESCAPE, &text[..text.len() - rest.len()])),
    }
}

fn octal(text: &str) -> (u32, &str) {
    let digits = text.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
    (text[..digits].bytes().fold(0, |n, b| n * 8 + u32::from(b - b'0')), &text[digits..])
}

/// `\x41` or `\x{10ffff}`; `rest` follows the `x`. A refusal names what was read up to the offending character.
fn hex<'t>(text: &'t str, rest: &'t str) -> Result<(u32, &'t str), SyntaxError> {
    let refuse = |rest: &str| Err(SyntaxError::new(INVALID_ESCAPE, &text[..text.len() - rest.len()]));
    let mut chars = rest.chars();
    let Some(first) = chars.next() else {
        return refuse(rest);
    };
    if first != '{' {
        let Some(second) = chars.next() else {
            return refuse(chars.as_str());
        };
        return match (first.to_digit(16), second.to_digit(16)) {
            (Some(a), Some(b)) => Ok((a * 16 + b, chars.as_str())),
            _ => refuse(chars.as_str()),
        };
    }
    let (mut code, mut digits) = (0u32, 0u32);
    loop {
        match chars.next() {
            Some('}') if digits > 0 => return Ok((code, chars.as_str())),
            Some(c) => match c.to_digit(16) {
                Some(v) if code * 16 + v <= 0x10_ffff => code = code * 16 + v,
                _ => return refuse(chars.as_str()),
            },
            None => return refuse(chars.as_str()),
        }
        digits += 1;
    }
}
