//! The labels of a sample: its own, its target's, what the rules make of both, and the limits they must keep.

use std::borrow::Cow;

use exposition::key::{self, KeyError, SampleLabels};
use exposition::text::MetricKind;
use model::labels::{Label, LabelsBuilder, METRIC_NAME};
use model::quote::quoted;
use model::{Labels, relabel};

use crate::config::ScrapeConfig;
use crate::scrape::Error;

const TYPE: &str = "__type__";
const UNIT: &str = "__unit__";
const EXPORTED_PREFIX: &str = "exported_";
/// `%.50s`: how much of a name an error shows.
const SHOWN_CHARS: usize = 50;

/// What a sample's own labels are made of.
#[derive(Clone, Copy)]
pub struct Naming<'a> {
    pub key: &'a [u8],
    pub kind: MetricKind,
    pub unit: &'a str,
    /// Type and unit are labels, too.
    pub types: bool,
}

/// Type and unit as labels; what the page itself says under these names does not count.
fn add_types<'a>(own: &mut SampleLabels<'a>, naming: Naming<'a>) {
    own.retain(|(name, _)| name != TYPE && name != UNIT);
    if naming.kind != MetricKind::Unknown {
        own.push((TYPE.into(), naming.kind.as_str().into()));
    }
    if !naming.unit.is_empty() {
        own.push((UNIT.into(), naming.unit.into()));
    }
}

/// The series that a key stands for; `None` where the rules drop it.
pub fn series_labels(
    config: &ScrapeConfig,
    target: &Labels,
    naming: Naming<'_>,
) -> Result<Option<Labels>, Error> {
    let mut own = key::decode(naming.key, naming.kind).map_err(|e| match e {
        KeyError::NotUtf8(_) | KeyError::NotASeries(_) => Error::Page(e.to_string()),
    })?;
    if naming.types {
        add_types(&mut own, naming);
    }
    if let Some(twice) = repeated_name(&own) {
        return Err(Error::Page(format!("label name \"{twice}\" is not unique: invalid sample")));
    }
    let mut labels = beside_target(&own, target, config.honor_labels);
    if !relabel::apply(&config.metric_relabel, &mut labels) {
        return Ok(None);
    }
    let labels = labels.build();
    if labels.is_empty() {
        return Ok(None);
    }
    check_names(config, &labels)?;
    check_limits(config, &labels)?;
    Ok(Some(labels))
}

/// The labels of `up` and its siblings.
pub fn report_labels(target: &Labels, name: &str) -> Labels {
    target.with(METRIC_NAME, name)
}

fn repeated_name<'a>(own: &'a SampleLabels<'_>) -> Option<&'a str> {
    let is_before = |i: usize, name: &str| own[..i].iter().any(|(n, _)| n == name);
    own.iter().enumerate().find(|(i, (name, _))| is_before(*i, name)).map(|(_, (name, _))| name.as_ref())
}

fn beside_target(own: &SampleLabels<'_>, target: &Labels, honor: bool) -> LabelsBuilder {
    let own_value = |name: &str| own.iter().find(|(n, _)| n == name).map(|(_, v)| v);
    let mut labels = LabelsBuilder::new();
    for (name, value) in own {
        labels.set(name, value);
    }
    let mut conflicts: Vec<(&str, &Cow<'_, str>)> = Vec::new();
    for Label { name, value } in target {
        let exposed = own_value(name);
        if honor && exposed.is_some() {
            // An empty value counts here: it says that the series shall not have the label.
            continue;
        }
        if let Some(exposed) = exposed.filter(|v| !v.is_empty()) {
            conflicts.push((name, exposed));
        }
        labels.set(name, value);
    }
    conflicts.sort_by_key(|(name, _)| name.len());
    for (name, value) in conflicts {
        let mut free = format!("{EXPORTED_PREFIX}{name}");
        while labels.contains(&free) {
            free.insert_str(0, EXPORTED_PREFIX);
        }
        labels.set(&free, value);
    }
    labels
}

fn check_names(config: &ScrapeConfig, labels: &Labels) -> Result<(), Error> {
    let Some(metric) = labels.metric_name() else {
        return Err(Error::Page("missing metric name (__name__ label)".to_owned()));
    };
    let scheme = config.name_scheme;
    if scheme.is_metric_name(metric) && labels.iter().all(|l| scheme.is_label_name(l.name)) {
        return Ok(());
    }
    Err(Error::Page(format!("invalid metric name or label names: {labels}")))
}

fn check_limits(config: &ScrapeConfig, labels: &Labels) -> Result<(), Error> {
    let limits = &config.limits;
    if limits.labels == 0 && limits.label_name_bytes == 0 && limits.label_value_bytes == 0 {
        return Ok(());
    }
    let metric = shown(labels.metric_name().unwrap_or_default());
    let over = |n: usize, limit: u64| limit > 0 && n as u64 > limit;
    let count = labels.len();
    if over(count, limits.labels) {
        let limit = limits.labels;
        return Err(Error::LabelLimit(format!(
            "label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})"
        )));
    }
    for Label { name, value } in labels {
        let label = shown(name);
        if over(name.len(), limits.label_name_bytes) {
            let (length, limit) = (name.len(), limits.label_name_bytes);
            return Err(Error::LabelLimit(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {label}, length: {length}, \
                 limit: {limit})"
            )));
        }
        if over(value.len(), limits.label_value_bytes) {
            let (length, limit, value) = (value.len(), limits.label_value_bytes, quoted(shown(value)));
            return Err(Error::LabelLimit(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {label}, value: {value}, \
                 length: {length}, limit: {limit})"
            )));
        }
    }
    Ok(())
}

fn shown(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARS).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::target::tests::config;
    use model::NameScheme;
    use model::relabel::{Action, Rule, RuleText};

    fn check(config: &ScrapeConfig, key: &str, want: &str) {
        let target = Labels::from_pairs([("instance", "i"), ("job", "j"), ("exported_job", "e")]);
        let naming = Naming { key: key.as_bytes(), kind: MetricKind::Unknown, unit: "", types: false };
        let got = match series_labels(config, &target, naming) {
            Ok(Some(l)) => l.to_string(),
            Ok(None) => "dropped".to_owned(),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, want, "{key}");
    }

    #[test]
    fn the_target_wins_unless_its_samples_are_honored() {
        let mut c = config();
        check(&c, "a{x=\"1\"}", r#"{__name__="a", exported_job="e", instance="i", job="j", x="1"}"#);
        check(
            &c,
            "a{job=\"mine\",exported_job=\"k\",instance=\"\"}",
            r#"{__name__="a", exported_exported_exported_job="k", exported_exported_job="mine", exported_job="e", instance="i", job="j"}"#,
        );
        c.honor_labels = true;
        check(&c, "a{job=\"mine\",instance=\"\"}", r#"{__name__="a", exported_job="e", job="mine"}"#);
    }

    #[test]
    fn rules_drop_and_names_are_checked() {
        let mut c = config();
        check(&c, "a{x=\"1\",x=\"2\"}", "label name \"x\" is not unique: invalid sample");
        let rule = |text| Rule::new(text, NameScheme::Utf8).unwrap();
        let drop = RuleText {
            source_labels: vec!["__name__".into()],
            regex: Some("go_.*".into()),
            action: Action::Drop,
            ..Default::default()
        };
        let unname = RuleText {
            source_labels: vec!["__name__".into()],
            regex: Some("bad".into()),
            target_label: "__name__".into(),
            replacement: String::new(),
            ..Default::default()
        };
        c.metric_relabel = [rule(drop), rule(unname)].into();
        check(&c, "go_threads", "dropped");
        check(&c, "bad", "missing metric name (__name__ label)");
        c.name_scheme = NameScheme::Legacy;
        check(
            &c,
            "{\"a.b\"}",
            r#"invalid metric name or label names: {__name__="a.b", exported_job="e", instance="i", job="j"}"#,
        );
    }

    #[test]
    fn limits_are_worded_as_prometheus_words_them() {
        let mut c = config();
        c.limits.labels = 4;
        check(&c, "a{x=\"1\"}", "label_limit exceeded (metric: a, number of labels: 5, limit: 4)");
        c.limits.labels = 0;
        c.limits.label_name_bytes = 12;
        check(
            &c,
            "a{much_too_long=\"1\"}",
            "label_name_length_limit exceeded (metric: a, label name: much_too_long, length: 13, limit: 12)",
        );
        c.limits.label_name_bytes = 0;
        c.limits.label_value_bytes = 60;
        let long = "y".repeat(61);
        let cut = "y".repeat(50);
        check(
            &c,
            &format!("a{{x=\"{long}\"}}"),
            &format!(
                "label_value_length_limit exceeded (metric: a, label name: x, value: \"{cut}\", length: 61, limit: 60)"
            ),
        );
    }
}
