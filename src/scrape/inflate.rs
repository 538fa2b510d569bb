//! A gzip body unpacked as it comes: its members, one behind the other, each with its head and its checksum.

use libdeflater::Crc;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use crate::scrape::Error;

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const HEAD_BYTES: usize = 10;
/// The parts that a head may have behind its first ten bytes.
const HAS_CHECKSUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
/// A longer head is refused: it has a file's name at most.
const HEAD_BYTES_MAX: usize = 16 << 10;
const TRAILER_BYTES: usize = 8;

/// The unpacking of one body: 43 KB.
pub struct Inflater {
    state: Box<InflateState>,
    place: Place,
    sum: Crc,
    /// Bytes of the member so far.
    bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Data,
    Trailer,
}

impl Default for Inflater {
    fn default() -> Self {
        let state = InflateState::new_boxed(DataFormat::Raw);
        Inflater { state, place: Place::Head, sum: Crc::new(), bytes: 0 }
    }
}

impl Inflater {
    /// Unpacks from `packed`, whose rest is yet to come, until `out` is full or more is needed; how many bytes it
    /// took and how many it gave.
    pub fn unpack(&mut self, packed: &[u8], out: &mut [u8]) -> Result<(usize, usize), Error> {
        let (mut taken, mut given) = (0, 0);
        loop {
            let rest = &packed[taken..];
            match self.place {
                Place::Head => {
                    let Some(head) = head_bytes(rest)? else { return Ok((taken, given)) };
                    taken += head;
                    self.state.reset(DataFormat::Raw);
                    (self.sum, self.bytes) = (Crc::new(), 0);
                    self.place = Place::Data;
                }
                Place::Data => {
                    let step = inflate(&mut self.state, rest, &mut out[given..], MZFlush::None);
                    let fresh = &out[given..given + step.bytes_written];
                    self.sum.update(fresh);
                    self.bytes = self.bytes.wrapping_add(fresh.len() as u32);
                    taken += step.bytes_consumed;
                    given += step.bytes_written;
                    match step.status {
                        Ok(MZStatus::StreamEnd) => self.place = Place::Trailer,
                        Ok(_) | Err(MZError::Buf) => {
                            let is_stuck = step.bytes_consumed + step.bytes_written == 0;
                            if is_stuck || given == out.len() {
                                return Ok((taken, given));
                            }
                        }
                        Err(_) => return Err(Error::Fetch("unexpected EOF".to_owned())),
                    }
                }
                Place::Trailer => {
                    let Some((trailer, _)) = rest.split_first_chunk::<TRAILER_BYTES>() else {
                        return Ok((taken, given));
                    };
                    let expect = [self.sum.sum().to_le_bytes(), self.bytes.to_le_bytes()].concat();
                    if trailer[..] != expect[..] {
                        return Err(Error::Fetch("gzip: invalid checksum".to_owned()));
                    }
                    taken += TRAILER_BYTES;
                    self.place = Place::Head;
                }
            }
        }
    }

    /// Whether a body may end here, with `left` bytes not taken.
    pub fn is_whole(&self, left: usize) -> bool {
        self.place == Place::Head && left == 0
    }
}

/// The length of the head at the start of `bytes`; `None` while it is not all there.
fn head_bytes(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let invalid = || Err(Error::Fetch("gzip: invalid header".to_owned()));
    if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
        return invalid();
    }
    if bytes.len() > HEAD_BYTES_MAX {
        return Ok(whole_head(&bytes[..HEAD_BYTES_MAX]))
            .and_then(|h| h.map_or_else(invalid, |n| Ok(Some(n))));
    }
    Ok(whole_head(bytes))
}

fn whole_head(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(3)?;
    let mut at = HEAD_BYTES;
    if flags & HAS_EXTRA != 0 {
        at += 2 + usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    }
    for text in [HAS_NAME, HAS_COMMENT] {
        if flags & text != 0 {
            at += memchr::memchr(0, bytes.get(at..)?)? + 1;
        }
    }
    if flags & HAS_CHECKSUM != 0 {
        at += 2;
    }
    (bytes.len() >= at).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut out = vec![0; compressor.gzip_compress_bound(text.len())];
        let n = compressor.gzip_compress(text, &mut out).unwrap();
        out.truncate(n);
        out
    }

    /// Gives the body in pieces of `size`, and takes it in pieces of `room`.
    fn unpacked(body: &[u8], size: usize, room: usize) -> Result<Vec<u8>, String> {
        let mut inflater = Inflater::default();
        let (mut raw, mut text, mut out) = (Vec::new(), Vec::new(), vec![0; room]);
        for piece in body.chunks(size) {
            raw.extend_from_slice(piece);
            loop {
                let (taken, given) = inflater.unpack(&raw, &mut out).map_err(|e| e.to_string())?;
                raw.drain(..taken);
                text.extend_from_slice(&out[..given]);
                if given < room {
                    break;
                }
            }
        }
        if inflater.is_whole(raw.len()) { Ok(text) } else { Err("unexpected EOF".to_owned()) }
    }

    #[test]
    fn a_body_is_the_same_however_it_comes() {
        let text: Vec<u8> =
            (0..70_000u32).flat_map(|i| format!("a{{x=\"{i}\"}} {i}\n").into_bytes()).collect();
        let body = [packed(&text), packed(b""), packed(b"b 2\n")].concat();
        let want = [&text[..], b"b 2\n"].concat();
        for (size, room) in [(body.len(), want.len() + 1), (1, 4096), (4096, 7), (4096, 65536)] {
            assert!(unpacked(&body, size, room) == Ok(want.clone()), "{size} {room}");
        }
        let mut named = packed(b"a 1\n");
        named[3] = HAS_NAME | HAS_EXTRA;
        named.splice(10..10, *b"\x03\x00xyzpage\0");
        assert_eq!(unpacked(&named, 3, 100), Ok(b"a 1\n".to_vec()));
    }

    #[test]
    fn broken_bodies_are_refused() {
        let body = packed(&b"a 1\n".repeat(1000));
        let check = |body: &[u8], want: &str| {
            assert_eq!(unpacked(body, 16, 100), Err(want.to_owned()));
            assert_eq!(unpacked(body, body.len(), 1 << 20), Err(want.to_owned()));
        };
        check(b"no gzip at all", "gzip: invalid header");
        check(&[&body[..], b"garbage"].concat(), "gzip: invalid header");
        check(&body[..body.len() - 9], "unexpected EOF");
        check(&body[..body.len() - 1], "unexpected EOF");
        check(&body[..5], "unexpected EOF");
        let mut lies = body.clone();
        *lies.last_mut().unwrap() ^= 1;
        check(&lies, "gzip: invalid checksum");
        let mut broken = body.clone();
        broken[10] = 0xff;
        check(&broken, "unexpected EOF");
    }
}
