//! The systems we compare with: real programs from Debian, fetched once into the build's folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program of this name, fetched if need be. `None`, with a word why, where it cannot be had.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = match FOLDER.get_or_init(folder) {
        Ok(folder) => {
            Ok(folder.join(name)).and_then(|p| if p.exists() { Ok(p) } else { Err("it is not there") })
        }
        Err(why) => Err(why.as_str()),
    };
    found.map_err(|why| println!("skipped: no {name} to compare with: {why}")).ok()
}

fn folder() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("loadgen/peers.sh");
    let mut command = Command::new("bash");
    command.arg(&script);
    if std::env::var_os("SYSTOLE_PEERS").is_none() {
        // CARGO_TARGET_TMPDIR is `<target>/tmp`.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target"));
        command.env("SYSTOLE_PEERS", target.join("peers"));
    }
    let output = command.output().map_err(|e| format!("{}: {e}", script.display()))?;
    match output.status.success() {
        true => Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())),
        false => {
            Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("no word why").to_owned())
        }
    }
}
