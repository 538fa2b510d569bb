//! The same families while their bytes come: metric by metric, with what a whole body would say.
//!
//! A family of up to [`FAMILY_BYTES_MAX`] waits until it is all there, so that its fields may come in any order. Of a
//! larger one each metric is read as it comes, by the name and type before it, where every encoder puts them; only
//! one that does not begin with its name waits for its end, however large it is, and one that says in the end what it
//! did not say in the beginning is refused.

use crate::Error;
use crate::flat::FlatPage;
use crate::protobuf::{
    Head, Prefix, Reader, Type, Wishes, bytes, checked, head, malformed, prefix, said, varint,
};
use crate::remote_write::{Cursor, Malformed};
use crate::streamed::Progress;

/// Bytes of a family that is read only when it is whole.
pub const FAMILY_BYTES_MAX: usize = 1 << 20;

/// Where the reading of a body stands.
#[derive(Debug)]
pub struct Pieces {
    wishes: Wishes,
    /// Larger families are not waited for.
    whole_max: usize,
    open: Option<Open>,
    /// Bytes without which another look is not worth it.
    wanted: usize,
    /// Room for the labels of a metric.
    key: Vec<u8>,
}

/// A family that has begun.
#[derive(Debug)]
struct Open {
    /// Its bytes that are still to come, and all of them with their length before them.
    left: usize,
    total: usize,
    /// By what its metrics are read.
    name: Vec<u8>,
    kind: Type,
    index: u32,
    /// What its other fields said, where they were not all read before its metrics.
    said: Option<OwnHead>,
    /// What is wrong with one of its metrics, and with its fields: told when all of it came, for a body that ends
    /// before is refused for that.
    failed: Option<Error>,
    broken: Option<Malformed>,
}

#[derive(Debug, Default)]
struct OwnHead {
    name: Vec<u8>,
    help: Vec<u8>,
    unit: Vec<u8>,
    kind: u64,
}

impl OwnHead {
    fn as_head(&self) -> Head<'_> {
        Head { name: &self.name, help: &self.help, unit: &self.unit, kind: self.kind, metric_count: 1 }
    }
}

/// What became of a step.
enum Step {
    /// So many bytes are done with.
    Used(usize),
    /// Another look is worth it when there are so many.
    NeedsMore(usize),
}

/// What must be walked is looked at again when twice as much of it is there: so it is walked twice in all, and not
/// once for each piece.
fn twice(seen: usize, all: usize) -> Step {
    Step::NeedsMore((2 * seen + 1).min(all))
}

impl Pieces {
    /// With `needs_units` every family waits for its end, where its unit stands.
    pub fn new(wishes: Wishes, needs_units: bool) -> Self {
        let whole_max = if needs_units { usize::MAX } else { FAMILY_BYTES_MAX };
        Pieces { wishes, whole_max, open: None, wanted: 0, key: Vec::new() }
    }

    /// The same with another bound.
    pub fn with_family_max(wishes: Wishes, whole_max: usize) -> Self {
        Pieces { whole_max, ..Pieces::new(wishes, false) }
    }

    /// A body begins.
    pub fn begin(&mut self) {
        (self.open, self.wanted) = (None, 0);
    }

    /// Reads of `body`, which goes on where the last call stopped, until `page` has some `samples_max` samples or
    /// more bytes are needed. An error leaves what came before it in `page`.
    pub fn read(
        &mut self,
        body: &[u8],
        is_last: bool,
        samples_max: usize,
        page: &mut FlatPage,
    ) -> Result<Progress, Error> {
        let mut used = 0;
        while page.samples.len() < samples_max {
            let rest = &body[used..];
            if rest.len() < self.wanted && !is_last {
                return Ok(Progress { used, is_hungry: true });
            }
            let step = match &self.open {
                Some(open) if open.left == 0 => self.end(page).map(|()| Step::Used(0)),
                Some(_) => self.field(rest, page),
                None if rest.is_empty() => return Ok(Progress { used, is_hungry: true }),
                None => self.family(rest, page),
            };
            match step? {
                Step::Used(n) => {
                    used += n;
                    self.wanted = 0;
                }
                Step::NeedsMore(_) if is_last => return Err(self.cut_off(rest)),
                Step::NeedsMore(wanted) => {
                    self.wanted = wanted;
                    return Ok(Progress { used, is_hungry: true });
                }
            }
        }
        Ok(Progress { used, is_hungry: false })
    }

    /// The words for a body that ends too early.
    fn cut_off(&self, rest: &[u8]) -> Error {
        let (total, have) = match (&self.open, prefix(rest)) {
            (Some(open), _) => (open.total, open.total - open.left + rest.len()),
            (None, Prefix::Of { total, .. }) => (total, rest.len()),
            (None, Prefix::Short) => return said("protobufparse: invalid varint encountered: 0".to_owned()),
            (None, Prefix::Long(e)) => return e,
        };
        said(format!(
            "protobufparse: insufficient length of buffer, expected at least {total} bytes, got {have} bytes"
        ))
    }

    /// A family begins at `rest`.
    fn family(&mut self, rest: &[u8], page: &mut FlatPage) -> Result<Step, Error> {
        let (begin, total) = match prefix(rest) {
            Prefix::Of { begin, total } => (begin, total),
            Prefix::Short => return Ok(Step::NeedsMore(rest.len() + 1)),
            Prefix::Long(e) => return Err(e),
        };
        let is_large = total - begin > self.whole_max;
        let known = match is_large {
            true => name_first(&rest[begin..rest.len().min(total)]),
            false => None,
        };
        let left = total - begin;
        if let Some((name, kind)) = known {
            // What is wrong with it is told at its end: whether its fields are sound comes first.
            let failed = checked(&Head { name, kind, ..Head::default() }).err();
            let kind = Type::of(kind).unwrap_or(Type::Untyped);
            let (name, index) = (name.to_vec(), page.families.len() as u32);
            page.families.push(crate::flat::Family::default());
            let said = Some(OwnHead::default());
            let open = Open { left, total, name, kind, index, said, failed, broken: None };
            open.tell(page);
            self.open = Some(open);
            return Ok(Step::Used(begin));
        }
        let Some(family) = rest.get(begin..total) else {
            return Ok(if is_large { twice(rest.len(), total) } else { Step::NeedsMore(total) });
        };
        let head = head(family).map_err(malformed)?;
        if head.metric_count == 0 {
            return Ok(Step::Used(total));
        }
        let (family, kind) = checked(&head)?;
        let (name, index) = (head.name.to_vec(), page.families.len() as u32);
        page.families.push(family);
        self.open = Some(Open { left, total, name, kind, index, said: None, failed: None, broken: None });
        Ok(Step::Used(begin))
    }

    /// One field of the open family.
    fn field(&mut self, rest: &[u8], page: &mut FlatPage) -> Result<Step, Error> {
        let Some(open) = &mut self.open else { return Ok(Step::Used(0)) };
        let window = &rest[..rest.len().min(open.left)];
        if open.broken.is_some() && !window.is_empty() {
            open.left -= window.len();
            return Ok(Step::Used(window.len()));
        }
        let mut reader = Reader { wishes: self.wishes, page, key: std::mem::take(&mut self.key) };
        let mut cursor = Cursor::new(window);
        let step = open.field(&mut cursor, &mut reader);
        self.key = reader.key;
        match step {
            Ok(true) => {
                open.left -= cursor.position();
                Ok(Step::Used(cursor.position()))
            }
            Ok(false) => Ok(twice(0, open.left)),
            Err(Malformed::Truncated) if window.len() < open.left => Ok(twice(window.len(), open.left)),
            Err(e) => {
                open.broken = Some(e);
                Ok(Step::Used(0))
            }
        }
    }

    /// The open family is over.
    fn end(&mut self, page: &mut FlatPage) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if let Some(e) = open.broken {
            return Err(malformed(e));
        }
        let Some(own) = &open.said else { return open.failed.map_or(Ok(()), Err) };
        let (family, kind) = checked(&own.as_head())?;
        if let Some(e) = open.failed {
            return Err(e);
        }
        if kind != open.kind || own.name != open.name {
            let max = self.whole_max;
            return Err(said(format!(
                "a family of more than {max} bytes says its name or type behind its metrics"
            )));
        }
        page.families[open.index as usize] = family;
        Ok(())
    }
}

impl Open {
    /// Reads a field; false where there is none.
    fn field(&mut self, cursor: &mut Cursor<'_>, reader: &mut Reader<'_>) -> Result<bool, Malformed> {
        let Some((field, wire)) = cursor.field("MetricFamily")? else { return Ok(false) };
        match (field, &mut self.said) {
            (4, _) => {
                let metric = bytes(cursor, wire, "Metric")?;
                if self.failed.is_none() {
                    self.failed = reader.metric(&self.name, self.kind, self.index, metric).err();
                }
            }
            (1, Some(own)) => own.name = bytes(cursor, wire, "Name")?.to_vec(),
            (2, Some(own)) => own.help = bytes(cursor, wire, "Help")?.to_vec(),
            (3, Some(own)) => own.kind = varint(cursor, wire, "Type")?,
            (5, Some(own)) => own.unit = bytes(cursor, wire, "Unit")?.to_vec(),
            _ => cursor.skip(wire)?,
        }
        Ok(true)
    }

    /// Says which family its samples are of, as far as it is known.
    fn tell(&self, page: &mut FlatPage) {
        let family = &mut page.families[self.index as usize];
        family.name = String::from_utf8_lossy(&self.name).into_owned();
        family.kind = self.kind.kind();
    }
}

/// Name and type of a family that says its name before its first metric.
fn name_first(family: &[u8]) -> Option<(&[u8], u64)> {
    let mut cursor = Cursor::new(family);
    let (mut name, mut kind): (&[u8], u64) = (b"", 0);
    loop {
        let (field, wire) = cursor.field("MetricFamily").ok()??;
        match field {
            1 => name = bytes(&mut cursor, wire, "Name").ok()?,
            3 => kind = varint(&mut cursor, wire, "Type").ok()?,
            4 => return (!name.is_empty()).then_some((name, kind)),
            _ => cursor.skip(wire).ok()?,
        }
    }
}
