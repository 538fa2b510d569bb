//! A request's series sorted into parts, one for each shard that owns some of them.

use exposition::remote_histogram;
use exposition::remote_write::{
    Exemplar, LABEL, Malformed, Pairs, RequestV1, RequestV2, SeriesReader, checked_labels, exemplar_labels,
    pairs_text, read_exemplar, read_pairs,
};
use hashbrown::HashMap;
use model::{Labels, ShardId, Timestamp};

use crate::remote::answer::FAULTS_MAX;
use crate::remote::known::{Known, LabelHash, Walk, label_hash};
use crate::remote::order::Part;
use crate::shard::commons::Bounds;
use crate::shard::exemplars;
use crate::shard::stream::{FRESH, Given, GivenExemplar, GivenHistogram};

/// Series read before others have their turn: about 50 us.
pub const SLICE_SERIES: usize = 512;

/// A series of the request that is not known yet: where its labels are told, and by which hash it will be known.
#[derive(Clone, Copy, Debug)]
pub struct Unmet {
    pub hash: LabelHash,
    pub newest: Timestamp,
}

/// Where a series' samples go.
#[derive(Clone, Copy)]
struct Place {
    shard: ShardId,
    slot: u32,
    entry: Option<u32>,
}

/// Reads one request. Reused from request to request.
pub struct Sorter {
    pub parts: Vec<Part>,
    /// By shard, beside its part's new series.
    pub unmet: Vec<Vec<Unmet>>,
    /// Faults found here, by ordinal.
    pub faults: Vec<(u32, String)>,
    pub sample_count: u64,
    pub histogram_count: u64,
    pub exemplar_count: u64,
    pub invalid_labels: u64,
    pub highest_time: Timestamp,
    /// Whether exemplars are kept; they are counted in any case.
    pub keeps_exemplars: bool,
    /// Some sample may not be newer than its series.
    pub is_doubtful: bool,
    /// Of two new series of the request with one hash the second is the first.
    unmet_by_hash: HashMap<LabelHash, (ShardId, u32)>,
    reader: SeriesReader,
    symbol_hashes: Vec<LabelHash>,
    hash_bytes: Vec<u8>,
    walk: Walk,
    ordinal: u32,
    bounds: Bounds,
    /// Time of the first sample that lies not in the future.
    first: Option<Timestamp>,
    seed: u64,
}

impl Sorter {
    pub fn new(shard_count: u16, seed: u64) -> Sorter {
        Sorter {
            parts: (0..shard_count).map(|_| Part::default()).collect(),
            unmet: (0..shard_count).map(|_| Vec::new()).collect(),
            faults: Vec::new(),
            sample_count: 0,
            histogram_count: 0,
            exemplar_count: 0,
            invalid_labels: 0,
            highest_time: Timestamp::MIN,
            keeps_exemplars: false,
            is_doubtful: false,
            unmet_by_hash: HashMap::new(),
            reader: SeriesReader::default(),
            symbol_hashes: Vec::new(),
            hash_bytes: Vec::new(),
            walk: Walk::default(),
            ordinal: 0,
            bounds: Bounds::NONE,
            first: None,
            seed,
        }
    }

    /// Begins a request; samples outside of the bounds are refused by their shards.
    pub fn begin(&mut self, bounds: Bounds) {
        self.parts.iter_mut().for_each(Part::clear);
        self.unmet.iter_mut().for_each(Vec::clear);
        self.faults.clear();
        (self.sample_count, self.histogram_count, self.exemplar_count) = (0, 0, 0);
        self.invalid_labels = 0;
        self.highest_time = Timestamp::MIN;
        self.is_doubtful = false;
        self.unmet_by_hash.clear();
        self.walk = Walk::default();
        self.ordinal = 0;
        self.bounds = bounds;
        self.first = None;
    }

    /// Where the house is empty, what comes is judged as if it had a sample of `now`.
    pub fn end_at(&mut self, now: Timestamp) {
        if self.bounds.newest == Timestamp::MIN {
            self.bounds.newest = now;
        }
    }

    /// The bounds of the request that was read.
    pub fn bounds(&self) -> Bounds {
        self.first.map_or(self.bounds, |first| self.bounds.from_first(first))
    }

    /// Reads some series of a 1.0 request; false when all are read.
    pub fn read_v1(&mut self, request: &mut RequestV1<'_>, known: &mut Known) -> Result<bool, Malformed> {
        let mut reader = std::mem::take(&mut self.reader);
        let result = (|| {
            for _ in 0..SLICE_SERIES {
                let Some(message) = request.try_next()? else { return Ok(false) };
                self.series_v1(&mut reader, message, known)?;
            }
            Ok(true)
        })();
        self.reader = reader;
        result
    }

    fn series_v1(
        &mut self,
        reader: &mut SeriesReader,
        message: &[u8],
        known: &mut Known,
    ) -> Result<(), Malformed> {
        // The bytes of a series met before are whole label fields: where they end without another, they are all.
        let found = known.find_ahead(&mut self.walk, message, self.seed, |next| next != LABEL);
        match found {
            Some((_, labels_end)) => reader.read_v1_behind(message, labels_end)?,
            None => reader.read_v1(message)?,
        }
        let place = match found {
            Some((f, _)) if reader.is_in_order() => {
                Place { shard: f.shard, slot: f.slot, entry: Some(f.entry) }
            }
            _ => match self.place_of(reader, message, known)? {
                Some(place) => place,
                None => return Ok(()),
            },
        };
        self.put(place, reader, message, known)?;
        self.exemplar_count += reader.exemplars.len() as u64;
        if self.keeps_exemplars {
            let mut pairs = Pairs::new();
            for found in &reader.exemplars {
                let part = found.part.start as usize..found.part.end as usize;
                let exemplar = read_exemplar(&message[part], &mut pairs)?;
                self.put_exemplar(place, &exemplar, &mut pairs);
            }
        }
        Ok(())
    }

    /// Where a 1.0 series goes that was not the expected one; `None` where it is passed over.
    fn place_of(
        &mut self,
        reader: &SeriesReader,
        message: &[u8],
        known: &mut Known,
    ) -> Result<Option<Place>, Malformed> {
        let labels = reader.labels_v1(message);
        let hash = label_hash(labels, self.seed);
        if let Some(place) = self.find(known, hash) {
            return Ok(Some(place));
        }
        let mut pairs = Pairs::new();
        read_pairs(labels, &mut pairs)?;
        let has_exemplars = self.keeps_exemplars && !reader.exemplars.is_empty();
        if reader.samples.is_empty() && reader.histograms.is_empty() && !has_exemplars {
            return Ok(None);
        }
        match checked_labels(&mut pairs) {
            Ok(labels) => Ok(Some(self.meet(hash, labels))),
            Err(fault) => {
                // 1.0 passes such series over in silence.
                tracing::debug!(%fault, "a series of remote write was passed over");
                self.invalid_labels += 1;
                Ok(None)
            }
        }
    }

    /// Prepares for a 2.0 request whose outline was read from `body`.
    pub fn begin_v2(&mut self, request: &RequestV2, body: &[u8]) {
        self.symbol_hashes.clear();
        let text = |at: usize| request.symbol(body, at as u32).unwrap_or_default();
        self.symbol_hashes.extend((0..request.symbols.len()).map(|at| label_hash(text(at), self.seed)));
    }

    /// Reads some series of a 2.0 request from number `from` on; returns how many.
    pub fn read_v2(
        &mut self,
        request: &RequestV2,
        body: &[u8],
        from: usize,
        known: &mut Known,
    ) -> Result<usize, Malformed> {
        let mut reader = std::mem::take(&mut self.reader);
        let here = &request.series[from..request.series.len().min(from + SLICE_SERIES)];
        let result = here.iter().try_for_each(|part| {
            let message = &body[part.start as usize..part.end as usize];
            self.series_v2(&mut reader, request, body, message, known)
        });
        self.reader = reader;
        result.map(|()| here.len())
    }

    fn series_v2(
        &mut self,
        reader: &mut SeriesReader,
        request: &RequestV2,
        body: &[u8],
        message: &[u8],
        known: &mut Known,
    ) -> Result<(), Malformed> {
        reader.read_v2(message)?;
        let held = (reader.samples.len() + reader.histograms.len()) as u64;
        let found = match self.hash_refs(&reader.label_refs) {
            Some(hash) => self.find(known, hash).ok_or(Some(hash)),
            None => Err(None),
        };
        let refuse = |sorter: &mut Sorter, text: String| {
            sorter.invalid_labels += held;
            sorter.fault(text);
            Ok(())
        };
        let mut pairs = Pairs::new();
        if let Err(hash) = found
            && let Err(why) = request.pairs(body, &reader.label_refs, &mut pairs)
        {
            debug_assert!(hash.is_none(), "a hash was made of all symbols");
            return refuse(
                self,
                format!("parsing labels for series {}: {why}", refs_text(&reader.label_refs)),
            );
        }
        if let Some((name, outside)) = ["helpRef", "unitRef"]
            .into_iter()
            .zip(reader.metadata_refs)
            .find(|(_, r)| *r as usize >= request.symbols.len().max(1))
        {
            let (refs, size) = (refs_text(&reader.label_refs), request.symbols.len());
            return refuse(
                self,
                format!(
                    "parsing metadata for series {refs}: {name} {outside} outside of symbols table (size {size})"
                ),
            );
        }
        let place = match found {
            Ok(place) => Some(place),
            Err(hash) => match checked_labels(&mut pairs) {
                Ok(labels) if held > 0 => hash.map(|hash| self.meet(hash, labels)),
                Ok(_) => None,
                Err(fault) => return refuse(self, fault.to_string()),
            },
        };
        let Some(place) = place.filter(|_| held > 0) else {
            let _ = request.pairs(body, &reader.label_refs, &mut pairs);
            pairs.sort_by(|a, b| a.0.cmp(b.0));
            let text = pairs_text(&pairs);
            self.fault(format!("TimeSeries must contain at least one sample or histogram for series {text}"));
            return Ok(());
        };
        self.put(place, reader, message, known)?;
        self.exemplars_v2(place, reader, request, body);
        Ok(())
    }

    fn exemplars_v2(&mut self, place: Place, reader: &SeriesReader, request: &RequestV2, body: &[u8]) {
        let mut pairs = Pairs::new();
        for exemplar in &reader.exemplars {
            let refs = &reader.exemplar_refs[exemplar.part.start as usize..exemplar.part.end as usize];
            match request.pairs(body, refs, &mut pairs) {
                Ok(()) => {
                    self.exemplar_count += 1;
                    self.put_exemplar(place, exemplar, &mut pairs);
                }
                Err(why) => {
                    let refs = refs_text(&reader.label_refs);
                    self.fault(format!("parsing exemplar for series {refs}: {why}"));
                }
            }
        }
    }

    fn put_exemplar(&mut self, place: Place, exemplar: &Exemplar, pairs: &mut Pairs<'_>) {
        let labels = if self.keeps_exemplars { exemplar_labels(pairs) } else { None };
        let Some(labels) = labels.filter(|_| exemplar.time <= self.bounds.latest) else { return };
        let given = GivenExemplar {
            slot: place.slot,
            ordinal: self.ordinal,
            exemplar: exemplars::Exemplar { labels, time: exemplar.time, value: exemplar.value },
        };
        self.ordinal += 1;
        self.parts[usize::from(place.shard.0)].exemplars.push(given);
    }

    /// A hash of the texts that `refs` name, whatever numbers this request gives them. `None`: there is no such text.
    fn hash_refs(&mut self, refs: &[u32]) -> Option<LabelHash> {
        if !refs.len().is_multiple_of(2) {
            return None;
        }
        self.hash_bytes.clear();
        for r in refs {
            let [a, b] = *self.symbol_hashes.get(*r as usize)?;
            self.hash_bytes.extend_from_slice(&a.to_le_bytes());
            self.hash_bytes.extend_from_slice(&b.to_le_bytes());
        }
        // Another key than label bytes have: the two protocols' hashes must not meet.
        Some(label_hash(&self.hash_bytes, !self.seed))
    }

    #[inline]
    fn find(&mut self, known: &mut Known, hash: LabelHash) -> Option<Place> {
        if let Some(f) = known.find(&mut self.walk, hash) {
            return Some(Place { shard: f.shard, slot: f.slot, entry: Some(f.entry) });
        }
        let (shard, at) = *self.unmet_by_hash.get(&hash)?;
        Some(Place { shard, slot: FRESH | at, entry: None })
    }

    fn meet(&mut self, hash: LabelHash, labels: Labels) -> Place {
        let shard = labels.series_hash().shard(self.parts.len() as u16);
        let fresh = &mut self.parts[usize::from(shard.0)].fresh;
        let at = fresh.len() as u32;
        // The time is filled in with the first sample.
        fresh.push((labels, Timestamp::MIN));
        self.unmet[usize::from(shard.0)].push(Unmet { hash, newest: Timestamp::MIN });
        self.unmet_by_hash.insert(hash, (shard, at));
        self.is_doubtful = true;
        Place { shard, slot: FRESH | at, entry: None }
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push((self.ordinal, text));
        }
        self.ordinal += 1;
    }

    #[inline]
    fn put(
        &mut self,
        place: Place,
        reader: &SeriesReader,
        message: &[u8],
        known: &mut Known,
    ) -> Result<(), Malformed> {
        for s in &reader.samples {
            self.note_time(place, s.time, known);
            let given = Given { slot: place.slot, ordinal: self.ordinal, time: s.time, value: s.value };
            self.ordinal += 1;
            self.parts[usize::from(place.shard.0)].samples.push(given);
            self.sample_count += 1;
        }
        for h in &reader.histograms {
            self.put_histogram(place, &message[h.start as usize..h.end as usize], known)?;
        }
        Ok(())
    }

    #[inline]
    fn note_time(&mut self, place: Place, time: Timestamp, known: &mut Known) {
        if time > self.bounds.latest {
            self.is_doubtful = true;
            return;
        }
        let first = *self.first.get_or_insert(time);
        self.is_doubtful |= time < self.bounds.from_first(first).oldest();
        self.highest_time = self.highest_time.max(time);
        match place.entry {
            Some(entry) => self.is_doubtful |= !known.note_time(entry, time),
            None => {
                let (shard, at) = (usize::from(place.shard.0), (place.slot & !FRESH) as usize);
                let first = &mut self.parts[shard].fresh[at].1;
                if *first == Timestamp::MIN {
                    *first = time;
                }
                let newest = &mut self.unmet[shard][at].newest;
                *newest = time.max(*newest);
            }
        }
    }

    fn put_histogram(&mut self, place: Place, message: &[u8], known: &mut Known) -> Result<(), Malformed> {
        let sample = match remote_histogram::read(message) {
            Ok(sample) => sample,
            Err(remote_histogram::Error::Malformed(m)) => return Err(m),
            Err(remote_histogram::Error::Invalid(e)) => {
                self.fault(e.to_string());
                return Ok(());
            }
        };
        let time = sample.time;
        if let Err(e) = sample.accepted() {
            self.fault(e.to_string());
            return Ok(());
        }
        self.note_time(place, time, known);
        let part = &mut self.parts[usize::from(place.shard.0)];
        let from = part.messages.len() as u32;
        part.messages.extend_from_slice(message);
        let message = from..part.messages.len() as u32;
        part.histograms.push(GivenHistogram { slot: place.slot, ordinal: self.ordinal, time, message });
        self.ordinal += 1;
        self.histogram_count += 1;
        Ok(())
    }
}

/// As Go prints a slice of numbers.
fn refs_text(refs: &[u32]) -> String {
    let texts: Vec<String> = refs.iter().map(u32::to_string).collect();
    format!("[{}]", texts.join(" "))
}
