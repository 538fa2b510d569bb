//! What this kernel and container allow, found out before anything starts and said in one clear message.

use std::io;

use crate::rt::error::Error;

/// What the process stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// CPUs that this process may use, ascending.
    pub cpus: Vec<usize>,
    /// Bytes that it may lock in memory; `None` without a limit.
    pub memlock: Option<u64>,
}

/// The executor refuses to start below this.
const MEMLOCK_MIN: u64 = 512 * 1024;
/// Registered buffers per executor: 2 MiB serve a log and block reads; the default of 10 cost 22 MB pinned each.
const IO_MEMORY_MAX: u64 = 2 << 20;
const IO_MEMORY_MIN: u64 = 64 << 10;

/// Fails with what is missing and how to fix it.
pub fn probe() -> Result<Ground, Error> {
    ring().map_err(|e| Error::Environment(uring_advice(&e, uring_disabled())))?;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let ground = Ground { cpus: allowed_cpus()?, memlock: memlock_of(&limits) };
    match ground.memlock {
        Some(limit) if limit < MEMLOCK_MIN => Err(Error::Environment(memlock_advice(limit))),
        _ => Ok(ground),
    }
}

/// Whether a ring can be had: the kernel's own error when not.
pub fn ring() -> io::Result<()> {
    io_uring::IoUring::new(8).map(drop)
}

impl Ground {
    /// The CPUs to pin shards to: the wanted ones if this process may use them, else all it may use.
    pub fn choose(&self, wanted: &[usize]) -> Result<Vec<usize>, Error> {
        if let Some(cpu) = wanted.iter().find(|cpu| !self.cpus.contains(cpu)) {
            return Err(Error::Environment(format!(
                "CPU {cpu} is not among those this process may use ({}); name others, or widen its affinity \
                 (taskset, cpuset, AllowedCPUs=)",
                list(&self.cpus)
            )));
        }
        Ok(if wanted.is_empty() { self.cpus.clone() } else { wanted.to_vec() })
    }

    /// Registered buffers for each of `shards` executors. Each registers them with three rings, and the kernel
    /// counts every one against the limit; a quarter of it is left to others.
    pub(crate) fn io_memory(&self, shards: u32) -> usize {
        let fair = self.memlock.map_or(IO_MEMORY_MAX, |limit| limit / 4 / u64::from(shards.max(1)));
        (fair.clamp(IO_MEMORY_MIN, IO_MEMORY_MAX) & !4095) as usize
    }
}

fn allowed_cpus() -> Result<Vec<usize>, Error> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
    cpus.sort_unstable();
    if cpus.is_empty() {
        return Err(Error::Environment("the kernel does not say which CPUs this process may use".into()));
    }
    Ok(cpus)
}

/// `kernel.io_uring_disabled`: 0 for all, 1 for the privileged, 2 for none; absent on older kernels.
fn uring_disabled() -> Option<String> {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    Some(value.trim().to_owned()).filter(|v| v != "0")
}

fn uring_advice(error: &io::Error, disabled: Option<String>) -> String {
    let fix = match (error.raw_os_error(), disabled) {
        (_, Some(value)) => format!("it is switched off: `sysctl kernel.io_uring_disabled=0` (now {value})"),
        (Some(libc::ENOSYS), _) => "this kernel has none: Linux 5.10 or newer is needed".to_owned(),
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp profile forbids it: with Docker or Kubernetes allow \
             io_uring_setup, io_uring_enter and io_uring_register in the profile"
                .to_owned()
        }
        (Some(libc::ENOMEM), _) => {
            "too little memory may be locked: `ulimit -l unlimited`, or LimitMEMLOCK= \
             in the unit"
                .to_owned()
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => "too many files are open: raise `ulimit -n`".to_owned(),
        _ => "Linux 5.10 or newer with io_uring is needed".to_owned(),
    };
    format!("io_uring does not work here ({error}); {fix}")
}

fn memlock_advice(limit: u64) -> String {
    format!(
        "only {} KiB of memory may be locked and {} KiB are needed; `ulimit -l 8192`, LimitMEMLOCK=8M in the unit, \
         or `--ulimit memlock=8388608` with Docker",
        limit / 1024,
        MEMLOCK_MIN / 1024
    )
}

/// The soft limit in the text of `/proc/self/limits`; `None` when unlimited or not there.
fn memlock_of(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `0-3,6` for 0 1 2 3 6.
fn list(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|a, b| a + 1 == *b);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_fit_or_says_why_not() {
        match probe() {
            Ok(ground) => assert!(!ground.cpus.is_empty()),
            Err(error) => assert!(error.to_string().len() > 40, "{error}"),
        }
    }

    #[test]
    fn the_limit_is_read_as_the_kernel_writes_it() {
        let check = |line: &str, expect| assert_eq!(memlock_of(line), expect, "{line}");
        check("Max locked memory         8388608              8388608              bytes", Some(8_388_608));
        check("Max locked memory         unlimited            unlimited            bytes", None);
        check("", None);
    }

    #[test]
    fn each_fault_names_its_fix() {
        let check = |code, disabled: Option<&str>, expect: &str| {
            let advice = uring_advice(&io::Error::from_raw_os_error(code), disabled.map(str::to_owned));
            assert!(advice.contains(expect), "{advice}");
        };
        check(libc::EPERM, None, "seccomp");
        check(
            libc::EPERM,
            Some("2"),
            "sysctl kernel.io_uring_disabled=0 (now 2)".split(" (").next().unwrap_or(""),
        );
        check(libc::ENOSYS, None, "5.10");
        check(libc::ENOMEM, None, "ulimit -l");
        assert!(memlock_advice(65_536).starts_with("only 64 KiB"));
    }

    #[test]
    fn wanted_cpus_must_be_allowed() {
        let ground = Ground { cpus: vec![0, 1, 2, 5], memlock: None };
        assert_eq!(ground.choose(&[]).ok(), Some(vec![0, 1, 2, 5]));
        assert_eq!(ground.choose(&[5, 0]).ok(), Some(vec![5, 0]));
        let refusal = ground.choose(&[7]).map_err(|e| e.to_string());
        assert!(refusal.is_err_and(|text| text.contains("CPU 7") && text.contains("(0-2,5)")));
    }

    #[test]
    fn buffers_fit_the_limit() {
        let memory = |memlock, shards| Ground { cpus: vec![0], memlock }.io_memory(shards);
        assert_eq!(memory(None, 64), 2 << 20);
        assert_eq!(memory(Some(8 << 20), 2), 1 << 20);
        assert_eq!(memory(Some(512 << 10), 64), 64 << 10);
    }
}
