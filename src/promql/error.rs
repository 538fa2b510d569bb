//! Why a text was refused, in Prometheus's words and with its positions.

use std::fmt;

use crate::ast::Span;

/// The caller answers `bad_data` with the text in both cases.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is not an expression (selector, series description) that means something.
    #[error("{0}")]
    Refused(Refusal),
    /// A length of time came out as nothing that can be waited for, once step and range were known.
    #[error("{}:{}: {message}", span.start, span.end)]
    Duration { span: Span, message: &'static str },
}

/// All that was wrong with a text; the first complaint is its message.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Line and column of the first complaint: `1:5`.
    pub position: String,
    pub first: Complaint,
    pub others: Vec<Complaint>,
}

/// One thing that was wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Complaint {
    pub span: Span,
    pub message: String,
}

impl Refusal {
    /// `complaints` must not be empty.
    pub(crate) fn new(input: &[u8], mut complaints: Vec<Complaint>) -> Self {
        let first = complaints.remove(0);
        let position = line_and_column(input, first.span.start as usize);
        Refusal { position, first, others: complaints }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: parse error: {}", self.position, self.first.message)
    }
}

impl std::error::Error for Refusal {}

/// Where byte `at` of `input` stands: `line:column`, both from 1, the column in bytes.
///
/// Annotations of a query end with it too.
pub fn line_and_column(input: &[u8], at: usize) -> String {
    if input.is_empty() {
        return "unknown position".to_owned();
    }
    let Some(before) = input.get(..at) else {
        return "invalid position".to_owned();
    };
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_bytes_from_the_last_line_break() {
        for (at, want) in [(0, "1:1"), (2, "1:3"), (3, "2:1"), (5, "2:3"), (6, "invalid position")] {
            assert_eq!(line_and_column(b"ab\ncd", at), want);
        }
        assert_eq!(line_and_column(b"", 0), "unknown position");
    }
}
