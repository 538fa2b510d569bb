//! Another number of shards than last time: every series is dealt anew by its hash, and the logs are written again.
//!
//! The new logs are made beside the old ones and take their place by renames; a start that finds the work half done
//! finishes or undoes it. Runs before the shards start, on a plain thread.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_lite::future::block_on;
use hashbrown::HashMap;
use model::{ShardId, Timestamp, is_stale};

use crate::rt::Error;
use crate::rt::disk::{Disk, PlainDisk, Tail};
use crate::shard::appender::{Appender, Slot, Source};
use crate::shard::keeper::{Place, shard_dir_name};
use crate::shard::record::{self, Entry, RowEntry, SourceId};
use crate::shard::wal::frame::push_record;
use crate::shard::wal::log::Log;
use crate::shard::wal::pending::{self, Owner};
use crate::shard::wal::reader;

/// Frames written while resharding: as large as a busy shard's commits.
const FRAME_BYTES: usize = 1 << 20;

/// Finishes or undoes what an interrupted resharding left. Call before the directory's shards are looked at.
pub fn settle(data_dir: &Path) -> Result<(), Error> {
    let disk = PlainDisk;
    let (shards, new, old) =
        (data_dir.join("shards"), data_dir.join("shards.new"), data_dir.join("shards.old"));
    block_on(async {
        if old.exists() && !shards.exists() {
            disk.rename(&new, &shards).await?;
            disk.sync_dir(data_dir).await?;
        }
        for leftover in [&new, &old] {
            if leftover.exists() {
                disk.remove(leftover).await?;
            }
        }
        Ok(())
    })
}

/// Writes the logs of `old_count` shards as those of `new_count`.
pub fn reshard(
    data_dir: &Path,
    directory_id: u64,
    old_count: u16,
    new_count: u16,
    life: u64,
) -> Result<(), Error> {
    let disk: Rc<dyn Disk> = Rc::new(PlainDisk);
    let new_dir = data_dir.join("shards.new");
    block_on(async {
        let mut dealer = Dealer::open(&disk, &new_dir, directory_id, new_count, life).await?;
        let mut tails = Vec::new();
        for shard in 0..old_count {
            let place = Place::new(data_dir, Owner { directory_id, shard, shard_count: old_count });
            tails.push(place.tail_path());
            dealer.deal_shard(&disk, &place).await?;
        }
        dealer.close().await?;
        publish(&disk, data_dir, &new_dir).await?;
        for tail in tails.iter().filter(|t| t.exists()) {
            disk.remove(tail).await?;
        }
        Ok(())
    })
}

async fn publish(disk: &Rc<dyn Disk>, data_dir: &Path, new_dir: &Path) -> Result<(), Error> {
    let (shards, old) = (data_dir.join("shards"), data_dir.join("shards.old"));
    disk.sync_dir(new_dir).await?;
    disk.rename(&shards, &old).await?;
    disk.rename(new_dir, &shards).await?;
    disk.sync_dir(data_dir).await?;
    disk.remove(&old).await
}

/// Splits batches of old shards among new ones.
struct Dealer {
    appender: Appender,
    writers: Vec<Writer>,
    new_count: u16,
    life: u64,
    source_count: u64,
}

/// A source of one old shard, as it is dealt.
struct Dealt {
    source: Source,
    slots: Vec<Option<Slot>>,
    is_present: Vec<bool>,
}

struct Writer {
    log: Log,
    dir: PathBuf,
    frame: Vec<u8>,
    sequence: u64,
}

impl Dealer {
    async fn open(
        disk: &Rc<dyn Disk>,
        new_dir: &Path,
        directory_id: u64,
        new_count: u16,
        life: u64,
    ) -> Result<Self, Error> {
        let mut writers = Vec::new();
        for shard in 0..new_count {
            let dir = new_dir.join(shard_dir_name(shard, new_count)).join("wal");
            disk.create_dir(&dir).await?;
            let owner = Owner { directory_id, shard, shard_count: new_count };
            let log = Log::new(disk.clone(), &dir, owner, 1);
            writers.push(Writer { log, dir, frame: Vec::new(), sequence: 1 });
        }
        Ok(Dealer { appender: Appender::new(new_count), writers, new_count, life, source_count: 0 })
    }

    /// Replays one old shard: its log, then its tail.
    async fn deal_shard(&mut self, disk: &Rc<dyn Disk>, place: &Place) -> Result<(), Error> {
        let mut sources: HashMap<SourceId, Dealt> = HashMap::new();
        let wal = place.dir.join("wal");
        let mut last_sequence = 0;
        if wal.exists() {
            let deal = |batch: &[u8]| self.deal(&mut sources, batch).map_err(|e| e.to_string());
            let read = reader::replay(disk, &wal, place.owner, deal).await?;
            for damage in &read.damage {
                tracing::error!(%damage, "the log is damaged: what follows there was set aside");
            }
            last_sequence = read.last_sequence;
        }
        let tail_path = place.tail_path();
        if let Ok(meta) = std::fs::metadata(&tail_path) {
            let tail = Tail::open(&tail_path, meta.len() as usize)?;
            pending::replay(&tail.to_vec(), place.owner, last_sequence, |batch| {
                // What does not parse was not taken when it came, either.
                let _ = self.deal(&mut sources, batch);
            });
        }
        self.flush(0).await
    }

    fn deal(
        &mut self,
        sources: &mut HashMap<SourceId, Dealt>,
        batch: &[u8],
    ) -> Result<(), record::Malformed> {
        let (id, mut entries) = record::open(batch)?;
        let dealt = sources.entry(id).or_insert_with(|| {
            self.source_count += 1;
            let source = Source::new(SourceId(self.life + self.source_count), self.new_count);
            Dealt { source, slots: Vec::new(), is_present: Vec::new() }
        });
        let (appender, writers) = (&mut self.appender, &mut self.writers);
        let mut time = None;
        while let Some(entry) = entries.try_next()? {
            match entry {
                Entry::Define { slot, labels } => {
                    let new = appender.define(&mut dealt.source, &labels);
                    dealt.bind(slot, new);
                }
                Entry::Row(row) => {
                    dealt.row(appender, &row);
                    time = if row.is_partial { time } else { Some(row.time) };
                }
                Entry::Float { slot, time, start, value } => {
                    if let Some(new) = dealt.slot(slot) {
                        appender.append_at(new, time, start, value);
                    }
                }
                Entry::Histogram { slot, time, start, bytes } => {
                    if let Some(new) = dealt.slot(slot) {
                        appender.append_histogram_at(&dealt.source, new, time, start, bytes);
                    }
                }
            }
        }
        let deliver = |shard: ShardId, batch: &[u8]| {
            push_record(&mut writers[usize::from(shard.0)].frame, batch);
        };
        match time {
            Some(time) => {
                appender.commit(&mut dealt.source, time, deliver);
            }
            None => appender.flush(&dealt.source, deliver),
        }
        self.writers.iter_mut().for_each(|w| {
            // A segment's worth of frames stays in memory at most: replay hands over batches, not turns.
            if w.frame.len() >= FRAME_BYTES
                && let Err(e) = block_on(w.write())
            {
                tracing::error!(dir = %w.dir.display(), err = %e, "resharding cannot write");
            }
        });
        Ok(())
    }

    async fn flush(&mut self, min_bytes: usize) -> Result<(), Error> {
        for w in &mut self.writers {
            if w.frame.len() > min_bytes {
                w.write().await?;
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.flush(0).await?;
        for w in &mut self.writers {
            w.log.close().await?;
        }
        Ok(())
    }
}

impl Writer {
    async fn write(&mut self) -> Result<(), Error> {
        let frame = &self.frame;
        self.log.write_frame(self.sequence, frame.len(), |out| out.copy_from_slice(frame)).await?;
        self.sequence += 1;
        self.frame.clear();
        Ok(())
    }
}

impl Dealt {
    fn bind(&mut self, slot: u32, new: Slot) {
        let need = slot as usize + 1;
        if self.slots.len() < need {
            self.slots.resize(need, None);
            self.is_present.resize(need, false);
        }
        self.slots[slot as usize] = Some(new);
        self.is_present[slot as usize] = false;
    }

    fn slot(&self, slot: u32) -> Option<Slot> {
        self.slots.get(slot as usize).copied().flatten()
    }

    fn row(&mut self, appender: &mut Appender, row: &RowEntry<'_>) {
        let mut scratch = Vec::new();
        let mask = row.mask(&mut scratch).to_vec();
        let slots = mask.iter().enumerate().flat_map(|(w, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| (w * 64 + bit) as u32)
        });
        for (slot, bits) in slots.zip(row.values()) {
            self.value(appender, row.base + slot, f64::from_bits(bits), row.time, row.is_partial);
        }
    }

    fn value(&mut self, appender: &mut Appender, slot: u32, v: f64, time: Timestamp, is_partial: bool) {
        let Some(new) = self.slot(slot) else { return };
        let was_present = std::mem::replace(&mut self.is_present[slot as usize], !is_partial && !is_stale(v));
        match (is_partial, is_stale(v), was_present) {
            (true, ..) => appender.append_at(new, time, 0, v),
            (false, true, true) => appender.end(&mut self.source, new),
            (false, false, false) => appender.begin(&mut self.source, new, v),
            _ => appender.set(new, v),
        }
    }
}
