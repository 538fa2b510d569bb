//! Who sleeps until when: one heap for all sleepers of a shard, so that thousands of them cost one timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

use crate::rt::clock::Moment;

/// Names one sleeper; worthless once it has fired or was canceled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    slot: u32,
    generation: u32,
}

#[derive(Default)]
pub(crate) struct Wheel {
    /// Canceled sleepers stay here until their time comes or they outnumber the living.
    heap: BinaryHeap<Reverse<(Moment, Key)>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    waker: Option<Waker>,
}

/// Below this many entries a heap is not worth sweeping.
const SWEEP_MIN: usize = 64;

impl Wheel {
    pub(crate) fn insert(&mut self, at: Moment, waker: Waker) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, waker: None });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.waker = Some(waker);
        let key = Key { slot, generation: entry.generation };
        self.heap.push(Reverse((at, key)));
        key
    }

    /// Keeps the newest waker of a sleeper; false when it has fired.
    pub(crate) fn update(&mut self, key: Key, waker: &Waker) -> bool {
        let Some(entry) = self.living(key) else { return false };
        if !entry.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            entry.waker = Some(waker.clone());
        }
        true
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        if self.living(key).is_some() {
            drop(self.release(key));
            self.sweep();
        }
    }

    /// Moves the wakers of all who are due to `woken`.
    pub(crate) fn fire(&mut self, now: Moment, woken: &mut Vec<Waker>) {
        while let Some(Reverse((at, key))) = self.heap.peek().copied() {
            if at > now {
                break;
            }
            self.heap.pop();
            if self.living(key).is_some() {
                woken.extend(self.release(key));
            }
        }
    }

    /// When the next sleeper is due.
    pub(crate) fn earliest(&mut self) -> Option<Moment> {
        while let Some(Reverse((at, key))) = self.heap.peek().copied() {
            if self.living(key).is_some() {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn living(&mut self, key: Key) -> Option<&mut Slot> {
        let entry = self.slots.get_mut(key.slot as usize)?;
        (entry.generation == key.generation && entry.waker.is_some()).then_some(entry)
    }

    fn release(&mut self, key: Key) -> Option<Waker> {
        let entry = &mut self.slots[key.slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        entry.waker.take()
    }

    /// A scrape that answers in a millisecond cancels a deadline ten seconds away; without this the heap would
    /// hold ten seconds' worth of them.
    fn sweep(&mut self) {
        if self.heap.len() < SWEEP_MIN || self.heap.len() < 2 * self.len() {
            return;
        }
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.retain(|Reverse((_, key))| self.living(*key).is_some());
        self.heap = entries.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::rng::Rng;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn fired(wheel: &mut Wheel, now: u64) -> usize {
        let mut woken = Vec::new();
        wheel.fire(at(now), &mut woken);
        woken.len()
    }

    #[test]
    fn sleepers_fire_once_and_in_time() {
        let mut wheel = Wheel::default();
        for due in [30, 10, 20] {
            wheel.insert(at(due), Waker::noop().clone());
        }
        assert_eq!(wheel.earliest(), Some(at(10)));
        assert_eq!([fired(&mut wheel, 9), fired(&mut wheel, 20), fired(&mut wheel, 99)], [0, 2, 1]);
        assert_eq!((wheel.len(), wheel.earliest()), (0, None));
    }

    #[test]
    fn a_canceled_sleeper_never_fires_and_its_key_is_dead() {
        let mut wheel = Wheel::default();
        let key = wheel.insert(at(5), Waker::noop().clone());
        wheel.cancel(key);
        wheel.cancel(key);
        let next = wheel.insert(at(7), Waker::noop().clone());
        assert!(!wheel.update(key, Waker::noop()));
        assert!(wheel.update(next, Waker::noop()));
        assert_eq!(fired(&mut wheel, 6), 0);
        assert_eq!(fired(&mut wheel, 7), 1);
    }

    #[test]
    fn the_newest_waker_is_woken() {
        let count = Arc::new(Count(AtomicU32::new(0)));
        let mut wheel = Wheel::default();
        let key = wheel.insert(at(1), Waker::noop().clone());
        wheel.update(key, &count.clone().into());
        let mut woken = Vec::new();
        wheel.fire(at(1), &mut woken);
        woken.into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn canceled_sleepers_do_not_pile_up() {
        let mut wheel = Wheel::default();
        for n in 0..100_000 {
            let key = wheel.insert(at(1_000_000 + n), Waker::noop().clone());
            wheel.cancel(key);
        }
        assert!(wheel.heap.len() <= SWEEP_MIN, "{} left", wheel.heap.len());
        assert_eq!(wheel.slots.len(), 1);
    }

    #[test]
    fn it_agrees_with_a_sorted_list() {
        let mut rng = Rng::seeded(3);
        let (mut wheel, mut list) = (Wheel::default(), Vec::new());
        for now in 0..5_000u64 {
            match rng.below(3) {
                0 | 1 => {
                    let due = now + rng.below(400);
                    list.push((due, wheel.insert(at(due), Waker::noop().clone())));
                }
                _ if !list.is_empty() => {
                    let (_, key) = list.swap_remove(rng.below(list.len() as u64) as usize);
                    wheel.cancel(key);
                }
                _ => {}
            }
            let due = list.iter().filter(|(due, _)| *due <= now).count();
            assert_eq!(fired(&mut wheel, now), due);
            list.retain(|(due, _)| *due > now);
            assert_eq!(wheel.len(), list.len());
            assert_eq!(wheel.earliest(), list.iter().map(|(due, _)| at(*due)).min());
        }
    }
}
