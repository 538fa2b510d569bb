//! Files of `chunks_head`: full chunks of the head, which Prometheus maps into memory.

use model::Timestamp;

use crate::Error;
use crate::bytes::Reader;
use crate::chunk::{CHUNK_BYTES_MAX, Chunk, Encoding};

const MAGIC: u32 = 0x0130_BC91;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
/// Bytes ahead of the length: series, two times, encoding.
const FIXED_BYTES: usize = 25;
const LATE: u8 = 0x80;

#[derive(Clone, Copy, Debug)]
pub struct HeadChunk<'a> {
    pub series: u64,
    pub min_time: Timestamp,
    pub max_time: Timestamp,
    /// Of samples that came late.
    pub is_late: bool,
    pub chunk: Chunk<'a>,
}

/// Walks the chunks of one file; after an error nothing more can be read.
pub fn read(file: &[u8]) -> Result<impl Iterator<Item = Result<HeadChunk<'_>, Error>> + '_, Error> {
    let mut reader = Reader::new(file, 0);
    if reader.u32()? != MAGIC {
        return Err(Error::corrupt(0, "not a file of head chunks (magic number)"));
    }
    let version = reader.u8()?;
    if version != VERSION {
        return Err(Error::Version { what: "unknown head chunk file version", found: version.to_string() });
    }
    reader.take(HEADER_BYTES - 5)?;
    let mut is_over = false;
    Ok(std::iter::from_fn(move || {
        // Files are made longer than what is in them.
        let is_zero = reader.rest().iter().take(FIXED_BYTES).all(|b| *b == 0);
        if is_over || is_zero {
            return None;
        }
        let next = read_one(&mut reader);
        is_over = next.is_err();
        Some(next)
    }))
}

fn read_one<'a>(reader: &mut Reader<'a>) -> Result<HeadChunk<'a>, Error> {
    let mut ahead = reader.clone();
    ahead.take(FIXED_BYTES)?;
    let data = ahead.count(1)?;
    if data > CHUNK_BYTES_MAX {
        return Err(reader.corrupt("a chunk of impossible length"));
    }
    let length = (ahead.position() - reader.position()) as usize + data;
    let mut body = reader.checked(length, "a head chunk")?;
    let (series, min_time, max_time) = (body.u64()?, body.i64()?, body.i64()?);
    let encoding = body.u8()?;
    let known = Encoding::of(encoding & !LATE).ok_or(body.corrupt("a chunk of unknown encoding"))?;
    let data = body.sized()?;
    let at = body.position() - data.len() as u64;
    let chunk = Chunk { encoding: known, data, at };
    Ok(HeadChunk { series, min_time, max_time, is_late: encoding & LATE != 0, chunk })
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::{crc32c, varint, xor};
    use proptest::prelude::*;

    fn file(chunks: &[(u64, u8)]) -> Vec<u8> {
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        for (series, encoding) in chunks {
            let from = out.len();
            [*series, 5, 9].iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
            out.push(*encoding);
            let mut data = Vec::new();
            xor::encode(&[5, 9], &[1.0, 2.0], &mut data).unwrap();
            varint::write(data.len() as u64, &mut out);
            out.extend_from_slice(&data);
            let checksum = crc32c::checksum(&out[from..]);
            out.extend_from_slice(&checksum.to_be_bytes());
        }
        out
    }

    #[test]
    fn chunks_are_read_up_to_the_unused_rest() {
        let mut bytes = file(&[(3, 1), (4, 0x81)]);
        bytes.resize(4096, 0);
        let all: Vec<_> = read(&bytes).unwrap().map(|c| c.unwrap()).collect();
        assert_eq!(
            all.iter().map(|c| (c.series, c.max_time, c.is_late)).collect::<Vec<_>>(),
            [(3, 9, false), (4, 9, true)]
        );
        let mut samples = Vec::new();
        all[1].chunk.decode(&mut samples).unwrap();
        assert_eq!(samples.len(), 2);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_an_error(flip in any::<u16>()) {
            let mut bytes = file(&[(3, 1), (4, 1), (5, 1)]);
            let at = usize::from(flip) / 8 % bytes.len();
            bytes[at] ^= 1 << (flip % 8);
            let is_padding = (5..8).contains(&at);
            let whole = read(&bytes).is_ok_and(|all| all.filter_map(Result::ok).count() == 3);
            prop_assert_eq!(whole, is_padding);
        }
    }
}
