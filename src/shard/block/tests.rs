//! Blocks written and read back: every kind of sample, every matcher, and every flipped bit.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::block_on;
use model::histogram::{CounterResetHint, FloatHistogram, Span};
use model::{Labels, MatchOp, Matcher, STALE_NAN};

use crate::rt::disk::crash::Crash;
use crate::rt::disk::{CrashDisk, Disk};
use crate::rt::rng::Rng;
use crate::shard::block::Store;
use crate::shard::block::chunk::{self, Samples};
use crate::shard::block::class::Classes;
use crate::shard::block::part::{Chunk, Kind};
use crate::shard::block::set::{Range, SetWriter};
use crate::shard::select::HistogramPoint;
use crate::shard::wal::pending::Owner;

const DIR: &str = "/blocks";
const OWNER: Owner = Owner { directory_id: 9, shard: 0, shard_count: 1 };

fn histogram(n: u64, rng: &mut Rng) -> FloatHistogram {
    let wide = n.is_multiple_of(7);
    let length = if wide { 5 } else { 3 };
    FloatHistogram {
        counter_reset_hint: if n.is_multiple_of(5) {
            CounterResetHint::Gauge
        } else {
            CounterResetHint::Unknown
        },
        schema: 3,
        zero_threshold: 1e-9,
        zero_count: n as f64,
        count: (n * 10) as f64 + 0.5,
        sum: if n.is_multiple_of(11) { STALE_NAN } else { n as f64 / 3.0 },
        positive_spans: vec![Span { offset: -2, length }],
        positive_buckets: (0..length).map(|i| (i * n as u32) as f64 + rng.below(9) as f64).collect(),
        ..FloatHistogram::default()
    }
}

fn samples(i: u64, rng: &mut Rng) -> Samples {
    let mut s = Samples::default();
    let count = if i.is_multiple_of(13) { 1 } else { 5 + rng.below(300) };
    let times: Vec<i64> = (0..count as i64).map(|t| 1000 + t * 15 + i64::from(i.is_multiple_of(4))).collect();
    let values: Vec<f64> = match i % 5 {
        0 => times.iter().map(|_| i as f64).collect(),
        1 => times.iter().map(|t| (t / 7) as f64 / 8.0).collect(),
        2 => times.iter().map(|_| f64::from_bits(rng.next_u64() & !(1 << 62))).collect(),
        3 => times.iter().map(|t| if t % 4 == 0 { STALE_NAN } else { -0.0 }).collect(),
        _ => Vec::new(),
    };
    if !values.is_empty() {
        let starts: Vec<i64> =
            if i.is_multiple_of(6) { times.iter().map(|t| t - 100).collect() } else { Vec::new() };
        s.extend_floats(&times, &values, &starts);
    }
    if i % 5 >= 3 {
        for n in 0..20 + i % 30 {
            let (time, start) = (1007 + n as i64 * 15, if i.is_multiple_of(2) { 5 } else { 0 });
            let histogram = Arc::new(histogram(n, rng));
            s.histograms.push(HistogramPoint { time, start, histogram });
        }
    }
    s
}

fn labels(i: u64) -> Labels {
    let (name, i, third) = (format!("m{:03}", i / 10), i.to_string(), (i % 3).to_string());
    Labels::from_pairs([("__name__", name), ("i", i), ("third", third)])
}

/// A block of `count` series, and what it holds.
fn written(disk: &CrashDisk, count: u64) -> Vec<(Labels, Samples)> {
    let mut rng = Rng::seeded(4);
    let all: Vec<(Labels, Samples)> = (0..count).map(|i| (labels(i), samples(i, &mut rng))).collect();
    let disk: Rc<dyn Disk> = Rc::new(disk.clone());
    block_on(async {
        disk.create_dir(Path::new(DIR)).await.expect("a directory");
        let store = Store::open(disk.clone(), Path::new(DIR), OWNER, 0).await.expect("no blocks");
        let range = Range { mint: 0, maxt: 100_000, level: 1, is_partial: false };
        let mut w = SetWriter::begin(&disk, &store, range, Classes::default()).await.expect("a file");
        for (labels, samples) in &all {
            w.push(labels.series_hash(), labels.iter().map(|l| (l.name, l.value)), samples);
            w.flush().await.expect("room");
        }
        assert_eq!(w.publish().await.expect("room").len(), 1, "there are series");
        disk.sync_dir(Path::new("/")).await.expect("a directory");
    });
    all
}

fn opened(disk: &CrashDisk, cache_bytes: usize) -> Store {
    let disk: Rc<dyn Disk> = Rc::new(disk.clone());
    block_on(Store::open(disk, Path::new(DIR), OWNER, cache_bytes)).expect("the directory is there")
}

fn bits(s: &Samples) -> (Vec<i64>, Vec<u64>, Vec<i64>, Vec<String>) {
    let point = |h: &HistogramPoint| format!("{} {} {:?}", h.time, h.start, h.histogram);
    let starts = if s.starts.iter().all(|t| *t == 0) { Vec::new() } else { s.starts.clone() };
    let values = s.values.iter().map(|v| v.to_bits()).collect();
    (s.times.clone(), values, starts, s.histograms.iter().map(point).collect())
}

/// Series that matchers take, with their samples, as far as they are whole.
fn read(store: &Store, matchers: &[Matcher]) -> Vec<(Labels, Samples, bool)> {
    let mut out = Vec::new();
    block_on(async {
        for block in store.all() {
            for number in 0..block.directory.parts.len() {
                if !block.may_match(number, matchers) {
                    continue;
                }
                let Some(part) = store.part(&block, number).await else { continue };
                for series in part.matching(matchers) {
                    let chunks: Vec<Chunk> = part.chunks(series).to_vec();
                    let mut wanted = Vec::new();
                    for c in &chunks {
                        let places = [(c.kind.is_float(), c.times), (c.kind != Kind::Constant, c.data)];
                        wanted.extend(places.iter().filter(|p| p.0).map(|p| (block.clone(), p.1.piece)));
                    }
                    let bodies = store.bodies(wanted).await;
                    let (mut s, mut is_whole) = (Samples::default(), true);
                    for c in &chunks {
                        let of = |p: crate::shard::block::part::Place| {
                            bodies.get(&(block.number, p.piece.page)).and_then(|b| b.get(p.at as usize..))
                        };
                        let times = if c.kind.is_float() { of(c.times) } else { Some(&[][..]) };
                        let data = if c.kind == Kind::Constant { Some(&[][..]) } else { of(c.data) };
                        match (times, data) {
                            (Some(t), Some(d)) => chunk::decode(c, t, d, &mut s).expect("whole bytes"),
                            _ => is_whole = false,
                        }
                    }
                    out.push((Labels::from_sorted(part.labels(series)), s, is_whole));
                }
            }
        }
    });
    out
}

#[test]
fn what_was_written_is_read_to_the_bit() {
    let disk = CrashDisk::new();
    let all = written(&disk, 3000);
    for cache_bytes in [0, 1 << 14, 64 << 20] {
        let store = opened(&disk.crash(Crash::Power), cache_bytes);
        assert_eq!(store.damage(), []);
        assert!(store.all()[0].directory.parts.len() >= 3, "several parts");
        for _ in 0..2 {
            let have = read(&store, &[]);
            assert_eq!(have.len(), all.len());
            for ((l, s), (have_l, have_s, is_whole)) in all.iter().zip(&have) {
                assert!(*is_whole);
                assert_eq!((l, bits(s)), (have_l, bits(have_s)));
            }
        }
    }
}

#[test]
fn matchers_take_what_a_walk_takes() {
    use MatchOp::*;
    let disk = CrashDisk::new();
    let all = written(&disk, 3000);
    let store = opened(&disk, 64 << 20);
    for matchers in [
        vec![("__name__", Equal, "m017")],
        vec![("__name__", Equal, "nope")],
        vec![("__name__", Regex, "m01.*"), ("third", Equal, "1")],
        vec![("__name__", Regex, "m001|m299"), ("third", NotEqual, "1")],
        vec![("__name__", NotEqual, "m017"), ("i", Regex, "1.")],
        vec![("third", Equal, "")],
        vec![("absent", Equal, ""), ("i", NotRegex, ".*[1-9]")],
        vec![("absent", NotEqual, "")],
    ] {
        let matchers: Vec<Matcher> =
            matchers.into_iter().map(|(n, op, v)| Matcher::new(op, n, v).expect("a matcher")).collect();
        let accepts = |l: &Labels| matchers.iter().all(|m| m.matches(l.value_or_empty(&m.name)));
        let expect: Vec<&Labels> = all.iter().map(|a| &a.0).filter(|l| accepts(l)).collect();
        let have = read(&store, &matchers);
        assert_eq!(have.iter().map(|h| &h.0).collect::<Vec<_>>(), expect, "{matchers:?}");
    }
}

#[test]
fn any_flipped_bit_is_survived_reported_and_costs_only_its_own() {
    let disk = CrashDisk::new();
    let all = written(&disk, 300);
    let path = Path::new(DIR).join("00000001.block");
    let bytes = block_on(disk.read(&path)).expect("the block");
    let step = (bytes.len() / 80).max(1) | 1;
    let mut reported = 0;
    for at in (0..64).chain((64..bytes.len()).step_by(step)).chain(bytes.len() - 4096..bytes.len() - 4060) {
        let disk = disk.crash(Crash::Power);
        disk.corrupt(&path, at, 1 << (at % 8));
        let store = opened(&disk, 1 << 20);
        let have = read(&store, &[]);
        let known: std::collections::HashMap<&Labels, &Samples> = all.iter().map(|(l, s)| (l, s)).collect();
        for (l, s, is_whole) in &have {
            let expect = known.get(l).unwrap_or_else(|| panic!("byte {at}: {l} was never written"));
            assert!(!is_whole || bits(s) == bits(expect), "byte {at}: {l} has other samples");
        }
        let whole = have.iter().filter(|h| h.2).count();
        let damage = store.damage();
        if damage.is_empty() {
            assert_eq!(whole, all.len(), "byte {at}: padding");
        } else {
            reported += 1;
            assert_eq!(damage[0].path, path);
            assert!(
                damage[0].offset <= at as u64 && at as u64 <= damage[0].offset + (256 << 10),
                "byte {at}"
            );
            assert!(whole > 0 || have.is_empty(), "byte {at}: a whole index and nothing whole in it");
        }
    }
    assert!(reported > 100, "{reported} flips were seen");
}

#[test]
fn hostile_parts_and_directories_are_refused_without_a_panic() {
    use crate::shard::block::layout::Directory;
    use crate::shard::block::part::{Part, PartWriter};
    let mut w = PartWriter::default();
    for i in 0..50 {
        let l = labels(i);
        w.push(l.series_hash(), l.iter().map(|l| (l.name, l.value)), &[]);
    }
    let mut body = Vec::new();
    w.take(&mut body);
    assert_eq!(Part::decode(&body).expect("a whole part").series_count(), 50);
    let mut rng = Rng::seeded(8);
    for _ in 0..5000 {
        let mut bad = body.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bad.len() as u64) as usize;
            bad[at] = rng.next_u64() as u8;
        }
        if rng.chance(0.2) {
            bad.truncate(rng.below(bad.len() as u64) as usize);
        }
        if let Ok(part) = Part::decode(&bad) {
            let all = part.matching(&[Matcher::equal("third", "1")]);
            all.into_iter().for_each(|s| assert!(part.labels(s).count() < 100));
        }
        let _ = Directory::decode(&bad);
    }
}
