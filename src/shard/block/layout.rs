//! What lies where in a block file: its header, its directory, its end.

use codec::Error as Malformed;
use codec::crc32c::checksum;
use codec::varint::{self, Reader};
use model::Timestamp;

use crate::config::RETENTION_SELECTOR_BYTES_MAX;
use crate::shard::block::aggregate::{stamp_of, start_of};
use crate::shard::block::class::ClassMark;
use crate::shard::pieces::BLOCK_BYTES;
use crate::shard::wal::pending::Owner;

const MAGIC: &[u8; 8] = b"SYSTBLK1";
const END_MAGIC: &[u8; 8] = b"SYSTBLKE";
/// 2: a patch of a chunk is one byte (docs/format/chunk.md).
const VERSION: u32 = 2;
/// 3: the same with flags, and the retention class behind the header. Files that need neither are of version 2.
const VERSION_OF_CLASSES: u32 = 3;
/// 4: the same with what it has aggregates of at the end of the header's page. Only blocks of aggregates are of it.
const VERSION_OF_AGGREGATES: u32 = 4;
const HEADER_BYTES: usize = 64;
const FLAG_PARTIAL: u32 = 1;
/// Before the text of a class: its time.
const CLASS_BYTES: usize = 8;
/// Resolution, time to be kept, checksum.
const AGGREGATES_BYTES: usize = 20;
const _: () = assert!(
    HEADER_BYTES + CLASS_BYTES + RETENTION_SELECTOR_BYTES_MAX + 4 + AGGREGATES_BYTES <= BLOCK_BYTES,
    "class and aggregates lie in the header's page"
);

/// Kinds of pieces.
pub const DATA: u32 = 1;
pub const PART: u32 = 2;
pub const DIRECTORY: u32 = 3;

/// A block in its shard: ascending, never used again while a file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

/// The first page of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The shard that wrote it.
    pub owner: Owner,
    pub id: BlockId,
    /// The range that it covers: `mint <= t < maxt`.
    pub mint: Timestamp,
    pub maxt: Timestamp,
    /// 1 where it was cut from the head, more where it was made of other blocks.
    pub level: u32,
    /// Not even with the shard's older blocks has it all that came before `maxt`: others were to come with it.
    pub is_partial: bool,
    pub class: Option<ClassMark>,
    /// `None` where it has samples.
    pub aggregates: Option<AggregatesMark>,
}

/// What a block of aggregates says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregatesMark {
    /// Length of a window, at least 1.
    pub resolution_ms: i64,
    /// How far it may be behind the newest block before it goes.
    pub keep_ms: i64,
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

impl Header {
    /// The name of its class; `None` for that of no class.
    pub fn selector(&self) -> Option<&str> {
        self.class.as_ref().map(|c| &*c.selector)
    }

    /// Length of its windows; 0 where it has samples.
    pub fn resolution_ms(&self) -> i64 {
        self.aggregates.map_or(0, |a| a.resolution_ms)
    }

    /// A span of time, widened to whole windows.
    pub fn widened(&self, mint: Timestamp, maxt: Timestamp) -> (Timestamp, Timestamp) {
        match self.aggregates {
            None => (mint, maxt),
            Some(a) => (start_of(mint, a.resolution_ms), stamp_of(maxt, a.resolution_ms)),
        }
    }

    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut b = [0; BLOCK_BYTES];
        b[..8].copy_from_slice(MAGIC);
        let is_plain = !self.is_partial && self.class.is_none();
        let version = match self.aggregates {
            Some(_) => VERSION_OF_AGGREGATES,
            None if is_plain => VERSION,
            None => VERSION_OF_CLASSES,
        };
        b[8..12].copy_from_slice(&version.to_le_bytes());
        b[12..14].copy_from_slice(&self.owner.shard.to_le_bytes());
        b[14..16].copy_from_slice(&self.owner.shard_count.to_le_bytes());
        b[16..24].copy_from_slice(&self.owner.directory_id.to_le_bytes());
        b[24..32].copy_from_slice(&self.id.0.to_le_bytes());
        b[32..40].copy_from_slice(&self.mint.to_le_bytes());
        b[40..48].copy_from_slice(&self.maxt.to_le_bytes());
        b[48..52].copy_from_slice(&self.level.to_le_bytes());
        b[52..56].copy_from_slice(&(u32::from(self.is_partial) * FLAG_PARTIAL).to_le_bytes());
        if let Some(class) = &self.class {
            put_class(class, &mut b);
        }
        if let Some(aggregates) = self.aggregates {
            put_aggregates(aggregates, &mut b);
        }
        let crc = checksum(&b[..HEADER_BYTES - 4]);
        b[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        b
    }

    pub fn decode(page: &[u8]) -> Result<Self, &'static str> {
        let b = page.get(..HEADER_BYTES).ok_or("the block is shorter than its header")?;
        if &b[..8] != MAGIC {
            return Err("this is not a block");
        }
        if checksum(&b[..HEADER_BYTES - 4]) != u32_at(b, HEADER_BYTES - 4) {
            return Err("the block header's checksum does not fit");
        }
        let version = u32_at(b, 8);
        if !(VERSION..=VERSION_OF_AGGREGATES).contains(&version) {
            return Err("the block has a version that this program does not know");
        }
        let owner = Owner {
            shard: u16::from_le_bytes([b[12], b[13]]),
            shard_count: u16::from_le_bytes([b[14], b[15]]),
            directory_id: u64_at(b, 16),
        };
        let (mint, maxt) = (u64_at(b, 32) as i64, u64_at(b, 40) as i64);
        let has_more = version >= VERSION_OF_CLASSES;
        let is_partial = has_more && u32_at(b, 52) & FLAG_PARTIAL != 0;
        let class = if has_more { class_of(page)? } else { None };
        let aggregates = if version == VERSION_OF_AGGREGATES { Some(aggregates_of(page)?) } else { None };
        let (id, level) = (BlockId(u64_at(b, 24)), u32_at(b, 48));
        Ok(Header { owner, id, mint, maxt, level, is_partial, class, aggregates })
    }
}

fn put_aggregates(aggregates: AggregatesMark, b: &mut [u8; BLOCK_BYTES]) {
    let at = BLOCK_BYTES - AGGREGATES_BYTES;
    b[at..at + 8].copy_from_slice(&aggregates.resolution_ms.to_le_bytes());
    b[at + 8..at + 16].copy_from_slice(&aggregates.keep_ms.to_le_bytes());
    let crc = checksum(&b[at..at + 16]);
    b[at + 16..].copy_from_slice(&crc.to_le_bytes());
}

fn aggregates_of(page: &[u8]) -> Result<AggregatesMark, &'static str> {
    let body = page.get(BLOCK_BYTES - AGGREGATES_BYTES..BLOCK_BYTES);
    let (body, crc) = body.ok_or("the block is shorter than its header")?.split_at(AGGREGATES_BYTES - 4);
    let (resolution_ms, keep_ms) = (u64_at(body, 0) as i64, u64_at(body, 8) as i64);
    if checksum(body) != u32_at(crc, 0) || resolution_ms < 1 {
        return Err("what the block says of its aggregates does not fit its checksum");
    }
    Ok(AggregatesMark { resolution_ms, keep_ms })
}

/// The selector's length lies in the header, its time, text and their checksum behind it.
fn put_class(class: &ClassMark, b: &mut [u8; BLOCK_BYTES]) {
    let text = class.selector.as_bytes();
    debug_assert!(text.len() <= RETENTION_SELECTOR_BYTES_MAX, "the configuration refuses longer ones");
    let text = &text[..text.len().min(RETENTION_SELECTOR_BYTES_MAX)];
    b[56..60].copy_from_slice(&(text.len() as u32).to_le_bytes());
    let start = HEADER_BYTES + CLASS_BYTES;
    b[HEADER_BYTES..start].copy_from_slice(&class.time_ms.to_le_bytes());
    b[start..start + text.len()].copy_from_slice(text);
    let crc = checksum(&b[HEADER_BYTES..start + text.len()]);
    b[start + text.len()..start + text.len() + 4].copy_from_slice(&crc.to_le_bytes());
}

fn class_of(page: &[u8]) -> Result<Option<ClassMark>, &'static str> {
    const BROKEN: &str = "the block's retention class does not fit its checksum";
    let length = u32_at(page, 56) as usize;
    if length == 0 {
        return Ok(None);
    }
    let end = HEADER_BYTES + CLASS_BYTES + length.min(RETENTION_SELECTOR_BYTES_MAX);
    let body = page.get(HEADER_BYTES..end + 4).ok_or(BROKEN)?;
    let (body, crc) = body.split_at(body.len() - 4);
    if checksum(body) != u32_at(crc, 0) {
        return Err(BROKEN);
    }
    let selector = std::str::from_utf8(&body[CLASS_BYTES..]).map_err(|_| BROKEN)?;
    Ok(Some(ClassMark { selector: selector.into(), time_ms: u64_at(body, 0) as i64 }))
}

/// The last page of a file: where the directory lies.
pub fn encode_end(directory_page: u32) -> [u8; BLOCK_BYTES] {
    let mut b = [0; BLOCK_BYTES];
    b[..8].copy_from_slice(END_MAGIC);
    b[8..12].copy_from_slice(&directory_page.to_le_bytes());
    let crc = checksum(&b[..12]);
    b[12..16].copy_from_slice(&crc.to_le_bytes());
    b
}

pub fn decode_end(b: &[u8]) -> Result<u32, &'static str> {
    let b = b.get(..16).ok_or("the block is shorter than its end")?;
    if &b[..8] != END_MAGIC || checksum(&b[..12]) != u32_at(b, 12) {
        return Err("the block's last page does not fit");
    }
    Ok(u32_at(b, 8))
}

/// A piece in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceRef {
    /// Its first page of 4 KiB, and how many it has.
    pub page: u32,
    pub pages: u32,
}

impl PieceRef {
    pub fn offset(self) -> u64 {
        u64::from(self.page) * BLOCK_BYTES as u64
    }

    pub fn bytes(self) -> u64 {
        u64::from(self.pages) * BLOCK_BYTES as u64
    }
}

/// A part of the index, as the directory lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartEntry {
    pub piece: PieceRef,
    pub series_count: u32,
    /// Metric names of its series: the smallest and the largest.
    pub first_name: String,
    pub last_name: String,
}

/// What a block holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub series_count: u64,
    pub chunk_count: u64,
    pub float_count: u64,
    pub histogram_count: u64,
    /// Times of the first and the last sample.
    pub first_time: Timestamp,
    pub last_time: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    pub stats: Stats,
    pub parts: Vec<PartEntry>,
    /// Label names of all series, ascending.
    pub label_names: Vec<String>,
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    varint::write(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

pub(in crate::shard::block) fn read_text<'a>(r: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let length = r.varint_usize()?;
    std::str::from_utf8(r.take(length)?).map_err(|_| Malformed::Corrupt("label text"))
}

pub(in crate::shard::block) fn read_u32(r: &mut Reader<'_>) -> Result<u32, Malformed> {
    u32::try_from(r.varint()?).map_err(|_| Malformed::Corrupt("a number beyond 32 bits"))
}

impl Directory {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let s = &self.stats;
        for n in [s.series_count, s.chunk_count, s.float_count, s.histogram_count] {
            varint::write(n, out);
        }
        varint::write_signed(s.first_time, out);
        varint::write_signed(s.last_time, out);
        varint::write(self.label_names.len() as u64, out);
        self.label_names.iter().for_each(|n| put_text(n, out));
        varint::write(self.parts.len() as u64, out);
        for p in &self.parts {
            for n in [p.piece.page, p.piece.pages, p.series_count] {
                varint::write(u64::from(n), out);
            }
            put_text(&p.first_name, out);
            put_text(&p.last_name, out);
        }
    }

    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let stats = Stats {
            series_count: r.varint()?,
            chunk_count: r.varint()?,
            float_count: r.varint()?,
            histogram_count: r.varint()?,
            first_time: r.varint_signed()?,
            last_time: r.varint_signed()?,
        };
        let (mut label_names, mut parts) = (Vec::new(), Vec::new());
        for _ in 0..r.varint()? {
            label_names.push(read_text(&mut r)?.to_owned());
        }
        for _ in 0..r.varint()? {
            let piece = PieceRef { page: read_u32(&mut r)?, pages: read_u32(&mut r)? };
            let series_count = read_u32(&mut r)?;
            let (first_name, last_name) = (read_text(&mut r)?.to_owned(), read_text(&mut r)?.to_owned());
            parts.push(PartEntry { piece, series_count, first_name, last_name });
        }
        Ok(Directory { stats, parts, label_names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(is_partial: bool, class: Option<(&str, i64)>) -> Header {
        let owner = Owner { shard: 3, shard_count: 4, directory_id: 5 };
        let class = class.map(|(s, time_ms)| ClassMark { selector: s.into(), time_ms });
        Header { owner, id: BlockId(6), mint: -7, maxt: 8, level: 9, is_partial, class, aggregates: None }
    }

    #[test]
    fn headers_come_back_and_plain_ones_are_as_they_always_were() {
        let longest = "x".repeat(RETENTION_SELECTOR_BYTES_MAX);
        for class in [None, Some(("{job=\"debug\"}", 1000)), Some((longest.as_str(), i64::MAX))] {
            for is_partial in [false, true] {
                let h = header(is_partial, class);
                assert_eq!(Header::decode(&h.encode()), Ok(h.clone()));
                let version = if class.is_none() && !is_partial { 2 } else { 3 };
                assert_eq!(u32_at(&h.encode(), 8), version, "{h:?}");
                let aggregates = Some(AggregatesMark { resolution_ms: 300_000, keep_ms: i64::MAX });
                let h = Header { aggregates, ..h };
                assert_eq!(Header::decode(&h.encode()), Ok(h.clone()));
                assert_eq!(u32_at(&h.encode(), 8), 4, "{h:?}");
            }
        }
        assert_eq!(header(false, None).encode()[52..60], [0; 8]);
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let bytes = header(true, Some(("{job=\"debug\"}", 1000))).encode();
        let used = HEADER_BYTES + CLASS_BYTES + "{job=\"debug\"}".len() + 4;
        for bit in 0..used * 8 {
            let mut b = bytes;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&b).is_err(), "bit {bit}");
        }
        let aggregates = Some(AggregatesMark { resolution_ms: 300_000, keep_ms: 5 });
        let bytes_of_aggregates = Header { aggregates, ..header(false, None) }.encode();
        for bit in (0..HEADER_BYTES * 8).chain((BLOCK_BYTES - AGGREGATES_BYTES) * 8..BLOCK_BYTES * 8) {
            let mut b = bytes_of_aggregates;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&b).is_err(), "bit {bit}");
        }
        assert!(Header::decode(&bytes_of_aggregates[..BLOCK_BYTES - 1]).is_err());
        for length in [0, 63, 64, 70, used - 1] {
            assert!(Header::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
