//! Aggregations of whole columns: one state a step, one row (a series' value at each step) taken in at a time.
//!
//! Every step sees its values in the order of the rows, so results are those of the states of one step, to the
//! bit. The loops run over steps and have no branches, so that they compile to vectors ([`crate::arch`]).

use super::{Avg, Max, Min};
use crate::{ABSENT, arch, is_absent};

/// Adds a row to sums with compensation, each step to its own; [`ABSENT`] leaves its step as it is.
pub fn add_row(row: &[f64], sum: &mut [f64], c: &mut [f64], count: &mut [u32]) {
    arch::kahan_add(row, sum, c, count);
}

/// Whether adding a row would make any sum infinite.
pub fn overflows(row: &[f64], sum: &[f64]) -> bool {
    arch::any_overflow(row, sum)
}

/// Sums by step.
#[derive(Clone, Debug, Default)]
pub struct SumColumn {
    pub(super) sum: Vec<f64>,
    pub(super) c: Vec<f64>,
    pub(super) count: Vec<u32>,
}

impl SumColumn {
    pub fn new(steps: usize) -> SumColumn {
        SumColumn { sum: vec![0.0; steps], c: vec![0.0; steps], count: vec![0; steps] }
    }

    /// Takes in one value a step.
    ///
    /// # Panics
    ///
    /// If the row has not as many steps as the column.
    pub fn add(&mut self, row: &[f64]) {
        assert_eq!(row.len(), self.sum.len(), "row and column have as many steps");
        arch::kahan_add(row, &mut self.sum, &mut self.c, &mut self.count);
    }

    /// The sums; [`ABSENT`] where no row had a value.
    pub fn finish(self) -> Vec<f64> {
        let totals = self.sum.iter().zip(&self.c).zip(&self.count);
        totals.map(|((sum, c), &n)| if n == 0 { ABSENT } else { sum + c }).collect()
    }
}

/// Means by step.
#[derive(Clone, Debug, Default)]
pub struct AvgColumn {
    sums: SumColumn,
    /// One state a step, from the row on whose sum overflows somewhere.
    states: Option<Vec<Option<Avg>>>,
}

impl AvgColumn {
    pub fn new(steps: usize) -> AvgColumn {
        AvgColumn { sums: SumColumn::new(steps), states: None }
    }

    /// As [`SumColumn::add`].
    ///
    /// # Panics
    ///
    /// If the row has not as many steps as the column.
    pub fn add(&mut self, row: &[f64]) {
        assert_eq!(row.len(), self.sums.sum.len(), "row and column have as many steps");
        if self.states.is_none() && arch::any_overflow(row, &self.sums.sum) {
            let sums = self.sums.sum.iter().zip(&self.sums.c).zip(&self.sums.count);
            let states = sums.map(|((&sum, &c), &n)| (n > 0).then(|| Avg::resume(sum, c, f64::from(n))));
            self.states = Some(states.collect());
        }
        let Some(states) = &mut self.states else { return self.sums.add(row) };
        for (state, &v) in states.iter_mut().zip(row) {
            match state {
                _ if is_absent(v) => {}
                None => *state = Some(Avg::new(v)),
                Some(avg) => avg.add(v),
            }
        }
    }

    /// The means; [`ABSENT`] where no row had a value.
    pub fn finish(self) -> Vec<f64> {
        if let Some(states) = self.states {
            return states.into_iter().map(|s| s.map_or(ABSENT, Avg::value)).collect();
        }
        let sums = self.sums.sum.iter().zip(&self.sums.c).zip(&self.sums.count);
        sums.map(|((&sum, &c), &n)| if n == 0 { ABSENT } else { Avg::resume(sum, c, f64::from(n)).value() })
            .collect()
    }
}

/// How many values there are by step.
#[derive(Clone, Debug, Default)]
pub struct CountColumn(Vec<u32>);

impl CountColumn {
    pub fn new(steps: usize) -> CountColumn {
        CountColumn(vec![0; steps])
    }

    pub fn add(&mut self, row: &[f64]) {
        arch::count_present(row, &mut self.0);
    }

    /// The counts; [`ABSENT`] where no row had a value.
    pub fn finish(self) -> Vec<f64> {
        self.0.into_iter().map(|n| if n == 0 { ABSENT } else { f64::from(n) }).collect()
    }
}

macro_rules! extreme_column {
    ($(#[doc = $doc:literal])* $name:ident, $state:ident, $kernel:path) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name(Vec<f64>);

        impl $name {
            pub fn new(steps: usize) -> $name {
                $name(vec![ABSENT; steps])
            }

            pub fn add(&mut self, row: &[f64]) {
                $kernel(row, &mut self.0);
            }

            /// The extremes; [`ABSENT`] where no row had a value.
            pub fn finish(self) -> Vec<f64> {
                self.0
            }

            /// Takes in one value at one step.
            pub fn add_at(&mut self, step: usize, v: f64) {
                let slot = &mut self.0[step];
                let mut state = $state::new(*slot);
                state.add(v);
                *slot = state.value();
            }
        }
    };
}

extreme_column! {
    /// Least values by step.
    MinColumn, Min, arch::min_into
}
extreme_column! {
    /// Greatest values by step.
    MaxColumn, Max, arch::max_into
}
