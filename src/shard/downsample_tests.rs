//! Aggregates in blocks: what is read of them is what a walk over the samples finds, through deletes, other shards and
//! power cuts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::block_on;
use model::histogram::FloatHistogram;
use model::{Labels, Matcher, STALE_NAN, Timestamp};

use crate::rt::disk::crash::{Crash, Fault};
use crate::rt::disk::{CrashDisk, Disk, Tail};
use crate::rt::rng::Rng;
use crate::shard::block::aggregate::stamp_of;
use crate::shard::block::class::{Class, ClassMark, Classes, Downsampling};
use crate::shard::block::retention::Retention;
use crate::shard::cut_tests::{House, asked, pulse};
use crate::shard::deep::Deep;
use crate::shard::delete_tests::delete;
use crate::shard::downsample::SLOT_MS;
use crate::shard::keeper::{Keeper, Place};
use crate::shard::layers::Reading;
use crate::shard::select::Batch;
use crate::shard::upkeep::RANGE_MS;
use crate::shard::wal::pending::{Owner, Pending};

const STEP_MS: i64 = 60_000;
const FINE: i64 = 300_000;
const COARSE: i64 = 3_600_000;

type Known = BTreeMap<String, Vec<(Timestamp, f64)>>;

/// Counters with resets, gauges, series that come and go; whole numbers.
fn samples(seed: u64, hours: i64) -> Known {
    let mut rng = Rng::seeded(seed);
    let mut all = Known::new();
    for i in 0..6u64 {
        let name = if i < 4 { "c_total" } else { "g" };
        let labels = Labels::from_pairs([("__name__", name.to_owned()), ("i", i.to_string())]).to_string();
        let (mut t, mut v, mut out) = (rng.below(STEP_MS as u64) as i64, 0.0, Vec::new());
        while t < hours * COARSE {
            v = match rng.below(200) {
                0 => rng.below(3) as f64,
                _ if name == "g" => rng.below(1000) as f64,
                _ => v + rng.below(50) as f64,
            };
            out.push((t, v));
            t += STEP_MS;
            if rng.chance(0.002) {
                out.push((t, STALE_NAN));
                t += STEP_MS * rng.below(600) as i64 + STEP_MS;
            }
        }
        all.insert(labels, out);
    }
    all
}

fn labels_of(text: &str) -> Labels {
    let name = if text.contains("c_total") { "c_total" } else { "g" };
    let i = text.split("i=\"").nth(1).and_then(|t| t.split('"').next()).expect("a label i");
    Labels::from_pairs([("__name__", name), ("i", i)])
}

/// Takes all in and cuts all but the last hours.
fn fill(keeper: &Keeper, all: &Known) {
    let mut by_time: Vec<(Timestamp, Labels, f64)> = Vec::new();
    for (name, of_series) in all {
        by_time.extend(of_series.iter().map(|(t, v)| (*t, labels_of(name), *v)));
    }
    by_time.sort_by_key(|s| s.0);
    let mut end = RANGE_MS;
    for (t, labels, v) in by_time {
        if t >= end + RANGE_MS {
            block_on(keeper.cut_now(&pulse(), end)).expect("a block");
            end += RANGE_MS;
        }
        keeper.shard.borrow_mut().append_float(&labels, t, 0, v).expect("room");
    }
}

fn keeping(after_ms: i64) -> Retention {
    keeping_for(after_ms, 400 * 24 * COARSE)
}

fn keeping_for(after_ms: i64, keep_ms: i64) -> Retention {
    let of = |resolution_ms| Downsampling { resolution_ms, after_ms, keep_ms };
    Retention { downsampling: vec![of(FINE), of(COARSE)], ..Retention::default() }
}

fn work(keeper: &Keeper) {
    while block_on(keeper.compact_once()) || block_on(keeper.downsample_once()) {}
}

/// What a question gets: by series, times, values, weights; and whether aggregates are among them.
type Read = BTreeMap<String, OfSeries>;
type OfSeries = (Vec<Timestamp>, Vec<f64>, Vec<f64>, bool);

fn read(keepers: &[&Keeper], reading: Reading, resolution: i64, mint: Timestamp, maxt: Timestamp) -> Read {
    let mut out = Read::new();
    for keeper in keepers {
        let selection = keeper.shard().select(&[], mint, maxt);
        let blocks = keeper.store().overlapping_to(mint, maxt, resolution);
        let mut deep =
            Deep::new(keeper.store().clone(), blocks, Vec::new(), selection).with_aggregates(reading);
        let mut batch = Batch::default();
        block_on(async {
            while deep.take_head(&keeper.shard()) {}
            while deep.take_part().await {}
            while deep.fetch().await {
                deep.decode(&keeper.shard(), &mut batch);
                for s in &batch.series {
                    let (times, values) = (batch.times_of(s).to_vec(), batch.values_of(s).to_vec());
                    let name = deep.names().labels(s.id).to_string();
                    let found = (times, values, batch.weights_of(s).to_vec(), s.is_coarse);
                    assert!(out.insert(name, found).is_none(), "a series comes once");
                }
            }
        });
        assert_eq!(deep.missing(), 0);
    }
    out
}

fn increase(samples: &[(Timestamp, f64)]) -> f64 {
    samples.windows(2).map(|w| if w[1].1 < w[0].1 { w[1].1 } else { w[1].1 - w[0].1 }).sum()
}

/// Holds what is read against the samples: over hours that are whole, and counters between any two points.
fn check(keepers: &[&Keeper], all: &Known, resolution: i64, coarse_to: i64, when: &str) {
    let end = stamp_of(all.values().flatten().map(|s| s.0).max().expect("samples"), COARSE);
    for reading in [Reading::Count, Reading::Sum, Reading::Min, Reading::Max, Reading::Mean] {
        let have = read(keepers, reading, resolution, i64::MIN, i64::MAX);
        assert_eq!(have.len(), all.len(), "{when}");
        for (name, (times, values, weights, is_coarse)) in &have {
            assert!(*is_coarse && times.is_sorted_by(|a, b| a < b), "{when}: {name}");
            for hour in (0..=end).step_by(COARSE as usize) {
                let inside = |t: &i64| *t >= hour && *t < hour + COARSE;
                let raw: Vec<f64> =
                    all[name].iter().filter(|(t, v)| inside(t) && !v.is_nan()).map(|s| s.1).collect();
                let here: Vec<usize> =
                    (0..times.len()).filter(|i| inside(&times[*i]) && !values[*i].is_nan()).collect();
                let values: Vec<f64> = here.iter().map(|i| values[*i]).collect();
                let said = format!("{when}: {reading:?} of {name} from {hour}: {values:?} for {raw:?}");
                let (sum, least) =
                    (values.iter().sum::<f64>(), |v: &[f64]| v.iter().copied().fold(1e9, f64::min));
                let (count, total) = (raw.len() as f64, raw.iter().sum::<f64>());
                let greatest = |v: &[f64]| v.iter().copied().fold(-1.0, f64::max);
                match reading {
                    Reading::Count => assert_eq!(sum, count, "{said}"),
                    Reading::Min => assert_eq!(least(&values), least(&raw), "{said}"),
                    Reading::Max => assert_eq!(greatest(&values), greatest(&raw), "{said}"),
                    Reading::Mean => {
                        let weight: f64 = here.iter().map(|i| weights.get(*i).copied().unwrap_or(1.0)).sum();
                        assert_eq!((sum, weight), (total, count), "{said}");
                    }
                    _ => assert_eq!(sum, total, "{said}"),
                }
                if hour + COARSE <= coarse_to && resolution == COARSE {
                    assert!(values.len() <= 1, "{said}");
                }
            }
        }
    }
    let have = read(keepers, Reading::Counter, resolution, i64::MIN, i64::MAX);
    for (name, (times, values, ..)) in &have {
        let live: Vec<_> = all[name].iter().copied().filter(|s| !s.1.is_nan()).collect();
        let at = |t: i64| live.iter().rposition(|s| s.0 <= t).expect("a sample before");
        let points: Vec<_> = times.iter().zip(values).filter(|(_, v)| !v.is_nan()).collect();
        for w in points.windows(2) {
            let naive = increase(&live[at(*w[0].0)..=at(*w[1].0)]);
            assert_eq!(w[1].1 - w[0].1, naive, "{when}: {name} from {} to {}", w[0].0, w[1].0);
        }
    }
}

fn resolutions(keeper: &Keeper) -> BTreeMap<i64, usize> {
    let mut out = BTreeMap::new();
    for b in keeper.store().all() {
        *out.entry(b.header.resolution_ms()).or_insert(0) += 1;
    }
    out
}

#[test]
fn aggregates_stand_for_their_samples_beside_what_is_not_aggregated_yet() {
    for seed in 0..3 {
        let (mut house, all) = (House::new(), samples(seed, 150));
        fill(&house.keeper, &all);
        let before = asked(&house.keeper, &[], i64::MIN, i64::MAX);
        house.keeper.set_retention(keeping(0));
        work(&house.keeper);
        let made = resolutions(&house.keeper);
        assert!(made[&FINE] >= 1 && made[&COARSE] >= 1, "{made:?}");
        for resolution in [FINE, COARSE] {
            check(&[&house.keeper], &all, resolution, 140 * COARSE, &format!("seed {seed}"));
        }
        assert_eq!(asked(&house.keeper, &[], i64::MIN, i64::MAX), before, "samples are as they were");
        assert_eq!(house.keeper.store().overlapping(i64::MIN, i64::MAX).len(), made[&0]);
        // What has become older comes to what is there.
        block_on(house.keeper.checkpoint_now()).expect("a checkpoint");
        house = house.killed();
        assert_eq!(house.keeper.recovered.damage, []);
        assert_eq!(resolutions(&house.keeper), made, "after a kill");
        check(&[&house.keeper], &all, COARSE, 140 * COARSE, "after a kill");
    }
}

#[test]
fn aggregates_grow_with_their_samples_and_outlive_them() {
    let (house, all) = (House::new(), samples(7, 120));
    let keeper = &house.keeper;
    let days = |n: i64| -> Known {
        let part = |(name, s): (&String, &Vec<(i64, f64)>)| {
            (
                name.clone(),
                s.iter().copied().filter(|s| s.0 >= n * 24 * COARSE && s.0 < (n + 1) * 24 * COARSE).collect(),
            )
        };
        all.iter().map(part).collect()
    };
    // The finer ones early, the coarser ones late.
    let mut retention = keeping(COARSE);
    retention.downsampling[1].after_ms = 40 * COARSE;
    // Short blocks of what will go; nothing goes before it is asked for below.
    retention.time_ms = Some(20 * COARSE);
    retention.downsampling[0].keep_ms = 60 * COARSE;
    keeper.set_retention(retention);
    let mut end = RANGE_MS;
    for day in 0..5 {
        let mut by_time: Vec<_> = days(day)
            .into_iter()
            .flat_map(|(n, s)| s.into_iter().map(move |(t, v)| (t, n.clone(), v)))
            .collect();
        by_time.sort_by_key(|s| s.0);
        for (t, name, v) in by_time {
            if t >= end + RANGE_MS {
                block_on(keeper.cut_now(&pulse(), end)).expect("a block");
                end += RANGE_MS;
                work(keeper);
            }
            keeper.shard.borrow_mut().append_float(&labels_of(&name), t, 0, v).expect("room");
        }
    }
    for resolution in [FINE, COARSE] {
        check(&[keeper], &all, resolution, 72 * COARSE, "grown");
    }
    // Samples go by their time, the finer aggregates by theirs.
    let due: Vec<_> = keeper.retention.borrow().due(&keeper.store().all(), 0).iter().map(|d| d.id).collect();
    assert!(!due.is_empty());
    block_on(keeper.store().remove(&due)).expect("blocks go");
    let kept = resolutions(keeper);
    let counts = |resolution| -> f64 {
        let have = read(&[keeper], Reading::Count, resolution, i64::MIN, i64::MAX);
        let one = |s: &OfSeries| -> f64 {
            let live = s.1.iter().filter(|v| !v.is_nan());
            live.map(|v| if s.3 { *v } else { 1.0 }).sum()
        };
        have.values().map(one).sum()
    };
    let live = all.values().flatten().filter(|s| !s.1.is_nan()).count() as f64;
    let found = [0, FINE, COARSE].map(counts);
    assert!(found[0] < found[1] && found[1] < live, "{kept:?}: {found:?} of {live}");
    assert_eq!(counts(COARSE), live, "all that there was is counted still: {kept:?}");
    let have = read(&[keeper], Reading::Counter, COARSE, i64::MIN, i64::MAX);
    for (name, (_, values, ..)) in have {
        let of_series: Vec<_> = all[&name].iter().copied().filter(|s| !s.1.is_nan()).collect();
        let values: Vec<f64> = values.into_iter().filter(|v| !v.is_nan()).collect();
        assert_eq!(values.last().unwrap() - values[0], increase(&of_series), "{name}");
    }
    // Series are still found by name where samples are gone.
    let names = block_on(keeper.label_values("i", &[], 0, 30 * COARSE));
    assert_eq!(names.len(), 6);
}

#[test]
fn what_is_deleted_is_in_no_aggregate() {
    for is_made_before in [true, false] {
        let (house, mut all) = (House::new(), samples(11, 60));
        let keeper = &house.keeper;
        fill(keeper, &all);
        keeper.set_retention(keeping(0));
        if is_made_before {
            work(keeper);
        }
        // On hours, so that no window loses more than is deleted.
        let (mint, maxt) = (10 * COARSE, 13 * COARSE - 1);
        delete(keeper, &[Matcher::equal("i", "1")], mint, maxt).expect("a delete");
        for (name, of_series) in all.iter_mut() {
            if name.contains("i=\"1\"") {
                of_series.retain(|s| !(mint..=maxt).contains(&s.0));
            }
        }
        work(keeper);
        let sums = |resolution: i64| {
            let have = read(&[keeper], Reading::Sum, resolution, i64::MIN, i64::MAX);
            let sum = |(name, s): (&String, &OfSeries)| {
                let is_there = s.0.iter().any(|t| (mint..=maxt).contains(t));
                assert!(!(name.contains("i=\"1\"") && is_there), "{name}");
                (name.clone(), s.1.iter().filter(|v| !v.is_nan()).sum::<f64>())
            };
            have.iter().map(sum).collect::<BTreeMap<_, _>>()
        };
        let total = |s: &Vec<(i64, f64)>| s.iter().map(|s| s.1).filter(|v| !v.is_nan()).sum::<f64>();
        let expect: BTreeMap<String, f64> = all.iter().map(|(n, s)| (n.clone(), total(s))).collect();
        for resolution in [FINE, COARSE] {
            assert_eq!(sums(resolution), expect, "{resolution}, made before: {is_made_before}");
        }
        block_on(keeper.clean_tombstones()).expect("clean");
        assert!(keeper.store().all().iter().all(|b| !b.has_tombstones()));
        for resolution in [FINE, COARSE] {
            assert_eq!(sums(resolution), expect, "{resolution}, cleaned");
        }
        if is_made_before {
            // In the middle of a window: it goes whole, and what is left are samples that were not deleted.
            let t = 30 * COARSE + 90_000;
            delete(keeper, &[Matcher::equal("i", "2")], t, t + 120_000).expect("a delete");
            let have = read(&[keeper], Reading::Count, FINE, i64::MIN, i64::MAX);
            let of_series = have.iter().find(|(n, _)| n.contains("i=\"2\"")).expect("the series").1;
            assert!(!of_series.0.contains(&stamp_of(t, FINE)), "its window is gone");
        }
    }
}

#[test]
fn classes_have_aggregates_of_their_own_and_none_where_they_want_none() {
    let (house, all) = (House::new(), samples(13, 60));
    let keeper = &house.keeper;
    let class = |value: &str, downsampling: Vec<Downsampling>| {
        let mark = ClassMark { selector: format!("{{i=\"{value}\"}}").into(), time_ms: 400 * COARSE };
        Class { mark, matchers: vec![Matcher::equal("i", value)], downsampling }
    };
    let mut retention = keeping(0);
    let hourly = vec![retention.downsampling[1]];
    retention.classes = Classes::new(vec![class("1", Vec::new()), class("2", hourly)]);
    retention.downsampling.truncate(1);
    keeper.set_retention(retention);
    fill(keeper, &all);
    work(keeper);
    let mut made: Vec<(String, i64)> = Vec::new();
    for b in keeper.store().all() {
        made.push((b.header.selector().unwrap_or("").to_owned(), b.header.resolution_ms()));
    }
    made.sort();
    made.dedup();
    let expect = [("", 0), ("", FINE), ("{i=\"1\"}", 0), ("{i=\"2\"}", 0), ("{i=\"2\"}", COARSE)];
    assert_eq!(made, expect.map(|(c, r)| (c.to_owned(), r)));
    let have = read(&[keeper], Reading::Count, COARSE, i64::MIN, i64::MAX);
    for (name, (times, values, _, is_coarse)) in have {
        assert_eq!(is_coarse, !name.contains("i=\"1\""), "{name}");
        let live = all[&name].iter().filter(|s| !s.1.is_nan()).count() as f64;
        let is_one = |v: &f64| if is_coarse { *v } else { 1.0 };
        assert_eq!(values.iter().filter(|v| !v.is_nan()).map(is_one).sum::<f64>(), live, "{name}");
        assert!(times.len() > 10);
    }
}

#[test]
fn histograms_are_read_as_they_are() {
    let (house, all) = (House::new(), samples(17, 40));
    let keeper = &house.keeper;
    let name = Labels::from_pairs([("__name__", "h")]);
    for hour in 0..4 {
        let histogram = FloatHistogram { count: hour as f64, ..FloatHistogram::default() };
        keeper.shard.borrow_mut().append_histogram(&name, hour * COARSE, 0, histogram).expect("room");
    }
    fill(keeper, &all);
    let before = asked(keeper, &[Matcher::equal("__name__", "h")], i64::MIN, i64::MAX);
    keeper.set_retention(keeping(0));
    work(keeper);
    assert_eq!(asked(keeper, &[Matcher::equal("__name__", "h")], i64::MIN, i64::MAX), before);
    let have = read(&[keeper], Reading::Average, COARSE, i64::MIN, i64::MAX);
    let (times, .., is_coarse) = &have[&name.to_string()];
    assert!(times.is_empty() && !is_coarse);
}

fn open(disk: &CrashDisk) -> Keeper {
    let owner = Owner { directory_id: 3, shard: 0, shard_count: 1 };
    let place =
        Place { dir: PathBuf::from("/data/shards/0000-of-0001"), tail_dir: PathBuf::from("/tail"), owner };
    let tail = Rc::new(RefCell::new(vec![0; Pending::tail_bytes(64 << 10)]));
    let disk: Rc<dyn Disk> = Rc::new(disk.clone());
    block_on(Keeper::open_with(disk, &place, Tail::in_memory(tail), Arc::default())).expect("a keeper")
}

#[test]
fn a_power_cut_at_any_operation_leaves_samples_and_whole_aggregates() {
    let all = samples(19, 32);
    let disk = CrashDisk::new();
    {
        let keeper = open(&disk);
        fill(&keeper, &all);
        block_on(keeper.checkpoint_now()).expect("a checkpoint");
    }
    let first = disk.crash(Crash::Power);
    let before = asked(&open(&first), &[], i64::MIN, i64::MAX);
    for cut_at in 0.. {
        let disk = first.crash(Crash::Power);
        let keeper = open(&disk);
        let begun = disk.operations();
        disk.fail_after(cut_at, Fault::PowerCut);
        // Short blocks, one after the other, then long ones of these: what fails is tried again by the next start.
        for retention in [keeping_for(0, 10 * SLOT_MS), keeping(0)] {
            keeper.set_retention(retention);
            while block_on(keeper.downsample_once()) {}
        }
        assert!(disk.operations() > begun + cut_at || resolutions(&keeper)[&COARSE] == 2, "they became one");
        let was_cut = disk.operations() > begun + cut_at;
        for crash in [Crash::Power, Crash::Torn(cut_at)] {
            let keeper = open(&disk.crash(crash));
            let when = format!("cut at {cut_at}, {crash:?}");
            assert_eq!(keeper.damage(), [], "{when}");
            assert_eq!(asked(&keeper, &[], i64::MIN, i64::MAX), before, "{when}");
            keeper.set_retention(keeping(0));
            while block_on(keeper.downsample_once()) {}
            check(&[&keeper], &all, COARSE, SLOT_MS, &when);
        }
        if !was_cut {
            assert!(cut_at > 20, "there are many operations ({cut_at})");
            break;
        }
    }
}

#[test]
fn aggregates_of_times_to_which_samples_come_late_are_made_again() {
    let (house, all) = (House::new(), samples(23, 40));
    let keeper = &house.keeper;
    fill(keeper, &all);
    keeper.set_retention(keeping(0));
    work(keeper);
    let made = resolutions(keeper);
    block_on(keeper.forget_aggregates(&[(100 * COARSE, 101 * COARSE)])).expect("the disk");
    assert_eq!(resolutions(keeper), made, "nothing came to those times");
    block_on(keeper.forget_aggregates(&[(5 * COARSE, 5 * COARSE)])).expect("the disk");
    assert!(resolutions(keeper).values().sum::<usize>() < made.values().sum());
    work(keeper);
    check(&[keeper], &all, COARSE, 24 * COARSE, "made again");
}
