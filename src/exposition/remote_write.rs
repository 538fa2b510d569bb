//! Remote write requests, 1.0 and 2.0: one flat walk over the protobuf bytes, borrowing all that it can.
//!
//! A series is read into one reused [`SeriesReader`]: its samples as numbers, its labels as the bytes they lie in.
//! Who has seen those bytes before needs to know no more of them; who has not reads the pairs and lets
//! [`checked_labels`] judge them. Errors have the words of Go's generated code, which senders log.

use model::Labels;
use model::labels::{METRIC_NAME, is_legacy_label_name};
use model::quote::push_quoted_bytes;

/// Why a message does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: negative length found during unmarshaling")]
    NegativeLength,
    #[error("proto: illegal wireType {0}")]
    IllegalWire(u8),
    #[error("proto: unexpected end of group")]
    EndOfGroup,
    #[error("proto: {message}: wiretype end group for non-group")]
    NoGroup { message: &'static str },
    #[error("proto: {message}: illegal tag {tag} (wire type {wire})")]
    IllegalTag { message: &'static str, tag: i32, wire: u64 },
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongWire { wire: u8, field: &'static str },
}

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
const GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

/// A place in a message.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(b) if *b < 0x80 => {
                self.at += 1;
                Ok(u64::from(*b))
            }
            _ => self.long_varint(),
        }
    }

    #[inline]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            Some(b) => match varint_of(u64::from_le_bytes(*b)) {
                Some((value, length)) => {
                    self.at += length;
                    Ok(value)
                }
                None => self.any_varint(),
            },
            None => self.any_varint(),
        }
    }

    fn any_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let b = *self.bytes.get(self.at).ok_or(Malformed::Truncated)?;
            self.at += 1;
            value |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Overflow)
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(n).ok_or(Malformed::NegativeLength)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn sized(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.varint()?;
        if n > i64::MAX as u64 {
            return Err(Malformed::NegativeLength);
        }
        self.take(n as usize)
    }

    #[inline]
    pub(crate) fn double(&mut self) -> Result<f64, Malformed> {
        let mut b = [0; 8];
        b.copy_from_slice(self.take(8)?);
        Ok(f64::from_le_bytes(b))
    }

    /// The next field's number and wire type; `None` at the end.
    #[inline]
    pub(crate) fn field(&mut self, message: &'static str) -> Result<Option<(u32, u8)>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (tag, wire) = ((key >> 3) as i32, (key & 7) as u8);
        if wire == END_GROUP {
            return Err(Malformed::NoGroup { message });
        }
        if tag <= 0 {
            return Err(Malformed::IllegalTag { message, tag, wire: key });
        }
        Ok(Some((tag as u32, wire)))
    }

    pub(crate) fn skip(&mut self, wire: u8) -> Result<(), Malformed> {
        let mut depth = 0u32;
        let mut wire = wire;
        loop {
            match wire {
                VARINT => drop(self.varint()?),
                FIXED64 => drop(self.take(8)?),
                BYTES => drop(self.sized()?),
                GROUP => depth += 1,
                END_GROUP if depth == 0 => return Err(Malformed::EndOfGroup),
                END_GROUP => depth -= 1,
                FIXED32 => drop(self.take(4)?),
                other => return Err(Malformed::IllegalWire(other)),
            }
            if depth == 0 {
                return Ok(());
            }
            wire = (self.varint()? & 7) as u8;
        }
    }
}

/// The varint that begins `word`, read at once, and its length; `None` where it is longer than the word. A time of
/// these decades has six bytes.
#[inline]
fn varint_of(word: u64) -> Option<(u64, usize)> {
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let sevens = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let twos = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = twos & 0x0000_3fff_0000_3fff | (twos & 0x3fff_0000_3fff_0000) >> 2;
    let all = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
    Some((all, ends.trailing_zeros() as usize / 8 + 1))
}

#[inline]
pub(crate) fn expect(wire: u8, wanted: u8, field: &'static str) -> Result<(), Malformed> {
    if wire == wanted { Ok(()) } else { Err(Malformed::WrongWire { wire, field }) }
}

/// How a label field of a 1.0 series begins.
pub const LABEL: u8 = 1 << 3 | BYTES;

/// The series of a `prometheus.WriteRequest`, one message after the other.
pub struct RequestV1<'a> {
    cursor: Cursor<'a>,
}

impl<'a> RequestV1<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        RequestV1 { cursor: Cursor::new(body) }
    }

    /// The next series' message; `None` at the end. Metadata is passed over.
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        while let Some((field, wire)) = self.cursor.field("WriteRequest")? {
            match field {
                1 => {
                    expect(wire, BYTES, "Timeseries")?;
                    return Ok(Some(self.cursor.sized()?));
                }
                3 => {
                    expect(wire, BYTES, "Metadata")?;
                    self.cursor.sized()?;
                }
                _ => self.cursor.skip(wire)?,
            }
        }
        Ok(None)
    }
}

/// A range of a body: bodies are far below 4 GiB.
pub type Part = std::ops::Range<u32>;

/// Where the parts of an `io.prometheus.write.v2.Request` lie: the symbols may stand behind the series that name
/// them, so they are gathered first.
#[derive(Default)]
pub struct RequestV2 {
    pub symbols: Vec<Part>,
    pub series: Vec<Part>,
}

impl RequestV2 {
    /// Reads the outline of `body` anew.
    pub fn read(&mut self, body: &[u8]) -> Result<(), Malformed> {
        self.symbols.clear();
        self.series.clear();
        let mut cursor = Cursor::new(body);
        while let Some((field, wire)) = cursor.field("Request")? {
            let (list, name) = match field {
                4 => (&mut self.symbols, "Symbols"),
                5 => (&mut self.series, "Timeseries"),
                _ => {
                    cursor.skip(wire)?;
                    continue;
                }
            };
            expect(wire, BYTES, name)?;
            let length = cursor.sized()?.len();
            list.push((cursor.at - length) as u32..cursor.at as u32);
        }
        Ok(())
    }

    /// The text of a symbol; `None` outside of the table.
    pub fn symbol<'a>(&self, body: &'a [u8], at: u32) -> Option<&'a [u8]> {
        let part = self.symbols.get(at as usize)?;
        body.get(part.start as usize..part.end as usize)
    }

    /// Writes the pairs that `refs` name into `pairs`, or says in Prometheus's words which do not exist.
    pub fn pairs<'a>(&self, body: &'a [u8], refs: &[u32], pairs: &mut Pairs<'a>) -> Result<(), String> {
        pairs.clear();
        if !refs.len().is_multiple_of(2) {
            return Err(format!("invalid labelRefs length {}", refs.len()));
        }
        for pair in refs.chunks_exact(2) {
            match (self.symbol(body, pair[0]), self.symbol(body, pair[1])) {
                (Some(name), Some(value)) => pairs.push((name, value)),
                _ => {
                    return Err(format!(
                        "labelRefs {} (name) = {} (value) outside of symbols table (size {})",
                        pair[0],
                        pair[1],
                        self.symbols.len()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A float at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    pub time: i64,
    /// When the counter began; 0 where not known.
    pub start: i64,
    pub value: f64,
}

/// Label pairs as they came: any order, any bytes.
pub type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

/// An exemplar of a series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplar {
    pub time: i64,
    pub value: f64,
    /// 1.0: where its message lies in the series'. 2.0: where the pairs of its symbols lie in
    /// [`SeriesReader::exemplar_refs`].
    pub part: Part,
}

/// One series, read. Reused from series to series.
#[derive(Default)]
pub struct SeriesReader {
    pub samples: Vec<Sample>,
    /// Where histograms lie in the series' message.
    pub histograms: Vec<Part>,
    /// Of 1.0's only where they lie is read: see [`read_exemplar`].
    pub exemplars: Vec<Exemplar>,
    /// 2.0: pairs of symbols.
    pub label_refs: Vec<u32>,
    /// 2.0: the same of all exemplars.
    pub exemplar_refs: Vec<u32>,
    /// 2.0: help and unit.
    pub metadata_refs: [u32; 2],
    /// Labels that do not lie side by side, put together.
    joined: Vec<u8>,
    /// Where the labels at the message's beginning end.
    labels_end: usize,
}

impl SeriesReader {
    fn clear(&mut self) {
        self.samples.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.label_refs.clear();
        self.exemplar_refs.clear();
        self.metadata_refs = [0; 2];
        self.joined.clear();
    }

    /// The label fields of the 1.0 series read last, which was `message`: see [`read_pairs`].
    #[inline]
    pub fn labels_v1<'s>(&'s self, message: &'s [u8]) -> &'s [u8] {
        if self.joined.is_empty() { &message[..self.labels_end] } else { &self.joined }
    }

    /// Reads a 1.0 series.
    #[inline]
    pub fn read_v1(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(message);
        while message.get(cursor.at) == Some(&LABEL) {
            cursor.at += 1;
            cursor.sized()?;
        }
        self.read_v1_behind(message, cursor.at)
    }

    /// Whether all labels of the 1.0 series read last were at the message's beginning.
    #[inline]
    pub fn is_in_order(&self) -> bool {
        self.joined.is_empty()
    }

    /// Reads a 1.0 series that begins with label fields up to `labels_end`.
    #[inline]
    pub fn read_v1_behind(&mut self, message: &[u8], labels_end: usize) -> Result<(), Malformed> {
        self.clear();
        self.labels_end = labels_end;
        let mut cursor = Cursor { bytes: message, at: labels_end };
        while cursor.at < message.len() {
            let field_at = cursor.at;
            let Some((field, wire)) = cursor.field("TimeSeries")? else { break };
            match field {
                1 => {
                    expect(wire, BYTES, "Labels")?;
                    cursor.sized()?;
                    if self.joined.is_empty() {
                        self.joined.extend_from_slice(&message[..self.labels_end]);
                    }
                    self.joined.extend_from_slice(&message[field_at..cursor.at]);
                }
                2 => {
                    expect(wire, BYTES, "Samples")?;
                    let sample = read_sample(cursor.sized()?)?;
                    self.samples.push(sample);
                }
                3 => {
                    expect(wire, BYTES, "Exemplars")?;
                    let length = cursor.sized()?.len();
                    let part = (cursor.at - length) as u32..cursor.at as u32;
                    self.exemplars.push(Exemplar { part, ..Exemplar::default() });
                }
                4 => {
                    expect(wire, BYTES, "Histograms")?;
                    let length = cursor.sized()?.len();
                    self.histograms.push((cursor.at - length) as u32..cursor.at as u32);
                }
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }

    /// Reads a 2.0 series; its labels are in [`SeriesReader::label_refs`].
    pub fn read_v2(&mut self, message: &[u8]) -> Result<(), Malformed> {
        self.clear();
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("TimeSeries")? {
            match field {
                1 => read_refs(&mut cursor, wire, "LabelsRefs", &mut self.label_refs)?,
                2 => {
                    expect(wire, BYTES, "Samples")?;
                    let sample = read_sample(cursor.sized()?)?;
                    self.samples.push(sample);
                }
                3 => {
                    expect(wire, BYTES, "Histograms")?;
                    let length = cursor.sized()?.len();
                    self.histograms.push((cursor.at - length) as u32..cursor.at as u32);
                }
                4 => {
                    expect(wire, BYTES, "Exemplars")?;
                    self.read_exemplar(cursor.sized()?)?;
                }
                5 => {
                    expect(wire, BYTES, "Metadata")?;
                    self.read_metadata(cursor.sized()?)?;
                }
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }

    fn read_exemplar(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let (mut cursor, mut exemplar) = (Cursor::new(message), Exemplar::default());
        let from = self.exemplar_refs.len() as u32;
        while let Some((field, wire)) = cursor.field("Exemplar")? {
            match field {
                1 => read_refs(&mut cursor, wire, "LabelsRefs", &mut self.exemplar_refs)?,
                _ => exemplar.read_field(&mut cursor, field, wire)?,
            }
        }
        exemplar.part = from..self.exemplar_refs.len() as u32;
        self.exemplars.push(exemplar);
        Ok(())
    }

    fn read_metadata(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(message);
        while let Some((field, wire)) = cursor.field("Metadata")? {
            match field {
                3 | 4 => {
                    expect(wire, VARINT, if field == 3 { "HelpRef" } else { "UnitRef" })?;
                    self.metadata_refs[field as usize - 3] = cursor.varint()? as u32;
                }
                _ => cursor.skip(wire)?,
            }
        }
        Ok(())
    }
}

fn read_refs(
    cursor: &mut Cursor<'_>,
    wire: u8,
    field: &'static str,
    out: &mut Vec<u32>,
) -> Result<(), Malformed> {
    if wire == VARINT {
        out.push(cursor.varint()? as u32);
        return Ok(());
    }
    expect(wire, BYTES, field)?;
    let mut packed = Cursor::new(cursor.sized()?);
    while packed.at < packed.bytes.len() {
        out.push(packed.varint()? as u32);
    }
    Ok(())
}

/// A sample as nearly all senders write it: a value, a time of these decades, nothing else.
#[inline]
fn usual_sample(message: &[u8]) -> Option<Sample> {
    const VALUE: u8 = 1 << 3 | FIXED64;
    const TIME: u8 = 2 << 3 | VARINT;
    let [VALUE, v @ .., _, _, _, _, _, _, _] = *<&[u8; 16]>::try_from(message).ok()? else { return None };
    let rest: [u8; 8] = *message.last_chunk()?;
    // The value's last byte, the tag, the time.
    let (time, 6) = varint_of(u64::from_le_bytes(rest) >> 16)? else { return None };
    (rest[1] == TIME).then(|| Sample { time: time as i64, start: 0, value: f64::from_le_bytes(v) })
}

/// Both versions: value 1, timestamp 2; 2.0 adds the start timestamp 3.
#[inline]
fn read_sample(message: &[u8]) -> Result<Sample, Malformed> {
    if let Some(sample) = usual_sample(message) {
        return Ok(sample);
    }
    let mut cursor = Cursor::new(message);
    let mut sample = Sample::default();
    while let Some((field, wire)) = cursor.field("Sample")? {
        match field {
            1 => {
                expect(wire, FIXED64, "Value")?;
                sample.value = cursor.double()?;
            }
            2 => {
                expect(wire, VARINT, "Timestamp")?;
                sample.time = cursor.varint()? as i64;
            }
            3 if wire == VARINT => sample.start = cursor.varint()? as i64,
            _ => cursor.skip(wire)?,
        }
    }
    Ok(sample)
}

impl Exemplar {
    /// What both versions number alike.
    fn read_field(&mut self, cursor: &mut Cursor<'_>, field: u32, wire: u8) -> Result<(), Malformed> {
        match field {
            2 => {
                expect(wire, FIXED64, "Value")?;
                self.value = cursor.double()?;
            }
            3 => {
                expect(wire, VARINT, "Timestamp")?;
                self.time = cursor.varint()? as i64;
            }
            _ => cursor.skip(wire)?,
        }
        Ok(())
    }
}

/// Reads a 1.0 exemplar: its time and value, its labels into `pairs`.
pub fn read_exemplar<'a>(message: &'a [u8], pairs: &mut Pairs<'a>) -> Result<Exemplar, Malformed> {
    pairs.clear();
    let (mut cursor, mut exemplar) = (Cursor::new(message), Exemplar::default());
    while let Some((field, wire)) = cursor.field("Exemplar")? {
        match field {
            1 => {
                expect(wire, BYTES, "Labels")?;
                pairs.push(read_label(cursor.sized()?)?);
            }
            _ => exemplar.read_field(&mut cursor, field, wire)?,
        }
    }
    Ok(exemplar)
}

/// An exemplar's labels, sorted, each name once; `None` where they are no text. Labels without a value are left out.
pub fn exemplar_labels(pairs: &mut Pairs<'_>) -> Option<Labels> {
    pairs.retain(|(_, value)| !value.is_empty());
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    pairs.dedup_by(|b, a| a.0 == b.0);
    let texts: Option<Vec<(&str, &str)>> = pairs
        .iter()
        .map(|(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?)))
        .collect();
    Some(Labels::from_sorted(texts?))
}

fn read_label(message: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut label = Cursor::new(message);
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some((field, wire)) = label.field("Label")? {
        match field {
            1 => {
                expect(wire, BYTES, "Name")?;
                name = label.sized()?;
            }
            2 => {
                expect(wire, BYTES, "Value")?;
                value = label.sized()?;
            }
            _ => label.skip(wire)?,
        }
    }
    Ok((name, value))
}

/// The pairs of 1.0 label fields, as [`SeriesReader::read_v1`] returns them.
pub fn read_pairs<'a>(labels: &'a [u8], pairs: &mut Pairs<'a>) -> Result<(), Malformed> {
    pairs.clear();
    let mut cursor = Cursor::new(labels);
    while cursor.field("TimeSeries")?.is_some() {
        pairs.push(read_label(cursor.sized()?)?);
    }
    Ok(())
}

/// Labels that name no series; the texts are Prometheus's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelFault {
    #[error("invalid metric name or labels, got {labels}")]
    Invalid { labels: String },
    #[error("invalid labels for series, labels {labels}, duplicated label {name}")]
    Duplicated { labels: String, name: String },
}

/// Sorts the pairs where they are not, and judges them as Prometheus does. Labels without a value are left out.
pub fn checked_labels(pairs: &mut Pairs<'_>) -> Result<Labels, LabelFault> {
    if !pairs.is_sorted_by(|a, b| a.0 <= b.0) {
        pairs.sort_by(|a, b| a.0.cmp(b.0));
    }
    let is_named = |(name, value): &(&[u8], &[u8])| {
        !name.is_empty() && (*name != METRIC_NAME.as_bytes() || !value.is_empty())
    };
    let has_name = pairs.iter().any(|p| p.0 == METRIC_NAME.as_bytes());
    let mut is_valid = has_name && pairs.iter().all(is_named);
    let kept = pairs.iter().filter_map(|(name, value)| {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            is_valid = false;
            return None;
        };
        (!value.is_empty()).then_some((name, value))
    });
    let labels = Labels::from_sorted(kept);
    if !is_valid {
        return Err(LabelFault::Invalid { labels: pairs_text(pairs) });
    }
    if let Some(twice) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
        let name = String::from_utf8_lossy(twice[0].0).into_owned();
        return Err(LabelFault::Duplicated { labels: pairs_text(pairs), name });
    }
    Ok(labels)
}

/// Any pairs as Prometheus writes label sets; bytes that are no text as Go quotes them.
pub fn pairs_text(pairs: &[(&[u8], &[u8])]) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        match std::str::from_utf8(name) {
            Ok(name) if is_legacy_label_name(name) => out.push_str(name),
            _ => push_quoted_bytes(&mut out, name),
        }
        out.push('=');
        push_quoted_bytes(&mut out, value);
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests;
