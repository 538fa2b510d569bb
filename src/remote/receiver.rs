//! The way of a request: read here, judged and appended where its series live, answered when all of it is durable.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use exposition::remote_write::{RequestV1, RequestV2};
use hashbrown::HashSet;
use model::{Labels, ShardId, Timestamp};
use snap::raw::{Decoder, decompress_len};

use crate::remote::answer::{Answer, FAULTS_MAX, Written};
use crate::remote::known::Known;
use crate::remote::negotiate::BODY_BYTES_MAX;
use crate::remote::order::{Order, Peers, Refused, Told, Want};
use crate::remote::probe::{Figures, Judgments, Probe, add};
use crate::remote::sorting::Sorter;
use crate::remote::{Error, Protocol};
use crate::rt::yield_if_needed;
use crate::shard::commons::Bounds;
use crate::shard::exemplars::Verdict;
use crate::shard::head::side::Refusal;
use crate::shard::keeper::{self, Keeper};
use crate::shard::record::SourceId;
use crate::shard::stream::{Batches, FRESH, Fault, Given, Judged, NOWHERE, Stream};

/// Commits that an append waits for when the tail is full, before the sender is put off: each empties a half of the
/// tail and takes a few milliseconds.
const COMMITS_AWAITED_MAX: usize = 16;

/// The largest batch that fits the smallest tail's half: beyond it lies only a series with a megabyte of labels.
const BATCH_BYTES_MAX: usize = (1 << 20) - 4096;

/// Unpacked bodies that one shard holds at a time: four of the largest, hundreds of the usual ones.
const UNPACKED_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// Bodies as they came, on connections of one shard: four of the largest. Further senders are put off.
const BODIES_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// A block of snappy gives at most 64 bytes for 3: what claims more is no block, and gets no memory.
const EXPANSION_MAX: usize = 22;

/// Buffers kept for the next request; more requests at once make their own. A kept one holds no more than this.
const KEPT_COUNT_MAX: usize = 16;
const KEPT_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub shard: u16,
    /// Keys the hashes of label bytes: chosen anew in each life.
    pub seed: u64,
    /// Never used before, in any life.
    pub source: SourceId,
    /// Whether an acknowledged sample is on the disk, or only in the tail.
    pub is_durable: bool,
}

/// What is taken of a request of which some samples are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// Nothing.
    Whole,
    /// The others; the answer tells what was written.
    Part,
    /// As `Part`, and what is older than the head takes goes to blocks: durable when the deposit was settled.
    Import,
}

/// What one request is read with.
struct Scratch {
    raw: Vec<u8>,
    decoder: Decoder,
    outline: RequestV2,
    sorter: Sorter,
}

pub struct Receiver {
    settings: Settings,
    keeper: Rc<Keeper>,
    peers: Rc<dyn Peers>,
    known: RefCell<Known>,
    stream: RefCell<Stream>,
    scratches: RefCell<Vec<Scratch>>,
    batches: RefCell<Vec<Batches>>,
    unpacked_bytes: Cell<usize>,
    bodies_bytes: Rc<Cell<usize>>,
    probe: Probe,
}

/// Room for a body, given back when dropped.
pub struct BodyRoom {
    bodies_bytes: Rc<Cell<usize>>,
    bytes: usize,
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        self.bodies_bytes.set(self.bodies_bytes.get() - self.bytes);
    }
}

impl Receiver {
    pub fn new(settings: Settings, keeper: Rc<Keeper>, peers: Rc<dyn Peers>) -> Receiver {
        Receiver {
            settings,
            keeper,
            peers,
            known: RefCell::default(),
            stream: RefCell::new(Stream::new(settings.source)),
            scratches: RefCell::default(),
            batches: RefCell::default(),
            unpacked_bytes: Cell::new(0),
            bodies_bytes: Rc::default(),
            probe: Probe::default(),
        }
    }

    pub fn figures(&self) -> Figures {
        let known = self.known.borrow();
        Figures {
            known_series: known.len() as u64,
            known_bytes: known.heap_bytes() as u64,
            look_ups: known.misses,
            ..self.probe.figures()
        }
    }

    /// Room to hold `bytes` of a request while it is read and taken; `None` where the shard holds enough.
    pub fn hold_body(&self, bytes: usize) -> Option<BodyRoom> {
        let held = self.bodies_bytes.get() + bytes;
        if held > BODIES_BYTES_MAX {
            add(&self.probe.busy, 1);
            return None;
        }
        self.bodies_bytes.set(held);
        Some(BodyRoom { bodies_bytes: self.bodies_bytes.clone(), bytes })
    }

    /// Takes a body as it came; `now` is the wall's time.
    pub async fn take(&self, protocol: Protocol, body: &[u8], now: Timestamp) -> Answer {
        let mut scratch = self.scratches.borrow_mut().pop().unwrap_or_else(|| self.new_scratch());
        add(&self.probe.requests, 1);
        add(&self.probe.body_bytes, body.len() as u64);
        let result = match unpacked_length(body) {
            Ok(length) => self.take_bounded(&mut scratch, protocol, body, length, now).await,
            Err(e) => Err(e),
        };
        self.put_back(scratch);
        self.answer(protocol, result)
    }

    /// Takes a 1.0 request that is not packed: what other ways of pushing were rewritten as.
    pub async fn take_plain(&self, terms: Terms, body: &[u8], now: Timestamp) -> Answer {
        let mut scratch = self.scratches.borrow_mut().pop().unwrap_or_else(|| self.new_scratch());
        let protocol = match terms {
            Terms::Whole => Protocol::V1,
            Terms::Part | Terms::Import => Protocol::V2,
        };
        self.begin(&mut scratch.sorter, now);
        if terms == Terms::Import {
            scratch.sorter.end_at(now);
        }
        let result = match self.read_v1(&mut scratch.sorter, body).await {
            Ok(()) if terms == Terms::Import => self.write_part(&mut scratch.sorter, Want::Import).await,
            Ok(()) => self.write(&mut scratch.sorter, protocol).await,
            Err(e) => Err(e),
        };
        self.put_back(scratch);
        self.answer(protocol, result)
    }

    fn begin(&self, sorter: &mut Sorter, now: Timestamp) {
        sorter.begin(self.keeper.commons().bounds(now));
        sorter.keeps_exemplars = self.keeper.shard().exemplars().max() > 0;
    }

    fn answer(&self, protocol: Protocol, result: Result<Answer, Error>) -> Answer {
        match result {
            Ok(answer) => answer,
            Err(e) => {
                let counter = match e {
                    Error::Bad(_) => &self.probe.malformed,
                    Error::Busy(_) => &self.probe.busy,
                    Error::Broken(_) => &self.probe.failed,
                };
                add(counter, 1);
                Answer::failed(protocol, &e)
            }
        }
    }

    fn new_scratch(&self) -> Scratch {
        Scratch {
            raw: Vec::new(),
            decoder: Decoder::new(),
            outline: RequestV2::default(),
            sorter: Sorter::new(self.peers.shard_count(), self.settings.seed),
        }
    }

    fn put_back(&self, scratch: Scratch) {
        let mut kept = self.scratches.borrow_mut();
        if kept.len() < KEPT_COUNT_MAX && scratch.raw.capacity() <= KEPT_BYTES_MAX {
            kept.push(scratch);
        }
    }

    async fn take_bounded(
        &self,
        scratch: &mut Scratch,
        protocol: Protocol,
        body: &[u8],
        length: usize,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let held = self.unpacked_bytes.get();
        if held + length > UNPACKED_BYTES_MAX {
            return Err(Error::Busy("too many remote write requests at one time".to_owned()));
        }
        self.unpacked_bytes.set(held + length);
        let result = match unpack(&mut scratch.decoder, body, length, &mut scratch.raw) {
            Ok(()) => self.take_unpacked(scratch, protocol, length, now).await,
            Err(e) => Err(e),
        };
        self.unpacked_bytes.set(self.unpacked_bytes.get() - length);
        result
    }

    async fn take_unpacked(
        &self,
        scratch: &mut Scratch,
        protocol: Protocol,
        length: usize,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let sorter = &mut scratch.sorter;
        self.begin(sorter, now);
        let raw = &scratch.raw[..length];
        match protocol {
            Protocol::V1 => self.read_v1(sorter, raw).await?,
            Protocol::V2 => self.read_v2(sorter, &mut scratch.outline, raw).await?,
        }
        self.write(sorter, protocol).await
    }

    /// Writes what was read, by the protocol's terms.
    async fn write(&self, sorter: &mut Sorter, protocol: Protocol) -> Result<Answer, Error> {
        add(&self.probe.invalid_labels, sorter.invalid_labels);
        let result = match protocol {
            Protocol::V1 => self.write_whole(sorter).await,
            Protocol::V2 => self.write_part(sorter, Want::AppendJudged).await,
        };
        if let Ok(answer) = &result
            && answer.status == 204
        {
            let highest = &self.probe.highest_time;
            highest.set(highest.get().max(sorter.highest_time));
        }
        result
    }

    async fn read_v1(&self, sorter: &mut Sorter, raw: &[u8]) -> Result<(), Error> {
        let mut request = RequestV1::new(raw);
        let bad = |e: exposition::remote_write::Malformed| Error::Bad(e.to_string());
        while sorter.read_v1(&mut request, &mut self.known.borrow_mut()).map_err(bad)? {
            yield_if_needed().await;
        }
        Ok(())
    }

    async fn read_v2(&self, sorter: &mut Sorter, outline: &mut RequestV2, raw: &[u8]) -> Result<(), Error> {
        let bad = |e: exposition::remote_write::Malformed| Error::Bad(e.to_string());
        outline.read(raw).map_err(bad)?;
        sorter.begin_v2(outline, raw);
        let mut from = 0;
        while from < outline.series.len() {
            from += sorter.read_v2(outline, raw, from, &mut self.known.borrow_mut()).map_err(bad)?;
            yield_if_needed().await;
        }
        Ok(())
    }

    /// 1.0: all of the request or, when any sample is refused, nothing.
    async fn write_whole(&self, sorter: &mut Sorter) -> Result<Answer, Error> {
        let mut faults = std::mem::take(&mut sorter.faults);
        let is_judged = sorter.is_doubtful || !faults.is_empty();
        if is_judged {
            let told = self.ask_all(sorter, Want::Judge, false).await?;
            self.count_first(&told, &faults);
            faults.extend(told.faults);
        }
        let mut late_exemplars = 0;
        if faults.is_empty() {
            let told = self.ask_all(sorter, Want::Append, false).await?;
            late_exemplars = told.late_exemplars;
            if told.dropped > 0 && !is_judged {
                // Another request brought newer samples of these series in the meantime.
                faults.push((0, Refusal::OutOfOrder.to_string()));
            } else {
                let samples = sorter.sample_count - told.refused_samples;
                let histograms = sorter.histogram_count - told.refused_histograms;
                let exemplars = sorter.exemplar_count - told.refused_exemplars;
                self.note_written(samples, histograms, exemplars);
            }
            self.count_first(&told, &faults);
            // Series that there is no room for; what was sent with them is kept all the same.
            faults.extend(told.faults);
        }
        let answer = Answer::of(Protocol::V1, Written::default(), in_order(faults));
        Ok(Answer { late_exemplars, ..answer })
    }

    /// 2.0: what can be taken, and what could not.
    async fn write_part(&self, sorter: &mut Sorter, want: Want) -> Result<Answer, Error> {
        let mut faults = std::mem::take(&mut sorter.faults);
        let told = self.ask_all(sorter, want, true).await?;
        faults.extend(told.faults);
        let written = Written {
            samples: sorter.sample_count - told.refused_samples,
            histograms: sorter.histogram_count - told.refused_histograms,
            exemplars: sorter.exemplar_count - told.refused_exemplars,
        };
        self.note_written(written.samples, written.histograms, written.exemplars);
        let answer = Answer::of(Protocol::V2, written, in_order(faults));
        Ok(Answer { late_exemplars: told.late_exemplars, deposited: told.deposited, ..answer })
    }

    fn note_written(&self, samples: u64, histograms: u64, exemplars: u64) {
        add(&self.probe.samples, samples);
        add(&self.probe.histograms, histograms);
        add(&self.probe.exemplars, exemplars);
    }

    /// Gives each shard its part and waits for all; what they tell is put together.
    async fn ask_all(&self, sorter: &mut Sorter, want: Want, names_series: bool) -> Result<Told, Error> {
        let (mut asked, mut own) = (Vec::new(), None);
        let (bounds, is_doubtful) = (sorter.bounds(), sorter.is_doubtful);
        for (i, part) in sorter.parts.iter_mut().enumerate().filter(|(_, p)| !p.is_empty()) {
            let order = Order { want, part: std::mem::take(part), bounds, is_doubtful, names_series };
            if i == usize::from(self.settings.shard) {
                own = Some(order);
            } else {
                asked.push((i, self.peers.ask(ShardId(i as u16), order)));
            }
        }
        let mut all = Told::default();
        let mut failure = None;
        if let Some(order) = own {
            let told = self.carry_out(order).await;
            failure = self.gather(sorter, usize::from(self.settings.shard), told, &mut all);
        }
        for (i, answer) in asked {
            let failed = match answer.await {
                Ok(told) => self.gather(sorter, i, told, &mut all),
                Err(e) => Some(e),
            };
            failure = failure.or(failed);
        }
        failure.map_or(Ok(all), Err)
    }

    fn gather(&self, sorter: &mut Sorter, shard: usize, mut told: Told, all: &mut Told) -> Option<Error> {
        let mut known = self.known.borrow_mut();
        for (slot, unmet) in told.slots.iter().zip(&sorter.unmet[shard]).filter(|(s, _)| **s != NOWHERE) {
            known.insert(unmet.hash, ShardId(shard as u16), *slot, unmet.newest);
        }
        sorter.parts[shard] = told.part;
        all.faults.append(&mut told.faults);
        all.first = all.first.into_iter().chain(told.first).min_by_key(|f| f.ordinal);
        all.refused_samples += told.refused_samples;
        all.refused_histograms += told.refused_histograms;
        all.refused_exemplars += told.refused_exemplars;
        all.late_exemplars += told.late_exemplars;
        all.dropped += told.dropped;
        all.deposited += told.deposited;
        told.failure
    }

    /// Carries out an order about series of this shard.
    pub async fn carry_out(&self, order: Order) -> Told {
        let mut told = Told { part: order.part, ..Told::default() };
        if order.want == Want::Import
            && let Err(e) = self.deposit_old(&mut told, order.bounds).await
        {
            told.failure = Some(e);
            return told;
        }
        if order.want != Want::Append {
            let refused = self.judge(&mut told, order.bounds, order.names_series);
            if order.want == Want::Judge {
                return told;
            }
            if !refused.is_empty() {
                told.part.samples.retain(|g| !refused.contains(&g.ordinal));
                told.part.histograms.retain(|h| !refused.contains(&h.ordinal));
            }
        }
        let late = order.bounds.late();
        if order.want == Want::Append
            && !order.is_doubtful
            && !self.judge(&mut told, order.bounds, order.names_series).is_empty()
        {
            // What the reading shard remembers was not all there is: other connections brought newer samples.
            return told;
        }
        // What is imported is sorted where it is written: nothing of it overtakes anything.
        if order.is_doubtful && order.want != Want::Import {
            let dropped = Stream::drop_overtaken(&mut told.part.samples, late) as u64;
            let counted =
                if late.is_some() { &self.probe.floats.too_old } else { &self.probe.floats.out_of_order };
            add(counted, dropped);
            told.dropped += dropped;
        }
        self.screen_exemplars(&mut told, order.names_series);
        let result = self.append(&mut told, order.bounds).await;
        told.failure = match result {
            Ok(()) if self.settings.is_durable => self.keeper.durable().await.map_err(error_of).err(),
            Ok(()) => None,
            Err(e) => Some(e),
        };
        told
    }

    /// Takes out what is older than the head takes, or than its series' newest sample, and gathers it for blocks.
    async fn deposit_old(&self, told: &mut Told, bounds: Bounds) -> Result<(), Error> {
        let oldest = bounds.late().map_or(bounds.oldest(), |late| late.min(bounds.oldest()));
        let mut old: Vec<Given> = told.part.samples.extract_if(.., |g| g.time < oldest).collect();
        let mut late = HashSet::new();
        self.stream.borrow().judge(
            &self.keeper.shard(),
            &told.part.samples,
            &told.part.fresh,
            bounds,
            |judged| {
                if let Judged::Refused(f) = judged
                    && matches!(f.refusal, Refusal::OutOfOrder | Refusal::OutOfBounds | Refusal::TooOld)
                {
                    late.insert(f.ordinal);
                }
            },
        );
        if !late.is_empty() {
            old.extend(told.part.samples.extract_if(.., |g| late.contains(&g.ordinal)));
        }
        let mut refused: Option<(u32, u64)> = None;
        for of_slot in old.chunk_by(|a, b| a.slot == b.slot) {
            let labels = self.stream.borrow().labels(&self.keeper.shard(), of_slot[0].slot, &told.part.fresh);
            if labels.is_empty() {
                return Err(Error::Busy("a series went while its samples came".to_owned()));
            }
            let from = self.keeper.kept_from(&labels, bounds.now());
            let count = self.keeper.deposit(&labels, of_slot.iter().map(|g| (g.time, g.value)), from);
            if count > 0 {
                let first = refused.map_or(of_slot[0].ordinal, |r| r.0);
                refused = Some((first, refused.map_or(0, |r| r.1) + count));
            }
            yield_if_needed().await;
        }
        told.deposited += old.len() as u64;
        if let Some((first, count)) = refused {
            told.refused_samples += count;
            told.deposited -= count;
            told.faults
                .push((first, format!("{count} samples are older than the retention time and were refused")));
        }
        while self.keeper.is_deposit_full() {
            self.keeper.settle_deposit().await.map_err(|e| Error::Busy(e.to_string()))?;
        }
        Ok(())
    }

    /// Prometheus stops at the first fault of a request, and counts no other.
    fn count_first(&self, told: &Told, faults: &[(u32, String)]) {
        if let Some(first) = told.first
            && faults.iter().all(|f| f.0 > first.ordinal)
        {
            self.judgments(first.is_histogram).note(first.refusal);
        }
    }

    fn judgments(&self, is_histogram: bool) -> &Judgments {
        if is_histogram { &self.probe.native } else { &self.probe.floats }
    }

    /// Notes what Prometheus would refuse; returns the ordinals.
    fn judge(&self, told: &mut Told, bounds: Bounds, names_series: bool) -> HashSet<u32> {
        let (stream, shard) = (self.stream.borrow(), self.keeper.shard());
        let Told { part, faults, first, refused_samples, refused_histograms, .. } = told;
        let mut refused = HashSet::new();
        let mut found: Vec<(Fault, u32)> = Vec::new();
        let mut note = |judged, count: &mut u64, is_histogram| match judged {
            Judged::Late { time } => self.probe.lateness.note(bounds.delta(time)),
            Judged::Refused(f) => {
                if matches!(f.refusal, Refusal::OutOfOrder | Refusal::OutOfBounds | Refusal::TooOld) {
                    self.probe.lateness.note(bounds.delta(f.time));
                }
                if names_series {
                    self.judgments(is_histogram).note(f.refusal);
                }
                let refused_here = Refused { ordinal: f.ordinal, refusal: f.refusal, is_histogram };
                *first = first.take().into_iter().chain([refused_here]).min_by_key(|f| f.ordinal);
                *count += u64::from(refused.insert(f.ordinal));
                found.push((f, NOWHERE));
            }
        };
        stream.judge(&shard, &part.samples, &part.fresh, bounds, |judged| {
            note(judged, refused_samples, false);
        });
        stream.judge_histograms(&shard, &part.histograms, &part.messages, &part.fresh, bounds, |judged| {
            note(judged, refused_histograms, true);
        });
        let slots = part.samples.iter().map(|g| (g.ordinal, g.slot));
        let slots = slots.chain(part.histograms.iter().map(|h| (h.ordinal, h.slot)));
        if names_series && !found.is_empty() {
            let slot_of: hashbrown::HashMap<u32, u32> =
                slots.filter(|(ordinal, _)| refused.contains(ordinal)).collect();
            found
                .iter_mut()
                .for_each(|(f, slot)| *slot = slot_of.get(&f.ordinal).copied().unwrap_or(NOWHERE));
        }
        for (fault, slot) in &found {
            if faults.len() < FAULTS_MAX {
                let text = match names_series {
                    true => format!("{fault} for series {}", stream.labels(&shard, *slot, &part.fresh)),
                    false => fault.to_string(),
                };
                faults.push((fault.ordinal, text));
            }
        }
        refused
    }

    /// Takes out exemplars that will not be kept. Who is told of refusals (2.0) hears of those that are out of order.
    fn screen_exemplars(&self, told: &mut Told, names_series: bool) {
        let (stream, shard) = (self.stream.borrow(), self.keeper.shard());
        let Told { part, faults, refused_exemplars, late_exemplars, .. } = told;
        let fresh = &part.fresh;
        part.exemplars.retain(|e| {
            let verdict = stream.judge_exemplar(&shard, e, fresh);
            *refused_exemplars += u64::from(matches!(verdict, Verdict::OutOfOrder | Verdict::TooLong));
            *late_exemplars += u64::from(verdict == Verdict::OutOfOrder);
            if verdict == Verdict::OutOfOrder && names_series && faults.len() < FAULTS_MAX {
                let series = stream.labels(&shard, e.slot, fresh);
                faults.push((e.ordinal, format!("out of order exemplar for series {series}")));
            }
            verdict == Verdict::Taken
        });
    }

    async fn append(&self, told: &mut Told, bounds: Bounds) -> Result<(), Error> {
        let mut batches = self.batches.borrow_mut().pop().unwrap_or_default();
        batches.late = bounds.late();
        let result = self.append_imp(told, &mut batches, bounds.now()).await;
        let mut kept = self.batches.borrow_mut();
        if kept.len() < KEPT_COUNT_MAX && batches.bytes.capacity() <= KEPT_BYTES_MAX {
            kept.push(batches);
        }
        result
    }

    async fn append_imp(&self, told: &mut Told, batches: &mut Batches, now: Timestamp) -> Result<(), Error> {
        if !told.part.fresh.is_empty() {
            self.define_fresh(told, batches, now).await?;
        }
        self.stream.borrow().encode(&mut told.part.samples, batches);
        told.dropped += self.append_all(batches).await?;
        if !told.part.histograms.is_empty() {
            let part = &told.part;
            self.stream.borrow().encode_histograms(&part.histograms, &part.messages, batches);
            told.dropped += self.append_all(batches).await?;
        }
        if !told.part.exemplars.is_empty() {
            self.stream.borrow().encode_exemplars(&told.part.exemplars, batches);
            self.append_all(batches).await?;
        }
        Ok(())
    }

    /// Takes out the new series for which there is no room, and their samples. One fault speaks for all of them.
    fn refuse_fresh(&self, told: &mut Told, is_used: &mut [bool], now: Timestamp) {
        let budget = &self.keeper.commons().budget;
        let room = budget.room();
        let Told { part, faults, refused_samples, refused_histograms, .. } = told;
        if part.fresh.len() as u64 <= room.plenty() {
            return;
        }
        let (refused, refusal) = {
            let shard = self.keeper.shard();
            let held = |metric: &str| shard.metric_series_count(metric) * u64::from(self.peers.shard_count());
            let is_new =
                |(i, f): &(usize, &(Labels, Timestamp))| is_used[*i] && shard.index().find(&f.0).is_none();
            let fresh: Vec<(usize, &Labels)> =
                part.fresh.iter().enumerate().filter(is_new).map(|(i, f)| (i, &f.0)).collect();
            room.screen(fresh.into_iter(), held)
        };
        let Some(refusal) = refusal else { return };
        refused.iter().for_each(|i| is_used[*i] = false);
        let is_taken = |slot: u32| slot & FRESH == 0 || is_used[(slot & !FRESH) as usize];
        let (samples, histograms) = (part.samples.len(), part.histograms.len());
        let ordinals = part.samples.iter().map(|g| (g.slot, g.ordinal));
        let ordinals = ordinals.chain(part.histograms.iter().map(|h| (h.slot, h.ordinal)));
        if let Some((_, first)) = ordinals.filter(|(slot, _)| !is_taken(*slot)).min_by_key(|o| o.1)
            && faults.len() < FAULTS_MAX
        {
            faults.push((first, refusal.to_string()));
        }
        part.samples.retain(|g| is_taken(g.slot));
        part.histograms.retain(|h| is_taken(h.slot));
        *refused_samples += (samples - part.samples.len()) as u64;
        *refused_histograms += (histograms - part.histograms.len()) as u64;
        budget.note_refusal(refusal, now);
    }

    /// Gives new series their slots. Definitions go ahead in batches of their own: a sample never lies in memory
    /// without the definition of its series in the log.
    async fn define_fresh(
        &self,
        told: &mut Told,
        batches: &mut Batches,
        now: Timestamp,
    ) -> Result<(), Error> {
        let part = &told.part;
        let mut is_used = vec![false; part.fresh.len()];
        let slots = part.samples.iter().map(|g| g.slot).chain(part.histograms.iter().map(|h| h.slot));
        slots.filter(|s| s & FRESH != 0).for_each(|s| is_used[(s & !FRESH) as usize] = true);
        self.refuse_fresh(told, &mut is_used, now);
        let part = &mut told.part;
        for slot in part.exemplars.iter().map(|e| e.slot).filter(|s| s & FRESH != 0) {
            // An exemplar makes no series, but finds one that others brought.
            let at = (slot & !FRESH) as usize;
            is_used[at] |= self.keeper.shard().index().find(&part.fresh[at].0).is_some();
        }
        let series = part.fresh.iter().zip(&is_used).map(|(f, used)| used.then_some(f));
        let resolved = self.stream.borrow_mut().resolve(&self.keeper.shard(), series, batches);
        let full = || Error::Broken("the shard has no room for more series".to_owned());
        let fresh = resolved.ok_or_else(full)?;
        self.append_all(batches).await?;
        self.stream.borrow_mut().confirm(&self.keeper.shard(), &fresh);
        let known = |slot: u32| match slot & FRESH {
            0 => slot,
            _ => fresh.slots[(slot & !FRESH) as usize],
        };
        part.samples.iter_mut().for_each(|g| g.slot = known(g.slot));
        part.histograms.iter_mut().for_each(|h| h.slot = known(h.slot));
        part.exemplars.iter_mut().for_each(|e| e.slot = known(e.slot));
        told.slots = fresh.slots;
        Ok(())
    }

    /// Appends batches one after the other, as the log has room. Returns how many samples the head did not take.
    async fn append_all(&self, batches: &Batches) -> Result<u64, Error> {
        let mut dropped = 0;
        for batch in batches.iter() {
            if batch.len() > BATCH_BYTES_MAX {
                let bytes = batch.len();
                return Err(Error::Bad(format!("a series of {bytes} bytes is larger than the log takes")));
            }
            let mut commits = 0;
            while !self.keeper.has_room(batch.len()) {
                commits += 1;
                if commits > COMMITS_AWAITED_MAX {
                    return Err(Error::Busy("the log's tail is full".to_owned()));
                }
                self.keeper.durable().await.map_err(error_of)?;
            }
            let applied = self.keeper.append(self.keeper.generation(), batch).map_err(error_of)?;
            dropped += (applied.out_of_order + applied.too_old + applied.duplicate) as u64;
            yield_if_needed().await;
        }
        Ok(dropped)
    }
}

fn error_of(refused: keeper::Refused) -> Error {
    use keeper::Refused::{DiskFull, LogFailed, OldGeneration, Shard, TailFull};
    match refused {
        TailFull(_) | DiskFull(_) | OldGeneration { .. } => Error::Busy(refused.to_string()),
        LogFailed(_) | Shard(_) => Error::Broken(refused.to_string()),
    }
}

/// Texts in the order of the samples they are about.
fn in_order(mut faults: Vec<(u32, String)>) -> Vec<String> {
    faults.sort_by_key(|f| f.0);
    faults.into_iter().map(|f| f.1).collect()
}

fn corrupt() -> Error {
    Error::Bad("snappy: corrupt input".to_owned())
}

/// What a snappy block says it unpacks to.
fn unpacked_length(body: &[u8]) -> Result<usize, Error> {
    if body.is_empty() {
        return Err(corrupt());
    }
    let length = decompress_len(body).map_err(|_| corrupt())?;
    if length > BODY_BYTES_MAX {
        return Err(Error::Bad(format!("decoded size exceeds the {BODY_BYTES_MAX} bytes limit")));
    }
    if length > body.len().saturating_mul(EXPANSION_MAX) {
        return Err(corrupt());
    }
    Ok(length)
}

/// Unpacks a snappy block of `length` bytes into `raw`, which only grows.
fn unpack(decoder: &mut Decoder, body: &[u8], length: usize, raw: &mut Vec<u8>) -> Result<(), Error> {
    if raw.len() < length {
        raw.resize(length, 0);
    }
    decoder.decompress(body, &mut raw[..length]).map(drop).map_err(|_| corrupt())
}
