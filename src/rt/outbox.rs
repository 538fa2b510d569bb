//! What one shard holds back for another: messages until the pulse, and mail for which the ring had no room.

use std::collections::VecDeque;

/// What lies in a mailbox: a batch of messages, or one job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mail<M, J> {
    Batch(Vec<M>),
    Job(J),
}

/// Messages that travel together: enough to make the ring's and the bell's share of each small.
pub(crate) const BATCH_MAX: usize = 512;
/// Batches and jobs held back per destination: with a ring of 4 096 before it, a shard this far behind is stuck,
/// and to hold more only hides that.
pub(crate) const HELD_MAX: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Outbox<M, J> {
    batch: Vec<M>,
    held: VecDeque<Mail<M, J>>,
}

impl<M, J> Outbox<M, J> {
    pub(crate) fn new() -> Outbox<M, J> {
        Outbox { batch: Vec::new(), held: VecDeque::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.held.is_empty()
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes a message, or gives it back. True when a batch is full and wants to go.
    pub(crate) fn post(&mut self, message: M) -> Result<bool, M> {
        if self.batch.len() >= BATCH_MAX && !self.seal() {
            return Err(message);
        }
        self.batch.push(message);
        Ok(self.batch.len() >= BATCH_MAX)
    }

    /// Takes a job behind the messages posted before it, or gives it back.
    pub(crate) fn submit(&mut self, job: J) -> Result<(), J> {
        if !self.seal() || self.held.len() >= HELD_MAX {
            return Err(job);
        }
        self.held.push_back(Mail::Job(job));
        Ok(())
    }

    /// Hands on what it can, in order; true when nothing is left.
    pub(crate) fn flush(&mut self, mut push: impl FnMut(Mail<M, J>) -> Result<(), Mail<M, J>>) -> bool {
        self.seal();
        while let Some(mail) = self.held.pop_front() {
            if let Err(mail) = push(mail) {
                self.held.push_front(mail);
                return false;
            }
        }
        // What could not be sealed for want of room has room now.
        self.batch.is_empty() || self.flush(push)
    }

    /// Closes the open batch; false when there is no room to hold it.
    fn seal(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        if self.held.len() >= HELD_MAX {
            return false;
        }
        self.held.push_back(Mail::Batch(std::mem::take(&mut self.batch)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Box = Outbox<u32, &'static str>;

    fn flushed(outbox: &mut Box, room: usize) -> Vec<Mail<u32, &'static str>> {
        let mut out = Vec::new();
        outbox.flush(|mail| {
            if out.len() == room {
                return Err(mail);
            }
            out.push(mail);
            Ok(())
        });
        out
    }

    #[test]
    fn messages_leave_together_and_before_the_job_that_follows() {
        let mut outbox = Box::new();
        assert_eq!((outbox.post(1), outbox.post(2)), (Ok(false), Ok(false)));
        assert_eq!(outbox.submit("read"), Ok(()));
        assert_eq!(outbox.post(3), Ok(false));
        let expect = [Mail::Batch(vec![1, 2]), Mail::Job("read"), Mail::Batch(vec![3])];
        assert_eq!(flushed(&mut outbox, 9), expect);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_finds_no_room_waits_in_order() {
        let mut outbox = Box::new();
        for job in ["a", "b", "c"] {
            assert_eq!(outbox.submit(job), Ok(()));
        }
        assert_eq!(flushed(&mut outbox, 1), [Mail::Job("a")]);
        assert_eq!(flushed(&mut outbox, 9), [Mail::Job("b"), Mail::Job("c")]);
    }

    #[test]
    fn a_full_batch_asks_to_go() {
        let mut outbox = Box::new();
        let answers: Vec<_> = (0..BATCH_MAX as u32).map(|n| outbox.post(n)).collect();
        assert_eq!(answers.last(), Some(&Ok(true)));
        assert!(answers[..BATCH_MAX - 1].iter().all(|a| *a == Ok(false)));
    }

    #[test]
    fn a_full_outbox_gives_back_what_it_cannot_keep() {
        let mut outbox = Box::new();
        let kept = (0..).take_while(|n| outbox.post(*n).is_ok()).count();
        assert_eq!(kept, (HELD_MAX + 1) * BATCH_MAX);
        assert_eq!(outbox.post(77), Err(77));
        assert_eq!(outbox.submit("no"), Err("no"));
        let sent: usize = flushed(&mut outbox, usize::MAX)
            .iter()
            .map(|mail| match mail {
                Mail::Batch(batch) => batch.len(),
                Mail::Job(_) => 0,
            })
            .sum();
        assert_eq!(sent, kept);
    }
}
