//! The kernel's calls that std does not have: readiness of many sockets, another process's CPU clock, signals.
//!
//! In: file descriptors and process ids. Out: readiness events, nanoseconds. Owns: the epoll descriptor.
//! Runs on: the thread that calls. Invariant: every call's result is checked before its output is read.
//! Never: moves a byte of a page; std's own sockets do that.
//!
//! Readiness by epoll and not completions by io_uring: a page is one `writev` of 146 KB, of which the copy into
//! the socket is the cost; the calls around it are below 2 % of the server's time, so a ring buys nothing here.
#![allow(unsafe_code)]
// The reason for the line above: these six calls exist only as foreign functions.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// What a socket is watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    Read,
    Write,
}

impl Interest {
    fn bits(self) -> u32 {
        match self {
            Interest::Read => libc::EPOLLIN as u32,
            Interest::Write => libc::EPOLLOUT as u32,
        }
    }
}

/// Events taken from the kernel at one turn; the rest comes at the next.
const EVENTS_MAX: usize = 512;

/// Tells which of many sockets can be read or written, level-triggered.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made by the kernel for us and nobody else closes it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Poller { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    pub fn add(&self, fd: &impl AsRawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), token, interest)
    }

    /// Changes what `fd` is watched for. A closed descriptor leaves the poller by itself.
    pub fn change(&self, fd: &impl AsRawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), token, interest)
    }

    fn control(&self, operation: i32, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        // SAFETY: `event` lives across the call, and the kernel copies it.
        let rc = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for at most `timeout`; appends the tokens of ready sockets to `ready`.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<u64>) -> io::Result<()> {
        let timeout_ms = timeout.as_millis().min(i32::MAX as u128) as i32;
        // SAFETY: the buffer holds EVENTS_MAX events and the kernel is told so.
        let n = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_MAX as i32, timeout_ms)
        };
        if n < 0 {
            let e = io::Error::last_os_error();
            return if e.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(e) };
        }
        ready.extend(self.events[..n as usize].iter().map(|e| e.u64));
        Ok(())
    }
}

fn read_clock(clock: libc::clockid_t) -> Option<Duration> {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for the result, read only where the call succeeded.
    let rc = unsafe { libc::clock_gettime(clock, &mut t) };
    (rc == 0).then(|| Duration::new(t.tv_sec.max(0) as u64, t.tv_nsec.clamp(0, 999_999_999) as u32))
}

/// CPU time, user and system, of all threads a process has had; `None` when it is gone.
pub fn process_cpu(pid: u32) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place for the result, read only where the call succeeded.
    let rc = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if rc == 0 { read_clock(clock) } else { None }
}

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
}

/// Asks a process we started to end.
pub fn terminate(pid: u32) {
    // SAFETY: no pointers; a pid that is gone gives an error, which is what we want to know nothing of.
    let _ = unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

/// Ends a process we started, at once.
pub fn kill(pid: u32) {
    // SAFETY: as above.
    let _ = unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}

/// Makes a child end with the thread that spawns it, so that a killed run leaves no server behind.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only one async-signal-safe system call is made, and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        })
    }
}

/// Raises the soft limit of open files to the hard one; returns what is allowed now.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result; setrlimit only reads it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 0;
        }
        let soft = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
            return soft;
        }
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn readable_socket_is_reported_with_its_token() -> io::Result<()> {
        let (mut a, b) = UnixStream::pair()?;
        let mut poller = Poller::new()?;
        poller.add(&b, 7, Interest::Read)?;
        let mut ready = Vec::new();
        poller.wait(Duration::ZERO, &mut ready)?;
        assert!(ready.is_empty());
        a.write_all(b"x")?;
        poller.wait(Duration::from_secs(5), &mut ready)?;
        assert_eq!(ready, [7]);
        Ok(())
    }

    #[test]
    fn own_cpu_clock_runs_and_a_dead_pid_has_none() {
        assert!(process_cpu(std::process::id()).is_some());
        assert_eq!(process_cpu((1 << 22) - 1), None);
    }
}
