//! Patches: what the few residuals that are wider than their column have above its bits.
//!
//! A residual `r` of a column of width `w` keeps its low `w` bits among the others; the patch holds
//! `r >> w`, which is negative for a residual below the column's base. A patch is one byte, of which
//! one half is the gap from the last one and the other says what is above; where a half does not
//! suffice, a byte of another list goes on. So a reader steps over patches without looking for
//! where each begins, and without a branch that depends on the data.

use crate::arch::Isa;
use crate::error::Error;
use crate::varint::{self, Reader, zigzag};

/// What the low halves stand for; the last two are escapes.
pub(crate) const CODES: [i8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, -1, -2, -3, -4, -5, IS_WIDE, 0];
/// Noted where a wide patch is; no byte says it.
const IS_WIDE: i8 = i8::MIN;
/// What is above is a zigzag in the list of wide ones.
pub(crate) const WIDE: u8 = 14;
/// What is above is the next extra byte, signed.
pub(crate) const BYTE: u8 = 15;
/// A gap of this and more goes on in the next extra byte.
pub(crate) const GAP_LONG: usize = 15;
/// The longest gap of one patch; one of nothing is written to go further.
pub(crate) const GAP_MAX: usize = GAP_LONG + 255;

/// The half that stands for `above`.
fn code(above: i64) -> u8 {
    match CODES[..usize::from(WIDE)].iter().position(|c| i64::from(*c) == above) {
        Some(code) => code as u8,
        None if i8::try_from(above).is_ok_and(|above| above != IS_WIDE) => BYTE,
        None => WIDE,
    }
}

/// What a wide patch costs readers, in bytes: a column with one takes them half as long again.
const WIDE_COST: usize = 4;

/// Bytes that a patch will use, and what it costs readers.
pub(crate) fn cost(gap: usize, above: i64) -> usize {
    let more = match code(above) {
        BYTE => 1,
        WIDE => varint::encoded_bytes(zigzag(above)) + WIDE_COST,
        _ => 0,
    };
    1 + usize::from(gap >= GAP_LONG) + more + gap / (GAP_MAX + 1) * 2
}

/// Bytes of the lengths ahead of a list: nearly always these.
pub(crate) const LENGTHS_BYTES: usize = 2;

/// Writes lists of patches; keeps its scratch memory from call to call.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    heads: Vec<u8>,
    extras: Vec<u8>,
    wides: Vec<u8>,
}

impl Writer {
    /// Appends the list of patches at these ascending positions.
    pub(crate) fn write(&mut self, patches: &[(usize, i64)], out: &mut Vec<u8>) {
        let Self { heads, extras, wides } = self;
        heads.clear();
        extras.clear();
        wides.clear();
        let mut floor = 0;
        for &(position, above) in patches {
            while position - floor > GAP_MAX {
                heads.push((GAP_LONG as u8) << 4);
                extras.push((GAP_MAX - GAP_LONG) as u8);
                floor += GAP_MAX + 1;
            }
            let (gap, code) = (position - floor, code(above));
            heads.push((gap.min(GAP_LONG) as u8) << 4 | code);
            if gap >= GAP_LONG {
                extras.push((gap - GAP_LONG) as u8);
            }
            match code {
                BYTE => extras.push(above as u8),
                WIDE => varint::write_signed(above, wides),
                _ => {}
            }
            floor = position + 1;
        }
        varint::write((heads.len() as u64) << 1 | u64::from(!wides.is_empty()), out);
        varint::write(extras.len() as u64, out);
        if !wides.is_empty() {
            varint::write(wides.len() as u64, out);
        }
        out.extend_from_slice(heads);
        out.extend_from_slice(extras);
        out.extend_from_slice(wides);
    }
}

/// Patches that a byte holds: what a kernel reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near<'a> {
    /// The list of heads, and what lies behind it: a kernel may read there.
    pub heads: &'a [u8],
    /// Heads of that list.
    pub heads_left: usize,
    /// The list of extra bytes, and what lies behind it: a kernel may read there.
    pub extras: &'a [u8],
}

impl Near<'_> {
    /// Puts what is above the residuals to their places in `above`, of which the others are left alone,
    /// until a place is not there; `floor` is the place behind the last patch read.
    pub(crate) fn note(&mut self, mut floor: usize, above: &mut [i8]) -> usize {
        let (mut at, mut read) = (0, 0);
        let extra = |at: usize| self.extras.get(at).copied().unwrap_or(0);
        for &head in self.heads.iter().take(self.heads_left) {
            let long = usize::from(head >> 4 == GAP_LONG as u8);
            let more = usize::from(head & 15 == BYTE);
            // PERF: masks instead of choices, which no CPU would guess.
            let gap = usize::from(head >> 4) + (usize::from(extra(at)) & long.wrapping_neg());
            let Some(place) = above.get_mut(floor.wrapping_add(gap)) else { break };
            *place = CODES[usize::from(head & 15)] | (extra(at + long) & (more as u8).wrapping_neg()) as i8;
            at += long + more;
            floor = floor.wrapping_add(gap) + 1;
            read += 1;
        }
        self.heads = &self.heads[read..];
        self.heads_left -= read;
        self.extras = self.extras.get(at..).unwrap_or(&[]);
        floor
    }
}

/// The patches of a column, in order of position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patches<'a> {
    /// The list of heads, and what lies behind it.
    heads: &'a [u8],
    /// Heads of that list.
    heads_left: usize,
    /// The list of extra bytes, and what lies behind it.
    extras: &'a [u8],
    /// Bytes of that list.
    extras_left: usize,
    wides: &'a [u8],
    /// Position behind the last patch read.
    floor: usize,
}

impl<'a> Patches<'a> {
    /// Takes the list unread: it is checked while it is used.
    #[inline]
    pub(crate) fn parse(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let lengths = reader.varint_usize()?;
        let extras = reader.varint_usize()?;
        let wides = if lengths & 1 != 0 { reader.varint_usize()? } else { 0 };
        let (heads, heads_left) = (reader.rest(), reader.take(lengths >> 1)?.len());
        let (extras, extras_left) = (reader.rest(), reader.take(extras)?.len());
        Ok(Self { heads, heads_left, extras, extras_left, wides: reader.take(wides)?, floor: 0 })
    }

    /// Whether any has more above than a byte holds.
    #[inline]
    pub(crate) fn has_wide(&self) -> bool {
        !self.wides.is_empty()
    }

    /// Puts what is above the residuals from `first` on to their places, of which the others are left
    /// alone; keeps the patches behind `above` for the next ones. Wide patches are noted as such.
    #[inline]
    pub(crate) fn note(&mut self, isa: Isa, first: usize, above: &mut [i8]) -> Result<(), Error> {
        let mut near = Near { heads: self.heads, heads_left: self.heads_left, extras: self.extras };
        let floor = isa.note(&mut near, self.floor.wrapping_sub(first), above);
        let read = self.extras.len() - near.extras.len();
        self.extras_left = self.extras_left.checked_sub(read).ok_or(Error::Corrupt("patches"))?;
        let Near { heads, heads_left, extras } = near;
        *self = Self { heads, heads_left, extras, floor: floor.wrapping_add(first), ..*self };
        Ok(())
    }

    /// Adds the wide patches that are noted in `above` to residuals of `width` bits, to which what is
    /// noted has been added.
    pub(crate) fn widen(&mut self, width: u32, above: &[i8], words: &mut [u64]) -> Result<(), Error> {
        let mut reader = Reader::new(self.wides);
        for (noted, words) in above.chunks(32).zip(words.chunks_mut(32)) {
            // PERF: a test of many at once; nearly all chunks have none.
            if !noted.iter().fold(false, |found, above| found | (*above == IS_WIDE)) {
                continue;
            }
            for (_, word) in noted.iter().zip(words).filter(|(above, _)| **above == IS_WIDE) {
                let more = reader.varint_signed()?.wrapping_sub(i64::from(IS_WIDE));
                *word = word.wrapping_add((more as u64) << width);
            }
        }
        self.wides = reader.rest();
        Ok(())
    }

    /// Adds the patches that fall into `words`, residuals of `width` bits of which the first has index
    /// `first`; keeps the others for the next words.
    pub(crate) fn apply(&mut self, width: u32, first: usize, words: &mut [u64]) -> Result<(), Error> {
        while let Some((position, above, behind)) = self.next()? {
            if position >= first + words.len() {
                break;
            }
            let word = position.checked_sub(first).and_then(|at| words.get_mut(at));
            let word = word.ok_or(Error::Corrupt("patch out of order"))?;
            *word = word.wrapping_add((above as u64) << width);
            *self = behind;
        }
        Ok(())
    }

    /// The next patch: its position, what is above, and the list behind it.
    fn next(&self) -> Result<Option<(usize, i64, Self)>, Error> {
        let (Some(left), Some((&head, heads))) = (self.heads_left.checked_sub(1), self.heads.split_first())
        else {
            return Ok(None);
        };
        let mut behind = Self { heads, heads_left: left, ..*self };
        let mut gap = usize::from(head >> 4);
        if gap == GAP_LONG {
            gap += usize::from(behind.extra()?);
        }
        let above = match head & 15 {
            BYTE => i64::from(behind.extra()? as i8),
            WIDE => {
                let mut reader = Reader::new(self.wides);
                let above = reader.varint_signed()?;
                behind.wides = reader.rest();
                above
            }
            code => i64::from(CODES[usize::from(code)]),
        };
        let position = self.floor.saturating_add(gap);
        behind.floor = position.saturating_add(1);
        Ok(Some((position, above, behind)))
    }

    fn extra(&mut self) -> Result<u8, Error> {
        let left = self.extras_left.checked_sub(1);
        let (Some(left), Some((&byte, rest))) = (left, self.extras.split_first()) else {
            return Err(Error::Corrupt("patches"));
        };
        (self.extras, self.extras_left) = (rest, left);
        Ok(byte)
    }

    /// Says whether all patches had their place.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let done = self.heads_left == 0 && self.extras_left == 0 && self.wides.is_empty();
        if done { Ok(()) } else { Err(Error::Corrupt("patch behind the column")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(patches: &[(usize, i64)]) {
        let mut bytes = Vec::new();
        Writer::default().write(patches, &mut bytes);
        check_list(patches, &bytes, bytes.len());
        let end = bytes.len();
        bytes.resize(end + 64, 0xff);
        check_list(patches, &bytes, end);
    }

    fn check_list(patches: &[(usize, i64)], bytes: &[u8], end: usize) {
        let mut reader = Reader::new(bytes);
        let list = Patches::parse(&mut reader).unwrap();
        assert_eq!(reader.position(), end);
        let count = patches.last().map_or(0, |p| p.0 + 1).next_multiple_of(512);
        let mut expect = vec![0i64; count];
        patches.iter().for_each(|(at, above)| expect[*at] = *above);
        let (mut words, mut again) = (vec![0u64; count], list);
        for (idx, part) in words.chunks_mut(512).enumerate() {
            again.apply(5, idx * 512, part).unwrap();
        }
        again.finish().unwrap();
        assert!(words.iter().zip(&expect).all(|(word, above)| *word == (*above << 5) as u64));
        for isa in Isa::available() {
            let mut list = list;
            for (idx, expect) in expect.chunks(512).enumerate() {
                let mut above = [0i8; 512];
                list.note(isa, idx * 512, &mut above).unwrap();
                let mut words = above.map(|above| (i64::from(above) as u64) << 7);
                list.widen(7, &above, &mut words).unwrap();
                assert!(
                    words.iter().zip(expect).all(|(word, above)| *word == (*above << 7) as u64),
                    "{isa:?}"
                );
            }
            list.finish().unwrap();
        }
    }

    #[test]
    fn patches_come_back_from_both_readers() {
        check(&[]);
        check(&[(0, 1)]);
        check(&[(0, -1), (1, 2), (16, 8), (17, -128), (33, 127), (300, 9)]);
        check(&[(271, 1), (542, 1), (5000, -6)]);
        check(&[(3, i64::MAX), (4, i64::MIN), (5, 128), (6, -129)]);
    }

    #[test]
    fn a_near_patch_is_one_byte() {
        assert_eq!(cost(14, 8), 1);
        assert_eq!(cost(15, -5), 2);
        assert_eq!(cost(270, 100), 3);
        assert_eq!(cost(271, 1), 4);
    }

    proptest! {
        #[test]
        fn any_patches_come_back(
            steps in proptest::collection::vec((prop_oneof![0usize..40, 0usize..2000], any::<i64>(), 0u32..64), 0..200),
            narrow in any::<bool>(),
        ) {
            let mut end = 0;
            let patches: Vec<(usize, i64)> = steps.iter().map(|(gap, above, shift)| {
                let position = end + gap;
                end = position + 1;
                (position, if narrow { above >> 56 } else { above >> shift })
            }).collect();
            check(&patches);
        }

        #[test]
        fn any_list_is_safe(bytes in proptest::collection::vec(any::<u8>(), 0..60), first in 0usize..40) {
            let Ok(list) = Patches::parse(&mut Reader::new(&bytes)) else { return Ok(()) };
            let _ = { list }.apply(7, first, &mut [0; 64]);
            let note = |isa| {
                let (mut list, mut above) = (list, [0; 64]);
                list.note(isa, first, &mut above).map(|()| (above, list.floor, list.finish()))
            };
            for isa in Isa::available() {
                prop_assert_eq!(note(isa), note(Isa::SCALAR), "{:?}", isa);
            }
        }
    }
}
