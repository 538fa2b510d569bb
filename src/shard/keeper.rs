//! A shard with its log: what the runtime keeps on each core.
//!
//! Appending is a plain call: the batch goes to memory and to the log's tail in one turn, so what a query can see is
//! what a restart will find. Commits follow: at once when somebody waits for an acknowledgement, else when enough has
//! gathered, else after a while.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use model::labels::METRIC_NAME;
use model::{SeriesId, Timestamp};

use crate::rt::disk::{Disk, Tail};
use crate::rt::gate::{Gate, Signal};
use crate::rt::{self, Moment, Pulse};
use crate::shard::births::Kind;
use crate::shard::block::Store;
use crate::shard::block::retention::Retention;
use crate::shard::checkpoint;
use crate::shard::commons::Commons;
use crate::shard::deposit::Deposit;
use crate::shard::index::{Index, SymbolId};
use crate::shard::probe::Probe;
use crate::shard::read_ahead::Damage;
use crate::shard::turn::Turn;
use crate::shard::wal::frame::{FRAME_BYTES_MAX, frame_bytes};
use crate::shard::wal::log::{Leftovers, Log};
use crate::shard::wal::pending::{self, Owner, Pending};
use crate::shard::wal::reader::{self, Start};
use crate::shard::{Applied, Shard};

/// Scraped rows have nobody waiting: a commit every 20 ms doubled the CPU of a quiet shard, so they gather.
const COMMIT_AFTER: Duration = Duration::from_millis(250);

/// ... but not more than this, so that a commit stays short.
const COMMIT_BYTES: usize = 1 << 20;

/// How long a full disk is left alone before the frame is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A checkpoint is due when the log behind the last one is larger than this: half a second of replay at most ...
const CHECKPOINT_LOG_BYTES: u64 = 64 << 20;

/// ... and than so many images: of what the disk writes, at most a third is then checkpoints.
const CHECKPOINT_LOG_IMAGES: u64 = 2;

/// How long a checkpoint that could not be written is left alone.
const CHECKPOINT_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What a shard keeps of its blocks in memory, until somebody says otherwise.
const BLOCK_CACHE_BYTES: usize = 64 << 20;

/// Tails of all shards together, and of one: half of it is what may wait while a commit runs.
const TAILS_BYTES: usize = 256 << 20;
const TAIL_HALF_BYTES: std::ops::Range<usize> = (1 << 20)..(8 << 20);
const _: () = assert!(TAIL_HALF_BYTES.end <= FRAME_BYTES_MAX, "a half is written as one frame");

/// Why a batch was not taken. The source must begin anew (its rows say only what changed).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    TailFull(#[from] pending::Full),
    #[error("the disk is full: {0}")]
    DiskFull(String),
    #[error("the log failed and the shard takes no more samples until a restart: {0}")]
    LogFailed(String),
    #[error("a source must begin anew after a refusal (generation {have}, not {given})")]
    OldGeneration { have: u64, given: u64 },
    #[error(transparent)]
    Shard(#[from] crate::shard::Error),
}

/// Where a shard lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// `<data>/shards/NNNN-of-MMMM`.
    pub dir: PathBuf,
    pub tail_dir: PathBuf,
    pub owner: Owner,
}

impl Place {
    pub fn new(data_dir: &Path, owner: Owner) -> Self {
        let name = shard_dir_name(owner.shard, owner.shard_count);
        Place { dir: data_dir.join("shards").join(name), tail_dir: Tail::dir_for(data_dir), owner }
    }

    pub fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }

    pub fn blocks_dir(&self) -> PathBuf {
        self.dir.join("blocks")
    }

    pub fn tail_path(&self) -> PathBuf {
        self.tail_dir.join(format!("{}.tail", shard_dir_name(self.owner.shard, self.owner.shard_count)))
    }
}

pub fn shard_dir_name(shard: u16, shard_count: u16) -> String {
    format!("{shard:04}-of-{shard_count:04}")
}

/// What the log can do at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    Writing,
    /// Appends are refused; the frame is tried again until space returns.
    DiskFull(String),
    /// A write or a sync failed: what is on the disk is not known, so nothing more is acknowledged.
    Failed(String),
}

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    pub record_count: u64,
    pub bytes: u64,
    pub series_count: usize,
    /// Bytes of the checkpoint that was read.
    pub image_bytes: u64,
    pub refused: u64,
    pub damage: Vec<Damage>,
}

/// What a directory and a tail come to.
pub(in crate::shard) struct Recovery {
    pub(in crate::shard) shard: Shard,
    /// Where the log goes on.
    start: Start,
    /// The checkpoint that was read.
    number: Option<u64>,
    /// Batches that only the tail holds.
    left: Vec<Vec<u8>>,
}

/// Reads the newest checkpoint at `place`, the log behind it, and the tail. Blocks have what is before `blocks_end`.
/// Exemplars may come `window_ms` late. Writes nothing.
pub(in crate::shard) async fn recover(
    disk: &Rc<dyn Disk>,
    place: &Place,
    tail: &[u8],
    blocks_end: Option<Timestamp>,
    window_ms: i64,
    recovered: &mut Recovered,
) -> Result<Recovery, rt::Error> {
    let wal_dir = place.wal_dir();
    let restored = checkpoint::restore(disk, &wal_dir, place.owner, &mut recovered.damage).await?;
    let mut shard = restored.shard;
    shard.exemplars.set_window(window_ms);
    if let Some(end) = blocks_end {
        // Before the log: what it has from before is judged as it would be now.
        shard.head.end_cut(end);
    }
    let mut apply = |batch: &[u8]| match shard.apply(batch) {
        Ok(_) => Ok(()),
        Err(e) => {
            recovered.refused += 1;
            Err(e.to_string())
        }
    };
    let read = reader::replay(disk, &wal_dir, place.owner, restored.start, &mut apply).await?;
    let mut left = Vec::new();
    pending::replay(tail, place.owner, read.last_sequence, |batch| {
        // A batch that memory refuses was refused when it came, too.
        let _ = apply(batch);
        left.push(batch.to_vec());
    });
    recovered.record_count = read.record_count + left.len() as u64;
    recovered.bytes = read.bytes;
    recovered.image_bytes = restored.bytes;
    recovered.damage.extend(read.damage);
    recovered.series_count = shard.index().series_count();
    let start = Start { first_segment: read.last_number + 1, next_sequence: read.last_sequence + 1 };
    Ok(Recovery { shard, start, number: restored.number, left })
}

struct Waiting {
    generation: u64,
    batch: Vec<u8>,
}

/// Bytes that may wait for room in one shard's tail: the labels of about two million new series. Beyond it batches
/// are refused and counted.
const WAITING_BYTES_MAX: usize = 512 << 20;

pub struct Keeper {
    pub(in crate::shard) disk: Rc<dyn Disk>,
    pub(in crate::shard) place: Place,
    pub(in crate::shard) shard: RefCell<Shard>,
    pub(in crate::shard) store: Rc<Store>,
    pub(in crate::shard) retention: RefCell<Retention>,
    /// Held by who changes which blocks there are, or deletes of them or the head.
    pub(in crate::shard) turn: Turn,
    /// Old samples on their way to blocks; held by who writes them there.
    pub(in crate::shard) deposit: RefCell<Deposit>,
    pub(in crate::shard) deposit_turn: Turn,
    pending: RefCell<Pending>,
    log: RefCell<Option<Log>>,
    leftovers: Rc<Leftovers>,
    pub(in crate::shard) state: RefCell<LogState>,
    commons: Arc<Commons>,
    /// Batches that wait for room in the tail, in order. A start defines millions of series within a second or
    /// two, faster than any disk takes their labels.
    waiting: RefCell<VecDeque<Waiting>>,
    waiting_bytes: Cell<usize>,
    /// Batches taken so far; those pushed to the tail; those of the frame being written; those durable.
    taken: Cell<u64>,
    pushed: Cell<u64>,
    committing: Cell<u64>,
    durable_batches: Cell<u64>,
    waiter_count: Cell<usize>,
    /// Something to commit, or somebody waits.
    due: Signal,
    durable: Signal,
    /// Bytes of the log behind the newest checkpoint, and that checkpoint's size.
    pub(in crate::shard) log_bytes: Cell<u64>,
    image_bytes: Cell<u64>,
    /// The newest checkpoint that is known to be whole, and the one before.
    checkpoint: Cell<Option<u64>>,
    previous_checkpoint: Cell<Option<u64>>,
    checkpoint_due: Signal,
    /// One checkpoint at a time.
    checkpoint_turn: Turn,
    /// The head gave up samples since the last checkpoint was begun: the log may still have them.
    pub(in crate::shard) gave_up: Cell<bool>,
    /// It did so between the beginnings of the newest checkpoint and of the one before.
    pub(in crate::shard) gave_up_before: Cell<bool>,
    /// Somebody wants one however short the log is.
    checkpoint_asked: Cell<bool>,
    pub probe: Probe,
    pub recovered: Recovered,
    /// Series of this shard as the others know of them.
    told_series: Cell<usize>,
    /// Ids of series that they were told of.
    told_ids: Cell<usize>,
}

impl Keeper {
    /// Recovers the shard at `place`, or begins it.
    pub async fn open(disk: Rc<dyn Disk>, place: &Place, commons: Arc<Commons>) -> Result<Self, rt::Error> {
        let half = (TAILS_BYTES / usize::from(place.owner.shard_count) / 2)
            .clamp(TAIL_HALF_BYTES.start, TAIL_HALF_BYTES.end);
        let tail_bytes = Pending::tail_bytes(half);
        let tail = Tail::open(&place.tail_path(), tail_bytes)?;
        Self::open_with(disk, place, tail, commons).await
    }

    /// [`Keeper::open`] with a tail of the caller's.
    pub async fn open_with(
        disk: Rc<dyn Disk>,
        place: &Place,
        tail: Tail,
        commons: Arc<Commons>,
    ) -> Result<Self, rt::Error> {
        disk.create_dir(&place.wal_dir()).await?;
        disk.create_dir(&place.blocks_dir()).await?;
        for dir in place.wal_dir().ancestors().skip(1).take(3) {
            disk.sync_dir(dir).await?;
        }
        let wal_dir = place.wal_dir();
        checkpoint::remove_unpublished(&disk, &wal_dir).await?;
        let store = Store::open(disk.clone(), &place.blocks_dir(), place.owner, BLOCK_CACHE_BYTES).await?;
        let mut recovered = Recovered::default();
        let Recovery { mut shard, start, number, left } =
            recover(&disk, place, &tail.to_vec(), store.own_end(), commons.window_ms(), &mut recovered)
                .await?;
        // What only the tail holds becomes the log's next frames before the tail is used again.
        let mut log = Log::new(disk.clone(), &wal_dir, place.owner, start.first_segment);
        let sequence = write_left(&mut log, start.next_sequence, &left).await?;
        shard.head.end_life();
        recovered.damage.extend(store.damage());
        let keeper = Keeper {
            disk,
            place: place.clone(),
            shard: RefCell::new(shard),
            store: Rc::new(store),
            retention: RefCell::default(),
            turn: Turn::default(),
            deposit: RefCell::default(),
            deposit_turn: Turn::default(),
            pending: RefCell::new(Pending::open(tail, place.owner, sequence)),
            leftovers: log.leftovers(),
            log: RefCell::new(Some(log)),
            state: RefCell::new(LogState::Writing),
            commons,
            waiting: RefCell::default(),
            waiting_bytes: Cell::new(0),
            taken: Cell::new(0),
            pushed: Cell::new(0),
            committing: Cell::new(0),
            durable_batches: Cell::new(0),
            waiter_count: Cell::new(0),
            due: Signal::new(),
            durable: Signal::new(),
            log_bytes: Cell::new(recovered.bytes),
            image_bytes: Cell::new(recovered.image_bytes),
            checkpoint: Cell::new(number),
            previous_checkpoint: Cell::new(None),
            checkpoint_due: Signal::new(),
            checkpoint_turn: Turn::default(),
            // A start trims what it reads.
            gave_up: Cell::new(true),
            gave_up_before: Cell::new(true),
            checkpoint_asked: Cell::new(false),
            probe: Probe::default(),
            recovered,
            told_series: Cell::new(0),
            told_ids: Cell::new(0),
        };
        if keeper.shard().head.blocks_end().is_some() {
            // Not what lies beside rows: it may have come late, and be in no block.
            keeper.trim_groups().await;
            keeper.shard.borrow_mut().head.trim_deleted();
            keeper.shard.borrow_mut().head.settle_mint();
        }
        // Before anybody can ask.
        keeper.told_ids.set(keeper.shard().index().id_count());
        keeper.tell_commons();
        Ok(keeper)
    }

    /// From when on the head answers; blocks have what was before. `None` where nothing was cut.
    pub fn blocks_end(&self) -> Option<Timestamp> {
        self.shard().head.blocks_end()
    }

    /// The shard's blocks.
    pub fn store(&self) -> &Rc<Store> {
        &self.store
    }

    pub fn set_retention(&self, retention: Retention) {
        self.retention.replace(retention);
    }

    /// What was found damaged, at the start and since.
    pub fn damage(&self) -> Vec<Damage> {
        let mut all = self.recovered.damage.clone();
        all.extend(self.store.damage().into_iter().filter(|d| !self.recovered.damage.contains(d)));
        all
    }

    pub(in crate::shard) fn ask_checkpoint(&self) {
        self.checkpoint_asked.set(true);
        self.checkpoint_due.notify();
    }

    /// The shard's memory. Not to be held across an await.
    pub fn shard(&self) -> Ref<'_, Shard> {
        self.shard.borrow()
    }

    /// How many exemplars are kept from here on, and how late they may come.
    pub fn set_exemplars(&self, max: usize, window_ms: i64) {
        let mut shard = self.shard.borrow_mut();
        shard.exemplars.set_max(max);
        shard.exemplars.set_window(window_ms);
    }

    pub fn state(&self) -> LogState {
        self.state.borrow().clone()
    }

    pub fn generation(&self) -> u64 {
        self.commons.generation()
    }

    pub fn commons(&self) -> &Commons {
        &self.commons
    }

    /// Whether a batch of `len` bytes would find room in the tail now. Who can wait asks before it appends: a
    /// refusal makes every source begin anew.
    pub fn has_room(&self, len: usize) -> bool {
        self.pending.borrow().check_room(len).is_ok()
    }

    /// Whether a batch of `len` bytes would be taken to memory in the turn in which it is appended.
    pub(in crate::shard) fn is_idle(&self, len: usize) -> bool {
        self.waiting_bytes.get() == 0 && self.has_room(len)
    }

    /// Takes a batch: memory and tail in one turn. `generation` is the one its source began in.
    pub fn append(&self, generation: u64, batch: &[u8]) -> Result<Applied, Refused> {
        let result = self.append_imp(generation, batch);
        if result.is_err() {
            self.probe.refused_batches.set(self.probe.refused_batches.get() + 1);
        }
        result
    }

    fn append_imp(&self, generation: u64, batch: &[u8]) -> Result<Applied, Refused> {
        match &*self.state.borrow() {
            LogState::Writing => {}
            LogState::DiskFull(why) => return Err(Refused::DiskFull(why.clone())),
            LogState::Failed(why) => return Err(Refused::LogFailed(why.clone())),
        }
        if generation != self.generation() {
            return Err(Refused::OldGeneration { have: self.generation(), given: generation });
        }
        let has_room = self.pending.borrow().check_room(batch.len());
        if self.waiting_bytes.get() == 0 && has_room.is_ok() {
            let applied = self.push(batch)?;
            self.taken.set(self.taken.get() + 1);
            return Ok(applied);
        }
        if self.waiting_bytes.get() + batch.len() > WAITING_BYTES_MAX {
            self.begin_generation();
            let pending_bytes = self.waiting_bytes.get();
            return Err(pending::Full { pending_bytes }.into());
        }
        self.waiting.borrow_mut().push_back(Waiting { generation, batch: batch.to_vec() });
        self.waiting_bytes.set(self.waiting_bytes.get() + batch.len());
        self.commons.note_waiting(batch.len() as i64);
        self.taken.set(self.taken.get() + 1);
        self.due.notify();
        Ok(Applied::default())
    }

    /// Memory and tail in one turn; there is room.
    fn push(&self, batch: &[u8]) -> Result<Applied, Refused> {
        let applied = match self.shard.borrow_mut().apply(batch) {
            Ok(applied) => applied,
            Err(e) => {
                self.begin_generation();
                return Err(e.into());
            }
        };
        self.tell_commons();
        let mut pending = self.pending.borrow_mut();
        let was_empty = pending.open_bytes() == 0;
        pending.push(batch);
        self.pushed.set(self.pushed.get() + 1);
        if was_empty || pending.open_bytes() >= COMMIT_BYTES {
            self.due.notify();
        }
        self.probe.note_applied(&applied);
        Ok(applied)
    }

    /// Tells all shards of the newest sample here, and how many series there are.
    fn tell_commons(&self) {
        let shard = self.shard.borrow();
        self.commons.note_newest(shard.head().max_time().unwrap_or(Timestamp::MIN));
        self.tell_births(shard.index());
        let count = shard.index().series_count();
        let before = self.told_series.replace(count);
        if before != count {
            self.commons.budget.note_series(before, count);
        }
    }

    fn tell_births(&self, index: &Index) {
        let ids = index.id_count();
        let before = self.told_ids.replace(ids);
        let name = index.symbols().find(METRIC_NAME);
        let mut last = None;
        for id in before..ids {
            // Series come in families: most have the name of the one before.
            let metric = name.map_or(SymbolId::EMPTY, |n| index.label_value(SeriesId(id as u32), n));
            if last.replace(metric) != Some(metric) {
                self.commons.births.note(Kind::of(index.symbols().text(metric)));
            }
        }
    }

    /// Takes what waited, as far as there is room now.
    fn push_waiting(&self) {
        loop {
            let has_room = |w: &Waiting| self.pending.borrow().check_room(w.batch.len()).is_ok();
            if !self.waiting.borrow().front().is_some_and(has_room) {
                return;
            }
            let Some(next) = self.waiting.borrow_mut().pop_front() else { return };
            self.waiting_bytes.set(self.waiting_bytes.get() - next.batch.len());
            self.commons.note_waiting(-(next.batch.len() as i64));
            let is_current = next.generation == self.generation();
            if !is_current || self.push(&next.batch).is_err() {
                self.probe.refused_batches.set(self.probe.refused_batches.get() + 1);
                self.pushed.set(self.pushed.get() + 1);
            }
        }
    }

    /// Rows say only what changed, so after one was lost its source cannot go on: all sources begin anew.
    fn begin_generation(&self) {
        self.commons.begin_generation();
    }

    /// Returns when everything appended so far is durable, or says why it will not be.
    pub async fn durable(&self) -> Result<(), Refused> {
        let taken = self.taken.get();
        self.waiter_count.set(self.waiter_count.get() + 1);
        self.due.notify();
        let failed = || !matches!(&*self.state.borrow(), LogState::Writing);
        self.durable.wait_until(|| self.durable_batches.get() >= taken || failed()).await;
        self.waiter_count.set(self.waiter_count.get() - 1);
        if self.durable_batches.get() >= taken {
            return Ok(());
        }
        match &*self.state.borrow() {
            LogState::DiskFull(why) => Err(Refused::DiskFull(why.clone())),
            LogState::Failed(why) => Err(Refused::LogFailed(why.clone())),
            LogState::Writing => Ok(()),
        }
    }

    /// Commits what is appended until the gate closes; then once more, so that an orderly stop loses nothing.
    pub async fn run_commits(self: Rc<Self>, pulse: Pulse, gate: Gate) {
        while !gate.is_closing() {
            or(self.commit_due(&pulse), gate.closing()).await;
            self.commit_now(&pulse).await;
            if let LogState::DiskFull(_) = self.state() {
                or(pulse.sleep(RETRY_AFTER), gate.closing()).await;
            }
        }
        self.commit_now(&pulse).await;
        if let Some(mut log) = self.log.take() {
            let _ = log.close().await;
        }
    }

    async fn commit_due(&self, pulse: &Pulse) {
        if matches!(&*self.state.borrow(), LogState::Failed(_)) {
            // Nothing will be committed any more.
            return std::future::pending().await;
        }
        let is_urgent = || {
            let pending = self.pending.borrow();
            pending.committing().is_some()
                || self.waiting_bytes.get() > 0
                || pending.open_bytes() >= COMMIT_BYTES
                || (self.waiter_count.get() > 0 && pending.open_bytes() > 0)
        };
        self.due.wait_until(|| self.pending.borrow().open_bytes() > 0 || is_urgent()).await;
        or(self.due.wait_until(is_urgent), pulse.sleep(COMMIT_AFTER)).await;
    }

    /// Writes one frame, if there is one to write: after a full disk the same one again, after a failure none.
    pub async fn commit_now(&self, pulse: &Pulse) {
        if matches!(&*self.state.borrow(), LogState::Failed(_)) {
            return;
        }
        if self.pending.borrow_mut().begin_commit() {
            self.committing.set(self.pushed.get());
            self.push_waiting();
        }
        let Some((sequence, length)) = self.pending.borrow().committing() else { return };
        let Some(mut log) = self.log.take() else { return };
        let started = pulse.now();
        let fill = |out: &mut [u8]| self.pending.borrow().copy_committing(out);
        let result = log.write_frame(sequence, length, fill).await;
        self.log.replace(Some(log));
        match result {
            Ok(()) => self.committed(length, started, pulse.now()),
            Err(e) => self.commit_failed(&e),
        }
        self.durable.notify();
    }

    fn committed(&self, length: usize, started: Moment, now: Moment) {
        self.pending.borrow_mut().finish_commit();
        self.durable_batches.set(self.committing.get());
        self.probe.note_commit(length, now.since(started));
        self.log_bytes.set(self.log_bytes.get() + frame_bytes(length) as u64);
        if self.is_checkpoint_due() {
            self.checkpoint_due.notify();
        }
        if matches!(&*self.state.borrow(), LogState::DiskFull(_)) {
            tracing::info!("the disk has room again: the shard takes samples");
            self.state.replace(LogState::Writing);
            self.begin_generation();
        }
    }

    fn commit_failed(&self, e: &rt::Error) {
        let next =
            if e.is_full() { LogState::DiskFull(e.to_string()) } else { LogState::Failed(e.to_string()) };
        if *self.state.borrow() != next {
            tracing::error!(error = %e, "the shard's log cannot be written: samples are refused, queries go on");
        }
        self.probe.failed_commits.set(self.probe.failed_commits.get() + 1);
        self.state.replace(next);
    }
}

/// Checkpoints.
impl Keeper {
    fn is_checkpoint_due(&self) -> bool {
        self.checkpoint_asked.get()
            || self.log_bytes.get() > CHECKPOINT_LOG_BYTES.max(CHECKPOINT_LOG_IMAGES * self.image_bytes.get())
    }

    /// Writes checkpoints when they are due, until the gate closes. A task of the background's.
    pub async fn run_checkpoints(self: Rc<Self>, pulse: Pulse, gate: Gate) {
        while !gate.is_closing() {
            or(self.checkpoint_due.wait_until(|| self.is_checkpoint_due()), gate.closing()).await;
            let write = async {
                if let Err(e) = self.checkpoint_now().await {
                    tracing::error!(error = %e, "a checkpoint cannot be written: the log stays as it is");
                    pulse.sleep(CHECKPOINT_RETRY_AFTER).await;
                }
            };
            or(write, gate.closing()).await;
        }
    }

    /// Writes a checkpoint, then removes what it makes superfluous.
    pub async fn checkpoint_now(&self) -> Result<(), rt::Error> {
        let _turn = self.checkpoint_turn.take().await;
        let gave_up = self.gave_up.replace(false);
        let before = self.checkpoint.get();
        let result = self.checkpoint_imp().await;
        if result.is_err() {
            self.gave_up.set(self.gave_up.get() || gave_up);
        } else if self.checkpoint.get() == before {
            self.gave_up_before.set(self.gave_up_before.get() || gave_up);
        } else {
            self.gave_up_before.set(gave_up);
        }
        self.probe.note_checkpoint(result.is_ok());
        result
    }

    async fn checkpoint_imp(&self) -> Result<(), rt::Error> {
        let start = self.begin_segment().await;
        self.checkpoint_asked.set(false);
        let bytes_before = self.log_bytes.get();
        let (dir, owner) = (self.place.wal_dir(), self.place.owner);
        let size = checkpoint::write(&self.disk, &dir, owner, start, &self.shard).await?;
        let newest = start.first_segment;
        let before = self.checkpoint.replace(Some(newest));
        if before != Some(newest) {
            self.previous_checkpoint.set(before);
        }
        self.image_bytes.set(size);
        self.log_bytes.set(self.log_bytes.get() - bytes_before);
        let damaged: Vec<PathBuf> = self.recovered.damage.iter().map(|d| d.path.clone()).collect();
        let previous = self.previous_checkpoint.get();
        checkpoint::tidy(&self.disk, &dir, newest, previous, &damaged, &self.leftovers).await
    }

    /// Has the log begin a new segment: everything that is in memory now is before it or in the head, everything
    /// that comes is in it.
    async fn begin_segment(&self) -> Start {
        loop {
            let is_idle = || self.log.borrow().is_some() && self.pending.borrow().committing().is_none();
            self.durable.wait_until(is_idle).await;
            if let Some(log) = self.log.borrow_mut().as_mut() {
                let next_sequence = self.pending.borrow().sequence();
                return Start { first_segment: log.end_segment(), next_sequence };
            }
        }
    }
}

/// Writes batches that only a tail held as frames of the log. Returns the next sequence.
async fn write_left(log: &mut Log, mut sequence: u64, left: &[Vec<u8>]) -> Result<u64, rt::Error> {
    let mut frame = Vec::new();
    for (i, batch) in left.iter().enumerate() {
        crate::shard::wal::frame::push_record(&mut frame, batch);
        if frame.len() >= COMMIT_BYTES || i + 1 == left.len() {
            log.write_frame(sequence, frame.len(), |out| out.copy_from_slice(&frame)).await?;
            sequence += 1;
            frame.clear();
        }
    }
    Ok(sequence)
}
