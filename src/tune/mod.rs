//! The machine around us: what is off on it for systole, why it matters, and the line that puts it right.
//!
//! In: files of `/proc` and `/sys`, as a [`Sheet`]. Out: findings; on demand the writes that follow from them.
//! Owns: the list of settings that matter, and the record of what was there before. Runs on: the command line.
//! Invariant: judging is pure: the same sheet gives the same findings, on any machine.
//! Never: writes what it has not read first, decides for a setting whose reason is not written beside it.

pub mod change;
pub mod facts;
pub mod judge;
pub mod read;
pub mod report;
pub mod sheet;
#[cfg(test)]
mod tests;

pub use facts::Facts;
pub use judge::judge;
pub use sheet::Sheet;

/// What the appliance will do on the machine, as far as the judgement depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Shards to run; 0 for one on each CPU that may be used.
    pub shards: u32,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It does not start, or loses data or targets.
    Must,
    /// It runs, and pays for it in stalls or CPU.
    Should,
    /// Worth it on a machine of its own; no complaint without.
    Could,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::Must => "must",
            Level::Should => "should",
            Level::Could => "could",
        }
    }
}

/// A value for a file of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub path: String,
    pub value: String,
}

/// What puts a finding right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Values that the running kernel takes at once.
    Write(Vec<Setting>),
    /// What only a human or the service's own unit can do.
    Line(String),
}

/// One thing that is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// The setting, by the name it is known by.
    pub name: String,
    pub found: String,
    pub wanted: String,
    pub why: &'static str,
    pub fix: Fix,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that was to be a sheet or a record is none: say so and end.
    #[error("{name}:{line}: {reason}")]
    Malformed { name: String, line: usize, reason: &'static str },
    /// A file of ours could not be read or written: say so and end.
    #[error("{operation} {path}: {source}")]
    File { operation: &'static str, path: String, source: std::io::Error },
}
