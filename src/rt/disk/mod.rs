//! Files behind one trait object, so that what keeps data can be tested against a disk that fails.
//!
//! In: aligned buffers and paths. Out: durable bytes, or an error that says which file. Owns: open files.
//! Backends: [`direct`] on a shard (O_DIRECT through io_uring), [`plain`] for tools and tests, [`crash`] for
//! power cuts. Invariant: what `sync` covered is there after a power cut; what was not may be torn, or gone.
//! Never: caches, retries, or hides an error.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use crate::rt::buffer::Buffer;
use crate::rt::error::Error;

pub mod crash;
pub mod direct;
pub mod lock;
pub mod plain;
pub mod tail;

pub use crash::CrashDisk;
pub use direct::DirectDisk;
pub(crate) use direct::{open_device, prepare_device};
pub use lock::DirLock;
pub use plain::{PlainDisk, file_system_bytes};
pub use tail::Tail;

/// An operation under way. One box for a block of 4 KiB and more is nothing.
pub type Io<'a, R> = Pin<Box<dyn Future<Output = Result<R, Error>> + 'a>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An existing file, read only.
    Read,
    /// An existing file or a new one, kept as it is, to read and write.
    Write,
    /// A new file, or an old one emptied, to read and write.
    Create,
    /// The same for a log: [`File::write_durably_at`] is one operation and not two.
    Log,
    /// An existing file of a log, kept as it is, to be written over as one.
    LogAgain,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
    pub size: u64,
}

pub trait Disk {
    /// Opens a file. A new file's name is durable only after [`Disk::sync_dir`] of its directory.
    fn open(&self, path: &Path, mode: Mode) -> Io<'_, Rc<dyn File>>;
    /// Puts a whole file in place, atomically and durably: readers see the old bytes or the new ones.
    fn publish(&self, path: &Path, bytes: Vec<u8>) -> Io<'_, ()>;
    /// The whole of a small file.
    fn read(&self, path: &Path) -> Io<'_, Vec<u8>>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> Io<'_, Vec<Entry>>;
    /// Makes a directory and its parents; no error where it exists.
    fn create_dir(&self, dir: &Path) -> Io<'_, ()>;
    /// Moves a file or directory within the file system; durable after [`Disk::sync_dir`] of both directories.
    fn rename(&self, from: &Path, to: &Path) -> Io<'_, ()>;
    /// Gives a file a second name in the same file system; durable after [`Disk::sync_dir`]. No error where the name
    /// is there already.
    fn link(&self, from: &Path, to: &Path) -> Io<'_, ()>;
    /// Removes a file, or a directory with all in it; durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> Io<'_, ()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Io<'_, ()>;
}

pub trait File {
    fn path(&self) -> &Path;
    fn size(&self) -> Io<'_, u64>;
    /// Writes a whole buffer at a multiple of [`crate::rt::buffer::ALIGNMENT`] and gives the buffer back for reuse.
    /// Durable after [`File::sync`].
    fn write_at(&self, buffer: Buffer, at: u64) -> Io<'_, Buffer>;
    /// [`File::write_at`] that is durable when it ends, with the size that reaches it.
    fn write_durably_at(&self, buffer: Buffer, at: u64) -> Io<'_, Buffer> {
        Box::pin(async move {
            let buffer = self.write_at(buffer, at).await?;
            self.sync().await?;
            Ok(buffer)
        })
    }
    /// Up to `len` bytes from any place; fewer only at the end of the file.
    fn read_at(&self, at: u64, len: usize) -> Io<'_, Block>;
    /// Makes all finished writes durable, and the size that reaches them.
    fn sync(&self) -> Io<'_, ()>;
    /// A hint that the file will grow to `size`; its size stays. Only a full disk is an error.
    fn preallocate(&self, size: u64) -> Io<'_, ()>;
    /// Cuts the file, or lengthens it with zeros.
    fn truncate(&self, size: u64) -> Io<'_, ()>;
    /// Closes if nobody else holds the file.
    fn close(self: Rc<Self>) -> Io<'static, ()>;
}

/// Bytes read, owned.
pub struct Block {
    bytes: Bytes,
}

enum Bytes {
    Direct(Option<glommio::io::ReadResult>),
    Plain(Vec<u8>),
}

impl Block {
    pub(crate) fn direct(read: Option<glommio::io::ReadResult>) -> Block {
        Block { bytes: Bytes::Direct(read) }
    }

    pub(crate) fn plain(bytes: Vec<u8>) -> Block {
        Block { bytes: Bytes::Plain(bytes) }
    }
}

impl std::ops::Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Direct(read) => read.as_deref().unwrap_or(&[]),
            Bytes::Plain(bytes) => bytes,
        }
    }
}

/// Where a file is written before it is put in place.
pub(crate) fn unpublished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNPUBLISHED);
    name.into()
}

/// Files with this ending were not put in place in time: a start may remove them.
pub const UNPUBLISHED: &str = ".new";
