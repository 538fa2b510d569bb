//! Pages in, rows out: what a shard shows after each scrape.

use std::cell::{Cell, RefCell};

use super::*;
use crate::scrape::reading::HistogramWishes;
use crate::scrape::target::tests::{config, target};
use crate::shard::Shard;
use crate::shard::budget::Budget;
use crate::shard::commons::FUTURE_MS_MAX;
use crate::shard::record::SourceId;
use crate::shard::select::Batch;
use model::{Matcher, NameScheme, is_stale};

struct Shards {
    shards: RefCell<Vec<Shard>>,
    next_source: Cell<u64>,
    generation: Cell<u64>,
    refuses: Cell<bool>,
    bounds: Cell<Option<Bounds>>,
    room: Cell<Room>,
}

impl Shards {
    fn new() -> Self {
        Shards {
            shards: RefCell::new((0..3).map(|_| Shard::default()).collect()),
            next_source: Cell::new(1),
            generation: Cell::new(0),
            refuses: Cell::new(false),
            bounds: Cell::new(None),
            room: Cell::new(Room::ENDLESS),
        }
    }
}

impl Sink for Shards {
    fn shard_count(&self) -> u16 {
        3
    }

    fn new_source(&self) -> SourceId {
        self.next_source.set(self.next_source.get() + 1);
        SourceId(self.next_source.get())
    }

    fn generation(&self) -> u64 {
        self.generation.get()
    }

    fn bounds(&self, now: Timestamp) -> Bounds {
        self.bounds.get().unwrap_or(Bounds::new(Timestamp::MIN, 0, now))
    }

    fn room(&self) -> Room {
        self.room.get()
    }

    fn note_refusal(&self, _: Refusal, _: Timestamp) {}

    fn has_backlog(&self) -> bool {
        false
    }

    fn deliver(&self, _: u64, shard: ShardId, batch: &[u8]) -> bool {
        !self.refuses.get() && self.shards.borrow_mut()[usize::from(shard.0)].apply(batch).is_ok()
    }
}

struct World {
    sink: Shards,
    scratch: Scratch,
    intake: Intake,
    now: Timestamp,
}

impl World {
    fn new(config: ScrapeConfig) -> Self {
        Self::with(config, Features::default(), HistogramWishes::default())
    }

    fn with(config: ScrapeConfig, features: Features, histograms: HistogramWishes) -> Self {
        let sink = Shards::new();
        let target = Target { histograms, ..target(&config, &[("__address__", "i")]) };
        let intake = Intake::new(Arc::new(config), Arc::new(target), features, &sink);
        World { scratch: Scratch::new(3), intake, sink, now: 0 }
    }

    /// A scrape ten seconds after the last; `None` is one that failed. Says what it came to.
    fn scrape(&mut self, page: Option<&str>) -> String {
        self.scrape_as(Form::Text, page)
    }

    /// An empty page has no form.
    fn scrape_as<P: AsRef<[u8]> + ?Sized>(&mut self, form: Form, page: Option<&P>) -> String {
        let page = page.map(AsRef::as_ref);
        self.now += 10;
        let form = page.filter(|p| !p.is_empty()).map(|_| form);
        assert!(self.intake.begin(&self.sink, self.now, form));
        let mut counts = Counts::default();
        let result = match page {
            None => Err(Error::Fetch("refused".to_owned())),
            Some(page) => {
                let mut page = page.to_vec();
                self.intake.accept(&mut self.scratch, &mut page, self.now, &mut counts)
            }
        };
        if result.is_err() {
            self.intake.mark_stale(&mut self.scratch, self.now);
        }
        let report = Report {
            is_up: result.is_ok(),
            scraped: counts.scraped,
            kept: counts.kept,
            added: counts.added,
            ..Report::default()
        };
        self.intake.commit(&mut self.scratch, &self.sink, self.now, &report);
        let counts = format!("{}/{}/{}", counts.scraped, counts.kept, counts.added);
        match result {
            Ok(()) => counts,
            Err(e) => format!("{counts} {e}"),
        }
    }

    /// The same, read in pieces of `size`.
    fn scrape_in_turns<P: AsRef<[u8]> + ?Sized>(
        &mut self,
        form: Form,
        page: Option<&P>,
        size: usize,
    ) -> String {
        let page = page.map(AsRef::as_ref);
        self.now += 10;
        let form = page.filter(|p| !p.is_empty()).map(|_| form);
        assert!(self.intake.begin(&self.sink, self.now, form));
        let mut giant = self.intake.begin_giant(&self.sink);
        let mut result = page.map(drop).ok_or(Error::Fetch("refused".to_owned()));
        let (mut piece, mut pieces) = (Vec::new(), page.unwrap_or_default().chunks(size).peekable());
        while result.is_ok() {
            piece.extend_from_slice(pieces.next().unwrap_or_default());
            let is_last = pieces.peek().is_none();
            let read = self.intake.read_turn(&mut giant, &mut self.scratch, &self.sink, &piece, is_last);
            match read {
                Ok(progress) => drop(piece.drain(..progress.used)),
                Err(e) => result = Err(e),
            }
            if is_last {
                break;
            }
        }
        result = result.and_then(|()| self.intake.begin_row(&mut giant, self.now));
        if result.is_ok() {
            while self.intake.write_turn(&mut giant, self.now) {}
        } else {
            self.intake.refuse_page(&mut giant, self.now);
            while self.intake.end_turn(&mut giant, self.now) {}
        }
        let counts = giant.counts();
        let (scraped, kept, added) = (counts.scraped, counts.kept, counts.added);
        let report = Report { is_up: result.is_ok(), scraped, kept, added, ..Report::default() };
        self.intake.seal_giant(&mut giant, &self.sink, self.now, &report);
        for (shard, batch) in giant.batches() {
            self.intake.deliver(&self.sink, shard, batch);
        }
        let counts = format!("{scraped}/{kept}/{added}");
        match result {
            Ok(()) => counts,
            Err(e) => format!("{counts} {e}"),
        }
    }

    /// `10=1 20=stale`: the samples of a metric.
    fn samples(&self, name: &str) -> String {
        let mut out = Vec::new();
        for s in self.sink.shards.borrow().iter() {
            let mut selection = s.select(&[Matcher::equal("__name__", name)], 0, i64::MAX);
            let mut batch = Batch::default();
            while s.next_batch(&mut selection, &mut batch) {
                for b in &batch.series {
                    for (t, v) in batch.times_of(b).iter().zip(batch.values_of(b)) {
                        out.push(if is_stale(*v) { format!("{t}=stale") } else { format!("{t}={v}") });
                    }
                    for p in batch.histograms_of(b) {
                        let h = &p.histogram;
                        let what = if is_stale(h.sum) { "stale".to_owned() } else { format!("{h:?}") };
                        out.push(format!("{}={what}", p.time).replace(' ', ""));
                    }
                }
            }
        }
        out.join(" ")
    }
}

#[test]
fn values_repeat_until_they_change_or_vanish() {
    let mut w = World::new(config());
    assert_eq!(w.scrape(Some("a 1\nb 2\n")), "2/2/2");
    assert_eq!(w.scrape(Some("a 1\nb 3\n")), "2/2/0");
    assert_eq!(w.scrape(Some("a 1\n")), "1/1/0");
    assert_eq!(w.scrape(Some("a 1\nb 4\n")), "2/2/1");
    assert_eq!(w.samples("a"), "10=1 20=1 30=1 40=1");
    assert_eq!(w.samples("b"), "10=2 20=3 30=stale 40=4");
    assert_eq!(w.samples("up"), "10=1 20=1 30=1 40=1");
    assert_eq!(w.samples("scrape_samples_scraped"), "10=2 20=2 30=1 40=2");
    assert_eq!(w.samples("scrape_series_added"), "10=2 20=0 30=0 40=1");
}

#[test]
fn a_failed_scrape_ends_all_and_the_next_good_one_begins_them() {
    let mut w = World::new(config());
    w.scrape(Some("a 1\nb 2\n"));
    assert_eq!(w.scrape(None), "0/0/0 refused");
    w.scrape(None);
    assert_eq!(w.scrape(Some("a 1\nb 2\n")), "2/2/0");
    assert_eq!(w.samples("a"), "10=1 20=stale 40=1");
    assert_eq!(w.samples("up"), "10=1 20=0 30=0 40=1");
    assert_eq!(
        w.scrape(Some("a 5\nb x\n")),
        "1/1/0 strconv.ParseFloat: parsing \"x\": invalid syntax while parsing: \"b x\""
    );
    w.scrape(Some("a 6\nb 2\n"));
    assert_eq!(w.samples("a"), "10=1 20=stale 40=1 50=stale 60=6");
    assert_eq!(w.samples("b"), "10=2 20=stale 40=2 50=stale 60=2");
}

#[test]
fn an_empty_page_is_a_good_one() {
    let mut w = World::new(config());
    w.scrape(Some("a 1\n"));
    assert_eq!(w.scrape(Some("")), "0/0/0");
    assert_eq!(w.samples("a"), "10=1 20=stale");
    assert_eq!(w.samples("up"), "10=1 20=1");
}

#[test]
fn limits_fail_the_scrape_whole_until_they_are_kept() {
    let mut c = config();
    c.limits.samples = 2;
    let mut w = World::new(c);
    assert_eq!(w.scrape(Some("a 1\n")), "1/1/1");
    assert_eq!(w.scrape(Some("a 1\nb 1\nc 1\n")), "3/3/2 sample limit exceeded");
    assert_eq!(w.scrape(Some("a 1\nb 1\nc 1\n")), "3/3/2 sample limit exceeded");
    assert_eq!(w.scrape(Some("a 1\nc 1\n")), "2/2/1");
    assert_eq!(w.samples("a"), "10=1 20=stale 40=1");
    assert_eq!((w.samples("b"), w.samples("c")), (String::new(), "40=1".to_owned()));
    let mut c = config();
    c.limits.labels = 3;
    let mut w = World::new(c);
    let text = "label_limit exceeded (metric: b, number of labels: 4, limit: 3)";
    assert!(w.scrape(Some("a 1\nb{x=\"1\"} 1\n")).ends_with(text));
    assert!(w.scrape(Some("a 1\nb{x=\"1\"} 2\n")).ends_with(text));
    assert_eq!(w.scrape(Some("a 1\nb 1\n")), "2/2/2");
    assert_eq!(w.samples("a"), "30=1");
}

#[test]
fn dropped_series_are_counted_but_not_kept() {
    let mut c = config();
    let drop = model::relabel::RuleText {
        source_labels: vec!["__name__".into()],
        regex: Some("go_.*".into()),
        action: model::relabel::Action::Drop,
        ..Default::default()
    };
    c.metric_relabel = [model::relabel::Rule::new(drop, NameScheme::Utf8).unwrap()].into();
    let mut w = World::new(c);
    assert_eq!(w.scrape(Some("a 1\ngo_x 1\ngo_y 1\n")), "3/1/1");
    assert_eq!(w.scrape(Some("a 2\ngo_x 2\n")), "2/1/0");
    assert_eq!(w.samples("go_x"), "");
    // Without the rule they are there again; what both name alike goes on without a gap.
    let mut c = config();
    c.extra_scrape_metrics = true;
    w.intake.reconfigure(Arc::new(c));
    assert_eq!(w.scrape(Some("a 2\ngo_x 2\n")), "2/2/1");
    assert_eq!((w.samples("a"), w.samples("go_x")), ("10=1 20=2 30=2".into(), "30=2".into()));
    assert_eq!(w.samples("scrape_sample_limit"), "30=0");
}

#[test]
fn timestamps_of_their_own_stay_outside_the_row() {
    let mut w = World::new(config());
    assert_eq!(w.scrape(Some("a 1 3\nb 1\n")), "2/2/2");
    w.scrape(Some("a 1 3\nb 1\n"));
    w.scrape(Some("a 2 25\nb 1 26\n"));
    w.scrape(Some("b 2\n"));
    assert_eq!(w.samples("a"), "3=1 25=2");
    assert_eq!(w.samples("b"), "10=1 20=1 26=1 30=stale 40=2");
    let far = format!("c 1 {}\n", 60 + FUTURE_MS_MAX);
    w.scrape(Some(&far));
    assert_eq!(w.samples("c"), "");
}

#[test]
fn timestamps_are_ignored_where_the_job_says_so() {
    let mut c = config();
    c.honor_timestamps = false;
    let mut w = World::new(c);
    w.scrape(Some("a 1 3\n"));
    w.scrape(Some("a 1 3\n"));
    w.scrape(Some("a 2 4\n"));
    w.scrape(Some(""));
    assert_eq!(w.samples("a"), "10=1 20=1 30=2 40=stale");
}

#[test]
fn timestamps_can_be_tracked_for_staleness() {
    let mut c = config();
    c.track_timestamps_staleness = true;
    let mut w = World::new(c);
    w.scrape(Some("a 1 3\n"));
    w.scrape(Some(""));
    assert_eq!(w.samples("a"), "3=1 20=stale");
}

#[test]
fn after_a_refusal_the_source_begins_anew() {
    let mut w = World::new(config());
    w.scrape(Some("a 1\nb 1\n"));
    w.sink.refuses.set(true);
    w.scrape(Some("a 2\nb 1\n"));
    w.sink.refuses.set(false);
    w.scrape(Some("a 2\nb 1\n"));
    assert_eq!((w.samples("a"), w.samples("b")), ("10=1 30=2".into(), "10=1 30=1".into()));
    w.sink.generation.set(7);
    w.scrape(Some("a 2\nb 9\n"));
    assert_eq!((w.samples("a"), w.samples("b")), ("10=1 30=2 40=2".into(), "10=1 30=1 40=9".into()));
}

#[test]
fn a_clock_that_went_back_writes_nothing() {
    let mut w = World::new(config());
    w.scrape(Some("a 1\n"));
    assert!(!w.intake.begin(&w.sink, 10, None));
    assert!(!w.intake.begin(&w.sink, 5, None));
    assert!(w.intake.begin(&w.sink, 11, None));
}

#[test]
fn a_target_that_is_gone_ends_with_its_report() {
    let mut w = World::new(config());
    w.scrape(Some("a 1\n"));
    w.intake.end(&mut w.scratch, &w.sink, 20);
    assert_eq!((w.samples("a"), w.samples("up")), ("10=1 20=stale".into(), "10=1 20=stale".into()));
    w.now = 20;
    w.scrape(Some("a 1\n"));
    assert_eq!((w.samples("a"), w.samples("up")), ("10=1 20=stale 30=1".into(), "10=1 20=stale 30=1".into()));
}

#[test]
fn keys_that_come_and_go_do_not_litter_for_ever() {
    let mut w = World::new(config());
    for i in 0..30 {
        let page: String = (0..500).map(|n| format!("m{{id=\"{}\"}} 1\n", i * 500 + n)).collect();
        assert_eq!(w.scrape(Some(&page)), "500/500/500");
    }
    assert!(w.intake.defined < 10_000, "{} slots", w.intake.defined);
    assert_eq!(w.samples("up").split(' ').count(), 30);
}

#[test]
fn timestamps_of_their_own_come_and_go_with_the_configuration() {
    let with = |honors: bool| {
        let mut c = config();
        c.honor_timestamps = honors;
        Arc::new(c)
    };
    let mut w = World::new(config());
    w.scrape(Some("a 1 3\nb 1\n"));
    w.intake.reconfigure(with(false));
    w.scrape(Some("a 1 3\nb 1\n"));
    assert_eq!((w.samples("a"), w.samples("b")), ("3=1 20=1".into(), "10=1 20=1".into()));
    w.intake.reconfigure(with(true));
    w.scrape(Some("a 1 25\nb 1\n"));
    w.scrape(Some("a 1 35\nb 1\n"));
    assert_eq!(w.samples("b"), "10=1 20=1 30=1 40=1");
    assert_eq!(w.samples("a"), "3=1 20=1 25=1 30=stale 35=1");
}

#[test]
fn late_samples_are_taken_within_the_window() {
    let hour = 3_600_000;
    let mut w = World::new(config());
    w.sink.bounds.set(Some(Bounds::new(10 * hour, 0, 10 * hour)));
    let time = |before: i64| 10 * hour - before;
    let page = |w: &mut World, before: i64| {
        w.scrape(Some(&format!("a {before} {}\nb 1\n", time(before))));
        w.samples("a").split(' ').filter(|s| !s.is_empty()).count()
    };
    assert_eq!(page(&mut w, 1000), 1);
    assert_eq!(page(&mut w, 2000), 1, "out of order");
    assert_eq!(page(&mut w, hour + 1), 1, "out of bounds");
    w.sink.bounds.set(Some(Bounds::new(10 * hour, 2 * hour, 10 * hour)));
    assert_eq!(page(&mut w, 2000), 2);
    assert_eq!(page(&mut w, 2000), 2, "the same again");
    assert_eq!(page(&mut w, 2 * hour), 3);
    let (first, last) = (time(2 * hour), time(1000));
    assert_eq!(w.samples("a"), format!("{first}=7200000 {}=2000 {last}=1000", time(2000)));
    assert_eq!(page(&mut w, 2 * hour + 1), 3, "too old");
    assert!(
        w.samples("b").ends_with("70=stale"),
        "a page with a sample that is too old fails: {}",
        w.samples("b")
    );
}

#[test]
fn another_form_begins_anew_and_an_empty_page_ends_all() {
    let mut w = World::new(config());
    assert_eq!(w.scrape(Some("a 1\nb 2\n")), "2/2/2");
    assert_eq!(w.scrape_as(Form::OpenMetrics, Some("a 3\nb 2\n# EOF\n")), "2/2/2");
    assert_eq!(w.scrape_as(Form::OpenMetrics, Some("a 3\n# EOF\n")), "1/1/0");
    assert_eq!(w.scrape_as(Form::OpenMetrics, Some("a 3\n")), "1/1/0 data does not end with # EOF");
    assert_eq!(w.scrape_as(Form::OpenMetrics, Some("a 3\n# EOF\n")), "1/1/0");
    assert_eq!(w.scrape(Some("")), "0/0/0");
    assert_eq!(w.samples("a"), "10=1 20=3 30=3 40=stale 50=3 60=stale");
    assert_eq!(w.samples("b"), "10=2 20=2 30=stale");
}

#[test]
fn counters_begin_with_a_zero_where_that_is_wanted() {
    let mut w = World::new(config());
    w.intake.features.created_zero = true;
    let page =
        |v: u32, created: &str| Some(format!("# TYPE a counter\na_total {v}\na_created {created}\n# EOF\n"));
    w.scrape_as(Form::OpenMetrics, page(5, "0.005").as_deref());
    w.scrape_as(Form::OpenMetrics, page(6, "0.005").as_deref());
    w.scrape_as(Form::OpenMetrics, page(1, "0.025").as_deref());
    w.scrape_as(Form::OpenMetrics, page(2, "0.001").as_deref());
    assert_eq!(w.samples("a_total"), "5=0 10=5 20=6 25=0 30=1 40=2");
    assert_eq!(w.samples("a_created"), "");
}

#[test]
fn new_series_without_room_are_refused_and_the_others_go_on() {
    let mut w = World::new(config());
    let budget = Budget::default();
    budget.set_max(800);
    let page = |n: usize| -> String {
        let many: String = (0..n).map(|i| format!("m{{id=\"{i}\"}} 1\n")).collect();
        format!("a 1\n{many}b 1\n")
    };
    w.scrape(Some(&page(10)));
    budget.note_series(0, 700);
    w.sink.room.set(budget.room());
    w.scrape(Some(&page(60).replace("b 1", "b 1\nc 1")));
    let text = w.intake.refusal().map(ToString::to_string);
    assert_eq!(
        text.as_deref(),
        Some("series limit of 800 exceeded: 50 new series refused, most of them of m")
    );
    w.sink.generation.set(1);
    w.scrape(Some(&page(60).replace("b 1", "b 1\nc 1")));
    assert_eq!(w.intake.refusal(), None, "nothing is new");
    assert_eq!((w.samples("a"), w.samples("c")), ("10=1 20=1 30=1".into(), "20=1 30=1".into()));
    assert_eq!(w.samples("m").split(' ').count(), 3 * 10, "those that were there go on");
    w.scrape(Some(&page(30)));
    assert_eq!((w.intake.refused, w.samples("m").split(' ').count()), (20, 4 * 10));
    w.sink.room.set(Room::ENDLESS);
    w.scrape(Some(&page(30)));
    assert_eq!((w.intake.refused, w.samples("m").split(' ').count()), (0, 4 * 10 + 30));
}

#[test]
fn a_page_read_in_turns_is_stored_whole_or_not_at_all() {
    let mut w = World::new(config());
    let mut scrape = |page: Option<&str>| w.scrape_in_turns(Form::Text, page, 5);
    assert_eq!(scrape(Some("a 1\nb 2\n")), "2/2/2");
    assert_eq!(scrape(Some("a 1\nb 3\nc 1\n")), "3/3/1");
    assert_eq!(
        scrape(Some("a 2\nd 1\nb x\nc 1\n")),
        "2/2/1 strconv.ParseFloat: parsing \"x\": invalid syntax while parsing: \"b x\""
    );
    assert_eq!(scrape(None), "0/0/0 refused");
    // What the refused page named is known.
    assert_eq!(scrape(Some("d 7\na 1\nb 3\nb 4\n")), "4/4/0");
    assert_eq!(w.samples("a"), "10=1 20=1 30=stale 50=1");
    assert_eq!(w.samples("b"), "10=2 20=3 30=stale 50=3");
    assert_eq!(w.samples("c"), "20=1 30=stale");
    assert_eq!(w.samples("d"), "50=7");
    assert_eq!(w.samples("up"), "10=1 20=1 30=0 40=0 50=1");
}

#[test]
fn a_page_read_in_turns_keeps_the_limits() {
    let mut c = config();
    c.limits.samples = 2;
    c.limits.label_value_bytes = 8;
    let mut w = World::new(c);
    assert_eq!(w.scrape_in_turns(Form::Text, Some("a 1\nb 2\nb 3\n"), 9), "3/3/2");
    assert_eq!(w.scrape_in_turns(Form::Text, Some("a 1\nb 2\nc 3\n"), 99), "3/3/0 sample limit exceeded");
    assert_eq!(w.samples("c"), "");
    let long = w.scrape_in_turns(Form::Text, Some("a 1\nb{x=\"too_long_\"} 2\n"), 99);
    assert!(long.starts_with("2/1/0 label_value_length_limit exceeded"), "{long}");
    let open = w.scrape_in_turns(Form::OpenMetrics, Some("a 1\n"), 2);
    assert_eq!(open, "1/1/1 data does not end with # EOF");
    assert_eq!(w.samples("a"), "10=1 20=stale");
}

#[test]
fn another_configuration_renames_what_is_read_in_turns() {
    let rule = model::relabel::Rule::new(
        model::relabel::RuleText {
            source_labels: vec!["__name__".into()],
            regex: Some("b".into()),
            replacement: "z".into(),
            target_label: "__name__".into(),
            ..Default::default()
        },
        NameScheme::Utf8,
    );
    let renaming = ScrapeConfig { metric_relabel: [rule.unwrap()].into(), ..config() };
    for has_failure in [false, true] {
        let mut w = World::new(config());
        w.scrape_in_turns(Form::Text, Some("a 1\nb 2\n"), 4);
        w.intake.reconfigure(Arc::new(renaming.clone()));
        if has_failure {
            w.scrape_in_turns(Form::Text, Some("a 1\nx"), 4);
        }
        w.scrape_in_turns(Form::Text, Some("a 1\nb 2\n"), 4);
        let want = if has_failure {
            ["10=1 20=stale 30=1", "10=2 20=stale", "30=2"]
        } else {
            ["10=1 20=1", "10=2 20=stale", "20=2"]
        };
        assert_eq!([w.samples("a"), w.samples("b"), w.samples("z")], want);
    }
}

mod turns {
    use super::*;
    use proptest::prelude::*;

    const LINES: &str = "((a|b|c)(\\{x=\"[12]\"\\})? ([12]|NaN)( 5| 1[0-9])?\n|d x\n){0,6}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Pages read in turns leave the samples that pages held leave, whatever came before.
        #[test]
        fn turns_and_held_pages_store_the_same(
            pages in proptest::collection::vec((proptest::option::weighted(0.9, LINES), 1usize..40, any::<bool>()), 1..7),
            honors in any::<bool>(),
            tracks in any::<bool>(),
        ) {
            let config = ScrapeConfig { honor_timestamps: honors, track_timestamps_staleness: tracks, ..config() };
            let (mut held, mut turns) = (World::new(config.clone()), World::new(config));
            let mut is_giant = false;
            for (page, size, becomes_giant) in &pages {
                is_giant |= becomes_giant;
                let want = held.scrape(page.as_deref());
                let got = match is_giant {
                    true => turns.scrape_in_turns(Form::Text, page.as_deref(), *size),
                    false => turns.scrape(page.as_deref()),
                };
                let is_good = |text: &str| !text.contains(' ');
                prop_assert_eq!(is_good(&want), is_good(&got), "{} {}", want, got);
            }
            for name in ["a", "b", "c", "d", "up"] {
                // Series of one name come in no order.
                let sorted = |w: &World| {
                    let samples = w.samples(name);
                    let mut words: Vec<String> = samples.split(' ').map(str::to_owned).collect();
                    words.sort();
                    words
                };
                prop_assert_eq!(sorted(&held), sorted(&turns), "{} of {:?}", name, pages);
            }
        }
    }

    /// Families of `io.prometheus.client`, of series that are on a page once.
    mod families {
        fn varint(mut v: u64) -> Vec<u8> {
            let mut out = Vec::new();
            while v >= 0x80 {
                out.push(v as u8 | 0x80);
                v >>= 7;
            }
            out.push(v as u8);
            out
        }

        fn whole(field: u64, v: u64) -> Vec<u8> {
            [varint(field << 3), varint(v)].concat()
        }

        fn float(field: u64, v: f64) -> Vec<u8> {
            [varint(field << 3 | 1), v.to_le_bytes().to_vec()].concat()
        }

        fn sized(field: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
            let bytes = bytes.as_ref();
            [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
        }

        fn label(name: &str, value: &str) -> Vec<u8> {
            sized(1, [sized(1, name), sized(2, value)].concat())
        }

        fn exemplar(trace: u64, seconds: Option<u64>) -> Vec<u8> {
            let time = seconds.map(|s| sized(3, whole(1, s))).unwrap_or_default();
            sized(3, [label("trace", &trace.to_string()), float(2, 0.5), time].concat())
        }

        /// A metric: of its kind, a label, a value, and a time of its own.
        pub(super) type Metric = (u8, u8, u64, Option<u64>);

        /// A gauge, a counter, a classic histogram, and two families of histograms that are both classic and native.
        pub(super) fn page(metrics: &[Metric]) -> Vec<u8> {
            let mut out = Vec::new();
            for kind in 0..5 {
                let mut own: Vec<Metric> = metrics.iter().copied().filter(|m| m.0 == kind).collect();
                own.sort_unstable();
                own.dedup_by_key(|m| m.1);
                if own.is_empty() {
                    continue;
                }
                let number = [1, 0, 4, 4, 4][usize::from(kind)];
                let name = sized(1, ["g", "c", "h", "n", "i"][usize::from(kind)]);
                let metrics: Vec<u8> = own.into_iter().flat_map(|m| sized(4, metric(m))).collect();
                let body = [name, whole(3, number), metrics, sized(5, "seconds")].concat();
                out.extend_from_slice(&varint(body.len() as u64));
                out.extend_from_slice(&body);
            }
            out
        }

        fn metric((kind, x, value, time): Metric) -> Vec<u8> {
            let label = label("x", &x.to_string());
            let time = time.map(|t| whole(6, t)).unwrap_or_default();
            let begun = |field| sized(field, whole(1, value % 3));
            let classic = [
                whole(1, value + 1),
                float(2, 1.5),
                sized(3, [whole(1, value), float(2, 1.0), exemplar(value, Some(value))].concat()),
                sized(3, [whole(1, value + 1), float(2, 5.0), exemplar(value + 1, None)].concat()),
                begun(15),
            ]
            .concat();
            let span = sized(12, [whole(1, 0), whole(2, 1)].concat());
            let native = [whole(7, 1), span, sized(13, varint(2 * value))].concat();
            let value = match kind {
                0 => sized(2, float(1, value as f64)),
                1 => sized(3, [float(1, value as f64), begun(3)].concat()),
                2 => sized(7, classic),
                _ => sized(7, [classic, native].concat()),
            };
            [label, value, time].concat()
        }
    }

    type Scrapes = Vec<(Option<Vec<families::Metric>>, usize, bool)>;

    fn scrapes() -> impl Strategy<Value = Scrapes> {
        let time = prop_oneof![6 => Just(None), 1 => (5u64..40).prop_map(Some)];
        let metric = (0u8..5, 0u8..3, 1u64..4, time);
        let page = proptest::option::weighted(0.9, proptest::collection::vec(metric, 0..12));
        proptest::collection::vec((page, 1usize..200, any::<bool>()), 1..6)
    }

    fn all_samples(w: &World) -> Vec<String> {
        let names =
            ["g", "c", "h", "n", "up", "h_count", "h_sum", "h_bucket", "n_count", "n_sum", "n_bucket"];
        names
            .map(|name| {
                let samples = w.samples(name);
                let mut words: Vec<&str> = samples.split(' ').collect();
                words.sort_unstable();
                format!("{name}: {}", words.join(" "))
            })
            .to_vec()
    }

    const CLASSIC: &str = "# TYPE h histogram\n# UNIT h s\n((h_bucket\\{x=\"[12]\",le=\"(1|\\+Inf)\"\\}|h_sum\\{x=\"[12]\"\\}|h_count|g) [12]\n){0,8}(d x\n)?";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn families_in_turns_store_what_held_ones_do(
            pages in scrapes(),
            (native, convert_classic, always_classic) in any::<(bool, bool, bool)>(),
            (honors, tracks, exemplars, created_zero, type_and_unit) in any::<(bool, bool, bool, bool, bool)>(),
        ) {
            let config = ScrapeConfig { honor_timestamps: honors, track_timestamps_staleness: tracks, ..config() };
            let features = Features { exemplars, created_zero, type_and_unit, extra_metrics: false };
            let wishes = HistogramWishes { native, convert_classic, always_classic };
            let world = || World::with(config.clone(), features, wishes);
            let (mut held, mut turns) = (world(), world());
            let mut is_giant = false;
            for (metrics, size, becomes_giant) in &pages {
                is_giant |= becomes_giant;
                let page = metrics.as_ref().map(|m| families::page(m));
                let want = held.scrape_as(Form::Protobuf, page.as_ref());
                let got = match is_giant {
                    true => turns.scrape_in_turns(Form::Protobuf, page.as_ref(), *size),
                    false => turns.scrape_as(Form::Protobuf, page.as_ref()),
                };
                prop_assert_eq!(want, got);
            }
            prop_assert_eq!(all_samples(&held), all_samples(&turns));
        }

        #[test]
        fn converted_lines_in_turns_store_what_held_ones_do(
            pages in proptest::collection::vec((proptest::option::weighted(0.9, CLASSIC), 1usize..60, any::<bool>()), 1..6),
            (convert_classic, always_classic, type_and_unit) in any::<(bool, bool, bool)>(),
        ) {
            let features = Features { type_and_unit, ..Features::default() };
            let wishes = HistogramWishes { native: true, convert_classic, always_classic };
            let world = || World::with(config(), features, wishes);
            let (mut held, mut turns) = (world(), world());
            let mut is_giant = false;
            for (page, size, becomes_giant) in &pages {
                is_giant |= becomes_giant;
                let want = held.scrape(page.as_deref());
                let got = match is_giant {
                    true => turns.scrape_in_turns(Form::Text, page.as_deref(), *size),
                    false => turns.scrape(page.as_deref()),
                };
                let is_good = |text: &str| !text.contains(' ');
                prop_assert_eq!(is_good(&want), is_good(&got), "{} {}", want, got);
            }
            prop_assert_eq!(all_samples(&held), all_samples(&turns), "{:?}", pages);
        }
    }
}
