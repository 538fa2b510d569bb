//! How a target's pages are read: by their common runs where nothing else is asked for, else sample by sample.

use exposition::streamed::lots::{self, Making};
use exposition::{Held, Syntax, protobuf};

use crate::scrape::content::Form;

/// What is switched on for all jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Exemplars are kept.
    pub exemplars: bool,
    /// Type and unit of a family are labels of its series.
    pub type_and_unit: bool,
    /// A counter begins with a zero at the time that its target says it began.
    pub created_zero: bool,
    /// Every job writes the extra series of its report.
    pub extra_metrics: bool,
}

/// What is wanted of a target's histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramWishes {
    pub native: bool,
    pub convert_classic: bool,
    pub always_classic: bool,
}

impl HistogramWishes {
    pub fn protobuf(self) -> protobuf::Wishes {
        // What is to be converted must be there; conversion takes it out again where it is not wanted.
        protobuf::Wishes { native: self.native, always_classic: self.always_classic }
    }
}

/// The way from bytes to changes. Two ways give other keys to the same series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Lines(Syntax),
    EveryLine { syntax: Syntax, wishes: HistogramWishes },
    Protobuf(HistogramWishes),
}

impl Default for Reading {
    fn default() -> Self {
        Reading::Lines(Syntax::Text)
    }
}

impl Reading {
    pub fn of(form: Form, wishes: HistogramWishes, features: Features) -> Self {
        let syntax = match form {
            Form::Protobuf => return Reading::Protobuf(wishes),
            Form::OpenMetrics => Syntax::OpenMetrics,
            Form::Text => Syntax::Text,
        };
        let takes_created = features.created_zero && form == Form::OpenMetrics;
        match wishes.convert_classic || features.type_and_unit || takes_created {
            true => Reading::EveryLine { syntax, wishes },
            false => Reading::Lines(syntax),
        }
    }

    pub fn wishes(self) -> Option<HistogramWishes> {
        match self {
            Reading::Lines(_) => None,
            Reading::EveryLine { wishes, .. } | Reading::Protobuf(wishes) => Some(wishes),
        }
    }

    pub fn syntax(self) -> Option<Syntax> {
        match self {
            Reading::Lines(syntax) | Reading::EveryLine { syntax, .. } => Some(syntax),
            Reading::Protobuf(_) => None,
        }
    }

    /// Whether a large page can be read as it comes. Not so where zeros are written for counters of OpenMetrics: the
    /// lines that say when they began may stand anywhere.
    pub fn can_stream(self, features: Features) -> bool {
        !(features.created_zero && self.syntax() == Some(Syntax::OpenMetrics))
    }

    /// How a page that is read as it comes becomes samples; `None` where its lines are what is wanted.
    pub fn making(self, features: Features) -> Option<Making> {
        let form = match self {
            Reading::Lines(_) => return None,
            Reading::EveryLine { syntax, .. } => lots::Form::Lines(syntax),
            Reading::Protobuf(wishes) => lots::Form::Protobuf(wishes.protobuf()),
        };
        let wishes = self.wishes().filter(|w| w.convert_classic);
        let converts = wishes.map(|w| w.always_classic);
        Some(Making { form, converts, needs_units: features.type_and_unit })
    }

    /// An empty cache for pages that are read so.
    pub fn held(self) -> Held {
        match self {
            Reading::Lines(syntax) => Held::lines(syntax),
            Reading::EveryLine { .. } | Reading::Protobuf(_) => Held::flat(),
        }
    }
}
