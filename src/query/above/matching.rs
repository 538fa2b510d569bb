//! Operators between two vectors: which elements meet, and what the results are called.

use hashbrown::HashMap;
use model::{Labels, LabelsBuilder, labels::METRIC_NAME};
use promql::ast::{BinaryOp, Cardinality, Span, VectorMatching};

use crate::query::Error;
use crate::query::above::united;
use crate::query::annotations::Annotations;
use crate::query::exec::operator;
use crate::query::frame::{ABSENT, Cell, Row, Steps, is_absent, without_reserved};
use crate::query::plan::physical::changes_metric;

/// The labels by which elements find each other.
pub(super) fn signature(matching: &VectorMatching, labels: &Labels) -> Labels {
    let named = |name: &str| matching.labels.iter().any(|l| l == name);
    if matching.on {
        labels.retain(|l| named(l.name))
    } else {
        labels.retain(|l| l.name != METRIC_NAME && !named(l.name))
    }
}

/// An operator with everything it needs to be applied.
pub(super) struct Operation<'a> {
    pub(super) op: BinaryOp,
    pub(super) matching: &'a VectorMatching,
    pub(super) return_bool: bool,
    pub(super) span: Span,
    pub(super) steps: Steps,
    pub(super) delayed_name_removal: bool,
}

/// Rows of one signature.
#[derive(Default)]
struct Group {
    many: Vec<u32>,
    one: Vec<u32>,
}

/// Why elements cannot meet.
struct Fault {
    /// The step, whether it is the "many" side's, and the row at which it shows. Steps are evaluated one after the
    /// other, and at each the "one" side is looked at first: the smallest is what is said.
    at: (usize, bool, u32),
    error: Error,
}

/// Stands for the row that a fill value makes up.
const FILL: u32 = u32::MAX;

/// What is under way: both sides, and results by who made them.
struct Run<'a> {
    operation: &'a Operation<'a>,
    many: &'a [Row],
    one: &'a [Row],
    /// Steps at which a side has any element at all.
    has_many: Vec<bool>,
    has_one: Vec<bool>,
    results: HashMap<(u32, u32), usize>,
    rows: Vec<Row>,
}

impl Operation<'_> {
    fn swapped(&self) -> bool {
        self.matching.cardinality == Cardinality::OneToMany
    }

    /// Values that stand in for a missing element of the "many" and of the "one" side. Prometheus does not swap them
    /// where it swaps the sides for `group_right`, so "left" always means the "many" side.
    fn fills(&self) -> (Option<f64>, Option<f64>) {
        (self.matching.fill.left, self.matching.fill.right)
    }

    pub(super) fn apply(
        &self,
        lhs: Vec<Row>,
        rhs: Vec<Row>,
        notes: &mut Annotations,
    ) -> Result<Vec<Row>, Error> {
        let (many, one) = if self.swapped() { (&rhs, &lhs) } else { (&lhs, &rhs) };
        let mut groups: HashMap<Labels, usize> = HashMap::new();
        let mut order: Vec<(Labels, Group)> = Vec::new();
        for (is_one, rows) in [(false, many), (true, one)] {
            for (i, row) in rows.iter().enumerate() {
                let key = signature(self.matching, &row.labels);
                let at = *groups.entry(key.clone()).or_insert_with(|| {
                    order.push((key, Group::default()));
                    order.len() - 1
                });
                let group = &mut order[at].1;
                if is_one { group.one.push(i as u32) } else { group.many.push(i as u32) }
            }
        }
        let mut run = Run {
            operation: self,
            many,
            one,
            has_many: presence(many, self.steps),
            has_one: presence(one, self.steps),
            results: HashMap::new(),
            rows: Vec::new(),
        };
        let faults = order.iter().filter_map(|(key, group)| run.group(key, group, notes).err());
        if let Some(first) = faults.min_by_key(|f| f.at) {
            return Err(first.error);
        }
        let rows = run.rows.into_iter().filter(|r| !r.is_empty()).collect();
        united_by_name_mark(rows)
    }
}

fn presence(rows: &[Row], steps: Steps) -> Vec<bool> {
    (0..steps.count).map(|step| rows.iter().any(|r| r.has(step))).collect()
}

/// One row of those with the same labels and the same fate of their name.
fn united_by_name_mark(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    let (dropped, kept): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|r| r.drop_name);
    let mut out = united(kept)?;
    out.extend(united(dropped)?);
    Ok(out)
}

impl Run<'_> {
    fn group(&mut self, key: &Labels, group: &Group, notes: &mut Annotations) -> Result<(), Fault> {
        let (fill_many, fill_one) = self.operation.fills();
        if let ([m], [o]) = (group.many.as_slice(), group.one.as_slice())
            && fill_many.is_none()
            && fill_one.is_none()
        {
            self.pair(key, *m, *o, notes);
            return Ok(());
        }
        if (group.many.is_empty() && fill_many.is_none()) || (group.one.is_empty() && fill_one.is_none()) {
            // Nothing can come of it, but two elements of the "one" side are an error all the same.
            for step in 0..self.operation.steps.count {
                if self.may_match(step) {
                    self.one_at(key, group, step)?;
                }
            }
            return Ok(());
        }
        for step in 0..self.operation.steps.count {
            self.step(key, group, step, notes)?;
        }
        Ok(())
    }

    /// Whether elements can meet at a step: with an empty side nothing is looked at.
    fn may_match(&self, step: usize) -> bool {
        let (fill_many, fill_one) = self.operation.fills();
        (self.has_many[step] || fill_many.is_some()) && (self.has_one[step] || fill_one.is_some())
    }

    /// The element of the "one" side at a step.
    fn one_at(&self, key: &Labels, group: &Group, step: usize) -> Result<Option<u32>, Fault> {
        let mut found = None;
        for o in &group.one {
            if !self.one[*o as usize].has(step) {
                continue;
            }
            if let Some(first) = found {
                return Err(Fault { at: (step, false, *o), error: self.duplicate(key, first, *o) });
            }
            found = Some(*o);
        }
        Ok(found)
    }

    fn duplicate(&self, key: &Labels, a: u32, b: u32) -> Error {
        let side = if self.operation.swapped() { "left" } else { "right" };
        let text = |i: u32| self.one[i as usize].labels.to_string();
        let (mut first, mut second) = (text(a), text(b));
        if second < first {
            std::mem::swap(&mut first, &mut second);
        }
        Error::Execution(format!(
            "found duplicate series for the match group {key} on the {side} hand-side of the operation: \
             [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }

    fn step(
        &mut self,
        key: &Labels,
        group: &Group,
        step: usize,
        notes: &mut Annotations,
    ) -> Result<(), Fault> {
        if !self.may_match(step) {
            return Ok(());
        }
        let (fill_many, fill_one) = self.operation.fills();
        let one = self.one_at(key, group, step)?;
        let many: Vec<u32> =
            group.many.iter().copied().filter(|m| self.many[*m as usize].has(step)).collect();
        let mut made: Vec<usize> = Vec::new();
        for m in &many {
            let other = match (one, fill_one) {
                (Some(o), _) => o,
                (None, Some(_)) => FILL,
                (None, None) => continue,
            };
            let result = self.result(key, *m, other);
            self.check_unique(&made, result).map_err(|error| Fault { at: (step, true, *m), error })?;
            made.push(result);
            self.cell(*m, other, step, result, notes);
        }
        if let (true, Some(o), Some(_)) = (many.is_empty(), one, fill_many) {
            let result = self.result(key, FILL, o);
            self.cell(FILL, o, step, result, notes);
        }
        Ok(())
    }

    /// Several elements of the "many" side must give results with different labels; one to one there is only one.
    fn check_unique(&self, made: &[usize], result: usize) -> Result<(), Error> {
        if made.is_empty() {
            return Ok(());
        }
        if self.operation.matching.cardinality == Cardinality::OneToOne {
            return Err(Error::Execution(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                    .into(),
            ));
        }
        let labels = |i: usize| &self.rows[i].labels;
        if made.iter().any(|i| labels(*i) == labels(result)) {
            return Err(Error::Execution(
                "multiple matches for labels: grouping labels must ensure unique matches".into(),
            ));
        }
        Ok(())
    }

    /// The row that takes the results of a pair.
    fn result(&mut self, key: &Labels, many: u32, one: u32) -> usize {
        if let Some(at) = self.results.get(&(many, one)) {
            return *at;
        }
        let nothing = Row::new(key.clone());
        let many_row = if many == FILL { &nothing } else { &self.many[many as usize] };
        let one_row = if one == FILL { &nothing } else { &self.one[one as usize] };
        let operation = self.operation;
        let mut labels = result_labels(operation, &many_row.labels, &one_row.labels);
        let mut drop_name = many_row.drop_name;
        if operation.return_bool {
            drop_name = true;
        }
        if drop_name && !operation.delayed_name_removal {
            labels = without_reserved(&labels);
            drop_name = false;
        }
        self.rows.push(Row { drop_name, ..Row::new(labels) });
        self.results.insert((many, one), self.rows.len() - 1);
        self.rows.len() - 1
    }

    fn cell(&mut self, many: u32, one: u32, step: usize, result: usize, notes: &mut Annotations) {
        let (fill_many, fill_one) = self.operation.fills();
        let of = |rows: &[Row], i: u32, fill: Option<f64>| {
            if i == FILL { fill.map(Cell::Float) } else { rows[i as usize].cell(step) }
        };
        let (Some(m), Some(o)) = (of(self.many, many, fill_many), of(self.one, one, fill_one)) else {
            return;
        };
        let (l, r) = if self.operation.swapped() { (&o, &m) } else { (&m, &o) };
        let op = self.operation.op;
        let Some((value, keep)) = operator::element(op, l, r, self.operation.span, notes) else { return };
        let row = &mut self.rows[result];
        if self.operation.return_bool {
            row.push(step, Cell::Float(f64::from(u8::from(keep))), self.operation.steps.count);
        } else if keep {
            row.push(step, value, self.operation.steps.count);
        }
    }

    /// One row on either side and nothing to fill: all steps at once where both are floats.
    fn pair(&mut self, key: &Labels, many: u32, one: u32, notes: &mut Annotations) {
        let (m, o) = (&self.many[many as usize], &self.one[one as usize]);
        if !m.histograms.is_empty() || !o.histograms.is_empty() || self.operation.op.is_trim() {
            let result = self.result(key, many, one);
            for step in 0..self.operation.steps.count {
                self.cell(many, one, step, result, notes);
            }
            return;
        }
        let (l, r) = if self.operation.swapped() { (o, m) } else { (m, o) };
        let op = self.operation.op;
        let is_filter = op.is_comparison() && !self.operation.return_bool;
        let floats = l.floats.iter().zip(&r.floats).map(|(l, r)| {
            if is_absent(*l) || is_absent(*r) {
                ABSENT
            } else if !is_filter {
                operator::float(op, *l, *r)
            } else if operator::holds(op, *l, *r) {
                *l
            } else {
                ABSENT
            }
        });
        let floats: Vec<f64> = floats.collect();
        let result = self.result(key, many, one);
        self.rows[result].floats = floats;
    }
}

/// What the result of two elements is called.
fn result_labels(operation: &Operation<'_>, many: &Labels, one: &Labels) -> Labels {
    let matching = operation.matching;
    let mut labels = if changes_metric(operation.op) { without_reserved(many) } else { many.clone() };
    if matching.cardinality == Cardinality::OneToOne {
        let named = |name: &str| matching.labels.iter().any(|l| l == name);
        labels = labels.retain(|l| named(l.name) == matching.on);
    }
    if matching.include.is_empty() {
        return labels;
    }
    let mut b = LabelsBuilder::from(&labels);
    for name in &matching.include {
        b.set(name, one.value_or_empty(name));
    }
    b.build()
}
