//! Whether a system holds exactly what it was shown: raw samples read back and compared with the served pages.
//!
//! Each sample of some series of some targets must carry the value of the page that was served at its time, and
//! each page served must have left its sample.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::client::escape;
use crate::error::Error;
use crate::shape::{mix, sample_lines};
use crate::stored::{SECONDS_MAX, Stored};
use crate::system::System;
use crate::targets::{Served, Targets};

/// Targets and series of each that are read back: enough to meet every kind of line, few enough to take a second.
const TARGETS_CHECKED: usize = 12;
const LINES_CHECKED: usize = 12;
/// Scrapes looked at, from the end of the window backwards.
const SCRAPES_CHECKED: i64 = 20;
/// A sample's time is when its scrape began; a request arrives this much later at most in a working system.
const REQUEST_DELAY_US: i64 = 5_000_000;
/// VictoriaMetrics keeps decimals, which may differ from the double in the last digit.
const TOLERANCE: f64 = 1e-12;

#[derive(Default)]
struct Tally {
    compared: u64,
    /// Not the bits of the page, within [`TOLERANCE`].
    inexact: u64,
    wrong: u64,
    missing: u64,
    examples: Vec<String>,
}

impl Tally {
    fn note(&mut self, text: String) {
        if self.examples.len() < 5 {
            self.examples.push(text);
        }
    }
}

/// Reads samples back and compares them; `end_us` is a moment whose scrapes are visible by now.
pub fn check_raw(
    targets: &Targets,
    system: &System,
    end_us: i64,
    stored: Option<&Stored>,
) -> Result<Value, Error> {
    let count = targets.options.targets;
    let mut client = system.client();
    let mut tally = Tally::default();
    let lost = stored.map_or(0, |s| s.lost);
    for k in 0..TARGETS_CHECKED.min(count) {
        let target_idx = (mix(0, k as u64, 21) % count as u64) as usize;
        // With the system's own times each sample has one page; without them the nearest request is meant.
        let log = || targets.log().by_target[target_idx].iter().copied().collect();
        let mut served: Vec<Served> = stored.map_or_else(log, |s| s.by_target[target_idx].clone());
        served.retain(|s| !s.down);
        let interval_us = targets.options.interval.as_micros() as i64;
        let from_us = end_us - window_us(targets);
        let shown = Shown {
            pages: pages(targets, target_idx, &served, end_us),
            served,
            interval_us,
            from_us,
            end_us,
        };
        let Some(newest) = shown.served.iter().rev().find_map(|s| shown.pages.get(&s.version)) else {
            continue;
        };
        let mut sorted: Vec<Vec<u8>> = newest.keys().cloned().collect();
        sorted.sort();
        for l in 0..LINES_CHECKED {
            let key = &sorted[(mix(1, target_idx as u64, l as u64) % sorted.len() as u64) as usize];
            let selector = selector(&String::from_utf8_lossy(key), &targets.instance(target_idx));
            let seconds = window_us(targets) / 1_000_000;
            let path = format!(
                "/api/v1/query?query={}&time={:.3}",
                escape(&format!("{selector}[{seconds}s]")),
                end_us as f64 / 1e6
            );
            let data = client.data(&path)?;
            compare(&mut tally, &data, &selector, &shown, key);
        }
    }
    Ok(json!({
        "compared": tally.compared, "inexact": tally.inexact, "wrong": tally.wrong, "missing": tally.missing,
        "lost": lost, "examples": tally.examples,
    }))
}

/// Within what is known of the times at which a system itself says that it scraped.
fn window_us(targets: &Targets) -> i64 {
    let scrapes = targets.options.interval.as_micros() as i64 * SCRAPES_CHECKED;
    scrapes.clamp(1_000_000, (SECONDS_MAX - 60) * 1_000_000)
}

type Page = HashMap<Vec<u8>, f64>;

/// The pages a target served lately, by version, as values by key.
fn pages(targets: &Targets, target_idx: usize, served: &[Served], end_us: i64) -> HashMap<u64, Page> {
    let from = end_us - window_us(targets) - REQUEST_DELAY_US;
    let mut pages = HashMap::new();
    for s in served.iter().filter(|s| s.at_us >= from) {
        pages.entry(s.version).or_insert_with(|| parse(&targets.shape.page(target_idx, s.version)));
    }
    pages
}

fn parse(page: &[u8]) -> Page {
    let split = |line: &[u8]| -> Option<(Vec<u8>, f64)> {
        let at = line.iter().rposition(|&b| b == b' ')?;
        Some((line[..at].to_vec(), std::str::from_utf8(&line[at + 1..]).ok()?.parse().ok()?))
    };
    sample_lines(page).filter_map(split).collect()
}

/// The key of a page's line as a selector of that line's series of one target.
fn selector(key: &str, instance: &str) -> String {
    match key.strip_suffix('}') {
        Some(open) => format!("{},instance=\"{instance}\"}}", either_whole(open)),
        None => format!("{key}{{instance=\"{instance}\"}}"),
    }
}

/// Prometheus keeps a whole number in `le` or `quantile` as `1.0`, VictoriaMetrics as the page says it: either is
/// selected.
fn either_whole(open: &str) -> String {
    for name in ["le=\"", "quantile=\""] {
        let Some(at) = open.find(name).filter(|&at| open[..at].ends_with(['{', ','])) else { continue };
        let value = at + name.len();
        let Some(length) = open[value..].find('"') else { continue };
        let number = &open[value..value + length];
        if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
            let (before, after) = (&open[..value - 2], &open[value + length..]);
            return format!("{before}=~\"{number}|{number}[.]0{after}");
        }
    }
    open.to_owned()
}

/// What one target showed between two moments.
struct Shown {
    served: Vec<Served>,
    pages: HashMap<u64, Page>,
    interval_us: i64,
    from_us: i64,
    end_us: i64,
}

impl Shown {
    /// The page that a sample came from, and what it said. The request follows the sample's time, or precedes it by
    /// up to a tenth of the interval where a scraper writes the time that was due (VictoriaMetrics); of two
    /// candidates the one with the sample's value is meant, else the nearer.
    fn page_of(&self, at_us: i64, got: f64, key: &[u8]) -> Option<(usize, f64)> {
        let next = self.served.partition_point(|s| s.at_us < at_us);
        let early = self.interval_us / 10 + 50_000;
        let near = |i: usize| {
            let served = self.served.get(i)?;
            let late_us = served.at_us - at_us;
            let value = *self.pages.get(&served.version)?.get(key)?;
            (late_us >= -early && late_us < REQUEST_DELAY_US).then_some((late_us.abs(), i, value))
        };
        let mut candidates: Vec<_> =
            [next.checked_sub(1).and_then(near), near(next)].into_iter().flatten().collect();
        candidates.sort_by_key(|c| c.0);
        let meant = candidates.iter().find(|c| same(got, c.2)).or(candidates.first())?;
        Some((meant.1, meant.2))
    }
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * b.abs()
}

fn compare(tally: &mut Tally, data: &Value, selector: &str, shown: &Shown, key: &[u8]) {
    let Shown { served, pages, from_us, end_us, .. } = shown;
    let empty = Vec::new();
    let samples = data["result"][0]["values"].as_array().unwrap_or(&empty);
    let mut seen = vec![false; served.len()];
    for sample in samples {
        let at_us = (sample[0].as_f64().unwrap_or(0.0) * 1e6) as i64;
        let got: f64 = sample[1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN);
        let Some((i, expect)) = shown.page_of(at_us, got, key) else {
            tally.wrong += 1;
            tally.note(format!("{selector} at {at_us}: a sample that no page showed"));
            continue;
        };
        seen[i] = true;
        tally.compared += 1;
        if !same(got, expect) {
            tally.wrong += 1;
            tally.note(format!("{selector} at {at_us}: {got}, the page said {expect}"));
        } else if got.to_bits() != expect.to_bits() && !got.is_nan() {
            tally.inexact += 1;
        }
    }
    for (s, seen) in served.iter().zip(seen) {
        let has_key = pages.get(&s.version).is_some_and(|p| p.contains_key(key));
        // A second at the young end for what is on its way, half an interval at the old one for aligned times.
        let oldest = from_us + REQUEST_DELAY_US.min((end_us - from_us) / 8);
        let inside = s.at_us > oldest && s.at_us < end_us - 1_000_000;
        if has_key && inside && !seen {
            tally.missing += 1;
            tally.note(format!("{selector}: the page served at {} left no sample", s.at_us));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_selectors() {
        assert_eq!(selector("up", "a:1"), "up{instance=\"a:1\"}");
        assert_eq!(selector("x{b=\"c\"}", "a:1"), "x{b=\"c\",instance=\"a:1\"}");
        assert_eq!(selector("x{le=\"0.5\"}", "a:1"), "x{le=\"0.5\",instance=\"a:1\"}");
        assert_eq!(selector("x{role=\"5\"}", "a:1"), "x{role=\"5\",instance=\"a:1\"}");
        let whole = "x{b=\"c\",le=~\"5|5[.]0\",d=\"e\",instance=\"a:1\"}";
        assert_eq!(selector("x{b=\"c\",le=\"5\",d=\"e\"}", "a:1"), whole);
    }

    fn check(samples: Value, expect: (u64, u64, u64, u64)) {
        let served: Vec<Served> = (0..4)
            .map(|i| Served { at_us: 10_000_000 * (i + 1) + 2_000, version: i as u64, down: false })
            .collect();
        let pages = (0..4u64).map(|v| (v, Page::from([(b"x".to_vec(), v as f64 / 3.0)]))).collect();
        let shown = Shown { served, pages, interval_us: 10_000_000, from_us: 0, end_us: 60_000_000 };
        let mut tally = Tally::default();
        compare(&mut tally, &json!({"result": [{"values": samples}]}), "x", &shown, b"x");
        assert_eq!((tally.compared, tally.inexact, tally.wrong, tally.missing), expect, "{samples}");
    }

    #[test]
    fn samples_are_compared_with_the_pages_served() {
        check(
            json!([[10.0, "0"], [20.0, "0.3333333333333333"], [30.0, "0.6666666666666666"], [40.0, "1"]]),
            (4, 0, 0, 0),
        );
        check(json!([[10.0, "0"], [20.0, "0.33333333333333333"], [40.0, "1"]]), (3, 0, 0, 1));
        check(
            json!([[10.0, "0"], [20.0, "0.3333333333333"], [30.0, "0.66666666666667"], [40.0, "2"]]),
            (4, 2, 1, 0),
        );
        check(json!([[15.5, "0"]]), (1, 0, 1, 3));
        // Written at the time that was due, a second after the request.
        check(json!([[11.0, "0"], [21.0, "0.3333333333333333"]]), (2, 0, 0, 2));
        check(json!([[50.5, "0"]]), (0, 0, 1, 4));
        check(json!([]), (0, 0, 0, 4));
    }
}
