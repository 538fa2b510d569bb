//! The front: Prometheus's HTTP API on the control plane.
//!
//! In: HTTP requests. Out: Prometheus's answers, to the byte where a client can see it.
//! Owns: the routes, the words of errors, the JSON. Runs on: the control plane's workers (tokio).
//! Invariant: every answer is bounded in time and in requests under way; what was refused is counted.
//! Never: touches a shard's memory; everything goes through [`backend::Backend`].

pub mod admin;
pub mod backend;
pub mod doorway;
pub mod error;
pub mod exemplars;
pub mod federate;
pub mod json;
pub mod labels;
pub mod lifecycle;
pub mod params;
pub mod push;
pub mod queries;
pub mod query;
pub mod respond;
pub mod router;
pub mod status;
pub mod targets;
pub mod write;

pub use backend::Backend;
pub use doorway::Doorway;
pub use router::{Settings, grpc_router, router};
pub use write::Connection;
