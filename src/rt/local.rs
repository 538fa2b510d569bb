//! What a shard's own thread knows of itself, whatever the shard keeps.

use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;

use glommio::TaskQueueHandle;

use crate::rt::counters::ShardCounters;
use crate::rt::doorbell::Port;
use crate::rt::executor::TaskClass;
use crate::rt::pulse::Pulse;
use crate::rt::reply::Waiters;

pub(crate) struct Local {
    /// Tells the machines of one process apart: tests start many.
    pub(crate) machine: u64,
    pub(crate) shard: u32,
    pub(crate) queues: [TaskQueueHandle; TaskClass::COUNT],
    pub(crate) port: Arc<Port>,
    pub(crate) waiters: RefCell<Waiters>,
    pub(crate) pulse: Pulse,
    pub(crate) counters: Arc<ShardCounters>,
    /// The shard's side of its mesh, whose types this file does not know.
    pub(crate) mail: OnceCell<Rc<dyn Any>>,
}

thread_local! {
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// The shard this thread is, if it is one.
pub(crate) fn current() -> Option<Rc<Local>> {
    // A destructor of the thread may ask after its locals are gone.
    LOCAL.try_with(|local| local.borrow().clone()).ok().flatten()
}

pub(crate) fn enter(local: Rc<Local>) {
    LOCAL.with(|slot| *slot.borrow_mut() = Some(local));
}

pub(crate) fn leave() -> Option<Rc<Local>> {
    LOCAL.with(|slot| slot.borrow_mut().take())
}

impl Local {
    /// The answer named by `token` lies ready: wakes who waits for it.
    pub(crate) fn complete(&self, token: u64) {
        let completed = self.waiters.borrow_mut().complete(token);
        if let Some(waker) = completed {
            self.pulse.owe(false);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) fn take_notices(&self) {
        while let Some(token) = self.port.notices.pop() {
            self.complete(token);
        }
        self.counters.outstanding.store(self.waiters.borrow().open() as u64, Relaxed);
    }
}
