//! Blocks that are written together: one for each retention class, and one for the series of none.

use std::path::PathBuf;
use std::rc::Rc;

use model::{SeriesHash, Timestamp};

use crate::rt;
use crate::rt::disk::Disk;
use crate::shard::block::Store;
use crate::shard::block::chunk::Samples;
use crate::shard::block::class::Classes;
use crate::shard::block::layout::{BlockId, Header};
use crate::shard::block::writer::BlockWriter;

/// What all blocks of a set have in common.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub mint: Timestamp,
    pub maxt: Timestamp,
    pub level: u32,
    /// Whether not even all blocks together have what came before `maxt`.
    pub is_partial: bool,
}

/// A block that was put in place.
pub struct Published {
    pub id: BlockId,
    pub path: PathBuf,
}

pub struct SetWriter {
    disk: Rc<dyn Disk>,
    classes: Classes,
    range: Range,
    /// By class; the last one for the series of none.
    writers: Vec<BlockWriter>,
}

impl SetWriter {
    /// Begins the files of all classes among those of `store`.
    pub async fn begin(
        disk: &Rc<dyn Disk>,
        store: &Store,
        range: Range,
        classes: Classes,
    ) -> Result<Self, rt::Error> {
        let mut set = SetWriter { disk: disk.clone(), classes, range, writers: Vec::new() };
        let marks: Vec<_> = set.classes.marks().cloned().map(Some).chain([None]).collect();
        for class in marks {
            let header = Header {
                owner: store.owner(),
                id: store.next_id(),
                mint: range.mint,
                maxt: range.maxt,
                level: range.level,
                // Which one will be the last is known at the end.
                is_partial: range.is_partial || !set.classes.is_empty(),
                class,
                aggregates: None,
            };
            match BlockWriter::begin(disk, store.dir(), header).await {
                Ok(writer) => set.writers.push(writer),
                Err(e) => {
                    set.discard().await;
                    return Err(e);
                }
            }
        }
        Ok(set)
    }

    /// Adds a series to the block of its class; as [`BlockWriter::push`].
    pub fn push<'a>(
        &mut self,
        hash: SeriesHash,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        samples: &Samples,
    ) {
        let class = self.classes.class_of(labels.clone());
        if let Some(writer) = self.writers.get_mut(class) {
            writer.push(hash, labels, samples);
        }
    }

    pub fn maxt(&self) -> Timestamp {
        self.range.maxt
    }

    /// Writes what has gathered.
    pub async fn flush(&mut self) -> Result<(), rt::Error> {
        for writer in &mut self.writers {
            writer.flush().await?;
        }
        Ok(())
    }

    /// Makes all files durable, then puts them in place, those without series left out. The last one says that all are
    /// there, and comes after the others are there for good: a crash in between leaves blocks of which none says so.
    pub async fn publish(mut self) -> Result<Vec<Published>, rt::Error> {
        let (mut full, empty): (Vec<_>, Vec<_>) = self.writers.drain(..).partition(|w| w.series_count() > 0);
        for writer in empty {
            writer.discard().await;
        }
        if let Some(last) = full.last_mut() {
            last.set_partial(self.range.is_partial);
        }
        let mut ended = Vec::with_capacity(full.len());
        let mut full = full.into_iter();
        while let Some(mut writer) = full.next() {
            let id = writer.header().id;
            let result = writer.end().await;
            ended.push((id, writer));
            if let Err(e) = result {
                self.writers.extend(ended.into_iter().map(|e| e.1).chain(full));
                self.discard().await;
                return Err(e);
            }
        }
        self.put_in_place(ended).await
    }

    async fn put_in_place(self, ended: Vec<(BlockId, BlockWriter)>) -> Result<Vec<Published>, rt::Error> {
        let mut out: Vec<Published> = Vec::with_capacity(ended.len());
        let last = ended.len().saturating_sub(1);
        let mut failed = None;
        for (i, (id, writer)) in ended.into_iter().enumerate() {
            if failed.is_some() {
                writer.discard().await;
                continue;
            }
            // One sync serves all before the last, and one the last.
            match writer.put_in_place(i + 1 >= last).await {
                Ok(path) => out.push(Published { id, path }),
                Err(e) => failed = Some(e),
            }
        }
        let Some(e) = failed else { return Ok(out) };
        for block in out.iter().rev() {
            // What cannot be removed has samples that the head or older blocks have, too: they are seen once.
            let _ = self.disk.remove(&block.path).await;
        }
        Err(e)
    }

    /// Gives the files up.
    pub async fn discard(self) {
        for writer in self.writers {
            writer.discard().await;
        }
    }
}
