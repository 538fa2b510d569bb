//! `storage`, `tracing` and `otlp`.

use model::quote::quoted;
use model::time::{format_duration, parse_duration};
use model::{Matcher, NameScheme};

use crate::config::error::Check;
use crate::config::schema::{Block, Field, Kind, Schema, Value, key, unchecked};
use crate::config::size::format_size;
use crate::config::{RETENTION_CLASSES_MAX, RETENTION_SELECTOR_BYTES_MAX, Retention};

use super::http::TLS;
use super::remote::check_header_names;

pub(in crate::config) static STORAGE: Schema = Schema {
    go: "config.plain",
    parts: &[&[key("tsdb", Kind::Section(&TSDB)), key("exemplars", Kind::Optional(&EXEMPLARS))]],
    check: unchecked,
};

static TSDB: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("out_of_order_time_window", Kind::Duration),
        key("stale_series_compaction_threshold", Kind::Float),
        key("chunk_encoding", Kind::Section(&CHUNK_ENCODING)),
        key("retention", Kind::Optional(&RETENTION)),
        // Not Prometheus's.
        key("retention_classes", Kind::Sections(&RETENTION_CLASS, "empty or null retention class")),
        key("downsample", Kind::Optional(&DOWNSAMPLE)),
    ]],
    check: check_tsdb,
};

static CHUNK_ENCODING: Schema =
    Schema { go: "config.ChunkEncodingConfig", parts: &[&[key("floats", Kind::Text)]], check: unchecked };

static RETENTION: Schema = Schema {
    go: "config.plain",
    parts: &[&[key("time", Kind::Duration), key("size", Kind::Size), key("percentage", Kind::Float)]],
    check: check_retention,
};

static RETENTION_CLASS: Schema = Schema {
    go: "config.RetentionClass",
    parts: &[&[
        key("selector", Kind::Text),
        key("time", Kind::Duration),
        key("downsample", Kind::Optional(&DOWNSAMPLE_CLASS)),
    ]],
    check: check_class,
};

/// Sections of `downsample`, in the order of [`RESOLUTIONS_MS`](crate::config::RESOLUTIONS_MS).
pub(in crate::config) const RESOLUTION_NAMES: [&str; 2] = ["5m", "1h"];

static DOWNSAMPLE: Schema = Schema {
    go: "config.Downsample",
    parts: &[RESOLUTIONS, &[key("max_source_resolution", Kind::Text).or("0s")]],
    check: check_downsample,
};

static DOWNSAMPLE_CLASS: Schema = Schema { go: "config.Downsample", parts: &[RESOLUTIONS], check: unchecked };

static RESOLUTIONS: &[Field] =
    &[key("5m", Kind::Optional(&FIVE_MINUTES)), key("1h", Kind::Optional(&ONE_HOUR))];

/// `after` is Thanos's.
static FIVE_MINUTES: Schema = Schema {
    go: "config.Aggregates",
    parts: &[&[key("after", Kind::Duration).or("40h"), key("retention", Kind::Duration)]],
    check: check_aggregates,
};

static ONE_HOUR: Schema = Schema {
    go: "config.Aggregates",
    parts: &[&[key("after", Kind::Duration).or("10d"), key("retention", Kind::Duration)]],
    check: check_aggregates,
};

static EXEMPLARS: Schema =
    Schema { go: "config.ExemplarsConfig", parts: &[&[key("max_exemplars", Kind::Int)]], check: unchecked };

fn check_tsdb(block: &mut Block) -> Check {
    let floats = block.section("chunk_encoding").map_or("", |c| c.text("floats"));
    if !["", "xor", "xor2"].contains(&floats) {
        let text = format!(
            "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got {}",
            quoted(floats)
        );
        return Err(block.problem("chunk_encoding", text).allow(["xor", "xor2"]));
    }
    let time = block.section("retention").map_or(0, |r| r.int("time"));
    check_sources(block, "retention.time", time)?;
    check_classes(block)
}

fn check_aggregates(block: &mut Block) -> Check {
    if block.int("retention") <= 0 {
        return Err(block.problem("retention", "aggregates must have a 'retention' greater than 0"));
    }
    Ok(())
}

fn check_downsample(block: &mut Block) -> Check {
    let text = block.text("max_source_resolution");
    if text == "auto" || parse_duration(text).is_ok() {
        return Ok(());
    }
    let text =
        format!("'max_source_resolution' must be 'auto' or a duration such as 5m, got {}", quoted(text));
    Err(block.problem("max_source_resolution", text))
}

/// What aggregates are made of must be there until they are: six hours at a time, and samples are cut in blocks of two.
const MADE_WITHIN_MS: i64 = 8 * 3_600_000;

/// `time` is how long the samples are kept, 0 where that is not bounded or not known here.
fn check_sources(block: &Block, name: &str, time: i64) -> Check {
    let Some(downsample) = block.section("downsample") else { return Ok(()) };
    let (mut source, mut kept) = (name.to_owned(), time);
    for resolution in RESOLUTION_NAMES {
        let Some(aggregates) = downsample.section(resolution) else { continue };
        let after = aggregates.int("after");
        if kept > 0 && after.saturating_add(MADE_WITHIN_MS) > kept {
            let (after, kept) = (format_duration(after), format_duration(kept));
            let text = format!(
                "aggregates of {resolution} are made of what is {after} old, and then within 8h, but '{source}' of {kept} lets that go before: raise it, or lower 'after'"
            );
            return Err(aggregates.problem("after", text));
        }
        (source, kept) = (format!("downsample.{resolution}.retention"), aggregates.int("retention"));
    }
    Ok(())
}

/// The matchers of a selector, of which one must refuse the empty string: a class of all series is the retention.
pub(in crate::config) fn matchers_of(selector: &str) -> Result<Vec<Matcher>, String> {
    let matchers =
        promql::parse_metric_selector(selector, promql::Options::default()).map_err(|e| e.to_string())?;
    if matchers.iter().all(Matcher::matches_empty) {
        return Err("it must contain at least one non-empty matcher".to_owned());
    }
    Ok(matchers)
}

/// A selector in one form, however it was written.
pub(in crate::config) fn selector_text(matchers: &[Matcher]) -> String {
    let mut texts: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    texts.sort_unstable();
    texts.dedup();
    format!("{{{}}}", texts.join(","))
}

fn check_class(block: &mut Block) -> Check {
    let selector = block.text("selector");
    if selector.is_empty() {
        return Err(block.problem("selector", "a retention class must have a 'selector'"));
    }
    let matchers = matchers_of(selector).map_err(|e| {
        block.problem("selector", format!("invalid selector {} of a retention class: {e}", quoted(selector)))
    })?;
    let length = selector_text(&matchers).len();
    if length > RETENTION_SELECTOR_BYTES_MAX {
        let text = format!(
            "the selector of a retention class may be {RETENTION_SELECTOR_BYTES_MAX} bytes long, got {length}"
        );
        return Err(block.problem("selector", text));
    }
    if block.int("time") <= 0 {
        let text = format!("the retention class {} must have a 'time' greater than 0", quoted(selector));
        return Err(block.problem("time", text));
    }
    check_sources(block, "time", block.int("time"))
}

fn check_classes(block: &mut Block) -> Check {
    let classes = block.sections("retention_classes");
    if classes.len() > RETENTION_CLASSES_MAX {
        let text =
            format!("there may be {RETENTION_CLASSES_MAX} retention classes at most, got {}", classes.len());
        return Err(block.problem("retention_classes", text));
    }
    let mut seen: Vec<String> = Vec::new();
    for class in classes {
        let text = matchers_of(class.text("selector")).map(|m| selector_text(&m)).unwrap_or_default();
        if seen.contains(&text) {
            let text = format!("two retention classes have the selector {text}");
            return Err(class.problem("selector", text));
        }
        seen.push(text);
    }
    Ok(())
}

/// The section that says what `retention` means.
pub(in crate::config) fn retention(retention: Retention) -> Value {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut block = Block::new(&RETENTION, None);
    block.set("time", Value::Duration(signed(retention.time_ms)), None);
    block.set("size", Value::Size(signed(retention.bytes)), None);
    block.set("percentage", Value::Float(retention.percentage), None);
    Value::Section(Box::new(block))
}

fn check_retention(block: &mut Block) -> Check {
    let size = block.int("size");
    if size < 0 {
        let text = format!(
            "'storage.tsdb.retention.size' must be greater than or equal to 0, got {}",
            format_size(size)
        );
        return Err(block.problem("size", text));
    }
    let percentage = block.float("percentage");
    if !(0.0..=100.0).contains(&percentage) {
        let text = format!(
            "'storage.tsdb.retention.percentage' must be in the range [0, 100], got {}",
            model::float_text::format_g(percentage)
        );
        return Err(block.problem("percentage", text));
    }
    Ok(())
}

pub(in crate::config) static TRACING: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("client_type", Kind::Text).or("grpc"),
        key("endpoint", Kind::Text),
        key("sampling_fraction", Kind::Float),
        key("insecure", Kind::Bool),
        key("tls_config", Kind::Section(&TLS)),
        key("headers", Kind::TextMap),
        key("compression", Kind::Text),
        key("timeout", Kind::Duration).or("10s"),
    ]],
    check: check_tracing,
};

fn check_tracing(block: &mut Block) -> Check {
    let client = block.text("client_type");
    if !["http", "grpc"].contains(&client) {
        let text = format!("expected tracing client type to be to be http or grpc, but got {client}");
        return Err(block.problem("client_type", text).allow(["http", "grpc"]));
    }
    check_header_names(block, "custom authorization header configuration is not yet supported")?;
    if block.text("endpoint").is_empty() {
        return Err(block.problem("endpoint", "tracing endpoint must be set"));
    }
    let compression = block.text("compression");
    if !["", "gzip"].contains(&compression) {
        let text = format!("invalid compression type {compression} provided, valid options: gzip");
        return Err(block.problem("compression", text).allow(["gzip"]));
    }
    Ok(())
}

pub(in crate::config) static OTLP: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("promote_all_resource_attributes", Kind::Bool),
        key("promote_resource_attributes", Kind::Texts),
        key("ignore_resource_attributes", Kind::Texts),
        key("translation_strategy", Kind::Text).or("UnderscoreEscapingWithSuffixes"),
        key("keep_identifying_resource_attributes", Kind::Bool),
        key("convert_histograms_to_nhcb", Kind::Bool),
        key("promote_scope_metadata", Kind::Bool),
        key("label_name_underscore_sanitization", Kind::Bool).or("true"),
        key("label_name_preserve_multiple_underscores", Kind::Bool).or("true"),
    ]],
    check: check_otlp,
};

fn check_otlp(block: &mut Block) -> Check {
    let all = block.is_true("promote_all_resource_attributes");
    if all && !block.texts("promote_resource_attributes").is_empty() {
        let text = "'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously";
        return Err(block.problem("promote_resource_attributes", text));
    }
    if !all && !block.texts("ignore_resource_attributes").is_empty() {
        let text = "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true";
        return Err(block.problem("ignore_resource_attributes", text));
    }
    if all {
        trim_attributes(block, "ignore_resource_attributes", "ignored")
    } else {
        trim_attributes(block, "promote_resource_attributes", "promoted")
    }
}

fn trim_attributes(block: &mut Block, name: &str, adjective: &str) -> Check {
    let (mut seen, mut problems): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for attribute in block.texts(name) {
        let attribute = attribute.trim();
        if attribute.is_empty() {
            problems.push(format!("empty {adjective} OTel resource attribute"));
        } else if seen.iter().any(|s| s == attribute) {
            problems.push(format!("duplicated {adjective} OTel resource attribute {}", quoted(attribute)));
        } else {
            seen.push(attribute.to_owned());
        }
    }
    if !problems.is_empty() {
        return Err(block.problem(name, format!("invalid '{name}': {}", problems.join("\n"))));
    }
    if !seen.is_empty() {
        let place = block.place(name);
        block.set(name, Value::Texts(seen), place);
    }
    Ok(())
}

const STRATEGIES: [&str; 4] = [
    "UnderscoreEscapingWithSuffixes",
    "UnderscoreEscapingWithoutSuffixes",
    "NoUTF8EscapingWithSuffixes",
    "NoTranslation",
];

/// The translation of names depends on which names are allowed.
pub(in crate::config) fn check_strategy(root: &Block, scheme: NameScheme) -> Check {
    let Some(otlp) = root.section("otlp") else {
        return Ok(());
    };
    let strategy = otlp.text("translation_strategy");
    let text = match strategy {
        "NoUTF8EscapingWithSuffixes" | "NoTranslation" if scheme == NameScheme::Legacy => {
            format!("OTLP translation strategy {} is not allowed when UTF8 is disabled", quoted(strategy))
        }
        known if known.is_empty() || STRATEGIES.contains(&known) => return Ok(()),
        other => format!("unsupported OTLP translation strategy {}", quoted(other)),
    };
    Err(otlp.problem("translation_strategy", text).allow(STRATEGIES))
}
