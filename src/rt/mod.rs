//! The runtime: what the house may ask of the machine it runs on.
//!
//! In: futures with a class, work for a shard, messages, bytes for files and sockets. Out: their results, on time.
//! Owns: the shard threads, the rings between them, the pulse, the clock, chance, files and sockets.
//! Runs on: one pinned glommio executor per shard; the control plane reaches it only through [`mesh::Mesh`].
//! Invariant: no waker of a shard's task is ever woken from another thread; a shard hears of foreign events by
//! its doorbell, whose wake is an ordinary completion of its own ring.
//! Never: knows what a shard keeps, blocks a shard, lets a queue grow without a bound.

pub mod clock;
pub mod counters;
pub mod gate;
pub mod offload;
pub mod probe;
pub mod pulse;
pub mod rng;

pub mod executor;
pub mod mesh;
pub mod watchdog;

pub mod buffer;
pub mod disk;
pub mod net;

mod doorbell;
mod error;
mod local;
mod outbox;
mod reply;
mod wheel;

pub use clock::{Clock, Moment};
pub use error::{Error, Refused};
pub use executor::{
    Machine, Settings, ShardContext, Task, TaskClass, pulse, shard_id, sleep, spawn, yield_if_needed,
};
pub use mesh::{Mesh, Unsent};
pub use pulse::Pulse;
pub use reply::Answer;
