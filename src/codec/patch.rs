//! Patches: what the few residuals that are wider than their column have above its bits.
//!
//! A residual `r` of a column of width `w` keeps its low `w` bits among the others; the patch holds
//! `r >> w`, which is negative for a residual below the column's base. A near patch is one byte.

use crate::error::Error;
use crate::varint::{self, Reader, zigzag};

/// Bits of the first varint that say what is above; the gap from the last patch takes the others.
const CODE_BITS: u32 = 3;
/// What the codes stand for; the one behind the last says that a zigzag follows.
const CODES: [i64; 7] = [1, 2, -1, 3, -2, 4, 5];

/// Appends one patch.
pub(crate) fn write(gap: usize, above: i64, out: &mut Vec<u8>) {
    let code = CODES.iter().position(|c| *c == above);
    varint::write((gap as u64) << CODE_BITS | code.unwrap_or(CODES.len()) as u64, out);
    if code.is_none() {
        varint::write_signed(above, out);
    }
}

/// Bytes that [`write()`] will use.
pub(crate) fn encoded_bytes(gap: usize, above: i64) -> usize {
    let first = varint::encoded_bytes((gap as u64) << CODE_BITS);
    first + if CODES.contains(&above) { 0 } else { varint::encoded_bytes(zigzag(above)) }
}

/// The patches of a column, in order of position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patches<'a> {
    bytes: &'a [u8],
    width: u32,
    /// Position behind the last patch added.
    floor: usize,
}

impl<'a> Patches<'a> {
    /// Takes the list unread: it is checked while it is added.
    pub(crate) fn parse(reader: &mut Reader<'a>, width: u32) -> Result<Self, Error> {
        if width == 64 {
            return Err(Error::Corrupt("patches of full words"));
        }
        let length = reader.varint_usize()?;
        Ok(Self { bytes: reader.take(length)?, width, floor: 0 })
    }

    /// Adds the patches that fall into `words`, whose first has index `first`; keeps the others for
    /// the next words. What is before a patch already added is left alone.
    pub(crate) fn apply(&mut self, first: usize, words: &mut [u64]) -> Result<(), Error> {
        let (mut bytes, mut floor) = (self.bytes, self.floor);
        let end = first + words.len();
        // Nearly all patches are one byte, read here without the general reader.
        while let Some((&byte, behind)) = bytes.split_first() {
            let code = usize::from(byte & ((1 << CODE_BITS) - 1));
            let (gap, above, rest) = if byte < 0x80 && code < CODES.len() {
                (usize::from(byte >> CODE_BITS), CODES[code], behind)
            } else {
                Self::one(bytes)?
            };
            let position = floor.saturating_add(gap);
            if position >= end {
                break;
            }
            let word = position.checked_sub(first).and_then(|at| words.get_mut(at));
            let word = word.ok_or(Error::Corrupt("patch out of order"))?;
            *word = word.wrapping_add((above as u64) << self.width);
            (bytes, floor) = (rest, position + 1);
        }
        (self.bytes, self.floor) = (bytes, floor);
        Ok(())
    }

    /// Says whether all patches had their place.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Error::Corrupt("patch behind the column")) }
    }

    #[cold]
    fn one(bytes: &[u8]) -> Result<(usize, i64, &[u8]), Error> {
        let mut reader = Reader::new(bytes);
        let first = reader.varint_usize()?;
        let above = match CODES.get(first & ((1 << CODE_BITS) - 1)) {
            Some(&above) => above,
            None => reader.varint_signed()?,
        };
        Ok((first >> CODE_BITS, above, reader.rest()))
    }
}
