//! Scrub: all that blocks hold is read again, slowly, and held against its checksums, so that a disk that forgets is noticed
//! before somebody asks.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use model::Timestamp;

use crate::rt;
use crate::rt::Pulse;
use crate::rt::gate::Gate;
use crate::shard::block::Block;
use crate::shard::block::layout::{Header, PieceRef, decode_end};
use crate::shard::block::part::{Chunk, Part};
use crate::shard::keeper::Keeper;
use crate::shard::pieces::{BLOCK_BYTES, Next, PieceReader, piece_bytes};
use crate::shard::read_ahead::{Damage, ReadAhead};

/// How long a shard without blocks waits for some.
const IDLE: Duration = Duration::from_secs(60);

/// Bytes between two rests: what is read at once, and then nothing for as long as the pace says.
const REST_BYTES: u64 = 4 << 20;

impl Keeper {
    /// Reads all blocks again within `pass`, over and over, until the gate closes; not at all where that is zero. A task
    /// of the background's.
    pub async fn run_scrub(self: Rc<Self>, pulse: Pulse, gate: Gate, pass: Duration) {
        while !pass.is_zero() && !gate.is_closing() {
            or(self.scrub_once(&pulse, pass), gate.closing()).await;
        }
    }

    /// Reads all blocks that there are once, in about as long as `pass`.
    pub async fn scrub_once(&self, pulse: &Pulse, pass: Duration) {
        let blocks = self.store.all();
        let total: u64 = blocks.iter().map(|b| b.size).sum();
        if total == 0 {
            pulse.sleep(pass.min(IDLE)).await;
            return;
        }
        let mut pace = Pace { pulse, pass, total, unrested: 0 };
        for block in blocks {
            if let Err(e) = self.scrub_block(&block, &mut pace).await {
                // It may have gone meanwhile; then nobody needs it.
                tracing::debug!(error = %e, "a block is not scrubbed");
            }
        }
        pace.rest().await;
        self.probe.add(&self.probe.scrubs, 1);
    }

    async fn scrub_block(&self, block: &Rc<Block>, pace: &mut Pace<'_>) -> Result<(), rt::Error> {
        let mut ahead = ReadAhead::open(&self.disk, &block.path).await?;
        if let Err(what) = Header::decode(ahead.bytes(0, BLOCK_BYTES).await?) {
            self.store.set_aside(block, PieceRef::default(), what);
        }
        let end_at = block.size.saturating_sub(BLOCK_BYTES as u64);
        let mut pieces = PieceReader::new(ahead, BLOCK_BYTES as u64);
        let mut at = BLOCK_BYTES as u64;
        while at < end_at {
            let found = match pieces.next().await? {
                Next::End => break,
                Next::Piece { at: from, body, .. } => Ok(from + piece_bytes(body.len() as u64)),
                Next::Damaged(damage) => Err(damage),
            };
            let next = match found {
                Ok(next) => next,
                // The last page is no piece.
                Err(damage) if damage.offset >= end_at => break,
                Err(damage) => self.found_damage(block, damage).await,
            };
            self.probe.add(&self.probe.scrubbed_bytes, next.saturating_sub(at));
            pace.note(next.saturating_sub(at)).await;
            at = next.max(at + 1);
        }
        if let Err(what) = decode_end(pieces.ahead.bytes(end_at, BLOCK_BYTES).await?) {
            self.store.set_aside(block, PieceRef { page: page_of(end_at), pages: 1 }, what);
        }
        pieces.ahead.close().await
    }

    /// Tells of a damaged piece and of what is lost with it. Returns where the file goes on at the earliest.
    async fn found_damage(&self, block: &Rc<Block>, damage: Damage) -> u64 {
        let piece = PieceRef { page: page_of(damage.offset), pages: 1 };
        let lost = self.lost_with(block, piece.page).await;
        self.store.set_aside(block, piece, &format!("{}; lost: {lost}", damage.what));
        damage.offset + BLOCK_BYTES as u64
    }

    /// What a piece holds, by the index of its block.
    async fn lost_with(&self, block: &Rc<Block>, page: u32) -> String {
        if let Some(p) = block.directory.parts.iter().find(|p| p.piece.page == page) {
            return format!("{} series of metrics {:?} to {:?}", p.series_count, p.first_name, p.last_name);
        }
        let mut lost = Lost::default();
        for number in 0..block.directory.parts.len() {
            if let Some(part) = self.store.part(block, number).await {
                lost.take(&part, page);
            }
            rt::yield_if_needed().await;
        }
        lost.text()
    }
}

fn page_of(at: u64) -> u32 {
    u32::try_from(at / BLOCK_BYTES as u64).unwrap_or(u32::MAX)
}

/// How fast is read.
struct Pace<'p> {
    pulse: &'p Pulse,
    pass: Duration,
    /// Bytes of a pass.
    total: u64,
    unrested: u64,
}

impl Pace<'_> {
    async fn note(&mut self, bytes: u64) {
        self.unrested += bytes;
        if self.unrested >= REST_BYTES {
            self.rest().await;
        }
        rt::yield_if_needed().await;
    }

    /// Waits for the part of the pass that what was read since the last rest is of all.
    async fn rest(&mut self) {
        let part = std::mem::take(&mut self.unrested) as f64 / self.total.max(1) as f64;
        let rest = self.pass.mul_f64(part.min(1.0));
        if !rest.is_zero() {
            self.pulse.sleep(rest).await;
        }
    }
}

/// Series whose samples lie in a piece, and from when to when.
#[derive(Default)]
struct Lost {
    series: u64,
    /// The labels of the first one.
    example: String,
    span: Option<(Timestamp, Timestamp)>,
}

impl Lost {
    fn take(&mut self, part: &Part, page: u32) {
        let lies_there = |c: &&Chunk| {
            (c.kind.is_float() && c.times.piece.page == page)
                || (c.data.length > 0 && c.data.piece.page == page)
        };
        for series in 0..part.series_count() {
            let mut chunks = part.chunks(series).iter().filter(lies_there).peekable();
            if chunks.peek().is_none() {
                continue;
            }
            self.series += 1;
            if self.example.is_empty() {
                self.example = model::Labels::from_sorted(part.labels(series)).to_string();
            }
            for c in chunks {
                let (first, last) = self.span.unwrap_or((c.first_time, c.last_time));
                self.span = Some((first.min(c.first_time), last.max(c.last_time)));
            }
        }
    }

    fn text(&self) -> String {
        match self.span {
            Some((first, last)) => {
                let Lost { series, example, .. } = self;
                format!("samples from {first} to {last} of {series} series, such as {example}")
            }
            None => "nothing that the index names".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::disk::Disk;
    use crate::rt::rng::Rng;
    use crate::shard::cut_tests::{House, World, pulse};
    use futures_lite::future::block_on;

    fn house() -> House {
        let (house, mut world) = (House::new(), World::new(3, 1));
        for _ in 0..60 {
            world.step(1, |_, b| {
                house.keeper.append(house.keeper.generation(), b).expect("room");
            });
        }
        block_on(house.keeper.cut_now(&pulse(), world.time - 50)).expect("a block");
        house
    }

    #[test]
    fn a_whole_block_is_read_to_its_end() {
        let house = house();
        block_on(house.keeper.scrub_once(&pulse(), Duration::ZERO));
        let size = house.keeper.store().all()[0].size;
        assert_eq!(house.keeper.damage(), []);
        assert_eq!(house.keeper.probe.scrubbed_bytes.get(), size - 2 * BLOCK_BYTES as u64);
        assert_eq!(house.keeper.probe.scrubs.get(), 1);
    }

    #[test]
    fn what_a_disk_forgot_is_found_with_what_is_lost() {
        let (mut rng, mut samples, mut series) = (Rng::seeded(9), 0, 0);
        for _ in 0..60 {
            let house = house();
            let path = house.keeper.store().all()[0].path.clone();
            let mut bytes = block_on(house.disk.read(&path)).expect("a block");
            let at = loop {
                let at = rng.below(bytes.len() as u64) as usize;
                // Zeros are padding, as a rule.
                if bytes[at] != 0 {
                    break at;
                }
            };
            bytes[at] ^= 1 << rng.below(8);
            block_on(house.disk.publish(&path, bytes)).expect("room");
            block_on(house.keeper.scrub_once(&pulse(), Duration::ZERO));
            let damage = house.keeper.damage();
            assert_eq!(damage.len(), 1, "byte {at}: {damage:?}");
            assert!(damage[0].path == path && damage[0].offset <= at as u64, "byte {at}: {damage:?}");
            samples += usize::from(damage[0].what.contains("lost: samples from "));
            series += usize::from(damage[0].what.contains(" series of metrics \"m0\" to "));
            block_on(house.keeper.scrub_once(&pulse(), Duration::ZERO));
            assert_eq!(house.keeper.damage().len(), 1, "it is told once");
        }
        assert!(samples > 10 && series > 5, "{samples} with samples, {series} with series");
    }
}
