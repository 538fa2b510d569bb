//! What was read of blocks, kept up to a number of bytes: the kernel keeps none of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hashbrown::HashMap;

use crate::shard::block::part::Part;

/// A block of this process (numbered as they are opened), and a page of its file.
pub type Key = (u64, u32);

#[derive(Clone)]
pub enum Kept {
    /// A piece's body, with slack behind it for the decoders.
    Body(Rc<[u8]>),
    Part(Rc<Part>),
}

impl Kept {
    fn bytes(&self) -> usize {
        // The entry itself, its key and its share of the table beside what it holds.
        96 + match self {
            Kept::Body(b) => b.len(),
            Kept::Part(p) => p.heap_bytes(),
        }
    }
}

/// Two generations, each half of the bound: what is not asked for while one fills goes with the older. A hit costs one
/// look-up and no list is kept in order.
pub struct Cache {
    half_bytes: Cell<usize>,
    young: RefCell<HashMap<Key, Kept>>,
    old: RefCell<HashMap<Key, Kept>>,
    young_bytes: Cell<usize>,
    old_bytes: Cell<usize>,
    pub hits: Cell<u64>,
    pub misses: Cell<u64>,
}

impl Cache {
    pub fn new(bytes_max: usize) -> Self {
        Cache {
            half_bytes: Cell::new(bytes_max / 2),
            young: RefCell::default(),
            old: RefCell::default(),
            young_bytes: Cell::new(0),
            old_bytes: Cell::new(0),
            hits: Cell::new(0),
            misses: Cell::new(0),
        }
    }

    /// Another bound: it holds from what is kept next.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.half_bytes.set(bytes_max / 2);
    }

    pub fn bytes(&self) -> usize {
        self.young_bytes.get() + self.old_bytes.get()
    }

    pub fn find(&self, key: Key) -> Option<Kept> {
        let found = self.young.borrow().get(&key).cloned();
        if let Some(kept) = found {
            self.hits.set(self.hits.get() + 1);
            return Some(kept);
        }
        let moved = self.old.borrow_mut().remove(&key);
        match moved {
            Some(kept) => {
                self.hits.set(self.hits.get() + 1);
                self.old_bytes.set(self.old_bytes.get() - kept.bytes());
                self.keep(key, kept.clone());
                Some(kept)
            }
            None => {
                self.misses.set(self.misses.get() + 1);
                None
            }
        }
    }

    pub fn keep(&self, key: Key, kept: Kept) {
        let bytes = kept.bytes();
        if bytes > self.half_bytes.get() {
            return;
        }
        if self.young_bytes.get() + bytes > self.half_bytes.get() {
            self.old.replace(self.young.take());
            self.old_bytes.set(self.young_bytes.replace(0));
        }
        let replaced = self.young.borrow_mut().insert(key, kept).map_or(0, |k| k.bytes());
        self.young_bytes.set(self.young_bytes.get() + bytes - replaced);
    }

    /// Lets go of everything that was read of a block.
    pub fn forget(&self, block: u64) {
        for (map, bytes) in [(&self.young, &self.young_bytes), (&self.old, &self.old_bytes)] {
            map.borrow_mut().retain(|key, kept| {
                let stays = key.0 != block;
                if !stays {
                    bytes.set(bytes.get() - kept.bytes());
                }
                stays
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_asked_for() {
        let cache = Cache::new(100_000);
        let body = || Kept::Body(vec![0u8; 1000].into());
        cache.keep((1, 0), body());
        for i in 1..10_000 {
            cache.keep((1, i), body());
            assert!(cache.bytes() <= 100_000);
            assert!(cache.find((1, 0)).is_some(), "asked for at {i}");
        }
        assert!(cache.find((1, 5)).is_none());
        cache.keep((2, 7), body());
        cache.keep((2, 7), body());
        cache.forget(1);
        assert_eq!(cache.bytes(), 1096);
        assert!(cache.find((2, 7)).is_some() && cache.find((1, 0)).is_none());
        cache.keep((3, 0), Kept::Body(vec![0u8; 60_000].into()));
        assert!(cache.find((3, 0)).is_none(), "larger than a generation");
    }
}
