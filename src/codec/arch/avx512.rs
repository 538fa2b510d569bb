//! AVX-512 kernels: eight values a step, unpacked by one byte permutation (VBMI).
//!
//! Eight values of `w` bits are `w` bytes: a masked load takes exactly these, so no slack is needed.

use std::arch::x86_64::*;

use super::packed::*;
use super::{POWERS_OF_TEN, Ramp, Shape, Sink, Source};
use crate::bitpack::packed_bytes;

entrance!("avx2,fma,avx512f,avx512bw,avx512dq,avx512vbmi");

/// Widest residuals that are taken apart and summed up in 32 bits, sixteen at a time: sixteen sums of
/// them, 256 times as much if they are patched, stay below 2^31.
const NARROW_MAX: u32 = 25;
const NARROW_PATCHED_MAX: u32 = 19;

/// How one width is taken apart.
#[derive(Clone, Copy)]
struct Unpack {
    permutation: __m512i,
    shifts: __m512i,
    keep: __m512i,
}

impl Unpack {
    /// Into lanes of 64 bits.
    #[target_feature(enable = "avx512f,avx512dq")]
    fn new(width: u32) -> Self {
        let first_bits = _mm512_mullo_epi64(lanes(), _mm512_set1_epi64(i64::from(width)));
        let first_bytes = _mm512_srli_epi64::<3>(first_bits);
        // A lane's first byte, in each of its bytes, plus 0 to 7.
        let spread = _mm512_mullo_epi64(first_bytes, _mm512_set1_epi64(0x0101_0101_0101_0101));
        let keep = if width == 64 { -1 } else { (1i64 << width) - 1 };
        Self {
            permutation: _mm512_add_epi64(spread, _mm512_set1_epi64(0x0706_0504_0302_0100)),
            shifts: _mm512_and_epi64(first_bits, _mm512_set1_epi64(7)),
            keep: _mm512_set1_epi64(keep),
        }
    }

    /// Into lanes of 32 bits; `width` is at most `NARROW_MAX`.
    #[target_feature(enable = "avx512f")]
    fn narrow(width: u32) -> Self {
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let first_bits = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(width as i32));
        let spread = _mm512_mullo_epi32(_mm512_srli_epi32::<3>(first_bits), _mm512_set1_epi32(0x0101_0101));
        Self {
            permutation: _mm512_add_epi32(spread, _mm512_set1_epi32(0x0302_0100)),
            shifts: _mm512_and_epi32(first_bits, _mm512_set1_epi32(7)),
            keep: _mm512_set1_epi32((1 << width) - 1),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi")]
    fn split(self, bytes: __m512i) -> __m512i {
        let fields = _mm512_permutexvar_epi8(self.permutation, bytes);
        _mm512_and_epi64(_mm512_srlv_epi64(fields, self.shifts), self.keep)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi")]
    fn split_narrow(self, bytes: __m512i) -> __m512i {
        let fields = _mm512_permutexvar_epi8(self.permutation, bytes);
        _mm512_and_epi32(_mm512_srlv_epi32(fields, self.shifts), self.keep)
    }
}

/// The running sums, in vectors.
#[derive(Clone, Copy)]
struct Sums {
    shift: __m128i,
    is_shifted: bool,
    /// `Line`: the next eight values without residuals. Else: the last value in every lane, plus
    /// one to eight steps if it is a `Delta`.
    value: __m512i,
    eight_steps: __m512i,
    /// `Delta2`: the last delta in every lane, plus one to eight steps.
    delta: __m512i,
    /// `Delta2`: the deltas of this step.
    deltas: __m512i,
}

impl Sums {
    #[target_feature(enable = "avx512f,avx512dq")]
    fn new<const SHAPE: u8>(ramp: Ramp) -> Self {
        let step = _mm512_set1_epi64(ramp.step);
        let eight_steps = _mm512_slli_epi64::<3>(step);
        let steps_behind = _mm512_mullo_epi64(lanes(), step);
        let steps = _mm512_add_epi64(steps_behind, step);
        let value = _mm512_set1_epi64(ramp.value);
        let delta = _mm512_set1_epi64(ramp.delta);
        Self {
            shift: _mm_cvtsi64_si128(i64::from(ramp.shift)),
            is_shifted: ramp.shift != 0,
            value: match SHAPE {
                LINE => _mm512_add_epi64(value, steps_behind),
                DELTA => _mm512_add_epi64(value, steps),
                _ => value,
            },
            eight_steps,
            delta: _mm512_add_epi64(delta, steps),
            deltas: delta,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn shifted(&self, residuals: __m512i) -> __m512i {
        if self.is_shifted { _mm512_sll_epi64(residuals, self.shift) } else { residuals }
    }

    /// The eight values of eight residuals.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn next<const SHAPE: u8>(&mut self, residuals: __m512i) -> __m512i {
        let shifted = self.shifted(residuals);
        match SHAPE {
            LINE => self.next_on_line(shifted),
            DELTA => {
                let sums = scan(shifted);
                let values = _mm512_add_epi64(self.value, sums);
                self.value = self.carry(self.value, sums);
                values
            }
            _ => {
                let sums = scan(shifted);
                self.deltas = _mm512_add_epi64(self.delta, sums);
                self.delta = self.carry(self.delta, sums);
                self.next_by_deltas()
            }
        }
    }

    /// The sixteen values of sixteen residuals in 32 bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn next_narrow<const SHAPE: u8>(&mut self, residuals: __m512i) -> (__m512i, __m512i) {
        let sums = if SHAPE == LINE { residuals } else { scan_narrow(residuals) };
        let low = self.shifted(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sums)));
        let high = self.shifted(_mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(sums)));
        if SHAPE == LINE {
            return (self.next_on_line(low), self.next_on_line(high));
        }
        // What is carried has one to eight steps already; these are nine to sixteen.
        let high = _mm512_add_epi64(high, self.eight_steps);
        if SHAPE == DELTA {
            let values_low = _mm512_add_epi64(self.value, low);
            let values = _mm512_add_epi64(self.value, high);
            self.value = self.carry(self.value, high);
            return (values_low, values);
        }
        self.deltas = _mm512_add_epi64(self.delta, low);
        let values_low = self.next_by_deltas();
        self.deltas = _mm512_add_epi64(self.delta, high);
        self.delta = self.carry(self.delta, high);
        (values_low, self.next_by_deltas())
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn next_on_line(&mut self, shifted: __m512i) -> __m512i {
        let values = _mm512_add_epi64(self.value, shifted);
        self.value = _mm512_add_epi64(self.value, self.eight_steps);
        values
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn next_by_deltas(&mut self) -> __m512i {
        let double_sums = scan(self.deltas);
        let values = _mm512_add_epi64(self.value, double_sums);
        self.value = _mm512_add_epi64(self.value, last(double_sums));
        values
    }

    /// What is carried, a group on. PERF: one addition is all that waits for the group before; the
    /// rest is made from the sums alone.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn carry(&self, carried: __m512i, sums: __m512i) -> __m512i {
        _mm512_add_epi64(carried, _mm512_add_epi64(last(sums), self.eight_steps))
    }

    /// Where a `Delta` or `Delta2` stands behind whole groups.
    #[target_feature(enable = "avx512f")]
    fn end<const SHAPE: u8>(&self, ramp: Ramp) -> Ramp {
        let carried = if SHAPE == DELTA { ramp.step } else { 0 };
        let value = lane(self.value, 0).wrapping_sub(carried);
        Ramp { value, delta: lane(self.delta, 0).wrapping_sub(ramp.step), ..ramp }
    }
}

impl Packed {
    fn is_narrow(self) -> bool {
        self.width <= if self.above.is_some() { NARROW_PATCHED_MAX } else { NARROW_MAX }
    }

    /// The bytes of `count` residuals, at most 64 bytes, that begin with a group of eight.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn load(self, group: usize, count: usize) -> __m512i {
        let at = group * self.width as usize;
        let bytes = self.bytes.wrapping_add(at);
        // SAFETY: 64 bytes can be read where they end before `length`; else those that are wanted,
        // as promised by the caller.
        unsafe {
            if at + 64 <= self.length {
                _mm512_loadu_si512(bytes.cast())
            } else {
                load_bytes(low_bits(packed_bytes(count, self.width)), bytes)
            }
        }
    }

    /// The residuals of a group of eight, of which the first `count` are wanted.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    unsafe fn one_group(self, unpack: Unpack, group: usize, count: usize) -> __m512i {
        // SAFETY: as promised; what is above goes on to the end of the group.
        unsafe {
            let residuals = unpack.split(self.load(group, count));
            let Some(above) = self.above else { return residuals };
            let above = _mm512_cvtepi8_epi64(_mm_loadl_epi64(above.add(group * 8).cast()));
            _mm512_add_epi64(residuals, _mm512_sll_epi64(above, _mm_cvtsi64_si128(i64::from(self.width))))
        }
    }

    /// The residuals of two groups, in 32 bits, of which the first `count` are wanted.
    ///
    /// # Safety
    /// They are there, and narrow.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    unsafe fn two_groups(self, unpack: Unpack, group: usize, count: usize) -> __m512i {
        // SAFETY: as promised; what is above goes on to the end of a group.
        unsafe {
            let residuals = unpack.split_narrow(self.load(group, count));
            let Some(above) = self.above else { return residuals };
            let above = above.add(group * 8).cast();
            let above = if count > 8 { _mm_loadu_si128(above) } else { _mm_loadl_epi64(above) };
            let above = _mm512_cvtepi8_epi32(above);
            _mm512_add_epi32(residuals, _mm512_sll_epi32(above, _mm_cvtsi64_si128(i64::from(self.width))))
        }
    }
}

/// # Safety
/// As [`decode`]; `packed` holds `count` residuals, `out` has room for as many words. Both may be the
/// same memory if the width is 64: each group is read before it is written.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vbmi")]
unsafe fn run<const SHAPE: u8, const SINK: u8>(
    packed: Packed,
    power: f64,
    mut ramp: Ramp,
    out: *mut u64,
    count: usize,
) -> Ramp {
    let mut sums = Sums::new::<SHAPE>(ramp);
    let power = _mm512_set1_pd(power);
    let inverse = _mm512_div_pd(_mm512_set1_pd(1.0), power);
    let full = count / 8;
    let mut group = 0;
    if packed.is_narrow() {
        let unpack = Unpack::narrow(packed.width);
        while group + 2 <= full {
            // SAFETY: the residuals of both groups are there, and their sixteen words lie in `out`.
            unsafe {
                let (low, high) = sums.next_narrow::<SHAPE>(packed.two_groups(unpack, group, 16));
                store::<SINK>(out.add(group * 8), low, power, inverse);
                store::<SINK>(out.add(group * 8 + 8), high, power, inverse);
            }
            group += 2;
        }
        let left = count - group * 8;
        // Of a `Delta2` the last delta of the first half would be lost.
        if left > 0 && SHAPE != DELTA2 {
            // SAFETY: the residuals that are left are there, and their words lie in `out`.
            let last = unsafe {
                let (low, high) = sums.next_narrow::<SHAPE>(packed.two_groups(unpack, group, left));
                store_first::<SINK>(out.add(group * 8), low, power, inverse, left.min(8));
                store_first::<SINK>(
                    out.wrapping_add(group * 8 + 8),
                    high,
                    power,
                    inverse,
                    left.saturating_sub(8),
                );
                if left > 8 { lane(high, left - 9) } else { lane(low, left - 1) }
            };
            return if SHAPE == LINE { behind_line(ramp, count) } else { Ramp { value: last, ..ramp } };
        }
    }
    let rest = count % 8;
    if group < full || rest > 0 {
        let unpack = Unpack::new(packed.width);
        while group < full {
            // SAFETY: the group's residuals are there, and its eight words lie in `out`.
            unsafe {
                let values = sums.next::<SHAPE>(packed.one_group(unpack, group, 8));
                store::<SINK>(out.add(group * 8), values, power, inverse);
            }
            group += 1;
        }
        if rest > 0 {
            // SAFETY: as above, with the residuals and words of the last `rest` values only.
            unsafe {
                let values = sums.next::<SHAPE>(packed.one_group(unpack, full, rest));
                store_first::<SINK>(out.add(full * 8), values, power, inverse, rest);
                if SHAPE != LINE {
                    ramp.value = lane(values, rest - 1);
                    ramp.delta = lane(sums.deltas, rest - 1);
                    return ramp;
                }
            }
        }
    }
    if SHAPE == LINE { behind_line(ramp, count) } else { sums.end::<SHAPE>(ramp) }
}

/// Where a `Line` stands behind `count` values.
fn behind_line(ramp: Ramp, count: usize) -> Ramp {
    Ramp { value: ramp.value.wrapping_add(ramp.step.wrapping_mul(count as i64)), ..ramp }
}

/// # Safety
/// Eight words lie at `words`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn store<const SINK: u8>(words: *mut u64, values: __m512i, power: __m512d, inverse: __m512d) {
    // SAFETY: eight words are one vector.
    unsafe {
        let near = if SINK == ULP { _mm512_loadu_si512(words.cast()) } else { values };
        _mm512_storeu_si512(words.cast(), finish::<SINK>(values, near, power, inverse));
    }
}

/// [`store`] of the first `count` values.
///
/// # Safety
/// As many words, at most eight, lie at `words`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn store_first<const SINK: u8>(
    words: *mut u64,
    values: __m512i,
    power: __m512d,
    inverse: __m512d,
    count: usize,
) {
    let (mask, words) = (low_bits(count) as u8, words.cast());
    // SAFETY: promised by the caller; words that are masked out are not touched.
    unsafe {
        let near = if SINK == ULP { _mm512_maskz_loadu_epi64(mask, words) } else { values };
        _mm512_mask_storeu_epi64(words, mask, finish::<SINK>(values, near, power, inverse));
    }
}

/// # Safety
/// The bytes that `mask` names can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn load_bytes(mask: u64, bytes: *const u8) -> __m512i {
    // PERF: a load with nothing to load, from an address that is not mapped (an empty slice's), costs
    // a fault's microcode though it cannot fault; columns of width 0 do that.
    if mask == 0 {
        return _mm512_setzero_si512();
    }
    // SAFETY: promised by the caller; bytes that are masked out are not touched.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn finish<const SINK: u8>(values: __m512i, near: __m512i, power: __m512d, inverse: __m512d) -> __m512i {
    match SINK {
        DECIMAL => _mm512_castpd_si512(divide(_mm512_cvtepi64_pd(values), power, inverse)),
        WHOLE => _mm512_castpd_si512(_mm512_cvtepi64_pd(values)),
        ORDERED => order(values),
        ULP => order(_mm512_add_epi64(order(near), values)),
        _ => values,
    }
}

/// n / d, correctly rounded, for d = 10^0 to 10^22 and inverse = 1 / d correctly rounded.
///
/// The first quotient is off by less than 2 ulps; n - q * d is exact in a fused step, for it is a
/// multiple of ulp(q) * 2^e below 2^53 of them (5^22 < 2^51.1). The second quotient is then wrong
/// only if n / d lay within 1.5 * 2^-53 ulp of a midpoint between doubles; but a midpoint that is
/// not hit exactly is at least 1 / (2 * 5^e) > 2^-52.2 ulp away, and none is hit, as n has 53 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn divide(n: __m512d, d: __m512d, inverse: __m512d) -> __m512d {
    let quotient = _mm512_mul_pd(n, inverse);
    let remainder = _mm512_fnmadd_pd(quotient, d, n);
    _mm512_fmadd_pd(remainder, inverse, quotient)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn order(bits: __m512i) -> __m512i {
    _mm512_xor_epi64(bits, _mm512_srli_epi64::<1>(_mm512_srai_epi64::<63>(bits)))
}

/// Sums of the lanes up to each.
#[inline]
#[target_feature(enable = "avx512f")]
fn scan(x: __m512i) -> __m512i {
    let zero = _mm512_setzero_si512();
    let x = _mm512_add_epi64(x, _mm512_alignr_epi64::<7>(x, zero));
    let x = _mm512_add_epi64(x, _mm512_alignr_epi64::<6>(x, zero));
    _mm512_add_epi64(x, _mm512_alignr_epi64::<4>(x, zero))
}

/// Sums of the lanes of 32 bits up to each.
#[inline]
#[target_feature(enable = "avx512f")]
fn scan_narrow(x: __m512i) -> __m512i {
    let zero = _mm512_setzero_si512();
    let x = _mm512_add_epi32(x, _mm512_alignr_epi32::<15>(x, zero));
    let x = _mm512_add_epi32(x, _mm512_alignr_epi32::<14>(x, zero));
    let x = _mm512_add_epi32(x, _mm512_alignr_epi32::<12>(x, zero));
    _mm512_add_epi32(x, _mm512_alignr_epi32::<8>(x, zero))
}

/// The last lane in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn last(x: __m512i) -> __m512i {
    _mm512_permutexvar_epi64(_mm512_set1_epi64(7), x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lanes() -> __m512i {
    _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lane(x: __m512i, idx: usize) -> i64 {
    let mut words = [0i64; 8];
    // SAFETY: the array is as large as the vector.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), x) };
    words[idx]
}

/// `count` ones, at most 64.
#[inline]
fn low_bits(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

/// Fills `out` with a word.
///
/// # Safety
/// The CPU has AVX-512.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn repeat(word: u64, out: &mut [u64]) {
    let words = _mm512_set1_epi64(word as i64);
    let (groups, tail) = out.as_chunks_mut::<8>();
    for group in groups {
        // SAFETY: the group is eight words long.
        unsafe { _mm512_storeu_si512(group.as_mut_ptr().cast(), words) };
    }
    let mask = low_bits(tail.len()) as u8;
    // SAFETY: as many words as the mask has ones lie there.
    unsafe { _mm512_mask_storeu_epi64(tail.as_mut_ptr().cast(), mask, words) };
}

/// For each byte of changes, which value each slot has: its place behind the value ahead, less one
/// if the first slot changes.
static SPREAD: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut slot, mut place) = (0, 0);
        while slot < 8 {
            place += if slot == 0 { 0 } else { (mask >> slot & 1) as u8 };
            table[mask][slot] = place;
            slot += 1;
        }
        mask += 1;
    }
    table
};

/// Spreads the values from `next` on over the slots behind the first word.
///
/// # Safety
/// The CPU has AVX-512; `bitmap` has a bit for each word of `out` but the first.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn spread(bitmap: &[u8], mut next: usize, out: &mut [u64]) {
    let count = out.len();
    let out = out.as_mut_ptr();
    for (group, &mask) in bitmap.iter().enumerate() {
        let from = next + usize::from(mask & 1);
        let slots = (count - 1 - group * 8).min(8);
        // SAFETY: of the eight words at `from`, and of the slots of the last group, only those that
        // lie in `out` are touched; a row of the table is eight bytes.
        unsafe {
            let values = if from + 8 <= count {
                _mm512_loadu_si512(out.add(from).cast())
            } else {
                let left = low_bits(count.saturating_sub(from)) as u8;
                _mm512_maskz_loadu_epi64(left, out.wrapping_add(from).cast())
            };
            let places = _mm_loadl_epi64(SPREAD[usize::from(mask)].as_ptr().cast());
            let spread = _mm512_permutexvar_epi64(_mm512_cvtepu8_epi64(places), values);
            let place = out.add(1 + group * 8).cast();
            if slots == 8 {
                _mm512_storeu_si512(place, spread);
            } else {
                _mm512_mask_storeu_epi64(place.cast(), low_bits(slots) as u8, spread);
            }
        }
        next += mask.count_ones() as usize;
    }
}
