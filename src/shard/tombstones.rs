//! What was deleted: spans of time, and which series of a block they are of.

use std::rc::Rc;

use codec::Error as Malformed;
use codec::varint::{self, Reader};
use model::Timestamp;

/// Spans of time, both ends inclusive: ascending, and with something between each two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<(Timestamp, Timestamp)>);

impl Spans {
    pub fn one(mint: Timestamp, maxt: Timestamp) -> Spans {
        let mut spans = Spans::default();
        spans.add(mint, maxt);
        spans
    }

    /// Adds a span; those that it meets or touches become one with it.
    pub fn add(&mut self, mint: Timestamp, maxt: Timestamp) {
        if mint > maxt {
            return;
        }
        let from = self.0.partition_point(|s| s.1.saturating_add(1) < mint);
        let to = self.0.partition_point(|s| s.0 <= maxt.saturating_add(1)).max(from);
        let met = &self.0[from..to];
        let first = met.first().map_or(mint, |s| s.0.min(mint));
        let last = met.last().map_or(maxt, |s| s.1.max(maxt));
        self.0.splice(from..to, [(first, last)]);
    }

    pub fn contains(&self, time: Timestamp) -> bool {
        self.covers(time, time)
    }

    /// Whether everything between two times lies in one of them.
    pub fn covers(&self, mint: Timestamp, maxt: Timestamp) -> bool {
        let at = self.0.partition_point(|s| s.1 < mint);
        self.0.get(at).is_some_and(|s| s.0 <= mint && maxt <= s.1)
    }

    pub fn overlaps(&self, mint: Timestamp, maxt: Timestamp) -> bool {
        let at = self.0.partition_point(|s| s.1 < mint);
        self.0.get(at).is_some_and(|s| s.0 <= maxt)
    }

    /// Forgets what lies before a time.
    pub fn cut_before(&mut self, time: Timestamp) {
        self.0.retain(|s| s.1 >= time);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        self.0.iter().copied()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::write(self.0.len() as u64, out);
        for (mint, maxt) in &self.0 {
            varint::write_signed(*mint, out);
            varint::write(maxt.wrapping_sub(*mint) as u64, out);
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Spans, Malformed> {
        let mut spans = Spans::default();
        for _ in 0..r.varint()? {
            let mint = r.varint_signed()?;
            let maxt = mint.wrapping_add(r.varint()? as i64);
            if maxt < mint || spans.0.last().is_some_and(|s| s.1 >= mint) {
                return Err(Malformed::Corrupt("order of deleted times"));
            }
            spans.add(mint, maxt);
        }
        Ok(spans)
    }
}

/// Series that stand one after the other in a part of a block, with the same times deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    end: u32,
    spans: Rc<Spans>,
}

/// What was deleted of one part of a block: runs of series, ascending, none twice. Series come in order of their metric
/// names, so a metric that is deleted is one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartTombstones(Vec<Run>);

impl PartTombstones {
    /// The deleted times of a series.
    pub fn of(&self, series: u32) -> Option<&Rc<Spans>> {
        let at = self.0.partition_point(|r| r.end <= series);
        self.0.get(at).filter(|r| r.first <= series).map(|r| &r.spans)
    }

    /// Deletes a span of time of the series `first..end`.
    pub fn add(&mut self, first: u32, end: u32, mint: Timestamp, maxt: Timestamp) {
        let mut out: Vec<Run> = Vec::with_capacity(self.0.len() + 2);
        let mut at = first;
        let fresh = Rc::new(Spans::one(mint, maxt));
        for run in std::mem::take(&mut self.0) {
            if run.end <= first || end <= run.first {
                if at < end && end <= run.first {
                    push(&mut out, at, end, &fresh);
                    at = end;
                }
                push(&mut out, run.first, run.end, &run.spans);
                continue;
            }
            push(&mut out, run.first, first.max(run.first), &run.spans);
            push(&mut out, at, run.first, &fresh);
            let mut both = (*run.spans).clone();
            both.add(mint, maxt);
            push(&mut out, first.max(run.first), end.min(run.end), &Rc::new(both));
            push(&mut out, end.min(run.end), run.end, &run.spans);
            at = end.min(run.end);
        }
        push(&mut out, at, end, &fresh);
        self.0 = out;
    }

    /// Series that have anything deleted, and how many spans those are in all.
    pub fn counts(&self) -> (u64, u64) {
        let of = |r: &Run| (u64::from(r.end - r.first), u64::from(r.end - r.first) * r.spans.len() as u64);
        self.0.iter().map(of).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Adds what another one has.
    pub fn merge(&mut self, other: &PartTombstones) {
        for run in &other.0 {
            run.spans.iter().for_each(|(mint, maxt)| self.add(run.first, run.end, mint, maxt));
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::write(self.0.len() as u64, out);
        for run in &self.0 {
            varint::write(u64::from(run.first), out);
            varint::write(u64::from(run.end - run.first), out);
            run.spans.encode(out);
        }
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<PartTombstones, Malformed> {
        let mut runs: Vec<Run> = Vec::new();
        for _ in 0..r.varint()? {
            let (first, count) = (r.varint()?, r.varint()?);
            let number = |n: u64| u32::try_from(n).map_err(|_| Malformed::Corrupt("number of a series"));
            let (first, end) = (number(first)?, number(first.saturating_add(count))?);
            if first >= end || runs.last().is_some_and(|last| last.end > first) {
                return Err(Malformed::Corrupt("order of deleted series"));
            }
            runs.push(Run { first, end, spans: Rc::new(Spans::decode(r)?) });
        }
        Ok(PartTombstones(runs))
    }
}

/// Adds a run, to the one before where that goes on with the same times.
fn push(out: &mut Vec<Run>, first: u32, end: u32, spans: &Rc<Spans>) {
    if first >= end {
        return;
    }
    match out.last_mut() {
        Some(last) if last.end == first && last.spans == *spans => last.end = end,
        _ => out.push(Run { first, end, spans: spans.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn spans_are_the_set_of_their_times() {
        let mut rng = Rng::seeded(1);
        for _ in 0..300 {
            let (mut spans, mut oracle) = (Spans::default(), BTreeSet::new());
            for _ in 0..rng.below(8) {
                let mint = rng.below(40) as i64;
                let maxt = mint + rng.below(12) as i64 - 2;
                spans.add(mint, maxt);
                oracle.extend(mint..=maxt);
            }
            for mint in -1..60 {
                assert_eq!(spans.contains(mint), oracle.contains(&mint));
                for maxt in mint..60 {
                    assert_eq!(spans.covers(mint, maxt), (mint..=maxt).all(|t| oracle.contains(&t)));
                    assert_eq!(spans.overlaps(mint, maxt), (mint..=maxt).any(|t| oracle.contains(&t)));
                }
            }
            assert!(spans.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{spans:?}");
            let mut bytes = Vec::new();
            spans.encode(&mut bytes);
            assert_eq!(Spans::decode(&mut Reader::new(&bytes)), Ok(spans));
        }
        let mut all = Spans::one(i64::MIN, i64::MAX);
        all.add(3, 5);
        assert!(all.len() == 1 && all.covers(i64::MIN, i64::MAX));
    }

    #[test]
    fn each_series_of_a_part_has_what_was_deleted_of_it() {
        let mut rng = Rng::seeded(2);
        for _ in 0..300 {
            let mut part = PartTombstones::default();
            let mut oracle = vec![Spans::default(); 30];
            for _ in 0..rng.below(9) {
                let first = rng.below(25) as u32;
                let end = (first + 1 + rng.below(8) as u32).min(30);
                let mint = rng.below(20) as i64;
                part.add(first, end, mint, mint + 5);
                (first..end).for_each(|s| oracle[s as usize].add(mint, mint + 5));
            }
            let empty = Spans::default();
            for (series, want) in oracle.iter().enumerate() {
                assert_eq!(part.of(series as u32).map_or(&empty, |s| &**s), want);
            }
            let series = oracle.iter().filter(|s| !s.is_empty()).count() as u64;
            assert_eq!(part.counts(), (series, oracle.iter().map(|s| s.len() as u64).sum()));
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            assert_eq!(PartTombstones::decode(&mut Reader::new(&bytes)).as_ref(), Ok(&part));
            let mut merged = PartTombstones::default();
            merged.merge(&part);
            assert_eq!(merged, part);
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << rng.below(8);
                // Some changes make other tombstones; none may panic.
                let _ = PartTombstones::decode(&mut Reader::new(&bad));
            }
        }
    }
}
