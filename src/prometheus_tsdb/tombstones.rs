//! Deleted intervals: the `tombstones` file of a block.

use codec::{crc32c, varint};
use hashbrown::HashMap;
use model::Timestamp;

use crate::Error;
use crate::bytes::Reader;

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// A closed interval of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    pub min: Timestamp,
    pub max: Timestamp,
}

impl Interval {
    pub fn contains(&self, time: Timestamp) -> bool {
        (self.min..=self.max).contains(&time)
    }
}

/// Intervals by series reference, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    by_series: HashMap<u64, Vec<Interval>>,
}

impl Tombstones {
    /// Reads a whole file.
    pub fn read(file: &[u8]) -> Result<Tombstones, Error> {
        let mut reader = Reader::new(file, 0);
        if reader.u32()? != MAGIC {
            return Err(Error::corrupt(0, "not a file of tombstones (magic number)"));
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Err(Error::Version {
                what: "unknown tombstones file version",
                found: version.to_string(),
            });
        }
        let length = reader.rest().len().checked_sub(4).ok_or(reader.corrupt("it ends early"))?;
        let mut entries = reader.checked(length, "the tombstones")?;
        let mut tombstones = Tombstones::default();
        while !entries.is_done() {
            let (series, min, max) = (entries.varint()?, entries.varint_signed()?, entries.varint_signed()?);
            tombstones.add(series, Interval { min, max });
        }
        Ok(tombstones)
    }

    pub fn add(&mut self, series: u64, interval: Interval) {
        self.by_series.entry(series).or_default().push(interval);
    }

    pub fn of(&self, series: u64) -> &[Interval] {
        self.by_series.get(&series).map_or(&[], Vec::as_slice)
    }

    pub fn is_empty(&self) -> bool {
        self.by_series.is_empty()
    }

    /// The whole file.
    pub fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        let mut all: Vec<(&u64, &Vec<Interval>)> = self.by_series.iter().collect();
        all.sort();
        for (series, intervals) in all {
            for interval in intervals {
                varint::write(*series, &mut out);
                varint::write_signed(interval.min, &mut out);
                varint::write_signed(interval.max, &mut out);
            }
        }
        let checksum = crc32c::checksum(&out[HEADER_BYTES..]);
        out.extend_from_slice(&checksum.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_without_any_has_nine_bytes() {
        assert_eq!(Tombstones::default().write(), [0x01, 0x30, 0xba, 0x30, 1, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn intervals_come_back(all in proptest::collection::vec((0u64..9, any::<i64>(), any::<i64>()), 0..20), flip in any::<u16>()) {
            let mut tombstones = Tombstones::default();
            all.iter().for_each(|(series, min, max)| tombstones.add(*series, Interval { min: *min, max: *max }));
            let mut bytes = tombstones.write();
            prop_assert_eq!(Tombstones::read(&bytes), Ok(tombstones));
            let at = usize::from(flip) / 8 % bytes.len();
            bytes[at] ^= 1 << (flip % 8);
            prop_assert!(Tombstones::read(&bytes).is_err());
        }
    }
}
