//! Series of all blocks and of the log, in order of their labels, each with all places that hold its samples.

use model::{Labels, Matcher, Timestamp};
use prometheus_tsdb::head::HeadSeries;
use prometheus_tsdb::index::Series;
use prometheus_tsdb::sample::{Sample, merge};

use crate::exchange::Error;
use crate::exchange::block::Block;
use crate::exchange::directory::Database;

/// One series and where its samples lie.
pub struct Found<'a> {
    pub labels: Labels,
    /// By the order of the blocks.
    pub parts: Vec<Part<'a>>,
    pub head: Option<&'a HeadSeries>,
}

/// Its samples in one block.
pub struct Part<'a> {
    pub block: &'a Block,
    pub reference: u64,
    pub series: Series,
}

/// Walks a database in order of labels.
pub struct Walk<'a> {
    blocks: Vec<BlockWalk<'a>>,
    head: std::iter::Peekable<std::vec::IntoIter<&'a HeadSeries>>,
}

struct BlockWalk<'a> {
    block: &'a Block,
    references: std::vec::IntoIter<u64>,
    next: Option<(u64, Series)>,
}

impl BlockWalk<'_> {
    fn advance(&mut self) -> Result<(), Error> {
        self.next = None;
        if let Some(reference) = self.references.next() {
            let mut series = Series::default();
            self.block.index.read_series(reference, &mut series).map_err(self.block.index_error())?;
            self.next = Some((reference, series));
        }
        Ok(())
    }
}

impl<'a> Walk<'a> {
    /// Walks blocks that overlap two times, and the head where there is one.
    pub fn new(database: &'a Database, mint: Timestamp, maxt: Timestamp) -> Result<Walk<'a>, Error> {
        let mut blocks = Vec::new();
        for block in database.blocks.iter().filter(|b| b.overlaps(mint, maxt)) {
            let references = block.index.all_series().map_err(block.index_error())?.into_iter();
            let mut walk = BlockWalk { block, references, next: None };
            walk.advance()?;
            blocks.push(walk);
        }
        let mut head: Vec<&HeadSeries> = database.head.iter().flat_map(|h| h.series()).collect();
        // Where there is nothing to merge with, series come as the log met them: so does promtool.
        if !blocks.is_empty() {
            head.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        Ok(Walk { blocks, head: head.into_iter().peekable() })
    }

    pub fn try_next(&mut self) -> Result<Option<Found<'a>>, Error> {
        let in_blocks = self.blocks.iter().filter_map(|b| b.next.as_ref().map(|n| &n.1.labels));
        let in_head = self.head.peek().map(|s| &s.labels);
        let Some(labels) = in_blocks.chain(in_head).min().cloned() else { return Ok(None) };
        let mut parts = Vec::new();
        for walk in &mut self.blocks {
            // A damaged index may have a series twice, or out of its place.
            while walk.next.as_ref().is_some_and(|n| n.1.labels == labels) {
                if let Some((reference, series)) = walk.next.take() {
                    parts.push(Part { block: walk.block, reference, series });
                }
                walk.advance()?;
            }
        }
        let head = self.head.next_if(|s| s.labels == labels);
        Ok(Some(Found { labels, parts, head }))
    }
}

impl Found<'_> {
    pub fn matches(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|m| m.matches(self.labels.value_or_empty(&m.name)))
    }

    /// Its samples between two times (inclusive), in order.
    pub fn read(
        &self,
        database: &Database,
        mint: Timestamp,
        maxt: Timestamp,
        scratch: &mut Vec<u8>,
        out: &mut Vec<Sample>,
    ) -> Result<(), Error> {
        out.clear();
        for part in &self.parts {
            let wanted = part.series.chunks.iter().filter(|c| c.min_time <= maxt && c.max_time >= mint);
            for chunk in wanted {
                part.block.read_chunk(part.reference, chunk, scratch, out)?;
            }
        }
        if let (Some(head), Some(series)) = (&database.head, self.head) {
            let mut newest = Vec::new();
            head.samples(series, mint, maxt, &mut newest)?;
            out.append(&mut newest);
        }
        out.retain(|s| (mint..=maxt).contains(&s.time));
        merge(out);
        Ok(())
    }
}
