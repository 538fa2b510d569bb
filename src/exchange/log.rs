//! The log of a directory to series in memory: the newest checkpoint, the segments behind it, the log of late samples.

use std::fs;
use std::path::{Path, PathBuf};

use model::Timestamp;
use prometheus_tsdb::cut::CutChunk;
use prometheus_tsdb::head::Head;
use prometheus_tsdb::{head_chunks, record, wal};

use crate::exchange::Error;
use crate::exchange::block::numbered_files;

/// A file that could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub what: String,
}

/// Reads the logs of `dir`; samples before `min_valid` are in blocks. `None` where there is no log.
///
/// A log that is damaged is read up to there, as Prometheus would cut it, and what its chunk files have is added.
pub fn read(dir: &Path, min_valid: Timestamp, damage: &mut Vec<Damage>) -> Result<Option<Head>, Error> {
    let (wal_dir, late_dir) = (dir.join("wal"), dir.join("wbl"));
    if !wal_dir.is_dir() {
        return Ok(None);
    }
    let mut head = Head::new(min_valid);
    let mut behind = None;
    if let Some((number, checkpoint)) = newest_checkpoint(&wal_dir)? {
        behind = Some(number);
        read_segments(&checkpoint, None, &mut head, damage)?;
    }
    read_segments(&wal_dir, behind, &mut head, damage)?;
    if !damage.is_empty() {
        read_head_chunks(&dir.join("chunks_head"), &mut head, damage)?;
    }
    if late_dir.is_dir() {
        head.begin_late();
        read_segments(&late_dir, None, &mut head, damage)?;
    }
    Ok(Some(head))
}

fn newest_checkpoint(wal_dir: &Path) -> Result<Option<(u64, PathBuf)>, Error> {
    let entries = fs::read_dir(wal_dir).map_err(Error::file("open", wal_dir))?;
    let number = |name: &str| name.strip_prefix("checkpoint.")?.parse::<u64>().ok();
    let all = entries.flatten().filter(|e| e.path().is_dir());
    Ok(all.filter_map(|e| Some((number(e.file_name().to_str()?)?, e.path()))).max())
}

/// Segments numbered above `behind`, in order, up to the first that is damaged.
fn read_segments(
    dir: &Path,
    behind: Option<u64>,
    head: &mut Head,
    damage: &mut Vec<Damage>,
) -> Result<(), Error> {
    for (number, path) in numbered_files(dir)? {
        if behind.is_some_and(|b| number <= b) {
            continue;
        }
        let file = fs::read(&path).map_err(Error::file("read", &path))?;
        if let Err(e) = read_segment(&file, head) {
            damage.push(Damage { path, what: e.to_string() });
            break;
        }
    }
    Ok(())
}

fn read_segment(file: &[u8], head: &mut Head) -> Result<(), prometheus_tsdb::Error> {
    let mut records = wal::Records::new(file);
    while let Some((at, bytes)) = records.try_next()? {
        // An empty record holds nothing.
        if !bytes.is_empty() {
            head.apply(record::read(bytes, at)?)?;
        }
    }
    Ok(())
}

fn read_head_chunks(dir: &Path, head: &mut Head, damage: &mut Vec<Damage>) -> Result<(), Error> {
    if !dir.is_dir() {
        return Ok(());
    }
    for (_, path) in numbered_files(dir)? {
        let file = fs::read(&path).map_err(Error::file("read", &path))?;
        let take = |head: &mut Head| {
            for one in head_chunks::read(&file)? {
                let one = one?;
                let sample_count = one.chunk.sample_count()? as u32;
                let chunk = CutChunk {
                    min_time: one.min_time,
                    max_time: one.max_time,
                    sample_count,
                    encoding: one.chunk.encoding,
                    data: one.chunk.data.to_vec(),
                };
                head.take_chunk(one.series, chunk);
            }
            Ok(())
        };
        if let Err(e) = take(head) {
            let e: prometheus_tsdb::Error = e;
            damage.push(Damage { path, what: e.to_string() });
        }
    }
    Ok(())
}
