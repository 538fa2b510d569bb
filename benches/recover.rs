//! How long does a start take? A shard of many series after hours of scrapes: from its log alone, and from a checkpoint.
//!
//! `cargo bench --bench recover [-- SERIES ROWS]`; without figures a small shard, to see that it runs.

use std::path::Path;
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
const SCRAPE_MS: i64 = 15_000;

fn main() {
    let figures: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (series, rows) = (*figures.first().unwrap_or(&20_000), *figures.get(1).unwrap_or(&100));
    let dir = std::env::temp_dir().join(format!("systole-recover-{}", std::process::id()));
    let owner = Owner { directory_id: 1, shard: 0, shard_count: 1 };
    let place = Place::new(&dir, owner);
    let place = Place { tail_dir: dir.clone(), ..place };
    fill(&place, series, rows);
    let keeper = timed("from the log alone", || open(&place));
    let r = &keeper.recovered;
    println!("  {} series, {} MB of log, {} records", r.series_count, r.bytes >> 20, r.record_count);
    timed("writing a checkpoint", || block_on(keeper.checkpoint_now()).expect("a checkpoint"));
    drop(keeper);
    let keeper = timed("from the checkpoint", || open(&place));
    let r = &keeper.recovered;
    println!("  {} series, {} MB of image, {} records", r.series_count, r.image_bytes >> 20, r.record_count);
    println!("  {} B a series in the head", keeper.shard().head().heap_bytes() as u64 / series);
    drop(keeper);
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

fn timed<R>(what: &str, work: impl FnOnce() -> R) -> R {
    let started = Instant::now();
    let result = work();
    println!("{what}: {:.3} s", started.elapsed().as_secs_f64());
    result
}

fn open(place: &Place) -> Keeper {
    let disk: Rc<dyn Disk> = Rc::new(PlainDisk);
    block_on(Keeper::open(disk, place, Arc::default())).expect("a directory to write to")
}

/// Scrapes `series` in all, a thousand a target, `rows` times; four of ten values change from row to row.
fn fill(place: &Place, series: u64, rows: u64) {
    std::fs::create_dir_all(Path::new(&place.tail_dir)).expect("a place to write to");
    let keeper = open(place);
    let pulse = Pulse::new(SystemClock::shared() as Arc<dyn Clock>, Grid::new(GRID_DEFAULT));
    let mut appender = Appender::new(1);
    let mut x = 88_172_645_463_325_252_u64;
    let mut chance = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let mut targets: Vec<(Source, Vec<(Slot, f64)>)> = Vec::new();
    for target in 0..series.div_ceil(SERIES_PER_TARGET) {
        let mut source = Source::new(SourceId(target + 1), 1);
        let mut slots = Vec::new();
        for i in 0..SERIES_PER_TARGET {
            let labels = Labels::from_pairs([
                ("__name__", format!("metric_{}_total", i / 10)),
                ("code", (i % 10).to_string()),
                ("instance", format!("10.0.{}.{}:9100", target / 250, target % 250)),
                ("job", "node".to_owned()),
                ("rack", format!("r{}", target % 40)),
            ]);
            slots.push((appender.define(&mut source, &labels), 0.0));
        }
        targets.push((source, slots));
        // Definitions go with the first row.
        row(&keeper, &pulse, &mut appender, targets.last_mut().expect("just pushed"), 0, &mut chance);
    }
    for r in 1..rows {
        for target in &mut targets {
            row(&keeper, &pulse, &mut appender, target, r as i64, &mut chance);
        }
    }
    block_on(keeper.commit_now(&pulse));
}

fn row(
    keeper: &Keeper,
    pulse: &Pulse,
    appender: &mut Appender,
    target: &mut (Source, Vec<(Slot, f64)>),
    r: i64,
    chance: &mut impl FnMut() -> u64,
) {
    let (source, slots) = target;
    for (slot, v) in slots {
        if r == 0 {
            appender.begin(source, *slot, *v);
        } else if chance() % 10 < 4 {
            *v += (chance() % 1500) as f64 / 100.0;
            appender.set(*slot, *v);
        }
    }
    let generation = keeper.generation();
    appender.commit(source, (r + 1) * SCRAPE_MS, |_, batch| {
        keeper.append(generation, batch).expect("the tail has room after each commit");
    });
    // Half a tail holds 8 MiB: the rows of sixteen targets, with their labels, are less than two.
    if source.id().0.is_multiple_of(16) {
        block_on(keeper.commit_now(pulse));
    }
}
