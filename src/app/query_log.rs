//! What a query cost, and the file that Prometheus writes a line about each query to (`global.query_log_file`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::civil::{format_rfc3339, format_rfc3339_ms};

use crate::api::backend::Origin;
use crate::api::json::Json;
use crate::query::Error;
use crate::query::account::Statistics;
use crate::query::engine::{Answer, When};
use crate::rt::Moment;

/// When a query was asked, got its turn, came so far and was answered.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub asked: Moment,
    pub admitted: Moment,
    pub prepared: Moment,
    /// When its value was found, if it was.
    pub evaluated: Option<Moment>,
    pub ended: Moment,
}

impl Times {
    /// A query that has only just been asked.
    pub fn at(asked: Moment) -> Times {
        Times { asked, admitted: asked, prepared: asked, evaluated: None, ended: asked }
    }
}

/// Prometheus's statistics, in its order.
pub fn stats_json(statistics: &Statistics, when: When, times: &Times) -> String {
    let seconds = |from: Moment, to: Moment| to.since(from).as_secs_f64();
    let evaluated = times.evaluated.unwrap_or(times.ended);
    let load = &statistics.load;
    let mut j = Json::new();
    j.object(|j| {
        j.key("timings");
        j.object(|j| {
            for (name, seconds) in [
                ("evalTotalTime", seconds(times.admitted, times.ended)),
                ("resultSortTime", seconds(evaluated, times.ended)),
                ("queryPreparationTime", seconds(times.admitted, times.prepared)),
                ("innerEvalTime", seconds(times.prepared, evaluated)),
                ("execQueueTime", seconds(times.asked, times.admitted)),
                ("execTotalTime", seconds(times.asked, times.ended)),
            ] {
                j.key(name);
                j.float(seconds);
            }
        });
        j.key("samples");
        j.object(|j| {
            push_steps(j, "totalQueryableSamplesPerStep", when, load.by_step.iter().map(|s| s.0));
            j.key("totalQueryableSamples");
            j.number(load.seen);
            push_steps(j, "samplesReadPerStep", when, load.by_step.iter().map(|s| s.1));
            j.key("samplesRead");
            j.number(load.read);
            j.key("peakSamples");
            j.number(statistics.samples_peak);
        });
    });
    String::from_utf8_lossy(&j.into_bytes()).into_owned()
}

/// A list of times and counts, where there is any.
fn push_steps(j: &mut Json, name: &str, when: When, counts: impl ExactSizeIterator<Item = u64>) {
    if counts.len() == 0 {
        return;
    }
    let (start, step) = match when {
        When::Instant(t) => (t, 0),
        When::Range { start, step, .. } => (start, step),
    };
    j.key(name);
    j.list(|j| {
        for (i, count) in counts.enumerate() {
            j.item();
            j.list(|j| {
                j.item();
                j.float((start + step * i as i64) as f64 / 1000.0);
                j.item();
                j.number(count);
            });
        }
    });
}

/// A query as its line shows it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub text: String,
    pub when: When,
    pub origin: Origin,
}

/// Where lines go, if anywhere.
#[derive(Debug, Default)]
pub struct QueryLog {
    file: Mutex<Option<File>>,
    has_failed: AtomicBool,
}

impl QueryLog {
    /// Opens the file that the configuration names; lines are added at its end.
    ///
    /// Errors: it cannot be opened, in words for who wrote the configuration.
    pub fn open(path: Option<&Path>) -> Result<Option<File>, String> {
        let Some(path) = path else { return Ok(None) };
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.map(Some).map_err(|e| format!("can't create json log file: {}: {e}", path.display()))
    }

    /// From now on lines go to this file. With every reload it is opened anew, so that it may be rotated.
    pub fn write_to(&self, file: Option<File>) {
        *self.file() = file;
        self.has_failed.store(false, Relaxed);
    }

    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the line of an ended query. What was never a query has none.
    pub fn note(&self, entry: &Entry, result: &Result<Answer, Error>, times: &Times, wall_ns: i64) {
        if matches!(result, Err(Error::Parse(_) | Error::Unfit(_))) {
            return;
        }
        let mut file = self.file();
        let Some(file) = file.as_mut() else { return };
        let written = file.write_all(&line(entry, result, times, wall_ns));
        if let Err(e) = written
            && !self.has_failed.swap(true, Relaxed)
        {
            tracing::warn!(err = %e, "The query log cannot be written");
        }
    }
}

fn line(entry: &Entry, result: &Result<Answer, Error>, times: &Times, wall_ns: i64) -> Vec<u8> {
    let (start, end, step_ms) = match entry.when {
        When::Instant(t) => (t, t, 0),
        When::Range { start, end, step } => (start, end, step),
    };
    let nanos = wall_ns.rem_euclid(1_000_000_000) as u32;
    let mut j = Json::new();
    j.object(|j| {
        j.text_member("time", &format_rfc3339(wall_ns.div_euclid(1_000_000_000), nanos));
        j.text_member("level", "INFO");
        j.text_member("msg", "promql query logged");
        j.key("params");
        j.object(|j| {
            j.text_member("end", &date(end));
            j.text_member("query", &entry.text);
            j.text_member("start", &date(start));
            // Whole seconds: so it is upstream.
            j.raw_member("step", &(step_ms / 1000).to_string());
        });
        if let Err(e) = result {
            j.text_member("error", &e.to_string());
        }
        let nothing = Statistics::default();
        let statistics = result.as_ref().map_or(&nothing, |a| &a.statistics);
        j.raw_member("stats", &stats_json(statistics, entry.when, times));
        j.key("httpRequest");
        j.object(|j| {
            j.text_member("clientIP", &entry.origin.client);
            j.text_member("method", &entry.origin.method);
            j.text_member("path", &entry.origin.path);
        });
    });
    let mut line = j.into_bytes();
    line.push(b'\n');
    line
}

/// With three decimals always.
fn date(ms: i64) -> String {
    let text = format_rfc3339_ms(ms);
    let seconds = text.split(['.', 'Z']).next().unwrap_or(&text);
    format!("{seconds}.{:03}Z", ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::account::Load;

    #[test]
    fn statistics_have_steps_where_they_were_counted() {
        let load = Load { seen: 5, read: 3, by_step: vec![(3, 3), (2, 0)] };
        let statistics = Statistics { load, samples_peak: 4 };
        let when = When::Range { start: 1500, end: 3000, step: 1500 };
        let json = stats_json(&statistics, when, &Times::at(Moment::default()));
        let samples = json.split_once("\"samples\":").unwrap().1;
        assert_eq!(
            samples,
            "{\"totalQueryableSamplesPerStep\":[[1.5,3],[3,2]],\"totalQueryableSamples\":5,\
             \"samplesReadPerStep\":[[1.5,3],[3,0]],\"samplesRead\":3,\"peakSamples\":4}}"
        );
    }

    #[test]
    fn a_line_has_the_members_that_prometheus_writes() {
        let at = |nanos| Moment::from_nanos(nanos);
        let (asked, admitted, prepared) = (at(0), at(500_000_000), at(750_000_000));
        let times = Times { asked, admitted, prepared, evaluated: None, ended: at(2_000_000_000) };
        let origin = Origin { client: "::1".into(), method: "GET".into(), path: "/api/v1/query".into() };
        let when = When::Range { start: 1000, end: 20_123, step: 1500 };
        let entry = Entry { text: "up{a=\"b\"}".into(), when, origin };
        let line = line(&entry, &Err(Error::TooManySamples), &times, 1_500_000_000);
        assert_eq!(
            String::from_utf8_lossy(&line),
            "{\"time\":\"1970-01-01T00:00:01.5Z\",\"level\":\"INFO\",\"msg\":\"promql query logged\",\
             \"params\":{\"end\":\"1970-01-01T00:00:20.123Z\",\"query\":\"up{a=\\\"b\\\"}\",\
             \"start\":\"1970-01-01T00:00:01.000Z\",\"step\":1},\
             \"error\":\"query processing would load too many samples into memory in query execution\",\
             \"stats\":{\"timings\":{\"evalTotalTime\":1.5,\"resultSortTime\":0,\
             \"queryPreparationTime\":0.25,\"innerEvalTime\":1.25,\"execQueueTime\":0.5,\"execTotalTime\":2},\
             \"samples\":{\"totalQueryableSamples\":0,\"samplesRead\":0,\"peakSamples\":0}},\
             \"httpRequest\":{\"clientIP\":\"::1\",\"method\":\"GET\",\"path\":\"/api/v1/query\"}}\n"
        );
    }
}
