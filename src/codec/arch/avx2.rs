//! AVX2 kernels: four values a step, unpacked by byte shuffles of 16-byte loads.

use std::arch::x86_64::*;

use super::packed::*;
use super::unpack::{REACH_MAX, UNPACK, Unpack};
use super::{POWERS_OF_TEN, Ramp, Shape, Sink, Source};
use crate::patch::{BYTE, CODES, GAP_LONG, GAP_MAX, Near};

entrance!("avx2,fma");

/// The running sums, in vectors.
#[derive(Clone, Copy)]
struct Sums {
    shift: __m128i,
    /// `Line`: the next four values without residuals. Else: the last value in every lane.
    value: __m256i,
    /// `Line`: four steps. Else: one to four steps.
    steps: __m256i,
    /// `Delta2`: the last delta in every lane.
    delta: __m256i,
    /// `Delta2`: the deltas of this step.
    deltas: __m256i,
}

impl Sums {
    #[target_feature(enable = "avx2")]
    fn new<const SHAPE: u8>(ramp: Ramp) -> Self {
        let times = |n: i64| ramp.step.wrapping_mul(n);
        let (value, steps) = if SHAPE == LINE {
            let lane = |n: i64| ramp.value.wrapping_add(times(n));
            (_mm256_setr_epi64x(lane(0), lane(1), lane(2), lane(3)), _mm256_set1_epi64x(times(4)))
        } else {
            (_mm256_set1_epi64x(ramp.value), _mm256_setr_epi64x(times(1), times(2), times(3), times(4)))
        };
        let delta = _mm256_set1_epi64x(ramp.delta);
        Self { shift: _mm_cvtsi64_si128(i64::from(ramp.shift)), value, steps, delta, deltas: delta }
    }

    /// The four values of four residuals.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn next<const SHAPE: u8>(&mut self, residuals: __m256i) -> __m256i {
        let shifted = _mm256_sll_epi64(residuals, self.shift);
        if SHAPE == LINE {
            let values = _mm256_add_epi64(self.value, shifted);
            self.value = _mm256_add_epi64(self.value, self.steps);
            return values;
        }
        let sums = _mm256_add_epi64(scan(shifted), self.steps);
        if SHAPE == DELTA {
            let values = _mm256_add_epi64(self.value, sums);
            self.value = _mm256_add_epi64(self.value, last(sums));
            return values;
        }
        self.deltas = _mm256_add_epi64(self.delta, sums);
        self.delta = _mm256_add_epi64(self.delta, last(sums));
        let double_sums = scan(self.deltas);
        let values = _mm256_add_epi64(self.value, double_sums);
        self.value = _mm256_add_epi64(self.value, last(double_sums));
        values
    }
}

impl Packed {
    /// The residuals of a group of eight, four and four.
    ///
    /// # Safety
    /// They are there, but not all of the last group need be.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn group(self, unpack: &Unpack, group: usize) -> (__m256i, __m256i) {
        let at = group * self.width as usize;
        // SAFETY: all that `split` touches ends before `length`, or lies in the array: `REACH_MAX`
        // bytes of which those before `length` are copied. What is above goes on to the group's end.
        unsafe {
            let bytes = self.bytes.wrapping_add(at);
            let (low, high) = if at + unpack.offsets[3] + 16 <= self.length {
                (split(unpack, bytes, 0), split(unpack, bytes, 2))
            } else {
                let mut near_end = [0u8; REACH_MAX];
                let left = self.length.saturating_sub(at).min(REACH_MAX);
                std::ptr::copy_nonoverlapping(bytes, near_end.as_mut_ptr(), left);
                (split(unpack, near_end.as_ptr(), 0), split(unpack, near_end.as_ptr(), 2))
            };
            let Some(above) = self.above else { return (low, high) };
            let width = _mm_cvtsi64_si128(i64::from(self.width));
            let eight = _mm_loadl_epi64(above.add(group * 8).cast());
            let above = |four| _mm256_sll_epi64(_mm256_cvtepi8_epi64(four), width);
            let above_high = above(_mm_srli_si128::<4>(eight));
            (_mm256_add_epi64(low, above(eight)), _mm256_add_epi64(high, above_high))
        }
    }
}

/// # Safety
/// As [`decode`]; `packed` holds `count` residuals, `out` has room for as many words. Both may be the
/// same memory if the width is 64: each group is read before it is written.
#[target_feature(enable = "avx2,fma")]
unsafe fn run<const SHAPE: u8, const SINK: u8>(
    packed: Packed,
    power: f64,
    mut ramp: Ramp,
    out: *mut u64,
    count: usize,
) -> Ramp {
    let unpack = &UNPACK[packed.width as usize];
    let mut sums = Sums::new::<SHAPE>(ramp);
    let power = _mm256_set1_pd(power);
    let inverse = _mm256_div_pd(_mm256_set1_pd(1.0), power);
    let rest = count % 8;
    for group in 0..count.div_ceil(8) {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe { packed.group(unpack, group) };
        let low = sums.next::<SHAPE>(low);
        let deltas_low = sums.deltas;
        let high = sums.next::<SHAPE>(high);
        let place = out.wrapping_add(group * 8);
        if group < count / 8 {
            // SAFETY: a whole group: eight words lie in `out` from here.
            unsafe { store::<SINK>(place, low, high, power, inverse) };
            continue;
        }
        let mut all = [0u64; 8];
        // SAFETY: the last `rest` words lie in `out` from here, and the array has eight.
        unsafe {
            std::ptr::copy_nonoverlapping(place, all.as_mut_ptr(), rest);
            store::<SINK>(all.as_mut_ptr(), low, high, power, inverse);
            std::ptr::copy_nonoverlapping(all.as_ptr(), place, rest);
        }
        if SHAPE != LINE {
            ramp.value = lane(low, high, rest - 1);
            ramp.delta = lane(deltas_low, sums.deltas, rest - 1);
        }
    }
    if SHAPE == LINE {
        ramp.value = ramp.value.wrapping_add(ramp.step.wrapping_mul(count as i64));
    } else if rest == 0 && count > 0 {
        ramp.value = lane(sums.value, sums.value, 7);
        ramp.delta = lane(sums.delta, sums.delta, 7);
    }
    ramp
}

/// Four values of a group: pairs `pair` and `pair + 1`.
///
/// # Safety
/// 16 bytes can be read at both pairs' offsets from `bytes`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn split(unpack: &Unpack, bytes: *const u8, pair: usize) -> __m256i {
    // SAFETY: promised by the caller; the tables hold two pairs from `pair`, which is 0 or 2.
    unsafe {
        let low = _mm_loadu_si128(bytes.add(unpack.offsets[pair]).cast());
        let high = _mm_loadu_si128(bytes.add(unpack.offsets[pair + 1]).cast());
        let both = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high);
        let shuffle = _mm256_loadu_si256(unpack.shuffles.as_ptr().add(pair).cast());
        let shifts = _mm256_loadu_si256(unpack.shifts.as_ptr().add(pair).cast());
        let fields = _mm256_srlv_epi64(_mm256_shuffle_epi8(both, shuffle), shifts);
        _mm256_and_si256(fields, _mm256_set1_epi64x(unpack.keep as i64))
    }
}

/// # Safety
/// Eight words lie at `words`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store<const SINK: u8>(
    words: *mut u64,
    low: __m256i,
    high: __m256i,
    power: __m256d,
    inverse: __m256d,
) {
    let place = words.cast::<__m256i>();
    // SAFETY: eight words are two vectors.
    unsafe {
        let (mut near_low, mut near_high) = (low, high);
        if SINK == ULP {
            near_low = _mm256_loadu_si256(place);
            near_high = _mm256_loadu_si256(place.add(1));
        }
        _mm256_storeu_si256(place, finish::<SINK>(low, near_low, power, inverse));
        _mm256_storeu_si256(place.add(1), finish::<SINK>(high, near_high, power, inverse));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn finish<const SINK: u8>(values: __m256i, near: __m256i, power: __m256d, inverse: __m256d) -> __m256i {
    match SINK {
        DECIMAL => {
            // Proved in `avx512::divide`.
            let n = double_of_int(values);
            let quotient = _mm256_mul_pd(n, inverse);
            let remainder = _mm256_fnmadd_pd(quotient, power, n);
            _mm256_castpd_si256(_mm256_fmadd_pd(remainder, inverse, quotient))
        }
        WHOLE => _mm256_castpd_si256(double_of_int(values)),
        ORDERED => order(values),
        ULP => order(_mm256_add_epi64(order(near), values)),
        _ => values,
    }
}

/// Integers to doubles, correctly rounded: the high 48 bits become a multiple of 2^16 above 2^67,
/// the low 16 bits an integer above 2^52, both exactly; the only rounding is the last addition's.
#[inline]
#[target_feature(enable = "avx2")]
fn double_of_int(x: __m256i) -> __m256d {
    let high_bias = _mm256_set1_pd(442_721_857_769_029_238_784.0); // 3 * 2^67
    let both_biases = _mm256_set1_pd(442_726_361_368_656_609_280.0); // 3 * 2^67 + 2^52
    let low_bias = _mm256_set1_epi64x(0x4330_0000_0000_0000); // 2^52
    let high = _mm256_blend_epi16::<0x33>(_mm256_srai_epi32::<16>(x), _mm256_setzero_si256());
    let high = _mm256_castsi256_pd(_mm256_add_epi64(high, _mm256_castpd_si256(high_bias)));
    let low = _mm256_castsi256_pd(_mm256_blend_epi16::<0x88>(x, low_bias));
    _mm256_add_pd(_mm256_sub_pd(high, both_biases), low)
}

#[inline]
#[target_feature(enable = "avx2")]
fn order(bits: __m256i) -> __m256i {
    let negative = _mm256_cmpgt_epi64(_mm256_setzero_si256(), bits);
    _mm256_xor_si256(bits, _mm256_srli_epi64::<1>(negative))
}

/// Sums of the lanes up to each.
#[inline]
#[target_feature(enable = "avx2")]
fn scan(x: __m256i) -> __m256i {
    let x = _mm256_add_epi64(x, _mm256_slli_si256::<8>(x));
    // Lane 1 goes to lanes 2 and 3; 0 and 1 get nothing.
    let middle = _mm256_permute4x64_epi64::<0b01_01_00_00>(x);
    _mm256_add_epi64(x, _mm256_blend_epi32::<0xf0>(_mm256_setzero_si256(), middle))
}

/// The last lane in every lane.
#[inline]
#[target_feature(enable = "avx2")]
fn last(x: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_11_11_11>(x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn lane(low: __m256i, high: __m256i, idx: usize) -> i64 {
    let mut words = [0i64; 8];
    // SAFETY: the array is two vectors long.
    unsafe {
        _mm256_storeu_si256(words.as_mut_ptr().cast(), low);
        _mm256_storeu_si256(words.as_mut_ptr().cast::<__m256i>().add(1), high);
    }
    words[idx]
}

/// Fills `out` with a word.
///
/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn repeat(word: u64, out: &mut [u64]) {
    let words = _mm256_set1_epi64x(word as i64);
    let (groups, tail) = out.as_chunks_mut::<8>();
    for group in groups {
        let place = group.as_mut_ptr().cast::<__m256i>();
        // SAFETY: the group is two vectors long.
        unsafe {
            _mm256_storeu_si256(place, words);
            _mm256_storeu_si256(place.add(1), words);
        }
    }
    tail.fill(word);
}

/// For each four bits of changes, which 32-bit halves go where: the place behind the value ahead that
/// each slot's value has, less one if the first slot changes.
static SPREAD: [[u32; 8]; 16] = {
    let mut table = [[0; 8]; 16];
    let mut mask = 0;
    while mask < 16 {
        let (mut slot, mut place) = (0, 0);
        while slot < 4 {
            place += if slot == 0 { 0 } else { (mask >> slot & 1) as u32 };
            table[mask][2 * slot] = 2 * place;
            table[mask][2 * slot + 1] = 2 * place + 1;
            slot += 1;
        }
        mask += 1;
    }
    table
};

/// Spreads the values from `next` on over the slots behind the first word.
///
/// # Safety
/// The CPU has AVX2; `bitmap` has a bit for each word of `out` but the first.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn spread(bitmap: &[u8], mut next: usize, out: &mut [u64]) {
    let count = out.len();
    let words = out.as_mut_ptr();
    let full = (count - 1) / 4;
    for four in 0..full {
        let mask = bitmap[four / 2] >> (four % 2 * 4) & 15;
        let from = next + usize::from(mask & 1);
        // SAFETY: four words lie in `out` at `from`, or only those that do are copied; the table has a
        // row for each mask; the four slots behind word `4 * four` lie in `out`.
        unsafe {
            let values = if from + 4 <= count {
                _mm256_loadu_si256(words.add(from).cast())
            } else {
                let mut left = [0u64; 4];
                let lying = count.saturating_sub(from);
                std::ptr::copy_nonoverlapping(words.wrapping_add(from), left.as_mut_ptr(), lying);
                _mm256_loadu_si256(left.as_ptr().cast())
            };
            let places = _mm256_loadu_si256(SPREAD[usize::from(mask)].as_ptr().cast());
            let spread = _mm256_permutevar8x32_epi32(values, places);
            _mm256_storeu_si256(words.add(1 + four * 4).cast(), spread);
        }
        next += mask.count_ones() as usize;
    }
    for slot in full * 4..count - 1 {
        let changed = bitmap[slot / 8] >> (slot % 8) & 1 != 0;
        next = (next + usize::from(changed)).min(count - 1);
        out[slot + 1] = out[next];
    }
}

/// Patches that are read at a time.
const PATCHES: usize = 16;
/// Longest `above` that is noted here: places are 16 bits wide.
const ABOVE_MAX: usize = 1 << 12;
/// From place 16 - n on, n bytes of ones, then zeros.
static FIRST_ONES: [u8; 2 * PATCHES] = {
    let mut bytes = [0; 2 * PATCHES];
    let mut at = 0;
    while at < PATCHES {
        bytes[at] = 0xff;
        at += 1;
    }
    bytes
};
const _: () = assert!(ABOVE_MAX + PATCHES * (GAP_MAX + 1) <= 1 << 16);

/// [`Near::note`], sixteen patches at a time: which extra byte belongs to whom is a running sum of
/// who needs one, and places are the running sum of gaps. The scalar one does what is left.
///
/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn note(near: &mut Near<'_>, mut floor: usize, above: &mut [i8]) -> usize {
    while near.heads_left > 0
        && near.heads.len() >= PATCHES
        && near.extras.len() >= PATCHES
        && floor <= above.len()
        && above.len() <= ABOVE_MAX
    {
        let count = near.heads_left.min(PATCHES);
        // SAFETY: sixteen bytes of heads, as checked above, and of ones and zeros from any count on.
        let (heads, are_heads) = unsafe {
            let ones = FIRST_ONES.as_ptr().add(PATCHES - count);
            (_mm_loadu_si128(near.heads.as_ptr().cast()), _mm_loadu_si128(ones.cast()))
        };
        // Lanes behind the list are patches of nothing without a gap.
        let heads = _mm_and_si128(heads, are_heads);
        let low_half = _mm_set1_epi8(15);
        let codes = _mm_and_si128(heads, low_half);
        let gaps = _mm_and_si128(_mm_srli_epi16::<4>(heads), low_half);
        let long = _mm_cmpeq_epi8(gaps, _mm_set1_epi8(GAP_LONG as i8));
        let more = _mm_cmpeq_epi8(codes, _mm_set1_epi8(BYTE as i8));
        // How many extra bytes lie ahead of each patch's own, negative.
        let needed = _mm_add_epi8(long, more);
        let sums = scan_bytes(needed);
        let taken = (_mm_extract_epi8::<15>(sums) as u8).wrapping_neg();
        if usize::from(taken) > PATCHES {
            break;
        }
        let first_extra = _mm_sub_epi8(needed, sums);
        // SAFETY: sixteen bytes lie there, as checked above; the codes are sixteen.
        let (extras, meanings) =
            unsafe { (_mm_loadu_si128(near.extras.as_ptr().cast()), _mm_loadu_si128(CODES.as_ptr().cast())) };
        let gap_extra = _mm_and_si128(_mm_shuffle_epi8(extras, first_extra), long);
        let above_extra = _mm_and_si128(_mm_shuffle_epi8(extras, _mm_sub_epi8(first_extra, long)), more);
        let meant = _mm_or_si128(_mm_shuffle_epi8(meanings, codes), above_extra);
        let steps = _mm256_add_epi16(_mm256_cvtepu8_epi16(gaps), _mm256_cvtepu8_epi16(gap_extra));
        let ends = scan_words(_mm256_add_epi16(steps, _mm256_set1_epi16(1)));
        let places = _mm256_add_epi16(ends, _mm256_set1_epi16((floor as u16).wrapping_sub(1) as i16));
        let (mut place, mut value) = ([0u16; PATCHES], [0i8; PATCHES]);
        // SAFETY: the arrays are as large as the vectors.
        unsafe {
            _mm256_storeu_si256(place.as_mut_ptr().cast(), places);
            _mm_storeu_si128(value.as_mut_ptr().cast(), meant);
        }
        // Places ascend: all lie in `above` if the last does. Those of lanes without a patch follow
        // the last one, and nothing has been noted there yet.
        if usize::from(place[PATCHES - 1]) >= above.len() {
            break;
        }
        for (place, value) in place.iter().zip(value) {
            // SAFETY: `place` is not greater than the last, which lies in `above`.
            unsafe { *above.get_unchecked_mut(usize::from(*place)) = value };
        }
        floor = usize::from(place[count - 1]) + 1;
        near.heads = &near.heads[count..];
        near.heads_left -= count;
        near.extras = &near.extras[usize::from(taken)..];
    }
    near.note(floor, above)
}

/// Sums of the lanes up to each.
#[inline]
#[target_feature(enable = "avx2")]
fn scan_bytes(x: __m128i) -> __m128i {
    let x = _mm_add_epi8(x, _mm_slli_si128::<1>(x));
    let x = _mm_add_epi8(x, _mm_slli_si128::<2>(x));
    let x = _mm_add_epi8(x, _mm_slli_si128::<4>(x));
    _mm_add_epi8(x, _mm_slli_si128::<8>(x))
}

/// Sums of the lanes up to each.
#[inline]
#[target_feature(enable = "avx2")]
fn scan_words(x: __m256i) -> __m256i {
    let x = _mm256_add_epi16(x, _mm256_slli_si256::<2>(x));
    let x = _mm256_add_epi16(x, _mm256_slli_si256::<4>(x));
    let x = _mm256_add_epi16(x, _mm256_slli_si256::<8>(x));
    // The low half's sum goes to each lane of the high one.
    let last = _mm256_shuffle_epi8(x, _mm256_set1_epi16(0x0f0e));
    _mm256_add_epi16(x, _mm256_permute2x128_si256::<0x08>(last, last))
}
