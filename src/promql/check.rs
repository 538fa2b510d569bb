//! The rules of types, and what else a tree must obey that its grammar does not say.

use model::labels::METRIC_NAME;

use crate::ast::*;
use crate::error::Complaint;
use crate::functions::Function;
use crate::lexer::is_space;
use crate::token::quoted;

/// Checks a tree and completes its vector matchings. The order of complaints is Prometheus's.
pub(crate) fn check(expr: &mut Expr, input: &[u8], complaints: &mut Vec<Complaint>) {
    Checker { input, complaints }.expr(expr);
}

struct Checker<'a> {
    input: &'a [u8],
    complaints: &'a mut Vec<Complaint>,
}

impl Checker<'_> {
    fn expr(&mut self, expr: &mut Expr) -> ValueType {
        match expr {
            Expr::Aggregate(e) => self.aggregate(e),
            Expr::Binary(e) => self.binary(e),
            Expr::Call(e) => self.call(e),
            Expr::Matrix(e) => {
                self.selector(&e.selector);
                self.non_empty(&e.selector);
            }
            Expr::Number(_) | Expr::String(_) => {}
            Expr::Paren(e) => {
                self.expr(&mut e.expr);
            }
            Expr::Subquery(e) => {
                let got = self.expr(&mut e.expr);
                if got != ValueType::Vector {
                    let got = got.text();
                    self.complain(
                        e.span,
                        format!("subquery is only allowed on instant vector, got {got} instead"),
                    );
                }
            }
            Expr::Unary(e) => {
                let got = self.expr(&mut e.expr);
                if !matches!(got, ValueType::Scalar | ValueType::Vector) {
                    let what =
                        "unary expression only allowed on expressions of type scalar or instant vector";
                    self.complain(e.span, format!("{what}, got \"{}\"", got.documented()));
                }
            }
            Expr::Vector(e) => {
                self.selector(e);
                self.non_empty(e);
            }
        }
        expr.value_type()
    }

    fn aggregate(&mut self, e: &mut AggregateExpr) {
        self.expect(&mut e.expr, ValueType::Vector, "aggregation expression");
        if let (Some(param), Some(wanted)) = (&mut e.param, e.op.param_type()) {
            self.expect(param, wanted, "aggregation parameter");
        }
    }

    fn expect(&mut self, e: &mut Expr, wanted: ValueType, place: &str) {
        let got = self.expr(e);
        if got != wanted {
            let (wanted, got) = (wanted.documented(), got.documented());
            self.complain(e.span(), format!("expected type {wanted} in {place}, got {got}"));
        }
    }

    fn binary(&mut self, e: &mut BinaryExpr) {
        let left = self.expr(&mut e.lhs);
        let right = self.expr(&mut e.rhs);
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        if e.return_bool && !e.op.is_comparison() {
            let at = self.operator_span(e);
            self.complain(at, "bool modifier can only be used on comparison operators".to_owned());
        }
        if e.op.is_comparison() && !e.return_bool && scalars {
            let at = self.operator_span(e);
            self.complain(at, "comparisons between scalars must use BOOL modifier".to_owned());
        }
        if let Some(mut matching) = e.matching.take() {
            self.matching(e, &mut matching);
            for (operand, got) in [(&e.lhs, left), (&e.rhs, right)] {
                if !matches!(got, ValueType::Scalar | ValueType::Vector) {
                    let what = "binary expression must contain only scalar and instant vector types";
                    self.complain(operand.span(), what.to_owned());
                }
            }
            let vectors = left == ValueType::Vector && right == ValueType::Vector;
            if !vectors {
                self.no_matching(e.span, &matching);
            } else {
                if e.op.is_set() {
                    self.set_matching(e, &matching);
                }
                e.matching = Some(matching);
            }
        }
        if e.op.is_set() && (left == ValueType::Scalar || right == ValueType::Scalar) {
            let op = e.op.text();
            self.complain(e.span, format!("set operator \"{op}\" not allowed in binary scalar expression"));
        }
    }

    fn matching(&mut self, e: &BinaryExpr, matching: &mut VectorMatching) {
        if e.op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        if !matching.on {
            return;
        }
        for label in &matching.labels {
            for _ in matching.include.iter().filter(|i| *i == label) {
                let at = self.operator_span(e);
                let label = quoted(label.as_bytes());
                self.complain(at, format!("label {label} must not occur in ON and GROUP clause at once"));
            }
        }
    }

    fn no_matching(&mut self, span: Span, matching: &VectorMatching) {
        if !matching.labels.is_empty() {
            self.complain(span, "vector matching only allowed between instant vectors".to_owned());
        }
        if !matching.fill.is_none() {
            self.complain(span, "filling in missing series only allowed between instant vectors".to_owned());
        }
    }

    fn set_matching(&mut self, e: &BinaryExpr, matching: &VectorMatching) {
        if matches!(matching.cardinality, Cardinality::OneToMany | Cardinality::ManyToOne) {
            self.complain(e.span, format!("no grouping allowed for \"{}\" operation", e.op.text()));
            self.complain(e.span, "set operations must always be many-to-many".to_owned());
        }
        if !matching.fill.is_none() {
            self.complain(e.span, "filling in missing series not allowed for set operators".to_owned());
        }
    }

    /// From the operator to the last character before the right operand, without blanks around.
    fn operator_span(&self, e: &BinaryExpr) -> Span {
        let (mut start, mut end) = (e.lhs.span().end, e.rhs.span().start.saturating_sub(1));
        let blank = |i: u32| self.input.get(i as usize).is_some_and(|b| is_space(*b));
        while blank(start) {
            start += 1;
        }
        while end > start && blank(end) {
            end -= 1;
        }
        Span { start, end }
    }

    fn call(&mut self, e: &mut CallExpr) {
        let signature = e.function.signature();
        self.argument_count(e);
        let info = e.function == Function::Info;
        if info && e.args.len() > 1 {
            self.info_labels(e);
        }
        for (i, arg) in e.args.iter_mut().enumerate() {
            let wanted = match signature.args.get(i) {
                Some(wanted) => *wanted,
                None if signature.variadic == 0 => break,
                None => match signature.args.last() {
                    Some(wanted) => *wanted,
                    None => break,
                },
            };
            // The labels that `info` is asked for may be any: they select no series by themselves.
            let labels_only = info && i == 1 && matches!(arg, Expr::Vector(v) if v.name.is_empty());
            let got = if labels_only { ValueType::Vector } else { self.expr(arg) };
            if got != wanted {
                let (wanted, got) = (wanted.documented(), got.documented());
                let name = signature.name;
                self.complain(
                    arg.span(),
                    format!("expected type {wanted} in call to function \"{name}\", got {got}"),
                );
            }
        }
    }

    fn argument_count(&mut self, e: &CallExpr) {
        let signature = e.function.signature();
        let (name, got) = (signature.name, e.args.len());
        let wanted = signature.args.len();
        let message = if signature.variadic == 0 {
            (got != wanted).then(|| format!("expected {wanted} argument(s) in call to \"{name}\", got {got}"))
        } else {
            let least = wanted - 1;
            let most = least + signature.variadic.max(0) as usize;
            if got < least {
                Some(format!("expected at least {least} argument(s) in call to \"{name}\", got {got}"))
            } else if signature.variadic > 0 && got > most {
                Some(format!("expected at most {most} argument(s) in call to \"{name}\", got {got}"))
            } else {
                None
            }
        };
        if let Some(message) = message {
            self.complain(e.span, message);
        }
    }

    fn info_labels(&mut self, e: &CallExpr) {
        let labels = &e.args[1];
        let got = labels.value_type();
        if got != ValueType::Vector {
            let (wanted, got) = (ValueType::Vector.documented(), got.documented());
            self.complain(e.span, format!("expected type {wanted} in call to function \"info\", got {got}"));
        }
        match labels {
            Expr::Vector(v) if v.name.is_empty() => {}
            Expr::Vector(v) => {
                self.complain(
                    v.span,
                    "expected label selectors only, got vector selector instead".to_owned(),
                );
            }
            other => self.complain(other.span(), "expected label selectors only".to_owned()),
        }
    }

    fn selector(&mut self, v: &VectorSelector) {
        if v.name.is_empty() {
            return;
        }
        // The last matcher is that of the name before the braces.
        let inside = &v.matchers[..v.matchers.len().saturating_sub(1)];
        for m in inside.iter().filter(|m| m.name == METRIC_NAME) {
            let (outer, inner) = (quoted(v.name.as_bytes()), quoted(m.value.as_bytes()));
            self.complain(v.span, format!("metric name must not be set twice: {outer} or {inner}"));
        }
    }

    fn non_empty(&mut self, v: &VectorSelector) {
        if v.name.is_empty() && v.matchers.iter().all(|m| m.matches_empty()) {
            let what = "vector selector must contain at least one non-empty matcher";
            self.complain(v.span, what.to_owned());
        }
    }

    fn complain(&mut self, span: Span, message: String) {
        self.complaints.push(Complaint { span, message });
    }
}
