//! `rate`, `increase` and `delta` at every step: what depends on times alone is computed once for all series that
//! were sampled together.

use std::ops::Range;

use super::{Steps, WindowTable};
use crate::range::{Edges, RateKind, Sampled};
use crate::{ABSENT, arch};

/// Wider than the rounding of the products that are compared.
const FAR: f64 = 1.0 + 1e-6;

/// One of the rates over the windows of a table.
#[derive(Clone, Debug)]
pub struct RateTable {
    is_counter: bool,
    /// First and last sample of each window.
    ends: Vec<(u32, u32)>,
    /// Those of the first window, where each of the others lies one sample further.
    slide: Option<(usize, usize)>,
    /// Steps in whose windows there are fewer than two samples.
    short: Vec<u32>,
    sampled: Vec<f64>,
    to_start: Vec<f64>,
    to_end: Vec<f64>,
    /// What a gain is multiplied with where no zero is near.
    factor: Vec<f64>,
    /// A zero is not near where `sampled * first` is above `far` times the gain.
    far: Vec<f64>,
    /// Seconds that a window covers, for a rate; 1 for what is not divided.
    window: f64,
    first: Vec<f64>,
    drops: Vec<u64>,
}

impl RateTable {
    /// Of the windows `table` has over `times`.
    pub fn new(kind: RateKind, times: &[i64], steps: &Steps, table: &WindowTable) -> RateTable {
        let n = table.windows.len();
        let mut rates = RateTable {
            is_counter: kind.is_counter(),
            ends: Vec::with_capacity(n),
            slide: None,
            short: Vec::new(),
            sampled: Vec::with_capacity(n),
            to_start: Vec::with_capacity(n),
            to_end: Vec::with_capacity(n),
            factor: Vec::with_capacity(n),
            far: Vec::with_capacity(n),
            window: 1.0,
            first: Vec::new(),
            drops: Vec::new(),
        };
        for (step, (from, to)) in table.windows.iter().enumerate() {
            if to - from < 2 {
                rates.short.push(step as u32);
                rates.push((0, 0), 1.0, 0.0, 0.0);
                continue;
            }
            let ends = (*from, to - 1);
            let edges = Edges::new(&sampled(times, steps.range_at(step), ends), kind);
            rates.window = edges.window.unwrap_or(1.0);
            rates.push(ends, edges.sampled, edges.to_start, edges.to_end);
        }
        let is_slide = rates.short.is_empty()
            && rates.ends.windows(2).all(|w| (w[0].0 + 1, w[0].1 + 1) == (w[1].0, w[1].1));
        rates.slide = rates.ends.first().filter(|_| is_slide).map(|e| (e.0 as usize, e.1 as usize));
        rates
    }

    fn push(&mut self, ends: (u32, u32), sampled: f64, to_start: f64, to_end: f64) {
        self.ends.push(ends);
        self.sampled.push(sampled);
        self.to_start.push(to_start);
        self.to_end.push(to_end);
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        self.factor.push(factor / self.window);
        self.far.push(to_start * FAR);
    }

    /// Whether no window has two samples.
    pub fn is_empty(&self) -> bool {
        self.short.len() == self.ends.len()
    }

    /// The rates of a series whose samples are `values`, as many as the table was made of.
    pub fn eval(&mut self, values: &[f64], out: &mut Vec<f64>) {
        out.clear();
        if values.is_empty() {
            out.resize(self.ends.len(), ABSENT);
            return;
        }
        self.gains(values, out);
        if self.is_counter && arch::any_near_zero(&self.first, out, &self.sampled, &self.far) {
            let RateTable { first, sampled, to_start, to_end, window, .. } = self;
            arch::extrapolate(first, out, sampled, to_start, to_end, *window);
        } else {
            out.iter_mut().zip(&self.factor).for_each(|(gain, factor)| *gain *= factor);
        }
        self.short.iter().for_each(|step| out[*step as usize] = ABSENT);
    }

    /// Where the first and the last sample of a step's window lie; `None` where there are fewer than two.
    pub fn ends(&self, step: usize) -> Option<(usize, usize)> {
        let (first, last) = *self.ends.get(step)?;
        (last > first).then_some((first as usize, last as usize))
    }

    /// The rates of many series at one step: of each the values at its ends, between which nothing dropped. What
    /// [`Self::eval`] gives for them.
    pub fn column(&self, step: usize, first: &[f64], last: &[f64], out: &mut Vec<f64>) {
        const BLOCK: usize = 64;
        let of_all = |v: &[f64]| [v[step]; BLOCK];
        let (sampled, far, factor) = (of_all(&self.sampled), of_all(&self.far), self.factor[step]);
        out.clear();
        out.extend(last.iter().zip(first).map(|(last, first)| last - first));
        for (gain, first) in out.chunks_mut(BLOCK).zip(first.chunks(BLOCK)) {
            if self.is_counter && arch::any_near_zero(first, gain, &sampled, &far) {
                let (to_start, to_end) = (of_all(&self.to_start), of_all(&self.to_end));
                arch::extrapolate(first, gain, &sampled, &to_start, &to_end, self.window);
            } else {
                gain.iter_mut().for_each(|gain| *gain *= factor);
            }
        }
    }

    /// What series gained between the first and the last sample of each window.
    fn gains(&mut self, values: &[f64], out: &mut Vec<f64>) {
        self.first.clear();
        if let Some((first, last)) = self.slide {
            let n = self.ends.len();
            self.first.extend_from_slice(&values[first..first + n]);
            out.extend(values[last..last + n].iter().zip(&self.first).map(|(last, first)| last - first));
        } else {
            self.first.extend(self.ends.iter().map(|e| values[e.0 as usize]));
            out.extend(self.ends.iter().zip(&self.first).map(|(e, first)| values[e.1 as usize] - first));
        }
        if !self.is_counter {
            return;
        }
        self.drops.clear();
        self.drops.resize(values.len() / 64 + 1, 0);
        arch::drops(values, &mut self.drops);
        // Most counters are never reset within a query.
        if self.drops.iter().all(|word| *word == 0) {
            return;
        }
        for (gain, (first, last)) in out.iter_mut().zip(&self.ends) {
            each_bit(&self.drops, *first as usize..*last as usize, |i| *gain += values[i]);
        }
    }
}

fn sampled(times: &[i64], (start, end): (i64, i64), (first, last): (u32, u32)) -> Sampled {
    Sampled {
        start,
        end,
        first_time: times[first as usize],
        last_time: times[last as usize],
        gap_count: (last - first) as usize,
        began: None,
        first: 0.0,
        gain: 0.0,
    }
}

/// Calls `each` with every set bit of a range, ascending.
fn each_bit(mask: &[u64], range: Range<usize>, mut each: impl FnMut(usize)) {
    if range.is_empty() {
        return;
    }
    let (first_word, last_word) = (range.start / 64, (range.end - 1) / 64);
    for (word_idx, &word) in mask.iter().enumerate().take(last_word + 1).skip(first_word) {
        let mut word = word;
        if word_idx == first_word {
            word &= u64::MAX << (range.start % 64);
        }
        if word_idx == last_word {
            word &= u64::MAX >> (63 - (range.end - 1) % 64);
        }
        while word != 0 {
            each(word_idx * 64 + word.trailing_zeros() as usize);
            word &= word - 1;
        }
    }
}
