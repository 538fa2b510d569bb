//! The words of the language and how error texts name them.

use model::quote::push_quoted_bytes;

use crate::ast::{Aggregator, BinaryOp, Span};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    End,
    Identifier,
    /// An identifier with a colon in it.
    MetricIdentifier,
    String,
    Number,
    Duration,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`, between a label and its value.
    Assign,
    /// `=~`.
    Like,
    /// `!~`.
    Unlike,
    At,
    Op(BinaryOp),
    Aggregator(Aggregator),
    Keyword(Keyword),
    Word(Word),
}

/// Words that error texts write as `<word>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// Words of the query's own bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

impl Keyword {
    pub(crate) fn is_fill(self) -> bool {
        matches!(self, Keyword::Fill | Keyword::FillLeft | Keyword::FillRight)
    }
}

impl Kind {
    /// The kind of a keyword, asked for in lower case.
    pub(crate) fn of_word(lower: &str) -> Option<Kind> {
        if let Some(a) = Aggregator::ALL.iter().find(|a| a.text() == lower) {
            return Some(Kind::Aggregator(*a));
        }
        Some(match lower {
            "and" => Kind::Op(BinaryOp::And),
            "or" => Kind::Op(BinaryOp::Or),
            "unless" => Kind::Op(BinaryOp::Unless),
            "atan2" => Kind::Op(BinaryOp::Atan2),
            "anchored" => Kind::Keyword(Keyword::Anchored),
            "bool" => Kind::Keyword(Keyword::Bool),
            "by" => Kind::Keyword(Keyword::By),
            "fill" => Kind::Keyword(Keyword::Fill),
            "fill_left" => Kind::Keyword(Keyword::FillLeft),
            "fill_right" => Kind::Keyword(Keyword::FillRight),
            "group_left" => Kind::Keyword(Keyword::GroupLeft),
            "group_right" => Kind::Keyword(Keyword::GroupRight),
            "ignoring" => Kind::Keyword(Keyword::Ignoring),
            "offset" => Kind::Keyword(Keyword::Offset),
            "on" => Kind::Keyword(Keyword::On),
            "smoothed" => Kind::Keyword(Keyword::Smoothed),
            "without" => Kind::Keyword(Keyword::Without),
            "start" => Kind::Word(Word::Start),
            "end" => Kind::Word(Word::End),
            "inf" | "nan" => Kind::Number,
            _ => return Kind::of_duration_word(lower),
        })
    }

    /// The words that brackets know.
    pub(crate) fn of_duration_word(lower: &str) -> Option<Kind> {
        Some(Kind::Word(match lower {
            "step" => Word::Step,
            "range" => Word::Range,
            "min_of" => Word::MinOf,
            "max_of" => Word::MaxOf,
            _ => return None,
        }))
    }

    /// Whether this may be a metric's name where an expression begins.
    pub(crate) fn is_metric_name(self) -> bool {
        match self {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregator(_) | Kind::Word(_) => true,
            Kind::Op(op) => op.is_set(),
            Kind::Keyword(k) => {
                use Keyword::*;
                matches!(k, Anchored | By | Offset | Smoothed | Without)
            }
            _ => false,
        }
    }

    /// Whether this may be a label's name in a list of labels.
    pub(crate) fn is_grouping_label(self) -> bool {
        match self {
            Kind::Op(op) => op.is_set() || op == BinaryOp::Atan2,
            Kind::Keyword(_) => true,
            _ => self.is_metric_name(),
        }
    }

    /// Whether an expression can begin with this.
    pub(crate) fn begins_expr(self) -> bool {
        use BinaryOp::{Add, Sub};
        let literal = matches!(self, Kind::Number | Kind::Duration | Kind::String);
        let bracket = matches!(self, Kind::LeftParen | Kind::LeftBrace);
        literal || bracket || matches!(self, Kind::Op(Add | Sub)) || self.is_metric_name()
    }
}

impl Token {
    pub(crate) fn text<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        &input[self.span.start as usize..self.span.end as usize]
    }

    /// How an error text names this token.
    pub(crate) fn describe(&self, input: &[u8]) -> String {
        let text = self.text(input);
        let raw = || String::from_utf8_lossy(text);
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Identifier => format!("identifier {}", quoted(text)),
            Kind::MetricIdentifier => format!("metric identifier {}", quoted(text)),
            Kind::String => format!("string {}", shortened(text)),
            Kind::Number => format!("number {}", shortened(text)),
            Kind::Duration => format!("duration {}", shortened(text)),
            Kind::Keyword(_) => format!("<{}>", raw()),
            Kind::Op(_) | Kind::At | Kind::Like | Kind::Unlike => format!("<op:{}>", raw()),
            Kind::Aggregator(_) => format!("<aggr:{}>", raw()),
            _ => shortened(text),
        }
    }
}

pub(crate) fn quoted(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted_bytes(&mut out, text);
    out
}

/// Go's `%.10q...` for what is longer than ten bytes.
fn shortened(text: &[u8]) -> String {
    if text.len() <= 10 {
        return quoted(text);
    }
    let lossy = String::from_utf8_lossy(text);
    let head: String = lossy.chars().take(10).collect();
    format!("{}...", model::quote::quoted(&head))
}

/// A character as Go's `%q` writes a rune.
pub(crate) fn quoted_char(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => {
            let double = model::quote::quoted(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &double[1..double.len() - 1])
        }
    }
}

/// A character as Go's `%#U` writes a rune: `U+0063 'c'`.
pub(crate) fn code_point(c: char) -> String {
    let number = format!("U+{:04X}", c as u32);
    let double = model::quote::quoted(c.encode_utf8(&mut [0; 4]));
    let shown = &double[1..double.len() - 1];
    // What had to be escaped is not printable, but for the two that quoting itself escapes.
    if shown.len() == c.len_utf8() || c == '"' || c == '\\' { format!("{number} '{c}'") } else { number }
}
