//! The loops themselves, free of branches so that a compiler can make vectors of them.

use crate::{ABSENT, kahan};

const ABSENT_BITS: u64 = ABSENT.to_bits();

#[inline(always)]
pub(super) fn kahan_add(row: &[f64], sum: &mut [f64], c: &mut [f64], count: &mut [u32]) {
    let n = row.len().min(sum.len()).min(c.len()).min(count.len());
    let (row, sum, c, count) = (&row[..n], &mut sum[..n], &mut c[..n], &mut count[..n]);
    for i in 0..n {
        let present = row[i].to_bits() != ABSENT_BITS;
        let (t, tc) = kahan::inc(row[i], sum[i], c[i]);
        sum[i] = if present { t } else { sum[i] };
        c[i] = if present { tc } else { c[i] };
        count[i] += u32::from(present);
    }
}

#[inline(always)]
pub(super) fn any_overflow(row: &[f64], sum: &[f64]) -> bool {
    row.iter().zip(sum).fold(false, |any, (&v, &s)| any | (s + v).is_infinite())
}

#[inline(always)]
pub(super) fn extrapolate(
    first: &[f64],
    gain: &mut [f64],
    sampled: &[f64],
    to_start: &[f64],
    to_end: &[f64],
    window: f64,
) {
    let n = gain.len().min(first.len()).min(sampled.len()).min(to_start.len()).min(to_end.len());
    let (first, gain, sampled) = (&first[..n], &mut gain[..n], &sampled[..n]);
    let (to_start, to_end) = (&to_start[..n], &to_end[..n]);
    for i in 0..n {
        let to_zero = sampled[i] * (first[i] / gain[i]);
        let is_near = (gain[i] > 0.0) & (first[i] >= 0.0) & (to_zero < to_start[i]);
        let start = if is_near { to_zero } else { to_start[i] };
        let factor = (sampled[i] + start + to_end[i]) / sampled[i];
        let factor = if sampled[i] == 0.0 { 1.0 } else { factor };
        gain[i] *= factor / window;
    }
}

#[inline(always)]
pub(super) fn any_near_zero(first: &[f64], gain: &[f64], sampled: &[f64], far: &[f64]) -> bool {
    const GAIN_MIN: f64 = 1e-200;
    let n = gain.len().min(first.len()).min(sampled.len()).min(far.len());
    let (first, gain, sampled, far) = (&first[..n], &gain[..n], &sampled[..n], &far[..n]);
    let mut any = false;
    for i in 0..n {
        let is_far = (sampled[i] * first[i] > far[i] * gain[i]) & (gain[i] >= GAIN_MIN);
        any |= (gain[i] > 0.0) & (first[i] >= 0.0) & !is_far;
    }
    any
}

#[inline(always)]
pub(super) fn count_present(row: &[f64], count: &mut [u32]) {
    for (n, v) in count.iter_mut().zip(row) {
        *n += u32::from(v.to_bits() != ABSENT_BITS);
    }
}

#[inline(always)]
pub(super) fn min_into(row: &[f64], best: &mut [f64]) {
    extreme_into(row, best, |v, best| v < best);
}

#[inline(always)]
pub(super) fn max_into(row: &[f64], best: &mut [f64]) {
    extreme_into(row, best, |v, best| v > best);
}

/// An absent step is a NaN and so gives way to any value; an absent value is kept out.
#[inline(always)]
fn extreme_into(row: &[f64], best: &mut [f64], better: impl Fn(f64, f64) -> bool) {
    for (b, &v) in best.iter_mut().zip(row) {
        let take = (v.to_bits() != ABSENT_BITS) & (better(v, *b) | b.is_nan());
        *b = if take { v } else { *b };
    }
}

#[inline(always)]
pub(super) fn drops(values: &[f64], mask: &mut [u64]) {
    mask.fill(0);
    let pairs = values.len().saturating_sub(1);
    for (w, word) in mask.iter_mut().enumerate() {
        let from = (w * 64).min(pairs);
        let Some(chunk) = values.get(from..=(from + 64).min(pairs)) else { break };
        for (i, (a, b)) in chunk.iter().zip(&chunk[1..]).enumerate() {
            *word |= u64::from(b < a) << i;
        }
    }
}

#[inline(always)]
pub(super) fn all_exact(values: &[f64]) -> bool {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    // Eight sums side by side: what they are is of no account as long as they stay exact.
    let mut sums = [0.0f64; 8];
    let mut whole = true;
    let chunks = values.chunks_exact(8);
    for &v in chunks.remainder() {
        whole &= v.trunc() == v;
        sums[0] += v.abs();
    }
    for chunk in chunks {
        for (s, &v) in sums.iter_mut().zip(chunk) {
            whole &= v.trunc() == v;
            *s += v.abs();
        }
    }
    whole & (sums.iter().sum::<f64>() < LIMIT)
}

#[inline(always)]
pub(super) fn any_stale(values: &[f64]) -> bool {
    values.iter().fold(false, |any, v| any | (v.to_bits() == ABSENT_BITS))
}
