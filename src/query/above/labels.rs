//! `label_replace` and `label_join`: they work on whole series, whatever the step.

use std::sync::Arc;

use model::labels::METRIC_NAME;
use model::regex::Regex;

use crate::query::Error;
use crate::query::above::{Evaluator, united};
use crate::query::frame::{Row, Steps};
use crate::query::plan::logical::Node;

impl Evaluator<'_> {
    pub(super) async fn label_replace(&mut self, args: &[Node], steps: Steps) -> Result<Vec<Row>, Error> {
        let text = |i: usize| self.text(&args[i]);
        let (template, source, pattern) = (text(2)?, text(3)?, text(4)?);
        let regex = Regex::new(&pattern).map_err(|_| {
            Error::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
        })?;
        let target = self.named(&args[1], "destination", "label_replace")?;
        let mut rows = self.rows(&args[0], steps).await?;
        for row in &mut rows {
            let Some(captures) = regex.captures(row.labels.value_or_empty(&source)) else { continue };
            let value = captures.expand(&template);
            row.labels = row.labels.with(&target, &value);
            row.drop_name &= *target != *METRIC_NAME;
        }
        self.renamed(rows)
    }

    pub(super) async fn label_join(&mut self, args: &[Node], steps: Steps) -> Result<Vec<Row>, Error> {
        let separator = self.text(&args[2])?;
        let mut sources = Vec::with_capacity(args.len() - 3);
        for a in &args[3..] {
            sources.push(self.named(a, "source", "label_join")?);
        }
        let target = self.named(&args[1], "destination", "label_join")?;
        let mut rows = self.rows(&args[0], steps).await?;
        for row in &mut rows {
            let values: Vec<&str> = sources.iter().map(|s| row.labels.value_or_empty(s)).collect();
            let joined = values.join(&separator);
            row.labels = row.labels.with(&target, &joined);
            row.drop_name &= *target != *METRIC_NAME;
        }
        self.renamed(rows)
    }

    fn named(&self, node: &Node, role: &str, function: &str) -> Result<Arc<str>, Error> {
        self.label_name(node).map_err(|name| {
            let name = name.trim_matches('"');
            Error::Execution(format!("invalid {role} label name in {function}(): {name}"))
        })
    }

    /// Rows with new labels: those that have become one series are one row.
    fn renamed(&self, rows: Vec<Row>) -> Result<Vec<Row>, Error> {
        let (dropped, kept): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|r| r.drop_name);
        let mut out = united(kept)?;
        out.extend(united(dropped)?);
        Ok(out)
    }
}
