//! What is off, from facts alone: one function a subject, one call a setting, its reason beside it.

use crate::tune::facts::{Card, Disk, Facts, Interrupt, Mount};
use crate::tune::report;
use crate::tune::sheet::{Sheet, list_text};
use crate::tune::{Asked, Finding, Fix, Level, Setting};

/// Everything that is off, the worst first; empty when all is well.
pub fn judge(sheet: &Sheet, asked: &Asked) -> Vec<Finding> {
    let facts = Facts::of(sheet);
    let mut findings = Vec::new();
    let out = &mut findings;
    kernel(&facts, out);
    limits(&facts, asked, out);
    processors(&facts, asked, out);
    memory(&facts, asked, out);
    data(&facts, out);
    network(&facts, out);
    if facts.contained {
        findings.iter_mut().for_each(|f| f.fix = from_outside(&f.fix));
    }
    // Stable: within a level the order is that of the subjects.
    findings.sort_by_key(|f| f.level);
    findings
}

/// A container may not write the kernel's settings: its network's are given at its start, the rest is the host's.
fn from_outside(fix: &Fix) -> Fix {
    let Fix::Write(settings) = fix else { return fix.clone() };
    let network = settings.iter().find_map(|s| Some((s.path.strip_prefix("/proc/sys/net/")?, &s.value)));
    Fix::Line(match network {
        Some((name, value)) => {
            format!("--sysctl net.{}='{value}' where the container is started", name.replace('/', "."))
        }
        None => format!("on the host: {}", report::line(fix)),
    })
}

/// The executor's own least number; below it nothing starts.
const LOCKED_MIN: u64 = 512 << 10;
/// Of buffers registered by each shard 2 MiB are full speed, and a quarter of the limit is given to them.
const LOCKED_EACH: u64 = 8 << 20;
/// A socket a target, an inner socket pair a shard, files of the log: a box of 50 000 targets stays below.
const FILES_WANTED: u64 = 65_536;
/// The log's newest bytes of a shard, and of all shards together where they are many.
const TAIL_EACH: u64 = 17 << 20;
const TAILS_ALL: u64 = 320 << 20;

/// A finding under construction.
struct Off<'a> {
    out: &'a mut Vec<Finding>,
    level: Level,
    name: String,
    found: String,
    wanted: String,
    why: &'static str,
}

impl Off<'_> {
    fn write(self, path: &str, value: &str) {
        self.writes(vec![Setting { path: path.to_owned(), value: value.to_owned() }]);
    }

    fn writes(self, settings: Vec<Setting>) {
        self.fixed(Fix::Write(settings));
    }

    fn line(self, line: impl Into<String>) {
        let fix = Fix::Line(line.into());
        self.fixed(fix);
    }

    fn fixed(self, fix: Fix) {
        let Off { out, level, name, found, wanted, why } = self;
        out.push(Finding { level, name, found, wanted, why, fix });
    }
}

fn off<'a>(
    out: &'a mut Vec<Finding>,
    level: Level,
    name: impl Into<String>,
    found: impl ToString,
    wanted: impl ToString,
    why: &'static str,
) -> Off<'a> {
    Off { out, level, name: name.into(), found: found.to_string(), wanted: wanted.to_string(), why }
}

/// A setting of `/proc/sys` that should be another value, where it is there and `is_off`.
struct Sysctl {
    name: &'static str,
    wanted: &'static str,
    is_off: fn(&str) -> bool,
    level: Level,
    why: &'static str,
}

fn sysctl(facts: &Facts, out: &mut Vec<Finding>, rule: Sysctl) {
    let path = sysctl_path(rule.name);
    let Some(found) = facts.sheet.value(&path) else { return };
    if (rule.is_off)(&found) {
        off(out, rule.level, rule.name, found, rule.wanted, rule.why).write(&path, rule.wanted);
    }
}

fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn kernel(facts: &Facts, out: &mut Vec<Finding>) {
    if let Some((major, minor)) = facts.kernel.filter(|version| *version < (5, 10)) {
        let why = "shards do all their input and output through io_uring, and older kernels lack parts of it";
        off(out, Level::Must, "kernel", format!("{major}.{minor}"), "5.10 or newer", why)
            .line("install a newer kernel (Debian: apt-get install -t bullseye-backports linux-image-amd64)");
    }
    let disabled = facts.sheet.value("/proc/sys/kernel/io_uring_disabled").filter(|v| v != "0");
    if let Some(value) = disabled {
        let why = "shards do all their input and output through io_uring; nothing starts without it";
        off(out, Level::Must, "kernel.io_uring_disabled", value, "0", why)
            .write("/proc/sys/kernel/io_uring_disabled", "0");
    } else if let Some(error) = &facts.uring_error {
        let why = "shards do all their input and output through io_uring; nothing starts without it";
        off(out, Level::Must, "io_uring", error, "works", why).line(
            "in a container: --security-opt seccomp=kernel-tuning/seccomp.json, which allows io_uring_setup, \
             io_uring_enter and io_uring_register",
        );
    }
    let clock = facts.sheet.value("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let offered = facts.sheet.get("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    if let Some(clock) =
        clock.filter(|c| matches!(c.as_str(), "hpet" | "acpi_pm" | "jiffies" | "pit" | "xen"))
    {
        let better = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"];
        let better = better.iter().find(|b| offered.is_some_and(|o| o.split(' ').any(|w| w == **b)));
        let why = "this one is read by a system call of a microsecond or more, several times a scrape; \
                   a processor's own counter is read in tens of nanoseconds";
        let off = off(out, Level::Should, "clocksource", clock, better.unwrap_or(&"tsc"), why);
        match better {
            Some(name) => off.write("/sys/devices/system/clocksource/clocksource0/current_clocksource", name),
            None => {
                off.line("dmesg | grep -i tsc tells why the counter is not trusted; see the BIOS or the host")
            }
        }
    }
}

fn limits(facts: &Facts, asked: &Asked, out: &mut Vec<Finding>) {
    if let Some((soft, _)) = facts.locked_bytes.filter(|_| !facts.locks_freely) {
        let wanted = facts.shards(asked.shards).saturating_mul(LOCKED_EACH);
        let level = if soft < LOCKED_MIN { Level::Must } else { Level::Should };
        if soft < wanted {
            let why = "each shard pins its rings and buffers; below 512 KiB nothing starts, below 8 MiB a shard \
                       the buffers are smaller than they should be";
            off(out, level, "limit of locked memory", bytes(soft), format!("{} or more", bytes(wanted)), why)
                .line(by_service(
                    facts,
                    "LimitMEMLOCK=infinity",
                    "--ulimit memlock=-1",
                    "ulimit -l unlimited",
                ));
        }
    }
    if let Some((soft, hard)) = facts.open_files
        && soft < FILES_WANTED
    {
        let level = if soft < 1024 { Level::Must } else { Level::Should };
        let why = "each target keeps its connection, and each dashboard's is one more";
        let shell = if hard >= FILES_WANTED {
            "ulimit -n 65536"
        } else {
            "ulimit -Hn 65536 && ulimit -n 65536 (as root)"
        };
        off(out, level, "limit of open files", soft, format!("{FILES_WANTED} or more"), why)
            .line(by_service(facts, "LimitNOFILE=1048576", "--ulimit nofile=1048576", shell));
    }
}

/// The same wish, said to who starts the process.
fn by_service(facts: &Facts, unit: &str, container: &str, shell: &str) -> String {
    match facts.contained {
        true => format!("{container} where the container is started"),
        false => format!("{unit} in the unit (kernel-tuning/systole.service has it); in a shell: {shell}"),
    }
}

fn processors(facts: &Facts, asked: &Asked, out: &mut Vec<Finding>) {
    let shards = facts.shards(asked.shards);
    if let Some(milli) = facts.quota_milli.filter(|milli| *milli < shards * 1000) {
        let whole = (milli / 1000).max(1);
        let why = "a quota stops the whole process for the rest of each period once it is spent: shards stall for \
                   tens of milliseconds, and more shards than CPUs only spend it sooner";
        let wanted = format!("{shards} CPUs for {shards} shards, without a quota");
        off(
            out,
            Level::Should,
            "CPU quota",
            format!("{}.{:03} CPUs", milli / 1000, milli % 1000),
            wanted,
            why,
        )
        .line(format!(
            "give whole CPUs instead (AllowedCPUs= or --cpuset-cpus), or at least start with --shards={whole}"
        ));
    }
    let idle: Vec<u32> = facts.isolated.iter().copied().filter(|cpu| !facts.cpus.contains(cpu)).collect();
    if !facts.isolated.is_empty() && idle.len() == facts.isolated.len() && !facts.contained {
        let why = "CPUs were kept free for shards, but a process starts without them in its mask and puts its \
                   shards on the busy ones";
        off(
            out,
            Level::Should,
            "isolated CPUs",
            format!("{} unused", list_text(&idle)),
            "used by shards",
            why,
        )
        .line(format!("CPUAffinity={} in the unit; in a shell: taskset -c {0} systole", list_text(&idle)));
    }
    governors(facts, out);
    if facts.nodes > 1 {
        let why = "shards and their memory stay where they are; the scan for better places unmaps pages and \
                   makes them fault";
        let is_off = |v: &str| v != "0";
        let rule = Sysctl { name: "kernel.numa_balancing", wanted: "0", is_off, level: Level::Should, why };
        sysctl(facts, out, rule);
    }
    if facts.isolated.is_empty() {
        return;
    }
    let why = "once a second each CPU is woken to add up its counters, isolated or not";
    let is_off = |v: &str| number(v) < 10;
    sysctl(facts, out, Sysctl { name: "vm.stat_interval", wanted: "10", is_off, level: Level::Could, why });
    let why = "each CPU takes an interrupt every few seconds to prove that it lives; shards have their own watchdog";
    let is_off = |v: &str| v == "1";
    sysctl(facts, out, Sysctl { name: "kernel.nmi_watchdog", wanted: "0", is_off, level: Level::Could, why });
}

/// One finding for all CPUs that save power.
fn governors(facts: &Facts, out: &mut Vec<Finding>) {
    let why = "shards sleep between pulses; a clock that has slowed down meanwhile makes every scrape and query \
               begin slowly";
    let saves = |governor: &str| !matches!(governor, "performance" | "schedutil");
    let saving: Vec<_> = facts.governors.iter().filter(|(_, governor)| saves(governor)).collect();
    let Some((_, found)) = saving.first() else { return };
    let cpus: Vec<u32> = saving.iter().map(|(cpu, _)| *cpu).collect();
    let path = |cpu: &u32| format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let setting = |cpu: &u32| Setting { path: path(cpu), value: "performance".to_owned() };
    off(out, Level::Should, format!("governor of CPUs {}", list_text(&cpus)), found, "performance", why)
        .writes(cpus.iter().map(setting).collect());
}

fn memory(facts: &Facts, asked: &Asked, out: &mut Vec<Finding>) {
    if facts.swap_bytes > 0 {
        let why = "memory of idle series is memory too: a query or a checkpoint that has to bring it back from \
                   swap stalls its shard";
        let is_off = |v: &str| number(v) > 10;
        sysctl(facts, out, Sysctl { name: "vm.swappiness", wanted: "1", is_off, level: Level::Should, why });
    }
    let why =
        "the allocator reserves more than it uses; strict accounting refuses it long before memory is full";
    let is_off = |v: &str| v == "2";
    sysctl(
        facts,
        out,
        Sysctl { name: "vm.overcommit_memory", wanted: "0", is_off, level: Level::Should, why },
    );
    let why = "frees local memory before it takes another node's, in the middle of an allocation";
    let is_off = |v: &str| v != "0";
    sysctl(
        facts,
        out,
        Sysctl { name: "vm.zone_reclaim_mode", wanted: "0", is_off, level: Level::Should, why },
    );
    huge_pages(facts, out);
    shared_memory(facts, asked, out);
}

fn huge_pages(facts: &Facts, out: &mut Vec<Finding>) {
    let base = "/sys/kernel/mm/transparent_hugepage";
    let enabled = facts.sheet.value(&format!("{base}/enabled"));
    if enabled.as_deref() == Some("never") {
        let why =
            "a series' memory is touched at random: with 4 KiB pages most touches miss the translation cache";
        off(out, Level::Should, "transparent_hugepage/enabled", "never", "madvise", why)
            .write(&format!("{base}/enabled"), "madvise");
    }
    let defrag = facts.sheet.value(&format!("{base}/defrag"));
    if defrag.as_deref() == Some("always") {
        let why = "a fault then waits until memory has been compacted, for milliseconds, on a shard's core";
        off(out, Level::Should, "transparent_hugepage/defrag", "always", "defer+madvise", why)
            .write(&format!("{base}/defrag"), "defer+madvise");
    }
}

fn shared_memory(facts: &Facts, asked: &Asked, out: &mut Vec<Finding>) {
    let shards = facts.shards(asked.shards);
    let wanted = (shards * TAIL_EACH).min(TAILS_ALL.max(shards * (2 << 20)));
    let why = "the log's newest bytes wait there for the disk, safe from a killed process; all of it is taken at start";
    let fix = |facts: &Facts| match facts.contained {
        true => format!("--shm-size={}m where the container is started", wanted.div_ceil(1 << 20)),
        false => format!("mount -o remount,size={}m /dev/shm", wanted.div_ceil(1 << 20)),
    };
    match facts.shm_bytes {
        Some(size) if size < wanted => {
            off(out, Level::Must, "size of /dev/shm", bytes(size), format!("{} or more", bytes(wanted)), why)
                .line(fix(facts));
        }
        None if facts.memory_bytes > 0 => {
            off(out, Level::Should, "/dev/shm", "not mounted", "a tmpfs", why)
                .line("mount -t tmpfs tmpfs /dev/shm");
        }
        _ => {}
    }
}

fn data(facts: &Facts, out: &mut Vec<Finding>) {
    if let Some(mount) = &facts.data {
        file_system(mount, out);
    }
    for disk in &facts.disks {
        scheduler(disk, out);
    }
}

fn file_system(mount: &Mount, out: &mut Vec<Finding>) {
    let found = format!("{} on {}", mount.kind, mount.point);
    let local = "ext4 or xfs on a local disk";
    match mount.kind.as_str() {
        "overlay" | "aufs" => {
            let why = "data in a container's own layer go with the container, and every write goes through the overlay";
            off(out, Level::Must, "file system of the data", &found, local, why)
                .line("mount a volume: -v systole:/var/lib/systole");
        }
        "tmpfs" | "ramfs" => {
            let why = "data in memory go with the machine, whatever was acknowledged";
            off(out, Level::Must, "file system of the data", &found, local, why)
                .line("--storage.tsdb.path= on a disk");
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "fuse.sshfs" | "9p" | "ceph" => {
            let why =
                "a log that is synced over a network waits for the network, and locks there are promises";
            off(out, Level::Should, "file system of the data", &found, local, why)
                .line("--storage.tsdb.path= on a local disk");
        }
        _ => {}
    }
    if mount.options.iter().any(|o| o == "discard") && matches!(mount.kind.as_str(), "ext4" | "xfs" | "btrfs")
    {
        let why = "each freed extent is told to the disk as the journal commits, and a log's sync waits for that commit";
        off(out, Level::Could, "mount option discard", found, "a weekly fstrim", why).line(format!(
            "mount -o remount,nodiscard {} (and in /etc/fstab), systemctl enable --now fstrim.timer",
            mount.point
        ));
    }
}

fn scheduler(disk: &Disk, out: &mut Vec<Finding>) {
    let path = |file: &str| format!("/sys/block/{}/queue/{file}", disk.name);
    let wanted = if disk.rotates { "mq-deadline" } else { "none" };
    // A virtual disk's own host queues behind it: measured, one without syncs as often as one with.
    let is_virtual = disk.name.starts_with("vd") || disk.name.starts_with("xvd");
    let offered = disk.schedulers.split(' ').any(|s| s.trim_matches(['[', ']']) == wanted);
    if let Some(found) = disk.scheduler.as_deref().filter(|found| *found != wanted && offered && !is_virtual)
    {
        let why = match disk.rotates {
            true => "reads and synced writes need deadlines where the head has to travel",
            false => {
                "shards already queue and merge their own requests; a second queue adds a lock and a wait"
            }
        };
        // A shard's log is one writer that waits: bfq may idle the disk for another such process.
        let level = if found == "bfq" { Level::Should } else { Level::Could };
        off(out, level, format!("scheduler of {}", disk.name), found, wanted, why)
            .write(&path("scheduler"), wanted);
    }
    if let Some(depth) = disk.depth.filter(|depth| *depth < 64) {
        let why = "block reads go out 8 to 32 at a time from every shard";
        off(out, Level::Should, format!("queue depth of {}", disk.name), depth, "256", why)
            .write(&path("nr_requests"), "256");
    }
    if disk.rotates {
        let why = "a spinning disk gives a hundred syncs a second to all shards together";
        off(out, Level::Could, format!("disk {}", disk.name), "rotates", "solid state", why)
            .line("--storage.ack=relaxed acknowledges before the sync; a solid-state disk is better");
    }
}

fn network(facts: &Facts, out: &mut Vec<Finding>) {
    let why = "dashboards that refresh together arrive together; beyond this many their connections are dropped \
               and come back a second later";
    let is_off = |v: &str| number(v) < 4096;
    sysctl(
        facts,
        out,
        Sysctl { name: "net.core.somaxconn", wanted: "4096", is_off, level: Level::Should, why },
    );
    let why = "each connection to one and the same address needs a port of its own: many exporters behind one \
               host or proxy use them up";
    let is_off = |v: &str| {
        let mut ends = v.split(' ').map(number);
        let (low, high) = (ends.next().unwrap_or(0), ends.next().unwrap_or(0));
        high.saturating_sub(low) < 50_000
    };
    let (name, wanted) = ("net.ipv4.ip_local_port_range", "10240 65000");
    sysctl(facts, out, Sysctl { name, wanted, is_off, level: Level::Could, why });
    let why = "a kept connection that was quiet since the last refresh starts slowly again, one round trip after another";
    let is_off = |v: &str| v == "1";
    let name = "net.ipv4.tcp_slow_start_after_idle";
    sysctl(facts, out, Sysctl { name, wanted: "0", is_off, level: Level::Could, why });
    for card in &facts.cards {
        interrupts(facts, card, out);
        spreading(facts, card, out);
    }
}

/// A card of several queues whose interrupts all go to one CPU, or to CPUs that were to be left alone.
fn interrupts(facts: &Facts, card: &Card, out: &mut Vec<Finding>) {
    let keeping: Vec<u32> =
        facts.online.iter().copied().filter(|cpu| !facts.isolated.contains(cpu)).collect();
    if keeping.is_empty() || facts.contained {
        return;
    }
    let several = card.receive_queues.len() > 1 && card.interrupts.len() > 1 && keeping.len() > 1;
    let first = card.interrupts.first().map(|i| &i.cpus);
    let heaped = several && card.interrupts.iter().all(|i| i.cpus.len() == 1 && Some(&i.cpus) == first);
    let disturbs = |i: &Interrupt| i.cpus.iter().any(|cpu| facts.isolated.contains(cpu));
    let disturbing = card.interrupts.iter().any(disturbs);
    let why = match (heaped, disturbing) {
        (_, true) => "a CPU kept free for a shard is interrupted by every packet of such a queue",
        (true, false) => "the card has several queues, and one CPU answers them all",
        (false, false) => return,
    };
    let mut settings = Vec::new();
    for (interrupt, cpu) in card.interrupts.iter().zip(keeping.iter().cycle()) {
        if interrupt.cpus != [*cpu] && (heaped || disturbs(interrupt)) {
            let path = format!("/proc/irq/{}/smp_affinity_list", interrupt.number);
            settings.push(Setting { path, value: cpu.to_string() });
        }
    }
    let mut found: Vec<u32> = card.interrupts.iter().flat_map(|i| i.cpus.iter().copied()).collect();
    found.sort_unstable();
    found.dedup();
    let (found, wanted) =
        (format!("to CPUs {}", list_text(&found)), format!("spread over CPUs {}", list_text(&keeping)));
    off(out, Level::Should, format!("interrupts of {}", card.name), found, wanted, why).writes(settings);
}

/// A card of one queue on a box of many CPUs.
fn spreading(facts: &Facts, card: &Card, out: &mut Vec<Finding>) {
    let [queue] = card.receive_queues.as_slice() else { return };
    if facts.online.len() < 8 || queue.spread || facts.contained {
        return;
    }
    let keeping: Vec<u32> =
        facts.online.iter().copied().filter(|cpu| !facts.isolated.contains(cpu)).collect();
    let why = "one CPU takes all packets of this card; the kernel can hand them on to others";
    let path = format!("/sys/class/net/{}/queues/{}/rps_cpus", card.name, queue.name);
    off(
        out,
        Level::Could,
        format!("packet steering of {}", card.name),
        "off",
        format!("CPUs {}", list_text(&keeping)),
        why,
    )
    .write(&path, &mask(&keeping));
}

/// CPUs as the kernel writes a mask: 32 bits a word, the highest first.
fn mask(cpus: &[u32]) -> String {
    let words = cpus.iter().max().map_or(1, |max| max / 32 + 1);
    let word = |w: u32| cpus.iter().filter(|c| *c / 32 == w).fold(0u32, |bits, c| bits | 1 << (c % 32));
    (0..words).rev().map(|w| format!("{:08x}", word(w))).collect::<Vec<_>>().join(",")
}

fn bytes(n: u64) -> String {
    match n {
        n if n >= 10 << 30 => format!("{} GiB", n >> 30),
        n if n >= 10 << 20 => format!("{} MiB", n >> 20),
        n => format!("{} KiB", n >> 10),
    }
}
