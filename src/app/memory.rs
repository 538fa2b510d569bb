//! How much memory there is for series, from what the kernel and the control groups around the process say.

use std::path::{Path, PathBuf};

/// Bytes that an active series may need with everything that belongs to it; half as much again as it should.
const SERIES_BYTES: u64 = 1536;

/// Series that fit into memory; 0, no limit, where nothing tells how much there is.
pub fn series_that_fit() -> u64 {
    bytes().map_or(0, |b| b / SERIES_BYTES)
}

/// Memory of the machine, or what the control groups leave of it.
pub fn bytes() -> Option<u64> {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    [total, group_limit()].into_iter().flatten().min()
}

/// The narrowest limit of the control groups that this process is in.
fn group_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let read = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    limit_files(&groups).into_iter().filter_map(read).min()
}

/// Where limits may stand: in the group, as the kernel's list names it, and in all around it, by either version. In a
/// container the list may name a place that is not to be seen from within; the root is then the container's own group.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let within = Path::new(path.trim_start_matches('/'));
        files.extend(within.ancestors().map(|group| Path::new(base).join(group).join(name)));
    }
    files
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_among_the_lines() {
        assert_eq!(total_of("MemTotal:       24586840 kB\nMemFree: 1 kB\n"), Some(24_586_840 * 1024));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert_eq!(total_of("MemTotal: many kB\n"), None);
    }

    #[test]
    fn limits_stand_in_the_group_and_in_all_around_it() {
        let check = |groups: &str, expect: &[&str]| {
            assert_eq!(limit_files(groups), expect.iter().map(PathBuf::from).collect::<Vec<_>>(), "{groups}");
        };
        check(
            "0::/systole.slice/systole.service\n",
            &[
                "/sys/fs/cgroup/systole.slice/systole.service/memory.max",
                "/sys/fs/cgroup/systole.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ],
        );
        check("0::/\n", &["/sys/fs/cgroup/memory.max"]);
        check(
            "5:cpu,memory:/box\n3:cpuset:/\nx\n",
            &[
                "/sys/fs/cgroup/memory/box/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ],
        );
    }
}
