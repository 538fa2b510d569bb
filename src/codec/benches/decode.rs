//! How fast do chunks become numbers? Throughput is in samples.
//!
//! `cache`: one recording's chunks, again and again. `dram`: 96 MB of them in storage order, more
//! than any cache of one core holds. Each for every instruction set of this CPU.

#[path = "cpu_time/mod.rs"]
mod cpu_time;
#[path = "../tests/recording/mod.rs"]
mod recording;

use codec::value_encode::Encoder;
use codec::{Isa, Tier, value};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Chunks side by side, with the slack that readers like behind them.
struct Store {
    bytes: Vec<u8>,
    /// Where a chunk begins and how many samples it holds.
    chunks: Vec<(usize, usize)>,
    samples: u64,
}

impl Store {
    fn new(columns: &[Vec<f64>], window: usize, bytes_min: usize) -> Self {
        let mut store = Store { bytes: Vec::new(), chunks: Vec::new(), samples: 0 };
        let mut encoder = Encoder::new();
        for values in columns.iter().flat_map(|c| c.chunks(window)) {
            store.chunks.push((store.bytes.len(), values.len()));
            store.samples += values.len() as u64;
            encoder.encode(values, Tier::Full, &mut store.bytes);
        }
        let (once_bytes, once_chunks, once_samples) =
            (store.bytes.clone(), store.chunks.clone(), store.samples);
        while store.bytes.len() < bytes_min {
            let start = store.bytes.len();
            store.bytes.extend_from_slice(&once_bytes);
            store.chunks.extend(once_chunks.iter().map(|(at, count)| (at + start, *count)));
            store.samples += once_samples;
        }
        store.bytes.extend_from_slice(&[0; 64]);
        store
    }

    fn decode(&self, isa: Isa, out: &mut [f64]) -> u64 {
        let mut mixed = 0;
        for &(at, count) in &self.chunks {
            let out = &mut out[..count];
            value::decode_with(isa, &self.bytes[at..], out).expect("what was encoded decodes");
            mixed ^= out[count - 1].to_bits();
        }
        mixed
    }
}

/// Columns of the node_exporter recording; synthetic counters and gauges where it is absent.
fn columns() -> (&'static str, Vec<Vec<f64>>) {
    if let Some(recording) = recording::recording("node") {
        return ("node", recording.columns.into_iter().map(|(_, column)| column).collect());
    }
    let synthetic = |series: u64| {
        let mut counter = series * 1000;
        (0..468u64)
            .map(|i| {
                counter += (i * 7919 + series * 104_729) % 97 * u64::from(!series.is_multiple_of(3));
                counter as f64 / if series.is_multiple_of(2) { 1.0 } else { 100.0 }
            })
            .collect()
    };
    ("synthetic", (0..500).map(synthetic).collect())
}

fn decode(criterion: &mut Criterion) {
    let (name, columns) = columns();
    let mut changing = columns.clone();
    changing.retain(|c| c.iter().any(|v| v.to_bits() != c[0].to_bits()));
    let stores = [
        ("cache, N=480", Store::new(&columns, 480, 0)),
        ("cache, N=120", Store::new(&columns, 120, 0)),
        ("cache, changing only, N=480", Store::new(&changing, 480, 0)),
        ("dram, N=480", Store::new(&columns, 480, 96 << 20)),
    ];
    let mut out = vec![0.0; 480];
    for (what, store) in &stores {
        let mut group = criterion.benchmark_group(format!("decode {name} {what}"));
        group.throughput(Throughput::Elements(store.samples)).sample_size(10);
        for isa in Isa::available() {
            group.bench_function(format!("{isa:?}"), |b| {
                b.iter_custom(|n| cpu_time::measure(n, || store.decode(isa, &mut out)))
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
