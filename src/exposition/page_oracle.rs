//! The page cache against its oracle: every page parsed from scratch, line by line.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use crate::page::{PageCache, PageReader};
use crate::scan;
use crate::text::{Event, MetricKind};
use crate::{Error, Lines, Syntax, key};

/// What a page says, the slow way.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    row: HashMap<Vec<u8>, u64>,
    stamped: Vec<(Vec<u8>, u64, i64)>,
    kinds: HashMap<Vec<u8>, MetricKind>,
    comments: Vec<String>,
    metadata: Vec<String>,
    samples: u32,
    repeated: u32,
}

fn tell(syntax: Syntax, page: &[u8]) -> Result<Told, Error> {
    let mut parser = Lines::new(syntax, page);
    let mut told = Told::default();
    while let Some(event) = parser.next_event()? {
        let s = match event {
            Event::Sample(s) => s,
            other => {
                told.comments.push(format!("{other:?}"));
                if !matches!(other, Event::Comment(_)) {
                    told.metadata.push(format!("{other:?}"));
                }
                continue;
            }
        };
        told.samples += 1;
        let seen = told.kinds.contains_key(s.key);
        told.kinds.entry(s.key.to_vec()).or_insert(s.kind);
        match s.timestamp {
            Some(t) => told.stamped.push((s.key.to_vec(), s.value.to_bits(), t)),
            None if seen => told.repeated += 1,
            None => drop(told.row.insert(s.key.to_vec(), s.value.to_bits())),
        }
    }
    Ok(told)
}

fn samples_before_error(syntax: Syntax, page: &[u8]) -> u32 {
    let mut parser = Lines::new(syntax, page);
    let mut n = 0;
    while let Ok(Some(event)) = parser.next_event() {
        n += u32::from(matches!(event, Event::Sample(_)));
    }
    n
}

/// A consumer that believes every change, with the promises that are made to it.
struct Follower {
    cache: PageCache,
    reader: PageReader,
    names: Vec<Option<Vec<u8>>>,
    row: Vec<Option<u64>>,
    resting: HashSet<u32>,
    last: Told,
}

impl Follower {
    fn new(mismatch: scan::Mismatch) -> Self {
        Self::of(Syntax::Text, mismatch)
    }

    fn of(syntax: Syntax, mismatch: scan::Mismatch) -> Self {
        Follower {
            cache: PageCache::of(syntax),
            reader: PageReader::with_mismatch(mismatch),
            names: vec![],
            row: vec![],
            resting: HashSet::new(),
            last: Told::default(),
        }
    }

    fn read(&mut self, page: &[u8]) {
        let mut bytes = page.to_vec();
        bytes.shrink_to_fit();
        match tell(self.cache.syntax(), page) {
            Ok(told) => {
                self.reader.read(&mut self.cache, &mut bytes).unwrap();
                self.follow(&told);
                self.compare(&told);
                self.last = told;
            }
            Err(e) => {
                assert_eq!(self.reader.read(&mut self.cache, &mut bytes).map(|_| ()), Err(e));
                assert_eq!(bytes, page, "a refused page is handed back");
                assert_eq!(self.reader.changes().samples, samples_before_error(self.cache.syntax(), page));
                self.compare(&self.last);
            }
        }
    }

    fn follow(&mut self, told: &Told) {
        let changes = self.reader.changes();
        let n = self.cache.slot_count() as usize;
        self.names.resize(n, None);
        self.row.resize(n, None);
        for v in &changes.vanished {
            assert!(self.names[v.slot as usize].take().is_some(), "vanished without having been there");
            self.row[v.slot as usize] = None;
        }
        for a in &changes.appeared {
            let key = self.cache.key(a);
            assert!(!self.resting.contains(&a.slot), "a slot was reused before it rested");
            let before = self.names[a.slot as usize].replace(key.to_vec());
            assert_eq!(before, None, "a live slot was given away");
            assert_eq!(told.kinds.get(key), Some(&a.kind), "{}", String::from_utf8_lossy(key));
        }
        self.resting = changes.vanished.iter().map(|v| v.slot).collect();
        for slot in &changes.left_row {
            assert!(self.row[*slot as usize].take().is_some(), "left the row without having been in it");
        }
        for (slot, value) in &changes.changed {
            self.row[*slot as usize] = Some(value.to_bits());
        }
        let name = |slot: u32| self.names[slot as usize].clone().unwrap_or_default();
        let stamped: Vec<_> =
            changes.stamped.iter().map(|s| (name(s.slot), s.value.to_bits(), s.timestamp)).collect();
        for s in &stamped {
            assert!(told.stamped.contains(s), "{s:?} is not on the page");
        }
        for s in &told.stamped {
            assert!(stamped.contains(s) || self.last.stamped.contains(s), "{s:?} was not told");
        }
        assert!(changes.metadata_changed || told.comments == self.last.comments, "comments changed silently");
        assert_eq!((changes.samples, changes.repeated), (told.samples, told.repeated));
    }

    fn compare(&self, told: &Told) {
        let mut row = HashMap::new();
        for (name, value) in self.names.iter().zip(&self.row) {
            if let (Some(name), Some(value)) = (name, value) {
                row.insert(name.clone(), *value);
            }
        }
        assert_eq!(row, told.row);
        let held: HashMap<_, _> = self
            .cache
            .row()
            .map(|(slot, v)| (self.names[slot as usize].clone().unwrap_or_default(), v.to_bits()))
            .collect();
        assert_eq!(held, told.row);
        let live: HashSet<_> = self.names.iter().flatten().cloned().collect();
        assert_eq!(live, told.kinds.keys().cloned().collect());
        let mut kinds = HashMap::new();
        for line in self.cache.series() {
            assert_eq!(self.names[line.slot as usize].as_deref(), Some(line.key));
            kinds.entry(line.key.to_vec()).or_insert(line.kind);
        }
        assert_eq!(kinds, told.kinds);
        let stamped: Vec<_> = self
            .cache
            .stamped()
            .map(|s| {
                (self.names[s.slot as usize].clone().unwrap_or_default(), s.value.to_bits(), s.timestamp)
            })
            .collect();
        assert_eq!(stamped, told.stamped);
        let metadata: Vec<_> = self.cache.metadata().map(|e| format!("{e:?}")).collect();
        assert_eq!(metadata, told.metadata);
    }
}

fn check(pages: &[&str]) {
    for (_, mismatch) in scan::all() {
        let mut follower = Follower::new(mismatch);
        for page in pages {
            follower.read(page.as_bytes());
        }
    }
}

#[test]
fn values_change_in_place_and_in_length() {
    check(&[
        "a 1\nb 2\nc 3\n",
        "a 1\nb 22\nc 3\n",
        "a 1\nb 2\nc 4",
        "a 1\nb 2\nc 45",
        "a NaN\nb +Inf\nc 1e5\n",
    ]);
    check(&["a 1\n", "a  1\n", "a\t2\n", "  a 2\n", "a 2\n\n\n", "a 0x\n", "a 2 \n", ""]);
}

#[test]
fn lines_come_go_and_move() {
    check(&[
        "a 1\nb 2\nc 3\n",
        "b 2\nc 3\n",
        "a 5\nb 2\nc 3\n",
        "c 3\nb 2\na 5\n",
        "",
        "x 1\n",
        "a 1\nx 1\n",
    ]);
    check(&["a{x=\"1\"} 1\na{x=\"2\"} 1\n", "a{x=\"1\"} 1\na{x=\"12\"} 1\na{x=\"2\"} 1\n", "a 1\n"]);
    check(&["a 1", "ab 1", "a+1", "a 1\nb 1", "b 1"]);
}

#[test]
fn comments_change_without_touching_values() {
    check(&[
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a y\n# TYPE a counter\na 1\n",
        "# TYPE a counter\na 1\n",
        "a 1\n# HELP b\n",
        "a 1\n",
        "# TYPE a histogram\na{le=\"1\"} 1\n# TYPE b bad\n",
        "# TYPE a histogram\na{le=\"1\"} 1\n\n  \na{le=\"2\"} 1\n",
        "# TYPE a gauge\na{le=\"1\"} 1\n\n  \na{le=\"2\"} 1\na{le=\"3\"} 2\n",
    ]);
}

#[test]
fn the_first_of_repeated_lines_counts() {
    check(&[
        "a 1\na 2\nb 1\n",
        "a 1\na 3\nb 1\n",
        "a 2\nb 1\n",
        "a 9\na 2\nb 1\n",
        "b 1\na 2\na 9\n",
        "a 2\na 2\na 2\n",
    ]);
    check(&["a 1\n", "a 2\na 1\n", "a 2\n"]);
}

#[test]
fn timestamps_make_a_sample_of_its_own() {
    check(&[
        "a 1 5\nb 1\n",
        "a 1 6\nb 2\n",
        "a 1\nb 2\n",
        "a 1 7\nb 2 7\n",
        "b 3\n",
        "a 1 1\na 2 2\na 3\n",
        "a 3\na 1 1\n",
    ]);
}

#[test]
fn a_refused_page_leaves_nothing() {
    check(&["a 1\nb 2\n", "a 3\nnew 1\nb x\n", "a 1\nb 2\nnew 5\n", "a 4\nb", "a 1\nnew 5\nb 2\n"]);
}

#[test]
fn openmetrics_needs_its_end_from_the_first_page_on() {
    for page in ["", "a 1\n", "# TYPE a counter\n", "# TYPE a counter\na_total 1\n"] {
        let mut cache = PageCache::of(Syntax::OpenMetrics);
        let got = PageReader::new().read(&mut cache, &mut page.as_bytes().to_vec()).map(drop);
        let text = "data does not end with # EOF".to_owned();
        assert_eq!(got, Err(crate::Error::Malformed(text)), "{page:?}");
    }
}

#[test]
fn nul_ends_a_page() {
    check(&["a 1\n\0b {\n", "a 1\n\0c {\n", "a 2\nb 1\n", "#x\0\na 1\n", "a 1\n"]);
}

#[test]
fn a_static_target_holds_no_table() {
    let mut reader = PageReader::new();
    let mut cache = PageCache::new();
    for i in 0..20 {
        let mut page: Vec<u8> =
            (0..100).flat_map(|n| format!("metric_{n} {}\n", i + n).into_bytes()).collect();
        page.shrink_to_fit();
        reader.read(&mut cache, &mut page).unwrap();
    }
    let size = cache.page().len() + cache.line_count() * 16;
    assert!(cache.bytes() < size + size / 4, "{} bytes held for {size}", cache.bytes());
}

/// A page as people write them, with its rare turns.
fn page_line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => ("[a-d]", "[0-9]{1,3}").prop_map(|(n, v)| format!("{n} {v}\n")),
        8 => ("[ab]", "[a-c]", "[0-9]{1,4}").prop_map(|(n, l, v)| format!("{n}{{l=\"{l}\"}} {v}\n")),
        2 => ("[a-c]", "[0-9]", "[0-9]{1,2}").prop_map(|(n, v, t)| format!("{n} {v} {t}\n")),
        2 => ("[a-c]", "counter|gauge|histogram").prop_map(|(n, k)| format!("# TYPE {n} {k}\n")),
        2 => ("[a-c]", "[xy ]{0,3}").prop_map(|(n, k)| format!("# HELP {n} {k}\n")),
        1 => Just("\n".to_owned()),
        1 => Just("a{l=\"x\ny\"}  NaN \n".to_owned()),
        1 => Just("{\"q\"}\t-Inf\n".to_owned()),
        1 => Just("a+1\n".to_owned()),
    ]
}

/// The same of OpenMetrics.
fn openmetrics_line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => ("[a-d]", "[0-9]{1,3}").prop_map(|(n, v)| format!("{n} {v}\n")),
        8 => ("[ab]", "[a-c]", "[0-9]{1,4}").prop_map(|(n, l, v)| format!("{n}{{l=\"{l}\"}} {v}\n")),
        4 => ("[ab]", "[0-9]{1,2}", "[a-c]").prop_map(|(n, v, l)| format!("{n} {v} # {{t=\"{l}\"}} 0.5\n")),
        2 => ("[a-c]", "[0-9]", "[0-9]{1,2}").prop_map(|(n, v, t)| format!("{n} {v} {t}.5\n")),
        2 => ("[a-c]", "counter|gauge|histogram").prop_map(|(n, k)| format!("# TYPE {n} {k}\n")),
        2 => ("[a-c]", "[xy ]{0,3}").prop_map(|(n, k)| format!("# HELP {n} {k}\n")),
        1 => Just("{\"q\"} -Inf\n".to_owned()),
        1 => Just("a 1 5 # {} 2 7\n".to_owned()),
    ]
}

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, String),
    Remove(usize),
    Move(usize, usize),
    Replace(usize, String),
    Value(usize, u16),
    Byte(usize, u8),
    Cut(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (any::<usize>(), page_line()).prop_map(|(i, l)| Edit::Insert(i, l)),
        3 => any::<usize>().prop_map(Edit::Remove),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Edit::Move(a, b)),
        2 => (any::<usize>(), page_line()).prop_map(|(i, l)| Edit::Replace(i, l)),
        6 => (any::<usize>(), any::<u16>()).prop_map(|(i, v)| Edit::Value(i, v)),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(i, b)| Edit::Byte(i, b)),
        1 => any::<usize>().prop_map(Edit::Cut),
    ]
}

/// The lines edited, and the page they make: bytes broken and cut only there, so that the next page is whole again.
fn apply(lines: &mut Vec<String>, edits: &[Edit], end: &str) -> Vec<u8> {
    let mut harm = vec![];
    for e in edits {
        let n = lines.len();
        match e {
            Edit::Insert(i, l) => lines.insert(i % (n + 1), l.clone()),
            _ if n == 0 => {}
            Edit::Remove(i) => drop(lines.remove(i % n)),
            Edit::Move(a, b) => {
                let line = lines.remove(a % n);
                lines.insert(b % n, line);
            }
            Edit::Replace(i, l) => lines[i % n].clone_from(l),
            Edit::Value(i, v) => {
                let line = &mut lines[i % n];
                if let Some(at) = line.rfind(' ') {
                    line.truncate(at + 1);
                    line.push_str(&format!("{v}\n"));
                }
            }
            Edit::Byte(..) | Edit::Cut(_) => harm.push(e),
        }
    }
    let mut page = (lines.concat() + end).into_bytes();
    for e in harm {
        let n = page.len();
        match e {
            Edit::Byte(i, b) if n > 0 => page[i % n] = *b,
            Edit::Cut(i) => page.truncate(i % (n + 1)),
            _ => {}
        }
    }
    page
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_succession_of_pages_is_followed(
        mut lines in proptest::collection::vec(page_line(), 0..30),
        rounds in proptest::collection::vec(proptest::collection::vec(edit(), 0..4), 1..12),
    ) {
        let mut follower = Follower::new(scan::mismatch());
        follower.read(lines.concat().as_bytes());
        for edits in rounds {
            let page = apply(&mut lines, &edits, "");
            follower.read(&page);
        }
    }

    #[test]
    fn any_succession_of_openmetrics_pages_is_followed(
        mut lines in proptest::collection::vec(openmetrics_line(), 0..30),
        rounds in proptest::collection::vec(proptest::collection::vec(edit(), 0..4), 1..12),
    ) {
        let end = "# EOF\n";
        let mut follower = Follower::of(Syntax::OpenMetrics, scan::mismatch());
        follower.read((lines.concat() + end).as_bytes());
        for edits in rounds {
            let page = apply(&mut lines, &edits, end);
            follower.read(&page);
        }
    }
}

/// Pages of a recording, or nothing where the recordings are not at hand.
fn recording(name: &str) -> Option<Vec<Vec<u8>>> {
    let root = std::env::var("SYSTOLE_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned());
    let packed = std::fs::read(format!("{root}/data/recordings/{name}.rec.zst")).ok()?;
    let bytes = zstd::decode_all(&packed[..]).expect("a recording unpacks");
    let (mut pages, mut at) = (vec![], 0);
    while at < bytes.len() {
        let head = at + memchr::memchr(b'\n', &bytes[at..]).expect("a head line before each page");
        let size = String::from_utf8_lossy(&bytes[at..head])
            .rsplit(' ')
            .next()
            .and_then(|n| n.parse::<usize>().ok());
        let end = head + 1 + size.expect("a size in the head line");
        pages.push(bytes[head + 1..end].to_vec());
        at = end;
    }
    Some(pages)
}

#[test]
fn recorded_pages_are_followed() {
    for name in ["node", "prometheus", "victoriametrics", "alertmanager"] {
        let Some(pages) = recording(name) else {
            println!("skipped: no recordings beside the project (set SYSTOLE_SHARED)");
            return;
        };
        for (_, mismatch) in scan::all() {
            let mut follower = Follower::new(mismatch);
            for page in pages.iter().step_by(3) {
                follower.read(page);
            }
            let lines = follower.cache.line_count();
            println!(
                "{name}: {lines} lines, {:.1} bytes a line held",
                follower.cache.bytes() as f64 / lines as f64
            );
        }
        // Every key decodes.
        let told = tell(Syntax::Text, &pages[0]).unwrap();
        for (k, kind) in &told.kinds {
            assert!(!key::decode(k, *kind).unwrap().is_empty());
        }
    }
}
