//! `and`, `or`, `unless`: elements of one vector by whether the other has some that match.

use hashbrown::HashMap;
use model::Labels;
use promql::ast::VectorMatching;

use crate::query::Error;
use crate::query::above::SAME_LABELS;
use crate::query::above::matching::signature;
use crate::query::frame::{ABSENT, Row, Steps};

/// At which steps there is any element with a signature.
struct Presence(HashMap<Labels, Vec<bool>>);

impl Presence {
    fn of(rows: &[Row], matching: &VectorMatching, steps: Steps) -> Presence {
        let mut by_signature: HashMap<Labels, Vec<bool>> = HashMap::new();
        for row in rows {
            let present = by_signature
                .entry(signature(matching, &row.labels))
                .or_insert_with(|| vec![false; steps.count]);
            present.iter_mut().enumerate().for_each(|(step, p)| *p |= row.has(step));
        }
        Presence(by_signature)
    }

    fn at(&self, signature: &Labels) -> Option<&[bool]> {
        self.0.get(signature).map(Vec::as_slice)
    }
}

/// The row with only those cells whose steps are wanted.
fn masked(mut row: Row, keep: impl Fn(usize) -> bool) -> Row {
    for (step, v) in row.floats.iter_mut().enumerate() {
        if !keep(step) {
            *v = ABSENT;
        }
    }
    row.histograms.retain(|(step, _)| keep(*step as usize));
    row
}

pub(super) fn and(lhs: Vec<Row>, rhs: &[Row], matching: &VectorMatching, steps: Steps) -> Vec<Row> {
    let presence = Presence::of(rhs, matching, steps);
    let kept = lhs.into_iter().filter_map(|row| {
        let present = presence.at(&signature(matching, &row.labels))?;
        Some(masked(row, |step| present[step]))
    });
    kept.filter(|r| !r.is_empty()).collect()
}

pub(super) fn unless(lhs: Vec<Row>, rhs: &[Row], matching: &VectorMatching, steps: Steps) -> Vec<Row> {
    let presence = Presence::of(rhs, matching, steps);
    let kept = lhs.into_iter().map(|row| match presence.at(&signature(matching, &row.labels)) {
        Some(present) => masked(row, |step| !present[step]),
        None => row,
    });
    kept.filter(|r| !r.is_empty()).collect()
}

pub(super) fn or(
    lhs: Vec<Row>,
    rhs: Vec<Row>,
    matching: &VectorMatching,
    steps: Steps,
) -> Result<Vec<Row>, Error> {
    let presence = Presence::of(&lhs, matching, steps);
    let mut known: HashMap<(Labels, bool), usize> =
        lhs.iter().enumerate().map(|(i, r)| ((r.labels.clone(), r.drop_name), i)).collect();
    let mut out = lhs;
    for row in rhs {
        let row = match presence.at(&signature(matching, &row.labels)) {
            Some(present) => masked(row, |step| !present[step]),
            None => row,
        };
        if row.is_empty() {
            continue;
        }
        let next = out.len();
        let at = *known.entry((row.labels.clone(), row.drop_name)).or_insert(next);
        if at == next {
            out.push(row);
        } else if !out[at].absorb(row) {
            return Err(Error::Execution(SAME_LABELS.into()));
        }
    }
    Ok(out)
}
