//! Value chunks: a column of doubles as integers in disguise.
//!
//! Most doubles of a monitor were printed as decimals: v = n / 10^e by one correctly rounded
//! division, which is checked by bits for every value, so nothing is lost. Sums of decimals miss by
//! a few ulps, kept in a second column. True doubles are taken in their order as integers. What
//! fits nowhere (NaNs, infinities, -0.0, misfits) is an exception. Layout: `docs/format/chunk.md`.

use std::ops::Range;

use crate::arch::{EXPONENT_MAX, Isa, Sink, order, words_of_floats};
use crate::column::Column;
use crate::error::Error;
use crate::value_encode::Encoder;
use crate::varint::Reader;

pub use crate::column_encode::Tier;

/// How a value chunk becomes doubles; two bits of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    /// One double, eight bytes.
    Const8 = 0,
    /// n / 10^e.
    Decimal = 1,
    /// n / 10^e, moved by some ulps.
    DecimalUlp = 2,
    /// The order of doubles.
    Ordered = 3,
}

/// Bit of the head that says exceptions follow.
pub(crate) const EXCEPTIONS: u8 = 1 << 2;

/// Exceptions that need no eight bytes; the index is the code.
pub(crate) const SPECIALS: [u64; 6] = [
    0x7ff0_0000_0000_0002, // the stale marker
    0x7ff8_0000_0000_0001, // NaN as parsed from text
    0x7ff0_0000_0000_0000, // +Inf
    0xfff0_0000_0000_0000, // -Inf
    0x8000_0000_0000_0000, // -0.0
    0x7ff8_0000_0000_0000, // NaN as arithmetic makes it
];
/// Code that repeats the exception before it: at the next places, as many as stand for the gap.
pub(crate) const REPEAT: u64 = 6;
/// Code of an exception whose eight bytes follow.
pub(crate) const SPECIAL_RAW: u64 = 7;

/// Appends the chunk of `values`. Allocates scratch memory: in a loop, keep an [`Encoder`].
pub fn encode(values: &[f64], tier: Tier, out: &mut Vec<u8>) {
    Encoder::new().encode(values, tier, out);
}

/// Decodes a chunk of `out.len()` values, which `n` repeats. `bytes` may go on behind the chunk; 64
/// bytes of slack make the last values faster.
pub fn decode(bytes: &[u8], n: usize, out: &mut [f64]) -> Result<(), Error> {
    if out.len() != n {
        return Err(Error::Count { stored: n, given: out.len() });
    }
    decode_with(Isa::best(), bytes, out).map(|_| ())
}

/// [`decode`] with a chosen instruction set; returns the bytes the chunk took.
pub fn decode_with(isa: Isa, bytes: &[u8], out: &mut [f64]) -> Result<usize, Error> {
    let mut reader = Reader::new(bytes);
    let count = out.len();
    let out = words_of_floats(out);
    let head = reader.u8()?;
    let exponent = head >> 3;
    if exponent > EXPONENT_MAX {
        return Err(Error::Corrupt("exponent"));
    }
    // PERF: most series of a monitor never change; their chunks are two bytes.
    if head & 7 == Domain::Decimal as u8
        && let Some(value) = Column::constant(&mut reader)?
    {
        isa.fill(value, Sink::Decimal(exponent), out);
        return Ok(reader.position());
    }
    let exceptions = if head & EXCEPTIONS != 0 { Some(Exceptions::parse(&mut reader, count)?) } else { None };
    match head & 3 {
        0 => {
            let bits = reader.u64_le()?;
            isa.repeat(bits, out);
        }
        1 => Column::parse(&mut reader, count)?.decode(isa, Sink::Decimal(exponent), out)?,
        2 => {
            let near = Column::parse(&mut reader, count)?;
            let ulps = Column::parse(&mut reader, count)?;
            near.decode(isa, Sink::Decimal(exponent), out)?;
            ulps.decode(isa, Sink::Ulp, out)?;
        }
        _ => Column::parse(&mut reader, count)?.decode(isa, Sink::Ordered, out)?,
    }
    if let Some(exceptions) = exceptions {
        exceptions.apply(out);
    }
    Ok(reader.position())
}

/// The double whose bits a chunk of one repeated value holds, if `bytes` is such a chunk: no buffer
/// need be filled to know it.
pub fn constant(bytes: &[u8], n: usize) -> Option<f64> {
    let mut reader = Reader::new(bytes);
    let head = reader.u8().ok()?;
    if head & 3 == Domain::Const8 as u8 && head & EXCEPTIONS == 0 {
        return Some(f64::from_bits(reader.u64_le().ok()?));
    }
    let constant_decimal = head & 7 == Domain::Decimal as u8 && *reader.rest().first()? & 7 == 0;
    if !constant_decimal || n == 0 {
        return None;
    }
    let mut one = [0.0];
    decode_with(Isa::SCALAR, bytes, &mut one).ok()?;
    Some(one[0])
}

/// Positions and bits that the integer columns cannot hold.
struct Exceptions<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> Exceptions<'a> {
    /// Reads past the list and checks that its positions ascend below `count`.
    fn parse(reader: &mut Reader<'a>, count: usize) -> Result<Self, Error> {
        let stored = reader.varint_usize()?;
        if stored > count {
            return Err(Error::Corrupt("more exceptions than values"));
        }
        let list = Self { reader: Reader::new(reader.rest()), count: stored };
        let mut read = 0;
        let mut end = 0usize;
        let mut before = None;
        while read < stored {
            let run = Self::run(reader, &mut end, &mut before)?;
            read += run.len();
            if run.end > count || read > stored {
                return Err(Error::Corrupt("exception behind the chunk"));
            }
        }
        Ok(list)
    }

    /// The next places and the bits that they share; `end` is where the last ones ended.
    fn run(
        reader: &mut Reader<'_>,
        end: &mut usize,
        before: &mut Option<u64>,
    ) -> Result<Range<usize>, Error> {
        let word = reader.varint()?;
        let gap = usize::try_from(word >> 3).map_err(|_| Error::Corrupt("exception behind the chunk"))?;
        // A 61-bit gap and an end inside the chunk: no overflow.
        let after = *end + gap;
        if word & 7 == REPEAT {
            if before.is_none() || gap == 0 {
                return Err(Error::Corrupt("repetition of nothing"));
            }
            let run = *end..after;
            *end = after;
            return Ok(run);
        }
        *before = Some(match SPECIALS.get((word & 7) as usize) {
            Some(&bits) => bits,
            None => reader.u64_le()?,
        });
        *end = after + 1;
        Ok(after..after + 1)
    }

    fn apply(mut self, out: &mut [u64]) {
        let (mut end, mut bits, mut read) = (0, None, 0);
        while read < self.count {
            // `parse` has read the same bytes: it cannot fail, nor lie outside.
            let Ok(run) = Self::run(&mut self.reader, &mut end, &mut bits) else { return };
            read += run.len();
            if let (Some(words), Some(bits)) = (out.get_mut(run), bits) {
                words.fill(bits);
            }
        }
    }
}

/// Bits of a double in the order of doubles.
#[inline]
pub(crate) fn ordered(value: f64) -> i64 {
    order(value.to_bits() as i64)
}

#[cfg(test)]
mod tests;
