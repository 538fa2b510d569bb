//! A log's newest bytes where a killed process leaves them: a small file mapped into memory.
//!
//! Writing to it costs a copy and no system call. It survives the process, not the machine: the log proper follows
//! with its sync. In memory-backed form it survives a simulated kill in the same way.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::rt::buffer::{Mapping, allocate};
use crate::rt::error::Error;

pub struct Tail {
    backing: Backing,
}

enum Backing {
    Mapped(Mapping),
    Memory(Rc<RefCell<Vec<u8>>>),
}

/// Where tails live if they can: kept in memory by the kernel, gone with the machine.
const SHM: &str = "/dev/shm";

impl Tail {
    /// Opens a tail of `len` bytes as its last owner left it, or a new one of zeros. All its space is taken now, so
    /// that writing cannot fail later.
    pub fn open(path: &Path, len: usize) -> Result<Tail, Error> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| Error::file("create directory", dir, e))?;
        }
        let failed = |operation| move |e| Error::file(operation, path, e);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(failed("open"))?;
        file.set_len(len as u64).map_err(failed("resize"))?;
        allocate(&file, len as u64).map_err(failed("allocate"))?;
        let mapping = Mapping::of(&file, len).map_err(failed("map"))?;
        Ok(Tail { backing: Backing::Mapped(mapping) })
    }

    /// A tail in plain memory; clones of `bytes` see what a killed process would have left.
    pub fn in_memory(bytes: Rc<RefCell<Vec<u8>>>) -> Tail {
        Tail { backing: Backing::Memory(bytes) }
    }

    /// The directory for the tails of `data_dir`: in `/dev/shm` under a name made from the directory's own, or the
    /// directory itself where that is not there or not writable.
    pub fn dir_for(data_dir: &Path) -> PathBuf {
        let whole = std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
        let name = xxhash_rust::xxh3::xxh3_64(whole.as_os_str().as_encoded_bytes());
        let dir = Path::new(SHM).join(format!("systole-{name:016x}"));
        match std::fs::create_dir_all(&dir) {
            Ok(()) => dir,
            Err(_) => data_dir.join("tail"),
        }
    }

    pub fn len(&self) -> usize {
        match &self.backing {
            Backing::Mapped(mapping) => mapping.len(),
            Backing::Memory(bytes) => bytes.borrow().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `bytes` in at `at`.
    ///
    /// # Panics
    /// When they do not fit: the writer knows the length and starts anew before.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        match &mut self.backing {
            Backing::Mapped(mapping) => mapping.write(at, bytes),
            Backing::Memory(memory) => memory.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes),
        }
    }

    /// Copies out what lies at `at`, as much as `bytes` takes; false when that reaches past the end.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> bool {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.len()) {
            return false;
        }
        match &self.backing {
            Backing::Mapped(mapping) => mapping.read(at, bytes),
            Backing::Memory(memory) => bytes.copy_from_slice(&memory.borrow()[at..at + bytes.len()]),
        }
        true
    }

    /// All of it, copied out: what recovery reads.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read(0, &mut bytes);
        bytes
    }
}
