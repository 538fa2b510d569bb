//! What a shard is asked to do: read series, compute along each of them, and perhaps aggregate over them.
//!
//! A part of the logical tree runs on the shards if it looks at one series at a time: a selector, a function over a
//! range, then functions and scalar operators on each element; and an aggregation over such a chain, whose partial
//! results merge. Everything that brings series together (matching, `sort`, `histogram_quantile`) stays above.

use std::sync::Arc;

use model::MatchOp;
use model::labels::METRIC_NAME;
use promql::Function;
use promql::ast::{Aggregator, BinaryOp, Span, ValueType};

use crate::query::account::Meter;
use crate::query::frame::Steps;
use crate::query::plan::logical::{Kind, Node, Selector};

/// One value for each step.
pub type Column = Arc<[f64]>;

/// A unit of work for one shard, owned whole.
#[derive(Clone, Debug)]
pub struct Fragment {
    pub steps: Steps,
    pub settings: Settings,
    pub chain: Chain,
    pub fold: Option<Fold>,
    /// Where the time-independent parts of a query begin to cost too much: samples this fragment may hold.
    pub samples_max: usize,
    /// What is used for it, and how far it has come.
    pub meter: Arc<Meter>,
    pub counts_steps: bool,
}

/// What of a query's options matters on a shard.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub lookback: i64,
    pub delayed_name_removal: bool,
    pub type_and_unit_labels: bool,
    pub use_start_timestamps: bool,
    pub max_resolution: MaxResolution,
}

/// How coarse the aggregates may be that stand for samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxResolution {
    /// So many milliseconds; 0 for samples alone.
    Fixed(i64),
    /// As the steps of the query allow.
    Auto,
}

#[derive(Clone, Debug)]
pub struct Chain {
    pub selector: Selector,
    pub read: Read,
    pub maps: Vec<Map>,
    /// Where notes about the selector point to.
    pub span: Span,
}

/// How a step's value comes from a series' samples.
#[derive(Clone, Debug)]
pub enum Read {
    /// The newest sample within the lookback.
    Latest,
    /// When that sample was taken, in seconds.
    LatestTime,
    /// When the counter of that sample began, in seconds.
    LatestStart,
    /// A function over the samples in the range before the step.
    Window { function: Function, range: i64, params: Vec<Column>, span: Span },
    /// The samples themselves (one step only).
    Raw { range: i64 },
}

/// What is done to each element.
#[derive(Clone, Debug)]
pub enum Map {
    Negate,
    Call { function: Function, params: Vec<Column> },
    Operator { op: BinaryOp, scalar: Column, scalar_is_left: bool, return_bool: bool, span: Span },
}

impl Map {
    /// Whether the result is another metric than the input.
    pub fn drops_name(&self) -> bool {
        match self {
            Map::Operator { op, return_bool, .. } => *return_bool || changes_metric(*op),
            Map::Negate | Map::Call { .. } => true,
        }
    }
}

/// Operators after which a value is no longer one of the metric it came from.
pub fn changes_metric(op: BinaryOp) -> bool {
    !op.is_comparison() && !op.is_set() && !op.is_trim()
}

#[derive(Clone, Debug)]
pub struct Fold {
    pub op: Aggregator,
    pub grouping: Vec<String>,
    pub without: bool,
    pub param: Option<Column>,
    /// The label of `count_values`.
    pub label: Arc<str>,
    pub span: Span,
    pub inner_span: Span,
}

/// A chain found in the logical tree; its parameters are still to be evaluated.
pub struct Found<'a> {
    pub source: &'a Node,
    pub read: FoundRead<'a>,
    pub maps: Vec<FoundMap<'a>>,
}

pub enum FoundRead<'a> {
    Latest(&'a Selector),
    LatestTime(&'a Selector),
    LatestStart(&'a Selector),
    Window { function: Function, selector: &'a Selector, range: i64, params: Vec<&'a Node>, span: Span },
}

pub enum FoundMap<'a> {
    Negate,
    Call { function: Function, params: Vec<&'a Node> },
    Operator { op: BinaryOp, scalar: &'a Node, scalar_is_left: bool, return_bool: bool, span: Span },
}

impl<'a> Found<'a> {
    pub fn selector(&self) -> &'a Selector {
        match &self.read {
            FoundRead::Latest(s) | FoundRead::LatestTime(s) | FoundRead::LatestStart(s) => s,
            FoundRead::Window { selector, .. } => selector,
        }
    }

    pub fn drops_name(&self) -> bool {
        self.reads_name_away() || self.maps.iter().any(FoundMap::drops_name)
    }

    fn reads_name_away(&self) -> bool {
        match &self.read {
            FoundRead::Latest(_) => false,
            FoundRead::LatestTime(_) | FoundRead::LatestStart(_) => true,
            FoundRead::Window { function, .. } => {
                !matches!(function, Function::LastOverTime | Function::FirstOverTime)
            }
        }
    }
}

impl FoundMap<'_> {
    fn drops_name(&self) -> bool {
        match self {
            FoundMap::Negate | FoundMap::Call { .. } => true,
            FoundMap::Operator { op, return_bool, .. } => *return_bool || changes_metric(*op),
        }
    }

    /// Whether an element may come to nothing: comparisons choose, and most functions and operators know only floats
    /// or only histograms.
    fn may_lose(&self) -> bool {
        !matches!(self, FoundMap::Negate)
    }
}

/// The chain that `node` is, if it is one.
pub fn chain(node: &Node) -> Option<Found<'_>> {
    match &node.kind {
        Kind::Vector(s) => Some(Found { source: node, read: FoundRead::Latest(s), maps: Vec::new() }),
        Kind::Negate(inner) if node.value_type == ValueType::Vector => mapped(inner, FoundMap::Negate),
        Kind::Call { function, args } => call(node, *function, args),
        Kind::Binary(b) if b.matching.is_none() && node.value_type == ValueType::Vector => {
            let scalar_is_left = b.lhs.value_type == ValueType::Scalar;
            let (scalar, vector) = if scalar_is_left { (&b.lhs, &b.rhs) } else { (&b.rhs, &b.lhs) };
            let map = FoundMap::Operator {
                op: b.op,
                scalar,
                scalar_is_left,
                return_bool: b.return_bool,
                span: node.span,
            };
            mapped(vector, map)
        }
        _ => None,
    }
}

fn mapped<'a>(inner: &'a Node, map: FoundMap<'a>) -> Option<Found<'a>> {
    let mut found = chain(inner)?;
    found.maps.push(map);
    Some(found)
}

fn call<'a>(node: &'a Node, function: Function, args: &'a [Node]) -> Option<Found<'a>> {
    if let (Function::Timestamp | Function::StartTimestamp, [Node { kind: Kind::Vector(s), .. }]) =
        (function, args)
    {
        let read = match function {
            Function::Timestamp => FoundRead::LatestTime(s),
            _ => FoundRead::LatestStart(s),
        };
        return Some(Found { source: node, read, maps: Vec::new() });
    }
    if let Some(at) = args.iter().position(|a| a.value_type == ValueType::Matrix) {
        if function == Function::AbsentOverTime {
            return None;
        }
        let Kind::Range(selector, range) = &args[at].kind else { return None };
        let params = args.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, a)| a).collect();
        let read = FoundRead::Window { function, selector, range: *range, params, span: args[0].span };
        return Some(Found { source: node, read, maps: Vec::new() });
    }
    if !is_elementwise(function) {
        return None;
    }
    let (vector, params) = args.split_first()?;
    mapped(vector, FoundMap::Call { function, params: params.iter().collect() })
}

/// Functions whose every output element comes from one input element.
pub fn is_elementwise(function: Function) -> bool {
    use Function::*;
    let of_float = matches!(
        function,
        Abs | Acos
            | Acosh
            | Asin
            | Asinh
            | Atan
            | Atanh
            | Ceil
            | Clamp
            | ClampMax
            | ClampMin
            | Cos
            | Cosh
            | Deg
            | Exp
            | Floor
            | Ln
            | Log10
            | Log2
            | Rad
            | Round
            | Sgn
            | Sin
            | Sinh
            | Sqrt
            | Tan
            | Tanh
    );
    let of_date =
        matches!(function, DayOfMonth | DayOfWeek | DayOfYear | DaysInMonth | Hour | Minute | Month | Year);
    let of_histogram =
        matches!(function, HistogramAvg | HistogramCount | HistogramStddev | HistogramStdvar | HistogramSum);
    of_float || of_date || of_histogram
}

/// Whether an aggregation over `found` may run on the shards and still find every duplicate that Prometheus would
/// find before it. Without delayed removal each function checks that dropping names made no two series the same;
/// on one shard that cannot be seen, unless all series have one name.
pub fn may_fold(found: &Found<'_>, settings: &Settings) -> bool {
    settings.delayed_name_removal || !found.drops_name() || has_one_name(found, settings)
}

/// Whether the whole of `found` may run on the shards and still every duplicate be found: not where names are dropped
/// and a later step may lose one of two elements that have become the same.
pub fn may_chain(found: &Found<'_>, settings: &Settings) -> bool {
    let dropped_at = match found.reads_name_away() {
        true => Some(0),
        false => found.maps.iter().position(FoundMap::drops_name).map(|i| i + 1),
    };
    let loses = dropped_at.is_some_and(|at| found.maps[at..].iter().any(FoundMap::may_lose));
    !loses || settings.delayed_name_removal || has_one_name(found, settings)
}

/// Whether series that differ at all still do without their names.
fn has_one_name(found: &Found<'_>, settings: &Settings) -> bool {
    !settings.type_and_unit_labels
        && found.selector().matchers.iter().any(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal)
}
