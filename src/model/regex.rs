//! Regular expressions as Prometheus means them: anchored at both ends, `.` matches a newline, Go's syntax.

use regex_automata::meta;
use regex_automata::util::syntax;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegexError(pub String);

/// A compiled, anchored expression.
#[derive(Clone, Debug)]
pub struct Regex {
    engine: meta::Regex,
}

impl Regex {
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let engine = meta::Builder::new()
            .syntax(syntax::Config::new().dot_matches_new_line(true))
            .build(&format!("^(?:{pattern})$"))
            .map_err(|e| RegexError(e.to_string()))?;
        Ok(Regex { engine })
    }

    pub fn matches(&self, text: &str) -> bool {
        self.engine.is_match(text)
    }

    /// The literal strings that the expression is an alternation of, where it is one (`a|b|c`).
    pub fn literals(&self) -> Option<&[String]> {
        None
    }

    /// A literal that every matching string begins with (may be empty).
    pub fn prefix(&self) -> &str {
        ""
    }
}
