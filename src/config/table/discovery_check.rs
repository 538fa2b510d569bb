//! What each way to find targets must say, in Prometheus's words.

use model::quote::quoted;

use crate::config::error::Check;
use crate::config::schema::{Block, Value};
use crate::config::url;

use super::http::{HTTP, check_http};

/// Refuses an empty key.
fn require(block: &Block, key: &str, text: &str) -> Check {
    let empty = match block.value(key) {
        Value::Texts(texts) => texts.is_empty(),
        _ => block.text(key).is_empty(),
    };
    if empty { Err(block.problem(key, text)) } else { Ok(()) }
}

/// Refuses a key whose text is none of `allowed`; `missing` is the complaint about an empty one.
fn one_of(block: &Block, key: &str, allowed: &[&str], missing: &str, unknown: String) -> Check {
    let text = block.text(key);
    if text.is_empty() && !missing.is_empty() {
        return Err(block.problem(key, missing).allow(allowed.iter().copied()));
    }
    if allowed.contains(&text) {
        return Ok(());
    }
    Err(block.problem(key, unknown).allow(allowed.iter().copied()))
}

/// A URL that is there, of http or https, with a host.
fn require_http_url(block: &Block, key: &str) -> Check {
    require(block, key, "URL is missing")?;
    let parts = url::parts(block.text(key)).map_err(|e| block.problem(key, e))?;
    if parts.scheme != "http" && parts.scheme != "https" {
        return Err(block.problem(key, "URL scheme must be 'http' or 'https'").allow(["http", "https"]));
    }
    if parts.host.is_empty() {
        return Err(block.problem(key, "host is missing in URL"));
    }
    Ok(())
}

pub(super) fn check_static(block: &mut Block) -> Check {
    for (name, _) in block.text_map("labels") {
        if name.is_empty() {
            return Err(block.problem("labels", format!("{} is not a valid label name", quoted(name))));
        }
    }
    let empty = block.texts("targets").is_empty() && block.text_map("labels").is_empty();
    if empty && !block.is_given("targets") && !block.is_given("labels") {
        return Err(block.problem("targets", "empty or null section in static_configs"));
    }
    Ok(())
}

pub(super) fn check_aws(block: &mut Block) -> Check {
    let roles = ["ec2", "ecs", "elasticache", "lightsail", "msk", "rds"];
    let unknown = format!("unknown AWS SD role {}", quoted(block.text("role")));
    one_of(block, "role", &roles, "", unknown)?;
    check_http(block)
}

pub(super) fn check_ec2(block: &mut Block) -> Check {
    for filter in block.sections("filters") {
        if filter.texts("values").is_empty() {
            return Err(filter.problem("values", "EC2 SD configuration filter values cannot be empty"));
        }
    }
    check_http(block)
}

pub(super) fn check_azure(block: &mut Block) -> Check {
    let needs: &[&str] = match block.text("authentication_method") {
        "OAuth" => &["subscription_id", "tenant_id", "client_id", "client_secret"],
        _ => &["subscription_id"],
    };
    for name in needs {
        require(block, name, &format!("azure SD configuration requires a {name}"))?;
    }
    let unknown = format!(
        "unknown authentication_type {}. Supported types are \"OAuth\", \"ManagedIdentity\", \"SDK\" or \
         \"WorkloadIdentity\"",
        quoted(block.text("authentication_method"))
    );
    let methods = ["OAuth", "ManagedIdentity", "SDK", "WorkloadIdentity"];
    one_of(block, "authentication_method", &methods, "", unknown)?;
    check_http(block)
}

pub(super) fn check_consul(block: &mut Block) -> Check {
    if block.text("server").trim().is_empty() {
        return Err(block.problem("server", "consul SD configuration requires a server address"));
    }
    let user = !block.text("username").is_empty() || !block.text("password").is_empty();
    if user && block.is_set("basic_auth") {
        let text =
            "at most one of consul SD configuration username and password and basic auth can be configured";
        return Err(block.problem("basic_auth", text));
    }
    let other = block.is_set("authorization") || block.is_set("oauth2");
    if !block.text("token").is_empty() && other {
        let text = "at most one of consul SD token, authorization, or oauth2 can be configured";
        return Err(block.problem("token", text));
    }
    check_http(block)
}

pub(super) fn check_digitalocean(block: &mut Block) -> Check {
    let unknown = format!("unknown DigitalOcean SD role {}", quoted(block.text("role")));
    let missing = "role missing (one of: droplets, databases)";
    one_of(block, "role", &["droplets", "databases"], missing, unknown)?;
    check_http(block)
}

pub(super) fn check_dns(block: &mut Block) -> Check {
    require(block, "names", "DNS-SD config must contain at least one SRV record name")?;
    let kind = block.text("type").to_uppercase();
    if ["A", "AAAA", "MX", "NS"].contains(&kind.as_str()) && block.int("port") == 0 {
        let text = "a port is required in DNS-SD configs for all record types except SRV";
        return Err(block.problem("port", text));
    }
    let kinds = ["SRV", "A", "AAAA", "MX", "NS"];
    if !kinds.contains(&kind.as_str()) {
        let text = format!("invalid DNS-SD records type {}", block.text("type"));
        return Err(block.problem("type", text).allow(kinds));
    }
    Ok(())
}

pub(super) fn check_docker(block: &mut Block) -> Check {
    require(block, "host", "host missing")?;
    url::check(block.text("host")).map_err(|e| block.problem("host", e))?;
    check_http(block)
}

pub(super) fn check_dockerswarm(block: &mut Block) -> Check {
    require(block, "host", "host missing")?;
    url::check(block.text("host")).map_err(|e| block.problem("host", e))?;
    let unknown = format!("invalid role {}, expected tasks, services, or nodes", block.text("role"));
    let missing = "role missing (one of: tasks, services, nodes)";
    one_of(block, "role", &["tasks", "services", "nodes"], missing, unknown)?;
    check_http(block)
}

pub(super) fn check_eureka(block: &mut Block) -> Check {
    require(block, "server", "eureka_sd: empty or null eureka server")?;
    let parts = url::parts(block.text("server")).map_err(|e| block.problem("server", e))?;
    if parts.scheme.is_empty() || parts.host.is_empty() {
        return Err(block.problem("server", "eureka_sd: invalid eureka server URL"));
    }
    check_http(block)
}

pub(super) fn check_file(block: &mut Block) -> Check {
    require(block, "files", "file service discovery config must contain at least one path name")?;
    let known = |f: &&String| {
        let name =
            [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"].iter().find_map(|e| f.strip_suffix(e));
        name.is_some_and(|n| n.matches('*').count() <= 1 && n.find('*').is_none_or(|i| !n[i..].contains('/')))
    };
    match block.texts("files").iter().find(|f| !known(f)) {
        Some(bad) => {
            let text = format!("path name {} is not valid for file discovery", quoted(bad));
            Err(block.problem("files", text).allow(["a path ending in .json, .yml or .yaml"]))
        }
        None => Ok(()),
    }
}

pub(super) fn check_gce(block: &mut Block) -> Check {
    require(block, "project", "GCE SD configuration requires a project")?;
    require(block, "zone", "GCE SD configuration requires a zone")
}

pub(super) fn check_hetzner(block: &mut Block) -> Check {
    let unknown = format!("unknown role {}", quoted(block.text("role")));
    one_of(block, "role", &["robot", "hcloud"], "role missing (one of: robot, hcloud)", unknown)?;
    check_http(block)
}

pub(super) fn check_http_sd(block: &mut Block) -> Check {
    require_http_url(block, "url")?;
    check_http(block)
}

pub(super) fn check_ionos(block: &mut Block) -> Check {
    require(block, "datacenter_id", "datacenter id can't be empty")?;
    check_http(block)
}

/// Which selectors a role of Kubernetes understands.
const KUBERNETES_ROLES: [(&str, &[&str]); 6] = [
    ("pod", &["pod", "node"]),
    ("service", &["service"]),
    ("endpoints", &["pod", "service", "endpoints"]),
    ("endpointslice", &["pod", "service", "endpointslice"]),
    ("node", &["node"]),
    ("ingress", &["ingress"]),
];

pub(super) fn check_kubernetes(block: &mut Block) -> Check {
    let role = block.text("role").to_owned();
    let unknown = format!("unknown Kubernetes SD role {}", quoted(&role));
    let missing = "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)";
    one_of(block, "role", &KUBERNETES_ROLES.map(|r| r.0), missing, unknown)?;
    check_http(block)?;
    let server = block.is_set("api_server") && !block.text("api_server").is_empty();
    let kubeconfig = !block.text("kubeconfig_file").is_empty();
    let own = block.section("namespaces").is_some_and(|n| n.is_true("own_namespace"));
    if server && kubeconfig {
        let text = "cannot use 'kubeconfig_file' and 'api_server' simultaneously";
        return Err(block.problem("kubeconfig_file", text));
    }
    let custom = custom_http(block);
    if let (true, Some(name)) = (kubeconfig, custom) {
        let text = "cannot use a custom HTTP client configuration together with 'kubeconfig_file'";
        return Err(block.problem(name, text));
    }
    if let (false, Some(name)) = (server, custom) {
        let text = "to use custom HTTP client configuration please provide the 'api_server' URL explicitly";
        return Err(block.problem(name, text));
    }
    if server && own {
        let text = "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously";
        return Err(block.problem("namespaces", text));
    }
    if kubeconfig && own {
        let text = "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously";
        return Err(block.problem("namespaces", text));
    }
    check_selectors(block, &role)
}

/// The first key of the HTTP client that is not as it would be by default.
fn custom_http(block: &Block) -> Option<&'static str> {
    let differs = |key: &&'static str| match block.value(key) {
        Value::Unset => false,
        Value::Bool(value) => *value != matches!(*key, "follow_redirects" | "enable_http2"),
        Value::Text(text) => !text.is_empty(),
        Value::Section(section) if *key == "tls_config" => section.entries().any(|(_, v)| {
            !matches!(v, Value::Unset | Value::Bool(false)) && *v != Value::Text(String::new())
        }),
        _ => true,
    };
    HTTP.iter().map(|f| f.key).find(differs)
}

fn check_selectors(block: &Block, role: &str) -> Check {
    let allowed = KUBERNETES_ROLES.iter().find(|r| r.0 == role).map_or(&[][..], |r| r.1);
    let selectors = block.sections("selectors");
    for (i, selector) in selectors.iter().enumerate() {
        let own = selector.text("role");
        if selectors[..i].iter().any(|s| s.text("role") == own) {
            return Err(selector.problem("role", format!("duplicated selector role: {own}")));
        }
        if !allowed.contains(&own) {
            let text = format!("{role} role supports only {} selectors", allowed.join(", "));
            return Err(selector.problem("role", text).allow(allowed.iter().copied()));
        }
        let field = selector.text("field");
        for term in field.split(',').filter(|t| !t.is_empty()) {
            if !term.contains('=') {
                let text = format!("invalid selector: '{field}'; can't understand '{term}'");
                return Err(selector.problem("field", text));
            }
        }
    }
    Ok(())
}

pub(super) fn check_kuma(block: &mut Block) -> Check {
    let server = block.text("server");
    if server.is_empty() {
        return Err(block.problem("server", "kuma SD server must not be empty: "));
    }
    let parts = url::parts(server).map_err(|e| block.problem("server", e))?;
    if parts.scheme.is_empty() || parts.host.is_empty() {
        let text = format!("kuma SD server must not be empty and have a scheme: {server}");
        return Err(block.problem("server", text));
    }
    check_http(block)
}

pub(super) fn check_marathon(block: &mut Block) -> Check {
    require(block, "servers", "marathon_sd: must contain at least one Marathon server")?;
    let (token, file) = (!block.text("auth_token").is_empty(), !block.text("auth_token_file").is_empty());
    let refuse = |key: &str, which: &str| {
        Err(block.problem(key, format!("marathon_sd: at most one of {which} must be configured")))
    };
    if token && file {
        return refuse("auth_token_file", "auth_token & auth_token_file");
    }
    if token || file {
        if block.is_set("basic_auth") {
            return refuse("basic_auth", "basic_auth, auth_token & auth_token_file");
        }
        if !block.text("bearer_token").is_empty() || !block.text("bearer_token_file").is_empty() {
            return refuse("bearer_token", "bearer_token, bearer_token_file, auth_token & auth_token_file");
        }
        if block.is_set("authorization") {
            return refuse("authorization", "auth_token, auth_token_file & authorization");
        }
    }
    check_http(block)
}

pub(super) fn check_nerve(block: &mut Block) -> Check {
    check_zookeeper(block, "nerve")
}

pub(super) fn check_serverset(block: &mut Block) -> Check {
    check_zookeeper(block, "serverset")
}

fn check_zookeeper(block: &Block, name: &str) -> Check {
    require(block, "servers", &format!("{name} SD config must contain at least one Zookeeper server"))?;
    require(block, "paths", &format!("{name} SD config must contain at least one path"))?;
    match block.texts("paths").iter().find(|p| !p.starts_with('/')) {
        Some(bad) => {
            Err(block.problem("paths", format!("{name} SD config paths must begin with '/': {bad}")))
        }
        None => Ok(()),
    }
}

pub(super) fn check_nomad(block: &mut Block) -> Check {
    if block.text("server").trim().is_empty() {
        return Err(block.problem("server", "nomad SD configuration requires a server address"));
    }
    check_http(block)
}

pub(super) fn check_oci(block: &mut Block) -> Check {
    require(block, "region", "oci_sd: region is required")?;
    let account = ["tenancy", "user", "fingerprint", "key_file"];
    match block.text("auth") {
        "api_key" => {
            for name in account {
                require(block, name, &format!("oci_sd: api_key auth requires {name}"))?;
            }
            let text = "oci_sd: at most one of key_passphrase and key_passphrase_file must be configured";
            super::http::at_most_one(block, &["key_passphrase", "key_passphrase_file"], text)?;
        }
        "instance_principal" => {
            let mut keys = account.iter().chain(&["key_passphrase", "key_passphrase_file"]);
            if let Some(given) = keys.find(|k| !block.text(k).is_empty()) {
                let text = "oci_sd: instance_principal auth must not have tenancy, user, fingerprint, key_file, \
                            key_passphrase, or key_passphrase_file set";
                return Err(block.problem(given, text));
            }
        }
        other => {
            let text = format!(
                "oci_sd: unknown auth method {}, expected \"api_key\" or \"instance_principal\"",
                quoted(other)
            );
            return Err(block.problem("auth", text).allow(["api_key", "instance_principal"]));
        }
    }
    if let Some(i) = block.texts("compartments").iter().position(String::is_empty) {
        return Err(block.problem("compartments", format!("oci_sd: compartments[{i}] must not be empty")));
    }
    if block.int("refresh_interval") <= 0 {
        let text = "oci_sd: refresh_interval must be positive, got 0s";
        return Err(block.problem("refresh_interval", text));
    }
    check_http(block)
}

pub(super) fn check_openstack(block: &mut Block) -> Check {
    let unknown = format!("unknown OpenStack SD role {}", quoted(block.text("role")));
    let roles = ["instance", "hypervisor", "loadbalancer"];
    if block.is_set("role") {
        one_of(block, "role", &roles, "", unknown)?;
    }
    let availability = block.text("availability");
    let text = format!("unknown availability {availability}, must be one of admin, internal or public");
    one_of(block, "availability", &["admin", "internal", "public"], "", text)?;
    let missing = "role missing (one of: instance, hypervisor, loadbalancer)";
    one_of(block, "role", &roles, missing, String::new())?;
    require(block, "region", "openstack SD configuration requires a region")
}

fn check_secret_key(block: &Block) -> Check {
    if block.text("secret_key").is_empty() && block.text("secret_key_file").is_empty() {
        return Err(block.problem("secret_key", "one of secret_key & secret_key_file must be configured"));
    }
    let text = "at most one of secret_key & secret_key_file must be configured";
    super::http::at_most_one(block, &["secret_key", "secret_key_file"], text)
}

pub(super) fn check_outscale(block: &mut Block) -> Check {
    require(block, "region", "outscale SD configuration requires a region")?;
    require(block, "access_key", "outscale SD configuration requires access_key")?;
    check_secret_key(block)?;
    if block.text("endpoint").is_empty() {
        let endpoint = format!("https://api.{}.outscale.com/api/v1", block.text("region"));
        block.set("endpoint", Value::Text(endpoint), None);
    }
    check_http(block)
}

pub(super) fn check_ovhcloud(block: &mut Block) -> Check {
    for (name, what) in [
        ("endpoint", "endpoint"),
        ("application_key", "application key"),
        ("application_secret", "application secret"),
        ("consumer_key", "consumer key"),
    ] {
        require(block, name, &format!("{what} can not be empty"))?;
    }
    let unknown = format!("unknown service: {}", block.text("service"));
    one_of(block, "service", &["vps", "dedicated_server"], "", unknown)
}

pub(super) fn check_puppetdb(block: &mut Block) -> Check {
    require_http_url(block, "url")?;
    require(block, "query", "query missing")?;
    check_http(block)
}

pub(super) fn check_scaleway(block: &mut Block) -> Check {
    let unknown = format!("unknown role {}", quoted(block.text("role")));
    one_of(block, "role", &["instance", "baremetal"], "role missing (one of: instance, baremetal)", unknown)?;
    require(block, "project_id", "project_id is mandatory")?;
    check_secret_key(block)?;
    require(block, "access_key", "access_key is mandatory")?;
    check_http(block)
}

pub(super) fn check_stackit(block: &mut Block) -> Check {
    let endpoint = block.text("endpoint");
    if endpoint.is_empty() && block.text("region").is_empty() {
        return Err(block.problem("endpoint", "stackit_sd: endpoint and region missing"));
    }
    if let Err(e) = url::check(endpoint) {
        let text = format!("stackit_sd: invalid endpoint {}: {e}", quoted(endpoint));
        return Err(block.problem("endpoint", text));
    }
    check_http(block)
}

pub(super) fn check_triton(block: &mut Block) -> Check {
    let text = "triton SD configuration requires role to be 'container' or 'cn'";
    one_of(block, "role", &["container", "cn"], text, text.to_owned())?;
    require(block, "account", "triton SD configuration requires an account")?;
    require(block, "dns_suffix", "triton SD configuration requires a dns_suffix")?;
    require(block, "endpoint", "triton SD configuration requires an endpoint")?;
    if block.int("refresh_interval") <= 0 {
        let text = "triton SD configuration requires RefreshInterval to be a positive integer";
        return Err(block.problem("refresh_interval", text));
    }
    Ok(())
}

pub(super) fn check_uyuni(block: &mut Block) -> Check {
    require(block, "server", "Uyuni SD configuration requires server host")?;
    let server = url::check(block.text("server"));
    server.map_err(|e| block.problem("server", format!("Uyuni Server URL is not valid: {e}")))?;
    require(block, "username", "Uyuni SD configuration requires a username")?;
    require(block, "password", "Uyuni SD configuration requires a password")?;
    check_http(block)
}
