//! What a block says of itself: `meta.json`.

use model::Timestamp;

use crate::Error;
use crate::json::{Json, push_quoted};
use crate::ulid::Ulid;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub sample_count: u64,
    pub float_sample_count: u64,
    pub histogram_sample_count: u64,
    pub series_count: u64,
    pub chunk_count: u64,
    pub tombstone_count: u64,
}

/// A block that was compacted into this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    pub ulid: Ulid,
    pub min_time: Timestamp,
    pub max_time: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    pub level: u64,
    pub sources: Vec<Ulid>,
    pub parents: Vec<Parent>,
    pub is_deletable: bool,
    pub has_failed: bool,
    pub hints: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub ulid: Ulid,
    pub min_time: Timestamp,
    /// Behind the last sample.
    pub max_time: Timestamp,
    pub stats: Stats,
    pub compaction: Compaction,
}

/// The only version there is.
const VERSION: i64 = 1;

impl Meta {
    pub fn read(file: &[u8]) -> Result<Meta, Error> {
        let json = Json::parse(file).map_err(|at| Error::corrupt(at as u64, "not JSON"))?;
        let number = |of: &Json, name: &str| of.field(name).and_then(Json::as_i64);
        let version = number(&json, "version").unwrap_or(0);
        if version != VERSION {
            return Err(Error::Version { what: "unexpected meta file version", found: version.to_string() });
        }
        let missing = |what| Error::corrupt(0, what);
        let ulid = |of: &Json| of.field("ulid").and_then(Json::as_text).and_then(Ulid::parse);
        let stats = json.field("stats").cloned().unwrap_or(Json::Null);
        let count = |name: &str| number(&stats, name).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        Ok(Meta {
            ulid: ulid(&json).ok_or(missing("no ulid"))?,
            min_time: number(&json, "minTime").ok_or(missing("no minTime"))?,
            max_time: number(&json, "maxTime").ok_or(missing("no maxTime"))?,
            stats: Stats {
                sample_count: count("numSamples"),
                float_sample_count: count("numFloatSamples"),
                histogram_sample_count: count("numHistogramSamples"),
                series_count: count("numSeries"),
                chunk_count: count("numChunks"),
                tombstone_count: count("numTombstones"),
            },
            compaction: read_compaction(json.field("compaction").unwrap_or(&Json::Null)),
        })
    }

    /// The whole file, as Prometheus indents it.
    pub fn write(&self) -> String {
        let mut out = Indented { text: "{".to_owned(), depth: 1, is_first: true };
        out.quoted("ulid", &self.ulid.to_string());
        out.raw("minTime", &self.min_time.to_string());
        out.raw("maxTime", &self.max_time.to_string());
        out.open("stats", '{');
        let s = &self.stats;
        for (name, count) in [
            ("numSamples", s.sample_count),
            ("numFloatSamples", s.float_sample_count),
            ("numHistogramSamples", s.histogram_sample_count),
            ("numSeries", s.series_count),
            ("numChunks", s.chunk_count),
            ("numTombstones", s.tombstone_count),
        ] {
            if count > 0 {
                out.raw(name, &count.to_string());
            }
        }
        out.close('}');
        self.write_compaction(&mut out);
        out.raw("version", &VERSION.to_string());
        out.close('}');
        out.text
    }

    fn write_compaction(&self, out: &mut Indented) {
        let c = &self.compaction;
        out.open("compaction", '{');
        out.raw("level", &c.level.to_string());
        out.list("sources", c.sources.iter().map(Ulid::to_string));
        if c.is_deletable {
            out.raw("deletable", "true");
        }
        if !c.parents.is_empty() {
            out.open("parents", '[');
            for parent in &c.parents {
                out.open("", '{');
                out.quoted("ulid", &parent.ulid.to_string());
                out.raw("minTime", &parent.min_time.to_string());
                out.raw("maxTime", &parent.max_time.to_string());
                out.close('}');
            }
            out.close(']');
        }
        if c.has_failed {
            out.raw("failed", "true");
        }
        out.list("hints", c.hints.iter().cloned());
        out.close('}');
    }
}

fn read_compaction(json: &Json) -> Compaction {
    let texts = |name: &str| {
        let list = json.field(name).map_or(&[][..], Json::as_list);
        list.iter().filter_map(|v| v.as_text().map(str::to_owned)).collect::<Vec<String>>()
    };
    let is = |name: &str| json.field(name) == Some(&Json::Bool(true));
    let parent = |p: &Json| {
        let number = |name: &str| p.field(name).and_then(Json::as_i64).unwrap_or(0);
        let ulid = p.field("ulid").and_then(Json::as_text).and_then(Ulid::parse)?;
        Some(Parent { ulid, min_time: number("minTime"), max_time: number("maxTime") })
    };
    Compaction {
        level: json.field("level").and_then(Json::as_i64).map_or(0, |l| l.max(0) as u64),
        sources: texts("sources").iter().filter_map(|t| Ulid::parse(t)).collect(),
        parents: json.field("parents").map_or(&[][..], Json::as_list).iter().filter_map(parent).collect(),
        is_deletable: is("deletable"),
        has_failed: is("failed"),
        hints: texts("hints"),
    }
}

/// JSON with a tab for each level.
struct Indented {
    text: String,
    depth: usize,
    is_first: bool,
}

impl Indented {
    fn name(&mut self, name: &str) {
        if !self.is_first {
            self.text.push(',');
        }
        self.is_first = false;
        self.line();
        if !name.is_empty() {
            push_quoted(name, &mut self.text);
            self.text.push_str(": ");
        }
    }

    fn line(&mut self) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n('\t', self.depth));
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.text.push_str(value);
    }

    fn quoted(&mut self, name: &str, value: &str) {
        self.name(name);
        push_quoted(value, &mut self.text);
    }

    fn open(&mut self, name: &str, bracket: char) {
        self.name(name);
        self.text.push(bracket);
        self.depth += 1;
        self.is_first = true;
    }

    fn close(&mut self, bracket: char) {
        self.depth -= 1;
        if !self.is_first {
            self.line();
        }
        self.is_first = false;
        self.text.push(bracket);
    }

    /// A list of texts, left out where there is none.
    fn list(&mut self, name: &str, texts: impl Iterator<Item = String>) {
        let mut texts = texts.peekable();
        if texts.peek().is_none() {
            return;
        }
        self.open(name, '[');
        texts.for_each(|text| self.quoted("", &text));
        self.close(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "{\n\t\"ulid\": \"01M82B6S24R7QSAM7524QMW1JQ\",\n\t\"minTime\": 1700000000000,\n\t\"maxTime\": 1700000015501,\n\t\"stats\": {\n\t\t\"numSamples\": 3,\n\t\t\"numSeries\": 2,\n\t\t\"numChunks\": 2\n\t},\n\t\"compaction\": {\n\t\t\"level\": 1,\n\t\t\"sources\": [\n\t\t\t\"01M82B6S24R7QSAM7524QMW1JQ\"\n\t\t]\n\t},\n\t\"version\": 1\n}";

    #[test]
    fn a_meta_file_of_prometheus_comes_back() {
        let meta = Meta::read(FILE.as_bytes()).unwrap();
        assert_eq!((meta.stats.sample_count, meta.min_time), (3, 1_700_000_000_000));
        assert_eq!(meta.write(), FILE);
        let mut full = meta.clone();
        full.compaction.parents.push(Parent { ulid: Ulid(7), min_time: 1, max_time: 2 });
        full.compaction.hints = vec!["from-out-of-order".to_owned()];
        full.compaction.has_failed = true;
        full.compaction.is_deletable = true;
        full.stats = Stats::default();
        assert_eq!(Meta::read(full.write().as_bytes()), Ok(full));
    }

    #[test]
    fn other_versions_and_missing_names_are_refused() {
        assert!(matches!(Meta::read(b"{\"version\": 2}"), Err(Error::Version { .. })));
        assert!(matches!(Meta::read(b"{\"version\": 1}"), Err(Error::Corrupt { .. })));
        assert!(Meta::read(b"").is_err());
    }
}
