//! Grids of very many steps, asked of the shards in slices: a shard is never long with one series.

use std::sync::Arc;

use compute::ABSENT;
use hashbrown::HashMap;
use model::Labels;

use crate::query::Error;
use crate::query::above::Evaluator;
use crate::query::exec::scan::Outcome;
use crate::query::frame::{Row, Steps};
use crate::query::plan::physical::{Chain, Column, Fold, Fragment, Map, Read};

/// Steps that a shard computes of one series without breathing: under a millisecond where each costs 50 ns. Answers
/// have 11 000 steps at most, so only subqueries are cut.
const SLICE_STEPS: usize = 16_384;

impl Evaluator<'_> {
    /// Runs a chain on all shards, slice by slice of its steps.
    pub(super) async fn fragment(
        &mut self,
        chain: Chain,
        fold: Option<Fold>,
        steps: Steps,
    ) -> Result<Outcome, Error> {
        let samples_max = self.account.room();
        let (meter, counts_steps) = (self.account.meter().clone(), self.counts_steps);
        let settings = self.settings;
        let whole = Fragment { steps, settings, chain, fold, samples_max, meter, counts_steps };
        if steps.count <= SLICE_STEPS {
            return self.whole_fragment(Arc::new(whole), 0).await;
        }
        let (mut joined, mut held, mut bytes) = (Joined::default(), 0, 0);
        for from in (0..steps.count).step_by(SLICE_STEPS) {
            let slice = slice(&whole, from, SLICE_STEPS.min(steps.count - from), samples_max - held);
            let Outcome::Rows(rows) = self.whole_fragment(Arc::new(slice), from).await? else { continue };
            held += rows.iter().map(Row::sample_count).sum::<usize>();
            if held > samples_max {
                return Err(Error::TooManySamples);
            }
            bytes += rows.iter().map(Row::bytes).sum::<usize>();
            joined.take(rows, from);
            // What the next slice holds comes on top.
            whole.meter.turn(0, 0, bytes)?;
        }
        whole.meter.settle();
        Ok(Outcome::Rows(joined.finish(steps.count)))
    }
}

/// The fragment for some of its steps.
fn slice(whole: &Fragment, from: usize, count: usize, samples_max: usize) -> Fragment {
    let cut = |c: &mut Column| {
        if let Some(part) = c.get(from..from + count) {
            *c = part.into();
        }
    };
    let mut slice = whole.clone();
    slice.steps = Steps { start: whole.steps.at(from), count, ..whole.steps };
    slice.samples_max = samples_max;
    if let Read::Window { params, .. } = &mut slice.chain.read {
        params.iter_mut().for_each(cut);
    }
    for map in &mut slice.chain.maps {
        match map {
            Map::Negate => {}
            Map::Call { params, .. } => params.iter_mut().for_each(cut),
            Map::Operator { scalar, .. } => cut(scalar),
        }
    }
    if let Some(param) = slice.fold.as_mut().and_then(|f| f.param.as_mut()) {
        cut(param);
    }
    slice
}

/// Rows of slices, put together by their labels.
#[derive(Default)]
struct Joined {
    rows: Vec<Row>,
    /// By labels and by the how-manieth row with these labels it is in its slice: without names several may have them.
    by_labels: HashMap<(Labels, u32), usize>,
}

impl Joined {
    /// Takes the rows of the slice that begins at step `from`.
    fn take(&mut self, part: Vec<Row>, from: usize) {
        let mut seen: HashMap<Labels, u32> = HashMap::new();
        for row in part {
            let count = seen.entry(row.labels.clone()).or_default();
            let place = *self.by_labels.entry((row.labels.clone(), *count)).or_insert_with(|| {
                self.rows.push(row.emptied());
                self.rows.len() - 1
            });
            *count += 1;
            let whole = &mut self.rows[place];
            if !row.floats.is_empty() {
                whole.floats.resize(from, ABSENT);
                whole.floats.extend(row.floats);
            }
            whole.histograms.extend(row.histograms.into_iter().map(|(step, h)| (step + from as u32, h)));
        }
    }

    fn finish(mut self, step_count: usize) -> Vec<Row> {
        for row in self.rows.iter_mut().filter(|r| !r.floats.is_empty()) {
            row.floats.resize(step_count, ABSENT);
        }
        self.rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.rows
    }
}
