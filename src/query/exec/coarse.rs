//! Which aggregates may stand for samples in a fragment, and what is read of them.

use promql::Function;

use crate::query::exec::access::Access;
use crate::query::plan::physical::{Fragment, MaxResolution, Read};
use crate::shard::layers::Reading;

/// At least so many windows between two steps, where the step says how coarse they may be.
const WINDOWS_PER_STEP: i64 = 5;

/// Aggregates of at most this resolution, if any are there: 0 is samples alone.
pub fn resolution<A: Access>(shard: &A, fragment: &Fragment) -> i64 {
    let limit = limit(fragment);
    if limit == 0 { 0 } else { shard.store().map_or(0, |store| store.coarsest_to(limit)) }
}

/// How coarse they may be for the step and the range of the fragment.
fn limit(fragment: &Fragment) -> i64 {
    let asked = match fragment.settings.max_resolution {
        MaxResolution::Fixed(ms) => ms,
        MaxResolution::Auto if fragment.steps.is_single() => 0,
        MaxResolution::Auto => fragment.steps.interval / WINDOWS_PER_STEP,
    };
    match fragment.chain.read {
        Read::Latest | Read::LatestTime | Read::LatestStart => asked,
        Read::Raw { range } => asked.min(range),
        // What compares samples needs two windows.
        Read::Window { function, range, .. } if compares(function) => asked.min(range / 2),
        Read::Window { range, .. } => asked.min(range),
    }
}

fn compares(function: Function) -> bool {
    use Function::*;
    matches!(
        function,
        Rate | Increase
            | Irate
            | Delta
            | Idelta
            | Deriv
            | Changes
            | Resets
            | PredictLinear
            | DoubleExponentialSmoothing
    )
}

/// What the fragment reads of aggregates.
pub fn reading(fragment: &Fragment) -> Reading {
    let Read::Window { function, .. } = fragment.chain.read else { return Reading::Average };
    match function {
        Function::MinOverTime => Reading::Min,
        Function::MaxOverTime => Reading::Max,
        Function::CountOverTime => Reading::Count,
        Function::SumOverTime => Reading::Sum,
        Function::AvgOverTime => Reading::Mean,
        Function::LastOverTime => Reading::Last,
        Function::Rate | Function::Increase | Function::Irate => Reading::Counter,
        _ => Reading::Average,
    }
}

/// The fragment as it is asked of aggregates: a sample holds for as long as a window is.
pub fn adapted(fragment: &Fragment, resolution: i64) -> Fragment {
    let mut fragment = fragment.clone();
    fragment.settings.lookback = fragment.settings.lookback.max(resolution);
    fragment
}
