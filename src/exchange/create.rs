//! `tsdb create-blocks-from openmetrics`: blocks from a file of samples with times.
//!
//! The file is read once for its times and once for each block, so that memory holds one block at a time.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use hashbrown::HashMap;
use model::labels::LabelsBuilder;
use model::{Labels, Timestamp};
use prometheus_tsdb::block::BlockBuilder;
use prometheus_tsdb::cut::Cutter;
use prometheus_tsdb::sample::{Sample, merge};

use crate::exchange::Error;
use crate::exchange::list::table;
use crate::exchange::openmetrics::{Line, Lines, Read};
use crate::exchange::write::BlockWriter;

/// The shortest block, and what longer ones are multiples of.
pub const BLOCK_MS: i64 = 2 * 60 * 60 * 1000;

/// Blocks are as long as two hours times a power of three, this many at most.
const BLOCK_STEPS: u32 = 10;

/// The longest line: a series with labels of a megabyte is none that Prometheus would take.
const LINE_BYTES_MAX: usize = 16 << 20;

/// What is asked for.
pub struct Question<'a> {
    pub is_for_people: bool,
    pub is_quiet: bool,
    pub block_ms_max: i64,
    /// Labels that every series gets.
    pub labels: &'a [(String, String)],
}

/// The longest block that is allowed.
pub fn block_length(block_ms_max: i64) -> i64 {
    let lengths = (0..BLOCK_STEPS).map(|i| BLOCK_MS * 3i64.pow(i));
    lengths.take_while(|l| *l <= block_ms_max).last().unwrap_or(BLOCK_MS)
}

pub fn create(
    input: &Path,
    writer: &mut BlockWriter<'_>,
    question: &Question<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    fs::metadata(input).map_err(Error::file("stat", input))?;
    fs::create_dir_all(writer.dir)
        .map_err(|e| Error::file("mkdir", writer.dir)(e).within("create output dir"))?;
    let span = find_span(input).map_err(|e| e.within("getting min and max timestamp"))?;
    let Some((first, last)) = span else { return Ok(()) };
    let length = block_length(question.block_ms_max);
    let mut start = Some(first / length * length);
    let mut has_header = true;
    while let Some(from) = start.filter(|from| *from <= last) {
        let (builder, next) =
            read_block(input, from, length, question.labels).map_err(|e| e.within("block creation"))?;
        if !builder.is_empty() {
            let block = writer.write(builder).map_err(|e| e.within("block creation: flush"))?;
            if !question.is_quiet {
                out.write_all(table(&[block], has_header, question.is_for_people).as_bytes())?;
                has_header = false;
            }
        }
        start = next.map(|t| from + (t - from) / length * length);
    }
    Ok(())
}

/// The first and last time of all samples; `None` where there are none.
fn find_span(input: &Path) -> Result<Option<(Timestamp, Timestamp)>, Error> {
    let mut span: Option<(Timestamp, Timestamp)> = None;
    for_each_sample(input, |_, line| {
        let Some(time) = line.time else {
            return Err(Error::Refused("expected timestamp for series got none".to_owned()));
        };
        span = Some(span.map_or((time, time), |(a, b)| (a.min(time), b.max(time))));
        Ok(())
    })?;
    Ok(span)
}

/// The samples from `from` on, of one block; and the first time behind them.
fn read_block(
    input: &Path,
    from: Timestamp,
    length: i64,
    extra: &[(String, String)],
) -> Result<(BlockBuilder, Option<Timestamp>), Error> {
    let mut next: Option<Timestamp> = None;
    let mut by_key: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    let mut series: Vec<(Labels, Vec<Sample>)> = Vec::new();
    for_each_sample(input, |lines, line| {
        let Some(time) = line.time.filter(|t| *t >= from) else { return Ok(()) };
        if time >= from + length {
            next = Some(next.map_or(time, |n| n.min(time)));
            return Ok(());
        }
        let at = match by_key.get(line.key) {
            Some(at) => *at,
            None => {
                let mut labels = LabelsBuilder::from(&lines.labels(&line).map_err(Error::Refused)?);
                extra.iter().for_each(|(name, value)| {
                    labels.set(name, value);
                });
                let labels = labels.build();
                let at = *by_labels.entry(labels.clone()).or_insert(series.len());
                if at == series.len() {
                    series.push((labels, Vec::new()));
                }
                by_key.insert(line.key.to_vec(), at);
                at
            }
        };
        series[at].1.push(Sample::float(time, line.value));
        Ok(())
    })?;
    let mut builder = BlockBuilder::default();
    for (labels, mut samples) in series {
        merge(&mut samples);
        // Prometheus writes such blocks through a head of twice their length.
        let mut cutter = Cutter::new(2 * length);
        let mut chunks = Vec::new();
        for sample in samples {
            chunks.extend(cutter.push(sample)?);
        }
        chunks.extend(cutter.finish()?);
        builder.add(labels, chunks);
    }
    Ok((builder, next))
}

fn for_each_sample(
    input: &Path,
    mut f: impl FnMut(&Lines, Line<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = File::open(input).map_err(Error::file("open", input))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut lines, mut text, mut number) = (Lines::default(), Vec::new(), 0u64);
    loop {
        text.clear();
        number += 1;
        let limited = &mut std::io::Read::take(&mut reader, LINE_BYTES_MAX as u64);
        if limited.read_until(b'\n', &mut text).map_err(Error::file("read", input))? == 0 {
            return Err(refused("data does not end with # EOF".to_owned()));
        }
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        match lines.read(line).map_err(|e| refused(format!("line {number}: {e}")))? {
            Read::Sample(sample) => f(&lines, sample)?,
            Read::Nothing => {}
            Read::End => break,
        }
    }
    text.clear();
    reader.read_until(b'\n', &mut text).map_err(Error::file("read", input))?;
    if text.is_empty() { Ok(()) } else { Err(refused("unexpected data after # EOF".to_owned())) }
}

fn refused(text: String) -> Error {
    Error::Refused(format!("next: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_two_hours_times_a_power_of_three() {
        let hour = 3_600_000;
        for (most, want) in [(0, 2), (2, 2), (5, 2), (6, 6), (24, 18), (31 * 24, 486)] {
            assert_eq!(block_length(most * hour), want * hour);
        }
    }
}
