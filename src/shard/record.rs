//! Records: what travels from an appender to a shard, and, byte for byte, what the shard's log keeps.
//!
//! A batch is `source u64`, then entries, little endian throughout:
//!
//! ```text
//! DEFINE  u8=1  slot u32  length u32  packed labels              slot is a series of this source from here on
//! ROW     u8=2  flags u8  base u32  time i64  words u16  count u16  mask words*u64 | slots count*u16  values count*u64
//! FLOAT   u8=3  slot u32  time i64  start i64  value u64          a sample outside rows
//! HISTOGRAM u8=4 slot u32 time i64  start i64  length u32  a `Histogram` message of remote write
//! LATE    u8=16 oldest i64                                  samples of the entries behind it, up to the batch's end,
//!                                                           may be out of order, those older than this may not
//! EXEMPLAR u8=5 slot u32 time i64  value u64  length u32  packed labels of the exemplar
//! RETIRE  u8=17 source u64                                  no more rows of that source come
//! DELETE  u8=18 mint i64  maxt i64  length u32  packed labels   what the series has now between two times is gone
//! ```
//!
//! A ROW covers one group: slots `base .. base + 4096` of the source. Flag 1: slots not named have no sample
//! (otherwise they repeat their last value). Flag 2: named slots come as a list of u16 instead of a mask.

use model::{Labels, Timestamp};

use crate::shard::head::group::GROUP_SLOTS_MAX;

const DEFINE: u8 = 1;
const ROW: u8 = 2;
const FLOAT: u8 = 3;
const HISTOGRAM: u8 = 4;
const LATE: u8 = 16;
const EXEMPLAR: u8 = 5;
const RETIRE: u8 = 17;
const DELETE: u8 = 18;

const FLAG_PARTIAL: u8 = 1;
const FLAG_LISTED: u8 = 2;

/// Who appends: one scrape target of one process life, one remote-write stream, one rule group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u64);

/// One entry of a batch, borrowed.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    Define { slot: u32, labels: Labels },
    Row(RowEntry<'a>),
    Float { slot: u32, time: Timestamp, start: Timestamp, value: f64 },
    Histogram { slot: u32, time: Timestamp, start: Timestamp, bytes: &'a [u8] },
    Late { oldest: Timestamp },
    Exemplar { slot: u32, time: Timestamp, value: f64, labels: Labels },
    Retire { source: SourceId },
    Delete { mint: Timestamp, maxt: Timestamp, labels: Labels },
}

#[derive(Clone, Copy, Debug)]
pub struct RowEntry<'a> {
    /// First slot of the group.
    pub base: u32,
    pub time: Timestamp,
    pub is_partial: bool,
    pub named: Named<'a>,
    values: &'a [u8],
}

/// Which slots of the group have a value in the row.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    Mask(&'a [u8]),
    List(&'a [u8]),
}

impl<'a> RowEntry<'a> {
    pub fn value_count(&self) -> usize {
        self.values.len() / 8
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = u64> + Clone + 'a {
        words(self.values)
    }

    /// The mask as words, made from the list where the row has one. `scratch` holds it.
    pub fn mask<'s>(&self, scratch: &'s mut Vec<u64>) -> &'s [u64] {
        scratch.clear();
        match self.named {
            Named::Mask(bytes) => scratch.extend(words(bytes)),
            Named::List(bytes) => {
                for slot in bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])) {
                    let w = usize::from(slot) / 64;
                    if scratch.len() <= w {
                        scratch.resize(w + 1, 0);
                    }
                    scratch[w] |= 1 << (slot % 64);
                }
            }
        }
        scratch
    }
}

fn words(bytes: &[u8]) -> impl ExactSizeIterator<Item = u64> + Clone + '_ {
    bytes.chunks_exact(8).map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
}

/// A batch that does not parse: a torn or foreign log, never a sample's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed record at byte {at}: {what}")]
pub struct Malformed {
    pub at: usize,
    pub what: &'static str,
}

/// Begins a batch in `out`.
pub fn begin(out: &mut Vec<u8>, source: SourceId) {
    out.extend_from_slice(&source.0.to_le_bytes());
}

pub fn push_define(out: &mut Vec<u8>, slot: u32, labels: &Labels) {
    out.push(DEFINE);
    out.extend_from_slice(&slot.to_le_bytes());
    out.extend_from_slice(&(labels.bytes().len() as u32).to_le_bytes());
    out.extend_from_slice(labels.bytes());
}

pub fn push_float(out: &mut Vec<u8>, slot: u32, time: Timestamp, start: Timestamp, value: f64) {
    out.push(FLOAT);
    out.extend_from_slice(&slot.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Says how old the samples behind it may be when they are out of order. What memory takes then follows from the
/// batch alone: a replay under another configuration comes to the same.
pub fn push_late(out: &mut Vec<u8>, oldest: Timestamp) {
    out.push(LATE);
    out.extend_from_slice(&oldest.to_le_bytes());
}

/// Says that a source appends no more: what it needed for that is given back.
pub fn push_retire(out: &mut Vec<u8>, source: SourceId) {
    out.push(RETIRE);
    out.extend_from_slice(&source.0.to_le_bytes());
}

/// Says that what a series has now between two times (inclusive) is deleted. `maxt` is not beyond its reach:
/// what comes is not meant.
pub fn push_delete(out: &mut Vec<u8>, labels: &Labels, mint: Timestamp, maxt: Timestamp) {
    out.push(DELETE);
    out.extend_from_slice(&mint.to_le_bytes());
    out.extend_from_slice(&maxt.to_le_bytes());
    out.extend_from_slice(&(labels.bytes().len() as u32).to_le_bytes());
    out.extend_from_slice(labels.bytes());
}

/// `message` is a histogram that `exposition::remote_histogram` accepted.
pub fn push_histogram(out: &mut Vec<u8>, slot: u32, time: Timestamp, start: Timestamp, message: &[u8]) {
    out.push(HISTOGRAM);
    out.extend_from_slice(&slot.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&(message.len() as u32).to_le_bytes());
    out.extend_from_slice(message);
}

pub fn push_exemplar(out: &mut Vec<u8>, slot: u32, time: Timestamp, value: f64, labels: &Labels) {
    out.push(EXEMPLAR);
    out.extend_from_slice(&slot.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&value.to_bits().to_le_bytes());
    out.extend_from_slice(&(labels.bytes().len() as u32).to_le_bytes());
    out.extend_from_slice(labels.bytes());
}

/// Appends a row of one group; `named` are (slot within the group, value), ascending by slot without repeats.
pub fn push_row(out: &mut Vec<u8>, base: u32, time: Timestamp, is_partial: bool, named: &[(u32, f64)]) {
    let words = named.last().map_or(0, |(s, _)| *s as usize / 64 + 1);
    let is_listed = named.len() * 2 < words * 8;
    let flags = if is_partial { FLAG_PARTIAL } else { 0 } | if is_listed { FLAG_LISTED } else { 0 };
    out.reserve(20 + words * 8 + named.len() * 8);
    out.push(ROW);
    out.push(flags);
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&(words as u16).to_le_bytes());
    out.extend_from_slice(&(named.len() as u16).to_le_bytes());
    if is_listed {
        for (slot, _) in named {
            out.extend_from_slice(&(*slot as u16).to_le_bytes());
        }
    } else {
        let mut mask = [0u64; GROUP_SLOTS_MAX as usize / 64];
        for (slot, _) in named {
            mask[*slot as usize / 64] |= 1 << (slot % 64);
        }
        for w in &mask[..words] {
            out.extend_from_slice(&w.to_le_bytes());
        }
    }
    for (_, v) in named {
        out.extend_from_slice(&v.to_bits().to_le_bytes());
    }
}

/// Walks the entries of a batch.
pub struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Opens a batch: its source and its entries.
pub fn open(bytes: &[u8]) -> Result<(SourceId, Entries<'_>), Malformed> {
    let mut e = Entries { bytes, at: 0 };
    let source = SourceId(u64::from_le_bytes(e.array()?));
    Ok((source, e))
}

impl<'a> Entries<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..n).ok_or(Malformed { at: self.at, what: "it ends early" })?;
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut a = [0; N];
        a.copy_from_slice(self.take(N)?);
        Ok(a)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }

    /// The next entry, `None` at the end.
    pub fn try_next(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let [kind] = self.array()?;
        let entry = match kind {
            DEFINE => {
                let (slot, len) = (self.u32()?, self.u32()?);
                let bytes = self.take(len as usize)?;
                let labels = Labels::from_bytes(bytes).ok_or(self.malformed("labels"))?;
                Entry::Define { slot, labels }
            }
            ROW => Entry::Row(self.row()?),
            FLOAT => Entry::Float {
                slot: self.u32()?,
                time: self.i64()?,
                start: self.i64()?,
                value: f64::from_bits(u64::from_le_bytes(self.array()?)),
            },
            HISTOGRAM => {
                let (slot, time, start) = (self.u32()?, self.i64()?, self.i64()?);
                let len = self.u32()?;
                Entry::Histogram { slot, time, start, bytes: self.take(len as usize)? }
            }
            LATE => Entry::Late { oldest: self.i64()? },
            EXEMPLAR => {
                let (slot, time) = (self.u32()?, self.i64()?);
                let value = f64::from_bits(u64::from_le_bytes(self.array()?));
                let len = self.u32()?;
                let bytes = self.take(len as usize)?;
                let labels = Labels::from_bytes(bytes).ok_or(self.malformed("labels"))?;
                Entry::Exemplar { slot, time, value, labels }
            }
            RETIRE => Entry::Retire { source: SourceId(u64::from_le_bytes(self.array()?)) },
            DELETE => {
                let (mint, maxt, len) = (self.i64()?, self.i64()?, self.u32()?);
                let bytes = self.take(len as usize)?;
                let labels = Labels::from_bytes(bytes).ok_or(self.malformed("labels"))?;
                Entry::Delete { mint, maxt, labels }
            }
            _ => return Err(self.malformed("unknown entry kind")),
        };
        Ok(Some(entry))
    }

    fn row(&mut self) -> Result<RowEntry<'a>, Malformed> {
        let [flags] = self.array()?;
        let (base, time) = (self.u32()?, self.i64()?);
        let word_count = usize::from(u16::from_le_bytes(self.array()?));
        let count = usize::from(u16::from_le_bytes(self.array()?));
        if word_count > GROUP_SLOTS_MAX as usize / 64 || !base.is_multiple_of(GROUP_SLOTS_MAX) {
            return Err(self.malformed("row width"));
        }
        let named = if flags & FLAG_LISTED != 0 {
            let list = self.take(count * 2)?;
            let slots = || list.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
            let ascending = slots().zip(slots().skip(1)).all(|(a, b)| a < b);
            if !ascending || slots().any(|s| u32::from(s) >= GROUP_SLOTS_MAX) {
                return Err(self.malformed("row slots"));
            }
            Named::List(list)
        } else {
            let mask = self.take(word_count * 8)?;
            let ones: u32 = words(mask).map(u64::count_ones).sum();
            if ones as usize != count {
                return Err(self.malformed("row mask"));
            }
            Named::Mask(mask)
        };
        let values = self.take(count * 8)?;
        Ok(RowEntry { base, time, is_partial: flags & FLAG_PARTIAL != 0, named, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_batch() -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out, SourceId(7));
        push_define(&mut out, 3, &Labels::from_pairs([("__name__", "up")]));
        push_row(&mut out, 0, 1000, false, &[(0, 1.0), (1, 2.0), (63, 3.0), (64, 4.0)]);
        push_row(&mut out, 4096, 1000, true, &[(4000, 5.0)]);
        push_retire(&mut out, SourceId(6));
        push_delete(&mut out, &Labels::from_pairs([("__name__", "up")]), -1, 1);
        push_late(&mut out, -7);
        push_float(&mut out, 3, 5, 0, 1.5);
        push_exemplar(&mut out, 3, 6, 2.5, &Labels::from_pairs([("id", "x")]));
        out
    }

    #[test]
    fn entries_come_back_as_written() {
        let bytes = sample_batch();
        let (source, mut e) = open(&bytes).unwrap();
        assert_eq!(source, SourceId(7));
        assert!(matches!(e.try_next(), Ok(Some(Entry::Define { slot: 3, .. }))));
        let mut scratch = Vec::new();
        for (base, words, count) in [(0, vec![1u64 | 2 | 1 << 63, 1], 4), (4096, vec![], 1)] {
            let Ok(Some(Entry::Row(r))) = e.try_next() else { panic!("a row") };
            assert_eq!((r.base, r.value_count()), (base, count));
            let mask = r.mask(&mut scratch);
            assert_eq!(mask.iter().map(|w| w.count_ones()).sum::<u32>(), count as u32);
            assert!(words.is_empty() || mask == words);
        }
        assert!(matches!(e.try_next(), Ok(Some(Entry::Retire { source: SourceId(6) }))));
        assert!(matches!(e.try_next(), Ok(Some(Entry::Delete { mint: -1, maxt: 1, .. }))));
        assert!(matches!(e.try_next(), Ok(Some(Entry::Late { oldest: -7 }))));
        assert!(matches!(e.try_next(), Ok(Some(Entry::Float { slot: 3, time: 5, .. }))));
        assert!(matches!(e.try_next(), Ok(Some(Entry::Exemplar { slot: 3, time: 6, .. }))));
        assert!(matches!(e.try_next(), Ok(None)));
    }

    #[test]
    fn hostile_bytes_are_refused_without_a_panic() {
        let good = sample_batch();
        for cut in 0..good.len() {
            walk(&good[..cut]);
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                walk(&bad);
            }
        }
    }

    fn walk(bytes: &[u8]) {
        let Ok((_, mut e)) = open(bytes) else { return };
        let mut scratch = Vec::new();
        while let Ok(Some(entry)) = e.try_next() {
            if let Entry::Row(r) = entry {
                assert_eq!(
                    r.mask(&mut scratch).iter().map(|w| w.count_ones() as usize).sum::<usize>(),
                    r.value_count()
                );
            }
        }
    }
}
