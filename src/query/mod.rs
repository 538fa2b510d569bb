//! Questions in PromQL, answered by all shards.
//!
//! In: the text of a query and the times it asks for. Out: a value, with notes beside it, and what it cost.
//! Owns: plans, the list of running queries, their budgets. Runs on: where the query was asked; its fragments on the
//! shards' cores.
//! Invariant: an answer does not depend on the number of shards; nothing borrowed from a shard is held across an await.
//! Never: writes a sample; reads a clock.

pub mod above;
pub mod account;
pub mod annotations;
pub mod engine;
pub mod exec;
pub mod frame;
pub mod merge;
pub mod plan;
pub mod script;
pub mod value;

#[cfg(test)]
mod tests;

/// Why a query has no answer; the texts are Prometheus's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Refuse: the text is not a query.
    #[error("{0}")]
    Parse(promql::Error),
    /// Refuse: the text is a query, but not one for a range of times.
    #[error("{0}")]
    Unfit(String),
    /// Refuse: the query asks for what is not defined, or its data does not allow it.
    #[error("{0}")]
    Execution(String),
    /// Report: it took longer than it may.
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    /// Say nothing: who asked has gone, or an operator has ended it.
    #[error("query was canceled in {0}")]
    Canceled(&'static str),
    /// Refuse: it needs more memory than a query may have.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// Refuse: the same, in bytes; Prometheus has no such limit.
    #[error("query processing would use more than {0} bytes of memory in query execution")]
    TooManyBytes(usize),
    /// Retry later: too many queries wait already.
    #[error("too many queries are waiting to be run")]
    Busy,
    /// Report: a shard could not answer.
    #[error("expanding series: {0}")]
    Storage(String),
}
