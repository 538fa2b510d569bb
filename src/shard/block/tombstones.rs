//! What was deleted of a block since it was written: a small file beside it, put in place whole.
//!
//! ```text
//! file  | "SYSTDEL1" 8 B | version u32 = 1 | crc32c of the body u32 | body |
//! body  | parts varint | { number varint | runs varint | { first series varint, series varint, spans } } |
//! spans | count varint | { first time zigzag, last - first varint } |
//! ```
//!
//! Series are named by their places in the parts of the block, which never changes.

use std::collections::BTreeMap;
use std::rc::Rc;

use codec::crc32c::checksum;
use codec::varint::{self, Reader};
use model::Timestamp;

use crate::shard::block::layout::{BlockId, read_u32};
use crate::shard::tombstones::PartTombstones;

const MAGIC: &[u8; 8] = b"SYSTDEL1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const SUFFIX: &str = ".tombstones";

/// `00000007.tombstones` lies beside block 7.
pub fn tombstones_name(id: BlockId) -> String {
    format!("{:08}{SUFFIX}", id.0)
}

/// The block that a file of this name belongs to.
pub fn id_of_tombstones(name: &str) -> Option<BlockId> {
    name.strip_suffix(SUFFIX)?.parse().ok().map(BlockId)
}

/// By the numbers of a block's parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockTombstones(BTreeMap<u32, Rc<PartTombstones>>);

impl BlockTombstones {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn part(&self, number: usize) -> Option<&Rc<PartTombstones>> {
        self.0.get(&u32::try_from(number).ok()?)
    }

    /// Deletes a span of time of some series (ascending) of a part.
    pub fn add(&mut self, part: usize, series: &[u32], mint: Timestamp, maxt: Timestamp) {
        if series.is_empty() || mint > maxt {
            return;
        }
        let part = Rc::make_mut(self.0.entry(part as u32).or_default());
        for run in series.chunk_by(|a, b| a + 1 == *b) {
            part.add(run[0], run[run.len() - 1] + 1, mint, maxt);
        }
    }

    pub fn merge(&mut self, other: &BlockTombstones) {
        for (number, part) in &other.0 {
            Rc::make_mut(self.0.entry(*number).or_default()).merge(part);
        }
    }

    /// Series that have anything deleted, and how many spans those are in all.
    pub fn counts(&self) -> (u64, u64) {
        self.0.values().map(|p| p.counts()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        varint::write(self.0.len() as u64, &mut body);
        for (number, part) in &self.0 {
            varint::write(u64::from(*number), &mut body);
            part.encode(&mut body);
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&checksum(&body).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<BlockTombstones, String> {
        let header = bytes.get(..HEADER_BYTES).ok_or("the tombstones are shorter than their header")?;
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if &header[..8] != MAGIC || u32_at(8) != VERSION {
            return Err("these are not tombstones that this program knows".to_owned());
        }
        let body = &bytes[HEADER_BYTES..];
        if checksum(body) != u32_at(12) {
            return Err("the checksum of the tombstones does not fit".to_owned());
        }
        Self::decode_body(body).map_err(|e| e.to_string())
    }

    fn decode_body(body: &[u8]) -> Result<BlockTombstones, codec::Error> {
        let (mut r, mut parts) = (Reader::new(body), BTreeMap::new());
        for _ in 0..r.varint()? {
            let number = read_u32(&mut r)?;
            parts.insert(number, Rc::new(PartTombstones::decode(&mut r)?));
        }
        Ok(BlockTombstones(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_come_back_as_written_and_flipped_bits_are_noticed() {
        let mut all = BlockTombstones::default();
        all.add(3, &[0, 1, 2, 9], -5, 70);
        all.add(0, &[4], 0, i64::MAX);
        all.add(0, &[], 0, 1);
        all.add(5, &[1], 1, 0);
        assert_eq!(all.counts(), (5, 5));
        let bytes = all.encode();
        assert_eq!(BlockTombstones::decode(&bytes), Ok(all));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockTombstones::decode(&bad).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(BlockTombstones::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(id_of_tombstones(&tombstones_name(BlockId(7))), Some(BlockId(7)));
    }
}
