//! The data directory: whose it is, and for how many shards it was written.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rt::disk::DirLock;
use crate::rt::rng::Rng;

/// The directory, ours for the life of the process.
pub struct DataDir {
    pub path: PathBuf,
    /// Drawn when the directory was made: tails left in shared memory by another directory are not ours.
    pub id: u64,
    /// Shard counts that were found in it, other than ours.
    pub other_counts: Vec<u16>,
    _lock: Option<DirLock>,
}

const ID_FILE: &str = "systole.id";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Runtime(#[from] crate::rt::Error),
    #[error("{what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} does not hold a directory id: move it away if this is not a data directory of systole", .0.display())]
    ForeignId(PathBuf),
}

impl DataDir {
    /// Opens or makes the directory, and takes its lock.
    pub fn open(path: &Path, takes_lock: bool, shard_count: u16) -> Result<Self, Error> {
        let file = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::File { what, path, source }
        };
        fs::create_dir_all(path).map_err(file("create", path))?;
        let lock = if takes_lock { Some(DirLock::take(path)?) } else { None };
        let id_path = path.join(ID_FILE);
        let id = match fs::read_to_string(&id_path) {
            Ok(text) => {
                u64::from_str_radix(text.trim(), 16).map_err(|_| Error::ForeignId(id_path.clone()))?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let id = Rng::from_entropy().next_u64();
                fs::write(&id_path, format!("{id:016x}\n")).map_err(file("write", &id_path))?;
                id
            }
            Err(e) => return Err(file("read", &id_path)(e)),
        };
        crate::shard::reshard::settle(path)?;
        let shards = path.join("shards");
        let mut other_counts: Vec<u16> = match fs::read_dir(&shards) {
            Ok(entries) => {
                entries.flatten().filter_map(|e| count_of(&e.file_name().to_string_lossy())).collect()
            }
            Err(_) => Vec::new(),
        };
        other_counts.sort_unstable();
        other_counts.dedup();
        other_counts.retain(|n| *n != shard_count);
        Ok(DataDir { path: path.to_path_buf(), id, other_counts, _lock: lock })
    }
}

/// Makes the data of another shard count this one's.
pub fn adopt(dir: &DataDir, shard_count: u16, now_seconds: u64) -> Result<(), Error> {
    // Ids that no running shard gives out: the last shard's number is beyond what may be started.
    let life = crate::app::core::MeshSink::source_base(now_seconds, u16::MAX);
    for count in &dir.other_counts {
        tracing::info!(from = count, to = shard_count, "the number of shards changed: series are dealt anew");
        crate::shard::reshard::reshard(&dir.path, dir.id, *count, shard_count, life)?;
    }
    Ok(())
}

/// `NNNN-of-MMMM` is a shard of MMMM.
fn count_of(name: &str) -> Option<u16> {
    let (shard, count) = name.split_once("-of-")?;
    shard.parse::<u16>().ok()?;
    count.parse().ok()
}
