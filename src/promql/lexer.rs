//! Bytes to tokens. What a character means depends on the bracket it stands in.

use crate::ast::{BinaryOp, Span};
use crate::error::Complaint;
use crate::token::{Kind, Token, code_point, quoted, quoted_char};

/// Go's `utf8.RuneError`: what bytes that are not UTF-8 read as. The character itself is refused alike.
const BAD_RUNE: char = '\u{fffd}';

pub(crate) struct Lexer<'a> {
    input: &'a [u8],
    /// The next byte to read.
    at: usize,
    /// Where the current token began.
    start: usize,
    paren_depth: usize,
    in_braces: bool,
    in_brackets: bool,
    /// Inside brackets, before anything that leaves them to the ordinary rules.
    bracket_head: bool,
    got_colon: bool,
    got_duration: bool,
    /// Numbers may be followed by `x`, hexadecimal is off: a series description is read.
    series: bool,
}

type Lexed = Result<Token, Complaint>;

impl<'a> Lexer<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Lexer {
            input,
            at: 0,
            start: 0,
            paren_depth: 0,
            in_braces: false,
            in_brackets: false,
            bracket_head: false,
            got_colon: false,
            got_duration: false,
            series: false,
        }
    }

    /// A lexer that stands at byte `at` and reads numbers as series descriptions have them.
    pub(crate) fn for_series(input: &'a [u8], at: usize) -> Self {
        Lexer { at, start: at, series: true, ..Lexer::new(input) }
    }

    /// Where the next token would begin to be looked for.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next token; comments and blanks are passed over. After an error nothing is to be asked for.
    pub(crate) fn next_token(&mut self) -> Lexed {
        loop {
            self.skip_spaces();
            self.start = self.at;
            if self.bracket_head {
                return self.bracketed();
            }
            if self.peek_byte() == Some(b'#') {
                while self.peek_byte().is_some_and(|b| b != b'\n' && b != b'\r') {
                    self.at += 1;
                }
                continue;
            }
            return if self.in_braces { self.braced() } else { self.plain() };
        }
    }

    /// Outside of braces.
    fn plain(&mut self) -> Lexed {
        use BinaryOp::*;
        let Some(c) = self.next_char() else {
            if self.paren_depth != 0 {
                return self.fail("unclosed left parenthesis");
            }
            if self.in_brackets {
                return self.fail("unclosed left bracket");
            }
            return self.emit(Kind::End);
        };
        match c {
            ',' => self.emit(Kind::Comma),
            '*' => self.emit(Kind::Op(Mul)),
            '/' => self.emit(Kind::Op(Div)),
            '%' => self.emit(Kind::Op(Mod)),
            '+' => self.emit(Kind::Op(Add)),
            '-' => self.emit(Kind::Op(Sub)),
            '^' => self.emit(Kind::Op(Pow)),
            '@' => self.emit(Kind::At),
            '=' => match self.peek_byte() {
                Some(b'=') => self.emit_after(1, Kind::Op(Eq)),
                Some(b'~') => self.fail("unexpected character after '=': '~'"),
                _ => self.emit(Kind::Assign),
            },
            '!' => match self.next_char() {
                Some('=') => self.emit(Kind::Op(NotEq)),
                other => self.fail_at_char("unexpected character after '!': ", other),
            },
            '<' => match self.peek_byte() {
                Some(b'=') => self.emit_after(1, Kind::Op(LessEq)),
                Some(b'/') => self.emit_after(1, Kind::Op(TrimUpper)),
                _ => self.emit(Kind::Op(Less)),
            },
            '>' => match self.peek_byte() {
                Some(b'=') => self.emit_after(1, Kind::Op(GreaterEq)),
                Some(b'/') => self.emit_after(1, Kind::Op(TrimLower)),
                _ => self.emit(Kind::Op(Greater)),
            },
            '0'..='9' => self.number_or_duration(),
            '.' if self.peek_byte().is_some_and(|b| b.is_ascii_digit()) => self.number_or_duration(),
            '"' | '\'' | '`' => self.string(c),
            ':' | '_' | 'a'..='z' | 'A'..='Z' => self.word(c),
            '(' | ')' => self.paren(c),
            '{' => {
                self.in_braces = true;
                self.emit(Kind::LeftBrace)
            }
            '[' => self.open_bracket(),
            ']' if self.in_brackets => {
                self.in_brackets = false;
                self.emit(Kind::RightBracket)
            }
            ']' => self.fail("unexpected right bracket ']'"),
            c => self.fail_at_char("unexpected character: ", Some(c)),
        }
    }

    /// Inside of braces there are no keywords and no operators but those of matchers.
    fn braced(&mut self) -> Lexed {
        let Some(c) = self.next_char() else {
            return self.fail("unexpected end of input inside braces");
        };
        match c {
            '_' | 'a'..='z' | 'A'..='Z' => {
                self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_');
                self.emit(Kind::Identifier)
            }
            ',' => self.emit(Kind::Comma),
            '"' | '\'' | '`' => self.string(c),
            '=' if self.peek_byte() == Some(b'~') => self.emit_after(1, Kind::Like),
            '=' => self.emit(Kind::Assign),
            '!' => match self.next_char() {
                Some('~') => self.emit(Kind::Unlike),
                Some('=') => self.emit(Kind::Op(BinaryOp::NotEq)),
                other => self.fail_at_char("unexpected character after '!' inside braces: ", other),
            },
            '{' => self.fail("unexpected left brace '{'"),
            '}' => {
                self.in_braces = false;
                self.emit(Kind::RightBrace)
            }
            c => self.fail_at_char("unexpected character inside braces: ", Some(c)),
        }
    }

    /// After `[`, up to the first number: lengths of time, their operators and words.
    fn bracketed(&mut self) -> Lexed {
        use BinaryOp::*;
        let Some(c) = self.next_char() else {
            return self.fail("unexpected end of input in duration expression");
        };
        match c {
            ']' => {
                self.in_brackets = false;
                self.bracket_head = false;
                self.got_colon = false;
                self.emit(Kind::RightBracket)
            }
            ':' => {
                self.start = self.at;
                if !self.got_duration {
                    return self.fail("unexpected colon before duration in duration expression");
                }
                if self.got_colon {
                    return self.fail("unexpected repeated colon in duration expression");
                }
                self.got_colon = true;
                self.start = self.at - 1;
                self.emit(Kind::Colon)
            }
            '(' | ')' => self.paren(c),
            '+' => self.emit(Kind::Op(Add)),
            '-' => self.emit(Kind::Op(Sub)),
            '*' => self.emit(Kind::Op(Mul)),
            '/' => self.emit(Kind::Op(Div)),
            '%' => self.emit(Kind::Op(Mod)),
            '^' => self.emit(Kind::Op(Pow)),
            ',' => self.emit(Kind::Comma),
            's' | 'S' | 'm' | 'M' | 'r' | 'R' => match self.duration_word() {
                Some(kind) => {
                    self.got_duration = true;
                    self.emit(kind)
                }
                None => self.fail_at_char("unexpected character in duration expression: ", Some(c)),
            },
            '0'..='9' => self.bracketed_number(),
            '.' if self.peek_byte().is_some_and(|b| b.is_ascii_digit()) => self.bracketed_number(),
            c => self.fail_at_char("unexpected character in duration expression: ", Some(c)),
        }
    }

    fn bracketed_number(&mut self) -> Lexed {
        self.got_duration = true;
        self.bracket_head = false;
        self.number_or_duration()
    }

    fn open_bracket(&mut self) -> Lexed {
        if self.in_brackets {
            return self.fail("unexpected left bracket '['");
        }
        self.in_brackets = true;
        self.bracket_head = true;
        self.got_colon = false;
        self.emit(Kind::LeftBracket)
    }

    fn paren(&mut self, c: char) -> Lexed {
        if c == '(' {
            self.paren_depth += 1;
            return self.emit(Kind::LeftParen);
        }
        if self.paren_depth == 0 {
            self.start = self.at;
            return self.fail("unexpected right parenthesis ')'");
        }
        self.paren_depth -= 1;
        self.emit(Kind::RightParen)
    }

    /// An identifier, a keyword, or inside brackets a colon or one of the few words known there.
    fn word(&mut self, first: char) -> Lexed {
        if self.in_brackets {
            return match first {
                ':' if self.got_colon => self.fail("unexpected colon ':'"),
                ':' => {
                    self.got_colon = true;
                    self.emit(Kind::Colon)
                }
                's' | 'S' | 'm' | 'M' | 'r' | 'R' => match self.duration_word() {
                    Some(kind) => self.emit(kind),
                    None => self.fail_no_colon(first),
                },
                _ => self.fail_no_colon(first),
            };
        }
        self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
        let word = String::from_utf8_lossy(&self.input[self.start..self.at]).to_ascii_lowercase();
        match Kind::of_word(&word) {
            Some(Kind::Keyword(k)) if k.is_fill() && !self.paren_follows() => self.emit(Kind::Identifier),
            Some(kind) => self.emit(kind),
            None if word.contains(':') => self.emit(Kind::MetricIdentifier),
            None => self.emit(Kind::Identifier),
        }
    }

    fn fail_no_colon(&self, c: char) -> Lexed {
        self.fail(&format!("unexpected character: {}, expected ':'", quoted_char(c)))
    }

    fn duration_word(&mut self) -> Option<Kind> {
        self.skip_while(|b| b.is_ascii_alphabetic() || b == b'_');
        let word = String::from_utf8_lossy(&self.input[self.start..self.at]).to_ascii_lowercase();
        Kind::of_duration_word(&word)
    }

    /// `fill` is a keyword only before a parenthesis: it has been a metric's name for long.
    fn paren_follows(&self) -> bool {
        self.input[self.at..].iter().find(|b| !is_space(**b)) == Some(&b'(')
    }

    /// A string; `quote` has been read.
    fn string(&mut self, quote: char) -> Lexed {
        let raw = quote == '`';
        loop {
            match self.next_char() {
                None if raw => return self.fail("unterminated raw string"),
                None => return self.fail("unterminated quoted string"),
                Some('\n') if !raw => return self.fail("unterminated quoted string"),
                Some(BAD_RUNE) => return self.fail("invalid UTF-8 rune"),
                Some('\\') if !raw => self.escape(quote)?,
                Some(c) if c == quote => return self.emit(Kind::String),
                Some(_) => {}
            }
        }
    }

    /// Checks an escape sequence; its backslash has been read.
    fn escape(&mut self, quote: char) -> Result<(), Complaint> {
        let not_terminated = "escape sequence not terminated";
        let Some(c) = self.next_char() else {
            return Err(self.complaint(not_terminated));
        };
        let (digits, base, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => (3, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            c => return Err(self.complaint(&format!("unknown escape sequence {}", code_point(c)))),
        };
        let mut value = 0u32;
        let mut next = if base == 8 { Some(c) } else { self.next_char() };
        for i in 0..digits {
            let Some(c) = next else {
                return Err(self.complaint(not_terminated));
            };
            let Some(d) = c.to_digit(base) else {
                let text = format!("illegal character {} in escape sequence", code_point(c));
                return Err(self.complaint(&text));
            };
            // Eight hexadecimal digits fill a u32 exactly.
            value = value.wrapping_mul(base).wrapping_add(d);
            if i + 1 < digits {
                next = self.next_char();
            }
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err(self.complaint("escape sequence is an invalid Unicode code point"));
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Lexed {
        self.at = self.start;
        if self.scan_number() {
            return self.emit(Kind::Number);
        }
        if !self.series && self.scan_duration_rest() {
            return self.emit(Kind::Duration);
        }
        let what = if self.series { "bad number syntax" } else { "bad number or duration syntax" };
        self.fail(&format!("{what}: {}", quoted(&self.input[self.start..self.at])))
    }

    /// A number of a series description, from where the lexer stands.
    pub(crate) fn series_number(&mut self) -> Lexed {
        self.start = self.at;
        self.number_or_duration()
    }

    /// The units of a duration whose first digits were taken for a number.
    fn scan_duration_rest(&mut self) -> bool {
        if !self.accept(b"smhdwy") {
            return false;
        }
        self.accept(b"s");
        while self.accept(b"0123456789") {
            self.skip_while(|b| b.is_ascii_digit());
            // Years stand first or nowhere.
            if !self.accept(b"smhdw") {
                return false;
            }
            self.accept(b"s");
        }
        let next = self.peek_byte();
        if next.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
            self.at += 1;
            return false;
        }
        // A character that is no letter ends a duration but not, if it is wide, its error text.
        true
    }

    /// Scans what looks like a number; whether it is one, the parser finds out.
    fn scan_number(&mut self) -> bool {
        let initial = self.at;
        let mut digits: &[u8] = b"0123456789";
        let mut hex = false;
        if !self.series && self.accept(b"0") && self.accept(b"xX") {
            self.accept(b"_");
            digits = b"0123456789abcdefABCDEF";
            hex = true;
        }
        self.accept(b".");
        self.accept(digits);
        let (mut dot, mut exponent) = (false, false);
        while let Some(b) = self.peek_byte() {
            let in_number = digits.contains(&b) || matches!(b, b'.' | b'_' | b'e' | b'E');
            if !in_number {
                break;
            }
            if (b == b'.' && dot) || (matches!(b, b'e' | b'E') && exponent) {
                self.at += 1;
                return false;
            }
            // After each mark that is not a digit, some others may not follow.
            match b {
                b'.' => {
                    self.at += 1;
                    dot = true;
                    if self.accept(b"_.") || hex {
                        return false;
                    }
                }
                b'e' | b'E' => {
                    self.at += 1;
                    exponent = true;
                    self.accept(b"+-");
                    if self.accept(b"._eE") || self.peek_byte().is_none() {
                        return false;
                    }
                }
                b'_' => {
                    self.at += 1;
                    if self.accept(b"._eE") || self.peek_byte().is_none() {
                        return false;
                    }
                }
                _ => self.skip_while(|b| digits.contains(&b)),
            }
        }
        if self.at == initial {
            return false;
        }
        match self.peek_byte() {
            Some(b'x') if self.series => true,
            Some(b) => !(b.is_ascii_alphanumeric() || b == b'_'),
            None => true,
        }
    }

    fn accept(&mut self, set: &[u8]) -> bool {
        let found = self.peek_byte().is_some_and(|b| set.contains(&b));
        self.at += usize::from(found);
        found
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.peek_byte().is_some_and(&keep) {
            self.at += 1;
        }
    }

    fn skip_spaces(&mut self) {
        self.skip_while(is_space);
    }

    fn peek_byte(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// The next character; one byte that is not UTF-8 reads as [`BAD_RUNE`].
    fn next_char(&mut self) -> Option<char> {
        let first = self.peek_byte()?;
        if first < 0x80 {
            self.at += 1;
            return Some(first as char);
        }
        let window = &self.input[self.at..self.input.len().min(self.at + 4)];
        let valid = match std::str::from_utf8(window) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&window[..e.valid_up_to()]).unwrap_or(""),
        };
        match valid.chars().next() {
            Some(c) => {
                self.at += c.len_utf8();
                Some(c)
            }
            None => {
                self.at += 1;
                Some(BAD_RUNE)
            }
        }
    }

    fn emit(&self, kind: Kind) -> Lexed {
        Ok(Token { kind, span: Span::new(self.start, self.at) })
    }

    fn emit_after(&mut self, more: usize, kind: Kind) -> Lexed {
        self.at += more;
        self.emit(kind)
    }

    fn complaint(&self, message: &str) -> Complaint {
        Complaint { span: Span::new(self.start, self.input.len()), message: message.to_owned() }
    }

    fn fail(&self, message: &str) -> Lexed {
        Err(self.complaint(message))
    }

    /// The end of input reads as [`BAD_RUNE`] in texts.
    fn fail_at_char(&self, before: &str, c: Option<char>) -> Lexed {
        self.fail(&format!("{before}{}", quoted_char(c.unwrap_or(BAD_RUNE))))
    }
}

pub(crate) fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

/// The bytes a string literal stands for, quotes included in `text`. The lexer has checked every escape.
pub(crate) fn unquote(text: &[u8]) -> Vec<u8> {
    let Some((&quote, rest)) = text.split_first() else {
        return Vec::new();
    };
    let inner = &rest[..rest.len().saturating_sub(1)];
    if quote == b'`' || !inner.contains(&b'\\') {
        return inner.to_vec();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some(e) = bytes.next() else { break };
        match e {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                let rest = take_number(&mut bytes, 2, 8);
                out.push((u32::from(e - b'0') * 64 + rest) as u8);
            }
            b'x' => out.push(take_number(&mut bytes, 2, 16) as u8),
            b'u' => push_char(&mut out, take_number(&mut bytes, 4, 16)),
            b'U' => push_char(&mut out, take_number(&mut bytes, 8, 16)),
            other => out.push(other),
        }
    }
    out
}

fn take_number(bytes: &mut impl Iterator<Item = u8>, digits: usize, base: u32) -> u32 {
    let digit = |b: u8| (b as char).to_digit(base).unwrap_or(0);
    bytes.by_ref().take(digits).fold(0u32, |n, b| n.wrapping_mul(base).wrapping_add(digit(b)))
}

fn push_char(out: &mut Vec<u8>, code: u32) {
    let c = char::from_u32(code).unwrap_or(BAD_RUNE);
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
