//! Whole machines judged, and changes made and taken back in a directory that stands for one.
//!
//! `snapshots/*.facts` are sheets as `systole tune facts` prints them: `vm` was recorded on a
//! virtual machine (and cut to the lines that are read), `container` is the same with the mounts, limits and seccomp
//! profile that Docker gives by default, `numa` is written, as the kernel of a box of two sockets shows itself. Beside each lies what is said of it; `BLESS=1` writes that anew.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::tune::change::{Change, Files, apply, plan, read_record, undo};
use crate::tune::sheet::{Sheet, chosen, list, list_text};
use crate::tune::{Asked, Finding, Fix, Level, judge, read, report};

fn snapshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tune/snapshots")
}

fn sheet_of(name: &str) -> Sheet {
    let path = snapshots().join(format!("{name}.facts"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    Sheet::parse(name, &text).expect("a sheet")
}

fn judged(name: &str, asked: Asked) -> Vec<Finding> {
    judge(&sheet_of(name), &asked)
}

#[test]
fn each_recorded_machine_is_judged_as_before() {
    for name in ["vm", "numa", "container"] {
        let said = report::findings(&judged(name, Asked::default()));
        let path = snapshots().join(format!("{name}.said"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &said).expect("written");
        }
        let expect = fs::read_to_string(&path).unwrap_or_default();
        assert!(said == expect, "{name}: BLESS=1 if this is right:\n{said}");
    }
}

#[test]
fn a_sheet_is_what_its_text_says() {
    for name in ["vm", "numa", "container"] {
        let sheet = sheet_of(name);
        assert_eq!(Sheet::parse(name, &sheet.to_string()).expect("its own text"), sheet, "{name}");
    }
    let error = Sheet::parse("x", "no path\n").expect_err("refused").to_string();
    assert_eq!(error, "x:1: a line before the first path");
}

/// The `vm` with some files changed; the names of what is off at `level`.
fn off_with(level: Level, changes: &[(&str, &str)]) -> Vec<String> {
    let mut sheet = sheet_of("vm");
    changes.iter().for_each(|(path, content)| sheet.put(path, content));
    let findings = judge(&sheet, &Asked::default());
    findings.into_iter().filter(|f| f.level == level).map(|f| f.name).collect()
}

#[test]
fn each_setting_is_found_when_it_is_off() {
    let check = |level, path: &str, content: &str, expect: &str| {
        let names = off_with(level, &[(path, content)]);
        assert!(names.iter().any(|n| n == expect), "{path} = {content:?}: {names:?}");
    };
    let (must, should, could) = (Level::Must, Level::Should, Level::Could);
    check(must, "/proc/sys/kernel/osrelease", "5.4.0-generic", "kernel");
    check(must, "/proc/sys/kernel/io_uring_disabled", "2", "kernel.io_uring_disabled");
    check(must, "probe/io_uring", "Operation not permitted (os error 1)", "io_uring");
    check(should, "/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet", "clocksource");
    check(should, "/proc/self/limits", "Max open files  1024  4096  files", "limit of open files");
    check(must, "/proc/self/limits", "Max open files  256  4096  files", "limit of open files");
    check(should, "/proc/sys/vm/overcommit_memory", "2", "vm.overcommit_memory");
    check(should, "/proc/sys/vm/zone_reclaim_mode", "1", "vm.zone_reclaim_mode");
    check(should, "/proc/sys/net/core/somaxconn", "128", "net.core.somaxconn");
    check(could, "/proc/sys/net/ipv4/tcp_slow_start_after_idle", "1", "net.ipv4.tcp_slow_start_after_idle");
    check(
        should,
        "/sys/kernel/mm/transparent_hugepage/defrag",
        "[always] never",
        "transparent_hugepage/defrag",
    );
    check(
        should,
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "always [never]",
        "transparent_hugepage/enabled",
    );
    check(should, "/sys/block/vda/queue/nr_requests", "32", "queue depth of vda");
    check(should, "/sys/devices/system/cpu/isolated", "2-3", "isolated CPUs");
}

#[test]
fn the_disk_under_a_partition_of_a_mirror_is_the_one_judged() {
    let of = |mount: &str| {
        let mut sheet = sheet_of("numa");
        sheet.put("/proc/self/mountinfo", &format!("61 24 9:127 / /var/lib/systole rw - ext4 {mount} rw"));
        let disks = judge(&sheet, &Asked::default()).into_iter().filter_map(|f| {
            f.name.strip_prefix("scheduler of ").or(f.name.strip_prefix("disk ")).map(str::to_owned)
        });
        disks.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("/dev/md127"), "nvme1n1");
    assert_eq!(of("/dev/nvme1n1p1"), "nvme1n1");
    assert_eq!(of("/dev/mapper/vg0-root"), "sda", "it rotates");
    assert_eq!(of("/dev/nvme0n1p1"), "");
    assert_eq!(of("tank/systole"), "");
}

#[test]
fn limits_are_those_of_the_shards_that_would_run() {
    let mut sheet = sheet_of("vm");
    sheet.put("/proc/self/status", "CapEff:\t0000000000000000\nCpus_allowed_list:\t0-63");
    sheet.put("/proc/self/limits", "Max locked memory  67108864  67108864  bytes");
    let names = |shards| judge(&sheet, &Asked { shards }).into_iter().map(|f| f.name).collect::<Vec<_>>();
    assert!(names(0).contains(&"limit of locked memory".to_owned()), "64 shards: {:?}", names(0));
    assert!(!names(8).contains(&"limit of locked memory".to_owned()), "8 shards: {:?}", names(8));
}

#[test]
fn a_quota_counts_at_every_level_of_the_group() {
    let group = ("/proc/self/cgroup", "0::/system.slice/systole.service");
    let quota =
        |path, text| off_with(Level::Should, &[group, (path, text)]).contains(&"CPU quota".to_owned());
    assert!(quota("/sys/fs/cgroup/system.slice/cpu.max", "150000 100000"));
    assert!(!quota("/sys/fs/cgroup/system.slice/cpu.max", "200000 100000"));
    assert!(!quota("/sys/fs/cgroup/system.slice/cpu.max", "max 100000"));
    assert!(!quota("/sys/fs/cgroup/other.slice/cpu.max", "1000 100000"));
}

#[test]
fn what_could_be_better_is_no_complaint() {
    let finding = |level| Finding {
        level,
        name: "x".to_owned(),
        found: String::new(),
        wanted: String::new(),
        why: "",
        fix: Fix::Line(String::new()),
    };
    assert!(!report::complains(&[]) && !report::complains(&[finding(Level::Could)]));
    assert!(report::complains(&[finding(Level::Could), finding(Level::Should)]));
    assert_eq!(report::findings(&[]), "all is well\n");
}

#[test]
fn values_are_read_as_the_kernel_shows_them() {
    assert_eq!(chosen("none [mq-deadline] kyber"), "mq-deadline");
    assert_eq!(chosen("32768\t60999\n"), "32768 60999");
    assert_eq!(list("0-3,6"), Some(vec![0, 1, 2, 3, 6]));
    assert_eq!(list(""), Some(vec![]));
    assert_eq!((list("3-1"), list("0-99999999"), list("a")), (None, None, None));
    assert_eq!(list_text(&[0, 1, 2, 3, 6]), "0-3,6");
}

proptest! {
    #[test]
    fn no_sheet_makes_the_judgement_fail(texts in proptest::collection::vec("[0-9a-z ,:/\\[\\]\\-\t\n.]{0,60}", 8), pick: [prop::sample::Index; 8]) {
        let mut sheet = sheet_of("vm");
        let paths: Vec<String> = sheet.to_string().lines().filter_map(|l| l.strip_prefix("== ").map(str::to_owned)).collect();
        for (text, pick) in texts.iter().zip(&pick) {
            sheet.put(pick.get(paths.as_slice()).as_str(), text);
        }
        let _ = report::findings(&judge(&sheet, &Asked::default()));
    }
}

/// A machine of files in a directory of its own; removed with it.
struct Fake {
    files: Files,
    record: PathBuf,
}

impl Fake {
    fn new(name: &str, settings: &[(&str, &str)]) -> Fake {
        let root = std::env::temp_dir().join(format!("systole-tune-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (path, value) in settings {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, value).expect("written");
        }
        Fake { record: root.join("run/tune.undo"), files: Files { root } }
    }

    fn get(&self, path: &str) -> String {
        fs::read_to_string(self.files.root.join(path.trim_start_matches('/'))).expect("read")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.files.root);
    }
}

fn to(path: &str, after: &str) -> Change {
    Change { path: path.to_owned(), before: String::new(), after: after.to_owned() }
}

const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

#[test]
fn what_was_applied_twice_is_undone_to_what_was_there_first() {
    let fake = Fake::new("twice", &[(SWAPPINESS, "60\n"), (PORTS, "32768\t60999\n")]);
    let done =
        apply(&fake.files, &fake.record, &[to(SWAPPINESS, "10"), to(PORTS, "10240 65000")]).expect("done");
    assert!(done.iter().all(|o| o.error.is_none()), "{done:?}");
    apply(&fake.files, &fake.record, &[to(SWAPPINESS, "1")]).expect("done");
    assert_eq!((fake.get(SWAPPINESS), fake.get(PORTS)), ("1".to_owned(), "10240 65000".to_owned()));
    undo(&fake.files, &fake.record).expect("undone");
    assert_eq!((fake.get(SWAPPINESS), fake.get(PORTS)), ("60".to_owned(), "32768 60999".to_owned()));
    assert!(!fake.record.exists() && undo(&fake.files, &fake.record).expect("nothing left").is_empty());
}

#[test]
fn what_another_has_changed_since_stays() {
    let fake = Fake::new("another", &[(SWAPPINESS, "60")]);
    apply(&fake.files, &fake.record, &[to(SWAPPINESS, "1")]).expect("done");
    fs::write(fake.files.root.join("proc/sys/vm/swappiness"), "30").expect("written");
    let undone = undo(&fake.files, &fake.record).expect("undone");
    assert_eq!(undone[0].error.as_deref(), Some("left alone: it is 30 by now"));
    assert_eq!(fake.get(SWAPPINESS), "30");
}

#[test]
fn a_setting_that_is_not_there_is_not_made() {
    let fake = Fake::new("absent", &[(SWAPPINESS, "60")]);
    let done = apply(&fake.files, &fake.record, &[to("/proc/sys/vm/no_such", "1"), to(SWAPPINESS, "1")])
        .expect("done");
    assert!(done[0].error.is_some() && done[1].error.is_none(), "{done:?}");
    assert!(!fake.files.root.join("proc/sys/vm/no_such").exists());
}

#[test]
fn a_record_that_is_none_is_refused() {
    let fake = Fake::new("record", &[("/run/tune.undo", "# head\nx\t1\n")]);
    let error = read_record(&fake.record).expect_err("refused").to_string();
    assert!(error.ends_with("tune.undo:2: not a path and two values parted by tabs"), "{error}");
}

#[test]
fn a_machine_put_right_is_well() {
    let paths = ["/proc/sys/vm/swappiness", "/proc/sys/net/core/somaxconn"];
    let fake =
        Fake::new("well", &[(paths[0], "60"), (paths[1], "128"), ("/proc/meminfo", "SwapTotal: 8 kB")]);
    let look = || judge(&read::machine(&fake.files.root, "/data", "works"), &Asked::default());
    let findings = look();
    let (changes, by_hand) = plan(&findings, Level::Should);
    assert_eq!((changes.len(), by_hand.len()), (2, 0));
    apply(&fake.files, &fake.record, &changes).expect("done");
    assert_eq!(look(), []);
}
