//! What does it cost to write an answer? Instant vectors and matrices as the query API's JSON.
//!
//! `cargo bench --bench json`. Parameters: series of the answer, and points of each.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use model::Labels;
use systole::api::json::Json;
use systole::query::value::{Element, SampleValue, Series, Value};

const NOW_MS: i64 = 1_790_000_000_000;

fn labels(i: u64) -> Labels {
    Labels::from_pairs([
        ("__name__", "node_cpu_seconds_total".to_owned()),
        ("cpu", (i % 96).to_string()),
        ("instance", format!("10.0.{}.{}:9100", i / 250 % 250, i % 250)),
        ("job", "node".to_owned()),
        ("mode", "idle".to_owned()),
    ])
}

fn vector(series: u64) -> Value {
    let element = |i| Element { labels: labels(i), time: NOW_MS, value: SampleValue::Float(i as f64 / 7.0) };
    Value::Vector((0..series).map(element).collect())
}

fn matrix(series: u64, points: i64) -> Value {
    let floats = |i: u64| (0..points).map(|p| (NOW_MS + 15_000 * p, (i as i64 + p) as f64 / 7.0)).collect();
    let one = |i| Series { labels: labels(i), floats: floats(i), histograms: Vec::new() };
    Value::Matrix((0..series).map(one).collect())
}

fn json(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    for (what, value, elements) in [
        ("vector", vector(10), 10),
        ("vector", vector(10_000), 10_000),
        ("matrix of 240 points", matrix(10, 240), 2400),
        ("matrix of 240 points", matrix(400, 240), 96_000),
    ] {
        group.throughput(Throughput::Elements(elements));
        group.bench_function(BenchmarkId::new(what, elements), |b| {
            b.iter(|| {
                let mut json = Json::new();
                json.value(black_box(&value));
                black_box(json.into_bytes())
            })
        });
    }
    group.finish();
}

criterion_group!(benches, json);
criterion_main!(benches);
