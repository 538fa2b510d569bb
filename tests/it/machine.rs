//! The runtime on this machine: shards that start and stop, work that arrives, files, sockets, time.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use systole::rt::buffer::Buffer;
use systole::rt::clock::SystemClock;
use systole::rt::disk::{DirLock, DirectDisk, Disk, Mode, Tail};
use systole::rt::net::{Address, Listener, Sharing, Stream, address_of};
use systole::rt::{Answer, Clock, Error, Machine, Mesh, Refused, Settings, ShardContext, TaskClass};

use crate::stress::wait;

type Notes = RefCell<Vec<u32>>;
type Small = Machine<Notes, u32>;

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(shards: u32) -> Settings {
    Settings { watchdog: None, ..Settings::new(shards) }
}

/// A machine whose shards keep the messages they are told; `None` where this machine cannot run one.
fn machine(settings: Settings) -> Option<Small> {
    let build = |_context| async { Ok(Rc::new(Notes::default())) };
    match Machine::start(settings, build, |notes: &Rc<Notes>, note| notes.borrow_mut().push(note)) {
        Ok(machine) => Some(machine),
        Err(Error::Environment(text)) => {
            println!("skipped: {text}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn answered<R: Send>(answer: Answer<R>) -> R {
    match wait(answer, PATIENCE) {
        Some(Ok(value)) => value,
        Some(Err(refused)) => panic!("refused: {refused}"),
        None => panic!("no answer"),
    }
}

/// Runs `work` on shard 0 and waits for it.
fn on_shard<R, F, W>(machine: &Small, work: W) -> R
where
    R: Send + 'static,
    F: Future<Output = R> + 'static,
    W: FnOnce(Rc<Notes>) -> F + Send + 'static,
{
    answered(machine.mesh().submit_to(0, TaskClass::Rpc, work))
}

fn stop(machine: Small) {
    machine.stop(PATIENCE).expect("the shards stop");
}

/// A directory of this test's own on the disk the build lives on.
fn scratch(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a scratch directory");
    dir
}

#[test]
fn more_shards_than_cpus_all_answer() {
    let Some(machine) = machine(settings(5)) else { return };
    let answers = machine.mesh().submit_to_all(TaskClass::Query, |_notes| async { systole::rt::shard_id() });
    let shards: Vec<_> = answers.into_iter().map(answered).collect();
    assert_eq!(shards, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    stop(machine);
}

#[test]
fn messages_come_before_the_work_that_follows_them() {
    let Some(machine) = machine(settings(2)) else { return };
    let mesh = machine.mesh();
    let told = on_shard(&machine, move |_notes| async move {
        for note in 0..2_000 {
            mesh.post(1, note).expect("room for a message");
        }
        mesh.submit_to(1, TaskClass::Rpc, |notes| async move { notes.borrow().clone() }).await
    });
    assert_eq!(told, Ok((0..2_000).collect()));
    stop(machine);
}

#[test]
fn messages_leave_on_the_pulse_without_being_asked() {
    let Some(machine) = machine(settings(2)) else { return };
    let mesh = machine.mesh();
    on_shard(&machine, move |_notes| async move { mesh.post(1, 7).is_ok() && mesh.post(0, 8).is_ok() });
    let told = |shard| {
        answered(machine.mesh().submit_to(
            shard,
            TaskClass::Rpc,
            |notes| async move { notes.borrow().clone() },
        ))
    };
    let until = SystemClock.now() + PATIENCE;
    while (told(0), told(1)) != (vec![8], vec![7]) {
        assert!(SystemClock.now() < until, "not delivered");
        std::thread::sleep(Duration::from_millis(5));
    }
    stop(machine);
}

#[test]
fn a_full_mailbox_refuses_and_counts() {
    // Shard 0 is not built before the test lets it: its mail waits.
    let gate = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (open, (tell, mesh)) = (gate.clone(), std::sync::mpsc::channel());
    let build = move |context: ShardContext<Notes, u32>| {
        let (open, tell) = (open.clone(), tell.clone());
        async move {
            let _ = tell.send(context.mesh.clone());
            while !open.load(std::sync::atomic::Ordering::Relaxed) {
                context.pulse.sleep(Duration::from_millis(1)).await;
            }
            Ok(Rc::new(Notes::default()))
        }
    };
    let small = Settings { mailbox: 4, ..settings(1) };
    let starting = std::thread::spawn(move || Machine::start(small, build, |_: &Rc<Notes>, _: u32| {}));
    let Ok(mesh) = mesh.recv_timeout(PATIENCE) else {
        println!("skipped: {:?}", starting.join().map(|started| started.err()));
        return;
    };
    let mesh: Mesh<Notes, u32> = mesh;
    let answers: Vec<_> =
        (0..4).map(|n| mesh.submit_to(0, TaskClass::Rpc, move |_| async move { n })).collect();
    assert!(matches!(mesh.post(0, 1), Err(unsent) if unsent.refused == Refused::Full && unsent.message == 1));
    assert_eq!(wait(mesh.submit_to(0, TaskClass::Rpc, |_| async {}), PATIENCE), Some(Err(Refused::Full)));
    assert_eq!(mesh.readings()[0].refused, 2);
    assert_eq!(mesh.readings()[0].mailbox_depth, 4);
    gate.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(answers.into_iter().map(answered).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let machine = starting.join().expect("the starting thread").expect("a machine");
    stop(machine);
    assert_eq!(wait(mesh.submit_to(0, TaskClass::Rpc, |_| async {}), PATIENCE), Some(Err(Refused::Stopped)));
    assert_eq!(wait(mesh.submit_to(9, TaskClass::Rpc, |_| async {}), PATIENCE), Some(Err(Refused::Unknown)));
}

#[test]
fn a_query_ends_when_its_asker_has_gone() {
    let Some(machine) = machine(settings(1)) else { return };
    let (left, gone) = std::sync::mpsc::channel();
    let work = move |_notes: Rc<Notes>| async move {
        struct Tell(std::sync::mpsc::Sender<()>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let _tell = Tell(left);
        loop {
            systole::rt::sleep(Duration::from_millis(1)).await;
        }
    };
    let answer: Answer<()> = machine.mesh().submit_to(0, TaskClass::Query, work);
    assert!(gone.recv_timeout(Duration::from_millis(50)).is_err());
    drop(answer);
    assert!(gone.recv_timeout(PATIENCE).is_ok());
    stop(machine);
}

#[test]
fn a_shard_that_cannot_be_built_says_why() {
    let build = |context: ShardContext<Notes, u32>| async move {
        if context.shard == 1 { Err("the log is torn".into()) } else { Ok(Rc::new(Notes::default())) }
    };
    match Machine::start(settings(3), build, |_: &Rc<Notes>, _: u32| {}) {
        Err(Error::Environment(text)) => println!("skipped: {text}"),
        Err(error) => assert_eq!(error.to_string(), "shard 1 did not start: the log is torn"),
        Ok(_) => panic!("it started"),
    }
}

#[test]
fn a_cpu_that_is_not_ours_is_named() {
    let wrong = Settings { cpus: vec![9_999], ..settings(1) };
    let build = |_context| async { Ok(Rc::new(Notes::default())) };
    let error = Machine::start(wrong, build, |_: &Rc<Notes>, _: u32| {}).err().map(|e| e.to_string());
    assert!(error.is_some_and(|text| text.contains("CPU 9999") || text.contains("io_uring")));
}

#[test]
fn five_thousand_sleepers_wake_together_on_the_grid() {
    let Some(machine) = machine(settings(1)) else { return };
    let woken = on_shard(&machine, |_notes| async {
        let pulse = systole::rt::pulse().expect("a shard has a pulse");
        let asleep = pulse.now();
        let tasks: Vec<_> = (0..5_000u64)
            .map(|n| {
                let sleep = pulse.sleep(Duration::from_micros(n * 20));
                systole::rt::spawn(TaskClass::Ingest, sleep)
            })
            .collect();
        for task in tasks {
            task.await;
        }
        pulse.now().since(asleep)
    });
    assert!(woken >= Duration::from_millis(99), "{woken:?}");
    let beats = machine.mesh().readings()[0].beats;
    assert!(beats < 200, "{beats} beats");
    stop(machine);
}

#[test]
fn a_task_that_does_not_yield_is_the_longest_turn_of_its_class() {
    let Some(machine) = machine(settings(1)) else { return };
    on_shard(&machine, |_notes| async {
        let clock = SystemClock::shared();
        let until = clock.now() + Duration::from_millis(40);
        while clock.now() < until {}
        // As long again, in many turns.
        let until = clock.now() + Duration::from_millis(40);
        while clock.now() < until {
            systole::rt::yield_if_needed().await;
        }
    });
    let longest = machine.mesh().readings()[0].turn_max_seconds;
    assert!((0.04..2.0).contains(&longest[TaskClass::Rpc as usize]), "{longest:?}");
    assert!(longest[TaskClass::Background as usize] < 0.04, "{longest:?}");
    stop(machine);
}

#[test]
fn a_direct_file_keeps_what_was_written() {
    let dir = scratch("direct");
    let Some(machine) = machine(Settings { data_dirs: vec![dir.clone()], ..settings(1) }) else { return };
    let path = dir.join("log");
    on_shard(&machine, move |_notes| async move {
        let disk = DirectDisk;
        let file = disk.open(&path, Mode::Create).await.expect("create");
        file.preallocate(1 << 20).await.expect("preallocate");
        let mut buffer = Buffer::zeroed(8192);
        let bytes: Vec<u8> = (0..8192u32).map(|n| (n % 251) as u8).collect();
        buffer.fill_from(&bytes);
        let mut buffer = file.write_at(buffer, 0).await.expect("write");
        buffer.fill_from(&bytes[..4096]);
        file.write_at(buffer, 8192).await.expect("write again");
        file.sync().await.expect("sync");
        assert_eq!(file.size().await.expect("size"), 16384);
        let read = |at, len| {
            let file = file.clone();
            async move { file.read_at(at, len).await.expect("read").to_vec() }
        };
        assert_eq!(read(0, 8192).await, bytes);
        assert_eq!(read(4000, 200).await, bytes[4000..4200]);
        assert_eq!(read(8192 + 4000, 200).await, [&bytes[4000..4096], &[0; 104]].concat());
        assert_eq!(read(16_000, 9_000).await, [0; 384]);
        assert_eq!(
            (read(16_384, 10).await.len(), read(99_999, 10).await.len(), read(5, 0).await.len()),
            (0, 0, 0)
        );
        file.truncate(4096).await.expect("truncate");
        assert_eq!(file.size().await.expect("size"), 4096);
        file.close().await.expect("close");
    });
    stop(machine);
}

#[test]
fn names_change_atomically_off_the_shard() {
    let dir = scratch("names");
    let Some(machine) = machine(settings(1)) else { return };
    on_shard(&machine, move |_notes| async move {
        let disk = DirectDisk;
        let (sub, moved) = (dir.join("a/b"), dir.join("c"));
        disk.create_dir(&sub).await.expect("create");
        disk.publish(&sub.join("meta"), b"first".to_vec()).await.expect("publish");
        disk.publish(&sub.join("meta"), b"second".to_vec()).await.expect("publish over");
        assert_eq!(disk.read(&sub.join("meta")).await.expect("read"), b"second");
        disk.rename(&sub, &moved).await.expect("rename");
        disk.sync_dir(&dir).await.expect("sync");
        let names: Vec<String> = disk.list(&dir).await.expect("list").into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(disk.list(&moved).await.expect("list")[0].size, 6);
        disk.remove(&moved).await.expect("remove");
        assert!(disk.open(&moved.join("meta"), Mode::Read).await.is_err_and(|e| e.is_missing()));
        assert!(disk.read(&moved).await.is_err_and(|e| e.is_missing()));
    });
    stop(machine);
}

#[test]
fn streams_of_both_families_echo() {
    let dir = scratch("sockets");
    let Some(machine) = machine(settings(1)) else { return };
    let path = dir.join("socket");
    let unix = std::os::unix::net::UnixListener::bind(&path).expect("a Unix listener");
    std::thread::spawn(move || {
        if let Ok((mut socket, _)) = unix.accept() {
            let mut copy = socket.try_clone().expect("a second handle");
            let _ = std::io::copy(&mut copy, &mut socket);
        }
    });
    let echoed = on_shard(&machine, move |_notes| async move {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = Listener::bind(any, Sharing::Alone).expect("a listener");
        let taken = Listener::bind(listener.address(), Sharing::Alone);
        assert!(taken.is_err_and(|e| e.to_string().contains("in use")));
        let here = listener.address();
        let serve = async move {
            let mut stream = listener.accept().await.expect("a connection");
            let mut bytes = vec![0; 100_000];
            stream.read_exact(&mut bytes).await.expect("all bytes");
            stream.write_all(&bytes).await.expect("room");
        };
        systole::rt::spawn(TaskClass::Ingest, serve).detach();
        let found = address_of("localhost", here.port()).await.expect("localhost");
        assert!(matches!(found, Address::Tcp(a) if a.port() == here.port()));
        let (tcp, unix) = (Address::Tcp(here), Address::Unix(path));
        (echo(&tcp).await, echo(&unix).await)
    });
    assert_eq!(echoed, (true, true));
    stop(machine);
}

async fn echo(address: &Address) -> bool {
    let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let mut stream = Stream::connect(address).await.expect("a connection");
    let mut back = vec![0; sent.len()];
    stream.write_all(&sent).await.expect("room");
    stream.read_exact(&mut back).await.expect("all bytes");
    back == sent
}

#[test]
fn a_silent_peer_meets_the_deadline_and_a_closed_port_refuses() {
    let Some(machine) = machine(settings(1)) else { return };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = Address::Tcp(silent.local_addr().expect("its address"));
    let outcome = on_shard(&machine, move |_notes| async move {
        let pulse = systole::rt::pulse().expect("a shard has a pulse");
        let asked = pulse.now();
        let exchange = async {
            let mut stream = Stream::connect(&address).await?;
            stream.read(&mut [0; 16]).await
        };
        let ended = pulse.within(asked + Duration::from_millis(200), exchange).await;
        assert!(matches!(ended, Err(Error::TimedOut)));
        assert!(pulse.now().since(asked) >= Duration::from_millis(200));
        drop(silent);
        Stream::connect(&address).await.err().and_then(|e| e.io().map(std::io::Error::kind))
    });
    assert_eq!(outcome, Some(std::io::ErrorKind::ConnectionRefused));
    stop(machine);
}

#[test]
fn a_tail_is_found_as_it_was_left() {
    let path = scratch("tail").join("0");
    let mut tail = Tail::open(&path, 64 << 10).expect("a tail");
    tail.write(4090, b"across a page");
    // Not closed: the next owner maps the same bytes.
    std::mem::forget(tail);
    let found = Tail::open(&path, 64 << 10).expect("the tail again");
    let mut bytes = [0; 13];
    assert!(found.read(4090, &mut bytes) && &bytes == b"across a page");
    assert!(!found.read(65_530, &mut bytes));
    assert_eq!(found.to_vec().len(), 64 << 10);
}

#[test]
fn a_directory_has_one_owner() {
    let dir = scratch("lock");
    let first = DirLock::take(&dir).expect("free");
    let second = DirLock::take(&dir).map_err(|e| e.to_string());
    let expect = format!("data directory {} is in use by process {}", dir.display(), std::process::id());
    assert_eq!(second.err(), Some(expect));
    drop(first);
    assert!(DirLock::take(&dir).is_ok());
}

#[test]
fn a_panicking_task_ends_the_process() {
    let this = std::env::current_exe().expect("this binary");
    let child = std::process::Command::new(this)
        .args(["--exact", "machine::child_that_panics", "--ignored", "--nocapture"])
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&child.stderr).into_owned() + &String::from_utf8_lossy(&child.stdout);
    if said.contains("skipped:") {
        return;
    }
    assert!(!child.status.success());
    assert!(
        said.contains("a query task of shard 0 panicked") && said.contains("as this test wants"),
        "{said}"
    );
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn child_that_panics() {
    let Some(machine) = machine(settings(1)) else { return };
    let answer =
        machine.mesh().submit_to(0, TaskClass::Query, |_notes| async { panic!("as this test wants") });
    let _: Option<Result<(), Refused>> = wait(answer, PATIENCE);
}

#[test]
fn a_hung_shard_is_reported() {
    let (tell, told) = std::sync::mpsc::channel();
    let on_stall = move |stall| {
        let _ = tell.send(stall);
    };
    let dog = systole::rt::watchdog::Watchdog {
        limit: Duration::from_millis(600),
        on_stall: std::sync::Arc::new(on_stall),
    };
    let Some(machine) = machine(Settings { watchdog: Some(dog), ..settings(1) }) else { return };
    drop(machine.mesh().submit_to(0, TaskClass::Background, |_notes| async {
        std::thread::sleep(Duration::from_millis(2_500));
    }));
    let stall = told.recv_timeout(PATIENCE).expect("a report");
    assert_eq!((stall.shard, stall.last_class), (0, Some(TaskClass::Background)));
    stop(machine);
}
