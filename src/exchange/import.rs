//! `tsdb import`: a directory of Prometheus into ours, while no server runs.
//!
//! Series are taken by their target, so that what was scraped together lies together: a group's samples come in order
//! of time, through the shard's own log; what lies before the end of blocks that a shard has already goes to blocks beside
//! them. Memory holds the indices of all blocks, the log's series, one group's chunks, what is gathered for blocks, and
//! what the head keeps of the samples: about two bytes each.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use exposition::remote_histogram::{self, Counts, HistogramSample};
use futures_lite::future::block_on;
use model::histogram::FloatHistogram;
use model::{CounterResetHint, Labels, Timestamp};
use prometheus_tsdb::index::Series;
use prometheus_tsdb::sample::{Sample, Value};

use crate::exchange::Error;
use crate::exchange::cursor::{Cursor, Piece, Rows};
use crate::exchange::directory::Database;
use crate::exchange::log::Damage;
use crate::rt::clock::Clock;
use crate::rt::disk::PlainDisk;
use crate::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
use crate::shard::block::chunk::Samples;
use crate::shard::history::{GROUP_SERIES_MAX, Held, History};
use crate::shard::keeper::{Keeper, LogState, Place};
use crate::shard::record::SourceId;
use crate::shard::select::{Batch, HistogramPoint};

/// Our side: the shards that take the samples, and the source that they will know them by.
pub struct Target {
    pub places: Vec<Place>,
    pub source: SourceId,
    pub clock: Arc<dyn Clock>,
}

/// What is asked for.
pub struct Question {
    pub mint: Timestamp,
    pub maxt: Timestamp,
    /// More are refused before anything is written: the head keeps them all in memory.
    pub samples_max: u64,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Report {
    pub series: u64,
    /// Samples of either kind that were taken.
    pub taken: u64,
    /// Floats that were there already.
    pub known: u64,
    /// Out of order beside what was there, or a histogram that cannot be.
    pub refused: u64,
    pub damage: Vec<Damage>,
}

pub fn import(dir: &Path, target: &Target, question: &Question) -> Result<Report, Error> {
    let database = Database::open(dir)?;
    check_size(&database, question)?;
    let entries = find_entries(&database, target.places.len() as u16, question)?;
    let mut report = Report { damage: database.damage.clone(), ..Report::default() };
    let mut rest = entries.as_slice();
    for (shard, place) in target.places.iter().enumerate() {
        let count = rest.partition_point(|e| usize::from(e.shard) == shard);
        let (own, after) = rest.split_at(count);
        rest = after;
        if !own.is_empty() {
            ShardImport::open(&database, place, target, question)?.run(own, &mut report)?;
        }
    }
    Ok(report)
}

fn check_size(database: &Database, question: &Question) -> Result<(), Error> {
    let blocks = database.blocks.iter().filter(|b| b.overlaps(question.mint, question.maxt));
    let in_blocks: u64 = blocks.map(|b| b.meta().stats.sample_count).sum();
    let count = in_blocks + database.head.as_ref().map_or(0, |h| h.sample_count());
    if count <= question.samples_max {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{count} samples are more than --max-samples={}: what is imported stays in memory, about two bytes a \
         sample; take a part with --min-time and --max-time, or raise the limit",
        question.samples_max
    )))
}

/// One series in one block, or in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    shard: u16,
    /// What was scraped together has one key.
    key: u64,
    hash: u64,
    /// The block; [`IN_LOG`] behind them all.
    block: u16,
    reference: u64,
}

const IN_LOG: u16 = u16::MAX;

/// Two halves of a tail may wait; the third commit finds nothing.
const COMMITS_MAX: usize = 3;

fn find_entries(database: &Database, shard_count: u16, question: &Question) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut push = |labels: &Labels, first: Timestamp, block, reference| {
        let hash = labels.series_hash();
        let shard = hash.shard(shard_count).0;
        entries.push(Entry { shard, key: key_of(labels, first), hash: hash.0, block, reference });
    };
    if database.blocks.len() >= usize::from(IN_LOG) {
        return Err(Error::Refused("more than 65534 blocks".to_owned()));
    }
    let mut series = Series::default();
    for (i, block) in database.blocks.iter().enumerate() {
        if !block.overlaps(question.mint, question.maxt) {
            continue;
        }
        for reference in block.index.all_series().map_err(block.index_error())? {
            block.index.read_series(reference, &mut series).map_err(block.index_error())?;
            let first = series.chunks.first().map_or(0, |c| c.min_time);
            push(&series.labels, first, i as u16, reference);
        }
    }
    for (i, series) in database.head.iter().flat_map(|h| h.all()).enumerate() {
        let first = series.span().map_or(0, |s| s.0);
        push(&series.labels, first, IN_LOG, i as u64);
    }
    entries.sort_unstable();
    Ok(entries)
}

/// Series of one target are sampled together. Those of no target share a group only where they begin together:
/// rows in which few of many series have a sample cost many times a sample's bytes.
fn key_of(labels: &Labels, first: Timestamp) -> u64 {
    let part = labels.retain(|l| matches!(l.name, "job" | "instance"));
    if labels.value("instance").is_some() {
        return part.series_hash().0;
    }
    part.with("first", &first.to_string()).series_hash().0
}

/// A series with its pieces in order of time.
struct Wanted {
    labels: Labels,
    cursor: Cursor,
}

/// One shard taking its part.
struct ShardImport<'a> {
    database: &'a Database,
    keeper: Rc<Keeper>,
    pulse: Pulse,
    history: History,
    /// What is taken now: first what lies before the blocks' end, then what is the head's.
    mint: Timestamp,
    maxt: Timestamp,
    /// Hashes of the series that were counted: those with samples on both sides are met twice.
    counted: hashbrown::HashSet<u64>,
}

/// Samples gathered of one group for blocks before they are handed over: 16 MB.
const OLD_SAMPLES_MAX: usize = 1 << 20;

/// What is done with some series.
type Take<'a> = fn(&mut ShardImport<'a>, Vec<Wanted>, &mut Report) -> Result<(), Error>;

impl<'a> ShardImport<'a> {
    fn open(
        database: &'a Database,
        place: &Place,
        target: &Target,
        question: &Question,
    ) -> Result<Self, Error> {
        let keeper = Rc::new(block_on(Keeper::open(Rc::new(PlainDisk), place, Arc::default()))?);
        let pulse = Pulse::new(target.clock.clone(), Grid::new(GRID_DEFAULT));
        Ok(ShardImport {
            database,
            keeper,
            pulse,
            history: History::new(target.source),
            mint: question.mint,
            maxt: question.maxt,
            counted: hashbrown::HashSet::new(),
        })
    }

    fn run(mut self, entries: &[Entry], report: &mut Report) -> Result<(), Error> {
        let blocks_end = self.keeper.blocks_end();
        if let Some(end) = blocks_end {
            // The head would hide what came before it: that goes to blocks beside those that are there.
            let maxt = self.maxt;
            self.maxt = maxt.min(end.saturating_sub(1));
            self.each_group(entries, report, ShardImport::take_old)?;
            block_on(self.keeper.settle_deposit())?;
            (self.mint, self.maxt) = (self.mint.max(end), maxt);
        }
        self.each_group(entries, report, ShardImport::take_group)?;
        self.commit(COMMITS_MAX)?;
        block_on(self.keeper.checkpoint_now())?;
        Ok(())
    }

    fn each_group(&mut self, entries: &[Entry], report: &mut Report, take: Take<'a>) -> Result<(), Error> {
        for of_key in entries.chunk_by(|a, b| a.key == b.key) {
            let mut group = Vec::new();
            for of_hash in of_key.chunk_by(|a, b| a.hash == b.hash) {
                group.extend(self.find_series(of_hash)?);
                if group.len() >= GROUP_SERIES_MAX {
                    let rest = group.split_off(GROUP_SERIES_MAX);
                    take(self, std::mem::replace(&mut group, rest), report)?;
                }
            }
            take(self, group, report)?;
        }
        Ok(())
    }

    fn count(&mut self, series: &[Wanted], report: &mut Report) {
        let is_new = |w: &&Wanted| self.counted.insert(w.labels.series_hash().0);
        report.series += series.iter().filter(is_new).count() as u64;
    }

    /// Takes a group to blocks.
    fn take_old(&mut self, mut group: Vec<Wanted>, report: &mut Report) -> Result<(), Error> {
        group.retain(|w| w.cursor.first_time().is_some());
        self.count(&group, report);
        let labels: Vec<Labels> = group.iter().map(|w| w.labels.clone()).collect();
        let mut old = vec![Samples::default(); labels.len()];
        let mut rows = Rows::new(self.database, group.into_iter().map(|w| w.cursor).collect())?;
        let (mut message, mut gathered) = (Vec::new(), 0);
        while let Some(time) = rows.next_time() {
            for (slot, sample) in rows.take_row(time)? {
                let samples = &mut old[slot as usize];
                match (&sample.value, as_histogram(&sample, &mut message)) {
                    (Value::Float(value), _) => {
                        let starts: &[Timestamp] = if sample.start == 0 { &[] } else { &[sample.start] };
                        samples.extend_floats(&[time], &[*value], starts);
                    }
                    (_, Some(histogram)) => {
                        let histogram = Arc::new(histogram);
                        samples.histograms.push(HistogramPoint { time, start: sample.start, histogram });
                    }
                    (_, None) => {
                        report.refused += 1;
                        continue;
                    }
                }
                report.taken += 1;
                gathered += 1;
            }
            if gathered >= OLD_SAMPLES_MAX {
                self.deposit(&labels, &mut old)?;
                gathered = 0;
            }
        }
        self.deposit(&labels, &mut old)
    }

    fn deposit(&self, labels: &[Labels], old: &mut [Samples]) -> Result<(), Error> {
        for (labels, samples) in labels.iter().zip(old).filter(|(_, s)| !s.is_empty()) {
            self.keeper.deposit_samples(labels, std::mem::take(samples));
            if self.keeper.is_deposit_full() {
                block_on(self.keeper.settle_deposit())?;
            }
        }
        Ok(())
    }

    /// The series of one hash: nearly always one, in several blocks.
    fn find_series(&self, entries: &[Entry]) -> Result<Vec<Wanted>, Error> {
        let mut found: Vec<(Labels, Vec<Piece>)> = Vec::new();
        let mut series = Series::default();
        for entry in entries {
            let mut pieces = Vec::new();
            let labels = match self.database.blocks.get(usize::from(entry.block)) {
                Some(block) => {
                    let read = block.index.read_series(entry.reference, &mut series);
                    read.map_err(block.index_error())?;
                    pieces.extend(
                        series.chunks.iter().map(|meta| Piece::of_block(entry.block, entry.reference, *meta)),
                    );
                    series.labels.clone()
                }
                None => {
                    let head =
                        self.database.head.as_ref().and_then(|h| h.all().get(entry.reference as usize));
                    let Some(head) = head else { continue };
                    pieces.extend(head.span().map(|span| Piece::of_log(entry.reference, span)));
                    head.labels.clone()
                }
            };
            match found.iter_mut().find(|f| f.0 == labels) {
                Some((_, all)) => all.append(&mut pieces),
                None => found.push((labels, pieces)),
            }
        }
        let wanted = |(labels, pieces)| {
            let cursor = Cursor::new(pieces, self.mint, self.maxt);
            Wanted { labels, cursor }
        };
        Ok(found.into_iter().map(wanted).collect())
    }

    /// Parts the series by what the shard holds of them, and takes both parts.
    fn take_group(&mut self, group: Vec<Wanted>, report: &mut Report) -> Result<(), Error> {
        let (mut newer, mut older) = (Vec::new(), Vec::new());
        for wanted in group {
            let Some(first) = wanted.cursor.first_time() else { continue };
            let held = {
                let shard = self.keeper.shard();
                shard.index().find(&wanted.labels).and_then(|id| shard.head().newest_of(id))
            };
            if held.is_some_and(|n| n.time >= first) { newer.push(wanted) } else { older.push(wanted) }
        }
        for (part, held) in [(older, Held::Older), (newer, Held::Newer)] {
            if !part.is_empty() {
                self.count(&part, report);
                self.take_part(part, held, report)?;
            }
        }
        Ok(())
    }

    fn take_part(&mut self, part: Vec<Wanted>, held: Held, report: &mut Report) -> Result<(), Error> {
        self.history.begin(part.iter().map(|w| &w.labels), held);
        let labels: Vec<Labels> = part.iter().map(|w| w.labels.clone()).collect();
        let mut known = Known::default();
        let mut rows = Rows::new(self.database, part.into_iter().map(|w| w.cursor).collect())?;
        let (mut floats, mut message) = (Vec::new(), Vec::new());
        while let Some(time) = rows.next_time() {
            floats.clear();
            for (slot, sample) in rows.take_row(time)? {
                if held == Held::Newer && known.has(&self.keeper, &labels, slot, time) {
                    report.known += 1;
                    continue;
                }
                match sample.value {
                    Value::Float(value) if sample.start == 0 => floats.push((slot, value)),
                    Value::Float(value) => self.history.float(slot, time, sample.start, value),
                    _ => {
                        if !self.take_histogram(slot, &sample, &mut message) {
                            report.refused += 1;
                            continue;
                        }
                    }
                }
                report.taken += u64::from(held == Held::Newer);
            }
            if !floats.is_empty() {
                floats.sort_unstable_by_key(|f| f.0);
                self.history.row(time, &floats);
            }
            self.hand_over(false, held, report)?;
        }
        self.history.end();
        self.hand_over(true, held, report)
    }

    /// False where it is a histogram that cannot be.
    fn take_histogram(&mut self, slot: u32, sample: &Sample, message: &mut Vec<u8>) -> bool {
        let is_possible = as_histogram(sample, message).is_some();
        if is_possible {
            self.history.histogram(slot, sample.time, sample.start, message);
        }
        is_possible
    }

    /// Gives the shard what has gathered, once there is room in its tail.
    fn hand_over(&mut self, is_last: bool, held: Held, report: &mut Report) -> Result<(), Error> {
        while let Some(batch) = self.history.try_take(is_last) {
            for _ in 0..COMMITS_MAX {
                if self.keeper.has_room(batch.len()) {
                    break;
                }
                self.commit(1)?;
            }
            if !self.keeper.has_room(batch.len()) {
                return Err(Error::Refused(
                    "the labels of a series are longer than a shard takes".to_owned(),
                ));
            }
            let applied = self
                .keeper
                .append(self.keeper.generation(), &batch)
                .map_err(|e| Error::Refused(format!("the shard does not take the samples: {e}")))?;
            let (known, refused) = (applied.duplicate as u64, applied.out_of_order as u64);
            match held {
                Held::Older => report.taken += applied.sample_count as u64,
                // The shard's own count is of what full rows repeat, too: what was given was counted ahead.
                Held::Newer => report.taken = report.taken.saturating_sub(known + refused),
            }
            report.known += known;
            report.refused += refused;
        }
        Ok(())
    }

    fn commit(&self, turns: usize) -> Result<(), Error> {
        for _ in 0..turns {
            block_on(self.keeper.commit_now(&self.pulse));
            match self.keeper.state() {
                LogState::Writing => {}
                LogState::DiskFull(why) | LogState::Failed(why) => return Err(Error::Refused(why)),
            }
        }
        Ok(())
    }
}

/// A sample's histogram as a shard takes it, which `message` says then; `None` where it is none, or cannot be.
fn as_histogram(sample: &Sample, message: &mut Vec<u8>) -> Option<FloatHistogram> {
    message.clear();
    let mut counts = match &sample.value {
        Value::Histogram(h) => Counts::Integer(h.as_ref().clone()),
        Value::FloatHistogram(h) => Counts::Float(h.as_ref().clone()),
        Value::Float(_) => return None,
    };
    let hint = match &mut counts {
        Counts::Integer(h) => &mut h.counter_reset_hint,
        Counts::Float(h) => &mut h.counter_reset_hint,
    };
    // Said of the sample before it in its chunk, which may have been deleted since.
    if *hint == CounterResetHint::NotReset {
        *hint = CounterResetHint::Unknown;
    }
    let whole = HistogramSample { time: sample.time, counts };
    remote_histogram::write(&whole, message);
    remote_histogram::read(message).ok()?.accepted().ok()
}

/// Times at which series of a group have samples already, for a stretch of time.
#[derive(Default)]
struct Known {
    until: Option<Timestamp>,
    times: Vec<Vec<Timestamp>>,
}

/// Looked up at once: 4096 series with a sample each second are 240 MB.
const KNOWN_MS: i64 = 2 * 60 * 60 * 1000;

impl Known {
    fn has(&mut self, keeper: &Keeper, labels: &[Labels], slot: u32, time: Timestamp) -> bool {
        if self.until.is_none_or(|until| time > until) {
            self.load(keeper, labels, time);
        }
        self.times.get(slot as usize).is_some_and(|times| times.binary_search(&time).is_ok())
    }

    fn load(&mut self, keeper: &Keeper, labels: &[Labels], from: Timestamp) {
        let until = from.saturating_add(KNOWN_MS);
        self.until = Some(until);
        self.times = vec![Vec::new(); labels.len()];
        let shard = keeper.shard();
        let ids: Vec<_> = labels.iter().map(|l| shard.index().find(l)).collect();
        let slots: hashbrown::HashMap<_, usize> =
            ids.iter().enumerate().filter_map(|(slot, id)| id.map(|id| (id, slot))).collect();
        let mut selection = shard.head().selection(ids.into_iter().flatten(), from, until);
        let mut batch = Batch::default();
        while shard.next_batch(&mut selection, &mut batch) {
            for s in &batch.series {
                if let Some(slot) = slots.get(&s.id) {
                    let times = &mut self.times[*slot];
                    times.extend_from_slice(batch.times_of(s));
                    times.extend(batch.histograms_of(s).iter().map(|h| h.time));
                    times.sort_unstable();
                }
            }
        }
    }
}
