//! `remote_write` and `remote_read`.

use crate::config::error::Check;
use crate::config::schema::{Block, Field, Kind, Schema, key, unchecked};

use super::alerting::SIGV4;
use super::http::{HTTP, HTTP_REMOTE_WRITE, check_http};
use super::scrape::RELABEL;

pub(in crate::config) static REMOTE_WRITE: Schema =
    Schema { go: "config.plain", parts: &[WRITE_OWN, HTTP_REMOTE_WRITE, WRITE_REST], check: check_write };

static WRITE_OWN: &[Field] = &[
    key("url", Kind::Url).always(),
    key("remote_timeout", Kind::Duration).or("30s"),
    key("headers", Kind::TextMap),
    key(
        "write_relabel_configs",
        Kind::Sections(&RELABEL, "empty or null relabeling rule in remote write config"),
    ),
    key("name", Kind::Text),
    key("send_exemplars", Kind::Bool),
    key("send_native_histograms", Kind::Bool),
    key("round_robin_dns", Kind::Bool),
    key("failed_request_logging", Kind::Bool),
    key("protobuf_message", Kind::Text).or("prometheus.WriteRequest"),
];

static WRITE_REST: &[Field] = &[
    key("queue_config", Kind::Section(&QUEUE)),
    key("metadata_config", Kind::Section(&METADATA)),
    key("sigv4", Kind::Optional(&SIGV4)),
    key("azuread", Kind::Optional(&AZURE_AD)),
    key("google_iam", Kind::Optional(&GOOGLE_IAM)),
];

static QUEUE: Schema = Schema {
    go: "config.QueueConfig",
    parts: &[&[
        key("capacity", Kind::Int).or("10000"),
        key("max_shards", Kind::Int).or("50"),
        key("min_shards", Kind::Int).or("1"),
        key("max_samples_per_send", Kind::Int).or("2000"),
        key("batch_send_deadline", Kind::Duration).or("5s"),
        key("min_backoff", Kind::Duration).or("30ms"),
        key("max_backoff", Kind::Duration).or("5s"),
        key("retry_on_http_429", Kind::Bool),
        key("sample_age_limit", Kind::Duration),
    ]],
    check: unchecked,
};

static METADATA: Schema = Schema {
    go: "config.MetadataConfig",
    parts: &[&[
        key("send", Kind::Bool).always().or("true"),
        key("send_interval", Kind::Duration).always().or("1m"),
        key("max_samples_per_send", Kind::Int).or("2000"),
    ]],
    check: unchecked,
};

static GOOGLE_IAM: Schema =
    Schema { go: "googleiam.Config", parts: &[&[key("credentials_file", Kind::Path)]], check: unchecked };

static AZURE_AD: Schema = Schema {
    go: "azuread.plain",
    parts: &[&[
        key("managed_identity", Kind::Optional(&AZURE_MANAGED)),
        key("workload_identity", Kind::Optional(&AZURE_WORKLOAD)),
        key("oauth", Kind::Optional(&AZURE_OAUTH)),
        key("sdk", Kind::Optional(&AZURE_SDK)),
        key("certificate", Kind::Optional(&AZURE_CERTIFICATE)),
        key("cloud", Kind::Text).or("AzurePublic"),
        key("scope", Kind::Text),
    ]],
    check: check_azure,
};

static AZURE_MANAGED: Schema = Schema {
    go: "azuread.ManagedIdentityConfig",
    parts: &[&[key("client_id", Kind::Text)]],
    check: unchecked,
};

static AZURE_WORKLOAD: Schema = Schema {
    go: "azuread.WorkloadIdentityConfig",
    parts: &[&[
        key("client_id", Kind::Text),
        key("tenant_id", Kind::Text),
        key("token_file_path", Kind::Text),
    ]],
    check: unchecked,
};

static AZURE_OAUTH: Schema = Schema {
    go: "azuread.OAuthConfig",
    parts: &[&[
        key("client_id", Kind::Text),
        key("client_secret", Kind::Secret),
        key("tenant_id", Kind::Text),
    ]],
    check: unchecked,
};

static AZURE_SDK: Schema =
    Schema { go: "azuread.SDKConfig", parts: &[&[key("tenant_id", Kind::Text)]], check: unchecked };

static AZURE_CERTIFICATE: Schema = Schema {
    go: "azuread.CertificateConfig",
    parts: &[&[
        key("client_id", Kind::Text),
        key("tenant_id", Kind::Text),
        key("certificate_path", Kind::Text),
        key("certificate_key_path", Kind::Text),
        key("certificate_password", Kind::Secret),
        key("send_certificate_chain", Kind::Bool),
    ]],
    check: unchecked,
};

/// The ways to sign in, what each must say, and which of that are UUIDs.
const AZURE_WAYS: [(&str, &str, &[&str], &[&str]); 5] = [
    ("managed_identity", "Managed Identity", &[], &["client_id"]),
    ("workload_identity", "Workload Identity", &["client_id", "tenant_id"], &["client_id", "tenant_id"]),
    ("oauth", "OAuth", &["client_id", "client_secret", "tenant_id"], &["client_id"]),
    ("certificate", "Certificate", &["client_id", "tenant_id", "certificate_path"], &["client_id"]),
    ("sdk", "SDK", &[], &[]),
];

fn check_azure(block: &mut Block) -> Check {
    let clouds = ["AzurePublic", "AzureChina", "AzureGovernment"];
    if !clouds.contains(&block.text("cloud")) {
        let text = "must provide a cloud in the Azure AD config";
        return Err(block.problem("cloud", text).allow(clouds));
    }
    let given: Vec<_> = AZURE_WAYS.iter().filter(|w| block.is_set(w.0)).collect();
    let [(way, name, required, uuids)] = given.as_slice() else {
        let text = if given.is_empty() {
            "must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, Azure Certificate or Azure \
             SDK in the Azure AD config"
        } else {
            "cannot provide multiple authentication methods in the Azure AD config"
        };
        return Err(block.problem("cloud", text).allow(AZURE_WAYS.map(|w| w.0)));
    };
    let Some(section) = block.section(way) else {
        return Ok(());
    };
    if let Some(missing) = required.iter().find(|k| section.text(k).is_empty()) {
        let text = format!("must provide an Azure {name} {missing} in the Azure AD config");
        return Err(section.problem(missing, text));
    }
    let bad = |k: &&&str| !section.text(k).is_empty() && !is_uuid(section.text(k));
    if let Some(bad) = uuids.iter().find(bad) {
        return Err(section.problem(bad, format!("the provided Azure {name} {bad} is invalid")));
    }
    let scope_ok = |c: char| c.is_ascii_alphanumeric() || " _:/.-".contains(c);
    if !block.text("scope").chars().all(scope_ok) {
        return Err(block.problem("scope", "the provided scope contains invalid characters"));
    }
    Ok(())
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|g| g.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(in crate::config) static REMOTE_READ: Schema =
    Schema { go: "config.plain", parts: &[READ_OWN, HTTP, READ_REST], check: check_read };

static READ_OWN: &[Field] = &[
    key("url", Kind::Url).always(),
    key("remote_timeout", Kind::Duration).or("1m"),
    key("chunked_read_limit", Kind::Uint).or("50000000"),
    key("headers", Kind::TextMap),
    key("read_recent", Kind::Bool),
    key("name", Kind::Text),
];

static READ_REST: &[Field] =
    &[key("required_matchers", Kind::TextMap), key("filter_external_labels", Kind::Bool).or("true")];

const MESSAGES: [&str; 2] = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];

fn check_write(block: &mut Block) -> Check {
    if !block.is_set("url") {
        return Err(block.problem("url", "url for remote_write is empty"));
    }
    check_headers(block)?;
    let message = block.text("protobuf_message");
    if !MESSAGES.contains(&message) {
        let text = format!(
            "invalid protobuf_message value: unknown type for remote write protobuf message {message}, supported: {}",
            MESSAGES.join(", ")
        );
        return Err(block.problem("protobuf_message", text).allow(MESSAGES));
    }
    check_http(block)?;
    if let Some(queue) = block.section("queue_config") {
        check_queue(queue)?;
    }
    let ways = ["basic_auth", "authorization", "oauth2", "sigv4", "azuread", "google_iam"];
    let given: Vec<&str> = ways.into_iter().filter(|k| block.is_set(k)).collect();
    if let [.., last] = given.as_slice()
        && given.len() > 1
    {
        let text = format!(
            "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. \
             Currently configured: [{}]",
            given.join(" ")
        );
        return Err(block.problem(last, text));
    }
    Ok(())
}

fn check_queue(queue: &Block) -> Check {
    let refuse = |key: &str, text: &str| Err(queue.problem(key, format!("remote write queue {text}")));
    if queue.int("max_shards") <= 0 {
        return refuse("max_shards", "max_shards must be positive");
    }
    if queue.int("min_shards") <= 0 {
        return refuse("min_shards", "min_shards must be positive");
    }
    if queue.int("min_shards") > queue.int("max_shards") {
        return refuse("min_shards", "min_shards must not be greater than max_shards");
    }
    if queue.int("max_samples_per_send") <= 0 {
        return refuse("max_samples_per_send", "max_samples_per_send must be positive");
    }
    if queue.int("capacity") <= 0 {
        return refuse("capacity", "capacity must be positive");
    }
    if queue.int("max_backoff") < queue.int("min_backoff") {
        return refuse("max_backoff", "max_backoff must not be less than min_backoff");
    }
    Ok(())
}

fn check_read(block: &mut Block) -> Check {
    if !block.is_set("url") {
        return Err(block.problem("url", "url for remote_read is empty"));
    }
    check_headers(block)?;
    check_http(block)
}

/// Headers that the protocols set themselves.
const RESERVED: [&str; 16] = [
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

fn check_headers(block: &Block) -> Check {
    let text = "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or \
                google_iam parameter";
    check_header_names(block, text)
}

pub(in crate::config) fn check_header_names(block: &Block, authorization: &str) -> Check {
    for (name, _) in block.text_map("headers") {
        let lower = name.to_lowercase();
        if lower == "authorization" {
            return Err(block.problem("headers", authorization));
        }
        if RESERVED.contains(&lower.as_str()) {
            let text = format!("{name} is a reserved header. It must not be changed");
            return Err(block.problem("headers", text));
        }
    }
    Ok(())
}
