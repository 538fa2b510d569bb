//! Requests of remote write as text, for tests: a line a sample.

use exposition::remote_histogram;
use exposition::remote_write::{Pairs, RequestV1, SeriesReader, checked_labels, read_pairs};
use model::float_text::format_f;

pub(in crate::push) fn lines(body: &[u8]) -> Vec<String> {
    let (mut request, mut reader, mut out) = (RequestV1::new(body), SeriesReader::default(), Vec::new());
    while let Some(message) = request.try_next().unwrap() {
        reader.read_v1(message).unwrap();
        let mut pairs = Pairs::new();
        read_pairs(reader.labels_v1(message), &mut pairs).unwrap();
        let labels = checked_labels(&mut pairs).map_or_else(|e| e.to_string(), |l| l.to_string());
        let exemplars = match reader.exemplars.len() {
            0 => String::new(),
            n => format!(" +{n}"),
        };
        for s in &reader.samples {
            let value = if model::is_stale(s.value) { "stale".to_owned() } else { format_f(s.value) };
            out.push(format!("{labels} {value} @{}{exemplars}", s.time));
        }
        for part in &reader.histograms {
            let h = remote_histogram::read(&message[part.start as usize..part.end as usize]).unwrap();
            let time = h.time;
            let h = h.accepted().unwrap();
            out.push(format!("{labels} {:?} {h} @{time}{exemplars}", h.counter_reset_hint));
        }
    }
    out
}
