//! The tree of an expression: plain data, as the parser leaves it.
//!
//! A tree that [`crate::parse`] returned is well typed: function arguments have the kinds their signature
//! asks for, a matrix selector holds a vector selector, `matching` is there only between two vectors.
//! Its height is at most [`crate::MAX_HEIGHT`], so consumers may recurse.

use std::sync::Arc;

use model::{Matcher, Timestamp};

use crate::functions::Function;

/// Bytes `start..end` of the text an expression was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        // Inputs are bounded far below 4 GiB by `MAX_INPUT`.
        Span { start: start as u32, end: end as u32 }
    }

    /// From the start of `self` to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end }
    }
}

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// The word of the HTTP API (`resultType`) and of parsed trees.
    pub fn text(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }

    /// The words of the documentation and of error texts.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Aggregate(Box<AggregateExpr>),
    Binary(Box<BinaryExpr>),
    Call(CallExpr),
    Matrix(Box<MatrixSelector>),
    Number(NumberLiteral),
    Paren(ParenExpr),
    String(StringLiteral),
    Subquery(Box<SubqueryExpr>),
    Unary(UnaryExpr),
    Vector(Box<VectorSelector>),
}

/// `sum by (job) (x)`, `topk(3, x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateExpr {
    pub op: Aggregator,
    pub expr: Expr,
    /// There exactly where `op.has_param()`.
    pub param: Option<Expr>,
    pub grouping: Vec<String>,
    pub without: bool,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregator {
    Avg,
    BottomK,
    Count,
    CountValues,
    Group,
    LimitK,
    LimitRatio,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    TopK,
}

impl Aggregator {
    pub const ALL: [Aggregator; 14] = [
        Aggregator::Avg,
        Aggregator::BottomK,
        Aggregator::Count,
        Aggregator::CountValues,
        Aggregator::Group,
        Aggregator::LimitK,
        Aggregator::LimitRatio,
        Aggregator::Max,
        Aggregator::Min,
        Aggregator::Quantile,
        Aggregator::Stddev,
        Aggregator::Stdvar,
        Aggregator::Sum,
        Aggregator::TopK,
    ];

    pub fn text(self) -> &'static str {
        match self {
            Aggregator::Avg => "avg",
            Aggregator::BottomK => "bottomk",
            Aggregator::Count => "count",
            Aggregator::CountValues => "count_values",
            Aggregator::Group => "group",
            Aggregator::LimitK => "limitk",
            Aggregator::LimitRatio => "limit_ratio",
            Aggregator::Max => "max",
            Aggregator::Min => "min",
            Aggregator::Quantile => "quantile",
            Aggregator::Stddev => "stddev",
            Aggregator::Stdvar => "stdvar",
            Aggregator::Sum => "sum",
            Aggregator::TopK => "topk",
        }
    }

    /// Whether a parameter comes before the aggregated vector.
    pub fn has_param(self) -> bool {
        self.param_type().is_some()
    }

    pub fn param_type(self) -> Option<ValueType> {
        match self {
            Aggregator::CountValues => Some(ValueType::String),
            Aggregator::BottomK
            | Aggregator::LimitK
            | Aggregator::LimitRatio
            | Aggregator::Quantile
            | Aggregator::TopK => Some(ValueType::Scalar),
            _ => None,
        }
    }

    pub fn is_experimental(self) -> bool {
        matches!(self, Aggregator::LimitK | Aggregator::LimitRatio)
    }
}

/// `lhs op [bool] [matching] rhs`. Its span runs from its left operand's start to its right operand's end.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    pub op: BinaryOp,
    pub lhs: Expr,
    pub rhs: Expr,
    /// There exactly where both operands are instant vectors.
    pub matching: Option<VectorMatching>,
    pub return_bool: bool,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    And,
    Atan2,
    Div,
    Eq,
    Greater,
    GreaterEq,
    Less,
    LessEq,
    Mod,
    Mul,
    NotEq,
    Or,
    Pow,
    Sub,
    /// `>/`: keeps the observations of a histogram above a bound.
    TrimLower,
    /// `</`: keeps the observations of a histogram below a bound.
    TrimUpper,
    Unless,
}

impl BinaryOp {
    pub fn text(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::And => "and",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Div => "/",
            BinaryOp::Eq => "==",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEq => ">=",
            BinaryOp::Less => "<",
            BinaryOp::LessEq => "<=",
            BinaryOp::Mod => "%",
            BinaryOp::Mul => "*",
            BinaryOp::NotEq => "!=",
            BinaryOp::Or => "or",
            BinaryOp::Pow => "^",
            BinaryOp::Sub => "-",
            BinaryOp::TrimLower => ">/",
            BinaryOp::TrimUpper => "</",
            BinaryOp::Unless => "unless",
        }
    }

    /// `== != < <= > >=`; the trim operators are not among them.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | NotEq | Less | LessEq | Greater | GreaterEq)
    }

    /// `and or unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    /// `</ >/`.
    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimLower | BinaryOp::TrimUpper)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cardinality {
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    pub fn text(self) -> &'static str {
        match self {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        }
    }
}

/// How the elements of two vectors find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    pub cardinality: Cardinality,
    /// The labels of `on` (where `on`) or of `ignoring`.
    pub labels: Vec<String>,
    pub on: bool,
    /// Labels of the "one" side that `group_left`, `group_right` carry over.
    pub include: Vec<String>,
    pub fill: Fill,
}

/// Values that stand in for an element missing on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fill {
    pub left: Option<f64>,
    pub right: Option<f64>,
}

impl Fill {
    pub fn is_none(&self) -> bool {
        self.left.is_none() && self.right.is_none()
    }
}

/// `rate(x[5m])`.
#[derive(Clone, Debug, PartialEq)]
pub struct CallExpr {
    pub function: Function,
    pub args: Vec<Expr>,
    pub span: Span,
}

/// `x[5m]`; offset and `@` are those of `selector`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    pub range: Extent,
    pub span: Span,
}

/// `expr[range:step]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SubqueryExpr {
    pub expr: Expr,
    pub range: Extent,
    /// `None`: the default step.
    pub step: Option<Extent>,
    pub offset: Extent,
    pub at: Option<At>,
    pub span: Span,
}

/// `name{matchers} offset 5m @ 100`.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The name before the braces; empty where there is none. One inside is among `matchers` only.
    pub name: String,
    /// All conditions in written order; that of a name before the braces comes last.
    pub matchers: Arc<[Matcher]>,
    /// Positive: into the past. Zero where not written.
    pub offset: Extent,
    pub at: Option<At>,
    pub anchored: bool,
    pub smoothed: bool,
    pub span: Span,
}

/// A length of time, written as a literal or as an expression that needs the query's bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Extent {
    /// Milliseconds, and what a literal finer than a millisecond had beyond them is cut off.
    Literal(i64),
    /// Resolved by [`DurationExpr::millis`] once step and range of the query are known.
    Expr(Box<DurationExpr>),
}

impl Extent {
    pub const ZERO: Extent = Extent::Literal(0);

    /// The literal's milliseconds; `None` for an expression.
    pub fn literal(&self) -> Option<i64> {
        match self {
            Extent::Literal(ms) => Some(*ms),
            Extent::Expr(_) => None,
        }
    }

    pub fn is_zero(&self) -> bool {
        *self == Extent::ZERO
    }
}

/// `@ 1.5`, `@ start()`, `@ end()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Time(Timestamp),
    Start,
    End,
}

/// `step() + 5s`, `-range()`, `(1m * 2)`.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    pub kind: DurationKind,
    /// Written in parentheses.
    pub wrapped: bool,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    Number(NumberLiteral),
    Step,
    Range,
    Negate(Box<DurationExpr>),
    /// A parenthesized literal: `(5m)`.
    Keep(Box<DurationExpr>),
    Binary(DurationOp, Box<DurationExpr>, Box<DurationExpr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

#[derive(Clone, Copy, Debug)]
pub struct NumberLiteral {
    /// Seconds where `duration`.
    pub value: f64,
    /// Written as a duration: `5m`.
    pub duration: bool,
    pub span: Span,
}

impl PartialEq for NumberLiteral {
    /// NaN equals NaN: two trees are the same if they were written the same.
    fn eq(&self, other: &Self) -> bool {
        let same = self.value == other.value || (self.value.is_nan() && other.value.is_nan());
        same && self.duration == other.duration && self.span == other.span
    }
}

/// A string; escapes may make bytes that are not UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    pub value: Arc<[u8]>,
    pub span: Span,
}

impl StringLiteral {
    /// The text, with bytes that are not UTF-8 replaced by U+FFFD.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.value)
    }
}

/// `(expr)`.
#[derive(Clone, Debug, PartialEq)]
pub struct ParenExpr {
    pub expr: Box<Expr>,
    pub span: Span,
}

/// `-expr`, `+expr`.
#[derive(Clone, Debug, PartialEq)]
pub struct UnaryExpr {
    /// `-`; otherwise `+`.
    pub negate: bool,
    pub expr: Box<Expr>,
    pub span: Span,
}

impl Expr {
    pub fn span(&self) -> Span {
        match self {
            Expr::Aggregate(e) => e.span,
            Expr::Binary(e) => e.span,
            Expr::Call(e) => e.span,
            Expr::Matrix(e) => e.span,
            Expr::Number(e) => e.span,
            Expr::Paren(e) => e.span,
            Expr::String(e) => e.span,
            Expr::Subquery(e) => e.span,
            Expr::Unary(e) => e.span,
            Expr::Vector(e) => e.span,
        }
    }

    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Aggregate(_) | Expr::Vector(_) => ValueType::Vector,
            Expr::Call(e) => e.function.signature().returns,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Paren(e) => e.expr.value_type(),
            Expr::Unary(e) => e.expr.value_type(),
            Expr::Binary(e) => {
                let scalar = |e: &Expr| e.value_type() == ValueType::Scalar;
                if scalar(&e.lhs) && scalar(&e.rhs) { ValueType::Scalar } else { ValueType::Vector }
            }
        }
    }

    /// The expression inside any parentheses around it.
    pub fn unparen(&self) -> &Expr {
        let mut e = self;
        while let Expr::Paren(p) = e {
            e = &p.expr;
        }
        e
    }

    /// Calls `visit` with each direct child, in the order they are evaluated.
    pub fn for_each_child<'a>(&'a self, mut visit: impl FnMut(&'a Expr)) {
        match self {
            Expr::Aggregate(e) => {
                visit(&e.expr);
                if let Some(p) = &e.param {
                    visit(p);
                }
            }
            Expr::Binary(e) => {
                visit(&e.lhs);
                visit(&e.rhs);
            }
            Expr::Call(e) => e.args.iter().for_each(visit),
            Expr::Paren(e) => visit(&e.expr),
            Expr::Subquery(e) => visit(&e.expr),
            Expr::Unary(e) => visit(&e.expr),
            Expr::Matrix(_) | Expr::Number(_) | Expr::String(_) | Expr::Vector(_) => {}
        }
    }

    /// Calls `visit` with this expression and all below it, parents first.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) {
        visit(self);
        self.for_each_child(|c| c.walk(visit));
    }

    /// The vector selectors of the tree, those of matrix selectors included.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        self.walk(&mut |e| match e {
            Expr::Vector(v) => found.push(&**v),
            Expr::Matrix(m) => found.push(&m.selector),
            _ => {}
        });
        found
    }
}
