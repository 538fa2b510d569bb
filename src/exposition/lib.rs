//! The wire's text: expositions to flat events and back.
//!
//! In: bytes of a page, and the page before it. Out: events, changed values, or the exact reason to refuse.
//! Owns: the held page of each target and its line table.
//! Runs on: any thread; pure.
//! Invariant: a refused page leaves the cache as it was; what is accepted is what Prometheus accepts.
//! Never: reads a socket or a clock; knows targets, limits or storage.

#[rustfmt::skip]
pub mod text; // a page, event by event
pub mod base64; // bytes as text
pub mod encode; // events as bytes
pub mod flat; // a page as a list, and what of it changed
pub mod gather; // lines as such a list
pub mod held; // the last page, whichever form it has
pub mod histogram_message; // a native histogram for the log
pub mod influx; // InfluxDB's line protocol
pub mod json_lines; // VictoriaMetrics' series as JSON, a line each
pub mod key; // the raw text of a series to its labels
pub mod keys; // which slot has which key
pub mod lines; // either of them
pub mod nhcb; // classic histograms of it as native ones
pub mod number; // values as Go reads them
pub mod openmetrics; // the same of the stricter form
pub mod otlp; // requests of OpenTelemetry's exporters
pub mod page; // the next page by its common runs with the last one
pub mod protobuf; // delimited families of protobuf, whole or in pieces
pub mod remote_histogram; // a native histogram on the wire of remote write
pub mod remote_write; // requests of remote write, series by series
pub mod remote_write_build; // requests of remote write, made
pub mod scan; // where two pages part
pub mod streamed; // the next page piece by piece, where it is too large to be held
mod token; // what lexers give

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod page_oracle;

pub use flat::{FlatCache, FlatPage, FlatReader};
pub use held::Held;
pub use key::{KeyError, SampleLabels};
pub use lines::{Lines, Syntax};
pub use page::{Changes, PageCache, PageReader};
pub use streamed::Streamed;
pub use text::{Event, Exemplar, MetricKind, Parser, Sample};

/// Why a page was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The scrape failed: the text is what Prometheus puts into `lastError`.
    #[error("{0}")]
    Malformed(String),
    /// Larger than a line table can address.
    #[error("page of {bytes} bytes is larger than {} bytes", page::PAGE_BYTES_MAX)]
    PageTooLarge { bytes: usize },
}
