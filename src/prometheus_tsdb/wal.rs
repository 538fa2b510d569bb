//! Segments of the log: pages of 32 KiB, records in fragments, each record maybe compressed.
//!
//! ```text
//! fragment | kind u8: bits 0-2 kind, 3 snappy, 4 zstd | length u16 | crc32c u32 | data |
//! ```

use codec::crc32c;

use crate::Error;

pub const PAGE_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;

const REST_OF_PAGE: u8 = 0;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
const SNAPPY: u8 = 1 << 3;
const ZSTD: u8 = 1 << 4;

/// A record unpacked. Prometheus's are as long as one scrape or one request of remote write; a few compressed bytes
/// must not ask for more memory than that.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// A record, or a part of one.
struct Fragment<'a> {
    kind: u8,
    compression: u8,
    data: &'a [u8],
}

/// Walks the records of one segment.
pub struct Records<'a> {
    file: &'a [u8],
    at: usize,
    packed: Vec<u8>,
    record: Vec<u8>,
}

impl<'a> Records<'a> {
    pub fn new(file: &'a [u8]) -> Self {
        Records { file, at: 0, packed: Vec::new(), record: Vec::new() }
    }

    /// The next record and where it begins; `None` at the end. After an error nothing more can be read.
    pub fn try_next(&mut self) -> Result<Option<(u64, &[u8])>, Error> {
        self.packed.clear();
        let mut begin = None;
        loop {
            let Some(Fragment { kind, compression, data }) = self.fragment()? else {
                return match begin {
                    None => Ok(None),
                    Some(at) => Err(self.fail(at, "a record without its end")),
                };
            };
            let at = data.as_ptr() as usize - self.file.as_ptr() as usize - HEADER_BYTES;
            let fits =
                if begin.is_none() { matches!(kind, FULL | FIRST) } else { matches!(kind, MIDDLE | LAST) };
            if !fits {
                return Err(self.fail(at, "a fragment out of its order"));
            }
            let at = *begin.get_or_insert(at);
            if self.packed.len() + data.len() > RECORD_BYTES_MAX {
                return Err(self.fail(at, "a record of impossible length"));
            }
            self.packed.extend_from_slice(data);
            if matches!(kind, FULL | LAST) {
                return match unpack(compression, &self.packed, &mut self.record) {
                    Ok(()) => {
                        Ok(Some((at as u64, if compression == 0 { &self.packed } else { &self.record })))
                    }
                    Err(what) => Err(self.fail(at, what)),
                };
            }
        }
    }

    fn fail(&mut self, at: usize, what: &'static str) -> Error {
        self.at = self.file.len();
        Error::corrupt(at as u64, what)
    }

    fn fragment(&mut self) -> Result<Option<Fragment<'a>>, Error> {
        loop {
            let at = self.at;
            let Some(&head) = self.file.get(at) else { return Ok(None) };
            let page_end = (at / PAGE_BYTES + 1) * PAGE_BYTES;
            let kind = head & 7;
            if kind == REST_OF_PAGE {
                let rest = &self.file[at..page_end.min(self.file.len())];
                if rest.iter().any(|b| *b != 0) {
                    return Err(self.fail(at, "bytes in the unused rest of a page"));
                }
                self.at = page_end.min(self.file.len());
                continue;
            }
            let Some(header) = self.file.get(at..at + HEADER_BYTES) else {
                return Err(self.fail(at, "it ends within a fragment's header"));
            };
            let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
            let stored = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
            let end = at + HEADER_BYTES + length;
            if end > page_end {
                return Err(self.fail(at, "a fragment longer than its page"));
            }
            let Some(data) = self.file.get(at + HEADER_BYTES..end) else {
                return Err(self.fail(at, "it ends within a fragment"));
            };
            let computed = crc32c::checksum(data);
            if stored != computed {
                self.at = self.file.len();
                return Err(Error::Checksum { at: at as u64, what: "a fragment", stored, computed });
            }
            self.at = end;
            return Ok(Some(Fragment { kind, compression: head & (SNAPPY | ZSTD), data }));
        }
    }
}

fn unpack(compression: u8, packed: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    match compression {
        0 => {}
        SNAPPY => {
            let length = snap::raw::decompress_len(packed).map_err(|_| "a record that is not snappy")?;
            if length > RECORD_BYTES_MAX {
                return Err("a record of impossible length");
            }
            out.resize(length, 0);
            let mut decoder = snap::raw::Decoder::new();
            decoder.decompress(packed, out).map_err(|_| "a record that is not snappy")?;
        }
        ZSTD => {
            *out = zstd::bulk::decompress(packed, unpacked_bytes(packed))
                .map_err(|_| "a record that is not zstd")?;
        }
        _ => return Err("a record of two compressions"),
    }
    Ok(())
}

/// What a zstd frame says that it holds, or where it does not say, what it may.
fn unpacked_bytes(packed: &[u8]) -> usize {
    match zstd::zstd_safe::get_frame_content_size(packed) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX).min(RECORD_BYTES_MAX),
        _ => RECORD_BYTES_MAX,
    }
}

/// Appends a record to a segment, as Prometheus cuts it into pages.
pub fn push_record(record: &[u8], segment: &mut Vec<u8>) {
    let mut rest = record;
    let mut is_first = true;
    loop {
        let left = PAGE_BYTES - segment.len() % PAGE_BYTES;
        if left < HEADER_BYTES {
            segment.resize(segment.len() + left, 0);
            continue;
        }
        let length = rest.len().min(left - HEADER_BYTES);
        let (data, after) = rest.split_at(length);
        let kind = match (is_first, after.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        segment.push(kind);
        segment.extend_from_slice(&(length as u16).to_be_bytes());
        segment.extend_from_slice(&crc32c::checksum(data).to_be_bytes());
        segment.extend_from_slice(data);
        if after.is_empty() {
            return;
        }
        (rest, is_first) = (after, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(segment: &[u8]) -> (Vec<Vec<u8>>, Option<Error>) {
        let (mut reader, mut all) = (Records::new(segment), Vec::new());
        loop {
            match reader.try_next() {
                Ok(Some((_, record))) => all.push(record.to_vec()),
                Ok(None) => return (all, None),
                Err(e) => {
                    assert_eq!(reader.try_next(), Ok(None), "nothing behind an error");
                    return (all, Some(e));
                }
            }
        }
    }

    fn packed(compression: u8, record: &[u8]) -> Vec<u8> {
        let data = match compression {
            SNAPPY => snap::raw::Encoder::new().compress_vec(record).unwrap(),
            ZSTD => zstd::bulk::compress(record, 1).unwrap(),
            _ => panic!("no compression"),
        };
        let mut segment = Vec::new();
        push_record(&data, &mut segment);
        segment[0] |= compression;
        segment
    }

    #[test]
    fn compressed_records_are_unpacked() {
        let record = b"abcabcabc".repeat(50);
        for compression in [SNAPPY, ZSTD] {
            assert_eq!(read(&packed(compression, &record)), (vec![record.clone()], None));
        }
        let mut bomb = vec![FULL | SNAPPY, 0, 5];
        let data = [0xff, 0xff, 0xff, 0xff, 0x0f];
        bomb.extend_from_slice(&crc32c::checksum(&data).to_be_bytes());
        bomb.extend_from_slice(&data);
        assert_eq!(read(&bomb).1, Some(Error::corrupt(0, "a record of impossible length")));
    }

    proptest! {
        #[test]
        fn records_come_back(lengths in proptest::collection::vec(0usize..70_000, 0..12), flip in any::<u32>()) {
            let records: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(i, n)| vec![i as u8 + 1; *n]).collect();
            let mut segment = Vec::new();
            records.iter().for_each(|r| push_record(r, &mut segment));
            prop_assert_eq!(read(&segment), (records.clone(), None));
            if !segment.is_empty() {
                let at = flip as usize / 8 % segment.len();
                segment[at] ^= 1 << (flip % 8);
                let (left, _) = read(&segment);
                prop_assert!(left.len() <= records.len());
                segment.truncate(at);
                prop_assert!(records.starts_with(&read(&segment).0));
            }
        }
    }
}
