//! `absent` and `absent_over_time`: an element where there is none.

use std::sync::Arc;

use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder, MatchOp, Matcher};
use promql::Function;
use promql::ast::Aggregator;

use crate::query::Error;
use crate::query::above::{Evaluator, call};
use crate::query::exec::fold::fold_rows;
use crate::query::exec::scan::Outcome;
use crate::query::frame::{ABSENT, Row, Steps};
use crate::query::plan::logical::{Kind, Node};
use crate::query::plan::physical::{Chain, Fold, Read, chain, may_fold};

impl Evaluator<'_> {
    pub(super) async fn absent(&mut self, arg: &Node, steps: Steps) -> Result<Vec<Row>, Error> {
        let present = match chain(arg).filter(|found| may_fold(found, &self.settings)) {
            // Whether anything is there can be found without bringing it here.
            Some(found) => {
                let chain = self.chain(&found, steps).await?;
                match self.fragment(chain, Some(any(arg)), steps).await? {
                    Outcome::Rows(rows) => rows,
                    _ => Vec::new(),
                }
            }
            None => {
                let rows = self.rows(arg, steps).await?;
                fold_rows(&rows, &any(arg), steps.count, &mut self.notes)
            }
        };
        Ok(complement(&present, labels_of(arg), steps))
    }

    pub(super) async fn absent_over_time(&mut self, arg: &Node, steps: Steps) -> Result<Vec<Row>, Error> {
        let present = match &arg.kind {
            Kind::Range(selector, range) => {
                call::check_modifiers(Function::AbsentOverTime, selector)?;
                let read = Read::Window {
                    function: Function::PresentOverTime,
                    range: *range,
                    params: Vec::new(),
                    span: arg.span,
                };
                let chain = Chain { selector: selector.clone(), read, maps: Vec::new(), span: arg.span };
                match self.fragment(chain, Some(any(arg)), steps).await? {
                    Outcome::Rows(rows) => rows,
                    _ => Vec::new(),
                }
            }
            _ => {
                let args = std::slice::from_ref(arg);
                // Whether two series are the same without their names is not asked.
                let rows = self.windows_of(Function::PresentOverTime, args, 0, steps).await?;
                fold_rows(&rows, &any(arg), steps.count, &mut self.notes)
            }
        };
        Ok(complement(&present, labels_of(arg), steps))
    }
}

/// Whether there is any element at all.
fn any(arg: &Node) -> Fold {
    Fold {
        op: Aggregator::Group,
        grouping: Vec::new(),
        without: false,
        param: None,
        label: Arc::from(""),
        span: arg.span,
        inner_span: arg.span,
    }
}

fn complement(present: &[Row], labels: Labels, steps: Steps) -> Vec<Row> {
    let floats: Vec<f64> =
        (0..steps.count).map(|s| if present.iter().any(|r| r.has(s)) { ABSENT } else { 1.0 }).collect();
    let row = Row::of_floats(labels, floats);
    if row.is_empty() { Vec::new() } else { vec![row] }
}

/// What is known of the labels of something that is not there: what a selector asks for with `=`, once.
fn labels_of(arg: &Node) -> Labels {
    match &arg.kind {
        Kind::Once(inner) => labels_of(inner),
        Kind::Vector(s) | Kind::Range(s, _) => asked_for(&s.matchers),
        _ => Labels::empty(),
    }
}

fn asked_for(matchers: &[Matcher]) -> Labels {
    let mut b = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    // Prometheus's storage puts conditions that only take series away behind the others before this is asked.
    let must_be_set = |name: &str| matchers.iter().any(|m| m.name == name && !m.matches_empty());
    let takes_away = |m: &Matcher| {
        !must_be_set(&m.name) || (matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex) && m.matches_empty())
    };
    let mut matchers: Vec<&Matcher> = matchers.iter().collect();
    matchers.sort_by_key(|m| takes_away(m));
    for m in matchers.into_iter().filter(|m| m.name != METRIC_NAME) {
        if m.op == MatchOp::Equal && !seen.contains(&m.name.as_str()) {
            b.set(&m.name, &m.value);
            seen.push(&m.name);
        } else {
            b.remove(&m.name);
        }
    }
    b.build()
}
