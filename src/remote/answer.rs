//! What the sender is told.

use crate::remote::{Error, Protocol};

/// Seconds after which a sender that was put off should come again: the log's tail empties in less.
const RETRY_SECONDS: u32 = 1;

/// A sender that is told more refusals than these learns nothing new; they are counted all the same.
pub const FAULTS_MAX: usize = 10_000;

/// What of a 2.0 request was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
}

impl Written {
    /// As a 2.0 sender is told.
    pub fn headers(self) -> [(&'static str, u64); 3] {
        [
            ("X-Prometheus-Remote-Write-Samples-Written", self.samples),
            ("X-Prometheus-Remote-Write-Histograms-Written", self.histograms),
            ("X-Prometheus-Remote-Write-Exemplars-Written", self.exemplars),
        ]
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Empty on success.
    pub text: String,
    /// 2.0 only: counts for the response headers.
    pub written: Option<Written>,
    pub retry_after: Option<u32>,
    /// Exemplars that were left out because their series has newer ones.
    pub late_exemplars: u64,
    /// Samples that were gathered for blocks, and are not durable before the deposit is settled.
    pub deposited: u64,
}

impl Answer {
    pub fn of(protocol: Protocol, written: Written, faults: Vec<String>) -> Answer {
        let text = match protocol {
            Protocol::V1 => faults.into_iter().next().unwrap_or_default(),
            Protocol::V2 => faults.join("\n"),
        };
        Answer {
            status: if text.is_empty() { 204 } else { 400 },
            text,
            written: (protocol == Protocol::V2).then_some(written),
            retry_after: None,
            late_exemplars: 0,
            deposited: 0,
        }
    }

    pub fn failed(protocol: Protocol, error: &Error) -> Answer {
        let (status, retry_after) = match error {
            Error::Bad(_) => (400, None),
            Error::Busy(_) => (503, Some(RETRY_SECONDS)),
            Error::Broken(_) => (500, None),
        };
        // What could not be read has no counts; what could not be written has zeros.
        let is_counted = protocol == Protocol::V2 && status >= 500;
        let written = is_counted.then(Written::default);
        Answer { status, text: error.to_string(), written, retry_after, late_exemplars: 0, deposited: 0 }
    }
}
