//! What may follow an expression: ranges and subqueries, `offset`, `@`, `anchored`, `smoothed`; and the
//! lengths of time they are written with.

use crate::ast::*;
use crate::error::Error;
use crate::number::{is_duration_out_of_range, seconds_to_millis};
use crate::parser::{Level, Node, Parsed, Parser, level_of};
use crate::token::{Kind, Token, Word};

const DURATION: &str = "number, duration, step(), or range()";
const OFFSET_RULE: &str = "offset";
const RANGE_RULE: &str = "subquery or range selector";

/// Which of the grammar's rules a length of time stands in: what a wrong token is told it should be.
#[derive(Clone, Copy)]
struct Place {
    rule: &'static str,
    expected: &'static str,
}

impl Parser<'_> {
    /// A selector and nothing else.
    pub(crate) fn parse_selector(mut self) -> Result<Vec<model::Matcher>, Error> {
        let parsed = self.lone_selector();
        self.finish(parsed, |_, _, _| {})
    }

    fn lone_selector(&mut self) -> Parsed<Vec<model::Matcher>> {
        let token = self.peek()?;
        let name = match token.kind {
            Kind::LeftBrace => None,
            kind if kind.is_metric_name() => Some(self.take()?),
            _ => return self.unexpected_here(),
        };
        let selector = self.selector(name)?;
        self.expect_end()?;
        match selector {
            Expr::Vector(v) => Ok(v.matchers.to_vec()),
            _ => Ok(Vec::new()),
        }
    }

    /// `[range]`, `[range:]` or `[range:step]` after `node`.
    pub(crate) fn bracket(&mut self, node: Node) -> Parsed<Node> {
        let open = self.take()?;
        let range = self.positive_duration(Place { rule: RANGE_RULE, expected: DURATION })?;
        match self.peek()?.kind {
            Kind::RightBracket => {
                let close = self.take()?;
                self.matrix(node, range, open, close)
            }
            Kind::Colon => {
                self.take()?;
                self.subquery(node, range)
            }
            _ => self.unexpected("subquery or range", "\":\" or \"]\""),
        }
    }

    fn matrix(&mut self, node: Node, range: Extent, open: Token, close: Token) -> Parsed<Node> {
        let refused = match &node.expr {
            Expr::Vector(v) if !v.offset.is_zero() => "no offset modifiers allowed before range",
            Expr::Vector(v) if v.at.is_some() => "no @ modifiers allowed before range",
            Expr::Vector(_) => "",
            _ => "ranges only allowed for vector selectors",
        };
        if !refused.is_empty() {
            self.complain(open.span.to(close.span), refused.to_owned());
        }
        let Expr::Vector(selector) = node.expr else {
            return Ok(Node::placeholder(node.expr.span().to(close.span)));
        };
        let span = selector.span.to(close.span);
        let matrix = MatrixSelector { selector: *selector, range, span };
        Ok(Node { expr: Expr::Matrix(Box::new(matrix)), height: node.height })
    }

    fn subquery(&mut self, node: Node, range: Extent) -> Parsed<Node> {
        const RULE: &str = "subquery selector";
        let place = Place { rule: RULE, expected: "number, duration, step(), range(), or \"]\"" };
        let mut step = None;
        if self.peek()?.kind != Kind::RightBracket {
            step = Some(self.positive_duration(place)?);
            if self.peek()?.kind != Kind::RightBracket {
                return self.unexpected(RULE, "\"]\"");
            }
        }
        let span = node.expr.span().to(self.take()?.span);
        let height = self.height_above(&node)?;
        let subquery = SubqueryExpr { expr: node.expr, range, step, offset: Extent::ZERO, at: None, span };
        Ok(Node { expr: Expr::Subquery(Box::new(subquery)), height })
    }

    pub(crate) fn offset(&mut self, target: &mut Expr) -> Parsed<()> {
        self.take()?;
        let written = self.offset_duration()?;
        let whole = target.span();
        let Some((offset, _, span)) = time_modifiers(target) else {
            let what =
                "must be preceded by an instant vector selector or range vector selector or a subquery";
            self.complain(whole, format!("offset modifier {what}"));
            return Ok(());
        };
        span.end = span.end.max(written.span.end);
        if !offset.is_zero() {
            self.complain(whole, "offset may not be set multiple times".to_owned());
            return Ok(());
        }
        *offset = extent(written);
        Ok(())
    }

    pub(crate) fn at_modifier(&mut self, target: &mut Expr) -> Parsed<()> {
        let keyword = self.take()?;
        let (at, end) = self.at_value(keyword, target)?;
        let whole = target.span();
        let Some((_, slot, span)) = time_modifiers(target) else {
            let what =
                "must be preceded by an instant vector selector or range vector selector or a subquery";
            self.complain(whole, format!("@ modifier {what}"));
            return Ok(());
        };
        if slot.is_some() {
            self.complain(whole, "@ <timestamp> may not be set multiple times".to_owned());
            return Ok(());
        }
        *slot = Some(at);
        span.end = span.end.max(end.end);
        Ok(())
    }

    fn at_value(&mut self, keyword: Token, target: &Expr) -> Parsed<(At, Span)> {
        const EXPECTED: (&str, &str) = ("@", "timestamp");
        let token = self.peek()?;
        if let Kind::Word(word) = token.kind
            && let Some(at) = word.bound()
        {
            self.take()?;
            let mut end = keyword.span;
            for paren in [Kind::LeftParen, Kind::RightParen] {
                if self.peek()?.kind != paren {
                    return self.unexpected(EXPECTED.0, EXPECTED.1);
                }
                end = self.take()?.span;
            }
            return Ok((at, end));
        }
        let mut sign = 1.0;
        if let Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = token.kind {
            self.take()?;
            sign = if op == BinaryOp::Sub { -1.0 } else { 1.0 };
        }
        if !matches!(self.peek()?.kind, Kind::Number | Kind::Duration) {
            return self.unexpected(EXPECTED.0, EXPECTED.1);
        }
        let number = self.number_literal()?;
        let seconds = sign * number.value;
        const LIMIT: f64 = i64::MAX as f64;
        if !(seconds > -LIMIT && seconds < LIMIT) {
            let text = crate::print::fixed(seconds, 6);
            self.complain(target.span(), format!("timestamp out of bounds for @ modifier: {text}"));
        }
        Ok((At::Time((seconds * 1000.0).round() as i64), number.span))
    }

    pub(crate) fn set_extended(&mut self, target: &mut Expr, anchored: bool) {
        let word = if anchored { "anchored" } else { "smoothed" };
        let span = target.span();
        if !self.options.extended_range_selectors {
            self.complain(span, format!("{word} modifier is experimental and not enabled"));
            return;
        }
        let selector = match target {
            Expr::Vector(v) => &mut **v,
            Expr::Matrix(m) => &mut m.selector,
            Expr::Subquery(_) => {
                self.complain(span, format!("{word} modifier is not supported for subqueries"));
                return;
            }
            _ => {
                self.complain(span, format!("{word} modifier not implemented"));
                return;
            }
        };
        selector.anchored |= anchored;
        selector.smoothed |= !anchored;
        if selector.anchored && selector.smoothed {
            self.complain(span, "anchored and smoothed modifiers cannot be used together".to_owned());
        }
    }

    // Lengths of time.

    fn positive_duration(&mut self, place: Place) -> Parsed<Extent> {
        let written = self.duration(Level::Or, place)?;
        if let DurationKind::Number(n) = &written.kind
            && n.value <= 0.0
        {
            self.complain(n.span, "duration must be greater than 0".to_owned());
        }
        Ok(extent(written))
    }

    /// After `offset` a bare literal, `step()`, `range()`, `min_of()` or `max_of()`, signed or not, ends the
    /// length of time: an operator after it belongs to the outer expression.
    fn offset_duration(&mut self) -> Parsed<DurationExpr> {
        let place = Place { rule: OFFSET_RULE, expected: DURATION };
        let token = self.peek()?;
        let Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = token.kind else {
            return match token.kind {
                Kind::LeftParen => self.duration(Level::Or, place),
                _ => self.duration_primary(place),
            };
        };
        self.take()?;
        if let Kind::Op(BinaryOp::Add | BinaryOp::Sub) = self.peek()?.kind {
            let operand = self.duration(Level::Power, place)?;
            let signed = self.signed_duration(op, token.span, operand);
            return self.duration_operators(signed, Level::Or, place);
        }
        let call = matches!(self.peek()?.kind, Kind::Word(_));
        let operand = match self.peek()?.kind {
            Kind::LeftParen => self.wrapped_duration(place)?,
            _ => self.duration_primary(place)?,
        };
        if call && op == BinaryOp::Add {
            let span = token.span.to(operand.span);
            return Ok(DurationExpr { kind: DurationKind::Keep(Box::new(operand)), wrapped: false, span });
        }
        Ok(self.signed_duration(op, token.span, operand))
    }

    fn duration(&mut self, least: Level, place: Place) -> Parsed<DurationExpr> {
        self.enter()?;
        let token = self.peek()?;
        let left = match token.kind {
            Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.take()?;
                let operand = self.duration(Level::Power, place)?;
                self.signed_duration(op, token.span, operand)
            }
            _ => self.duration_primary(place)?,
        };
        let written = self.duration_operators(left, least, place)?;
        self.leave();
        Ok(written)
    }

    fn duration_operators(
        &mut self,
        mut left: DurationExpr,
        least: Level,
        place: Place,
    ) -> Parsed<DurationExpr> {
        // Each operator raises the tree by one: as many are allowed as may nest.
        for _ in 0..crate::MAX_NESTING {
            let token = self.peek()?;
            let Kind::Op(op) = token.kind else { return Ok(left) };
            let Some(duration_op) = duration_op(op) else { return Ok(left) };
            if level_of(op) < least {
                return Ok(left);
            }
            self.take()?;
            let right = self.duration(level_of(op).of_right_operand(), place)?;
            self.require_duration_expressions(left.span);
            left = self.duration_binary(left, duration_op, token.span, right);
        }
        let at = self.peek()?.span;
        self.stop(at, format!("duration expression has more than {} operators", crate::MAX_NESTING))
    }

    fn duration_binary(
        &mut self,
        left: DurationExpr,
        op: DurationOp,
        at: Span,
        right: DurationExpr,
    ) -> DurationExpr {
        let by_zero = matches!(&right.kind, DurationKind::Number(n) if n.value == 0.0);
        let refused = match op {
            DurationOp::Div if by_zero => "division by zero",
            DurationOp::Mod if by_zero => "modulo by zero",
            _ => "",
        };
        if !refused.is_empty() {
            self.complain(at, refused.to_owned());
            return zero_duration();
        }
        let span = left.span.to(right.span);
        let kind = DurationKind::Binary(op, Box::new(left), Box::new(right));
        DurationExpr { kind, wrapped: false, span }
    }

    fn duration_primary(&mut self, place: Place) -> Parsed<DurationExpr> {
        let token = self.peek()?;
        match token.kind {
            Kind::Number | Kind::Duration => {
                let n = self.number_literal()?;
                if is_duration_out_of_range(n.value) {
                    self.complain(n.span, "duration out of range".to_owned());
                    return Ok(zero_duration());
                }
                Ok(DurationExpr { kind: DurationKind::Number(n), wrapped: false, span: n.span })
            }
            Kind::LeftParen => {
                let wrapped = self.wrapped_duration(place)?;
                self.require_duration_expressions(wrapped.span);
                Ok(wrapped)
            }
            Kind::Word(word @ (Word::Step | Word::Range)) => {
                self.take()?;
                self.take_in(Kind::LeftParen, place)?;
                let close = self.take_in(Kind::RightParen, place)?;
                let kind = if word == Word::Step { DurationKind::Step } else { DurationKind::Range };
                let span = token.span.to(close.span);
                self.require_duration_expressions(span);
                Ok(DurationExpr { kind, wrapped: false, span })
            }
            Kind::Word(word @ (Word::MinOf | Word::MaxOf)) => {
                self.take()?;
                self.take_in(Kind::LeftParen, place)?;
                let left = self.duration(Level::Or, place)?;
                self.take_in(Kind::Comma, place)?;
                let right = self.duration(Level::Or, place)?;
                let close = self.take_in(Kind::RightParen, place)?;
                let op = if word == Word::MinOf { DurationOp::MinOf } else { DurationOp::MaxOf };
                let span = token.span.to(close.span);
                self.require_duration_expressions(span);
                let kind = DurationKind::Binary(op, Box::new(left), Box::new(right));
                Ok(DurationExpr { kind, wrapped: false, span })
            }
            _ => self.unexpected(place.rule, place.expected),
        }
    }

    fn wrapped_duration(&mut self, place: Place) -> Parsed<DurationExpr> {
        let open = self.take()?;
        let inner = self.duration(Level::Or, place)?;
        let close = self.take_in(Kind::RightParen, place)?;
        let span = open.span.to(close.span);
        // A literal in parentheses is an expression: it is not measured before the query's bounds are known.
        let kind = match inner.kind {
            DurationKind::Number(_) => DurationKind::Keep(Box::new(inner)),
            kind => kind,
        };
        Ok(DurationExpr { kind, wrapped: true, span })
    }

    fn signed_duration(&mut self, op: BinaryOp, at: Span, operand: DurationExpr) -> DurationExpr {
        let negate = op == BinaryOp::Sub;
        let span = at.to(operand.span);
        match operand.kind {
            DurationKind::Number(mut n) => {
                n.value = if negate { -n.value } else { n.value };
                n.span = span;
                DurationExpr { kind: DurationKind::Number(n), wrapped: false, span }
            }
            _ if negate => {
                DurationExpr { kind: DurationKind::Negate(Box::new(operand)), wrapped: false, span }
            }
            _ => operand,
        }
    }

    fn take_in(&mut self, kind: Kind, place: Place) -> Parsed<Token> {
        if self.peek()?.kind != kind {
            return self.unexpected(place.rule, place.expected);
        }
        self.take()
    }

    fn require_duration_expressions(&mut self, span: Span) {
        if !self.options.duration_expressions {
            self.complain(span, "experimental duration expression is not enabled".to_owned());
        }
    }
}

/// Offset, `@` and span of what can have them.
fn time_modifiers(target: &mut Expr) -> Option<(&mut Extent, &mut Option<At>, &mut Span)> {
    match target {
        Expr::Vector(v) => Some((&mut v.offset, &mut v.at, &mut v.span)),
        Expr::Matrix(m) => Some((&mut m.selector.offset, &mut m.selector.at, &mut m.span)),
        Expr::Subquery(s) => Some((&mut s.offset, &mut s.at, &mut s.span)),
        _ => None,
    }
}

fn extent(written: DurationExpr) -> Extent {
    match written.kind {
        DurationKind::Number(n) => Extent::Literal(seconds_to_millis(n.value)),
        _ => Extent::Expr(Box::new(written)),
    }
}

/// What stands for a length of time that was complained about.
fn zero_duration() -> DurationExpr {
    let zero = NumberLiteral { value: 0.0, duration: false, span: Span::default() };
    DurationExpr { kind: DurationKind::Number(zero), wrapped: false, span: Span::default() }
}

fn duration_op(op: BinaryOp) -> Option<DurationOp> {
    match op {
        BinaryOp::Add => Some(DurationOp::Add),
        BinaryOp::Sub => Some(DurationOp::Sub),
        BinaryOp::Mul => Some(DurationOp::Mul),
        BinaryOp::Div => Some(DurationOp::Div),
        BinaryOp::Mod => Some(DurationOp::Mod),
        BinaryOp::Pow => Some(DurationOp::Pow),
        _ => None,
    }
}
