//! NEON kernels: two values a step, unpacked by byte look-ups in 16-byte loads.

use std::arch::aarch64::*;

use super::packed::*;
use super::unpack::{REACH_MAX, UNPACK, Unpack};
use super::{POWERS_OF_TEN, Ramp, Shape, Sink, Source};

entrance!("neon");

/// The running sums, in vectors.
#[derive(Clone, Copy)]
struct Sums {
    shift: int64x2_t,
    /// `Line`: the next two values without residuals. Else: the last value in both lanes.
    value: int64x2_t,
    /// `Line`: two steps. Else: one and two steps.
    steps: int64x2_t,
    /// `Delta2`: the last delta in both lanes.
    delta: int64x2_t,
    /// `Delta2`: the deltas of this step.
    deltas: int64x2_t,
}

impl Sums {
    #[target_feature(enable = "neon")]
    fn new<const SHAPE: u8>(ramp: Ramp) -> Self {
        let two_steps = ramp.step.wrapping_mul(2);
        let (value, steps) = if SHAPE == LINE {
            (pair(ramp.value, ramp.value.wrapping_add(ramp.step)), vdupq_n_s64(two_steps))
        } else {
            (vdupq_n_s64(ramp.value), pair(ramp.step, two_steps))
        };
        let delta = vdupq_n_s64(ramp.delta);
        Self { shift: vdupq_n_s64(i64::from(ramp.shift)), value, steps, delta, deltas: delta }
    }

    /// The two values of two residuals.
    #[inline]
    #[target_feature(enable = "neon")]
    fn next<const SHAPE: u8>(&mut self, residuals: int64x2_t) -> int64x2_t {
        let shifted = vshlq_s64(residuals, self.shift);
        if SHAPE == LINE {
            let values = vaddq_s64(self.value, shifted);
            self.value = vaddq_s64(self.value, self.steps);
            return values;
        }
        let sums = vaddq_s64(scan(shifted), self.steps);
        if SHAPE == DELTA {
            let values = vaddq_s64(self.value, sums);
            self.value = vaddq_s64(self.value, last(sums));
            return values;
        }
        self.deltas = vaddq_s64(self.delta, sums);
        self.delta = vaddq_s64(self.delta, last(sums));
        let double_sums = scan(self.deltas);
        let values = vaddq_s64(self.value, double_sums);
        self.value = vaddq_s64(self.value, last(double_sums));
        values
    }
}

impl Packed {
    /// The residuals of a group of eight, in pairs.
    ///
    /// # Safety
    /// They are there, but not all of the last group need be.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn group(self, unpack: &Unpack, group: usize) -> [int64x2_t; 4] {
        let at = group * self.width as usize;
        // SAFETY: all that `split` touches ends before `length`, or lies in the array: `REACH_MAX`
        // bytes of which those before `length` are copied. What is above goes on to the group's end.
        unsafe {
            let bytes = self.bytes.wrapping_add(at);
            let pairs = if at + unpack.offsets[3] + 16 <= self.length {
                split(unpack, bytes)
            } else {
                let mut near_end = [0u8; REACH_MAX];
                let left = self.length.saturating_sub(at).min(REACH_MAX);
                std::ptr::copy_nonoverlapping(bytes, near_end.as_mut_ptr(), left);
                split(unpack, near_end.as_ptr())
            };
            let Some(above) = self.above else { return pairs };
            let above = vmovl_s8(vld1_s8(above.add(group * 8)));
            let (low, high) = (vmovl_s16(vget_low_s16(above)), vmovl_s16(vget_high_s16(above)));
            let above = [vget_low_s32(low), vget_high_s32(low), vget_low_s32(high), vget_high_s32(high)];
            let width = vdupq_n_s64(i64::from(self.width));
            std::array::from_fn(|i| vaddq_s64(pairs[i], vshlq_s64(vmovl_s32(above[i]), width)))
        }
    }
}

/// # Safety
/// As [`decode`]; `packed` holds `count` residuals, `out` has room for as many words. Both may be the
/// same memory if the width is 64: each group is read before it is written.
#[target_feature(enable = "neon")]
unsafe fn run<const SHAPE: u8, const SINK: u8>(
    packed: Packed,
    power: f64,
    mut ramp: Ramp,
    out: *mut u64,
    count: usize,
) -> Ramp {
    let unpack = &UNPACK[packed.width as usize];
    let mut sums = Sums::new::<SHAPE>(ramp);
    let (power, inverse) = (vdupq_n_f64(power), vdupq_n_f64(1.0 / power));
    let rest = count % 8;
    for group in 0..count.div_ceil(8) {
        // SAFETY: the caller's promise.
        let pairs = unsafe { packed.group(unpack, group) };
        let (mut values, mut deltas) = (pairs, pairs);
        for (i, residuals) in pairs.into_iter().enumerate() {
            values[i] = sums.next::<SHAPE>(residuals);
            deltas[i] = sums.deltas;
        }
        let place = out.wrapping_add(group * 8);
        if group < count / 8 {
            // SAFETY: a whole group: eight words lie in `out` from here.
            unsafe { store::<SINK>(place, values, power, inverse) };
            continue;
        }
        let mut all = [0u64; 8];
        // SAFETY: the last `rest` words lie in `out` from here, and the array has eight.
        unsafe {
            std::ptr::copy_nonoverlapping(place, all.as_mut_ptr(), rest);
            store::<SINK>(all.as_mut_ptr(), values, power, inverse);
            std::ptr::copy_nonoverlapping(all.as_ptr(), place, rest);
        }
        if SHAPE != LINE {
            ramp.value = lane(values, rest - 1);
            ramp.delta = lane(deltas, rest - 1);
        }
    }
    if SHAPE == LINE {
        ramp.value = ramp.value.wrapping_add(ramp.step.wrapping_mul(count as i64));
    } else if rest == 0 && count > 0 {
        ramp.value = vgetq_lane_s64::<1>(sums.value);
        ramp.delta = vgetq_lane_s64::<1>(sums.delta);
    }
    ramp
}

/// The values of a group.
///
/// # Safety
/// 16 bytes can be read at each pair's offset from `bytes`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn split(unpack: &Unpack, bytes: *const u8) -> [int64x2_t; 4] {
    let keep = vdupq_n_u64(unpack.keep);
    std::array::from_fn(|pair| {
        // SAFETY: promised by the caller; a row of the table is sixteen bytes, or two words.
        let (fields, shifts) = unsafe {
            let bytes = vld1q_u8(bytes.add(unpack.offsets[pair]));
            let fields = vqtbl1q_u8(bytes, vld1q_u8(unpack.shuffles[pair].as_ptr()));
            (fields, vld1q_u64(unpack.shifts[pair].as_ptr()))
        };
        // A shift to the left by less than nothing is one to the right.
        let right = vnegq_s64(vreinterpretq_s64_u64(shifts));
        vreinterpretq_s64_u64(vandq_u64(vshlq_u64(vreinterpretq_u64_u8(fields), right), keep))
    })
}

/// # Safety
/// Eight words lie at `words`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store<const SINK: u8>(
    words: *mut u64,
    values: [int64x2_t; 4],
    power: float64x2_t,
    inverse: float64x2_t,
) {
    let words = words.cast::<i64>();
    for (i, values) in values.into_iter().enumerate() {
        // SAFETY: eight words are four pairs.
        unsafe {
            let place = words.add(2 * i);
            let near = if SINK == ULP { vld1q_s64(place) } else { values };
            vst1q_s64(place, finish::<SINK>(values, near, power, inverse));
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn finish<const SINK: u8>(
    values: int64x2_t,
    near: int64x2_t,
    power: float64x2_t,
    inverse: float64x2_t,
) -> int64x2_t {
    match SINK {
        DECIMAL => {
            // As in the AVX-512 kernel, where it is proved.
            let n = vcvtq_f64_s64(values);
            let quotient = vmulq_f64(n, inverse);
            let remainder = vfmsq_f64(n, quotient, power);
            vreinterpretq_s64_f64(vfmaq_f64(quotient, remainder, inverse))
        }
        WHOLE => vreinterpretq_s64_f64(vcvtq_f64_s64(values)),
        ORDERED => order(values),
        ULP => order(vaddq_s64(order(near), values)),
        _ => values,
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn order(bits: int64x2_t) -> int64x2_t {
    let negative = vreinterpretq_u64_s64(vshrq_n_s64::<63>(bits));
    veorq_s64(bits, vreinterpretq_s64_u64(vshrq_n_u64::<1>(negative)))
}

/// Sums of the lanes up to each.
#[inline]
#[target_feature(enable = "neon")]
fn scan(x: int64x2_t) -> int64x2_t {
    vaddq_s64(x, vextq_s64::<1>(vdupq_n_s64(0), x))
}

/// The last lane in both.
#[inline]
#[target_feature(enable = "neon")]
fn last(x: int64x2_t) -> int64x2_t {
    vdupq_laneq_s64::<1>(x)
}

#[inline]
#[target_feature(enable = "neon")]
fn pair(low: i64, high: i64) -> int64x2_t {
    vsetq_lane_s64::<1>(high, vdupq_n_s64(low))
}

#[inline]
#[target_feature(enable = "neon")]
fn lane(pairs: [int64x2_t; 4], idx: usize) -> i64 {
    let pair = pairs[idx / 2];
    if idx % 2 == 0 { vgetq_lane_s64::<0>(pair) } else { vgetq_lane_s64::<1>(pair) }
}
