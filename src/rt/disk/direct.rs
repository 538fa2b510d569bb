//! The shard's backend: files opened O_DIRECT and driven by the shard's own ring; names by threads that may block.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::io::{DmaFile, OpenOptions};

use crate::rt::buffer::{ALIGNMENT, Buffer, align_up};
use crate::rt::disk::{Block, Disk, Entry, File, Io, Mode, plain};
use crate::rt::error::{Error, io_error};
use crate::rt::offload::{Blocking, offload};

/// To be used on a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectDisk;

struct DirectFile {
    path: PathBuf,
    file: Rc<DmaFile>,
    /// Each write is durable when it ends.
    is_synced: bool,
}

/// The file that is opened first on a device, with something in it.
const FIRST_FILE: &str = "first.block";

/// glommio asks the first file opened on a device whether the device can be polled, and takes an empty file's
/// silence for a yes; then reads fail and writes spin. So each directory gets a file that is not empty.
pub(crate) fn prepare_device(dir: &Path) -> Result<(), Error> {
    let path = dir.join(FIRST_FILE);
    std::fs::create_dir_all(dir).map_err(|e| Error::file("create directory", dir, e))?;
    let size = std::fs::metadata(&path).map(|about| about.len()).unwrap_or(0);
    if size >= 2 * ALIGNMENT as u64 {
        return Ok(());
    }
    std::fs::write(&path, [b'.'; 2 * ALIGNMENT]).map_err(|e| Error::file("write", &path, e))
}

/// Opens that file, before any other, on this shard.
pub(crate) async fn open_device(dir: &Path) -> Result<(), Error> {
    let path = dir.join(FIRST_FILE);
    let file = DmaFile::open(&path).await.map_err(|e| Error::file("open", &path, io_error(e)))?;
    let read =
        file.read_at_aligned(0, ALIGNMENT).await.map_err(|e| Error::file("read", &path, io_error(e)))?;
    drop(read);
    file.close().await.map_err(|e| Error::file("close", &path, io_error(e)))
}

/// Runs what blocks elsewhere.
fn elsewhere<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Io<'static, R> {
    Box::pin(async move { offload(Blocking::Files, work).await? })
}

impl Disk for DirectDisk {
    fn open(&self, path: &Path, mode: Mode) -> Io<'_, Rc<dyn File>> {
        let path = path.to_path_buf();
        Box::pin(async move {
            let mut options = OpenOptions::new();
            options.read(true).write(mode != Mode::Read);
            options
                .create(!matches!(mode, Mode::Read | Mode::LogAgain))
                .truncate(matches!(mode, Mode::Create | Mode::Log));
            // A write with its sync is one trip to the kernel; a sync of its own would go by a thread of the kernel's.
            let is_synced = matches!(mode, Mode::Log | Mode::LogAgain);
            options.custom_flags(if is_synced { libc::O_DSYNC } else { 0 });
            let file = options.dma_open(&path).await.map_err(|e| Error::file("open", &path, io_error(e)))?;
            Ok(Rc::new(DirectFile { path, file: Rc::new(file), is_synced }) as Rc<dyn File>)
        })
    }

    fn publish(&self, path: &Path, bytes: Vec<u8>) -> Io<'_, ()> {
        let path = path.to_path_buf();
        elsewhere(move || plain::publish(&path, &bytes))
    }

    fn read(&self, path: &Path) -> Io<'_, Vec<u8>> {
        let path = path.to_path_buf();
        elsewhere(move || std::fs::read(&path).map_err(|e| Error::file("read", path, e)))
    }

    fn list(&self, dir: &Path) -> Io<'_, Vec<Entry>> {
        let dir = dir.to_path_buf();
        elsewhere(move || plain::list(&dir))
    }

    fn create_dir(&self, dir: &Path) -> Io<'_, ()> {
        let dir = dir.to_path_buf();
        elsewhere(move || std::fs::create_dir_all(&dir).map_err(|e| Error::file("create directory", dir, e)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<'_, ()> {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        elsewhere(move || std::fs::rename(&from, to).map_err(|e| Error::file("rename", from, e)))
    }

    fn link(&self, from: &Path, to: &Path) -> Io<'_, ()> {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        elsewhere(move || plain::link(&from, &to))
    }

    fn remove(&self, path: &Path) -> Io<'_, ()> {
        let path = path.to_path_buf();
        elsewhere(move || plain::remove(&path))
    }

    fn sync_dir(&self, dir: &Path) -> Io<'_, ()> {
        let dir = dir.to_path_buf();
        elsewhere(move || plain::sync_dir(&dir))
    }
}

impl DirectFile {
    fn failed(&self, operation: &'static str, error: glommio::GlommioError<()>) -> Error {
        Error::file(operation, &self.path, io_error(error))
    }
}

impl File for DirectFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> Io<'_, u64> {
        Box::pin(async move { self.file.file_size().await.map_err(|e| self.failed("stat", e)) })
    }

    fn write_at(&self, buffer: Buffer, at: u64) -> Io<'_, Buffer> {
        assert!(at.is_multiple_of(ALIGNMENT as u64), "write at {at}");
        Box::pin(async move {
            let len = buffer.len();
            let lent = Rc::new(buffer.into_inner());
            let written =
                self.file.write_rc_at(lent.clone(), at).await.map_err(|e| self.failed("write", e))?;
            if written < len {
                // A full disk first writes what fits; the error itself would come with the next write.
                let full = std::io::ErrorKind::StorageFull;
                return Err(Error::file("write", &self.path, full.into()));
            }
            // The ring lets go of the buffer with the completion; should it ever not, a new one serves as well.
            Ok(Rc::try_unwrap(lent).map_or_else(|_| Buffer::zeroed(len), Buffer::from_inner))
        })
    }

    fn write_durably_at(&self, buffer: Buffer, at: u64) -> Io<'_, Buffer> {
        Box::pin(async move {
            let buffer = self.write_at(buffer, at).await?;
            if !self.is_synced {
                self.sync().await?;
            }
            Ok(buffer)
        })
    }

    fn read_at(&self, at: u64, len: usize) -> Io<'_, Block> {
        Box::pin(async move {
            if len == 0 {
                return Ok(Block::direct(None));
            }
            let from = at - at % ALIGNMENT as u64;
            let span = align_up(at - from + len as u64) as usize;
            let read = self.file.read_at_aligned(from, span).await.map_err(|e| self.failed("read", e))?;
            let skip = (at - from) as usize;
            let got = read.len().saturating_sub(skip).min(len);
            Ok(Block::direct(glommio::io::ReadResult::slice(&read, skip, got).filter(|_| got > 0)))
        })
    }

    fn sync(&self) -> Io<'_, ()> {
        Box::pin(async move { self.file.fdatasync().await.map_err(|e| self.failed("sync", e)) })
    }

    fn preallocate(&self, size: u64) -> Io<'_, ()> {
        Box::pin(async move {
            let hinted = self.file.pre_allocate(size, true).await.map_err(|e| self.failed("allocate", e));
            match hinted {
                Err(error) if error.is_full() => Err(error),
                _ => Ok(()),
            }
        })
    }

    fn truncate(&self, size: u64) -> Io<'_, ()> {
        // On a thread that may block: the executor would use its own, which wakes by the waker that can be lost.
        let path = self.path.clone();
        elsewhere(move || {
            let cut = std::fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(size));
            cut.map_err(|e| Error::file("truncate", path, e))
        })
    }

    fn close(self: Rc<Self>) -> Io<'static, ()> {
        Box::pin(async move {
            let Ok(owned) = Rc::try_unwrap(self) else { return Ok(()) };
            let path = owned.path;
            owned.file.close_rc().await.map(drop).map_err(|e| Error::file("close", path, io_error(e)))
        })
    }
}
