//! Memory that the kernel reads and writes beside us: aligned buffers and their pool, and shared mappings.
//!
//! The only file of this room with `unsafe`: a mapping's bytes are reached through pointers, and a socket changes
//! owner by its number, since glommio offers no other way. Each is wrapped in a safe function here.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;

use glommio::io::DmaBuffer;

/// What direct I/O is aligned to: the page, and the block of every device we would run on.
pub const ALIGNMENT: usize = 4096;

/// Rounds up to the alignment.
pub const fn align_up(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGNMENT as u64) * ALIGNMENT as u64
}

/// Bytes aligned for direct I/O, whole blocks of them.
pub struct Buffer {
    inner: DmaBuffer,
}

impl Buffer {
    /// At least `bytes` zeros, rounded up to whole blocks and to at least one.
    pub fn zeroed(bytes: usize) -> Buffer {
        let size = align_up(bytes.max(1) as u64) as usize;
        let mut inner = glommio::allocate_dma_buffer_global(size);
        inner.as_bytes_mut().fill(0);
        Buffer { inner }
    }

    /// Copies `bytes` to the front and zeroes the rest.
    pub fn fill_from(&mut self, bytes: &[u8]) {
        let (front, rest) = self.split_at_mut(bytes.len());
        front.copy_from_slice(bytes);
        rest.fill(0);
    }

    pub(crate) fn into_inner(self) -> DmaBuffer {
        self.inner
    }

    pub(crate) fn from_inner(inner: DmaBuffer) -> Buffer {
        Buffer { inner }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.inner.as_bytes()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.inner.as_bytes_mut()
    }
}

/// Buffers kept for reuse, by size; a shard's own.
#[derive(Default)]
pub struct Pool {
    free: RefCell<Vec<Vec<Buffer>>>,
}

/// Larger buffers are not kept: they are rare, and the allocator hands them out by mapping anyway.
const KEPT_BLOCKS_MAX: usize = 64;
/// Buffers kept of one size: a log has one commit under way and one in the making. At most 64 sizes x 4 x 128 KiB
/// on average, 33 MB, if all sizes are ever used; in practice a handful is.
const KEPT_MAX: usize = 4;

impl Pool {
    pub fn new() -> Pool {
        Pool::default()
    }

    /// A buffer of at least `bytes`, in whole blocks. Its content is left over from its last use.
    pub fn take(&self, bytes: usize) -> Buffer {
        let blocks = bytes.max(1).div_ceil(ALIGNMENT);
        let kept = self.free.borrow_mut().get_mut(blocks).and_then(Vec::pop);
        kept.unwrap_or_else(|| Buffer::zeroed(bytes))
    }

    pub fn give(&self, buffer: Buffer) {
        let blocks = buffer.len() / ALIGNMENT;
        if blocks > KEPT_BLOCKS_MAX {
            return;
        }
        let mut free = self.free.borrow_mut();
        if free.len() <= blocks {
            free.resize_with(blocks + 1, Vec::new);
        }
        if free[blocks].len() < KEPT_MAX {
            free[blocks].push(buffer);
        }
    }
}

/// A file's bytes in memory, shared with the file: what is written here outlives the process, though not the
/// machine. Reached by copying only, so that no reference to memory another process could touch ever exists.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of `file`, which must have been allocated: a hole that the file system cannot fill when it
    /// is touched is a signal that ends the process.
    pub(crate) fn of(file: &File, len: usize) -> io::Result<Mapping> {
        // SAFETY: a new shared mapping at an address of the kernel's choice, of an open file; nothing is assumed
        // about the result before it is checked.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Panics
    /// When the range is not inside the mapping.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.len), "{at} + {}", bytes.len());
        // SAFETY: the range lies in the mapping, by the assertion; `bytes` is a Rust slice and so never part of it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(at), bytes.len()) }
    }

    /// # Panics
    /// When the range is not inside the mapping.
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.len), "{at} + {}", bytes.len());
        // SAFETY: the range lies in the mapping, by the assertion; `bytes` is a Rust slice and so never part of it.
        unsafe { std::ptr::copy_nonoverlapping(self.base.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`, whole, with no reference into it left: none is ever given out.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Allocates the first `len` bytes of a file, so that writing them cannot run out of space.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: takes an open descriptor and two numbers, and touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Size of the file system that an open file lies in.
pub(crate) fn file_system_bytes(file: &File) -> io::Result<u64> {
    let mut about = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: takes an open descriptor and a place of the right size, which it fills where it succeeds.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), about.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the place is filled.
    let about = unsafe { about.assume_init() };
    Ok(about.f_blocks.saturating_mul(about.f_frsize))
}

/// Hands a listening socket to this shard's executor.
pub(crate) fn listener(socket: impl Into<OwnedFd>) -> glommio::net::TcpListener {
    // SAFETY: the number names a socket that this function owned and gives up by `into_raw_fd`.
    unsafe { glommio::net::TcpListener::from_raw_fd(socket.into().into_raw_fd()) }
}

/// Hands a connected socket to this shard's executor. Its stream keeps the number and asks nothing of the family,
/// so it serves Unix sockets as well.
pub(crate) fn stream(socket: impl Into<OwnedFd>) -> glommio::net::TcpStream {
    // SAFETY: the number names a socket that this function owned and gives up by `into_raw_fd`.
    unsafe { glommio::net::TcpStream::from_raw_fd(socket.into().into_raw_fd()) }
}

/// Takes a connected socket back from this shard's executor. What the executor awaited of it is forgotten.
pub(crate) fn reclaim(stream: glommio::net::TcpStream) -> io::Result<std::net::TcpStream> {
    // SAFETY: the number is open for as long as `stream` lives, which is to the end of this function.
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    borrowed.try_clone_to_owned().map(std::net::TcpStream::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_whole_aligned_blocks() {
        for (bytes, expect) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192)] {
            let buffer = Buffer::zeroed(bytes);
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % ALIGNMENT), (expect, 0));
            assert!(buffer.iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn a_pool_gives_back_what_it_was_given() {
        let pool = Pool::new();
        let mut buffer = pool.take(5000);
        buffer.fill_from(&[7; 5000]);
        let place = buffer.as_ptr();
        pool.give(buffer);
        assert_ne!(pool.take(4096).as_ptr(), place);
        let mut again = pool.take(8192);
        assert_eq!(again.as_ptr(), place);
        again.fill_from(&[1, 2]);
        assert_eq!((&again[..3], again[8191]), (&[1u8, 2, 0][..], 0));
    }
}
