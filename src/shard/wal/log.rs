//! The log's files: frames appended to segments, one commit after the other.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use futures_lite::future::poll_once;

use crate::rt::Error;
use crate::rt::buffer::{Buffer, Pool};
use crate::rt::disk::{Disk, File, Mode};
use crate::shard::wal::frame::{
    BLOCK_BYTES, FRAME_HEADER_BYTES, SEGMENT_BYTES_MAX, SegmentHeader, encode_header, frame_bytes,
};
use crate::shard::wal::pending::Owner;

/// Space is asked for in steps of this size, so that most commits do not change the file's extents.
const PREALLOCATE_BYTES: u64 = 16 << 20;

/// Zeros lie this far ahead of the frames: a frame that overwrites them changes nothing but bytes, so the disk is
/// asked to write and to flush, and the file system's journal is not asked at all. Measured for 16 KiB: 140 us instead
/// of 220, and 55 us of CPU instead of 89. At 10 MB/s of log they last a third of a second.
const AHEAD_BYTES: u64 = 4 << 20;

/// Written at a time, beside the frames. Longer frames would be ahead of the zeros: with them there are none.
const ZEROS_BYTES: usize = 256 << 10;

/// The segment being written.
pub struct Log {
    disk: Rc<dyn Disk>,
    dir: PathBuf,
    owner: Owner,
    segment: Option<Segment>,
    /// A segment that was ended and is yet to be closed.
    ended: Option<Segment>,
    next_number: u64,
    pool: Pool,
    zeros: Option<Buffer>,
    pub segment_count: u64,
}

struct Segment {
    file: Rc<dyn File>,
    /// Where the next frame goes.
    end: u64,
    allocated: u64,
    /// Up to here there are frames or zeros.
    ready: u64,
    zeroing: Option<Zeroing>,
    /// Whether the file system has room for what is written ahead.
    has_room: bool,
}

/// Zeros on their way to the disk.
struct Zeroing {
    from: u64,
    work: Pin<Box<dyn Future<Output = Result<Buffer, Error>>>>,
}

impl Segment {
    /// Asks for space where a frame of `bytes`, and what is written ahead of it, would reach behind what there is.
    async fn allocate(&mut self, bytes: u64) {
        let need = self.end + bytes + AHEAD_BYTES;
        if need > self.allocated {
            self.allocated = need + PREALLOCATE_BYTES;
            // A hint: a file system that cannot, or has less than a step left, still takes the frame.
            self.has_room = self.file.preallocate(self.allocated).await.is_ok();
        }
    }

    /// Writes the next zeros, if there are too few and none are under way. Does not wait for them.
    async fn zero_ahead(&mut self, zeros: &mut Option<Buffer>) {
        if let Some(zeroing) = &mut self.zeroing {
            match poll_once(&mut zeroing.work).await {
                Some(result) => self.zeroed(result, zeros),
                None => return,
            }
        }
        let from = self.ready.max(self.end);
        let is_enough = from >= SEGMENT_BYTES_MAX.min(self.end + AHEAD_BYTES);
        if !self.has_room || is_enough {
            return;
        }
        let (file, buffer) = (self.file.clone(), zeros.take().unwrap_or_else(|| Buffer::zeroed(ZEROS_BYTES)));
        let work = Box::pin(async move { file.write_durably_at(buffer, from).await });
        let zeroing = self.zeroing.insert(Zeroing { from, work });
        if let Some(result) = poll_once(&mut zeroing.work).await {
            self.zeroed(result, zeros);
        }
    }

    fn zeroed(&mut self, result: Result<Buffer, Error>, zeros: &mut Option<Buffer>) {
        let Some(zeroing) = self.zeroing.take() else { return };
        match result {
            Ok(buffer) => {
                self.ready = zeroing.from + buffer.len() as u64;
                *zeros = Some(buffer);
            }
            // Nothing is lost but the convenience; whether the disk can still be written a frame will find out.
            Err(_) => self.has_room = false,
        }
    }

    /// Waits for zeros that are under way at `end` or behind it.
    async fn settle(&mut self, end: u64, zeros: &mut Option<Buffer>) {
        if let Some(zeroing) = self.zeroing.as_mut().filter(|z| z.from < end) {
            let result = (&mut zeroing.work).await;
            self.zeroed(result, zeros);
        }
    }
}

impl Log {
    /// A log that goes on in a new segment, `next_number`, of `dir` (which exists).
    pub fn new(disk: Rc<dyn Disk>, dir: &Path, owner: Owner, next_number: u64) -> Self {
        let segment_count = next_number - 1;
        Log {
            disk,
            dir: dir.to_path_buf(),
            owner,
            segment: None,
            ended: None,
            next_number,
            pool: Pool::new(),
            zeros: None,
            segment_count,
        }
    }

    /// Makes one frame durable. `fill` writes its `length` bytes of records.
    ///
    /// After a full disk the same frame may be tried again: it is written to the same place. After any other error
    /// the caller must not try again: what a failed sync left on the disk is not known.
    pub async fn write_frame(
        &mut self,
        sequence: u64,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Error> {
        if self.segment.as_ref().is_none_or(|s| s.end >= SEGMENT_BYTES_MAX) {
            self.segment = Some(self.open_segment().await?);
        }
        let bytes = frame_bytes(length);
        let mut buffer = self.pool.take(bytes);
        encode_header(&mut buffer[..FRAME_HEADER_BYTES], sequence, length as u32);
        fill(&mut buffer[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length]);
        buffer[FRAME_HEADER_BYTES + length..].fill(0);
        let Some(segment) = self.segment.as_mut() else { return Ok(()) };
        segment.allocate(bytes as u64).await;
        let end = segment.end + bytes as u64;
        // Zeros must not come behind the frame that they make way for.
        segment.settle(end, &mut self.zeros).await;
        let buffer = segment.file.write_durably_at(buffer, segment.end).await?;
        segment.end = end;
        self.pool.give(buffer);
        if bytes <= ZEROS_BYTES {
            segment.zero_ahead(&mut self.zeros).await;
        }
        Ok(())
    }

    /// Ends the segment being written: the next frame begins a new one, whose number this returns.
    pub fn end_segment(&mut self) -> u64 {
        self.ended = self.segment.take().or(self.ended.take());
        self.next_number
    }

    async fn open_segment(&mut self) -> Result<Segment, Error> {
        self.close().await?;
        let number = self.next_number;
        let file = self.disk.open(&self.dir.join(segment_name(number)), Mode::Log).await?;
        let header = SegmentHeader {
            shard: self.owner.shard,
            shard_count: self.owner.shard_count,
            directory_id: self.owner.directory_id,
            number,
        };
        let mut buffer = self.pool.take(BLOCK_BYTES);
        buffer.copy_from_slice(&header.encode());
        self.pool.give(file.write_durably_at(buffer, 0).await?);
        self.disk.sync_dir(&self.dir).await?;
        self.next_number += 1;
        self.segment_count += 1;
        let end = BLOCK_BYTES as u64;
        Ok(Segment { file, end, allocated: 0, ready: end, zeroing: None, has_room: true })
    }

    pub async fn close(&mut self) -> Result<(), Error> {
        let Some(mut segment) = self.segment.take().or(self.ended.take()) else { return Ok(()) };
        segment.settle(u64::MAX, &mut self.zeros).await;
        segment.file.close().await
    }
}

/// `00000001`, as Prometheus names its segments.
pub fn segment_name(number: u64) -> String {
    format!("{number:08}")
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::rt::disk::CrashDisk;
    use crate::rt::disk::crash::Crash;
    use crate::shard::wal::frame::push_record;
    use crate::shard::wal::reader::{Start, replay};

    const OWNER: Owner = Owner { directory_id: 5, shard: 1, shard_count: 2 };

    #[test]
    fn frames_of_any_length_come_back_from_among_the_zeros() {
        let (disk, dir) = (CrashDisk::new(), Path::new("/wal"));
        let shared: Rc<dyn Disk> = Rc::new(disk.clone());
        let mut written = Vec::new();
        block_on(async {
            shared.create_dir(dir).await.unwrap();
            shared.sync_dir(Path::new("/")).await.unwrap();
            let mut log = Log::new(shared, dir, OWNER, 1);
            for (i, length) in [1, 5000, 300_000, 4096, 9, 700_000, 200_000, 1].into_iter().enumerate() {
                written.push(vec![i as u8; length]);
                let mut frame = Vec::new();
                push_record(&mut frame, &written[i]);
                log.write_frame(i as u64 + 1, frame.len(), |out| out.copy_from_slice(&frame)).await.unwrap();
            }
            let segment = log.segment.as_ref().unwrap();
            assert!(segment.ready > segment.end, "zeros lie ahead: {} {}", segment.ready, segment.end);
        });
        for crash in [Crash::Power, Crash::Kill, Crash::Torn(3)] {
            let (found, mut read): (Rc<dyn Disk>, _) = (Rc::new(disk.crash(crash)), Vec::new());
            let replayed = block_on(replay(&found, dir, OWNER, Start::BEGINNING, |batch| {
                read.push(batch.to_vec());
                Ok(())
            }));
            let replayed = replayed.unwrap();
            assert_eq!((replayed.last_sequence, replayed.damage.len()), (8, 0), "{crash:?}");
            assert!(read == written, "{crash:?}");
        }
    }
}
