//! What does a question cost a series? Wide and narrow ones over a head of scraped targets, on one shard.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;
use model::Labels;
use systole::query::account::Token;
use systole::query::engine::{Engine, Options, Request, When};
use systole::query::merge::Local;
use systole::shard::Shard;
use systole::shard::appender::{Appender, Source};
use systole::shard::record::SourceId;

/// Targets of 384 counters each, in four modes.
const TARGETS: u64 = 200;
const CPUS: u64 = 96;
const MODES: [&str; 4] = ["idle", "user", "system", "iowait"];
const SERIES: u64 = TARGETS * CPUS * MODES.len() as u64;
const SCRAPE_MS: i64 = 15_000;

/// A shard that has scraped every target `rows` times; six of ten values changed from row to row.
fn scraped(rows: i64) -> Shard {
    let mut shard = Shard::default();
    let mut x = 88_172_645_463_325_252_u64;
    let mut chance = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let mut appender = Appender::new(1);
    for target in 0..TARGETS {
        let mut source = Source::new(SourceId(target + 1), 1);
        let mut counters = Vec::new();
        for cpu in 0..CPUS {
            for mode in MODES {
                let labels = Labels::from_pairs([
                    ("__name__", "node_cpu_seconds_total"),
                    ("cpu", &cpu.to_string()),
                    ("instance", &format!("10.0.0.{target}:9100")),
                    ("job", "node"),
                    ("mode", mode),
                    ("rack", &format!("r{}", target % 10)),
                ]);
                counters.push((appender.define(&mut source, &labels), (chance() % 1_000_000) as f64 / 100.0));
            }
        }
        for row in 0..rows {
            for (slot, v) in &mut counters {
                if row == 0 {
                    appender.begin(&mut source, *slot, *v);
                } else if chance() % 10 < 6 {
                    *v += (chance() % 1500) as f64 / 100.0;
                    appender.set(*slot, *v);
                }
            }
            appender.commit(&mut source, (row + 1) * SCRAPE_MS, |_, batch| {
                shard.apply(batch).expect("the batch is well formed");
            });
        }
    }
    shard
}

fn bench(c: &mut Criterion) {
    let engine = Engine::new(Options::default());
    for rows in [12, 120] {
        let local = Local { shards: vec![scraped(rows)], token: Token::default() };
        let end = rows * SCRAPE_MS;
        let instant = When::Instant(end + 3);
        let range = When::Range { start: end - 240_000, end, step: SCRAPE_MS };
        let mut group = c.benchmark_group(format!("query/{rows}_rows"));
        group.sample_size(10);
        for (name, text, when, series) in [
            ("i1_sum_by_mode_rate", "sum by (mode) (rate(node_cpu_seconds_total[1m]))", instant, SERIES),
            ("i3_count_all", r#"count({__name__!=""})"#, instant, SERIES),
            ("i4_sum_by_instance", "sum by (instance) (node_cpu_seconds_total)", instant, SERIES),
            (
                "i5_one_series",
                r#"node_cpu_seconds_total{cpu="7",mode="idle",instance="10.0.0.7:9100"}"#,
                instant,
                1,
            ),
            ("r1_sum_by_mode_rate", "sum by (mode) (rate(node_cpu_seconds_total[1m]))", range, SERIES),
            (
                "r3_avg_by_rack",
                r#"avg by (rack) (100 - rate(node_cpu_seconds_total{mode="idle"}[1m]) * 100)"#,
                range,
                SERIES / 4,
            ),
        ] {
            group.throughput(Throughput::Elements(series));
            group.bench_function(name, |b| {
                b.iter(|| {
                    black_box(block_on(engine.run(Request::new(text, when), &local)).expect("an answer"))
                })
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
