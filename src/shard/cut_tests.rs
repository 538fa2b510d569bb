//! Cutting the head: answers stay the same wherever a sample lies, through restarts and another number of shards.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::block_on;
use model::{Labels, MatchOp, Matcher, STALE_NAN, Timestamp};

use crate::rt::clock::ManualClock;
use crate::rt::disk::crash::Crash;
use crate::rt::disk::{CrashDisk, Disk, PlainDisk, Tail};
use crate::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
use crate::rt::rng::Rng;
use crate::shard::appender::{Appender, Slot, Source};
use crate::shard::block::class::{Class, ClassMark, Classes};
use crate::shard::block::retention::Retention;
use crate::shard::deep::Deep;
use crate::shard::keeper::{Keeper, Place};
use crate::shard::record::{self, SourceId};
use crate::shard::reshard::{reshard, settle};
use crate::shard::select::Batch;
use crate::shard::wal::pending::{Owner, Pending};

/// By series: time, value's bits, start; and histograms as texts.
pub(in crate::shard) type Answer = BTreeMap<String, (Vec<(Timestamp, u64, Timestamp)>, Vec<String>)>;

/// What a question gets from head and blocks together.
pub(in crate::shard) fn asked(
    keeper: &Keeper,
    matchers: &[Matcher],
    mint: Timestamp,
    maxt: Timestamp,
) -> Answer {
    let selection = keeper.shard().select(matchers, mint, maxt);
    let blocks = keeper.store().overlapping(mint, maxt);
    let mut deep = Deep::new(keeper.store().clone(), blocks, vec![matchers.to_vec()], selection);
    let (mut batch, mut out) = (Batch::default(), Answer::new());
    block_on(async {
        while deep.take_head(&keeper.shard()) {}
        while deep.take_part().await {}
        while deep.fetch().await {
            deep.decode(&keeper.shard(), &mut batch);
            for s in &batch.series {
                let (times, values, starts) = (batch.times_of(s), batch.values_of(s), batch.starts_of(s));
                let start = |i: usize| starts.get(i).copied().unwrap_or(0);
                let floats =
                    times.iter().zip(values).enumerate().map(|(i, (t, v))| (*t, v.to_bits(), start(i)));
                let floats: Vec<_> = floats.collect();
                assert!(floats.is_sorted_by(|a, b| a.0 < b.0), "ascending, none twice");
                let histograms = batch.histograms_of(s).iter();
                let histograms = histograms.map(|h| format!("{} {:?}", h.time, h.histogram)).collect();
                let labels = deep.names().labels(s.id).to_string();
                assert!(out.insert(labels, (floats, histograms)).is_none(), "a series comes once");
            }
        }
    });
    out
}

pub(in crate::shard) fn pulse() -> Pulse {
    Pulse::new(ManualClock::starting_at(0) as Arc<_>, Grid::new(GRID_DEFAULT))
}

fn place() -> Place {
    let owner = Owner { directory_id: 3, shard: 0, shard_count: 1 };
    Place { dir: PathBuf::from("/data/shards/0000-of-0001"), tail_dir: PathBuf::from("/tail"), owner }
}

/// A keeper with its disk and tail, to be killed and opened again.
pub(in crate::shard) struct House {
    pub(in crate::shard) disk: CrashDisk,
    tail: Rc<RefCell<Vec<u8>>>,
    pub(in crate::shard) keeper: Keeper,
}

impl House {
    pub(in crate::shard) fn new() -> House {
        Self::open(CrashDisk::new(), vec![0; Pending::tail_bytes(1 << 20)])
    }

    fn open(disk: CrashDisk, tail: Vec<u8>) -> House {
        let tail = Rc::new(RefCell::new(tail));
        let handle: Rc<dyn Disk> = Rc::new(disk.clone());
        let (place, mapped) = (place(), Tail::in_memory(tail.clone()));
        let opened = Keeper::open_with(handle, &place, mapped, Arc::default());
        House { disk, tail, keeper: block_on(opened).expect("a keeper") }
    }

    pub(in crate::shard) fn killed(&self) -> House {
        Self::open(self.disk.crash(Crash::Kill), self.tail.borrow().clone())
    }
}

/// Targets that come, go and change, remote writes a little late, samples with their own times and histograms.
pub(in crate::shard) struct World {
    rng: Rng,
    appender: Appender,
    sources: Vec<(Source, Vec<(Slot, bool)>)>,
    next_source: u64,
    pushed: u32,
    pub(in crate::shard) time: Timestamp,
}

impl World {
    pub(in crate::shard) fn new(seed: u64, shard_count: u16) -> World {
        let rng = Rng::seeded(seed);
        let appender = Appender::new(shard_count);
        World { rng, appender, sources: Vec::new(), next_source: 1000 * (seed + 1), pushed: 0, time: 0 }
    }

    pub(in crate::shard) fn step(&mut self, shard_count: u16, mut deliver: impl FnMut(u16, &[u8])) {
        self.time += 10;
        if self.sources.len() < 3 || self.rng.chance(0.02) {
            let source = Source::new(SourceId(self.next_source), shard_count);
            self.next_source += 1;
            self.sources.push((source, Vec::new()));
            if self.sources.len() > 4 {
                self.sources.remove(0);
            }
        }
        for which in 0..self.sources.len() {
            let (source, slots) = &mut self.sources[which];
            if slots.len() < 8 || self.rng.chance(0.05) {
                let n = self.rng.below(60);
                let pairs = [
                    ("__name__", format!("m{}", n % 7)),
                    ("i", n.to_string()),
                    ("source", source.id().0.to_string()),
                ];
                let slot = self.appender.define(source, &Labels::from_pairs(pairs));
                slots.push((slot, false));
            }
            for (slot, is_present) in slots.iter_mut() {
                let v = self.rng.below(1000) as f64 / 4.0;
                match (*is_present, self.rng.below(12)) {
                    (false, 0..5) => {
                        self.appender.begin(source, *slot, v);
                        *is_present = true;
                    }
                    (true, 0) => {
                        self.appender.end(source, *slot);
                        *is_present = false;
                    }
                    (true, 1..6) => self.appender.set(*slot, v),
                    (_, 11) => {
                        let at = self.time + 3;
                        self.appender.append_at(*slot, at, at - 50, v);
                    }
                    _ => {}
                }
            }
            self.appender.commit(source, self.time, |to, batch| deliver(to.0, batch));
        }
        self.push(deliver);
    }

    /// Partial rows, some of them late; only where there is one shard.
    fn push(&mut self, mut deliver: impl FnMut(u16, &[u8])) {
        if self.appender_count() > 1 {
            return;
        }
        let mut batch = Vec::new();
        record::begin(&mut batch, SourceId(7));
        if self.pushed < 30 && self.rng.chance(0.2) {
            let pairs = [("__name__", "pushed".to_owned()), ("p", self.pushed.to_string())];
            record::push_define(&mut batch, self.pushed, &Labels::from_pairs(pairs));
            self.pushed += 1;
        }
        let time = self.time - 10 * self.rng.below(3) as i64;
        let value = |slot: u32, rng: &mut Rng| match rng.below(20) {
            0 => (slot, STALE_NAN),
            n => (slot, n as f64),
        };
        let named: Vec<(u32, f64)> = (0..self.pushed).map(|s| value(s, &mut self.rng)).collect();
        if !named.is_empty() {
            record::push_row(&mut batch, 0, time, true, &named);
        }
        deliver(0, &batch);
    }

    fn appender_count(&self) -> u16 {
        self.sources.first().map_or(1, |s| s.0.shard_count())
    }
}

fn all() -> [Matcher; 0] {
    []
}

fn assert_same(a: &Keeper, b: &Keeper, rng: &mut Rng, until: Timestamp, when: &str) {
    for round in 0..6 {
        let mint = if round == 0 { Timestamp::MIN } else { rng.below(until as u64) as i64 };
        let maxt = if round == 1 { Timestamp::MAX } else { mint.max(0) + rng.below(until as u64) as i64 };
        let name = Matcher::equal("__name__", format!("m{}", round % 7));
        let matchers: &[Matcher] = if round % 2 == 0 { &all() } else { std::slice::from_ref(&name) };
        let (have, want) = (asked(a, matchers, mint, maxt), asked(b, matchers, mint, maxt));
        assert_eq!(have, want, "{when}: {mint} to {maxt}, {matchers:?}");
        if round == 0 {
            assert_same_names(a, b, &have, when);
        }
    }
}

/// Names are the same as where nothing was cut, but for series without any sample, which a head may still name.
fn assert_same_names(a: &Keeper, b: &Keeper, have: &Answer, when: &str) {
    let (from, to) = (Timestamp::MIN, Timestamp::MAX);
    let series = |k: &Keeper| -> Vec<String> {
        block_on(k.series_labels(&[], from, to, 0)).iter().map(Labels::to_string).collect()
    };
    let (listed, allowed) = (series(a), series(b));
    assert!(have.keys().all(|k| listed.contains(k)), "{when}: every series with samples is listed");
    assert!(listed.iter().all(|l| allowed.contains(l)), "{when}: and no other");
    let some = Matcher::equal("__name__", "m3");
    let some_listed = block_on(a.series_labels(&[vec![some.clone()]], from, to, 0));
    let some_have = have.keys().filter(|k| k.contains("__name__=\"m3\""));
    assert!(some_have.clone().count() <= some_listed.len(), "{when}");
    assert!(some_listed.iter().all(|l| l.metric_name() == Some("m3")));
    for selectors in [vec![], vec![vec![some]]] {
        let names = |k: &Keeper| {
            let mut names = block_on(k.label_names(&selectors, from, to));
            names.sort_unstable();
            names
        };
        assert_eq!(names(a), names(b), "{when}");
        let (values, all) = (
            block_on(a.label_values("i", &selectors, from, to)),
            block_on(b.label_values("i", &selectors, from, to)),
        );
        assert!(values.iter().all(|v| all.contains(v)), "{when}");
    }
}

#[test]
fn a_head_that_was_cut_answers_as_one_that_was_not() {
    for seed in 0..12 {
        let (mut cut, plain) = (House::new(), House::new());
        let (mut world, pulse) = (World::new(seed, 1), pulse());
        let mut rng = Rng::seeded(seed + 100);
        for step in 0..400 {
            world.step(1, |_, batch| {
                cut.keeper.append(cut.keeper.generation(), batch).expect("room");
                plain.keeper.append(plain.keeper.generation(), batch).expect("room");
            });
            if step % 40 == 39 {
                let end = world.time - 100 - rng.below(150) as i64;
                block_on(cut.keeper.cut_now(&pulse, end)).expect("a block");
                assert_same(
                    &cut.keeper,
                    &plain.keeper,
                    &mut rng,
                    world.time,
                    &format!("seed {seed}, {step}"),
                );
            }
            if step % 90 == 89 {
                if rng.chance(0.5) {
                    block_on(cut.keeper.commit_now(&pulse));
                    block_on(cut.keeper.checkpoint_now()).expect("a checkpoint");
                }
                cut = cut.killed();
                assert_eq!(cut.keeper.recovered.damage, []);
                assert_same(&cut.keeper, &plain.keeper, &mut rng, world.time, &format!("seed {seed}, again"));
            }
        }
        assert!(cut.keeper.store().all().len() >= 9);
        let (small, whole) = (cut.keeper.shard(), plain.keeper.shard());
        assert!(small.head().heap_bytes() < whole.head().heap_bytes(), "memory was given back");
        assert!(small.index().series_count() < whole.index().series_count(), "series were dropped");
    }
}

/// What is imported, of series that live and of others, among their samples and before them.
fn import(keeper: &Keeper, rng: &mut Rng, until: Timestamp, known: &mut Answer) {
    for _ in 0..20 {
        let n = rng.below(12).to_string();
        let labels = Labels::from_pairs([("__name__", "old"), ("i", &n)]);
        let time = match rng.below(3) {
            0 => rng.below(until.max(1) as u64) as i64,
            _ => -(rng.below(200) as i64 * 1_800_000),
        };
        let floats = &mut known.entry(labels.to_string()).or_default().0;
        if let Err(at) = floats.binary_search_by_key(&time, |s| s.0) {
            let v = rng.below(100) as f64;
            assert_eq!(keeper.deposit(&labels, [(time, v)].into_iter(), Timestamp::MIN), 0);
            floats.insert(at, (time, v.to_bits(), 0));
        }
    }
    block_on(keeper.settle_deposit()).expect("blocks");
}

#[test]
fn what_is_imported_lies_beside_what_was_scraped_through_cuts_merges_and_kills() {
    for seed in 50..54 {
        let (mut house, plain) = (House::new(), House::new());
        let (mut world, pulse, mut rng) = (World::new(seed, 1), pulse(), Rng::seeded(seed));
        let mut imported = Answer::new();
        for step in 0..300 {
            world.step(1, |_, batch| {
                house.keeper.append(house.keeper.generation(), batch).expect("room");
                plain.keeper.append(plain.keeper.generation(), batch).expect("room");
            });
            if step % 7 == 6 {
                import(&house.keeper, &mut rng, world.time, &mut imported);
            }
            match step % 60 {
                39 => block_on(house.keeper.cut_now(&pulse, world.time - 100)).expect("a block"),
                49 => {
                    block_on(house.keeper.compact_once());
                }
                59 => house = house.killed(),
                _ => continue,
            }
            let mut want = asked(&plain.keeper, &all(), Timestamp::MIN, Timestamp::MAX);
            want.extend(imported.clone());
            let have = asked(&house.keeper, &all(), Timestamp::MIN, Timestamp::MAX);
            assert_eq!(have, want, "seed {seed}, step {step}");
        }
        let blocks = house.keeper.store().all().len();
        assert!(blocks < 200, "many imports end as few blocks ({blocks})");
    }
}

#[test]
fn blocks_become_one_and_answer_the_same() {
    let (mut house, mut world, pulse) = (House::new(), World::new(21, 1), pulse());
    let mut rng = Rng::seeded(22);
    let plain = House::new();
    for step in 0..300 {
        world.step(1, |_, b| {
            house.keeper.append(house.keeper.generation(), b).expect("room");
            plain.keeper.append(plain.keeper.generation(), b).expect("room");
        });
        if step % 50 == 49 {
            block_on(house.keeper.cut_now(&pulse, world.time - 100)).expect("a block");
        }
    }
    // Headers say whole ranges of two hours, and the samples of this test span seconds: they share time.
    let mut count = 0;
    while block_on(house.keeper.compact_once()) {
        assert_same(&house.keeper, &plain.keeper, &mut rng, world.time, "compacted");
        count += 1;
    }
    assert_eq!((house.keeper.store().all().len(), count), (1, 1));
    assert_eq!(house.keeper.store().all()[0].header.level, 2);
    assert_eq!(house.keeper.probe.compactions.get(), 1);
    house = house.killed();
    assert_same(&house.keeper, &plain.keeper, &mut rng, world.time, "compacted, again");
    assert_eq!(house.keeper.store().all().len(), 1);
}

#[test]
fn a_damaged_block_is_not_compacted_and_all_else_is_answered() {
    let (house, mut world, pulse) = (House::new(), World::new(31, 1), pulse());
    for step in 0..200 {
        world.step(1, |_, b| {
            house.keeper.append(house.keeper.generation(), b).expect("room");
        });
        if step % 60 == 59 {
            block_on(house.keeper.cut_now(&pulse, world.time - 100)).expect("a block");
        }
    }
    let whole = asked(&house.keeper, &all(), Timestamp::MIN, Timestamp::MAX);
    let path = house.keeper.store().all()[1].path.clone();
    house.disk.corrupt(&path, 4096 + 50, 4);
    let house = house.killed();
    let have = asked(&house.keeper, &all(), Timestamp::MIN, Timestamp::MAX);
    let count = |a: &Answer| a.values().map(|(f, _)| f.len()).sum::<usize>();
    assert!(count(&have) < count(&whole) && count(&have) * 3 > count(&whole), "one piece is missing");
    for (labels, (floats, _)) in &have {
        let known = &whole[labels].0;
        assert!(floats.iter().all(|s| known.contains(s)), "{labels}: only what was written");
    }
    let damage = house.keeper.store().damage();
    assert_eq!((damage.len(), &damage[0].path, damage[0].offset), (1, &path, 4096));
    let before = house.keeper.store().all().len();
    while block_on(house.keeper.compact_once()) {}
    let after = house.keeper.store().all();
    assert!(after.len() < before && after.iter().any(|b| b.path == path), "the others became one");
    assert_eq!(asked(&house.keeper, &all(), Timestamp::MIN, Timestamp::MAX), have);
}

#[test]
fn a_question_that_began_before_a_cut_reads_to_its_end() {
    let (house, mut world, pulse) = (House::new(), World::new(3, 1), pulse());
    let deliver = |world: &mut World, n: usize| {
        for _ in 0..n {
            world.step(1, |_, b| {
                house.keeper.append(house.keeper.generation(), b).expect("room");
            });
        }
    };
    deliver(&mut world, 300);
    let expect = asked(&house.keeper, &all(), Timestamp::MIN, world.time);
    let selection = house.keeper.shard().select(&all(), Timestamp::MIN, world.time);
    let mut cutting = Box::pin(house.keeper.cut_now(&pulse, 2000));
    for _ in 0..1000 {
        assert!(block_on(futures_lite::future::poll_once(&mut cutting)).is_none(), "it waits for the reader");
    }
    assert_eq!(house.keeper.store().all().len(), 1);
    let (mut selection, mut batch, mut count) = (selection, Batch::default(), 0);
    while house.keeper.shard().next_batch(&mut selection, &mut batch) {
        count += batch.series.iter().map(|s| s.values.len()).sum::<usize>();
    }
    assert_eq!(count, expect.values().map(|(floats, _)| floats.len()).sum::<usize>());
    assert_eq!(
        asked(&house.keeper, &all(), Timestamp::MIN, world.time),
        expect,
        "and who comes now reads both"
    );
}

#[test]
fn samples_behind_a_cut_are_refused() {
    let (house, mut world, pulse) = (House::new(), World::new(5, 1), pulse());
    for _ in 0..50 {
        world.step(1, |_, b| {
            house.keeper.append(house.keeper.generation(), b).expect("room");
        });
    }
    block_on(house.keeper.cut_now(&pulse, 300)).expect("a block");
    let mut batch = Vec::new();
    record::begin(&mut batch, SourceId(77));
    record::push_define(&mut batch, 0, &Labels::from_pairs([("__name__", "late")]));
    record::push_float(&mut batch, 0, 299, 0, 1.0);
    record::push_float(&mut batch, 0, 300, 0, 2.0);
    record::push_row(&mut batch, 0, 250, true, &[(0, 3.0)]);
    let applied = house.keeper.append(house.keeper.generation(), &batch).expect("room");
    assert_eq!((applied.sample_count, applied.out_of_order), (1, 2));
    let late = Matcher::equal("__name__", "late");
    let have = asked(&house.keeper, &[late], Timestamp::MIN, Timestamp::MAX);
    let times: Vec<Timestamp> = have.values().flat_map(|(f, _)| f.iter().map(|s| s.0)).collect();
    assert_eq!(times, [300]);
}

#[test]
fn samples_that_may_be_late_are_kept_behind_a_cut_through_kills_and_cuts() {
    let (mut house, mut world, pulse) = (House::new(), World::new(6, 1), pulse());
    let step = |house: &House, world: &mut World, n: usize| {
        for _ in 0..n {
            world.step(1, |_, b| {
                house.keeper.append(house.keeper.generation(), b).expect("room");
            });
        }
    };
    let late = Matcher::equal("__name__", "late");
    let times = |house: &House| -> Vec<Vec<Timestamp>> {
        let have = asked(&house.keeper, std::slice::from_ref(&late), Timestamp::MIN, Timestamp::MAX);
        have.values().map(|(f, _)| f.iter().map(|s| s.0).collect()).collect()
    };
    step(&house, &mut world, 60);
    block_on(house.keeper.cut_now(&pulse, 300)).expect("a block");
    let mut batch = Vec::new();
    record::begin(&mut batch, SourceId(77));
    record::push_late(&mut batch, 100);
    for (slot, i) in ["0", "1"].into_iter().enumerate() {
        record::push_define(&mut batch, slot as u32, &Labels::from_pairs([("__name__", "late"), ("i", i)]));
    }
    record::push_float(&mut batch, 0, 299, 0, 1.0);
    record::push_float(&mut batch, 0, 120, 0, 2.0);
    record::push_float(&mut batch, 0, 99, 0, 3.0);
    record::push_row(&mut batch, 0, 250, true, &[(0, 4.0), (1, 5.0)]);
    record::push_row(&mut batch, 0, 50, true, &[(1, 6.0)]);
    let applied = house.keeper.append(house.keeper.generation(), &batch).expect("room");
    assert_eq!((applied.sample_count, applied.too_old), (4, 2));
    let expect = [vec![120, 250, 299], vec![250]];
    assert_eq!(times(&house), expect);
    house = house.killed();
    assert_eq!(times(&house), expect, "after a kill");
    step(&house, &mut world, 20);
    block_on(house.keeper.commit_now(&pulse));
    block_on(house.keeper.checkpoint_now()).expect("a checkpoint");
    house = house.killed();
    assert_eq!(times(&house), expect, "from a checkpoint");
    block_on(house.keeper.cut_now(&pulse, 600)).expect("a block");
    assert_eq!(times(&house), expect, "after another cut");
    assert!(house.keeper.shard().head().min_time() >= Some(600), "nothing late is left in memory");
    block_on(house.keeper.commit_now(&pulse));
    block_on(house.keeper.checkpoint_now()).expect("a checkpoint");
    house = house.killed();
    assert_eq!(times(&house), expect, "and all is in blocks");
}

#[test]
fn another_number_of_shards_reads_the_blocks_of_the_old_ones() {
    let data = std::env::temp_dir().join(format!("systole-cut-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&data);
    let open = |shard: u16, shard_count: u16| {
        let owner = Owner { directory_id: 5, shard, shard_count };
        let tail = Rc::new(RefCell::new(vec![0; Pending::tail_bytes(1 << 20)]));
        let place = Place::new(&data, owner);
        let disk: Rc<dyn Disk> = Rc::new(PlainDisk);
        let opened = Keeper::open_with(disk, &place, Tail::in_memory(tail), Arc::default());
        block_on(opened).expect("a keeper")
    };
    let everything = |keepers: &[Keeper]| {
        let mut out = Answer::new();
        for k in keepers {
            for (labels, samples) in asked(k, &all(), Timestamp::MIN, Timestamp::MAX) {
                assert!(out.insert(labels, samples).is_none(), "a series lives on one shard");
            }
        }
        out
    };
    let (mut world, pulse) = (World::new(11, 2), pulse());
    let mut keepers: Vec<Keeper> = (0..2).map(|i| open(i, 2)).collect();
    for step in 0..200 {
        world.step(2, |to, b| {
            let k = &keepers[usize::from(to)];
            k.append(k.generation(), b).expect("room");
        });
        if step % 60 == 59 {
            for (k, behind) in keepers.iter().zip([100, 200]) {
                block_on(k.cut_now(&pulse, world.time - behind)).expect("a block");
            }
        }
    }
    let before = everything(&keepers);
    let mut old = 2;
    for count in [3, 1, 4] {
        for k in &keepers {
            block_on(k.commit_now(&pulse));
        }
        drop(keepers);
        reshard(&data, 5, old, count, 1 << 40).expect("room");
        settle(&data).expect("the directory");
        keepers = (0..count).map(|i| open(i, count)).collect();
        assert_eq!(everything(&keepers), before, "{old} to {count} shards");
        old = count;
    }
    assert!(Path::new(&data).exists());
    let _ = std::fs::remove_dir_all(&data);
}

fn classes(values: &[&str]) -> Retention {
    let class = |value: &&str| {
        let mark = ClassMark { selector: format!("{{__name__=\"{value}\"}}").into(), time_ms: 1 << 40 };
        Class { mark, matchers: vec![Matcher::equal("__name__", *value)], downsampling: Vec::new() }
    };
    Retention { classes: Classes::new(values.iter().map(class).collect()), ..Retention::default() }
}

/// By class: the metric names in its blocks, as those blocks have them.
fn names_by_class(keeper: &Keeper) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for block in keeper.store().all() {
        let class = block.header.class.as_ref().map_or("", |c| &c.selector);
        for number in 0..block.directory.parts.len() {
            let part = block_on(keeper.store().part(&block, number)).expect("a whole part");
            let names = out.entry(class.to_owned()).or_default();
            part.metric_names(|name| {
                names.insert(name.to_owned());
            });
        }
    }
    out
}

fn check_names(keeper: &Keeper, expect: &[(&str, &[&str])], when: &str) {
    let set = |names: &&[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let expect: BTreeMap<String, BTreeSet<String>> =
        expect.iter().map(|(c, names)| ((*c).to_owned(), set(names))).collect();
    assert_eq!(names_by_class(keeper), expect, "{when}");
}

#[test]
fn classes_have_blocks_of_their_own_and_compaction_takes_changed_ones_over() {
    let (house, mut world) = (House::new(), World::new(5, 1));
    let keeper = &house.keeper;
    let all = Matcher::new(MatchOp::Regex, "__name__", ".*").expect("an expression");
    let mut more = |rows: usize| {
        for _ in 0..rows {
            world.step(1, |_, b| {
                keeper.append(keeper.generation(), b).expect("room");
            });
        }
        world.time
    };
    let end = more(150) - 50;
    keeper.set_retention(classes(&["m1", "m2"]));
    let before = asked(keeper, std::slice::from_ref(&all), 0, i64::MAX);
    block_on(keeper.cut_now(&pulse(), end)).expect("blocks");
    let (first, second) = ("{__name__=\"m1\"}", "{__name__=\"m2\"}");
    let rest: &[&str] = &["m0", "m3", "m4", "m5", "m6", "pushed"];
    check_names(keeper, &[(first, &["m1"]), (second, &["m2"]), ("", rest)], "a cut");
    assert_eq!(asked(keeper, std::slice::from_ref(&all), 0, i64::MAX), before, "after the cut");
    keeper.set_retention(classes(&["m2", "m3"]));
    check_names(keeper, &[(first, &["m1"]), (second, &["m2"]), ("", rest)], "classes that changed");
    let end = more(50) - 50;
    let before = asked(keeper, std::slice::from_ref(&all), 0, i64::MAX);
    block_on(keeper.cut_now(&pulse(), end)).expect("blocks");
    // Blocks that share time become one; what was of a class that is gone comes along with its next block, if any.
    while block_on(keeper.compact_once()) {}
    let third = "{__name__=\"m3\"}";
    let rest: &[&str] = &["m0", "m1", "m4", "m5", "m6", "pushed"];
    check_names(keeper, &[(first, &["m1"]), (second, &["m2"]), (third, &["m3"]), ("", rest)], "a compaction");
    assert_eq!(asked(keeper, std::slice::from_ref(&all), 0, i64::MAX), before, "after the compaction");
    let again = house.killed();
    check_names(
        &again.keeper,
        &[(first, &["m1"]), (second, &["m2"]), (third, &["m3"]), ("", rest)],
        "a kill",
    );
    assert_eq!(asked(&again.keeper, &[all], 0, i64::MAX), before, "after a kill");
}
