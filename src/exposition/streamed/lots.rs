//! What is read by way of a flat page, a lot of samples at a time: protobuf, and lines that are made into others.

use crate::Error;
use crate::flat::{FlatCache, FlatExemplar, FlatPage, FlatSample, FlatValue, NO_FAMILY};
use crate::held;
use crate::lines::Syntax;
use crate::nhcb;
use crate::protobuf::{self, pieces::Pieces};
use crate::remote_histogram::Counts;
use crate::streamed::{NO_SLOT, Progress, Step, Streamed, StreamedLine, step};
use crate::text::{Event, MetricKind, Sample};

/// Samples of a lot, about: what is read and not told yet is never much more.
const LOT_SAMPLES: usize = 256;

/// How a page comes to a flat one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Making {
    pub form: Form,
    /// Classic histograms become native ones; and whether they stay there, too.
    pub converts: Option<bool>,
    /// A family's unit must be known before its samples.
    pub needs_units: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Lines(Syntax),
    Protobuf(protobuf::Wishes),
}

/// What a sample of a flat page has beside what one of a line has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Its value, where that is a native histogram.
    pub histogram: Option<&'a Counts>,
    /// When its counter began; 0 where not known.
    pub start: i64,
    pub unit: &'a str,
    exemplars: &'a [FlatExemplar],
    page: Option<&'a FlatPage>,
}

impl<'a> Beside<'a> {
    pub fn exemplars(self) -> impl ExactSizeIterator<Item = crate::Exemplar<'a>> {
        self.exemplars.iter().map(move |x| {
            let labels = self.page.map_or(&b""[..], |p| p.text(&x.labels));
            crate::Exemplar { labels, value: x.value, timestamp: x.timestamp }
        })
    }
}

/// The lot that is read, and where its reader stands.
#[derive(Debug)]
pub(crate) struct Lots {
    making: Making,
    pieces: Pieces,
    converter: nhcb::Converter,
    lot: FlatPage,
    /// Samples and exemplars of the lot that were told.
    told: usize,
    told_exemplars: usize,
    section: u32,
    family: u32,
    failed: Option<Error>,
    /// A NUL came, behind which nothing is read.
    is_past_end: bool,
    /// The last lot is there.
    is_over: bool,
}

impl Lots {
    pub(crate) fn of(making: Making) -> Self {
        let wishes = match making.form {
            Form::Protobuf(wishes) => wishes,
            Form::Lines(_) => protobuf::Wishes::default(),
        };
        Lots {
            making,
            pieces: Pieces::new(wishes, making.needs_units),
            converter: nhcb::Converter::default(),
            lot: FlatPage::default(),
            told: 0,
            told_exemplars: 0,
            section: 0,
            family: NO_FAMILY,
            failed: None,
            is_past_end: false,
            is_over: false,
        }
    }

    pub(crate) fn making(&self) -> Making {
        self.making
    }

    /// What the page said of its families.
    pub(crate) fn take_families(&mut self) -> Vec<crate::flat::Family> {
        std::mem::take(&mut self.lot.families)
    }

    /// A page begins.
    pub(crate) fn begin(&mut self) {
        self.pieces.begin();
        self.converter.begin();
        self.lot.clear();
        (self.told, self.told_exemplars, self.section, self.family) = (0, 0, 0, NO_FAMILY);
        (self.failed, self.is_past_end, self.is_over) = (None, false, false);
    }

    /// Reads another lot.
    fn fill(&mut self, kind: &mut MetricKind, bytes: &[u8], is_last: bool) -> Progress {
        let families = std::mem::take(&mut self.lot.families);
        self.lot.clear();
        self.lot.families = families;
        (self.told, self.told_exemplars) = (0, 0);
        let read = match self.making.form {
            Form::Protobuf(_) => self.pieces.read(bytes, is_last, LOT_SAMPLES, &mut self.lot),
            Form::Lines(syntax) => self.gather(syntax, kind, bytes, is_last),
        };
        let progress = read.unwrap_or_else(|e| {
            self.failed = Some(e);
            Progress { used: bytes.len(), is_hungry: false }
        });
        self.is_over = is_last && progress.is_hungry;
        if let Some(keeps_classic) = self.making.converts {
            self.converter.convert(&mut self.lot, keeps_classic, self.is_over);
        }
        progress
    }

    /// Lines into the lot: see [`crate::gather`].
    fn gather(
        &mut self,
        syntax: Syntax,
        kind: &mut MetricKind,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<Progress, Error> {
        if self.is_past_end {
            return Ok(Progress { used: bytes.len(), is_hungry: true });
        }
        let mut used = 0;
        while self.lot.samples.len() < LOT_SAMPLES {
            match step(syntax, *kind, bytes, used, is_last)? {
                Step::Event(Event::Sample(s), next) => {
                    used = next;
                    self.push(s);
                }
                Step::Event(event, next) => {
                    used = next;
                    self.section += 1;
                    let noted = held::note(&mut self.lot.families, &event);
                    if let Event::Type { kind: named, .. } = event {
                        *kind = named;
                        self.family = noted.unwrap_or(NO_FAMILY);
                    }
                }
                Step::Skip(next) => used = next,
                Step::NeedsMore => return Ok(Progress { used, is_hungry: true }),
                Step::Over => {
                    self.is_past_end = true;
                    return Ok(Progress { used: bytes.len(), is_hungry: true });
                }
            }
        }
        Ok(Progress { used, is_hungry: false })
    }

    fn push(&mut self, s: Sample<'_>) {
        let lot = &mut self.lot;
        let key = lot.push_bytes(s.key);
        if let Some(x) = s.exemplar {
            let (labels, sample) = (lot.push_bytes(x.labels), lot.samples.len() as u32);
            lot.exemplars.push(FlatExemplar { sample, labels, value: x.value, timestamp: x.timestamp });
        }
        let (family, section) = (self.family, self.section);
        let (kind, value, timestamp) = (s.kind, FlatValue::Float(s.value), s.timestamp);
        lot.samples.push(FlatSample { key, kind, family, section, value, timestamp, start: 0 });
    }

    /// The next sample of the lot that is to be told.
    fn next(&mut self) -> Option<(Sample<'_>, Beside<'_>)> {
        let page = &self.lot;
        let s = page.samples.get(self.told)?;
        let rest = &page.exemplars[self.told_exemplars..];
        let count = rest.iter().take_while(|x| x.sample as usize == self.told).count();
        self.told += 1;
        self.told_exemplars += count;
        let (value, histogram) = match s.value {
            FlatValue::Float(value) => (value, None),
            FlatValue::Histogram(i) => (0.0, page.histograms.get(i as usize)),
        };
        let (key, kind, timestamp) = (page.text(&s.key), s.kind, s.timestamp);
        let unit = page.family(s.family).map_or("", |f| f.unit.as_str());
        let beside = Beside { histogram, start: s.start, unit, exemplars: &rest[..count], page: Some(page) };
        let (start, value_at, end, exemplar) = (0, 0, 0, None);
        Some((Sample { key, value, timestamp, kind, start, value_at, end, exemplar }, beside))
    }
}

impl Streamed {
    /// Nothing is known yet of a target whose pages are made so.
    pub fn made(making: Making) -> Self {
        Streamed { lots: Some(Box::new(Lots::of(making))), first: NO_SLOT, ..Self::default() }
    }

    /// Goes on from a flat page that was held: each series keeps its slot.
    pub fn from_flat(cache: &FlatCache, making: Making) -> Self {
        let mut out = Self::made(making);
        out.take_over(cache.slot_count(), cache.series(), cache.row());
        out.line_count = cache.page().samples.len();
        out.families = cache.page().families.clone();
        out
    }

    pub(super) fn read_lots<E: From<Error>>(
        &mut self,
        lots: &mut Lots,
        bytes: &[u8],
        is_last: bool,
        honors_timestamps: bool,
        mut tell: impl FnMut(StreamedLine<'_>) -> Result<bool, E>,
    ) -> Result<Progress, E> {
        let mut used = 0;
        let mut is_hungry = false;
        loop {
            while let Some((sample, beside)) = lots.next() {
                let (slot, is_new) = self.slot_of(sample.key);
                let line = self.line(slot, is_new, sample, beside, honors_timestamps);
                if !tell(line)? {
                    return Ok(Progress { used, is_hungry: false });
                }
            }
            if let Some(e) = lots.failed.take() {
                return Err(e.into());
            }
            if is_hungry || lots.is_over {
                return Ok(Progress { used, is_hungry: true });
            }
            let progress = lots.fill(&mut self.page.kind, &bytes[used..], is_last);
            used += progress.used;
            is_hungry = progress.is_hungry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather;
    use proptest::prelude::*;

    /// What is told of a sample.
    fn shown(sample: &Sample<'_>, histogram: Option<&Counts>, start: i64, exemplars: &[String]) -> String {
        let Sample { key, value, timestamp, kind, .. } = sample;
        let key = String::from_utf8_lossy(key);
        format!("{key} {value:?} {histogram:?} {timestamp:?} {kind:?} {start} {exemplars:?}")
    }

    fn exemplar_shown(x: crate::Exemplar<'_>) -> String {
        format!("{} {} {:?}", String::from_utf8_lossy(x.labels), x.value, x.timestamp)
    }

    fn read(cache: &mut Streamed, page: &[u8], sizes: &[usize]) -> Result<Vec<String>, Error> {
        let mut out = Vec::new();
        let (mut buffer, mut at) = (Vec::new(), 0);
        let mut sizes = sizes.iter().copied();
        cache.begin();
        loop {
            let n = sizes.next().unwrap_or(page.len()).min(page.len() - at);
            buffer.extend_from_slice(&page[at..at + n]);
            at += n;
            let is_last = at == page.len();
            loop {
                let progress = cache.read(&buffer, is_last, true, |l| {
                    let exemplars: Vec<String> = l.beside.exemplars().map(exemplar_shown).collect();
                    out.push(shown(&l.sample, l.beside.histogram, l.beside.start, &exemplars));
                    Ok::<bool, Error>(out.len() % 3 != 0)
                })?;
                buffer.drain(..progress.used);
                if progress.is_hungry {
                    break;
                }
            }
            if is_last {
                cache.commit(&[]);
                return Ok(out);
            }
        }
    }

    fn whole(making: Making, page: &[u8]) -> Result<Vec<String>, Error> {
        let mut flat = FlatPage::default();
        match making.form {
            Form::Lines(syntax) => gather::read(syntax, page, &mut flat)?,
            Form::Protobuf(wishes) => protobuf::read(page, wishes, &mut flat)?,
        }
        if let Some(keeps_classic) = making.converts {
            nhcb::convert(&mut flat, keeps_classic);
        }
        let sample = |(i, s): (usize, &FlatSample)| {
            let (value, histogram) = match s.value {
                FlatValue::Float(value) => (value, None),
                FlatValue::Histogram(h) => (0.0, flat.histograms.get(h as usize)),
            };
            let (key, kind, timestamp) = (flat.text(&s.key), s.kind, s.timestamp);
            let own = flat.exemplars.iter().filter(|x| x.sample as usize == i);
            let exemplars = own.map(|x| {
                let (labels, value, timestamp) = (flat.text(&x.labels), x.value, x.timestamp);
                exemplar_shown(crate::Exemplar { labels, value, timestamp })
            });
            let of = Sample { key, value, timestamp, kind, start: 0, value_at: 0, end: 0, exemplar: None };
            shown(&of, histogram, s.start, &exemplars.collect::<Vec<_>>())
        };
        Ok(flat.samples.iter().enumerate().map(sample).collect())
    }

    fn check(making: Making, page: &[u8], sizes: &[usize]) {
        let mut cache = Streamed::made(making);
        let want = whole(making, page);
        for sizes in [sizes, &[], sizes] {
            assert_eq!(read(&mut cache, page, sizes), want);
        }
        if want.is_ok() {
            let families = cache.families().to_vec();
            let mut flat = FlatPage::default();
            match making.form {
                Form::Lines(syntax) => gather::read(syntax, page, &mut flat).unwrap(),
                Form::Protobuf(wishes) => protobuf::read(page, wishes, &mut flat).unwrap(),
            }
            assert_eq!(families, flat.families);
        }
    }

    fn makings(form: Form) -> impl Iterator<Item = Making> {
        let all = [(None, false), (None, true), (Some(false), false), (Some(true), true)];
        all.into_iter().map(move |(converts, needs_units)| Making { form, converts, needs_units })
    }

    const LINES: &str = "((h|g)_(bucket\\{le=\"(1|2|\\+Inf|x)\"\\}|count|sum|x) [123](| 5)(| # \\{a=\"[bc]\"\\} [12])\n|\
        h_bucket\\{le=\"1\",x=\"[12]\"\\} [12]\n|# (HELP|TYPE|UNIT) (h|g) (histogram|gauge)\n|bad){0,12}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn lots_of_lines_say_what_the_whole_page_says(
            page in LINES,
            sizes in proptest::collection::vec(1usize..30, 0..30),
        ) {
            let open = format!("{page}# EOF\n");
            for (syntax, page) in [(Syntax::Text, &page), (Syntax::OpenMetrics, &open)] {
                makings(Form::Lines(syntax)).for_each(|making| check(making, page.as_bytes(), &sizes));
            }
        }

        #[test]
        fn lots_of_families_say_what_the_whole_page_says(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            native: bool,
            sizes in proptest::collection::vec(1usize..60, 0..30),
        ) {
            let mut page = protobuf::tests::whole_page();
            for (at, byte) in edits {
                let n = page.len();
                page[at.index(n)] = byte;
            }
            let wishes = protobuf::Wishes { native, always_classic: true };
            makings(Form::Protobuf(wishes)).for_each(|making| check(making, &page, &sizes));
        }
    }
}
