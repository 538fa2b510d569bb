//! Either text form, event by event: for who reads a page without caring which of the two it is.

use crate::Error;
use crate::openmetrics::OpenMetrics;
use crate::text::{Event, MetricKind, Parser};

/// The form that a page of lines has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// Prometheus text 0.0.4 and 1.0.0.
    #[default]
    Text,
    OpenMetrics,
}

/// A parser of a page of lines.
#[derive(Clone, Debug)]
pub enum Lines<'a> {
    Text(Parser<'a>),
    OpenMetrics(OpenMetrics<'a>),
}

impl<'a> Lines<'a> {
    pub fn new(syntax: Syntax, page: &'a [u8]) -> Self {
        Self::resume(syntax, page, 0, MetricKind::Unknown)
    }

    /// A parser that stands at `at`, which must be where an event begins.
    pub fn resume(syntax: Syntax, page: &'a [u8], at: usize, kind: MetricKind) -> Self {
        match syntax {
            Syntax::Text => Lines::Text(Parser::resume(page, at, kind)),
            Syntax::OpenMetrics => Lines::OpenMetrics(OpenMetrics::resume(page, at, kind)),
        }
    }

    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event<'a>>, Error> {
        match self {
            Lines::Text(p) => p.next_event(),
            Lines::OpenMetrics(p) => p.next_event(),
        }
    }

    /// Where the next event begins.
    pub fn position(&self) -> usize {
        match self {
            Lines::Text(p) => p.position(),
            Lines::OpenMetrics(p) => p.position(),
        }
    }

    /// After the last event: where what is to be held of the page ends. Behind a NUL nothing is read, while the
    /// word that ends an OpenMetrics page must be there the next time, too.
    pub fn held_end(&self) -> usize {
        match self {
            Lines::Text(p) => p.event_start(),
            Lines::OpenMetrics(p) => p.position(),
        }
    }
}
