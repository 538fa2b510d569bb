//! Big-endian numbers, read in order; every error says at which byte of the file.

use codec::crc32c;
use codec::varint;

use crate::Error;

/// Reads bytes that begin at `base` of their file.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    base: u64,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], base: u64) -> Self {
        Reader { bytes, at: 0, base }
    }

    /// A reader of a file's bytes from `at` on.
    pub fn at(file: &'a [u8], at: u64) -> Result<Self, Error> {
        let rest = usize::try_from(at).ok().and_then(|from| file.get(from..));
        rest.map(|bytes| Reader::new(bytes, at)).ok_or(Error::corrupt(at, "behind the end of the file"))
    }

    /// The place in the file.
    pub fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn corrupt(&self, what: &'static str) -> Error {
        Error::corrupt(self.position(), what)
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let taken = self.rest().get(..count).ok_or(self.corrupt("it ends early"))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn f64(&mut self) -> Result<f64, Error> {
        Ok(f64::from_bits(self.u64()?))
    }

    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut reader = varint::Reader::new(self.rest());
        let value = reader.varint().map_err(|e| Error::codec(self.position(), &e))?;
        self.at += reader.position();
        Ok(value)
    }

    pub fn varint_signed(&mut self) -> Result<i64, Error> {
        Ok(varint::unzigzag(self.varint()?))
    }

    pub fn varint_u32(&mut self) -> Result<u32, Error> {
        let at = self.position();
        u32::try_from(self.varint()?).map_err(|_| Error::corrupt(at, "a number over 32 bits"))
    }

    /// A count of things of which each takes `bytes_each` bytes at least: never more than there is room for.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize, Error> {
        let at = self.position();
        let count = self.varint()?;
        let fits = |c: &usize| c.saturating_mul(bytes_each) <= self.rest().len();
        usize::try_from(count).ok().filter(fits).ok_or(Error::corrupt(at, "a count larger than what follows"))
    }

    /// Bytes with their length ahead.
    pub fn sized(&mut self) -> Result<&'a [u8], Error> {
        let count = self.count(1)?;
        self.take(count)
    }

    /// Text with its length ahead.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        let at = self.position();
        std::str::from_utf8(self.sized()?).map_err(|_| Error::corrupt(at, "text that is not UTF-8"))
    }

    /// `length u32 | body | crc32c u32`: the body, checked.
    pub fn section(&mut self, what: &'static str) -> Result<Reader<'a>, Error> {
        let length = self.u32()? as usize;
        self.checked(length, what)
    }

    /// `body | crc32c u32` with a body of `length`.
    pub fn checked(&mut self, length: usize, what: &'static str) -> Result<Reader<'a>, Error> {
        let base = self.position();
        let body = self.take(length)?;
        let (stored, computed) = (self.u32()?, crc32c::checksum(body));
        if stored != computed {
            return Err(Error::Checksum { at: base, what, stored, computed });
        }
        Ok(Reader::new(body, base))
    }
}

/// Appends text with its length ahead.
pub fn push_text(text: &str, out: &mut Vec<u8>) {
    varint::write(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends `length u32 | body | crc32c u32`.
pub fn push_section(body: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let length = u32::try_from(body.len())
        .map_err(|_| Error::Unwritable("a section of an index is larger than 4 GiB".to_owned()))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32c::checksum(body).to_be_bytes());
    Ok(())
}
