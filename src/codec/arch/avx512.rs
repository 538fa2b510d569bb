//! AVX-512 kernels: eight values a step, unpacked by one byte permutation (VBMI).
//!
//! Eight values of `w` bits are `w` bytes: a masked load takes exactly these, so no slack is needed.

use std::arch::x86_64::*;

use super::{POWERS_OF_TEN, Ramp, Shape, Sink, Source};
use crate::bitpack::packed_bytes;

const LINE: u8 = 0;
const DELTA: u8 = 1;
const DELTA2: u8 = 2;

const INT: u8 = 0;
const DECIMAL: u8 = 1;
const ORDERED: u8 = 2;
const ULP: u8 = 3;
const WHOLE: u8 = 4;

/// Decodes `out.len()` values.
///
/// # Safety
/// The CPU has the features; `source` holds `out.len()` residuals.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vbmi")]
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
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vbmi")]
unsafe fn by_shape<const SINK: u8>(
    shape: Shape,
    source: Source<'_>,
    power: f64,
    ramp: Ramp,
    out: &mut [u64],
) -> Ramp {
    let (out, count) = (out.as_mut_ptr(), out.len());
    let (bytes, width) = match source {
        Source::Packed { bytes, width } => (bytes.as_ptr(), width),
        Source::Words(words) => (words.as_ptr().cast::<u8>(), 64),
        Source::Out => (out.cast_const().cast::<u8>(), 64),
    };
    // SAFETY: words are packed values of 64 bits on a little-endian machine; the rest is promised.
    unsafe {
        match shape {
            Shape::Line => run::<LINE, SINK>(bytes, width, power, ramp, out, count),
            Shape::Delta => run::<DELTA, SINK>(bytes, width, power, ramp, out, count),
            Shape::Delta2 => run::<DELTA2, SINK>(bytes, width, power, ramp, out, count),
        }
    }
}

/// How one width is taken apart.
#[derive(Clone, Copy)]
struct Unpack {
    permutation: __m512i,
    shifts: __m512i,
    keep: __m512i,
}

impl Unpack {
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

    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi")]
    fn split(self, bytes: __m512i) -> __m512i {
        let fields = _mm512_permutexvar_epi8(self.permutation, bytes);
        _mm512_and_epi64(_mm512_srlv_epi64(fields, self.shifts), self.keep)
    }
}

/// The running sums, in vectors.
#[derive(Clone, Copy)]
struct Sums {
    shift: __m128i,
    /// `Line`: the next eight values without residuals. Else: the last value in every lane.
    value: __m512i,
    /// `Line`: eight steps. Else: one to eight steps.
    steps: __m512i,
    /// `Delta2`: the last delta in every lane.
    delta: __m512i,
    /// `Delta2`: the deltas of this step.
    deltas: __m512i,
}

impl Sums {
    #[target_feature(enable = "avx512f,avx512dq")]
    fn new<const SHAPE: u8>(ramp: Ramp) -> Self {
        let value = _mm512_set1_epi64(ramp.value);
        let step = _mm512_set1_epi64(ramp.step);
        let (value, steps) = if SHAPE == LINE {
            (_mm512_add_epi64(value, _mm512_mullo_epi64(lanes(), step)), _mm512_slli_epi64::<3>(step))
        } else {
            (value, _mm512_mullo_epi64(ordinals(), step))
        };
        let delta = _mm512_set1_epi64(ramp.delta);
        Self { shift: _mm_cvtsi64_si128(i64::from(ramp.shift)), value, steps, delta, deltas: delta }
    }

    /// The eight values of eight residuals. The only chain from step to step is one addition (two
    /// for `Delta2`): all sums inside a step are made before the carry is added.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn next<const SHAPE: u8>(&mut self, residuals: __m512i) -> __m512i {
        let shifted = _mm512_sll_epi64(residuals, self.shift);
        if SHAPE == LINE {
            let values = _mm512_add_epi64(self.value, shifted);
            self.value = _mm512_add_epi64(self.value, self.steps);
            return values;
        }
        let sums = _mm512_add_epi64(scan(shifted), self.steps);
        if SHAPE == DELTA {
            let values = _mm512_add_epi64(self.value, sums);
            self.value = _mm512_add_epi64(self.value, last(sums));
            return values;
        }
        let double_sums = scan(sums);
        let carried = _mm512_mullo_epi64(ordinals(), self.delta);
        let values = _mm512_add_epi64(self.value, _mm512_add_epi64(double_sums, carried));
        let eight_deltas = _mm512_slli_epi64::<3>(self.delta);
        self.value = _mm512_add_epi64(self.value, _mm512_add_epi64(last(double_sums), eight_deltas));
        self.deltas = _mm512_add_epi64(self.delta, sums);
        self.delta = _mm512_add_epi64(self.delta, last(sums));
        values
    }
}

/// # Safety
/// As [`decode`]; `bytes` are the packed residuals, `out` has room for `count` words. Both may be the
/// same memory if `width` is 64: each group is read before it is written.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vbmi")]
unsafe fn run<const SHAPE: u8, const SINK: u8>(
    bytes: *const u8,
    width: u32,
    power: f64,
    mut ramp: Ramp,
    out: *mut u64,
    count: usize,
) -> Ramp {
    let unpack = Unpack::new(width);
    let mut sums = Sums::new::<SHAPE>(ramp);
    let power = _mm512_set1_pd(power);
    let inverse = _mm512_div_pd(_mm512_set1_pd(1.0), power);
    let full = count / 8;
    let group_bytes = width as usize;
    let load = low_bits(group_bytes);
    for group in 0..full {
        // SAFETY: the group's `width` bytes lie before `packed_bytes(count, width)`, which the
        // caller promised; masked bytes are not touched. Its eight words lie in `out`.
        unsafe {
            let packed = load_bytes(load, bytes.add(group * group_bytes));
            let values = sums.next::<SHAPE>(unpack.split(packed));
            let place = out.add(group * 8).cast();
            let near = if SINK == ULP { _mm512_loadu_si512(place) } else { values };
            _mm512_storeu_si512(place, finish::<SINK>(values, near, power, inverse));
        }
    }
    let rest = count % 8;
    if SHAPE == LINE {
        ramp.value = ramp.value.wrapping_add(ramp.step.wrapping_mul(count as i64));
    } else {
        ramp.value = lane(sums.value, 7);
        ramp.delta = lane(sums.delta, 7);
    }
    if rest > 0 {
        let load = low_bits(packed_bytes(rest, width));
        let store = (1u8 << rest) - 1;
        // SAFETY: as above, with the bytes and words of the last `rest` values only.
        unsafe {
            let packed = load_bytes(load, bytes.add(full * group_bytes));
            let values = sums.next::<SHAPE>(unpack.split(packed));
            let place = out.add(full * 8).cast();
            let near = if SINK == ULP { _mm512_maskz_loadu_epi64(store, place) } else { values };
            _mm512_mask_storeu_epi64(place, store, finish::<SINK>(values, near, power, inverse));
            if SHAPE != LINE {
                ramp.value = lane(values, rest - 1);
                ramp.delta = lane(sums.deltas, rest - 1);
            }
        }
    }
    ramp
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
fn ordinals() -> __m512i {
    _mm512_setr_epi64(1, 2, 3, 4, 5, 6, 7, 8)
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

/// Puts changes where `bitmap` has ones.
///
/// # Safety
/// The CPU has the features; `bitmap` has a bit for each word of `out`, and `changes` eight words
/// more than `bitmap` has ones.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn expand(bitmap: &[u8], changes: &[u64], out: &mut [u64]) {
    let mut next = 0;
    let (groups, tail) = out.as_chunks_mut::<8>();
    for (group, &mask) in groups.iter_mut().zip(bitmap) {
        // SAFETY: `next` counts ones seen so far, and eight words lie behind all of them.
        let words = unsafe { _mm512_loadu_si512(changes.as_ptr().add(next).cast()) };
        // SAFETY: the group is eight words long.
        unsafe { _mm512_storeu_si512(group.as_mut_ptr().cast(), _mm512_maskz_expand_epi64(mask, words)) };
        next += mask.count_ones() as usize;
    }
    super::scalar::expand(&bitmap[groups.len()..], &changes[next..], tail);
}
