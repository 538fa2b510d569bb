//! Work that blocks, on threads of its own: names to resolve, directories to sync.
//!
//! glommio's own blocking pool wakes by the foreign waker that can be lost, and a panic in it hangs its caller;
//! here an answer comes back as any other, and a panic is an answer too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use crate::rt::error::Refused;
use crate::rt::reply::{self, Answer};

type Work = Box<dyn FnOnce() + Send>;

/// Who blocks on what: so that a dead name server cannot hold up a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    Files,
    Names,
}

/// Waiting work per pool. Discovery resolves a few thousand names at most, and each waits only once.
const QUEUE_MAX: usize = 4096;
const FILE_THREADS: usize = 2;
/// A resolver's time-out is seconds: a few dead names must not stop the living.
const NAME_THREADS: usize = 4;

/// Runs `work` on a thread that may block. Callable from shards and from any other thread.
pub fn offload<R: Send + 'static>(
    blocking: Blocking,
    work: impl FnOnce() -> R + Send + 'static,
) -> Answer<R> {
    let (replier, answer) = match reply::ask() {
        Ok(pair) => pair,
        Err(refused) => return Answer::refused(refused),
    };
    let run: Work = Box::new(move || {
        if let Ok(value) = catch_unwind(AssertUnwindSafe(work)) {
            replier.send(value);
        }
    });
    match pool(blocking).try_send(run) {
        Ok(()) => answer,
        Err(TrySendError::Full(_)) => Answer::refused(Refused::Full),
        Err(TrySendError::Disconnected(_)) => Answer::refused(Refused::Stopped),
    }
}

/// Work waiting for a thread now.
pub fn waiting(blocking: Blocking) -> usize {
    pool(blocking).len()
}

fn pool(blocking: Blocking) -> &'static Sender<Work> {
    static FILES: OnceLock<Sender<Work>> = OnceLock::new();
    static NAMES: OnceLock<Sender<Work>> = OnceLock::new();
    match blocking {
        Blocking::Files => FILES.get_or_init(|| start("files", FILE_THREADS)),
        Blocking::Names => NAMES.get_or_init(|| start("names", NAME_THREADS)),
    }
}

fn start(name: &str, threads: usize) -> Sender<Work> {
    let (sender, receiver) = bounded(QUEUE_MAX);
    for number in 0..threads {
        let receiver: Receiver<Work> = receiver.clone();
        let worker = std::thread::Builder::new().name(format!("{name}-{number}"));
        // Without any thread the receiver is gone and every caller is told so.
        let spawned = worker.spawn(move || receiver.iter().for_each(|work| work()));
        if let Err(error) = spawned {
            tracing::error!("no thread for blocking work: {error}");
        }
    }
    sender
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn offloaded_work_answers() {
        assert_eq!(block_on(offload(Blocking::Files, || 6 * 7)), Ok(42));
    }

    #[test]
    fn a_panic_is_an_answer() {
        let answer = offload(Blocking::Names, || -> u8 { panic!("as this test wants") });
        assert_eq!(block_on(answer), Err(Refused::Stopped));
    }
}
