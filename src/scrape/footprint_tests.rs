//! What recorded pages cost: in the log, sealed, in memory, on few shards and on many; and what churn leaves behind.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::path::PathBuf;

use super::*;
use crate::scrape::target::tests::{config, target};
use crate::shard::Shard;

/// A record's length and checksum in the log.
const RECORD_HEADER_BYTES: usize = 8;

struct Shards {
    shards: RefCell<Vec<Shard>>,
    next_source: Cell<u64>,
    log_bytes: Cell<usize>,
    samples: Cell<usize>,
}

impl Shards {
    fn new(count: usize) -> Shards {
        let shards = RefCell::new((0..count).map(|_| Shard::default()).collect());
        Shards { shards, next_source: Cell::new(0), log_bytes: Cell::new(0), samples: Cell::new(0) }
    }

    fn series_count(&self) -> usize {
        self.shards.borrow().iter().map(|s| s.index().series_count()).sum()
    }

    fn head_bytes(&self) -> usize {
        self.shards.borrow().iter().map(|s| s.head().heap_bytes()).sum()
    }

    fn sealed_bytes(&self) -> usize {
        self.shards.borrow().iter().map(|s| s.head().sealed_bytes()).sum()
    }

    fn groups(&self) -> usize {
        self.shards.borrow().iter().map(|s| s.head().group_count()).sum()
    }
}

impl Sink for Shards {
    fn shard_count(&self) -> u16 {
        self.shards.borrow().len() as u16
    }

    fn new_source(&self) -> SourceId {
        self.next_source.set(self.next_source.get() + 1);
        SourceId(self.next_source.get())
    }

    fn generation(&self) -> u64 {
        0
    }

    fn bounds(&self, now: Timestamp) -> Bounds {
        Bounds::new(Timestamp::MIN, 0, now)
    }

    fn room(&self) -> Room {
        Room::ENDLESS
    }

    fn note_refusal(&self, _: Refusal, _: Timestamp) {}

    fn has_backlog(&self) -> bool {
        false
    }

    fn deliver(&self, _: u64, shard: ShardId, batch: &[u8]) -> bool {
        self.log_bytes.set(self.log_bytes.get() + batch.len() + RECORD_HEADER_BYTES);
        let applied = self.shards.borrow_mut()[usize::from(shard.0)].apply(batch);
        self.samples.set(self.samples.get() + applied.as_ref().map_or(0, |a| a.sample_count));
        applied.is_ok()
    }
}

struct Fleet {
    sink: Shards,
    scratch: Scratch,
    intakes: Vec<Intake>,
}

impl Fleet {
    fn new(shards: usize, targets: usize) -> Fleet {
        let sink = Shards::new(shards);
        let config = Arc::new(config());
        let intakes = (0..targets)
            .map(|i| {
                let found = target(&config, &[("__address__", &format!("host-{i}:9100"))]);
                Intake::new(config.clone(), Arc::new(found), Features::default(), &sink)
            })
            .collect();
        Fleet { scratch: Scratch::new(shards as u16), intakes, sink }
    }

    fn scrape(&mut self, i: usize, page: &str, at: Timestamp) {
        let intake = &mut self.intakes[i];
        assert!(intake.begin(&self.sink, at, Some(Form::Text)));
        let (mut page, mut counts) = (page.as_bytes().to_vec(), Counts::default());
        intake.accept(&mut self.scratch, &mut page, at, &mut counts).expect("a good page");
        intake.commit(&mut self.scratch, &self.sink, at, &Report { is_up: true, ..Report::default() });
    }
}

/// Pages of a recording with their times.
fn recording(name: &str) -> Option<Vec<(Timestamp, String)>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("SYSTOLE_SHARED").map_or(beside, PathBuf::from);
    let Ok(file) = std::fs::File::open(shared.join(format!("data/recordings/{name}.rec.zst"))) else {
        println!("skipped: no recordings");
        return None;
    };
    let mut text = String::new();
    zstd::Decoder::new(file).expect("a decoder").read_to_string(&mut text).expect("a recording");
    let (mut pages, mut rest) = (Vec::new(), text.as_str());
    while let Some((head, behind)) = rest.split_once('\n') {
        let mut words = head.split(' ').skip(1).map(|w| w.parse::<i64>().expect("a number"));
        let (time, length) = (words.next().expect("a time"), words.next().expect("a length") as usize);
        pages.push((time, behind[..length].to_owned()));
        rest = &behind[length..];
    }
    Some(pages)
}

/// A table for the curious: what thinner rows cost.
#[test]
#[ignore = "a measurement: run it with --nocapture"]
fn the_same_pages_on_more_and_more_shards() {
    for name in ["node", "prometheus"] {
        let Some(pages) = recording(name) else { return };
        for shards in [1, 2, 16, 64] {
            let mut fleet = Fleet::new(shards, 4);
            let (first_time, first_page) = &pages[0];
            (0..4).for_each(|i| fleet.scrape(i, first_page, *first_time));
            let (first_log, first_samples) = (fleet.sink.log_bytes.get(), fleet.sink.samples.get());
            for (time, page) in &pages[1..] {
                (0..4).for_each(|i| fleet.scrape(i, page, *time));
            }
            let s = &fleet.sink;
            let log = (s.log_bytes.get() - first_log) as f64 / (s.samples.get() - first_samples) as f64;
            let in_windows = s.shards.borrow().iter().map(|x| x.head().sealed_samples()).sum::<usize>();
            println!(
                "{name}: {shards} shards, {} series, {} samples, {} groups: log {log:.3} B/sample, sealed {:.3} B/sample, head {:.0} B/series",
                s.series_count(),
                s.samples.get(),
                s.groups(),
                s.sealed_bytes() as f64 / in_windows as f64,
                s.head_bytes() as f64 / s.series_count() as f64,
            );
        }
    }
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// A page of `count` series that no page with another `name` has.
fn page_of(name: usize, count: usize, turn: usize) -> String {
    use std::fmt::Write;
    let mut page = String::new();
    for i in 0..count {
        writeln!(page, "m{{id=\"{name}-{i}\"}} {}", (turn * (i % 7) + i) % 1000).expect("memory");
    }
    page
}

/// All series of a page are replaced by others, again and again: bytes of the head that each dead one leaves.
fn churn(count: usize, rounds: usize, tell: impl Fn(usize, usize)) -> f64 {
    let (mut fleet, mut at) = (Fleet::new(2, 1), 0);
    let mut turns = |fleet: &mut Fleet, name: usize| {
        for turn in 0..20 {
            at += 15_000;
            fleet.scrape(0, &page_of(name, count, turn), at);
        }
        fleet.sink.head_bytes()
    };
    let alone = turns(&mut fleet, 0);
    let mut all = alone;
    for round in 1..=rounds {
        all = turns(&mut fleet, round);
        tell(round, all);
    }
    assert_eq!(fleet.sink.series_count(), count * (rounds + 1) + NAMES.len());
    (all as f64 - alone as f64) / (count * rounds) as f64
}

#[test]
fn series_that_ended_leave_little_in_the_head() {
    let left = churn(4000, 4, |_, _| {});
    // Twenty samples sealed, the slot's series and the place of the series.
    assert!(left < 80.0, "{left:.0} bytes of each dead series");
}

#[test]
#[ignore = "a measurement: run it with --nocapture"]
fn a_hundred_thousand_series_come_and_go() {
    let before = resident_bytes();
    let left = churn(100_000, 5, |round, head| {
        println!(
            "round {round}: head {} MiB, resident {} MiB",
            head >> 20,
            (resident_bytes() - before) >> 20
        );
    });
    println!("{left:.0} bytes of head for each dead series");
}
