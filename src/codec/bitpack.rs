//! Integers of one width laid side by side, low bits first: value `i` begins at bit `i * width`.
//!
//! Eight values of `w` bits are `w` bytes, so every eighth value starts on a byte; the last byte is
//! padded with zeros. Widths are 0 to 57 (a value and its bit offset fit one 8-byte load) or 64.

use crate::error::Error;

/// Widest value that, shifted by up to seven bits, fits an 8-byte load.
pub const WIDTH_MAX: u32 = 57;

/// Bytes of `count` values of `width` bits.
#[inline]
pub const fn packed_bytes(count: usize, width: u32) -> usize {
    // `count` is bounded by memory and width by 64: computed by eights, it cannot overflow.
    count / 8 * width as usize + ((count % 8) * width as usize).div_ceil(8)
}

/// The smallest permitted width that holds `value`.
#[inline]
pub const fn width_of(value: u64) -> u32 {
    let bits = 64 - value.leading_zeros();
    if bits > WIDTH_MAX { 64 } else { bits }
}

/// Appends `values`, each of which fits `width` bits.
pub fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) {
    debug_assert!(width <= WIDTH_MAX || width == 64);
    if width == 64 {
        out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        return;
    }
    if width == 0 {
        return;
    }
    out.reserve(packed_bytes(values.len(), width) + 8);
    let end = out.len() + packed_bytes(values.len(), width);
    let mut bits: u64 = 0;
    let mut filled = 0;
    for &value in values {
        debug_assert!(value >> width == 0);
        bits |= value << filled;
        let taken = 64 - filled;
        if width >= taken {
            out.extend_from_slice(&bits.to_le_bytes());
            // A shift by 64 is not defined; `taken` is 64 only if `width` were, which it is not.
            bits = value >> taken;
            filled = width - taken;
        } else {
            filled += width;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes());
    out.truncate(end);
}

/// Bits that are set.
#[inline]
pub(crate) fn ones(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: u32 = words.iter().map(|w| u64::from_le_bytes(*w).count_ones()).sum();
    (words + rest.iter().map(|b| b.count_ones()).sum::<u32>()) as usize
}

/// Reads value `idx`; the oracle of every unpacking kernel.
#[inline]
pub(crate) fn value_at(packed: &[u8], width: u32, idx: usize) -> u64 {
    let first_bit = idx * width as usize;
    let first = first_bit / 8;
    let mut bytes = [0u8; 8];
    match packed.get(first..first + 8) {
        Some(eight) => bytes.copy_from_slice(eight),
        None => {
            let rest = packed.get(first..).unwrap_or(&[]);
            bytes[..rest.len()].copy_from_slice(rest);
        }
    }
    let bits = u64::from_le_bytes(bytes) >> (first_bit % 8);
    if width == 64 { bits } else { bits & ((1 << width) - 1) }
}

/// Fills `out` with the first values of `packed`. `packed` may go on behind them; a reader is
/// faster where 64 bytes follow.
pub fn unpack(packed: &[u8], width: u32, out: &mut [u64]) -> Result<(), Error> {
    if width > WIDTH_MAX && width != 64 {
        return Err(Error::Corrupt("bit width"));
    }
    if packed.len() < packed_bytes(out.len(), width) {
        return Err(Error::Truncated("packed bits"));
    }
    crate::arch::Isa::best().unpack(packed, width, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Isa;
    use proptest::prelude::*;

    fn check(values: &[u64], width: u32) {
        let mut packed = vec![0xaa; 3];
        pack(values, width, &mut packed);
        let packed = &packed[3..];
        assert_eq!(packed.len(), packed_bytes(values.len(), width));
        for isa in Isa::available() {
            let mut out = vec![u64::MAX; values.len()];
            isa.unpack(packed, width, &mut out);
            assert_eq!(out, values, "{isa:?}, width {width}, exact slice");
            let mut longer = packed.to_vec();
            longer.extend_from_slice(&[0xff; 64]);
            isa.unpack(&longer, width, &mut out);
            assert_eq!(out, values, "{isa:?}, width {width}, slack behind");
        }
    }

    #[test]
    fn every_width_comes_back_for_every_length() {
        for width in (0..=WIDTH_MAX).chain([64]) {
            let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
            for count in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 64, 119, 120, 121] {
                let values: Vec<u64> = (0..count as u64)
                    .map(|i| i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask)
                    .collect();
                check(&values, width);
                check(&vec![mask; count], width);
            }
        }
    }

    #[test]
    fn eight_values_start_on_a_byte() {
        let mut packed = Vec::new();
        pack(&[1, 2, 3, 4, 5, 6, 7, 0, 7], 3, &mut packed);
        assert_eq!(packed.len(), 4);
        assert_eq!(packed[3], 7);
    }

    #[test]
    fn widths_between_57_and_64_are_refused() {
        for width in [58, 63, 65, 200] {
            assert!(unpack(&[0; 64], width, &mut [0; 2]).is_err());
        }
        assert!(unpack(&[0; 6], 57, &mut [0; 1]).is_err());
    }

    proptest! {
        #[test]
        fn random_values_come_back(width in 0u32..=57, seed in any::<u64>(), count in 0usize..300) {
            let mask = (1u64 << width) - 1;
            let values: Vec<u64> =
                (0..count as u64).map(|i| (seed ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask).collect();
            check(&values, width);
        }
    }
}
