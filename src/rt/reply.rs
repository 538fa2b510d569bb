//! The way back: an answer awaited on one thread and given on another.
//!
//! On a shard the awaiting task is named by a token; the answer travels in a cell, the token through the asker's
//! port, and the shard itself wakes its task. Elsewhere the cell keeps the asker's waker, which any thread may wake.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::rt::doorbell::{OUTSTANDING_MAX, Port};
use crate::rt::error::Refused;
use crate::rt::local;

/// The result of work done elsewhere. Dropping it says that nobody is interested any more.
#[must_use = "an answer that nobody awaits may cancel its question"]
pub struct Answer<R> {
    state: AnswerState<R>,
}

enum AnswerState<R> {
    Refused(Refused),
    Asked { cell: Arc<Cell<R>>, asker: Asker },
}

/// Gives one answer; dropped without one, it says that the answerer has stopped.
pub(crate) struct Replier<R> {
    cell: Arc<Cell<R>>,
    asker: Asker,
    sent: bool,
}

#[derive(Clone)]
enum Asker {
    Shard { port: Arc<Port>, token: u64 },
    Anywhere,
}

struct Cell<R> {
    // Held for a few instructions by either side; a shard's questions to a shard take it uncontended.
    slot: Mutex<Slot<R>>,
    abandoned: AtomicBool,
}

struct Slot<R> {
    value: Option<Result<R, Refused>>,
    waker: Option<Waker>,
}

/// Opens a question from this thread.
pub(crate) fn ask<R>() -> Result<(Replier<R>, Answer<R>), Refused> {
    let asker = match local::current() {
        None => Asker::Anywhere,
        Some(local) => {
            let token = local.waiters.borrow_mut().reserve().ok_or(Refused::Full)?;
            local.pulse.owe(true);
            Asker::Shard { port: local.port.clone(), token }
        }
    };
    let slot = Mutex::new(Slot { value: None, waker: None });
    let cell = Arc::new(Cell { slot, abandoned: AtomicBool::new(false) });
    let replier = Replier { cell: cell.clone(), asker: asker.clone(), sent: false };
    Ok((replier, Answer { state: AnswerState::Asked { cell, asker } }))
}

impl<R> Answer<R> {
    pub(crate) fn refused(why: Refused) -> Answer<R> {
        Answer { state: AnswerState::Refused(why) }
    }
}

impl<R> Cell<R> {
    fn lock(&self) -> MutexGuard<'_, Slot<R>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Future for Answer<R> {
    type Output = Result<R, Refused>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (cell, asker) = match &self.state {
            AnswerState::Refused(why) => return Poll::Ready(Err(*why)),
            AnswerState::Asked { cell, asker } => (cell, asker),
        };
        if let Some(value) = cell.lock().value.take() {
            return Poll::Ready(value);
        }
        match (asker, local::current()) {
            (Asker::Shard { port, token }, Some(local)) if Arc::ptr_eq(port, &local.port) => {
                local.waiters.borrow_mut().wait(*token, cx.waker());
                Poll::Pending
            }
            _ => {
                let mut slot = cell.lock();
                match slot.value.take() {
                    Some(value) => Poll::Ready(value),
                    None => {
                        slot.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            }
        }
    }
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        let AnswerState::Asked { cell, asker } = &self.state else { return };
        cell.abandoned.store(true, Ordering::Relaxed);
        if let (Asker::Shard { token, port }, Some(local)) = (asker, local::current())
            && Arc::ptr_eq(port, &local.port)
        {
            local.waiters.borrow_mut().forget(*token);
        }
    }
}

impl<R> Replier<R> {
    pub(crate) fn send(mut self, value: R) {
        self.finish(Ok(value));
    }

    /// True once the asker has dropped its answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.cell.abandoned.load(Ordering::Relaxed)
    }

    /// Runs `work` and sends its result; where it may be `cancelable`, drops it at its next turn after the asker
    /// has gone.
    pub(crate) async fn attend(self, work: impl Future<Output = R>, cancelable: bool) {
        let mut work = pin!(work);
        let value = poll_fn(|cx| {
            if cancelable && self.is_abandoned() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await;
        if let Some(value) = value {
            self.send(value);
        }
    }

    fn finish(&mut self, value: Result<R, Refused>) {
        if std::mem::replace(&mut self.sent, true) {
            return;
        }
        let waker = {
            let mut slot = self.cell.lock();
            slot.value = Some(value);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        let Asker::Shard { port, token } = &self.asker else { return };
        match local::current() {
            Some(local) if Arc::ptr_eq(port, &local.port) => local.complete(*token),
            _ => port.notify(*token),
        }
    }
}

impl<R> Drop for Replier<R> {
    fn drop(&mut self) {
        self.finish(Err(Refused::Stopped));
    }
}

/// The open questions of one shard. A token stays reserved until its notice has come, even when nobody waits any
/// more: that is what keeps the ring of notices from overflowing.
#[derive(Default)]
pub(crate) struct Waiters {
    slots: Vec<Waiter>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Waiter {
    generation: u32,
    waker: Option<Waker>,
}

impl Waiters {
    fn reserve(&mut self) -> Option<u64> {
        if self.open() >= OUTSTANDING_MAX {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Waiter::default());
            (self.slots.len() - 1) as u32
        });
        Some(u64::from(self.slots[slot as usize].generation) << 32 | u64::from(slot))
    }

    pub(crate) fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn wait(&mut self, token: u64, waker: &Waker) {
        if let Some(waiter) = self.find(token) {
            waiter.waker = Some(waker.clone());
        }
    }

    fn forget(&mut self, token: u64) {
        if let Some(waiter) = self.find(token) {
            waiter.waker = None;
        }
    }

    /// The notice has come: frees the token. `None` when it was free already.
    pub(crate) fn complete(&mut self, token: u64) -> Option<Option<Waker>> {
        let waiter = self.find(token)?;
        waiter.generation = waiter.generation.wrapping_add(1);
        let waker = waiter.waker.take();
        self.free.push(token as u32);
        Some(waker)
    }

    fn find(&mut self, token: u64) -> Option<&mut Waiter> {
        let waiter = self.slots.get_mut(token as u32 as usize)?;
        (waiter.generation == (token >> 32) as u32).then_some(waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn an_answer_crosses_threads() {
        let (replier, answer) = ask::<u32>().expect("room for a question");
        let thread = std::thread::spawn(move || replier.send(7));
        assert_eq!(block_on(answer), Ok(7));
        thread.join().expect("the answering thread");
    }

    #[test]
    fn a_dropped_replier_says_stopped() {
        let (replier, answer) = ask::<u32>().expect("room for a question");
        drop(replier);
        assert_eq!(block_on(answer), Err(Refused::Stopped));
    }

    #[test]
    fn a_dropped_answer_cancels_what_may_be_canceled() {
        let run = |cancelable| {
            let (replier, answer) = ask::<u32>().expect("room for a question");
            drop(answer);
            let ran = std::cell::Cell::new(false);
            block_on(replier.attend(
                async {
                    ran.set(true);
                    1
                },
                cancelable,
            ));
            ran.get()
        };
        assert_eq!((run(true), run(false)), (false, true));
    }

    #[test]
    fn tokens_are_bounded_and_die_with_their_notice() {
        let mut waiters = Waiters::default();
        let tokens: Vec<u64> = std::iter::from_fn(|| waiters.reserve()).collect();
        assert_eq!(tokens.len(), OUTSTANDING_MAX);
        assert!(waiters.complete(tokens[5]).is_some());
        assert!(waiters.complete(tokens[5]).is_none());
        assert!(waiters.reserve().is_some_and(|token| token != tokens[5]));
        assert!(waiters.reserve().is_none());
    }
}
