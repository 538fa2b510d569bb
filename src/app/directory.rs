//! The data directory: whose it is, and for how many shards it was written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::rt::disk::DirLock;
use crate::rt::disk::plain::publish;
use crate::rt::rng::Rng;

/// The directory, ours for the life of the process.
pub struct DataDir {
    pub path: PathBuf,
    /// Drawn when the directory was made: tails left in shared memory by another directory are not ours.
    pub id: u64,
    /// How often the directory was opened, this time included: what is named by it was never named so before.
    pub start: u64,
    /// Shard counts that were found in it, other than ours.
    pub other_counts: Vec<u16>,
    _lock: Option<DirLock>,
}

const ID_FILE: &str = "systole.id";
const STARTS_FILE: &str = "systole.starts";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Runtime(#[from] crate::rt::Error),
    #[error("{what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} does not hold a directory id: move it away if this is not a data directory of systole", .0.display())]
    ForeignId(PathBuf),
    #[error("{} does not hold a count of starts: write one into it that is larger than any before, in hex", .0.display())]
    NoCount(PathBuf),
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
        let id = match id_of(path)? {
            Some(id) => id,
            None => {
                let id = Rng::from_entropy().next_u64();
                publish(&path.join(ID_FILE), format!("{id:016x}\n").as_bytes())?;
                id
            }
        };
        let start = count_start(&path.join(STARTS_FILE))?;
        crate::shard::reshard::settle(path)?;
        crate::app::snapshot::remove_unfinished(path);
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
        Ok(DataDir { path: path.to_path_buf(), id, start, other_counts, _lock: lock })
    }
}

/// The directory's id, where it has one.
pub fn id_of(path: &Path) -> Result<Option<u64>, Error> {
    let path = path.join(ID_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => match u64::from_str_radix(text.trim(), 16) {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(Error::ForeignId(path)),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { what: "read", path, source }),
    }
}

/// Makes `to` a directory that goes on where `from` is: what is named by its id and starts is known there, too.
pub fn begin_copy(from: &Path, to: &Path) -> Result<(), Error> {
    let failed = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { what, path, source }
    };
    fs::create_dir_all(to.join("shards")).map_err(failed("create", to))?;
    for name in [ID_FILE, STARTS_FILE] {
        let path = from.join(name);
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        publish(&to.join(name), &bytes)?;
    }
    Ok(())
}

/// One more start, on the disk before anything is named by it. A clock would not do: it goes back, and a killed
/// process may be back within the same second.
fn count_start(path: &Path) -> Result<u64, Error> {
    let failed = |what| move |source| Error::File { what, path: path.to_path_buf(), source };
    let text = |n: u64| format!("{n:016x}\n");
    match fs::read_to_string(path) {
        Ok(before) => {
            let before = u64::from_str_radix(before.trim(), 16).map_err(|_| Error::NoCount(path.into()))?;
            let start = before.wrapping_add(1);
            // In its place: that takes no room on a full disk.
            let mut file = fs::OpenOptions::new().write(true).open(path).map_err(failed("open"))?;
            file.write_all(text(start).as_bytes()).map_err(failed("write"))?;
            file.sync_all().map_err(failed("sync"))?;
            Ok(start)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            publish(path, text(1).as_bytes())?;
            Ok(1)
        }
        Err(e) => Err(failed("read")(e)),
    }
}

/// Makes the data of another shard count this one's.
pub fn adopt(dir: &DataDir, shard_count: u16) -> Result<(), Error> {
    // Ids that no running shard gives out: the last shard's number is beyond what may be started.
    let life = crate::app::core::MeshSink::source_base(dir.start, u16::MAX);
    for count in &dir.other_counts {
        tracing::info!(from = count, to = shard_count, "the number of shards changed: series are dealt anew");
        crate::shard::reshard::reshard(&dir.path, dir.id, *count, shard_count, life)?;
    }
    Ok(())
}

/// For how many shards the directory was written; `None` where it holds none.
pub fn shard_count(path: &Path) -> Option<u16> {
    let entries = fs::read_dir(path.join("shards")).ok()?;
    entries.flatten().filter_map(|e| count_of(&e.file_name().to_string_lossy())).max()
}

/// `NNNN-of-MMMM` is a shard of MMMM.
fn count_of(name: &str) -> Option<u16> {
    let (shard, count) = name.split_once("-of-")?;
    shard.parse::<u16>().ok()?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_is_another_one() {
        let path = std::env::temp_dir().join(format!("systole-starts-{}", std::process::id()));
        let open = || DataDir::open(&path, true, 1).map(|d| (d.id, d.start));
        let (id, first) = open().expect("a new directory");
        assert_eq!((first, open().ok()), (1, Some((id, 2))));
        fs::write(path.join(STARTS_FILE), "000000000000000f\n").expect("the file");
        assert_eq!(open().ok(), Some((id, 16)));
        fs::write(path.join(STARTS_FILE), "").expect("the file");
        assert!(matches!(open(), Err(Error::NoCount(_))));
        fs::remove_dir_all(&path).expect("the directory");
    }
}
