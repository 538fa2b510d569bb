//! What the device itself takes beside a workload: a block of a small file is written over again and again, durably.
//!
//! In: a folder on the device. Out: how long those writes took. Runs on: a thread of its own. Invariant: the file has
//! its size before the first measured write, so no write changes extents. Never: writes faster than a hundred times a
//! second: it must not be the load that it measures. An acknowledgement that waited no longer than these writes waited
//! for the device, and not for the system.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::clock;
use crate::error::{Context, Error};
use crate::load::quantiles;
use crate::write::latencies;

const EVERY: Duration = Duration::from_millis(10);
const BLOCK: [u8; 4096] = [b'.'; 4096];

pub struct Watch {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<Histogram<u64>>>,
}

impl Watch {
    /// Begins to write beside `folder`.
    pub fn start(folder: &Path) -> Result<Watch, Error> {
        let path = folder.with_extension("device");
        let failed = || format!("writing {}", path.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).custom_flags(libc::O_DSYNC);
        let file = options.open(&path).context(failed)?;
        file.write_all_at(&BLOCK, 0).and_then(|()| file.sync_all()).context(failed)?;
        let (latency, stop) = (latencies()?, Arc::new(AtomicBool::new(false)));
        let (told, thread) = (stop.clone(), std::thread::Builder::new().name("device".into()));
        let writer = thread.spawn(move || write(&file, latency, &told)).context(|| "thread".to_string())?;
        Ok(Watch { path, stop, writer: Some(writer) })
    }

    /// Milliseconds that the writes took.
    pub fn finish(mut self) -> Value {
        self.end().map_or(Value::Null, |latency| quantiles(&latency))
    }

    fn end(&mut self) -> Option<Histogram<u64>> {
        self.stop.store(true, Ordering::Release);
        let latency = self.writer.take()?.join();
        let _ = std::fs::remove_file(&self.path);
        latency.ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn write(file: &File, mut latency: Histogram<u64>, stop: &AtomicBool) -> Histogram<u64> {
    // One write at least, however short the workload.
    loop {
        let begin = clock::now();
        if file.write_all_at(&BLOCK, 0).is_err() {
            break;
        }
        latency.saturating_record((begin.elapsed().as_micros() as u64).max(1));
        if stop.load(Ordering::Acquire) {
            break;
        }
        clock::sleep(EVERY);
    }
    latency
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writes_are_told_and_the_file_is_gone() {
        let dir = std::env::temp_dir().join(format!("systole-device-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let watch = Watch::start(&dir.join("ours")).expect("a file");
        let told = watch.finish();
        assert!(told["max"].as_f64().is_some_and(|ms| ms > 0.0), "{told}");
        std::fs::remove_dir(&dir).expect("an empty folder");
    }
}
