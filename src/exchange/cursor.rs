//! Many series read side by side in order of time, chunk by chunk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use model::Timestamp;
use prometheus_tsdb::index::ChunkMeta;
use prometheus_tsdb::sample::{Sample, merge};

use crate::exchange::Error;
use crate::exchange::directory::Database;

/// Where some samples of a series lie.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    place: Place,
    min_time: Timestamp,
    max_time: Timestamp,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Block {
        block: u16,
        series: u64,
        chunk: u64,
    },
    /// All that the log has of the series.
    Log {
        series: u64,
    },
}

impl Piece {
    pub fn of_block(block: u16, series: u64, meta: ChunkMeta) -> Piece {
        let place = Place::Block { block, series, chunk: meta.reference };
        Piece { place, min_time: meta.min_time, max_time: meta.max_time }
    }

    pub fn of_log(series: u64, (min_time, max_time): (Timestamp, Timestamp)) -> Piece {
        Piece { place: Place::Log { series }, min_time, max_time }
    }

    fn read(&self, database: &Database, scratch: &mut Vec<u8>, out: &mut Vec<Sample>) -> Result<(), Error> {
        match self.place {
            Place::Block { block, series, chunk } => {
                let Some(block) = database.blocks.get(usize::from(block)) else { return Ok(()) };
                let (min_time, max_time) = (self.min_time, self.max_time);
                block.read_chunk(series, &ChunkMeta { min_time, max_time, reference: chunk }, scratch, out)
            }
            Place::Log { series } => {
                let Some(head) = &database.head else { return Ok(()) };
                let Some(series) = head.all().get(series as usize) else { return Ok(()) };
                let mut samples = Vec::new();
                head.samples(series, Timestamp::MIN, Timestamp::MAX, &mut samples)?;
                out.append(&mut samples);
                Ok(())
            }
        }
    }
}

/// One series: its pieces, and the samples of those that are being read.
pub struct Cursor {
    /// By time, the first one last.
    pieces: Vec<Piece>,
    mint: Timestamp,
    maxt: Timestamp,
    samples: std::vec::IntoIter<Sample>,
}

impl Cursor {
    pub fn new(mut pieces: Vec<Piece>, mint: Timestamp, maxt: Timestamp) -> Cursor {
        pieces.retain(|p| p.min_time <= maxt && p.max_time >= mint);
        pieces.sort_by_key(|p| Reverse(p.min_time));
        Cursor { pieces, mint, maxt, samples: Vec::new().into_iter() }
    }

    /// No sample is older.
    pub fn first_time(&self) -> Option<Timestamp> {
        self.pieces.last().map(|p| p.min_time.max(self.mint))
    }

    /// The time of the next sample. Reads the next piece, and all that overlap it, where the last one is used up.
    fn next_time(&mut self, database: &Database, scratch: &mut Vec<u8>) -> Result<Option<Timestamp>, Error> {
        loop {
            if let Some(sample) = self.samples.as_slice().first() {
                return Ok(Some(sample.time));
            }
            let Some(piece) = self.pieces.pop() else { return Ok(None) };
            let (mut samples, mut until) = (Vec::new(), piece.max_time);
            piece.read(database, scratch, &mut samples)?;
            while let Some(next) = self.pieces.pop_if(|p| p.min_time <= until) {
                until = until.max(next.max_time);
                next.read(database, scratch, &mut samples)?;
            }
            samples.retain(|s| (self.mint..=self.maxt).contains(&s.time));
            merge(&mut samples);
            self.samples = samples.into_iter();
        }
    }
}

/// Series side by side.
pub struct Rows<'a> {
    database: &'a Database,
    cursors: Vec<Cursor>,
    queue: BinaryHeap<Reverse<(Timestamp, u32)>>,
    scratch: Vec<u8>,
}

impl<'a> Rows<'a> {
    pub fn new(database: &'a Database, cursors: Vec<Cursor>) -> Result<Rows<'a>, Error> {
        let mut rows = Rows { database, cursors, queue: BinaryHeap::new(), scratch: Vec::new() };
        for slot in 0..rows.cursors.len() as u32 {
            rows.enqueue(slot)?;
        }
        Ok(rows)
    }

    fn enqueue(&mut self, slot: u32) -> Result<(), Error> {
        if let Some(time) = self.cursors[slot as usize].next_time(self.database, &mut self.scratch)? {
            self.queue.push(Reverse((time, slot)));
        }
        Ok(())
    }

    pub fn next_time(&self) -> Option<Timestamp> {
        self.queue.peek().map(|next| next.0.0)
    }

    /// The samples of one time, by the number of their series.
    pub fn take_row(&mut self, time: Timestamp) -> Result<Vec<(u32, Sample)>, Error> {
        let mut row = Vec::new();
        while let Some(Reverse((_, slot))) = self.queue.peek().copied().filter(|next| next.0.0 == time) {
            self.queue.pop();
            row.extend(self.cursors[slot as usize].samples.next().map(|s| (slot, s)));
            self.enqueue(slot)?;
        }
        Ok(row)
    }
}
