//! `tsdb bench write`: how fast one shard takes scraped samples, log included.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::block_on;
use hashbrown::HashSet;
use model::Labels;
use model::float_text::format_g;

use crate::exchange::Error;
use crate::exchange::table::duration_text;
use crate::rt::clock::Clock;
use crate::rt::disk::PlainDisk;
use crate::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
use crate::shard::appender::{Appender, Slot, Source};
use crate::shard::keeper::{Keeper, LogState, Place};
use crate::shard::record::SourceId;
use crate::shard::wal::pending::Owner;

/// What is asked for.
pub struct Question<'a> {
    /// A line of labels a series, `{"name":"value",...}`; without a file the series are made up.
    pub input: Option<&'a Path>,
    pub dir: &'a Path,
    pub series: usize,
    pub scrapes: usize,
}

/// Between two scrapes.
const INTERVAL_MS: i64 = 30_000;
/// Series of one target.
const TARGET_SERIES: usize = 1000;
/// What each value grows by, from where.
const STEP: f64 = 1000.0;
const FIRST: f64 = 123_456_789.0;

pub fn write(question: &Question<'_>, clock: &Arc<dyn Clock>, out: &mut dyn Write) -> Result<(), Error> {
    let series = stage("readData", clock, out, |_| match question.input {
        Some(path) => read_series(path, question.series),
        None => Ok((0..question.series).map(made_up).collect()),
    })?
    .0;
    let storage = question.dir.join("storage");
    if storage.exists() {
        fs::remove_dir_all(&storage).map_err(Error::file("remove", &storage))?;
    }
    let owner = Owner { directory_id: 1, shard: 0, shard_count: 1 };
    // The tail beside the log: what a bench leaves behind should lie in its own directory.
    let place = Place { tail_dir: storage.join("tails"), ..Place::new(&storage, owner) };
    let keeper = Rc::new(block_on(Keeper::open(Rc::new(PlainDisk), &place, Arc::default()))?);
    let pulse = Pulse::new(clock.clone(), Grid::new(GRID_DEFAULT));
    let (total, seconds) = stage("ingestScrapes", clock, out, |out| {
        let total = ingest(&keeper, &pulse, &series, question.scrapes)?;
        writeln!(out, "ingestion completed")?;
        Ok(total)
    })?;
    writeln!(out, " > total samples: {total}")?;
    writeln!(out, " > samples/sec: {}", format_g(total as f64 / seconds))?;
    stage("stopStorage", clock, out, |_| {
        commit(&keeper, &pulse)?;
        Ok(block_on(keeper.checkpoint_now())?)
    })?;
    Ok(())
}

/// Runs a stage; its result and its seconds.
fn stage<R>(
    name: &str,
    clock: &Arc<dyn Clock>,
    out: &mut dyn Write,
    f: impl FnOnce(&mut dyn Write) -> Result<R, Error>,
) -> Result<(R, f64), Error> {
    writeln!(out, ">> start stage={name}")?;
    let started = clock.now();
    let result = f(out)?;
    let took = clock.now().since(started);
    writeln!(out, ">> completed stage={name} duration={}", duration_text(took.as_millis() as i64))?;
    Ok((result, took.as_secs_f64()))
}

fn made_up(i: usize) -> Labels {
    let target = format!("host{}:9100", i / TARGET_SERIES);
    let name = format!("metric_{}", i % TARGET_SERIES);
    Labels::from_pairs([("__name__", name.as_str()), ("instance", &target), ("job", "bench")])
}

/// Quotes and braces are dropped, then commas part labels and colons names from values: so promtool reads it.
fn read_series(path: &Path, count: usize) -> Result<Vec<Labels>, Error> {
    let text = fs::read_to_string(path).map_err(Error::file("open", path))?;
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for line in text.lines() {
        if all.len() >= count {
            break;
        }
        let plain: String = line.chars().filter(|c| !"\"{}".contains(*c)).collect();
        let labels = Labels::from_pairs(plain.split(',').filter_map(|pair| {
            let mut parts = pair.split(':');
            Some((parts.next()?, parts.next()?))
        }));
        if seen.insert(labels.clone()) {
            all.push(labels);
        }
    }
    Ok(all)
}

fn ingest(keeper: &Rc<Keeper>, pulse: &Pulse, series: &[Labels], scrapes: usize) -> Result<u64, Error> {
    let mut appender = Appender::new(1);
    let mut targets: Vec<(Source, Vec<Slot>)> = (0..series.len().div_ceil(TARGET_SERIES))
        .map(|i| (Source::new(SourceId(i as u64 + 1), 1), Vec::new()))
        .collect();
    let mut total = 0;
    for scrape in 1..=scrapes {
        let value = FIRST + STEP * scrape as f64;
        for ((source, slots), labels) in targets.iter_mut().zip(series.chunks(TARGET_SERIES)) {
            if slots.is_empty() {
                slots.extend(labels.iter().map(|l| appender.define(source, l)));
                slots.iter().for_each(|slot| appender.begin(source, *slot, value));
            } else {
                slots.iter().for_each(|slot| appender.set(*slot, value));
            }
            let mut refusal = Ok(());
            appender.commit(source, scrape as i64 * INTERVAL_MS, |_, batch| {
                if refusal.is_ok() {
                    refusal = append(keeper, pulse, batch);
                }
            });
            refusal?;
            total += slots.len() as u64;
        }
    }
    Ok(total)
}

fn append(keeper: &Rc<Keeper>, pulse: &Pulse, batch: &[u8]) -> Result<(), Error> {
    if !keeper.has_room(batch.len()) {
        commit(keeper, pulse)?;
    }
    let appended = keeper.append(keeper.generation(), batch);
    appended.map(|_| ()).map_err(|e| Error::Refused(e.to_string()))
}

/// Writes both halves of the tail.
fn commit(keeper: &Rc<Keeper>, pulse: &Pulse) -> Result<(), Error> {
    for _ in 0..3 {
        block_on(keeper.commit_now(pulse));
    }
    match keeper.state() {
        LogState::Writing => Ok(()),
        LogState::DiskFull(why) | LogState::Failed(why) => Err(Error::Refused(why)),
    }
}
