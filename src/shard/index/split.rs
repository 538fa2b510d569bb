//! A hash table that grows in small steps.
//!
//! A table doubles by moving all it holds in one go, and asks for the hash of each: with four million series that was
//! 0.4 s in which the shard did nothing else. So it is split by some bits of the hash, and each part doubles alone:
//! 20 000 entries at five million, a millisecond.

use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

/// Parts; an empty one is 32 bytes.
const PARTS: usize = 256;

/// Where the bits lie that choose the part: the lowest choose the bucket inside it, the highest mark the entry there,
/// and which shard holds a series is told from the highest, too.
const PART_SHIFT: u32 = 40;

/// Numbers by the hash of what they stand for.
pub(super) struct SplitTable {
    parts: Vec<HashTable<u32>>,
}

impl Default for SplitTable {
    fn default() -> SplitTable {
        SplitTable { parts: (0..PARTS).map(|_| HashTable::new()).collect() }
    }
}

fn part_of(hash: u64) -> usize {
    (hash >> PART_SHIFT) as usize % PARTS
}

impl SplitTable {
    pub(super) fn find(&self, hash: u64, same: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.parts[part_of(hash)].find(hash, same).copied()
    }

    /// Makes room for so many more, and a quarter: no part has much more than its share.
    pub(super) fn reserve(&mut self, more: usize, hash_of: impl Fn(&u32) -> u64) {
        let each = more / PARTS + more / PARTS / 4;
        self.parts.iter_mut().for_each(|part| part.reserve(each, &hash_of));
    }

    /// The entry of what is there already, to be taken out.
    pub(super) fn find_entry(
        &mut self,
        hash: u64,
        same: impl FnMut(&u32) -> bool,
    ) -> Option<OccupiedEntry<'_, u32>> {
        self.parts[part_of(hash)].find_entry(hash, same).ok()
    }

    /// Adds a number that is not there; `hash_of` tells the hashes of others, for when its part grows.
    pub(super) fn insert_unique(&mut self, hash: u64, number: u32, hash_of: impl Fn(&u32) -> u64) {
        self.parts[part_of(hash)].insert_unique(hash, number, hash_of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads numbers over all bits, as the hashes of labels do.
    fn hash(number: u32) -> u64 {
        u64::from(number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31)
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    #[test]
    fn what_went_in_is_found_until_it_is_taken_out() {
        let mut table = SplitTable::default();
        for n in 0..100_000 {
            table.insert_unique(hash(n), n, |n| hash(*n));
        }
        for n in (0..100_000).step_by(3) {
            table.find_entry(hash(n), |m| *m == n).expect("it went in").remove();
        }
        for n in 0..100_010 {
            let expect = (n < 100_000 && n % 3 != 0).then_some(n);
            assert_eq!(table.find(hash(n), |m| *m == n), expect, "{n}");
        }
        assert!(table.find_entry(hash(0), |m| *m == 0).is_none());
    }

    #[test]
    fn no_part_holds_much_more_than_its_share() {
        let mut counts = [0; PARTS];
        (0..256_000).for_each(|n| counts[part_of(hash(n))] += 1);
        assert!(counts.iter().all(|c| (700..1300).contains(c)), "{counts:?}");
    }
}
