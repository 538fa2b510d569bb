//! The wishes: Prometheus's configuration file as plain data.
//!
//! In: YAML text and the directory it stands in. Out: `Config`, or an error that names file, line and column.
//! Owns: the schema, its defaults and checks, and the text of the loaded configuration. Runs on: any thread that
//! may read files; never a shard's core.
//! Invariant: what cannot be honored is refused at load, never silently left out.
//! Never: reads a clock, opens a socket, acts on what it read.

pub mod http_client;
pub mod scrape;

pub use scrape::{ScrapeConfig, ScrapeLimits, ScrapeProtocol};
