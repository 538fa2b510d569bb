//! How packed values are taken apart by byte shuffles of 16-byte loads: tables, one row a width.
//!
//! Two neighboring values of up to 57 bits, with a bit offset of up to 7, lie within 16 bytes.

/// Bytes that a load of a group of eight may touch: the last pair begins at byte 48 at most.
pub(super) const REACH_MAX: usize = 64;

/// How eight values of one width are taken apart, pair by pair.
#[repr(C, align(32))]
pub(super) struct Unpack {
    /// Which bytes from a pair's offset on the two values consist of.
    pub shuffles: [[u8; 16]; 4],
    /// Bits below each value in its lane.
    pub shifts: [[u64; 2]; 4],
    /// The bits of a value.
    pub keep: u64,
    /// Where each pair begins, in bytes from the group's first.
    pub offsets: [usize; 4],
}

impl Unpack {
    const fn new(width: usize) -> Self {
        let mut unpack = Unpack { shuffles: [[0; 16]; 4], shifts: [[0; 2]; 4], keep: 0, offsets: [0; 4] };
        unpack.keep = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        let mut pair = 0;
        while pair < 4 {
            let first_bit = 2 * pair * width;
            let second_bit = first_bit % 8 + width;
            unpack.offsets[pair] = first_bit / 8;
            unpack.shifts[pair] = [first_bit as u64 % 8, second_bit as u64 % 8];
            let mut byte = 0;
            while byte < 8 {
                unpack.shuffles[pair][byte] = byte as u8;
                // At most 8 + 7; the widths 58 to 63, which are never used, would need one more.
                let second = second_bit / 8 + byte;
                unpack.shuffles[pair][8 + byte] = if second < 16 { second as u8 } else { 15 };
                byte += 1;
            }
            pair += 1;
        }
        unpack
    }
}

pub(super) static UNPACK: [Unpack; 65] = {
    let mut table = [const { Unpack::new(0) }; 65];
    let mut width = 0;
    while width < 65 {
        table[width] = Unpack::new(width);
        width += 1;
    }
    table
};
