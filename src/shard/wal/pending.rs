//! Records on their way to disk: the tail that a killed process leaves behind.
//!
//! Two halves of one shared mapping: records are pushed into one while the other is being written. The mapping
//! comes from the runtime; here it is a slice of bytes.

use crate::shard::wal::frame::{BLOCK_BYTES, RECORD_HEADER_BYTES, for_each_record, record_header};

const MAGIC: &[u8; 8] = b"SYSTAIL1";
const HALF_HEADER_BYTES: usize = 16;

/// Bytes that the log's owner keeps mapped: the runtime's shared mapping, a plain vector in tests.
pub trait TailBytes {
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl TailBytes for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Whose tail it is: one left by another directory or another number of shards is not replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub directory_id: u64,
    pub shard: u16,
    pub shard_count: u16,
}

/// There is no room for a batch until a commit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log's tail is full: {pending_bytes} bytes wait for the disk")]
pub struct Full {
    pub pending_bytes: usize,
}

/// The log's unwritten end.
pub struct Pending {
    tail: Box<dyn TailBytes>,
    half_bytes: usize,
    /// Which half is being filled.
    open: usize,
    open_length: usize,
    /// Sequence that the open half will have as a frame.
    sequence: u64,
    /// Length of the other half while it is being written.
    committing: Option<usize>,
}

impl Pending {
    /// Size of a tail whose halves hold `half_bytes` of records each.
    pub fn tail_bytes(half_bytes: usize) -> usize {
        BLOCK_BYTES + 2 * (HALF_HEADER_BYTES + half_bytes)
    }

    /// Takes a mapping over; what it held before is gone. `sequence` is the next frame's.
    pub fn open(mut tail: Box<dyn TailBytes>, owner: Owner, sequence: u64) -> Self {
        let half_bytes = half_of(tail.bytes().len());
        let b = tail.bytes_mut();
        b[..8].copy_from_slice(MAGIC);
        b[8..16].copy_from_slice(&owner.directory_id.to_le_bytes());
        b[16..18].copy_from_slice(&owner.shard.to_le_bytes());
        b[18..20].copy_from_slice(&owner.shard_count.to_le_bytes());
        let mut p = Pending { tail, half_bytes, open: 0, open_length: 0, sequence, committing: None };
        p.write_half_header(1, 0, 0);
        p.write_half_header(0, sequence, 0);
        p
    }

    fn half_at(&self, half: usize) -> usize {
        BLOCK_BYTES + half * (HALF_HEADER_BYTES + self.half_bytes)
    }

    fn write_half_header(&mut self, half: usize, sequence: u64, length: usize) {
        let at = self.half_at(half);
        let b = &mut self.tail.bytes_mut()[at..at + HALF_HEADER_BYTES];
        // Between these two writes a kill leaves the old length with the new sequence; the length shrinks first
        // when a half is begun, and the sequence stays while it grows.
        if length == 0 {
            b[8..].copy_from_slice(&0u64.to_le_bytes());
            b[..8].copy_from_slice(&sequence.to_le_bytes());
        } else {
            b[8..].copy_from_slice(&(length as u64).to_le_bytes());
        }
    }

    /// Bytes of records that wait in the open half.
    pub fn open_bytes(&self) -> usize {
        self.open_length
    }

    /// The frame that will hold what is pushed now.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    /// Whether a batch of `len` bytes fits now.
    pub fn check_room(&self, len: usize) -> Result<(), Full> {
        if self.open_length + RECORD_HEADER_BYTES + len > self.half_bytes {
            let pending_bytes = self.open_length + self.committing.unwrap_or(0);
            return Err(Full { pending_bytes });
        }
        Ok(())
    }

    /// Pushes a batch; it survives a killed process from here on. The caller checked the room.
    pub fn push(&mut self, batch: &[u8]) {
        let at = self.half_at(self.open) + HALF_HEADER_BYTES + self.open_length;
        let room = &mut self.tail.bytes_mut()[at..at + RECORD_HEADER_BYTES + batch.len()];
        room[..RECORD_HEADER_BYTES].copy_from_slice(&record_header(batch));
        room[RECORD_HEADER_BYTES..].copy_from_slice(batch);
        self.open_length += RECORD_HEADER_BYTES + batch.len();
        self.write_half_header(self.open, self.sequence, self.open_length);
    }

    /// Turns the halves: what was pushed so far becomes a frame, copied by `copy` (sequence, records).
    ///
    /// `None` while a commit runs or nothing waits.
    pub fn begin_commit<R>(&mut self, copy: impl FnOnce(u64, &[u8]) -> R) -> Option<R> {
        if self.committing.is_some() || self.open_length == 0 {
            return None;
        }
        let result = self.committing_records(self.open, self.open_length, self.sequence, copy);
        self.committing = Some(self.open_length);
        self.open = 1 - self.open;
        self.sequence += 1;
        self.open_length = 0;
        self.write_half_header(self.open, self.sequence, 0);
        Some(result)
    }

    /// The frame of a commit that failed, to write it again.
    pub fn retry_commit<R>(&self, copy: impl FnOnce(u64, &[u8]) -> R) -> Option<R> {
        let length = self.committing?;
        Some(self.committing_records(1 - self.open, length, self.sequence - 1, copy))
    }

    fn committing_records<R>(
        &self,
        half: usize,
        length: usize,
        sequence: u64,
        copy: impl FnOnce(u64, &[u8]) -> R,
    ) -> R {
        let at = self.half_at(half) + HALF_HEADER_BYTES;
        copy(sequence, &self.tail.bytes()[at..at + length])
    }

    /// The commit begun last is durable.
    pub fn finish_commit(&mut self) {
        debug_assert!(self.committing.is_some(), "a commit runs");
        self.committing = None;
    }
}

fn half_of(tail_bytes: usize) -> usize {
    (tail_bytes.saturating_sub(BLOCK_BYTES) / 2).saturating_sub(HALF_HEADER_BYTES)
}

/// Replays what a tail of `owner` holds behind frame `last_sequence`: calls `apply` with each batch in order.
/// Returns the last sequence seen.
pub fn replay(tail: &[u8], owner: Owner, last_sequence: u64, mut apply: impl FnMut(&[u8])) -> u64 {
    let mut last = last_sequence;
    for (sequence, records) in halves(tail, owner) {
        if sequence > last {
            for_each_record(records, &mut apply);
            last = sequence;
        }
    }
    last
}

/// The halves of a tail, ascending by sequence; none where it is not `owner`'s.
fn halves(tail: &[u8], owner: Owner) -> Vec<(u64, &[u8])> {
    if tail.len() < BLOCK_BYTES + 2 * HALF_HEADER_BYTES
        || &tail[..8] != MAGIC
        || tail[8..16] != owner.directory_id.to_le_bytes()
        || tail[16..18] != owner.shard.to_le_bytes()
        || tail[18..20] != owner.shard_count.to_le_bytes()
    {
        return Vec::new();
    }
    let half_bytes = half_of(tail.len());
    let mut found: Vec<(u64, &[u8])> = (0..2)
        .filter_map(|i| {
            let half = &tail[BLOCK_BYTES + i * (HALF_HEADER_BYTES + half_bytes)..];
            let sequence = u64::from_le_bytes(half[..8].try_into().ok()?);
            let length = u64::from_le_bytes(half[8..16].try_into().ok()?) as usize;
            let records = half[HALF_HEADER_BYTES..HALF_HEADER_BYTES + half_bytes].get(..length)?;
            Some((sequence, records))
        })
        .collect();
    found.sort_by_key(|h| h.0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { directory_id: 5, shard: 1, shard_count: 2 };

    struct Copied(Vec<u8>, std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

    impl TailBytes for Copied {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
        fn bytes_mut(&mut self) -> &mut [u8] {
            // What a kill would leave: the bytes before this write.
            self.1.borrow_mut().clone_from(&self.0);
            &mut self.0
        }
    }

    fn replayed(tail: &[u8], last: u64) -> Vec<String> {
        let mut out = Vec::new();
        replay(tail, OWNER, last, |b| out.push(String::from_utf8(b.to_vec()).unwrap()));
        out
    }

    #[test]
    fn what_was_pushed_survives_and_what_is_durable_is_not_replayed() {
        let mut p = Pending::open(Box::new(vec![0; Pending::tail_bytes(64)]), OWNER, 10);
        p.push(b"a");
        p.push(b"b");
        assert_eq!(replayed(p.tail.bytes(), 9), ["a", "b"]);
        let frame = p.begin_commit(|s, r| (s, r.to_vec())).unwrap();
        assert_eq!(frame.0, 10);
        p.push(b"c");
        assert_eq!(replayed(p.tail.bytes(), 9), ["a", "b", "c"], "the write may still fail");
        assert_eq!(p.retry_commit(|s, r| (s, r.to_vec())), Some(frame));
        assert_eq!(replayed(p.tail.bytes(), 10), ["c"], "frame 10 is in the log");
        assert!(p.begin_commit(|_, _| ()).is_none(), "one commit at a time");
        p.finish_commit();
        assert!(p.begin_commit(|_, _| ()).is_some());
        p.push(b"d");
        assert_eq!(replayed(p.tail.bytes(), 10), ["c", "d"]);
    }

    #[test]
    fn a_full_tail_refuses_and_takes_again_after_the_commit() {
        let mut p = Pending::open(Box::new(vec![0; Pending::tail_bytes(32)]), OWNER, 1);
        assert!(p.check_room(25).is_err());
        assert!(p.check_room(24).is_ok());
        p.push(&[7; 24]);
        assert_eq!(p.check_room(0), Err(Full { pending_bytes: 32 }));
        p.begin_commit(|_, _| ()).unwrap();
        assert!(p.check_room(24).is_ok());
    }

    #[test]
    fn a_kill_between_any_two_writes_loses_nothing_that_was_pushed() {
        let before = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let tail = Copied(vec![0; Pending::tail_bytes(64)], before.clone());
        let mut p = Pending::open(Box::new(tail), OWNER, 1);
        for i in 0..20u8 {
            p.push(&[b'a' + i]);
            let have = replayed(&before.borrow(), p.sequence() - 1);
            let all = replayed(p.tail.bytes(), p.sequence() - 1);
            assert_eq!(have, all[..all.len() - 1], "the push itself is the only thing that may be missing");
            if i % 3 == 2 {
                p.begin_commit(|_, _| ()).unwrap();
                p.finish_commit();
            }
        }
    }

    #[test]
    fn a_tail_of_another_owner_is_left_alone() {
        let mut p = Pending::open(Box::new(vec![0; Pending::tail_bytes(64)]), OWNER, 1);
        p.push(b"a");
        let mut bytes = p.tail.bytes().to_vec();
        bytes[8] ^= 1;
        assert_eq!(replayed(&bytes, 0), [""; 0]);
        assert_eq!(replayed(&[], 0), [""; 0]);
    }
}
