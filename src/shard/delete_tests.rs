//! Deletes: what was there is gone from every answer, through cuts, kills and power cuts; what comes later is not.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::{block_on, or, yield_now};
use model::{Labels, Matcher, Timestamp};

use crate::rt::disk::crash::{Crash, Fault};
use crate::rt::disk::{CrashDisk, Disk, Tail};
use crate::rt::rng::Rng;
use crate::shard::cut_tests::{Answer, House, World, asked, pulse};
use crate::shard::delete::Failed;
use crate::shard::keeper::{Keeper, LogState, Place};
use crate::shard::record::{self, SourceId};
use crate::shard::wal::pending::{Owner, Pending};

/// Deletes while commits go on, as they do beside it.
pub(in crate::shard) fn delete(
    keeper: &Keeper,
    matchers: &[Matcher],
    mint: Timestamp,
    maxt: Timestamp,
) -> Result<(), Failed> {
    let pulse = pulse();
    let commits = async {
        loop {
            keeper.commit_now(&pulse).await;
            yield_now().await;
        }
    };
    block_on(or(keeper.delete(matchers, mint, maxt), commits))
}

/// An answer without what some matchers take between two times.
fn without(answer: &Answer, matchers: &[Matcher], mint: Timestamp, maxt: Timestamp) -> Answer {
    let is_meant =
        |labels: &str| matchers.iter().all(|m| labels.contains(&format!("{}=\"{}\"", m.name, m.value)));
    let mut left = answer.clone();
    for (_, (floats, _)) in left.iter_mut().filter(|(labels, _)| is_meant(labels)) {
        floats.retain(|f| !(mint..=maxt).contains(&f.0));
    }
    left.retain(|_, (floats, histograms)| !floats.is_empty() || !histograms.is_empty());
    left
}

/// Says of the first series that differs what it has.
fn assert_same(have: &Answer, want: &Answer, when: &str) {
    let names: BTreeSet<&String> = have.keys().chain(want.keys()).collect();
    for name in names {
        let of = |all: &Answer| all.get(name).cloned().unwrap_or_default();
        let ((floats, histograms), (wanted, wanted_histograms)) = (of(have), of(want));
        let odd = |a: &[(Timestamp, u64, Timestamp)], b: &[(Timestamp, u64, Timestamp)]| -> Vec<_> {
            a.iter().filter(|f| !b.contains(f)).copied().collect()
        };
        let (more, less) = (odd(&floats, &wanted), odd(&wanted, &floats));
        assert!(more.is_empty() && less.is_empty(), "{when}: {name} has {more:?}, lacks {less:?}");
        assert_eq!(histograms, wanted_histograms, "{when}: {name}");
    }
}

fn everything(keeper: &Keeper) -> Answer {
    asked(keeper, &[], Timestamp::MIN, Timestamp::MAX)
}

fn some_matchers(rng: &mut Rng) -> Vec<Matcher> {
    match rng.below(5) {
        0 => Vec::new(),
        1 => vec![Matcher::equal("__name__", "pushed")],
        2 => vec![Matcher::equal("i", rng.below(60).to_string())],
        _ => vec![Matcher::equal("__name__", format!("m{}", rng.below(7)))],
    }
}

#[test]
fn what_is_deleted_is_gone_wherever_it_lies_and_what_comes_is_not() {
    for seed in 0..10 {
        // The second one is never cut, killed or cleaned.
        let (mut house, plain) = (House::new(), House::new());
        let (mut world, pulse) = (World::new(seed, 1), pulse());
        let mut rng = Rng::seeded(seed + 500);
        for step in 0..300 {
            world.step(1, |_, batch| {
                house.keeper.append(house.keeper.generation(), batch).expect("room");
                plain.keeper.append(plain.keeper.generation(), batch).expect("room");
            });
            let when = format!("seed {seed}, step {step}");
            if rng.chance(0.08) {
                let matchers = some_matchers(&mut rng);
                let mint = world.time - rng.below(world.time as u64 / 2) as i64;
                let maxt = if rng.chance(0.3) { Timestamp::MAX } else { mint + rng.below(400) as i64 };
                let before = everything(&house.keeper);
                delete(&house.keeper, &matchers, mint, maxt).expect("a delete");
                delete(&plain.keeper, &matchers, mint, maxt).expect("a delete");
                let want = without(&before, &matchers, mint, maxt);
                assert_same(
                    &everything(&house.keeper),
                    &want,
                    &format!("{when}: {matchers:?} {mint} {maxt}"),
                );
                let (from, to) = (mint - 50, mint + 100);
                assert_same(
                    &asked(&house.keeper, &[], from, to),
                    &asked(&plain.keeper, &[], from, to),
                    &when,
                );
            }
            if step % 37 == 36 {
                block_on(house.keeper.cut_now(&pulse, world.time - 100 - rng.below(150) as i64))
                    .expect("a block");
            }
            match rng.below(60) {
                0 => while block_on(house.keeper.compact_once()) {},
                1 => block_on(house.keeper.clean_tombstones()).expect("clean"),
                2 => {
                    block_on(house.keeper.commit_now(&pulse));
                    block_on(house.keeper.checkpoint_now()).expect("a checkpoint");
                }
                3 => {
                    house = house.killed();
                    assert_eq!(house.keeper.recovered.damage, [], "{when}");
                }
                _ => continue,
            }
            assert_same(&everything(&house.keeper), &everything(&plain.keeper), &when);
        }
        assert_same(
            &everything(&house.keeper),
            &everything(&plain.keeper),
            &format!("seed {seed}, at the end"),
        );
        block_on(house.keeper.clean_tombstones()).expect("clean");
        assert!(house.keeper.store().all().iter().all(|b| !b.has_tombstones()));
        let files = block_on(house.disk.list(house.keeper.store().dir())).expect("blocks");
        assert!(files.iter().all(|f| !f.name.ends_with(".tombstones")), "{files:?}");
        house = house.killed();
        assert_same(
            &everything(&house.keeper),
            &everything(&plain.keeper),
            &format!("seed {seed}, clean and killed"),
        );
    }
}

fn append(keeper: &Keeper, entries: impl Fn(&mut Vec<u8>)) {
    let mut batch = Vec::new();
    record::begin(&mut batch, SourceId(1));
    record::push_define(&mut batch, 0, &labels(0));
    entries(&mut batch);
    keeper.append(keeper.generation(), &batch).expect("room");
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn times(keeper: &Keeper) -> Vec<Timestamp> {
    everything(keeper).into_values().flat_map(|(floats, _)| floats).map(|f| f.0).collect()
}

#[test]
fn what_is_sent_again_after_a_delete_is_there() {
    let mut house = House::new();
    append(&house.keeper, |b| (1..10).for_each(|t| record::push_row(b, 0, t * 10, false, &[(0, t as f64)])));
    delete(&house.keeper, &[], 30, 60).expect("a delete");
    assert_eq!(times(&house.keeper), [10, 20, 70, 80, 90]);
    append(&house.keeper, |b| {
        record::push_late(b, 0);
        record::push_float(b, 0, 40, 0, 1.5);
        record::push_float(b, 0, 100, 0, 2.5);
    });
    assert_eq!(times(&house.keeper), [10, 20, 40, 70, 80, 90, 100]);
    block_on(house.keeper.checkpoint_now()).expect("a checkpoint");
    house = house.killed();
    assert_eq!(times(&house.keeper), [10, 20, 40, 70, 80, 90, 100]);
    delete(&house.keeper, &[], 90, Timestamp::MAX).expect("a delete");
    append(&house.keeper, |b| record::push_float(b, 0, 110, 0, 2.5));
    house = house.killed();
    assert_eq!(times(&house.keeper), [10, 20, 40, 70, 80, 110]);
}

const SERIES: usize = 4;

fn place() -> Place {
    let owner = Owner { directory_id: 3, shard: 0, shard_count: 1 };
    Place { dir: PathBuf::from("/data/shards/0000-of-0001"), tail_dir: PathBuf::from("/tail"), owner }
}

fn open(disk: &CrashDisk) -> Result<Keeper, crate::rt::Error> {
    let tail = Rc::new(RefCell::new(vec![0; Pending::tail_bytes(64 << 10)]));
    let disk: Rc<dyn Disk> = Rc::new(disk.clone());
    block_on(Keeper::open_with(disk, &place(), Tail::in_memory(tail), Arc::default()))
}

type Samples = BTreeSet<(String, Timestamp)>;

/// What must be found after a crash, and what must not.
#[derive(Default)]
struct Known {
    there: Samples,
    gone: Samples,
}

/// A series with a source of its own, whose samples are late from some time on, and which goes with the second cut.
fn append_passing(keeper: &Keeper, t: Timestamp, taken: &mut Samples) -> bool {
    let (mut batch, name) = (Vec::new(), labels(SERIES));
    record::begin(&mut batch, SourceId(6));
    record::push_define(&mut batch, 0, &name);
    let at = if t < 6 { t * 2 } else { t * 2 - 7 };
    record::push_late(&mut batch, 0);
    record::push_float(&mut batch, 0, at, 0, 0.5);
    if t == 14 {
        record::push_retire(&mut batch, SourceId(6));
    }
    taken.insert((name.to_string(), at));
    keeper.append(keeper.generation(), &batch).is_ok()
}

/// Rows, late samples between them, deletes, cuts, checkpoints and cleanings, until the disk fails.
fn work(keeper: &Keeper) -> Known {
    let (pulse, mut known, mut taken) = (pulse(), Known::default(), Samples::new());
    for t in 1..20 {
        let mut batch = Vec::new();
        record::begin(&mut batch, SourceId(5));
        (0..SERIES).for_each(|i| record::push_define(&mut batch, i as u32, &labels(i)));
        let row: Vec<(u32, f64)> = (0..SERIES as u32).map(|i| (i, (t * 10) as f64)).collect();
        record::push_row(&mut batch, 0, t * 2, false, &row);
        taken.extend((0..SERIES).map(|i| (labels(i).to_string(), t * 2)));
        if keeper.append(keeper.generation(), &batch).is_err() {
            break;
        }
        if t < 15 && !append_passing(keeper, t, &mut taken) {
            break;
        }
        block_on(keeper.commit_now(&pulse));
        if keeper.state() != LogState::Writing {
            break;
        }
        known.there.clone_from(&taken);
        if t % 7 == 0 {
            let _ = block_on(keeper.cut_now(&pulse, (t - 3) * 2));
        }
        if t % 4 == 0 {
            let i = (t / 4 % 3).to_string();
            let i = if t == 16 { SERIES.to_string() } else { i };
            let text = format!("i=\"{i}\"");
            let (meant, left): (Samples, Samples) = taken
                .iter()
                .cloned()
                .partition(|(l, at)| l.contains(&text) && (t * 2 - 28..t * 2).contains(at));
            // It may be that it is done, though nobody was told.
            known.there.clone_from(&left);
            taken = left;
            match delete(keeper, &[Matcher::equal("i", i)], t * 2 - 28, t * 2 - 1) {
                Ok(()) => known.gone.extend(meant),
                Err(_) => break,
            }
        }
        match t % 10 {
            3 => drop(block_on(keeper.checkpoint_now())),
            6 => drop(block_on(keeper.clean_tombstones())),
            9 => drop(block_on(keeper.compact_once())),
            _ => {}
        }
    }
    known
}

fn found(keeper: &Keeper) -> Samples {
    let all = everything(keeper).into_iter();
    all.flat_map(|(labels, (floats, _))| floats.into_iter().map(move |f| (labels.clone(), f.0))).collect()
}

#[test]
fn a_power_cut_at_any_operation_neither_loses_samples_nor_brings_deleted_ones_back() {
    let mut cut_at = 0;
    loop {
        let disk = CrashDisk::new();
        disk.fail_after(cut_at, Fault::PowerCut);
        let known = open(&disk).as_ref().map(work).unwrap_or_default();
        let was_cut = disk.operations() > cut_at;
        for crash in [Crash::Power, Crash::Torn(cut_at), Crash::Torn(cut_at + 1000)] {
            let when = format!("cut at {cut_at}, {crash:?}");
            let disk = disk.crash(crash);
            let keeper = open(&disk).unwrap_or_else(|e| panic!("{when}: {e}"));
            assert_eq!(keeper.recovered.damage, [], "{when}");
            let have = found(&keeper);
            assert!(known.there.is_subset(&have), "{when}: lost {:?}", known.there.difference(&have));
            let back: Vec<_> = known.gone.intersection(&have).collect();
            assert!(back.is_empty(), "{when}: back again {back:?}");
            let again = open(&disk.crash(Crash::Power)).unwrap_or_else(|e| panic!("{when}, again: {e}"));
            assert_eq!(found(&again), have, "{when}, again");
        }
        if !was_cut {
            assert!(cut_at > 100 && known.gone.len() > 12, "{cut_at} operations, {} gone", known.gone.len());
            return;
        }
        cut_at += 1;
    }
}

#[test]
fn damaged_tombstones_are_told_of_and_not_written_over() {
    let house = House::new();
    append(&house.keeper, |b| (1..10).for_each(|t| record::push_row(b, 0, t * 10, false, &[(0, t as f64)])));
    block_on(house.keeper.cut_now(&pulse(), 75)).expect("a block");
    delete(&house.keeper, &[], 10, 20).expect("a delete");
    assert_eq!(times(&house.keeper), [30, 40, 50, 60, 70, 80, 90]);
    let path = Path::new("/data/shards/0000-of-0001/blocks/00000001.tombstones");
    let mut bytes = block_on(house.disk.read(path)).expect("tombstones");
    bytes[17] ^= 4;
    block_on(house.disk.publish(path, bytes)).expect("room");
    let house = house.killed();
    let damage = &house.keeper.recovered.damage;
    assert!(damage.len() == 1 && damage[0].path == path, "{damage:?}");
    assert_eq!(times(&house.keeper).len(), 9, "everything is answered");
    assert!(matches!(delete(&house.keeper, &[], 10, 20), Err(Failed::Damaged(at)) if at == path));
    assert!(!block_on(house.keeper.compact_once()), "it is left for whoever can mend it");
}

#[test]
fn a_damaged_newest_checkpoint_neither_loses_samples_nor_brings_deleted_ones_back() {
    let wal = place().wal_dir();
    let (mut cut_at, mut tried) = (0, 0);
    loop {
        let disk = CrashDisk::new();
        disk.fail_after(cut_at, Fault::PowerCut);
        let known = open(&disk).as_ref().map(work).unwrap_or_default();
        let was_cut = disk.operations() > cut_at;
        let disk = disk.crash(Crash::Power);
        let numbers = block_on(crate::shard::checkpoint::checkpoint_numbers(
            &(Rc::new(disk.clone()) as Rc<dyn Disk>),
            &wal,
        ));
        if let Some(newest) = numbers.unwrap_or_default().last() {
            let path = wal.join(crate::shard::checkpoint::checkpoint_name(*newest));
            disk.corrupt(&path, 4096 + 17, 1);
            let keeper = open(&disk).unwrap_or_else(|e| panic!("cut at {cut_at}: {e}"));
            assert_eq!(keeper.recovered.damage.first().map(|d| &d.path), Some(&path), "cut at {cut_at}");
            let have = found(&keeper);
            assert!(
                known.there.is_subset(&have),
                "cut at {cut_at}: lost {:?}",
                known.there.difference(&have)
            );
            let back: Vec<_> = known.gone.intersection(&have).collect();
            assert!(back.is_empty(), "cut at {cut_at}: back again {back:?}");
            tried += 1;
        }
        if !was_cut {
            assert!(tried > 20, "{tried} tried");
            return;
        }
        cut_at += 1;
    }
}
