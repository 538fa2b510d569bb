//! When a system says it scraped each page: its own samples of the line that tells a page's version.
//!
//! In: a system, the log of what its targets served. Out: per target, the pages by the sample's own time. Invariant:
//! what is told here was both shown and stored; what was shown and not stored is counted. Never: judges a value.
//!
//! A sample's time is the system's to choose: when the scrape began, or when it was due. Truth is told at those times,
//! so that a busy machine, on which they lie far from the request's, makes no right answer wrong.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::error::Error;
use crate::shape::{PAGE_VERSION, Shape};
use crate::system::System;
use crate::targets::{Served, Targets};

/// Longest look back: what questions and the comparison of raw samples need, with room.
pub const SECONDS_MAX: i64 = 900;

pub struct Stored {
    /// Pages by time, with the times at which the target said it was down.
    pub by_target: Vec<Vec<Served>>,
    /// Pages that were shown in the middle of the time asked for, and left no sample.
    pub lost: u64,
}

/// Reads what is stored up to `end_us`; `None` for a shape whose pages do not tell their version.
pub fn read(targets: &Targets, system: &System, end_us: i64) -> Result<Option<Stored>, Error> {
    if matches!(&*targets.shape, Shape::Recording(_)) {
        return Ok(None);
    }
    let seconds = ((end_us - targets.epoch_us) / 1_000_000 + 1).clamp(1, SECONDS_MAX);
    let data = system.client().query(&format!("{PAGE_VERSION}[{seconds}s]"), end_us as f64 / 1e6)?;
    let log = targets.log();
    let served: Vec<Vec<Served>> = log.by_target.iter().map(|t| t.iter().copied().collect()).collect();
    drop(log);
    let names: HashMap<String, usize> = (0..served.len()).map(|i| (targets.instance(i), i)).collect();
    let interval_us = targets.options.interval.as_micros() as i64;
    Ok(Some(join(
        &data,
        &names,
        &served,
        end_us - seconds * 1_000_000 + interval_us,
        end_us - 2 * interval_us,
    )))
}

/// `from_us..to_us`: when a page that was shown must have been stored.
fn join(
    data: &Value,
    names: &HashMap<String, usize>,
    served: &[Vec<Served>],
    from_us: i64,
    to_us: i64,
) -> Stored {
    let downs = |t: &Vec<Served>| t.iter().filter(|s| s.down).copied().collect();
    let mut by_target: Vec<Vec<Served>> = served.iter().map(downs).collect();
    let mut versions: Vec<HashSet<u64>> = vec![HashSet::new(); served.len()];
    for series in data["result"].as_array().into_iter().flatten() {
        let Some(&i) = series["metric"]["instance"].as_str().and_then(|n| names.get(n)) else { continue };
        for sample in series["values"].as_array().into_iter().flatten() {
            let at_us = (sample[0].as_f64().unwrap_or(0.0) * 1e3).round() as i64 * 1000;
            let value = sample[1].as_str().and_then(|v| v.parse::<f64>().ok()).unwrap_or(-1.0);
            by_target[i].push(Served { at_us, version: value as u64, down: false });
            versions[i].insert(value as u64);
        }
    }
    for target in &mut by_target {
        target.sort_by_key(|s| s.at_us);
    }
    let inside = |s: &&Served| !s.down && s.at_us > from_us && s.at_us < to_us;
    let lost = served.iter().zip(&versions);
    let lost = lost.map(|(t, have)| t.iter().filter(inside).filter(|s| !have.contains(&s.version)).count());
    Stored { by_target, lost: lost.sum::<usize>() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pages_are_told_by_version_at_the_systems_own_times() {
        let served = |at: i64, version| Served { at_us: at * 1_000_000, version, down: false };
        let down = Served { down: true, ..served(13, 3) };
        let log = vec![vec![served(10, 0), served(11, 1), served(12, 2), down, served(14, 4)], vec![]];
        let data = json!({"result": [{"metric": {"instance": "a"}, "values": [[10.5, "0"], [12.25, "2"], [14.0, "4"]]}]});
        let names = HashMap::from([("a".to_string(), 0), ("b".to_string(), 1)]);
        let stored = join(&data, &names, &log, 0, 20_000_000);
        let got: Vec<(i64, u64, bool)> =
            stored.by_target[0].iter().map(|s| (s.at_us / 1000, s.version, s.down)).collect();
        assert_eq!(got, [(10_500, 0, false), (12_250, 2, false), (13_000, 3, true), (14_000, 4, false)]);
        assert_eq!(stored.lost, 1);
        assert_eq!(join(&data, &names, &log, 11_500_000, 20_000_000).lost, 0);
    }
}
