//! `tsdb analyze`: which labels a block's series have, how many, and which come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use model::Matcher;
use prometheus_tsdb::index::Series;
use prometheus_tsdb::ulid::Ulid;

use crate::exchange::Error;
use crate::exchange::analyze_chunks;
use crate::exchange::block::Block;
use crate::exchange::directory::block_dirs;
use crate::exchange::table::duration_text;

/// What is asked for.
pub struct Question<'a> {
    /// Empty: the last block.
    pub block: &'a str,
    pub limit: usize,
    pub is_extended: bool,
    /// A selector, empty for all series.
    pub selector: &'a str,
}

pub fn analyze(dir: &Path, question: &Question<'_>, out: &mut dyn Write) -> Result<(), Error> {
    let matchers = match question.selector {
        "" => Vec::new(),
        text => promql::parse_metric_selector(text, promql::Options::default())
            .map_err(|e| Error::Refused(e.to_string()))?,
    };
    let block = Block::open(&block_path(dir, question.block)?)?;
    let counts = Counts::of(&block, &matchers)?;
    print_totals(&block, &counts, question.selector, out)?;
    for (title, list) in counts.lists(&block) {
        writeln!(out, "\n{title}:")?;
        print_list(list, question.limit, out)?;
    }
    if question.is_extended {
        analyze_chunks::print(&block, &matchers, out)?;
    }
    Ok(())
}

/// The named block, or the one whose name is the latest.
fn block_path(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    if !name.is_empty() {
        if Ulid::parse(name).is_none() {
            return Err(Error::Refused(format!("invalid block ID {name}")));
        }
        return Ok(dir.join(name));
    }
    let last = block_dirs(dir)?.pop().ok_or(Error::Refused("no blocks found".to_owned()))?;
    Ok(last.1)
}

/// What a walk over the series counts.
#[derive(Default)]
struct Counts {
    matched: u64,
    entries: u64,
    /// By label pair: how many series, and of how much time they have no samples.
    pairs: BTreeMap<(String, String), (u64, u64)>,
    uncovered_by_name: BTreeMap<String, u64>,
}

type List = Vec<(u64, String)>;

impl Counts {
    fn of(block: &Block, matchers: &[Matcher]) -> Result<Counts, Error> {
        let mut counts = Counts::default();
        let meta = block.meta();
        let length = meta.max_time.wrapping_sub(meta.min_time) as u64;
        let mut series = Series::default();
        for reference in block.index.all_series().map_err(block.index_error())? {
            block.index.read_series(reference, &mut series).map_err(block.index_error())?;
            let labels = &series.labels;
            if !matchers.iter().all(|m| m.matches(labels.value_or_empty(&m.name))) {
                continue;
            }
            let ends = series.chunks.first().zip(series.chunks.last());
            let covered = ends.map_or(0, |(a, b)| b.max_time.wrapping_sub(a.min_time) as u64);
            counts.add(&series, length.wrapping_sub(covered));
        }
        Ok(counts)
    }

    fn add(&mut self, series: &Series, uncovered: u64) {
        self.matched += 1;
        for label in &series.labels {
            self.entries += 1;
            let pair = self.pairs.entry((label.name.to_owned(), label.value.to_owned())).or_default();
            pair.0 += 1;
            pair.1 = pair.1.wrapping_add(uncovered);
            let name = self.uncovered_by_name.entry(label.name.to_owned()).or_default();
            *name = name.wrapping_add(uncovered);
        }
    }

    /// By name: how many values there are, and how long they are together.
    fn values(&self) -> BTreeMap<&str, (u64, u64)> {
        let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (name, value) in self.pairs.keys() {
            let entry = by_name.entry(name).or_default();
            entry.0 += 1;
            entry.1 += value.len() as u64;
        }
        by_name
    }

    fn lists(&self, block: &Block) -> [(&'static str, List); 6] {
        let meta = block.meta();
        let length = meta.max_time.wrapping_sub(meta.min_time) as f64;
        let churn = |uncovered: u64| (uncovered as f64 / length) as u64;
        let pair = |(name, value): &(String, String)| format!("{name}={value}");
        let values = self.values();
        let metrics = self.pairs.iter().filter(|((name, _), _)| name == model::labels::METRIC_NAME);
        [
            (
                "Label pairs most involved in churning",
                self.pairs.iter().map(|(p, c)| (churn(c.1), pair(p))).collect(),
            ),
            (
                "Label names most involved in churning",
                self.uncovered_by_name.iter().map(|(n, u)| (churn(*u), n.clone())).collect(),
            ),
            ("Most common label pairs", self.pairs.iter().map(|(p, c)| (c.0, pair(p))).collect()),
            (
                "Label names with highest cumulative label value length",
                values.iter().map(|(n, v)| (v.1, (*n).to_owned())).collect(),
            ),
            ("Highest cardinality labels", values.iter().map(|(n, v)| (v.0, (*n).to_owned())).collect()),
            ("Highest cardinality metric names", metrics.map(|((_, v), c)| (c.0, v.clone())).collect()),
        ]
    }
}

fn print_totals(block: &Block, counts: &Counts, selector: &str, out: &mut dyn Write) -> Result<(), Error> {
    let meta = block.meta();
    writeln!(out, "Block ID: {}", meta.ulid)?;
    writeln!(out, "Duration: {}", duration_text(meta.max_time.saturating_sub(meta.min_time)))?;
    writeln!(out, "Total Series: {}", meta.stats.series_count)?;
    if !selector.is_empty() {
        writeln!(out, "Matcher: {selector}")?;
    }
    let names: BTreeSet<&str> = counts.pairs.keys().map(|(name, _)| name.as_str()).collect();
    writeln!(out, "Label names: {}", names.len())?;
    if !selector.is_empty() {
        writeln!(out, "Matched series: {}", counts.matched)?;
    }
    writeln!(out, "Postings (unique label pairs): {}", counts.pairs.len())?;
    Ok(writeln!(out, "Postings entries (total label pairs): {}", counts.entries)?)
}

fn print_list(mut list: List, limit: usize, out: &mut dyn Write) -> Result<(), Error> {
    // Stable: what is equal stays in order of the text.
    list.sort_by_key(|entry| std::cmp::Reverse(entry.0));
    for (count, text) in list.iter().take(limit) {
        writeln!(out, "{count} {text}")?;
    }
    Ok(())
}
