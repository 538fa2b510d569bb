//! A block put in place: written beside, synced, renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use prometheus_tsdb::block::BlockBuilder;
use prometheus_tsdb::tombstones::Tombstones;
use prometheus_tsdb::ulid::Ulid;

use crate::exchange::Error;
use crate::exchange::block::BlockFiles;
use crate::rt::clock::Clock;
use crate::rt::rng::Rng;

/// Where blocks go, and what their names are made of.
pub struct BlockWriter<'a> {
    pub dir: &'a Path,
    pub clock: &'a dyn Clock,
    pub rng: Rng,
}

/// Prometheus removes directories that end so when it starts.
const UNFINISHED: &str = ".tmp-for-creation";

impl BlockWriter<'_> {
    /// Writes a block with at least one series.
    pub fn write(&mut self, builder: BlockBuilder) -> Result<BlockFiles, Error> {
        let ulid = Ulid::new(self.clock.now_ms(), [self.rng.next_u64(), self.rng.next_u64()]);
        let beside = self.dir.join(format!("{ulid}{UNFINISHED}"));
        let chunks = beside.join("chunks");
        fs::create_dir_all(&chunks).map_err(Error::file("mkdir", &chunks))?;
        let written = write_files(builder, ulid, &beside, &chunks);
        if let Err(e) = written {
            // It is named for removal; that it could not be removed now changes nothing.
            let _ = fs::remove_dir_all(&beside);
            return Err(e);
        }
        let place = self.dir.join(ulid.to_string());
        sync_dir(&chunks)?;
        sync_dir(&beside)?;
        fs::rename(&beside, &place).map_err(Error::file("rename", &beside))?;
        sync_dir(self.dir)?;
        BlockFiles::find(&place)
    }
}

fn write_files(builder: BlockBuilder, ulid: Ulid, dir: &Path, chunks: &Path) -> Result<(), Error> {
    let mut open: Option<(u32, PathBuf, BufWriter<File>)> = None;
    let finished = builder.finish(ulid, |number, bytes| {
        if open.as_ref().is_none_or(|o| o.0 != number) {
            if let Some((_, path, file)) = open.take() {
                finish(file, &path)?;
            }
            let path = chunks.join(format!("{number:06}"));
            let file = File::create(&path).map_err(Error::file("create", &path))?;
            open = Some((number, path, BufWriter::with_capacity(1 << 20, file)));
        }
        match &mut open {
            Some((_, path, file)) => file.write_all(bytes).map_err(Error::file("write", path)),
            None => Ok(()),
        }
    })?;
    if let Some((_, path, file)) = open {
        finish(file, &path)?;
    }
    write_whole(&dir.join("index"), &finished.index)?;
    write_whole(&dir.join("tombstones"), &Tombstones::default().write())?;
    write_whole(&dir.join("meta.json"), finished.meta.write().as_bytes())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(Error::file("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::file("write", path))
}

fn finish(file: BufWriter<File>, path: &Path) -> Result<(), Error> {
    let file = file.into_inner().map_err(|e| Error::file("write", path)(e.into_error()))?;
    file.sync_all().map_err(Error::file("sync", path))
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(Error::file("sync", dir))
}
