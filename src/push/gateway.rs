//! The push gateway: groups of samples that jobs leave behind when they end.
//!
//! A group stays as it was pushed and is said again at every turn, with the turn's time, until it is replaced or
//! deleted: a job that ran at night is seen in the morning. Series that leave a group are ended with a stale marker.
//! Groups outlive a restart: see [`Gateway::encode`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use exposition::flat::FlatValue;
use exposition::protobuf::{self, Wishes};
use exposition::remote_write_build::RequestBuilder;
use exposition::text::{Event, MetricKind};
use exposition::{FlatPage, Parser, base64, key};
use model::labels::METRIC_NAME;
use model::quote::quoted;
use model::{Labels, LabelsBuilder, NameScheme, STALE_NAN, Timestamp};

use crate::push::Error;

mod image; // groups as bytes

/// Bytes of labels that all groups hold: some 300 000 series.
const BYTES_MAX: usize = 64 << 20;

/// What a sample costs beside its labels' bytes.
const SAMPLE_BYTES: usize = 64;

/// What names a group: `job` and the other labels of its path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey(Labels);

impl GroupKey {
    /// From the path behind `/metrics/`, still escaped: `job/NAME{/LABEL/VALUE}`, a label's name with `@base64` where its
    /// value is written so.
    pub fn parse(path: &str, unescape: impl Fn(&str) -> String) -> Result<GroupKey, Error> {
        let bad = |text: String| Err(Error::Bad(text));
        let parts: Vec<&str> = path.split('/').collect();
        if !parts.len().is_multiple_of(2) {
            return bad(format!("odd number of components in label string {}", quoted(path)));
        }
        let mut labels = LabelsBuilder::new();
        for (i, pair) in parts.chunks_exact(2).enumerate() {
            let (name, value) = (unescape(pair[0]), unescape(pair[1]));
            let (name, value) = match name.strip_suffix("@base64") {
                Some(name) => {
                    let bytes = base64::from_base64(&value).and_then(|b| String::from_utf8(b).ok());
                    match bytes {
                        Some(text) => (name.to_owned(), text),
                        None => {
                            return bad(format!(
                                "invalid base64 encoding for label {name}={}",
                                quoted(&value)
                            ));
                        }
                    }
                }
                None => (name, value),
            };
            if (i == 0) != (name == "job") || (i == 0 && value.is_empty()) {
                return bad("job name is required".to_owned());
            }
            if !NameScheme::Utf8.is_label_name(&name) || name.starts_with("__") {
                return bad(format!("improper label name {}", quoted(&name)));
            }
            labels.set(&name, &value);
        }
        Ok(GroupKey(labels.build()))
    }

    pub fn labels(&self) -> &Labels {
        &self.0
    }
}

#[derive(Debug, Default)]
struct Group {
    /// Samples by the family they belong to.
    families: BTreeMap<String, Vec<(Labels, f64)>>,
    pushed_ms: Timestamp,
    failed_ms: Timestamp,
    bytes: usize,
}

/// Whether a push takes the place of the whole group or only of the families it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    Group,
    Families,
}

/// What was pushed, unpacked.
#[derive(Clone, Copy, Debug)]
pub enum Page<'p> {
    Text(&'p [u8]),
    /// Delimited families. Of histograms the classic buckets are taken.
    Protobuf(&'p [u8]),
}

#[derive(Debug, Default)]
pub struct Gateway {
    groups: BTreeMap<GroupKey, Group>,
    bytes: usize,
    has_changed: bool,
}

impl Gateway {
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something changed since this was last asked.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    pub fn note_change(&mut self) {
        self.has_changed = true;
    }

    /// Takes what was pushed; returns the request that says it: the group as it is now, and the end of what left it.
    pub fn push(
        &mut self,
        key: &GroupKey,
        push: Push,
        page: Page<'_>,
        now: Timestamp,
    ) -> Result<Vec<u8>, Error> {
        self.has_changed = true;
        let families = match read(page, key) {
            Ok(families) => families,
            Err(e) => {
                self.fail(key, now);
                return Err(e);
            }
        };
        let is_replaced = |name: &String| push == Push::Group || families.contains_key(name);
        let held = self.groups.get(key);
        let before = held.map_or(0, |g| g.bytes);
        let staying = held.iter().flat_map(|g| &g.families).filter(|(name, _)| !is_replaced(name));
        let bytes = bytes_of(staying.map(|(_, s)| s)) + bytes_of(families.values()) + bytes_of_key(key);
        if self.bytes - before + bytes > BYTES_MAX {
            self.fail(key, now);
            return Err(Error::Bad(format!("the groups would hold more than {BYTES_MAX} bytes")));
        }
        let mut group = self.groups.remove(key).unwrap_or_default();
        let mut left = Vec::new();
        for (name, samples) in std::mem::take(&mut group.families) {
            match is_replaced(&name) {
                true => left.extend(samples),
                false => drop(group.families.insert(name, samples)),
            }
        }
        group.families.extend(families);
        group.pushed_ms = now;
        group.bytes = bytes;
        self.bytes = self.bytes - before + bytes;
        let stays: hashbrown::HashSet<&Labels> =
            group.families.values().flatten().map(|(labels, _)| labels).collect();
        let mut out = RequestBuilder::default();
        for (labels, _) in left.iter().filter(|(labels, _)| !stays.contains(labels)) {
            out.float(labels.iter().map(|l| (l.name, l.value)), now, STALE_NAN);
        }
        say(key, &group, now, &mut out);
        drop(stays);
        self.groups.insert(key.clone(), group);
        Ok(out.into_bytes())
    }

    /// Removes a group; returns the request that ends its series.
    pub fn delete(&mut self, key: &GroupKey, now: Timestamp) -> Vec<u8> {
        let mut out = RequestBuilder::default();
        if let Some(group) = self.groups.remove(key) {
            self.has_changed = true;
            self.bytes -= group.bytes;
            let times = times_of(key, &group).into_iter().map(|(labels, _)| labels);
            for labels in group.families.into_values().flatten().map(|(labels, _)| labels).chain(times) {
                out.float(labels.iter().map(|l| (l.name, l.value)), now, STALE_NAN);
            }
        }
        out.into_bytes()
    }

    /// All groups, said again at `now`. Empty where there are none.
    pub fn say_all(&self, now: Timestamp) -> Vec<u8> {
        let mut out = RequestBuilder::default();
        self.groups.iter().for_each(|(key, group)| say(key, group, now, &mut out));
        out.into_bytes()
    }

    /// A push failed: its group is there from now on, to tell so.
    fn fail(&mut self, key: &GroupKey, now: Timestamp) {
        match self.groups.entry(key.clone()) {
            Entry::Occupied(mut group) => group.get_mut().failed_ms = now,
            Entry::Vacant(entry) => {
                let bytes = bytes_of_key(key);
                if self.bytes + bytes <= BYTES_MAX {
                    self.bytes += bytes;
                    entry.insert(Group { failed_ms: now, bytes, ..Group::default() });
                }
            }
        }
    }
}

fn bytes_of<'a>(families: impl Iterator<Item = &'a Vec<(Labels, f64)>>) -> usize {
    families.flatten().map(|(labels, _)| labels.bytes().len() + SAMPLE_BYTES).sum()
}

fn bytes_of_key(key: &GroupKey) -> usize {
    key.0.bytes().len() + SAMPLE_BYTES
}

fn times_of(key: &GroupKey, group: &Group) -> [(Labels, f64); 2] {
    let named = |name: &str, ms: Timestamp| (key.0.with(METRIC_NAME, name), ms as f64 / 1e3);
    [named("push_time_seconds", group.pushed_ms), named("push_failure_time_seconds", group.failed_ms)]
}

fn say(key: &GroupKey, group: &Group, now: Timestamp, out: &mut RequestBuilder) {
    for (labels, value) in group.families.values().flatten() {
        out.float(labels.iter().map(|l| (l.name, l.value)), now, *value);
    }
    for (labels, value) in times_of(key, group) {
        out.float(labels.iter().map(|l| (l.name, l.value)), now, value);
    }
}

type Families = BTreeMap<String, Vec<(Labels, f64)>>;

/// Samples of a page by family, with the group's labels in place of their own.
fn read(page: Page<'_>, key: &GroupKey) -> Result<Families, Error> {
    let mut reading = Reading { key, families: Families::new(), seen: hashbrown::HashSet::new(), bytes: 0 };
    match page {
        Page::Text(page) => reading.text(page)?,
        Page::Protobuf(page) => reading.protobuf(page)?,
    }
    Ok(reading.families)
}

/// A page under way.
struct Reading<'k> {
    key: &'k GroupKey,
    families: Families,
    seen: hashbrown::HashSet<Labels>,
    bytes: usize,
}

fn malformed(e: &dyn std::fmt::Display) -> Error {
    Error::Bad(format!("text format parsing error: {e}"))
}

impl Reading<'_> {
    fn text(&mut self, page: &[u8]) -> Result<(), Error> {
        let (mut parser, mut family) = (Parser::new(page), (String::new(), MetricKind::Unknown));
        while let Some(event) = parser.next_event().map_err(|e| malformed(&e))? {
            match event {
                Event::Type { name, kind } => family = (String::from_utf8_lossy(name).into_owned(), kind),
                Event::Sample(s) => {
                    self.sample((&family.0, family.1), s.key, s.value, s.timestamp.is_some())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn protobuf(&mut self, page: &[u8]) -> Result<(), Error> {
        let mut flat = FlatPage::default();
        protobuf::read(page, Wishes::default(), &mut flat).map_err(|e| Error::Bad(e.to_string()))?;
        for s in &flat.samples {
            let FlatValue::Float(value) = s.value else { continue };
            let family = flat.family(s.family).map_or(("", s.kind), |f| (f.name.as_str(), f.kind));
            self.sample(family, flat.text(&s.key), value, s.timestamp.is_some())?;
        }
        Ok(())
    }

    fn sample(
        &mut self,
        (family, kind): (&str, MetricKind),
        raw: &[u8],
        value: f64,
        has_timestamp: bool,
    ) -> Result<(), Error> {
        if has_timestamp {
            return Err(Error::Bad("pushed metrics must not have timestamps".to_owned()));
        }
        let decoded = key::decode(raw, MetricKind::Unknown).map_err(|e| malformed(&e))?;
        let mut labels = LabelsBuilder::new();
        for (name, value) in &decoded {
            labels.set(name, value);
        }
        for label in &self.key.0 {
            labels.set(label.name, label.value);
        }
        let labels = labels.build();
        let Some(name) = labels.metric_name() else { return Ok(()) };
        if matches!(name, "push_time_seconds" | "push_failure_time_seconds") {
            return Ok(());
        }
        let is_of_family = name.strip_prefix(family).is_some_and(|rest| match kind {
            MetricKind::Histogram | MetricKind::GaugeHistogram => {
                matches!(rest, "" | "_bucket" | "_sum" | "_count")
            }
            MetricKind::Summary => matches!(rest, "" | "_sum" | "_count"),
            _ => rest.is_empty(),
        });
        let name = if is_of_family { family.to_owned() } else { name.to_owned() };
        self.bytes += labels.bytes().len() + SAMPLE_BYTES;
        if self.bytes > BYTES_MAX {
            return Err(Error::Bad(format!("the group would hold more than {BYTES_MAX} bytes")));
        }
        if !self.seen.insert(labels.clone()) {
            let shown = quoted(&labels.to_string());
            return Err(Error::Bad(format!("collected metric {shown} was collected before")));
        }
        self.families.entry(name).or_default().push((labels, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::shown::lines;

    fn key(path: &str) -> GroupKey {
        GroupKey::parse(path, str::to_owned).unwrap()
    }

    #[test]
    fn paths_name_groups() {
        let check = |path: &str, expect: &str| {
            let got = GroupKey::parse(path, |t| t.replace("%2F", "/"));
            assert_eq!(got.map_or_else(|e| e.to_string(), |k| k.labels().to_string()), expect, "{path}");
        };
        check("job/a", r#"{job="a"}"#);
        check("job/a/instance/b%2Fc", r#"{instance="b/c", job="a"}"#);
        check("job@base64/YS9i/path@base64/L3Zhcg", r#"{job="a/b", path="/var"}"#);
        check("job/a/x@base64/=", r#"{job="a"}"#);
        check("job/a/x", "odd number of components in label string \"job/a/x\"");
        check("job/", "job name is required");
        check("x/a", "job name is required");
        check("job/a/job/b", "job name is required");
        check("job/a/__x/b", "improper label name \"__x\"");
        check("job/a/x@base64/!!", "invalid base64 encoding for label x=\"!!\"");
    }

    #[test]
    fn a_group_stays_until_it_is_replaced_or_deleted() {
        let (mut g, k) = (Gateway::default(), key("job/j/instance/i"));
        let page = b"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\na{job=\"own\"} 1\n";
        let said = lines(&g.push(&k, Push::Group, Page::Text(page), 5000).unwrap());
        let all = [
            r#"{__name__="a", instance="i", job="j"} 1 @5000"#,
            r#"{__name__="h_bucket", instance="i", job="j", le="+Inf"} 2 @5000"#,
            r#"{__name__="h_sum", instance="i", job="j"} 3 @5000"#,
            r#"{__name__="h_count", instance="i", job="j"} 2 @5000"#,
            r#"{__name__="push_time_seconds", instance="i", job="j"} 5 @5000"#,
            r#"{__name__="push_failure_time_seconds", instance="i", job="j"} 0 @5000"#,
        ];
        assert_eq!(said, all);
        assert_eq!(lines(&g.say_all(6000)).len(), 6);
        // POST: only the families that are named are replaced.
        let said =
            lines(&g.push(&k, Push::Families, Page::Text(b"# TYPE h histogram\nh_sum 4\n"), 7000).unwrap());
        assert_eq!(
            said,
            [
                r#"{__name__="h_bucket", instance="i", job="j", le="+Inf"} stale @7000"#,
                r#"{__name__="h_count", instance="i", job="j"} stale @7000"#,
                r#"{__name__="a", instance="i", job="j"} 1 @7000"#,
                r#"{__name__="h_sum", instance="i", job="j"} 4 @7000"#,
                r#"{__name__="push_time_seconds", instance="i", job="j"} 7 @7000"#,
                r#"{__name__="push_failure_time_seconds", instance="i", job="j"} 0 @7000"#,
            ]
        );
        assert!(g.push(&k, Push::Group, Page::Text(b"a 1 5\n"), 8000).is_err());
        assert!(lines(&g.say_all(9000)).contains(
            &r#"{__name__="push_failure_time_seconds", instance="i", job="j"} 8 @9000"#.to_owned()
        ));
        assert!(lines(&g.delete(&k, 9500)).iter().all(|l| l.contains(" stale ")));
        assert_eq!((g.group_count(), g.bytes()), (0, 0));
        assert!(g.say_all(9999).is_empty() && g.delete(&k, 9999).is_empty());
    }

    #[test]
    fn protobuf_says_the_same_as_text() {
        // Counter c{a="b"} 2 and gauge g 1.5, as `io.prometheus.client` has them.
        let mut page = vec![25];
        page.extend_from_slice(b"\x0a\x01c\x18\x00\x22\x13\x0a\x06\x0a\x01a\x12\x01b\x1a\x09\x09");
        page.extend_from_slice(&2f64.to_le_bytes());
        page[0] = (page.len() - 1) as u8;
        let from = page.len();
        page.push(0);
        page.extend_from_slice(b"\x0a\x01g\x18\x01\x22\x0b\x12\x09\x09");
        page.extend_from_slice(&1.5f64.to_le_bytes());
        page[from] = (page.len() - from - 1) as u8;
        let text = b"# TYPE c counter\nc{a=\"b\"} 2\n# TYPE g gauge\ng 1.5\n";
        let (mut g, k) = (Gateway::default(), key("job/j"));
        let by_protobuf = lines(&g.push(&k, Push::Group, Page::Protobuf(&page), 5).unwrap());
        assert_eq!(by_protobuf, lines(&g.push(&k, Push::Group, Page::Text(text), 5).unwrap()));
        assert!(g.push(&k, Push::Group, Page::Protobuf(&page[..9]), 6).is_err());
        assert!(g.take_change() && !g.take_change());
    }

    #[test]
    fn groups_are_bounded() {
        let mut g = Gateway::default();
        let page: String = (0..1000).map(|i| format!("m{{l=\"{i}{}\"}} 1\n", "x".repeat(1000))).collect();
        let mut refused = 0;
        for i in 0..100 {
            let k = key(&format!("job/{i}"));
            refused += u64::from(g.push(&k, Push::Group, Page::Text(page.as_bytes()), 1).is_err());
            assert!(g.bytes() <= BYTES_MAX);
        }
        assert!(refused > 30, "{refused}");
        assert!(
            g.push(&key("job/0"), Push::Group, Page::Text(page.as_bytes()), 1).is_ok(),
            "the same again fits"
        );
    }

    proptest! {
        #[test]
        fn no_push_makes_it_panic(path in "[a-zé@%/=_]{0,30}", page in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(k) = GroupKey::parse(&format!("job/{path}"), str::to_owned) {
                let mut g = Gateway::default();
                let _ = g.push(&k, Push::Group, Page::Text(&page), 1);
                let _ = g.push(&k, Push::Families, Page::Protobuf(&page), 1);
                let _ = g.delete(&k, 2);
                prop_assert_eq!(g.bytes(), 0);
            }
        }
    }
}
