//! A sealed window: the rows of a group turned into one small chunk a slot, over one shared time column.
//!
//! ```text
//! bytes   | time column | presence | end offsets, u16 or u32 a slot | value chunks | 64 B slack for the decoders |
//! ```
//!
//! Presence is drawn in `shard::head::presence`. An offset counts from the first chunk; a slot without any sample has no bytes.

use codec::value_encode::Encoder;
use codec::{Tier, time_column, value};
use model::Timestamp;

use crate::shard::head::group::SEALED_ROWS_MAX;
use crate::shard::head::presence::{self, Presence};
use crate::shard::head::row::{ABSENT, is_absent};

/// The decoders of `codec` may read this far behind a chunk.
pub(in crate::shard) const SLACK_BYTES: usize = 64;

pub(in crate::shard) struct Window {
    pub(in crate::shard) first_time: Timestamp,
    pub(in crate::shard) last_time: Timestamp,
    pub(in crate::shard) row_count: u16,
    pub(in crate::shard) slot_count: u16,
    /// End offsets are u32 rather than u16.
    pub(in crate::shard) is_wide: bool,
    /// Where the presence begins; it ends where the end offsets begin.
    pub(in crate::shard) presence_at: u32,
    /// Where the end offsets begin.
    pub(in crate::shard) offsets_at: u32,
    pub(in crate::shard) bytes: Box<[u8]>,
}

/// Scratch memory of sealing, kept by the head for all its groups.
#[derive(Default)]
pub(in crate::shard) struct Sealer {
    values: Encoder,
    chunks: Vec<u8>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
    presence: Presence,
}

impl Sealer {
    /// Seals `slot_count` columns of `times.len()` values each, slot by slot in `columns`. `are_full`: each row says of
    /// every slot whether it has a sample.
    pub(in crate::shard) fn seal(
        &mut self,
        times: &[Timestamp],
        slot_count: usize,
        columns: &[f64],
        are_full: bool,
        tier: Tier,
    ) -> Window {
        let n = times.len();
        self.chunks.clear();
        self.ends.clear();
        self.presence.begin(slot_count);
        for (slot, column) in columns.chunks_exact(n).take(slot_count).enumerate() {
            if !column.iter().all(|v| is_absent(*v)) {
                self.values.encode(column, tier, &mut self.chunks);
            }
            if are_full {
                self.presence.take(slot, column);
            }
            self.ends.push(self.chunks.len() as u32);
        }
        let is_wide = self.chunks.len() > usize::from(u16::MAX);
        self.bytes.clear();
        time_column::encode(times, &mut self.bytes);
        let presence_at = self.bytes.len() as u32;
        if are_full {
            self.presence.encode(&mut self.bytes);
        }
        let offsets_at = self.bytes.len() as u32;
        push_ends(&self.ends, is_wide, &mut self.bytes);
        self.bytes.extend_from_slice(&self.chunks);
        self.bytes.resize(self.bytes.len() + SLACK_BYTES, 0);
        Window {
            first_time: times[0],
            last_time: times[n - 1],
            row_count: n as u16,
            slot_count: slot_count as u16,
            is_wide,
            presence_at,
            offsets_at,
            bytes: Box::from(self.bytes.as_slice()),
        }
    }
}

fn push_ends(ends: &[u32], is_wide: bool, out: &mut Vec<u8>) {
    for end in ends {
        let end = end.to_le_bytes();
        out.extend_from_slice(if is_wide { &end } else { &end[..2] });
    }
}

impl Window {
    pub(in crate::shard) fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::shard) fn row_count(&self) -> usize {
        usize::from(self.row_count)
    }

    /// Whether offsets, presence and times lie where they should: what is read back from a file is asked before it is
    /// used. Finds out where the presence begins, which the times alone tell.
    pub(in crate::shard) fn check(&mut self) -> Result<(), codec::Error> {
        let corrupt = codec::Error::Corrupt;
        let chunks_at = self.chunks_at();
        let chunk_bytes = (self.bytes.len() - SLACK_BYTES)
            .checked_sub(chunks_at)
            .ok_or(corrupt("a window ends before its chunks"))?;
        let mut ends = (0..usize::from(self.slot_count)).map(|s| self.end(s));
        if !ends.clone().is_sorted() || ends.next_back().unwrap_or(0) != chunk_bytes {
            return Err(corrupt("offsets of a window"));
        }
        let mut times = vec![0; self.row_count()];
        let before = &self.bytes[..self.offsets_at as usize];
        let read = time_column::decode(before, self.row_count(), &mut times)?;
        let fits = times.is_sorted_by(|a, b| a < b)
            && times.first() == Some(&self.first_time)
            && times.last() == Some(&self.last_time);
        if !fits {
            return Err(corrupt("times of a window"));
        }
        if !presence::is_sound(&before[read..], self.row_count(), usize::from(self.slot_count)) {
            return Err(corrupt("presence of a window"));
        }
        self.presence_at = read as u32;
        Ok(())
    }

    /// Whether the window itself says which slots have a sample at each row.
    pub(in crate::shard) fn is_full(&self) -> bool {
        self.presence_at < self.offsets_at
    }

    fn presence(&self) -> &[u8] {
        &self.bytes[self.presence_at as usize..self.offsets_at as usize]
    }

    /// Fills `out` with a bit for each slot that has a sample in a row, staleness markers not counted; false where
    /// only the values tell.
    pub(in crate::shard) fn present_at(&self, row: usize, out: &mut Vec<u64>) -> bool {
        presence::at_row(self.presence(), row, usize::from(self.slot_count), out)
    }

    fn chunks_at(&self) -> usize {
        self.offsets_at as usize + usize::from(self.slot_count) * if self.is_wide { 4 } else { 2 }
    }

    /// The window of some of its slots, ascending: their chunks as they are.
    pub(in crate::shard) fn of_slots(&self, slots: &[u32]) -> Window {
        let (mut chunks, mut ends) = (Vec::new(), Vec::new());
        for slot in slots {
            if *slot < u32::from(self.slot_count) {
                let length = self.chunk_bytes(*slot as usize);
                chunks.extend_from_slice(&self.chunk(*slot)[..length]);
            }
            ends.push(chunks.len() as u32);
        }
        let is_wide = chunks.len() > usize::from(u16::MAX);
        let mut bytes = self.bytes[..self.presence_at as usize].to_vec();
        presence::of_slots(self.presence(), usize::from(self.slot_count), slots, &mut bytes);
        let offsets_at = bytes.len() as u32;
        push_ends(&ends, is_wide, &mut bytes);
        bytes.extend_from_slice(&chunks);
        bytes.resize(bytes.len() + SLACK_BYTES, 0);
        Window {
            first_time: self.first_time,
            last_time: self.last_time,
            row_count: self.row_count,
            slot_count: slots.len() as u16,
            is_wide,
            presence_at: self.presence_at,
            offsets_at,
            bytes: bytes.into_boxed_slice(),
        }
    }

    fn chunk_bytes(&self, slot: usize) -> usize {
        self.end(slot) - if slot == 0 { 0 } else { self.end(slot - 1) }
    }

    /// Decodes the times into `out`, which is `row_count` long.
    pub(in crate::shard) fn read_times(&self, out: &mut [Timestamp]) {
        // Sealed by this process, or read from a file and checked: a column that does not decode is a bug.
        let read = time_column::decode(&self.bytes, self.row_count(), out);
        debug_assert!(read.is_ok(), "a sealed time column decodes");
    }

    /// The newest row at or before a moment, and its time.
    pub(in crate::shard) fn newest_row_at(&self, at: Timestamp) -> Option<(usize, Timestamp)> {
        let last = self.row_count() - 1;
        if self.last_time <= at {
            return Some((last, self.last_time));
        }
        let mut times = [0; SEALED_ROWS_MAX];
        let times = &mut times[..=last];
        self.read_times(times);
        let row = times.partition_point(|t| *t <= at).checked_sub(1)?;
        Some((row, times[row]))
    }

    /// Decodes one slot's values into `out`, which is `row_count` long; [`ABSENT`] where it has no sample.
    pub(in crate::shard) fn read_slot(&self, slot: u32, out: &mut [f64]) {
        let chunk = self.chunk(slot);
        if chunk.is_empty() {
            out.fill(ABSENT);
            return;
        }
        if value::decode(chunk, self.row_count(), out).is_err() {
            // Cannot be with bytes whose checksum fitted; if it is all the same, a gap is the honest answer.
            out.fill(ABSENT);
        }
    }

    /// The bytes from a slot's chunk on, to the window's end; none where the slot has no sample.
    fn chunk(&self, slot: u32) -> &[u8] {
        if slot >= u32::from(self.slot_count) {
            return &[];
        }
        let slot = slot as usize;
        let from = if slot == 0 { 0 } else { self.end(slot - 1) };
        if from == self.end(slot) { &[] } else { &self.bytes[self.chunks_at() + from..] }
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
