//! Pushed groups: said again at every turn, and kept in a file over restarts.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::api::Backend;
use crate::app::backend::HouseBackend;
use crate::push::gateway::Gateway;
use crate::remote::Terms;

const NAME: &str = "groups";

/// A change is on the disk after this time at most: what a killed process may lose.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// The groups of the life before. A file that cannot be used is set aside.
pub fn load(data_dir: &Path) -> Gateway {
    let path = data_dir.join(NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Gateway::default(),
        Err(e) => {
            tracing::error!(path = %path.display(), err = %e, "pushed groups cannot be read");
            return Gateway::default();
        }
    };
    Gateway::decode(&bytes).unwrap_or_else(|e| {
        tracing::error!(path = %path.display(), err = %e, "pushed groups are damaged: the file is set aside");
        let _ = std::fs::rename(&path, path.with_extension("damaged"));
        Gateway::default()
    })
}

/// Writes the groups where they changed since the last time.
pub fn write_changed(backend: &HouseBackend) {
    let mut image = None;
    let _ = backend.with_gateway(&mut |gateway, _| {
        image = gateway.take_change().then(|| gateway.encode());
        Ok(Vec::new())
    });
    let Some(image) = image else { return };
    let path = backend.flags.data_dir.join(NAME);
    if let Err(e) = write(&path, &image) {
        tracing::error!(path = %path.display(), err = %e, "pushed groups cannot be written: it is tried again");
        let _ = backend.with_gateway(&mut |gateway, _| {
            gateway.note_change();
            Ok(Vec::new())
        });
    }
}

fn write(path: &Path, image: &[u8]) -> std::io::Result<()> {
    let beside: PathBuf = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(image)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Keeps the file as the groups are.
pub async fn keep(backend: Arc<HouseBackend>) {
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        let backend = backend.clone();
        let _ = tokio::task::spawn_blocking(move || write_changed(&backend)).await;
    }
}

/// Says the pushed groups again, as often as targets are scraped.
pub async fn repeat(backend: Arc<HouseBackend>) {
    loop {
        let interval_ms = backend.loaded().config.global.scrape_interval_ms.max(1);
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        let said = backend.with_gateway(&mut |gateway, now| Ok(gateway.say_all(now)));
        let Some(said) = said.ok().filter(|s| !s.is_empty()) else { continue };
        match backend.write_plain(Terms::Part, said, 0).await {
            Ok(answer) if answer.status != 204 => {
                tracing::warn!(
                    err = answer.text.lines().next().unwrap_or(""),
                    "pushed groups are not all kept"
                );
            }
            Ok(_) => {}
            Err(e) => tracing::warn!(err = e.text, "pushed groups are not kept"),
        }
    }
}
