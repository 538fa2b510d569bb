//! A condition on one label: `name="value"`, `!=`, `=~`, `!~`.

use std::fmt;

use crate::quote::push_quoted;
use crate::regex::{Regex, RegexError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    pub fn text(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A matcher with its regular expression compiled. An absent label has the value `""`.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    regex: Option<Regex>,
}

impl Matcher {
    /// Errors: the expression of a regex matcher does not parse.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, RegexError> {
        let value = value.into();
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(Regex::of_matcher(&value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Matcher { name: name.into(), op, value, regex })
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Matcher { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => self.value == value,
            (MatchOp::NotEqual, _) => self.value != value,
            (MatchOp::Regex, Some(r)) => r.matches(value),
            (MatchOp::NotRegex, Some(r)) => !r.matches(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => unreachable!("a regex matcher holds its regex"),
        }
    }

    /// Whether a series without this label is selected.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The compiled expression of a regex matcher.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_ref()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        if crate::labels::is_legacy_label_name(&self.name) {
            out.push_str(&self.name);
        } else {
            push_quoted(&mut out, &self.name);
        }
        out.push_str(self.op.text());
        push_quoted(&mut out, &self.value);
        f.write_str(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_expression_is_quoted_as_written() {
        for (text, want) in [
            ("a(b", "error parsing regexp: missing closing ): `a(b`"),
            ("a)|(b", "error parsing regexp: unexpected ): `a)|(b`"),
        ] {
            let got = Matcher::new(MatchOp::Regex, "n", text).map_err(|e| e.to_string());
            assert_eq!(got.map(|_| ()), Err(want.to_owned()));
        }
    }
}
