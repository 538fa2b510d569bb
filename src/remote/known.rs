//! Label bytes met before: where their series lives, found by a wide hash.
//!
//! A sender sends its series in much the same order each time, so the entry that came after this one last time is
//! tried first; a look-up in a table of a million entries costs five times the rest of a sample's way.

use hashbrown::HashTable;
use model::{ShardId, Timestamp};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// 112 bits, keyed by a seed of this process, and the length of what was hashed: two label sets of one hash are beyond
/// chance.
pub type LabelHash = [u64; 2];

/// Where the length stands, as far as it goes.
const LENGTH: u64 = 0xffff;

#[inline]
pub fn label_hash(bytes: &[u8], seed: u64) -> LabelHash {
    let hash = xxh3_128_with_seed(bytes, seed);
    [hash as u64, (hash >> 64) as u64 & !LENGTH | LENGTH.min(bytes.len() as u64)]
}

/// Entries of one shard: 40 bytes each with their share of the table, so 640 MiB at the bound. More than that many
/// series through one shard begin anew, at the price of reading their labels once.
const ENTRIES_MAX: usize = 1 << 24;

struct Entry {
    hash: LabelHash,
    slot: u32,
    /// The entry that came after this one.
    next: u32,
    /// Time of the newest sample seen here, shifted by 16, and the shard.
    stamp: i64,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// Times within 2 200 years of 1970 are kept exactly; what lies beyond is at the edge, and looked at more closely.
const TIME_MAX: i64 = 1 << 46;

#[derive(Default)]
pub struct Known {
    entries: Vec<Entry>,
    by_hash: HashTable<u32>,
    pub misses: u64,
}

/// Where a request's reading stands among the entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    last: u32,
    expected: u32,
}

/// A series that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub entry: u32,
    pub shard: ShardId,
    pub slot: u32,
}

impl Known {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.by_hash.allocation_size()
    }

    /// Whether a message begins with the very bytes of the series that is expected next, and where they end: then
    /// nobody has to look for that place. `is_end` says whether they may end before the byte given.
    #[inline]
    pub fn find_ahead(
        &self,
        walk: &mut Walk,
        message: &[u8],
        seed: u64,
        is_end: impl Fn(u8) -> bool,
    ) -> Option<(Found, usize)> {
        let e = self.entries.get(walk.expected as usize)?;
        let length = (e.hash[1] & LENGTH) as usize;
        if length == LENGTH as usize || message.get(length).is_some_and(|next| !is_end(*next)) {
            return None;
        }
        if label_hash(message.get(..length)?, seed) != e.hash {
            return None;
        }
        let found = Found { entry: walk.expected, shard: ShardId(e.stamp as u16), slot: e.slot };
        *walk = Walk { last: walk.expected, expected: e.next };
        Some((found, length))
    }

    #[inline]
    pub fn find(&mut self, walk: &mut Walk, hash: LabelHash) -> Option<Found> {
        let at = match self.entries.get(walk.expected as usize) {
            Some(e) if e.hash == hash => walk.expected,
            _ => self.look_up(walk, hash)?,
        };
        let e = &self.entries[at as usize];
        *walk = Walk { last: at, expected: e.next };
        Some(Found { entry: at, shard: ShardId(e.stamp as u16), slot: e.slot })
    }

    #[cold]
    fn look_up(&mut self, walk: &Walk, hash: LabelHash) -> Option<u32> {
        self.misses += 1;
        let entries = &self.entries;
        let at = *self.by_hash.find(hash[0], |i| entries[*i as usize].hash == hash)?;
        if let Some(last) = self.entries.get_mut(walk.last as usize) {
            last.next = at;
        }
        Some(at)
    }

    /// Notes a sample's time; false where it is not later than the newest one seen of its series.
    #[inline]
    pub fn note_time(&mut self, entry: u32, time: Timestamp) -> bool {
        let e = &mut self.entries[entry as usize];
        let time = time.clamp(-TIME_MAX, TIME_MAX);
        let is_later = time > e.stamp >> 16;
        if is_later {
            e.stamp = time << 16 | (e.stamp & 0xffff);
        }
        is_later
    }

    pub fn insert(&mut self, hash: LabelHash, shard: ShardId, slot: u32, time: Timestamp) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
            self.by_hash.clear();
        }
        let at = self.entries.len() as u32;
        let stamp = time.clamp(-TIME_MAX, TIME_MAX) << 16 | i64::from(shard.0);
        let entries = &self.entries;
        if let Some(old) = self.by_hash.find(hash[0], |i| entries[*i as usize].hash == hash) {
            let old = *old as usize;
            self.entries[old].slot = slot;
            return;
        }
        self.by_hash.insert_unique(hash[0], at, |i| entries[*i as usize].hash[0]);
        self.entries.push(Entry { hash, slot, next: at + 1, stamp });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_series_is_found_by_where_its_labels_end() {
        let mut known = Known::default();
        let long = vec![b'x'; 70_000];
        for (i, labels) in [&b"abc"[..], b"de", &long, b"f"].into_iter().enumerate() {
            known.insert(label_hash(labels, 7), ShardId(1), i as u32, 0);
        }
        let check = |expected: u32, message: &[u8], expect: Option<(u32, usize)>| {
            let mut walk = Walk { last: 0, expected };
            let found = known.find_ahead(&mut walk, message, 7, |next| next != b'!');
            assert_eq!(found.map(|(f, end)| (f.slot, end)), expect, "{expected} {:?}", message.len());
            assert_eq!(walk.expected, expect.map_or(expected, |(slot, _)| slot + 1));
        };
        check(0, b"abc", Some((0, 3)));
        check(0, b"abcd", Some((0, 3)));
        check(0, b"abc!", None);
        check(0, b"ab", None);
        check(0, b"abd?", None);
        check(1, b"de?", Some((1, 2)));
        check(2, &long, None);
        check(4, b"f", None);
    }

    #[test]
    fn series_are_found_in_any_order_and_the_usual_one_needs_no_look_up() {
        let mut known = Known::default();
        let hashes: Vec<LabelHash> = (0..100u64).map(|i| label_hash(&i.to_le_bytes(), 7)).collect();
        for (i, h) in hashes.iter().enumerate() {
            known.insert(*h, ShardId(i as u16 % 3), i as u32, -5);
        }
        let mut walk = Walk::default();
        for (i, h) in hashes.iter().enumerate() {
            let want = Found { entry: i as u32, shard: ShardId(i as u16 % 3), slot: i as u32 };
            assert_eq!(known.find(&mut walk, *h), Some(want));
        }
        assert_eq!(known.misses, 0);
        for round in 0..3 {
            let mut walk = Walk::default();
            for h in hashes.iter().rev() {
                assert!(known.find(&mut walk, *h).is_some());
            }
            assert!(known.misses <= 101 + round, "the new order is learned: {}", known.misses);
        }
        assert_eq!(known.find(&mut walk, label_hash(b"x", 7)), None);
        assert!(known.note_time(3, 10) && !known.note_time(3, 10) && !known.note_time(3, i64::MIN));
        assert_eq!(known.find(&mut walk, hashes[3]).map(|f| f.shard), Some(ShardId(0)));
    }
}
