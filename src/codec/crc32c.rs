//! CRC32C (Castagnoli), the checksum of pages, chunks and log records.

/// Checksum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u32 {
    update(0, bytes)
}

/// Checksum of what gave `crc` with `bytes` behind it.
pub fn update(crc: u32, bytes: &[u8]) -> u32 {
    match crate::arch::crc32c_hardware(!crc, bytes) {
        Some(crc) => !crc,
        None => !update_table(!crc, bytes),
    }
}

const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn update_table(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_checksums() {
        assert_eq!(checksum(b""), 0);
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
    }

    proptest! {
        #[test]
        fn hardware_and_table_agree(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            prop_assert_eq!(checksum(&bytes), !update_table(!0, &bytes));
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(update(checksum(a), b), checksum(&bytes));
        }
    }
}
