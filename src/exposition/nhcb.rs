//! Classic histograms of a page as native ones with custom buckets.
//!
//! Series of one histogram follow each other: name without suffix and labels without `le` are the same, and nothing
//! else stands between them. Only families that a TYPE line calls histograms are converted, and none that is exposed
//! as a native histogram, too.

use model::histogram::{ClassicHistogram, ClassicPart, Converted, classic_part};

use crate::flat::{FlatExemplar, FlatPage, FlatSample, FlatValue};
use crate::gather::{identity, name_of};
use crate::key;
use crate::number;
use crate::remote_histogram::Counts;
use crate::text::MetricKind;

/// A histogram while its parts come.
#[derive(Debug)]
struct Group {
    identity: Vec<u8>,
    classic: ClassicHistogram,
    exemplars: Vec<FlatExemplar>,
    first: FlatSample,
}

/// What a sample is to a histogram.
struct Part {
    identity: Vec<u8>,
    /// `None` where it is of its histogram's name, but no part of it.
    value: Option<Set>,
}

enum Set {
    Bucket(f64),
    Count,
    Sum,
}

/// Converts what can be converted; `keeps_classic` leaves the classic series there, too.
pub fn convert(page: &mut FlatPage, keeps_classic: bool) {
    Converter::default().convert(page, keeps_classic, true);
}

/// The conversion of a page whose samples come in several lots.
#[derive(Debug, Default)]
pub struct Converter {
    group: Option<Group>,
    last_native: Vec<u8>,
    section: u32,
    /// Labels of the exemplars of a group that goes on in the next lot.
    labels: Vec<u8>,
}

impl Converter {
    /// A page begins.
    pub fn begin(&mut self) {
        *self = Converter::default();
    }

    /// Converts a lot. A histogram that may go on in the next one is kept back until then.
    pub fn convert(&mut self, page: &mut FlatPage, keeps_classic: bool, is_last: bool) {
        let samples = std::mem::take(&mut page.samples);
        let exemplars = std::mem::take(&mut page.exemplars);
        self.take_labels_back(page);
        let mut walk = Walk { page, of: self };
        let mut from = 0;
        for (i, sample) in samples.into_iter().enumerate() {
            let count = exemplars[from..].iter().take_while(|x| x.sample as usize == i).count();
            let own = &exemplars[from..from + count];
            from += count;
            if std::mem::replace(&mut walk.of.section, sample.section) != sample.section {
                walk.flush();
            }
            walk.take(sample, own, keeps_classic);
        }
        if is_last {
            walk.flush();
        }
        self.keep_labels(page);
    }

    fn keep_labels(&mut self, page: &FlatPage) {
        self.labels.clear();
        for x in self.group.iter_mut().flat_map(|g| &mut g.exemplars) {
            let from = self.labels.len() as u32;
            self.labels.extend_from_slice(page.text(&x.labels));
            x.labels = from..self.labels.len() as u32;
        }
    }

    fn take_labels_back(&mut self, page: &mut FlatPage) {
        for x in self.group.iter_mut().flat_map(|g| &mut g.exemplars) {
            x.labels = page.push_bytes(&self.labels[x.labels.start as usize..x.labels.end as usize]);
        }
    }
}

struct Walk<'p> {
    page: &'p mut FlatPage,
    of: &'p mut Converter,
}

impl Walk<'_> {
    fn take(&mut self, sample: FlatSample, exemplars: &[FlatExemplar], keeps_classic: bool) {
        let FlatValue::Float(value) = sample.value else {
            self.flush();
            if let Ok(labels) = key::decode(self.page.text(&sample.key), sample.kind) {
                self.of.last_native = identity(name_of(&labels), &labels, &["le"]);
            }
            return self.keep(sample, exemplars);
        };
        let part = part_of(self.page, &sample);
        if self.of.group.as_ref().is_some_and(|g| part.as_ref().is_none_or(|p| p.identity != g.identity)) {
            self.flush();
        }
        let Some(Part { identity, value: Some(set) }) = part.filter(|p| p.identity != self.of.last_native)
        else {
            return self.keep(sample, exemplars);
        };
        let group = self.of.group.get_or_insert_with(|| Group {
            identity,
            classic: ClassicHistogram::default(),
            exemplars: Vec::new(),
            first: sample.clone(),
        });
        // A part that does not fit is remembered, and the conversion fails.
        let _ = match set {
            Set::Bucket(bound) => group.classic.set_bucket(bound, value),
            Set::Count => group.classic.set_count(value),
            Set::Sum => group.classic.set_sum(value),
        };
        group.exemplars.extend_from_slice(exemplars);
        if keeps_classic {
            self.keep(sample, &[]);
        }
    }

    fn keep(&mut self, sample: FlatSample, exemplars: &[FlatExemplar]) {
        let at = self.page.samples.len() as u32;
        self.page.samples.push(sample);
        self.page.exemplars.extend(exemplars.iter().map(|x| FlatExemplar { sample: at, ..x.clone() }));
    }

    fn flush(&mut self) {
        let Some(group) = self.of.group.take() else { return };
        let counts = match group.classic.convert() {
            Ok(Converted::Integer(h)) if h.validate().is_ok() => Counts::Integer(h),
            Ok(Converted::Float(h)) if h.validate().is_ok() => Counts::Float(h),
            _ => return,
        };
        self.page.histograms.push(counts);
        let value = FlatValue::Histogram(self.page.histograms.len() as u32 - 1);
        let key = self.page.push_bytes(&group.identity);
        self.keep(FlatSample { key, value, ..group.first }, &group.exemplars);
    }
}

/// `None` where the sample has nothing to do with a classic histogram.
fn part_of(page: &FlatPage, sample: &FlatSample) -> Option<Part> {
    if sample.kind != MetricKind::Histogram {
        return None;
    }
    let labels = key::decode(page.text(&sample.key), sample.kind).ok()?;
    let part = classic_part(name_of(&labels))?;
    let (ClassicPart::Bucket(base) | ClassicPart::Sum(base) | ClassicPart::Count(base)) = part;
    let is_family = page.family(sample.family).is_some_and(|f| f.name == base);
    let bound = || {
        let le = labels.iter().find(|(n, _)| n == "le")?;
        number::parse_value(le.1.as_bytes()).ok().filter(|b| !b.is_nan())
    };
    let value = match part {
        ClassicPart::Bucket(_) => bound().map(Set::Bucket),
        ClassicPart::Sum(_) => Some(Set::Sum),
        ClassicPart::Count(_) => Some(Set::Count),
    };
    Some(Part { identity: identity(base, &labels, &["le"]), value: value.filter(|_| is_family) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather;
    use crate::lines::Syntax;

    fn check(text: &str, keeps_classic: bool, want: &[&str]) {
        let mut page = FlatPage::default();
        gather::read(Syntax::OpenMetrics, text.as_bytes(), &mut page).unwrap();
        convert(&mut page, keeps_classic);
        let shown = |s: &FlatSample| {
            let labels = key::decode(page.text(&s.key), s.kind).unwrap();
            let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let value = match s.value {
                FlatValue::Float(v) => v.to_string(),
                FlatValue::Histogram(i) => match &page.histograms[i as usize] {
                    Counts::Integer(h) => format!("{}/{} {:?}", h.count, h.sum, h.custom_values),
                    Counts::Float(h) => format!("~{}/{} {:?}", h.count, h.sum, h.custom_values),
                },
            };
            format!("{} {value}", labels.join(","))
        };
        let have: Vec<String> = page.samples.iter().map(shown).collect();
        assert_eq!(have, want, "{text}");
    }

    const TWO: &str = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 3\n\
        h_count{a=\"1\"} 3\nh_sum{a=\"1\"} 5\nh_bucket{a=\"2\",le=\"1\"} 2.5\n# EOF\n";

    #[test]
    fn series_that_follow_each_other_become_one() {
        check(TWO, false, &["__name__=h,a=1 3/5 [1.0]", "__name__=h,a=2 ~2.5/0 [1.0]"]);
        check(
            TWO,
            true,
            &[
                "__name__=h_bucket,a=1,le=1.0 1",
                "__name__=h_bucket,a=1,le=+Inf 3",
                "__name__=h_count,a=1 3",
                "__name__=h_sum,a=1 5",
                "__name__=h,a=1 3/5 [1.0]",
                "__name__=h_bucket,a=2,le=1.0 2.5",
                "__name__=h,a=2 ~2.5/0 [1.0]",
            ],
        );
    }

    #[test]
    fn what_is_no_histogram_stays() {
        check("h_bucket{le=\"1\"} 1\n# EOF\n", false, &["__name__=h_bucket,le=1 1"]);
        check("# TYPE g histogram\nh_count 1\n# EOF\n", false, &["__name__=h_count 1"]);
        check("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n# EOF\n", false, &["__name__=h_bucket,le=x 1"]);
    }

    #[test]
    fn what_does_not_add_up_is_dropped() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 4\nh_bucket{le=\"2\"} 3\nh_count 4\n# EOF\n";
        check(text, false, &[]);
        check("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 4\nh_count 5\n# EOF\n", false, &[]);
    }
}
