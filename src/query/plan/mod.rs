//! From the tree of an expression to what is done for it.
//!
//! In: a parsed expression and the bounds of its query. Out: a tree whose times are resolved ([`logical`]), and for
//! each part of it whether it runs on the shards ([`physical`]).
//! Owns: the meaning of `@`, `offset`, `start()`, `end()`, and what is evaluated once instead of at every step.
//! Runs on: where the query was asked.
//! Invariant: nothing in a plan is borrowed; fragments travel to shards.
//! Never: reads a sample.

pub mod explain;
pub mod logical;
pub mod physical;
