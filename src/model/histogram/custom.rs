//! Histograms whose custom bounds differ: both are mapped to the bounds they share.

use super::FloatHistogram;
use super::iter::{Indexed, Side};
use super::layout::{SpanBuilder, at};
use crate::kahan;

/// Bounds that both ascending lists have.
pub(super) fn intersect_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let (mut i, mut j) = (0, 0);
    let mut common = Vec::new();
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            common.push(a[i]);
            i += 1;
            j += 1;
        } else if a[i] < b[j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    common
}

/// Adds `other` to `own` (or subtracts it) over the bounds they share. Each sum is compensated; the compensations
/// are kept if `comp` asks for them and dropped otherwise.
pub(super) fn combine_mismatched(
    own: &mut FloatHistogram,
    other: &FloatHistogram,
    negative: bool,
    comp: Option<&mut Vec<f64>>,
) {
    let bounds = intersect_bounds(&own.custom_values, &other.custom_values);
    let mut sums = vec![(0.0, 0.0); bounds.len() + 1];
    let kept: &[f64] = comp.as_deref().map_or(&[], |c| c);
    map_side(own, &bounds, |target, pos, count| {
        let slot: &mut (f64, f64) = &mut sums[target];
        *slot = kahan::inc(count, slot.0, slot.1);
        if !kept.is_empty() {
            *slot = kahan::inc(at(kept, pos), slot.0, slot.1);
        }
    });
    map_side(other, &bounds, |target, _, count| {
        let slot: &mut (f64, f64) = &mut sums[target];
        *slot = kahan::inc(if negative { -count } else { count }, slot.0, slot.1);
    });
    let mut built = SpanBuilder::default();
    own.positive_buckets.clear();
    let mut comps = Vec::new();
    for (idx, &(sum, c)) in sums.iter().enumerate() {
        if sum != 0.0 || c != 0.0 {
            built.push(idx as i64);
            own.positive_buckets.push(sum);
            comps.push(c);
        }
    }
    own.positive_spans = built.spans;
    own.custom_values = bounds;
    if let Some(comp) = comp {
        *comp = comps;
    }
}

/// Calls `each(target bucket, position, count)` for every bucket; `bounds` is a subset of the histogram's.
fn map_side(h: &FloatHistogram, bounds: &[f64], mut each: impl FnMut(usize, usize, f64)) {
    let mut next = 0;
    for (pos, (idx, count)) in Indexed::new(&h.positive_spans, &h.positive_buckets).enumerate() {
        let own_bound = usize::try_from(idx).ok().and_then(|i| h.custom_values.get(i));
        let target = match own_bound {
            None => bounds.len(),
            Some(bound) => {
                while next < bounds.len() && bounds[next] < *bound {
                    next += 1;
                }
                next
            }
        };
        each(target, pos, count);
    }
}

/// Whether, over the bounds both share, any count went down from `previous` to `current`.
pub(super) fn mismatched_reset(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    let bounds = intersect_bounds(&current.custom_values, &previous.custom_values);
    let mut now = Rollup::new(current);
    let mut before = Rollup::new(previous);
    bounds.iter().copied().chain([f64::INFINITY]).any(|bound| {
        let now = now.up_to(bound);
        now < before.up_to(bound)
    })
}

/// Counts summed up from bound to bound.
struct Rollup<'a> {
    h: &'a FloatHistogram,
    inner: std::iter::Peekable<Indexed<'a, f64>>,
}

impl<'a> Rollup<'a> {
    fn new(h: &'a FloatHistogram) -> Self {
        Rollup { h, inner: h.indexed(Side::Positive).peekable() }
    }

    fn up_to(&mut self, bound: f64) -> f64 {
        let mut sum = 0.0;
        while let Some(&(idx, count)) = self.inner.peek()
            && self.h.bucket(Side::Positive, idx, count).upper <= bound
        {
            sum += count;
            self.inner.next();
        }
        sum
    }
}
