//! File patterns as the configuration has them: `*`, `?` and `[a-z]`, in the last part of a path.

use std::path::{Path, PathBuf};

/// The files that a pattern names, sorted. One that names nothing is no error.
pub fn files(pattern: &str) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?', '[', '\\']) {
        return Some(PathBuf::from(pattern)).filter(|p| p.exists()).into_iter().collect();
    }
    let (dir, name) = pattern.rsplit_once('/').unwrap_or((".", pattern));
    let place = if dir.is_empty() { "/" } else { dir };
    let Ok(entries) = std::fs::read_dir(place) else {
        return Vec::new();
    };
    let name_pattern: Vec<char> = name.chars().collect();
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| matches(&name_pattern, &n.chars().collect::<Vec<_>>()))
        .map(|n| if pattern.contains('/') { Path::new(place).join(n) } else { PathBuf::from(n) })
        .collect();
    found.sort();
    found
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(next) = matches_one(pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Matches one character; returns where the pattern goes on.
fn matches_one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match *pattern.get(at)? {
        '?' => Some(at + 1),
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        '[' => {
            let end = at + pattern[at..].iter().position(|p| *p == ']')?;
            let (negate, set) = match &pattern[at + 1..end] {
                ['^', set @ ..] => (true, set),
                set => (false, set),
            };
            let mut inside = false;
            let mut i = 0;
            while i < set.len() {
                if set.get(i + 1) == Some(&'-') && i + 2 < set.len() {
                    inside |= (set[i]..=set[i + 2]).contains(&c);
                    i += 3;
                } else {
                    inside |= set[i] == c;
                    i += 1;
                }
            }
            (inside != negate).then_some(end + 1)
        }
        literal => (literal == c).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, want) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "axxbyybc", true),
            ("?[0-9]", "a7", true),
            ("?[^0-9]", "a7", false),
            ("\\*", "*", true),
            ("*", "", true),
        ] {
            let chars = |t: &str| t.chars().collect::<Vec<_>>();
            assert_eq!(matches(&chars(pattern), &chars(name)), want, "{pattern} {name}");
        }
    }
}
