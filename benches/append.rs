//! What one sample costs on its way from an appender into a shard's memory: rows of one source, values in place.
//!
//! `cargo bench --bench append`. Parameters: series of the source, and the share of values that change a row.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use model::Labels;
use systole::shard::Shard;
use systole::shard::appender::{Appender, Slot, Source};
use systole::shard::record::SourceId;

/// A fleet's worth of sources in turn, so that one group's memory does not stay in the nearest cache.
const SOURCES: usize = 100;

struct Fleet {
    shard: Shard,
    appender: Appender,
    sources: Vec<(Source, Vec<Slot>)>,
    time: i64,
    turn: usize,
}

impl Fleet {
    fn new(series: usize) -> Fleet {
        let mut fleet = Fleet {
            shard: Shard::default(),
            appender: Appender::new(1),
            sources: Vec::new(),
            time: 0,
            turn: 0,
        };
        for n in 0..SOURCES {
            let mut source = Source::new(SourceId(n as u64 + 1), 1);
            let mut slots = Vec::new();
            for i in 0..series {
                let labels = Labels::from_pairs([
                    ("__name__", "node_cpu_seconds_total".to_owned()),
                    ("instance", format!("host-{n}:9100")),
                    ("cpu", i.to_string()),
                ]);
                let slot = fleet.appender.define(&mut source, &labels);
                fleet.appender.begin(&mut source, slot, 0.0);
                slots.push(slot);
            }
            fleet.sources.push((source, slots));
            // An appender writes for one source at a time.
            fleet.commit(n);
        }
        fleet
    }

    fn commit(&mut self, n: usize) {
        self.time += 1;
        let Fleet { shard, appender, sources, time, .. } = self;
        let taken = appender.commit(&mut sources[n].0, *time, |_, batch| {
            shard.apply(batch).expect("the batch is whole");
        });
        assert!(taken, "time goes on");
    }

    /// One row of the next source: every `every`-th value changes.
    fn row(&mut self, every: usize) {
        self.turn += 1;
        let n = self.turn % SOURCES;
        for (i, slot) in self.sources[n].1.iter().enumerate().skip(self.turn % every).step_by(every) {
            self.appender.set(*slot, (self.turn * 31 + i) as f64 / 8.0);
        }
        self.commit(n);
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for series in [16, 500, 4000] {
        for every in [1, 4] {
            let mut fleet = Fleet::new(series);
            group.throughput(Throughput::Elements(series as u64));
            let id = BenchmarkId::new(format!("1 in {every} changes"), series);
            group.bench_function(id, |b| b.iter(|| fleet.row(every)));
        }
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
