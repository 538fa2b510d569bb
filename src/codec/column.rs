//! Integer columns: what every time and value column becomes in the end.
//!
//! A column is a transform with two or three parameters and the bit-packed residuals that the
//! transform leaves. The byte layout is drawn in `docs/format/chunk.md`. This file holds the format
//! and its decoder; [`crate::column_encode`] chooses the transform.

use crate::arch::{Isa, Ramp, Shape, Sink, Source};
use crate::bitpack::{self, packed_bytes};
use crate::error::Error;
use crate::patch::Patches;
use crate::varint::Reader;

/// How residuals become values. Numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    /// One value, always.
    Const = 0,
    /// base + residual.
    For = 1,
    /// base, then sums of (step + residual).
    Delta = 2,
    /// base, first delta, then double sums of (step + residual).
    Delta2 = 3,
    /// base + i * step + residual.
    Lin = 4,
    /// Deltas as in `Delta`, but only of the slots that change, which a bitmap names.
    Sparse = 5,
}

impl Transform {
    fn from_bits(bits: u16) -> Result<Self, Error> {
        Ok(match bits {
            0 => Self::Const,
            1 => Self::For,
            2 => Self::Delta,
            3 => Self::Delta2,
            4 => Self::Lin,
            5 => Self::Sparse,
            _ => return Err(Error::Corrupt("column transform")),
        })
    }

    /// Residuals that `count` values leave (of `Sparse`: slots of the bitmap).
    pub(crate) fn residual_count(self, count: usize) -> usize {
        match self {
            Self::Const => 0,
            Self::For | Self::Lin => count,
            Self::Delta | Self::Sparse => count.saturating_sub(1),
            Self::Delta2 => count.saturating_sub(2),
        }
    }
}

/// Constants below this are written into the head of their column.
pub(crate) const INLINE_END: i64 = 31;
/// Bit of the head that says patches follow.
pub(crate) const PATCHED: u16 = 1 << 3;
/// Width 64 in the six bits of the head.
pub(crate) const WIDTH_64: u16 = 63;
/// Patched residuals are decoded in blocks of this many, beside half a KiB of the stack.
const BLOCK: usize = 512;

/// A column whose head is read and whose lengths are checked.
#[derive(Clone, Debug)]
pub(crate) struct Column<'a> {
    transform: Transform,
    width: u32,
    shift: u32,
    base: i64,
    step: i64,
    first_delta: i64,
    count: usize,
    patches: Option<Patches<'a>>,
    /// Ones in the bitmap.
    changes: usize,
    bitmap: &'a [u8],
    /// Begins with the packed residuals and goes on to the end of the caller's bytes.
    packed: &'a [u8],
}

impl<'a> Column<'a> {
    /// Reads a column whose values are all one; leaves the reader alone if it is another.
    #[inline]
    pub(crate) fn constant(reader: &mut Reader<'a>) -> Result<Option<i64>, Error> {
        let Some(&first) = reader.rest().first() else { return Err(Error::Truncated("column")) };
        if first & 7 != Transform::Const as u8 {
            return Ok(None);
        }
        let first = reader.u8()?;
        Ok(Some(match first >> 3 {
            0 => reader.varint_signed()?,
            inline => i64::from(inline) - 1,
        }))
    }

    /// Reads the head of a column of `count` values; the reader ends behind the column.
    // PERF: inlined, or what it returns is copied twice.
    #[inline(always)]
    pub(crate) fn parse(reader: &mut Reader<'a>, count: usize) -> Result<Self, Error> {
        let mut column = Column {
            transform: Transform::Const,
            width: 0,
            shift: 0,
            base: 0,
            step: 0,
            first_delta: 0,
            count,
            patches: None,
            changes: 0,
            bitmap: &[],
            packed: &[],
        };
        if let Some(base) = Self::constant(reader)? {
            column.base = base;
            return Ok(column);
        }
        let first = u16::from(reader.u8()?);
        let transform = Transform::from_bits(first & 7)?;
        column.transform = transform;
        let head = first | u16::from(reader.u8()?) << 8;
        column.width = width_from_bits(head >> 4 & 63)?;
        column.shift = u32::from(head >> 10);
        column.base = reader.varint_signed()?;
        if transform != Transform::For {
            column.step = reader.varint_signed()?;
        }
        if transform == Transform::Delta2 {
            column.first_delta = reader.varint_signed()?;
        }
        column.parse_body(reader, head)?;
        Ok(column)
    }

    fn parse_body(&mut self, reader: &mut Reader<'a>, head: u16) -> Result<(), Error> {
        let slots = self.transform.residual_count(self.count);
        let mut residuals = slots;
        if self.transform == Transform::Sparse {
            residuals = reader.varint_usize()?;
            if residuals > slots {
                return Err(Error::Corrupt("more changes than slots"));
            }
            self.changes = residuals;
        }
        if head & PATCHED != 0 {
            if self.width == 64 {
                return Err(Error::Corrupt("patches of full words"));
            }
            self.patches = Some(Patches::parse(reader)?);
        }
        if self.transform == Transform::Sparse {
            self.bitmap = reader.take(slots.div_ceil(8))?;
            let behind =
                self.bitmap.last().is_some_and(|b| !slots.is_multiple_of(8) && b >> (slots % 8) != 0);
            if bitpack::ones(self.bitmap) != residuals || behind {
                return Err(Error::Corrupt("bitmap of changes"));
            }
        }
        self.packed = reader.rest();
        reader.take(packed_bytes(residuals, self.width))?;
        Ok(())
    }

    /// Decodes all values through `sink` into `out`, whose length is the count given to `parse`.
    #[inline]
    pub(crate) fn decode(&self, isa: Isa, sink: Sink, out: &mut [u64]) -> Result<(), Error> {
        assert_eq!(out.len(), self.count, "a column fills its buffer");
        if out.is_empty() {
            return Ok(());
        }
        let mut ramp = Ramp { value: self.base, delta: 0, step: self.step, shift: self.shift };
        let shape = match self.transform {
            Transform::Const => {
                isa.fill(self.base, sink, out);
                return Ok(());
            }
            Transform::For | Transform::Lin => Shape::Line,
            Transform::Delta => Shape::Delta,
            Transform::Delta2 => Shape::Delta2,
            Transform::Sparse if sink == Sink::Ulp => return self.decode_sparse_ulps(isa, out),
            Transform::Sparse => return self.decode_sparse(isa, sink, ramp, out),
        };
        let ahead = self.count - self.transform.residual_count(self.count);
        let (first, rest) = out.split_at_mut(ahead);
        if let Some((value, next)) = first.split_first_mut() {
            isa.fill(self.base, sink, std::slice::from_mut(value));
            if !next.is_empty() {
                ramp.value = self.base.wrapping_add(self.first_delta);
                ramp.delta = self.first_delta;
                isa.fill(ramp.value, sink, next);
            }
        }
        self.decode_residuals(isa, shape, sink, ramp, rest)
    }

    /// Decodes as many residuals as `out` has places.
    #[inline]
    fn decode_residuals(
        &self,
        isa: Isa,
        shape: Shape,
        sink: Sink,
        mut ramp: Ramp,
        out: &mut [u64],
    ) -> Result<(), Error> {
        let width = self.width;
        let Some(mut patches) = self.patches else {
            isa.decode(shape, sink, Source::Packed { bytes: self.packed, width, above: &[] }, ramp, out);
            return Ok(());
        };
        let mut above = [0i8; BLOCK];
        for (idx, part) in out.chunks_mut(BLOCK).enumerate() {
            if idx > 0 {
                above.fill(0);
            }
            patches.note(isa, idx * BLOCK, &mut above[..part.len()])?;
            let bytes = &self.packed[packed_bytes(idx * BLOCK, width)..];
            let source = Source::Packed { bytes, width, above: &above };
            ramp = if patches.has_wide() {
                let patch = |words: &mut [u64]| patches.widen(width, &above, words);
                decode_wide(isa, shape, sink, source, ramp, part, patch)?
            } else {
                isa.decode(shape, sink, source, ramp, part)
            };
        }
        patches.finish()
    }

    /// The values of changes are decoded to the end of `out`, and spread from there to all slots: no
    /// slot without a change is summed up.
    fn decode_sparse(&self, isa: Isa, sink: Sink, ramp: Ramp, out: &mut [u64]) -> Result<(), Error> {
        // `parse` has counted them: no more than slots, of which `out` has one more.
        let tail = out.len() - self.changes - 1;
        let (first, rest) = out[tail..].split_at_mut(1);
        isa.fill(self.base, sink, first);
        self.decode_residuals(isa, Shape::Delta, sink, ramp, rest)?;
        isa.spread(self.bitmap, self.changes, out);
        Ok(())
    }

    /// The same where `out` is taken by the doubles that are to be moved: slot by slot.
    fn decode_sparse_ulps(&self, isa: Isa, out: &mut [u64]) -> Result<(), Error> {
        let (first, rest) = out.split_at_mut(1);
        isa.fill(self.base, Sink::Ulp, first);
        let mut ramp = Ramp { value: self.base, delta: 0, step: 0, shift: 0 };
        let mut patches = self.patches;
        let mut changed = 0;
        let mut deltas = [0u64; BLOCK];
        for (part, bitmap) in rest.chunks_mut(BLOCK).zip(self.bitmap.chunks(BLOCK / 8)) {
            for (slot, delta) in deltas[..part.len()].iter_mut().enumerate() {
                *delta = 0;
                if bitmap[slot / 8] >> (slot % 8) & 1 == 0 {
                    continue;
                }
                let mut residual = [bitpack::value_at(self.packed, self.width, changed)];
                if let Some(patches) = &mut patches {
                    patches.apply(self.width, changed, &mut residual)?;
                }
                *delta = (self.step as u64).wrapping_add(residual[0] << self.shift);
                changed += 1;
            }
            ramp = isa.decode(Shape::Delta, Sink::Ulp, Source::Words(&deltas[..part.len()]), ramp, part);
        }
        patches.map_or(Ok(()), |patches| patches.finish())
    }
}

/// Decodes with patches that a byte does not hold: rare, and mostly the resets of counters.
fn decode_wide(
    isa: Isa,
    shape: Shape,
    sink: Sink,
    source: Source<'_>,
    ramp: Ramp,
    out: &mut [u64],
    patch: impl FnOnce(&mut [u64]) -> Result<(), Error>,
) -> Result<Ramp, Error> {
    let residuals = Ramp { value: 0, delta: 0, step: 0, shift: 0 };
    if sink == Sink::Ulp {
        let mut words = [0u64; BLOCK];
        let words = &mut words[..out.len()];
        isa.decode(Shape::Line, Sink::Int, source, residuals, words);
        patch(words)?;
        return Ok(isa.decode(shape, sink, Source::Words(words), ramp, out));
    }
    // PERF: in place, for a block beside it would have to be zeroed first.
    isa.decode(Shape::Line, Sink::Int, source, residuals, out);
    patch(out)?;
    Ok(isa.decode(shape, sink, Source::Out, ramp, out))
}

fn width_from_bits(bits: u16) -> Result<u32, Error> {
    match bits {
        WIDTH_64 => Ok(64),
        bits if u32::from(bits) <= bitpack::WIDTH_MAX => Ok(u32::from(bits)),
        _ => Err(Error::Corrupt("bit width")),
    }
}

/// Decodes a column of `out.len()` integers; returns the bytes it took.
pub fn decode(bytes: &[u8], out: &mut [i64]) -> Result<usize, Error> {
    decode_with(Isa::best(), bytes, out)
}

/// [`decode`] with a chosen instruction set.
pub fn decode_with(isa: Isa, bytes: &[u8], out: &mut [i64]) -> Result<usize, Error> {
    let mut reader = Reader::new(bytes);
    let column = Column::parse(&mut reader, out.len())?;
    column.decode(isa, Sink::Int, crate::arch::words_of_ints(out))?;
    Ok(reader.position())
}
