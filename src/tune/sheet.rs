//! What was read from a machine: contents of files by their paths, with a text form that can be sent and kept.
//!
//! A path that ends in `/` stands for a directory and holds the names in it, one a line. Names that begin with
//! `probe/` are no files: they hold what was tried out.

use std::collections::BTreeMap;
use std::fmt;

use crate::tune::Error;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    entries: BTreeMap<String, String>,
}

/// Before each path in the text form.
const HEAD: &str = "== ";

impl Sheet {
    pub fn put(&mut self, path: &str, content: &str) {
        self.entries.insert(path.to_owned(), content.trim_end().to_owned());
    }

    /// The content without white space at its end; `None` when it was not there or not readable.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.entries.get(path).map(String::as_str)
    }

    /// As [`Sheet::get`], with runs of white space made one space, and of several offered values the chosen one:
    /// `none [mq-deadline] kyber` is `mq-deadline`.
    pub fn value(&self, path: &str) -> Option<String> {
        self.get(path).map(chosen)
    }

    pub fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.trim().parse().ok()
    }

    /// Names in a directory.
    pub fn names(&self, dir: &str) -> impl Iterator<Item = &str> {
        self.get(dir).unwrap_or_default().lines().filter(|name| !name.is_empty())
    }

    /// Reads the text form back.
    pub fn parse(name: &str, text: &str) -> Result<Sheet, Error> {
        let mut sheet = Sheet::default();
        let mut path: Option<&str> = None;
        let mut content = String::new();
        for (number, line) in text.lines().enumerate() {
            if let Some(next) = line.strip_prefix(HEAD) {
                if let Some(path) = path.replace(next.trim()) {
                    sheet.put(path, &content);
                }
                content.clear();
            } else if path.is_some() {
                content.push_str(line);
                content.push('\n');
            } else if !line.is_empty() && !line.starts_with('#') {
                let reason = "a line before the first path";
                return Err(Error::Malformed { name: name.to_owned(), line: number + 1, reason });
            }
        }
        if let Some(path) = path {
            sheet.put(path, &content);
        }
        Ok(sheet)
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, content) in &self.entries {
            writeln!(f, "{HEAD}{path}")?;
            if !content.is_empty() {
                writeln!(f, "{content}")?;
            }
        }
        Ok(())
    }
}

/// The value in force of what the kernel shows.
pub fn chosen(text: &str) -> String {
    let bracketed = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    match bracketed {
        Some((value, _)) => value.to_owned(),
        None => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// `0-3,6` as numbers, at most [`LIST_MAX`] of them; `None` for what is no such list.
pub fn list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last as usize >= LIST_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

/// The kernel's own greatest number of CPUs is 8192.
const LIST_MAX: usize = 8192;

/// The list of numbers as the kernel writes it.
pub fn list_text(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    texts.collect::<Vec<_>>().join(",")
}
