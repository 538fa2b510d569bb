//! The wishes: Prometheus's configuration file as plain data.
//!
//! In: YAML text and the directory it stands in. Out: `Config`, or an error that names file, line and column.
//! Owns: the schema, its defaults and checks, and the text of the loaded configuration. Runs on: any thread that
//! may read files; never a shard's core.
//! Invariant: what cannot be honored is refused at load, never silently left out.
//! Never: reads a clock, opens a socket, acts on what it read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Labels, Matcher, NameScheme};

mod build;
mod decode;
mod diff;
mod error;
mod expand;
pub mod glob;
pub mod http_client;
mod print;
mod schema;
pub mod scrape;
pub mod size;
mod table;
mod unsupported;
mod url;
mod yaml;

pub use diff::JobChanges;
pub use error::{Error, Position, Refusal};
pub use scrape::{ScrapeConfig, ScrapeLimits, ScrapeProtocol};

use error::Problem;
use schema::{Block, Value};
use table::root::{INCLUDED, ROOT};

/// A configuration that was read, checked and found to be within what this build can do.
#[derive(Clone, Debug)]
pub struct Config {
    pub global: Global,
    /// Jobs of the file and of the files it includes, in order.
    pub scrape: Vec<Arc<ScrapeConfig>>,
    pub storage: Storage,
    pub otlp: Otlp,
    /// Patterns of rule files.
    pub rule_files: Vec<String>,
    /// What is odd but no error.
    pub warnings: Vec<String>,
    root: Block,
}

/// What holds for all jobs and rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    pub scrape_interval_ms: u64,
    pub scrape_timeout_ms: u64,
    pub evaluation_interval_ms: u64,
    pub rule_query_offset_ms: u64,
    pub query_log_file: Option<PathBuf>,
    pub external_labels: Labels,
    pub name_scheme: NameScheme,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub out_of_order_window_ms: u64,
    /// `None` where the file does not say: then flags and defaults hold.
    pub retention: Option<Retention>,
    /// In the order in which a series is held against them.
    pub retention_classes: Vec<RetentionClass>,
    /// Aggregates of the series of no class, the finest first.
    pub downsample: Vec<Downsample>,
    /// How coarse the aggregates may be that a range query reads which does not say.
    pub max_source_resolution: SourceResolution,
    /// `None` where the file does not say; none are kept from 0 down.
    pub exemplars_max: Option<i64>,
}

/// How OTLP becomes samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    pub strategy: Translation,
    pub promotes_all: bool,
    pub promoted_attributes: Vec<String>,
    pub ignored_attributes: Vec<String>,
    pub keeps_identifying: bool,
    pub converts_to_nhcb: bool,
    pub promotes_scope: bool,
    pub sanitizes_underscore: bool,
    pub preserves_underscores: bool,
}

/// `otlp.translation_strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    EscapingWithSuffixes,
    EscapingWithoutSuffixes,
    Utf8WithSuffixes,
    None,
}

impl Translation {
    pub fn escapes(self) -> bool {
        matches!(self, Translation::EscapingWithSuffixes | Translation::EscapingWithoutSuffixes)
    }

    pub fn has_suffixes(self) -> bool {
        matches!(self, Translation::EscapingWithSuffixes | Translation::Utf8WithSuffixes)
    }
}

/// The selector of a retention class, in its printed form, at most: it lies in the first page of each of its blocks.
pub const RETENTION_SELECTOR_BYTES_MAX: usize = 1024;

/// Retention classes at most: each has a file open, with about 1.2 MiB of buffers, while a shard writes blocks.
pub const RETENTION_CLASSES_MAX: usize = 16;

/// Series that are kept for a time of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionClass {
    /// In one fixed form, such as `{job="debug"}`, however it was written.
    pub selector: String,
    pub matchers: Vec<Matcher>,
    pub time_ms: u64,
    pub downsample: Vec<Downsample>,
}

/// Resolutions that aggregates may have, the finest first.
pub const RESOLUTIONS_MS: [i64; 2] = [300_000, 3_600_000];

/// What is made of samples when they are old.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Downsample {
    pub resolution_ms: u64,
    pub after_ms: u64,
    pub retention_ms: u64,
}

/// How coarse aggregates may be that stand for samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceResolution {
    /// As the step allows.
    Auto,
    /// 0 for samples alone.
    Fixed(u64),
}

/// 0 is no bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retention {
    pub time_ms: u64,
    pub bytes: u64,
    pub percentage: f64,
}

/// How strict a reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// To run by: what this build cannot do is refused.
    ToRun,
    /// To check: anything that Prometheus would load is right.
    ToCheck,
}

/// The environment, as external labels see it.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The environment of the process.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

const DEFAULT: &str = include_str!("default.yml");

impl Config {
    /// Reads a file and those it includes.
    pub fn load(path: &Path, reading: Reading, environment: Environment<'_>) -> Result<Config, Error> {
        let text = read(path)?;
        Self::parse(path, &text, reading, environment)
    }

    /// The configuration that is used where none is named.
    pub fn embedded_default() -> Result<Config, Error> {
        Self::parse(Path::new("default.yml"), DEFAULT, Reading::ToRun, &|_| None)
    }

    /// Reads the text of the file at `path`; relative names in it are relative to where `path` stands.
    pub fn parse(
        path: &Path,
        text: &str,
        reading: Reading,
        environment: Environment<'_>,
    ) -> Result<Config, Error> {
        let in_file = |p: Problem| p.in_file(path.to_owned(), text);
        let mut warnings = Vec::new();
        let mut root = read_root(text).map_err(in_file)?;
        expand_labels(&mut root, environment, &mut warnings);
        if reading == Reading::ToRun {
            unsupported::check(&root).map_err(in_file)?;
        }
        if root.section("runtime").is_some_and(|r| r.is_given("gogc")) {
            warnings.push("runtime.gogc has no effect: memory is not garbage-collected here".to_owned());
        }
        let dir = path.parent().unwrap_or(Path::new(""));
        build::resolve_paths(&mut root, dir);
        let mut scrape = Vec::new();
        for block in root.sections("scrape_configs") {
            scrape.push(Arc::new(build::scrape(block).map_err(in_file)?));
        }
        include(&root, reading, &mut scrape)?;
        let global = match root.section("global") {
            Some(block) => build::global(block),
            None => build::global(&Block::new(&table::root::GLOBAL, None)),
        };
        let (storage, otlp) = (build::storage(&root), build::otlp(&root));
        let rule_files = root.texts("rule_files").to_vec();
        Ok(Config { global, scrape, storage, otlp, rule_files, warnings, root })
    }

    /// The configuration as YAML: defaults filled in, secrets hidden, as `/api/v1/status/config` shows it.
    pub fn to_yaml(&self) -> String {
        print::print(&self.root)
    }

    /// Fills in the retention that holds where the file does not say, so that it is shown too.
    pub fn set_default_retention(&mut self, retention: Retention) {
        if self.storage.retention.is_some() {
            return;
        }
        self.storage.retention = Some(retention);
        if let Some(tsdb) = self.root.section_mut("storage").and_then(|s| s.section_mut("tsdb")) {
            tsdb.set("retention", table::storage::retention(retention), None);
        }
    }

    /// What loading `self` after `old` changes about the jobs.
    pub fn job_changes(&self, old: &Config) -> JobChanges {
        JobChanges::between(&old.scrape, &self.scrape)
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

fn read_root(text: &str) -> Result<Block, Problem> {
    let node = yaml::parse(text)?;
    match node.kind {
        // A file of nothing is a configuration of defaults.
        yaml::Kind::Null => decode::default_block(&ROOT),
        _ => decode::decode(&ROOT, &node),
    }
}

fn expand_labels(root: &mut Block, environment: Environment<'_>, warnings: &mut Vec<String>) {
    let Some(global) = root.section_mut("global") else {
        return;
    };
    let place = global.place("external_labels");
    let mut labels = global.text_map("external_labels").to_vec();
    if labels.is_empty() {
        return;
    }
    for (_, value) in &mut labels {
        *value = expand::expand(value, |name| {
            environment(name).filter(|v| !v.is_empty()).unwrap_or_else(|| {
                warnings.push(format!("Empty environment variable name={name}"));
                String::new()
            })
        });
    }
    global.set("external_labels", Value::TextMap(labels), place);
}

/// Reads the files that `scrape_config_files` names; a problem is told with the included file's name.
fn include(root: &Block, reading: Reading, scrape: &mut Vec<Arc<ScrapeConfig>>) -> Result<(), Error> {
    let mut homes: Vec<(String, String)> =
        scrape.iter().map(|s| (s.job_name.clone(), "main config file".to_owned())).collect();
    for pattern in root.texts("scrape_config_files") {
        for path in glob::files(pattern) {
            let text = read(&path)?;
            let shown = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            let jobs = included_jobs(root, &path, &text, reading, &mut homes, &shown);
            scrape.extend(jobs.map_err(|p| match p.in_file(shown, &text) {
                Error::Refused(refusal) => Refusal { included: true, ..*refusal }.into(),
                other => other,
            })?);
        }
    }
    Ok(())
}

fn included_jobs(
    root: &Block,
    path: &Path,
    text: &str,
    reading: Reading,
    homes: &mut Vec<(String, String)>,
    shown: &Path,
) -> Result<Vec<Arc<ScrapeConfig>>, Problem> {
    let node = yaml::parse(text)?;
    let (Some(global), false) = (root.section("global"), matches!(node.kind, yaml::Kind::Null)) else {
        return Ok(Vec::new());
    };
    let mut file = decode::decode(&INCLUDED, &node)?;
    for job in file.sections_mut("scrape_configs") {
        table::scrape::complete(job, global).map_err(|p| p.at(job.at))?;
    }
    let mut jobs = Vec::new();
    for job in file.sections("scrape_configs") {
        let name = job.text("job_name");
        if let Some((_, home)) = homes.iter().find(|(n, _)| n == name) {
            let name = model::quote::quoted(name);
            let text = format!("found multiple scrape configs with job name {name}, first found in {home}");
            return Err(job.problem("job_name", text));
        }
        homes.push((name.to_owned(), model::quote::quoted(&shown.to_string_lossy())));
        if reading == Reading::ToRun {
            unsupported::check_job(job)?;
        }
    }
    build::resolve_paths(&mut file, path.parent().unwrap_or(Path::new("")));
    for job in file.sections("scrape_configs") {
        jobs.push(Arc::new(build::scrape(job)?));
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests;
