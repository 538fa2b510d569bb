//! What brings series of all shards together.
//!
//! In: a logical tree and the shards. Out: rows. Owns: the account of one query. Runs on: where the query was asked.
//! Invariant: rows from shards are put in the order of their labels before anything depends on their order, so the
//! number of shards cannot be seen in an answer.
//! Never: looks into a shard; all it knows comes from fragments.

mod absent;
mod arithmetic;
mod buckets;
mod call;
mod info;
mod labels;
mod matching;
mod sets;
mod slices;
mod sort;
mod subquery;

pub use subquery::as_series;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use model::Timestamp;
use promql::ast::{Aggregator, ValueType};

use crate::query::Error;
use crate::query::account::{Account, Held, Load};
use crate::query::annotations::Annotations;
use crate::query::exec::fold::fold_rows;
use crate::query::exec::scan::Outcome;
use crate::query::frame::{Cell, Frame, Row, Steps, without_reserved};
use crate::query::merge::{self, Shards};
use crate::query::plan::logical::{Aggregate, Kind, Node, Selector};
use crate::query::plan::physical::{
    Chain, Column, Fold, Found, FoundMap, FoundRead, Fragment, Map, Read, Settings, chain, may_chain,
    may_fold,
};
use crate::query::value::Series;

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// One query being evaluated.
pub struct Evaluator<'q> {
    pub shards: &'q dyn Shards,
    pub settings: Settings,
    pub account: &'q Account,
    pub notes: Annotations,
    /// Whether the query asks for one moment: some functions order their answer then.
    pub is_instant: bool,
    /// Samples counted so far, over the steps that are evaluated.
    pub load: Load,
    pub counts_steps: bool,
}

const SAME_LABELS: &str = "vector cannot contain metrics with the same labelset";

impl Evaluator<'_> {
    /// Evaluates a node at all steps.
    pub fn eval<'a>(&'a mut self, node: &'a Node, steps: Steps) -> Answering<'a, Frame> {
        Box::pin(async move {
            self.account.check()?;
            let held = self.account.held();
            let frame = self.frame(node, steps).await?;
            // What the operands held is free now; the result is not.
            self.account.hold(held, worth(&frame))?;
            Ok(frame)
        })
    }

    async fn frame(&mut self, node: &Node, steps: Steps) -> Result<Frame, Error> {
        match &node.kind {
            Kind::Number(v) => return Ok(Frame::Scalar(vec![*v; steps.count])),
            Kind::Text(_) => return self.text(node).map(Frame::Text),
            Kind::Once(inner) => return self.once(inner, steps).await,
            _ => {}
        }
        if let Some(found) = chain(node)
            && may_chain(&found, &self.settings)
        {
            return self.chain_rows(&found, steps).await.map(Frame::Rows);
        }
        match &node.kind {
            Kind::Aggregate(a) => self.aggregate(node, a, steps).await.map(Frame::Rows),
            Kind::Binary(b) => self.binary(node, b, steps).await,
            Kind::Negate(inner) => self.negate(inner, steps).await,
            Kind::Call { function, args } => self.call(node, *function, args, steps).await,
            Kind::Range(selector, range) => self.raw(selector, *range, steps).await.map(Frame::Matrix),
            Kind::Subquery(s) => {
                let (rows, seen) = self.subquery_rows(s, steps).await?;
                self.load.add(steps.count.max(1) - 1, seen, 0);
                let rows = without_dropped_names(rows)?;
                Ok(Frame::Matrix(as_series(rows, subquery::inner_steps(s, steps))))
            }
            Kind::Vector(_) | Kind::Number(_) | Kind::Text(_) | Kind::Once(_) => {
                Err(Error::Execution("an element of the plan has no meaning of its own".into()))
            }
        }
    }

    pub(super) async fn rows(&mut self, node: &Node, steps: Steps) -> Result<Vec<Row>, Error> {
        match self.eval(node, steps).await? {
            Frame::Rows(rows) => Ok(rows),
            other => Err(unexpected("an instant vector", &other)),
        }
    }

    pub(super) async fn column(&mut self, node: &Node, steps: Steps) -> Result<Column, Error> {
        match self.eval(node, steps).await? {
            Frame::Scalar(values) => Ok(Arc::from(values)),
            other => Err(unexpected("a scalar", &other)),
        }
    }

    pub(super) async fn columns(&mut self, nodes: &[&Node], steps: Steps) -> Result<Vec<Column>, Error> {
        let mut columns = Vec::with_capacity(nodes.len());
        for n in nodes {
            columns.push(self.column(n, steps).await?);
        }
        Ok(columns)
    }

    /// Evaluates at the first step and repeats what came out at all others.
    async fn once(&mut self, inner: &Node, steps: Steps) -> Result<Frame, Error> {
        let outer = std::mem::replace(&mut self.load, Load::new(1, self.counts_steps));
        let frame = self.eval(inner, Steps::once(steps.start)).await;
        let once = std::mem::replace(&mut self.load, outer);
        // It is seen at each step, but read at the first only.
        (0..steps.count).for_each(|s| self.load.add(s, once.seen, if s == 0 { once.read } else { 0 }));
        Ok(match frame? {
            Frame::Scalar(v) => Frame::Scalar(vec![v.first().copied().unwrap_or(f64::NAN); steps.count]),
            Frame::Rows(rows) => Frame::Rows(rows.iter().map(|r| repeated(r, steps.count)).collect()),
            other => other,
        })
    }

    async fn negate(&mut self, inner: &Node, steps: Steps) -> Result<Frame, Error> {
        match self.eval(inner, steps).await? {
            Frame::Scalar(v) => Ok(Frame::Scalar(v.into_iter().map(|v| -v).collect())),
            Frame::Rows(rows) => self.mapped(rows, &Map::Negate).map(Frame::Rows),
            other => Err(unexpected("a scalar or an instant vector", &other)),
        }
    }

    /// Applies a map to rows that are above the shards.
    pub(super) fn mapped(&mut self, rows: Vec<Row>, map: &Map) -> Result<Vec<Row>, Error> {
        let drops = map.drops_name();
        let mut out = Vec::with_capacity(rows.len());
        for mut row in rows {
            crate::query::exec::elementwise::apply(map, &mut row, &mut self.notes);
            if drops {
                self.drop_name(&mut row);
            }
            if !row.is_empty() {
                out.push(row);
            }
        }
        if drops { self.settled(out) } else { Ok(out) }
    }

    /// Marks a row's name for removal, or removes it where that is done at once.
    pub(super) fn drop_name(&self, row: &mut Row) {
        if self.settings.delayed_name_removal {
            row.drop_name = true;
        } else {
            row.labels = without_reserved(&row.labels);
        }
    }

    /// Rows whose labels have changed: equal ones are one row where their cells allow it.
    pub(super) fn settled(&self, rows: Vec<Row>) -> Result<Vec<Row>, Error> {
        if self.settings.delayed_name_removal { Ok(rows) } else { united(rows) }
    }

    async fn chain_rows(&mut self, found: &Found<'_>, steps: Steps) -> Result<Vec<Row>, Error> {
        let chain = self.chain(found, steps).await?;
        let is_window = matches!(chain.read, Read::Window { .. });
        let drops = found.drops_name();
        let rows = match self.fragment(chain, None, steps).await? {
            Outcome::Rows(rows) => rows,
            _ => Vec::new(),
        };
        if drops && !self.settings.delayed_name_removal {
            if is_window && rows.windows(2).any(|w| w[0].labels == w[1].labels) {
                return Err(Error::Execution(SAME_LABELS.into()));
            }
            return united(rows);
        }
        Ok(rows)
    }

    /// Evaluates the parameters of a chain.
    async fn chain(&mut self, found: &Found<'_>, steps: Steps) -> Result<Chain, Error> {
        let selector = found.selector().clone();
        let read = match &found.read {
            FoundRead::Latest(_) => Read::Latest,
            FoundRead::LatestTime(_) => Read::LatestTime,
            FoundRead::LatestStart(_) => Read::LatestStart,
            FoundRead::Window { function, range, params, span, .. } => {
                call::check_modifiers(*function, &selector)?;
                let params = self.columns(params, steps).await?;
                Read::Window { function: *function, range: *range, params, span: *span }
            }
        };
        let mut maps = Vec::with_capacity(found.maps.len());
        for m in &found.maps {
            maps.push(match m {
                FoundMap::Negate => Map::Negate,
                FoundMap::Call { function, params } => {
                    Map::Call { function: *function, params: self.columns(params, steps).await? }
                }
                FoundMap::Operator { op, scalar, scalar_is_left, return_bool, span } => Map::Operator {
                    op: *op,
                    scalar: self.column(scalar, steps).await?,
                    scalar_is_left: *scalar_is_left,
                    return_bool: *return_bool,
                    span: *span,
                },
            });
        }
        Ok(Chain { selector, read, maps, span: found.source.span })
    }

    /// Runs a fragment on all shards and merges what they give; its first step is the `at`-th of the expression's.
    pub(super) async fn whole_fragment(
        &mut self,
        fragment: Arc<Fragment>,
        at: usize,
    ) -> Result<Outcome, Error> {
        let partials = merge::run_all(self.shards, &fragment).await?;
        self.account.check()?;
        let merged = merge::merge(partials, &fragment, &mut self.notes);
        self.account.meter().settle();
        self.load.merge_at(at, &merged.load);
        Ok(merged.result)
    }

    async fn raw(&mut self, selector: &Selector, range: i64, steps: Steps) -> Result<Vec<Series>, Error> {
        let read = Read::Raw { range };
        let span = promql::ast::Span::default();
        let chain = Chain { selector: selector.clone(), read, maps: Vec::new(), span };
        match self.fragment(chain, None, steps).await? {
            Outcome::Raw(series) => Ok(series),
            _ => Ok(Vec::new()),
        }
    }

    async fn aggregate(&mut self, node: &Node, a: &Aggregate, steps: Steps) -> Result<Vec<Row>, Error> {
        let param = match &a.param {
            Some(p) if a.op != Aggregator::CountValues => Some(self.column(p, steps).await?),
            _ => None,
        };
        // What is wrong with the parameter is said after what is wrong with the elements.
        let before = std::mem::take(&mut self.notes);
        let fold = self.fold(node, a, param);
        let of_param = std::mem::replace(&mut self.notes, before);
        let fold = match fold {
            Ok(Some(fold)) => fold,
            Err(e) if a.op == Aggregator::CountValues => return Err(e),
            // Nothing is chosen, but errors and notes of the elements stand.
            nothing => {
                self.rows(&a.inner, steps).await?;
                self.notes.merge(of_param);
                return nothing.map(|_| Vec::new());
            }
        };
        let rows = self.folded(a, fold, steps).await;
        self.notes.merge(of_param);
        rows
    }

    async fn folded(&mut self, a: &Aggregate, fold: Fold, steps: Steps) -> Result<Vec<Row>, Error> {
        if let Some(found) = chain(&a.inner)
            && may_fold(&found, &self.settings)
        {
            let chain = self.chain(&found, steps).await?;
            return match self.fragment(chain, Some(fold), steps).await? {
                Outcome::Rows(rows) => Ok(rows),
                _ => Ok(Vec::new()),
            };
        }
        let rows = self.rows(&a.inner, steps).await?;
        Ok(fold_rows(&rows, &fold, steps.count, &mut self.notes))
    }

    /// The aggregation with its parameter checked; `None` where nothing can come of it.
    fn fold(&mut self, node: &Node, a: &Aggregate, column: Option<Column>) -> Result<Option<Fold>, Error> {
        let mut fold = Fold {
            op: a.op,
            grouping: a.grouping.clone(),
            without: a.without,
            param: None,
            label: Arc::from(""),
            span: node.span,
            inner_span: a.inner.span,
        };
        let Some(param) = &a.param else { return Ok(Some(fold)) };
        if a.op == Aggregator::CountValues {
            fold.label = self
                .label_name(param)
                .map_err(|name| Error::Execution(format!("invalid label name {name}")))?;
            return Ok(Some(fold));
        }
        let Some(column) = column else { return Ok(Some(fold)) };
        let column = match a.op {
            Aggregator::Quantile => {
                self.check_quantile(&column, param.span);
                Some(column)
            }
            Aggregator::LimitRatio => self.ratio(&column, param.span)?,
            _ => counts(&column)?,
        };
        Ok(column.map(|c| Fold { param: Some(c), ..fold }))
    }

    fn check_quantile(&mut self, column: &Column, span: promql::ast::Span) {
        let (min, max) = extremes(column);
        if column.iter().any(|v| v.is_nan()) {
            self.notes.invalid_quantile(f64::NAN, span);
        }
        if max > 1.0 {
            self.notes.invalid_quantile(max, span);
        }
        if min < 0.0 {
            self.notes.invalid_quantile(min, span);
        }
    }

    /// Ratios of `limit_ratio`, capped; `None` where all are zero.
    fn ratio(&mut self, column: &Column, span: promql::ast::Span) -> Result<Option<Column>, Error> {
        if column.iter().any(|v| v.is_nan()) {
            return Err(Error::Execution("Ratio value is NaN".into()));
        }
        let (min, max) = extremes(column);
        if max > 1.0 {
            self.notes.invalid_ratio(max, 1.0, span);
        }
        if min < -1.0 {
            self.notes.invalid_ratio(min, -1.0, span);
        }
        let capped: Column = column.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
        Ok((min != 0.0 || max != 0.0).then_some(capped))
    }

    /// A string argument that names a label. Any UTF-8 text does, but not an empty one.
    ///
    /// Errors: the quoted string, where it does not.
    pub(super) fn label_name(&self, node: &Node) -> Result<Arc<str>, String> {
        let Kind::Text(bytes) = &node.kind else { return Err("\"\"".to_owned()) };
        match std::str::from_utf8(bytes) {
            Ok(name) if !name.is_empty() => Ok(Arc::from(name)),
            _ => {
                let mut quoted = String::new();
                model::quote::push_quoted_bytes(&mut quoted, bytes);
                Err(quoted)
            }
        }
    }

    /// A string argument.
    pub(super) fn text(&self, node: &Node) -> Result<Arc<str>, Error> {
        match &node.kind {
            Kind::Text(t) => Ok(Arc::from(String::from_utf8_lossy(t))),
            Kind::Once(inner) => self.text(inner),
            _ => Err(Error::Execution("expected a string".into())),
        }
    }
}

fn extremes(column: &Column) -> (f64, f64) {
    column.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)))
}

/// How many elements to choose at each step; `None` where it is never even one.
fn counts(column: &Column) -> Result<Option<Column>, Error> {
    /// Floats at and beyond which an int64 does not hold the value any more.
    const MIN: f64 = -9_223_372_036_854_775_808.0;
    const MAX: f64 = 9_223_372_036_854_774_784.0;
    if column.iter().any(|v| v.is_nan()) {
        return Err(Error::Execution("Parameter value is NaN".into()));
    }
    let (min, max) = extremes(column);
    if max < 1.0 {
        return Ok(None);
    }
    let text = model::float_text::format_g;
    if min < MIN {
        return Err(Error::Execution(format!("Scalar value {} underflows int64", text(min))));
    }
    if max > MAX {
        return Err(Error::Execution(format!("Scalar value {} overflows int64", text(max))));
    }
    Ok(Some(column.iter().map(|v| v.trunc().max(0.0)).collect()))
}

fn unexpected(wanted: &str, frame: &Frame) -> Error {
    let is = match frame {
        Frame::Scalar(_) => ValueType::Scalar,
        Frame::Text(_) => ValueType::String,
        Frame::Rows(_) => ValueType::Vector,
        Frame::Matrix(_) => ValueType::Matrix,
    };
    Error::Execution(format!("expected {wanted}, got {}", is.documented()))
}

fn worth(frame: &Frame) -> Held {
    match frame {
        Frame::Scalar(v) => Held { samples: v.len(), bytes: 8 * v.len() },
        Frame::Text(t) => Held { samples: 0, bytes: t.len() },
        Frame::Rows(rows) => Held {
            samples: rows.iter().map(Row::sample_count).sum(),
            bytes: rows.iter().map(Row::bytes).sum(),
        },
        Frame::Matrix(series) => Held {
            samples: series.iter().map(|s| s.floats.len() + s.histograms.len()).sum(),
            bytes: series.iter().map(Series::bytes).sum(),
        },
    }
}

fn repeated(row: &Row, step_count: usize) -> Row {
    let mut out = row.emptied();
    match row.cell(0) {
        Some(Cell::Float(v)) => out.floats = vec![v; step_count],
        Some(Cell::Histogram(h)) => out.histograms = (0..step_count as u32).map(|s| (s, h.clone())).collect(),
        None => {}
    }
    out
}

/// Makes one row of those that have the same labels. Where two of them have a cell at one step, there are two
/// elements of one name, which is an error.
pub fn united(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    let mut known: hashbrown::HashMap<model::Labels, usize> = hashbrown::HashMap::with_capacity(rows.len());
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match known.entry(row.labels.clone()) {
            hashbrown::hash_map::Entry::Vacant(e) => {
                e.insert(out.len());
                out.push(row);
            }
            hashbrown::hash_map::Entry::Occupied(e) => {
                if !out[*e.get()].absorb(row) {
                    return Err(Error::Execution(SAME_LABELS.into()));
                }
            }
        }
    }
    Ok(out)
}

/// Removes the names that were marked for it.
pub fn without_dropped_names(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    let removed = rows.into_iter().map(|mut row| {
        if row.drop_name {
            row.labels = without_reserved(&row.labels);
            row.drop_name = false;
        }
        row
    });
    united(removed.collect())
}

/// A time as the functions of time give it.
pub(super) fn seconds(t: Timestamp) -> f64 {
    t as f64 / 1000.0
}
