//! Requests of remote write, both versions, plain and behind snappy: no bytes make a reader panic, and what it gives
//! lies within the bytes. Histograms that are accepted are written and read again the same.

#![no_main]

use exposition::remote_histogram;
use exposition::remote_write::{
    Pairs, RequestV1, RequestV2, SeriesReader, checked_labels, exemplar_labels, read_exemplar, read_pairs,
};
use libfuzzer_sys::fuzz_target;

fn histograms(message: &[u8], reader: &SeriesReader) {
    for part in &reader.histograms {
        match remote_histogram::read(&message[part.start as usize..part.end as usize]) {
            Ok(sample) => {
                let mut bytes = Vec::new();
                remote_histogram::write(&sample, &mut bytes);
                let again = remote_histogram::read(&bytes).map(|s| s.time);
                if let Ok(time) = again {
                    assert_eq!(time, sample.time);
                }
                let _ = sample.accepted().map_err(|e| e.to_string());
            }
            Err(e) => drop(e.to_string()),
        }
    }
}

fn first(body: &[u8]) {
    let (mut request, mut reader) = (RequestV1::new(body), SeriesReader::default());
    while let Ok(Some(message)) = request.try_next() {
        if reader.read_v1(message).is_err() {
            return;
        }
        let mut pairs = Pairs::new();
        if read_pairs(reader.labels_v1(message), &mut pairs).is_ok() {
            let _ = checked_labels(&mut pairs).map_err(|e| e.to_string());
        }
        histograms(message, &reader);
        for x in &reader.exemplars {
            let part = &message[x.part.start as usize..x.part.end as usize];
            if read_exemplar(part, &mut pairs).is_ok() {
                let _ = exemplar_labels(&mut pairs);
            }
        }
    }
}

fn second(body: &[u8]) {
    let (mut request, mut reader) = (RequestV2::default(), SeriesReader::default());
    if request.read(body).is_err() {
        return;
    }
    for part in &request.series {
        let message = &body[part.start as usize..part.end as usize];
        if reader.read_v2(message).is_err() {
            return;
        }
        let mut pairs = Pairs::new();
        if request.pairs(body, &reader.label_refs, &mut pairs).is_ok() {
            let _ = checked_labels(&mut pairs).map_err(|e| e.to_string());
        }
        histograms(message, &reader);
        for x in &reader.exemplars {
            let refs = &reader.exemplar_refs[x.part.start as usize..x.part.end as usize];
            if request.pairs(body, refs, &mut pairs).is_ok() {
                let _ = exemplar_labels(&mut pairs);
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    first(bytes);
    second(bytes);
    // As the receiver does: what a block says it unpacks to is believed only within reason.
    if let Ok(length) = snap::raw::decompress_len(bytes)
        && length <= bytes.len() * 22
        && let Ok(body) = snap::raw::Decoder::new().decompress_vec(bytes)
    {
        first(&body);
        second(&body);
    }
});
