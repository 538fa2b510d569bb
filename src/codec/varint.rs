//! Integers in as many bytes as they need: seven bits a byte, low bits first, and zigzag for signs.
//!
//! This is Go's `encoding/binary` form, so that one reader serves our formats and Prometheus's.

use crate::error::Error;

/// Longest form of a 64-bit integer: ceil(64 / 7).
pub const BYTES_MAX: usize = 10;

/// Folds the sign into the lowest bit, so that small magnitudes stay small.
#[inline]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Inverse of [`zigzag`].
#[inline]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes that [`write()`] will use.
#[inline]
pub const fn encoded_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends an unsigned integer.
#[inline]
pub fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer.
#[inline]
pub fn write_signed(value: i64, out: &mut Vec<u8>) {
    write(zigzag(value), out);
}

/// Eight groups of seven bits, one a byte, moved together.
#[inline]
const fn squeeze(word: u64) -> u64 {
    let word = word & 0x7f7f_7f7f_7f7f_7f7f;
    let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
    word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4
}

/// Reads bytes in order and remembers how far it came.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Error> {
        let byte = *self.bytes.get(self.position).ok_or(Error::Truncated("byte"))?;
        self.position += 1;
        Ok(byte)
    }

    /// The next `count` bytes, as they lie.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let rest = self.rest();
        if count > rest.len() {
            return Err(Error::Truncated("bytes"));
        }
        self.position += count;
        Ok(&rest[..count])
    }

    /// Eight bytes, little endian.
    #[inline]
    pub fn u64_le(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Truncated("u64"))?))
    }

    /// An unsigned integer.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Error> {
        // PERF: lengths follow no pattern, so those of up to eight bytes are read without a loop.
        let eight = self.bytes.get(self.position..self.position.saturating_add(8));
        if let Some(Ok(eight)) = eight.map(<[u8; 8]>::try_from) {
            let word = u64::from_le_bytes(eight);
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                // All bits up to the first end.
                let bits = word & (ends ^ ends.wrapping_sub(1));
                self.position += ends.trailing_zeros() as usize / 8 + 1;
                return Ok(squeeze(bits));
            }
        }
        self.varint_bytewise()
    }

    fn varint_bytewise(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for (idx, &byte) in self.rest().iter().take(BYTES_MAX).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if idx == BYTES_MAX - 1 && bits > 1 {
                return Err(Error::Corrupt("varint over 64 bits"));
            }
            value |= bits << (7 * idx);
            if byte < 0x80 {
                self.position += idx + 1;
                return Ok(value);
            }
        }
        if self.rest().len() >= BYTES_MAX {
            return Err(Error::Corrupt("varint over 64 bits"));
        }
        Err(Error::Truncated("varint"))
    }

    /// A signed integer.
    #[inline]
    pub fn varint_signed(&mut self) -> Result<i64, Error> {
        Ok(unzigzag(self.varint()?))
    }

    /// An unsigned integer that counts something in memory.
    #[inline]
    pub fn varint_usize(&mut self) -> Result<usize, Error> {
        usize::try_from(self.varint()?).map_err(|_| Error::Corrupt("count over the address space"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(value: u64, expect: &[u8]) {
        let mut out = Vec::new();
        write(value, &mut out);
        assert_eq!(out, expect);
        assert_eq!(out.len(), encoded_bytes(value));
        assert_eq!(Reader::new(&out).varint(), Ok(value));
    }

    #[test]
    fn integers_have_the_form_of_go() {
        check(0, &[0]);
        check(127, &[0x7f]);
        check(128, &[0x80, 1]);
        check(300, &[0xac, 2]);
        check(u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    #[test]
    fn a_varint_that_never_ends_is_refused() {
        assert_eq!(Reader::new(&[0x80; 3]).varint(), Err(Error::Truncated("varint")));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(Error::Corrupt("varint over 64 bits")));
    }

    proptest! {
        #[test]
        fn signed_integers_come_back(value in any::<i64>(), shift in 0u32..64, behind in 0usize..10) {
            let value = value >> shift;
            let mut out = Vec::new();
            write_signed(value, &mut out);
            let end = out.len();
            out.resize(end + behind, 0xff);
            let mut reader = Reader::new(&out);
            prop_assert_eq!((reader.varint_signed(), reader.position()), (Ok(value), end));
            out.truncate(end);
            prop_assert_eq!(Reader::new(&out).varint_signed(), Ok(value));
        }
    }
}
