//! Files made of pieces: each begins on a block of 4 KiB and carries its own checksum, so that one that is damaged
//! loses nothing but itself.
//!
//! ```text
//! piece | magic u32 = "PIEC" | kind u32 | length u64 | crc32c of the body u32 | crc32c of these 20 B u32 | body | zeros |
//! ```

use std::rc::Rc;

use codec::crc32c::checksum;

use crate::rt::Error;
use crate::rt::buffer::Buffer;
use crate::rt::disk::File;
use crate::shard::read_ahead::{Damage, ReadAhead};

pub const BLOCK_BYTES: usize = 4096;
pub const PIECE_HEADER_BYTES: usize = 24;
const MAGIC: u32 = u32::from_le_bytes(*b"PIEC");

/// A piece's body at most: writers cut theirs near a few MiB; a group of 4 096 slots may be the only one above.
pub const PIECE_BYTES_MAX: u64 = 1 << 30;

/// Written at once: one request keeps the disk busy, and is short beside the deadline of a commit.
const WRITE_BYTES: usize = 1 << 20;

/// A piece's header, as 24 bytes.
pub fn piece_header(kind: u32, body: &[u8]) -> [u8; PIECE_HEADER_BYTES] {
    let mut h = [0; PIECE_HEADER_BYTES];
    h[..4].copy_from_slice(&MAGIC.to_le_bytes());
    h[4..8].copy_from_slice(&kind.to_le_bytes());
    h[8..16].copy_from_slice(&(body.len() as u64).to_le_bytes());
    h[16..20].copy_from_slice(&checksum(body).to_le_bytes());
    let crc = checksum(&h[..20]);
    h[20..].copy_from_slice(&crc.to_le_bytes());
    h
}

/// What a header says: kind, length of the body, its checksum.
pub fn decode_piece_header(block: &[u8]) -> Option<(u32, u64, u32)> {
    let h = block.get(..PIECE_HEADER_BYTES)?;
    let u32_at = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
    let length = u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32;
    let fits = u32_at(0) == MAGIC && checksum(&h[..20]) == u32_at(20) && length <= PIECE_BYTES_MAX;
    fits.then(|| (u32_at(4), length, u32_at(16)))
}

/// Bytes that a piece with a body of `length` takes in its file.
pub fn piece_bytes(length: u64) -> u64 {
    (PIECE_HEADER_BYTES as u64 + length).next_multiple_of(BLOCK_BYTES as u64)
}

/// Writes a file of pieces from its beginning.
pub struct PieceWriter {
    file: Rc<dyn File>,
    /// Whole blocks that are not yet written, from `at` on.
    waiting: Vec<u8>,
    at: u64,
}

impl PieceWriter {
    pub fn new(file: Rc<dyn File>) -> Self {
        PieceWriter { file, waiting: Vec::new(), at: 0 }
    }

    /// Where the next piece goes.
    pub fn position(&self) -> u64 {
        self.at + self.waiting.len() as u64
    }

    /// Adds a block that is no piece: a file's header.
    pub fn push_block(&mut self, block: &[u8; BLOCK_BYTES]) {
        self.waiting.extend_from_slice(block);
    }

    /// Adds a piece; it is written by one of the next flushes.
    pub fn push(&mut self, kind: u32, body: &[u8]) {
        self.waiting.extend_from_slice(&piece_header(kind, body));
        self.waiting.extend_from_slice(body);
        self.waiting.resize(self.waiting.len().next_multiple_of(BLOCK_BYTES), 0);
    }

    /// Writes what has gathered, as far as it fills a request.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.write(WRITE_BYTES).await
    }

    async fn write(&mut self, least: usize) -> Result<(), Error> {
        let mut done = 0;
        while self.waiting.len() - done >= least.max(1) {
            let bytes = &self.waiting[done..self.waiting.len().min(done + WRITE_BYTES)];
            let mut buffer = Buffer::zeroed(bytes.len());
            buffer.fill_from(bytes);
            self.file.write_at(buffer, self.at).await?;
            self.at += bytes.len() as u64;
            done += bytes.len();
        }
        self.waiting.drain(..done);
        Ok(())
    }

    /// Writes another block in the place of the file's first one.
    pub async fn write_first(&mut self, block: &[u8; BLOCK_BYTES]) -> Result<(), Error> {
        self.write(1).await?;
        let mut buffer = Buffer::zeroed(BLOCK_BYTES);
        buffer.fill_from(block);
        self.file.write_at(buffer, 0).await?;
        Ok(())
    }

    /// Writes the rest and makes all of it durable; nothing is pushed after it. Returns the file's size.
    pub async fn finish(&mut self) -> Result<u64, Error> {
        self.write(1).await?;
        self.file.sync().await?;
        self.file.clone().close().await?;
        Ok(self.at)
    }
}

/// Walks a file of pieces.
pub struct PieceReader {
    pub ahead: ReadAhead,
    at: u64,
}

/// What comes next.
pub enum Next<'a> {
    Piece { kind: u32, at: u64, body: &'a [u8] },
    Damaged(Damage),
    End,
}

impl PieceReader {
    /// Begins behind `header_bytes`.
    pub fn new(ahead: ReadAhead, header_bytes: u64) -> Self {
        PieceReader { ahead, at: header_bytes }
    }

    /// The next piece. After a damaged one the walk goes on with the next whole one.
    pub async fn next(&mut self) -> Result<Next<'_>, Error> {
        let at = self.at;
        if at >= self.ahead.size {
            return Ok(Next::End);
        }
        let Some((kind, length, crc)) = decode_piece_header(self.ahead.bytes(at, PIECE_HEADER_BYTES).await?)
        else {
            self.at = self.find_header(at + BLOCK_BYTES as u64).await?;
            return Ok(Next::Damaged(self.ahead.damage(at, "no piece begins here")));
        };
        self.at = at + piece_bytes(length);
        let whole = PIECE_HEADER_BYTES + length as usize;
        let bytes = self.ahead.bytes(at, whole).await?;
        if bytes.len() < whole || checksum(&bytes[PIECE_HEADER_BYTES..]) != crc {
            let what = format!("the checksum of a piece of {length} bytes does not fit");
            return Ok(Next::Damaged(self.ahead.damage(at, what)));
        }
        // Read again for the borrow checker's sake: it lies in the window.
        let bytes = self.ahead.bytes(at, whole).await?;
        Ok(Next::Piece { kind, at, body: &bytes[PIECE_HEADER_BYTES..] })
    }

    async fn find_header(&mut self, mut at: u64) -> Result<u64, Error> {
        while at < self.ahead.size {
            if decode_piece_header(self.ahead.bytes(at, PIECE_HEADER_BYTES).await?).is_some() {
                return Ok(at);
            }
            at += BLOCK_BYTES as u64;
        }
        Ok(at)
    }
}
