//! topk and bottomk: a bounded heap with the worst kept value on top.

/// Which values are the better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// topk: great values.
    Top,
    /// bottomk: small values.
    Bottom,
}

/// The best `k` of the values offered. What is not a number is kept only for want of numbers.
///
/// Among equal values, which ones stay depends on the order of offering exactly as it does in the reference (a
/// newcomer never displaces its equal, but of several equals any may be on top of the heap when a better one
/// comes): offer in label order to have the same answer however the series are spread over shards.
#[derive(Clone, Debug)]
pub struct TopK<T> {
    heap: Vec<(f64, T)>,
    k: usize,
    direction: Direction,
}

impl<T> TopK<T> {
    /// A heap for `k` values; with `k` of 0 nothing is kept.
    pub fn new(direction: Direction, k: usize) -> TopK<T> {
        TopK { heap: Vec::new(), k, direction }
    }

    /// Whether `a` belongs above `b` in the heap: it is the worse.
    fn worse(&self, a: f64, b: f64) -> bool {
        a.is_nan() || if self.direction == Direction::Top { a < b } else { a > b }
    }

    /// Whether a value would be kept if it were offered now.
    pub fn would_keep(&self, v: f64) -> bool {
        if self.heap.len() < self.k {
            return true;
        }
        let Some(&(worst, _)) = self.heap.first() else { return false };
        let better = if self.direction == Direction::Top { worst < v } else { worst > v };
        better || (worst.is_nan() && !v.is_nan())
    }

    /// Offers a value; says whether it was kept (for now).
    pub fn offer(&mut self, v: f64, item: T) -> bool {
        if !self.would_keep(v) {
            return false;
        }
        if self.heap.len() < self.k {
            self.heap.push((v, item));
            self.sift_up();
        } else {
            self.heap[0] = (v, item);
            self.sift_down();
        }
        true
    }

    fn sift_up(&mut self) {
        let mut child = self.heap.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !self.worse(self.heap[child].0, self.heap[parent].0) {
                break;
            }
            self.heap.swap(child, parent);
            child = parent;
        }
    }

    fn sift_down(&mut self) {
        let mut parent = 0;
        loop {
            let left = 2 * parent + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let right_is_worse = right < self.heap.len() && self.worse(self.heap[right].0, self.heap[left].0);
            let child = if right_is_worse { right } else { left };
            if !self.worse(self.heap[child].0, self.heap[parent].0) {
                break;
            }
            self.heap.swap(child, parent);
            parent = child;
        }
    }

    /// What was kept, the best first; equal values as they lie in the heap.
    pub fn into_sorted(self) -> Vec<(f64, T)> {
        let direction = self.direction;
        let mut heap = self.heap;
        heap.sort_by(|a, b| match direction {
            Direction::Top => crate::quantile::ascending(&b.0, &a.0),
            Direction::Bottom => {
                // NaN last on this side too.
                a.0.is_nan().cmp(&b.0.is_nan()).then_with(|| crate::quantile::ascending(&a.0, &b.0))
            }
        });
        // The reference's sort lets each NaN pass those before it.
        let numbers = heap.partition_point(|(v, _)| !v.is_nan());
        heap[numbers..].reverse();
        heap
    }
}
