//! Which metrics have had new series, as all shards tell and whoever asks may look: who knows that a shard had none that
//! fit knows so for as long as nothing was born.
//!
//! Names fall into few kinds by a hash, so the table is small; a birth of another name of the kind costs a question that
//! could have been spared, and never an answer.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use codec::crc32c::checksum;

const KINDS: usize = 256;

#[derive(Debug)]
pub struct Births {
    of_kind: Box<[AtomicU64]>,
    of_any: AtomicU64,
}

/// The kind of a metric's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(usize);

impl Kind {
    pub fn of(name: &str) -> Kind {
        Kind(checksum(name.as_bytes()) as usize % KINDS)
    }
}

impl Default for Births {
    fn default() -> Self {
        Births { of_kind: (0..KINDS).map(|_| AtomicU64::new(0)).collect(), of_any: AtomicU64::new(0) }
    }
}

impl Births {
    /// To be told before anybody is told that the sample was taken which the series came with.
    pub fn note(&self, kind: Kind) {
        self.of_kind[kind.0].fetch_add(1, Release);
        self.of_any.fetch_add(1, Release);
    }

    /// Series of any name may have come.
    pub fn note_all(&self) {
        for count in &self.of_kind {
            count.fetch_add(1, Release);
        }
        self.of_any.fetch_add(1, Release);
    }

    /// A number that rises with the births of a kind, or with all.
    pub fn seen(&self, kind: Option<Kind>) -> u64 {
        kind.map_or(&self.of_any, |k| &self.of_kind[k.0]).load(Acquire)
    }
}
