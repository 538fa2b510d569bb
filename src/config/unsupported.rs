//! What the format offers and this build does not do: refused when it is loaded, by its key and line.
//!
//! A wish that is silently dropped is found out when it is too late. When a room learns to honor one of these,
//! its line goes away here.

use super::error::{Check, Problem};
use super::schema::{Block, Value};

/// Keys of the whole file that may not be set, each with what it would take.
const ROOT: [(&str, &str); 5] = [
    ("rule_files", "rules are not evaluated"),
    ("alerting", "alerts are not sent"),
    ("tracing", "traces are not sent"),
    ("remote_write", "samples are not sent to other servers"),
    ("remote_read", "samples are not read from other servers"),
];

const TSDB: [(&str, &str); 2] = [
    ("stale_series_compaction_threshold", "stale series are not compacted early"),
    ("chunk_encoding", "the encoding of chunks cannot be chosen"),
];

const JOB: [(&str, &str); 9] = [
    ("basic_auth", "scrapes carry no credentials"),
    ("authorization", "scrapes carry no credentials"),
    ("oauth2", "scrapes carry no credentials"),
    ("tls_config", "scrapes do not use TLS"),
    ("proxy_url", "scrapes do not use a proxy"),
    ("no_proxy", "scrapes do not use a proxy"),
    ("proxy_from_environment", "scrapes do not use a proxy"),
    ("proxy_connect_header", "scrapes do not use a proxy"),
    ("http_headers", "scrapes carry no headers of their own"),
];

/// Refuses the first wish that would not be honored.
pub(super) fn check(root: &Block) -> Check {
    refuse_set(root, &ROOT)?;
    if let Some(tsdb) = root.section("storage").and_then(|s| s.section("tsdb")) {
        refuse_set(tsdb, &TSDB)?;
    }
    root.sections("scrape_configs").iter().try_for_each(check_job)
}

/// The same for one job, wherever it was read.
pub(super) fn check_job(job: &Block) -> Check {
    refuse_set(job, &JOB)?;
    if job.text("scheme") == "https" {
        return Err(refusal(job, "scheme", "scrapes do not use TLS").allow(["http"]));
    }
    for (field, value) in job.entries() {
        if field.key.ends_with("_sd_configs") && *value != Value::Unset {
            return Err(
                refusal(job, field.key, "targets are only found by static_configs").allow(["static_configs"])
            );
        }
    }
    Ok(())
}

fn refuse_set(block: &Block, keys: &[(&str, &str)]) -> Check {
    for (key, why) in keys {
        let given = block.is_given(key) && is_wish(block.value(key));
        // A wish of the global section reaches a job without standing in it.
        let inherited = *block.value(key) == Value::Bool(true);
        if given || inherited {
            return Err(refusal(block, key, why));
        }
    }
    Ok(())
}

/// Whether a value asks for anything.
fn is_wish(value: &Value) -> bool {
    match value {
        Value::Unset => false,
        Value::Bool(v) => *v,
        Value::Int(v) | Value::Duration(v) | Value::Size(v) => *v != 0,
        Value::Float(v) => *v != 0.0,
        Value::Text(v) => !v.is_empty(),
        Value::Texts(v) => !v.is_empty(),
        Value::Sections(v) => !v.is_empty(),
        Value::Section(block) => block.entries().any(|(f, v)| block.is_given(f.key) && is_wish(v)),
        Value::TextMap(v) => !v.is_empty(),
        Value::ListMap(v) => !v.is_empty(),
        Value::SectionMap(v) => !v.is_empty(),
    }
}

fn refusal(block: &Block, key: &str, why: &str) -> Problem {
    block.problem(key, format!("{key} is not supported yet: {why}"))
}
