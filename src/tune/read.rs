//! Reads the running machine into a sheet: the one place that knows where the kernel keeps what.
//!
//! Nothing here judges. What cannot be read is left out, and the judgement is silent about it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tune::sheet::Sheet;

/// Files that are read as they are.
const FILES: &[&str] = &[
    "/.dockerenv",
    "/run/.containerenv",
    "/proc/meminfo",
    "/proc/self/cgroup",
    "/proc/self/limits",
    "/proc/self/mountinfo",
    "/proc/self/status",
    "/proc/sys/kernel/io_uring_disabled",
    "/proc/sys/kernel/nmi_watchdog",
    "/proc/sys/kernel/numa_balancing",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/tcp_slow_start_after_idle",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/stat_interval",
    "/proc/sys/vm/swappiness",
    "/proc/sys/vm/zone_reclaim_mode",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/devices/system/cpu/isolated",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/node/online",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/kernel/mm/transparent_hugepage/enabled",
];

/// Of each block device.
const QUEUE: &[&str] = &["nr_requests", "rotational", "scheduler"];

/// A directory with more entries than this is cut: a box has fewer disks, ports and interrupts.
const NAMES_MAX: usize = 8192;

/// A file larger than this is no setting.
const BYTES_MAX: usize = 1 << 20;

/// Reads everything below `root` (`/` but in tests). `uring` is what came of trying io_uring: `works`, or the error.
pub fn machine(root: &Path, data_dir: &str, uring: &str) -> Sheet {
    let mut reader = Reader { root, sheet: Sheet::default() };
    for path in FILES {
        reader.file(path);
    }
    reader.control_group();
    reader.processors();
    reader.disks();
    reader.network();
    reader.sheet.put("probe/io_uring", uring);
    reader.sheet.put("probe/data_dir", data_dir);
    reader.sheet
}

struct Reader<'a> {
    root: &'a Path,
    sheet: Sheet,
}

impl Reader<'_> {
    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn file(&mut self, path: &str) {
        let Ok(bytes) = fs::read(self.place(path)) else { return };
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(BYTES_MAX)]);
        self.sheet.put(path, &text);
    }

    /// Records the names in a directory that pass, and returns them in order.
    fn dir(&mut self, path: &str, passes: impl Fn(&str) -> bool) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.place(path)) else { return Vec::new() };
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> =
            entries.flatten().map(name).filter(|n| passes(n)).take(NAMES_MAX).collect();
        names.sort_unstable();
        self.sheet.put(path, &names.join("\n"));
        names
    }

    /// Limits of the group this process is in, in either version's files; each level up to the root may limit.
    fn control_group(&mut self) {
        let groups = self.sheet.get("/proc/self/cgroup").unwrap_or_default().to_owned();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(kinds), Some(group)) = (parts.next(), parts.next()) else { continue };
            let (base, files): (&str, &[&str]) = match kinds {
                "" => ("/sys/fs/cgroup", &["cpu.max"]),
                "cpu" | "cpu,cpuacct" => ("/sys/fs/cgroup/cpu", &["cpu.cfs_quota_us", "cpu.cfs_period_us"]),
                _ => continue,
            };
            for level in Path::new(group).ancestors().take(32) {
                let level = level.to_string_lossy();
                for file in files {
                    self.file(&format!("{base}{}/{file}", level.trim_end_matches('/')));
                }
            }
        }
    }

    fn processors(&mut self) {
        let is_cpu = |n: &str| n.strip_prefix("cpu").is_some_and(|d| d.parse::<u32>().is_ok());
        for cpu in self.dir("/sys/devices/system/cpu/", is_cpu) {
            self.file(&format!("/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor"));
        }
    }

    fn disks(&mut self) {
        let real = |n: &str| !["loop", "ram", "zram", "sr", "fd", "nbd"].iter().any(|p| n.starts_with(p));
        for disk in self.dir("/sys/block/", real) {
            let base = format!("/sys/block/{disk}");
            // Partitions are directories with the disk's name before their own.
            self.dir(&format!("{base}/"), |n| n.starts_with(&disk));
            self.dir(&format!("{base}/slaves/"), |_| true);
            self.file(&format!("{base}/dm/name"));
            for name in QUEUE {
                self.file(&format!("{base}/queue/{name}"));
            }
        }
    }

    fn network(&mut self) {
        let root = self.root;
        // Only a card has a device behind it.
        let is_card = |n: &str| root.join("sys/class/net").join(n).join("device").exists();
        for card in self.dir("/sys/class/net/", is_card) {
            let base = format!("/sys/class/net/{card}");
            for queue in self.dir(&format!("{base}/queues/"), |_| true) {
                if queue.starts_with("rx-") {
                    self.file(&format!("{base}/queues/{queue}/rps_cpus"));
                }
            }
            // A virtio card's interrupts are its parent's.
            for dir in ["device/msi_irqs/", "device/../msi_irqs/"] {
                let of_card = format!("{base}/{dir}");
                let irqs = self.dir(&of_card, |n| n.parse::<u32>().is_ok());
                for irq in &irqs {
                    self.file(&format!("/proc/irq/{irq}/smp_affinity_list"));
                    self.file(&format!("/proc/irq/{irq}/effective_affinity_list"));
                }
                if !irqs.is_empty() {
                    break;
                }
            }
        }
    }
}
