//! Random expressions that are well typed.

use promql::Function;
use promql::ast::{Aggregator, ValueType};

use crate::differential::chance::Chance;

/// What 3.14 knows and 3.5.3 does not.
pub(crate) const UNKNOWN: &[&str] = &[
    "end",
    "first_over_time",
    "histogram_quantiles",
    "max_of",
    "min_of",
    "range",
    "start",
    "start_timestamp",
    "step",
    "ts_of_first_over_time",
];

const METRICS: &[&str] = &[
    "requests_total",
    "requests_total",
    "errors_total",
    "errors_total",
    "temperature_celsius",
    "odd",
    "queue_length",
    "is_on",
    "latency_seconds_bucket",
    "latency_seconds_sum",
    "latency_seconds_count",
    "build_info",
    "gc_seconds",
    "broken_bucket",
    "lonely",
    "no_such_metric",
];

const MATCHERS: &[&str] = &[
    "code=\"200\"",
    "code!=\"200\"",
    "code=~\"4..|5..\"",
    "code!~\"4.*\"",
    "method=\"get\"",
    "method!=\"\"",
    "zone=\"a\"",
    "zone=~\"a|b\"",
    "zone!~\"a\"",
    "room=~\".*t.*\"",
    "room!=\"hall\"",
    "floor=\"0\"",
    "le=\"+Inf\"",
    "le!=\"+Inf\"",
    "quantile=~\"0.9+\"",
    "instance=~\".+\"",
    "nope=\"\"",
];

const LABELS: &[&str] = &[
    "code", "method", "zone", "room", "floor", "le", "quantile", "version", "instance", "job", "nope",
    "__name__",
];

const DURATIONS: &[&str] = &["15s", "20s", "37s", "1m", "1m30s", "2m", "5m", "7m", "500ms", "90"];

const NUMBERS: &[&str] = &[
    "0", "1", "2", "0.5", "-1", "3.7", "100", "1e3", "0x1F", "NaN", "Inf", "-Inf", "1e-9", "1e300", "5m",
    "-0", "0.1", "20", "1_000",
];

const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
const SETS: &[&str] = &["and", "or", "unless"];

pub(crate) struct Generator<'c> {
    pub(crate) chance: &'c mut Chance,
    /// Times of the data, for `@`.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

impl Generator<'_> {
    /// An expression with a value at every step; for an instant query also a range or a text.
    pub(crate) fn expression(&mut self, is_instant: bool) -> String {
        match self.chance.below(20) {
            0 => self.scalar(3),
            1 if is_instant => self.range(3),
            2 => self.vector(1),
            3..=6 => self.vector(2),
            7..=12 => self.vector(3),
            _ => self.vector(4),
        }
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.selector();
        }
        match self.chance.below(24) {
            0..=2 => self.selector(),
            3..=6 => self.aggregate(depth - 1),
            7..=11 => self.binary(depth - 1),
            12 => format!("-{}", self.operand(depth - 1)),
            13 => format!("({})", self.vector(depth - 1)),
            14..=18 => self.call_over_range(depth - 1),
            _ => self.call(depth - 1),
        }
    }

    fn scalar(&mut self, depth: u32) -> String {
        match self.chance.below(if depth == 0 { 9 } else { 14 }) {
            0..=6 => self.chance.one_of(NUMBERS).to_owned(),
            7 => "time()".to_owned(),
            8 => "pi()".to_owned(),
            9..=10 => format!("scalar({})", self.vector(depth - 1)),
            11 => format!("-{}", self.enclosed_scalar(depth - 1)),
            _ => {
                let (left, right) = (self.enclosed_scalar(depth - 1), self.enclosed_scalar(depth - 1));
                let op = if self.chance.once_in(3) {
                    format!("{} bool", self.chance.one_of(COMPARISONS))
                } else {
                    self.chance.one_of(ARITHMETIC).to_owned()
                };
                format!("{left} {op} {right}")
            }
        }
    }

    fn enclosed_scalar(&mut self, depth: u32) -> String {
        format!("({})", self.scalar(depth))
    }

    fn range(&mut self, depth: u32) -> String {
        let range = self.chance.one_of(DURATIONS);
        if depth == 0 || !self.chance.once_in(4) {
            let modifiers = self.modifiers();
            return format!("{}[{range}]{modifiers}", self.bare_selector());
        }
        let step = if self.chance.once_in(4) { "" } else { self.chance.one_of(&["10s", "15s", "30s", "1m"]) };
        let modifiers = self.modifiers();
        format!("{}[{range}:{step}]{modifiers}", self.operand(depth - 1))
    }

    fn selector(&mut self) -> String {
        let selector = self.bare_selector();
        format!("{selector}{}", self.modifiers())
    }

    fn bare_selector(&mut self) -> String {
        let metric = self.chance.one_of(METRICS);
        let count = [0, 0, 0, 1, 1, 2][self.chance.below(6) as usize];
        let mut matchers: Vec<&str> = (0..count).map(|_| self.chance.one_of(MATCHERS)).collect();
        match self.chance.below(30) {
            0 => {
                matchers.push(self.chance.one_of(&[
                    "__name__=~\"(requests|errors)_total\"",
                    "__name__=~\"latency_seconds_.*\"",
                    "__name__=\"odd\"",
                ]));
                format!("{{{}}}", matchers.join(","))
            }
            1 => format!("{{\"{metric}\"{}{}}}", if count > 0 { "," } else { "" }, matchers.join(",")),
            _ if matchers.is_empty() => metric.to_owned(),
            _ => format!("{metric}{{{}}}", matchers.join(",")),
        }
    }

    fn modifiers(&mut self) -> String {
        let mut out = String::new();
        if self.chance.once_in(8) {
            let sign = if self.chance.once_in(4) { "-" } else { "" };
            out.push_str(&format!(" offset {sign}{}", self.chance.one_of(DURATIONS)));
        }
        if self.chance.once_in(12) {
            out.push_str(&match self.chance.below(4) {
                0 => " @ start()".to_owned(),
                1 => " @ end()".to_owned(),
                _ => {
                    let span = (self.last_ms - self.first_ms) as u64;
                    let at = self.first_ms + self.chance.below(span) as i64;
                    format!(" @ {}.{:03}", at / 1000, at % 1000)
                }
            });
        }
        out
    }

    fn operand(&mut self, depth: u32) -> String {
        let text = self.vector(depth);
        if self.chance.once_in(10) { text } else { format!("({text})") }
    }

    fn labels(&mut self) -> String {
        let count = self.chance.below(4);
        let labels: Vec<&str> = (0..count).map(|_| self.chance.one_of(LABELS)).collect();
        labels.join(", ")
    }

    fn aggregate(&mut self, depth: u32) -> String {
        let all: Vec<&Aggregator> = Aggregator::ALL.iter().collect();
        let op = *self.chance.one_of(&all);
        let grouping = match self.chance.below(6) {
            0 | 1 => String::new(),
            2 => format!(" without ({}) ", self.labels()),
            _ => format!(" by ({}) ", self.labels()),
        };
        let param = match op {
            Aggregator::CountValues => {
                Some(format!("\"{}\"", self.chance.one_of(&["value", "zone", "code"])))
            }
            Aggregator::Quantile => Some(self.fraction()),
            Aggregator::LimitRatio => {
                let sign = if self.chance.once_in(3) { "-" } else { "" };
                Some(format!("{sign}{}", self.fraction()))
            }
            _ if op.has_param() => Some(match self.chance.below(8) {
                0 => self.scalar(1),
                n => (n / 2 + 1).to_string(),
            }),
            _ => None,
        };
        let param = param.map_or(String::new(), |p| format!("{p}, "));
        let inner = self.vector(depth);
        if self.chance.once_in(5) {
            return format!("{}({param}{inner}){}", op.text(), grouping.trim_end());
        }
        format!("{}{grouping}({param}{inner})", op.text())
    }

    fn fraction(&mut self) -> String {
        match self.chance.below(12) {
            0 => self.scalar(1),
            1 => "1.2".to_owned(),
            _ => self.chance.one_of(&["0", "0.5", "0.9", "0.99", "1", "0.25"]).to_owned(),
        }
    }

    fn binary(&mut self, depth: u32) -> String {
        match self.chance.below(8) {
            0..=2 => {
                let (vector, scalar) = (self.operand(depth), self.enclosed_scalar(depth.min(1)));
                let op = self.operator_with_bool();
                let is_left = self.chance.once_in(2);
                let (left, right) = if is_left { (vector, scalar) } else { (scalar, vector) };
                format!("{left} {op} {right}")
            }
            3..=4 => {
                let (left, right) = (self.operand(depth), self.operand(depth));
                let op = self.chance.one_of(SETS);
                format!("{left} {op}{} {right}", self.matching())
            }
            _ => {
                let left = self.operand(depth);
                // The same metric on both sides, or nothing would match most of the time.
                let right = if self.chance.once_in(2) { left.clone() } else { self.operand(depth) };
                let op = self.operator_with_bool();
                let mut matching = self.matching();
                if !matching.is_empty() && self.chance.once_in(2) {
                    let side = self.chance.one_of(&["group_left", "group_right"]);
                    matching.push_str(&format!(
                        " {side} ({})",
                        if self.chance.once_in(2) { "version" } else { "" }
                    ));
                }
                format!("{left} {op}{matching} {right}")
            }
        }
    }

    fn operator_with_bool(&mut self) -> String {
        match self.chance.below(4) {
            0 => format!("{} bool", self.chance.one_of(COMPARISONS)),
            1 => self.chance.one_of(COMPARISONS).to_owned(),
            _ => self.chance.one_of(ARITHMETIC).to_owned(),
        }
    }

    fn matching(&mut self) -> String {
        match self.chance.below(4) {
            0 => String::new(),
            1 => format!(" ignoring ({})", self.labels().replace("__name__", "le")),
            _ => {
                let common = ["zone", "code", "room", "instance, zone", "job"][self.chance.below(5) as usize];
                format!(" on ({common})")
            }
        }
    }

    fn function(&mut self, wanted: impl Fn(Function) -> bool) -> Function {
        loop {
            let f = Function::ALL[self.chance.below(Function::ALL.len() as u64) as usize];
            let is_vector = f.signature().returns == ValueType::Vector;
            if is_vector && !UNKNOWN.contains(&f.name()) && wanted(f) {
                return f;
            }
        }
    }

    fn call_over_range(&mut self, depth: u32) -> String {
        let takes_range = |f: Function| f.signature().args.contains(&ValueType::Matrix);
        let f = if self.chance.once_in(3) {
            Function::by_name(self.chance.one_of(&["rate", "increase"])).expect("a function")
        } else {
            self.function(takes_range)
        };
        let range = self.range(depth);
        match f {
            Function::QuantileOverTime => format!("quantile_over_time({}, {range})", self.fraction()),
            Function::PredictLinear => format!("predict_linear({range}, {})", self.scalar(1)),
            Function::DoubleExponentialSmoothing => {
                let (smoothing, trend) = (self.fraction(), self.fraction());
                format!("double_exponential_smoothing({range}, {smoothing}, {trend})")
            }
            f => format!("{}({range})", f.name()),
        }
    }

    fn call(&mut self, depth: u32) -> String {
        let takes_none = |f: Function| !f.signature().args.contains(&ValueType::Matrix);
        let f = self.function(takes_none);
        match f {
            Function::LabelReplace => {
                let (to, from) = (self.chance.one_of(LABELS), self.chance.one_of(LABELS));
                let template = self.chance.one_of(&["$1", "x", "", "${1}-$0", "$2"]);
                let pattern = self.chance.one_of(&["(.*)", "(.).*", "a|b", "", ".+", "4(.)(.)"]);
                let inner = self.vector(depth);
                format!("label_replace({inner}, \"{to}\", \"{template}\", \"{from}\", \"{pattern}\")")
            }
            Function::LabelJoin => {
                let (to, a, b) =
                    (self.chance.one_of(LABELS), self.chance.one_of(LABELS), self.chance.one_of(LABELS));
                format!("label_join({}, \"{to}\", \"-\", \"{a}\", \"{b}\")", self.vector(depth))
            }
            Function::SortByLabel | Function::SortByLabelDesc => {
                let (a, b) = (self.chance.one_of(LABELS), self.chance.one_of(LABELS));
                format!("{}({}, \"{a}\", \"{b}\")", f.name(), self.vector(depth))
            }
            Function::Info => {
                let selector =
                    self.chance.one_of(&["", ", {version=~\".+\"}", ", {__name__=\"build_info\"}"]);
                format!("info({}{selector})", self.vector(depth))
            }
            Function::HistogramQuantile | Function::HistogramFraction => {
                let inner = match self.chance.below(3) {
                    0 => self.vector(depth),
                    1 => "latency_seconds_bucket".to_owned(),
                    _ => "sum by (le, zone) (rate({__name__=~\".*_bucket\"}[2m]))".to_owned(),
                };
                let params = match f {
                    Function::HistogramQuantile => self.fraction(),
                    _ => format!("{}, {}", self.scalar(0), self.scalar(0)),
                };
                format!("{}({params}, {inner})", f.name())
            }
            f => self.plain_call(f, depth),
        }
    }

    /// A call with as many arguments as its signature has, save those that may be left out and are.
    fn plain_call(&mut self, f: Function, depth: u32) -> String {
        let signature = f.signature();
        let leaves_out = signature.variadic != 0 && self.chance.once_in(2);
        let count = signature.args.len() - usize::from(leaves_out);
        let mut args = Vec::new();
        for kind in &signature.args[..count] {
            args.push(match kind {
                ValueType::Scalar => self.scalar(depth.min(2)),
                ValueType::Matrix => self.range(depth),
                ValueType::String => format!("\"{}\"", self.chance.one_of(LABELS)),
                _ => self.vector(depth),
            });
        }
        format!("{}({})", f.name(), args.join(", "))
    }
}
