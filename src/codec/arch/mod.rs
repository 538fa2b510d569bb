//! Decoding kernels, one family per instruction set, behind one choice made once.
//!
//! In: packed residuals or plain words, and how they add up. Out: 64-bit words, integers or floats.
//! Owns: the only `unsafe` of the crate. Runs on: any core.
//! Invariant: every kernel gives the bits that `scalar` gives, on every input, hostile ones too.
//! Never: reads or writes outside the slices it is given.
#![allow(unsafe_code)] // SIMD loads and stores, and calls that need a CPU feature, which `Isa` proves.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod crc32c_x86;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod packed;
mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod unpack;

use std::sync::OnceLock;

use crate::patch::Near;

/// How residuals `r` add up to values, `s = step + (r << shift)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// value + i * step + (r << shift).
    Line,
    /// Running sum of `s`.
    Delta,
    /// Running sum of a running sum of `s`.
    Delta2,
}

/// What becomes of a value on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// The integer itself.
    Int,
    /// The double nearest to integer / 10^exponent.
    Decimal(u8),
    /// The double at this place in the order of doubles.
    Ordered,
    /// As many doubles away from the one already there.
    Ulp,
}

/// Largest power of ten that a double holds exactly.
pub(crate) const EXPONENT_MAX: u8 = 22;

/// 10^0 to 10^22, all exact.
pub(crate) const POWERS_OF_TEN: [f64; EXPONENT_MAX as usize + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Place of a double in the order of doubles, as a signed integer; its own inverse on bits.
#[inline(always)]
pub(crate) const fn order(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// Where a running sum stands. Passed from block to block of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ramp {
    /// `Line`: the next value without its residual. Else: the last value.
    pub value: i64,
    /// `Delta2`: the last delta.
    pub delta: i64,
    pub step: i64,
    /// 0 to 63.
    pub shift: u32,
}

/// Residuals, packed (at least as many as are asked for) or not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Packed {
        bytes: &'a [u8],
        width: u32,
        /// What each residual has above its bits; nothing if empty, else to the end of a group of eight.
        above: &'a [i8],
    },
    Words(&'a [u64]),
    /// Plain words that lie where the values will: a pass in place. Not for [`Sink::Ulp`], which finds
    /// something else there.
    Out,
}

impl Source<'_> {
    /// Panics unless `count` residuals are there: the one check on which the kernels' loads rest.
    fn assert_holds(&self, count: usize) {
        match *self {
            Source::Packed { bytes, width, above } => {
                assert!(width <= crate::bitpack::WIDTH_MAX || width == 64, "width {width}");
                let needed = crate::bitpack::packed_bytes(count, width);
                assert!(bytes.len() >= needed, "{} bytes of {needed}", bytes.len());
                let noted = above.is_empty() || width < 64 && above.len() >= count.next_multiple_of(8);
                assert!(noted, "{} of {count} above {width} bits", above.len());
            }
            Source::Words(words) => assert!(words.len() >= count, "{} words of {count}", words.len()),
            Source::Out => {}
        }
    }
}

/// An instruction set that this CPU has: the value is the proof.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Family);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Isa {
    /// Plain Rust: everywhere, and the oracle of the others.
    pub const SCALAR: Isa = Isa(Family::Scalar);

    /// The fastest family of this CPU, found once.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available().last().unwrap_or(Isa::SCALAR))
    }

    /// All families of this CPU, slowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vbmi");
            [Some(Isa::SCALAR), avx2.then_some(Isa(Family::Avx2)), avx512.then_some(Isa(Family::Avx512))]
                .into_iter()
                .flatten()
        }
        #[cfg(target_arch = "aarch64")]
        {
            let neon = std::arch::is_aarch64_feature_detected!("neon");
            [Some(Isa::SCALAR), neon.then_some(Isa(Family::Neon))].into_iter().flatten()
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        [Isa::SCALAR].into_iter()
    }

    /// Fills `out` with the first values of `packed`.
    pub(crate) fn unpack(self, packed: &[u8], width: u32, out: &mut [u64]) {
        let ramp = Ramp { value: 0, delta: 0, step: 0, shift: 0 };
        self.decode(Shape::Line, Sink::Int, Source::Packed { bytes: packed, width, above: &[] }, ramp, out);
    }

    /// Fills `out` with one value; adds it where the sink adds.
    #[inline]
    pub(crate) fn fill(self, value: i64, sink: Sink, out: &mut [u64]) {
        let word = match sink {
            Sink::Int => value as u64,
            Sink::Decimal(0) => (value as f64).to_bits(),
            Sink::Decimal(exponent) => (value as f64 / POWERS_OF_TEN[usize::from(exponent)]).to_bits(),
            Sink::Ordered => order(value) as u64,
            Sink::Ulp => {
                let ramp = Ramp { value, delta: 0, step: 0, shift: 0 };
                let nothing = Source::Packed { bytes: &[], width: 0, above: &[] };
                self.decode(Shape::Line, sink, nothing, ramp, out);
                return;
            }
        };
        if let [one] = out { *one = word } else { self.repeat(word, out) }
    }

    /// Fills `out` with a word.
    #[inline]
    pub(crate) fn repeat(self, word: u64, out: &mut [u64]) {
        match self.0 {
            Family::Scalar => out.fill(word),
            // Plain stores are as wide as any.
            #[cfg(target_arch = "aarch64")]
            Family::Neon => out.fill(word),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the features.
            Family::Avx2 => unsafe { avx2::repeat(word, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the features.
            Family::Avx512 => unsafe { avx512::repeat(word, out) },
        }
    }

    /// Decodes `out.len()` values; returns where the sums stand behind them.
    #[inline]
    pub(crate) fn decode(
        self,
        shape: Shape,
        sink: Sink,
        source: Source<'_>,
        ramp: Ramp,
        out: &mut [u64],
    ) -> Ramp {
        source.assert_holds(out.len());
        assert!(ramp.shift < 64, "shift {}", ramp.shift);
        match self.0 {
            Family::Scalar => scalar::decode(shape, sink, source, ramp, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this family exists only where the CPU has its features; `source`
            // holds `out.len()` residuals, as asserted above.
            Family::Avx2 => unsafe { avx2::decode(shape, sink, source, ramp, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Family::Avx512 => unsafe { avx512::decode(shape, sink, source, ramp, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Family::Neon => unsafe { neon::decode(shape, sink, source, ramp, out) },
        }
    }

    /// [`Near::note`], whose result this is.
    #[inline]
    pub(crate) fn note(self, near: &mut Near<'_>, floor: usize, above: &mut [i8]) -> usize {
        match self.0 {
            Family::Scalar => near.note(floor, above),
            #[cfg(target_arch = "aarch64")]
            Family::Neon => near.note(floor, above),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the features.
            Family::Avx2 | Family::Avx512 => unsafe { avx2::note(near, floor, above) },
        }
    }

    /// The last `changes + 1` words of `out` are a value and those that it changes to, one at each one
    /// in `bitmap`: puts the first into the first word, and into each word behind it, which has a bit
    /// of `bitmap`, the last value up to there.
    pub(crate) fn spread(self, bitmap: &[u8], changes: usize, out: &mut [u64]) {
        assert!(changes < out.len(), "{changes} changes in {} words", out.len());
        assert!(bitmap.len() == (out.len() - 1).div_ceil(8), "{} bytes of bitmap", bitmap.len());
        let first = out.len() - changes - 1;
        out[0] = out[first];
        // A value is read before its word is written: as many changes are left as words, or fewer.
        match self.0 {
            Family::Scalar => scalar::spread(bitmap, first, out),
            // A table of two lanes would spread no faster.
            #[cfg(target_arch = "aarch64")]
            Family::Neon => scalar::spread(bitmap, first, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the features; the bitmap's length is asserted above.
            Family::Avx2 => unsafe { avx2::spread(bitmap, first, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Family::Avx512 => unsafe { avx512::spread(bitmap, first, out) },
        }
    }
}

/// CRC32C of `bytes` going on from `crc`, by the CPU's own instruction where it has one.
pub(crate) fn crc32c_hardware(crc: u32, bytes: &[u8]) -> Option<u32> {
    #[cfg(target_arch = "x86_64")]
    {
        static FOUND: OnceLock<bool> = OnceLock::new();
        if *FOUND.get_or_init(|| is_x86_feature_detected!("sse4.2")) {
            // SAFETY: the CPU has SSE4.2, as just found.
            return Some(unsafe { crc32c_x86::update(crc, bytes) });
        }
    }
    let _ = (crc, bytes);
    None
}

/// The same memory, seen as words.
pub(crate) fn words_of_ints(ints: &mut [i64]) -> &mut [u64] {
    // SAFETY: i64 and u64 have one size and alignment and every bit pattern is a value of both; the
    // borrow is passed on whole.
    unsafe { std::slice::from_raw_parts_mut(ints.as_mut_ptr().cast::<u64>(), ints.len()) }
}

/// The same memory, seen as words.
pub(crate) fn words_of_floats(floats: &mut [f64]) -> &mut [u64] {
    // SAFETY: as in `words_of_ints`; every bit pattern is an f64.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast::<u64>(), floats.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Chance;

    #[test]
    fn kernels_give_the_bits_of_the_scalar_one() {
        let chance = &mut Chance::new(11);
        for round in 0..4_000 {
            let count = chance.below(70) as usize;
            let width = [chance.below(58) as u32, 64][usize::from(chance.one_in(8))];
            let bytes: Vec<u8> =
                (0..crate::bitpack::packed_bytes(count, width)).map(|_| chance.next() as u8).collect();
            let words: Vec<u64> = (0..count).map(|_| chance.next() >> chance.below(64)).collect();
            let above: Vec<i8> = (0..count.next_multiple_of(8)).map(|_| chance.next() as i8).collect();
            let source = match round % 4 {
                0 => Source::Packed { bytes: &bytes, width, above: &[] },
                1 => Source::Packed { bytes: &bytes, width, above: if width < 64 { &above } else { &[] } },
                2 => Source::Words(&words),
                _ => Source::Out,
            };
            let mut small = || (chance.next() >> chance.below(64)) as i64;
            let mut ramp = Ramp { value: small(), delta: small(), step: small(), shift: 0 };
            ramp.shift = chance.below(64) as u32;
            let before: Vec<u64> = (0..count).map(|_| chance.next()).collect();
            for shape in [Shape::Line, Shape::Delta, Shape::Delta2] {
                let decimal = Sink::Decimal(chance.below(23) as u8);
                for sink in [Sink::Int, decimal, Sink::Decimal(0), Sink::Ordered, Sink::Ulp] {
                    let mut expect = before.clone();
                    let mut end = scalar::decode(shape, sink, source, ramp, &mut expect);
                    if shape == Shape::Delta {
                        end.delta = 0;
                    }
                    for isa in Isa::available() {
                        let mut out = before.clone();
                        let mut isa_end = isa.decode(shape, sink, source, ramp, &mut out);
                        if shape == Shape::Delta {
                            isa_end.delta = 0;
                        }
                        assert_eq!(out, expect, "{isa:?} {shape:?} {sink:?} {source:?}");
                        assert_eq!(isa_end, end, "{isa:?} {shape:?} {sink:?} {count}");
                    }
                }
            }
        }
    }

    #[test]
    fn changes_are_spread_as_the_scalar_one_does() {
        let chance = &mut Chance::new(12);
        for slots in (0..200).flat_map(|slots| [slots; 4]) {
            let density = chance.below(9);
            let mut bitmap = vec![0u8; usize::div_ceil(slots, 8)];
            let mut expect = vec![1000u64];
            for slot in 0..slots {
                let changed = chance.below(8) < density;
                bitmap[slot / 8] |= u8::from(changed) << (slot % 8);
                expect.push(expect[slot] + u64::from(changed));
            }
            let changes = crate::bitpack::ones(&bitmap);
            let mut packed = vec![7; slots + 1];
            packed[slots - changes..].iter_mut().zip(1000..).for_each(|(word, value)| *word = value);
            for isa in Isa::available() {
                let mut out = packed.clone();
                isa.spread(&bitmap, changes, &mut out);
                assert_eq!(out, expect, "{isa:?} {changes} of {slots}");
            }
        }
    }

    #[test]
    fn a_word_fills_any_length() {
        for count in 0..100 {
            for isa in Isa::available() {
                let mut out = vec![1; count + 1];
                isa.repeat(7, &mut out[..count]);
                assert_eq!(out[..count], vec![7; count], "{isa:?}");
                assert_eq!(out[count], 1);
            }
        }
    }
}
