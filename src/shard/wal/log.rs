//! The log's files: frames appended to segments, one commit after the other.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::rt::Error;
use crate::rt::buffer::Pool;
use crate::rt::disk::{Disk, File, Mode};
use crate::shard::wal::frame::{
    BLOCK_BYTES, FRAME_HEADER_BYTES, SEGMENT_BYTES_MAX, SegmentHeader, encode_header, frame_bytes,
};
use crate::shard::wal::pending::Owner;

/// Space is asked for in steps of this size, so that most commits do not change the file's extents.
const PREALLOCATE_BYTES: u64 = 16 << 20;

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
    pub segment_count: u64,
}

struct Segment {
    file: Rc<dyn File>,
    /// Where the next frame goes.
    end: u64,
    allocated: u64,
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
        if segment.end + bytes as u64 > segment.allocated {
            segment.allocated = segment.end + (bytes as u64).max(PREALLOCATE_BYTES);
            // A hint: a file system that cannot, or has less than a step left, still takes the frame.
            let _ = segment.file.preallocate(segment.allocated).await;
        }
        let buffer = segment.file.write_at(buffer, segment.end).await?;
        segment.file.sync().await?;
        segment.end += bytes as u64;
        self.pool.give(buffer);
        Ok(())
    }

    /// Ends the segment being written: the next frame begins a new one, whose number this returns.
    pub fn end_segment(&mut self) -> u64 {
        self.ended = self.segment.take().or(self.ended.take());
        self.next_number
    }

    async fn open_segment(&mut self) -> Result<Segment, Error> {
        if let Some(old) = self.segment.take().or(self.ended.take()) {
            old.file.close().await?;
        }
        let number = self.next_number;
        let file = self.disk.open(&self.dir.join(segment_name(number)), Mode::Create).await?;
        let header = SegmentHeader {
            shard: self.owner.shard,
            shard_count: self.owner.shard_count,
            directory_id: self.owner.directory_id,
            number,
        };
        let mut buffer = self.pool.take(BLOCK_BYTES);
        buffer.copy_from_slice(&header.encode());
        self.pool.give(file.write_at(buffer, 0).await?);
        file.sync().await?;
        self.disk.sync_dir(&self.dir).await?;
        self.next_number += 1;
        self.segment_count += 1;
        Ok(Segment { file, end: BLOCK_BYTES as u64, allocated: 0 })
    }

    pub async fn close(&mut self) -> Result<(), Error> {
        match self.segment.take().or(self.ended.take()) {
            Some(s) => s.file.close().await,
            None => Ok(()),
        }
    }
}

/// `00000001`, as Prometheus names its segments.
pub fn segment_name(number: u64) -> String {
    format!("{number:08}")
}
