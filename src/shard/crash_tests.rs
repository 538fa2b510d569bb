//! Power cuts, kills, full and failing disks: a shard loses nothing that it acknowledged.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::block_on;
use model::{Labels, MatchOp, Matcher, Timestamp};

use crate::rt::clock::ManualClock;
use crate::rt::disk::crash::{Crash, Fault};
use crate::rt::disk::{CrashDisk, Disk, Tail};
use crate::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
use crate::shard::appender::{Appender, Slot, Source};
use crate::shard::block::class::{Class, ClassMark, Classes};
use crate::shard::block::retention::Retention;
use crate::shard::cut_tests::asked;
use crate::shard::keeper::{Keeper, LogState, Place, Refused};
use crate::shard::record::SourceId;
use crate::shard::wal::pending::{Owner, Pending};

const SERIES: usize = 5;

/// What should be found: by series, the value at each time.
type Known = BTreeMap<(usize, Timestamp), u64>;

fn place() -> Place {
    let owner = Owner { directory_id: 3, shard: 0, shard_count: 1 };
    Place { dir: PathBuf::from("/data/shards/0000-of-0001"), tail_dir: PathBuf::from("/tail"), owner }
}

fn tail_bytes() -> Rc<RefCell<Vec<u8>>> {
    Rc::new(RefCell::new(vec![0; Pending::tail_bytes(64 << 10)]))
}

fn open(disk: &CrashDisk, tail: &Rc<RefCell<Vec<u8>>>) -> Result<Keeper, crate::rt::Error> {
    let disk: Rc<dyn Disk> = Rc::new(disk.clone());
    block_on(Keeper::open_with(disk, &place(), Tail::in_memory(tail.clone()), Arc::default()))
}

fn pulse() -> Pulse {
    Pulse::new(ManualClock::starting_at(0) as Arc<_>, Grid::new(GRID_DEFAULT))
}

/// One source that writes rows and remembers which of them the shard took.
struct Writer {
    appender: Appender,
    source: Source,
    slots: Vec<Slot>,
    generation: u64,
    taken: Known,
}

impl Writer {
    fn new(id: u64, keeper: &Keeper) -> Writer {
        let mut w = Writer {
            appender: Appender::new(1),
            source: Source::new(SourceId(id), 1),
            slots: Vec::new(),
            generation: keeper.generation(),
            taken: Known::new(),
        };
        for i in 0..SERIES {
            let labels = Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]);
            w.slots.push(w.appender.define(&mut w.source, &labels));
        }
        w
    }

    fn row(&mut self, keeper: &Keeper, time: Timestamp) -> Result<(), Refused> {
        for (i, slot) in self.slots.iter().enumerate() {
            match self.taken.is_empty() {
                true => self.appender.begin(&mut self.source, *slot, value(i, time)),
                false => self.appender.set(*slot, value(i, time)),
            }
        }
        let (generation, mut result) = (self.generation, Ok(()));
        self.appender.commit(&mut self.source, time, |_, batch| {
            result = keeper.append(generation, batch).map(|_| ());
        });
        if result.is_ok() {
            self.taken.extend((0..SERIES).map(|i| ((i, time), value(i, time).to_bits())));
        }
        result
    }
}

fn value(series: usize, time: Timestamp) -> f64 {
    (time * 10 + series as i64) as f64
}

fn found(keeper: &Keeper) -> Known {
    let m = Matcher::equal("__name__", "m");
    let mut out = Known::new();
    for (labels, (floats, _)) in asked(keeper, &[m], i64::MIN, i64::MAX) {
        let i = labels.split('"').nth(3).and_then(|i| i.parse().ok()).expect("the label i");
        out.extend(floats.into_iter().map(|(t, v, _)| ((i, t), v)));
    }
    out
}

fn assert_holds(have: &Known, want: &Known, when: &str) {
    for (at, v) in want {
        assert_eq!(have.get(at), Some(v), "{when}: series {} at {}", at.0, at.1);
    }
}

/// Rows, a commit every third; returns (taken, acknowledged).
fn work(keeper: &Keeper, id: u64, times: std::ops::Range<Timestamp>) -> (Known, Known) {
    work_with(keeper, id, times, |_, _| {})
}

/// The same, and something else after every row.
fn work_with(
    keeper: &Keeper,
    id: u64,
    times: std::ops::Range<Timestamp>,
    mut also: impl FnMut(&Keeper, Timestamp),
) -> (Known, Known) {
    let pulse = pulse();
    let mut w = Writer::new(id, keeper);
    let mut acknowledged = Known::new();
    for t in times {
        if w.row(keeper, t).is_err() {
            break;
        }
        if t % 3 == 0 {
            let taken = w.taken.clone();
            block_on(keeper.commit_now(&pulse));
            if keeper.state() == LogState::Writing {
                acknowledged = taken;
            }
        }
        also(keeper, t);
    }
    (w.taken, acknowledged)
}

/// A checkpoint every fourth row, unless a commit could not be written: it would wait for it.
fn checkpoint_now_and_then(keeper: &Keeper, t: Timestamp) {
    if t % 4 == 0 && keeper.state() == LogState::Writing {
        // What a checkpoint that fails must not do is found out by the crash.
        let _ = block_on(keeper.checkpoint_now());
    }
}

/// Cuts the power after every operation of some work, and looks at what comes back. Returns how many there are.
fn cut_everywhere(work: impl Fn(&Keeper, u64, std::ops::Range<Timestamp>) -> (Known, Known)) -> u64 {
    let mut cut_at = 0;
    loop {
        let disk = CrashDisk::new();
        disk.fail_after(cut_at, Fault::PowerCut);
        let opened = open(&disk, &tail_bytes());
        let acknowledged = opened.as_ref().map(|k| work(k, 1, 1..20).1).unwrap_or_default();
        let was_cut = disk.operations() > cut_at;
        for crash in [Crash::Power, Crash::Torn(cut_at), Crash::Torn(cut_at + 1000)] {
            let disk = disk.crash(crash);
            let keeper =
                open(&disk, &tail_bytes()).unwrap_or_else(|e| panic!("cut at {cut_at}, {crash:?}: {e}"));
            assert_holds(&found(&keeper), &acknowledged, &format!("cut at {cut_at}, {crash:?}"));
            assert_eq!(keeper.recovered.damage, [], "cut at {cut_at}, {crash:?}");
            assert_eq!(keeper.recovered.refused, 0, "cut at {cut_at}, {crash:?}");
            // Life goes on, and a second crash loses neither what was recovered nor what came after.
            let before = found(&keeper);
            let (_, after) = work(&keeper, 2, 100..110);
            let keeper = open(&disk.crash(Crash::Power), &tail_bytes()).unwrap();
            assert_holds(&found(&keeper), &before, &format!("second start, cut at {cut_at}, {crash:?}"));
            assert_holds(&found(&keeper), &after, &format!("second start, cut at {cut_at}, {crash:?}"));
        }
        if !was_cut {
            return cut_at;
        }
        cut_at += 1;
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    assert!(cut_everywhere(work) > 10, "the work has several sync points");
}

#[test]
fn a_power_cut_at_any_operation_of_a_checkpoint_loses_nothing_acknowledged() {
    let count = cut_everywhere(|k, id, times| work_with(k, id, times, checkpoint_now_and_then));
    assert!(count > 40, "checkpoints have several sync points ({count})");
}

/// A block every fifth row, and a checkpoint after every other block.
fn cut_now_and_then(keeper: &Keeper, t: Timestamp) {
    if t % 5 == 0 && keeper.state() == LogState::Writing {
        let _ = block_on(keeper.cut_now(&pulse(), t - 2));
        if t % 10 == 0 {
            let _ = block_on(keeper.checkpoint_now());
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_cut_loses_nothing_acknowledged() {
    let count = cut_everywhere(|k, id, times| work_with(k, id, times, cut_now_and_then));
    assert!(count > 40, "cuts have several sync points ({count})");
}

/// Classes of the series 1 and 3, and 2.
fn classed() -> Retention {
    let class = |value: &str| {
        let matchers = vec![Matcher::new(MatchOp::Regex, "i", value).expect("an expression")];
        let mark = ClassMark { selector: value.into(), time_ms: 1 << 40 };
        Class { mark, matchers, downsampling: Vec::new() }
    };
    Retention { classes: Classes::new(vec![class("1|3"), class("2|3")]), ..Retention::default() }
}

/// Blocks of each class every fifth row, all of them made one for each after every other cut.
fn cut_by_class_now_and_then(keeper: &Keeper, t: Timestamp) {
    keeper.set_retention(classed());
    cut_now_and_then(keeper, t);
    if t % 10 == 0 && keeper.state() == LogState::Writing {
        // Two classes and none.
        for _ in 0..3 {
            block_on(keeper.compact_once());
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_classed_cut_or_compaction_loses_nothing_acknowledged() {
    let count = cut_everywhere(|k, id, times| work_with(k, id, times, cut_by_class_now_and_then));
    assert!(count > 80, "cuts of classes have many sync points ({count})");
}

#[test]
fn what_an_interrupted_cut_left_is_answered_once_after_classes_changed() {
    let mut left_some = 0;
    for cut_at in 0.. {
        let (disk, tail) = (CrashDisk::new(), tail_bytes());
        let keeper = open(&disk, &tail).unwrap();
        let (taken, _) = work(&keeper, 1, 1..19);
        block_on(keeper.commit_now(&pulse()));
        keeper.set_retention(classed());
        let before = disk.operations();
        disk.fail_after(cut_at, Fault::PowerCut);
        let is_whole = block_on(keeper.cut_now(&pulse(), 15)).is_ok() && disk.operations() <= before + cut_at;
        let disk = disk.crash(Crash::Power);
        let keeper = open(&disk, &tail_bytes()).unwrap();
        assert_holds(&found(&keeper), &taken, &format!("cut at {cut_at}"));
        left_some += usize::from(!is_whole && !keeper.store().all().is_empty());
        // Of no class any more: blocks of gone classes and new ones of none have the same samples.
        block_on(keeper.cut_now(&pulse(), 17)).expect("room");
        for _ in 0..4 {
            block_on(keeper.compact_once());
        }
        assert_eq!(found(&keeper), taken, "cut at {cut_at}");
        let keeper = open(&disk.crash(Crash::Power), &tail_bytes()).unwrap();
        assert_holds(&found(&keeper), &taken, &format!("second start, cut at {cut_at}"));
        if is_whole {
            break;
        }
    }
    assert!(left_some >= 2, "some cuts leave blocks of which none says that all are there ({left_some})");
}

/// A few old samples are imported every sixth row, before and after what blocks hold, and merged as they come.
fn import_now_and_then(keeper: &Keeper, id: u64, times: std::ops::Range<Timestamp>) -> (Known, Known) {
    let mut imported = Known::new();
    let (mut taken, mut acknowledged) = work_with(keeper, id, times, |keeper, t| {
        cut_now_and_then(keeper, t);
        if t % 6 != 0 {
            return;
        }
        let mut given = Known::new();
        for (series, ago) in [(1, 7_200_000), (3, 7_200_001), (1, 40_000_000), (4, 0)] {
            let time = t + 1000 - ago;
            let labels = Labels::from_pairs([("__name__", "m"), ("i", &series.to_string())]);
            let sample = (time, value(series, time));
            assert_eq!(keeper.deposit(&labels, [sample].into_iter(), Timestamp::MIN), 0);
            given.insert((series, time), sample.1.to_bits());
        }
        if block_on(keeper.settle_deposit()).is_ok() {
            imported.extend(given);
        }
    });
    taken.extend(imported.clone());
    acknowledged.extend(imported);
    (taken, acknowledged)
}

#[test]
fn a_power_cut_at_any_operation_of_an_import_loses_nothing_acknowledged() {
    let count = cut_everywhere(import_now_and_then);
    assert!(count > 60, "imports have many sync points ({count})");
}

#[test]
fn what_a_full_disk_does_not_take_of_an_import_is_written_when_there_is_room() {
    let disk = CrashDisk::new();
    let keeper = open(&disk, &tail_bytes()).unwrap();
    let labels = Labels::from_pairs([("__name__", "m"), ("i", "1")]);
    let give = |time| keeper.deposit(&labels, [(time, value(1, time))].into_iter(), 0);
    for (left, time) in [(0, 5), (2, 6), (4, 7)] {
        give(time);
        disk.fail_after(left, Fault::Full);
        assert!(block_on(keeper.settle_deposit()).is_err());
        disk.heal();
    }
    assert_eq!((give(8), give(-1)), (0, 1), "what is too old is refused");
    block_on(keeper.settle_deposit()).expect("room");
    let keeper = open(&disk.crash(Crash::Power), &tail_bytes()).unwrap();
    let want: Known = (5..9).map(|t| ((1, t), value(1, t).to_bits())).collect();
    assert_eq!(found(&keeper), want);
}

const WAL: &str = "/data/shards/0000-of-0001/wal";

fn names(disk: &CrashDisk) -> Vec<String> {
    block_on(disk.list(Path::new(WAL))).unwrap().into_iter().map(|e| e.name).collect()
}

#[test]
fn a_checkpoint_takes_the_log_before_it_away() {
    let (disk, tail) = (CrashDisk::new(), tail_bytes());
    let keeper = open(&disk, &tail).unwrap();
    let (taken, _) = work_with(&keeper, 1, 1..40, checkpoint_now_and_then);
    assert_eq!(names(&disk).len(), 4, "two checkpoints and a segment behind each: {:?}", names(&disk));
    assert_eq!(keeper.probe.checkpoints.get(), 9);
    drop(keeper);
    let tail = Rc::new(RefCell::new(tail.borrow().clone()));
    let keeper = open(&disk.crash(Crash::Kill), &tail).unwrap();
    assert_eq!(found(&keeper), taken);
    assert!(keeper.recovered.record_count < 12, "the image was read, not the log");
    assert!(keeper.recovered.image_bytes > 0);
}

#[test]
fn any_flipped_bit_of_a_checkpoint_is_survived_and_reported() {
    let disk = CrashDisk::new();
    let keeper = open(&disk, &tail_bytes()).unwrap();
    let (taken, _) = work_with(&keeper, 1, 1..25, checkpoint_now_and_then);
    drop(keeper);
    let newest = names(&disk).into_iter().rfind(|n| n.starts_with("checkpoint")).unwrap();
    let path = Path::new(WAL).join(&newest);
    let bytes = block_on(disk.read(&path)).unwrap();
    for at in (0..bytes.len()).step_by(31).filter(|at| bytes[*at] != 0) {
        let disk = disk.crash(Crash::Kill);
        disk.corrupt(&path, at, 1 << (at % 8));
        let keeper = open(&disk, &tail_bytes()).unwrap_or_else(|e| panic!("byte {at}: {e}"));
        assert_eq!(found(&keeper), taken, "byte {at}: the checkpoint before and the log behind it have all");
        assert_eq!(keeper.recovered.damage.first().map(|d| &d.path), Some(&path), "byte {at}");
        // The one before stays until another is whole.
        let (_, after) = work_with(&keeper, 2, 100..120, checkpoint_now_and_then);
        let keeper = open(&disk.crash(Crash::Power), &tail_bytes()).unwrap();
        assert_holds(&found(&keeper), &after, &format!("byte {at}, second start"));
        assert_holds(&found(&keeper), &taken, &format!("byte {at}, second start"));
    }
}

#[test]
fn where_both_checkpoints_are_damaged_whole_pieces_are_kept() {
    let disk = CrashDisk::new();
    let keeper = open(&disk, &tail_bytes()).unwrap();
    work_with(&keeper, 1, 1..25, checkpoint_now_and_then);
    drop(keeper);
    for name in names(&disk).into_iter().filter(|n| n.starts_with("checkpoint")) {
        // The third piece of each: the end.
        disk.corrupt(&Path::new(WAL).join(name), 3 * 4096 + 1, 1);
    }
    let keeper = open(&disk, &tail_bytes()).unwrap();
    assert!(keeper.recovered.damage.len() >= 2, "{:?}", keeper.recovered.damage);
    assert!(found(&keeper).len() >= 24 * SERIES, "{} samples", found(&keeper).len());
}

#[test]
fn a_disk_that_is_full_for_a_checkpoint_keeps_the_log() {
    let (disk, tail) = (CrashDisk::new(), tail_bytes());
    let keeper = open(&disk, &tail).unwrap();
    let (taken, _) = work(&keeper, 1, 1..19);
    disk.fail_after(1, Fault::Full);
    assert!(block_on(keeper.checkpoint_now()).is_err());
    assert_eq!(keeper.probe.failed_checkpoints.get(), 1);
    disk.heal();
    let tail = Rc::new(RefCell::new(tail.borrow().clone()));
    let again = open(&disk.crash(Crash::Kill), &tail).unwrap();
    assert_eq!(found(&again), taken);
    assert!(!names(&disk.crash(Crash::Kill)).is_empty());
    assert!(block_on(keeper.checkpoint_now()).is_ok());
}

#[test]
fn a_kill_loses_nothing_that_a_query_could_see() {
    for rows in 1..30 {
        let (disk, tail) = (CrashDisk::new(), tail_bytes());
        let keeper = open(&disk, &tail).unwrap();
        let (taken, _) = work(&keeper, 1, 1..rows);
        assert_eq!(found(&keeper), taken);
        drop(keeper);
        let disk = disk.crash(Crash::Kill);
        let tail = Rc::new(RefCell::new(tail.borrow().clone()));
        let keeper = open(&disk, &tail).unwrap();
        assert_eq!(found(&keeper), taken, "after {rows} rows");
        // Killed again before anything was committed.
        drop(keeper);
        let keeper = open(&disk.crash(Crash::Kill), &tail).unwrap();
        assert_eq!(found(&keeper), taken, "after {rows} rows and two kills");
    }
}

#[test]
fn a_full_disk_refuses_goes_on_answering_and_recovers() {
    let (disk, tail, pulse) = (CrashDisk::new(), tail_bytes(), pulse());
    let keeper = open(&disk, &tail).unwrap();
    let mut w = Writer::new(1, &keeper);
    w.row(&keeper, 1).unwrap();
    disk.fail_after(0, Fault::Full);
    block_on(keeper.commit_now(&pulse));
    assert!(matches!(keeper.state(), LogState::DiskFull(_)));
    assert!(matches!(w.row(&keeper, 2), Err(Refused::DiskFull(_))));
    assert_eq!(keeper.probe.refused_batches.get(), 1);
    assert_eq!(found(&keeper), w.taken, "queries go on");
    disk.heal();
    block_on(keeper.commit_now(&pulse));
    assert_eq!(keeper.state(), LogState::Writing);
    assert!(
        matches!(w.row(&keeper, 3), Err(Refused::OldGeneration { .. })),
        "its rows have a gap before them"
    );
    let mut anew = Writer::new(2, &keeper);
    anew.row(&keeper, 4).unwrap();
    block_on(keeper.commit_now(&pulse));
    let keeper = open(&disk.crash(Crash::Power), &tail_bytes()).unwrap();
    let mut all = w.taken.clone();
    all.extend(anew.taken);
    assert_eq!(found(&keeper), all);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let (disk, tail, pulse) = (CrashDisk::new(), tail_bytes(), pulse());
    let keeper = open(&disk, &tail).unwrap();
    let mut w = Writer::new(1, &keeper);
    w.row(&keeper, 1).unwrap();
    disk.fail_after(0, Fault::Io);
    block_on(keeper.commit_now(&pulse));
    assert!(matches!(keeper.state(), LogState::Failed(_)));
    assert!(matches!(w.row(&keeper, 2), Err(Refused::LogFailed(_))));
    assert!(matches!(block_on(keeper.durable()), Err(Refused::LogFailed(_))));
    let operations = disk.operations();
    block_on(keeper.commit_now(&pulse));
    assert_eq!(disk.operations(), operations, "no second sync on faith");
}

#[test]
fn any_flipped_bit_of_the_log_is_survived_and_reported() {
    let disk = CrashDisk::new();
    let keeper = open(&disk, &tail_bytes()).unwrap();
    let (taken, _) = work(&keeper, 1, 1..13);
    drop(keeper);
    let segment = Path::new("/data/shards/0000-of-0001/wal/00000001");
    let size = block_on(disk.read(segment)).unwrap().len();
    let mut reported = 0;
    for at in (0..size).step_by(37) {
        let disk = disk.crash(Crash::Power);
        disk.corrupt(segment, at, 1 << (at % 8));
        let keeper = open(&disk, &tail_bytes()).unwrap_or_else(|e| panic!("byte {at}: {e}"));
        for (k, v) in found(&keeper) {
            assert_eq!(taken.get(&k), Some(&v), "byte {at}: a sample that was never written");
        }
        if let Some(d) = keeper.recovered.damage.first() {
            assert_eq!(d.path, segment);
            reported += 1;
        }
    }
    assert!(reported > 10, "damage before the last frame is reported ({reported})");
}
