//! One target: from the labels that discovery found to what is asked, when, and under which labels.

use model::labels::LabelsBuilder;
use model::quote::quoted;
use model::time::{format_duration, parse_duration};
use model::{Labels, relabel};

use crate::config::ScrapeConfig;
use crate::http::request::{push_path_escaped, push_query_escaped};
use crate::scrape::reading::HistogramWishes;

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const UNIX_SOCKET: &str = "__unix_socket__";
const PARAM_PREFIX: &str = "__param_";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";
const NATIVE_HISTOGRAMS: &str = "__scrape_native_histograms__";
const CONVERT_CLASSIC: &str = "__convert_classic_histograms_to_nhcb__";
const ALWAYS_CLASSIC: &str = "__always_scrape_classic_histograms__";

/// A target that is to be scraped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As samples carry them: without names that begin with `__`.
    pub labels: Labels,
    /// Before relabeling, as the API shows them.
    pub discovered: Labels,
    pub url: String,
    pub scheme: String,
    /// Host and port, as given.
    pub address: String,
    /// Path and query, as they stand in the request.
    pub path: String,
    pub unix_socket: Option<String>,
    pub interval_ms: i64,
    pub timeout_ms: i64,
    pub histograms: HistogramWishes,
    /// Of the labels after relabeling (but interval and timeout) and the URL: tells targets apart, and spreads them
    /// over shards and time.
    pub identity: u64,
}

/// What became of a target that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Scrape(Box<Target>),
    /// By a relabel rule; its labels before.
    Dropped(Labels),
}

impl Target {
    /// Applies the job's rules to a target found; an error names what makes it unusable.
    pub fn judge(config: &ScrapeConfig, found: &Labels, group: &Labels) -> Result<Verdict, String> {
        let mut labels = discovered(config, found, group);
        let before = labels.build();
        if !relabel::apply(&config.relabel, &mut labels) {
            return Ok(Verdict::Dropped(before));
        }
        let address = labels.value(ADDRESS).to_owned();
        if address.is_empty() {
            return Err("no address".to_owned());
        }
        if address.contains('/') {
            return Err(format!("{} is not a valid hostname", quoted(&address)));
        }
        let (interval_ms, timeout_ms) = schedule(&labels)?;
        let histograms = HistogramWishes {
            native: read_bool(&labels, NATIVE_HISTOGRAMS)?,
            convert_classic: read_bool(&labels, CONVERT_CLASSIC)?,
            always_classic: read_bool(&labels, ALWAYS_CLASSIC)?,
        };
        labels.retain(|name, _| !name.starts_with(META_PREFIX));
        if labels.value("instance").is_empty() {
            labels.set("instance", &address);
        }
        Ok(Verdict::Scrape(Box::new(Self::of(
            config,
            &labels.build(),
            before,
            address,
            (interval_ms, timeout_ms),
            histograms,
        ))))
    }

    fn of(
        config: &ScrapeConfig,
        all: &Labels,
        discovered: Labels,
        address: String,
        (interval_ms, timeout_ms): (i64, i64),
        histograms: HistogramWishes,
    ) -> Target {
        let scheme = all.value_or_empty(SCHEME).to_owned();
        let path = path_and_query(config, all);
        let bare = if path == "/" && all.value(METRICS_PATH).is_none() { "" } else { path.as_str() };
        let url = format!("{scheme}://{address}{bare}");
        // When a target is scraped does not make it another: its series go on without a gap.
        let timeless = all.retain(|l| l.name != INTERVAL && l.name != TIMEOUT);
        let identity = fnv64a(&format!("{:016}", timeless.xxh64()), &url);
        Target {
            labels: all.retain(|l| !l.name.starts_with(RESERVED_PREFIX)),
            discovered,
            unix_socket: all.value(UNIX_SOCKET).map(str::to_owned),
            url,
            scheme,
            address,
            path,
            interval_ms,
            timeout_ms,
            histograms,
            identity,
        }
    }

    /// The shard that scrapes it.
    pub fn shard(&self, shard_count: u16) -> u16 {
        model::SeriesHash(self.identity.wrapping_mul(0x9e37_79b9_7f4a_7c15)).shard(shard_count).0
    }
}

/// Group labels under the target's own, then the job's defaults where they say nothing.
pub fn discovered(config: &ScrapeConfig, found: &Labels, group: &Labels) -> LabelsBuilder {
    let mut labels = LabelsBuilder::from(group);
    for l in found {
        labels.set(l.name, l.value);
    }
    let histograms = &config.native_histograms;
    let defaults = [
        ("job", config.job_name.clone()),
        (INTERVAL, format_duration(config.interval_ms as i64)),
        (TIMEOUT, format_duration(config.timeout_ms as i64)),
        (METRICS_PATH, config.metrics_path.clone()),
        (SCHEME, config.scheme.text().to_owned()),
        (NATIVE_HISTOGRAMS, histograms.scrape.to_string()),
        (CONVERT_CLASSIC, histograms.convert_classic.to_string()),
        (ALWAYS_CLASSIC, histograms.always_scrape_classic.to_string()),
    ];
    for (name, value) in defaults {
        if labels.value(name).is_empty() {
            labels.set(name, &value);
        }
    }
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            let name = format!("{PARAM_PREFIX}{name}");
            if labels.value(&name).is_empty() {
                labels.set(&name, first);
            }
        }
    }
    labels
}

fn schedule(labels: &LabelsBuilder) -> Result<(i64, i64), String> {
    let read = |name: &str, word: &str| {
        let ms =
            parse_duration(labels.value(name)).map_err(|e| format!("error parsing scrape {word}: {e}"))?;
        if ms == 0 { Err(format!("scrape {word} cannot be 0")) } else { Ok(ms) }
    };
    let interval = read(INTERVAL, "interval")?;
    let timeout = read(TIMEOUT, "timeout")?;
    if timeout > interval {
        let (t, i) = (quoted(labels.value(TIMEOUT)), quoted(labels.value(INTERVAL)));
        return Err(format!("scrape timeout cannot be greater than scrape interval ({t} > {i})"));
    }
    Ok((interval, timeout))
}

/// The words of Go's `strconv.ParseBool`.
fn read_bool(labels: &LabelsBuilder, name: &str) -> Result<bool, String> {
    let value = labels.value(name);
    let what = match name {
        NATIVE_HISTOGRAMS => "scrape native histograms",
        CONVERT_CLASSIC => "convert classic histograms to nhcb",
        _ => "always scrape classic histograms",
    };
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => {
            Err(format!("error parsing {what}: strconv.ParseBool: parsing {}: invalid syntax", quoted(value)))
        }
    }
}

fn path_and_query(config: &ScrapeConfig, labels: &Labels) -> String {
    let mut out = String::new();
    let path = labels.value_or_empty(METRICS_PATH);
    if !path.starts_with('/') {
        out.push('/');
    }
    push_path_escaped(&mut out, path);
    let mut params: Vec<(String, Vec<String>)> = config.params.clone();
    for l in labels {
        let Some(name) = l.name.strip_prefix(PARAM_PREFIX) else { continue };
        match params.iter_mut().find(|(n, _)| n == name) {
            Some((_, values)) if !values.is_empty() => values[0] = l.value.to_owned(),
            Some((_, values)) => values.push(l.value.to_owned()),
            None => params.push((name.to_owned(), vec![l.value.to_owned()])),
        }
    }
    params.sort();
    let mut between = '?';
    for (name, values) in &params {
        for value in values {
            out.push(between);
            between = '&';
            push_query_escaped(&mut out, name);
            out.push('=');
            push_query_escaped(&mut out, value);
        }
    }
    out
}

fn fnv64a(a: &str, b: &str) -> u64 {
    a.bytes()
        .chain(b.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::http_client::HttpClient;
    use crate::config::scrape::{NameEscaping, NativeHistograms, Scheme, ScrapeProtocol};
    use model::NameScheme;
    use model::relabel::{Action, Rule, RuleText};

    pub(crate) fn config() -> ScrapeConfig {
        ScrapeConfig {
            job_name: "node".into(),
            interval_ms: 15_000,
            timeout_ms: 10_000,
            scheme: Scheme::Http,
            metrics_path: "/metrics".into(),
            params: vec![],
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            enable_compression: true,
            protocols: ScrapeProtocol::DEFAULT.to_vec(),
            fallback_protocol: None,
            limits: Default::default(),
            native_histograms: NativeHistograms::default(),
            extra_scrape_metrics: false,
            keeps_partial: false,
            name_scheme: NameScheme::Utf8,
            name_escaping: NameEscaping::AllowUtf8,
            failure_log_file: None,
            relabel: [].into(),
            metric_relabel: [].into(),
            static_groups: vec![],
            http: HttpClient::default(),
        }
    }

    pub(crate) fn target(config: &ScrapeConfig, labels: &[(&str, &str)]) -> Target {
        let found = Labels::from_pairs(labels.iter().copied());
        match Target::judge(config, &found, &Labels::empty()) {
            Ok(Verdict::Scrape(t)) => *t,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_has_its_jobs_defaults() {
        let t = target(&config(), &[("__address__", "h:9100"), ("__meta_x", "y"), ("rack", "7")]);
        assert_eq!(t.labels.to_string(), r#"{instance="h:9100", job="node", rack="7"}"#);
        assert_eq!((t.url.as_str(), t.path.as_str()), ("http://h:9100/metrics", "/metrics"));
        assert_eq!((t.interval_ms, t.timeout_ms), (15_000, 10_000));
        assert_eq!(t.discovered.value("__meta_x"), Some("y"));
        assert_eq!(t.discovered.value("__scrape_interval__"), Some("15s"));
    }

    #[test]
    fn another_interval_does_not_make_another_target() {
        let with = |labels: &[(&str, &str)]| target(&config(), labels).identity;
        let at = ("__address__", "h");
        assert_eq!(with(&[at]), with(&[at, ("__scrape_interval__", "20s")]));
        assert_ne!(with(&[at]), with(&[at, ("__metrics_path__", "/m")]));
        assert_ne!(with(&[at]), with(&[at, ("rack", "1")]));
    }

    #[test]
    fn parameters_come_from_the_job_and_labels() {
        let mut c = config();
        c.params =
            vec![("collect[]".into(), vec!["cpu".into(), "a b".into()]), ("module".into(), vec!["x".into()])];
        let t = target(&c, &[("__address__", "h:1"), ("__param_module", "tcp"), ("__param_z", "1")]);
        assert_eq!(t.path, "/metrics?collect%5B%5D=cpu&collect%5B%5D=a+b&module=tcp&z=1");
        assert_eq!(t.url, format!("http://h:1{}", t.path));
    }

    #[test]
    fn unusable_targets_say_why() {
        let check = |labels: &[(&str, &str)], want: &str| {
            let found = Labels::from_pairs(labels.iter().copied());
            let got = Target::judge(&config(), &found, &Labels::empty());
            assert_eq!(got, Err(want.to_owned()));
        };
        check(&[("a", "b")], "no address");
        check(&[("__address__", "h/x")], "\"h/x\" is not a valid hostname");
        let at = ("__address__", "h");
        check(&[at, ("__scrape_interval__", "0s")], "scrape interval cannot be 0");
        check(
            &[at, ("__scrape_timeout__", "x")],
            "error parsing scrape timeout: not a valid duration string: \"x\"",
        );
        check(
            &[at, ("__scrape_interval__", "1s"), ("__scrape_timeout__", "2s")],
            "scrape timeout cannot be greater than scrape interval (\"2s\" > \"1s\")",
        );
        check(
            &[at, (CONVERT_CLASSIC, "maybe")],
            "error parsing convert classic histograms to nhcb: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        );
    }

    #[test]
    fn relabeling_drops_and_rewrites() {
        let rule = |text: RuleText| Rule::new(text, NameScheme::Utf8).unwrap();
        let mut c = config();
        c.relabel = [
            rule(RuleText {
                source_labels: vec!["off".into()],
                regex: Some("1".into()),
                action: Action::Drop,
                ..Default::default()
            }),
            rule(RuleText {
                replacement: "https".into(),
                target_label: "__scheme__".into(),
                ..Default::default()
            }),
        ]
        .into();
        let found = Labels::from_pairs([("__address__", "h"), ("off", "1")]);
        assert!(matches!(Target::judge(&c, &found, &Labels::empty()), Ok(Verdict::Dropped(_))));
        assert_eq!(target(&c, &[("__address__", "h")]).url, "https://h/metrics");
    }
}
