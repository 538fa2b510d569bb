//! The house keeps its own rules: floors, words that may be said only at home, first lines, paths in the docs.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of the appliance crate by floor; a room may name rooms of lower floors only.
const FLOORS: &[(&str, u8)] = &[
    ("config", 1),
    ("rt", 1),
    ("tune", 1),
    ("http", 2),
    ("shard", 2),
    ("query", 3),
    ("exchange", 4),
    ("push", 4),
    ("remote", 4),
    ("scrape", 4),
    ("api", 5),
    ("app", 6),
];

/// A word, and where it may be said: path prefixes from the workspace root.
struct Word {
    word: &'static str,
    homes: &'static [&'static str],
    why: &'static str,
}

const UNSAFE_HOMES: &[&str] =
    &["src/codec/arch", "src/compute/arch", "src/exposition/scan", "src/rt/buffer.rs", "loadgen/src/ring.rs"];

const WORDS: &[Word] = &[
    Word { word: "unsafe {", homes: UNSAFE_HOMES, why: "unsafe lives in kernels and aligned buffers" },
    Word { word: "unsafe fn", homes: UNSAFE_HOMES, why: "unsafe lives in kernels and aligned buffers" },
    Word { word: "unsafe impl", homes: UNSAFE_HOMES, why: "unsafe lives in kernels and aligned buffers" },
    Word { word: "std::arch", homes: UNSAFE_HOMES, why: "instruction sets live in kernels" },
    Word { word: "glommio", homes: &["src/rt"], why: "one door to the data plane's runtime" },
    Word { word: "io_uring::", homes: &["src/rt", "loadgen/src/ring.rs"], why: "one door to the ring" },
    Word {
        word: "tokio::",
        homes: &["src/api", "src/app"],
        why: "the control plane is the front and the wiring",
    },
    Word {
        word: "serde::",
        homes: &["src/config", "src/api", "loadgen"],
        why: "disk formats are written by hand",
    },
    Word {
        word: "Instant::now",
        homes: &["src/rt", "loadgen", "src/codec/benches"],
        why: "elsewhere time is an argument",
    },
    Word { word: "SystemTime::now", homes: &["src/rt", "loadgen"], why: "elsewhere time is an argument" },
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                rust_files(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for dir in ["src", "loadgen", "tests", "benches"] {
        rust_files(&root().join(dir), &mut files);
    }
    files.sort();
    let named = |p: PathBuf| {
        let name = p.strip_prefix(root()).unwrap_or(&p).to_string_lossy().into_owned();
        let text = fs::read_to_string(&p).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, text)
    };
    files.into_iter().map(named).collect()
}

/// The room of a file of the appliance crate, with its floor.
fn room_of(name: &str) -> Option<(&'static str, u8)> {
    let rest = name.strip_prefix("src/")?;
    let room = rest.split('/').next()?;
    FLOORS.iter().find(|(r, _)| *r == room).copied()
}

/// Code without its line comments: a word in prose is not said.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn check_floor(name: &str, number: usize, line: &str, complaints: &mut Vec<String>) {
    let Some((room, floor)) = room_of(name) else { return };
    for part in code(line).split("crate::").skip(1) {
        let named: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some((other, other_floor)) = FLOORS.iter().find(|(r, _)| *r == named) else { continue };
        if *other != room && *other_floor >= floor {
            complaints.push(format!("{name}:{number}: `{room}` may not name `{other}`"));
        }
    }
}

fn check_words(name: &str, number: usize, line: &str, complaints: &mut Vec<String>) {
    if !name.starts_with("src/") && !name.starts_with("loadgen/") {
        return;
    }
    for w in WORDS {
        if code(line).contains(w.word) && !w.homes.iter().any(|h| name.starts_with(h)) {
            complaints.push(format!("{name}:{number}: `{}` lives in {:?}: {}", w.word, w.homes, w.why));
        }
    }
}

#[test]
fn the_house_is_tidy() {
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        if !text.starts_with("//!") {
            complaints.push(format!("{name}: begin the file with `//!`: what is this?"));
        }
        let is_test_file = name.ends_with("tests.rs") || name.contains("/tests/");
        for (i, line) in text.lines().enumerate() {
            if line.contains("#[cfg(test)]")
                && text.lines().nth(i + 1).is_some_and(|l| l.contains("mod tests {"))
            {
                break;
            }
            if is_test_file {
                continue;
            }
            check_floor(&name, i + 1, line, &mut complaints);
            check_words(&name, i + 1, line, &mut complaints);
            if name.starts_with("src/") && code(line).contains("super::super") {
                complaints.push(format!("{name}:{}: write paths from the root", i + 1));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_architecture_names_what_is_there() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let mut complaints = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "docs/", "tests/", "loadgen/", "benches/", "kernel-tuning/", ".ci/"]
            .iter()
            .any(|p| quoted.starts_with(p));
        if is_path && !quoted.contains(['*', '{', ' ']) && !root().join(quoted).exists() {
            complaints.push(format!("docs/architecture.md: names `{quoted}`, which is gone"));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Names of settings in a file of `kernel-tuning/`, as its form writes them.
fn settings_of(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '[']));
    let key = |line: &str| Some(line.split_once('=')?.0.trim().to_owned());
    match name.rsplit('.').next().unwrap_or_default() {
        "conf" => lines.filter_map(key).filter(|key| key.contains(['.', '_'])).collect(),
        "slice" => lines.filter_map(key).filter(|key| key != "Description").collect(),
        // Of the unit what is about the machine; the rest is how any service is written.
        "service" => {
            let ours = ["Limit", "OOM", "CPU", "SystemCallFilter"];
            lines.filter_map(key).filter(|key| ours.iter().any(|word| key.starts_with(word))).collect()
        }
        "rules" => {
            let attributes = lines.flat_map(|line| line.split("ATTR{").skip(1));
            let assigned = attributes.filter_map(|rest| rest.split_once('}'));
            let assigned = assigned.filter(|(_, rest)| rest.starts_with("=\""));
            assigned.map(|(attribute, _)| attribute.to_owned()).collect()
        }
        "cfg" => ["isolcpus", "nohz_full", "rcu_nocbs"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    }
}

#[test]
fn every_setting_of_the_machine_is_explained() {
    let readme = fs::read_to_string(root().join("kernel-tuning/README.md")).expect("kernel-tuning/README.md");
    let mut complaints = Vec::new();
    let mut check = |name: &str, settings: Vec<String>| {
        for setting in settings {
            if !readme.contains(&format!("`{setting}`")) {
                complaints.push(format!("kernel-tuning/README.md: does not explain `{setting}` of {name}"));
            }
        }
    };
    for name in [
        "90-systole.conf",
        "60-systole.rules",
        "systole.service",
        "systole.slice",
        "grub-systole.cfg",
        "tuned/systole/tuned.conf",
    ] {
        let text = fs::read_to_string(root().join("kernel-tuning").join(name)).expect(name);
        let settings = settings_of(name, &text);
        assert!(!settings.is_empty(), "{name}: settings were found");
        check(name, settings);
    }
    // What `systole tune` would change on the machines it is tested with.
    for name in ["vm", "numa", "container"] {
        let said = fs::read_to_string(root().join(format!("src/tune/snapshots/{name}.said"))).expect(name);
        let written = said.split("sysctl -w ").skip(1).filter_map(|rest| rest.split_once('='));
        check("systole tune", written.map(|(setting, _)| setting.to_owned()).collect());
    }
    for entry in fs::read_dir(root().join("kernel-tuning")).expect("kernel-tuning").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !readme.contains(&name) && name != "README.md" {
            complaints.push(format!("kernel-tuning/README.md: does not name {name}"));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
