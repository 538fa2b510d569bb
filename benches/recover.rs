//! How long does a start take? A shard of many series after hours of scrapes: from its log alone, from a checkpoint, and
//! from a checkpoint and a block. And what does the block cost: to cut, on the disk, to read?
//!
//! `cargo bench --bench recover [-- SERIES ROWS]`; without figures a small shard, to see that it runs.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures_lite::future::block_on;
use model::{Labels, MatchOp, Matcher};
use systole::rt::clock::{Clock, SystemClock};
use systole::rt::disk::{Disk, PlainDisk};
use systole::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
use systole::shard::appender::{Appender, Slot, Source};
use systole::shard::deep::Deep;
use systole::shard::keeper::{Keeper, Place};
use systole::shard::record::SourceId;
use systole::shard::select::Batch;
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
    cut(&keeper, series * rows, (rows + 1) as i64 * SCRAPE_MS);
    block_on(keeper.checkpoint_now()).expect("a checkpoint");
    drop(keeper);
    let keeper = timed("from a checkpoint and a block", || open(&place));
    let r = &keeper.recovered;
    println!("  {} series in the head, {} MB of image", r.series_count, r.image_bytes >> 20);
    for what in ["reading all of the block", "and again, from the cache"] {
        let count = timed(what, || block_on(read(&keeper, Matcher::new(MatchOp::Regex, "job", ".+"))));
        println!("  {count} samples");
    }
    for what in ["reading one metric of the block", "and again"] {
        let name = Matcher::new(MatchOp::Equal, "__name__", "metric_7_total");
        let count = timed(what, || block_on(read(&keeper, name)));
        println!("  {count} samples");
    }
    drop(keeper);
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

fn timed<R>(what: &str, work: impl FnOnce() -> R) -> R {
    let started = Instant::now();
    let result = work();
    println!("{what}: {:.3} s", started.elapsed().as_secs_f64());
    result
}

fn cut(keeper: &Keeper, samples: u64, end: i64) {
    let pulse = Pulse::new(SystemClock::shared() as Arc<dyn Clock>, Grid::new(GRID_DEFAULT));
    timed("cutting a block", || block_on(keeper.cut_now(&pulse, end)).expect("a block"));
    for block in keeper.store().all() {
        let s = block.directory.stats;
        assert_eq!(s.float_count, samples);
        let each = block.size as f64 / samples as f64;
        println!("  {} series, {} MB, {each:.3} B a sample with its index", s.series_count, block.size >> 20);
    }
    println!(
        "  {} series in the head, {} B of rows",
        keeper.shard().index().series_count(),
        keeper.shard().head().heap_bytes()
    );
}

/// Reads the samples of all series that a matcher takes; says how many.
async fn read(keeper: &Keeper, matcher: Result<Matcher, model::regex::RegexError>) -> usize {
    let matchers = vec![matcher.expect("a matcher")];
    let (blocks, selection) = (keeper.store().all(), keeper.shard().select(&matchers, i64::MIN, i64::MAX));
    let mut deep = Deep::new(keeper.store().clone(), blocks, vec![matchers], selection);
    while deep.take_head(&keeper.shard()) {}
    while deep.take_part().await {}
    let (mut batch, mut count) = (Batch::default(), 0);
    while deep.fetch().await {
        deep.decode(&keeper.shard(), &mut batch);
        count += batch.series.iter().map(|s| s.values.len()).sum::<usize>();
    }
    count
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
