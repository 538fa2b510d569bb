//! Why a configuration is refused: what is wrong, where it stands, what would be right.

use std::fmt;
use std::path::PathBuf;

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// What the caller can do: say it and stop, or keep the configuration it has.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Refused(Box<Refusal>),
}

/// A refused configuration. Its text begins as Prometheus's does, then shows the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub path: PathBuf,
    pub message: String,
    pub position: Option<Position>,
    /// The offending line, as it stands in the file.
    pub line_text: String,
    /// What could stand there instead.
    pub allowed: Vec<String>,
    /// A problem of a file that another one includes is named by that file only.
    pub included: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if self.included {
            write!(f, "{}: {}", model::quote::quoted(&path.to_string()), self.message)?;
        } else {
            write!(f, "parsing YAML file {path}: {}", self.message)?;
        }
        if let Some(Position { line, column }) = self.position {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let indent = " ".repeat(column.saturating_sub(1) as usize);
            write!(f, "\n{margin}--> {path}:{line}:{column}\n{number} | {}\n", self.line_text)?;
            write!(f, "{margin} | {indent}^")?;
        }
        if !self.allowed.is_empty() {
            write!(f, "\nallowed here: {}", self.allowed.join(", "))?;
        }
        Ok(())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::Refused(Box::new(refusal))
    }
}

/// A problem inside one file, before the file is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) position: Option<Position>,
    pub(super) allowed: Vec<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Problem { message: message.into(), position: None, allowed: Vec::new() }
    }

    /// A problem that go-yaml finds while it fills its structures: tools know it by its first line.
    pub(super) fn of_type(message: impl fmt::Display, position: Position) -> Self {
        let message = format!("yaml: unmarshal errors:\n  line {}: {message}", position.line);
        Problem { message, position: Some(position), allowed: Vec::new() }
    }

    /// Places the problem, unless it is placed already.
    pub(super) fn at(mut self, position: Option<Position>) -> Self {
        self.position = self.position.or(position);
        self
    }

    pub(super) fn allow<S: Into<String>>(mut self, allowed: impl IntoIterator<Item = S>) -> Self {
        self.allowed = allowed.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn in_file(self, path: PathBuf, text: &str) -> Error {
        let line = self.position.and_then(|p| text.lines().nth(p.line.saturating_sub(1) as usize));
        Refusal {
            path,
            message: self.message,
            position: self.position,
            line_text: line.unwrap_or("").to_owned(),
            allowed: self.allowed,
            included: false,
        }
        .into()
    }
}

pub(super) type Check = Result<(), Problem>;
