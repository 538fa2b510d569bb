//! How much memory there is for series, from what the kernel and the container's limits say.

/// Bytes that an active series may need with everything that belongs to it; half as much again as it should.
const SERIES_BYTES: u64 = 1536;

/// Series that fit into memory; 0, no limit, where nothing tells how much there is.
pub fn series_that_fit() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|t| t.trim().parse().ok());
    let bytes: Option<u64> = [total, limit].into_iter().flatten().min();
    bytes.map_or(0, |b| b / SERIES_BYTES)
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
}
