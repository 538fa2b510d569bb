//! Requests through several shards' receivers, on disks of memory.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::block_on;
use model::{Matcher, ShardId, Timestamp};
use proptest::prelude::*;

use super::order::{Asked, Order, Peers};
use super::{Answer, Error, Protocol, Receiver, Settings};
use crate::rt::disk::{CrashDisk, Disk, Tail};
use crate::shard::commons::Commons;
use crate::shard::keeper::{Keeper, Place};
use crate::shard::record::SourceId;
use crate::shard::select::Batch;
use crate::shard::wal::pending::{Owner, Pending};

/// A label set, written down.
type Pairs<'a> = &'a [(&'a str, &'a str)];

const NOW: Timestamp = 1_700_000_000_000;

#[derive(Default)]
struct Others {
    receivers: RefCell<Vec<Rc<Receiver>>>,
    shard_count: u16,
}

impl Peers for Others {
    fn shard_count(&self) -> u16 {
        self.shard_count
    }

    fn ask(&self, shard: ShardId, order: Order) -> Asked {
        let receiver = self.receivers.borrow().get(usize::from(shard.0)).cloned();
        Box::pin(async move {
            match receiver {
                Some(r) => Ok(r.carry_out(order).await),
                None => Err(Error::Broken("no such shard".to_owned())),
            }
        })
    }
}

struct House {
    others: Rc<Others>,
    keepers: Vec<Rc<Keeper>>,
}

impl House {
    fn new(shard_count: u16) -> House {
        let commons: Arc<Commons> = Arc::default();
        let others = Rc::new(Others { shard_count, ..Others::default() });
        let mut keepers = Vec::new();
        for shard in 0..shard_count {
            let owner = Owner { directory_id: 1, shard, shard_count };
            let dir = PathBuf::from(format!("/data/shards/{shard}"));
            let place = Place { dir, tail_dir: PathBuf::from("/tail"), owner };
            let disk: Rc<dyn Disk> = Rc::new(CrashDisk::new());
            let tail = Tail::in_memory(Rc::new(RefCell::new(vec![0; Pending::tail_bytes(8 << 20)])));
            let keeper = block_on(Keeper::open_with(disk, &place, tail, commons.clone())).expect("a new log");
            let keeper = Rc::new(keeper);
            let settings =
                Settings { shard, seed: 5, source: SourceId(100 + u64::from(shard)), is_durable: false };
            let receiver = Receiver::new(settings, keeper.clone(), others.clone());
            others.receivers.borrow_mut().push(Rc::new(receiver));
            keepers.push(keeper);
        }
        House { others, keepers }
    }

    fn send(&self, shard: usize, protocol: Protocol, message: &[u8]) -> Answer {
        let body = snap::raw::Encoder::new().compress_vec(message).expect("it fits");
        let receiver = self.others.receivers.borrow()[shard].clone();
        block_on(receiver.take(protocol, &body, NOW))
    }

    fn check(&self, name: &str, expect: &[(Timestamp, f64)]) {
        let mut have = Vec::new();
        for keeper in &self.keepers {
            let shard = keeper.shard();
            let mut selection = shard.select(&[Matcher::equal("__name__", name)], i64::MIN, i64::MAX);
            let mut batch = Batch::default();
            while shard.next_batch(&mut selection, &mut batch) {
                for s in &batch.series {
                    let times = batch.times_of(s).iter().copied();
                    have.extend(times.zip(batch.values_of(s).iter().copied()));
                }
            }
        }
        assert_eq!(have, expect, "{name}");
    }

    fn series_count(&self) -> usize {
        self.keepers.iter().map(|k| k.shard().index().series_count()).sum()
    }
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn sized(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

type Series<'a> = (&'a [(&'a str, &'a str)], &'a [(Timestamp, f64)]);

fn push_samples(out: &mut Vec<u8>, samples: &[(Timestamp, f64)]) {
    for (t, v) in samples {
        let mut one = vec![0x09];
        one.extend_from_slice(&v.to_le_bytes());
        one.push(0x10);
        varint(&mut one, *t as u64);
        sized(out, 2, &one);
    }
}

fn v1(all: &[Series<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (labels, samples) in all {
        let mut series = Vec::new();
        for (n, v) in *labels {
            let mut label = Vec::new();
            sized(&mut label, 1, n.as_bytes());
            sized(&mut label, 2, v.as_bytes());
            sized(&mut series, 1, &label);
        }
        push_samples(&mut series, samples);
        sized(&mut body, 1, &series);
    }
    body
}

fn v2(all: &[Series<'_>]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut body = Vec::new();
    for (labels, samples) in all {
        let mut refs = Vec::new();
        for text in labels.iter().flat_map(|(n, v)| [*n, *v]) {
            let at = symbols.iter().position(|s| s == text).unwrap_or_else(|| {
                symbols.push(text.to_owned());
                symbols.len() - 1
            });
            varint(&mut refs, at as u64);
        }
        let mut series = Vec::new();
        sized(&mut series, 1, &refs);
        push_samples(&mut series, samples);
        sized(&mut body, 5, &series);
    }
    symbols.iter().for_each(|s| sized(&mut body, 4, s.as_bytes()));
    body
}

fn bad(text: &str) -> Answer {
    Answer { status: 400, text: text.to_owned(), ..Answer::default() }
}

fn written(answer: &Answer) -> (u16, u64) {
    (answer.status, answer.written.expect("2.0 tells what was written").samples)
}

#[test]
fn a_series_is_one_whoever_reads_it_and_however_it_is_written() {
    let house = House::new(3);
    let ok = Answer { status: 204, ..Answer::default() };
    for (i, t) in (0..6).zip((NOW..).step_by(1000)) {
        let sorted: &[(&str, &str)] = &[("__name__", "m"), ("a", "1")];
        let turned: &[(&str, &str)] = &[("a", "1"), ("__name__", "m")];
        let labels = if i % 2 == 0 { sorted } else { turned };
        let other: &[(&str, &str)] = &[("__name__", "n")];
        let body = [(labels, &[(t, i as f64)][..]), (other, &[(t, 1.0)][..])];
        match i {
            4 => assert_eq!(written(&house.send(i % 3, Protocol::V2, &v2(&body))), (204, 2)),
            _ => assert_eq!(house.send(i % 3, Protocol::V1, &v1(&body)), ok),
        }
    }
    let want: Vec<(Timestamp, f64)> = (0..6).map(|i| (NOW + i * 1000, i as f64)).collect();
    house.check("m", &want);
    assert_eq!(house.series_count(), 2);
}

#[test]
fn a_first_request_is_taken_whole_or_not_at_all() {
    let house = House::new(2);
    let (a, b): (Pairs<'_>, Pairs<'_>) = (&[("__name__", "a")], &[("__name__", "b")]);
    let send = |body: &[Series<'_>]| house.send(0, Protocol::V1, &v1(body));
    assert_eq!(send(&[(a, &[(NOW, 1.0)]), (b, &[(NOW, 1.0)])]).status, 204);
    assert_eq!(send(&[(b, &[(NOW + 5, 1.0)]), (a, &[(NOW - 1, 1.0)])]), bad("out of order sample"));
    assert_eq!(send(&[(b, &[(NOW + 5, 1.0)]), (a, &[(NOW - 3_700_000, 1.0)])]), bad("out of bounds"));
    let far = "out of bounds: timestamp is too far in the future";
    assert_eq!(send(&[(b, &[(NOW + 5, 1.0)]), (a, &[(NOW + 700_000, 1.0)])]), bad(far));
    let twice =
        format!("duplicate sample for timestamp {NOW}; overrides not allowed: existing 1, new value 2");
    assert_eq!(send(&[(b, &[(NOW + 5, 1.0)]), (a, &[(NOW, 2.0)])]), bad(&twice));
    house.check("b", &[(NOW, 1.0)]);
    assert_eq!(send(&[(b, &[(NOW + 5, 1.0)]), (a, &[(NOW, 1.0)])]).status, 204, "the same again is no fault");
    house.check("a", &[(NOW, 1.0)]);
    house.check("b", &[(NOW, 1.0), (NOW + 5, 1.0)]);
    let unnamed = send(&[(&[("job", "x")], &[(NOW, 1.0)]), (a, &[(NOW + 9, 9.0)])]);
    assert_eq!(unnamed.status, 204, "1.0 passes series without a name over");
    house.check("a", &[(NOW, 1.0), (NOW + 9, 9.0)]);
}

#[test]
fn a_second_request_is_taken_in_part_and_told_what_was_not() {
    let house = House::new(2);
    let (a, b): (Pairs<'_>, Pairs<'_>) = (&[("__name__", "a"), ("x", "1")], &[("__name__", "b")]);
    let send = |body: &[Series<'_>]| house.send(1, Protocol::V2, &v2(body));
    assert_eq!(written(&send(&[(a, &[(NOW, 1.0), (NOW + 1, 2.0)]), (b, &[(NOW, 1.0)])])), (204, 3));
    let answer = send(&[
        (a, &[(NOW - 5, 1.0), (NOW + 2, 3.0)]),
        (&[("job", "x")], &[(NOW, 1.0)]),
        (&[("__name__", "c"), ("b", "1"), ("b", "2")], &[(NOW, 1.0)]),
        (&[("__name__", "d")], &[]),
        (b, &[(NOW, 7.0)]),
    ]);
    assert_eq!(written(&answer), (400, 1));
    let expect = [
        r#"out of order sample for series {__name__="a", x="1"}"#.to_owned(),
        r#"invalid metric name or labels, got {job="x"}"#.to_owned(),
        r#"invalid labels for series, labels {__name__="c", b="1", b="2"}, duplicated label b"#.to_owned(),
        r#"TimeSeries must contain at least one sample or histogram for series {__name__="d"}"#.to_owned(),
        format!(
            "duplicate sample for timestamp {NOW}; overrides not allowed: existing 1, new value 7 for series {{__name__=\"b\"}}"
        ),
    ];
    assert_eq!(answer.text, expect.join("\n"));
    house.check("a", &[(NOW, 1.0), (NOW + 1, 2.0), (NOW + 2, 3.0)]);
    assert_eq!(house.series_count(), 2);
}

/// Exemplars of all series, `trace@time`.
fn exemplars_of(house: &House) -> Vec<String> {
    let any = vec![Matcher::new(model::MatchOp::Regex, "__name__", ".+").expect("a pattern")];
    let shards = house.keepers.iter().map(|k| k.shard());
    let mut found: Vec<String> = shards
        .flat_map(|s| s.select_exemplars(std::slice::from_ref(&any), i64::MIN, i64::MAX))
        .map(|(labels, x)| format!("{labels} {} {}@{}", x.labels, x.value, x.time - NOW))
        .collect();
    found.sort();
    found
}

/// Series `m`, its samples and its exemplars.
fn m_v1(samples: &[(Timestamp, f64)], exemplars: &[(&str, Timestamp, f64)]) -> Vec<u8> {
    let mut body = exposition::remote_write_build::RequestBuilder::default();
    body.begin([("__name__", "m")]);
    samples.iter().for_each(|(t, v)| body.sample(*t, *v));
    exemplars.iter().for_each(|(trace, t, v)| body.exemplar([("trace", *trace)], *t, *v));
    body.end();
    body.into_bytes()
}

fn m_v2(samples: &[(Timestamp, f64)], exemplars: &[(&str, Timestamp, f64)]) -> Vec<u8> {
    let (mut series, mut body) = (Vec::new(), Vec::new());
    sized(&mut series, 1, &[1, 2]);
    push_samples(&mut series, samples);
    for (i, (_, t, v)) in exemplars.iter().enumerate() {
        let mut one = Vec::new();
        sized(&mut one, 1, &[3, 4 + i as u8]);
        one.push(0x11);
        one.extend_from_slice(&v.to_le_bytes());
        one.push(0x18);
        varint(&mut one, *t as u64);
        sized(&mut series, 4, &one);
    }
    let symbols = ["", "__name__", "m", "trace"].into_iter().chain(exemplars.iter().map(|e| e.0));
    symbols.for_each(|s| sized(&mut body, 4, s.as_bytes()));
    sized(&mut body, 5, &series);
    body
}

#[test]
fn exemplars_are_kept_with_their_series_by_either_protocol() {
    let house = House::new(2);
    let first = m_v1(&[(NOW, 1.0)], &[("a", NOW - 3, 5.0), ("b", NOW, 6.0)]);
    assert_eq!(house.send(0, Protocol::V1, &first).status, 204);
    assert_eq!(house.send(1, Protocol::V1, &m_v1(&[], &[("c", NOW + 1, 7.0)])).status, 204, "no sample");
    let future = ("f", NOW + 700_000, 1.0);
    let late = m_v1(&[(NOW + 5, 1.0)], &[("x", NOW - 9, 1.0), ("c", NOW + 1, 7.0), future]);
    let answer = house.send(0, Protocol::V1, &late);
    assert_eq!((answer.status, answer.late_exemplars), (204, 1), "1.0 is not told of exemplars");
    let long = "y".repeat(130);
    let second = [("d", NOW + 2, 8.0), ("x", NOW, 9.0), (long.as_str(), NOW + 3, 9.0), ("d", NOW + 2, 8.0)];
    let answer = house.send(1, Protocol::V2, &m_v2(&[(NOW + 6, 1.0)], &second));
    assert_eq!((answer.status, answer.written.map(|w| w.exemplars)), (400, Some(2)));
    assert_eq!(answer.text, r#"out of order exemplar for series {__name__="m"}"#);
    let refused = m_v1(&[(NOW - 5, 1.0)], &[("e", NOW + 9, 1.0)]);
    assert_eq!(house.send(0, Protocol::V1, &refused).status, 400, "nothing of a refused request");
    let expect = [("a", 5, -3), ("b", 6, 0), ("c", 7, 1), ("d", 8, 2)];
    let expect: Vec<String> = expect
        .iter()
        .map(|(trace, v, at)| format!(r#"{{__name__="m"}} {{trace="{trace}"}} {v}@{at}"#))
        .collect();
    assert_eq!(exemplars_of(&house), expect);
}

#[test]
fn bodies_that_are_no_requests_are_refused() {
    let house = House::new(1);
    let receiver = house.others.receivers.borrow()[0].clone();
    let check = |protocol, body: &[u8], expect: &str| {
        assert_eq!(block_on(receiver.take(protocol, body, NOW)), bad(expect));
    };
    check(Protocol::V1, b"", "snappy: corrupt input");
    check(Protocol::V1, b"hello world", "snappy: corrupt input");
    // A block that says it unpacks to 1 GiB.
    let bomb = [0x80, 0x80, 0x80, 0x80, 0x04, 0, 0];
    check(Protocol::V1, &bomb, "decoded size exceeds the 33554432 bytes limit");
    // And one that says 16 MiB with seven bytes.
    check(Protocol::V1, &[0x80, 0x80, 0x80, 0x08, 0, 0, 0], "snappy: corrupt input");
    let long = "x".repeat(3 << 20);
    let huge = v1(&[(&[("__name__", "m"), ("a", &long)], &[(NOW, 1.0)])]);
    let answer = house.send(0, Protocol::V1, &huge);
    assert!(answer.status == 400 && answer.text.ends_with("larger than the log takes"), "{answer:?}");
    assert_eq!(house.send(0, Protocol::V1, &[0x0a, 9]), bad("unexpected EOF"));
    assert_eq!(house.send(0, Protocol::V2, &[0x2a, 9]), bad("unexpected EOF"));
    assert_eq!(house.series_count(), 0);
}

#[test]
fn a_histogram_is_kept_and_a_bad_one_refused() {
    let house = House::new(1);
    let mut h = vec![0x08, 3, 0x19];
    h.extend_from_slice(&5.0f64.to_le_bytes());
    h.extend_from_slice(&[0x5a, 4, 0x08, 0, 0x10, 2, 0x62, 2, 2, 2, 0x78]);
    varint(&mut h, NOW as u64);
    let request = |h: &[u8]| {
        let (mut label, mut series, mut body) = (Vec::new(), Vec::new(), Vec::new());
        sized(&mut label, 1, b"__name__");
        sized(&mut label, 2, b"h");
        sized(&mut series, 1, &label);
        sized(&mut series, 4, h);
        sized(&mut body, 1, &series);
        body
    };
    assert_eq!(house.send(0, Protocol::V1, &request(&h)).status, 204);
    assert_eq!(house.send(0, Protocol::V1, &request(&h)).status, 204, "the same again is no fault");
    h[1] = 1;
    assert_eq!(house.send(0, Protocol::V1, &request(&h)).status, 400);
    let shard = house.keepers[0].shard();
    let mut selection = shard.select(&[Matcher::equal("__name__", "h")], 0, i64::MAX);
    let mut batch = Batch::default();
    assert!(shard.next_batch(&mut selection, &mut batch));
    assert_eq!(batch.histograms.len(), 1);
    assert_eq!(batch.histograms[0].histogram.positive_buckets, [1.0, 2.0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_senders_leave_what_prometheus_would_keep(
        requests in proptest::collection::vec(
            (0usize..3, proptest::collection::btree_map(0u8..12, (0i64..40, 0u8..3), 1..8)), 1..40),
    ) {
        let house = House::new(3);
        let mut model: Vec<Vec<(Timestamp, f64)>> = vec![Vec::new(); 12];
        for (shard, samples) in requests {
            let names: Vec<(String, Timestamp, f64)> =
                samples.iter().map(|(s, (t, v))| (format!("s{s}"), NOW + t, f64::from(*v))).collect();
            let labels: Vec<[(&str, &str); 1]> = names.iter().map(|n| [("__name__", n.0.as_str())]).collect();
            let values: Vec<[(Timestamp, f64); 1]> = names.iter().map(|n| [(n.1, n.2)]).collect();
            let body: Vec<Series<'_>> =
                labels.iter().zip(&values).map(|(l, v)| (&l[..], &v[..])).collect();
            let answer = house.send(shard, Protocol::V2, &v2(&body));
            let mut refused = 0;
            for (s, (t, v)) in samples {
                let (kept, t, v) = (&mut model[usize::from(s)], NOW + t, f64::from(v));
                match kept.last() {
                    Some(l) if l.0 > t || (l.0 == t && l.1 != v) => refused += 1,
                    Some(l) if l.0 == t => {}
                    _ => kept.push((t, v)),
                }
            }
            prop_assert_eq!(answer.text.lines().count(), refused);
            prop_assert_eq!(written(&answer).1 as usize, body.len() - refused);
        }
        model.iter().enumerate().for_each(|(i, want)| house.check(&format!("s{i}"), want));
        let met = model.iter().filter(|m| !m.is_empty()).count();
        prop_assert_eq!(house.series_count(), met);
    }
}

#[test]
fn an_explosion_of_series_ends_at_the_limit_and_the_others_go_on() {
    let house = House::new(2);
    let budget = &house.keepers[0].commons().budget;
    budget.set_max(800);
    let up: Pairs<'_> = &[("__name__", "up")];
    assert_eq!(house.send(0, Protocol::V1, &v1(&[(up, &[(NOW, 1.0)])])).status, 204);
    let mut refused = 0;
    for turn in 0..40i64 {
        let ids: Vec<String> = (0..50).map(|i| format!("{}", turn * 50 + i)).collect();
        let labels: Vec<[(&str, &str); 2]> =
            ids.iter().map(|id| [("__name__", "boom"), ("id", id.as_str())]).collect();
        let time = NOW + 1 + turn;
        let samples = [(time, turn as f64)];
        let mut body: Vec<Series<'_>> = labels.iter().map(|l| (&l[..], &samples[..])).collect();
        body.push((up, &samples));
        let protocol = if turn % 2 == 0 { Protocol::V1 } else { Protocol::V2 };
        let message = if turn % 2 == 0 { v1(&body) } else { v2(&body) };
        let answer = house.send(turn as usize % 2, protocol, &message);
        refused += usize::from(answer.status == 400);
        if answer.status == 400 {
            assert!(answer.text.starts_with("series limit of 800 exceeded: "), "{}", answer.text);
            assert!(answer.text.contains("most of them of boom"), "{}", answer.text);
        }
    }
    assert!(refused > 20, "{refused} refusals");
    assert!((600..=800).contains(&house.series_count()), "{} series", house.series_count());
    let mut want = vec![(NOW, 1.0)];
    want.extend((0..40).map(|turn| (NOW + 1 + turn, turn as f64)));
    house.check("up", &want);
    let other: Pairs<'_> = &[("__name__", "quiet")];
    let status = house.send(1, Protocol::V1, &v1(&[(other, &[(NOW, 1.0)])])).status;
    assert_eq!(status, 204, "what does not explode finds room");
    assert!(budget.refused() > 1000 && budget.warning(NOW).is_some());
}
