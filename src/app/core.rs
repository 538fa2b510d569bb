//! What each shard keeps, and how it reaches the others.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use model::{ShardId, Timestamp};

use crate::remote::order::Asked;
use crate::remote::{self, Order, Peers, Receiver};
use crate::rt::gate::Gate;
use crate::rt::{Mesh, Pulse, TaskClass};
use crate::scrape::{Scraper, Sink};
use crate::shard::budget::{Refusal, Room};
use crate::shard::commons::{Bounds, Commons};
use crate::shard::keeper::Keeper;
use crate::shard::record::SourceId;

/// Everything one core owns.
pub struct Core {
    pub keeper: Rc<Keeper>,
    pub scraper: Scraper,
    pub receiver: Receiver,
    pub pulse: Pulse,
    /// Closes when the shard stops.
    pub gate: Gate,
}

/// A batch on its way to the shard that owns its series.
pub struct Rows {
    pub generation: u64,
    pub batch: Vec<u8>,
}

pub type HouseMesh = Mesh<Core, Rows>;

/// Takes a batch that another shard scraped.
pub fn receive(core: &Rc<Core>, rows: Rows) {
    // Refusals are counted by the keeper; the source learns of them by the generation.
    let _ = core.keeper.append(rows.generation, &rows.batch);
}

/// How the remote write of one shard reaches the others.
pub struct MeshPeers {
    pub mesh: HouseMesh,
}

impl Peers for MeshPeers {
    fn shard_count(&self) -> u16 {
        self.mesh.shards() as u16
    }

    fn ask(&self, shard: ShardId, order: Order) -> Asked {
        let answer =
            self.mesh.submit_to(u32::from(shard.0), TaskClass::Ingest, move |core: Rc<Core>| async move {
                core.receiver.carry_out(order).await
            });
        Box::pin(async move { answer.await.map_err(|e| remote::Error::Busy(e.to_string())) })
    }
}

/// Where the scrape loops of one shard send their rows.
pub struct MeshSink {
    pub shard: u16,
    pub keeper: Rc<Keeper>,
    pub mesh: HouseMesh,
    pub commons: Arc<Commons>,
    /// Source ids: the start's number, the shard, a count. Never the same twice, in any life.
    pub life: u64,
    pub sources: Cell<u64>,
}

/// Sources of one shard and life before ids would meet the next shard's.
const SOURCES_BITS: u32 = 24;
const SHARD_BITS: u32 = 10;

impl MeshSink {
    pub fn source_base(start: u64, shard: u16) -> u64 {
        (start & 0x3fff_ffff) << (SOURCES_BITS + SHARD_BITS) | u64::from(shard & 0x3ff) << SOURCES_BITS
    }
}

impl Sink for MeshSink {
    fn shard_count(&self) -> u16 {
        self.mesh.shards() as u16
    }

    fn new_source(&self) -> SourceId {
        self.sources.set(self.sources.get() + 1);
        SourceId(self.life + self.sources.get())
    }

    fn generation(&self) -> u64 {
        self.commons.generation()
    }

    fn bounds(&self, now: Timestamp) -> Bounds {
        self.commons.bounds(now)
    }

    fn room(&self) -> Room {
        self.commons.budget.room()
    }

    fn note_refusal(&self, refusal: Refusal, now: Timestamp) {
        self.commons.budget.note_refusal(refusal, now);
    }

    fn has_backlog(&self) -> bool {
        self.commons.has_backlog()
    }

    fn deliver(&self, generation: u64, shard: ShardId, batch: &[u8]) -> bool {
        if shard.0 == self.shard {
            return self.keeper.append(generation, batch).is_ok();
        }
        let rows = Rows { generation, batch: batch.to_vec() };
        // Where the outbox is full, the source begins anew with its next row.
        self.mesh.post(u32::from(shard.0), rows).is_ok()
    }
}
