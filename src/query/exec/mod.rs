//! What runs on a shard for a question.
//!
//! In: a [`crate::query::plan::physical::Fragment`] and the shard. Out: a partial result, owned and ready to travel.
//! Owns: nothing beyond the fragment it works on. Runs on: the shard's core, in turns.
//! Invariant: nothing borrowed from the shard is held across an await.
//! Never: speaks to another shard; makes labels for more series than the answer has.

pub mod access;
pub mod aggregate;
pub mod coarse;
pub mod elementwise;
pub mod fold;
pub mod grouping;
pub mod operator;
pub mod scan;
pub mod window;
