//! The pulse: one grid for the whole box, on which every shard does what can wait.
//!
//! A shard that slept and woke for each small thing apart would spend its time on waking. So sleepers are woken,
//! outboxes flushed and commits considered only at the slots of a grid (100 ms), all of them at once; and where
//! nothing is due the shard sleeps on, at most [`HEARTBEAT_IDLE`].

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::rt::clock::{Clock, Moment};
use crate::rt::counters::ShardCounters;
use crate::rt::error::Error;
use crate::rt::wheel::{Key, Wheel};

/// The grid of a box that nobody hurries: 1 000 scrapes of a 15 s interval fall seven to a slot. On real pages at that
/// pace a grid of 50 ms costs 1.4 times the CPU a sample.
pub const GRID_DEFAULT: Duration = Duration::from_millis(100);
/// The grid of a shard while somebody holds a [`Hurry`].
pub const GRID_HURRIED: Duration = Duration::from_millis(10);
/// Bounds of what [`Grid::set`] accepts: finer costs more than a timer each, coarser delays rows too visibly.
pub const GRID_MIN: Duration = Duration::from_millis(5);
pub const GRID_MAX: Duration = Duration::from_secs(1);
/// The longest a shard sleeps: 0.1 % of a core, and the watchdog sees it live.
pub const HEARTBEAT_IDLE: Duration = Duration::from_millis(100);
/// The longest it sleeps while another thread owes it an answer: rescues a wake-up lost in the executor.
pub const HEARTBEAT_OWED: Duration = Duration::from_millis(10);

/// The spacing of the slots, shared by all shards of a box.
#[derive(Clone, Debug)]
pub struct Grid {
    nanos: Arc<AtomicU64>,
}

impl Grid {
    pub fn new(spacing: Duration) -> Grid {
        let grid = Grid { nanos: Arc::default() };
        grid.set(spacing);
        grid
    }

    /// Takes effect at each shard's next pulse.
    pub fn set(&self, spacing: Duration) {
        self.nanos.store(spacing.clamp(GRID_MIN, GRID_MAX).as_nanos() as u64, Relaxed);
    }

    pub fn spacing(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Relaxed))
    }
}

/// What a callback of the pulse wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call at the first slot from this moment on.
    At(Moment),
    /// Call whenever the shard beats anyway, at the latest after [`HEARTBEAT_IDLE`].
    Idle,
    /// Never call again.
    Done,
}

type Callback = Box<dyn FnMut(Moment) -> Next>;

/// One shard's pulse. Clones are handles to the same one.
#[derive(Clone)]
pub struct Pulse {
    inner: Rc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    grid: Grid,
    counters: Arc<ShardCounters>,
    hurried: Cell<u32>,
    owed: Cell<u32>,
    wheel: RefCell<Wheel>,
    callbacks: RefCell<Vec<(Moment, Callback)>>,
    /// The earliest beat somebody asked for since the last one.
    asked: Cell<Moment>,
    /// When the driver will wake by itself, and how to wake it earlier.
    armed: Cell<Moment>,
    driver: RefCell<Option<Waker>>,
}

impl Pulse {
    /// A pulse on its own, to be driven by [`Pulse::beat`]: what a test of a loop needs.
    pub fn new(clock: Arc<dyn Clock>, grid: Grid) -> Pulse {
        Pulse::counted(clock, grid, Arc::new(ShardCounters::new()))
    }

    pub(crate) fn counted(clock: Arc<dyn Clock>, grid: Grid, counters: Arc<ShardCounters>) -> Pulse {
        let inner = Inner {
            clock,
            grid,
            counters,
            hurried: Cell::new(0),
            owed: Cell::new(0),
            wheel: RefCell::default(),
            callbacks: RefCell::default(),
            asked: Cell::new(Moment::FAR),
            armed: Cell::new(Moment::FAR),
            driver: RefCell::default(),
        };
        Pulse { inner: Rc::new(inner) }
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    pub fn now(&self) -> Moment {
        self.inner.clock.now()
    }

    /// The grid this shard beats on now.
    pub fn spacing(&self) -> Duration {
        let spacing = self.inner.grid.spacing();
        if self.inner.hurried.get() > 0 { spacing.min(GRID_HURRIED) } else { spacing }
    }

    /// Returns at the first slot from `deadline` on. Thousands of sleepers cost one timer.
    pub fn sleep_until(&self, deadline: Moment) -> Sleep {
        Sleep { pulse: self.clone(), deadline, key: None }
    }

    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Runs `future` until the first slot from `deadline` on; then drops it and says so. Put a whole group of
    /// operations under one deadline, not each.
    pub async fn within<F: Future>(&self, deadline: Moment, future: F) -> Result<F::Output, Error> {
        let (mut future, mut sleep) = (pin!(future), self.sleep_until(deadline));
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| Err(Error::TimedOut))
        })
        .await
    }

    /// Calls `callback` at slots, beginning with the next, for as long as it does not answer [`Next::Done`].
    pub fn on_beat(&self, callback: impl FnMut(Moment) -> Next + 'static) {
        self.inner.callbacks.borrow_mut().push((Moment::default(), Box::new(callback)));
        self.ask(self.now());
    }

    /// Has the shard beat at the first slot from `at` on.
    pub fn ask(&self, at: Moment) {
        self.inner.asked.set(self.inner.asked.get().min(at));
        self.arm_by(self.slot_from(at));
    }

    /// Has the driver wake at `at` if it would sleep longer.
    fn arm_by(&self, at: Moment) {
        if at < self.inner.armed.get() {
            self.inner.armed.set(at);
            if let Some(driver) = self.inner.driver.borrow().as_ref() {
                driver.wake_by_ref();
            }
        }
    }

    /// While the guard lives this shard beats on [`GRID_HURRIED`]: for loads whose answers wait for a pulse.
    pub fn hurry(&self) -> Hurry {
        self.inner.hurried.set(self.inner.hurried.get() + 1);
        Hurry { pulse: self.clone() }
    }

    /// Notes that another thread owes this shard an answer (or that it has come).
    pub(crate) fn owe(&self, more: bool) {
        let owed = self.inner.owed.get();
        self.inner.owed.set(if more { owed + 1 } else { owed.saturating_sub(1) });
        if more {
            self.arm_by(self.now() + HEARTBEAT_OWED);
        }
    }

    /// When the driver should beat next.
    pub(crate) fn next_beat(&self) -> Moment {
        let inner = &self.inner;
        let now = self.now();
        let heartbeat = if inner.owed.get() > 0 { HEARTBEAT_OWED } else { HEARTBEAT_IDLE };
        let sleeper = inner.wheel.borrow_mut().earliest().unwrap_or(Moment::FAR);
        let callback = inner.callbacks.borrow().iter().map(|(at, _)| *at).min().unwrap_or(Moment::FAR);
        let due = sleeper.min(callback).min(inner.asked.get());
        // A slot that has just been served is not served twice.
        let slot =
            if due == Moment::FAR { due } else { self.slot_from(due.max(now + Duration::from_nanos(1))) };
        slot.min(now + heartbeat)
    }

    /// One pulse: wakes the sleepers that are due, then calls the callbacks that are. `due` is when it should
    /// have come.
    pub(crate) fn beat_due(&self, due: Moment) {
        let now = self.now();
        let counters = &self.inner.counters;
        counters.beats.fetch_add(1, Relaxed);
        counters.late(now.since(due).as_nanos() as u64);
        self.inner.asked.set(Moment::FAR);
        let mut woken = Vec::new();
        self.inner.wheel.borrow_mut().fire(now, &mut woken);
        woken.into_iter().for_each(Waker::wake);
        self.call_back(now);
        counters.sleepers.store(self.inner.wheel.borrow().len() as u64, Relaxed);
    }

    /// One pulse now, by hand.
    pub fn beat(&self) {
        self.beat_due(self.now());
    }

    fn call_back(&self, now: Moment) {
        // Taken out while they run: a callback may add another.
        let mut callbacks = std::mem::take(&mut *self.inner.callbacks.borrow_mut());
        callbacks.retain_mut(|(at, callback)| {
            let idle = *at == Moment::FAR;
            if !idle && *at > now {
                return true;
            }
            match callback(now) {
                Next::At(next) => *at = next,
                Next::Idle => *at = Moment::FAR,
                Next::Done => return false,
            }
            true
        });
        let mut kept = self.inner.callbacks.borrow_mut();
        callbacks.append(&mut kept);
        *kept = callbacks;
    }

    fn slot_from(&self, at: Moment) -> Moment {
        let spacing = self.spacing().as_nanos() as u64;
        Moment::from_nanos(at.nanos().div_ceil(spacing).saturating_mul(spacing))
    }

    /// Arms the driver: it sleeps until the returned moment, and looks again when it is woken earlier.
    pub(crate) fn arm(&self, cx: &mut Context<'_>) -> Moment {
        let mut driver = self.inner.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
        self.inner.armed.get()
    }

    /// Fixes when the driver wakes next.
    pub(crate) fn rearm(&self) -> Moment {
        let next = self.next_beat();
        self.inner.armed.set(next);
        next
    }
}

/// Holds a shard on the fine grid.
pub struct Hurry {
    pulse: Pulse,
}

impl Drop for Hurry {
    fn drop(&mut self) {
        let hurried = &self.pulse.inner.hurried;
        hurried.set(hurried.get() - 1);
    }
}

/// See [`Pulse::sleep_until`].
pub struct Sleep {
    pulse: Pulse,
    deadline: Moment,
    key: Option<Key>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let wheel = &self.pulse.inner.wheel;
        match self.key {
            Some(key) if wheel.borrow_mut().update(key, cx.waker()) => Poll::Pending,
            Some(_) => {
                self.key = None;
                Poll::Ready(())
            }
            None if self.pulse.now() >= self.deadline => Poll::Ready(()),
            None => {
                let key = wheel.borrow_mut().insert(self.deadline, cx.waker().clone());
                self.pulse.ask_later(self.deadline);
                self.key = Some(key);
                Poll::Pending
            }
        }
    }
}

impl Pulse {
    /// Wakes the driver only if it would oversleep; the wheel itself remembers the deadline.
    fn ask_later(&self, at: Moment) {
        if self.slot_from(at) < self.inner.armed.get() {
            self.ask(at);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.pulse.inner.wheel.borrow_mut().cancel(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::clock::ManualClock;
    use futures_lite::future::{block_on, pending, poll_once};

    const MS: Duration = Duration::from_millis(1);

    fn pulse() -> (Arc<ManualClock>, Pulse) {
        let clock = ManualClock::starting_at(0);
        (clock.clone(), Pulse::new(clock, Grid::new(50 * MS)))
    }

    fn at_ms(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_sleeper_wakes_at_the_first_slot_from_its_deadline() {
        let (clock, pulse) = pulse();
        let mut sleep = pulse.sleep(60 * MS);
        block_on(async {
            assert!(poll_once(&mut sleep).await.is_none());
            assert_eq!(pulse.next_beat(), at_ms(100));
            clock.advance(50 * MS);
            pulse.beat();
            assert!(poll_once(&mut sleep).await.is_none());
            clock.advance(50 * MS);
            pulse.beat();
            assert!(poll_once(&mut sleep).await.is_some());
        });
    }

    #[test]
    fn with_nothing_due_the_heart_beats_slowly_and_faster_when_owed() {
        let (_clock, pulse) = pulse();
        assert_eq!(pulse.next_beat(), at_ms(100));
        pulse.owe(true);
        assert_eq!(pulse.next_beat(), at_ms(10));
        pulse.owe(false);
        assert_eq!(pulse.next_beat(), at_ms(100));
    }

    #[test]
    fn what_is_asked_for_comes_at_the_next_slot() {
        let (clock, pulse) = pulse();
        clock.advance(3 * MS);
        pulse.ask(pulse.now());
        assert_eq!(pulse.next_beat(), at_ms(50));
        let hurry = pulse.hurry();
        assert_eq!(pulse.next_beat(), at_ms(10));
        drop(hurry);
        pulse.beat();
        assert_eq!(pulse.next_beat(), at_ms(103));
    }

    #[test]
    fn a_deadline_ends_what_does_not_end() {
        let (clock, pulse) = pulse();
        block_on(async {
            let mut late = pin!(pulse.within(at_ms(20), pending::<()>()));
            assert!(poll_once(&mut late).await.is_none());
            clock.advance(50 * MS);
            pulse.beat();
            assert!(matches!(poll_once(&mut late).await, Some(Err(Error::TimedOut))));
            assert!(matches!(pulse.within(at_ms(0), async { 7 }).await, Ok(7)));
        });
    }

    #[test]
    fn a_callback_says_when_it_wants_to_be_called() {
        let (clock, pulse) = pulse();
        let calls = Rc::new(RefCell::new(Vec::new()));
        let mut wants = vec![Next::Done, Next::Idle, Next::At(at_ms(200))];
        let seen = calls.clone();
        pulse.on_beat(move |now| {
            seen.borrow_mut().push(now.nanos() / 1_000_000);
            wants.pop().unwrap_or(Next::Done)
        });
        for _ in 0..8 {
            clock.advance(50 * MS);
            pulse.beat();
        }
        assert_eq!(*calls.borrow(), [50, 200, 250]);
    }

    #[test]
    fn a_dropped_sleeper_leaves_no_trace() {
        let (_clock, pulse) = pulse();
        let mut sleep = pulse.sleep(MS);
        block_on(async { assert!(poll_once(&mut sleep).await.is_none()) });
        drop(sleep);
        assert_eq!(pulse.inner.wheel.borrow().len(), 0);
    }
}
