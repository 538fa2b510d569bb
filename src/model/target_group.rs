//! What discovery says to scrape: addresses that share labels.

use crate::labels::Labels;

/// Targets found together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// One set a target, with its `__address__` at least.
    pub targets: Vec<Labels>,
    /// What all the targets share; a target's own labels win.
    pub labels: Labels,
    /// Names the group within its discovery, so that a later one replaces it.
    pub source: String,
}
