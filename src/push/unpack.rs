//! Bodies as senders pack them: gzip, zstd, snappy, or not at all.

use std::borrow::Cow;
use std::io::Read;

use libdeflater::{DecompressionError, Decompressor};

use crate::push::Error;

/// What a body may unpack to: Prometheus's bound for what is pushed to it.
pub const UNPACKED_BYTES_MAX: usize = 32 << 20;

/// Deflate gives at most 1032 bytes for one.
const DEFLATE_RATIO_MAX: usize = 1032;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
    Snappy,
}

impl Packing {
    /// By the `Content-Encoding` header.
    pub fn of(encoding: &str) -> Option<Packing> {
        match encoding {
            "" | "identity" => Some(Packing::None),
            "gzip" | "x-gzip" => Some(Packing::Gzip),
            "zstd" => Some(Packing::Zstd),
            "snappy" => Some(Packing::Snappy),
            _ => None,
        }
    }
}

/// Unpacks a body, to a bound that a bomb does not pass.
pub fn unpack(packing: Packing, body: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let unpacked = match packing {
        Packing::None => return Ok(Cow::Borrowed(body)),
        Packing::Gzip => gunzip(body)?,
        Packing::Zstd => unzstd(body)?,
        Packing::Snappy => unsnappy(body)?,
    };
    Ok(Cow::Owned(unpacked))
}

fn too_large() -> Error {
    Error::Bad(format!("decoded size exceeds the {UNPACKED_BYTES_MAX} bytes limit"))
}

fn gunzip(body: &[u8]) -> Result<Vec<u8>, Error> {
    let trailer = body.last_chunk::<4>().map_or(0, |t| u32::from_le_bytes(*t) as usize);
    let plausible = body.len().saturating_mul(DEFLATE_RATIO_MAX).min(UNPACKED_BYTES_MAX);
    let mut size = trailer.clamp(1, plausible.max(1));
    let mut decompressor = Decompressor::new();
    loop {
        let mut out = vec![0; size];
        match decompressor.gzip_decompress(body, &mut out) {
            Ok(n) => {
                out.truncate(n);
                return Ok(out);
            }
            Err(DecompressionError::InsufficientSpace) if size >= plausible => return Err(too_large()),
            Err(DecompressionError::InsufficientSpace) => size = size.saturating_mul(2).min(plausible),
            Err(DecompressionError::BadData) => return Err(Error::Bad("gzip: invalid header".to_owned())),
        }
    }
}

fn unzstd(body: &[u8]) -> Result<Vec<u8>, Error> {
    let bad = |e: std::io::Error| Error::Bad(format!("zstd: {e}"));
    let mut out = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(body).map_err(bad)?;
    decoder.take(UNPACKED_BYTES_MAX as u64 + 1).read_to_end(&mut out).map_err(bad)?;
    if out.len() > UNPACKED_BYTES_MAX { Err(too_large()) } else { Ok(out) }
}

fn unsnappy(body: &[u8]) -> Result<Vec<u8>, Error> {
    let corrupt = |_| Error::Bad("snappy: corrupt input".to_owned());
    let length = snap::raw::decompress_len(body).map_err(corrupt)?;
    // A block gives at most 64 bytes for 3.
    if length > UNPACKED_BYTES_MAX || length > body.len().saturating_mul(22) {
        return Err(too_large());
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(corrupt)
}

#[cfg(test)]
mod tests {
    use libdeflater::{CompressionLvl, Compressor};
    use proptest::prelude::*;

    use super::*;

    fn gzipped(body: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new(CompressionLvl::best());
        let mut out = vec![0; compressor.gzip_compress_bound(body.len())];
        let n = compressor.gzip_compress(body, &mut out).unwrap();
        out.truncate(n);
        out
    }

    #[test]
    fn all_packings_give_the_body_back() {
        let body = b"a body, a body, a body".repeat(100);
        assert_eq!(unpack(Packing::None, &body).as_deref(), Ok(&body[..]));
        assert_eq!(unpack(Packing::Gzip, &gzipped(&body)).as_deref(), Ok(&body[..]));
        let zstd = zstd::encode_all(&body[..], 3).unwrap();
        assert_eq!(unpack(Packing::Zstd, &zstd).as_deref(), Ok(&body[..]));
        let snappy = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        assert_eq!(unpack(Packing::Snappy, &snappy).as_deref(), Ok(&body[..]));
        assert_eq!(unpack(Packing::Gzip, &gzipped(b"")).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn bombs_are_refused_at_the_bound() {
        let bomb = vec![0; UNPACKED_BYTES_MAX + 1];
        assert_eq!(unpack(Packing::Gzip, &gzipped(&bomb)), Err(too_large()));
        assert_eq!(unpack(Packing::Zstd, &zstd::encode_all(&bomb[..], 1).unwrap()), Err(too_large()));
        assert_eq!(unpack(Packing::Snappy, b"\xff\xff\xff\x7f\x00"), Err(too_large()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for packing in [Packing::Gzip, Packing::Zstd, Packing::Snappy] {
                let _ = unpack(packing, &bytes);
            }
        }
    }
}
