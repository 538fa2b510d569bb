//! Requests of remote write 1.0 whose series were met before: where the reader jumps over labels that it knows by
//! their bytes, it comes to what it comes to when it reads them.

#![no_main]

#[allow(dead_code)]
#[path = "../../src/remote/known.rs"]
mod known;

use exposition::remote_write::{RequestV1, SeriesReader};
use known::{Known, Walk, label_hash};
use libfuzzer_sys::fuzz_target;
use model::ShardId;

const SEED: u64 = 7;

/// The tag of a field of labels.
const LABEL: u8 = 0x0a;

/// Notes the series of a request under the bytes of their labels, as the receiver does.
fn meet(body: &[u8], known: &mut Known) {
    let (mut request, mut reader, mut slot) = (RequestV1::new(body), SeriesReader::default(), 0);
    let mut walk = Walk::default();
    while let Ok(Some(message)) = request.try_next() {
        if reader.read_v1(message).is_err() {
            return;
        }
        let hash = label_hash(reader.labels_v1(message), SEED);
        if known.find(&mut walk, hash).is_none() {
            known.insert(hash, ShardId(0), slot, 0);
            slot += 1;
        }
    }
}

/// Reads a request both ways.
fn compare(body: &[u8], known: &Known) {
    let (mut request, mut walk) = (RequestV1::new(body), Walk::default());
    let (mut plain, mut ahead) = (SeriesReader::default(), SeriesReader::default());
    while let Ok(Some(message)) = request.try_next() {
        let read = plain.read_v1(message);
        let Some((_, end)) = known.find_ahead(&mut walk, message, SEED, |next| next != LABEL) else { continue };
        assert_eq!(ahead.read_v1_behind(message, end), read);
        if read.is_err() {
            return;
        }
        assert_eq!(ahead.labels_v1(message), plain.labels_v1(message));
        // As text, in which one NaN is like the other.
        assert_eq!(format!("{:?}", ahead.samples), format!("{:?}", plain.samples));
        assert_eq!(ahead.histograms, plain.histograms);
        assert_eq!(format!("{:?}", ahead.exemplars), format!("{:?}", plain.exemplars));
    }
}

fuzz_target!(|bytes: &[u8]| {
    // Two requests, cut where the first two bytes say; then the first once more.
    let Some((at, bytes)) = bytes.split_first_chunk() else { return };
    let at = usize::from(u16::from_le_bytes(*at)).min(bytes.len());
    let (first, second) = bytes.split_at(at);
    let mut known = Known::default();
    meet(first, &mut known);
    compare(second, &known);
    compare(first, &known);
});
