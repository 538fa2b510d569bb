//! The mesh: work and messages for the shards, from each other and from the control plane.
//!
//! One ring per shard takes the mail of all; it is bounded, and so is what a shard holds back for a full one.
//! Mail of one sender to one shard is taken up in the order it was sent: a job submitted after messages were
//! posted runs after they were delivered.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::rt::counters::{ShardCounters, ShardReading};
use crate::rt::doorbell::Port;
use crate::rt::error::Refused;
use crate::rt::executor::{TaskClass, spawn, yield_if_needed};
use crate::rt::gate::Signal;
use crate::rt::local;
use crate::rt::outbox::{Mail, Outbox};
use crate::rt::pulse::{Next, Pulse};
use crate::rt::reply::{self, Answer, Replier};

type Job<T> = Box<dyn FnOnce(&Rc<T>) + Send>;
type Deliver<T, M> = Box<dyn Fn(&Rc<T>, M)>;

/// A handle to all shards: `T` is what each keeps, `M` what they tell each other.
pub struct Mesh<T, M> {
    shared: Arc<Shared<T, M>>,
}

/// A message that was not taken, and why.
#[derive(Debug)]
pub struct Unsent<M> {
    pub refused: Refused,
    pub message: M,
}

struct Shared<T, M> {
    machine: u64,
    mailboxes: Vec<CachePadded<Mailbox<T, M>>>,
}

struct Mailbox<T, M> {
    ring: ArrayQueue<Mail<M, Job<T>>>,
    port: Arc<Port>,
    stopped: AtomicBool,
    counters: Arc<ShardCounters>,
}

impl<T, M> Clone for Mesh<T, M> {
    fn clone(&self) -> Self {
        Mesh { shared: self.shared.clone() }
    }
}

impl<T: 'static, M: Send + 'static> Mesh<T, M> {
    pub(crate) fn new(ports: &[Arc<Port>], counters: &[Arc<ShardCounters>], capacity: usize) -> Mesh<T, M> {
        static MACHINES: AtomicU64 = AtomicU64::new(0);
        let mailbox = |(port, counters): (&Arc<Port>, &Arc<ShardCounters>)| {
            CachePadded::new(Mailbox {
                ring: ArrayQueue::new(capacity),
                port: port.clone(),
                stopped: AtomicBool::new(false),
                counters: counters.clone(),
            })
        };
        let mailboxes = ports.iter().zip(counters).map(mailbox).collect();
        Mesh { shared: Arc::new(Shared { machine: MACHINES.fetch_add(1, Relaxed), mailboxes }) }
    }

    pub fn shards(&self) -> u32 {
        self.shared.mailboxes.len() as u32
    }

    /// Runs `work` beside the `T` of `shard`, as a task of `class`, and brings its result back.
    ///
    /// Callable from shards and from any other thread. From a shard it goes behind what was posted to the same
    /// destination. A [`TaskClass::Query`] is dropped at its next turn when the answer is dropped; work of other
    /// classes runs to its end.
    pub fn submit_to<R, F, W>(&self, shard: u32, class: TaskClass, work: W) -> Answer<R>
    where
        R: Send + 'static,
        F: Future<Output = R> + 'static,
        W: FnOnce(Rc<T>) -> F + Send + 'static,
    {
        let (replier, answer) = match reply::ask() {
            Ok(pair) => pair,
            Err(refused) => return Answer::refused(refused),
        };
        match self.send_job(shard, job(class, work, replier)) {
            Ok(()) => answer,
            Err(refused) => Answer::refused(refused),
        }
    }

    /// The same on every shard at once; answers in the order of shards.
    pub fn submit_to_all<R, F, W>(&self, class: TaskClass, work: W) -> Vec<Answer<R>>
    where
        R: Send + 'static,
        F: Future<Output = R> + 'static,
        W: FnOnce(Rc<T>) -> F + Clone + Send + 'static,
    {
        (0..self.shards()).map(|shard| self.submit_to(shard, class, work.clone())).collect()
    }

    /// Tells `shard` something. From a shard the message waits in an outbox for the pulse, a full batch or
    /// [`Mesh::flush`]; from elsewhere it leaves at once.
    pub fn post(&self, shard: u32, message: M) -> Result<(), Unsent<M>> {
        let unsent = |refused, message| Err(Unsent { refused, message });
        let Some(mailbox) = self.shared.mailboxes.get(shard as usize) else {
            return unsent(Refused::Unknown, message);
        };
        if mailbox.stopped.load(Relaxed) {
            return unsent(Refused::Stopped, message);
        }
        let taken = match self.room() {
            Some(room) => room.post(shard, message),
            None => match mailbox.push(Mail::Batch(vec![message])) {
                Err(Mail::Batch(mut batch)) => batch.pop().map_or(Ok(()), Err),
                _ => Ok(()),
            },
        };
        taken.or_else(|message| {
            mailbox.counters.refused.fetch_add(1, Relaxed);
            unsent(Refused::Full, message)
        })
    }

    /// Sends what this shard has posted to `shard` now; true when all of it fitted. Elsewhere there is nothing to
    /// send.
    pub fn flush(&self, shard: u32) -> bool {
        self.room().is_none_or(|room| room.flush(shard))
    }

    /// The same for all destinations.
    pub fn flush_all(&self) -> bool {
        self.room().is_none_or(|room| room.flush_all())
    }

    /// The figures of all shards.
    pub fn readings(&self) -> Vec<ShardReading> {
        let reading = |(shard, mailbox): (usize, &CachePadded<Mailbox<T, M>>)| {
            let (depth, capacity) = (mailbox.ring.len(), mailbox.ring.capacity());
            ShardReading::of(shard as u32, &mailbox.counters, depth, capacity)
        };
        self.shared.mailboxes.iter().enumerate().map(reading).collect()
    }

    fn send_job(&self, shard: u32, job: Job<T>) -> Result<(), Refused> {
        let mailbox = self.shared.mailboxes.get(shard as usize).ok_or(Refused::Unknown)?;
        if mailbox.stopped.load(SeqCst) {
            return Err(Refused::Stopped);
        }
        let taken = match self.room() {
            Some(room) => room.submit(shard, job),
            None => mailbox.push(Mail::Job(job)).is_ok(),
        };
        if !taken {
            mailbox.counters.refused.fetch_add(1, Relaxed);
            return Err(Refused::Full);
        }
        if mailbox.stopped.load(SeqCst) {
            // It stopped while the job was on its way; nobody else will answer what lies there.
            mailbox.empty();
        }
        Ok(())
    }

    /// This shard's own side of the mesh, when this thread is one of its shards.
    fn room(&self) -> Option<Rc<MailRoom<T, M>>> {
        let local = local::current()?;
        if local.machine != self.shared.machine {
            return None;
        }
        local.mail.get()?.clone().downcast().ok()
    }

    pub(crate) fn machine(&self) -> u64 {
        self.shared.machine
    }
}

fn job<T, R, F, W>(class: TaskClass, work: W, replier: Replier<R>) -> Job<T>
where
    T: 'static,
    R: Send + 'static,
    F: Future<Output = R> + 'static,
    W: FnOnce(Rc<T>) -> F + Send + 'static,
{
    Box::new(move |resident| {
        let resident = resident.clone();
        let cancelable = class == TaskClass::Query;
        spawn(class, async move { replier.attend(work(resident), cancelable).await }).detach();
    })
}

impl<T, M> Mailbox<T, M> {
    fn push(&self, mail: Mail<M, Job<T>>) -> Result<(), Mail<M, Job<T>>> {
        self.ring.push(mail)?;
        self.port.bell.ring();
        Ok(())
    }

    /// Drops what lies in the ring; a dropped job answers that the shard has stopped.
    fn empty(&self) {
        while self.ring.pop().is_some() {}
    }
}

/// One shard's side of the mesh.
pub(crate) struct MailRoom<T, M> {
    shared: Arc<Shared<T, M>>,
    shard: u32,
    pulse: Pulse,
    outboxes: RefCell<Vec<Outbox<M, Job<T>>>>,
    /// Outboxes with something in them, so that a quiet pulse looks at none.
    loaded: Cell<bool>,
    resident: OnceCell<Rc<T>>,
    arrived: Signal,
    deliver: Deliver<T, M>,
}

impl<T: 'static, M: Send + 'static> MailRoom<T, M> {
    pub(crate) fn open(
        mesh: &Mesh<T, M>,
        shard: u32,
        pulse: Pulse,
        deliver: impl Fn(&Rc<T>, M) + 'static,
    ) -> Rc<MailRoom<T, M>> {
        let outboxes = mesh.shared.mailboxes.iter().map(|_| Outbox::new()).collect();
        let room = Rc::new(MailRoom {
            shared: mesh.shared.clone(),
            shard,
            pulse: pulse.clone(),
            outboxes: RefCell::new(outboxes),
            loaded: Cell::new(false),
            resident: OnceCell::new(),
            arrived: Signal::new(),
            deliver: Box::new(deliver),
        });
        let flushing = Rc::downgrade(&room);
        pulse.on_beat(move |_now| match flushing.upgrade() {
            Some(room) => {
                room.flush_all();
                Next::Idle
            }
            None => Next::Done,
        });
        room
    }

    /// From now on mail is taken up.
    pub(crate) fn move_in(&self, resident: Rc<T>) {
        let _ = self.resident.set(resident);
        self.arrived.notify();
    }

    pub(crate) fn notify(&self) {
        self.arrived.notify();
    }

    /// Takes up mail for as long as it is polled.
    pub(crate) async fn serve(&self) {
        let mailbox = &self.shared.mailboxes[self.shard as usize];
        self.arrived.wait_until(|| self.resident.get().is_some()).await;
        let Some(resident) = self.resident.get() else { return };
        loop {
            self.arrived.wait_until(|| !mailbox.ring.is_empty()).await;
            while let Some(mail) = mailbox.ring.pop() {
                self.take(resident, mail, &mailbox.counters).await;
                yield_if_needed().await;
            }
        }
    }

    async fn take(&self, resident: &Rc<T>, mail: Mail<M, Job<T>>, counters: &ShardCounters) {
        match mail {
            Mail::Batch(batch) => {
                counters.messages.fetch_add(batch.len() as u64, Relaxed);
                // What was posted between two pulses comes together: taken up in one go, the series of a large page
                // that is new held the shard for 25 to 40 ms.
                for message in batch {
                    (self.deliver)(resident, message);
                    yield_if_needed().await;
                }
            }
            Mail::Job(job) => {
                counters.jobs.fetch_add(1, Relaxed);
                job(resident);
            }
        }
    }

    /// Nothing is taken up any more; questions still lying here are answered with [`Refused::Stopped`].
    pub(crate) fn close(&self) {
        let mailbox = &self.shared.mailboxes[self.shard as usize];
        mailbox.stopped.store(true, SeqCst);
        mailbox.empty();
        // Dropped outside the borrow: a dropped job may reach for its outbox.
        let outboxes = std::mem::take(&mut *self.outboxes.borrow_mut());
        drop(outboxes);
    }

    fn post(&self, shard: u32, message: M) -> Result<(), M> {
        let full = {
            let mut outboxes = self.outboxes.borrow_mut();
            let Some(outbox) = outboxes.get_mut(shard as usize) else { return Err(message) };
            outbox.post(message)?
        };
        if full {
            self.flush(shard);
        } else if !self.loaded.replace(true) {
            self.pulse.ask(self.pulse.now());
        }
        Ok(())
    }

    fn submit(&self, shard: u32, job: Job<T>) -> bool {
        let taken = {
            let mut outboxes = self.outboxes.borrow_mut();
            outboxes.get_mut(shard as usize).map(|outbox| outbox.submit(job))
        };
        // A refused job is dropped here, outside the borrow, and answers its asker by itself.
        let taken = matches!(taken, Some(Ok(())));
        self.flush(shard);
        taken
    }

    fn flush(&self, shard: u32) -> bool {
        let mailbox = &self.shared.mailboxes[shard as usize % self.shared.mailboxes.len()];
        let to_self = shard == self.shard;
        let mut outboxes = self.outboxes.borrow_mut();
        let Some(outbox) = outboxes.get_mut(shard as usize) else { return true };
        if outbox.is_empty() {
            return true;
        }
        let before = outbox.held();
        let done = outbox.flush(|mail| mailbox.ring.push(mail));
        let changed = before > 0 || !done;
        let waiting: usize = if changed { outboxes.iter().map(Outbox::held).sum() } else { 0 };
        drop(outboxes);
        if to_self {
            self.arrived.notify();
        } else {
            mailbox.port.bell.ring();
        }
        if !done {
            self.loaded.set(true);
            self.pulse.ask(self.pulse.now());
        }
        if changed {
            let own = &self.shared.mailboxes[self.shard as usize].counters.waiting_mail;
            own.store(waiting as u64, Relaxed);
        }
        done
    }

    fn flush_all(&self) -> bool {
        if !self.loaded.replace(false) {
            return true;
        }
        // A full ring must not keep the mail of the others.
        let shards = 0..self.shared.mailboxes.len() as u32;
        shards.filter(|shard| !self.flush(*shard)).count() == 0
    }
}
