//! Real pages, scraped and kept in order: replayed in a circle, each target at its own place.
//!
//! The file is zstd over `#scrape <unix ms> <bytes>\n` followed by exactly that many bytes, repeated.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::sample_lines;
use crate::error::{Context, Error};

pub struct Recording {
    pub pages: Vec<Vec<u8>>,
    samples: usize,
}

/// A recording is unpacked whole; the largest at hand are 55 MB.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

impl Recording {
    /// Opens `name` as a path, or as the name of a file in the shared folder's recordings.
    pub fn open(name: &str) -> Result<Self, Error> {
        let path = find(name).ok_or_else(|| {
            Error::Usage(format!(
                "no recording {name}: give a path to a .rec.zst, or set SYSTOLE_SHARED to the folder that holds data/recordings"
            ))
        })?;
        let packed = std::fs::read(&path).context(|| path.display().to_string())?;
        let decoder = zstd::Decoder::new(&packed[..]).context(|| format!("{}: zstd", path.display()))?;
        let mut bytes = Vec::new();
        decoder
            .take(UNPACKED_BYTES_MAX)
            .read_to_end(&mut bytes)
            .context(|| format!("{}: zstd", path.display()))?;
        let pages = split(&bytes).map_err(|what| Error::File { path, what })?;
        let samples = pages.iter().map(|p| sample_lines(p).count()).sum();
        Ok(Recording { pages, samples })
    }

    pub fn page(&self, version: u64) -> &[u8] {
        &self.pages[(version % self.pages.len() as u64) as usize]
    }

    pub fn samples_mean(&self) -> f64 {
        self.samples as f64 / self.pages.len() as f64
    }
}

fn find(name: &str) -> Option<PathBuf> {
    if Path::new(name).is_file() {
        return Some(PathBuf::from(name));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let shared = std::env::var_os("SYSTOLE_SHARED").map(PathBuf::from);
    let folders = [shared, Some(root.join("../shared"))];
    folders
        .into_iter()
        .flatten()
        .map(|f| f.join(format!("data/recordings/{name}.rec.zst")))
        .find(|p| p.is_file())
}

fn split(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut pages = Vec::new();
    while !bytes.is_empty() {
        let at = pages.len();
        let end = bytes.iter().position(|&b| b == b'\n').ok_or(format!("page {at}: no header line"))?;
        let header = String::from_utf8_lossy(&bytes[..end]);
        let size = header
            .strip_prefix("#scrape ")
            .and_then(|h| h.split(' ').nth(1))
            .and_then(|n| n.trim().parse::<usize>().ok())
            .ok_or(format!("page {at}: header is {header:?}"))?;
        let page = bytes[end + 1..].get(..size).ok_or(format!("page {at}: shorter than its header says"))?;
        pages.push(page.to_vec());
        bytes = &bytes[end + 1 + size..];
    }
    if pages.is_empty() { Err("holds no page".to_string()) } else { Ok(pages) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: Result<&[&str], &str>) {
        let got = split(input.as_bytes());
        match expect {
            Ok(pages) => {
                let got: Vec<String> =
                    got.unwrap_or_default().iter().map(|p| String::from_utf8_lossy(p).into()).collect();
                assert_eq!(got, pages);
            }
            Err(text) => assert_eq!(got, Err(text.to_string())),
        }
    }

    #[test]
    fn pages_are_cut_by_their_headers() {
        check("#scrape 1 4\na 1\n#scrape 2 4\na 2\n", Ok(&["a 1\n", "a 2\n"]));
        check("#scrape 1 9\na 1\n", Err("page 0: shorter than its header says"));
        check("a 1\n", Err("page 0: header is \"a 1\""));
        check("", Err("holds no page"));
    }

    #[test]
    fn shared_node_recording_has_its_468_pages() {
        let Ok(r) = Recording::open("node") else {
            println!("skipped: no shared recordings");
            return;
        };
        assert_eq!(r.pages.len(), 468);
        assert!((r.samples_mean() - 523.0).abs() < 3.0, "{}", r.samples_mean());
        assert_eq!(r.page(468), r.page(0));
    }
}
