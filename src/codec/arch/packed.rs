//! What every family of kernels begins with: where its residuals lie, and one copy of the loops for each shape and sink.

use super::Source;

pub(super) const LINE: u8 = 0;
pub(super) const DELTA: u8 = 1;
pub(super) const DELTA2: u8 = 2;

pub(super) const INT: u8 = 0;
pub(super) const DECIMAL: u8 = 1;
pub(super) const ORDERED: u8 = 2;
pub(super) const ULP: u8 = 3;
pub(super) const WHOLE: u8 = 4;

/// Where the packed residuals lie.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    pub bytes: *const u8,
    /// Bytes that can be read.
    pub length: usize,
    pub width: u32,
    /// What each residual has above its bits, to the end of a group of eight.
    pub above: Option<*const i8>,
}

impl Packed {
    /// Words are packed values of 64 bits on a little-endian machine. `out` is where `count` values will lie.
    pub(super) fn of(source: Source<'_>, out: *const u64, count: usize) -> Packed {
        let words = |words: *const u64, count: usize| Packed {
            bytes: words.cast(),
            length: count * 8,
            width: 64,
            above: None,
        };
        match source {
            Source::Packed { bytes, width, above } => Packed {
                bytes: bytes.as_ptr(),
                length: bytes.len(),
                width,
                above: (!above.is_empty()).then_some(above.as_ptr()),
            },
            Source::Words(source) => words(source.as_ptr(), source.len()),
            Source::Out => words(out, count),
        }
    }
}

/// The way into a family's `run`, for a CPU with these features: each function must be compiled for them.
macro_rules! entrance {
    ($features:literal) => {
        /// Decodes `out.len()` values.
        ///
        /// # Safety
        /// The CPU has the features; `source` holds `out.len()` residuals.
        #[target_feature(enable = $features)]
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
        #[target_feature(enable = $features)]
        unsafe fn by_shape<const SINK: u8>(
            shape: Shape,
            source: Source<'_>,
            power: f64,
            ramp: Ramp,
            out: &mut [u64],
        ) -> Ramp {
            let (out, count) = (out.as_mut_ptr(), out.len());
            let packed = Packed::of(source, out, count);
            // SAFETY: words are packed values of 64 bits on a little-endian machine; the rest is promised.
            unsafe {
                match shape {
                    Shape::Line => run::<LINE, SINK>(packed, power, ramp, out, count),
                    Shape::Delta => run::<DELTA, SINK>(packed, power, ramp, out, count),
                    Shape::Delta2 => run::<DELTA2, SINK>(packed, power, ramp, out, count),
                }
            }
        }
    };
}
pub(super) use entrance;
