//! The series of a log, in memory: its samples as chunks, about as large as Prometheus's own head.

use hashbrown::HashMap;
use model::{Labels, Timestamp};

use crate::Error;
use crate::chunk::Chunk;
use crate::cut::{CutChunk, Cutter};
use crate::record::Record;
use crate::sample::{Sample, merge};
use crate::tombstones::Interval;

/// Chunks of the head never reach over a multiple of two hours.
const RANGE_MS: i64 = 2 * 60 * 60 * 1000;

pub struct HeadSeries {
    /// Its first number in the log.
    pub reference: u64,
    pub labels: Labels,
    chunks: Vec<CutChunk>,
    open: Cutter,
    deleted: Vec<Interval>,
}

/// What a log comes to.
#[derive(Default)]
pub struct Head {
    series: Vec<HeadSeries>,
    by_reference: HashMap<u64, u32>,
    by_labels: HashMap<Labels, u32>,
    min_valid: Timestamp,
    /// Samples of series that the log does not name.
    pub unknown_references: u64,
    /// Records of kinds that came later.
    pub unknown_records: u64,
}

impl Head {
    /// Samples before `min_valid` are in blocks and are left out.
    pub fn new(min_valid: Timestamp) -> Head {
        Head { min_valid, ..Head::default() }
    }

    /// In order of their references.
    pub fn series(&self) -> impl Iterator<Item = &HeadSeries> {
        let mut all: Vec<&HeadSeries> = self.series.iter().collect();
        all.sort_by_key(|s| s.reference);
        all.into_iter()
    }

    /// In the order in which the log named them.
    pub fn all(&self) -> &[HeadSeries] {
        &self.series
    }

    /// Samples held, whether deleted or not.
    pub fn sample_count(&self) -> u64 {
        let of_one = |s: &HeadSeries| {
            let in_chunks: u64 = s.chunks.iter().map(|c| u64::from(c.sample_count)).sum();
            in_chunks + s.open.open().len() as u64
        };
        self.series.iter().map(of_one).sum()
    }

    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Takes the records of checkpoint and log in their order, then those of the log of late samples.
    pub fn apply(&mut self, record: Record) -> Result<(), Error> {
        match record {
            Record::Series(all) => {
                all.into_iter().for_each(|(reference, labels)| self.define(reference, labels))
            }
            Record::Samples(all) => {
                for one in all {
                    self.append(one.series, one.sample)?;
                }
            }
            Record::Tombstones(all) => {
                for (reference, interval) in all {
                    if interval.max >= self.min_valid
                        && let Some(series) = self.by_reference.get(&reference)
                    {
                        self.series[*series as usize].deleted.push(interval);
                    }
                }
            }
            // Exemplars and metadata are no samples; what the markers stand for is in the log, too.
            Record::Exemplars(_) | Record::Metadata(_) | Record::MmapMarkers(_) => {}
            Record::Unknown(_) => self.unknown_records += 1,
        }
        Ok(())
    }

    /// From here on samples come from the log of late ones: how old they are is no matter.
    pub fn begin_late(&mut self) {
        self.min_valid = Timestamp::MIN;
    }

    fn define(&mut self, reference: u64, labels: Labels) {
        let next = self.series.len() as u32;
        let at = *self.by_labels.entry(labels.clone()).or_insert(next);
        if at == next {
            let open = Cutter::new(RANGE_MS);
            self.series.push(HeadSeries { reference, labels, chunks: Vec::new(), open, deleted: Vec::new() });
        }
        self.by_reference.insert(reference, at);
    }

    fn append(&mut self, reference: u64, sample: Sample) -> Result<(), Error> {
        let Some(series) = self.by_reference.get(&reference) else {
            self.unknown_references += 1;
            return Ok(());
        };
        if sample.time >= self.min_valid {
            let series = &mut self.series[*series as usize];
            series.chunks.extend(series.open.push(sample)?);
        }
        Ok(())
    }

    /// Takes a chunk of the head's files.
    pub fn take_chunk(&mut self, reference: u64, chunk: CutChunk) {
        match self.by_reference.get(&reference) {
            Some(series) if chunk.max_time >= self.min_valid => {
                self.series[*series as usize].chunks.push(chunk);
            }
            Some(_) => {}
            None => self.unknown_references += 1,
        }
    }

    /// Samples between two times (inclusive) of a series, in order, without what was deleted.
    pub fn samples(
        &self,
        series: &HeadSeries,
        mint: Timestamp,
        maxt: Timestamp,
        out: &mut Vec<Sample>,
    ) -> Result<(), Error> {
        out.clear();
        for c in series.chunks.iter().filter(|c| c.min_time <= maxt && c.max_time >= mint) {
            Chunk { encoding: c.encoding, data: &c.data, at: 0 }.decode(out)?;
        }
        out.extend_from_slice(series.open.open());
        out.retain(|s| (mint..=maxt).contains(&s.time) && !series.deleted.iter().any(|d| d.contains(s.time)));
        merge(out);
        Ok(())
    }
}

impl HeadSeries {
    /// The first and the last time of its samples, as far as its chunks say.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let open = self.open.open();
        let open = open.first().zip(open.last()).map(|(a, b)| (a.time, b.time));
        let chunks = self.chunks.iter().map(|c| (c.min_time, c.max_time));
        chunks.chain(open).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SeriesSample;

    fn times(head: &Head, name: &str) -> Vec<Timestamp> {
        let mut out = Vec::new();
        let series = head.series().find(|s| s.labels.metric_name() == Some(name)).unwrap();
        head.samples(series, i64::MIN, i64::MAX, &mut out).unwrap();
        out.iter().map(|s| s.time).collect()
    }

    fn samples(series: u64, times: &[Timestamp]) -> Record {
        let sample = |t: &i64| SeriesSample { series, sample: Sample::float(*t, *t as f64) };
        Record::Samples(times.iter().map(sample).collect())
    }

    #[test]
    fn a_series_that_came_back_under_another_number_is_one_series() {
        let mut head = Head::new(100);
        let labels = Labels::from_pairs([("__name__", "a")]);
        let all = [
            Record::Series(vec![(1, labels.clone())]),
            samples(1, &[50, 100, 200, 300, 400]),
            samples(2, &[450]),
            Record::Series(vec![(2, labels)]),
            samples(2, &[500, 600]),
            Record::Tombstones(vec![(1, Interval { min: 200, max: 300 })]),
            samples(2, &[250, 350, 600]),
            Record::Unknown(77),
        ];
        for record in all {
            head.apply(record).unwrap();
        }
        assert_eq!(times(&head, "a"), [100, 350, 400, 500, 600]);
        assert_eq!((head.unknown_references, head.unknown_records, head.series_count()), (1, 1, 1));
    }
}
