//! How fast do numbers become chunks, tier by tier? Throughput is in samples.

#[path = "cpu_time/mod.rs"]
mod cpu_time;
#[path = "../tests/recording/mod.rs"]
mod recording;

use codec::value_encode::Encoder;
use codec::{Tier, column_encode, time_column};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn encode(criterion: &mut Criterion) {
    let Some(recording) = recording::recording("node") else { return };
    for window in [64, 480] {
        let mut group = criterion.benchmark_group(format!("encode node N={window}"));
        let samples = recording.times.len() * recording.columns.len();
        group.throughput(Throughput::Elements(samples as u64)).sample_size(10);
        for tier in [Tier::Fast, Tier::Mid, Tier::Full] {
            let mut encoder = Encoder::new();
            let mut out = Vec::new();
            group.bench_function(format!("{tier:?}"), |b| {
                let mut once = || {
                    out.clear();
                    for values in recording.columns.iter().flat_map(|(_, column)| column.chunks(window)) {
                        encoder.encode(values, tier, &mut out);
                    }
                    out.len()
                };
                b.iter_custom(|n| cpu_time::measure(n, &mut once))
            });
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("encode times");
    group.throughput(Throughput::Elements(recording.times.len() as u64)).sample_size(10);
    let mut encoder = column_encode::Encoder::new();
    let mut out = Vec::new();
    group.bench_function("node", |b| {
        let mut once = || {
            out.clear();
            time_column::encode_with(&mut encoder, &recording.times, &mut out);
            out.len()
        };
        b.iter_custom(|n| cpu_time::measure(n, &mut once))
    });
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
