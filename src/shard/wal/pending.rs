//! Records on their way to disk: the tail that a killed process leaves behind.
//!
//! Two halves of one shared mapping: records are pushed into one while the other is being written.

use crate::rt::disk::Tail;
use crate::shard::wal::frame::{BLOCK_BYTES, RECORD_HEADER_BYTES, for_each_record, record_header};

const MAGIC: &[u8; 8] = b"SYSTAIL1";
const HALF_HEADER_BYTES: usize = 16;

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
    tail: Tail,
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
    pub fn open(mut tail: Tail, owner: Owner, sequence: u64) -> Self {
        let half_bytes = half_of(tail.len());
        let mut b = [0; 20];
        b[..8].copy_from_slice(MAGIC);
        b[8..16].copy_from_slice(&owner.directory_id.to_le_bytes());
        b[16..18].copy_from_slice(&owner.shard.to_le_bytes());
        b[18..20].copy_from_slice(&owner.shard_count.to_le_bytes());
        tail.write(0, &b);
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
        // A kill between these two writes leaves an empty half: the length shrinks before the sequence changes,
        // and the sequence stays while the half grows.
        self.tail.write(at + 8, &(length as u64).to_le_bytes());
        if length == 0 {
            self.tail.write(at, &sequence.to_le_bytes());
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
        self.tail.write(at, &record_header(batch));
        self.tail.write(at + RECORD_HEADER_BYTES, batch);
        self.open_length += RECORD_HEADER_BYTES + batch.len();
        self.write_half_header(self.open, self.sequence, self.open_length);
    }

    /// Turns the halves: what was pushed so far becomes a frame, to be fetched with [`Pending::committing`].
    ///
    /// False while a commit runs or nothing waits.
    pub fn begin_commit(&mut self) -> bool {
        if self.committing.is_some() || self.open_length == 0 {
            return false;
        }
        self.committing = Some(self.open_length);
        self.open = 1 - self.open;
        self.sequence += 1;
        self.open_length = 0;
        self.write_half_header(self.open, self.sequence, 0);
        true
    }

    /// Sequence and length of the frame being committed.
    pub fn committing(&self) -> Option<(u64, usize)> {
        Some((self.sequence - 1, self.committing?))
    }

    /// Copies the records of the frame being committed; `out` has their length.
    pub fn copy_committing(&self, out: &mut [u8]) {
        let at = self.half_at(1 - self.open) + HALF_HEADER_BYTES;
        self.tail.read(at, out);
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
    use std::cell::RefCell;
    use std::rc::Rc;

    const OWNER: Owner = Owner { directory_id: 5, shard: 1, shard_count: 2 };

    fn opened(half_bytes: usize, sequence: u64) -> (Pending, Rc<RefCell<Vec<u8>>>) {
        let bytes = Rc::new(RefCell::new(vec![0; Pending::tail_bytes(half_bytes)]));
        (Pending::open(Tail::in_memory(bytes.clone()), OWNER, sequence), bytes)
    }

    fn replayed(tail: &[u8], last: u64) -> Vec<String> {
        let mut out = Vec::new();
        replay(tail, OWNER, last, |b| out.push(String::from_utf8(b.to_vec()).unwrap()));
        out
    }

    #[test]
    fn what_was_pushed_survives_and_what_is_durable_is_not_replayed() {
        let (mut p, bytes) = opened(64, 10);
        p.push(b"a");
        p.push(b"b");
        assert_eq!(replayed(&bytes.borrow(), 9), ["a", "b"]);
        assert!(p.begin_commit());
        assert_eq!(p.committing(), Some((10, 18)));
        p.push(b"c");
        assert_eq!(replayed(&bytes.borrow(), 9), ["a", "b", "c"], "the write may still fail");
        let mut frame = [0; 18];
        p.copy_committing(&mut frame);
        let mut batches = Vec::new();
        for_each_record(&frame, |b| batches.push(b.to_vec()));
        assert_eq!(batches, [b"a", b"b"]);
        assert_eq!(replayed(&bytes.borrow(), 10), ["c"], "frame 10 is in the log");
        assert!(!p.begin_commit(), "one commit at a time");
        p.finish_commit();
        assert!(p.begin_commit());
        p.push(b"d");
        assert_eq!(replayed(&bytes.borrow(), 10), ["c", "d"]);
    }

    #[test]
    fn a_full_tail_refuses_and_takes_again_after_the_commit() {
        let (mut p, _) = opened(32, 1);
        assert!(p.check_room(25).is_err());
        assert!(p.check_room(24).is_ok());
        p.push(&[7; 24]);
        assert_eq!(p.check_room(0), Err(Full { pending_bytes: 32 }));
        assert!(p.begin_commit());
        assert!(p.check_room(24).is_ok());
    }

    #[test]
    fn a_tail_of_another_owner_is_left_alone() {
        let (mut p, bytes) = opened(64, 1);
        p.push(b"a");
        bytes.borrow_mut()[8] ^= 1;
        assert_eq!(replayed(&bytes.borrow(), 0), [""; 0]);
        assert_eq!(replayed(&[], 0), [""; 0]);
    }
}
