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

/// Bytes that [`write`] will use.
pub(crate) fn encoded_bytes(gap: usize, above: i64) -> usize {
    let first = varint::encoded_bytes((gap as u64) << CODE_BITS);
    first + if CODES.contains(&above) { 0 } else { varint::encoded_bytes(zigzag(above)) }
}

/// The patches of a column, in order of position.
#[derive(Clone, Debug)]
pub(crate) struct Patches<'a> {
    reader: Reader<'a>,
    left: usize,
    width: u32,
    /// Position of the next patch and what it adds, once read.
    next: Option<(usize, u64)>,
    /// Smallest position the next patch can have.
    floor: usize,
}

impl<'a> Patches<'a> {
    /// Reads past the list and checks that its positions ascend below `residuals`.
    pub(crate) fn parse(reader: &mut Reader<'a>, residuals: usize, width: u32) -> Result<Self, Error> {
        if width == 64 {
            return Err(Error::Corrupt("patches of full words"));
        }
        let left = reader.varint_usize()?;
        if left > residuals {
            return Err(Error::Corrupt("more patches than residuals"));
        }
        let start = Reader::new(reader.rest());
        let mut floor = 0usize;
        for _ in 0..left {
            let (gap, _) = Self::one(reader)?;
            match gap.checked_add(floor) {
                Some(position) if position < residuals => floor = position + 1,
                _ => return Err(Error::Corrupt("patch behind the column")),
            }
        }
        let mut patches = Self { reader: start, left, width, next: None, floor: 0 };
        patches.advance();
        Ok(patches)
    }

    #[inline]
    fn one(reader: &mut Reader<'_>) -> Result<(usize, i64), Error> {
        let first = reader.varint_usize()?;
        let above = match CODES.get(first & ((1 << CODE_BITS) - 1)) {
            Some(&above) => above,
            None => reader.varint_signed()?,
        };
        Ok((first >> CODE_BITS, above))
    }

    #[inline]
    fn advance(&mut self) {
        self.next = None;
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        // `parse` has read the same bytes: it cannot fail.
        if let Ok((gap, above)) = Self::one(&mut self.reader) {
            let position = self.floor + gap;
            self.floor = position + 1;
            self.next = Some((position, (above as u64) << self.width));
        }
    }

    /// Adds the patches that fall into `words`, whose first has index `first`. Words behind those
    /// Adds the patches that fall into `words`, whose first has index `first`. What is before a patch
    /// already added is left alone.
    pub(crate) fn apply(&mut self, first: usize, words: &mut [u64]) {
        while let Some((position, above)) = self.next {
            match position.checked_sub(first).and_then(|at| words.get_mut(at)) {
                Some(word) => *word = word.wrapping_add(above),
                None => return,
            }
            self.advance();
        }
    }
}
