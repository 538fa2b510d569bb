//! No bytes make the readers of Prometheus's log panic: segments as they are, and records in a segment that is right.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prometheus_tsdb::head::Head;
use prometheus_tsdb::{record, wal};

fn walk(segment: &[u8], head: &mut Head) {
    let mut records = wal::Records::new(segment);
    while let Ok(Some((at, bytes))) = records.try_next() {
        if let Ok(record) = record::read(bytes, at) {
            let _ = head.apply(record);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut head = Head::new(i64::MIN);
    walk(bytes, &mut head);
    // Records one behind the other, each with its length ahead.
    let mut segment = Vec::new();
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        wal::push_record(&behind[..length], &mut segment);
        rest = &behind[length..];
    }
    walk(&segment, &mut head);
    let _ = (head.series_count(), head.sample_count());
    let mut samples = Vec::new();
    for series in head.all() {
        let _ = series.span();
        let _ = head.samples(series, i64::MIN, i64::MAX, &mut samples);
    }
});
