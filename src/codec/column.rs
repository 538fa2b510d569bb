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
/// Residuals are unpacked, patched and expanded in stack blocks of this many: 4 KiB, a tenth of L1.
const BLOCK: usize = 512;
/// The same for columns of up to so many values.
const SMALL_BLOCK: usize = 128;

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
    bitmap: &'a [u8],
    /// Begins with the packed residuals and goes on to the end of the caller's bytes.
    packed: &'a [u8],
}

impl<'a> Column<'a> {
    /// Reads the head of a column of `count` values; the reader ends behind the column.
    pub(crate) fn parse(reader: &mut Reader<'a>, count: usize) -> Result<Self, Error> {
        let first = u16::from(reader.u8()?);
        let transform = Transform::from_bits(first & 7)?;
        let mut column = Column {
            transform,
            width: 0,
            shift: 0,
            base: 0,
            step: 0,
            first_delta: 0,
            count,
            patches: None,
            bitmap: &[],
            packed: &[],
        };
        if transform == Transform::Const {
            column.base = match first >> 3 {
                0 => reader.varint_signed()?,
                inline => i64::from(inline) - 1,
            };
            return Ok(column);
        }
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
        }
        if head & PATCHED != 0 {
            self.patches = Some(Patches::parse(reader, self.width)?);
        }
        if self.transform == Transform::Sparse {
            self.bitmap = reader.take(slots.div_ceil(8))?;
            let set: usize = self.bitmap.iter().map(|b| b.count_ones() as usize).sum();
            let behind =
                self.bitmap.last().is_some_and(|b| !slots.is_multiple_of(8) && b >> (slots % 8) != 0);
            if set != residuals || behind {
                return Err(Error::Corrupt("bitmap of changes"));
            }
        }
        self.packed = reader.rest();
        reader.take(packed_bytes(residuals, self.width))?;
        Ok(())
    }

    /// Decodes all values through `sink` into `out`, whose length is the count given to `parse`.
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
            Transform::Sparse => {
                let (first, rest) = out.split_at_mut(1);
                isa.fill(self.base, sink, first);
                return self.decode_sparse(isa, sink, rest);
            }
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
        match &self.patches {
            None => {
                isa.decode(shape, sink, Source::Packed { bytes: self.packed, width: self.width }, ramp, rest);
                Ok(())
            }
            Some(patches) => self.decode_patched(isa, shape, sink, ramp, *patches, rest),
        }
    }

    fn decode_patched(
        &self,
        isa: Isa,
        shape: Shape,
        sink: Sink,
        mut ramp: Ramp,
        mut patches: Patches<'_>,
        out: &mut [u64],
    ) -> Result<(), Error> {
        // PERF: in place, for a block beside it would have to be zeroed first (a tenth of the time).
        if sink != Sink::Ulp {
            isa.unpack(self.packed, self.width, out);
            patches.apply(0, out)?;
            isa.decode(shape, sink, Source::Out, ramp, out);
            return patches.finish();
        }
        let mut block = [0u64; BLOCK];
        for (idx, part) in out.chunks_mut(BLOCK).enumerate() {
            let words = &mut block[..part.len()];
            let first = idx * BLOCK;
            isa.unpack(&self.packed[packed_bytes(first, self.width)..], self.width, words);
            patches.apply(first, words)?;
            ramp = isa.decode(shape, sink, Source::Words(words), ramp, part);
        }
        patches.finish()
    }

    fn decode_sparse(&self, isa: Isa, sink: Sink, out: &mut [u64]) -> Result<(), Error> {
        // PERF: the buffer of changes is zeroed for each column, so it should not be larger than that.
        if out.len() <= SMALL_BLOCK {
            self.decode_sparse_imp::<SMALL_BLOCK, { SMALL_BLOCK + 16 }>(isa, sink, out)
        } else {
            self.decode_sparse_imp::<BLOCK, { BLOCK + 16 }>(isa, sink, out)
        }
    }

    /// `ROOM` is for a block of changes that begins inside a group of eight, and for the kernel to
    /// read eight words at any of them.
    fn decode_sparse_imp<const SLOTS: usize, const ROOM: usize>(
        &self,
        isa: Isa,
        sink: Sink,
        out: &mut [u64],
    ) -> Result<(), Error> {
        const { assert!(ROOM == SLOTS + 16 && SLOTS.is_multiple_of(8)) };
        let mut changes = [0u64; ROOM];
        let mut patches = self.patches;
        let mut ramp = Ramp { value: self.base, delta: 0, step: 0, shift: 0 };
        let mut changed = 0;
        for (part, bitmap) in out.chunks_mut(SLOTS).zip(self.bitmap.chunks(SLOTS / 8)) {
            let count: usize = bitmap.iter().map(|b| b.count_ones() as usize).sum();
            let aligned = changed / 8 * 8;
            let ahead = changed - aligned;
            let words = &mut changes[..ahead + count];
            isa.unpack(&self.packed[packed_bytes(aligned, self.width)..], self.width, words);
            if let Some(patches) = &mut patches {
                patches.apply(aligned, words)?;
            }
            for word in words {
                *word = (self.step as u64).wrapping_add(*word << self.shift);
            }
            if sink == Sink::Ulp {
                let mut deltas = [0u64; SLOTS];
                let deltas = &mut deltas[..part.len()];
                isa.expand(bitmap, &changes[ahead..], deltas);
                ramp = isa.decode(Shape::Delta, sink, Source::Words(deltas), ramp, part);
            } else {
                isa.expand(bitmap, &changes[ahead..], part);
                ramp = isa.decode(Shape::Delta, sink, Source::Out, ramp, part);
            }
            changed += count;
        }
        patches.map_or(Ok(()), |patches| patches.finish())
    }
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
