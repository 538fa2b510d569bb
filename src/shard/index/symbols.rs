//! Interned label text: every distinct name and value once per shard.

use xxhash_rust::xxh3::xxh3_64;

use crate::shard::index::split::SplitTable;

/// A string of this shard. `SymbolId::EMPTY` is `""`, which is also what an absent label has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolId(pub u32);

impl SymbolId {
    pub const EMPTY: SymbolId = SymbolId(0);
}

/// Text arena plus a table of (hash -> symbol). 6-12 B a symbol beside its text.
pub struct Symbols {
    text: String,
    /// End offset of each symbol in `text`; symbol `i` begins where `i - 1` ends. The arena is bounded by u32
    /// offsets: 4 GiB of distinct label text on one shard.
    ends: Vec<u32>,
    table: SplitTable,
}

impl Default for Symbols {
    fn default() -> Self {
        let mut s = Symbols { text: String::new(), ends: Vec::new(), table: SplitTable::default() };
        s.try_intern("").expect("an empty arena has room");
        s
    }
}

impl Symbols {
    pub fn text(&self, id: SymbolId) -> &str {
        let i = id.0 as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.text[start..self.ends[i] as usize]
    }

    pub fn find(&self, text: &str) -> Option<SymbolId> {
        self.table.find(xxh3_64(text.as_bytes()), |id| self.text(SymbolId(*id)) == text).map(SymbolId)
    }

    /// [`Symbols::try_intern`] of a text that may be that of `like`.
    pub fn intern_like(&mut self, text: &str, like: SymbolId) -> Option<SymbolId> {
        if self.text(like) == text { Some(like) } else { self.try_intern(text) }
    }

    /// The symbol of `text`, made if it is new; `None` when the arena is full.
    pub fn try_intern(&mut self, text: &str) -> Option<SymbolId> {
        if let Some(id) = self.find(text) {
            return Some(id);
        }
        let end = u32::try_from(self.text.len() + text.len()).ok()?;
        let id = u32::try_from(self.ends.len()).ok()?;
        self.text.push_str(text);
        self.ends.push(end);
        let Symbols { text, ends, table } = self;
        let of = |i: u32| {
            let start = if i == 0 { 0 } else { ends[i as usize - 1] as usize };
            xxh3_64(&text.as_bytes()[start..ends[i as usize] as usize])
        };
        table.insert_unique(of(id), id, |i| of(*i));
        Some(SymbolId(id))
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_text_is_one_symbol() {
        let mut s = Symbols::default();
        assert_eq!(s.find(""), Some(SymbolId::EMPTY));
        let ids: Vec<_> = (0..5000).map(|i| s.try_intern(&format!("v{i}")).unwrap()).collect();
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(s.try_intern(&format!("v{i}")), Some(*id));
            assert_eq!(s.text(*id), format!("v{i}"));
        }
        assert_eq!(s.find("nope"), None);
        assert_eq!((s.intern_like("v7", ids[7]), s.intern_like("v7", ids[8])), (Some(ids[7]), Some(ids[7])));
        assert_eq!(s.len(), 5001);
    }
}
