//! The record: every count that was ever accepted, with the reason; the last of a path is in force.
//!
//! A number without a reason is no record, so a number cannot be raised without one in the same commit.

use std::fmt;

/// By how much a path may grow, in hundredths: below it lie other versions of libc and other inputs of chance.
const GROWTH_MAX: u64 = 5;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) compiler: String,
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    path: String,
    count: u64,
    reason: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("record.txt:{0}: a line is a path, a count, and the reason for it")]
    Malformed(usize),
    #[error("say why the numbers changed")]
    NoReason,
}

/// One path held against the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    path: String,
    count: u64,
    recorded: Option<u64>,
}

impl Judged {
    /// More than it may, or counted and never recorded.
    pub(crate) fn is_bad(&self) -> bool {
        self.recorded.is_none_or(|before| self.count > before + before * GROWTH_MAX / 100)
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged { path, count, recorded } = self;
        let Some(before) = recorded else { return write!(f, "{path}: {count} instructions, not recorded") };
        let percent = (*count as f64 - *before as f64) * 100.0 / (*before).max(1) as f64;
        let verdict = match (self.is_bad(), percent < -(GROWTH_MAX as f64)) {
            (true, _) => ": grown",
            (_, true) => ": less than recorded, worth recording",
            _ => "",
        };
        write!(f, "{path}: {count} instructions, recorded {before} ({percent:+.1} %){verdict}")
    }
}

const HEAD: &str = "\
# Instructions of hot paths, counted by `make gate`; the last line of a path is in force.
# Written by `make gate-record REASON=\"...\"`, in the commit that changes the cost.
";
const COMPILER: &str = "compiler: ";

impl Record {
    pub(crate) fn parse(text: &str) -> Result<Record, Error> {
        let mut record = Record::default();
        for (i, line) in text.lines().enumerate() {
            if let Some(compiler) = line.strip_prefix(COMPILER) {
                record.compiler = compiler.trim().to_owned();
            } else if !line.is_empty() && !line.starts_with('#') {
                record.lines.push(parse_line(line).ok_or(Error::Malformed(i + 1))?);
            }
        }
        Ok(record)
    }

    fn in_force(&self, path: &str) -> Option<u64> {
        self.lines.iter().rev().find(|line| line.path == path).map(|line| line.count)
    }

    pub(crate) fn judge(&self, counts: &[(&str, u64)]) -> Vec<Judged> {
        let judged = |(path, count): &(&str, u64)| Judged {
            path: (*path).to_owned(),
            count: *count,
            recorded: self.in_force(path),
        };
        counts.iter().map(judged).collect()
    }

    /// Writes down what differs from the record by a hundredth or more, or all of it for another compiler.
    pub(crate) fn add(
        &mut self,
        compiler: String,
        counts: &[(&str, u64)],
        reason: &str,
    ) -> Result<(), Error> {
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        if reason.is_empty() {
            return Err(Error::NoReason);
        }
        let is_new = self.compiler != compiler;
        self.compiler = compiler;
        for (path, count) in counts {
            let differs = self.in_force(path).is_none_or(|before| before.abs_diff(*count) * 100 >= before);
            if is_new || differs {
                let (path, reason) = ((*path).to_owned(), reason.clone());
                self.lines.push(Line { path, count: *count, reason });
            }
        }
        Ok(())
    }
}

fn parse_line(line: &str) -> Option<Line> {
    let (path, rest) = line.split_once(char::is_whitespace)?;
    let (count, reason) = rest.trim_start().split_once(char::is_whitespace)?;
    let reason = Some(reason.trim()).filter(|r| !r.is_empty())?;
    Some(Line { path: path.to_owned(), count: count.parse().ok()?, reason: reason.to_owned() })
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}{COMPILER}{}\n", self.compiler)?;
        for Line { path, count, reason } in &self.lines {
            writeln!(f, "{path:<12} {count:>9}  {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "compiler: rustc 1\n\nappend 1000 first\njson 500 first\nappend 2000 rows carry more\n";

    #[test]
    fn growth_beyond_five_hundredths_is_bad() {
        let record = Record::parse(TEXT).unwrap();
        let is_bad = |path, count| record.judge(&[(path, count)])[0].is_bad();
        assert!(!is_bad("append", 2100) && is_bad("append", 2101), "the last line is in force");
        assert!(!is_bad("json", 1) && is_bad("unheard_of", 1));
    }

    #[test]
    fn a_number_needs_a_reason() {
        assert_eq!(Record::parse("append 1000\n").unwrap_err().to_string(), Error::Malformed(1).to_string());
        assert!(Record::parse("append 1000  \n").is_err() && Record::parse("append many why\n").is_err());
        assert!(Record::default().add("rustc 1".to_owned(), &[("append", 1)], " ").is_err());
    }

    #[test]
    fn what_is_recorded_is_read_back_and_only_changes_are_added() {
        let mut record = Record::parse(TEXT).unwrap();
        record.add("rustc 1".to_owned(), &[("append", 2010), ("json", 400)], "no copies").unwrap();
        assert_eq!((record.in_force("append"), record.in_force("json")), (Some(2000), Some(400)));
        assert_eq!(Record::parse(&record.to_string()).unwrap(), record);
        record.add("rustc 2".to_owned(), &[("append", 2000)], "new compiler").unwrap();
        assert_eq!(record.lines.len(), 5);
    }
}
