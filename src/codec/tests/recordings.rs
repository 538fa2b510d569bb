//! Bytes a sample on real pages: what the format is for.
//!
//! The recordings are `/metrics` pages scraped every 15 s; they are read from the shared data folder
//! and the test is skipped where that is absent.

use std::collections::HashMap;
use std::path::PathBuf;

use codec::value_encode::Encoder;
use codec::{Tier, column_encode, time_column, value};

fn shared() -> PathBuf {
    match std::env::var_os("SYSTOLE_SHARED") {
        Some(path) => path.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    }
}

/// The NaN that a parsed `NaN` becomes.
const NAN_FROM_TEXT: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Times of the scrapes, and a column for each line that was there from the first to the last.
struct Recording {
    times: Vec<i64>,
    columns: Vec<(String, Vec<f64>)>,
}

fn recording(name: &str) -> Option<Recording> {
    let path = shared().join(format!("data/recordings/{name}.rec.zst"));
    let Ok(packed) = std::fs::read(&path) else {
        println!("skipped: no {}", path.display());
        return None;
    };
    let text = zstd::decode_all(&packed[..]).expect("a recording is zstd");
    let mut times = Vec::new();
    let mut columns: HashMap<String, Vec<f64>> = HashMap::new();
    let mut rest = &text[..];
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let head = std::str::from_utf8(&rest[..end]).expect("a header is text");
        let mut words = head.split(' ').skip(1).map(|w| w.parse::<i64>().expect("a header has numbers"));
        let (time, bytes) = (words.next().unwrap(), words.next().unwrap() as usize);
        let page = std::str::from_utf8(&rest[end + 1..end + 1 + bytes]).expect("a page is text");
        for line in page.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            let (series, value) = line.rsplit_once(' ').expect("a line has a value");
            let value: f64 = value.parse().expect("a value is a number");
            let value = if value.is_nan() { NAN_FROM_TEXT } else { value };
            columns.entry(series.to_owned()).or_default().push(value);
        }
        times.push(time);
        rest = &rest[end + 1 + bytes..];
    }
    let mut columns: Vec<_> = columns.into_iter().filter(|(_, c)| c.len() == times.len()).collect();
    columns.sort_by(|a, b| a.0.cmp(&b.0));
    Some(Recording { times, columns })
}

/// Bytes a sample in windows of `window` samples, the time column of a window shared by all series.
fn bytes_per_sample(recording: &Recording, window: usize, tier: Tier) -> f64 {
    let mut encoder = Encoder::new();
    let mut times_encoder = column_encode::Encoder::new();
    let (mut bytes, mut samples) = (0, 0);
    let mut out = Vec::new();
    for (idx, times) in recording.times.chunks(window).enumerate() {
        out.clear();
        time_column::encode_with(&mut times_encoder, times, &mut out);
        for (series, column) in &recording.columns {
            let values = &column[idx * window..idx * window + times.len()];
            let start = out.len();
            encoder.encode(values, tier, &mut out);
            let mut back = vec![0.0; values.len()];
            value::decode(&out[start..], values.len(), &mut back).expect("what was encoded decodes");
            assert!(back.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()), "{series}");
        }
        bytes += out.len();
        samples += times.len() * recording.columns.len();
    }
    bytes as f64 / samples as f64
}

fn check(name: &str, window: usize, tier: Tier, most: f64) {
    let Some(recording) = recording(name) else { return };
    let found = bytes_per_sample(&recording, window, tier);
    println!("{name}, {} series, N={window}, {tier:?}: {found:.3} bytes a sample", recording.columns.len());
    assert!(found <= most, "{name} N={window} {tier:?}: {found:.3} > {most}");
}

#[test]
fn node_exporter_stays_within_its_bytes() {
    check("node", 120, Tier::Full, 0.65);
    check("node", 480, Tier::Full, 0.65);
    check("node", 120, Tier::Mid, 0.70);
    check("node", 120, Tier::Fast, 0.80);
    check("node", 64, Tier::Fast, 1.0);
}

#[test]
fn other_pages_stay_within_their_bytes() {
    for name in ["prometheus", "victoriametrics", "alertmanager"] {
        check(name, 480, Tier::Full, 1.0);
        check(name, 120, Tier::Full, 1.0);
    }
}
