//! Function calls that do not run on the shards as a whole.

use compute::elementwise::{max_of, min_of};
use promql::Function;
use promql::ast::ValueType;

use crate::query::Error;
use crate::query::above::{Evaluator, seconds};
use crate::query::frame::{Frame, Row, Steps, is_absent};
use crate::query::plan::logical::{Node, Selector};
use crate::query::plan::physical::{Map, is_elementwise};

impl Evaluator<'_> {
    pub(super) async fn call(
        &mut self,
        node: &Node,
        function: Function,
        args: &[Node],
        steps: Steps,
    ) -> Result<Frame, Error> {
        use Function::*;
        if let Some(at) = args.iter().position(|a| a.value_type == ValueType::Matrix) {
            if function == AbsentOverTime {
                return self.absent_over_time(&args[at], steps).await.map(Frame::Rows);
            }
            return self.over_subquery(function, args, at, steps).await.map(Frame::Rows);
        }
        match function {
            Time => Ok(Frame::Scalar(steps.times().map(seconds).collect())),
            Pi => Ok(Frame::Scalar(vec![std::f64::consts::PI; steps.count])),
            MaxOf | MinOf => {
                let a = self.column(&args[0], steps).await?;
                let b = self.column(&args[1], steps).await?;
                let f = if function == MaxOf { max_of } else { min_of };
                Ok(Frame::Scalar(a.iter().zip(b.iter()).map(|(a, b)| f(*a, *b)).collect()))
            }
            Scalar => self.rows(&args[0], steps).await.map(|rows| Frame::Scalar(scalar(&rows, steps))),
            Vector => {
                let column = self.column(&args[0], steps).await?;
                Ok(Frame::Rows(vec![Row::of_floats(model::Labels::empty(), column.to_vec())]))
            }
            _ => self.vector_call(node, function, args, steps).await.map(Frame::Rows),
        }
    }

    async fn vector_call(
        &mut self,
        node: &Node,
        function: Function,
        args: &[Node],
        steps: Steps,
    ) -> Result<Vec<Row>, Error> {
        use Function::*;
        match function {
            Absent => self.absent(&args[0], steps).await,
            LabelReplace => self.label_replace(args, steps).await,
            LabelJoin => self.label_join(args, steps).await,
            Sort | SortDesc => self.sort(node, function == SortDesc, &args[0], steps).await,
            SortByLabel | SortByLabelDesc => {
                self.sort_by_label(node, function == SortByLabelDesc, args, steps).await
            }
            HistogramQuantile | HistogramQuantiles | HistogramFraction => {
                self.of_buckets(function, args, steps).await
            }
            Info => self.info(args, steps).await,
            Timestamp => self.step_times(&args[0], steps).await,
            // Start timestamps belong to samples; what was computed has none.
            StartTimestamp => self.rows(&args[0], steps).await.map(|_| Vec::new()),
            _ if is_elementwise(function) => self.elementwise(function, args, steps).await,
            _ => Err(Error::Execution(format!("function {} has no meaning here", function.name()))),
        }
    }

    async fn elementwise(
        &mut self,
        function: Function,
        args: &[Node],
        steps: Steps,
    ) -> Result<Vec<Row>, Error> {
        let Some((vector, params)) = args.split_first() else {
            // Date functions without an argument look at the step itself.
            let now = Row::of_floats(model::Labels::empty(), steps.times().map(seconds).collect());
            return self.mapped(vec![now], &Map::Call { function, params: Vec::new() });
        };
        let rows = self.rows(vector, steps).await?;
        let params: Vec<&Node> = params.iter().collect();
        let params = self.columns(&params, steps).await?;
        self.mapped(rows, &Map::Call { function, params })
    }

    /// `timestamp()` of what is not a selector: the time of the step.
    async fn step_times(&mut self, arg: &Node, steps: Steps) -> Result<Vec<Row>, Error> {
        let mut rows = self.rows(arg, steps).await?;
        for row in &mut rows {
            let present: Vec<usize> = (0..steps.count).filter(|s| row.has(*s)).collect();
            row.histograms.clear();
            for step in present {
                row.set_float(step, seconds(steps.at(step)), steps.count);
            }
            self.drop_name(row);
        }
        self.settled(rows)
    }
}

/// The one float at each step, NaN where there is none or more than one.
fn scalar(rows: &[Row], steps: Steps) -> Vec<f64> {
    let mut counts = vec![0u32; steps.count];
    let mut values = vec![f64::NAN; steps.count];
    for row in rows {
        for (step, v) in row.floats.iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
            counts[step] += 1;
            values[step] = *v;
        }
    }
    values.iter().zip(counts).map(|(v, n)| if n == 1 { *v } else { f64::NAN }).collect()
}

/// Refuses functions that do not know what to do with the edges of such a range.
pub(super) fn check_modifiers(function: Function, selector: &Selector) -> Result<(), Error> {
    use Function::*;
    let (modifier, known, names) = if selector.anchored {
        let known = matches!(function, Changes | Delta | Increase | Rate | Resets);
        ("anchored", known, "changes, delta, increase, rate, resets")
    } else if selector.smoothed {
        ("smoothed", matches!(function, Delta | Increase | Rate), "delta, increase, rate")
    } else {
        return Ok(());
    };
    if known {
        return Ok(());
    }
    let name = function.name();
    Err(Error::Execution(format!("{modifier} modifier can only be used with: {names} - not with {name}")))
}
