//! From checked sections to the plain data that other rooms read.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use model::time::parse_duration;
use model::{Labels, TargetGroup};

use super::error::Problem;
use super::http_client::{Auth, Given, HeaderValues, HttpClient, OAuth2, Proxy, Secret, Tls};
use super::schema::{Block, Kind, Value};
use super::scrape::{NameEscaping, NativeHistograms, Scheme, ScrapeConfig, ScrapeLimits, ScrapeProtocol};
use super::table::scrape::{rules, scheme_of};
use super::table::storage::{OTLP, RESOLUTION_NAMES, matchers_of, selector_text};
use super::{
    Downsample, Global, Otlp, RESOLUTIONS_MS, Retention, RetentionClass, SourceResolution, Storage,
    Translation,
};

/// Makes the paths of a section relative to where the process stands, not to the file they were written in.
pub(super) fn resolve_paths(block: &mut Block, dir: &Path) {
    for (field, value) in block.values_mut() {
        match value {
            Value::Text(path) if matches!(field.kind, Kind::Path) => *path = join(dir, path),
            Value::Texts(paths) if matches!(field.kind, Kind::Paths) => {
                paths.iter_mut().for_each(|p| *p = join(dir, p));
            }
            Value::Section(inner) => resolve_paths(inner, dir),
            Value::Sections(all) => all.iter_mut().for_each(|b| resolve_paths(b, dir)),
            Value::SectionMap(all) => all.iter_mut().for_each(|(_, b)| resolve_paths(b, dir)),
            _ => {}
        }
    }
}

/// `dir/path` without `.` and `..`, as Go's `filepath.Join`; empty and absolute paths stay.
pub(super) fn join(dir: &Path, path: &str) -> String {
    if path.is_empty() || path.starts_with('/') {
        return path.to_owned();
    }
    let mut clean = PathBuf::new();
    for part in dir.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean.to_string_lossy().into_owned()
}

pub(super) fn global(block: &Block) -> Global {
    Global {
        scrape_interval_ms: block.uint("scrape_interval"),
        scrape_timeout_ms: block.uint("scrape_timeout"),
        evaluation_interval_ms: block.uint("evaluation_interval"),
        rule_query_offset_ms: block.uint("rule_query_offset"),
        query_log_file: path(block, "query_log_file"),
        external_labels: Labels::from_pairs(block.text_map("external_labels").iter().cloned()),
        name_scheme: scheme_of(block),
    }
}

pub(super) fn storage(root: &Block) -> Storage {
    let storage = root.section("storage");
    let tsdb = storage.and_then(|s| s.section("tsdb"));
    let retention = tsdb.and_then(|t| t.section("retention")).map(|r| Retention {
        time_ms: r.uint("time"),
        bytes: r.uint("size"),
        percentage: r.float("percentage"),
    });
    Storage {
        out_of_order_window_ms: tsdb.map_or(0, |t| t.uint("out_of_order_time_window")),
        retention,
        retention_classes: tsdb
            .map_or(&[][..], |t| t.sections("retention_classes"))
            .iter()
            .map(class)
            .collect(),
        downsample: downsample(tsdb),
        max_source_resolution: max_source_resolution(tsdb),
        exemplars_max: storage.and_then(|s| s.section("exemplars")).map(|e| e.int("max_exemplars")),
    }
}

/// One that was checked where it was read.
fn class(block: &Block) -> RetentionClass {
    let matchers = matchers_of(block.text("selector")).unwrap_or_default();
    RetentionClass {
        selector: selector_text(&matchers),
        matchers,
        time_ms: block.uint("time"),
        downsample: downsample(Some(block)),
    }
}

/// What `downsample` of a section says, the finest first.
fn downsample(block: Option<&Block>) -> Vec<Downsample> {
    let Some(section) = block.and_then(|b| b.section("downsample")) else { return Vec::new() };
    let of = |(name, resolution): (&str, i64)| {
        let block = section.section(name)?;
        let resolution_ms = resolution.unsigned_abs();
        Some(Downsample {
            resolution_ms,
            after_ms: block.uint("after"),
            retention_ms: block.uint("retention"),
        })
    };
    RESOLUTION_NAMES.into_iter().zip(RESOLUTIONS_MS).filter_map(of).collect()
}

/// Checked where it was read.
fn max_source_resolution(tsdb: Option<&Block>) -> SourceResolution {
    let text = tsdb.and_then(|t| t.section("downsample")).map_or("", |d| d.text("max_source_resolution"));
    match text {
        "auto" => SourceResolution::Auto,
        text => SourceResolution::Fixed(parse_duration(text).map_or(0, i64::unsigned_abs)),
    }
}

pub(super) fn otlp(root: &Block) -> Otlp {
    let default = Block::new(&OTLP, None);
    let block = root.section("otlp").unwrap_or(&default);
    // Checked where the section was read.
    let strategy = match block.text("translation_strategy") {
        "UnderscoreEscapingWithoutSuffixes" => Translation::EscapingWithoutSuffixes,
        "NoUTF8EscapingWithSuffixes" => Translation::Utf8WithSuffixes,
        "NoTranslation" => Translation::None,
        _ => Translation::EscapingWithSuffixes,
    };
    Otlp {
        strategy,
        promotes_all: block.is_true("promote_all_resource_attributes"),
        promoted_attributes: block.texts("promote_resource_attributes").to_vec(),
        ignored_attributes: block.texts("ignore_resource_attributes").to_vec(),
        keeps_identifying: block.is_true("keep_identifying_resource_attributes"),
        converts_to_nhcb: block.is_true("convert_histograms_to_nhcb"),
        promotes_scope: block.is_true("promote_scope_metadata"),
        sanitizes_underscore: block.is_true("label_name_underscore_sanitization"),
        preserves_underscores: block.is_true("label_name_preserve_multiple_underscores"),
    }
}

fn path(block: &Block, key: &str) -> Option<PathBuf> {
    Some(block.text(key)).filter(|p| !p.is_empty()).map(PathBuf::from)
}

pub(super) fn scrape(block: &Block) -> Result<ScrapeConfig, Problem> {
    let name_scheme = scheme_of(block);
    let protocols = block.texts("scrape_protocols").iter().filter_map(|p| ScrapeProtocol::parse(p));
    let scheme = match block.text("scheme") {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => {
            let text = format!("unknown scheme {}", model::quote::quoted(other));
            return Err(block.problem("scheme", text).allow(["http", "https"]));
        }
    };
    Ok(ScrapeConfig {
        job_name: block.text("job_name").to_owned(),
        interval_ms: block.uint("scrape_interval"),
        timeout_ms: block.uint("scrape_timeout"),
        scheme,
        metrics_path: block.text("metrics_path").to_owned(),
        params: block.list_map("params").to_vec(),
        honor_labels: block.is_true("honor_labels"),
        honor_timestamps: block.is_true("honor_timestamps"),
        track_timestamps_staleness: block.is_true("track_timestamps_staleness"),
        enable_compression: block.is_true("enable_compression"),
        protocols: protocols.collect(),
        fallback_protocol: ScrapeProtocol::parse(block.text("fallback_scrape_protocol")),
        limits: limits(block),
        native_histograms: NativeHistograms {
            scrape: block.is_true("scrape_native_histograms"),
            convert_classic: block.is_true("convert_classic_histograms_to_nhcb"),
            always_scrape_classic: block.is_true("always_scrape_classic_histograms"),
            min_bucket_factor: block.float("native_histogram_min_bucket_factor"),
        },
        extra_scrape_metrics: block.is_true("extra_scrape_metrics"),
        keeps_partial: block.is_true("scrape_partial"),
        name_scheme,
        name_escaping: NameEscaping::parse(block.text("metric_name_escaping_scheme"))
            .unwrap_or(NameEscaping::AllowUtf8),
        failure_log_file: path(block, "scrape_failure_log_file"),
        relabel: Arc::from(rules(block, "relabel_configs", name_scheme)?),
        metric_relabel: Arc::from(rules(block, "metric_relabel_configs", name_scheme)?),
        static_groups: static_groups(block),
        http: http_client(block),
    })
}

fn limits(block: &Block) -> ScrapeLimits {
    ScrapeLimits {
        body_bytes: block.uint("body_size_limit"),
        samples: block.uint("sample_limit"),
        targets: block.uint("target_limit"),
        labels: block.uint("label_limit"),
        label_name_bytes: block.uint("label_name_length_limit"),
        label_value_bytes: block.uint("label_value_length_limit"),
        kept_dropped_targets: block.uint("keep_dropped_targets"),
        native_histogram_buckets: block.uint("native_histogram_bucket_limit"),
    }
}

fn static_groups(block: &Block) -> Vec<TargetGroup> {
    let groups = block.sections("static_configs").iter().enumerate();
    groups
        .map(|(i, group)| TargetGroup {
            targets: group
                .texts("targets")
                .iter()
                .map(|t| Labels::from_pairs([("__address__", t)]))
                .collect(),
            labels: Labels::from_pairs(group.text_map("labels").iter().cloned()),
            source: i.to_string(),
        })
        .collect()
}

fn given<T>(block: &Block, name: &str, make: fn(String) -> T) -> Option<Given<T>> {
    let inline = block.text(name);
    if !inline.is_empty() {
        return Some(Given::Inline(make(inline.to_owned())));
    }
    path(block, &format!("{name}_file")).map(Given::File)
}

fn http_client(block: &Block) -> HttpClient {
    HttpClient {
        auth: auth(block),
        tls: block.section("tls_config").map(tls).unwrap_or_default(),
        proxy: proxy(block),
        follow_redirects: block.is_true("follow_redirects"),
        enable_http2: block.is_true("enable_http2"),
        headers: block.section_map("http_headers").iter().map(|(n, h)| (n.clone(), header(h))).collect(),
    }
}

fn auth(block: &Block) -> Option<Auth> {
    if let Some(basic) = block.section("basic_auth") {
        return Some(Auth::Basic {
            username: given(basic, "username", |t| t).unwrap_or(Given::Inline(String::new())),
            password: given(basic, "password", Secret).unwrap_or(Given::Inline(Secret::default())),
        });
    }
    if let Some(header) = block.section("authorization") {
        return Some(Auth::Header {
            kind: header.text("type").to_owned(),
            credentials: given(header, "credentials", Secret).unwrap_or(Given::Inline(Secret::default())),
        });
    }
    let oauth2 = block.section("oauth2")?;
    Some(Auth::OAuth2(Box::new(OAuth2 {
        client_id: oauth2.text("client_id").to_owned(),
        client_secret: given(oauth2, "client_secret", Secret).unwrap_or(Given::Inline(Secret::default())),
        scopes: oauth2.texts("scopes").to_vec(),
        token_url: oauth2.text("token_url").to_owned(),
        endpoint_params: oauth2.text_map("endpoint_params").to_vec(),
        tls: oauth2.section("tls_config").map(tls).unwrap_or_default(),
        proxy: proxy(oauth2),
    })))
}

fn tls(block: &Block) -> Tls {
    let version = |key: &str| Some(block.text(key).to_owned()).filter(|v| !v.is_empty());
    Tls {
        ca: given(block, "ca", |t| t),
        cert: given(block, "cert", |t| t),
        key: given(block, "key", Secret),
        server_name: block.text("server_name").to_owned(),
        insecure_skip_verify: block.is_true("insecure_skip_verify"),
        min_version: version("min_version"),
        max_version: version("max_version"),
    }
}

fn proxy(block: &Block) -> Proxy {
    let secrets =
        |(name, texts): &(String, Vec<String>)| (name.clone(), texts.iter().cloned().map(Secret).collect());
    Proxy {
        url: Some(block.text("proxy_url").to_owned()).filter(|u| !u.is_empty()),
        no_proxy: block.text("no_proxy").to_owned(),
        from_environment: block.is_true("proxy_from_environment"),
        connect_headers: block.list_map("proxy_connect_header").iter().map(secrets).collect(),
    }
}

fn header(block: &Block) -> HeaderValues {
    HeaderValues {
        values: block.texts("values").to_vec(),
        secrets: block.texts("secrets").iter().cloned().map(Secret).collect(),
        files: block.texts("files").iter().map(PathBuf::from).collect(),
    }
}
