//! What does a sample cost from its row to its block? Targets that show a recorded node_exporter for two hours: each row
//! in memory and in the log's frames, sealed on the way, and in the end the cut that merges what was sealed.
//!
//! `cargo bench --bench life [-- TARGETS ROWS]`, in the temporary folder: set TMPDIR to one in memory to leave the
//! device out. Without figures few rows, to see that it runs. Where there is no recording, all is made up.

#[path = "../src/codec/tests/recording/mod.rs"]
mod recording;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use model::Labels;
use systole::rt::clock::{Clock, SystemClock};
use systole::rt::disk::{Disk, PlainDisk};
use systole::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
use systole::shard::appender::{Appender, Slot, Source};
use systole::shard::keeper::{Keeper, Place};
use systole::shard::record::SourceId;
use systole::shard::wal::pending::Owner;

const STEP_MS: i64 = 15_000;
const BLOCK_MS: i64 = 7_200_000;
const MADE_UP: usize = 1000;

type Column = (String, Vec<f64>);

fn main() {
    let figures: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (targets, rows) = (*figures.first().unwrap_or(&2), *figures.get(1).unwrap_or(&40));
    let columns = recording::recording("node").map_or_else(made_up, |r| r.columns);
    let rows = (rows as usize).min((BLOCK_MS / STEP_MS) as usize).min(columns[0].1.len());
    let dir = std::env::temp_dir().join(format!("systole-life-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a place to write to");
    live(&dir, &columns, targets, rows);
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

/// A quarter of them counts.
fn made_up() -> Vec<Column> {
    let value =
        |i: usize, row: usize| if i.is_multiple_of(4) { (i * 100 + row * (i % 17)) as f64 } else { i as f64 };
    let column = |i| {
        (format!("metric_{}{{code=\"{}\"}}", i / 10, i % 10), (0..480).map(|row| value(i, row)).collect())
    };
    (0..MADE_UP).map(column).collect()
}

fn live(dir: &Path, columns: &[Column], targets: u64, rows: usize) {
    let place = Place::new(dir, Owner { directory_id: 1, shard: 0, shard_count: 1 });
    let place = Place { tail_dir: dir.to_path_buf(), ..place };
    let disk: Rc<dyn Disk> = Rc::new(PlainDisk);
    let keeper = block_on(Keeper::open(disk, &place, Arc::default())).expect("a directory to write to");
    let pulse = Pulse::new(SystemClock::shared() as Arc<dyn Clock>, Grid::new(GRID_DEFAULT));
    let mut fleet = Fleet { appender: Appender::new(1), sources: Vec::new() };
    for n in 0..targets {
        fleet.join(&keeper, n, columns);
        block_on(keeper.commit_now(&pulse));
    }
    let begun = keeper.probe.commit_bytes.get();
    let (mut append, mut changes) = (Duration::ZERO, 0);
    for row in 1..rows {
        let changed: Vec<(usize, f64)> = changed(columns, row).collect();
        changes += changed.len();
        let started = Instant::now();
        for n in 0..fleet.sources.len() {
            fleet.append(&keeper, n, row, &changed);
        }
        block_on(keeper.commit_now(&pulse));
        append += started.elapsed();
    }
    let logged = (keeper.probe.commit_bytes.get() - begun) as f64;
    let started = Instant::now();
    block_on(keeper.cut_now(&pulse, BLOCK_MS)).expect("a block");
    let cut = started.elapsed();
    let of_one = (columns.len() * (rows - 1)) as f64;
    let samples = of_one * targets as f64;
    let rate = |took: Duration| samples / took.as_secs_f64() / 1e6;
    println!("{samples} samples of {targets} targets, {:.0} % changed", 100.0 * changes as f64 / of_one);
    println!(
        "with the log {:.1} M/s, the cut {:.1} M/s, both {:.1} M/s",
        rate(append),
        rate(cut),
        rate(append + cut)
    );
    println!(
        "log {:.3} B a sample, blocks {:.3}",
        logged / samples,
        bytes_below(&place.blocks_dir()) / samples
    );
}

/// Where a row differs from the one before, by bits.
fn changed(columns: &[Column], row: usize) -> impl Iterator<Item = (usize, f64)> {
    let is_new = move |c: &Column| c.1[row].to_bits() != c.1[row - 1].to_bits();
    columns.iter().enumerate().filter(move |(_, c)| is_new(c)).map(move |(i, c)| (i, c.1[row]))
}

struct Fleet {
    appender: Appender,
    sources: Vec<(Source, Vec<Slot>)>,
}

impl Fleet {
    /// A target comes, with its first row.
    fn join(&mut self, keeper: &Keeper, n: u64, columns: &[Column]) {
        let mut source = Source::new(SourceId(n + 1), 1);
        let instance = format!("10.0.0.{n}:9100");
        let mut define = |line: &str| {
            let (name, rest) = line.split_once('{').unwrap_or((line, ""));
            let labels = [("__name__", name), ("instance", &*instance), ("labels", rest)];
            self.appender.define(&mut source, &Labels::from_pairs(labels))
        };
        let slots: Vec<Slot> = columns.iter().map(|(line, _)| define(line)).collect();
        for (slot, (_, values)) in slots.iter().zip(columns) {
            self.appender.begin(&mut source, *slot, values[0]);
        }
        self.sources.push((source, slots));
        self.commit(keeper, n as usize, 0);
    }

    fn append(&mut self, keeper: &Keeper, n: usize, row: usize, changed: &[(usize, f64)]) {
        for (i, value) in changed {
            self.appender.set(self.sources[n].1[*i], *value);
        }
        self.commit(keeper, n, row);
    }

    fn commit(&mut self, keeper: &Keeper, n: usize, row: usize) {
        let generation = keeper.generation();
        let taken = self.appender.commit(&mut self.sources[n].0, row as i64 * STEP_MS, |_, batch| {
            keeper.append(generation, batch).expect("the tail has room after each commit");
        });
        assert!(taken, "time goes on");
    }
}

fn bytes_below(dir: &Path) -> f64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).map(|m| m.len() as f64).sum()
}
