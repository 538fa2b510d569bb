//! What one shard asks of another: to judge a part of a request, to append it.

use std::future::Future;
use std::pin::Pin;

use model::{Labels, ShardId, Timestamp};

use crate::remote::Error;
use crate::shard::commons::Bounds;
use crate::shard::head::side::Refusal;
use crate::shard::stream::{Given, GivenExemplar, GivenHistogram};

/// The part of a request that one shard owns.
#[derive(Debug, Default)]
pub struct Part {
    pub samples: Vec<Given>,
    pub histograms: Vec<GivenHistogram>,
    /// Bytes of the histograms.
    pub messages: Vec<u8>,
    pub exemplars: Vec<GivenExemplar>,
    /// Series that the reading shard has not met, with the time of their first sample.
    pub fresh: Vec<(Labels, Timestamp)>,
}

impl Part {
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty()
    }

    pub fn clear(&mut self) {
        self.samples.clear();
        self.histograms.clear();
        self.messages.clear();
        self.exemplars.clear();
        self.fresh.clear();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Say what would be refused, take nothing: a 1.0 request is taken whole or not at all.
    Judge,
    /// Take all of it.
    Append,
    /// Take what is not refused, and say what is.
    AppendJudged,
    /// The same, and what is older than the head takes goes to blocks.
    Import,
}

#[derive(Debug)]
pub struct Order {
    pub want: Want,
    pub part: Part,
    /// Samples outside of them are refused.
    pub bounds: Bounds,
    /// Some sample may not be newer than those before it.
    pub is_doubtful: bool,
    /// Whether refusals name their series.
    pub names_series: bool,
}

/// A sample that is refused, for who counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub ordinal: u32,
    pub refusal: Refusal,
    pub is_histogram: bool,
}

/// What became of an order. The part comes back, so that its buffers are used again.
#[derive(Debug, Default)]
pub struct Told {
    pub part: Part,
    /// Slots of the part's new series.
    pub slots: Vec<u32>,
    /// Refusals by ordinal, in the sender's words.
    pub faults: Vec<(u32, String)>,
    /// The first refusal of the part.
    pub first: Option<Refused>,
    pub refused_samples: u64,
    pub refused_histograms: u64,
    pub refused_exemplars: u64,
    /// Those of them that are out of order.
    pub late_exemplars: u64,
    /// Samples that the head did not take without having been judged before.
    pub dropped: u64,
    /// Samples that were gathered for blocks, and are not durable before the deposit is settled.
    pub deposited: u64,
    pub failure: Option<Error>,
}

pub type Asked = Pin<Box<dyn Future<Output = Result<Told, Error>>>>;

/// The other shards: the wiring gives each receiver its own.
pub trait Peers {
    fn shard_count(&self) -> u16;

    /// Sends an order now; the answer comes when it is carried out.
    fn ask(&self, shard: ShardId, order: Order) -> Asked;
}
