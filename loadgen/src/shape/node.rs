//! A page like node_exporter's of a 48-core host: 1 000 samples, 146 bytes a sample, a quarter of them new each time.
//!
//! Every value is a function of (seed, line, version), so any value of any moment can be told without replaying.

use super::value::Value;
use super::{PAGE_VERSION, mix, push_value};

pub const MODES: [&str; 8] = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
/// Network devices of the head: their rates differ by target, so that a `topk` has one true answer.
pub const HEAD_DEVICES: usize = 12;
/// Fewest lines a page can have and still hold every family that the queries name.
pub const LINES_MIN: usize = 60;

/// What every line carries beside its own labels: with instance, job and rack a series has seven to nine.
const COMMON: &str = r#"cluster="prod-eu-central-1-az2",environment="production",tier="compute-large-r2""#;

struct Line {
    /// End of this line's prefix (comments before it, its key and a space) in the page's text; it begins where the
    /// previous one ends.
    prefix_end: usize,
    value: Value,
}

pub struct Node {
    seed: u64,
    step_seconds: f64,
    text: Vec<u8>,
    lines: Vec<Line>,
    head_prefixes: Vec<Vec<u8>>,
    lines_max: usize,
    pub cpus: usize,
    pub filesystems: usize,
    cpu_first: usize,
    fs_first: usize,
    load1: usize,
}

impl Node {
    /// `lines` samples a page (at least [`LINES_MIN`]); versions are `step_seconds` apart.
    pub fn new(seed: u64, lines: usize, step_seconds: f64) -> Self {
        let lines = lines.max(LINES_MIN);
        let mut node = Node {
            seed,
            step_seconds,
            text: Vec::new(),
            lines: Vec::new(),
            head_prefixes: head_prefixes(),
            lines_max: lines - HEAD_DEVICES - 2,
            cpus: (lines * 48 / 1000).max(1),
            filesystems: (lines * 20 / 1000).max(2),
            cpu_first: 0,
            fs_first: 0,
            load1: 0,
        };
        node.fill();
        node
    }

    pub fn samples(&self) -> usize {
        self.lines.len() + self.head_samples()
    }

    pub fn head_samples(&self) -> usize {
        HEAD_DEVICES + 2
    }

    fn fill(&mut self) {
        self.load1 = self.lines.len();
        for (name, base) in [("node_load1", 812), ("node_load5", 774), ("node_load15", 741)] {
            self.family(name, "gauge", "load average of the machine.");
            self.line(name, "", self.gauge(base, 300, 0.9, 100.0));
        }
        self.cpu();
        self.filesystem_avail();
        self.memory();
        self.cpu_statics();
        self.network();
        self.filesystem_statics();
        self.disks();
        self.units();
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        if self.lines.len() < self.lines_max {
            self.text.extend_from_slice(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n").as_bytes());
        }
    }

    fn line(&mut self, name: &str, own: &str, value: Value) {
        if self.lines.len() >= self.lines_max {
            return;
        }
        let comma = if own.is_empty() { "" } else { "," };
        self.text.extend_from_slice(format!("{name}{{{own}{comma}{COMMON}}} ").as_bytes());
        self.lines.push(Line { prefix_end: self.text.len(), value });
    }

    fn counter(&self, base: u64, per_second: f64, chance: f64, scale: f64) -> Value {
        Value::counter(base, per_second, chance, scale, self.step_seconds)
    }

    fn gauge(&self, base: u64, spread: u64, chance: f64, scale: f64) -> Value {
        Value::gauge(base, spread, chance, scale)
    }

    fn cpu(&mut self) {
        let name = "node_cpu_seconds_total";
        self.family(name, "counter", "Seconds the CPUs spent in each mode.");
        self.cpu_first = self.lines.len();
        for cpu in 0..self.cpus {
            for (m, mode) in MODES.iter().enumerate() {
                let (per_second, chance) = match *mode {
                    "idle" => (0.84, 0.98),
                    "user" => (0.09, 0.6),
                    "system" => (0.04, 0.6),
                    "iowait" => (0.01, 0.15),
                    "softirq" => (0.01, 0.2),
                    _ => (0.0, 0.0),
                };
                let base = mix(self.seed, cpu as u64, m as u64) % 900_000 + 100_000;
                let value = if chance == 0.0 {
                    Value::constant(0)
                } else {
                    self.counter(base, per_second, chance, 100.0)
                };
                self.line(name, &format!(r#"cpu="{cpu}",mode="{mode}""#), value);
            }
        }
    }

    fn filesystem_avail(&mut self) {
        let name = "node_filesystem_avail_bytes";
        self.family(name, "gauge", "Filesystem space available to non-root users in bytes.");
        self.fs_first = self.lines.len();
        for fs in 0..self.filesystems {
            let base = 4096 * (mix(self.seed, 77, fs as u64) % 20_000_000 + 1_000_000);
            self.line(name, &mount(fs), self.gauge(base, 4_194_304, 0.3, 1.0));
        }
    }

    fn memory(&mut self) {
        const FIELDS: [&str; 25] = [
            "Active",
            "Inactive",
            "AnonPages",
            "Buffers",
            "Cached",
            "Dirty",
            "Mapped",
            "MemFree",
            "MemAvailable",
            "Slab",
            "SReclaimable",
            "SUnreclaim",
            "Shmem",
            "PageTables",
            "KernelStack",
            "Writeback",
            "Bounce",
            "CommitLimit",
            "HardwareCorrupted",
            "HugePages_Total",
            "Hugepagesize",
            "MemTotal",
            "Mlocked",
            "SwapTotal",
            "VmallocTotal",
        ];
        for (i, field) in FIELDS.iter().enumerate() {
            let name = format!("node_memory_{field}_bytes");
            self.family(&name, "gauge", "Memory information field.");
            let base = 1024 * (mix(self.seed, 5, i as u64) % 200_000_000);
            let value = if i < 15 { self.gauge(base, 80_000_000, 0.8, 1.0) } else { Value::constant(base) };
            self.line(&name, "", value);
        }
        for (i, field) in
            ["pgfault", "pgpgin", "pgpgout", "pgmajfault", "pswpin", "pswpout", "oom_kill"].iter().enumerate()
        {
            let name = format!("node_vmstat_{field}");
            self.family(&name, "untyped", "/proc/vmstat information field.");
            let value = if i < 3 {
                self.counter(9_000_000 + i as u64, 1500.0, 0.95, 1.0)
            } else {
                Value::constant(0)
            };
            self.line(&name, "", value);
        }
    }

    fn cpu_statics(&mut self) {
        let per_cpu: [(&str, &str, u64, f64); 6] = [
            ("node_softnet_processed_total", "counter", 5_000_000, 0.5),
            ("node_softnet_dropped_total", "counter", 0, 0.0),
            ("node_cpu_scaling_frequency_max_hertz", "gauge", 3_600_000_000, 0.0),
            ("node_cpu_scaling_frequency_min_hertz", "gauge", 800_000_000, 0.0),
            ("node_cpu_core_throttles_total", "counter", 0, 0.0),
            ("node_schedstat_timeslices_total", "counter", 80_000_000, 0.15),
        ];
        for (name, kind, base, chance) in per_cpu {
            self.family(name, kind, "Per-CPU figure of the kernel.");
            for cpu in 0..self.cpus {
                let base = if base == 0 { 0 } else { base + mix(self.seed, 9, cpu as u64) % 1_000_000 };
                let value =
                    if chance > 0.0 { self.counter(base, 220.0, chance, 1.0) } else { Value::constant(base) };
                self.line(name, &format!(r#"cpu="{cpu}""#), value);
            }
        }
    }

    fn network(&mut self) {
        let families: [(&str, f64); 8] = [
            ("node_network_transmit_bytes_total", 120_000.0),
            ("node_network_transmit_packets_total", 310.0),
            ("node_network_transmit_errs_total", 0.0),
            ("node_network_transmit_drop_total", 0.0),
            ("node_network_receive_errs_total", 0.0),
            ("node_network_receive_drop_total", 0.0),
            ("node_network_mtu_bytes", -1500.0),
            ("node_network_up", -1.0),
        ];
        for (name, per_second) in families {
            let kind = if per_second < 0.0 { "gauge" } else { "counter" };
            self.family(name, kind, "Network device statistic.");
            for device in 0..HEAD_DEVICES {
                let value = if per_second > 0.0 {
                    self.counter(mix(self.seed, 11, device as u64) % 1_000_000_000, per_second, 0.9, 1.0)
                } else {
                    Value::constant(-per_second as u64)
                };
                self.line(name, &format!(r#"device="eth{device}""#), value);
            }
        }
    }

    fn filesystem_statics(&mut self) {
        for name in [
            "node_filesystem_size_bytes",
            "node_filesystem_files",
            "node_filesystem_readonly",
            "node_filesystem_device_error",
        ] {
            self.family(name, "gauge", "Filesystem figure.");
            for fs in 0..self.filesystems {
                let v = if name.ends_with('r') || name.ends_with('y') {
                    0
                } else {
                    4096 * (mix(self.seed, 13, fs as u64) % 90_000_000)
                };
                self.line(name, &mount(fs), Value::constant(v));
            }
        }
    }

    fn disks(&mut self) {
        let families: [(&str, f64, f64); 10] = [
            ("node_disk_io_time_seconds_total", 0.2, 0.6),
            ("node_disk_written_bytes_total", 400_000.0, 0.6),
            ("node_disk_writes_completed_total", 30.0, 0.6),
            ("node_disk_read_bytes_total", 90_000.0, 0.3),
            ("node_disk_reads_completed_total", 8.0, 0.3),
            ("node_disk_reads_merged_total", 1.0, 0.1),
            ("node_disk_writes_merged_total", 9.0, 0.3),
            ("node_disk_io_now", 0.0, 0.0),
            ("node_disk_discards_completed_total", 0.0, 0.0),
            ("node_disk_flush_requests_total", 2.0, 0.3),
        ];
        for (name, per_second, chance) in families {
            self.family(name, "counter", "Disk statistic.");
            for disk in 0..8u64 {
                let scale = if name.contains("seconds") { 1000.0 } else { 1.0 };
                let value = if chance > 0.0 {
                    self.counter(mix(self.seed, 17, disk) % 500_000_000, per_second, chance, scale)
                } else {
                    Value::constant(0)
                };
                self.line(name, &format!(r#"device="nvme{disk}n1""#), value);
            }
        }
    }

    /// Fills the page up with what a systemd host shows: many lines that never change.
    fn units(&mut self) {
        self.family("node_systemd_unit_state", "gauge", "Systemd unit");
        let mut unit = 0;
        while self.lines.len() < self.lines_max {
            let own = format!(r#"name="service-{unit:04}.service",state="active",type="simple""#);
            self.line("node_systemd_unit_state", &own, Value::constant(1));
            unit += 1;
        }
    }

    /// The value of a body line at a version.
    pub fn value(&self, line_idx: usize, version: u64) -> f64 {
        let value = &self.lines[line_idx].value;
        value.at(self.seed, line_idx as u64, version, 0)
    }

    pub fn cpu_line(&self, cpu: usize, mode_idx: usize) -> usize {
        self.cpu_first + cpu * MODES.len() + mode_idx
    }

    pub fn fs_line(&self, fs: usize) -> usize {
        self.fs_first + fs
    }

    pub fn load1_line(&self) -> usize {
        self.load1
    }

    /// The value of a head counter, `node_network_receive_bytes_total{device="eth<device>"}`.
    pub fn head_value(&self, target_idx: usize, device: usize, version: u64) -> f64 {
        let id = (target_idx * HEAD_DEVICES + device) as u64;
        let per_second = 1000 + mix(self.seed, id, 0xbeef) % 1_000_000;
        let step = (per_second as f64 * self.step_seconds).round().max(1.0) as u64;
        (mix(self.seed, id, 1) % 100_000_000 + version * step + mix(self.seed, id, version) % (step / 8 + 1))
            as f64
    }

    pub fn write_head(&self, target_idx: usize, version: u64, out: &mut Vec<u8>) {
        let (devices, rest) = self.head_prefixes.split_at(HEAD_DEVICES);
        for (device, prefix) in devices.iter().enumerate() {
            out.extend_from_slice(prefix);
            push_value(out, self.head_value(target_idx, device, version));
            out.push(b'\n');
        }
        out.extend_from_slice(&rest[0]);
        push_value(out, version as f64);
        out.push(b'\n');
        out.extend_from_slice(&rest[1]);
        out.extend_from_slice(format!("host-{target_idx:05}\"}} 1\n").as_bytes());
    }

    pub fn body(&self, version: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + self.lines.len() * 16);
        let mut at = 0;
        for (i, line) in self.lines.iter().enumerate() {
            out.extend_from_slice(&self.text[at..line.prefix_end]);
            at = line.prefix_end;
            push_value(&mut out, self.value(i, version));
            out.push(b'\n');
        }
        out
    }
}

fn mount(fs: usize) -> String {
    format!(r#"device="/dev/mapper/vg0-vol{fs:02}",fstype="ext4",mountpoint="/srv/volume{fs:02}""#)
}

fn head_prefixes() -> Vec<Vec<u8>> {
    let receive = "node_network_receive_bytes_total";
    let mut prefixes: Vec<Vec<u8>> =
        (0..HEAD_DEVICES).map(|d| format!("{receive}{{device=\"eth{d}\",{COMMON}}} ").into_bytes()).collect();
    let comments =
        format!("# HELP {receive} Network device statistic receive_bytes.\n# TYPE {receive} counter\n");
    prefixes[0].splice(0..0, comments.into_bytes());
    let page = PAGE_VERSION;
    prefixes.push(
        format!("# HELP {page} Which page this is.\n# TYPE {page} gauge\n{page}{{{COMMON}}} ").into_bytes(),
    );
    let uname = "node_uname_info";
    prefixes.push(
        format!(
            "# HELP {uname} Labeled system information as provided by the uname system call.\n# TYPE {uname} gauge\n\
             {uname}{{{COMMON},machine=\"x86_64\",release=\"6.12.41+deb13-amd64\",sysname=\"Linux\",nodename=\""
        )
        .into_bytes(),
    );
    prefixes
}

#[cfg(test)]
mod tests {
    use super::super::sample_lines;
    use super::*;

    fn page(node: &Node, version: u64) -> Vec<u8> {
        let mut page = Vec::new();
        node.write_head(3, version, &mut page);
        page.extend_from_slice(&node.body(version));
        page
    }

    #[test]
    fn page_has_its_lines_its_bytes_and_no_key_twice() {
        for lines in [LINES_MIN, 250, 1000, 3000] {
            let page = page(&Node::new(1, lines, 15.0), 9);
            let mut keys: Vec<&[u8]> = sample_lines(&page)
                .filter_map(|l| l.iter().rposition(|&b| b == b' ').map(|at| &l[..at]))
                .collect();
            assert_eq!(keys.len(), lines);
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), lines);
            if lines == 1000 {
                let bytes = page.len() as f64 / lines as f64;
                assert!((bytes - 146.0).abs() < 3.0, "{bytes} bytes a line");
            }
        }
    }

    #[test]
    fn a_quarter_of_the_lines_is_new_each_time() {
        let node = Node::new(1, 1000, 15.0);
        let (a, b) = (page(&node, 40), page(&node, 41));
        let changed = sample_lines(&a).zip(sample_lines(&b)).filter(|(a, b)| a != b).count();
        assert!((180..300).contains(&changed), "{changed} lines changed");
    }

    #[test]
    fn counters_never_fall() {
        let node = Node::new(1, 200, 1.0);
        for (i, line) in node.lines.iter().enumerate().filter(|(_, l)| l.value.counter) {
            let values: Vec<f64> = (0..200).map(|v| node.value(i, v)).collect();
            assert!(values.is_sorted(), "line {i} of base {}", line.value.base);
        }
        assert!((0..200).map(|v| node.head_value(5, 2, v)).is_sorted());
    }

    #[test]
    fn idle_grows_at_its_rate() {
        let node = Node::new(1, 1000, 15.0);
        let line = node.cpu_line(7, 0);
        let per_second = (node.value(line, 1000) - node.value(line, 0)) / 15_000.0;
        assert!((per_second - 0.84).abs() < 0.01, "{per_second}");
    }

    #[test]
    fn same_seed_gives_same_bytes() {
        assert_eq!(Node::new(4, 300, 15.0).body(17), Node::new(4, 300, 15.0).body(17));
        assert_ne!(Node::new(4, 300, 15.0).body(17), Node::new(5, 300, 15.0).body(17));
    }
}
