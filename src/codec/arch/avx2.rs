//! AVX2 kernels: four values a step, unpacked by byte shuffles of 16-byte loads.
//!
//! Two neighboring values of up to 57 bits, with a bit offset of up to 7, lie within 16 bytes.

use std::arch::x86_64::*;

use super::{POWERS_OF_TEN, Ramp, Shape, Sink, Source};

const LINE: u8 = 0;
const DELTA: u8 = 1;
const DELTA2: u8 = 2;

const INT: u8 = 0;
const DECIMAL: u8 = 1;
const ORDERED: u8 = 2;
const ULP: u8 = 3;
const WHOLE: u8 = 4;

/// Bytes that a load of a group of eight may touch: the last pair begins at byte 48 at most.
const REACH_MAX: usize = 64;

/// How eight values of one width are taken apart, pair by pair.
#[repr(C, align(32))]
struct Unpack {
    shuffles: [[u8; 16]; 4],
    shifts: [[u64; 2]; 4],
    keep: u64,
    offsets: [usize; 4],
}

impl Unpack {
    const fn new(width: usize) -> Self {
        let mut unpack = Unpack { shuffles: [[0; 16]; 4], shifts: [[0; 2]; 4], keep: 0, offsets: [0; 4] };
        unpack.keep = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        let mut pair = 0;
        while pair < 4 {
            let first_bit = 2 * pair * width;
            let second_bit = first_bit % 8 + width;
            unpack.offsets[pair] = first_bit / 8;
            unpack.shifts[pair] = [first_bit as u64 % 8, second_bit as u64 % 8];
            let mut byte = 0;
            while byte < 8 {
                unpack.shuffles[pair][byte] = byte as u8;
                // At most 8 + 7; the widths 58 to 63, which are never used, would need one more.
                let second = second_bit / 8 + byte;
                unpack.shuffles[pair][8 + byte] = if second < 16 { second as u8 } else { 15 };
                byte += 1;
            }
            pair += 1;
        }
        unpack
    }
}

static UNPACK: [Unpack; 65] = {
    let mut table = [const { Unpack::new(0) }; 65];
    let mut width = 0;
    while width < 65 {
        table[width] = Unpack::new(width);
        width += 1;
    }
    table
};

/// Decodes `out.len()` values.
///
/// # Safety
/// The CPU has the features; `source` holds `out.len()` residuals.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn decode(
    shape: Shape,
    sink: Sink,
    source: Source<'_>,
    ramp: Ramp,
    out: &mut [u64],
) -> Ramp {
    let power = match sink {
        Sink::Decimal(exponent) => POWERS_OF_TEN[usize::from(exponent)],
        _ => 1.0,
    };
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match sink {
            Sink::Int => by_shape::<INT>(shape, source, power, ramp, out),
            Sink::Decimal(0) => by_shape::<WHOLE>(shape, source, power, ramp, out),
            Sink::Decimal(_) => by_shape::<DECIMAL>(shape, source, power, ramp, out),
            Sink::Ordered => by_shape::<ORDERED>(shape, source, power, ramp, out),
            Sink::Ulp => by_shape::<ULP>(shape, source, power, ramp, out),
        }
    }
}

/// # Safety
/// As [`decode`].
#[target_feature(enable = "avx2,fma")]
unsafe fn by_shape<const SINK: u8>(
    shape: Shape,
    source: Source<'_>,
    power: f64,
    ramp: Ramp,
    out: &mut [u64],
) -> Ramp {
    let (out, count) = (out.as_mut_ptr(), out.len());
    let (bytes, length, width) = match source {
        Source::Packed { bytes, width } => (bytes.as_ptr(), bytes.len(), width),
        Source::Words(words) => (words.as_ptr().cast::<u8>(), words.len() * 8, 64),
        Source::Out => (out.cast_const().cast::<u8>(), count * 8, 64),
    };
    // SAFETY: words are packed values of 64 bits on a little-endian machine; the rest is promised.
    unsafe {
        match shape {
            Shape::Line => run::<LINE, SINK>(Packed { bytes, length, width }, power, ramp, out, count),
            Shape::Delta => run::<DELTA, SINK>(Packed { bytes, length, width }, power, ramp, out, count),
            Shape::Delta2 => run::<DELTA2, SINK>(Packed { bytes, length, width }, power, ramp, out, count),
        }
    }
}

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

/// Where the packed residuals lie.
#[derive(Clone, Copy)]
struct Packed {
    bytes: *const u8,
    /// Bytes that can be read.
    length: usize,
    width: u32,
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
    let Packed { bytes, length, width } = packed;
    let unpack = &UNPACK[width as usize];
    let mut sums = Sums::new::<SHAPE>(ramp);
    let power = _mm256_set1_pd(power);
    let inverse = _mm256_div_pd(_mm256_set1_pd(1.0), power);
    let reach = unpack.offsets[3] + 16;
    let rest = count % 8;
    for group in 0..count.div_ceil(8) {
        let first = group * width as usize;
        let mut near_end = [0u8; REACH_MAX];
        let mut from = bytes.wrapping_add(first);
        if first + reach > length {
            let left = length.saturating_sub(first).min(REACH_MAX);
            // SAFETY: `left` bytes lie between `first` and `length`, and the array has room.
            unsafe { std::ptr::copy_nonoverlapping(from, near_end.as_mut_ptr(), left) };
            from = near_end.as_ptr();
        }
        // SAFETY: `reach` bytes can be read at `from`: checked against `length`, or the array's.
        let (low, high) = unsafe { (split(unpack, from, 0), split(unpack, from, 2)) };
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

/// For each mask of four changes, which 32-bit halves go where.
static EXPAND: [[u32; 8]; 16] = {
    let mut table = [[0u32; 8]; 16];
    let mut mask = 0;
    while mask < 16 {
        let (mut lane, mut next) = (0, 0);
        while lane < 4 {
            table[mask][2 * lane] = 2 * next;
            table[mask][2 * lane + 1] = 2 * next + 1;
            next += (mask >> lane & 1) as u32;
            lane += 1;
        }
        mask += 1;
    }
    table
};

/// Puts changes where `bitmap` has ones.
///
/// # Safety
/// The CPU has AVX2; `bitmap` has a bit for each word of `out`, and `changes` eight words more than
/// `bitmap` has ones.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn expand(bitmap: &[u8], changes: &[u64], out: &mut [u64]) {
    let mut next = 0;
    let (groups, tail) = out.as_chunks_mut::<8>();
    let lane_bits = _mm256_setr_epi64x(1, 2, 4, 8);
    for (group, &byte) in groups.iter_mut().zip(bitmap) {
        for half in 0..2 {
            let mask = byte >> (4 * half) & 15;
            // SAFETY: `next` counts ones seen so far, and eight words lie behind all of them; the
            // table has a row for each mask; a group is two vectors long.
            unsafe {
                let words = _mm256_loadu_si256(changes.as_ptr().add(next).cast());
                let places = _mm256_loadu_si256(EXPAND[usize::from(mask)].as_ptr().cast());
                let spread = _mm256_permutevar8x32_epi32(words, places);
                let bits = _mm256_and_si256(_mm256_set1_epi64x(i64::from(mask)), lane_bits);
                let changed = _mm256_cmpeq_epi64(bits, lane_bits);
                let place = group.as_mut_ptr().cast::<__m256i>().add(half);
                _mm256_storeu_si256(place, _mm256_and_si256(spread, changed));
            }
            next += mask.count_ones() as usize;
        }
    }
    super::scalar::expand(&bitmap[groups.len()..], &changes[next..], tail);
}
