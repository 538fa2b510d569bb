//! One series out of samples and aggregates of them: the coarsest that may be read where there is one, what is finer
//! around it.
//!
//! What is read of aggregates depends on what is asked: the least values for `min_over_time`, and so on. A counter is
//! read as if it had never been reset, so that what comes from several places fits together; where no resets were, its
//! values are those of its samples.

use model::{Timestamp, is_stale};

use crate::shard::block::aggregate::{Aggregate, Windows};
use crate::shard::block::chunk::Samples;

/// What of the samples in a window stands for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Their mean.
    Average,
    /// Their sum, with their count beside it.
    Mean,
    /// How many they are; so much stands for a sample itself, too: 1.
    Count,
    Sum,
    Min,
    Max,
    Last,
    /// A counter without its resets.
    Counter,
}

impl Reading {
    /// Whether this column is needed.
    pub fn takes(self, column: Aggregate) -> bool {
        match self {
            Reading::Average | Reading::Mean => matches!(column, Aggregate::Count | Aggregate::Sum),
            Reading::Count => column == Aggregate::Count,
            Reading::Sum => column == Aggregate::Sum,
            Reading::Min => column == Aggregate::Min,
            Reading::Max => column == Aggregate::Max,
            Reading::Last => column == Aggregate::Last,
            Reading::Counter => matches!(column, Aggregate::Last | Aggregate::Lost),
        }
    }
}

/// What one place has of a series.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// Where it is read rather than those behind it: `from <= t < to`.
    pub cover: (Timestamp, Timestamp),
    pub times: Vec<Timestamp>,
    pub values: Vec<f64>,
    /// How many samples each value stands for, where that is asked; else none.
    pub weights: Vec<f64>,
    /// Of counters: the samples that the values come from; else none.
    lasts: Vec<f64>,
}

impl Layer {
    /// The columns of `w` that were read, as `reading` has them.
    pub fn new(reading: Reading, w: Windows, cover: (Timestamp, Timestamp)) -> Layer {
        let mut layer = Layer { cover, times: w.times, ..Layer::default() };
        match reading {
            Reading::Average => layer.values = w.sums.iter().zip(&w.counts).map(|(s, c)| s / c).collect(),
            Reading::Mean => (layer.values, layer.weights) = (w.sums, w.counts),
            Reading::Count => layer.values = w.counts,
            Reading::Sum => layer.values = w.sums,
            Reading::Min => layer.values = w.mins,
            Reading::Max => layer.values = w.maxs,
            Reading::Last => layer.values = w.lasts,
            Reading::Counter => {
                let mut lost = 0.0;
                let grown = w.lasts.iter().zip(&w.losts).map(|(last, l)| {
                    lost += l;
                    last + lost
                });
                layer.values = std::iter::once(w.first).chain(grown).collect();
                layer.lasts = std::iter::once(w.first).chain(w.lasts.iter().copied()).collect();
                layer.times.insert(0, w.first_time);
            }
        }
        layer
    }

    /// Samples themselves, which lie behind all that is coarser. Of a counter, staleness markers stay what they are.
    fn of_samples(reading: Reading, samples: &Samples) -> Layer {
        let mut layer =
            Layer { times: samples.times.clone(), values: samples.values.clone(), ..Layer::default() };
        match reading {
            Reading::Count => layer.values.iter_mut().filter(|v| !is_stale(**v)).for_each(|v| *v = 1.0),
            Reading::Mean => layer.weights = vec![1.0; layer.values.len()],
            Reading::Counter => {
                layer.lasts = std::mem::take(&mut layer.values);
                let (mut lost, mut before) = (0.0, f64::NEG_INFINITY);
                layer.values.extend(layer.lasts.iter().map(|v| {
                    if is_stale(*v) {
                        return *v;
                    }
                    lost += if *v < before { before } else { 0.0 };
                    before = *v;
                    *v + lost
                }));
            }
            _ => {}
        }
        layer
    }
}

/// Puts `layers`, the first that covers a time before all others, in the place of what `samples` has there. Returns how
/// many samples each value stands for, where `reading` asks for it.
pub fn merge(reading: Reading, mut layers: Vec<Layer>, samples: &mut Samples) -> Vec<f64> {
    if reading == Reading::Count {
        // A histogram is a sample like others.
        let times: Vec<Timestamp> = samples.histograms.drain(..).map(|h| h.time).collect();
        samples.extend_floats(&times, &vec![1.0; times.len()], &[]);
        samples.settle();
    }
    let covers: Vec<(Timestamp, Timestamp)> = layers.iter().map(|l| l.cover).collect();
    layers.push(Layer::of_samples(reading, samples));
    let mut picks: Vec<Pick> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let above = &covers[..number.min(covers.len())];
        let is_free = |t: Timestamp| !above.iter().any(|(from, to)| t >= *from && t < *to);
        let free = layer.times.iter().enumerate().filter(|(_, t)| is_free(**t));
        picks.extend(free.map(|(i, t)| Pick { time: *t, layer: number as u32, at: i as u32 }));
    }
    picks.sort_by_key(|p| (p.time, p.layer));
    // The first sample of a counter may have been taken at the very time of its window; the window has all.
    picks.dedup_by(|later, earlier| {
        let is_same = later.time == earlier.time;
        if is_same && later.layer == earlier.layer {
            earlier.at = later.at;
        }
        is_same
    });
    samples.times.clear();
    samples.values.clear();
    samples.starts.clear();
    samples.times.extend(picks.iter().map(|p| p.time));
    let at = |column: &[f64], p: &Pick| column.get(p.at as usize).copied().unwrap_or(1.0);
    match reading {
        Reading::Counter => join(&layers, &picks, &mut samples.values),
        _ => samples.values.extend(picks.iter().map(|p| at(&layers[p.layer as usize].values, p))),
    }
    match reading {
        Reading::Mean => picks.iter().map(|p| at(&layers[p.layer as usize].weights, p)).collect(),
        _ => Vec::new(),
    }
}

struct Pick {
    time: Timestamp,
    layer: u32,
    at: u32,
}

/// Values of a counter that goes from layer to layer: each goes on where the one before it stood.
fn join(layers: &[Layer], picks: &[Pick], out: &mut Vec<f64>) {
    // The layer of the last value, its value as it was put out, and the sample that it comes from.
    let mut before: Option<(u32, f64, f64)> = None;
    let mut offset = 0.0;
    for p in picks {
        let (layer, i) = (&layers[p.layer as usize], p.at as usize);
        let value = layer.values[i];
        if is_stale(value) {
            out.push(value);
            continue;
        }
        if let Some((_, grown, last)) = before.filter(|b| b.0 != p.layer) {
            let is_of_windows = (p.layer as usize) + 1 < layers.len();
            // Windows know how far the counter had come by their beginning, save for the first one, before which there
            // is only the very first sample. Of samples those before may be missing.
            let known = i.checked_sub(1).filter(|i| is_of_windows && *i > 0).map(|i| layer.values[i]);
            let taken = if layer.lasts[i] < last { 0.0 } else { last };
            offset = grown - known.unwrap_or(value - layer.lasts[i] + taken);
        }
        out.push(value + offset);
        before = Some((p.layer, value + offset, layer.lasts[i]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::block::aggregate::{Aggregator, stamp_of};
    use proptest::prelude::*;

    const FINE: i64 = 20;
    const COARSE: i64 = 60;

    fn windows(samples: &[(Timestamp, f64)], resolution: i64, from: i64, to: i64) -> Windows {
        let mut a = Aggregator::new(resolution);
        samples.iter().filter(|(t, _)| *t >= from && *t < to).for_each(|(t, v)| a.push(*t, *v));
        a.out
    }

    fn raw(samples: &[(Timestamp, f64)]) -> Samples {
        let (times, values) = samples.iter().copied().unzip();
        Samples { times, values, ..Samples::default() }
    }

    fn series() -> impl Strategy<Value = Vec<(Timestamp, f64)>> {
        proptest::collection::vec((1i64..30, 0u16..60), 20..200).prop_map(|steps| {
            let (mut t, mut v) = (0, 0.0);
            let mut out = Vec::new();
            for (gap, step) in steps {
                t += gap;
                v = if step < 4 { f64::from(step) } else { v + f64::from(step) };
                out.push((t, v));
            }
            out
        })
    }

    /// A world in which coarse windows reach to one time, fine ones from one to another, samples from one on.
    fn layered(all: &[(Timestamp, f64)], reading: Reading, cuts: [i64; 4]) -> (Samples, Vec<f64>) {
        let [coarse_end, fine_from, fine_end, raw_from] = cuts;
        let coarse = windows(all, COARSE, i64::MIN, coarse_end);
        let fine = windows(all, FINE, fine_from, fine_end);
        let mut layers = Vec::new();
        if !coarse.is_empty() {
            layers.push(Layer::new(reading, coarse, (i64::MIN, coarse_end)));
        }
        if !fine.is_empty() {
            layers.push(Layer::new(reading, fine, (fine_from, fine_end)));
        }
        let rest: Vec<_> = all.iter().copied().filter(|(t, _)| *t >= raw_from).collect();
        let mut samples = raw(&rest);
        let weights = merge(reading, layers, &mut samples);
        (samples, weights)
    }

    fn cuts() -> impl Strategy<Value = [i64; 4]> {
        (0i64..40, 0i64..10, 0i64..20, 0i64..200).prop_map(|(coarse, overlap, length, keep)| {
            let coarse_end = coarse * COARSE;
            let fine_from = coarse_end - overlap.min(coarse) * COARSE;
            let fine_end = coarse_end + length * COARSE;
            [coarse_end, fine_from, fine_end, (fine_end - keep).max(0)]
        })
    }

    proptest! {
        #[test]
        fn a_counter_grows_between_its_points_as_its_samples_did(all in series(), cuts in cuts()) {
            let (have, _) = layered(&all, Reading::Counter, cuts);
            prop_assert!(have.times.is_sorted_by(|a, b| a < b), "{:?}", have.times);
            prop_assert!(have.values.is_sorted(), "{:?}", have.values);
            // Each point is the last sample at or before its time.
            let at = |t: i64| all.iter().rposition(|s| s.0 <= t).unwrap();
            for (w, v) in have.times.windows(2).zip(have.values.windows(2)) {
                let naive: f64 = all[at(w[0])..=at(w[1])]
                    .windows(2)
                    .map(|w| if w[1].1 < w[0].1 { w[1].1 } else { w[1].1 - w[0].1 })
                    .sum();
                prop_assert_eq!(v[1] - v[0], naive, "from {} to {}", w[0], w[1]);
            }
            let resets = all.windows(2).any(|w| w[1].1 < w[0].1);
            for (t, v) in have.times.iter().zip(&have.values).filter(|_| !resets) {
                prop_assert_eq!(v.to_bits(), all[at(*t)].1.to_bits());
            }
        }

        #[test]
        fn over_whole_windows_everything_is_what_it_is_over_samples(all in series(), cuts in cuts()) {
            let last = stamp_of(all.last().unwrap().0, COARSE);
            for reading in [Reading::Count, Reading::Sum, Reading::Min, Reading::Max, Reading::Mean, Reading::Last] {
                let (have, weights) = layered(&all, reading, cuts);
                prop_assert!(have.times.is_sorted_by(|a, b| a < b));
                let (from, to) = (COARSE * 2, last + 1);
                let of_samples: Vec<f64> = all.iter().filter(|s| s.0 >= from && s.0 < to).map(|s| s.1).collect();
                let inside = |i: &usize| have.times[*i] >= from && have.times[*i] < to;
                let here: Vec<usize> = (0..have.times.len()).filter(inside).collect();
                let values: Vec<f64> = here.iter().map(|i| have.values[*i]).collect();
                prop_assert_eq!(values.is_empty(), of_samples.is_empty());
                if values.is_empty() {
                    continue;
                }
                let (sum, min, max): (f64, _, _) = (values.iter().sum(), f64::min, f64::max);
                let (count, total) = (of_samples.len() as f64, of_samples.iter().sum::<f64>());
                match reading {
                    Reading::Count => prop_assert_eq!(sum, count),
                    Reading::Sum => prop_assert_eq!(sum, total),
                    Reading::Min => prop_assert_eq!(
                        values.iter().copied().fold(f64::INFINITY, min),
                        of_samples.iter().copied().fold(f64::INFINITY, min)
                    ),
                    Reading::Max => prop_assert_eq!(
                        values.iter().copied().fold(0.0, max),
                        of_samples.iter().copied().fold(0.0, max)
                    ),
                    Reading::Last => prop_assert_eq!(values.last(), of_samples.last()),
                    _ => {
                        prop_assert_eq!(sum, total);
                        prop_assert_eq!(here.iter().map(|i| weights[*i]).sum::<f64>(), count);
                    }
                }
            }
        }
    }

    #[test]
    fn a_first_sample_at_the_very_time_of_its_window_continues_what_was_before() {
        let all = [(0, 3.0), (COARSE + FINE - 1, 4.0), (COARSE + FINE, 1.0)];
        let fine = windows(&all, FINE, COARSE, 2 * COARSE);
        let coarse = windows(&all, COARSE, 0, COARSE);
        let layers = vec![
            Layer::new(Reading::Counter, coarse, (0, COARSE)),
            Layer::new(Reading::Counter, fine, (COARSE, 2 * COARSE)),
        ];
        let mut samples = Samples::default();
        merge(Reading::Counter, layers, &mut samples);
        assert_eq!(samples.times, [0, COARSE - 1, COARSE + FINE - 1, COARSE + 2 * FINE - 1]);
        assert_eq!(samples.values, [3.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn staleness_markers_of_samples_stay() {
        let stale = model::STALE_NAN;
        let w = windows(&[(0, 5.0), (30, 2.0)], FINE, 0, 40);
        let mut samples = raw(&[(30, 2.0), (45, stale), (50, 1.0), (60, 4.0)]);
        merge(Reading::Counter, vec![Layer::new(Reading::Counter, w, (0, 40))], &mut samples);
        assert_eq!(samples.times, [0, 19, 39, 45, 50, 60]);
        let numbers: Vec<f64> = samples.values.iter().copied().filter(|v| !is_stale(*v)).collect();
        assert_eq!(numbers, [5.0, 5.0, 7.0, 8.0, 11.0]);
        assert!(is_stale(samples.values[3]));
    }
}
