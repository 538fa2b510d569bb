//! Lines through the floats of a window: deriv, predict_linear; double exponential smoothing.

use super::{HistogramSample, Window};
use crate::kahan::KahanSum;
use crate::{Answer, Notes};

/// Slope and value at `at` of the least-squares line.
fn linear_regression(times: &[i64], values: &[f64], at: i64) -> (f64, f64) {
    let mut n = 0.0;
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [KahanSum::default(); 4];
    let mut constant = true;
    for (&t, &y) in times.iter().zip(values) {
        constant = constant && (n == 0.0 || y == values[0]);
        n += 1.0;
        let x = t.wrapping_sub(at) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    if constant {
        let y = values[0];
        return if y.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, y) };
    }
    let (x, y, xy, xx) = (x_sum.total(), y_sum.total(), xy_sum.total(), xx_sum.total());
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// `f` of at least two floats; a lone one beside histograms is worth a remark.
fn of_two<H: HistogramSample>(w: &Window<'_, H>, f: impl FnOnce() -> f64) -> Answer {
    let notes = Notes::when(!w.histograms.is_empty(), Notes::HISTOGRAMS_IGNORED_IN_RANGE);
    match w.values.len() {
        0 => Answer::default(),
        1 => Answer::none(notes),
        _ => Answer::float(f(), notes),
    }
}

pub(super) fn deriv<H: HistogramSample>(w: &Window<'_, H>) -> Answer {
    of_two(w, || linear_regression(w.times, w.values, w.times[0]).0)
}

pub(super) fn predict_linear<H: HistogramSample>(w: &Window<'_, H>, seconds: f64) -> Answer {
    of_two(w, || {
        let (slope, intercept) = linear_regression(w.times, w.values, w.at);
        slope * seconds + intercept
    })
}

pub(super) fn smooth<H: HistogramSample>(w: &Window<'_, H>, smoothing: f64, trend: f64) -> Answer {
    of_two(w, || {
        let (mut before, mut level) = (0.0, w.values[0]);
        let mut slope = w.values[1] - w.values[0];
        for (i, &v) in w.values.iter().enumerate().skip(1) {
            let x = smoothing * v;
            if i > 1 {
                slope = trend * (level - before) + (1.0 - trend) * slope;
            }
            let y = (1.0 - smoothing) * (level + slope);
            (before, level) = (level, x + y);
        }
        level
    })
}
