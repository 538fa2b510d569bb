//! A block under construction: series with their chunks in any order, then the files of the block.

use model::{Labels, Timestamp};

use crate::Error;
use crate::chunk::{SEGMENT_BYTES_MAX, SEGMENT_HEADER, push_frame};
use crate::cut::CutChunk;
use crate::index::{ChunkMeta, Series};
use crate::index_write;
use crate::meta::{Compaction, Meta, Stats};
use crate::ulid::Ulid;

/// Holds the chunks of one block, encoded.
#[derive(Default)]
pub struct BlockBuilder {
    series: Vec<(Labels, Vec<CutChunk>)>,
}

/// What is left to write when the chunks are written.
pub struct Finished {
    pub index: Vec<u8>,
    pub meta: Meta,
}

impl BlockBuilder {
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Takes the whole of a series; one without chunks is left out.
    pub fn add(&mut self, labels: Labels, chunks: Vec<CutChunk>) {
        if !chunks.is_empty() {
            self.series.push((labels, chunks));
        }
    }

    /// Hands the bytes of the segments to `write`, each piece with the number of its segment (from 1).
    pub fn finish<E: From<Error>>(
        mut self,
        ulid: Ulid,
        mut write: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<Finished, E> {
        self.series.sort_by(|a, b| a.0.cmp(&b.0));
        let mut segments = Segments::default();
        let mut stats = Stats { series_count: self.series.len() as u64, ..Stats::default() };
        let (mut min_time, mut max_time) = (Timestamp::MAX, Timestamp::MIN);
        let (mut series, mut piece) = (Vec::with_capacity(self.series.len()), Vec::new());
        for (labels, chunks) in self.series {
            let mut metas = Vec::with_capacity(chunks.len());
            for c in &chunks {
                piece.clear();
                let reference = segments.place(c, &mut piece);
                write(segments.number, &piece)?;
                metas.push(ChunkMeta { min_time: c.min_time, max_time: c.max_time, reference });
                (min_time, max_time) = (min_time.min(c.min_time), max_time.max(c.max_time));
                count(c, &mut stats);
            }
            series.push(Series { labels, chunks: metas });
        }
        let compaction = Compaction { level: 1, sources: vec![ulid], ..Compaction::default() };
        let max_time = max_time.saturating_add(1);
        Ok(Finished {
            index: index_write::write(&series)?,
            meta: Meta { ulid, min_time, max_time, stats, compaction },
        })
    }
}

fn count(chunk: &CutChunk, stats: &mut Stats) {
    let samples = u64::from(chunk.sample_count);
    stats.chunk_count += 1;
    stats.sample_count += samples;
    if chunk.encoding.is_float() {
        stats.float_sample_count += samples;
    } else {
        stats.histogram_sample_count += samples;
    }
}

/// Where the next chunk goes.
#[derive(Default)]
struct Segments {
    number: u32,
    at: u64,
}

impl Segments {
    /// Frames a chunk, behind a segment's header where it begins one; returns its reference.
    fn place(&mut self, chunk: &CutChunk, out: &mut Vec<u8>) -> u64 {
        push_frame(chunk.encoding, &chunk.data, out);
        if self.number == 0 || self.at + out.len() as u64 > SEGMENT_BYTES_MAX {
            self.number += 1;
            self.at = SEGMENT_HEADER.len() as u64;
            out.splice(0..0, SEGMENT_HEADER);
            let reference = u64::from(self.number - 1) << 32 | self.at;
            self.at = out.len() as u64;
            return reference;
        }
        let reference = u64::from(self.number - 1) << 32 | self.at;
        self.at += out.len() as u64;
        reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk;
    use crate::cut::Cutter;
    use crate::index::Index;
    use crate::sample::{Sample, Value};

    #[test]
    fn a_block_is_read_as_it_was_written() {
        let mut builder = BlockBuilder::default();
        for name in ["b", "a", "c"] {
            let mut cutter = Cutter::new(7_200_000);
            let mut chunks = Vec::new();
            for t in 0..500 {
                chunks.extend(cutter.push(Sample::float(t * 10_000, t as f64)).unwrap());
            }
            chunks.extend(cutter.finish().unwrap());
            builder.add(Labels::from_pairs([("__name__", name)]), chunks);
        }
        let mut segment = Vec::new();
        let finished = builder
            .finish(Ulid(5), |number, bytes| {
                assert_eq!(number, 1);
                segment.extend_from_slice(bytes);
                Ok::<(), Error>(())
            })
            .unwrap();
        assert_eq!((finished.meta.min_time, finished.meta.max_time), (0, 4_990_001));
        assert_eq!(finished.meta.stats.sample_count, 1500);
        chunk::check_segment(&segment).unwrap();
        let index = Index::open(finished.index).unwrap();
        let mut names = String::new();
        for reference in index.all_series().unwrap() {
            let (mut series, mut samples) = (Series::default(), Vec::new());
            index.read_series(reference, &mut series).unwrap();
            names.push_str(series.labels.metric_name().unwrap());
            for c in &series.chunks {
                let bytes = &segment[c.reference as usize..];
                assert!(chunk::frame_bytes(bytes, c.reference).unwrap() <= bytes.len());
                chunk::read_frame(bytes, c.reference).unwrap().decode(&mut samples).unwrap();
            }
            let values: Vec<f64> =
                samples.iter().map(|s| if let Value::Float(v) = s.value { v } else { -1.0 }).collect();
            assert_eq!(values, (0..500).map(f64::from).collect::<Vec<_>>());
        }
        assert_eq!(names, "abc");
    }
}
