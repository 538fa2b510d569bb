//! Go's regular expression syntax (RE2, Perl flavor) read into `regex_syntax`'s intermediate form.
//!
//! The rules are those of Go's `regexp/syntax`: which texts are accepted, what they mean and how a refusal is
//! worded. `regex_syntax`'s own parser differs in all three, so only its tree and its Unicode tables are used.

use regex_syntax::hir::{Capture, Class, Dot, Hir, Look, Repetition};

use super::class::{self, ClassSet};

/// A parsed expression and what the tree does not keep.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) hir: Hir,
    /// Names of the groups, by index; group 0 is the whole match.
    pub(super) names: Vec<Option<String>>,
}

/// Go's limits: a repeat count, a program's instructions (128 MiB of 40 bytes), the height of a tree.
const REPEAT_MAX: i64 = 1000;
const PROGRAM_SIZE_MAX: u64 = (128 << 20) / 40;
const HEIGHT_MAX: u32 = 1000;

pub(super) const INVALID_CHAR_RANGE: &str = "invalid character class range";
pub(super) const INVALID_ESCAPE: &str = "invalid escape sequence";
pub(super) const MISSING_BRACKET: &str = "missing closing ]";
pub(super) const TRAILING_BACKSLASH: &str = "trailing backslash at end of expression";
const INVALID_NAMED_CAPTURE: &str = "invalid named capture";
const INVALID_PERL_OP: &str = "invalid or unsupported Perl syntax";
const INVALID_REPEAT_OP: &str = "invalid nested repetition operator";
const INVALID_REPEAT_SIZE: &str = "invalid repeat count";
const MISSING_PAREN: &str = "missing closing )";
const MISSING_REPEAT_ARGUMENT: &str = "missing argument to repetition operator";
const UNEXPECTED_PAREN: &str = "unexpected )";
const NESTING_DEPTH: &str = "expression nests too deeply";
const LARGE: &str = "expression too large";

/// A refusal: Go's words for it and the part of the expression it is about.
#[derive(Debug)]
pub(super) struct SyntaxError {
    code: &'static str,
    part: String,
}

impl SyntaxError {
    pub(super) fn new(code: &'static str, part: &str) -> Self {
        SyntaxError { code, part: part.to_owned() }
    }

    pub(super) fn too_large(pattern: &str) -> Self {
        Self::new(LARGE, pattern)
    }

    pub(super) fn text(&self) -> String {
        format!("error parsing regexp: {}: `{}`", self.code, self.part)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flags {
    pub(super) fold_case: bool,
    /// `(?m)`: `^` and `$` match at lines.
    pub(super) multi_line: bool,
    /// `(?s)`: a dot matches a newline.
    pub(super) dot_newline: bool,
    /// `(?U)`: the meanings of `x*` and `x*?` are swapped.
    pub(super) non_greedy: bool,
}

impl Flags {
    pub(super) const NONE: Flags =
        Flags { fold_case: false, multi_line: false, dot_newline: false, non_greedy: false };
    pub(super) const DOT_NEWLINE: Flags = Flags { dot_newline: true, ..Flags::NONE };
}

/// A piece of the tree with the sums that Go's limits are about.
struct Node {
    hir: Hir,
    /// The greatest product of repeat counts along one path down.
    repeats: i64,
    size: u64,
    height: u32,
}

impl Node {
    fn leaf(hir: Hir) -> Self {
        Node { hir, repeats: 1, size: 1, height: 1 }
    }
}

/// An open group: the branches before the last `|` and the pieces after it.
struct Frame {
    /// Index of the capturing group, `None` for `(?:`.
    capture: Option<u32>,
    outer_flags: Flags,
    branches: Vec<Node>,
    pieces: Vec<Node>,
}

impl Frame {
    fn new(capture: Option<u32>, outer_flags: Flags) -> Self {
        Frame { capture, outer_flags, branches: Vec::new(), pieces: Vec::new() }
    }

    fn end_branch(&mut self) {
        let pieces = std::mem::take(&mut self.pieces);
        self.branches.push(join(pieces, Hir::concat, 0));
    }

    fn close(mut self) -> Node {
        self.end_branch();
        let joints = self.branches.len() as u64 - 1;
        join(self.branches, Hir::alternation, joints)
    }
}

fn join(mut nodes: Vec<Node>, make: fn(Vec<Hir>) -> Hir, joints: u64) -> Node {
    if nodes.len() == 1
        && let Some(node) = nodes.pop()
    {
        return node;
    }
    let repeats = nodes.iter().map(|n| n.repeats).max().unwrap_or(1);
    let size = nodes.iter().map(|n| n.size).sum::<u64>() + joints;
    // A run of single characters is one leaf in Go's tree.
    let height = 1 + nodes.iter().map(|n| n.height).max().unwrap_or(0);
    Node { hir: make(nodes.into_iter().map(|n| n.hir).collect()), repeats, size: size.max(1), height }
}

pub(super) fn parse(pattern: &str, flags: Flags) -> Result<Parsed, SyntaxError> {
    let mut parser = Parser {
        pattern,
        flags,
        frames: vec![Frame::new(None, flags)],
        names: vec![None],
        last_repeat: None,
    };
    parser.run()
}

struct Parser<'p> {
    pattern: &'p str,
    flags: Flags,
    /// Never empty: the first frame is the whole expression.
    frames: Vec<Frame>,
    names: Vec<Option<String>>,
    /// Text from the repetition operator just read, so that a second one can be refused.
    last_repeat: Option<&'p str>,
}

impl<'p> Parser<'p> {
    fn run(&mut self) -> Result<Parsed, SyntaxError> {
        let mut rest = self.pattern;
        while let Some(c) = rest.chars().next() {
            let before = rest;
            let is_repeat;
            (rest, is_repeat) = match c {
                '*' => (self.repeat(0, None, before, &rest[1..])?, true),
                '+' => (self.repeat(1, None, before, &rest[1..])?, true),
                '?' => (self.repeat(0, Some(1), before, &rest[1..])?, true),
                '{' => self.counted_repeat(rest)?,
                _ => (self.item(c, rest)?, false),
            };
            self.last_repeat = is_repeat.then_some(before);
        }
        match self.frames.pop() {
            Some(frame) if self.frames.is_empty() => {
                let node = frame.close();
                self.check(&node)?;
                Ok(Parsed { hir: node.hir, names: std::mem::take(&mut self.names) })
            }
            _ => Err(SyntaxError::new(MISSING_PAREN, self.pattern)),
        }
    }

    /// Reads one item that is no repetition; returns what follows.
    fn item(&mut self, c: char, rest: &'p str) -> Result<&'p str, SyntaxError> {
        let after = &rest[c.len_utf8()..];
        match c {
            '(' if after.starts_with('?') => return self.perl_group(rest),
            '(' => self.open_capture(None),
            ')' => self.close_group()?,
            '|' => self.top().end_branch(),
            '^' => self.push_look(if self.flags.multi_line { Look::StartLF } else { Look::Start })?,
            '$' => self.push_look(if self.flags.multi_line { Look::EndLF } else { Look::End })?,
            '.' => {
                let dot = if self.flags.dot_newline { Dot::AnyChar } else { Dot::AnyCharExceptLF };
                self.push(Node::leaf(Hir::dot(dot)))?;
            }
            '[' => {
                let (set, after) = class::bracketed(rest, self.flags.fold_case)?;
                self.push_class(set)?;
                return Ok(after);
            }
            '\\' => return self.escape(rest),
            c => self.push_char(c as u32)?,
        }
        Ok(after)
    }

    fn top(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the frame of the whole expression is never closed by a group")
    }

    fn push(&mut self, node: Node) -> Result<(), SyntaxError> {
        self.check(&node)?;
        self.top().pieces.push(node);
        Ok(())
    }

    fn check(&self, node: &Node) -> Result<(), SyntaxError> {
        if node.size > PROGRAM_SIZE_MAX {
            return Err(SyntaxError::new(LARGE, self.pattern));
        }
        if node.height > HEIGHT_MAX {
            return Err(SyntaxError::new(NESTING_DEPTH, self.pattern));
        }
        Ok(())
    }

    fn push_look(&mut self, look: Look) -> Result<(), SyntaxError> {
        self.push(Node::leaf(Hir::look(look)))
    }

    fn push_class(&mut self, set: ClassSet) -> Result<(), SyntaxError> {
        self.push(Node::leaf(Hir::class(Class::Unicode(set.into_class()))))
    }

    /// A literal code point, which may be a surrogate: such a one matches nothing.
    fn push_char(&mut self, code: u32) -> Result<(), SyntaxError> {
        if self.flags.fold_case {
            return self.push_class(ClassSet::of_char(code).folded());
        }
        let hir = match char::from_u32(code) {
            Some(c) => Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => Hir::fail(),
        };
        self.push(Node::leaf(hir))
    }

    fn open_capture(&mut self, name: Option<&str>) {
        let index = self.names.len() as u32;
        self.names.push(name.map(str::to_owned));
        self.frames.push(Frame::new(Some(index), self.flags));
    }

    fn close_group(&mut self) -> Result<(), SyntaxError> {
        if self.frames.len() < 2 {
            return Err(SyntaxError::new(UNEXPECTED_PAREN, self.pattern));
        }
        let Some(frame) = self.frames.pop() else {
            return Err(SyntaxError::new(UNEXPECTED_PAREN, self.pattern));
        };
        self.flags = frame.outer_flags;
        let capture = frame.capture;
        let node = frame.close();
        self.push(match capture {
            None => node,
            Some(index) => Node {
                hir: Hir::capture(Capture { index, name: None, sub: Box::new(node.hir) }),
                repeats: node.repeats,
                size: node.size + 2,
                height: node.height + 1,
            },
        })
    }

    /// `(?P<name>`, `(?<name>`, `(?flags:` and `(?flags)`.
    fn perl_group(&mut self, rest: &'p str) -> Result<&'p str, SyntaxError> {
        let named = rest
            .strip_prefix("(?P<")
            .or_else(|| rest.strip_prefix("(?<"))
            // Go asks for one more byte before it takes the form for a name.
            .filter(|name| !name.is_empty());
        let Some(name_on) = named else {
            return self.flag_group(rest);
        };
        let Some(end) = name_on.find('>') else {
            return Err(SyntaxError::new(INVALID_NAMED_CAPTURE, rest));
        };
        let (name, after) = (&name_on[..end], &name_on[end + 1..]);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let form = &rest[..rest.len() - after.len()];
            return Err(SyntaxError::new(INVALID_NAMED_CAPTURE, form));
        }
        self.open_capture(Some(name));
        Ok(after)
    }

    fn flag_group(&mut self, rest: &'p str) -> Result<&'p str, SyntaxError> {
        let mut flags = self.flags;
        let (mut value, mut saw_flag) = (true, false);
        let mut after = &rest[2..];
        while let Some(c) = after.chars().next() {
            after = &after[c.len_utf8()..];
            match c {
                'i' => flags.fold_case = value,
                'm' => flags.multi_line = value,
                's' => flags.dot_newline = value,
                'U' => flags.non_greedy = value,
                '-' if value => {
                    (value, saw_flag) = (false, false);
                    continue;
                }
                ':' | ')' if value || saw_flag => {
                    if c == ':' {
                        self.frames.push(Frame::new(None, self.flags));
                    }
                    self.flags = flags;
                    return Ok(after);
                }
                _ => break,
            }
            saw_flag = true;
        }
        Err(SyntaxError::new(INVALID_PERL_OP, &rest[..rest.len() - after.len()]))
    }

    fn counted_repeat(&mut self, rest: &'p str) -> Result<(&'p str, bool), SyntaxError> {
        let Some((min, max, after)) = repeat_counts(rest) else {
            // What cannot be read as a count is an ordinary brace.
            self.push_char('{' as u32)?;
            return Ok((&rest[1..], false));
        };
        let bad = |n: i64| !(0..=REPEAT_MAX).contains(&n);
        if bad(min) || max.is_some_and(|m| bad(m) || m < min) {
            return Err(SyntaxError::new(INVALID_REPEAT_SIZE, &rest[..rest.len() - after.len()]));
        }
        let after = self.repeat_imp(min, max, rest, after, true)?;
        Ok((after, true))
    }

    fn repeat(
        &mut self,
        min: i64,
        max: Option<i64>,
        before: &'p str,
        after: &'p str,
    ) -> Result<&'p str, SyntaxError> {
        self.repeat_imp(min, max, before, after, false)
    }

    fn repeat_imp(
        &mut self,
        min: i64,
        max: Option<i64>,
        before: &'p str,
        after: &'p str,
        counted: bool,
    ) -> Result<&'p str, SyntaxError> {
        let (after, lazy) = match after.strip_prefix('?') {
            Some(after) => (after, true),
            None => (after, false),
        };
        if let Some(last) = self.last_repeat {
            return Err(SyntaxError::new(INVALID_REPEAT_OP, &last[..last.len() - after.len()]));
        }
        let operator = &before[..before.len() - after.len()];
        let Some(sub) = self.top().pieces.pop() else {
            return Err(SyntaxError::new(MISSING_REPEAT_ARGUMENT, operator));
        };
        let times = if counted { max.unwrap_or(min) } else { 1 };
        // A part repeated zero times is not looked into.
        let repeats = if counted && max == Some(0) { 1 } else { sub.repeats.saturating_mul(times.max(1)) };
        if counted && (min >= 2 || max.is_some_and(|m| m >= 2)) && repeats > REPEAT_MAX {
            return Err(SyntaxError::new(INVALID_REPEAT_SIZE, operator));
        }
        let (copies, extra) = match (counted, max) {
            (true, Some(m)) => (m as u64, (m - min) as u64),
            (true, None) if min > 0 => (min as u64, 1),
            _ => (1, 2),
        };
        let node = Node {
            size: (sub.size.saturating_mul(copies) + extra).max(1),
            height: sub.height + 1,
            repeats,
            hir: Hir::repetition(Repetition {
                min: min as u32,
                max: max.map(|m| m as u32),
                greedy: lazy == self.flags.non_greedy,
                sub: Box::new(sub.hir),
            }),
        };
        self.push(node)?;
        Ok(after)
    }

    fn escape(&mut self, rest: &'p str) -> Result<&'p str, SyntaxError> {
        let look = match rest.as_bytes().get(1) {
            Some(b'A') => Some(Look::Start),
            Some(b'z') => Some(Look::End),
            Some(b'b') => Some(Look::WordAscii),
            Some(b'B') => Some(Look::WordAsciiNegate),
            Some(b'C') => return Err(SyntaxError::new(INVALID_ESCAPE, &rest[..2])),
            Some(b'Q') => return self.quoted(&rest[2..]),
            _ => None,
        };
        if let Some(look) = look {
            self.push_look(look)?;
            return Ok(&rest[2..]);
        }
        if let Some((set, after)) = class::escaped_class(rest, self.flags.fold_case)? {
            self.push_class(set)?;
            return Ok(after);
        }
        let (code, after) = class::escaped_char(rest)?;
        self.push_char(code)?;
        Ok(after)
    }

    /// `\Q` to `\E`, or to the end of the expression: literals.
    fn quoted(&mut self, text: &'p str) -> Result<&'p str, SyntaxError> {
        let (literal, after) = text.split_once("\\E").unwrap_or((text, ""));
        for c in literal.chars() {
            self.push_char(c as u32)?;
        }
        Ok(after)
    }
}

/// `{n}`, `{n,}` or `{n,m}`; a count too big to read is -1, which the caller refuses.
fn repeat_counts(text: &str) -> Option<(i64, Option<i64>, &str)> {
    let (min, rest) = count(text.strip_prefix('{')?)?;
    let Some(rest) = rest.strip_prefix(',') else {
        return Some((min, Some(min), rest.strip_prefix('}')?));
    };
    if let Some(after) = rest.strip_prefix('}') {
        return Some((min, None, after));
    }
    let (max, rest) = count(rest)?;
    Some((min, Some(max), rest.strip_prefix('}')?))
}

fn count(text: &str) -> Option<(i64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || (digits > 1 && text.starts_with('0')) {
        return None;
    }
    Some((if digits > 8 { -1 } else { text[..digits].parse().unwrap_or(-1) }, &text[digits..]))
}
