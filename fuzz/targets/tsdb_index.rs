//! No bytes make the reader of a Prometheus block's index panic, also where every checksum is right.

#![no_main]

use codec::crc32c::checksum;
use libfuzzer_sys::fuzz_target;
use prometheus_tsdb::index::{Index, Series};

/// Writes the checksum behind the bytes, if it has a place.
fn seal(file: &mut [u8], from: usize, length: usize) -> Option<usize> {
    let end = from.checked_add(length)?;
    let sum = checksum(file.get(from..end)?).to_be_bytes();
    file.get_mut(end..end.checked_add(4)?)?.copy_from_slice(&sum);
    Some(end + 4)
}

/// Seals the section at `at`, which begins with its length.
fn seal_section(file: &mut [u8], at: u64) -> Option<usize> {
    let at = usize::try_from(at).ok().filter(|at| *at != 0)?;
    let length = u32::from_be_bytes(*file.get(at..)?.first_chunk()?);
    seal(file, at + 4, length as usize)
}

fn seal_all(file: &mut [u8]) -> Option<()> {
    let toc = file.len().checked_sub(52)?;
    seal(file, toc, 48)?;
    let offsets: Vec<u64> =
        file[toc..toc + 48].chunks(8).map(|b| u64::from_be_bytes(b.try_into().expect("eight"))).collect();
    for at in [0, 2, 3, 5] {
        seal_section(file, offsets[at]);
    }
    let mut at = offsets[4];
    while let Some(end) = seal_section(file, at) {
        at = end.next_multiple_of(4) as u64;
    }
    let mut at = usize::try_from(offsets[1]).ok()?;
    while let Some(&length) = file.get(at) {
        // Lengths of one byte: series of a few labels and chunks.
        at = seal(file, at + 1, usize::from(length & 0x7f))?.next_multiple_of(16);
    }
    Some(())
}

fuzz_target!(|bytes: &[u8]| {
    let mut sealed = bytes.to_vec();
    seal_all(&mut sealed);
    for file in [bytes.to_vec(), sealed] {
        let length = file.len() as u64;
        let Ok(index) = Index::open(file) else { continue };
        for reference in 0..(index.symbol_count() as u32).min(64) {
            let _ = index.symbol(reference);
        }
        let Ok(entries) = index.postings_entries() else { continue };
        for entry in entries.flatten().take(64) {
            if let Ok(postings) = index.read_postings(entry.at) {
                postings.take(64).for_each(drop);
            }
            let _ = index.postings(entry.name, entry.value);
        }
        let mut series = Series::default();
        let references = index.all_series().unwrap_or_default();
        let places = (0..length / 16).chain(references).chain([index.toc().series, u64::MAX]).take(4096);
        for reference in places {
            let _ = index.read_series(reference, &mut series);
        }
    }
});
