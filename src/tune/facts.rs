//! A sheet's files understood: numbers, lists and names that the judgement speaks of.

use crate::tune::sheet::{Sheet, list};

/// What a machine is, as far as its files say; `None` and empty mean that they do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub kernel: Option<(u32, u32)>,
    /// Why io_uring does not work; `None` when it does.
    pub uring_error: Option<String>,
    /// In a container, where the kernel's settings are another's.
    pub contained: bool,
    /// Memory may be locked without limit (CAP_IPC_LOCK).
    pub locks_freely: bool,
    /// CPUs that this process may use.
    pub cpus: Vec<u32>,
    pub online: Vec<u32>,
    /// CPUs that the scheduler leaves alone.
    pub isolated: Vec<u32>,
    pub nodes: usize,
    /// CPU time that the control group grants, in thousandths of a CPU.
    pub quota_milli: Option<u64>,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    /// Size of `/dev/shm`; `None` where it is not mounted.
    pub shm_bytes: Option<u64>,
    /// Soft and hard limits; `u64::MAX` is unlimited.
    pub open_files: Option<(u64, u64)>,
    pub locked_bytes: Option<(u64, u64)>,
    pub data: Option<Mount>,
    pub disks: Vec<Disk>,
    pub cards: Vec<Card>,
    pub governors: Vec<(u32, String)>,
    /// Settings with one value, by path.
    pub sheet: Sheet,
}

/// The file system that data lie on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    pub point: String,
    pub kind: String,
    pub source: String,
    pub options: Vec<String>,
}

/// A whole disk under the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub name: String,
    pub rotates: bool,
    pub scheduler: Option<String>,
    pub schedulers: String,
    pub depth: Option<u64>,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    pub name: String,
    pub receive_queues: Vec<Queue>,
    pub interrupts: Vec<Interrupt>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    /// Packets of this queue are spread to other CPUs in software.
    pub spread: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupt {
    pub number: u32,
    /// CPUs that it is delivered to now.
    pub cpus: Vec<u32>,
}

const UNLIMITED: u64 = u64::MAX;

impl Facts {
    pub fn of(sheet: &Sheet) -> Facts {
        let status = |field: &str| field_of(sheet.get("/proc/self/status"), field);
        let memory = |field: &str| {
            let kib =
                field_of(sheet.get("/proc/meminfo"), field).and_then(|v| v.split(' ').next()?.parse().ok());
            kib.map_or(0, |kib: u64| kib.saturating_mul(1024))
        };
        let cpu_list = |path: &str| sheet.get(path).and_then(list).unwrap_or_default();
        let mounts = mounts(sheet);
        let data = sheet.get("probe/data_dir").and_then(|dir| mount_of(&mounts, dir)).cloned();
        let memory_bytes = memory("MemTotal");
        let capabilities = status("CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
        Facts {
            kernel: sheet.get("/proc/sys/kernel/osrelease").and_then(version),
            uring_error: sheet.get("probe/io_uring").filter(|t| *t != "works").map(str::to_owned),
            contained: is_contained(sheet, &mounts),
            locks_freely: capabilities & CAP_IPC_LOCK != 0,
            cpus: status("Cpus_allowed_list").and_then(list).unwrap_or_default(),
            online: cpu_list("/sys/devices/system/cpu/online"),
            isolated: cpu_list("/sys/devices/system/cpu/isolated"),
            nodes: cpu_list("/sys/devices/system/node/online").len(),
            quota_milli: quota_milli(sheet),
            memory_bytes,
            swap_bytes: memory("SwapTotal"),
            shm_bytes: shm_bytes(&mounts, memory_bytes),
            open_files: limit_of(sheet, "Max open files"),
            locked_bytes: limit_of(sheet, "Max locked memory"),
            disks: data.as_ref().map(|m| disks_under(sheet, &m.source)).unwrap_or_default(),
            data,
            cards: sheet.names("/sys/class/net/").map(|name| card(sheet, name)).collect(),
            governors: governors(sheet),
            sheet: sheet.clone(),
        }
    }

    /// Shards that would run.
    pub fn shards(&self, asked: u32) -> u64 {
        match asked {
            0 => self.cpus.len().max(1) as u64,
            n => u64::from(n),
        }
    }
}

const CAP_IPC_LOCK: u64 = 1 << 14;

/// `Field:   value` among lines.
fn field_of<'a>(text: Option<&'a str>, field: &str) -> Option<&'a str> {
    let after = |line: &'a str| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim());
    text?.lines().find_map(after)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A container's root is an overlay, or it says so itself.
fn is_contained(sheet: &Sheet, mounts: &[Mount]) -> bool {
    let marked = ["/.dockerenv", "/run/.containerenv"].iter().any(|p| sheet.get(p).is_some());
    let groups = sheet.get("/proc/self/cgroup").unwrap_or_default();
    let grouped = ["docker", "kubepods", "libpod", "/lxc/"].iter().any(|w| groups.contains(w));
    marked || grouped || mounts.iter().any(|m| m.point == "/" && m.kind == "overlay")
}

/// A line of `/proc/self/limits`: soft and hard.
fn limit_of(sheet: &Sheet, name: &str) -> Option<(u64, u64)> {
    let line = sheet.get("/proc/self/limits")?.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = line.split_whitespace().map(|v| match v {
        "unlimited" => Some(UNLIMITED),
        number => number.parse().ok(),
    });
    Some((values.next()??, values.next()??))
}

/// Directories of the control groups this process is in, of version 2 and of one version 1 controller.
fn group_files<'a>(sheet: &'a Sheet, controller: &str, file: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for line in sheet.get("/proc/self/cgroup").unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(group)) = (parts.next(), parts.next()) else { continue };
        let base = match kinds {
            "" => "/sys/fs/cgroup".to_owned(),
            kinds if kinds.split(',').any(|k| k == controller) => format!("/sys/fs/cgroup/{controller}"),
            _ => continue,
        };
        for level in std::path::Path::new(group).ancestors() {
            let level = level.to_string_lossy();
            found.extend(sheet.get(&format!("{base}{}/{file}", level.trim_end_matches('/'))));
        }
    }
    found
}

fn quota_milli(sheet: &Sheet) -> Option<u64> {
    let milli = |quota: &str, period: &str| {
        let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
        quota.checked_mul(1000)?.checked_div(period)
    };
    let second = group_files(sheet, "cpu", "cpu.max");
    let of_second = second.iter().filter_map(|text| {
        let (quota, period) = text.split_once(' ')?;
        milli(quota, period.trim())
    });
    let quotas = group_files(sheet, "cpu", "cpu.cfs_quota_us");
    let periods = group_files(sheet, "cpu", "cpu.cfs_period_us");
    let of_first = quotas.iter().zip(&periods).filter_map(|(quota, period)| milli(quota, period));
    of_second.chain(of_first).min()
}

fn mounts(sheet: &Sheet) -> Vec<Mount> {
    sheet.get("/proc/self/mountinfo").unwrap_or_default().lines().filter_map(mount).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn mount(line: &str) -> Option<Mount> {
    let (own, rest) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(4);
    let mut rest = rest.split(' ');
    let unescaped = |text: &str| text.replace("\\040", " ");
    let point = unescaped(own.next()?);
    let own_options = own.next()?;
    let (kind, source) = (rest.next()?.to_owned(), unescaped(rest.next()?));
    let options = own_options.split(',').chain(rest.next().unwrap_or_default().split(','));
    Some(Mount { point, kind, source, options: options.map(str::to_owned).collect() })
}

/// The mount that a path lies on: the longest that begins it, of equals the last, which hides the others.
fn mount_of<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
    let holds = |m: &&Mount| {
        let point = m.point.trim_end_matches('/');
        path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    mounts.iter().filter(holds).max_by_key(|m| m.point.trim_end_matches('/').len())
}

fn shm_bytes(mounts: &[Mount], memory_bytes: u64) -> Option<u64> {
    let mount = mounts.iter().rev().find(|m| m.point == "/dev/shm")?;
    let size = mount.options.iter().find_map(|o| o.strip_prefix("size="));
    // Without a size the kernel gives it half of the memory.
    Some(size.and_then(bytes_of).unwrap_or(memory_bytes / 2))
}

/// `65536k`, `64m`, `1g`, `4096`.
fn bytes_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Whole disks under a device as mounted: itself, the disk of a partition, or those below a mapping.
fn disks_under(sheet: &Sheet, source: &str) -> Vec<Disk> {
    let Some(device) = source.strip_prefix("/dev/") else { return Vec::new() };
    let named = |mapped: &str| {
        let is_it = |disk: &&str| sheet.get(&format!("/sys/block/{disk}/dm/name")) == Some(mapped);
        sheet.names("/sys/block/").find(is_it)
    };
    let device = device.strip_prefix("mapper/").and_then(named).unwrap_or(device);
    let mut names = Vec::new();
    // Encryption on a volume on a mirror on partitions is four deep.
    gather(sheet, device, 8, &mut names);
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| disk(sheet, name)).collect()
}

fn gather<'a>(sheet: &'a Sheet, device: &str, depth: u32, out: &mut Vec<&'a str>) {
    let is_part = |disk: &&str| {
        *disk == device || sheet.names(&format!("/sys/block/{disk}/")).any(|part| part == device)
    };
    let Some(disk) = sheet.names("/sys/block/").find(is_part) else { return };
    let slaves: Vec<&str> = sheet.names(&format!("/sys/block/{disk}/slaves/")).collect();
    match depth {
        0 => {}
        _ if slaves.is_empty() => out.push(disk),
        _ => slaves.iter().for_each(|slave| gather(sheet, slave, depth - 1, out)),
    }
}

fn disk(sheet: &Sheet, name: &str) -> Disk {
    let queue = |file: &str| format!("/sys/block/{name}/queue/{file}");
    Disk {
        name: name.to_owned(),
        // A virtual disk says that it rotates unless its host says otherwise, and knows nothing of it.
        rotates: sheet.number(&queue("rotational")) == Some(1) && !name.starts_with("vd"),
        scheduler: sheet.value(&queue("scheduler")),
        schedulers: sheet.get(&queue("scheduler")).unwrap_or_default().to_owned(),
        depth: sheet.number(&queue("nr_requests")),
    }
}

fn card(sheet: &Sheet, name: &str) -> Card {
    let base = format!("/sys/class/net/{name}");
    let queues = format!("{base}/queues/");
    let receive = sheet.names(&queues).filter(|q| q.starts_with("rx-"));
    let queue = |q: &str| {
        let mask = sheet.get(&format!("{queues}{q}/rps_cpus")).unwrap_or_default();
        Queue { name: q.to_owned(), spread: mask.chars().any(|c| c != '0' && c != ',') }
    };
    let interrupt = |number: u32| {
        let cpus = |file: &str| sheet.get(&format!("/proc/irq/{number}/{file}")).and_then(list);
        let now = cpus("effective_affinity_list").filter(|cpus| !cpus.is_empty());
        Some(Interrupt { number, cpus: now.or_else(|| cpus("smp_affinity_list"))? })
    };
    let dirs = ["device/msi_irqs/", "device/../msi_irqs/"];
    let numbers = dirs.iter().flat_map(|dir| sheet.names(&format!("{base}/{dir}")).collect::<Vec<_>>());
    let mut interrupts: Vec<_> = numbers.filter_map(|n| interrupt(n.parse().ok()?)).collect();
    interrupts.sort_by_key(|i| i.number);
    Card { name: name.to_owned(), receive_queues: receive.map(queue).collect(), interrupts }
}

fn governors(sheet: &Sheet) -> Vec<(u32, String)> {
    let of = |cpu: &str| {
        let path = format!("/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor");
        Some((cpu.strip_prefix("cpu")?.parse().ok()?, sheet.value(&path)?))
    };
    let mut all: Vec<_> = sheet.names("/sys/devices/system/cpu/").filter_map(of).collect();
    all.sort_unstable();
    all
}
