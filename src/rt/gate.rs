//! Waiting inside one shard: a signal that many await, and a gate that closes once all have left.
//!
//! Both live on one thread and need no executor of a particular kind.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Wakes all who wait; each then looks for itself whether its condition holds.
#[derive(Default)]
pub struct Signal {
    turns: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Signal {
    pub fn new() -> Signal {
        Signal::default()
    }

    pub fn notify(&self) {
        self.turns.set(self.turns.get() + 1);
        // Taken first: a waker may run code that waits anew.
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Returns at the first [`Signal::notify`] after this call.
    pub async fn wait(&self) {
        let turn = self.turns.get();
        self.wait_until(|| self.turns.get() != turn).await;
    }

    /// Returns once `ready` holds; it is asked now and after every [`Signal::notify`].
    pub async fn wait_until(&self, mut ready: impl FnMut() -> bool) {
        poll_fn(|cx| {
            if ready() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|w| w.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Counts who is inside. Closing lets nobody in and returns when the last has left.
#[derive(Clone, Default)]
pub struct Gate {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    inside: Cell<u32>,
    closing: Cell<bool>,
    changed: Signal,
}

/// Leaves the gate when dropped.
pub struct Pass {
    inner: Rc<Inner>,
}

impl Gate {
    pub fn new() -> Gate {
        Gate::default()
    }

    /// `None` once the gate is closing.
    pub fn enter(&self) -> Option<Pass> {
        if self.inner.closing.get() {
            return None;
        }
        self.inner.inside.set(self.inner.inside.get() + 1);
        Some(Pass { inner: self.inner.clone() })
    }

    pub fn inside(&self) -> u32 {
        self.inner.inside.get()
    }

    pub fn is_closing(&self) -> bool {
        self.inner.closing.get()
    }

    /// Tells all inside to leave, without waiting for them.
    pub fn begin_close(&self) {
        self.inner.closing.set(true);
        self.inner.changed.notify();
    }

    /// Returns when the gate begins to close: what a loop inside races its work with.
    pub async fn closing(&self) {
        self.inner.changed.wait_until(|| self.inner.closing.get()).await;
    }

    /// Closes, and waits for the last to leave.
    pub async fn close(&self) {
        self.begin_close();
        self.inner.changed.wait_until(|| self.inner.inside.get() == 0).await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.inner.inside.set(self.inner.inside.get() - 1);
        self.inner.changed.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, zip};

    #[test]
    fn a_closed_gate_lets_nobody_in_and_waits_for_the_last() {
        block_on(async {
            let gate = Gate::new();
            let pass = gate.enter();
            let mut closing = std::pin::pin!(gate.close());
            assert!(poll_once(&mut closing).await.is_none());
            assert!(gate.enter().is_none());
            drop(pass);
            assert!(poll_once(&mut closing).await.is_some());
        });
    }

    #[test]
    fn a_signal_reaches_all_who_wait() {
        block_on(async {
            let signal = Signal::new();
            let both = zip(signal.wait(), signal.wait());
            let mut both = std::pin::pin!(both);
            assert!(poll_once(&mut both).await.is_none());
            signal.notify();
            assert!(poll_once(&mut both).await.is_some());
        });
    }
}
