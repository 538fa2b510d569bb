//! A sealed window: the rows of a group turned into one small chunk a slot, over one shared time column.
//!
//! ```text
//! bytes   | time column | end offsets, u16 or u32 a slot | value chunks | 64 B slack for the decoders |
//! ```
//!
//! An offset counts from the first chunk; a slot without any sample has no bytes.

use codec::value_encode::Encoder;
use codec::{Tier, time_column, value};
use model::Timestamp;

use crate::shard::head::row::{ABSENT, is_absent};

/// The decoders of `codec` may read this far behind a chunk.
const SLACK_BYTES: usize = 64;

pub(in crate::shard) struct Window {
    pub(in crate::shard) first_time: Timestamp,
    pub(in crate::shard) last_time: Timestamp,
    row_count: u16,
    slot_count: u16,
    is_wide: bool,
    /// Where the end offsets begin.
    offsets_at: u32,
    bytes: Box<[u8]>,
}

/// Scratch memory of sealing, kept by the head for all its groups.
#[derive(Default)]
pub(in crate::shard) struct Sealer {
    values: Encoder,
    chunks: Vec<u8>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Sealer {
    /// Seals `slot_count` columns of `times.len()` values each, slot by slot in `columns`.
    pub(in crate::shard) fn seal(
        &mut self,
        times: &[Timestamp],
        slot_count: usize,
        columns: &[f64],
        tier: Tier,
    ) -> Window {
        let n = times.len();
        self.chunks.clear();
        self.ends.clear();
        for column in columns.chunks_exact(n).take(slot_count) {
            if !column.iter().all(|v| is_absent(*v)) {
                self.values.encode(column, tier, &mut self.chunks);
            }
            self.ends.push(self.chunks.len() as u32);
        }
        let is_wide = self.chunks.len() > usize::from(u16::MAX);
        self.bytes.clear();
        time_column::encode(times, &mut self.bytes);
        let offsets_at = self.bytes.len() as u32;
        for end in &self.ends {
            let end = end.to_le_bytes();
            self.bytes.extend_from_slice(if is_wide { &end } else { &end[..2] });
        }
        self.bytes.extend_from_slice(&self.chunks);
        self.bytes.resize(self.bytes.len() + SLACK_BYTES, 0);
        Window {
            first_time: times[0],
            last_time: times[n - 1],
            row_count: n as u16,
            slot_count: slot_count as u16,
            is_wide,
            offsets_at,
            bytes: Box::from(self.bytes.as_slice()),
        }
    }
}

impl Window {
    pub(in crate::shard) fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::shard) fn row_count(&self) -> usize {
        usize::from(self.row_count)
    }

    /// Decodes the times into `out`, which is `row_count` long.
    pub(in crate::shard) fn read_times(&self, out: &mut [Timestamp]) {
        // Sealed by this process from memory it owns: a chunk that does not decode is a bug, not an input.
        time_column::decode(&self.bytes, self.row_count(), out).expect("a sealed time column decodes");
    }

    /// Decodes one slot's values into `out`, which is `row_count` long; [`ABSENT`] where it has no sample.
    pub(in crate::shard) fn read_slot(&self, slot: u32, out: &mut [f64]) {
        if slot >= u32::from(self.slot_count) {
            out.fill(ABSENT);
            return;
        }
        let slot = slot as usize;
        let from = if slot == 0 { 0 } else { self.end(slot - 1) };
        let to = self.end(slot);
        if from == to {
            out.fill(ABSENT);
            return;
        }
        let width = if self.is_wide { 4 } else { 2 };
        let chunks_at = self.offsets_at as usize + usize::from(self.slot_count) * width;
        value::decode(&self.bytes[chunks_at + from..], self.row_count(), out)
            .expect("a sealed chunk decodes");
    }

    fn end(&self, slot: usize) -> usize {
        let b = &self.bytes[self.offsets_at as usize..];
        if self.is_wide {
            let b = &b[slot * 4..];
            u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize
        } else {
            let b = &b[slot * 2..];
            usize::from(u16::from_le_bytes([b[0], b[1]]))
        }
    }
}
