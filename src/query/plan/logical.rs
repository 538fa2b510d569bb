//! The tree that is evaluated: parentheses gone, times resolved, parts that do not change with the step marked.

use std::cell::Cell;
use std::sync::Arc;

use model::{Matcher, Timestamp};
use promql::Function;
use promql::ast::{Aggregator, At, BinaryOp, Expr, Extent, Span, ValueType, VectorMatching};

use promql::duration::QueryBounds;

use crate::query::Error;

/// What a query asks for, in time.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub start: Timestamp,
    pub end: Timestamp,
    /// 0 for an instant query.
    pub interval: i64,
    /// Step of subqueries that give none.
    pub subquery_interval: i64,
}

impl Bounds {
    /// What `step()` and `range()` mean.
    fn lengths(&self) -> QueryBounds {
        let step = if self.start == self.end { 0 } else { self.interval };
        QueryBounds { step, range: self.end - self.start }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub span: Span,
    pub value_type: ValueType,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Number(f64),
    /// Bytes: escapes may make what is not UTF-8.
    Text(Arc<[u8]>),
    Vector(Selector),
    Range(Selector, i64),
    Subquery(Subquery),
    Call {
        function: Function,
        args: Vec<Node>,
    },
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Negate(Box<Node>),
    /// Does not depend on the step: evaluated at the first one, valid for all.
    Once(Box<Node>),
}

/// Which series, and when relative to the step.
#[derive(Clone, Debug)]
pub struct Selector {
    pub name: String,
    pub matchers: Arc<[Matcher]>,
    pub offset: i64,
    pub at: Option<Timestamp>,
    pub anchored: bool,
    pub smoothed: bool,
    /// Of histograms only count and sum are asked for.
    pub stats_only: bool,
}

impl Selector {
    /// The moment that step `t` looks at.
    #[inline]
    pub fn reference(&self, t: Timestamp) -> Timestamp {
        self.at.unwrap_or(t).saturating_sub(self.offset)
    }
}

#[derive(Clone, Debug)]
pub struct Subquery {
    pub inner: Box<Node>,
    pub range: i64,
    pub step: i64,
    pub offset: i64,
    pub at: Option<Timestamp>,
}

impl Subquery {
    #[inline]
    pub fn reference(&self, t: Timestamp) -> Timestamp {
        self.at.unwrap_or(t).saturating_sub(self.offset)
    }
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub op: Aggregator,
    pub inner: Node,
    pub param: Option<Node>,
    /// Sorted.
    pub grouping: Vec<String>,
    pub without: bool,
}

#[derive(Clone, Debug)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Node,
    pub rhs: Node,
    pub matching: Option<VectorMatching>,
    pub return_bool: bool,
}

/// Builds the tree of `expr` for a query with these bounds.
pub fn logical(expr: &Expr, bounds: &Bounds) -> Result<Node, Error> {
    let (node, invariance) = Builder { bounds, stats_only: Cell::new(false) }.node(expr)?;
    Ok(invariance.wrapped(node))
}

/// Whether a part of the tree has the same value at every step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invariance {
    Varies,
    /// A literal: nothing is gained by marking it.
    Literal,
    /// Pinned by `@`.
    Pinned,
}

impl Invariance {
    fn and(self, other: Invariance) -> Invariance {
        use Invariance::*;
        match (self, other) {
            (Varies, _) | (_, Varies) => Varies,
            (Literal, Literal) => Literal,
            _ => Pinned,
        }
    }

    fn wrapped(self, node: Node) -> Node {
        if self != Invariance::Pinned || matches!(node.kind, Kind::Range(..) | Kind::Subquery(_)) {
            return node;
        }
        let (span, value_type) = (node.span, node.value_type);
        Node { kind: Kind::Once(Box::new(node)), span, value_type }
    }
}

struct Builder<'a> {
    bounds: &'a Bounds,
    /// Whether what is being built is looked at by its count and sum alone.
    stats_only: Cell<bool>,
}

impl Builder<'_> {
    fn node(&self, expr: &Expr) -> Result<(Node, Invariance), Error> {
        let (kind, invariance) = match expr {
            Expr::Paren(p) => return self.node(&p.expr),
            Expr::Number(n) => (Kind::Number(n.value), Invariance::Literal),
            Expr::String(s) => (Kind::Text(s.value.clone()), Invariance::Literal),
            Expr::Vector(v) => self.vector(v)?,
            Expr::Matrix(m) => {
                let (selector, invariance) = self.selector(&m.selector)?;
                (Kind::Range(selector, self.length(&m.range)?), invariance)
            }
            Expr::Subquery(s) => self.subquery(s)?,
            Expr::Unary(u) if !u.negate => return self.node(&u.expr),
            Expr::Unary(u) => {
                let (inner, invariance) = self.node(&u.expr)?;
                (Kind::Negate(Box::new(inner)), invariance)
            }
            Expr::Call(c) => self.call(c)?,
            Expr::Aggregate(a) => self.aggregate(a)?,
            Expr::Binary(b) => self.binary(b)?,
        };
        Ok((Node { kind, span: expr.span(), value_type: expr.value_type() }, invariance))
    }

    /// Builds something that is looked at in another way than what is around it.
    fn within<T>(&self, stats_only: Option<bool>, build: impl FnOnce(&Self) -> T) -> T {
        let before = self.stats_only.get();
        self.stats_only.set(stats_only.unwrap_or(before));
        let built = build(self);
        self.stats_only.set(before);
        built
    }

    fn vector(&self, v: &promql::ast::VectorSelector) -> Result<(Kind, Invariance), Error> {
        let (selector, invariance) = self.selector(v)?;
        Ok((Kind::Vector(selector), invariance))
    }

    fn selector(&self, v: &promql::ast::VectorSelector) -> Result<(Selector, Invariance), Error> {
        let at = self.at(v.at);
        let selector = Selector {
            name: v.name.clone(),
            matchers: v.matchers.clone(),
            offset: self.duration(&v.offset)?,
            at,
            anchored: v.anchored,
            smoothed: v.smoothed,
            stats_only: self.stats_only.get(),
        };
        Ok((selector, pinned(at)))
    }

    fn subquery(&self, s: &promql::ast::SubqueryExpr) -> Result<(Kind, Invariance), Error> {
        // Between the steps of a subquery resets are found by looking at buckets.
        let (inner, invariance) = self.within(Some(false), |b| b.node(&s.expr))?;
        let at = self.at(s.at);
        let step = match &s.step {
            Some(step) => self.length(step)?,
            None => self.bounds.subquery_interval,
        };
        let kind = Kind::Subquery(Subquery {
            inner: Box::new(invariance.wrapped(inner)),
            range: self.length(&s.range)?,
            step: step.max(1),
            offset: self.duration(&s.offset)?,
            at,
        });
        Ok((kind, pinned(at)))
    }

    fn call(&self, c: &promql::ast::CallExpr) -> Result<(Kind, Invariance), Error> {
        if let Some(value) = self.constant(c.function) {
            return Ok((Kind::Number(value), Invariance::Literal));
        }
        let mut args = Vec::with_capacity(c.args.len());
        let mut all = if depends_on_time(c) { Invariance::Varies } else { Invariance::Literal };
        let stats_only = looks_at_stats(c.function);
        for a in &c.args {
            let (node, invariance) = self.within(stats_only, |b| b.node(a))?;
            all = all.and(invariance);
            args.push((node, invariance));
        }
        let wrap = all == Invariance::Varies;
        let args = args.into_iter().map(|(n, i)| if wrap { i.wrapped(n) } else { n }).collect();
        Ok((Kind::Call { function: c.function, args }, all))
    }

    /// The value of functions that ask for the query's bounds.
    fn constant(&self, function: Function) -> Option<f64> {
        let b = self.bounds;
        let ms = match function {
            Function::Start => b.start,
            Function::End => b.end,
            Function::Range => b.lengths().range,
            Function::Step => b.lengths().step,
            _ => return None,
        };
        Some(ms as f64 / 1000.0)
    }

    fn aggregate(&self, a: &promql::ast::AggregateExpr) -> Result<(Kind, Invariance), Error> {
        let (inner, of_inner) = self.node(&a.expr)?;
        let param = a.param.as_ref().map(|p| self.node(p)).transpose()?;
        let invariance = param.as_ref().map_or(of_inner, |(_, of_param)| of_inner.and(*of_param));
        let varies = invariance == Invariance::Varies;
        let inner = if varies { of_inner.wrapped(inner) } else { inner };
        let param = param.map(|(node, of_param)| if varies { of_param.wrapped(node) } else { node });
        let mut grouping = a.grouping.clone();
        grouping.sort();
        grouping.dedup();
        let kind =
            Kind::Aggregate(Box::new(Aggregate { op: a.op, inner, param, grouping, without: a.without }));
        Ok((kind, invariance))
    }

    fn binary(&self, b: &promql::ast::BinaryExpr) -> Result<(Kind, Invariance), Error> {
        let needs_buckets = (b.op.is_comparison() || b.op.is_trim()).then_some(false);
        let (lhs, left) = self.within(needs_buckets, |builder| builder.node(&b.lhs))?;
        let (rhs, right) = self.within(needs_buckets, |builder| builder.node(&b.rhs))?;
        let all = left.and(right);
        let (lhs, rhs) =
            if all == Invariance::Varies { (left.wrapped(lhs), right.wrapped(rhs)) } else { (lhs, rhs) };
        let (op, matching, return_bool) = (b.op, b.matching.clone(), b.return_bool);
        Ok((Kind::Binary(Box::new(Binary { op, lhs, rhs, matching, return_bool })), all))
    }

    fn at(&self, at: Option<At>) -> Option<Timestamp> {
        at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.bounds.start,
            At::End => self.bounds.end,
        })
    }

    /// An offset, of either sign.
    fn duration(&self, extent: &Extent) -> Result<i64, Error> {
        extent.millis(self.bounds.lengths()).map_err(Error::Parse)
    }

    /// A range or a step, which must be positive.
    fn length(&self, extent: &Extent) -> Result<i64, Error> {
        extent.positive_millis(self.bounds.lengths()).map_err(Error::Parse)
    }
}

/// Whether a function looks at counts and sums of histograms alone, or at all of them; `None` for most, which pass
/// histograms on.
fn looks_at_stats(function: Function) -> Option<bool> {
    use Function::*;
    match function {
        HistogramAvg | HistogramCount | HistogramSum => Some(true),
        HistogramFraction | HistogramQuantile | HistogramQuantiles | HistogramStddev | HistogramStdvar => {
            Some(false)
        }
        _ => None,
    }
}

fn pinned(at: Option<Timestamp>) -> Invariance {
    if at.is_some() { Invariance::Pinned } else { Invariance::Varies }
}

/// Functions that look at the time of the step itself.
fn depends_on_time(c: &promql::ast::CallExpr) -> bool {
    use Function::*;
    match c.function {
        Timestamp => !matches!(c.args.first().map(Expr::unparen), Some(Expr::Vector(_))),
        DayOfMonth | DayOfWeek | DayOfYear | DaysInMonth | Hour | Minute | Month | Year | Time
        | PredictLinear => true,
        _ => false,
    }
}
