//! `alerting`: where alerts are sent.

use crate::config::error::Check;
use crate::config::schema::{Block, Field, Kind, Schema, key, unchecked};

use super::discovery::DISCOVERY;
use super::http::{HTTP, check_http};
use super::scrape::{RELABEL, check_static_targets};

pub(in crate::config) static ALERTING: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("alert_relabel_configs", Kind::Sections(&RELABEL, "empty or null alert relabeling rule")),
        key("alertmanagers", Kind::Sections(&ALERTMANAGER, "empty or null Alertmanager section")),
    ]],
    check: unchecked,
};

static ALERTMANAGER: Schema = Schema {
    go: "config.AlertmanagerConfig",
    parts: &[HTTP, ALERTMANAGER_OWN, DISCOVERY],
    check: check_alertmanager,
};

static ALERTMANAGER_OWN: &[Field] = &[
    key("sigv4", Kind::Optional(&SIGV4)),
    key("scheme", Kind::Text).or("http"),
    key("path_prefix", Kind::Text),
    key("timeout", Kind::Duration).or("10s"),
    key("api_version", Kind::Text).always().or("v2"),
    key("relabel_configs", Kind::Sections(&RELABEL, "empty or null Alertmanager target relabeling rule")),
    key(
        "alert_relabel_configs",
        Kind::Sections(&RELABEL, "empty or null Alertmanager alert relabeling rule"),
    ),
];

pub(in crate::config) static SIGV4: Schema = Schema {
    go: "sigv4.plain",
    parts: &[&[
        key("region", Kind::Text),
        key("access_key", Kind::Text),
        key("secret_key", Kind::Secret),
        key("profile", Kind::Text),
        key("role_arn", Kind::Text),
        key("external_id", Kind::Text),
        key("use_fips_sts_endpoint", Kind::Bool),
    ]],
    check: check_sigv4,
};

fn check_sigv4(block: &mut Block) -> Check {
    if block.text("access_key").is_empty() != block.text("secret_key").is_empty() {
        let text = "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config";
        return Err(block.problem("access_key", text));
    }
    Ok(())
}

fn check_alertmanager(block: &mut Block) -> Check {
    let version = block.text("api_version");
    if version != "v2" {
        let text = format!("expected Alertmanager api version to be one of [v2] but got {version}");
        return Err(block.problem("api_version", text).allow(["v2"]));
    }
    check_http(block)?;
    let http_auth = ["basic_auth", "authorization", "oauth2"].iter().any(|k| block.is_set(k));
    if http_auth && block.is_set("sigv4") {
        let text = "at most one of basic_auth, authorization, oauth2, & sigv4 must be configured";
        return Err(block.problem("sigv4", text));
    }
    check_static_targets(block)
}
