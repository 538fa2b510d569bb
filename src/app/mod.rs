//! The wiring: reads the flags, starts the house, introduces strangers to each other, ends it in order.
//!
//! In: the command line, signals. Out: a running appliance; an exit code.
//! Owns: the order of start and stop; nothing of what happens between. Runs on: the control plane.
//! Invariant: nothing listens before the flags and the configuration are right; nothing is acknowledged after stop.
//! Never: computes anything.

pub mod admin;
pub mod asking;
pub mod backend;
pub mod core;
pub mod directory;
pub mod doors;
pub mod federate;
pub mod flags;
pub mod groups;
pub mod house;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod query_log;
pub mod retention;
pub mod snapshot;
pub mod start;
pub mod tsdb;
pub mod tune;
pub mod vacancy;
pub mod web;

pub use start::main;
