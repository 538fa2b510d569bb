//! Frames and segment headers as bytes: written whole, read back with suspicion.

use codec::crc32c::checksum;

use crate::rt::buffer::Buffer;

/// Direct I/O writes whole blocks; a frame begins on one, so that it never rewrites durable bytes.
pub const BLOCK_BYTES: usize = 4096;

/// A segment is closed at this size: large enough that rotation is rare, small enough that replay reads ahead of
/// itself in a few buffers.
pub const SEGMENT_BYTES_MAX: u64 = 128 << 20;

/// A frame's records at most: what one half of the tail holds.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

pub const FRAME_HEADER_BYTES: usize = 24;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"FRAM");
const SEGMENT_MAGIC: &[u8; 8] = b"SYSTWAL1";
const VERSION: u32 = 1;

/// Of a segment's header, checksum included.
const SEGMENT_HEADER_BYTES: usize = 44;

/// Of a segment's header. Version 1 has no floor: its file was nothing before.
const SEGMENT_VERSION: u32 = 2;

/// Whose log a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub shard: u16,
    pub shard_count: u16,
    pub directory_id: u64,
    pub number: u64,
    /// Frames up to this sequence are of the file's earlier life.
    pub floor: u64,
}

impl SegmentHeader {
    /// The header as it is written.
    pub fn block(&self) -> Buffer {
        let mut buffer = Buffer::zeroed(BLOCK_BYTES);
        buffer.copy_from_slice(&self.encode());
        buffer
    }

    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut b = [0; BLOCK_BYTES];
        b[..8].copy_from_slice(SEGMENT_MAGIC);
        b[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        b[12..14].copy_from_slice(&self.shard.to_le_bytes());
        b[14..16].copy_from_slice(&self.shard_count.to_le_bytes());
        b[16..24].copy_from_slice(&self.directory_id.to_le_bytes());
        b[24..32].copy_from_slice(&self.number.to_le_bytes());
        b[32..40].copy_from_slice(&self.floor.to_le_bytes());
        let crc = checksum(&b[..40]);
        b[40..44].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Errors: says what does not fit.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let b = bytes.get(..SEGMENT_HEADER_BYTES).ok_or("the segment is shorter than its header")?;
        if &b[..8] != SEGMENT_MAGIC {
            return Err("this is not a segment of a write-ahead log");
        }
        let (covered, floor) = match u32_at(b, 8) {
            1 => (32, 0),
            _ => (40, u64_at(b, 32)),
        };
        if checksum(&b[..covered]) != u32_at(b, covered) {
            return Err("the segment header's checksum does not fit");
        }
        if u32_at(b, 8) > SEGMENT_VERSION {
            return Err("the segment has a version that this program does not know");
        }
        Ok(SegmentHeader {
            shard: u16::from_le_bytes([b[12], b[13]]),
            shard_count: u16::from_le_bytes([b[14], b[15]]),
            directory_id: u64_at(b, 16),
            number: u64_at(b, 24),
            floor,
        })
    }
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

/// Bytes of a frame on disk for `length` bytes of records.
pub fn frame_bytes(length: usize) -> usize {
    (FRAME_HEADER_BYTES + length).next_multiple_of(BLOCK_BYTES)
}

/// Writes the header of a frame into its first bytes.
pub fn encode_header(out: &mut [u8], sequence: u64, length: u32) {
    out[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    out[4..8].copy_from_slice(&VERSION.to_le_bytes());
    out[8..16].copy_from_slice(&sequence.to_le_bytes());
    out[16..20].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&out[..20]);
    out[20..24].copy_from_slice(&crc.to_le_bytes());
}

/// Sequence and length of the frame that begins in `block`, if one does.
pub fn decode_header(block: &[u8]) -> Option<(u64, usize)> {
    let b = block.get(..FRAME_HEADER_BYTES)?;
    let is_frame =
        u32_at(b, 0) == FRAME_MAGIC && u32_at(b, 4) == VERSION && checksum(&b[..20]) == u32_at(b, 20);
    let length = u32_at(b, 16) as usize;
    (is_frame && length <= FRAME_BYTES_MAX).then(|| (u64_at(b, 8), length))
}

/// Appends a record to `out`.
pub fn push_record(out: &mut Vec<u8>, batch: &[u8]) {
    out.extend_from_slice(&record_header(batch));
    out.extend_from_slice(batch);
}

pub const RECORD_HEADER_BYTES: usize = 8;

/// What stands before a batch in a frame.
pub fn record_header(batch: &[u8]) -> [u8; RECORD_HEADER_BYTES] {
    let mut h = [0; RECORD_HEADER_BYTES];
    h[..4].copy_from_slice(&(batch.len() as u32).to_le_bytes());
    h[4..].copy_from_slice(&checksum(batch).to_le_bytes());
    h
}

/// Splits the first record off `bytes`: (batch, rest). `None` where no whole record with a fitting checksum begins.
pub fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let h = bytes.get(..RECORD_HEADER_BYTES)?;
    let rest = &bytes[RECORD_HEADER_BYTES..];
    let batch = rest.get(..u32_at(h, 0) as usize)?;
    (checksum(batch) == u32_at(h, 4)).then(|| (batch, &rest[batch.len()..]))
}

/// Calls `apply` with each batch of a frame's records. Returns how many bytes were whole records.
pub fn for_each_record(records: &[u8], mut apply: impl FnMut(&[u8])) -> usize {
    let mut rest = records;
    while let Some((batch, after)) = split_record(rest) {
        apply(batch);
        rest = after;
    }
    records.len() - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_any_flipped_bit_is_noticed() {
        let h = SegmentHeader { shard: 3, shard_count: 8, directory_id: 77, number: 12, floor: 40 };
        let bytes = h.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(h));
        let mut f = [0u8; FRAME_HEADER_BYTES];
        encode_header(&mut f, 99, 1234);
        assert_eq!(decode_header(&f), Some((99, 1234)));
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
        }
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut bad = f;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_segment_of_the_first_version_is_read_and_one_of_a_later_is_not() {
        let h = SegmentHeader { shard: 3, shard_count: 8, directory_id: 77, number: 12, floor: 0 };
        let of_version = |version: u32, covered: usize| {
            let mut b = h.encode();
            b[8..12].copy_from_slice(&version.to_le_bytes());
            b[covered..].fill(0);
            let crc = checksum(&b[..covered]);
            b[covered..covered + 4].copy_from_slice(&crc.to_le_bytes());
            b
        };
        assert_eq!(SegmentHeader::decode(&of_version(1, 32)), Ok(h));
        let later = SegmentHeader::decode(&of_version(SEGMENT_VERSION + 1, 40));
        assert_eq!(later, Err("the segment has a version that this program does not know"));
    }

    #[test]
    fn a_torn_record_ends_the_walk() {
        let mut bytes = Vec::new();
        for b in [&b"one"[..], b"", b"three"] {
            push_record(&mut bytes, b);
        }
        for cut in 0..=bytes.len() {
            let mut seen = Vec::new();
            let whole = for_each_record(&bytes[..cut], |b| seen.push(b.to_vec()));
            assert!(whole <= cut);
            assert_eq!(seen.len(), [11, 19, 32].iter().filter(|end| cut >= **end).count(), "cut at {cut}");
        }
        bytes[9] ^= 1;
        assert_eq!(for_each_record(&bytes, |_| panic!("a damaged record was applied")), 0);
    }
}
