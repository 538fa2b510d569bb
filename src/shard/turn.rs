//! One at a time: who changes which blocks there are, or what the head still answers for, waits for its turn.

use std::cell::Cell;

use crate::rt::gate::Signal;

#[derive(Default)]
pub struct Turn {
    is_taken: Cell<bool>,
    free: Signal,
}

/// Gives the turn back when dropped.
pub struct Held<'a>(&'a Turn);

impl Turn {
    /// Waits until nobody else has the turn, and takes it.
    pub async fn take(&self) -> Held<'_> {
        self.free.wait_until(|| !self.is_taken.replace(true)).await;
        Held(self)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.is_taken.set(false);
        self.0.free.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn the_second_waits_for_the_first() {
        let turn = Turn::default();
        block_on(async {
            let first = turn.take().await;
            assert!(poll_once(turn.take()).await.is_none());
            drop(first);
            let second = poll_once(turn.take()).await;
            assert!(second.is_some() && poll_once(turn.take()).await.is_none());
        });
    }
}
