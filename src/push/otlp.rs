//! OTLP metrics as samples, by the rules of Prometheus's receiver.

use hashbrown::HashSet;
use model::Timestamp;

use crate::config;

mod convert; // a request, metric by metric
mod labels; // attributes to labels
mod name; // names
mod native; // dense buckets to native histograms
mod totals; // what came since the last point, added up

pub use convert::{Translated, Warnings, translate};
pub use name::Naming;
pub use totals::Totals;

/// What happens to points that only tell what came since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    Refused,
    /// As they are.
    Kept,
    /// Added up: see [`Totals`].
    Summed,
}

/// Which attributes of the resource are labels of all its series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promoted {
    Only(HashSet<String>),
    AllBut(HashSet<String>),
}

impl Promoted {
    pub fn holds(&self, key: &str) -> bool {
        match self {
            Promoted::Only(keys) => keys.contains(key),
            Promoted::AllBut(keys) => !keys.contains(key),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub naming: Naming,
    pub promoted: Promoted,
    /// Whether `target_info` has the attributes that `job` and `instance` are made of, too.
    pub keeps_identifying: bool,
    /// Histograms with listed bounds become native ones.
    pub converts_to_nhcb: bool,
    pub promotes_scope: bool,
    pub delta: Delta,
    pub type_and_unit_labels: bool,
    /// Half of it lies between two samples of `target_info`.
    pub lookback_ms: Timestamp,
}

impl Settings {
    pub fn new(
        config: &config::Otlp,
        delta: Delta,
        type_and_unit_labels: bool,
        lookback_ms: i64,
    ) -> Settings {
        let set = |keys: &[String]| keys.iter().cloned().collect();
        let promoted = match config.promotes_all {
            true => Promoted::AllBut(set(&config.ignored_attributes)),
            false => Promoted::Only(set(&config.promoted_attributes)),
        };
        Settings {
            naming: Naming {
                escapes: config.strategy.escapes(),
                suffixes: config.strategy.has_suffixes(),
                sanitizes_underscore: config.sanitizes_underscore,
                preserves_underscores: config.preserves_underscores,
            },
            promoted,
            keeps_identifying: config.keeps_identifying,
            converts_to_nhcb: config.converts_to_nhcb,
            promotes_scope: config.promotes_scope,
            delta,
            type_and_unit_labels,
            lookback_ms,
        }
    }
}

#[cfg(test)]
mod tests;
