//! What does a durable commit of the log cost? Rows of some targets, then one group commit, again and again.
//!
//! `cargo bench --bench commit [-- TARGETS COMMITS]`, in the temporary folder: set TMPDIR to the disk in question.
//! Without figures few commits, to see that it runs.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures_lite::future::block_on;
use model::Labels;
use systole::rt::clock::{Clock, SystemClock};
use systole::rt::disk::{Disk, PlainDisk};
use systole::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
use systole::shard::appender::{Appender, Slot, Source};
use systole::shard::keeper::{Keeper, Place};
use systole::shard::record::SourceId;
use systole::shard::wal::pending::Owner;

const SERIES_PER_TARGET: u64 = 1000;

fn main() {
    let figures: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (targets, commits) = (*figures.first().unwrap_or(&4), *figures.get(1).unwrap_or(&20));
    let dir = std::env::temp_dir().join(format!("systole-commit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a place to write to");
    let place = Place::new(&dir, Owner { directory_id: 1, shard: 0, shard_count: 1 });
    let place = Place { tail_dir: dir.clone(), ..place };
    let disk: Rc<dyn Disk> = Rc::new(PlainDisk);
    let keeper = block_on(Keeper::open(disk, &place, Arc::default())).expect("a directory to write to");
    let pulse = Pulse::new(SystemClock::shared() as Arc<dyn Clock>, Grid::new(GRID_DEFAULT));
    let mut appender = Appender::new(1);
    let mut sources: Vec<(Source, Vec<Slot>)> = Vec::new();
    for n in 0..targets {
        // An appender writes for one source at a time: what it defines goes with that source's first row.
        let (mut source, slots) = target(&mut appender, n);
        row(&keeper, &mut appender, &mut source, &slots, 0);
        block_on(keeper.commit_now(&pulse));
        sources.push((source, slots));
    }
    let mut times_ns = Vec::new();
    for turn in 1..=commits {
        for (source, slots) in &mut sources {
            row(&keeper, &mut appender, source, slots, turn);
        }
        let started = Instant::now();
        block_on(keeper.commit_now(&pulse));
        times_ns.push(started.elapsed().as_nanos() as u64);
    }
    times_ns.sort_unstable();
    let at = |q: usize| times_ns[(times_ns.len() - 1) * q / 100] as f64 / 1e6;
    let rows = targets * SERIES_PER_TARGET;
    println!("{commits} commits of {rows} samples each, a quarter of them changed:");
    println!("p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms", at(50), at(99), at(100));
    drop(keeper);
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

fn target(appender: &mut Appender, n: u64) -> (Source, Vec<Slot>) {
    let mut source = Source::new(SourceId(n + 1), 1);
    let define = |i: u64| {
        let labels = Labels::from_pairs([
            ("__name__", format!("metric_{}_total", i / 10)),
            ("code", (i % 10).to_string()),
            ("instance", format!("10.0.0.{n}:9100")),
        ]);
        appender.define(&mut source, &labels)
    };
    let slots = (0..SERIES_PER_TARGET).map(define).collect();
    (source, slots)
}

fn row(keeper: &Keeper, appender: &mut Appender, source: &mut Source, slots: &[Slot], turn: u64) {
    for (i, slot) in slots.iter().enumerate() {
        if turn == 0 {
            appender.begin(source, *slot, i as f64);
        } else if (i as u64 + turn).is_multiple_of(4) {
            appender.set(*slot, (turn * 31 + i as u64) as f64 / 8.0);
        }
    }
    let generation = keeper.generation();
    appender.commit(source, (turn as i64 + 1) * 15_000, |_, batch| {
        keeper.append(generation, batch).expect("the tail has room after each commit");
    });
}
