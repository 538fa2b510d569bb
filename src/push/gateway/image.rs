//! All groups as bytes, for the file that outlives a restart.
#![doc = include_str!("../../../docs/format/groups.md")]

use std::collections::BTreeMap;

use codec::Error as Malformed;
use codec::crc32c::checksum;
use codec::varint::{self, Reader};
use model::Labels;

use super::{BYTES_MAX, Gateway, Group, GroupKey, bytes_of, bytes_of_key};

const MAGIC: &[u8; 8] = b"SYSTGRP1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;

/// A file that is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("{0}")]
    Header(&'static str),
    #[error("the groups are malformed: {0}")]
    Body(#[from] Malformed),
}

impl Gateway {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        for (key, group) in &self.groups {
            put_bytes(key.0.bytes(), &mut out);
            varint::write_signed(group.pushed_ms, &mut out);
            varint::write_signed(group.failed_ms, &mut out);
            varint::write(group.families.len() as u64, &mut out);
            for (name, samples) in &group.families {
                put_bytes(name.as_bytes(), &mut out);
                varint::write(samples.len() as u64, &mut out);
                for (labels, value) in samples {
                    put_bytes(labels.bytes(), &mut out);
                    out.extend_from_slice(&value.to_bits().to_le_bytes());
                }
            }
        }
        let (length, crc) = ((out.len() - HEADER_BYTES) as u64, checksum(&out[HEADER_BYTES..]));
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..20].copy_from_slice(&length.to_le_bytes());
        out[20..24].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Gateway, ImageError> {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(ImageError::Header("the file is shorter than its header"));
        };
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = u64::from(u32_at(12)) | u64::from(u32_at(16)) << 32;
        if &header[..8] != MAGIC {
            return Err(ImageError::Header("this is no file of groups"));
        }
        if u32_at(8) != VERSION {
            return Err(ImageError::Header("the file has a version that this program does not know"));
        }
        if length != body.len() as u64 || checksum(body) != u32_at(20) {
            return Err(ImageError::Header("the checksum does not fit"));
        }
        let (mut r, mut gateway) = (Reader::new(body), Gateway::default());
        while !r.rest().is_empty() {
            let (key, group) = read_group(&mut r)?;
            gateway.bytes += group.bytes;
            if gateway.bytes > BYTES_MAX {
                return Err(ImageError::Header("the groups hold more than there may be"));
            }
            gateway.groups.insert(key, group);
        }
        Ok(gateway)
    }
}

fn read_group(r: &mut Reader<'_>) -> Result<(GroupKey, Group), Malformed> {
    let key = GroupKey(labels_of(r)?);
    let mut group =
        Group { pushed_ms: r.varint_signed()?, failed_ms: r.varint_signed()?, ..Group::default() };
    let mut families = BTreeMap::new();
    for _ in 0..r.varint()? {
        let name = std::str::from_utf8(bytes_from(r)?).map_err(|_| Malformed::Corrupt("name"))?.to_owned();
        let mut samples = Vec::new();
        for _ in 0..r.varint()? {
            samples.push((labels_of(r)?, f64::from_bits(r.u64_le()?)));
        }
        families.insert(name, samples);
    }
    group.bytes = bytes_of(families.values()) + bytes_of_key(&key);
    group.families = families;
    Ok((key, group))
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    varint::write(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn bytes_from<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let length = r.varint_usize()?;
    r.take(length)
}

fn labels_of(r: &mut Reader<'_>) -> Result<Labels, Malformed> {
    Labels::from_bytes(bytes_from(r)?).ok_or(Malformed::Corrupt("labels"))
}

#[cfg(test)]
mod tests {
    use super::super::{Page, Push};
    use super::*;

    #[test]
    fn groups_are_read_as_they_were_written() {
        let mut gateway = Gateway::default();
        assert_eq!(Gateway::decode(&gateway.encode()).map(|g| g.group_count()), Ok(0));
        for job in ["a", "b"] {
            let key = GroupKey::parse(&format!("job/{job}/x/y"), str::to_owned).unwrap();
            let page = b"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum NaN\nh_count 2\nz{q=\"1\"} -0\n";
            gateway.push(&key, Push::Group, Page::Text(page), 5000).unwrap();
            let _ = gateway.push(&key, Push::Group, Page::Text(b"!"), 6000);
        }
        let image = gateway.encode();
        let again = Gateway::decode(&image).unwrap();
        assert_eq!((again.say_all(7000), again.bytes()), (gateway.say_all(7000), gateway.bytes()));
        for at in 0..image.len() {
            let mut bad = image.clone();
            bad[at] ^= 1;
            assert!(Gateway::decode(&bad).is_err(), "byte {at}");
            assert!(Gateway::decode(&image[..at]).is_err(), "cut at {at}");
            // Behind a checksum that fits anything may stand.
            let crc = checksum(&bad[HEADER_BYTES.min(bad.len())..]);
            bad[20..24].copy_from_slice(&crc.to_le_bytes());
            let _ = Gateway::decode(&bad);
        }
    }
}
