//! The data that both servers hold: pages whose lines carry their own times, so that both store the same.

use std::collections::HashMap;
use std::fmt::Write;

use crate::differential::chance::Chance;
use crate::target::{Page, Target};

/// Scrapes that fill the data; each page is one moment of it.
pub(crate) const PAGES: usize = 64;

/// Between the moments of two pages.
pub(crate) const PAGE_MS: i64 = 15_000;

/// How long before the others the first page is: it only fixes the order in which series are created, so that
/// what depends on that order in the reference is the order of labels.
const FIRST_MS: i64 = 25 * 60_000;

/// A series: how its value goes on from page to page, and on which it is missing.
struct Series {
    name: &'static str,
    labels: String,
    value: f64,
    course: Course,
    missing: Missing,
    /// Its samples are this much later than the page's moment.
    late_ms: i64,
}

#[derive(Clone, Copy)]
enum Course {
    /// Rises by up to this, and begins anew now and then.
    Counter(f64),
    /// As a counter, with fractions that are no sums of powers of two.
    Fraction,
    Walk(f64),
    /// One of the values that arithmetic stumbles over.
    Odd,
    Whole(u64),
    Constant,
    /// As the sum of a bucket and all below it: the index of the bucket.
    Bucket(usize),
}

#[derive(Clone, Copy)]
enum Missing {
    Never,
    /// One page of so many.
    Sometimes(u64),
    Before(usize),
    After(usize),
    /// Gone between the two.
    Between(usize, usize),
}

impl Missing {
    fn is_missing(self, page: usize, chance: &mut Chance) -> bool {
        match self {
            Missing::Never => false,
            Missing::Sometimes(n) => chance.below(n) == 0,
            Missing::Before(p) => page < p,
            Missing::After(p) => page >= p,
            Missing::Between(from, to) => (from..to).contains(&page),
        }
    }
}

const ODD: [f64; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    // Not less: Go's logarithm is wrong where numbers lose bits towards zero.
    2.5e-308,
    1.7e308,
    -1e300,
    9_007_199_254_740_993.0,
    0.1,
];

impl Series {
    fn step(&mut self, chance: &mut Chance) {
        self.value = match self.course {
            Course::Counter(_) | Course::Bucket(_) if chance.below(23) == 0 => 0.0,
            Course::Counter(by) => self.value + (chance.unit() * by).floor(),
            Course::Bucket(i) => self.value + chance.below(4 + 3 * i as u64) as f64,
            Course::Fraction if chance.below(31) == 0 => 0.001,
            Course::Fraction => self.value + chance.unit(),
            Course::Walk(by) => self.value + (chance.unit() - 0.5) * by,
            Course::Odd => ODD[chance.below(ODD.len() as u64) as usize],
            Course::Whole(n) => chance.below(n) as f64,
            Course::Constant => self.value,
        };
    }
}

fn text(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        v => format!("{v:e}"),
    }
}

fn all_series(chance: &mut Chance) -> Vec<Series> {
    use Course::*;
    let mut all = Vec::new();
    let mut add = |name, labels: String, value, course, missing| {
        let late_ms = [0, 0, 7, 1_003][chance.below(4) as usize];
        all.push(Series { name, labels, value, course, missing, late_ms });
    };
    let missing = [Missing::Never, Missing::Sometimes(5), Missing::Before(20), Missing::Between(25, 50)];
    for (i, code) in ["200", "404", "500"].iter().enumerate() {
        for (k, method) in ["get", "post"].iter().enumerate() {
            let labels = |zone| format!("code=\"{code}\",method=\"{method}\",zone=\"{zone}\"");
            add("requests_total", labels("a"), 1e3, Counter(40.0), missing[i]);
            add("requests_total", labels("b"), 0.0, Counter(3.0), missing[(i + k) % 4]);
            add("errors_total", labels("a"), 5.0, Fraction, missing[(i + 2 * k) % 4]);
        }
    }
    for (i, room) in ["attic", "cellar", "hall", "kitchen"].iter().enumerate() {
        let labels = format!("floor=\"{}\",room=\"{room}\"", i % 2);
        add("temperature_celsius", labels.clone(), 20.0, Walk(3.0), missing[i]);
        add("odd", labels.clone(), 1.0, Odd, missing[3 - i]);
        add("queue_length", labels.clone(), 2.0, Whole(5), Missing::After(40 + 8 * i));
        add("is_on", labels, f64::from(i as u32 % 2), Constant, Missing::Never);
    }
    for zone in ["a", "b"] {
        for (i, le) in ["0.1", "0.5", "1", "2.5", "+Inf"].iter().enumerate() {
            let labels = format!("le=\"{le}\",zone=\"{zone}\"");
            add("latency_seconds_bucket", labels, 0.0, Bucket(i), Missing::Never);
        }
        add("latency_seconds_sum", format!("zone=\"{zone}\""), 0.0, Fraction, Missing::Never);
        add("latency_seconds_count", format!("zone=\"{zone}\""), 0.0, Bucket(4), Missing::Never);
        add("build_info", format!("version=\"1.{zone}\",zone=\"{zone}\""), 1.0, Constant, Missing::Never);
        for quantile in ["0.5", "0.9", "0.99"] {
            let labels = format!("quantile=\"{quantile}\",zone=\"{zone}\"");
            add("gc_seconds", labels, 0.01, Walk(0.005), Missing::Never);
        }
    }
    // Buckets as they should not be: no +Inf, and a bound that is none.
    for le in ["1", "2", "many"] {
        add("broken_bucket", format!("le=\"{le}\""), 4.0, Whole(9), Missing::Never);
    }
    add("target_info", "cluster=\"north\",version=\"7\"".to_owned(), 1.0, Constant, Missing::Between(30, 40));
    add("lonely", String::new(), 3.0, Walk(1.0), Missing::Sometimes(3));
    all.sort_by(|a, b| (a.name, &a.labels).cmp(&(b.name, &b.labels)));
    all
}

/// The first page holds every series; buckets do not always rise with their bound, as in life.
fn pages(seed: u64, first_ms: i64) -> Vec<String> {
    let mut chance = Chance::new(seed);
    let mut all = all_series(&mut chance);
    let mut pages = Vec::new();
    for page in 0..PAGES {
        let mut text_of_page = String::new();
        for s in &mut all {
            s.step(&mut chance);
            let moment = if page == 0 { first_ms - FIRST_MS } else { first_ms + page as i64 * PAGE_MS };
            if page == 0 || !s.missing.is_missing(page, &mut chance) {
                let time = moment + s.late_ms;
                let _ = writeln!(text_of_page, "{}{{{}}} {} {time}", s.name, s.labels, text(s.value));
            }
        }
        pages.push(text_of_page);
    }
    pages
}

/// A target that serves each page once to each path it is asked by, and nothing afterwards.
pub(crate) fn target(seed: u64, first_ms: i64) -> Target {
    let pages = pages(seed, first_ms);
    let mut served: HashMap<String, usize> = HashMap::new();
    Target::scripted(move |asked| {
        let next = served.entry(asked.path.clone()).or_default();
        let page = pages.get(*next).cloned().unwrap_or_default();
        *next += 1;
        Page::of(page)
    })
}
