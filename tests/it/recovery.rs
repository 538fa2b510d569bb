//! What a start finds: after `kill -9`, with another number of shards, in a directory that is taken, on a full disk.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use systole::rt::disk::Tail;
use systole::rt::rng::Rng;

use crate::house::{Dir, House, Process, Server, eventually, try_request};
use crate::target::{Page, Target, config};

/// Samples as the API shows them: by labels, then by time, the values as text.
type Shown = HashMap<String, HashMap<String, String>>;

/// Everything that the last hour holds. `None` where the server does not answer to the end.
fn try_everything(server: &Server) -> Option<Shown> {
    let answer = try_request(
        server.port,
        "GET /api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D%5B1h%5D HTTP/1.1",
        b"",
    )?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let mut shown = Shown::new();
    for series in answer["data"]["result"].as_array()? {
        let samples = series["values"].as_array()?.iter();
        let sample = |s: &serde_json::Value| Some((s[0].to_string(), s[1].as_str()?.to_owned()));
        shown.insert(series["metric"].to_string(), samples.map(sample).collect::<Option<_>>()?);
    }
    Some(shown)
}

fn everything(server: &Server) -> Shown {
    try_everything(server).expect("an answer")
}

fn count(shown: &Shown) -> usize {
    shown.values().map(HashMap::len).sum()
}

/// Every sample of `before` is in `after`, to the letter.
fn check_kept(before: &Shown, after: &Shown, when: &str) {
    for (metric, samples) in before {
        let found = after.get(metric).unwrap_or_else(|| panic!("{when}: {metric} is gone"));
        for (time, value) in samples {
            assert_eq!(found.get(time), Some(value), "{when}: {metric} at {time}");
        }
    }
}

/// A page whose values change at random, with a series that comes and goes and one with its own timestamps.
fn changing(seed: u64) -> Target {
    let mut rng = Rng::seeded(seed);
    let (mut scrapes, mut total) = (0_u64, 0_u64);
    Target::scripted(move |_| {
        scrapes += 1;
        total += rng.next_u64() % 100;
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
        let mut page = format!("total {total}\nstamped {total} {}\nsame 42\n", now.as_millis());
        for i in 0..30 {
            let bits = rng.next_u64();
            let value =
                if bits.is_multiple_of(3) { f64::from_bits(bits) } else { (bits % 1000) as f64 / 8.0 };
            if !bits.is_multiple_of(7) {
                page.push_str(&format!("wild{{i=\"{i}\"}} {value:e}\n"));
            }
        }
        if scrapes.is_multiple_of(11) { Page::status("503 Service Unavailable") } else { Page::of(page) }
    })
}

#[test]
fn what_was_shown_before_a_kill_is_there_after_it() {
    let seed = 0x5157_01e5;
    let mut rng = Rng::seeded(seed);
    let targets = [changing(1), changing(2), changing(3)];
    let addresses: Vec<String> = targets.iter().map(Target::address).collect();
    let jobs: Vec<(&str, &str, &str)> =
        ["a", "b", "c"].iter().zip(&addresses).map(|(job, address)| (*job, address.as_str(), "")).collect();
    let house = House::new("kill", &config("100ms", &jobs));
    let mut shown = Shown::new();
    for life in 0..20 {
        let Some(mut running) = house.start() else { return };
        let found = everything(&running);
        check_kept(&shown, &found, &format!("seed {seed:#x}, life {life}"));
        assert!(found.len() >= shown.len());
        // Killed while it scrapes, commits and answers; now and then before its first scrape.
        let until = Instant::now() + Duration::from_millis(rng.next_u64() % 700);
        shown = found;
        while Instant::now() < until {
            shown = everything(&running);
        }
        running.process.kill();
    }
    assert!(count(&shown) > 3_000, "{} samples in 20 lives", count(&shown));
    let Some(running) = house.start() else { return };
    check_kept(&shown, &everything(&running), "at last");
    running.wait_for_value("count(up >= 0) >= bool 3", Some("1"));
}

#[test]
fn another_number_of_shards_finds_all_samples() {
    let target = changing(7);
    let mut house = House::new("reshard", &config("100ms", &[("a", &target.address(), "")]));
    let mut shown = Shown::new();
    for (start, shards) in [2, 3, 1, 2].into_iter().enumerate() {
        house.args = vec![format!("--shards={shards}")];
        let Some(mut running) = house.start() else { return };
        check_kept(&shown, &everything(&running), &format!("{shards} shards"));
        let served = target.served();
        eventually("scrapes", || (target.served() > served + 5).then_some(()));
        shown = everything(&running);
        // An orderly stop and a kill in turn.
        match start % 2 {
            0 => running.process.kill(),
            _ => running.stop(),
        }
    }
    assert!(count(&shown) > 100);
}

#[test]
fn a_directory_has_one_owner() {
    let target = Target::with("a 1\n");
    let house = House::new("owner", &config("1s", &[("a", &target.address(), "")]));
    let Some(mut running) = house.start() else { return };
    let (code, said) = house.start_refused();
    assert_eq!(code, Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("systole: ") && last.contains("data") && last.contains("use"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(running.is_ready());
    running.process.kill();
    assert!(house.start().is_some(), "a killed owner leaves no lock");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let target = Target::with("a 1\n");
    let address = format!("--web.listen-address={}", target.address());
    let house = House::new("port", &config("1s", &[("a", &target.address(), "")])).with(&address);
    let (code, said) = house.start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("another program listens there"), "{said}");
    assert!(!house.data.join("shards").exists(), "nothing was begun");
}

#[test]
fn a_broken_configuration_is_shown_where_it_breaks() {
    let check = |name: &str, text: &str, expect: &[&str]| {
        let house = House::new(name, text);
        let (code, said) = house.start_refused();
        assert_eq!(code, Some(2), "{said}");
        for part in expect {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert!(!house.data.exists(), "nothing was begun");
    };
    check(
        "key",
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: a\n    scheem: http\n",
        &["prometheus.yml:5:5", "scheem"],
    );
    check("type", "global:\n  scrape_interval: [1s]\n", &["prometheus.yml:2:20"]);
    check("duration", "global:\n  scrape_interval: 1 parsec\n", &["prometheus.yml:2:20", "1 parsec"]);
    check("yaml", "global:\n  scrape_interval: {1s\n", &["prometheus.yml:"]);
    let house = House::new("absent", "");
    fs::remove_file(house.dir.path().join("prometheus.yml")).expect("the file was there");
    let (code, said) = house.start_refused();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("prometheus.yml"), "{said}");
}

#[test]
fn too_little_lockable_memory_is_said_with_the_cure() {
    let house = House::new("memlock", &config("1s", &[]));
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -l 64 && exec \"$@\"", "sh"]);
    let command = house.command();
    shell.arg(command.get_program()).args(command.get_args());
    let mut process = Process::start(&mut shell, house.dir.path().join("log"));
    let status = process.wait_for_end();
    let said = process.said();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("64 KiB") && said.contains("ulimit -l"), "{said}");
}

/// A small file system of our own, unmounted on drop.
struct Mount(PathBuf);

impl Mount {
    /// `None` where we may not mount.
    fn new(path: PathBuf, size: &str) -> Option<Mount> {
        fs::create_dir_all(&path).ok()?;
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .output();
        match done {
            Ok(output) if output.status.success() => Some(Mount(path)),
            _ => {
                println!("skipped: no file system can be mounted here to be filled");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Fills what is left of a file system.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("a file to fill the disk with");
    let block = vec![b'x'; 64 << 10];
    for size in [block.len(), 4096, 1] {
        while file.write_all(&block[..size]).is_ok() {}
    }
}

/// Room for the files of a new data directory, and for some seconds of commits.
const ROOM_TO_START: u64 = 256 << 10;

#[test]
fn a_full_disk_refuses_samples_and_goes_on_when_there_is_room() {
    let dir = Dir::new("disk");
    let Some(mount) = Mount::new(dir.path().join("small"), "96m") else { return };
    let target = changing(9);
    let mut house = House::new("full", &config("100ms", &[("a", &target.address(), "")]));
    house.args = vec!["--shards=1".to_owned()];
    house.data = mount.0.join("data");
    // The log takes room ahead of what it writes. It is to find little, whether it does so before the disk is filled or
    // after.
    let (before, ballast) = (mount.0.join("before"), mount.0.join("ballast"));
    fill(&before);
    let length = fs::metadata(&before).expect("the ballast").len();
    let file = fs::OpenOptions::new().write(true).open(&before).expect("the ballast");
    file.set_len(length - ROOM_TO_START).expect("a shorter ballast");
    let Some(mut running) = house.start() else { return };
    running.wait_for_value("same", Some("42"));
    fill(&ballast);
    let metric = |name: &str| -> f64 {
        let page = running.get("/metrics").text();
        let line = page.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {page}"));
        line.rsplit(' ').next().and_then(|v| v.parse().ok()).expect("a number")
    };
    eventually("the disk is full", || (metric("systole_shard_refusing{") == 1.0).then_some(()));
    eventually("samples are refused", || {
        (metric("systole_shard_refused_batches_total{") > 2.0).then_some(())
    });
    assert!(metric("prometheus_tsdb_wal_writes_failed_total") > 0.0);
    let shown = everything(&running);
    assert!(count(&shown) > 10, "queries go on");
    assert!(running.is_ready());
    fs::remove_file(&ballast).and_then(|()| fs::remove_file(&before)).expect("room again");
    eventually("samples are taken again", || (metric("systole_shard_refusing{") == 0.0).then_some(()));
    let newest = || running.value("max(timestamp(same))").and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    let before = newest();
    eventually("new samples", || (newest() > before).then_some(()));
    let shown = everything(&running);
    running.process.kill();
    let Some(running) = house.start() else { return };
    check_kept(&shown, &everything(&running), "after a full disk");
    drop(running);
    let _ = fs::remove_dir_all(Tail::dir_for(&house.data));
}
