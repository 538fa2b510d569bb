//! A file read once, in order, in large pieces: how logs and checkpoints come back at start.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::rt;
use crate::rt::disk::{Disk, File, Mode};

/// One read: large enough for the disk's full speed, small beside a segment.
const READ_BYTES: usize = 4 << 20;

/// Something on the disk that does not fit. It is set aside and shown; the start goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub offset: u64,
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.offset, self.what)
    }
}

pub struct ReadAhead {
    pub path: PathBuf,
    pub size: u64,
    file: Rc<dyn File>,
    /// Bytes of the file from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
}

impl ReadAhead {
    pub async fn open(disk: &Rc<dyn Disk>, path: &Path) -> Result<Self, rt::Error> {
        let file = disk.open(path, Mode::Read).await?;
        let size = file.size().await?;
        Ok(ReadAhead { path: path.to_path_buf(), size, file, window: Vec::new(), window_at: 0 })
    }

    /// `len` bytes of the file from `at` on; fewer at its end.
    pub async fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], rt::Error> {
        let end = at.saturating_add(len as u64);
        if at < self.window_at || end > self.window_at + self.window.len() as u64 {
            if at < self.window_at || at > self.window_at + self.window.len() as u64 {
                self.window.clear();
            } else {
                self.window.drain(..(at - self.window_at) as usize);
            }
            self.window_at = at;
            while (self.window.len() < len) && self.window_at + (self.window.len() as u64) < self.size {
                let from = self.window_at + self.window.len() as u64;
                let block = self.file.read_at(from, READ_BYTES.max(len - self.window.len())).await?;
                if block.is_empty() {
                    break;
                }
                self.window.extend_from_slice(&block);
            }
        }
        let from = (at - self.window_at) as usize;
        let to = (from + len).min(self.window.len());
        Ok(&self.window[from.min(to)..to])
    }

    pub fn damage(&self, offset: u64, what: impl Into<String>) -> Damage {
        Damage { path: self.path.clone(), offset, what: what.into() }
    }

    pub async fn close(self) -> Result<(), rt::Error> {
        self.file.close().await
    }
}
