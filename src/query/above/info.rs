//! `info`: labels of info metrics put onto the series they tell about.

use hashbrown::HashMap;
use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder, MatchOp, Matcher, Timestamp};
use promql::ast::Span;

use crate::query::Error;
use crate::query::above::Evaluator;
use crate::query::exec::scan::Outcome;
use crate::query::frame::{Row, Steps};
use crate::query::plan::logical::{Kind, Node, Selector};
use crate::query::plan::physical::{Chain, Read};

const TARGET_INFO: &str = "target_info";

/// Labels by which a series and its info metrics know each other.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// What of info metrics is asked for.
struct Wanted {
    names: Vec<Matcher>,
    /// Conditions on labels of the info metrics; where there are any, only those labels are taken over.
    data: Vec<Matcher>,
}

impl Wanted {
    fn new(selector: Option<&Node>) -> Wanted {
        let matchers: &[Matcher] = match selector.map(|n| &n.kind) {
            Some(Kind::Vector(s)) => &s.matchers,
            _ => &[],
        };
        let (names, data): (Vec<_>, Vec<_>) = matchers.iter().cloned().partition(|m| m.name == METRIC_NAME);
        let mut names = names;
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        }
        Wanted { names, data }
    }

    /// Whether a series is itself an info metric that is asked for.
    fn is_info(&self, labels: &Labels) -> bool {
        let name = labels.value_or_empty(METRIC_NAME);
        let positive = self.names.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex));
        let looks_like_info = positive || name.ends_with("_info");
        looks_like_info && self.names.iter().all(|m| m.matches(name))
    }

    /// Whether a series may be in the answer although nothing is known about it.
    fn allows_nothing(&self) -> bool {
        self.data.iter().all(Matcher::matches_empty)
    }

    fn takes(&self, label: &str) -> bool {
        self.data.is_empty() || self.data.iter().any(|m| m.name == label)
    }
}

/// An info series: its labels, and when the sample seen at each step was taken.
struct InfoSeries {
    labels: Labels,
    seen: Row,
}

impl Evaluator<'_> {
    pub(super) async fn info(&mut self, args: &[Node], steps: Steps) -> Result<Vec<Row>, Error> {
        let rows = self.rows(&args[0], steps).await?;
        let wanted = Wanted::new(args.get(1));
        let ids: Vec<&Row> = rows.iter().filter(|r| !wanted.is_info(&r.labels)).collect();
        let infos = match matchers(&wanted, &ids)? {
            None => HashMap::new(),
            Some(matchers) => self.info_series(matchers, &args[0], steps).await?,
        };
        check_ambiguity(&rows, &infos, steps)?;
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            if wanted.is_info(&row.labels) {
                out.push(row);
            } else {
                enrich(row, &infos, &wanted, steps, &mut out)?;
            }
        }
        let (dropped, kept): (Vec<Row>, Vec<Row>) = out.into_iter().partition(|r| r.drop_name);
        let mut out = super::united(kept)?;
        out.extend(super::united(dropped)?);
        Ok(out)
    }

    /// Info series by their identifying labels.
    async fn info_series(
        &mut self,
        matchers: Vec<Matcher>,
        base: &Node,
        steps: Steps,
    ) -> Result<HashMap<Labels, Vec<InfoSeries>>, Error> {
        let (at, offset) = reference(base);
        let selector = Selector {
            name: String::new(),
            matchers: matchers.into(),
            offset,
            at,
            anchored: false,
            smoothed: false,
            stats_only: false,
        };
        let plain = Chain { selector, read: Read::Latest, maps: Vec::new(), span: Span::default() };
        let times = Chain { read: Read::LatestTime, ..plain.clone() };
        if let Outcome::Rows(rows) = self.fragment(plain, None, steps).await?
            && rows.iter().any(|r| !r.histograms.is_empty())
        {
            return Err(Error::Execution("info sample should be float".into()));
        }
        // The same samples once more: they count once.
        let load = self.load.clone();
        let mut by_id: HashMap<Labels, Vec<InfoSeries>> = HashMap::new();
        // Without delayed removal the times come without names; the names are what info series differ in.
        let settings = self.settings;
        self.settings.delayed_name_removal = true;
        let seen = self.fragment(times, None, steps).await;
        (self.settings, self.load) = (settings, load);
        if let Outcome::Rows(rows) = seen? {
            for seen in rows {
                let labels = seen.labels.clone();
                by_id.entry(identity(&labels)).or_default().push(InfoSeries { labels, seen });
            }
        }
        Ok(by_id)
    }
}

fn identity(labels: &Labels) -> Labels {
    labels.retain(|l| IDENTIFYING.contains(&l.name))
}

/// Finds info series that cannot be told apart, at steps where there is anything to tell about: whether or not a row
/// has their identity.
fn check_ambiguity(
    rows: &[Row],
    infos: &HashMap<Labels, Vec<InfoSeries>>,
    steps: Steps,
) -> Result<(), Error> {
    for known in infos.values().filter(|known| known.len() > 1) {
        for step in (0..steps.count).filter(|s| rows.iter().any(|r| r.cell(*s).is_some())) {
            current(known, step)?;
        }
    }
    Ok(())
}

/// Conditions that select the info series of the given rows; `None` where no row has an identity. What no row has is
/// no condition: info series are then of any, and match no row, but they can be ambiguous.
fn matchers(wanted: &Wanted, rows: &[&Row]) -> Result<Option<Vec<Matcher>>, Error> {
    let mut matchers = wanted.names.clone();
    if !matchers.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
        matchers.push(regex(METRIC_NAME, ".+_info")?);
    }
    matchers.extend(wanted.data.iter().cloned());
    let mut is_identified = false;
    for name in IDENTIFYING {
        let mut values: Vec<&str> = rows.iter().filter_map(|r| r.labels.value(name)).collect();
        if values.is_empty() {
            continue;
        }
        is_identified = true;
        values.sort_unstable();
        values.dedup();
        let alternatives: Vec<String> = values.into_iter().map(escaped).collect();
        matchers.push(regex(name, &alternatives.join("|"))?);
    }
    Ok(is_identified.then_some(matchers))
}

fn regex(name: &str, pattern: &str) -> Result<Matcher, Error> {
    Matcher::new(MatchOp::Regex, name, pattern).map_err(|e| Error::Execution(e.to_string()))
}

/// A text as a regular expression that matches just it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// When the samples of an expression were taken, relative to the step: as its first selector says, through all
/// subqueries around it.
fn reference(node: &Node) -> (Option<Timestamp>, i64) {
    fn walk(node: &Node, at: Option<Timestamp>, offset: i64) -> Option<(Option<Timestamp>, i64)> {
        let step = |own: Option<Timestamp>, own_offset: i64| match own {
            Some(_) => (own, own_offset),
            None => (at, offset + own_offset),
        };
        match &node.kind {
            Kind::Vector(s) | Kind::Range(s, _) => Some(step(s.at, s.offset)),
            Kind::Subquery(s) => {
                let (at, offset) = step(s.at, s.offset);
                walk(&s.inner, at, offset)
            }
            Kind::Once(inner) | Kind::Negate(inner) => walk(inner, at, offset),
            Kind::Call { args, .. } => args.iter().find_map(|a| walk(a, at, offset)),
            Kind::Aggregate(a) => walk(&a.inner, at, offset),
            Kind::Binary(b) => walk(&b.lhs, at, offset).or_else(|| walk(&b.rhs, at, offset)),
            Kind::Number(_) | Kind::Text(_) => None,
        }
    }
    walk(node, None, 0).unwrap_or((None, 0))
}

/// Puts what is known at each step onto the labels of a row; where that changes from step to step, the row falls
/// into several.
fn enrich(
    row: Row,
    infos: &HashMap<Labels, Vec<InfoSeries>>,
    wanted: &Wanted,
    steps: Steps,
    out: &mut Vec<Row>,
) -> Result<(), Error> {
    let nothing = Vec::new();
    let known = infos.get(&identity(&row.labels)).unwrap_or(&nothing);
    let mut parts: Vec<Row> = Vec::new();
    for step in 0..steps.count {
        let Some(cell) = row.cell(step) else { continue };
        let current = current(known, step)?;
        if current.is_empty() && !wanted.allows_nothing() {
            continue;
        }
        let labels = enriched(&row.labels, &current, wanted)?;
        let at = match parts.iter().position(|p| p.labels == labels) {
            Some(at) => at,
            None => {
                parts.push(Row { labels, ..row.emptied() });
                parts.len() - 1
            }
        };
        parts[at].push(step, cell, steps.count);
    }
    out.extend(parts);
    Ok(())
}

/// The info series in force at a step: of each metric the one with the newest sample.
fn current(known: &[InfoSeries], step: usize) -> Result<Vec<&InfoSeries>, Error> {
    let mut current: Vec<(&InfoSeries, f64)> = Vec::new();
    for info in known {
        let Some(time) = info.seen.float(step) else { continue };
        let name = info.labels.metric_name();
        match current.iter_mut().find(|(c, _)| c.labels.metric_name() == name) {
            None => current.push((info, time)),
            Some(held) if held.1 < time => *held = (info, time),
            Some(held) if held.1 > time => {}
            Some(held) => {
                let ms = (time * 1000.0).round() as i64;
                let (old, new) = (&held.0.labels, &info.labels);
                return Err(Error::Execution(format!(
                    "found duplicate series for info metric: existing {old} @ {ms}, new {new} @ {ms}"
                )));
            }
        }
    }
    Ok(current.into_iter().map(|c| c.0).collect())
}

fn enriched(labels: &Labels, infos: &[&InfoSeries], wanted: &Wanted) -> Result<Labels, Error> {
    let mut added = LabelsBuilder::new();
    for info in infos {
        for l in info.labels.iter().filter(|l| l.name != METRIC_NAME && wanted.takes(l.name)) {
            let held = added.value(l.name);
            if !held.is_empty() && held != l.value {
                return Err(Error::Execution(format!("conflicting label: {}", l.name)));
            }
            if labels.value(l.name).is_none() {
                added.set(l.name, l.value);
            }
        }
    }
    let mut b = LabelsBuilder::from(labels);
    for (name, value) in added.iter() {
        b.set(name, value);
    }
    Ok(b.build())
}
