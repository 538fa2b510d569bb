//! What a process and its children use: CPU time, resident memory and its peak, bytes on disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::ring;

/// A reading of a process tree at one moment.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Usage {
    pub cpu: Duration,
    pub rss_bytes: u64,
    /// The sum of each process's own peak.
    pub peak_bytes: u64,
}

/// Reads a process and all its descendants; `None` when the process itself is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let mut total = Usage { cpu: ring::process_cpu(pid)?, ..Usage::default() };
    add_memory(pid, &mut total);
    for child in descendants(pid) {
        total.cpu += ring::process_cpu(child).unwrap_or_default();
        add_memory(child, &mut total);
    }
    Some(total)
}

fn add_memory(pid: u32, total: &mut Usage) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    total.rss_bytes += status_bytes(&status, "VmRSS:");
    total.peak_bytes += status_bytes(&status, "VmHWM:");
}

fn status_bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Children, their children, and so on, by the kernel's own lists.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            open.extend(children.split_ascii_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        }
        found.push(pid);
    }
    found.retain(|&p| p != pid);
    found
}

/// Bytes that a process has sent towards the disk since it began; `None` where the kernel does not tell.
pub fn written_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|l| l.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

/// Bytes of all files under a folder, as they occupy the disk.
pub fn disk_bytes(folder: &Path) -> u64 {
    disk_bytes_where(folder, &|_| true)
}

/// The same of those that count by their path inside the folder.
pub fn disk_bytes_where(folder: &Path, counts: &dyn Fn(&Path) -> bool) -> u64 {
    below(folder, Path::new(""), counts)
}

fn below(folder: &Path, inside: &Path, counts: &dyn Fn(&Path) -> bool) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder.join(inside)).into_iter().flatten().flatten();
    entries
        .map(|e| {
            let path = inside.join(e.file_name());
            match e.metadata() {
                Ok(m) if m.is_dir() => below(folder, &path, counts),
                Ok(m) if counts(&path) => m.blocks() * 512,
                _ => 0,
            }
        })
        .sum()
}

/// The machine in one line each: CPU model, count, kernel, memory.
pub fn machine() -> serde_json::Value {
    let read = |p: &str| fs::read_to_string(p).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map(|l| l.trim_start_matches([' ', '\t', ':']));
    serde_json::json!({
        "cpu": model.unwrap_or("unknown"),
        "cpus": std::thread::available_parallelism().map_or(0, |n| n.get()),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "memory_bytes": status_bytes(&read("/proc/meminfo"), "MemTotal:"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_usage_has_memory_and_a_peak_above_it() {
        let u = usage(std::process::id()).unwrap_or_default();
        assert!(u.rss_bytes > 0 && u.peak_bytes >= u.rss_bytes, "{u:?}");
    }

    #[test]
    fn children_are_counted_while_they_live() -> std::io::Result<()> {
        let mut child = std::process::Command::new("sleep").arg("30").spawn()?;
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill()?;
        child.wait()?;
        assert!(!descendants(std::process::id()).contains(&child.id()));
        assert_eq!(usage(child.id()), None);
        Ok(())
    }

    #[test]
    fn memory_lines_are_read_in_kilobytes() {
        assert_eq!(status_bytes("VmHWM:\t     12 kB\nVmRSS:\t 8 kB\n", "VmRSS:"), 8192);
        assert_eq!(status_bytes("", "VmRSS:"), 0);
    }
}
