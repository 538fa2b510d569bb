//! Counts the instructions of a stretch of code by single steps of a child that is traced.
//!
//! The child stops itself (SIGSTOP) before and behind each stretch; between the two stops the parent steps it. The
//! few instructions from one stop and to the other are counted too, always the same.
//!
//! What would make two counts differ is taken away: the environment is empty, and the processor has no AVX-512. For
//! the last, libc is told by its tunables, and the answers of CPUID are changed while the standard library asks for
//! them, which it does once. Where addresses lie was seen to make no difference to any path.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::paths::HotPath;

/// The argument that makes this program the child.
pub(crate) const CHILD: &str = "--counted";

/// The child saw AVX-512 all the same.
const SEES_AVX512: u8 = 3;

/// A path is some ten thousand instructions, the start of the child a million; this many are an endless loop.
const STEPS_MAX: u64 = 20_000_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// This machine cannot count: say so and go on.
    #[error("{0}")]
    Unable(String),
    /// The child did what it should not: a bug here or in a path.
    #[error("{0}")]
    Broken(String),
}

fn unable(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Unable(format!("{what}: {error}"))
}

/// Counts each path, in order.
pub(crate) fn count(paths: &[HotPath]) -> Result<Vec<(&'static str, u64)>, Error> {
    if !has_avx2() {
        return Err(Error::Unable("the record is for AVX2, which this processor lacks".to_owned()));
    }
    // Both on one CPU: a step is then a switch and no message to another.
    let ours = sched_getaffinity(Pid::from_raw(0)).map_err(|e| unable("affinity", e))?;
    let one = (0..CpuSet::count()).find(|cpu| ours.is_set(*cpu).unwrap_or(false));
    let mut alone = CpuSet::new();
    let pinned = one
        .and_then(|cpu| alone.set(cpu).ok())
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &alone).ok());
    pinned.ok_or_else(|| Error::Unable("no CPU to count on".to_owned()))?;

    let program = std::env::current_exe().map_err(|e| unable("own path", e))?;
    let mut command = Command::new(program);
    command.arg0("gate").arg(CHILD).env_clear();
    command.env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM");
    let child = command.spawn().map_err(|e| unable("start the child", e))?;
    let mut traced = Traced { pid: Pid::from_raw(child.id() as i32), ended: false };
    traced.stopped("the child may not be traced (ptrace is forbidden here)")?;
    traced.hide_avx512()?;
    let mut counts = Vec::new();
    for path in paths {
        traced.go_on()?;
        traced.stopped(path.name)?;
        counts.push((path.name, traced.steps(path.name)?));
    }
    traced.go_on()?;
    traced.end()?;
    Ok(counts)
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// The child's whole life.
pub(crate) fn child() -> ExitCode {
    let stop = || raise(Signal::SIGSTOP).is_ok();
    if ptrace::traceme().is_err() || !stop() {
        return ExitCode::FAILURE;
    }
    // The first question to the standard library: the parent changes the answers that it keeps.
    #[cfg(target_arch = "x86_64")]
    let sees_avx512 = std::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let sees_avx512 = false;
    if !stop() {
        return ExitCode::FAILURE;
    }
    for path in crate::paths::ALL {
        let mut run = (path.prepare)();
        // Buffers grow and caches fill the first time.
        run();
        if !stop() {
            return ExitCode::FAILURE;
        }
        run();
        if !stop() {
            return ExitCode::FAILURE;
        }
    }
    if sees_avx512 { ExitCode::from(SEES_AVX512) } else { ExitCode::SUCCESS }
}

struct Traced {
    pid: Pid,
    ended: bool,
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.ended {
            let _ = ptrace::kill(self.pid);
            let _ = waitpid(self.pid, None);
        }
    }
}

impl Traced {
    fn wait(&mut self) -> Result<WaitStatus, Error> {
        let status = waitpid(self.pid, None).map_err(|e| Error::Broken(format!("wait: {e}")))?;
        self.ended = matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        Ok(status)
    }

    /// Waits for the child to stop itself.
    fn stopped(&mut self, otherwise: &str) -> Result<(), Error> {
        match self.wait()? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(()),
            WaitStatus::Exited(_, 1) => Err(Error::Unable(otherwise.to_owned())),
            other => Err(Error::Broken(format!("{otherwise}: {other:?}"))),
        }
    }

    fn go_on(&self) -> Result<(), Error> {
        ptrace::cont(self.pid, None).map_err(|e| Error::Broken(format!("go on: {e}")))
    }

    /// Steps once; false at the child's own stop.
    fn step(&mut self, place: &str) -> Result<bool, Error> {
        ptrace::step(self.pid, None).map_err(|e| Error::Broken(format!("{place}: step: {e}")))?;
        match self.wait()? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(true),
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(false),
            other => Err(Error::Broken(format!("{place}: {other:?}"))),
        }
    }

    /// Steps to the child's own stop.
    fn steps(&mut self, place: &str) -> Result<u64, Error> {
        for steps in 0..STEPS_MAX {
            if !self.step(place)? {
                return Ok(steps);
            }
        }
        Err(Error::Broken(format!("{place}: no end after {STEPS_MAX} instructions")))
    }

    /// Steps to the child's own stop; what CPUID says of AVX-512 on the way is made a no.
    #[cfg(target_arch = "x86_64")]
    fn hide_avx512(&mut self) -> Result<(), Error> {
        let broken = |e: nix::Error| Error::Broken(format!("features: {e}"));
        for _ in 0..STEPS_MAX {
            let before = ptrace::getregs(self.pid).map_err(broken)?;
            let code = ptrace::read(self.pid, before.rip as ptrace::AddressType).map_err(broken)?;
            let asks_features = code & 0xffff == CPUID && before.rax as u32 == 7 && before.rcx as u32 == 0;
            if !self.step("features")? {
                return Ok(());
            }
            if asks_features {
                let mut after = ptrace::getregs(self.pid).map_err(broken)?;
                after.rbx &= !AVX512_IN_EBX;
                after.rcx &= !AVX512_IN_ECX;
                ptrace::setregs(self.pid, after).map_err(broken)?;
            }
        }
        Err(Error::Broken("features: no end".to_owned()))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn hide_avx512(&mut self) -> Result<(), Error> {
        Err(Error::Unable("only x86-64 is counted".to_owned()))
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.wait()? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, code) if code == i32::from(SEES_AVX512) => {
                Err(Error::Unable("AVX-512 cannot be hidden: it was asked for before".to_owned()))
            }
            other => Err(Error::Broken(format!("the end: {other:?}"))),
        }
    }
}

/// `0f a2`, little end first.
#[cfg(target_arch = "x86_64")]
const CPUID: i64 = 0xa20f;
/// F, DQ, IFMA, PF, ER, CD, BW, VL.
#[cfg(target_arch = "x86_64")]
const AVX512_IN_EBX: u64 = 1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
/// VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
#[cfg(target_arch = "x86_64")]
const AVX512_IN_ECX: u64 = 1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14;
