//! Kernels in plain Rust: the definition of the format, the oracle, and the fallback.

use super::{POWERS_OF_TEN, Ramp, Shape, Sink, Source, order};
use crate::bitpack::value_at;

pub(super) fn decode(shape: Shape, sink: Sink, source: Source<'_>, ramp: Ramp, out: &mut [u64]) -> Ramp {
    match source {
        Source::Packed { width: 0, above: [], .. } => decode_from(shape, sink, |_, _| 0, ramp, out),
        Source::Packed { bytes, width, above: [] } => {
            decode_from(shape, sink, |i, _| value_at(bytes, width, i), ramp, out)
        }
        Source::Packed { bytes, width, above } => {
            let residual = |i| value_at(bytes, width, i).wrapping_add((i64::from(above[i]) as u64) << width);
            decode_from(shape, sink, |i, _| residual(i), ramp, out)
        }
        Source::Words(words) => decode_from(shape, sink, |i, _| words[i], ramp, out),
        Source::Out => decode_from(shape, sink, |_, word| word, ramp, out),
    }
}

#[inline(always)]
fn decode_from(
    shape: Shape,
    sink: Sink,
    residual: impl Fn(usize, u64) -> u64,
    ramp: Ramp,
    out: &mut [u64],
) -> Ramp {
    match sink {
        Sink::Int => run(shape, residual, ramp, out, |value, _| value as u64),
        Sink::Decimal(exponent) => {
            let power = POWERS_OF_TEN[usize::from(exponent)];
            run(shape, residual, ramp, out, |value, _| (value as f64 / power).to_bits())
        }
        Sink::Ordered => run(shape, residual, ramp, out, |value, _| order(value) as u64),
        Sink::Ulp => run(shape, residual, ramp, out, |value, near| {
            order(order(near as i64).wrapping_add(value)) as u64
        }),
    }
}

#[inline(always)]
fn run(
    shape: Shape,
    residual: impl Fn(usize, u64) -> u64,
    mut ramp: Ramp,
    out: &mut [u64],
    finish: impl Fn(i64, u64) -> u64,
) -> Ramp {
    for (idx, slot) in out.iter_mut().enumerate() {
        let shifted = (residual(idx, *slot) << ramp.shift) as i64;
        let value = match shape {
            Shape::Line => {
                let value = ramp.value.wrapping_add(shifted);
                ramp.value = ramp.value.wrapping_add(ramp.step);
                value
            }
            Shape::Delta => {
                ramp.value = ramp.value.wrapping_add(ramp.step).wrapping_add(shifted);
                ramp.value
            }
            Shape::Delta2 => {
                ramp.delta = ramp.delta.wrapping_add(ramp.step).wrapping_add(shifted);
                ramp.value = ramp.value.wrapping_add(ramp.delta);
                ramp.value
            }
        };
        *slot = finish(value, *slot);
    }
    ramp
}

/// `next` is where the value ahead lies, those of changes behind it.
pub(super) fn spread(bitmap: &[u8], mut next: usize, out: &mut [u64]) {
    let last = out.len() - 1;
    for slot in 0..last {
        let changed = bitmap[slot / 8] >> (slot % 8) & 1 != 0;
        next = last.min(next + usize::from(changed));
        out[slot + 1] = out[next];
    }
}
