//! The blocking backend: the standard library's files, for tools, tests and threads that may block.

use std::fs;
use std::future::ready;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::rt::buffer::{ALIGNMENT, Buffer};
use crate::rt::disk::{Block, Disk, Entry, File, Io, Mode, unpublished};
use crate::rt::error::Error;

#[derive(Clone, Copy, Debug, Default)]
pub struct PlainDisk;

struct PlainFile {
    path: PathBuf,
    file: fs::File,
}

fn done<'a, R: 'a>(result: Result<R, Error>) -> Io<'a, R> {
    Box::pin(ready(result))
}

impl Disk for PlainDisk {
    fn open(&self, path: &Path, mode: Mode) -> Io<'_, Rc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(mode != Mode::Read).create(!matches!(mode, Mode::Read | Mode::LogAgain));
        let opened = options.truncate(matches!(mode, Mode::Create | Mode::Log)).open(path);
        done(match opened {
            Ok(file) => Ok(Rc::new(PlainFile { path: path.into(), file })),
            Err(e) => Err(Error::file("open", path, e)),
        })
    }

    fn publish(&self, path: &Path, bytes: Vec<u8>) -> Io<'_, ()> {
        done(publish(path, &bytes))
    }

    fn read(&self, path: &Path) -> Io<'_, Vec<u8>> {
        done(fs::read(path).map_err(|e| Error::file("read", path, e)))
    }

    fn list(&self, dir: &Path) -> Io<'_, Vec<Entry>> {
        done(list(dir))
    }

    fn create_dir(&self, dir: &Path) -> Io<'_, ()> {
        done(fs::create_dir_all(dir).map_err(|e| Error::file("create directory", dir, e)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<'_, ()> {
        done(fs::rename(from, to).map_err(|e| Error::file("rename", from, e)))
    }

    fn link(&self, from: &Path, to: &Path) -> Io<'_, ()> {
        done(link(from, to))
    }

    fn remove(&self, path: &Path) -> Io<'_, ()> {
        done(remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> Io<'_, ()> {
        done(sync_dir(dir))
    }
}

impl File for PlainFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> Io<'_, u64> {
        done(self.file.metadata().map(|m| m.len()).map_err(|e| Error::file("stat", &self.path, e)))
    }

    fn write_at(&self, buffer: Buffer, at: u64) -> Io<'_, Buffer> {
        assert!(at.is_multiple_of(ALIGNMENT as u64), "write at {at}");
        let written = self.file.write_all_at(&buffer, at);
        done(written.map(|()| buffer).map_err(|e| Error::file("write", &self.path, e)))
    }

    fn read_at(&self, at: u64, len: usize) -> Io<'_, Block> {
        done(read_at(&self.file, at, len).map(Block::plain).map_err(|e| Error::file("read", &self.path, e)))
    }

    fn sync(&self) -> Io<'_, ()> {
        done(self.file.sync_data().map_err(|e| Error::file("sync", &self.path, e)))
    }

    fn preallocate(&self, _size: u64) -> Io<'_, ()> {
        done(Ok(()))
    }

    fn truncate(&self, size: u64) -> Io<'_, ()> {
        done(self.file.set_len(size).map_err(|e| Error::file("truncate", &self.path, e)))
    }

    fn close(self: Rc<Self>) -> Io<'static, ()> {
        done(Ok(()))
    }
}

fn read_at(file: &fs::File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Writes beside, syncs, renames over, syncs the directory.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = unpublished(path);
    let written = fs::File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| Error::file("write", &beside, e))?;
    fs::rename(&beside, path).map_err(|e| Error::file("rename", &beside, e))?;
    path.parent().map_or(Ok(()), sync_dir)
}

pub(crate) fn list(dir: &Path) -> Result<Vec<Entry>, Error> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        let about = entry.metadata()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok(Entry { name, is_dir: about.is_dir(), size: about.len() })
    };
    let entries: io::Result<Vec<Entry>> = fs::read_dir(dir).and_then(|all| all.map(entry).collect());
    let mut entries = entries.map_err(|e| Error::file("list", dir, e))?;
    entries.sort();
    Ok(entries)
}

pub(crate) fn link(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::hard_link(from, to) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::file("link", to, e)),
        _ => Ok(()),
    }
}

pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let about = fs::symlink_metadata(path).map_err(|e| Error::file("remove", path, e))?;
    let removed = if about.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|e| Error::file("remove", path, e))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    fs::File::open(dir).and_then(|opened| opened.sync_all()).map_err(|e| Error::file("sync", dir, e))
}

/// Size of the file system that holds `path`.
pub fn file_system_bytes(path: &Path) -> Result<u64, Error> {
    let opened = fs::File::open(path).and_then(|file| crate::rt::buffer::file_system_bytes(&file));
    opened.map_err(|e| Error::file("stat file system of", path, e))
}
