//! All that a directory of Prometheus holds, read only.

use std::fs;
use std::path::{Path, PathBuf};

use model::Timestamp;
use prometheus_tsdb::head::Head;
use prometheus_tsdb::ulid::Ulid;

use crate::exchange::Error;
use crate::exchange::block::{Block, BlockFiles};
use crate::exchange::log::{self, Damage};

/// Blocks of samples that came late: they say nothing of how far the head was cut.
const LATE_HINT: &str = "from-out-of-order";

/// Names of a directory that are names of blocks, in their order.
pub fn block_dirs(dir: &Path) -> Result<Vec<(Ulid, PathBuf)>, Error> {
    fs::metadata(dir).map_err(Error::file("stat", dir)).map_err(|e| e.within("opening the db dir"))?;
    let entries = fs::read_dir(dir).map_err(Error::file("open", dir))?;
    let mut all: Vec<(Ulid, PathBuf)> = entries
        .flatten()
        .filter(|e| e.path().is_dir())
        .filter_map(|e| Some((Ulid::parse(e.file_name().to_str()?)?, e.path())))
        .collect();
    all.sort();
    Ok(all)
}

/// Every block's meta file, by their first times.
pub fn list_blocks(dir: &Path) -> Result<Vec<BlockFiles>, Error> {
    let found = block_dirs(dir)?.into_iter().map(|(_, path)| BlockFiles::find(&path));
    let mut all = found.collect::<Result<Vec<_>, Error>>()?;
    all.sort_by_key(|b| b.meta.min_time);
    Ok(all)
}

/// Blocks and log of a directory as one database.
pub struct Database {
    /// By their first times.
    pub blocks: Vec<Block>,
    pub head: Option<Head>,
    /// What of the log could not be read.
    pub damage: Vec<Damage>,
}

impl Database {
    pub fn open(dir: &Path) -> Result<Database, Error> {
        let found = list_blocks(dir)?;
        let in_order = found.iter().filter(|b| !b.meta.compaction.hints.iter().any(|h| h == LATE_HINT));
        let min_valid = in_order.map(|b| b.meta.max_time).max().unwrap_or(Timestamp::MIN);
        let blocks = found.iter().map(|b| Block::open(&b.dir)).collect::<Result<Vec<_>, Error>>()?;
        let mut damage = Vec::new();
        let head = log::read(dir, min_valid, &mut damage)?;
        Ok(Database { blocks, head, damage })
    }
}
