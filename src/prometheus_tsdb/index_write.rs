//! Writes the index of a block, version 2.

use std::collections::BTreeMap;

use codec::{crc32c, varint};
use hashbrown::HashMap;
#[cfg(test)]
use model::Labels;

use crate::Error;
use crate::bytes::{push_section, push_text};
use crate::index::{ChunkMeta, MAGIC, SERIES_ALIGNMENT, Series, TOC_BYTES, Toc};

const VERSION: u8 = 2;

/// The whole file for series in order of their labels. A series' chunks ascend and do not overlap.
pub fn write(series: &[Series]) -> Result<Vec<u8>, Error> {
    check_order(series)?;
    let symbols = symbols_of(series);
    let mut out = MAGIC.to_be_bytes().to_vec();
    out.push(VERSION);
    let mut toc = Toc { symbols: out.len() as u64, ..Toc::default() };
    write_symbols(&symbols, &mut out)?;
    toc.series = out.len() as u64;
    let numbers: HashMap<&str, u32> = symbols.iter().enumerate().map(|(i, s)| (*s, i as u32)).collect();
    let mut postings = Postings::default();
    for one in series {
        write_series(one, &numbers, &mut postings, &mut out)?;
    }
    // Label indices are not written any more: their sections begin where the next ones do.
    (toc.postings, toc.label_indices) = (out.len() as u64, out.len() as u64);
    let table = postings.write(&symbols, &mut out)?;
    (toc.postings_table, toc.label_indices_table) = (out.len() as u64, out.len() as u64);
    push_section(&table, &mut out)?;
    write_toc(&toc, &mut out);
    Ok(out)
}

fn check_order(series: &[Series]) -> Result<(), Error> {
    let unordered = series.iter().zip(series.iter().skip(1)).find(|(a, b)| a.labels >= b.labels);
    if let Some((_, late)) = unordered {
        return Err(Error::Unwritable(format!(
            "out-of-order series added with label set \"{}\"",
            late.labels
        )));
    }
    for one in series {
        let pairs = one.chunks.iter().zip(one.chunks.iter().skip(1));
        for (before, chunk) in pairs {
            if chunk.min_time <= before.max_time {
                return Err(Error::Unwritable(format!(
                    "chunk minT {} is not higher than previous chunk maxT {}",
                    chunk.min_time, before.max_time
                )));
            }
        }
    }
    Ok(())
}

fn symbols_of(series: &[Series]) -> Vec<&str> {
    let mut symbols: Vec<&str> = Vec::new();
    let mut seen: hashbrown::HashSet<&str> = hashbrown::HashSet::new();
    for label in series.iter().flat_map(|s| s.labels.iter()) {
        symbols.extend([label.name, label.value].into_iter().filter(|t| seen.insert(t)));
    }
    symbols.sort_unstable();
    symbols
}

fn write_symbols(symbols: &[&str], out: &mut Vec<u8>) -> Result<(), Error> {
    let mut body = (symbols.len() as u32).to_be_bytes().to_vec();
    symbols.iter().for_each(|s| push_text(s, &mut body));
    push_section(&body, out)
}

fn align(to: u64, out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(to as usize), 0);
}

fn write_series(
    series: &Series,
    numbers: &HashMap<&str, u32>,
    postings: &mut Postings,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    align(SERIES_ALIGNMENT, out);
    let reference = u32::try_from(out.len() as u64 / SERIES_ALIGNMENT)
        .map_err(|_| Error::Unwritable("an index is larger than 64 GiB".to_owned()))?;
    let number = |text: &str| numbers.get(text).copied().unwrap_or(0);
    let mut body = Vec::new();
    varint::write(series.labels.len() as u64, &mut body);
    for label in &series.labels {
        let pair = (number(label.name), number(label.value));
        varint::write(u64::from(pair.0), &mut body);
        varint::write(u64::from(pair.1), &mut body);
        postings.by_pair.entry(pair).or_default().push(reference);
    }
    postings.all.push(reference);
    write_chunks(&series.chunks, &mut body);
    varint::write(body.len() as u64, out);
    out.extend_from_slice(&body);
    out.extend_from_slice(&crc32c::checksum(&body).to_be_bytes());
    Ok(())
}

fn write_chunks(chunks: &[ChunkMeta], body: &mut Vec<u8>) {
    varint::write(chunks.len() as u64, body);
    let mut before: Option<&ChunkMeta> = None;
    for chunk in chunks {
        match before {
            None => varint::write_signed(chunk.min_time, body),
            Some(before) => varint::write(chunk.min_time.wrapping_sub(before.max_time) as u64, body),
        }
        varint::write(chunk.max_time.wrapping_sub(chunk.min_time) as u64, body);
        match before {
            None => varint::write(chunk.reference, body),
            Some(before) => varint::write_signed(chunk.reference.wrapping_sub(before.reference) as i64, body),
        }
        before = Some(chunk);
    }
}

/// References by the numbers of a pair's symbols, which have the order of the texts.
#[derive(Default)]
struct Postings {
    all: Vec<u32>,
    by_pair: BTreeMap<(u32, u32), Vec<u32>>,
}

impl Postings {
    /// Writes the lists; returns their table.
    fn write(&self, symbols: &[&str], out: &mut Vec<u8>) -> Result<Vec<u8>, Error> {
        let count = u32::try_from(self.by_pair.len() + 1)
            .map_err(|_| Error::Unwritable("more than 4294967295 label pairs".to_owned()))?;
        let mut table = count.to_be_bytes().to_vec();
        let text = |number: u32| symbols.get(number as usize).copied().unwrap_or("");
        let all = std::iter::once(("", "", &self.all));
        let pairs = self.by_pair.iter().map(|((n, v), list)| (text(*n), text(*v), list));
        for (name, value, list) in all.chain(pairs) {
            align(4, out);
            varint::write(2, &mut table);
            push_text(name, &mut table);
            push_text(value, &mut table);
            varint::write(out.len() as u64, &mut table);
            let mut body = (list.len() as u32).to_be_bytes().to_vec();
            list.iter().for_each(|r| body.extend_from_slice(&r.to_be_bytes()));
            push_section(&body, out)?;
        }
        Ok(table)
    }
}

fn write_toc(toc: &Toc, out: &mut Vec<u8>) {
    let from = out.len();
    for offset in [
        toc.symbols,
        toc.series,
        toc.label_indices,
        toc.label_indices_table,
        toc.postings,
        toc.postings_table,
    ] {
        out.extend_from_slice(&offset.to_be_bytes());
    }
    let checksum = crc32c::checksum(&out[from..]);
    out.extend_from_slice(&checksum.to_be_bytes());
    debug_assert_eq!(out.len() - from, TOC_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use proptest::prelude::*;

    fn series_strategy() -> impl Strategy<Value = Vec<Series>> {
        let labels = proptest::collection::btree_map("[a-c_]{1,3}", "[a-zé]{1,4}", 1..4);
        let chunks = proptest::collection::vec((1i64..1000, 0i64..1000, any::<u32>()), 1..5);
        proptest::collection::vec((labels, chunks), 0..30).prop_map(|all| {
            let mut by_labels: BTreeMap<Labels, Vec<ChunkMeta>> = BTreeMap::new();
            for (labels, raw) in all {
                let mut time = -1500;
                let chunks = raw.iter().map(|(gap, length, reference)| {
                    let min_time = time + gap;
                    time = min_time + length;
                    ChunkMeta { min_time, max_time: time, reference: u64::from(*reference) }
                });
                by_labels.insert(Labels::from_pairs(labels), chunks.collect());
            }
            by_labels.into_iter().map(|(labels, chunks)| Series { labels, chunks }).collect()
        })
    }

    fn read(index: &Index) -> Result<Vec<Series>, Error> {
        let mut all = Vec::new();
        for reference in index.all_series()? {
            let mut one = Series::default();
            index.read_series(reference, &mut one)?;
            all.push(one);
        }
        Ok(all)
    }

    #[test]
    fn disorder_is_refused() {
        let one = |name: &str, times: &[(i64, i64)]| Series {
            labels: Labels::from_pairs([("__name__", name)]),
            chunks: times
                .iter()
                .map(|(min_time, max_time)| ChunkMeta {
                    min_time: *min_time,
                    max_time: *max_time,
                    reference: 8,
                })
                .collect(),
        };
        let text = |series: &[Series]| write(series).map_err(|e| e.to_string());
        assert!(text(&[one("b", &[]), one("a", &[])]).is_err_and(|e| e.contains("out-of-order series")));
        let overlapping = text(&[one("a", &[(1, 5), (5, 6)])]);
        assert_eq!(overlapping, Err("chunk minT 5 is not higher than previous chunk maxT 5".to_owned()));
    }

    proptest! {
        #[test]
        fn series_come_back_by_every_way(series in series_strategy()) {
            let index = Index::open(write(&series).unwrap()).unwrap();
            prop_assert_eq!(read(&index).unwrap(), series.clone());
            for entry in index.postings_entries().unwrap().skip(1) {
                let entry = entry.unwrap();
                let mut one = Series::default();
                let mut count = 0;
                for reference in index.read_postings(entry.at).unwrap() {
                    index.read_series(reference, &mut one).unwrap();
                    prop_assert_eq!(one.labels.value(entry.name), Some(entry.value));
                    count += 1;
                }
                let expect = series.iter().filter(|s| s.labels.value(entry.name) == Some(entry.value)).count();
                prop_assert_eq!(count, expect);
            }
        }

        #[test]
        fn a_flipped_bit_is_an_error_or_harmless(series in series_strategy(), place in any::<u32>(), cut in any::<bool>()) {
            let mut bytes = write(&series).unwrap();
            let at = place as usize / 8 % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << (place % 8) }
            if let Ok(index) = Index::open(bytes)
                && let Ok(read) = read(&index)
            {
                prop_assert_eq!(read, series, "padding only");
            }
        }
    }
}
