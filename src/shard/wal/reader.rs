//! Reading a log back at start: every whole frame in order, and a report of what was not.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::rt;
use crate::rt::disk::{Disk, File, Mode};
use crate::shard::wal::frame::{
    BLOCK_BYTES, FRAME_HEADER_BYTES, SegmentHeader, decode_header, for_each_record, frame_bytes,
};
use crate::shard::wal::pending::Owner;

/// One read: large enough for the disk's full speed, small beside a segment.
const READ_BYTES: usize = 4 << 20;

/// Something in a log that does not fit. It is set aside and shown; the start goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub offset: u64,
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.offset, self.what)
    }
}

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

/// Reads the log in `dir` (which exists), calling `apply` with each batch.
///
/// A torn end is expected after a crash and ends the log quietly. Anything else that does not fit is damage: that
/// segment's whole frames before it are applied, the rest of it is skipped.
pub async fn replay(
    disk: &Rc<dyn Disk>,
    dir: &Path,
    owner: Owner,
    mut apply: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<Replayed, rt::Error> {
    let mut out = Replayed::default();
    let mut numbers: Vec<u64> =
        disk.list(dir).await?.iter().filter(|e| !e.is_dir).filter_map(|e| e.name.parse().ok()).collect();
    numbers.sort_unstable();
    for number in numbers {
        let path = dir.join(crate::shard::wal::log::segment_name(number));
        out.last_number = number;
        let file = disk.open(&path, Mode::Read).await?;
        let mut segment =
            Segment { path, size: file.size().await?, file, at: 0, window: Vec::new(), window_at: 0 };
        segment.replay(owner, number, &mut out, &mut apply).await?;
        segment.file.close().await?;
    }
    Ok(out)
}

struct Segment {
    path: PathBuf,
    file: Rc<dyn File>,
    size: u64,
    /// Where the next frame begins.
    at: u64,
    /// Bytes of the file from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
}

impl Segment {
    async fn replay(
        &mut self,
        owner: Owner,
        number: u64,
        out: &mut Replayed,
        apply: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), rt::Error> {
        if self.size < BLOCK_BYTES as u64 {
            // Killed between creating the file and writing its header: nothing was acknowledged in it.
            return Ok(());
        }
        let header = SegmentHeader::decode(self.bytes(0, BLOCK_BYTES).await?);
        match header {
            Err(what) => {
                self.damaged(0, what.to_owned(), out);
                return Ok(());
            }
            Ok(h) if h.number != number || h.shard != owner.shard || h.directory_id != owner.directory_id => {
                self.damaged(0, "the segment belongs to another log".to_owned(), out);
                return Ok(());
            }
            Ok(_) => {}
        }
        self.at = BLOCK_BYTES as u64;
        while self.at + FRAME_HEADER_BYTES as u64 <= self.size {
            let at = self.at;
            let Some((sequence, length)) = decode_header(self.bytes(at, FRAME_HEADER_BYTES).await?) else {
                return self.end(out).await;
            };
            if at + (FRAME_HEADER_BYTES + length) as u64 > self.size {
                return self.end(out).await;
            }
            if out.last_sequence != 0 && sequence != out.last_sequence + 1 {
                let what = format!("frame {sequence} follows frame {}", out.last_sequence);
                self.damaged(at, what, out);
            }
            let frame = self.bytes(at, FRAME_HEADER_BYTES + length).await?;
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
        out.damage.push(Damage { path: self.path.clone(), offset, what });
    }

    /// The log ends here, unless whole frames follow: then it is damaged here.
    async fn end(&mut self, out: &mut Replayed) -> Result<(), rt::Error> {
        let from = self.at;
        let mut at = from + BLOCK_BYTES as u64;
        while at + FRAME_HEADER_BYTES as u64 <= self.size {
            if let Some((sequence, _)) = decode_header(self.bytes(at, FRAME_HEADER_BYTES).await?)
                && sequence > out.last_sequence
            {
                let what = format!("a frame is damaged; frame {sequence} and what follows it were not read");
                self.damaged(from, what, out);
                return Ok(());
            }
            at += BLOCK_BYTES as u64;
        }
        Ok(())
    }

    /// `len` bytes of the file from `at` on; fewer at its end. Frames are read once, in order.
    async fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], rt::Error> {
        let end = at + len as u64;
        if at < self.window_at || end > self.window_at + self.window.len() as u64 {
            if at < self.window_at || at > self.window_at + self.window.len() as u64 {
                self.window.clear();
            } else {
                self.window.drain(..(at - self.window_at) as usize);
            }
            self.window_at = at;
            while (self.window.len() < len) && self.window_at + (self.window.len() as u64) < self.size {
                let from = self.window_at + self.window.len() as u64;
                let block = self.file.read_at(from, READ_BYTES.max(len - self.window.len())).await?;
                if block.is_empty() {
                    break;
                }
                self.window.extend_from_slice(&block);
            }
        }
        let from = (at - self.window_at) as usize;
        let to = (from + len).min(self.window.len());
        Ok(&self.window[from.min(to)..to])
    }
}
