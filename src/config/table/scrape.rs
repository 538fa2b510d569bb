//! `scrape_configs` and relabel rules.

use model::NameScheme;
use model::quote::quoted;
use model::relabel::{Action, Rule, RuleText};

use crate::config::error::{Check, Problem};
use crate::config::schema::{Block, Field, Kind, Schema, Value, key};
use crate::config::scrape::{NameEscaping, ScrapeProtocol};

use super::discovery::DISCOVERY;
use super::http::{HTTP, check_http};

pub(in crate::config) static SCRAPE: Schema = Schema {
    go: "config.ScrapeConfig",
    parts: &[SCRAPE_OWN, HTTP, SCRAPE_RELABEL, DISCOVERY],
    check: check_scrape,
};

static SCRAPE_OWN: &[Field] = &[
    key("job_name", Kind::Text).always(),
    key("honor_labels", Kind::Bool),
    key("honor_timestamps", Kind::Bool).always().or("true"),
    key("track_timestamps_staleness", Kind::Bool).always(),
    key("params", Kind::ListMap),
    key("scrape_interval", Kind::Duration),
    key("scrape_timeout", Kind::Duration),
    key("scrape_protocols", Kind::Texts),
    key("fallback_scrape_protocol", Kind::Text),
    key("scrape_native_histograms", Kind::Flag),
    key("always_scrape_classic_histograms", Kind::Flag),
    key("convert_classic_histograms_to_nhcb", Kind::Flag),
    key("scrape_failure_log_file", Kind::Path),
    key("metrics_path", Kind::Text).or("/metrics"),
    key("scheme", Kind::Text).or("http"),
    key("enable_compression", Kind::Bool).always().or("true"),
    key("body_size_limit", Kind::Size),
    key("sample_limit", Kind::Uint),
    key("target_limit", Kind::Uint),
    key("label_limit", Kind::Uint),
    key("label_name_length_limit", Kind::Uint),
    key("label_value_length_limit", Kind::Uint),
    key("native_histogram_bucket_limit", Kind::Uint),
    key("native_histogram_min_bucket_factor", Kind::Float),
    key("keep_dropped_targets", Kind::Uint),
    key("metric_name_validation_scheme", Kind::Text),
    key("metric_name_escaping_scheme", Kind::Text),
    key("extra_scrape_metrics", Kind::Flag),
    // Not Prometheus's.
    key("scrape_partial", Kind::Bool),
];

static SCRAPE_RELABEL: &[Field] = &[
    key("relabel_configs", Kind::Sections(&RELABEL, "empty or null target relabeling rule in scrape config")),
    key(
        "metric_relabel_configs",
        Kind::Sections(&RELABEL, "empty or null metric relabeling rule in scrape config"),
    ),
];

pub(in crate::config) static RELABEL: Schema = Schema {
    go: "relabel.plain",
    parts: &[&[
        key("source_labels", Kind::FlowTexts),
        key("separator", Kind::Text).always().or(";"),
        key("regex", Kind::Regex),
        key("modulus", Kind::Uint),
        key("target_label", Kind::Text),
        key("replacement", Kind::Text).always().or("$1"),
        key("action", Kind::Text).or("replace"),
    ]],
    check: check_relabel,
};

fn check_relabel(block: &mut Block) -> Check {
    let text = block.text("action");
    if text.is_empty() {
        return Ok(());
    }
    let action = Action::parse(text).map_err(|e| block.problem("action", e.0).allow(Action::names()))?;
    let place = block.place("action").filter(|_| block.is_given("action"));
    block.set("action", Value::Text(action.text().to_owned()), place);
    Ok(())
}

/// A rule from its section, under the names that its job allows.
pub(in crate::config) fn rule(block: &Block, scheme: NameScheme) -> Result<Rule, Problem> {
    let action = block.text("action");
    if action.is_empty() {
        return Err(block.problem("action", "relabel action cannot be empty").allow(Action::names()));
    }
    let text = RuleText {
        source_labels: block.texts("source_labels").to_vec(),
        separator: block.text("separator").to_owned(),
        regex: block.is_set("regex").then(|| block.text("regex").to_owned()),
        modulus: block.uint("modulus"),
        target_label: block.text("target_label").to_owned(),
        replacement: block.text("replacement").to_owned(),
        action: Action::parse(action).map_err(|e| block.problem("action", e.0))?,
    };
    Rule::new(text, scheme).map_err(|e| Problem::new(e.0).at(block.at))
}

pub(in crate::config) fn rules(block: &Block, name: &str, scheme: NameScheme) -> Result<Vec<Rule>, Problem> {
    block.sections(name).iter().map(|b| rule(b, scheme)).collect()
}

fn check_scrape(block: &mut Block) -> Check {
    if block.text("job_name").is_empty() {
        return Err(block.problem("job_name", "job_name is empty"));
    }
    check_http(block)?;
    check_static_targets(block)
}

/// A URL among static targets is a common slip; relabel rules may mean it.
pub(in crate::config) fn check_static_targets(block: &Block) -> Check {
    if !block.sections("relabel_configs").is_empty() {
        return Ok(());
    }
    for group in block.sections("static_configs") {
        if let Some(bad) = group.texts("targets").iter().find(|t| t.contains('/')) {
            return Err(group.problem("targets", format!("{} is not a valid hostname", quoted(bad))));
        }
    }
    Ok(())
}

/// What a job takes from `global` where it does not say.
const FROM_GLOBAL: [&str; 8] = [
    "body_size_limit",
    "sample_limit",
    "target_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "keep_dropped_targets",
    "scrape_failure_log_file",
];

const FLAGS_FROM_GLOBAL: [&str; 4] = [
    "scrape_native_histograms",
    "extra_scrape_metrics",
    "convert_classic_histograms_to_nhcb",
    "always_scrape_classic_histograms",
];

/// Fills what is global and checks what depends on it.
pub(in crate::config) fn complete(block: &mut Block, global: &Block) -> Check {
    let job = quoted(block.text("job_name"));
    if block.int("scrape_interval") == 0 {
        block.set("scrape_interval", global.value("scrape_interval").clone(), None);
    }
    let interval = block.int("scrape_interval");
    if block.int("scrape_timeout") > interval {
        let text =
            format!("scrape timeout greater than scrape interval for scrape config with job name {job}");
        return Err(block.problem("scrape_timeout", text));
    }
    if block.int("scrape_timeout") == 0 {
        block.set("scrape_timeout", Value::Duration(global.int("scrape_timeout").min(interval)), None);
    }
    for name in FROM_GLOBAL {
        if block.int(name) == 0 && block.text(name).is_empty() {
            block.set(name, global.value(name).clone(), None);
        }
    }
    for name in FLAGS_FROM_GLOBAL {
        if !block.is_set(name) {
            block.set(name, Value::Bool(global.is_true(name)), None);
        }
    }
    complete_protocols(block, global, &job)?;
    complete_names(block, global)?;
    let scheme = scheme_of(block);
    rules(block, "relabel_configs", scheme)?;
    rules(block, "metric_relabel_configs", scheme).map(|_| ())
}

pub(in crate::config) fn scheme_of(block: &Block) -> NameScheme {
    match block.text("metric_name_validation_scheme") {
        "legacy" => NameScheme::Legacy,
        _ => NameScheme::Utf8,
    }
}

fn complete_protocols(block: &mut Block, global: &Block, job: &str) -> Check {
    if !block.is_set("scrape_protocols") {
        let texts = |all: &[ScrapeProtocol]| Value::Texts(all.iter().map(|p| p.text().to_owned()).collect());
        let protocols = if global.is_set("scrape_protocols") {
            global.value("scrape_protocols").clone()
        } else if block.is_true("scrape_native_histograms") {
            texts(&ScrapeProtocol::DEFAULT_PROTO_FIRST)
        } else {
            texts(&ScrapeProtocol::DEFAULT)
        };
        block.set("scrape_protocols", protocols, None);
    }
    check_protocols(block, &format!(" for scrape config with job name {job}"))?;
    let fallback = block.text("fallback_scrape_protocol");
    if !fallback.is_empty() && ScrapeProtocol::parse(fallback).is_none() {
        let unknown = unknown_protocol(fallback);
        let text =
            format!("invalid fallback_scrape_protocol for scrape config with job name {job}: {unknown}");
        return Err(block.problem("fallback_scrape_protocol", text).allow(protocol_names()));
    }
    Ok(())
}

fn protocol_names() -> impl Iterator<Item = &'static str> {
    ScrapeProtocol::ALL.into_iter().map(ScrapeProtocol::text)
}

fn unknown_protocol(name: &str) -> String {
    let all: Vec<&str> = protocol_names().collect();
    format!("unknown scrape protocol {name}, supported: [{}]", all.join(" "))
}

pub(in crate::config) fn check_protocols(block: &Block, whose: &str) -> Check {
    let protocols = block.texts("scrape_protocols");
    let refuse = |text: String| {
        Err(block.problem("scrape_protocols", format!("{text}{whose}")).allow(protocol_names()))
    };
    if protocols.is_empty() {
        return refuse("scrape_protocols cannot be empty".to_owned());
    }
    for (i, name) in protocols.iter().enumerate() {
        if protocols[..i].iter().any(|p| p.eq_ignore_ascii_case(name)) {
            let all = protocols.join(" ");
            return refuse(format!("duplicated protocol in scrape_protocols, got [{all}]"));
        }
        if ScrapeProtocol::parse(name).is_none() {
            return refuse(format!("scrape_protocols: {}", unknown_protocol(name)));
        }
    }
    Ok(())
}

fn complete_names(block: &mut Block, global: &Block) -> Check {
    let own = block.text("metric_name_validation_scheme").to_owned();
    match own.as_str() {
        "" => {
            let scheme = global.value("metric_name_validation_scheme").clone();
            block.set("metric_name_validation_scheme", scheme, None);
        }
        "legacy" | "utf8" => {}
        other => {
            let text = format!(
                "unknown scrape config name validation method specified, must be either '', 'legacy' or 'utf8', got {other}"
            );
            return Err(block.problem("metric_name_validation_scheme", text).allow(["legacy", "utf8"]));
        }
    }
    let implied = |scheme: NameScheme| match scheme {
        NameScheme::Legacy => NameEscaping::Underscores,
        NameScheme::Utf8 => NameEscaping::AllowUtf8,
    };
    let global_text = global.text("metric_name_escaping_scheme");
    let global_escaping = match escaping(global_text, "global") {
        _ if global_text.is_empty() => implied(scheme_of(global)),
        Ok(escaping) => escaping,
        Err(p) => return Err(p.at(global.place("metric_name_escaping_scheme"))),
    };
    let text = block.text("metric_name_escaping_scheme");
    let chosen = match text {
        "" if own.is_empty() => global_escaping,
        "" => implied(scheme_of(block)),
        text => {
            escaping(text, "scrape config").map_err(|p| p.at(block.place("metric_name_escaping_scheme")))?
        }
    };
    if chosen == NameEscaping::AllowUtf8 && scheme_of(block) != NameScheme::Utf8 {
        let text = "utf8 metric names requested but validation scheme is not set to UTF8";
        return Err(block.problem("metric_name_escaping_scheme", text));
    }
    let place = block.place("metric_name_escaping_scheme").filter(|_| !text.is_empty());
    block.set("metric_name_escaping_scheme", Value::Text(chosen.text().to_owned()), place);
    Ok(())
}

fn escaping(text: &str, whose: &str) -> Result<NameEscaping, Problem> {
    NameEscaping::parse(text).ok_or_else(|| {
        let message = format!(
            "unknown {whose} name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', or \
             'values', got {}",
            quoted(text)
        );
        Problem::new(message).allow(NameEscaping::ALL.map(NameEscaping::text))
    })
}
