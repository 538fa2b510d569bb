//! Tokens to a tree: recursive descent, operators by precedence.
//!
//! Prometheus's grammar is LALR with rules for errors, and its texts say in which of these rules a token was
//! not expected. Here each such place names its rule itself. A token is read no earlier than that grammar
//! needs it, so that of a lexical and a semantic error the same one comes first.

use std::sync::Arc;

use model::{MatchOp, Matcher};

use crate::ast::*;
use crate::check;
use crate::error::{Complaint, Error, Refusal};
use crate::functions::Function;
use crate::lexer::{Lexer, unquote};
use crate::number;
use crate::token::{Keyword, Kind, Token, Word, quoted};
use crate::{MAX_HEIGHT, MAX_INPUT, MAX_NESTING, Options};

/// Parsing cannot go on; why, has been noted.
pub(crate) struct Stop;

pub(crate) type Parsed<T> = Result<T, Stop>;

/// A subtree and how high it is.
pub(crate) struct Node {
    pub(crate) expr: Expr,
    pub(crate) height: usize,
}

pub(crate) struct Parser<'a> {
    pub(crate) input: &'a [u8],
    pub(crate) lexer: Lexer<'a>,
    peeked: Option<Token>,
    pub(crate) complaints: Vec<Complaint>,
    pub(crate) options: Options,
    /// How many aggregations' parentheses are open: errors inside name the aggregation.
    aggregations: usize,
    nesting: usize,
}

/// Binary operators from loosest to tightest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Or,
    And,
    Compare,
    Add,
    Multiply,
    Power,
}

pub(crate) fn level_of(op: BinaryOp) -> Level {
    use BinaryOp::*;
    match op {
        Or => Level::Or,
        And | Unless => Level::And,
        Eq | NotEq | Less | LessEq | Greater | GreaterEq | TrimLower | TrimUpper => Level::Compare,
        Add | Sub => Level::Add,
        Mul | Div | Mod | Atan2 => Level::Multiply,
        Pow => Level::Power,
    }
}

impl Level {
    /// The level that the right operand of an operator of this level must at least have.
    pub(crate) fn of_right_operand(self) -> Level {
        match self {
            Level::Or => Level::And,
            Level::And => Level::Compare,
            Level::Compare => Level::Add,
            Level::Add => Level::Multiply,
            Level::Multiply => Level::Power,
            // `^` binds to the right.
            Level::Power => Level::Power,
        }
    }
}

impl<'a> Parser<'a> {
    pub(crate) fn new(input: &'a [u8], options: Options) -> Self {
        Parser {
            input,
            lexer: Lexer::new(input),
            peeked: None,
            complaints: Vec::new(),
            options,
            aggregations: 0,
            nesting: 0,
        }
    }

    /// A whole expression, type-checked.
    pub(crate) fn parse_all(mut self) -> Result<Expr, Error> {
        let parsed = self.whole_expression();
        self.finish(parsed, |expr, complaints, input| check::check(expr, input, complaints))
    }

    /// The value, unless there is something to complain about.
    pub(crate) fn finish<T>(
        mut self,
        parsed: Parsed<T>,
        check: impl FnOnce(&mut T, &mut Vec<Complaint>, &[u8]),
    ) -> Result<T, Error> {
        match parsed {
            Ok(mut value) if self.complaints.is_empty() => {
                check(&mut value, &mut self.complaints, self.input);
                if self.complaints.is_empty() {
                    return Ok(value);
                }
            }
            _ => {}
        }
        Err(Error::Refused(Refusal::new(self.input, self.complaints)))
    }

    fn whole_expression(&mut self) -> Parsed<Expr> {
        if self.input.len() > MAX_INPUT {
            return self.stop(Span::default(), format!("expression is longer than {MAX_INPUT} bytes"));
        }
        if self.peek()?.kind == Kind::End {
            return self.stop(Span::default(), "no expression found in input".to_owned());
        }
        let node = self.expression(Level::Or)?;
        self.expect_end()?;
        Ok(node.expr)
    }

    pub(crate) fn expect_end(&mut self) -> Parsed<()> {
        match self.peek()?.kind {
            Kind::End => Ok(()),
            _ => self.unexpected_here(),
        }
    }

    /// Operators no looser than `least` and their operands.
    fn expression(&mut self, least: Level) -> Parsed<Node> {
        self.enter()?;
        let mut left = self.unary()?;
        loop {
            let token = self.peek()?;
            let Kind::Op(op) = token.kind else { break };
            if level_of(op) < least {
                break;
            }
            self.take()?;
            let modifiers = self.binary_modifiers()?;
            let right = self.expression(level_of(op).of_right_operand())?;
            left = self.binary(left, op, modifiers, right)?;
        }
        self.leave();
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Node> {
        let token = self.peek()?;
        let Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = token.kind else {
            let primary = self.primary()?;
            return self.postfix(primary);
        };
        self.take()?;
        let negate = op == BinaryOp::Sub;
        // As tight as `*`: of the operators after it, only `^` belongs to the operand.
        let operand = self.expression(Level::Power)?;
        if let Expr::Number(mut n) = operand.expr {
            n.value = if negate { -n.value } else { n.value };
            n.span = token.span.to(n.span);
            return Ok(Node { expr: Expr::Number(n), height: operand.height });
        }
        let span = token.span.to(operand.expr.span());
        let height = self.height_above(&operand)?;
        Ok(Node { expr: Expr::Unary(UnaryExpr { negate, expr: Box::new(operand.expr), span }), height })
    }

    fn primary(&mut self) -> Parsed<Node> {
        let token = self.peek()?;
        match token.kind {
            Kind::Number | Kind::Duration => {
                let n = self.number_literal()?;
                Ok(Node::leaf(Expr::Number(n)))
            }
            Kind::String => {
                self.take()?;
                let value = unquote(token.text(self.input)).into();
                Ok(Node::leaf(Expr::String(StringLiteral { value, span: token.span })))
            }
            Kind::LeftParen => {
                self.take()?;
                let inner = self.expression(Level::Or)?;
                if self.peek()?.kind != Kind::RightParen {
                    return self.unexpected_here();
                }
                let span = token.span.to(self.take()?.span);
                let height = self.height_above(&inner)?;
                Ok(Node { expr: Expr::Paren(ParenExpr { expr: Box::new(inner.expr), span }), height })
            }
            Kind::LeftBrace => Ok(Node::leaf(self.selector(None)?)),
            kind if kind.is_metric_name() => {
                self.take()?;
                match (kind, self.peek()?.kind) {
                    (Kind::Identifier | Kind::Word(_), Kind::LeftParen) => self.call(token),
                    (
                        Kind::Aggregator(op),
                        Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without),
                    ) => self.aggregate(op, token),
                    _ => Ok(Node::leaf(self.selector(Some(token))?)),
                }
            }
            _ => self.unexpected_here(),
        }
    }

    /// `[...]`, `offset`, `@`, `anchored`, `smoothed`: any number of them, in any order.
    fn postfix(&mut self, mut node: Node) -> Parsed<Node> {
        loop {
            match self.peek()?.kind {
                Kind::LeftBracket => node = self.bracket(node)?,
                Kind::Keyword(Keyword::Offset) => self.offset(&mut node.expr)?,
                Kind::At => self.at_modifier(&mut node.expr)?,
                Kind::Keyword(Keyword::Anchored) => {
                    self.take()?;
                    self.set_extended(&mut node.expr, true);
                }
                Kind::Keyword(Keyword::Smoothed) => {
                    self.take()?;
                    self.set_extended(&mut node.expr, false);
                }
                _ => return Ok(node),
            }
        }
    }

    /// A number or a duration.
    pub(crate) fn number_literal(&mut self) -> Parsed<NumberLiteral> {
        let token = self.take()?;
        let duration = token.kind == Kind::Duration;
        let value = self.number_value(token);
        Ok(NumberLiteral { value, duration, span: token.span })
    }

    pub(crate) fn number_value(&mut self, token: Token) -> f64 {
        let text = String::from_utf8_lossy(token.text(self.input));
        let read = match token.kind {
            Kind::Duration => number::parse_seconds(&text),
            _ => number::parse_number(&text).map_err(|e| format!("error parsing number: {e}")),
        };
        read.unwrap_or_else(|message| {
            self.complain(token.span, message);
            0.0
        })
    }

    fn binary(&mut self, left: Node, op: BinaryOp, m: BinaryModifiers, right: Node) -> Parsed<Node> {
        let span = left.expr.span().to(right.expr.span());
        if !self.options.fill_modifiers && !m.matching.fill.is_none() {
            self.complain(span, "binop fill modifiers are experimental and not enabled".to_owned());
        }
        let height = self.height_above(&left)?.max(self.height_above(&right)?);
        let expr = Expr::Binary(Box::new(BinaryExpr {
            op,
            lhs: left.expr,
            rhs: right.expr,
            matching: Some(m.matching),
            return_bool: m.return_bool,
            span,
        }));
        Ok(Node { expr, height })
    }

    fn binary_modifiers(&mut self) -> Parsed<BinaryModifiers> {
        let mut m = BinaryModifiers {
            return_bool: false,
            matching: VectorMatching {
                cardinality: Cardinality::OneToOne,
                labels: Vec::new(),
                on: false,
                include: Vec::new(),
                fill: Fill::default(),
            },
        };
        m.return_bool = self.take_keyword(Keyword::Bool)?;
        if let Kind::Keyword(k @ (Keyword::On | Keyword::Ignoring)) = self.peek()?.kind {
            self.take()?;
            m.matching.on = k == Keyword::On;
            m.matching.labels = self.grouping_labels()?;
            self.group_side(&mut m.matching)?;
        }
        m.matching.fill = self.fill()?;
        Ok(m)
    }

    fn group_side(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        let Kind::Keyword(k @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.peek()?.kind else {
            return Ok(());
        };
        self.take()?;
        let left = k == Keyword::GroupLeft;
        matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
        if self.peek()?.kind == Kind::LeftParen {
            matching.include = self.grouping_labels()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> Parsed<Fill> {
        let mut fill = Fill::default();
        if self.take_keyword(Keyword::Fill)? {
            let v = self.fill_value()?;
            return Ok(Fill { left: Some(v), right: Some(v) });
        }
        loop {
            if fill.left.is_none() && self.take_keyword(Keyword::FillLeft)? {
                fill.left = Some(self.fill_value()?);
            } else if fill.right.is_none() && self.take_keyword(Keyword::FillRight)? {
                fill.right = Some(self.fill_value()?);
            } else {
                return Ok(fill);
            }
        }
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.take_expected(Kind::LeftParen)?;
        let mut sign = 1.0;
        if let Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek()?.kind {
            self.take()?;
            sign = if op == BinaryOp::Sub { -1.0 } else { 1.0 };
        }
        if !matches!(self.peek()?.kind, Kind::Number | Kind::Duration) {
            return self.unexpected_here();
        }
        let value = sign * self.number_literal()?.value;
        self.take_expected(Kind::RightParen)?;
        Ok(value)
    }

    fn call(&mut self, name: Token) -> Parsed<Node> {
        let (args, close) = self.arguments()?;
        let span = name.span.to(close);
        let text = String::from_utf8_lossy(name.text(self.input)).into_owned();
        let mut height = 1;
        for a in &args {
            height = height.max(self.height_above(a)?);
        }
        let Some(function) = Function::by_name(&text) else {
            let message = format!("unknown function with name {}", quoted(text.as_bytes()));
            self.complain(name.span, message);
            return Ok(Node::placeholder(span));
        };
        if function.signature().experimental && !self.options.experimental_functions {
            self.complain(name.span, format!("function {} is not enabled", quoted(text.as_bytes())));
        }
        let args = args.into_iter().map(|n| n.expr).collect();
        Ok(Node { expr: Expr::Call(CallExpr { function, args, span }), height })
    }

    /// `(a, b)`, and where its end is.
    fn arguments(&mut self) -> Parsed<(Vec<Node>, Span)> {
        self.take_expected(Kind::LeftParen)?;
        let mut args = Vec::new();
        if self.peek()?.kind == Kind::RightParen {
            return Ok((args, self.take()?.span));
        }
        args.push(self.expression(Level::Or)?);
        loop {
            let token = self.peek()?;
            match token.kind {
                Kind::RightParen => return Ok((args, self.take()?.span)),
                Kind::Comma => {
                    self.take()?;
                    if self.peek()?.kind.begins_expr() {
                        args.push(self.expression(Level::Or)?);
                    } else {
                        let message = "trailing commas not allowed in function call args";
                        self.complain(token.span, message.to_owned());
                    }
                }
                _ => return self.unexpected_here(),
            }
        }
    }

    fn aggregate(&mut self, op: Aggregator, name: Token) -> Parsed<Node> {
        self.aggregations += 1;
        let before = self.aggregate_modifier()?;
        let (args, mut close) = self.arguments()?;
        let after = if before.is_none() { self.aggregate_modifier()? } else { None };
        self.aggregations -= 1;
        if let Some((_, _, end)) = &after {
            close = *end;
        }
        let (grouping, without) = before.or(after).map_or((Vec::new(), false), |(l, w, _)| (l, w));
        let span = name.span.to(close);
        let mut height = 1;
        for a in &args {
            height = height.max(self.height_above(a)?);
        }
        let Some((param, expr)) = self.aggregate_operands(op, args, span) else {
            return Ok(Node::placeholder(span));
        };
        let expr = Expr::Aggregate(Box::new(AggregateExpr { op, expr, param, grouping, without, span }));
        Ok(Node { expr, height })
    }

    /// The parameter, where the aggregation has one, and what it aggregates; `None` after a complaint.
    fn aggregate_operands(
        &mut self,
        op: Aggregator,
        args: Vec<Node>,
        span: Span,
    ) -> Option<(Option<Expr>, Expr)> {
        if args.is_empty() {
            self.complain(span, "no arguments for aggregate expression provided".to_owned());
            return None;
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let flag = "--enable-feature=promql-experimental-functions";
            self.complain(span, format!("{}() is experimental and must be enabled with {flag}", op.text()));
            return None;
        }
        let (wanted, got) = (if op.has_param() { 2 } else { 1 }, args.len());
        if got != wanted {
            let what = "wrong number of arguments for aggregate expression provided";
            self.complain(span, format!("{what}, expected {wanted}, got {got}"));
            return None;
        }
        let mut args = args.into_iter().map(|n| n.expr);
        let param = if op.has_param() { args.next() } else { None };
        Some((param, args.next()?))
    }

    /// `by (a, b)` or `without (a, b)`: labels, whether `without`, the closing parenthesis.
    fn aggregate_modifier(&mut self) -> Parsed<Option<(Vec<String>, bool, Span)>> {
        let Kind::Keyword(k @ (Keyword::By | Keyword::Without)) = self.peek()?.kind else {
            return Ok(None);
        };
        self.take()?;
        let labels = self.grouping_labels()?;
        let end = self.lexer.position();
        Ok(Some((labels, k == Keyword::Without, Span::new(end, end))))
    }

    /// `(a, "b", c,)`. The closing parenthesis is the last token read.
    fn grouping_labels(&mut self) -> Parsed<Vec<String>> {
        const RULE: &str = "grouping opts";
        if self.peek()?.kind != Kind::LeftParen {
            return self.unexpected(RULE, "\"(\"");
        }
        self.take()?;
        let mut labels = Vec::new();
        if self.peek()?.kind == Kind::RightParen {
            self.take()?;
            return Ok(labels);
        }
        loop {
            labels.push(self.grouping_label()?);
            match self.peek()?.kind {
                Kind::Comma => {
                    self.take()?;
                    if self.peek()?.kind == Kind::RightParen {
                        self.take()?;
                        return Ok(labels);
                    }
                }
                Kind::RightParen => {
                    self.take()?;
                    return Ok(labels);
                }
                _ => return self.unexpected(RULE, "\",\" or \")\""),
            }
        }
    }

    fn grouping_label(&mut self) -> Parsed<String> {
        let token = self.peek()?;
        let name = match token.kind {
            Kind::String => unquote(token.text(self.input)),
            kind if kind.is_grouping_label() => token.text(self.input).to_vec(),
            _ => return self.unexpected("grouping opts", "label"),
        };
        self.take()?;
        match String::from_utf8(name) {
            Ok(name) if !name.is_empty() => Ok(name),
            Ok(name) => {
                self.complain(
                    token.span,
                    format!("invalid label name for grouping: {}", quoted(name.as_bytes())),
                );
                Ok(name)
            }
            Err(e) => {
                let name = quoted(e.as_bytes());
                self.complain(token.span, format!("invalid label name for grouping: {name}"));
                Ok(String::new())
            }
        }
    }

    /// `name`, `name{...}` or `{...}`; the name has been taken.
    pub(crate) fn selector(&mut self, name: Option<Token>) -> Parsed<Expr> {
        let mut matchers = Vec::new();
        let mut span = name.map(|n| n.span);
        if self.peek()?.kind == Kind::LeftBrace {
            let open = self.take()?;
            let close = self.matchers(&mut matchers)?;
            span = Some(span.unwrap_or(open.span).to(close));
        }
        let text = name.map(|n| String::from_utf8_lossy(n.text(self.input)).into_owned()).unwrap_or_default();
        if name.is_some() {
            matchers.push(Matcher::equal(model::labels::METRIC_NAME, text.clone()));
        }
        Ok(Expr::Vector(Box::new(VectorSelector {
            name: text,
            matchers: Arc::from(matchers),
            offset: Extent::ZERO,
            at: None,
            anchored: false,
            smoothed: false,
            span: span.unwrap_or_default(),
        })))
    }

    /// The matchers after `{`, up to `}`, whose span is returned.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<Span> {
        const RULE: &str = "label matching";
        if self.peek()?.kind == Kind::RightBrace {
            return Ok(self.take()?.span);
        }
        loop {
            matchers.extend(self.matcher()?);
            match self.peek()?.kind {
                Kind::Comma => {
                    self.take()?;
                    if self.peek()?.kind == Kind::RightBrace {
                        return Ok(self.take()?.span);
                    }
                }
                Kind::RightBrace => return Ok(self.take()?.span),
                _ => return self.unexpected(RULE, "\",\" or \"}\""),
            }
        }
    }

    /// One matcher; `None` where its regular expression was complained about.
    fn matcher(&mut self) -> Parsed<Option<Matcher>> {
        const RULE: &str = "label matching";
        let token = self.peek()?;
        let name = match token.kind {
            Kind::Identifier => token.text(self.input).to_vec(),
            Kind::String => unquote(token.text(self.input)),
            _ => return self.unexpected(RULE, "identifier or \"}\""),
        };
        self.take()?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let op = match self.peek()?.kind {
            Kind::Assign => MatchOp::Equal,
            Kind::Op(BinaryOp::NotEq) => MatchOp::NotEqual,
            Kind::Like => MatchOp::Regex,
            Kind::Unlike => MatchOp::NotRegex,
            _ if token.kind == Kind::String => {
                return Ok(Some(Matcher::equal(model::labels::METRIC_NAME, name)));
            }
            _ => return self.unexpected(RULE, "label matching operator"),
        };
        self.take()?;
        let value = self.peek()?;
        if value.kind != Kind::String {
            return self.unexpected(RULE, "string");
        }
        self.take()?;
        let text = unquote(value.text(self.input));
        match Matcher::new(op, name, String::from_utf8_lossy(&text)) {
            Ok(m) => Ok(Some(m)),
            Err(e) => {
                self.complain(token.span.to(value.span), e.to_string());
                Ok(None)
            }
        }
    }

    // Tokens.

    pub(crate) fn peek(&mut self) -> Parsed<Token> {
        if let Some(token) = self.peeked {
            return Ok(token);
        }
        match self.lexer.next_token() {
            Ok(token) => {
                self.peeked = Some(token);
                Ok(token)
            }
            Err(complaint) => {
                self.complaints.push(complaint);
                Err(Stop)
            }
        }
    }

    pub(crate) fn take(&mut self) -> Parsed<Token> {
        let token = self.peek()?;
        self.peeked = None;
        Ok(token)
    }

    fn take_keyword(&mut self, keyword: Keyword) -> Parsed<bool> {
        let found = self.peek()?.kind == Kind::Keyword(keyword);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn take_expected(&mut self, kind: Kind) -> Parsed<Token> {
        if self.peek()?.kind != kind {
            return self.unexpected_here();
        }
        self.take()
    }

    // Complaints.

    pub(crate) fn complain(&mut self, span: Span, message: String) {
        self.complaints.push(Complaint { span, message });
    }

    pub(crate) fn stop<T>(&mut self, span: Span, message: String) -> Parsed<T> {
        self.complain(span, message);
        Err(Stop)
    }

    /// The next token belongs to no rule that says more than which aggregation it is in.
    pub(crate) fn unexpected_here<T>(&mut self) -> Parsed<T> {
        let rule = if self.aggregations > 0 { "aggregation" } else { "" };
        self.unexpected(rule, "")
    }

    pub(crate) fn unexpected<T>(&mut self, rule: &str, expected: &str) -> Parsed<T> {
        let token = self.peek()?;
        let mut message = format!("unexpected {}", token.describe(self.input));
        if !rule.is_empty() {
            message.push_str(" in ");
            message.push_str(rule);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.stop(token.span, message)
    }

    // Bounds.

    /// Notes that the parser calls itself; whoever calls this lowers `nesting` when done.
    pub(crate) fn enter(&mut self) -> Parsed<()> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            let at = self.peek()?.span;
            return self.stop(at, format!("expression is nested more than {MAX_NESTING} levels deep"));
        }
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.nesting -= 1;
    }

    /// The height of a node with this child. A tree too high is refused; what is wrong inside is told first,
    /// as if the tree had been checked whole.
    pub(crate) fn height_above(&mut self, child: &Node) -> Parsed<usize> {
        if child.height < MAX_HEIGHT {
            return Ok(child.height + 1);
        }
        if self.complaints.is_empty() {
            check::check(&mut child.expr.clone(), self.input, &mut self.complaints);
        }
        let message = format!("expression is more than {MAX_HEIGHT} levels high");
        self.stop(child.expr.span(), message)
    }
}

impl Node {
    fn leaf(expr: Expr) -> Node {
        Node { expr, height: 1 }
    }

    /// Stands for what was complained about: nothing a modifier could be set on.
    pub(crate) fn placeholder(span: Span) -> Node {
        Node::leaf(Expr::Number(NumberLiteral { value: 0.0, duration: false, span }))
    }
}

struct BinaryModifiers {
    return_bool: bool,
    matching: VectorMatching,
}

impl Word {
    pub(crate) fn bound(self) -> Option<At> {
        match self {
            Word::Start => Some(At::Start),
            Word::End => Some(At::End),
            _ => None,
        }
    }
}
