//! The file as a whole, `global` and `runtime`.

use model::quote::quoted;

use crate::config::decode::default_block;
use crate::config::error::Check;
use crate::config::schema::{Block, Kind, Schema, Value, key, unchecked};

use super::alerting::ALERTING;
use super::remote::{REMOTE_READ, REMOTE_WRITE};
use super::scrape::{SCRAPE, check_protocols, complete, rules, scheme_of};
use super::storage::{OTLP, STORAGE, TRACING};

pub(in crate::config) static ROOT: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("global", Kind::Section(&GLOBAL)).always(),
        key("runtime", Kind::Section(&RUNTIME)),
        key("alerting", Kind::Section(&ALERTING)),
        key("rule_files", Kind::Paths),
        key("scrape_config_files", Kind::Paths),
        key("scrape_configs", Kind::Sections(&SCRAPE, "empty or null scrape config section")),
        key("storage", Kind::Section(&STORAGE)),
        key("tracing", Kind::Optional(&TRACING)),
        key("remote_write", Kind::Sections(&REMOTE_WRITE, "empty or null remote write config section")),
        key("remote_read", Kind::Sections(&REMOTE_READ, "empty or null remote read config section")),
        key("otlp", Kind::Section(&OTLP)),
    ]],
    check: check_root,
};

/// A file that `scrape_config_files` names.
pub(in crate::config) static INCLUDED: Schema = Schema {
    go: "config.ScrapeConfigs",
    parts: &[&[key("scrape_configs", Kind::Sections(&SCRAPE, "empty or null scrape config section"))]],
    check: unchecked,
};

pub(in crate::config) static GLOBAL: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("scrape_interval", Kind::Duration),
        key("scrape_timeout", Kind::Duration),
        key("scrape_protocols", Kind::Texts),
        key("evaluation_interval", Kind::Duration),
        key("rule_query_offset", Kind::Duration),
        key("query_log_file", Kind::Path),
        key("scrape_failure_log_file", Kind::Path),
        key("external_labels", Kind::TextMap),
        key("body_size_limit", Kind::Size),
        key("sample_limit", Kind::Uint),
        key("target_limit", Kind::Uint),
        key("label_limit", Kind::Uint),
        key("label_name_length_limit", Kind::Uint),
        key("label_value_length_limit", Kind::Uint),
        key("keep_dropped_targets", Kind::Uint),
        key("metric_name_validation_scheme", Kind::Text),
        key("metric_name_escaping_scheme", Kind::Text),
        key("scrape_native_histograms", Kind::Flag),
        key("convert_classic_histograms_to_nhcb", Kind::Bool),
        key("always_scrape_classic_histograms", Kind::Bool),
        key("extra_scrape_metrics", Kind::Flag),
    ]],
    check: check_global,
};

static RUNTIME: Schema =
    Schema { go: "config.plain", parts: &[&[key("gogc", Kind::Int).or("75")]], check: unchecked };

const INTERVAL_MS: i64 = 60_000;
const TIMEOUT_MS: i64 = 10_000;

fn check_global(block: &mut Block) -> Check {
    match block.text("metric_name_validation_scheme") {
        "" => block.set("metric_name_validation_scheme", Value::Text("utf8".to_owned()), None),
        "utf8" | "legacy" => {}
        other => {
            let text = format!("unrecognized ValidationScheme: {}", quoted(other));
            return Err(block.problem("metric_name_validation_scheme", text).allow(["utf8", "legacy"]));
        }
    }
    let scheme = scheme_of(block);
    for (name, _) in block.text_map("external_labels") {
        if !scheme.is_label_name(name) {
            let text = format!("{} is not a valid label name", quoted(name));
            return Err(block.problem("external_labels", text));
        }
    }
    if block.int("scrape_interval") == 0 {
        block.set("scrape_interval", Value::Duration(INTERVAL_MS), None);
    }
    let interval = block.int("scrape_interval");
    if block.int("scrape_timeout") > interval {
        return Err(block.problem("scrape_timeout", "global scrape timeout greater than scrape interval"));
    }
    if block.int("scrape_timeout") == 0 {
        block.set("scrape_timeout", Value::Duration(TIMEOUT_MS.min(interval)), None);
    }
    if block.int("evaluation_interval") == 0 {
        block.set("evaluation_interval", Value::Duration(INTERVAL_MS), None);
    }
    for name in ["scrape_native_histograms", "extra_scrape_metrics"] {
        if !block.is_set(name) {
            block.set(name, Value::Bool(false), None);
        }
    }
    if block.is_set("scrape_protocols") {
        check_protocols(block, " for global config")?;
    }
    Ok(())
}

/// A glob may stand in the last part of a path only.
pub(in crate::config) fn is_glob_path(path: &str) -> bool {
    match path.find('*') {
        Some(star) => !path[star + 1..].contains('/'),
        None => true,
    }
}

fn check_root(block: &mut Block) -> Check {
    for name in ["global", "runtime", "storage", "otlp"] {
        restore_defaults(block, name)?;
    }
    for (name, what) in [("rule_files", "rule file"), ("scrape_config_files", "scrape config file")] {
        if let Some(bad) = block.texts(name).iter().find(|p| !is_glob_path(p)) {
            return Err(block.problem(name, format!("invalid {what} path {}", quoted(bad))));
        }
    }
    let Some(global) = block.section("global").cloned() else {
        return Ok(());
    };
    for job in block.sections_mut("scrape_configs") {
        complete(job, &global).map_err(|p| p.at(job.at))?;
    }
    unique(block, "scrape_configs", "job_name", "scrape configs")?;
    let scheme = scheme_of(&global);
    if let Some(alerting) = block.section("alerting") {
        rules(alerting, "alert_relabel_configs", scheme)?;
        for manager in alerting.sections("alertmanagers") {
            rules(manager, "alert_relabel_configs", scheme)?;
            rules(manager, "relabel_configs", scheme)?;
        }
    }
    unique(block, "remote_write", "name", "remote write configs")?;
    for remote in block.sections("remote_write") {
        rules(remote, "write_relabel_configs", scheme)?;
    }
    unique(block, "remote_read", "name", "remote read configs")?;
    super::storage::check_strategy(block, scheme)
}

/// A section that was opened and left empty has its defaults back.
fn restore_defaults(block: &mut Block, name: &str) -> Check {
    let Some(section) = block.section(name) else {
        return Ok(());
    };
    if section.entries().any(|(_, v)| *v != Value::Unset) {
        return Ok(());
    }
    let (schema, place) = (section.schema, block.place(name));
    let defaults = default_block(schema)?;
    block.set(name, Value::Section(Box::new(defaults)), place);
    Ok(())
}

fn unique(block: &Block, list: &str, name: &str, what: &str) -> Check {
    let sections = block.sections(list);
    for (i, section) in sections.iter().enumerate() {
        let own = section.text(name);
        if !own.is_empty() && sections[..i].iter().any(|s| s.text(name) == own) {
            let text = format!("found multiple {what} with job name {}", quoted(own));
            return Err(section.problem(name, text));
        }
    }
    Ok(())
}
