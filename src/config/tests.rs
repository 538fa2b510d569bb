//! Whole files: verdicts, error texts with their places, and the text of the loaded configuration.

use super::*;

/// What Prometheus says of its own bad files.
const BAD: &[(&str, &str)] = &[
    ("jobname.bad.yml", "job_name is empty"),
    ("jobname_dup.bad.yml", r#"found multiple scrape configs with job name "prometheus""#),
    ("scrape_interval.bad.yml", "scrape timeout greater than scrape interval"),
    ("labelname.bad.yml", r#""\xff" is not a valid label name"#),
    ("labelvalue.bad.yml", r#""\xff" is not a valid label value"#),
    ("regex.bad.yml", "error parsing regexp"),
    ("modulus_missing.bad.yml", "relabel configuration for hashmod requires non-zero modulus"),
    ("labelkeep.bad.yml", "labelkeep action requires only 'regex', and no other fields"),
    ("labelkeep2.bad.yml", "labelkeep action requires only 'regex', and no other fields"),
    ("labelkeep3.bad.yml", "labelkeep action requires only 'regex', and no other fields"),
    ("labelkeep4.bad.yml", "labelkeep action requires only 'regex', and no other fields"),
    ("labelkeep5.bad.yml", "labelkeep action requires only 'regex', and no other fields"),
    ("labeldrop.bad.yml", "labeldrop action requires only 'regex', and no other fields"),
    ("labeldrop2.bad.yml", "labeldrop action requires only 'regex', and no other fields"),
    ("labeldrop3.bad.yml", "labeldrop action requires only 'regex', and no other fields"),
    ("labeldrop4.bad.yml", "labeldrop action requires only 'regex', and no other fields"),
    ("labeldrop5.bad.yml", "labeldrop action requires only 'regex', and no other fields"),
    ("dropequal.bad.yml", "relabel configuration for dropequal action requires 'target_label' value"),
    (
        "dropequal1.bad.yml",
        "dropequal action requires only 'source_labels' and `target_label`, and no other fields",
    ),
    ("keepequal.bad.yml", "relabel configuration for keepequal action requires 'target_label' value"),
    (
        "keepequal1.bad.yml",
        "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
    ),
    ("labelmap.bad.yml", "!!binary value contains invalid base64 data"),
    ("lowercase.bad.yml", "relabel configuration for lowercase action requires 'target_label' value"),
    ("lowercase3.bad.yml", "'replacement' can not be set for lowercase action"),
    ("uppercase.bad.yml", "relabel configuration for uppercase action requires 'target_label' value"),
    ("uppercase3.bad.yml", "'replacement' can not be set for uppercase action"),
    ("rules.bad.yml", "invalid rule file path"),
    ("unknown_attr.bad.yml", "field consult_sd_configs not found in type"),
    ("bearertoken.bad.yml", "at most one of bearer_token & bearer_token_file must be configured"),
    (
        "bearertoken_basicauth.bad.yml",
        "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
    ),
    (
        "kubernetes_http_config_without_api_server.bad.yml",
        "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
    ),
    (
        "kubernetes_kubeconfig_with_own_namespace.bad.yml",
        "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously",
    ),
    (
        "kubernetes_api_server_with_own_namespace.bad.yml",
        "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously",
    ),
    (
        "kubernetes_kubeconfig_with_apiserver.bad.yml",
        "cannot use 'kubeconfig_file' and 'api_server' simultaneously",
    ),
    (
        "kubernetes_kubeconfig_with_http_config.bad.yml",
        "cannot use a custom HTTP client configuration together with 'kubeconfig_file'",
    ),
    ("kubernetes_bearertoken.bad.yml", "at most one of bearer_token & bearer_token_file must be configured"),
    ("kubernetes_role.bad.yml", "role"),
    (
        "kubernetes_selectors_endpoints.bad.yml",
        "endpoints role supports only pod, service, endpoints selectors",
    ),
    ("kubernetes_selectors_ingress.bad.yml", "ingress role supports only ingress selectors"),
    ("kubernetes_selectors_node.bad.yml", "node role supports only node selectors"),
    ("kubernetes_selectors_pod.bad.yml", "pod role supports only pod, node selectors"),
    ("kubernetes_selectors_service.bad.yml", "service role supports only service selectors"),
    ("kubernetes_namespace_discovery.bad.yml", "field foo not found in type kubernetes.plain"),
    ("kubernetes_selectors_duplicated_role.bad.yml", "duplicated selector role: pod"),
    (
        "kubernetes_selectors_incorrect_selector.bad.yml",
        "invalid selector: 'metadata.status-Running'; can't understand 'metadata.status-Running'",
    ),
    (
        "kubernetes_bearertoken_basicauth.bad.yml",
        "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
    ),
    (
        "kubernetes_authorization_basicauth.bad.yml",
        "at most one of basic_auth, oauth2 & authorization must be configured",
    ),
    ("marathon_no_servers.bad.yml", "marathon_sd: must contain at least one Marathon server"),
    (
        "marathon_authtoken_authtokenfile.bad.yml",
        "marathon_sd: at most one of auth_token & auth_token_file must be configured",
    ),
    (
        "marathon_authtoken_basicauth.bad.yml",
        "marathon_sd: at most one of basic_auth, auth_token & auth_token_file must be configured",
    ),
    (
        "marathon_authtoken_bearertoken.bad.yml",
        "marathon_sd: at most one of bearer_token, bearer_token_file, auth_token & auth_token_file must be configured",
    ),
    (
        "marathon_authtoken_authorization.bad.yml",
        "marathon_sd: at most one of auth_token, auth_token_file & authorization must be configured",
    ),
    ("openstack_role.bad.yml", "unknown OpenStack SD role"),
    (
        "openstack_availability.bad.yml",
        "unknown availability invalid, must be one of admin, internal or public",
    ),
    ("url_in_targetgroup.bad.yml", r#""http://bad" is not a valid hostname"#),
    (
        "target_label_missing.bad.yml",
        "relabel configuration for replace action requires 'target_label' value",
    ),
    (
        "target_label_hashmod_missing.bad.yml",
        "relabel configuration for hashmod action requires 'target_label' value",
    ),
    ("unknown_global_attr.bad.yml", "field nonexistent_field not found in type config.plain"),
    ("remote_read_url_missing.bad.yml", "url for remote_read is empty"),
    (
        "remote_write_header.bad.yml",
        "x-prometheus-remote-write-version is a reserved header. It must not be changed",
    ),
    (
        "remote_read_header.bad.yml",
        "x-prometheus-remote-write-version is a reserved header. It must not be changed",
    ),
    (
        "remote_write_authorization_header.bad.yml",
        "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter",
    ),
    (
        "remote_write_wrong_msg.bad.yml",
        "invalid protobuf_message value: unknown type for remote write protobuf message io.prometheus.writet.v2.Request, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request",
    ),
    ("remote_write_url_missing.bad.yml", "url for remote_write is empty"),
    ("remote_write_dup.bad.yml", r#"found multiple remote write configs with job name "queue1""#),
    (
        "remote_write_queue_max_samples_per_send_zero.bad.yml",
        "remote write queue max_samples_per_send must be positive",
    ),
    ("remote_write_queue_max_shards_zero.bad.yml", "remote write queue max_shards must be positive"),
    ("remote_write_queue_min_shards_zero.bad.yml", "remote write queue min_shards must be positive"),
    ("remote_write_queue_capacity_zero.bad.yml", "remote write queue capacity must be positive"),
    (
        "remote_write_queue_min_shards_greater_than_max.bad.yml",
        "remote write queue min_shards must not be greater than max_shards",
    ),
    (
        "remote_write_queue_max_backoff_less_than_min.bad.yml",
        "remote write queue max_backoff must not be less than min_backoff",
    ),
    ("remote_read_dup.bad.yml", r#"found multiple remote read configs with job name "queue1""#),
    ("ec2_filters_empty_values.bad.yml", "EC2 SD configuration filter values cannot be empty"),
    ("ec2_token_file.bad.yml", "at most one of bearer_token & bearer_token_file must be configured"),
    ("lightsail_token_file.bad.yml", "at most one of bearer_token & bearer_token_file must be configured"),
    ("section_key_dup.bad.yml", "field scrape_configs already set in type config.plain"),
    ("azure_client_id_missing.bad.yml", "azure SD configuration requires a client_id"),
    ("azure_client_secret_missing.bad.yml", "azure SD configuration requires a client_secret"),
    ("azure_subscription_id_missing.bad.yml", "azure SD configuration requires a subscription_id"),
    ("azure_tenant_id_missing.bad.yml", "azure SD configuration requires a tenant_id"),
    (
        "azure_authentication_method.bad.yml",
        r#"unknown authentication_type "invalid". Supported types are "OAuth", "ManagedIdentity", "SDK" or "WorkloadIdentity""#,
    ),
    (
        "oci_authentication_method.bad.yml",
        r#"oci_sd: unknown auth method "invalid", expected "api_key" or "instance_principal""#,
    ),
    (
        "azure_bearertoken_basicauth.bad.yml",
        "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
    ),
    ("empty_scrape_config.bad.yml", "empty or null scrape config section"),
    ("empty_rw_config.bad.yml", "empty or null remote write config section"),
    ("empty_rr_config.bad.yml", "empty or null remote read config section"),
    ("empty_target_relabel_config.bad.yml", "empty or null target relabeling rule"),
    ("empty_metric_relabel_config.bad.yml", "empty or null metric relabeling rule"),
    ("empty_alert_relabel_config.bad.yml", "empty or null alert relabeling rule"),
    ("empty_alertmanager_relabel_config.bad.yml", "empty or null Alertmanager target relabeling rule"),
    ("empty_rw_relabel_config.bad.yml", "empty or null relabeling rule in remote write config"),
    ("empty_static_config.bad.yml", "empty or null section in static_configs"),
    ("puppetdb_no_query.bad.yml", "query missing"),
    ("puppetdb_no_url.bad.yml", "URL is missing"),
    ("puppetdb_bad_url.bad.yml", "host is missing in URL"),
    ("puppetdb_no_scheme.bad.yml", "URL scheme must be 'http' or 'https'"),
    ("puppetdb_token_file.bad.yml", "at most one of bearer_token & bearer_token_file must be configured"),
    ("hetzner_role.bad.yml", "unknown role"),
    ("eureka_no_server.bad.yml", "empty or null eureka server"),
    ("eureka_invalid_server.bad.yml", "invalid eureka server URL"),
    ("scaleway_role.bad.yml", r#"unknown role "invalid""#),
    ("scaleway_no_secret.bad.yml", "one of secret_key & secret_key_file must be configured"),
    ("scaleway_two_secrets.bad.yml", "at most one of secret_key & secret_key_file must be configured"),
    ("outscale_no_region.bad.yml", "outscale SD configuration requires a region"),
    ("outscale_no_secret.bad.yml", "one of secret_key & secret_key_file must be configured"),
    ("outscale_two_secrets.bad.yml", "at most one of secret_key & secret_key_file must be configured"),
    ("scrape_body_size_limit.bad.yml", "units: unknown unit  in 100"),
    ("http_url_no_scheme.bad.yml", "URL scheme must be 'http' or 'https'"),
    ("http_url_no_host.bad.yml", "host is missing in URL"),
    ("http_token_file.bad.yml", "at most one of bearer_token & bearer_token_file must be configured"),
    ("http_url_bad_scheme.bad.yml", "URL scheme must be 'http' or 'https'"),
    ("empty_scrape_config_action.bad.yml", "relabel action cannot be empty"),
    ("tracing_missing_endpoint.bad.yml", "tracing endpoint must be set"),
    (
        "tracing_invalid_header.bad.yml",
        "x-prometheus-remote-write-version is a reserved header. It must not be changed",
    ),
    (
        "tracing_invalid_authorization_header.bad.yml",
        "authorization header configuration is not yet supported",
    ),
    ("tracing_invalid_compression.bad.yml", "invalid compression type foo provided, valid options: gzip"),
    ("uyuni_no_server.bad.yml", "Uyuni SD configuration requires server host"),
    ("uyuni_token_file.bad.yml", "at most one of bearer_token & bearer_token_file must be configured"),
    ("ionos_datacenter.bad.yml", "datacenter id can't be empty"),
    ("ovhcloud_no_secret.bad.yml", "application secret can not be empty"),
    ("ovhcloud_bad_service.bad.yml", "unknown service: fakeservice"),
    ("scrape_config_files_glob.bad.yml", r#"invalid scrape config file path "scrape_configs/*/*""#),
    (
        "scrape_config_files_scrape_protocols.bad.yml",
        r#"scrape_protocols: unknown scrape protocol prometheusproto, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto PrometheusText0.0.4 PrometheusText1.0.0] for scrape config with job name "node""#,
    ),
    (
        "scrape_config_files_scrape_protocols2.bad.yml",
        r#"duplicated protocol in scrape_protocols, got [OpenMetricsText1.0.0 PrometheusProto OpenMetricsText1.0.0] for scrape config with job name "node""#,
    ),
    (
        "scrape_config_files_fallback_scrape_protocol1.bad.yml",
        r#"invalid fallback_scrape_protocol for scrape config with job name "node": unknown scrape protocol prometheusproto, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto PrometheusText0.0.4 PrometheusText1.0.0]"#,
    ),
    ("scrape_config_files_fallback_scrape_protocol2.bad.yml", "unmarshal errors"),
    (
        "scrape_config_utf8_conflicting.bad.yml",
        "utf8 metric names requested but validation scheme is not set to UTF8",
    ),
    ("stackit_endpoint.bad.yml", "invalid endpoint"),
    ("tsdb_retention_time.bad.yml", r#"not a valid duration string: "-1h""#),
    ("tsdb_retention_size.bad.yml", "'storage.tsdb.retention.size' must be greater than or equal to 0"),
    (
        "tsdb_retention_percentage.bad.yml",
        "'storage.tsdb.retention.percentage' must be in the range [0, 100]",
    ),
    (
        "tsdb_retention_percentage_negative.bad.yml",
        "'storage.tsdb.retention.percentage' must be in the range [0, 100]",
    ),
    (
        "tsdb_chunk_encoding_floats.bad.yml",
        r#"'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got "xor3""#,
    ),
    (
        "tsdb_chunk_encoding_floats_wrong_case.bad.yml",
        r#"'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got "XOR""#,
    ),
    (
        "tsdb_chunk_encoding_floats_wrong_case_xor2.bad.yml",
        r#"'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got "XOR2""#,
    ),
    ("metric_name_validation_scheme.bad.yml", r#"unrecognized ValidationScheme: "invalid_scheme""#),
];

/// Files that other tests of Prometheus name, among them some that are bad only in what they include.
const BAD_ELSEWHERE: &[(&str, &str)] = &[
    (
        "config_with_deprecated_am_api_config.yml",
        "expected Alertmanager api version to be one of [v2] but got v1",
    ),
    ("otlp_allow_utf8.bad.yml", r#"unsupported OTLP translation strategy "Invalid""#),
    (
        "otlp_ignore_resource_attributes_without_promote_all.bad.yml",
        "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true",
    ),
    (
        "otlp_promote_all_resource_attributes.bad.yml",
        "'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously",
    ),
    (
        "otlp_sanitize_ignore_resource_attributes.bad.yml",
        r#"invalid 'ignore_resource_attributes': duplicated ignored OTel resource attribute "k8s.job.name""#,
    ),
    (
        "otlp_sanitize_promote_resource_attributes.bad.yml",
        r#"invalid 'promote_resource_attributes': duplicated promoted OTel resource attribute "k8s.job.name""#,
    ),
    ("scrape_config_files.bad.yml", "scrape timeout greater than scrape interval"),
    (
        "scrape_config_files_double_import.bad.yml",
        r#"found multiple scrape configs with job name "prometheus""#,
    ),
    ("scrape_config_files_duplicate.bad.yml", r#"found multiple scrape configs with job name "prometheus""#),
    (
        "scrape_config_files_global_duplicate.bad.yml",
        r#"found multiple scrape configs with job name "prometheus""#,
    ),
    (
        "scrape_config_files_global.bad.yml",
        r#"scrape timeout greater than scrape interval for scrape config with job name "prometheus""#,
    ),
    (
        "otlp_allow_utf8.incompatible.yml",
        r#"OTLP translation strategy "NoUTF8EscapingWithSuffixes" is not allowed when UTF8 is disabled"#,
    ),
    (
        "otlp_no_translation.incompatible.yml",
        r#"OTLP translation strategy "NoTranslation" is not allowed when UTF8 is disabled"#,
    ),
];

/// Files whose printed form Prometheus itself reads as something else: an expanded label has dollars again, and a
/// false is left out where the default is true.
const NOT_REREAD: &[&str] =
    &["external_labels.good.yml", "otlp_label_underscore_sanitization_disabled.good.yml"];

/// Files of another kind than a configuration.
const OTHER: &[&str] = &["static_config.bad.yml"];

fn shared() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let dir = std::env::var_os("SYSTOLE_SHARED").map_or(beside, PathBuf::from).join("data/config");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {} is not here", dir.display());
    None
}

#[test]
fn every_file_of_prometheus_has_its_verdict_and_text() {
    let Some(dir) = shared() else { return };
    let (mut good, mut bad, mut fragments, mut wrong) = (0, 0, 0, Vec::new());
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .expect("readable")
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| n.ends_with(".yml") && !OTHER.contains(&n.as_str()))
        .collect();
    names.sort();
    for name in &names {
        let expected = BAD.iter().chain(BAD_ELSEWHERE).find(|(n, _)| n == name).map(|(_, text)| *text);
        let must_fail = expected.is_some() || name.contains(".bad.");
        match (Config::load(&dir.join(name), Reading::ToCheck, &|_| None), must_fail) {
            (Ok(config), false) => {
                good += 1;
                if let Err(e) = reread(&config)
                    && !NOT_REREAD.contains(&name.as_str())
                {
                    wrong.push(format!("{name}: printed and read again: {e}"));
                }
            }
            (Err(e), true) => {
                bad += 1;
                let placed = matches!(&e, Error::Refused(r) if r.position.is_some());
                match expected {
                    Some(text) if !e.to_string().contains(text) => {
                        wrong.push(format!("{name}: {e}\n wanted {text}"))
                    }
                    _ if !placed => wrong.push(format!("{name}: no place in {e}")),
                    Some(_) => fragments += 1,
                    None => println!(
                        "{name}: no fragment known; said {}",
                        e.to_string().lines().next().unwrap_or("")
                    ),
                }
            }
            (Ok(_), true) => wrong.push(format!("{name}: accepted")),
            (Err(e), false) => wrong.push(format!("{name}: refused: {e}")),
        }
    }
    println!("{} files: {good} good, {bad} bad, {fragments} texts as expected", names.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The printed text means what was printed.
fn reread(config: &Config) -> Result<(), String> {
    let text = config.to_yaml();
    if text.contains("<secret>") {
        return Ok(());
    }
    let again = Config::parse(Path::new(""), &text, Reading::ToCheck, &|_| None);
    let again = again.map_err(|e| format!("{e}\n{text}"))?;
    if again.to_yaml() == text { Ok(()) } else { Err(format!("{text}---\n{}", again.to_yaml())) }
}

fn refusal(text: &str, reading: Reading) -> Refusal {
    match Config::parse(Path::new("dir/p.yml"), text, reading, &|_| None) {
        Err(Error::Refused(refusal)) => *refusal,
        other => panic!("{text}: {other:?}"),
    }
}

fn check_refusal(text: &str, place: (u32, u32), message: &str, allowed: &str) {
    let got = refusal(text, Reading::ToCheck);
    let at = got.position.map(|p| (p.line, p.column));
    assert_eq!((at, got.message.as_str()), (Some(place), message), "{text}");
    assert!(got.allowed.join(", ").starts_with(allowed), "{:?}", got.allowed);
}

#[test]
fn a_refusal_says_where_and_what_would_be_right() {
    let of_type = |line: u32, what: &str| format!("yaml: unmarshal errors:\n  line {line}: {what}");
    let what = of_type(2, "field scrape_intervall not found in type config.plain");
    check_refusal("global:\n  scrape_intervall: 15s\n", (2, 3), &what, "scrape_interval, ");
    let what = of_type(1, "field scrape_config not found in type config.plain");
    check_refusal("scrape_config: []\n", (1, 1), &what, "scrape_configs, ");
    let text = "global:\n  scrape_interval: 15 s\n";
    check_refusal(text, (2, 20), r#"unknown unit " s" in duration "15 s""#, "a duration like 15s");
    let text = "scrape_configs:\n  - job_name: a\n    honor_labels: maybe\n";
    check_refusal(text, (3, 19), &of_type(3, "cannot unmarshal !!str `maybe` into bool"), "true, false");
    let text = "scrape_configs:\n  - job_name: a\n    sample_limit: -1\n";
    check_refusal(text, (3, 19), &of_type(3, "cannot unmarshal !!int `-1` into uint"), "an integer");
    let text = "scrape_configs:\n  - job_name: a\n    job_name: b\n";
    check_refusal(text, (3, 5), &of_type(3, "field job_name already set in type config.ScrapeConfig"), "");
    let text = "scrape_configs:\n  - job_name: a\n    static_configs:\n      - targets: x:1\n";
    check_refusal(text, (4, 18), &of_type(4, "cannot unmarshal !!str `x:1` into []string"), "a list");
    let text = "scrape_configs:\n  - job_name: a\n    relabel_configs:\n      - action: kep\n";
    check_refusal(text, (4, 9), r#"unknown relabel action "kep""#, "replace, keep");
    let text = "scrape_configs:\n  - job_name: a\n    scheme: ftp\n";
    check_refusal(text, (3, 5), r#"unknown scheme "ftp""#, "http, https");
    assert!(refusal("global: [\n", Reading::ToCheck).position.is_some());
    let text = refusal("global:\n  scrape_intervall: 15s\n", Reading::ToRun).to_string();
    let want = "parsing YAML file dir/p.yml: yaml: unmarshal errors:\n  line 2: field scrape_intervall not found in \
                type config.plain\n --> dir/p.yml:2:3\n2 |   scrape_intervall: 15s\n  |   ^\nallowed here: \
                scrape_interval, ";
    assert!(text.starts_with(want), "{text}");
}

#[test]
fn what_cannot_be_honored_is_refused_by_its_key_and_line() {
    for (text, place, key) in [
        ("rule_files: [a.yml]\n", (1, 1), "rule_files"),
        ("remote_write:\n  - url: http://x\n", (1, 1), "remote_write"),
        ("storage:\n  tsdb:\n    chunk_encoding: {floats: xor}\n", (3, 5), "chunk_encoding"),
        ("scrape_configs:\n  - job_name: a\n    scheme: https\n", (3, 5), "scheme"),
        ("scrape_configs:\n  - job_name: a\n    basic_auth: {username: x}\n", (3, 5), "basic_auth"),
        ("scrape_configs:\n  - job_name: a\n    dns_sd_configs: [{names: [x]}]\n", (3, 5), "dns_sd_configs"),
        ("scrape_configs:\n  - job_name: a\n    bearer_token: x\n", (3, 5), "authorization"),
    ] {
        let got = refusal(text, Reading::ToRun);
        let at = got.position.map(|p| (p.line, p.column));
        assert_eq!(at, Some(place), "{text}");
        assert!(got.message.starts_with(&format!("{key} is not supported yet: ")), "{}", got.message);
    }
    let fine = "rule_files: []\nalerting: {}\nremote_write:\nglobal: {scrape_native_histograms: false}\n";
    assert!(Config::parse(Path::new("p.yml"), fine, Reading::ToRun, &|_| None).is_ok());
}

fn load(text: &str) -> Config {
    Config::parse(Path::new("dir/p.yml"), text, Reading::ToCheck, &|n| Some(format!("<{n}>"))).expect(text)
}

#[test]
fn jobs_take_what_they_do_not_say_from_global() {
    let config = load(
        "global: {scrape_interval: 5s, sample_limit: 10, external_labels: {a: \"$X\"}}\n\
         scrape_configs:\n  - job_name: a\n    sample_limit: 20\n    params: {m: [x, y]}\n    static_configs:\n      \
         - {targets: [\"h:1\", \"h:2\"], labels: {env: p}}\n  - {job_name: b, body_size_limit: 1MB, scrape_interval: 1m}\n",
    );
    let [a, b] = config.scrape.as_slice() else { panic!("two jobs") };
    assert_eq!((a.interval_ms, a.timeout_ms, a.limits.samples), (5_000, 5_000, 20));
    assert_eq!(
        (b.interval_ms, b.timeout_ms, b.limits.samples, b.limits.body_bytes),
        (60_000, 5_000, 10, 1 << 20)
    );
    assert_eq!(a.params, [("m".to_owned(), vec!["x".to_owned(), "y".to_owned()])]);
    assert_eq!(a.static_groups[0].targets[1].to_string(), r#"{__address__="h:2"}"#);
    assert_eq!(
        (a.static_groups[0].labels.value("env"), a.static_groups[0].source.as_str()),
        (Some("p"), "0")
    );
    assert_eq!(a.protocols, ScrapeProtocol::DEFAULT);
    assert_eq!(config.global.external_labels.to_string(), r#"{a="<X>"}"#);
}

#[test]
fn the_default_configuration_runs() {
    let config = Config::embedded_default().expect("it is ours");
    let jobs: Vec<&str> = config.scrape.iter().map(|j| j.job_name.as_str()).collect();
    assert_eq!(jobs, ["systole", "node"]);
    assert!(load("").scrape.is_empty() && load("global:\n").global.scrape_interval_ms == 60_000);
}

#[test]
fn a_reload_names_the_jobs_that_changed() {
    let old = load("scrape_configs: [{job_name: a}, {job_name: b}, {job_name: c}]\n");
    let new =
        load("# moved\nscrape_configs: [{job_name: d}, {job_name: c}, {job_name: b, honor_labels: true}]\n");
    let changes = new.job_changes(&old);
    let names = |jobs: &[Arc<ScrapeConfig>]| jobs.iter().map(|j| j.job_name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&changes.added), ["d"]);
    assert_eq!(names(&changes.changed), ["b"]);
    assert_eq!(names(&changes.unchanged), ["c"]);
    assert_eq!(changes.removed, ["a"]);
    assert!(old.job_changes(&old).is_empty());
}

#[test]
fn the_loaded_configuration_is_printed_as_prometheus_prints_it() {
    let config = load(
        "global:\n  scrape_interval: 15s\nscrape_configs:\n  - job_name: node\n    basic_auth: {username: u, password: p}\n    \
         tls_config: {ca_file: ca.pem}\n    static_configs:\n      - targets: [\"h:1\"]\n        labels: {n: \"1\"}\n    \
         relabel_configs:\n      - source_labels: [__address__, \"a,b\"]\n        target_label: x\n        action: Replace\n",
    );
    let want = "\
global:
  scrape_interval: 15s
  scrape_timeout: 10s
  evaluation_interval: 1m
  metric_name_validation_scheme: utf8
  scrape_native_histograms: false
  extra_scrape_metrics: false
runtime:
  gogc: 75
scrape_configs:
- job_name: node
  honor_timestamps: true
  track_timestamps_staleness: false
  scrape_interval: 15s
  scrape_timeout: 10s
  scrape_protocols:
  - OpenMetricsText1.0.0
  - OpenMetricsText0.0.1
  - PrometheusText1.0.0
  - PrometheusText0.0.4
  scrape_native_histograms: false
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: false
  metrics_path: /metrics
  scheme: http
  enable_compression: true
  metric_name_validation_scheme: utf8
  metric_name_escaping_scheme: allow-utf-8
  extra_scrape_metrics: false
  basic_auth:
    username: u
    password: <secret>
  tls_config:
    ca_file: dir/ca.pem
    insecure_skip_verify: false
  follow_redirects: true
  enable_http2: true
  relabel_configs:
  - source_labels: [__address__, 'a,b']
    separator: ;
    target_label: x
    replacement: $1
    action: replace
  static_configs:
  - targets:
    - h:1
    labels:
      \"n\": \"1\"
otlp:
  translation_strategy: UnderscoreEscapingWithSuffixes
  label_name_underscore_sanitization: true
  label_name_preserve_multiple_underscores: true
";
    assert_eq!(config.to_yaml(), want);
}

#[test]
fn retention_from_flags_is_shown_where_the_file_says_none() {
    let days = |n: u64| Retention { time_ms: n * 86_400_000, bytes: 0, percentage: 0.0 };
    let mut config = load("storage: {tsdb: {}}\n");
    config.set_default_retention(days(15));
    assert!(config.to_yaml().contains("storage:\n  tsdb:\n    retention:\n      time: 15d\n"));
    let mut config = load("storage: {tsdb: {retention: {time: 1d}}}\n");
    config.set_default_retention(days(15));
    assert_eq!(config.storage.retention, Some(days(1)));
}

/// Retention classes as they are read; or what is said of them.
fn classes(list: &str) -> Result<Vec<(String, u64)>, String> {
    let text = format!("storage: {{tsdb: {{retention_classes: {list}}}}}\n");
    let read = Config::parse(Path::new("prometheus.yml"), &text, Reading::ToRun, &|_| None);
    let config = read.map_err(|e| e.to_string())?;
    Ok(config.storage.retention_classes.into_iter().map(|c| (c.selector, c.time_ms)).collect())
}

#[test]
fn retention_classes_are_read_in_their_order() {
    assert_eq!(classes("[]"), Ok(Vec::new()));
    let list = r#"[{selector: '{job="debug"}', time: 2d}, {selector: "up{env=~'x.*', a!=\"b\"}", time: 1h}]"#;
    let want = [("{job=\"debug\"}", 172_800_000), ("{__name__=\"up\",a!=\"b\",env=~\"x.*\"}", 3_600_000)];
    assert_eq!(classes(list), Ok(want.map(|(s, t)| (s.to_owned(), t)).to_vec()));
}

#[test]
fn retention_classes_that_cannot_be_are_refused_with_the_reason() {
    let many: Vec<String> = (0..17).map(|i| format!("{{selector: m{i}, time: 1d}}")).collect();
    let long = format!("[{{selector: {}, time: 1d}}]", "m".repeat(1024));
    for (list, want) in [
        ("[{time: 1d}]", "a retention class must have a 'selector'"),
        ("[{selector: '{job=}', time: 1d}]", "invalid selector \"{job=}\" of a retention class: "),
        ("[{selector: '{}', time: 1d}]", "it must contain at least one non-empty matcher"),
        ("[{selector: '{job=~\".*\"}', time: 1d}]", "it must contain at least one non-empty matcher"),
        ("[{selector: '{job=~\"(\"}', time: 1d}]", "error parsing regexp"),
        ("[{selector: up}]", "the retention class \"up\" must have a 'time' greater than 0"),
        ("[{selector: up, time: 0s}]", "must have a 'time' greater than 0"),
        ("[{selector: up, time: -1h}]", "not a valid duration string"),
        ("[{selector: up, time: soon}]", "not a valid duration string"),
        ("[{selector: up, size: 1GB}]", "field size not found in type config.RetentionClass"),
        ("[null]", "empty or null retention class"),
        (
            "[{selector: '{a=\"1\", b=\"2\"}', time: 1d}, {selector: '{b=\"2\",a=\"1\"}', time: 2d}]",
            "two retention classes have the selector {a=\"1\",b=\"2\"}",
        ),
        (&format!("[{}]", many.join(", ")), "there may be 16 retention classes at most, got 17"),
        (&long, "may be 1024 bytes long, got 1037"),
    ] {
        let have = classes(list).expect_err(list);
        assert!(have.contains(want), "{list}: {have}");
    }
}

/// What is made of samples of no class, and of those of the only one; or what is said of it.
fn downsampled(tsdb: &str) -> Result<(Vec<Downsample>, Vec<Downsample>, SourceResolution), String> {
    let text = format!("storage: {{tsdb: {{{tsdb}}}}}\n");
    let read = Config::parse(Path::new("prometheus.yml"), &text, Reading::ToRun, &|_| None);
    let storage = read.map_err(|e| e.to_string())?.storage;
    let of_class = storage.retention_classes.into_iter().next().map_or(Vec::new(), |c| c.downsample);
    Ok((storage.downsample, of_class, storage.max_source_resolution))
}

#[test]
fn downsampling_is_read_with_the_ages_of_thanos() {
    let of = |resolution_ms, after: u64, days: u64| Downsample {
        resolution_ms,
        after_ms: after * 3_600_000,
        retention_ms: days * 86_400_000,
    };
    let raw = SourceResolution::Fixed(0);
    assert_eq!(downsampled(""), Ok((Vec::new(), Vec::new(), raw)));
    assert_eq!(downsampled("downsample: {}"), Ok((Vec::new(), Vec::new(), raw)));
    assert_eq!(
        downsampled("downsample: {1h: {retention: 5y}, 5m: {retention: 180d}, max_source_resolution: auto}"),
        Ok((vec![of(300_000, 40, 180), of(3_600_000, 240, 1825)], Vec::new(), SourceResolution::Auto))
    );
    let class = "retention_classes: [{selector: up, time: 1d, downsample: {5m: {after: 2h, retention: 9d}}}]";
    assert_eq!(downsampled(class), Ok((Vec::new(), vec![of(300_000, 2, 9)], raw)));
    let fixed = downsampled("downsample: {max_source_resolution: 5m}").map(|d| d.2);
    assert_eq!(fixed, Ok(SourceResolution::Fixed(300_000)));
}

#[test]
fn downsampling_that_cannot_be_is_refused_with_the_reason() {
    for (tsdb, want) in [
        ("downsample: {5m: {}}", "aggregates must have a 'retention' greater than 0"),
        ("downsample: {5m: {retention: 0s}}", "aggregates must have a 'retention' greater than 0"),
        ("downsample: {10m: {retention: 1d}}", "field 10m not found in type config.Downsample"),
        ("downsample: {5m: {after: soon, retention: 1d}}", "not a valid duration string"),
        ("downsample: {max_source_resolution: low}", "must be 'auto' or a duration such as 5m, got \"low\""),
        (
            "retention: {time: 40h}, downsample: {5m: {retention: 30d}}",
            "aggregates of 5m are made of what is 1d16h old, and then within 8h, but 'retention.time' of 1d16h lets that go before: raise it, or lower 'after'",
        ),
        (
            "downsample: {5m: {retention: 10d}, 1h: {retention: 1y}}",
            "but 'downsample.5m.retention' of 10d lets that go before",
        ),
        (
            "retention_classes: [{selector: up, time: 1d, downsample: {1h: {retention: 9d}}}]",
            "aggregates of 1h are made of what is 10d old, and then within 8h, but 'time' of 1d",
        ),
        (
            "retention_classes: [{selector: up, time: 1d, downsample: {max_source_resolution: auto}}]",
            "field max_source_resolution not found in type config.Downsample",
        ),
    ] {
        let have = downsampled(tsdb).expect_err(tsdb);
        assert!(have.contains(want), "{tsdb}: {have}");
    }
}
