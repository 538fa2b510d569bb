//! Which slot has which key: a table of (hash, slot), the keys themselves stay in the page.
//!
//! It exists only while a target's keys come and go. A target whose keys keep their order never looks anything up,
//! and pays nothing.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    slot: u32,
}

/// Slots by key. Who asks compares the keys.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    table: HashTable<Entry>,
}

/// The hash of a key as the table keeps it.
pub(crate) fn key_hash(key: &[u8]) -> u32 {
    xxh3_64(key) as u32
}

/// A table reads low bits as the place and the highest as the tag: spread 32 bits over both.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl KeyTable {
    pub(crate) fn with_capacity(n: usize) -> Self {
        KeyTable { table: HashTable::with_capacity(n) }
    }

    pub(crate) fn find(&self, hash: u32, mut has_key: impl FnMut(u32) -> bool) -> Option<u32> {
        self.table.find(spread(hash), |e| e.hash == hash && has_key(e.slot)).map(|e| e.slot)
    }

    pub(crate) fn insert(&mut self, hash: u32, slot: u32) {
        self.table.insert_unique(spread(hash), Entry { hash, slot }, |e| spread(e.hash));
    }

    pub(crate) fn remove(&mut self, hash: u32, slot: u32) {
        if let Ok(entry) = self.table.find_entry(spread(hash), |e| e.slot == slot) {
            entry.remove();
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.allocation_size()
    }
}
