//! Snapshots: a directory beside the data that a start, or a Prometheus, can open. Made under another name and renamed when
//! it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use model::Timestamp;
use model::civil::format_rfc3339;

use crate::api::backend::{Reply, SnapshotWish};
use crate::api::error::ApiError;
use crate::app::admin::failed;
use crate::app::backend::HouseBackend;
use crate::app::core::Core;
use crate::app::directory::{begin_copy, id_of};
use crate::exchange::write::BlockWriter;
use crate::exchange::{self, create, export};
use crate::rt::TaskClass;
use crate::rt::clock::SystemClock;
use crate::rt::disk::UNPUBLISHED;
use crate::rt::disk::plain::sync_dir;
use crate::rt::rng::Rng;
use crate::shard::keeper::Place;
use crate::shard::wal::pending::Owner;

/// Where snapshots lie in a data directory.
const DIR: &str = "snapshots";

/// Blocks for a Prometheus are as long as those that it cuts itself.
const BLOCK_MS: i64 = 2 * 3600 * 1000;

/// `20060102T150405Z-` and 16 hex digits of chance, as Prometheus names them.
fn name_of(now: Timestamp, rng: &mut Rng) -> String {
    let time: String = format_rfc3339(now.div_euclid(1000), 0).replace(['-', ':'], "");
    format!("{time}-{:016x}", rng.next_u64() >> 1)
}

/// Removes what a process that was killed left of snapshots. What cannot be removed is no harm.
pub fn remove_unfinished(data_dir: &Path) {
    for entry in fs::read_dir(data_dir.join(DIR)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(UNPUBLISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A directory that goes unless it is kept.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The next start removes what could not be removed now.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl HouseBackend {
    pub(in crate::app) fn make_snapshot(&self, wanted: SnapshotWish) -> Reply<String> {
        let data_dir = self.flags.data_dir.clone();
        let name = name_of(self.clock.now_ms(), &mut Rng::from_entropy());
        let dir = data_dir.join(DIR);
        let ours = Unfinished(dir.join(format!("{name}{UNPUBLISHED}")));
        if let Err(e) = begin_copy(&data_dir, &ours.0).map_err(failed) {
            return Box::pin(async move { Err(e) });
        }
        let (target, with_head) = (ours.0.clone(), wanted.with_head);
        let linked = self.change_all(TaskClass::Background, move |core: Rc<Core>| {
            let target = target.clone();
            async move { core.keeper.snapshot(&target, with_head).await }
        });
        let shard_count = self.shard_count;
        Box::pin(async move {
            linked.await?;
            let finish = move || match wanted.for_prometheus {
                false => put_in_place(&ours.0, &dir, &name).map(|()| name),
                true => {
                    let theirs = Unfinished(dir.join(format!("{name}.blocks{UNPUBLISHED}")));
                    write_blocks(&ours.0, &theirs.0, shard_count)?;
                    put_in_place(&theirs.0, &dir, &name).map(|()| name)
                }
            };
            tokio::task::spawn_blocking(finish).await.map_err(failed)?
        })
    }
}

/// Makes a whole snapshot durable, then gives it its name.
fn put_in_place(beside: &Path, dir: &Path, name: &str) -> Result<(), ApiError> {
    let shards = beside.join("shards");
    if shards.exists() {
        sync_dir(&shards).map_err(failed)?;
    }
    sync_dir(beside).map_err(failed)?;
    fs::rename(beside, dir.join(name)).map_err(failed)?;
    sync_dir(dir).map_err(failed)?;
    dir.parent().map_or(Ok(()), sync_dir).map_err(failed)
}

/// Writes what a data directory holds, which nobody changes, as blocks of Prometheus into `to`.
fn write_blocks(from: &Path, to: &Path, shard_count: u16) -> Result<(), ApiError> {
    let directory_id = id_of(from).map_err(failed)?.unwrap_or_default();
    let owner = |shard| Owner { directory_id, shard, shard_count };
    let places: Vec<Place> = (0..shard_count).map(|shard| Place::new(from, owner(shard))).collect();
    fs::create_dir_all(to).map_err(failed)?;
    let clock = SystemClock::shared();
    let mut writer = BlockWriter { dir: to, clock: &*clock, rng: Rng::from_entropy() };
    let question = export::Question {
        mint: Timestamp::MIN,
        maxt: Timestamp::MAX,
        selectors: &[],
        block_ms: create::block_length(BLOCK_MS),
        is_for_people: false,
    };
    let written: Result<(), exchange::Error> =
        export::export(&places, &mut writer, &question, &mut io::sink());
    if let Some(place) = places.first() {
        // Nothing ran there: the directory for its tails is empty.
        let _ = fs::remove_dir(&place.tail_dir);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_by_their_second() {
        let name = name_of(1_795_386_683_999, &mut Rng::seeded(1));
        assert_eq!((&name[..17], name.len()), ("20261122T223123Z-", 33));
        assert!(name[17..].bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
