//! One process per data directory: a lock that the kernel releases when its holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::rt::error::Error;

/// Held for as long as it lives.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

const LOCK_FILE: &str = "lock";

impl DirLock {
    /// Fails at once when another process holds the directory, and names it.
    pub fn take(dir: &Path) -> Result<DirLock, Error> {
        let path = dir.join(LOCK_FILE);
        std::fs::create_dir_all(dir).map_err(|e| Error::file("create directory", dir, e))?;
        let failed = |e| Error::file("lock", &path, e);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { path: dir.into(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(failed)?;
        Ok(DirLock { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match (read, text.trim()) {
        (Ok(_), pid) if !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}
