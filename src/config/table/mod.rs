//! The shape of the file: every section that Prometheus knows, as tables of keys with their checks.

pub(super) mod alerting;
pub(super) mod discovery;
mod discovery_check;
pub(super) mod http;
pub(super) mod remote;
pub(super) mod root;
pub(super) mod scrape;
pub(super) mod storage;
