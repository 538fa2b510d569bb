//! systole: a monitoring appliance. This file is the plan of the house: rooms in the order of the data's way,
//! by floor. A room names only rooms of lower floors; rooms on one floor are strangers. `tests/it/tidy.rs` holds
//! the house to it; `docs/architecture.md` explains it.

// Floor 0, the cellar: pure crates `model`, `codec`, `compute`, `exposition`, `prometheus_tsdb`, `promql`.

// Floor 1: the machine and the wishes.
pub mod config;
pub mod rt;
pub mod tune;

// Floor 2: the keepers.
pub mod http;
pub mod shard;

// Floor 3: the question.
pub mod query;

// Floor 4: the trades.
pub mod exchange;
pub mod push;
pub mod remote;
pub mod scrape;

// Floor 5: the front.
pub mod api;

// Floor 6: the wiring.
pub mod app;
