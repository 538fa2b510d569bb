//! The log's files: frames appended to segments, one commit after the other.

use std::cell::Cell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use futures_lite::future::poll_once;

use crate::rt::Error;
use crate::rt::buffer::{Buffer, Pool};
use crate::rt::disk::Disk;
use crate::shard::wal::frame::{
    FRAME_HEADER_BYTES, SEGMENT_BYTES_MAX, SegmentHeader, encode_header, frame_bytes,
};
use crate::shard::wal::pending::Owner;
use crate::shard::wal::segment::{Segment, ZEROS_BYTES};

/// The next segment is made ready when this one has so much: what is quiet needs no second file.
const PREPARE_FROM: u64 = 1 << 20;

/// The segments being written.
pub struct Log {
    disk: Rc<dyn Disk>,
    dir: PathBuf,
    owner: Owner,
    segment: Option<Segment>,
    next: Next,
    /// Segments that were ended and are yet to be closed.
    closing: Option<Pin<Box<dyn Future<Output = ()>>>>,
    leftovers: Rc<Leftovers>,
    /// The number of the segment that is begun next.
    next_number: u64,
    pool: Pool,
    zeros: Option<Buffer>,
    pub segment_count: u64,
}

/// The segment behind the one being written. Made ready beside the frames: a new name waits for the file system's
/// journal, and that for whatever else is being written (70-200 ms were seen), and no commit should.
enum Next {
    Nothing,
    Underway(Pin<Box<dyn Future<Output = Result<Option<Segment>, Error>>>>),
    Ready(Segment),
    /// It could not be made ready; it is made when it is needed.
    Failed,
}

/// What the log, and who tidies up behind it, tell each other.
#[derive(Debug, Default)]
pub struct Leftovers {
    closing_count: Cell<usize>,
    has_spare: Cell<bool>,
}

impl Leftovers {
    /// Nothing is written any more to a segment that was ended: one of those may become the spare.
    pub fn are_settled(&self) -> bool {
        self.closing_count.get() == 0
    }

    /// There is a spare from here on.
    pub fn note_spare(&self) {
        self.has_spare.set(true);
    }
}

impl Log {
    /// A log that goes on in a new segment, `next_number`, of `dir` (which exists).
    pub fn new(disk: Rc<dyn Disk>, dir: &Path, owner: Owner, next_number: u64) -> Self {
        let segment_count = next_number - 1;
        let leftovers = Rc::new(Leftovers::default());
        // One of an earlier life, perhaps.
        leftovers.note_spare();
        Log {
            disk,
            dir: dir.to_path_buf(),
            owner,
            segment: None,
            next: Next::Nothing,
            closing: None,
            leftovers,
            next_number,
            pool: Pool::new(),
            zeros: None,
            segment_count,
        }
    }

    pub fn leftovers(&self) -> Rc<Leftovers> {
        self.leftovers.clone()
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
            self.end_segment();
            self.segment = Some(self.begin_segment(sequence).await?);
        }
        let bytes = frame_bytes(length);
        let mut buffer = self.pool.take(bytes);
        encode_header(&mut buffer[..FRAME_HEADER_BYTES], sequence, length as u32);
        fill(&mut buffer[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length]);
        buffer[FRAME_HEADER_BYTES + length..].fill(0);
        let Some(segment) = self.segment.as_mut() else { return Ok(()) };
        segment.allocate(bytes as u64).await;
        let end = segment.end + bytes as u64;
        segment.settle(end, &mut self.zeros).await;
        let buffer = segment.file.write_durably_at(buffer, segment.end).await?;
        segment.end = end;
        self.pool.give(buffer);
        if bytes <= ZEROS_BYTES {
            segment.zero_ahead(&mut self.zeros).await;
        }
        self.look_ahead(sequence).await;
        Ok(())
    }

    /// Ends the segment being written: the next frame begins a new one, whose number this returns.
    pub fn end_segment(&mut self) -> u64 {
        if let Some(segment) = self.segment.take() {
            let (before, leftovers) = (self.closing.take(), self.leftovers.clone());
            leftovers.closing_count.set(leftovers.closing_count.get() + 1);
            self.closing = Some(Box::pin(async move {
                if let Some(before) = before {
                    before.await;
                }
                // Its frames are durable; a file that cannot be closed loses none.
                let _ = segment.close().await;
                leftovers.closing_count.set(leftovers.closing_count.get() - 1);
            }));
        }
        self.next_number
    }

    /// The header of the next segment, when `written` is the last frame before it.
    fn next_header(&self, written: u64) -> SegmentHeader {
        SegmentHeader {
            shard: self.owner.shard,
            shard_count: self.owner.shard_count,
            directory_id: self.owner.directory_id,
            number: self.next_number,
            floor: written,
        }
    }

    async fn begin_segment(&mut self, sequence: u64) -> Result<Segment, Error> {
        let prepared = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Ready(segment) => Some(segment),
            Next::Underway(work) => work.await.ok().flatten(),
            Next::Nothing | Next::Failed => None,
        };
        let segment = match prepared {
            Some(segment) => segment,
            None => Segment::create(&self.disk, &self.dir, self.next_header(sequence - 1)).await?,
        };
        self.next_number += 1;
        self.segment_count += 1;
        Ok(segment)
    }

    /// Goes on with what is done beside the frames. Does not wait for it. `written` is the last frame.
    async fn look_ahead(&mut self, written: u64) {
        if let Some(closing) = &mut self.closing
            && poll_once(closing).await.is_some()
        {
            self.closing = None;
        }
        if matches!(self.next, Next::Nothing) {
            let is_long = self.segment.as_ref().is_some_and(|s| s.end >= PREPARE_FROM);
            let has_spare = self.leftovers.has_spare.replace(false);
            if !is_long && !has_spare {
                return;
            }
            let (disk, dir) = (self.disk.clone(), self.dir.clone());
            let work = prepare(disk, dir, self.next_header(written), is_long);
            self.next = Next::Underway(Box::pin(work));
        }
        if let Next::Underway(work) = &mut self.next
            && let Some(result) = poll_once(work).await
        {
            self.next = match result {
                Ok(Some(segment)) => Next::Ready(segment),
                Ok(None) => Next::Nothing,
                Err(_) => Next::Failed,
            };
        }
    }

    pub async fn close(&mut self) -> Result<(), Error> {
        self.end_segment();
        if let Some(closing) = self.closing.take() {
            closing.await;
        }
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Ready(segment) => segment.close().await,
            Next::Underway(work) => match work.await {
                Ok(Some(segment)) => segment.close().await,
                _ => Ok(()),
            },
            Next::Nothing | Next::Failed => Ok(()),
        }
    }
}

/// Makes a segment ready: of the spare, else, where `may_create`, a new one with its zeros.
async fn prepare(
    disk: Rc<dyn Disk>,
    dir: PathBuf,
    header: SegmentHeader,
    may_create: bool,
) -> Result<Option<Segment>, Error> {
    let reused = Segment::reuse(&disk, &dir, header).await?;
    if reused.is_some() || !may_create {
        return Ok(reused);
    }
    let mut segment = Segment::create(&disk, &dir, header).await?;
    segment.zero_all(&mut None).await;
    Ok(Some(segment))
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::rt::disk::CrashDisk;
    use crate::rt::disk::crash::{Crash, Fault};
    use crate::shard::wal::frame::push_record;
    use crate::shard::wal::reader::{Start, replay};
    use crate::shard::wal::segment::{SPARE, segment_name};

    const OWNER: Owner = Owner { directory_id: 5, shard: 1, shard_count: 2 };

    fn begun(disk: &CrashDisk, dir: &Path) -> Rc<dyn Disk> {
        let shared: Rc<dyn Disk> = Rc::new(disk.clone());
        block_on(shared.create_dir(dir)).unwrap();
        block_on(shared.sync_dir(Path::new("/"))).unwrap();
        shared
    }

    fn write(log: &mut Log, sequence: u64, batch: &[u8]) -> Result<(), Error> {
        let mut frame = Vec::new();
        push_record(&mut frame, batch);
        block_on(log.write_frame(sequence, frame.len(), |out| out.copy_from_slice(&frame)))
    }

    fn read(
        disk: &CrashDisk,
        dir: &Path,
        start: Start,
    ) -> (Vec<Vec<u8>>, crate::shard::wal::reader::Replayed) {
        let (found, mut read): (Rc<dyn Disk>, _) = (Rc::new(disk.clone()), Vec::new());
        let replayed = block_on(replay(&found, dir, OWNER, start, |batch| {
            read.push(batch.to_vec());
            Ok(())
        }));
        (read, replayed.unwrap())
    }

    #[test]
    fn what_a_reused_segment_was_before_is_never_read_again() {
        let dir = Path::new("/wal");
        for cut in 0.. {
            let disk = CrashDisk::new();
            let shared = begun(&disk, dir);
            let mut log = Log::new(shared.clone(), dir, OWNER, 1);
            // The frames of the earlier life: of one block and of many, so that new ones end among old records.
            for (i, length) in [100, 70_000, 3000, 200_000, 5000, 90_000].into_iter().enumerate() {
                write(&mut log, i as u64 + 1, &vec![1; length]).unwrap();
            }
            let first_segment = log.end_segment();
            let start = Start { first_segment, next_sequence: 7 };
            block_on(async {
                log.close().await.unwrap();
                shared.rename(&dir.join(segment_name(1)), &dir.join(SPARE)).await.unwrap();
                shared.sync_dir(dir).await.unwrap();
            });
            log.leftovers().note_spare();
            disk.fail_after(cut, Fault::PowerCut);
            let mut written = Vec::new();
            for (i, length) in [50, 60, 10_000, 70, 150_000, 20].into_iter().enumerate() {
                if i == 3 {
                    log.end_segment();
                }
                let batch = vec![2 + i as u8; length];
                if write(&mut log, 7 + i as u64, &batch).is_err() {
                    break;
                }
                written.push(batch);
            }
            for crash in [Crash::Power, Crash::Kill, Crash::Torn(cut)] {
                let (found, replayed) = read(&disk.crash(crash), dir, start);
                assert!(found.starts_with(&written), "cut {cut}, {crash:?}: {} frames", found.len());
                assert!(found.iter().all(|b| b[0] != 1), "cut {cut}, {crash:?}: a frame of the earlier life");
                assert!(replayed.damage.is_empty(), "cut {cut}, {crash:?}: {:?}", replayed.damage);
            }
            if written.len() == 6 {
                let names: Vec<String> =
                    block_on(shared.list(dir)).unwrap().into_iter().map(|e| e.name).collect();
                assert_eq!(names, ["00000002", "00000003"], "the spare is the second of them");
                return;
            }
        }
    }

    #[test]
    fn the_next_segment_is_ready_before_it_is_needed() {
        let (disk, dir) = (CrashDisk::new(), Path::new("/wal"));
        let mut log = Log::new(begun(&disk, dir), dir, OWNER, 1);
        write(&mut log, 1, &[1]).unwrap();
        assert!(matches!(log.next, Next::Nothing), "a quiet log has one file");
        write(&mut log, 2, &vec![2; 1 << 20]).unwrap();
        let Next::Ready(next) = &log.next else { panic!("the next segment") };
        assert!(next.ready > 1 << 20, "with zeros: {}", next.ready);
        assert_eq!(log.end_segment(), 2);
        let before = disk.operations();
        write(&mut log, 3, &[3]).unwrap();
        assert_eq!(disk.operations() - before, 4, "the frame and zeros, each with its sync; no name");
    }

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
