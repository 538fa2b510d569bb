//! Messages across threads beside busy cores: none may be lost, whatever the executor does with its wake-ups.
//!
//! Each variant runs 5 s (`SYSTOLE_STRESS_SECONDS` for more); the ignored test runs each for 10 minutes.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use systole::rt::clock::SystemClock;
use systole::rt::{Clock, Machine, Mesh, Moment, Settings, TaskClass};

/// Who asks whom.
#[derive(Clone, Copy, Debug)]
enum Way {
    ThreadToShard,
    ShardToShard,
}

/// What a shard of these tests keeps.
#[derive(Default)]
struct Counter {
    asked: Cell<u64>,
    told: Cell<u64>,
}

type Wire = Mesh<Counter, u64>;

/// A round trip takes well under a second even beside spinning threads; one that takes this long is lost.
const LOST: Duration = Duration::from_secs(10);
const SPINNERS: usize = 3;
const BURST: Duration = Duration::from_millis(4);
const PAUSE: Duration = Duration::from_micros(1500);

#[test]
fn no_message_of_a_thread_is_lost_with_latency_queues() {
    check(Way::ThreadToShard, true);
}

#[test]
fn no_message_of_a_thread_is_lost_without_latency_queues() {
    check(Way::ThreadToShard, false);
}

#[test]
fn no_message_between_shards_is_lost_with_latency_queues() {
    check(Way::ShardToShard, true);
}

#[test]
fn no_message_between_shards_is_lost_without_latency_queues() {
    check(Way::ShardToShard, false);
}

#[test]
fn a_task_that_never_ends_lets_others_run_where_it_yields() {
    let machine = match start(Settings::new(1)) {
        Ok(machine) => machine,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let mesh = machine.mesh();
    let endless = mesh.submit_to(0, TaskClass::Query, |counter: Rc<Counter>| async move {
        let (until, mut sum) = (SystemClock.now() + LOST, 0u64);
        while counter.told.get() < 3 && SystemClock.now() < until {
            for n in 0..3_000u64 {
                sum = std::hint::black_box(sum.wrapping_add(n * n));
            }
            systole::rt::yield_if_needed().await;
        }
        counter.told.get()
    });
    for class in [TaskClass::Rpc, TaskClass::Ingest, TaskClass::Query] {
        let told =
            mesh.submit_to(0, class, |counter| async move { counter.told.set(counter.told.get() + 1) });
        assert!(matches!(wait(told, LOST * 2), Some(Ok(()))), "{class:?}");
    }
    assert!(matches!(wait(endless, LOST * 2), Some(Ok(3))), "the others ran behind it, not beside it");
    machine.stop(Duration::from_secs(10)).expect("the shards stop");
}

#[test]
#[ignore = "40 minutes"]
fn nothing_is_lost_in_ten_minutes_each() {
    for way in [Way::ThreadToShard, Way::ShardToShard] {
        for latency in [true, false] {
            run(way, latency, Duration::from_secs(600));
        }
    }
}

fn check(way: Way, latency: bool) {
    let seconds = std::env::var("SYSTOLE_STRESS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    run(way, latency, Duration::from_secs(seconds));
}

fn run(way: Way, latency: bool, time: Duration) {
    // One at a time: each brings its own contention.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let settings = Settings { latency, watchdog: None, ..Settings::new(2) };
    let machine = match start(settings) {
        Ok(machine) => machine,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let mesh = machine.mesh();
    let spinning = Spinning::start(SPINNERS);
    keep_busy(&mesh, time);
    let mut trips = match way {
        Way::ThreadToShard => ask_from_here(&mesh, time),
        Way::ShardToShard => ask_from_a_shard(&mesh, time),
    };
    drop(spinning);
    trips.sort_unstable();
    let at = |part: f64| trips[((trips.len() - 1) as f64 * part) as usize];
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    println!("{way:?} latency={latency}: {} round trips, p50 {p50:?}, p99 {p99:?}, max {max:?}", trips.len());
    println!("{:#?}", mesh.readings());
    machine.stop(Duration::from_secs(10)).expect("the shards stop");
}

fn start(settings: Settings) -> Result<Machine<Counter, u64>, systole::rt::Error> {
    let build = |_context| async { Ok(Rc::new(Counter::default())) };
    Machine::start(settings, build, |counter: &Rc<Counter>, told: u64| {
        counter.told.set(counter.told.get() + told);
    })
}

/// A query on each shard that works in bursts and yields as it should: the shard parks and wakes between them, which
/// is where a wake-up could be lost.
fn keep_busy(mesh: &Wire, time: Duration) {
    for shard in 0..mesh.shards() {
        let work = move |_counter: Rc<Counter>| async move {
            let until = SystemClock.now() + time;
            let mut sum = 0u64;
            while SystemClock.now() < until {
                let burst = SystemClock.now() + BURST;
                while SystemClock.now() < burst {
                    for n in 0..3_000u64 {
                        sum = std::hint::black_box(sum.wrapping_add(n * n));
                    }
                    systole::rt::yield_if_needed().await;
                }
                systole::rt::sleep(PAUSE).await;
            }
            sum
        };
        // Background runs to its end although nobody waits for it.
        drop(mesh.submit_to(shard, TaskClass::Background, work));
    }
}

fn ask_from_here(mesh: &Wire, time: Duration) -> Vec<Duration> {
    let start = SystemClock.now();
    let mut trips = Vec::new();
    while SystemClock.now().since(start) < time {
        let number = trips.len() as u64;
        let shard = (number % u64::from(mesh.shards())) as u32;
        if number.is_multiple_of(3) {
            std::thread::sleep(Duration::from_micros(number * 7919 % 900));
        }
        let asked = SystemClock.now();
        let answer = mesh.submit_to(shard, TaskClass::Rpc, move |counter| async move {
            counter.asked.set(counter.asked.get() + 1);
            number
        });
        match wait(answer, LOST) {
            Some(Ok(back)) => assert_eq!(back, number),
            other => panic!("lost at {number}: {other:?}; {:#?}", mesh.readings()),
        }
        trips.push(SystemClock.now().since(asked));
    }
    trips
}

/// The same from shard 0 to shard 1, with messages posted beside; all of them must have been delivered at the end.
fn ask_from_a_shard(mesh: &Wire, time: Duration) -> Vec<Duration> {
    let wire = mesh.clone();
    let asking = mesh.submit_to(0, TaskClass::Rpc, move |_counter| async move {
        let start = SystemClock.now();
        let mut trips = Vec::new();
        let mut posted = 0u64;
        while SystemClock.now().since(start) < time {
            let asked = SystemClock.now();
            posted += u64::from(wire.post(1, 1).is_ok());
            let number = trips.len() as u64;
            let back = wire.submit_to(1, TaskClass::Rpc, move |_counter| async move { number }).await;
            assert_eq!(back, Ok(number));
            trips.push(SystemClock.now().since(asked));
            if number.is_multiple_of(64) {
                systole::rt::sleep(Duration::from_micros(number * 7919 % 900)).await;
            }
        }
        wire.flush_all();
        let told = wire.submit_to(1, TaskClass::Rpc, |counter| async move { counter.told.get() }).await;
        (trips, posted, told)
    });
    match wait(asking, time + LOST) {
        Some(Ok((trips, posted, told))) => {
            assert_eq!(told, Ok(posted), "messages delivered and posted");
            trips
        }
        _ => panic!("lost; {:#?}", mesh.readings()),
    }
}

/// What a quiet machine costs and how fast it answers; run it alone, in release.
#[test]
#[ignore = "prints figures"]
fn figures() {
    let machine = start(Settings::new(2)).expect("a machine");
    let mesh = machine.mesh();
    let cpu = || mesh.readings().iter().map(|reading| reading.cpu_seconds).sum::<f64>();
    let (before, seconds) = (cpu(), 10);
    std::thread::sleep(Duration::from_secs(seconds));
    println!("idle: {:.3} % of a core for two shards", (cpu() - before) / seconds as f64 * 100.0);
    let sleepers = mesh.submit_to(0, TaskClass::Ingest, |_counter| async {
        let pulse = systole::rt::pulse().expect("a shard has a pulse");
        for n in 0..10_000u64 {
            let pulse = pulse.clone();
            let work = async move {
                loop {
                    pulse.sleep(Duration::from_micros(15_000_000 - n % 100)).await;
                }
            };
            systole::rt::spawn(TaskClass::Ingest, work).detach();
            systole::rt::sleep(Duration::from_micros(100)).await;
        }
    });
    wait(sleepers, LOST).expect("asleep").expect("asleep");
    let before = cpu();
    std::thread::sleep(Duration::from_secs(15));
    println!("10 000 sleepers of 15 s: {:.3} % of a core", (cpu() - before) / 15.0 * 100.0);
    for way in [Way::ThreadToShard, Way::ShardToShard] {
        let mut trips = match way {
            Way::ThreadToShard => ask_from_here(&mesh, Duration::from_secs(3)),
            Way::ShardToShard => ask_from_a_shard(&mesh, Duration::from_secs(3)),
        };
        trips.sort_unstable();
        let at = |part: f64| trips[((trips.len() - 1) as f64 * part) as usize];
        println!("{way:?}: {} trips, p50 {:?}, p99 {:?}, max {:?}", trips.len(), at(0.5), at(0.99), at(1.0));
    }
    machine.stop(Duration::from_secs(10)).expect("the shards stop");
}

/// Awaits on a plain thread, up to a limit.
pub(crate) fn wait<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let (mut future, until): (_, Moment) = (pin!(future), SystemClock.now() + limit);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = until.since(SystemClock.now());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}

/// Threads that do nothing but take CPU, until dropped.
struct Spinning {
    stop: Arc<AtomicBool>,
}

impl Spinning {
    fn start(threads: usize) -> Spinning {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Spinning { stop }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
