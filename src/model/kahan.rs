//! Sums with compensation (Kahan's, in Neumaier's form), as Prometheus forms them.

/// Adds `x` to `sum` with its compensation `c`. An infinite sum has none.
#[inline(always)]
pub fn inc(x: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + x;
    let c = if t.is_infinite() {
        0.0
    } else if sum.abs() >= x.abs() {
        c + ((sum - t) + x)
    } else {
        c + ((x - t) + sum)
    };
    (t, c)
}

/// A running sum and what rounding has taken from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KahanSum {
    pub sum: f64,
    pub c: f64,
}

impl KahanSum {
    #[inline(always)]
    pub fn add(&mut self, x: f64) {
        (self.sum, self.c) = inc(x, self.sum, self.c);
    }

    /// Sum and compensation together.
    #[inline]
    pub fn total(self) -> f64 {
        self.sum + self.c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_large_ones() {
        let mut sum = KahanSum::default();
        for x in [1.0, 1e100, 1.0, -1e100] {
            sum.add(x);
        }
        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn an_infinite_sum_has_no_compensation() {
        let mut sum = KahanSum::default();
        for x in [0.1, f64::MAX, f64::MAX, 1.0] {
            sum.add(x);
        }
        assert_eq!((sum.sum, sum.c), (f64::INFINITY, 0.0));
    }
}
