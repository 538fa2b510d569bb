//! Bits, highest first, as Prometheus's chunks have them, and the integers of several widths in them.

use crate::error::Error;
use crate::varint::{self, unzigzag, zigzag};

/// Appends bits to bytes.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits of the last byte that are not used yet.
    free: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, free: 0 }
    }

    /// The low `count` bits of `value`, at most 64.
    pub(crate) fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.out.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            left -= take;
            let part = (value >> left) as u8 & (0xff_u8 >> (8 - take));
            self.free -= take;
            if let Some(last) = self.out.last_mut() {
                *last |= part << self.free;
            }
        }
    }

    pub(crate) fn bit(&mut self, one: bool) {
        self.bits(u64::from(one), 1);
    }

    /// A varint, byte by byte, wherever in a byte it begins.
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bits(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.bits(value, 8);
    }

    pub(crate) fn varint_signed(&mut self, value: i64) {
        self.varint(zigzag(value));
    }

    /// An integer whose unary prefix tells its width.
    pub(crate) fn varbit_signed(&mut self, value: i64) {
        let fits = |width: u32| fits_signed(value, width);
        self.varbit(value as u64, value == 0, fits);
    }

    /// As [`Self::varbit_signed`], without a sign.
    pub(crate) fn varbit_unsigned(&mut self, value: u64) {
        self.varbit(value, value == 0, |width| value >> width == 0);
    }

    fn varbit(&mut self, value: u64, zero: bool, fits: impl Fn(u32) -> bool) {
        if zero {
            return self.bit(false);
        }
        let class = VARBIT_WIDTHS[..7].iter().position(|&width| fits(width)).unwrap_or(7);
        // Ones, as many as the class tells, and a zero; the last class needs none.
        match class {
            7 => self.bits(0xff, 8),
            _ => self.bits((1 << (class + 2)) - 2, class as u32 + 2),
        }
        self.bits(value, VARBIT_WIDTHS[class]);
    }
}

/// Widths behind the prefixes 10, 110, .. 11111111.
const VARBIT_WIDTHS: [u32; 8] = [3, 6, 9, 12, 18, 25, 56, 64];

/// Whether `value` lies in -(2^(width-1) - 1) ..= 2^(width-1): one more above than below.
pub(crate) fn fits_signed(value: i64, width: u32) -> bool {
    let end = 1i64 << (width - 1);
    -(end - 1) <= value && value <= end
}

/// Inverse of cutting a value for which [`fits_signed`] to `width` bits.
pub(crate) fn signed(bits: u64, width: u32) -> i64 {
    if width < 64 && bits > 1 << (width - 1) { bits.wrapping_sub(1 << width) as i64 } else { bits as i64 }
}

/// Reads bits from bytes.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next `count` bits, at most 64.
    #[inline]
    pub(crate) fn bits(&mut self, count: u32) -> Result<u64, Error> {
        if count == 0 {
            return Ok(0);
        }
        let (first, offset) = (self.position / 8, self.position as u32 % 8);
        let end = self.position + count as usize;
        if end > self.bytes.len() * 8 {
            return Err(Error::Truncated("bits"));
        }
        self.position = end;
        let mut eight = [0u8; 8];
        let rest = &self.bytes[first..];
        match rest.first_chunk::<8>() {
            Some(all) => eight = *all,
            None => eight[..rest.len()].copy_from_slice(rest),
        }
        let high = u64::from_be_bytes(eight) << offset >> (64 - count);
        let behind = (offset + count).saturating_sub(64);
        if behind == 0 {
            return Ok(high);
        }
        // A ninth byte: `end` lies in it, so it is there.
        Ok(high | u64::from(rest[8] >> (8 - behind)))
    }

    #[inline]
    pub(crate) fn bit(&mut self) -> Result<bool, Error> {
        Ok(self.bits(1)? == 1)
    }

    /// Ones up to a zero or to `most`, the zero taken too.
    #[inline]
    pub(crate) fn ones(&mut self, most: u32) -> Result<u32, Error> {
        for ones in 0..most {
            if !self.bit()? {
                return Ok(ones);
            }
        }
        Ok(most)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for idx in 0..varint::BYTES_MAX {
            let byte = self.bits(8)?;
            if idx == varint::BYTES_MAX - 1 && byte > 1 {
                break;
            }
            value |= (byte & 0x7f) << (7 * idx);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Corrupt("varint over 64 bits"))
    }

    pub(crate) fn varint_signed(&mut self) -> Result<i64, Error> {
        Ok(unzigzag(self.varint()?))
    }

    pub(crate) fn varbit_signed(&mut self) -> Result<i64, Error> {
        match self.ones(8)? {
            0 => Ok(0),
            ones => {
                let width = VARBIT_WIDTHS[ones as usize - 1];
                Ok(signed(self.bits(width)?, width))
            }
        }
    }

    pub(crate) fn varbit_unsigned(&mut self) -> Result<u64, Error> {
        match self.ones(8)? {
            0 => Ok(0),
            ones => self.bits(VARBIT_WIDTHS[ones as usize - 1]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_varbit(value: i64, bits: &str) {
        let mut out = Vec::new();
        let mut writer = BitWriter::new(&mut out);
        writer.varbit_signed(value);
        let text: String = out.iter().map(|b| format!("{b:08b}")).collect();
        assert!(text.starts_with(bits), "{value}: {text}");
        assert!(text[bits.len()..].bytes().all(|b| b == b'0') && text.len() < bits.len() + 8);
    }

    #[test]
    fn widths_grow_in_classes() {
        check_varbit(0, "0");
        check_varbit(4, "10100");
        check_varbit(-3, "10101");
        check_varbit(5, "110000101");
        check_varbit(-31, "110100001");
        check_varbit(256, "1110100000000");
        check_varbit(i64::MIN, &format!("11111111{:064b}", i64::MIN));
    }

    proptest! {
        #[test]
        fn all_forms_come_back(
            values in proptest::collection::vec((any::<i64>(), 0u32..64, any::<bool>()), 0..40),
        ) {
            let mut out = Vec::new();
            let mut writer = BitWriter::new(&mut out);
            for &(value, shift, bit) in &values {
                writer.varbit_signed(value >> shift);
                writer.bit(bit);
                writer.varbit_unsigned(value as u64 >> shift);
                writer.varint_signed(value >> shift);
                writer.bits(value as u64, 64 - shift);
            }
            let mut reader = BitReader::new(&out);
            for (value, shift, bit) in values {
                prop_assert_eq!(reader.varbit_signed(), Ok(value >> shift));
                prop_assert_eq!(reader.bit(), Ok(bit));
                prop_assert_eq!(reader.varbit_unsigned(), Ok(value as u64 >> shift));
                prop_assert_eq!(reader.varint_signed(), Ok(value >> shift));
                prop_assert_eq!(reader.bits(64 - shift), Ok(value as u64 & (u64::MAX >> shift)));
            }
        }
    }
}
