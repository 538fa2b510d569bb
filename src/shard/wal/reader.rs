//! Reading a log back at start: every whole frame in order, and a report of what was not.

use std::path::Path;
use std::rc::Rc;

use crate::rt;
use crate::rt::disk::Disk;
use crate::shard::read_ahead::{Damage, ReadAhead};
use crate::shard::wal::frame::{
    BLOCK_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, SegmentHeader, decode_header, for_each_record,
    frame_bytes,
};
use crate::shard::wal::pending::Owner;

/// Damage that is told in detail; a log that does not fit at all would fill memory with complaints.
const DAMAGE_MAX: usize = 100;

/// What was read.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Sequence of the last frame, 0 where there was none.
    pub last_sequence: u64,
    /// Number of the last segment, 0 where there was none.
    pub last_number: u64,
    pub record_count: u64,
    pub bytes: u64,
    pub damage: Vec<Damage>,
}

/// Where a log is to be read from: behind what a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub first_segment: u64,
    /// Sequence of the first frame there; 0 where any will do.
    pub next_sequence: u64,
}

impl Start {
    pub const BEGINNING: Start = Start { first_segment: 1, next_sequence: 0 };
}

/// Numbers of the segments in `dir`, ascending.
pub async fn segment_numbers(disk: &Rc<dyn Disk>, dir: &Path) -> Result<Vec<u64>, rt::Error> {
    let entries = disk.list(dir).await?;
    let mut numbers: Vec<u64> =
        entries.iter().filter(|e| !e.is_dir).filter_map(|e| e.name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads the log in `dir` (which exists) from a place on, calling `apply` with each batch.
///
/// A torn end is expected after a crash and ends the log quietly. Anything else that does not fit is damage: that
/// segment's whole frames before it are applied, the rest of it is skipped.
pub async fn replay(
    disk: &Rc<dyn Disk>,
    dir: &Path,
    owner: Owner,
    start: Start,
    mut apply: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<Replayed, rt::Error> {
    let mut out = Replayed {
        last_number: start.first_segment - 1,
        last_sequence: start.next_sequence.saturating_sub(1),
        ..Replayed::default()
    };
    for number in segment_numbers(disk, dir).await? {
        if number < start.first_segment {
            continue;
        }
        let path = dir.join(crate::shard::wal::segment::segment_name(number));
        out.last_number = number;
        let mut segment = Segment { ahead: ReadAhead::open(disk, &path).await?, at: 0, floor: 0 };
        segment.replay(owner, number, &mut out, &mut apply).await?;
        segment.ahead.close().await?;
    }
    Ok(out)
}

struct Segment {
    ahead: ReadAhead,
    /// Where the next frame begins.
    at: u64,
    /// Frames up to this sequence are not of this segment, but of what the file was before.
    floor: u64,
}

impl Segment {
    async fn replay(
        &mut self,
        owner: Owner,
        number: u64,
        out: &mut Replayed,
        apply: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), rt::Error> {
        if self.ahead.size < BLOCK_BYTES as u64 {
            // Killed between creating the file and writing its header: nothing was acknowledged in it.
            return Ok(());
        }
        let header = SegmentHeader::decode(self.ahead.bytes(0, BLOCK_BYTES).await?);
        match header {
            Err(what) => {
                self.damaged(0, what.to_owned(), out);
                return Ok(());
            }
            Ok(h) if h.number != number || h.shard != owner.shard || h.directory_id != owner.directory_id => {
                self.damaged(0, "the segment belongs to another log".to_owned(), out);
                return Ok(());
            }
            Ok(h) => self.floor = h.floor,
        }
        self.at = BLOCK_BYTES as u64;
        while self.at + FRAME_HEADER_BYTES as u64 <= self.ahead.size {
            let at = self.at;
            let header = decode_header(self.ahead.bytes(at, FRAME_HEADER_BYTES).await?);
            let Some((sequence, length)) = header.filter(|(sequence, _)| *sequence > self.floor) else {
                return self.end(out).await;
            };
            if at + (FRAME_HEADER_BYTES + length) as u64 > self.ahead.size {
                return self.end(out).await;
            }
            if out.last_sequence != 0 && sequence != out.last_sequence + 1 {
                let what = format!("frame {sequence} follows frame {}", out.last_sequence);
                self.damaged(at, what, out);
            }
            let frame = self.ahead.bytes(at, FRAME_HEADER_BYTES + length).await?;
            let records = &frame[FRAME_HEADER_BYTES..];
            let mut refused = None;
            let mut count = 0;
            let whole = for_each_record(records, |batch| {
                count += 1;
                if let Err(what) = apply(batch) {
                    refused.get_or_insert(what);
                }
            });
            out.record_count += count;
            if let Some(what) = refused {
                self.damaged(at, what, out);
            }
            if whole < length {
                return self.end(out).await;
            }
            out.last_sequence = sequence;
            out.bytes += length as u64;
            self.at += frame_bytes(length) as u64;
            rt::yield_if_needed().await;
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, what: String, out: &mut Replayed) {
        if out.damage.len() < DAMAGE_MAX {
            out.damage.push(self.ahead.damage(offset, what));
        }
    }

    /// The log ends here, unless whole frames follow: then it is damaged here.
    async fn end(&mut self, out: &mut Replayed) -> Result<(), rt::Error> {
        let from = self.at;
        let mut at = from + BLOCK_BYTES as u64;
        // The frame behind a damaged one begins no farther than that can be long.
        let limit = self.ahead.size.min(from + frame_bytes(FRAME_BYTES_MAX) as u64 + BLOCK_BYTES as u64);
        while at + FRAME_HEADER_BYTES as u64 <= limit {
            if let Some((sequence, _)) = decode_header(self.ahead.bytes(at, FRAME_HEADER_BYTES).await?)
                && sequence > out.last_sequence.max(self.floor)
            {
                let what = format!("a frame is damaged; frame {sequence} and what follows it were not read");
                self.damaged(from, what, out);
                return Ok(());
            }
            at += BLOCK_BYTES as u64;
        }
        Ok(())
    }
}
