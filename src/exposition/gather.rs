//! Lines as a flat page: for what cannot be told from the lines that changed alone.

use std::borrow::Cow;

use hashbrown::HashMap;
use model::labels::METRIC_NAME;

use crate::flat::{FlatExemplar, FlatPage, FlatSample, FlatValue, NO_FAMILY, push_key_label, push_key_name};
use crate::key::{self, SampleLabels};
use crate::lines::{Lines, Syntax};
use crate::text::{Event, MetricKind};
use crate::{Error, held};

const CREATED: &str = "_created";

/// Reads every line of a page into `flat`, which is cleared first. An error leaves what came before it there.
pub fn read(syntax: Syntax, page: &[u8], flat: &mut FlatPage) -> Result<(), Error> {
    flat.clear();
    let (mut section, mut family) = (0, NO_FAMILY);
    let mut lines = Lines::new(syntax, page);
    while let Some(event) = lines.next_event()? {
        let Event::Sample(s) = event else {
            section += 1;
            let noted = held::note(&mut flat.families, &event);
            if let Event::Type { .. } = event {
                family = noted.unwrap_or(NO_FAMILY);
            }
            continue;
        };
        let key = flat.push_bytes(s.key);
        if let Some(x) = s.exemplar {
            let (labels, sample) = (flat.push_bytes(x.labels), flat.samples.len() as u32);
            flat.exemplars.push(FlatExemplar { sample, labels, value: x.value, timestamp: x.timestamp });
        }
        let (kind, value, timestamp) = (s.kind, FlatValue::Float(s.value), s.timestamp);
        flat.samples.push(FlatSample { key, kind, family, section, value, timestamp, start: 0 });
    }
    Ok(())
}

/// Name and labels of a sample, two of the labels left out, as one key: what the series of a family have in common.
pub(crate) fn identity(name: &str, labels: &SampleLabels<'_>, without: &[&str]) -> Vec<u8> {
    let mut rest: Vec<&(Cow<'_, str>, Cow<'_, str>)> =
        labels.iter().filter(|(n, _)| n != METRIC_NAME && !without.contains(&n.as_ref())).collect();
    rest.sort_unstable();
    let mut out = Vec::new();
    push_key_name(&mut out, name.as_bytes(), "");
    for (name, value) in rest {
        push_key_label(&mut out, name.as_bytes(), value.as_bytes());
    }
    out
}

pub(crate) fn name_of<'a>(labels: &'a SampleLabels<'_>) -> &'a str {
    labels.iter().find(|(n, _)| n == METRIC_NAME).map_or("", |(_, v)| v.as_ref())
}

/// Takes the `_created` series of counters, summaries and histograms out of a page: they say when the others of
/// their family began.
pub fn take_created(page: &mut FlatPage) {
    let mut created: HashMap<Vec<u8>, i64> = HashMap::new();
    let mut keep = vec![true; page.samples.len()];
    for (i, s) in page.samples.iter().enumerate() {
        let (FlatValue::Float(seconds), Some(family)) = (s.value, family_of(page, s)) else { continue };
        let Ok(labels) = key::decode(page.text(&s.key), s.kind) else { continue };
        if name_of(&labels).strip_suffix(CREATED) == Some(family) {
            created.insert(identity(family, &labels, &["le", "quantile"]), (seconds * 1000.0) as i64);
            keep[i] = false;
        }
    }
    if created.is_empty() {
        return;
    }
    let start_of = |s: &FlatSample| {
        let family = family_of(page, s)?;
        let labels = key::decode(page.text(&s.key), s.kind).ok()?;
        let is_its_own = name_of(&labels).starts_with(family);
        created.get(&identity(family, &labels, &["le", "quantile"])).copied().filter(|_| is_its_own)
    };
    let starts: Vec<i64> = page.samples.iter().map(|s| start_of(s).unwrap_or(0)).collect();
    for (sample, start) in page.samples.iter_mut().zip(starts) {
        sample.start = start;
    }
    page.retain(&keep);
}

fn family_of<'a>(page: &'a FlatPage, s: &FlatSample) -> Option<&'a str> {
    let counts = matches!(s.kind, MetricKind::Counter | MetricKind::Summary | MetricKind::Histogram);
    page.family(s.family).filter(|_| counts).map(|f| f.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_series_say_when_their_family_began() {
        let text = b"# TYPE a counter\na_total{x=\"1\"} 5 # {id=\"t\"} 1\na_created{x=\"1\"} 12.5\na_total{x=\"2\"} 6\n\
            # TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 2\nh_created 3\n\
            # TYPE g gauge\ng_created 7\n# EOF\n";
        let mut page = FlatPage::default();
        read(Syntax::OpenMetrics, text, &mut page).unwrap();
        take_created(&mut page);
        let told: Vec<String> = page
            .samples
            .iter()
            .map(|s| format!("{} {}", String::from_utf8_lossy(page.text(&s.key)), s.start))
            .collect();
        assert_eq!(
            told,
            [
                "a_total{x=\"1\"} 12500",
                "a_total{x=\"2\"} 0",
                "h_bucket{le=\"+Inf\"} 3000",
                "h_count 3000",
                "h_sum 3000",
                "g_created 0"
            ]
        );
        assert_eq!(page.exemplars.len(), 1);
        assert_eq!(page.text(&page.exemplars[0].labels), b"id=\"t\"");
    }
}
