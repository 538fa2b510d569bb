//! Adding and subtracting histograms, plainly or with compensation, over whatever bucket layouts they have.

use super::bounds::exponential_bound;
use super::custom;
use super::iter::{Indexed, Side};
use super::layout::{SpanBuilder, at, compact_side, reduce_side};
use super::{CounterResetHint, FloatHistogram, HistogramError, Merged, SCHEMA_CUSTOM, Span};
use crate::kahan;

/// One side of the histogram that is added: its buckets, their compensations if it was reduced, and its sign.
struct Addend<'a> {
    spans: &'a [Span],
    counts: &'a [f64],
    comp: &'a [f64],
    negative: bool,
}

/// Where compensations go.
enum Sum<'a> {
    Plain,
    Kahan(&'a mut Vec<f64>),
}

impl FloatHistogram {
    /// Multiplies every count and the sum. A negative factor makes a gauge of it.
    pub fn mul(&mut self, factor: f64) {
        self.each_count(|v| v * factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Divides every count and the sum; division by zero leaves no buckets.
    pub fn div(&mut self, scalar: f64) {
        if scalar == 0.0 {
            self.positive_buckets.clear();
            self.negative_buckets.clear();
            self.positive_spans.clear();
            self.negative_spans.clear();
        }
        self.each_count(|v| v / scalar);
        if scalar < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    fn each_count(&mut self, f: impl Fn(f64) -> f64) {
        self.zero_count = f(self.zero_count);
        self.count = f(self.count);
        self.sum = f(self.sum);
        self.positive_buckets.iter_mut().chain(&mut self.negative_buckets).for_each(|v| *v = f(*v));
    }

    /// Adds `other`: lower resolution, wider zero bucket and common custom bounds win. The result may hold empty
    /// buckets; [`Self::compact`] drops them.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Merged, HistogramError> {
        self.combine(other, false)
    }

    /// Subtracts `other`, as [`Self::add`] adds it.
    pub fn sub(&mut self, other: &FloatHistogram) -> Result<Merged, HistogramError> {
        self.combine(other, true)
    }

    fn combine(&mut self, other: &FloatHistogram, negative: bool) -> Result<Merged, HistogramError> {
        self.check_same_kind(other)?;
        let counter_reset_collision = self.merge_hint(other.counter_reset_hint);
        let sign = if negative { -1.0 } else { 1.0 };
        if !self.uses_custom_buckets() {
            let (other_zero, _) = self.reconcile_zero(other, None);
            self.zero_count += sign * other_zero;
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        let bounds_reconciled = self.uses_custom_buckets() && self.custom_values != other.custom_values;
        if bounds_reconciled {
            custom::combine_mismatched(self, other, negative, None);
            return Ok(Merged { counter_reset_collision, bounds_reconciled });
        }
        if other.schema < self.schema {
            // Cannot fail: both are exponential and the target is coarser.
            self.reduce_resolution(other.schema)?;
        }
        for side in [Side::Positive, Side::Negative] {
            self.add_side(other, side, negative);
        }
        Ok(Merged { counter_reset_collision, bounds_reconciled })
    }

    fn add_side(&mut self, other: &FloatHistogram, side: Side, negative: bool) {
        let (spans, counts) = other.side(side);
        let reduced;
        let (spans, counts) = if other.schema > self.schema {
            reduced = reduce_side(spans, counts, None, other.schema, self.schema);
            (&reduced.0[..], &reduced.1[..])
        } else {
            (spans, counts)
        };
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let (own_spans, own_counts) = self.side_mut(side);
        let addend = Addend { spans, counts, comp: &[], negative };
        merge_side(own_spans, own_counts, Sum::Plain, addend, schema, threshold);
    }

    /// Adds `other` with compensation. `comp` holds what rounding has taken so far, laid out as `self`; give
    /// `None` at first and the same variable ever after.
    pub fn kahan_add(
        &mut self,
        other: &FloatHistogram,
        comp: &mut Option<FloatHistogram>,
    ) -> Result<Merged, HistogramError> {
        self.check_same_kind(other)?;
        let counter_reset_collision = self.merge_hint(other.counter_reset_hint);
        let c = comp.get_or_insert_with(|| self.empty_twin());
        if !self.uses_custom_buckets() {
            let (other_zero, other_zero_comp) = self.reconcile_zero(other, Some(c));
            (self.zero_count, c.zero_count) = kahan::inc(other_zero, self.zero_count, c.zero_count);
            (self.zero_count, c.zero_count) = kahan::inc(other_zero_comp, self.zero_count, c.zero_count);
        }
        (self.count, c.count) = kahan::inc(other.count, self.count, c.count);
        (self.sum, c.sum) = kahan::inc(other.sum, self.sum, c.sum);
        let bounds_reconciled = self.uses_custom_buckets() && self.custom_values != other.custom_values;
        if bounds_reconciled {
            custom::combine_mismatched(self, other, false, Some(&mut c.positive_buckets));
            c.custom_values.clone_from(&self.custom_values);
            c.positive_spans.clone_from(&self.positive_spans);
            return Ok(Merged { counter_reset_collision, bounds_reconciled });
        }
        for side in [Side::Positive, Side::Negative] {
            self.kahan_add_side(other, c, side);
        }
        if other.schema < self.schema {
            self.schema = other.schema;
        }
        c.schema = self.schema;
        c.zero_threshold = self.zero_threshold;
        c.positive_spans.clone_from(&self.positive_spans);
        c.negative_spans.clone_from(&self.negative_spans);
        Ok(Merged { counter_reset_collision, bounds_reconciled })
    }

    /// One side of [`Self::kahan_add`]; leaves `self.schema` as it was, for the other side's sake.
    fn kahan_add_side(&mut self, other: &FloatHistogram, c: &mut FloatHistogram, side: Side) {
        let target = self.schema.min(other.schema);
        let (own_schema, threshold) = (self.schema, self.zero_threshold);
        let (own_spans, own_counts) = self.side_mut(side);
        let own_comp = c.side_mut(side).1;
        own_comp.resize(own_counts.len(), 0.0);
        if target < own_schema {
            (*own_spans, *own_counts, *own_comp) =
                reduce_side(own_spans, own_counts, Some(own_comp), own_schema, target);
        }
        let (spans, counts) = other.side(side);
        let reduced;
        let addend = if other.schema > target {
            reduced = reduce_side(spans, counts, Some(&[]), other.schema, target);
            Addend { spans: &reduced.0, counts: &reduced.1, comp: &reduced.2, negative: false }
        } else {
            Addend { spans, counts, comp: &[], negative: false }
        };
        merge_side(own_spans, own_counts, Sum::Kahan(own_comp), addend, target, threshold);
    }

    fn side(&self, side: Side) -> (&[Span], &[f64]) {
        match side {
            Side::Positive => (&self.positive_spans, &self.positive_buckets),
            Side::Negative => (&self.negative_spans, &self.negative_buckets),
        }
    }

    fn side_mut(&mut self, side: Side) -> (&mut Vec<Span>, &mut Vec<f64>) {
        match side {
            Side::Positive => (&mut self.positive_spans, &mut self.positive_buckets),
            Side::Negative => (&mut self.negative_spans, &mut self.negative_buckets),
        }
    }

    /// A histogram of zeros with this one's layout.
    fn empty_twin(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            custom_values: self.custom_values.clone(),
            positive_spans: self.positive_spans.clone(),
            positive_buckets: vec![0.0; self.positive_buckets.len()],
            negative_spans: self.negative_spans.clone(),
            negative_buckets: vec![0.0; self.negative_buckets.len()],
            ..FloatHistogram::default()
        }
    }

    fn check_same_kind(&self, other: &FloatHistogram) -> Result<(), HistogramError> {
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(HistogramError::IncompatibleSchemas);
        }
        Ok(())
    }

    /// The hint of a sum: a gauge makes a gauge, an unknown an unknown; "reset" against "not reset" is a collision.
    fn merge_hint(&mut self, other: CounterResetHint) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        match (self.counter_reset_hint, other) {
            (own, other) if own == other => false,
            (Gauge, _) => false,
            (_, Gauge) => {
                self.counter_reset_hint = Gauge;
                false
            }
            (Unknown, _) => false,
            (_, Unknown) => {
                self.counter_reset_hint = Unknown;
                false
            }
            _ => {
                self.counter_reset_hint = Unknown;
                true
            }
        }
    }

    /// Widens the zero bucket of `self` until neither histogram's wider one cuts a populated bucket of the other.
    /// Returns the zero count `other` would have with it, and that count's compensation.
    fn reconcile_zero(&mut self, other: &FloatHistogram, mut c: Option<&mut FloatHistogram>) -> (f64, f64) {
        let mut other_count = other.zero_count;
        let mut other_comp = 0.0;
        let mut other_threshold = other.zero_threshold;
        // Each round moves a threshold over at least one bucket; a threshold that is not a number never settles.
        let rounds = 2 + self.positive_buckets.len() + self.negative_buckets.len();
        for _ in 0..rounds + other.positive_buckets.len() + other.negative_buckets.len() {
            if other_threshold == self.zero_threshold {
                break;
            }
            if self.zero_threshold > other_threshold {
                (other_count, other_threshold, other_comp) = other.zero_count_for(self.zero_threshold, None);
            }
            if other_threshold > self.zero_threshold {
                let (count, threshold, comp) = self.zero_count_for(other_threshold, c.as_deref());
                self.zero_count = count;
                self.zero_threshold = threshold;
                if let Some(c) = c.as_deref_mut() {
                    c.zero_count = comp;
                }
                self.drop_buckets_in_zero(c.as_deref_mut());
            }
        }
        (other_count, other_comp)
    }

    /// (zero count, threshold, compensation) this histogram would have with a zero bucket at least as wide as
    /// `threshold`, which grows to the bound of a populated bucket it falls into.
    pub(super) fn zero_count_for(&self, mut threshold: f64, c: Option<&FloatHistogram>) -> (f64, f64, f64) {
        let mut comp = c.map_or(0.0, |c| c.zero_count);
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold, comp);
        }
        'wider: loop {
            let mut count = self.zero_count;
            for (pos, b) in self.positive().enumerate() {
                if b.lower >= threshold {
                    break;
                }
                (count, comp) = kahan::inc(b.count, count, comp);
                if let Some(c) = c {
                    (count, comp) = kahan::inc(at(&c.positive_buckets, pos), count, comp);
                }
                if b.upper > threshold {
                    if b.count != 0.0 {
                        threshold = b.upper;
                    }
                    break;
                }
            }
            for (pos, b) in self.negative().enumerate() {
                if b.upper <= -threshold {
                    break;
                }
                (count, comp) = kahan::inc(b.count, count, comp);
                if let Some(c) = c {
                    (count, comp) = kahan::inc(at(&c.negative_buckets, pos), count, comp);
                }
                if b.lower < -threshold {
                    if b.count != 0.0 {
                        // What was taken from the positive side is no longer all that belongs in.
                        threshold = -b.lower;
                        continue 'wider;
                    }
                    break;
                }
            }
            return (count, threshold, comp);
        }
    }

    /// Drops the buckets that the zero bucket has swallowed.
    fn drop_buckets_in_zero(&mut self, c: Option<&mut FloatHistogram>) {
        let threshold = self.zero_threshold;
        let positive = self.positive().take_while(|b| b.lower < threshold).count();
        let negative = self.negative().take_while(|b| b.upper > -threshold).count();
        self.positive_buckets.iter_mut().take(positive).for_each(|v| *v = 0.0);
        self.negative_buckets.iter_mut().take(negative).for_each(|v| *v = 0.0);
        let Some(c) = c else { return self.compact(0) };
        c.positive_buckets.iter_mut().take(positive).for_each(|v| *v = 0.0);
        c.negative_buckets.iter_mut().take(negative).for_each(|v| *v = 0.0);
        compact_side(&mut self.positive_spans, &mut self.positive_buckets, Some(&mut c.positive_buckets), 0);
        compact_side(&mut self.negative_spans, &mut self.negative_buckets, Some(&mut c.negative_buckets), 0);
        c.positive_spans.clone_from(&self.positive_spans);
        c.negative_spans.clone_from(&self.negative_spans);
    }
}

/// Adds one side's buckets to another's. Buckets that end within the zero bucket are left out at the front: they
/// are part of its count already.
fn merge_side(
    spans: &mut Vec<Span>,
    counts: &mut Vec<f64>,
    mut sum: Sum<'_>,
    addend: Addend<'_>,
    schema: i32,
    threshold: f64,
) {
    let swallowed = |idx: i64| schema != SCHEMA_CUSTOM && exponential_bound(idx, schema) <= threshold;
    let first = Indexed::new(addend.spans, addend.counts).next();
    let Some((first_idx, _)) = first else { return };
    let whole = !swallowed(first_idx) && addend.counts.len() == counts.len();
    if whole && addend.spans == &spans[..] {
        for (pos, own) in counts.iter_mut().enumerate() {
            sum.add_to(own, pos, addend.counts[pos], at(addend.comp, pos), addend.negative);
        }
        return;
    }
    let mut theirs = Indexed::new(addend.spans, addend.counts)
        .enumerate()
        .map(|(pos, (idx, count))| (idx, count, at(addend.comp, pos)))
        .skip_while(|&(idx, ..)| swallowed(idx))
        .peekable();
    let mut ours = Indexed::new(spans, counts).enumerate().peekable();
    let mut built = SpanBuilder::default();
    let mut merged = Vec::with_capacity(counts.len() + addend.counts.len());
    let mut merged_comp = Vec::new();
    loop {
        let own_idx = ours.peek().map(|&(_, (idx, _))| idx);
        let their_idx = theirs.peek().map(|&(idx, ..)| idx);
        let Some(idx) = own_idx.into_iter().chain(their_idx).min() else { break };
        let (mut count, mut comp) = (0.0, 0.0);
        if own_idx == Some(idx)
            && let Some((pos, (_, own))) = ours.next()
        {
            count = own;
            comp = sum.comp_at(pos);
        }
        if their_idx == Some(idx)
            && let Some((_, theirs, their_comp)) = theirs.next()
        {
            let sign = if addend.negative { -1.0 } else { 1.0 };
            if own_idx != Some(idx) {
                (count, comp) = (sign * theirs, sign * their_comp);
            } else {
                (count, comp) = sum.plus(count, comp, sign * theirs, sign * their_comp);
            }
        }
        built.push(idx);
        merged.push(count);
        merged_comp.push(comp);
    }
    *spans = built.spans;
    *counts = merged;
    if let Sum::Kahan(c) = sum {
        *c = merged_comp;
    }
}

impl Sum<'_> {
    fn comp_at(&self, pos: usize) -> f64 {
        match self {
            Sum::Plain => 0.0,
            Sum::Kahan(c) => at(c, pos),
        }
    }

    fn plus(&self, count: f64, comp: f64, x: f64, x_comp: f64) -> (f64, f64) {
        match self {
            Sum::Plain => (count + x, 0.0),
            Sum::Kahan(_) => {
                let (count, comp) = kahan::inc(x, count, comp);
                if x_comp == 0.0 { (count, comp) } else { kahan::inc(x_comp, count, comp) }
            }
        }
    }

    fn add_to(&mut self, own: &mut f64, pos: usize, x: f64, x_comp: f64, negative: bool) {
        let sign = if negative { -1.0 } else { 1.0 };
        let (count, comp) = self.plus(*own, self.comp_at(pos), sign * x, sign * x_comp);
        *own = count;
        if let Sum::Kahan(c) = self
            && let Some(slot) = c.get_mut(pos)
        {
            *slot = comp;
        }
    }
}
