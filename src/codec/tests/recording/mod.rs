//! Reads the recorded `/metrics` pages of the shared data folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Beside the repository, if it is not said where.
fn shared() -> PathBuf {
    let beside = |from: &Path| from.ancestors().map(|d| d.join("shared")).find(|d| d.is_dir());
    match std::env::var_os("SYSTOLE_SHARED") {
        Some(path) => path.into(),
        None => beside(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_or_else(|| "shared".into()),
    }
}

/// The NaN that a parsed `NaN` becomes.
const NAN_FROM_TEXT: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Times of the scrapes, and a column for each line that was there from the first to the last.
pub(crate) struct Recording {
    #[allow(dead_code)] // Not every bench that includes this file needs it.
    pub(crate) times: Vec<i64>,
    pub(crate) columns: Vec<(String, Vec<f64>)>,
}

/// The recording of that name; says so and gives nothing where the folder is absent.
pub(crate) fn recording(name: &str) -> Option<Recording> {
    let path = shared().join(format!("data/recordings/{name}.rec.zst"));
    let Ok(packed) = std::fs::read(&path) else {
        println!("skipped: no {}", path.display());
        return None;
    };
    let text = zstd::decode_all(&packed[..]).expect("a recording is zstd");
    let mut times = Vec::new();
    let mut columns: HashMap<String, Vec<f64>> = HashMap::new();
    let mut rest = &text[..];
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let head = std::str::from_utf8(&rest[..end]).expect("a header is text");
        let mut words = head.split(' ').skip(1).map(|w| w.parse::<i64>().expect("a header has numbers"));
        let (time, bytes) = (words.next().unwrap(), words.next().unwrap() as usize);
        let page = std::str::from_utf8(&rest[end + 1..end + 1 + bytes]).expect("a page is text");
        for line in page.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            let (series, value) = line.rsplit_once(' ').expect("a line has a value");
            let value: f64 = value.parse().expect("a value is a number");
            let value = if value.is_nan() { NAN_FROM_TEXT } else { value };
            columns.entry(series.to_owned()).or_default().push(value);
        }
        times.push(time);
        rest = &rest[end + 1 + bytes..];
    }
    let mut columns: Vec<_> = columns.into_iter().filter(|(_, c)| c.len() == times.len()).collect();
    columns.sort_by(|a, b| a.0.cmp(&b.0));
    Some(Recording { times, columns })
}
