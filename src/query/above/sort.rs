//! `sort` and its kin: the order of an instant vector's elements.

use std::cmp::Ordering;
use std::sync::Arc;

use promql::ast::Span;

use crate::query::Error;
use crate::query::above::Evaluator;
use crate::query::frame::{Row, Steps};
use crate::query::plan::logical::Node;

impl Evaluator<'_> {
    pub(super) async fn sort(
        &mut self,
        node: &Node,
        descending: bool,
        arg: &Node,
        steps: Steps,
    ) -> Result<Vec<Row>, Error> {
        let mut rows = self.rows(arg, steps).await?;
        for row in &mut rows {
            row.histograms.clear();
        }
        rows.retain(|r| !r.is_empty());
        if self.warns_of_order(node.span) {
            return Ok(rows);
        }
        rows.sort_by(|a, b| {
            let (x, y) = (a.float(0).unwrap_or(f64::NAN), b.float(0).unwrap_or(f64::NAN));
            let by_value = x.partial_cmp(&y).unwrap_or(Ordering::Equal);
            let by_value = if descending { by_value.reverse() } else { by_value };
            // What is not a number comes last in both directions.
            x.is_nan().cmp(&y.is_nan()).then(by_value).then_with(|| a.labels.cmp(&b.labels))
        });
        Ok(rows)
    }

    pub(super) async fn sort_by_label(
        &mut self,
        node: &Node,
        descending: bool,
        args: &[Node],
        steps: Steps,
    ) -> Result<Vec<Row>, Error> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for a in &args[1..] {
            names.push(self.text(a)?);
        }
        let mut rows = self.rows(&args[0], steps).await?;
        if self.warns_of_order(node.span) {
            return Ok(rows);
        }
        rows.sort_by(|a, b| {
            let order = by_labels(a, b, &names);
            if descending { order.reverse() } else { order }
        });
        Ok(rows)
    }

    /// In a range query series are ordered by their labels whatever is asked: says so and gives true.
    fn warns_of_order(&mut self, span: Span) -> bool {
        if !self.is_instant {
            self.notes.sort_in_range_query(span);
        }
        !self.is_instant
    }
}

fn by_labels(a: &Row, b: &Row, names: &[Arc<str>]) -> Ordering {
    for name in names {
        let (x, y) = (a.labels.value_or_empty(name), b.labels.value_or_empty(name));
        if x != y {
            return natural(x, y);
        }
    }
    a.labels.cmp(&b.labels)
}

/// Digits compare as numbers, the rest as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let (x, rest_a) = chunk(a);
        let (y, rest_b) = chunk(b);
        let order = match (x.parse::<i64>(), y.parse::<i64>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => x.cmp(y),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// The run of digits, or of anything else, that a text begins with.
fn chunk(text: &str) -> (&str, &str) {
    let is_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_compare_as_numbers() {
        let mut texts = vec!["cpu10", "cpu2", "cpu", "4", "12", "a", "cpu2b", ""];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["", "4", "12", "a", "cpu", "cpu2", "cpu2b", "cpu10"]);
    }
}
