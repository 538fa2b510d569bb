//! Label sets: sorted by name, packed into one allocation, cheap to clone, compare and hash.
//!
//! The packed form is a run of `size name size value`, where a size is one byte below 255, else 255 and four
//! bytes little endian. Equal sets have equal bytes, so equality and hashing never look at single labels.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::{xxh3::xxh3_64, xxh64::xxh64};

use crate::quote::push_quoted;
use crate::series::SeriesHash;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One label, borrowed from its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label<'a> {
    pub name: &'a str,
    pub value: &'a str,
}

/// A sorted set of labels without duplicates and without empty values.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Labels {
    pub fn empty() -> Self {
        Labels(Arc::from([]))
    }

    /// From pairs in any order; a later pair of the same name wins, empty values are left out.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut b = LabelsBuilder::new();
        for (n, v) in pairs {
            b.set(n.as_ref(), v.as_ref());
        }
        b.build()
    }

    /// From pairs already sorted by name, without duplicates or empty values.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut bytes = Vec::with_capacity(256);
        for (n, v) in pairs {
            push_sized(&mut bytes, n);
            push_sized(&mut bytes, v);
        }
        Labels(Arc::from(bytes))
    }

    /// From the packed form, as [`Labels::bytes`] gave it.
    ///
    /// Returns `None` where the bytes are not a sorted, well-formed set: they may come from a disk.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut last: Option<&str> = None;
        while !rest.is_empty() {
            let (name, r) = try_sized(rest)?;
            let (value, r) = try_sized(r)?;
            if value.is_empty() || last.is_some_and(|l| l >= name) {
                return None;
            }
            last = Some(name);
            rest = r;
        }
        Some(Labels(Arc::from(bytes)))
    }

    /// The packed form.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The value of `name`, or `None` where the set does not have it.
    pub fn value(&self, name: &str) -> Option<&str> {
        for (n, value) in self.packed() {
            match n.cmp(name.as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => return std::str::from_utf8(value).ok(),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// Names and values as bytes, which are in the same order as texts.
    fn packed(&self) -> Packed<'_> {
        Packed { rest: &self.0 }
    }

    /// The value of `name`, empty where the set does not have it, as matchers see it.
    pub fn value_or_empty(&self, name: &str) -> &str {
        self.value(name).unwrap_or("")
    }

    pub fn metric_name(&self) -> Option<&str> {
        self.value(METRIC_NAME)
    }

    /// The hash that routes a series to its shard and names it in tables.
    pub fn series_hash(&self) -> SeriesHash {
        SeriesHash(xxh3_64(&self.0))
    }

    /// The hash Prometheus calls `Labels.Hash`: xxhash64 of its packed bytes, which are ours but for sizes from 255
    /// on: they have three bytes there.
    pub fn xxh64(&self) -> u64 {
        if self.packed().all(|(n, v)| n.len() < 255 && v.len() < 255) {
            return xxh64(&self.0, 0);
        }
        let mut bytes = Vec::with_capacity(self.0.len());
        for text in self.packed().flat_map(|(n, v)| [n, v]) {
            match text.len() {
                n @ ..255 => bytes.push(n as u8),
                n => {
                    bytes.push(255);
                    bytes.extend_from_slice(&(n as u32).to_le_bytes()[..3]);
                }
            }
            bytes.extend_from_slice(text);
        }
        xxh64(&bytes, 0)
    }

    /// Only the labels that `keep` accepts.
    pub fn retain(&self, mut keep: impl FnMut(Label<'_>) -> bool) -> Labels {
        let mut bytes = Vec::with_capacity(self.0.len());
        for l in self.iter() {
            if keep(l) {
                push_sized(&mut bytes, l.name);
                push_sized(&mut bytes, l.value);
            }
        }
        if bytes.len() == self.0.len() { self.clone() } else { Labels(Arc::from(bytes)) }
    }

    /// The set without its metric name.
    pub fn without_name(&self) -> Labels {
        self.retain(|l| l.name != METRIC_NAME)
    }

    /// The set with one label set (or, where `value` is empty, removed).
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let mut b = LabelsBuilder::from(self);
        b.set(name, value);
        b.build()
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.packed().cmp(other.packed()) }
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    /// As Prometheus's `Labels.String`: `{__name__="up", job="node"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::from("{");
        for (i, l) in self.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            if is_legacy_label_name(l.name) {
                out.push_str(l.name);
            } else {
                push_quoted(&mut out, l.name);
            }
            out.push('=');
            push_quoted(&mut out, l.value);
        }
        out.push('}');
        f.write_str(&out)
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = Label<'a>;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Labels in order of their names.
#[derive(Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Label<'a>;

    fn next(&mut self) -> Option<Label<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        // Every set was built by this file or checked by `from_bytes`.
        let (name, rest) = try_sized(self.rest)?;
        let (value, rest) = try_sized(rest)?;
        self.rest = rest;
        Some(Label { name, value })
    }
}

/// The same without a look at what the bytes say.
struct Packed<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packed<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = try_split(self.rest)?;
        let (value, rest) = try_split(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// A label set under construction.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name`; an empty value removes it, as an absent label and an empty one are the same.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) if value.is_empty() => {
                self.pairs.remove(i);
            }
            Ok(i) => self.pairs[i].1 = value.to_owned(),
            Err(_) if value.is_empty() => {}
            Err(i) => self.pairs.insert(i, (name.to_owned(), value.to_owned())),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(n, v)| keep(n, v));
        self
    }

    /// The value of `name`, empty where absent.
    pub fn value(&self, name: &str) -> &str {
        match self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) => &self.pairs[i].1,
            Err(_) => "",
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> Self {
        LabelsBuilder { pairs: labels.iter().map(|l| (l.name.to_owned(), l.value.to_owned())).collect() }
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`: a metric name before UTF-8 names came.
pub fn is_legacy_metric_name(name: &str) -> bool {
    let b = name.as_bytes();
    !b.is_empty()
        && !b[0].is_ascii_digit()
        && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_' || *c == b':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`: a label name before UTF-8 names came.
pub fn is_legacy_label_name(name: &str) -> bool {
    let b = name.as_bytes();
    !b.is_empty() && !b[0].is_ascii_digit() && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_')
}

/// Which names are allowed: any UTF-8 text, or only what Prometheus took before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameScheme {
    #[default]
    Utf8,
    Legacy,
}

impl NameScheme {
    pub fn is_label_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy_label_name(name),
        }
    }

    pub fn is_metric_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy_metric_name(name),
        }
    }
}

fn push_sized(out: &mut Vec<u8>, s: &str) {
    if s.len() < 255 {
        out.push(s.len() as u8);
    } else {
        let n = u32::try_from(s.len()).expect("a label is shorter than 4 GiB: bodies are bounded far below");
        out.push(255);
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(s.as_bytes());
}

fn try_sized(b: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = try_split(b)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[inline]
fn try_split(b: &[u8]) -> Option<(&[u8], &[u8])> {
    let (n, rest) = match *b.first()? {
        255 => (u32::from_le_bytes(b.get(1..5)?.try_into().ok()?) as usize, &b[5..]),
        n => (n as usize, &b[1..]),
    };
    rest.split_at_checked(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_are_absent() {
        let l = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(l.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(l.value("b"), Some("3"));
        assert_eq!(l.value("c"), None);
        assert_eq!(l.len(), 2);
    }

    #[test]
    fn order_is_by_labels_not_by_packed_bytes() {
        let a = Labels::from_pairs([("a", "zz")]);
        let b = Labels::from_pairs([("aa", "b")]);
        let c = Labels::from_pairs([("a", "b"), ("b", "c")]);
        assert!(a < b && c < a);
    }

    #[test]
    fn the_hash_is_of_sizes_of_one_byte_or_of_a_mark_and_three() {
        let long = "x".repeat(300);
        for value in ["1", long.as_str()] {
            let mut packed = b"\x01a".to_vec();
            match value.len() {
                1 => packed.push(1),
                _ => packed.extend_from_slice(&[255, 44, 1, 0]),
            }
            packed.extend_from_slice(value.as_bytes());
            assert_eq!(Labels::from_pairs([("a", value)]).xxh64(), xxh64(&packed, 0), "{}", value.len());
        }
    }

    #[test]
    fn long_values_survive_and_hostile_bytes_are_refused() {
        let long = "x".repeat(70_000);
        let l = Labels::from_pairs([("a", long.as_str()), ("b", "y")]);
        assert_eq!(Labels::from_bytes(l.bytes()), Some(l.clone()));
        assert_eq!(l.value("a"), Some(long.as_str()));
        for bad in [&b"\x05ab"[..], b"\xff", b"\xff\xff\xff\xff\xff", b"\x01a\x00", b"\x01b\x01x\x01a\x01y"] {
            assert_eq!(Labels::from_bytes(bad), None, "{bad:?}");
        }
    }
}
