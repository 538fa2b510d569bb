//! Warnings and infos: what an answer has to say about itself, as values beside it.
//!
//! Notes with the same text are one note. A note that gathers figures (how many samples, how far off) gathers them
//! over all series, steps and shards before it is written.

use std::collections::BTreeMap;

use compute::date::DateFunction;
use model::Timestamp;
use model::float_text::format_g;
use model::quote::quoted;
use promql::ast::Span;

/// How many of each kind a client is shown.
pub const SHOWN_MAX: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Warning,
    Info,
}

impl Severity {
    fn prefix(self) -> &'static str {
        match self {
            Severity::Warning => "PromQL warning: ",
            Severity::Info => "PromQL info: ",
        }
    }
}

/// Figures that a note gathers.
#[derive(Clone, Debug, PartialEq)]
enum Detail {
    None,
    Occurrences(u64),
    /// Pieces of the storage; says nothing of a place in the query.
    Pieces(u64),
    Monotonicity {
        first: Timestamp,
        last: Timestamp,
        min_bucket: f64,
        max_bucket: f64,
        max_diff: f64,
        count: u64,
    },
}

#[derive(Clone, Debug, PartialEq)]
struct Note {
    span: Span,
    detail: Detail,
}

/// The notes of an answer, or of a part of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    notes: BTreeMap<(Severity, String), Note>,
}

/// What two operands were when an operator did not know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    Float,
    Histogram,
}

impl Operand {
    fn text(self) -> &'static str {
        match self {
            Operand::Float => "float",
            Operand::Histogram => "histogram",
        }
    }
}

/// The operation during which histograms turned out not to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merging {
    Addition,
    Subtraction,
    Aggregation,
}

impl Merging {
    fn text(self) -> &'static str {
        match self {
            Merging::Addition => "addition",
            Merging::Subtraction => "subtraction",
            Merging::Aggregation => "aggregation",
        }
    }
}

/// Texts for a client: what is shown, and nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

impl Annotations {
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.notes.len()
    }

    /// Takes over all notes of `other`.
    pub fn merge(&mut self, other: Annotations) {
        for (key, note) in other.notes {
            self.insert(key, note);
        }
    }

    fn insert(&mut self, key: (Severity, String), note: Note) {
        use std::collections::btree_map::Entry;
        match self.notes.entry(key) {
            Entry::Vacant(e) => {
                e.insert(note);
            }
            Entry::Occupied(mut e) => {
                let held = e.get_mut();
                match note.detail {
                    // Said again, it is said of the later place; what is counted stays where it began.
                    Detail::None => held.span = note.span,
                    detail => held.detail = gathered(&held.detail, &detail),
                }
            }
        }
    }

    fn warn(&mut self, text: impl Into<String>, span: Span) {
        self.insert((Severity::Warning, text.into()), Note { span, detail: Detail::None });
    }

    fn info(&mut self, text: impl Into<String>, span: Span) {
        self.insert((Severity::Info, text.into()), Note { span, detail: Detail::None });
    }

    /// All notes as a client reads them; `query` turns positions into `line:col`.
    pub fn texts(&self, query: &str, shown_max: usize) -> Texts {
        let mut texts = Texts::default();
        let mut hidden = [0usize; 2];
        for ((severity, text), note) in &self.notes {
            let (list, hidden) = match severity {
                Severity::Warning => (&mut texts.warnings, &mut hidden[0]),
                Severity::Info => (&mut texts.infos, &mut hidden[1]),
            };
            if list.len() == shown_max {
                *hidden += 1;
                continue;
            }
            if let Detail::Pieces(n) = note.detail {
                list.push(format!("{n} {text}"));
                continue;
            }
            let (line, column) = line_column(query, note.span.start as usize);
            let detail = detail_text(&note.detail);
            list.push(format!("{}{text}{detail} ({line}:{column})", severity.prefix()));
        }
        if hidden[0] > 0 {
            texts.warnings.push(format!("{} more warning annotations omitted", hidden[0]));
        }
        if hidden[1] > 0 {
            texts.infos.push(format!("{} more info annotations omitted", hidden[1]));
        }
        texts
    }
}

fn gathered(a: &Detail, b: &Detail) -> Detail {
    match (a, b) {
        (Detail::Pieces(a), Detail::Pieces(b)) => Detail::Pieces(a.saturating_add(*b)),
        (Detail::Occurrences(a), Detail::Occurrences(b)) => Detail::Occurrences(a.saturating_add(*b)),
        (
            Detail::Monotonicity {
                first: f1,
                last: l1,
                min_bucket: a1,
                max_bucket: b1,
                max_diff: d1,
                count: c1,
            },
            Detail::Monotonicity {
                first: f2,
                last: l2,
                min_bucket: a2,
                max_bucket: b2,
                max_diff: d2,
                count: c2,
            },
        ) => Detail::Monotonicity {
            first: *f1.min(f2),
            last: *l1.max(l2),
            min_bucket: a1.min(*a2),
            max_bucket: b1.max(*b2),
            max_diff: d1.max(*d2),
            count: c1.saturating_add(*c2),
        },
        _ => a.clone(),
    }
}

fn detail_text(detail: &Detail) -> String {
    match detail {
        Detail::None | Detail::Pieces(_) | Detail::Occurrences(0 | 1) => String::new(),
        Detail::Occurrences(n) => format!(" ({n} occurrences)"),
        Detail::Monotonicity { first, last, min_bucket, max_bucket, max_diff, count } => format!(
            ", from buckets {} to {}, with a max diff of {}, over {count} samples from {} to {}",
            format_g(*min_bucket),
            format_g(*max_bucket),
            two_digits(*max_diff),
            rfc3339(*first),
            rfc3339(*last),
        ),
    }
}

/// `2006-01-02T15:04:05Z`, with a fraction of the second only where there is one.
fn rfc3339(time_ms: i64) -> String {
    let seconds = time_ms.div_euclid(1000);
    let of = |f: DateFunction| f.of_seconds(seconds);
    let (year, month, day) = (of(DateFunction::Year), of(DateFunction::Month), of(DateFunction::DayOfMonth));
    let (hour, minute, second) = (of(DateFunction::Hour), of(DateFunction::Minute), seconds.rem_euclid(60));
    let date = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    match time_ms.rem_euclid(1000) {
        0 => format!("{date}Z"),
        ms => format!("{date}.{}Z", format!("{ms:03}").trim_end_matches('0')),
    }
}

/// Go's `%.2g`.
fn two_digits(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return format_g(v);
    }
    let rounded: f64 = format!("{v:.1e}").parse().unwrap_or(v);
    let exp = rounded.abs().log10().floor() as i32;
    if (-4..2).contains(&exp) {
        return format_g(rounded);
    }
    let digits = format!("{rounded:e}");
    let (mantissa, exp) = digits.split_once('e').unwrap_or((&digits, "0"));
    let exp: i32 = exp.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exp < 0 { '-' } else { '+' }, exp.abs())
}

/// Line and column (1-based, in bytes) of a position in a query.
fn line_column(query: &str, at: usize) -> (usize, usize) {
    let before = &query.as_bytes()[..at.min(query.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    (line, column)
}

/// ` for metric name "x"`, or nothing where the name is not known.
fn for_name(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", quoted(name)) }
}

/// The notes there are, one method each.
impl Annotations {
    /// Says that pieces of the storage that the answer needs are damaged.
    pub fn damaged_storage(&mut self, pieces: u64) {
        if pieces > 0 {
            let text = "damaged pieces of blocks were left out: results may lack samples".to_owned();
            let note = Note { span: Span::default(), detail: Detail::Pieces(pieces) };
            self.insert((Severity::Warning, text), note);
        }
    }

    pub fn invalid_quantile(&mut self, q: f64, span: Span) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", format_g(q)), span);
    }

    pub fn invalid_ratio(&mut self, ratio: f64, capped: f64, span: Span) {
        let (ratio, capped) = (format_g(ratio), format_g(capped));
        self.warn(format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"), span);
    }

    pub fn bad_bucket_label(&mut self, name: &str, value: &str, span: Span) {
        let value = quoted(value);
        let name = for_name(name);
        self.warn(format!("bucket label \"le\" is missing or has a malformed value of {value}{name}"), span);
    }

    pub fn mixed_floats_histograms(&mut self, name: &str, span: Span) {
        self.warn(
            format!("encountered a mix of histograms and floats for metric name {}", quoted(name)),
            span,
        );
    }

    pub fn mixed_floats_histograms_aggregation(&mut self, span: Span) {
        self.warn("encountered a mix of histograms and floats for aggregation", span);
    }

    pub fn mixed_classic_native(&mut self, name: &str, span: Span) {
        self.warn(format!("vector contains a mix of classic and native histograms{}", for_name(name)), span);
    }

    pub fn not_counter_histogram(&mut self, name: &str, span: Span) {
        self.warn(format!("this native histogram metric is not a counter: {}", quoted(name)), span);
    }

    pub fn not_gauge_histogram(&mut self, name: &str, span: Span) {
        self.warn(format!("this native histogram metric is not a gauge: {}", quoted(name)), span);
    }

    pub fn mixed_exponential_custom(&mut self, name: &str, span: Span) {
        let name = quoted(name);
        self.warn(
            format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name \
                 {name}"
            ),
            span,
        );
    }

    pub fn incompatible_bucket_layout(&mut self, operator: &str, span: Span) {
        self.warn(format!("incompatible bucket layout encountered for binary operator {operator}"), span);
    }

    pub fn sort_in_range_query(&mut self, span: Span) {
        self.warn("sort is ineffective for range queries since results are always ordered by labels", span);
    }

    pub fn counter_reset_collision(&mut self, merging: Merging, span: Span) {
        let what = match merging {
            Merging::Addition => "addition",
            Merging::Subtraction => "subtraction",
            Merging::Aggregation => "aggregation",
        };
        self.warn(format!("conflicting counter resets during histogram {what}"), span);
    }

    pub fn start_time_overlap(&mut self, name: &str, span: Span) {
        let text = format!(
            "sample has start time that overlaps with previous sample timestamp for metric {}",
            quoted(name)
        );
        self.insert((Severity::Warning, text), Note { span, detail: Detail::Occurrences(1) });
    }

    pub fn possibly_not_counter(&mut self, name: &str, span: Span) {
        let name = quoted(name);
        self.info(
            format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name}"),
            span,
        );
    }

    pub fn type_not_counter(&mut self, kind: &str, name: &str, span: Span) {
        let (kind, name) = (quoted(kind), quoted(name));
        self.info(
            format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got \
                 {kind}: {name}"
            ),
            span,
        );
    }

    pub fn forced_monotonicity(&mut self, name: &str, at: Timestamp, fix: (f64, f64, f64), span: Span) {
        let text = format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
            for_name(name)
        );
        let (min_bucket, max_bucket, max_diff) = fix;
        let detail = Detail::Monotonicity { first: at, last: at, min_bucket, max_bucket, max_diff, count: 1 };
        self.insert((Severity::Info, text), Note { span, detail });
    }

    pub fn incompatible_types(&mut self, lhs: Operand, operator: &str, rhs: Operand, span: Span) {
        let op = quoted(operator);
        let (lhs, rhs) = (lhs.text(), rhs.text());
        self.info(
            format!("incompatible sample types encountered for binary operator {op}: {lhs} {operator} {rhs}"),
            span,
        );
    }

    pub fn histogram_ignored_in_aggregation(&mut self, aggregation: &str, span: Span) {
        self.info(format!("ignored histogram in {aggregation} aggregation"), span);
    }

    pub fn histogram_ignored_in_range(&mut self, name: &str, span: Span) {
        let name = quoted(name);
        self.info(
            format!(
                "ignored histograms in a range containing both floats and histograms for metric name {name}"
            ),
            span,
        );
    }

    pub fn quantile_nan_result(&mut self, name: &str, span: Span) {
        let name = for_name(name);
        self.info(format!("input to histogram_quantile has NaN observations, result is NaN{name}"), span);
    }

    pub fn quantile_nan_skew(&mut self, name: &str, span: Span) {
        let name = for_name(name);
        self.info(
            format!("input to histogram_quantile has NaN observations, result is skewed higher{name}"),
            span,
        );
    }

    pub fn fraction_nan(&mut self, name: &str, span: Span) {
        let name = for_name(name);
        self.info(
            format!(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions{name}"
            ),
            span,
        );
    }

    pub fn bounds_reconciled(&mut self, merging: Merging, span: Span) {
        self.info(format!("mismatched custom buckets were reconciled during {}", merging.text()), span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_texts_are_one_note_and_figures_add_up() {
        let mut a = Annotations::default();
        a.invalid_quantile(2.0, Span::new(4, 5));
        a.invalid_quantile(2.0, Span::new(9, 10));
        a.forced_monotonicity("x", 1000, (0.1, 0.2, 1.0), Span::new(0, 1));
        let mut b = Annotations::default();
        b.forced_monotonicity("x", 61_000, (0.05, 0.1, 0.125), Span::new(0, 1));
        b.start_time_overlap("m", Span::new(7, 8));
        b.start_time_overlap("m", Span::new(7, 8));
        a.merge(b);
        let texts = a.texts("a +\nb - c", 10);
        assert_eq!(
            texts.warnings,
            [
                "PromQL warning: quantile value should be between 0 and 1, got 2 (2:6)",
                "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric \
                 \"m\" (2 occurrences) (2:4)",
            ]
        );
        assert_eq!(
            texts.infos,
            ["PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
              https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric \
              name \"x\", from buckets 0.05 to 0.2, with a max diff of 1, over 2 samples from 1970-01-01T00:00:01Z \
              to 1970-01-01T00:01:01Z (1:1)"]
        );
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let mut a = Annotations::default();
        for i in 0..5 {
            a.invalid_quantile(f64::from(i) + 2.0, Span::new(0, 1));
        }
        let texts = a.texts("x", 3);
        assert_eq!(texts.warnings.len(), 4);
        assert_eq!(texts.warnings[3], "2 more warning annotations omitted");
    }

    #[test]
    fn times_as_go_prints_them() {
        assert_eq!(rfc3339(1_136_239_445_000), "2006-01-02T22:04:05Z");
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn two_digits_as_go_prints_them() {
        for (v, want) in
            [(0.0, "0"), (1.0, "1"), (0.125, "0.12"), (123.0, "1.2e+02"), (99.6, "1e+02"), (0.00001, "1e-05")]
        {
            assert_eq!(two_digits(v), want, "{v}");
        }
    }
}
