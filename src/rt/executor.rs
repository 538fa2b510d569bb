//! One executor per shard, pinned to its CPU; tasks run in classes with shares.
//!
//! A panic in any task ends the process: half a shard is worse than none, and the log makes a restart cheap.

use std::cell::OnceCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};

use crate::rt::clock::{Clock, Moment, SystemClock};
use crate::rt::counters::{ShardCounters, TURN_WINDOW, this_thread};
use crate::rt::doorbell::Port;
use crate::rt::error::{Error, io_error};
use crate::rt::gate::{Gate, Signal};
use crate::rt::local::{self, Local};
use crate::rt::mesh::{MailRoom, Mesh};
use crate::rt::net::Stream;
use crate::rt::probe;
use crate::rt::pulse::{GRID_DEFAULT, Grid, Pulse};
use crate::rt::rng::Rng;
use crate::rt::watchdog::{self, Watchdog, Watched};

/// Whose turn a task takes: each class is a queue with shares of the CPU, and three of them with a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskClass {
    /// The beat itself, which wakes who sleeps: behind a hundred pages that are read for the first time it was late
    /// by as many turns.
    Pulse,
    /// Scrapes, rows, the log: what must be on time.
    Ingest,
    /// Short work that somebody waits for.
    Rpc,
    /// Reads of any length; they yield.
    Query,
    /// Sealing and compaction: what is left.
    Background,
}

impl TaskClass {
    pub const COUNT: usize = 5;
    pub const ALL: [TaskClass; TaskClass::COUNT] =
        [TaskClass::Pulse, TaskClass::Ingest, TaskClass::Rpc, TaskClass::Query, TaskClass::Background];

    pub const fn name(self) -> &'static str {
        match self {
            TaskClass::Pulse => "pulse",
            TaskClass::Ingest => "ingest",
            TaskClass::Rpc => "rpc",
            TaskClass::Query => "query",
            TaskClass::Background => "background",
        }
    }

    const fn shares(self) -> usize {
        match self {
            TaskClass::Pulse | TaskClass::Ingest => 1000,
            TaskClass::Rpc => 500,
            TaskClass::Query => 200,
            TaskClass::Background => 50,
        }
    }

    /// Measured beside a query: a 1 ms ticker's p99 is 1.2 ms with this latency and 200-400 ms without.
    const fn latency(self) -> Option<Duration> {
        match self {
            TaskClass::Pulse | TaskClass::Ingest | TaskClass::Rpc => Some(PREEMPT_TIMER),
            TaskClass::Query | TaskClass::Background => None,
        }
    }
}

/// The default of 100 ms gives 198 ms round trips on a busy shard; each way through a shard that reads for a query waits
/// so long at most. It is the price of a wide query: 3 % of its CPU at 500 us, a fifth at 250 us.
const PREEMPT_TIMER: Duration = Duration::from_micros(500);
/// Each idle socket holds an armed poll, and the kernel's cancel table has a sixteenth as many buckets: with
/// 1 000 sockets and the default of 128, walking that table was 18 % of all CPU.
const RING_DEPTH: usize = 4096;
/// How long an executor may be parked by mistake: longer than from making a timer to polling it.
const PARKED_MAX: Duration = Duration::from_micros(20);
/// How long a shard's thread may take to begin, and how many are started at most: each that does not costs a stack and
/// the rings of an executor.
const SEATING_MAX: Duration = Duration::from_millis(500);
const SEATINGS_MAX: usize = 32;
/// How long a stopping shard waits for those inside its gate.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Expressions nest and futures are moved on the stack; only what is touched is ever real memory.
const STACK: usize = 8 << 20;
/// How often a shard publishes its busy time.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub struct Settings {
    /// May exceed the CPUs: shards then share them.
    pub shards: u32,
    /// The CPUs to pin to, in turn; empty for all that this process may use.
    pub cpus: Vec<usize>,
    /// Directories whose devices shards will use directly: each gets a non-empty file that is opened first.
    pub data_dirs: Vec<PathBuf>,
    pub grid: Duration,
    /// Jobs and batches that may wait in one shard's ring. At 64 bytes each, 4 096 are 256 KiB.
    pub mailbox: usize,
    pub watchdog: Option<Watchdog>,
    pub clock: Arc<dyn Clock>,
    pub seed: u64,
    /// Whether ingest and rpc have a latency; without, they have shares alone. Only tests turn it off.
    pub latency: bool,
}

impl Settings {
    pub fn new(shards: u32) -> Settings {
        Settings {
            shards,
            cpus: Vec::new(),
            data_dirs: Vec::new(),
            grid: GRID_DEFAULT,
            mailbox: 4096,
            watchdog: Some(Watchdog::exiting()),
            clock: SystemClock::shared(),
            seed: Rng::from_entropy().next_u64(),
            latency: true,
        }
    }
}

/// What a shard is built from.
pub struct ShardContext<T, M> {
    pub shard: u32,
    pub shards: u32,
    pub cpu: usize,
    pub pulse: Pulse,
    pub clock: Arc<dyn Clock>,
    pub mesh: Mesh<T, M>,
    pub grid: Grid,
    /// A stream of chance of this shard's own.
    pub rng: Rng,
    /// Closes when the machine stops; loops enter it and race their waits with [`Gate::closing`].
    pub gate: Gate,
}

/// Why a shard could not be built, in its builder's words.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// All shards of the process, running.
pub struct Machine<T, M> {
    mesh: Mesh<T, M>,
    grid: Grid,
    threads: Vec<ShardThread>,
    watchdog: Option<watchdog::Guard>,
}

struct ShardThread {
    port: Arc<Port>,
    counters: Arc<ShardCounters>,
    handle: JoinHandle<()>,
}

impl<T: 'static, M: Send + 'static> Machine<T, M> {
    /// Starts the shards and returns when each has been built by `factory`, on its own thread. Messages are handed
    /// to `deliver` on the shard they were posted to; mail that arrives while a shard is being built waits.
    pub fn start<F, Fut, D>(settings: Settings, factory: F, deliver: D) -> Result<Machine<T, M>, Error>
    where
        F: Fn(ShardContext<T, M>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Rc<T>, Failure>> + 'static,
        D: Fn(&Rc<T>, M) + Clone + Send + 'static,
    {
        end_on_panic();
        let ground = probe::probe()?;
        let cpus = ground.choose(&settings.cpus)?;
        let shards = settings.shards.max(1);
        for dir in &settings.data_dirs {
            crate::rt::disk::prepare_device(dir)?;
        }
        let mut ports = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..shards {
            let (port, receiver) =
                Port::new().map_err(|e| Error::Environment(format!("no socket pair: {e}")))?;
            ports.push(Arc::new(port));
            receivers.push(receiver);
        }
        let counters: Vec<_> = (0..shards).map(|_| Arc::new(ShardCounters::new())).collect();
        let mesh = Mesh::new(&ports, &counters, settings.mailbox);
        let grid = Grid::new(settings.grid);
        let (started, starting) = mpsc::channel();
        let mut threads = Vec::new();
        for (shard, receiver) in (0..shards).zip(receivers) {
            let seat = Seat {
                shard,
                cpu: cpus[shard as usize % cpus.len()],
                settings: settings.clone(),
                io_memory: ground.io_memory(shards),
                port: ports[shard as usize].clone(),
                counters: counters[shard as usize].clone(),
                mesh: mesh.clone(),
                grid: grid.clone(),
                started: started.clone(),
            };
            let (port, counters) = (seat.port.clone(), seat.counters.clone());
            let handle =
                seated(Parts { seat, receiver, factory: factory.clone(), deliver: deliver.clone() })?;
            threads.push(ShardThread { port, counters, handle });
        }
        drop(started);
        let mut machine = Machine { mesh, grid, threads, watchdog: None };
        // While they are built, shards may be kicked but not reported: a recovery may be long and hold its core.
        machine.watchdog = Some(machine.watch(None));
        machine.settled(starting, settings.watchdog)
    }

    /// Waits for all shards to be built; on a failure stops those that were.
    fn settled(
        mut self,
        starting: mpsc::Receiver<Result<u32, Error>>,
        watchdog: Option<Watchdog>,
    ) -> Result<Machine<T, M>, Error> {
        for _ in 0..self.threads.len() {
            let built = starting
                .recv()
                .unwrap_or_else(|_| Err(Error::Start { shard: 0, reason: "its thread ended".into() }));
            if let Err(error) = built {
                let _ = self.stop(CLOSE_GRACE);
                return Err(error);
            }
        }
        self.watchdog = Some(self.watch(watchdog));
        Ok(self)
    }

    fn watch(&self, watchdog: Option<Watchdog>) -> watchdog::Guard {
        let watched = |(shard, thread): (usize, &ShardThread)| {
            Watched::new(shard as u32, thread.counters.clone(), thread.port.clone())
        };
        watchdog::watch(self.threads.iter().enumerate().map(watched).collect(), watchdog)
    }

    pub fn mesh(&self) -> Mesh<T, M> {
        self.mesh.clone()
    }

    /// The box's grid, to be made finer or coarser while it runs.
    pub fn grid(&self) -> Grid {
        self.grid.clone()
    }

    /// Closes every shard's gate, lets those inside leave, and ends the threads. Submit a last job to each shard
    /// first, if what it keeps must be brought to rest.
    pub fn stop(mut self, patience: Duration) -> Result<(), Error> {
        // No reports any more, but a shard that must stop may need a kick as well.
        self.watchdog = Some(self.watch(None));
        for thread in &self.threads {
            thread.port.stop();
        }
        let clock = SystemClock;
        let until = clock.now() + patience;
        let late = |threads: &[ShardThread]| threads.iter().filter(|t| !t.handle.is_finished()).count();
        while late(&self.threads) > 0 && clock.now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        match late(&self.threads) {
            0 => Ok(()),
            count => Err(Error::Stop { count }),
        }
    }
}

/// All that a shard's thread starts with.
struct Seat<T, M> {
    shard: u32,
    cpu: usize,
    settings: Settings,
    io_memory: usize,
    port: Arc<Port>,
    counters: Arc<ShardCounters>,
    mesh: Mesh<T, M>,
    grid: Grid,
    started: mpsc::Sender<Result<u32, Error>>,
}

/// What becomes a shard on the thread that takes it.
struct Parts<T, M, F, D> {
    seat: Seat<T, M>,
    receiver: std::os::unix::net::UnixStream,
    factory: F,
    deliver: D,
}

/// A shard that waits to be taken, and which thread has taken it.
struct Berth<P> {
    parts: Mutex<(Option<P>, usize)>,
    taken: Condvar,
}

impl<P> Berth<P> {
    fn take(&self, thread: usize) -> Option<P> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = parts.0.take();
        if taken.is_some() {
            parts.1 = thread;
            self.taken.notify_all();
        }
        taken
    }

    /// Waits until a thread has taken it; `None` where none does so in time.
    fn taken_within(&self, patience: Duration) -> Option<usize> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.taken.wait_timeout_while(parts, patience, |parts| parts.0.is_some());
        let (parts, _) = waited.unwrap_or_else(PoisonError::into_inner);
        parts.0.is_none().then_some(parts.1)
    }
}

/// Starts a shard's thread, and another one where the executor of the first parks before it has run anything: taken off
/// its CPU for a turn between its first poll and its first run, it takes its queues for empty, and nothing that could
/// wake it is there yet. Such a thread sleeps until the process ends.
fn seated<T, M, F, Fut, D>(parts: Parts<T, M, F, D>) -> Result<std::thread::JoinHandle<()>, Error>
where
    T: 'static,
    M: Send + 'static,
    F: Fn(ShardContext<T, M>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Rc<T>, Failure>> + 'static,
    D: Fn(&Rc<T>, M) + Send + 'static,
{
    let shard = parts.seat.shard;
    let berth = Arc::new(Berth { parts: Mutex::new((Some(parts), 0)), taken: Condvar::new() });
    let mut handles = Vec::new();
    while handles.len() < SEATINGS_MAX {
        let (berth_of_thread, number) = (berth.clone(), handles.len());
        let handle = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .stack_size(STACK)
            .spawn(move || Parts::run(&berth_of_thread, number))
            .map_err(|e| Error::Start { shard, reason: e.to_string() })?;
        handles.push(handle);
        if let Some(number) = berth.taken_within(SEATING_MAX) {
            return Ok(handles.swap_remove(number));
        }
    }
    Err(Error::Start { shard, reason: format!("{SEATINGS_MAX} threads were started and none has begun") })
}

impl<T, M, F, Fut, D> Parts<T, M, F, D>
where
    T: 'static,
    M: Send + 'static,
    F: Fn(ShardContext<T, M>) -> Fut,
    Fut: Future<Output = Result<Rc<T>, Failure>> + 'static,
    D: Fn(&Rc<T>, M) + 'static,
{
    fn run(berth: &Berth<Self>, number: usize) {
        let executor = {
            let parts = berth.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(parts) = &parts.0 else { return };
            parts.seat.executor()
        };
        let executor = match executor {
            Ok(executor) => executor,
            Err(reason) => {
                if let Some(Parts { seat, .. }) = berth.take(number) {
                    let _ = seat.started.send(Err(Error::Start { shard: seat.shard, reason }));
                    seat.counters.finished.store(true, Relaxed);
                }
                return;
            }
        };
        let body = AssertUnwindSafe(|| {
            executor.run(async {
                let Some(Parts { seat, receiver, factory, deliver }) = berth.take(number) else { return };
                let counters = seat.counters.clone();
                counters.thread.store(this_thread(), Relaxed);
                seat.live(receiver, factory, deliver).await;
                counters.finished.store(true, Relaxed);
            });
        });
        if catch_unwind(body).is_err() {
            die("a shard panicked");
        }
    }
}

impl<T: 'static, M: Send + 'static> Seat<T, M> {
    fn executor(&self) -> Result<LocalExecutor, String> {
        LocalExecutorBuilder::new(Placement::Fixed(self.cpu))
            .name("shard")
            .preempt_timer(PREEMPT_TIMER)
            .io_memory(self.io_memory)
            .ring_depth(RING_DEPTH)
            .make()
            .map_err(|e| format!("its executor on CPU {}: {e}", self.cpu))
    }

    fn enter(&self) -> Rc<Local> {
        let queue = |class: TaskClass| {
            let latency = match class.latency() {
                Some(latency) if self.settings.latency => Latency::Matters(latency),
                _ => Latency::NotImportant,
            };
            glommio::executor().create_task_queue(Shares::Static(class.shares()), latency, class.name())
        };
        let clock = self.settings.clock.clone();
        let local = Rc::new(Local {
            machine: self.mesh.machine(),
            shard: self.shard,
            queues: TaskClass::ALL.map(queue),
            port: self.port.clone(),
            waiters: Default::default(),
            pulse: Pulse::counted(clock, self.grid.clone(), self.counters.clone()),
            counters: self.counters.clone(),
            mail: OnceCell::new(),
        });
        local::enter(local.clone());
        local
    }

    async fn live<F, Fut, D>(self, receiver: std::os::unix::net::UnixStream, factory: F, deliver: D)
    where
        F: Fn(ShardContext<T, M>) -> Fut,
        Fut: Future<Output = Result<Rc<T>, Failure>> + 'static,
        D: Fn(&Rc<T>, M) + 'static,
    {
        // Before anything else: from here on a shard that parks by mistake can be woken, whatever ran or did not.
        kick_me(&self.port).await;
        // And is: until the heart beats, and says itself when, it is late from now on.
        self.counters.due.store(SystemClock.now().nanos(), Relaxed);
        let local = self.enter();
        let room = MailRoom::open(&self.mesh, self.shard, local.pulse.clone(), deliver);
        let _ = local.mail.set(room.clone());
        sample_busy(&local);
        let stopping = Rc::new(Signal::new());
        let (serving, hearing) = (room.clone(), stopping.clone());
        let tasks = [
            spawn(TaskClass::Pulse, drive(local.clone())),
            // Without a latency: a foreign wake of a task that has one interrupts the executor even when it is awake,
            // and could bring about the very thing it is to end.
            spawn(TaskClass::Background, be_kicked(local.port.clone())),
            spawn(TaskClass::Ingest, async move { serving.serve().await }),
            spawn(TaskClass::Rpc, hear(local.clone(), receiver, room.clone(), hearing)),
        ];
        let gate = Gate::new();
        match self.build(&local, &gate, factory).await {
            Ok(resident) => {
                room.move_in(resident);
                let _ = self.started.send(Ok(self.shard));
                stopping.wait_until(|| self.port.stopping.load(SeqCst)).await;
                let grace = local.pulse.now() + CLOSE_GRACE;
                let _ = local.pulse.within(grace, gate.close()).await;
            }
            Err(error) => {
                let _ = self.started.send(Err(error));
            }
        }
        self.port.set_kicker(None);
        room.close();
        for task in tasks {
            task.cancel().await;
        }
        drop(local::leave());
    }

    async fn build<F, Fut>(&self, local: &Rc<Local>, gate: &Gate, factory: F) -> Result<Rc<T>, Error>
    where
        F: Fn(ShardContext<T, M>) -> Fut,
        Fut: Future<Output = Result<Rc<T>, Failure>> + 'static,
    {
        for dir in &self.settings.data_dirs {
            crate::rt::disk::open_device(dir).await?;
        }
        let context = ShardContext {
            shard: self.shard,
            shards: self.mesh.shards(),
            cpu: self.cpu,
            pulse: local.pulse.clone(),
            clock: self.settings.clock.clone(),
            mesh: self.mesh.clone(),
            grid: self.grid.clone(),
            rng: Rng::seeded(self.settings.seed).fork(u64::from(self.shard)),
            gate: gate.clone(),
        };
        // As a task of its own, so that it is accounted like any other.
        let built = spawn(TaskClass::Ingest, factory(context)).await;
        built.map_err(|e| Error::Start { shard: self.shard, reason: e.to_string() })
    }
}

/// Reads the doorbell, and passes on what it rang for.
async fn hear<T: 'static, M: Send + 'static>(
    local: Rc<Local>,
    receiver: std::os::unix::net::UnixStream,
    room: Rc<MailRoom<T, M>>,
    stopping: Rc<Signal>,
) {
    let mut bell = Stream::from_unix(receiver);
    // Longer than any run of bytes between two answers, so that each read empties the socket.
    let mut bytes = [0u8; 64];
    while let Ok(count) = bell.read(&mut bytes).await {
        if count == 0 {
            break;
        }
        local.port.bell.answered();
        local.counters.rings.fetch_add(1, Relaxed);
        local.take_notices();
        room.notify();
        if local.port.stopping.load(SeqCst) {
            stopping.notify();
        }
    }
}

/// Has the task that awaits this be the one that is kicked.
async fn kick_me(port: &Port) {
    poll_fn(|cx| {
        port.set_kicker(Some(cx.waker().clone()));
        Poll::Ready(())
    })
    .await;
}

/// Does nothing, so that being woken does nothing but turn the executor.
async fn be_kicked(port: Arc<Port>) {
    poll_fn(|cx| {
        port.set_kicker(Some(cx.waker().clone()));
        Poll::<()>::Pending
    })
    .await;
}

/// Beats the pulse for as long as it is polled.
async fn drive(local: Rc<Local>) {
    let (pulse, counters) = (&local.pulse, &local.counters);
    let timer_to = |due: Moment| {
        let sleep = due.since(pulse.now());
        counters.due.store((SystemClock.now() + sleep).nanos(), Relaxed);
        glommio::timer::Timer::new(sleep)
    };
    loop {
        let mut due = pulse.rearm();
        let mut timer = timer_to(due);
        poll_fn(|cx| {
            let earlier = pulse.arm(cx);
            if earlier < due {
                due = earlier;
                timer = timer_to(due);
            }
            Pin::new(&mut timer).poll(cx)
        })
        .await;
        pulse.beat_due(due);
    }
}

/// Publishes how long the shard's queues have run, a few times a second.
fn sample_busy(local: &Rc<Local>) {
    let (counters, queues) = (local.counters.clone(), local.queues);
    let mut last = Moment::default();
    let mut window = local.pulse.now();
    local.pulse.on_beat(move |now| {
        if now.since(window) >= TURN_WINDOW {
            window = now;
            counters.turn_window();
        }
        if now.since(last) >= SAMPLE_EVERY {
            last = now;
            let executor = glommio::executor();
            counters.busy_ns.store(executor.executor_stats().executor_runtime().as_nanos() as u64, Relaxed);
            for (class, queue) in queues.iter().enumerate() {
                let runtime = executor.task_queue_stats(*queue).map(|stats| stats.runtime());
                let nanos = runtime.unwrap_or_default().as_nanos() as u64;
                counters.class_busy_ns[class].store(nanos, Relaxed);
            }
        }
        crate::rt::pulse::Next::Idle
    });
}

/// A running task. Dropping it cancels the task; [`Task::detach`] lets it run on its own.
#[must_use = "a task is canceled when its handle is dropped"]
pub struct Task<R> {
    inner: glommio::Task<R>,
}

impl<R> Task<R> {
    pub fn detach(self)
    where
        R: 'static,
    {
        drop(self.inner.detach());
    }

    /// Cancels, and waits until the task is gone; its result, if it had finished.
    pub async fn cancel(self) -> Option<R> {
        self.inner.cancel().await
    }
}

impl<R> Future for Task<R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// Starts a task on this shard.
///
/// # Panics
/// On a thread that is no shard: nothing there could run it.
pub fn spawn<R: 'static>(class: TaskClass, future: impl Future<Output = R> + 'static) -> Task<R> {
    let Some(local) = local::current() else { panic!("a {} task spawned outside a shard", class.name()) };
    let queue: TaskQueueHandle = local.queues[class as usize];
    let counters = local.counters.clone();
    let accounted = async move {
        let mut future = pin!(future);
        poll_fn(move |cx| {
            counters.enter(class);
            let began = SystemClock.now();
            let polled = future.as_mut().poll(cx);
            // Most turns are over before the timer: they cost one look at the clock, not two.
            if glommio::executor().need_preempt() {
                counters.turned(class, SystemClock.now().since(began));
            }
            polled
        })
        .await
    };
    match glommio::spawn_local_into(accounted, queue) {
        Ok(inner) => Task { inner },
        Err(error) => panic!("the {} queue of this shard is gone: {}", class.name(), io_error(error)),
    }
}

/// Lets others run if this task has had its turn; call it every 10-50 us of work. Outside a shard it does nothing.
pub async fn yield_if_needed() {
    if local::current().is_some() && glommio::executor().need_preempt() {
        give_way().await;
    }
}

/// Behind whoever else is runnable, with a timer beside: where the executor is taken off its CPU for longer than a turn
/// just before it would run its queues, it takes them for empty and parks until it is kicked, but not for longer than
/// to the next timer.
async fn give_way() {
    let mut timer = glommio::timer::Timer::new(PARKED_MAX);
    let mut has_given_way = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_given_way, true) {
            return Poll::Ready(());
        }
        // Polled so that the executor knows of it. Were it due already, it would not be waited for.
        let _ = Pin::new(&mut timer).poll(cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Sleeps by a timer of its own, exactly; for the few who cannot wait for the pulse. On a shard only.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// This shard's number; `None` on any other thread.
pub fn shard_id() -> Option<u32> {
    local::current().map(|local| local.shard)
}

/// This shard's pulse; `None` on any other thread.
pub fn pulse() -> Option<Pulse> {
    local::current().map(|local| local.pulse.clone())
}

/// Has a panic on a shard end the process where it happens: unwinding would run destructors that answer others as
/// if all were well. Panics elsewhere are left to whoever minds them.
fn end_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            if let Some(local) = local::current() {
                let class = local.counters.last_class().map_or("no", TaskClass::name);
                die(&format!("a {class} task of shard {} panicked: {panic}", local.shard));
            }
        }));
    });
}

/// Says what broke and ends the process.
fn die(what: &str) -> ! {
    tracing::error!("{what}; ending the process");
    eprintln!("systole: {what}; ending the process");
    std::process::abort();
}
