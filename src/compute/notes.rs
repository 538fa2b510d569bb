//! What a computation has to tell beside its value; who asked puts it into words and knows its place in the query.

use std::ops::{BitOr, BitOrAssign};

/// A set of remarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(u32);

macro_rules! notes {
    ($($(#[doc = $doc:literal])* $name:ident = $bit:literal;)*) => {
        impl Notes {
            $($(#[doc = $doc])* pub const $name: Notes = Notes(1 << $bit);)*
            /// Every remark there is.
            pub const ALL: &'static [Notes] = &[$(Notes::$name),*];
        }
    };
}

notes! {
    /// Warning: a range or group has both floats and histograms; nothing was computed.
    MIXED_FLOATS_HISTOGRAMS = 0;
    /// Warning: a histogram that should be a counter says it is a gauge.
    NOT_A_COUNTER = 1;
    /// Warning: a histogram that should be a gauge does not say so.
    NOT_A_GAUGE = 2;
    /// Warning: exponential and custom buckets in one range or group; nothing was computed.
    MIXED_EXPONENTIAL_CUSTOM = 3;
    /// Info: custom bounds were reconciled during addition.
    BOUNDS_RECONCILED_ADD = 4;
    /// Info: custom bounds were reconciled during subtraction.
    BOUNDS_RECONCILED_SUB = 5;
    /// Info: custom bounds were reconciled during aggregation.
    BOUNDS_RECONCILED_AGGREGATION = 6;
    /// Warning: conflicting counter resets during addition.
    RESET_COLLISION_ADD = 7;
    /// Warning: conflicting counter resets during subtraction.
    RESET_COLLISION_SUB = 8;
    /// Warning: conflicting counter resets during aggregation.
    RESET_COLLISION_AGGREGATION = 9;
    /// Info: histograms in a range of floats were ignored.
    HISTOGRAMS_IGNORED_IN_RANGE = 10;
    /// Info: a histogram was ignored in an aggregation.
    HISTOGRAM_IGNORED_IN_AGGREGATION = 11;
    /// Warning: a sample's start time overlaps with the sample before.
    START_TIME_OVERLAP = 12;
    /// Warning: a quantile is not within 0 and 1.
    INVALID_QUANTILE = 13;
    /// Info: the quantile of a histogram with NaN observations is NaN.
    QUANTILE_NAN_RESULT = 14;
    /// Info: the quantile of a histogram with NaN observations is skewed higher.
    QUANTILE_NAN_SKEW = 15;
    /// Info: NaN observations are in no fraction.
    FRACTION_NANS = 16;
}

impl Notes {
    /// Nothing to say.
    pub const NONE: Notes = Notes(0);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, other: Notes) -> bool {
        self.0 & other.0 == other.0
    }

    /// The remarks one by one.
    pub fn iter(self) -> impl Iterator<Item = Notes> {
        Notes::ALL.iter().copied().filter(move |&n| self.contains(n))
    }

    /// `note` if `condition`, else nothing.
    pub fn when(condition: bool, note: Notes) -> Notes {
        if condition { note } else { Notes::NONE }
    }
}

impl BitOr for Notes {
    type Output = Notes;
    fn bitor(self, other: Notes) -> Notes {
        Notes(self.0 | other.0)
    }
}

impl BitOrAssign for Notes {
    fn bitor_assign(&mut self, other: Notes) {
        self.0 |= other.0;
    }
}
