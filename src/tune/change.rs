//! Writes that follow from findings, the record of what was there before, and the way back.
//!
//! The record is written and synced before the first change, lies where a reboot clears it together with the values
//! it speaks of, and keeps of each path the first value that was found, however often changes are made.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::tune::sheet::chosen;
use crate::tune::{Error, Finding, Fix, Level};

/// Where the record lies.
pub const RECORD: &str = "/run/systole/tune.undo";

/// First line of the record.
const HEAD: &str = "# path, value before, value after: `systole tune undo` goes back";

/// A value that is to be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: String,
    pub before: String,
    pub after: String,
}

/// What came of a change, or of taking one back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub path: String,
    pub before: String,
    pub after: String,
    pub error: Option<String>,
}

impl Outcome {
    fn of(change: &Change, error: Option<String>) -> Outcome {
        let Change { path, before, after } = change.clone();
        Outcome { path, before, after, error }
    }
}

/// The machine's files: `/`, or a directory in tests.
#[derive(Clone, Debug)]
pub struct Files {
    pub root: PathBuf,
}

impl Files {
    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn value(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(self.place(path)).map(|text| chosen(&text)).map_err(|e| e.to_string())
    }

    /// Never creates: a setting that is not there is another kernel's.
    fn set(&self, path: &str, value: &str) -> Result<(), String> {
        let open = fs::OpenOptions::new().write(true).truncate(true).open(self.place(path));
        open.and_then(|mut file| file.write_all(value.as_bytes())).map_err(|e| e.to_string())?;
        match self.value(path)? {
            now if same(&now, value) => Ok(()),
            now => Err(format!("the kernel keeps {now}")),
        }
    }
}

/// Masks come back with more zeros than were written.
fn same(a: &str, b: &str) -> bool {
    let significant = |text: &str| text.trim_start_matches(['0', ',']).to_owned();
    significant(a) == significant(b)
}

/// The writes among the findings down to `least`, and the findings that are for a human.
pub fn plan(findings: &[Finding], least: Level) -> (Vec<Change>, Vec<&Finding>) {
    let (mut changes, mut by_hand) = (Vec::new(), Vec::new());
    for finding in findings.iter().filter(|f| f.level <= least) {
        match &finding.fix {
            Fix::Write(settings) => changes.extend(settings.iter().map(|s| Change {
                path: s.path.clone(),
                before: String::new(),
                after: s.value.clone(),
            })),
            Fix::Line(_) => by_hand.push(finding),
        }
    }
    (changes, by_hand)
}

/// Makes the changes, each recorded first; what fails is said and does not stop the others.
pub fn apply(files: &Files, record: &Path, changes: &[Change]) -> Result<Vec<Outcome>, Error> {
    let mut kept = read_record(record)?;
    let mut outcomes = Vec::new();
    let mut due = Vec::new();
    for change in changes {
        let change = match files.value(&change.path) {
            Ok(before) => Change { before, ..change.clone() },
            Err(error) => {
                outcomes.push(Outcome::of(change, Some(error)));
                continue;
            }
        };
        match kept.iter_mut().find(|k| k.path == change.path) {
            Some(known) => known.after.clone_from(&change.after),
            None => kept.push(change.clone()),
        }
        due.push(change);
    }
    write_record(record, &kept)?;
    outcomes.extend(due.iter().map(|c| Outcome::of(c, files.set(&c.path, &c.after).err())));
    Ok(outcomes)
}

/// Goes back, the last change first. A value that somebody else has changed since is theirs and stays. What could
/// not be taken back stays in the record.
pub fn undo(files: &Files, record: &Path) -> Result<Vec<Outcome>, Error> {
    let mut kept = read_record(record)?;
    kept.reverse();
    let (mut outcomes, mut left) = (Vec::new(), Vec::new());
    for change in &kept {
        let back =
            Change { path: change.path.clone(), before: change.after.clone(), after: change.before.clone() };
        let error = match files.value(&change.path) {
            Ok(now) if same(&now, &change.before) => continue,
            Ok(now) if !same(&now, &change.after) => Some(format!("left alone: it is {now} by now")),
            Ok(_) => {
                files.set(&change.path, &change.before).err().inspect(|_| left.insert(0, change.clone()))
            }
            Err(error) => Some(error),
        };
        outcomes.push(Outcome::of(&back, error));
    }
    match left.is_empty() {
        true => remove_record(record)?,
        false => write_record(record, &left)?,
    }
    Ok(outcomes)
}

/// The record as it stands; nothing where there is none.
pub fn read_record(path: &Path) -> Result<Vec<Change>, Error> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => parse_record(&name, &text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::File { operation: "read", path: name, source }),
    }
}

/// Tabs part the fields: no value has one, for white space in values is made spaces when they are read.
fn parse_record(name: &str, text: &str) -> Result<Vec<Change>, Error> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let change = |(number, line): (usize, &str)| {
        let mut fields = line.split('\t').map(str::to_owned);
        match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(path), Some(before), Some(after), None) => Ok(Change { path, before, after }),
            _ => Err(Error::Malformed {
                name: name.to_owned(),
                line: number + 1,
                reason: "not a path and two values parted by tabs",
            }),
        }
    };
    lines.map(change).collect()
}

fn write_record(path: &Path, changes: &[Change]) -> Result<(), Error> {
    let failed = |operation| {
        let path = path.display().to_string();
        move |source| Error::File { operation, path, source }
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed("create the directory of"))?;
    }
    let rows = changes.iter().map(|c| format!("{}\t{}\t{}\n", c.path, c.before, c.after));
    let text = format!("{HEAD}\n{}", rows.collect::<String>());
    let beside = path.with_extension("new");
    let written = fs::File::create(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(failed("write"))?;
    fs::rename(&beside, path).map_err(failed("replace"))
}

fn remove_record(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { operation: "remove", path: path.display().to_string(), source: e })
        }
        _ => Ok(()),
    }
}
