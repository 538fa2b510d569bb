//! Running totals of what senders only tell by what came since their last point.
//!
//! The rules are those of the processor that Prometheus has for it: a stream's first point is its first total; a
//! point that began before its stream, or is not newer than it, is dropped; who says nothing for five minutes begins
//! anew.

use exposition::otlp::{Buckets, Common, ExponentialPoint, HistogramPoint, NumberPoint};
use hashbrown::HashMap;
use model::Timestamp;

/// A stream that is silent for longer is forgotten.
const SILENT_MS_MAX: Timestamp = 5 * 60_000;

/// How often silent streams are looked for.
const SWEEP_MS: Timestamp = 60_000;

/// What all totals may take: two million counters, or 100 000 histograms of 160 buckets on each side. New streams
/// beyond it are dropped.
const BYTES_MAX: usize = 256 << 20;

/// Buckets that a side of an exponential histogram has at most; a wider one gets coarser.
const BUCKETS_MAX: i64 = 160;

/// What identifies a stream: a hash of its resource, scope, metric and attributes.
pub(super) type StreamId = u128;

#[derive(Default)]
pub struct Totals {
    streams: HashMap<StreamId, Stream>,
    bytes: usize,
    swept_ms: Timestamp,
}

struct Stream {
    /// When its first point began, and the time of its last one, in ns.
    start: u64,
    time: u64,
    seen_ms: Timestamp,
    total: Total,
}

enum Total {
    Number(f64),
    Explicit(Box<Explicit>),
    Exponential(Box<Exponential>),
}

#[derive(Clone, Default)]
struct Explicit {
    count: u64,
    sum: Option<f64>,
    bucket_counts: Vec<u64>,
    bounds: Vec<f64>,
}

#[derive(Clone, Default)]
struct Exponential {
    count: u64,
    sum: Option<f64>,
    scale: i32,
    zero_count: u64,
    zero_threshold: f64,
    positive: Buckets,
    negative: Buckets,
}

/// A point of some kind, and its stream's total.
trait Point {
    fn common(&self) -> &Common<'_>;
    /// The total that it begins.
    fn begin(&self) -> Total;
    /// Adds it to a total of its kind, and makes it that; false where the total is of another kind.
    fn add_to(&mut self, total: &mut Total) -> bool;
}

impl Stream {
    fn bytes(&self) -> usize {
        let heap = match &self.total {
            Total::Number(_) => 0,
            Total::Explicit(e) => 80 + 8 * (e.bucket_counts.len() + e.bounds.len()),
            Total::Exponential(e) => 120 + 8 * (e.positive.counts.len() + e.negative.counts.len()),
        };
        // With its entry in the table.
        96 + heap
    }
}

impl Totals {
    /// Forgets streams that said nothing for a while.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if (self.swept_ms..self.swept_ms.saturating_add(SWEEP_MS)).contains(&now) {
            return;
        }
        self.swept_ms = now;
        self.streams.retain(|_, s| now.saturating_sub(s.seen_ms) <= SILENT_MS_MAX);
        self.bytes = self.streams.values().map(Stream::bytes).sum();
    }

    pub(super) fn number(&mut self, id: StreamId, point: &mut NumberPoint<'_>, now: Timestamp) -> bool {
        self.add(id, point, now)
    }

    pub(super) fn explicit(&mut self, id: StreamId, point: &mut HistogramPoint<'_>, now: Timestamp) -> bool {
        self.add(id, point, now)
    }

    pub(super) fn exponential(
        &mut self,
        id: StreamId,
        point: &mut ExponentialPoint<'_>,
        now: Timestamp,
    ) -> bool {
        self.add(id, point, now)
    }

    /// Makes a point the total of its stream; false where it is to be dropped.
    fn add(&mut self, id: StreamId, point: &mut impl Point, now: Timestamp) -> bool {
        let (start, time) = (point.common().start, point.common().time);
        let Some(stream) = self.streams.get_mut(&id) else {
            let stream = Stream { start, time, seen_ms: now, total: point.begin() };
            if self.bytes + stream.bytes() > BYTES_MAX {
                return false;
            }
            self.bytes += stream.bytes();
            self.streams.insert(id, stream);
            return true;
        };
        stream.seen_ms = now;
        if start < stream.start || time <= stream.time {
            return false;
        }
        let before = stream.bytes();
        if !point.add_to(&mut stream.total) {
            return false;
        }
        stream.time = time;
        self.bytes = (self.bytes + stream.bytes()).saturating_sub(before);
        true
    }
}

impl Point for NumberPoint<'_> {
    fn common(&self) -> &Common<'_> {
        &self.common
    }

    fn begin(&self) -> Total {
        Total::Number(self.value)
    }

    fn add_to(&mut self, total: &mut Total) -> bool {
        let Total::Number(total) = total else { return false };
        *total += self.value;
        self.value = *total;
        true
    }
}

/// A sum is known only as long as every point has one.
fn sum_of(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.zip(b).map(|(a, b)| a + b)
}

impl Point for HistogramPoint<'_> {
    fn common(&self) -> &Common<'_> {
        &self.common
    }

    fn begin(&self) -> Total {
        Total::Explicit(Box::new(Explicit {
            count: self.count,
            sum: self.sum,
            bucket_counts: self.bucket_counts.clone(),
            bounds: self.bounds.clone(),
        }))
    }

    fn add_to(&mut self, total: &mut Total) -> bool {
        let Total::Explicit(all) = total else { return false };
        if all.bounds != self.bounds {
            // Counts between other bounds cannot be added: they begin anew.
            *total = self.begin();
            return true;
        }
        all.bucket_counts.iter_mut().zip(&self.bucket_counts).for_each(|(a, b)| *a = a.wrapping_add(*b));
        all.count = all.count.wrapping_add(self.count);
        all.sum = sum_of(all.sum, self.sum);
        (self.count, self.sum) = (all.count, all.sum);
        self.bucket_counts.clone_from(&all.bucket_counts);
        true
    }
}

impl Point for ExponentialPoint<'_> {
    fn common(&self) -> &Common<'_> {
        &self.common
    }

    fn begin(&self) -> Total {
        Total::Exponential(Box::new(Exponential::of(self)))
    }

    fn add_to(&mut self, total: &mut Total) -> bool {
        let Total::Exponential(all) = total else { return false };
        all.add(Exponential::of(self));
        (self.count, self.sum, self.zero_count) = (all.count, all.sum, all.zero_count);
        (self.scale, self.zero_threshold) = (all.scale, all.zero_threshold);
        self.positive.clone_from(&all.positive);
        self.negative.clone_from(&all.negative);
        true
    }
}

impl Exponential {
    fn of(p: &ExponentialPoint<'_>) -> Self {
        Exponential {
            count: p.count,
            sum: p.sum,
            scale: p.scale,
            zero_count: p.zero_count,
            zero_threshold: p.zero_threshold,
            positive: p.positive.clone(),
            negative: p.negative.clone(),
        }
    }

    fn add(&mut self, mut other: Exponential) {
        let scale = self.scale.min(other.scale);
        self.coarsen_to(scale);
        other.coarsen_to(scale);
        let down = excess(&self.positive, &other.positive).max(excess(&self.negative, &other.negative));
        let scale = scale.saturating_sub(down);
        self.coarsen_to(scale);
        other.coarsen_to(scale);
        if self.zero_threshold < other.zero_threshold {
            self.widen_zero(other.zero_threshold);
        } else if other.zero_threshold < self.zero_threshold {
            other.widen_zero(self.zero_threshold);
        }
        merge(&mut self.positive, &other.positive);
        merge(&mut self.negative, &other.negative);
        self.count = self.count.wrapping_add(other.count);
        self.zero_count = self.zero_count.wrapping_add(other.zero_count);
        self.sum = sum_of(self.sum, other.sum);
    }

    fn coarsen_to(&mut self, scale: i32) {
        let by = (i64::from(self.scale) - i64::from(scale)).clamp(0, 32) as u32;
        self.scale = scale;
        coarsen(&mut self.positive, by);
        coarsen(&mut self.negative, by);
    }

    /// Counts what lies in buckets that begin below `threshold` as zeros.
    fn widen_zero(&mut self, threshold: f64) {
        let width = 2f64.powi(self.scale);
        let last = bucket_of(threshold, width);
        for side in [&mut self.positive, &mut self.negative] {
            let covered = (last - i64::from(side.offset) + 1).clamp(0, side.counts.len() as i64) as usize;
            let zeros = side.counts.drain(..covered).fold(0u64, u64::wrapping_add);
            self.zero_count = self.zero_count.wrapping_add(zeros);
            side.offset = side.offset.saturating_add(covered as i32);
        }
        // The upper bound of the last bucket that it covers.
        self.zero_threshold = ((last + 1) as f64 / width).exp2();
    }
}

/// The bucket that `value` falls into where `width` of them double it: each holds its upper bound.
fn bucket_of(value: f64, width: f64) -> i64 {
    let log = value.log2();
    // Powers of two lie on bounds, and must not fall beside them by rounding.
    let index = if log.fract() == 0.0 && log.exp2() == value {
        (log * width).ceil() - 1.0
    } else {
        (log * width).floor()
    };
    index as i64
}

fn coarsen(side: &mut Buckets, by: u32) {
    if by == 0 || side.counts.is_empty() {
        return;
    }
    let first = i64::from(side.offset) >> by;
    let mut counts: Vec<u64> = Vec::new();
    for (i, c) in side.counts.iter().enumerate() {
        let at = (((i64::from(side.offset) + i as i64) >> by) - first) as usize;
        if counts.len() <= at {
            counts.push(0);
        }
        counts[at] = counts[at].wrapping_add(*c);
    }
    *side = Buckets { offset: first as i32, counts };
}

/// First and one past the last bucket that holds something.
fn span(side: &Buckets) -> Option<(i64, i64)> {
    let first = side.counts.iter().position(|c| *c != 0)? as i64;
    let last = side.counts.iter().rposition(|c| *c != 0)? as i64;
    let offset = i64::from(side.offset);
    Some((offset + first, offset + last + 1))
}

fn union(a: &Buckets, b: &Buckets) -> Option<(i64, i64)> {
    match (span(a), span(b)) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// How often buckets must be merged in pairs before both sides fit into the most there may be.
fn excess(a: &Buckets, b: &Buckets) -> i32 {
    let Some((mut low, mut high)) = union(a, b) else { return 0 };
    let mut down = 0;
    while high - low > BUCKETS_MAX {
        (low, high) = (low / 2, high / 2);
        down += 1;
    }
    down
}

/// Adds `other`, of the same scale, to `side`; both fit into a few hundred buckets by now.
fn merge(side: &mut Buckets, other: &Buckets) {
    let Some((low, high)) = union(side, other) else { return };
    let mut counts = vec![0u64; (high - low) as usize];
    for from in [&*side, other] {
        for (i, c) in from.counts.iter().enumerate().filter(|(_, c)| **c != 0) {
            let at = (i64::from(from.offset) + i as i64 - low) as usize;
            counts[at] = counts[at].wrapping_add(*c);
        }
    }
    *side = Buckets { offset: low as i32, counts };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Exponential {
        let positive = Buckets { offset, counts: counts.to_vec() };
        Exponential { scale, positive, count: counts.iter().sum(), sum: Some(1.0), ..Exponential::default() }
    }

    fn check(mut all: Exponential, other: Exponential, scale: i32, offset: i32, counts: &[u64]) {
        all.add(other);
        assert_eq!((all.scale, all.positive.offset, &all.positive.counts[..]), (scale, offset, counts));
    }

    #[test]
    fn exponential_buckets_are_added_at_the_coarser_scale() {
        check(exponential(0, 1, &[1, 2]), exponential(0, 2, &[3, 4]), 0, 1, &[1, 5, 4]);
        check(exponential(1, -1, &[1, 2, 3]), exponential(0, 0, &[5]), 0, -1, &[1, 10]);
        check(exponential(0, 0, &[0, 0]), exponential(0, 7, &[0, 1]), 0, 8, &[1]);
        // 0..=319 in one: two of them to one, and 160 are left.
        check(exponential(3, 0, &[1]), exponential(3, 319, &[1]), 2, 0, &{
            let mut wide = [0; 160];
            (wide[0], wide[159]) = (1, 1);
            wide
        });
        check(exponential(i32::MIN, 0, &[1]), exponential(i32::MAX, 5, &[1]), i32::MIN, 0, &[2]);
    }

    #[test]
    fn a_wider_zero_takes_the_buckets_it_covers() {
        // At scale 0 bucket 1 is (2, 4].
        let narrow = exponential(0, 0, &[1, 2, 4]);
        let wide = Exponential { zero_threshold: 3.0, ..exponential(0, 5, &[8]) };
        let mut all = narrow;
        all.add(wide);
        assert_eq!((all.zero_count, all.zero_threshold), (3, 4.0));
        assert_eq!((all.positive.offset, &all.positive.counts[..]), (2, &[4, 0, 0, 8][..]));
        assert_eq!((bucket_of(4.0, 1.0), bucket_of(4.1, 1.0), bucket_of(0.25, 2.0)), (1, 2, -5));
    }

    #[test]
    fn streams_are_forgotten_when_they_say_nothing() {
        let mut totals = Totals::default();
        let mut say = |time: u64, value: f64, now: Timestamp| {
            let mut point = NumberPoint { value, ..NumberPoint::default() };
            (point.common.start, point.common.time) = (5, time);
            totals.sweep(now);
            totals.number(1, &mut point, now).then_some(point.value)
        };
        assert_eq!(say(10, 2.0, 0), Some(2.0));
        assert_eq!(say(20, 3.0, 60_000), Some(5.0));
        assert_eq!(say(20, 3.0, 60_000), None, "the same again");
        assert_eq!(say(30, 1.0, 360_000), Some(6.0));
        assert_eq!(say(40, 1.0, 720_001), Some(1.0), "after six minutes of silence");
    }
}
