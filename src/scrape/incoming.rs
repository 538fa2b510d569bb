//! A body that is too large to be gathered: it comes in pieces, unpacked on the way, and is counted.

use crate::http::response::Due;
use crate::http::{self, BodyReader};
use crate::rt::net::Stream;
use crate::scrape::Error;
use crate::scrape::client::go_text;
use crate::scrape::inflate::Inflater;

/// Pages from this size on (some 40 000 lines) are read as they come. One held costs its text twice while it is
/// read, and its first reading, at two microseconds a series, holds the shard.
pub const STREAM_BYTES_MIN: usize = 4 << 20;

/// A packed page of this size has about that many bytes: exposition is packed to a tenth or a twentieth.
pub const STREAM_PACKED_MIN: usize = 256 << 10;

/// Bytes unpacked for one turn: some 2 500 lines.
pub const PIECE_BYTES: usize = 256 << 10;

/// Bytes asked of the connection at a time.
const READ_BYTES: usize = 64 << 10;

/// The rest of a body, on its connection.
pub struct Incoming {
    stream: Stream,
    reader: BodyReader,
    /// Read, but not handed on: packed or not, as it came.
    raw: Vec<u8>,
    inflater: Option<Inflater>,
    chunk: Vec<u8>,
    /// Bytes of the page so far, and how many there may be.
    total: usize,
    limit: usize,
    is_reusable: bool,
}

impl Incoming {
    /// Goes on behind `raw`; the page has at most `limit` bytes.
    pub fn new(
        stream: Stream,
        reader: BodyReader,
        raw: Vec<u8>,
        is_gzip: bool,
        limit: usize,
        is_reusable: bool,
    ) -> Self {
        let inflater = is_gzip.then(Inflater::default);
        let chunk = vec![0; READ_BYTES];
        Incoming { stream, reader, raw, inflater, chunk, total: 0, limit, is_reusable }
    }

    /// Bytes of the page that were handed on.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The connection, where it can carry another exchange: the body was read to its end.
    pub fn into_connection(self) -> Option<Stream> {
        (self.is_reusable && self.reader.due() == Due::Nothing).then_some(self.stream)
    }

    /// Adds what comes to `out`, a piece at most; false when that was the last of it.
    pub async fn fill(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        let full = out.len() + PIECE_BYTES;
        loop {
            let had = out.len();
            self.hand_on(out, full)?;
            self.total += out.len() - had;
            if self.total > self.limit {
                return Err(Error::BodyLimit);
            }
            if out.len() >= full {
                return Ok(true);
            }
            if self.reader.due() == Due::Nothing {
                let is_whole = self.inflater.as_ref().is_none_or(|i| i.is_whole(self.raw.len()));
                return if is_whole { Ok(false) } else { Err(Error::Fetch("unexpected EOF".to_owned())) };
            }
            self.read().await?;
        }
    }

    fn hand_on(&mut self, out: &mut Vec<u8>, full: usize) -> Result<(), Error> {
        let taken = match &mut self.inflater {
            None => {
                let n = self.raw.len().min(full - out.len());
                out.extend_from_slice(&self.raw[..n]);
                n
            }
            Some(inflater) => {
                let from = out.len();
                out.resize(full, 0);
                let unpacked = inflater.unpack(&self.raw, &mut out[from..]);
                out.truncate(from + unpacked.as_ref().map_or(0, |u| u.1));
                unpacked?.0
            }
        };
        self.raw.drain(..taken);
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Error> {
        let want = match self.reader.due() {
            Due::Exactly(left) => left.min(self.chunk.len()),
            _ => self.chunk.len(),
        };
        let count = self.stream.read(&mut self.chunk[..want]).await;
        let count = count.map_err(|e| Error::Fetch(go_text(&e)))?;
        if count == 0 {
            self.reader.close().map_err(body_failed)?;
        }
        // The reader's own bound is on the buffer, of which little is there at a time.
        self.reader.take(&self.chunk[..count], &mut self.raw).map_err(body_failed)
    }
}

pub(super) fn body_failed(e: http::Error) -> Error {
    match e {
        http::Error::TooLarge => Error::BodyLimit,
        other => Error::Fetch(other.to_string()),
    }
}
