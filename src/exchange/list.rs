//! `tsdb list`: the blocks of a directory.

use std::io::Write;
use std::path::Path;

use crate::exchange::Error;
use crate::exchange::block::BlockFiles;
use crate::exchange::directory::list_blocks;
use crate::exchange::table::{aligned, bytes_text, duration_text, time_text};

const HEADER: [&str; 8] =
    ["BLOCK ULID", "MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES", "SIZE"];

pub fn list(dir: &Path, is_for_people: bool, out: &mut dyn Write) -> Result<(), Error> {
    let blocks = list_blocks(dir)?;
    Ok(out.write_all(table(&blocks, true, is_for_people).as_bytes())?)
}

/// The lines of some blocks.
pub(in crate::exchange) fn table(blocks: &[BlockFiles], has_header: bool, is_for_people: bool) -> String {
    let header = has_header.then(|| HEADER.map(str::to_owned).to_vec());
    let rows: Vec<Vec<String>> =
        header.into_iter().chain(blocks.iter().map(|b| row(b, is_for_people))).collect();
    aligned(&rows)
}

fn row(block: &BlockFiles, is_for_people: bool) -> Vec<String> {
    let meta = &block.meta;
    let time = |ms: i64| if is_for_people { time_text(ms) } else { ms.to_string() };
    vec![
        meta.ulid.to_string(),
        time(meta.min_time),
        time(meta.max_time),
        duration_text(meta.max_time.saturating_sub(meta.min_time)),
        meta.stats.sample_count.to_string(),
        meta.stats.chunk_count.to_string(),
        meta.stats.series_count.to_string(),
        if is_for_people { bytes_text(block.bytes) } else { block.bytes.to_string() },
    ]
}
