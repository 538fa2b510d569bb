//! How another thread wakes a shard: one byte on a socket that the shard reads inside its own ring.
//!
//! glommio's foreign wakers can lose a wake-up: a completion that wakes nobody, landing between its poll and its
//! run, lets the executor park with runnable tasks. A byte read by an ordinary task cannot be lost that way.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use crossbeam::queue::ArrayQueue;

/// Answers that may be on their way to one shard at a time. A wide query asks every shard once and a scrape
/// resolves one name, so thousands of both fit; the ring of 16 384 words costs 256 KiB.
pub(crate) const OUTSTANDING_MAX: usize = 16_384;

pub(crate) struct Doorbell {
    sender: UnixStream,
    rung: AtomicBool,
}

impl Doorbell {
    /// The bell, and the end that the shard reads.
    pub(crate) fn new() -> io::Result<(Doorbell, UnixStream)> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        Ok((Doorbell { sender, rung: AtomicBool::new(false) }, receiver))
    }

    /// To be called after the mail is in its ring. Only the first of many rings costs a system call.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, SeqCst) {
            // A full socket holds bytes the shard has yet to read: it will wake all the same.
            let _ = (&self.sender).write(&[1]);
        }
    }

    /// To be called after the byte is read and before the rings are emptied: mail pushed from here on rings anew.
    pub(crate) fn answered(&self) {
        self.rung.store(false, SeqCst);
    }
}

/// Where other threads reach a shard, whatever it keeps: its bell, and the tokens of answers that have arrived.
pub(crate) struct Port {
    pub(crate) bell: Doorbell,
    pub(crate) notices: ArrayQueue<u64>,
    pub(crate) stopping: AtomicBool,
    /// Wakes a task of the shard that does nothing: the one waker that another thread may use, and only to get the
    /// shard turning again, never to deliver anything.
    kicker: Mutex<Option<Waker>>,
}

impl Port {
    pub(crate) fn new() -> io::Result<(Port, UnixStream)> {
        let (bell, receiver) = Doorbell::new()?;
        let notices = ArrayQueue::new(OUTSTANDING_MAX);
        let port = Port { bell, notices, stopping: AtomicBool::new(false), kicker: Mutex::new(None) };
        Ok((port, receiver))
    }

    /// Says that the answer named by `token` lies ready.
    pub(crate) fn notify(&self, token: u64) {
        let pushed = self.notices.push(token);
        // Every token was reserved against the same bound before its question left.
        assert!(pushed.is_ok(), "{} notices, more than were asked for", self.notices.len());
        self.bell.ring();
    }

    /// Wakes the shard's executor if it sleeps.
    pub(crate) fn kick(&self) {
        if let Some(waker) = self.kicker.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            waker.wake_by_ref();
        }
    }

    /// What [`Port::kick`] wakes; set and taken back by the shard itself.
    pub(crate) fn set_kicker(&self, waker: Option<Waker>) {
        let before =
            std::mem::replace(&mut *self.kicker.lock().unwrap_or_else(PoisonError::into_inner), waker);
        drop(before);
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, SeqCst);
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn many_rings_are_one_byte_until_answered() {
        let (bell, mut receiver) = Doorbell::new().expect("a socket pair");
        let mut bytes = [0u8; 8];
        for _ in 0..5 {
            bell.ring();
        }
        assert_eq!(receiver.read(&mut bytes).expect("one byte"), 1);
        bell.ring();
        assert!(receiver.read(&mut bytes).is_err());
        bell.answered();
        bell.ring();
        assert_eq!(receiver.read(&mut bytes).expect("one byte"), 1);
    }
}
