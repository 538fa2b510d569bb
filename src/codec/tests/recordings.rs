//! Bytes a sample on real pages: what the format is for.
//!
//! The recordings are `/metrics` pages scraped every 15 s; they are read from the shared data folder
//! and the test is skipped where that is absent.

use codec::value_encode::Encoder;
use codec::{Tier, column_encode, time_column, value};

mod recording;

use recording::{Recording, recording};

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
