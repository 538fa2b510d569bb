//! The words in which the configuration's shape is written down, and the plain data that is read by them.
//!
//! A `Schema` is a table: keys in the order in which Prometheus prints them, their types and defaults, and one
//! check of the whole. A `Block` is one section of a file, read by its schema: a value for every key.

use super::error::{Check, Position, Problem};

/// What a key may hold.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Shown as `<secret>`.
    Secret,
    /// Relative to the file it stands in.
    Path,
    Bool,
    /// A bool that is shown once it is set, even to false.
    Flag,
    Int,
    Uint,
    Float,
    Duration,
    /// Bytes with a base-2 unit.
    Size,
    /// A URL; a password in it is not shown.
    Url,
    Regex,
    Texts,
    /// Texts shown in one line.
    FlowTexts,
    Paths,
    Secrets,
    /// Name to text.
    TextMap,
    /// Name to texts.
    ListMap,
    /// Name to secrets.
    SecretMap,
    /// A section that has its defaults even where it is not given.
    Section(&'static Schema),
    /// A section that is there or not.
    Optional(&'static Schema),
    /// A list of sections, and the complaint about an empty one.
    Sections(&'static Schema, &'static str),
    /// Name to section.
    SectionMap(&'static Schema),
}

#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    /// As it would be written; empty is the type's zero.
    pub(super) default: &'static str,
    /// Shown even where it is zero.
    pub(super) always: bool,
}

/// A key that is shown where it is not zero.
pub(super) const fn key(key: &'static str, kind: Kind) -> Field {
    Field { key, kind, default: "", always: false }
}

impl Field {
    pub(super) const fn always(self) -> Self {
        Field { always: true, ..self }
    }

    pub(super) const fn or(self, default: &'static str) -> Self {
        Field { default, ..self }
    }
}

pub(super) struct Schema {
    /// The name of Go's type, which unknown keys are reported with.
    pub(super) go: &'static str,
    /// Tables in order: some are shared between schemas.
    pub(super) parts: &'static [&'static [Field]],
    pub(super) check: fn(&mut Block) -> Check,
}

/// The check of a section where any combination is right.
pub(super) fn unchecked(_: &mut Block) -> Check {
    Ok(())
}

impl Schema {
    pub(super) fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.parts.iter().flat_map(|part| part.iter())
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value {
    #[default]
    Unset,
    Text(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Milliseconds.
    Duration(i64),
    /// Bytes.
    Size(i64),
    Texts(Vec<String>),
    TextMap(Vec<(String, String)>),
    ListMap(Vec<(String, Vec<String>)>),
    Section(Box<Block>),
    Sections(Vec<Block>),
    SectionMap(Vec<(String, Block)>),
}

/// One section as it was read.
#[derive(Clone)]
pub(super) struct Block {
    pub(super) schema: &'static Schema,
    pub(super) at: Option<Position>,
    /// In the order of the schema's fields.
    values: Vec<Value>,
    places: Vec<Option<Position>>,
}

impl PartialEq for Block {
    /// Equal where the same is wished, wherever it stands.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.schema, other.schema) && self.values == other.values
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        write!(f, "{}({} keys)", self.schema.go, self.values.len())
    }
}

impl Block {
    /// A section in which nothing is set.
    pub(super) fn new(schema: &'static Schema, at: Option<Position>) -> Self {
        let count = schema.fields().count();
        Block { schema, at, values: vec![Value::Unset; count], places: vec![None; count] }
    }

    fn index(&self, key: &str) -> Option<usize> {
        self.schema.fields().position(|f| f.key == key)
    }

    pub(super) fn set(&mut self, key: &str, value: Value, at: Option<Position>) {
        if let Some(i) = self.index(key) {
            self.values[i] = value;
            self.places[i] = at;
        }
    }

    pub(super) fn value(&self, key: &str) -> &Value {
        debug_assert!(self.index(key).is_some(), "{} has no key {key}", self.schema.go);
        self.index(key).map_or(&Value::Unset, |i| &self.values[i])
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'static Field, &Value)> {
        self.schema.fields().zip(&self.values)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = (&'static Field, &mut Value)> {
        self.schema.fields().zip(&mut self.values)
    }

    /// Where the key was given; where its section stands, if it was not.
    pub(super) fn place(&self, key: &str) -> Option<Position> {
        self.index(key).and_then(|i| self.places[i]).or(self.at)
    }

    /// Whether the key stands in the file.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.index(key).is_some_and(|i| self.places[i].is_some())
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        *self.value(key) != Value::Unset
    }

    pub(super) fn text(&self, key: &str) -> &str {
        match self.value(key) {
            Value::Text(text) => text,
            _ => "",
        }
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key) {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    pub(super) fn is_true(&self, key: &str) -> bool {
        self.flag(key) == Some(true)
    }

    pub(super) fn int(&self, key: &str) -> i64 {
        match self.value(key) {
            Value::Int(v) | Value::Duration(v) | Value::Size(v) => *v,
            _ => 0,
        }
    }

    /// A count, a size or a duration that was checked not to be negative.
    pub(super) fn uint(&self, key: &str) -> u64 {
        u64::try_from(self.int(key)).unwrap_or(0)
    }

    pub(super) fn float(&self, key: &str) -> f64 {
        match self.value(key) {
            Value::Float(v) => *v,
            _ => 0.0,
        }
    }

    pub(super) fn texts(&self, key: &str) -> &[String] {
        match self.value(key) {
            Value::Texts(texts) => texts,
            _ => &[],
        }
    }

    pub(super) fn text_map(&self, key: &str) -> &[(String, String)] {
        match self.value(key) {
            Value::TextMap(map) => map,
            _ => &[],
        }
    }

    pub(super) fn list_map(&self, key: &str) -> &[(String, Vec<String>)] {
        match self.value(key) {
            Value::ListMap(map) => map,
            _ => &[],
        }
    }

    pub(super) fn section(&self, key: &str) -> Option<&Block> {
        match self.value(key) {
            Value::Section(block) => Some(block),
            _ => None,
        }
    }

    pub(super) fn section_mut(&mut self, key: &str) -> Option<&mut Block> {
        let i = self.index(key)?;
        match &mut self.values[i] {
            Value::Section(block) => Some(block),
            _ => None,
        }
    }

    pub(super) fn sections(&self, key: &str) -> &[Block] {
        match self.value(key) {
            Value::Sections(blocks) => blocks,
            _ => &[],
        }
    }

    pub(super) fn sections_mut(&mut self, key: &str) -> &mut [Block] {
        match self.index(key).map(|i| &mut self.values[i]) {
            Some(Value::Sections(blocks)) => blocks,
            _ => &mut [],
        }
    }

    pub(super) fn section_map(&self, key: &str) -> &[(String, Block)] {
        match self.value(key) {
            Value::SectionMap(map) => map,
            _ => &[],
        }
    }

    /// A problem with one key of this section.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        Problem::new(message).at(self.place(key))
    }
}
