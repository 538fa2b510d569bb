//! What is held of a target: its last page, whichever form it has.

use std::ops::Range;

use crate::flat::{FlatCache, NO_FAMILY};
use crate::lines::Syntax;
use crate::page::{Appeared, PageCache, SeriesLine, Stamped};
use crate::streamed::Streamed;
use crate::text::{Event, MetricKind, unescape_help};

pub use crate::flat::Family;

/// Families among which a further line's is sought.
const RECENT_MAX: usize = 32;

#[derive(Debug)]
pub enum Held {
    Lines(PageCache),
    Flat(FlatCache),
    /// Its text is not held.
    Streamed(Box<Streamed>),
}

impl Default for Held {
    fn default() -> Self {
        Held::lines(Syntax::Text)
    }
}

impl Held {
    pub fn lines(syntax: Syntax) -> Self {
        Held::Lines(PageCache::of(syntax))
    }

    pub fn flat() -> Self {
        Held::Flat(FlatCache::default())
    }

    /// One more than the highest slot ever given.
    pub fn slot_count(&self) -> u32 {
        match self {
            Held::Lines(c) => c.slot_count(),
            Held::Flat(c) => c.slot_count(),
            Held::Streamed(c) => c.slot_count(),
        }
    }

    /// Samples of the page.
    pub fn line_count(&self) -> usize {
        match self {
            Held::Lines(c) => c.line_count(),
            Held::Flat(c) => c.page().samples.len(),
            Held::Streamed(c) => c.line_count(),
        }
    }

    /// A stretch of the page.
    pub fn text(&self, range: &Range<u32>) -> &[u8] {
        match self {
            Held::Lines(c) => c.text(range),
            Held::Flat(c) => c.page().text(range),
            Held::Streamed(_) => b"",
        }
    }

    /// The key of an appeared series.
    pub fn key(&self, appeared: &Appeared) -> &[u8] {
        self.text(&appeared.key)
    }

    /// The unit of a family, as far as it is known.
    pub fn unit(&self, family: u32) -> &str {
        match self {
            Held::Flat(c) if family != NO_FAMILY => c.page().family(family).map_or("", |f| f.unit.as_str()),
            _ => "",
        }
    }

    /// Every series in the row with its value.
    pub fn for_each_in_row(&self, f: impl FnMut((u32, f64))) {
        match self {
            Held::Lines(c) => c.row().for_each(f),
            Held::Flat(c) => c.row().for_each(f),
            Held::Streamed(_) => {}
        }
    }

    /// Every float with a timestamp of its own.
    pub fn for_each_stamped(&self, f: impl FnMut(Stamped)) {
        match self {
            Held::Lines(c) => c.stamped().for_each(f),
            Held::Flat(c) => c.stamped().for_each(f),
            Held::Streamed(_) => {}
        }
    }

    /// Every sample but repeated ones, with what is needed to read its labels; ends with the first error.
    pub fn try_for_each_series<'a, E>(
        &'a self,
        f: impl FnMut(SeriesLine<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Held::Lines(c) => c.series().try_for_each(f),
            Held::Flat(c) => c.series().try_for_each(f),
            Held::Streamed(_) => Ok(()),
        }
    }

    /// What the page says of its families, in its order.
    pub fn families(&self) -> Vec<Family> {
        match self {
            Held::Lines(c) => families(c.metadata()),
            Held::Flat(c) => c.page().families.clone(),
            Held::Streamed(c) => c.families().to_vec(),
        }
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Held::Lines(c) => c.bytes(),
            Held::Flat(c) => c.bytes(),
            Held::Streamed(c) => c.bytes(),
        }
    }
}

/// Gathers lines of metadata by the family that they name.
pub(crate) fn families<'a>(events: impl Iterator<Item = Event<'a>>) -> Vec<Family> {
    let mut out: Vec<Family> = Vec::new();
    for event in events {
        note(&mut out, &event);
    }
    out
}

/// Notes one line of metadata; says which family it is about.
pub(crate) fn note(out: &mut Vec<Family>, event: &Event<'_>) -> Option<u32> {
    let (Event::Help { name, .. } | Event::Type { name, .. } | Event::Unit { name, .. }) = *event else {
        return None;
    };
    let name = String::from_utf8_lossy(name);
    // Lines of one family follow each other, in any order: looking further back would cost a page of many families
    // its square.
    let recent = out.len().saturating_sub(RECENT_MAX);
    let known = out[recent..].iter().rposition(|f| f.name == name).map(|at| recent + at);
    let at = known.unwrap_or_else(|| {
        let kind = MetricKind::Unknown;
        out.push(Family { name: name.into_owned(), kind, ..Family::default() });
        out.len() - 1
    });
    match event {
        Event::Help { text, .. } => out[at].help = unescape_help(text),
        Event::Type { kind, .. } => out[at].kind = *kind,
        Event::Unit { unit, .. } => out[at].unit = String::from_utf8_lossy(unit).into_owned(),
        _ => {}
    }
    Some(at as u32)
}
