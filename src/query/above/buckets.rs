//! Quantiles and fractions of histograms, classic ones (series by `le`) and native ones alike.

use compute::Notes;
use compute::classic::{self, ClassicBucket};
use hashbrown::HashMap;
use model::Labels;
use promql::Function;
use promql::ast::Span;

use crate::query::Error;
use crate::query::above::Evaluator;
use crate::query::annotations::Annotations;
use crate::query::frame::{Row, Steps};
use crate::query::plan::logical::Node;
use crate::query::plan::physical::Column;

const BUCKET_LABEL: &str = "le";

/// What is asked of each histogram.
enum Question {
    Quantile { q: Column, label: Option<(String, String)>, span: Span },
    Fraction { lower: Column, upper: Column },
}

/// A classic histogram: its series by upper bound. A native one with the same labels belongs to it.
struct Classic {
    /// Indices of rows, with their bounds.
    buckets: Vec<(usize, f64)>,
}

/// Rows sorted into histograms.
struct Sorted {
    /// Labels without `le`, and what has them.
    classics: Vec<(Labels, Classic)>,
    by_labels: HashMap<Labels, usize>,
    /// Rows with floats whose bound cannot be read.
    malformed: Vec<usize>,
}

impl Evaluator<'_> {
    pub(super) async fn of_buckets(
        &mut self,
        function: Function,
        args: &[Node],
        steps: Steps,
    ) -> Result<Vec<Row>, Error> {
        let vector = match function {
            Function::HistogramQuantiles => &args[0],
            Function::HistogramQuantile => &args[1],
            _ => &args[2],
        };
        let questions = self.questions(function, args, steps).await?;
        let rows = self.rows(vector, steps).await?;
        let sorted = sort(&rows);
        let mut out = Vec::new();
        for question in &questions {
            let asker = Asker { question, rows: &rows, sorted: &sorted, steps, span: vector.span };
            let delayed = self.settings.delayed_name_removal;
            asker.answer(delayed, &mut self.notes, &mut out);
        }
        for row in &mut out {
            self.drop_name(row);
        }
        self.settled(out)
    }

    async fn questions(
        &mut self,
        function: Function,
        args: &[Node],
        steps: Steps,
    ) -> Result<Vec<Question>, Error> {
        match function {
            Function::HistogramQuantile => {
                let q = self.column(&args[0], steps).await?;
                Ok(vec![Question::Quantile { q, label: None, span: args[0].span }])
            }
            Function::HistogramQuantiles => {
                let label = self
                    .label_name(&args[1])
                    .map_err(|name| Error::Execution(format!("invalid label name {name}")))?;
                let mut questions = Vec::with_capacity(args.len() - 2);
                for a in &args[2..] {
                    let q = self.column(a, steps).await?;
                    let text = open_metrics_float(q.first().copied().unwrap_or(f64::NAN));
                    questions.push(Question::Quantile {
                        q,
                        label: Some((label.to_string(), text)),
                        span: a.span,
                    });
                }
                Ok(questions)
            }
            _ => {
                let lower = self.column(&args[0], steps).await?;
                let upper = self.column(&args[1], steps).await?;
                Ok(vec![Question::Fraction { lower, upper }])
            }
        }
    }
}

/// A float as OpenMetrics writes it: always with a point or an exponent.
fn open_metrics_float(v: f64) -> String {
    let text = model::float_text::format_g(v);
    if text.contains(['e', '.', 'N', 'I']) { text } else { format!("{text}.0") }
}

fn sort(rows: &[Row]) -> Sorted {
    let mut sorted = Sorted { classics: Vec::new(), by_labels: HashMap::new(), malformed: Vec::new() };
    for (i, row) in rows.iter().enumerate() {
        if row.floats.is_empty() {
            continue;
        }
        let Ok(bound) = row.labels.value_or_empty(BUCKET_LABEL).parse::<f64>() else {
            sorted.malformed.push(i);
            continue;
        };
        let key = row.labels.retain(|l| l.name != BUCKET_LABEL);
        let at = *sorted.by_labels.entry(key.clone()).or_insert_with(|| {
            sorted.classics.push((key, Classic { buckets: Vec::new() }));
            sorted.classics.len() - 1
        });
        sorted.classics[at].1.buckets.push((i, bound));
    }
    sorted
}

/// One question put to all histograms.
struct Asker<'a> {
    question: &'a Question,
    rows: &'a [Row],
    sorted: &'a Sorted,
    steps: Steps,
    /// Of the vector.
    span: Span,
}

impl Asker<'_> {
    fn answer(&self, name_is_known: bool, notes: &mut Annotations, out: &mut Vec<Row>) {
        if let Question::Quantile { q, span, .. } = self.question {
            for q in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                notes.invalid_quantile(*q, *span);
            }
        }
        self.malformed(notes);
        for row in self.rows {
            if !row.histograms.is_empty() {
                out.extend(self.native(row, notes));
            }
        }
        for (labels, classic) in &self.sorted.classics {
            out.extend(self.classic(labels, classic, name_is_known, notes));
        }
    }

    /// Floats without a bound are no buckets.
    fn malformed(&self, notes: &mut Annotations) {
        for i in &self.sorted.malformed {
            let row = &self.rows[*i];
            if row.float_count() > 0 {
                let name = row.labels.metric_name().unwrap_or_default();
                notes.bad_bucket_label(name, row.labels.value_or_empty(BUCKET_LABEL), self.span);
            }
        }
    }

    /// The labels of an answer.
    fn named(&self, labels: &Labels) -> Labels {
        match self.question {
            Question::Quantile { label: Some((name, value)), .. } => labels.with(name, value),
            _ => labels.clone(),
        }
    }

    fn native(&self, row: &Row, notes: &mut Annotations) -> Option<Row> {
        let name = row.labels.metric_name().unwrap_or_default();
        let rival = self.sorted.by_labels.get(&row.labels).map(|i| &self.sorted.classics[*i].1);
        let mut out = Row { labels: self.named(&row.labels), ..row.emptied() };
        for (step, h) in &row.histograms {
            let step = *step as usize;
            if rival.is_some_and(|c| c.has(self.rows, step)) {
                notes.mixed_classic_native(name, self.span);
                continue;
            }
            let (value, remarks) = match self.question {
                Question::Quantile { q, .. } => compute::histogram::quantile(q[step], h),
                Question::Fraction { lower, upper } => {
                    compute::histogram::fraction(lower[step], upper[step], h)
                }
            };
            self.remark(remarks, name, notes);
            out.set_float(step, value, self.steps.count);
        }
        (!out.is_empty()).then_some(out)
    }

    fn remark(&self, remarks: Notes, name: &str, notes: &mut Annotations) {
        for remark in remarks.iter() {
            match remark {
                Notes::QUANTILE_NAN_RESULT => notes.quantile_nan_result(name, self.span),
                Notes::QUANTILE_NAN_SKEW => notes.quantile_nan_skew(name, self.span),
                Notes::FRACTION_NANS => notes.fraction_nan(name, self.span),
                _ => {}
            }
        }
    }

    fn classic(
        &self,
        labels: &Labels,
        classic: &Classic,
        name_is_known: bool,
        notes: &mut Annotations,
    ) -> Option<Row> {
        let rival = self.rows.iter().find(|r| !r.histograms.is_empty() && r.labels == *labels);
        let first = &self.rows[classic.buckets[0].0];
        let mut out = Row { labels: self.named(labels), ..first.emptied() };
        let mut buckets: Vec<ClassicBucket> = Vec::with_capacity(classic.buckets.len());
        for step in 0..self.steps.count {
            buckets.clear();
            buckets.extend(classic.buckets.iter().filter_map(|(row, upper_bound)| {
                let count = self.rows[*row].float(step)?;
                Some(ClassicBucket { upper_bound: *upper_bound, count })
            }));
            // With a native histogram of the same labels neither is answered for.
            if buckets.is_empty() || rival.is_some_and(|r| r.histogram(step).is_some()) {
                continue;
            }
            let value = match self.question {
                Question::Quantile { q, .. } => {
                    let (value, forced) = classic::quantile(q[step], &mut buckets);
                    if let Some(f) = forced {
                        let name = if name_is_known { labels.metric_name().unwrap_or_default() } else { "" };
                        let fix = (f.min_bound, f.max_bound, f.max_difference);
                        notes.forced_monotonicity(name, self.steps.at(step), fix, self.span);
                    }
                    value
                }
                Question::Fraction { lower, upper } => {
                    classic::fraction(lower[step], upper[step], &mut buckets)
                }
            };
            out.set_float(step, value, self.steps.count);
        }
        (!out.is_empty()).then_some(out)
    }
}

impl Classic {
    fn has(&self, rows: &[Row], step: usize) -> bool {
        self.buckets.iter().any(|(row, _)| rows[*row].float(step).is_some())
    }
}
