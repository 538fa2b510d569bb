//! Thousands of scrape targets in one thread: each an address of its own in 127.0.0.0/8, one port for all.
//!
//! In: a shape and an interval. Out: pages over HTTP/1.1, and a log of what was served when. Owns: listeners,
//! connections, bodies. Runs on: a thread of its own. Invariant: what the log says was served left whole.
//! Never: listens outside loopback, formats a body in answer to a request.
//!
//! An address per target, and not a path, because it is what a fleet looks like: every scraper then keeps a
//! connection per target, as it does in life.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::{Context, Error};
use crate::ring::{self, Interest, Poller};
use crate::shape::format::Format;
use crate::shape::{Bodies, Body, Shape, compress, mix};

/// 127.1.0.1 onward, 250 hosts a block of the last byte and 250 blocks of the third: two second bytes hold 125 000.
pub const TARGETS_MAX: usize = 100_000;
/// Requests remembered per target; the oldest go first. 4 096 one-second scrapes are more than an hour.
const LOG_MAX: usize = 4096;
/// A scraper's request head; anything longer is not a scraper.
const REQUEST_BYTES_MAX: usize = 8192;
/// Holds one page of 146 KB with the kernel's bookkeeping, so that it leaves in one call.
const SEND_BUFFER_BYTES: usize = 512 << 10;
/// One waiting connection per listener is the rule; scrapers that reconnect at once need a few.
const BACKLOG: i32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// When the request had arrived, unix microseconds.
    pub at_us: i64,
    pub version: u64,
    /// The target was down and said so: no page was shown.
    pub down: bool,
}

/// What the targets have answered.
#[derive(Default)]
pub struct Log {
    pub by_target: Vec<VecDeque<Served>>,
    pub requests: u64,
    pub samples: u64,
    pub bytes: u64,
    /// Pages whose sending was cut off by the scraper.
    pub aborted: u64,
    /// Answers of targets that were down.
    pub downs: u64,
    /// Pages in the form that the options name; others were not asked for in it.
    pub formatted: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub targets: usize,
    pub interval: Duration,
    pub gzip: bool,
    /// The form of pages where the scraper asks for it; text otherwise.
    pub format: Format,
    /// Share of the time that a target is down, in 65536ths.
    pub down: u32,
    /// Longest delay of an answer; each is drawn anew.
    pub jitter: Duration,
}

impl Options {
    /// Targets that answer at once, always, in plain text.
    pub fn plain(targets: usize, interval: Duration) -> Options {
        Options { targets, interval, gzip: false, format: Format::Text, down: 0, jitter: Duration::ZERO }
    }
}

/// Scrapes that a target stays down for.
const DOWN_VERSIONS: u64 = 4;

/// Whether a target is down at a version.
fn is_down(options: &Options, target_idx: usize, version: u64) -> bool {
    (mix(0xd0, target_idx as u64, version / DOWN_VERSIONS) & 0xffff) < u64::from(options.down)
}

/// The running server.
pub struct Targets {
    pub shape: Arc<Shape>,
    pub options: Options,
    pub port: u16,
    pub epoch_us: i64,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    cpu_ns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// The address of a target; distinct for every index below [`TARGETS_MAX`].
pub fn address(target_idx: usize, port: u16) -> SocketAddr {
    let (block, host) = (target_idx / 250, target_idx % 250);
    SocketAddr::from((Ipv4Addr::new(127, 1 + (block / 250) as u8, (block % 250) as u8, 1 + host as u8), port))
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Targets {
    pub fn start(shape: Arc<Shape>, options: Options) -> Result<Self, Error> {
        if options.targets == 0 || options.targets > TARGETS_MAX {
            return Err(Error::Usage(format!("targets must be 1 to {TARGETS_MAX}")));
        }
        let files = ring::raise_open_files();
        let wanted = 2 * options.targets as u64 + 64;
        if files < wanted {
            return Err(Error::Usage(format!(
                "{} targets need {wanted} open files, {files} are allowed: raise the hard limit (ulimit -Hn)",
                options.targets
            )));
        }
        let (port, listeners) = listen(options.targets)?;
        let log =
            Arc::new(Mutex::new(Log { by_target: vec![VecDeque::new(); options.targets], ..Log::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let epoch_us = clock::unix_us();
        let server = Server {
            shape: shape.clone(),
            options,
            epoch_us,
            bodies: Bodies::new(&shape, options.targets, options.format, options.gzip),
            texts: (options.format != Format::Text)
                .then(|| Bodies::new(&shape, options.targets, Format::Text, options.gzip)),
            held: BinaryHeap::new(),
            serial: 0,
            tick: 0,
            poller: Poller::new().context(|| "epoll".to_string())?,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            log: log.clone(),
        };
        let (stopped, cpu) = (stop.clone(), cpu_ns.clone());
        let thread = std::thread::Builder::new()
            .name("targets".into())
            .spawn(move || server.run(&stopped, &cpu))
            .context(|| "thread".to_string())?;
        Ok(Targets { shape, options, port, epoch_us, log, stop, cpu_ns, thread: Some(thread) })
    }

    /// The log, borrowed: the server waits meanwhile, so look and let go.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    /// CPU time the serving thread has used.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }

    /// The name targets have in their `instance` label.
    pub fn instance(&self, target_idx: usize) -> String {
        address(target_idx, self.port).to_string()
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Finds one port that is free on all the addresses.
fn listen(targets: usize) -> Result<(u16, Vec<TcpListener>), Error> {
    let mut last = None;
    for _ in 0..16 {
        match try_listen(targets) {
            Ok(found) => return Ok(found),
            Err(e) => last = Some(e),
        }
    }
    let source = last.unwrap_or_else(|| io::Error::other("no free port"));
    Err(Error::Io { what: "listening on loopback".into(), source })
}

fn try_listen(targets: usize) -> io::Result<(u16, Vec<TcpListener>)> {
    let mut port = 0;
    let mut listeners = Vec::with_capacity(targets);
    for target_idx in 0..targets {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&address(target_idx, port).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok((port, listeners))
}

struct Connection {
    stream: TcpStream,
    target_idx: usize,
    request: Vec<u8>,
    answer: Option<Answer>,
    /// The answer is there and waits for its time.
    held: bool,
    /// The poller watches for room to write.
    writing: bool,
    serial: u64,
}

/// A response on its way out: a small head of its own, and a body shared with others.
struct Answer {
    head: Vec<u8>,
    body: Option<Arc<Body>>,
    gzip: bool,
    sent: usize,
    served: Served,
    samples: usize,
    formatted: bool,
}

impl Answer {
    fn body_bytes(&self) -> &[u8] {
        match &self.body {
            Some(b) if self.gzip => b.gzip.as_deref().unwrap_or_default(),
            Some(b) => &b.plain,
            None => &[],
        }
    }

    /// Sends what the socket takes; true when all is out.
    fn send(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        loop {
            let (head, body) = (self.head.len(), self.body_bytes().len());
            if self.sent == head + body {
                return Ok(true);
            }
            let parts = [
                IoSlice::new(&self.head[self.sent.min(head)..]),
                IoSlice::new(&self.body_bytes()[self.sent.saturating_sub(head)..]),
            ];
            match stream.write_vectored(&parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

struct Server {
    shape: Arc<Shape>,
    options: Options,
    epoch_us: i64,
    bodies: Bodies,
    /// The same in text, for scrapers that do not ask for the other form.
    texts: Option<Bodies>,
    /// Answers that wait for their time: when, which connection, and its serial number.
    held: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    serial: u64,
    tick: u64,
    poller: Poller,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    log: Arc<Mutex<Log>>,
}

/// Tokens from here on are listeners.
const LISTENER: u64 = 1 << 32;
/// How long the server may sleep when nobody asks: bounds the delay of a stop and of a body built ahead.
const IDLE: Duration = Duration::from_millis(200);

impl Server {
    fn run(mut self, stop: &AtomicBool, cpu_ns: &AtomicU64) {
        for (i, l) in self.listeners.iter().enumerate() {
            if let Err(e) = self.poller.add(l, LISTENER + i as u64, Interest::Read) {
                eprintln!("targets: epoll: {e}");
                return;
            }
        }
        let mut ready = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            ready.clear();
            if let Err(e) = self.poller.wait(self.patience(), &mut ready) {
                eprintln!("targets: epoll: {e}");
                return;
            }
            self.advance();
            for &token in &ready {
                if token >= LISTENER {
                    self.accept((token - LISTENER) as usize);
                } else {
                    self.serve(token as usize, false);
                }
            }
            self.release();
            cpu_ns.store(ring::thread_cpu().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// How long to sleep: until the next answer is due at most.
    fn patience(&self) -> Duration {
        let due = self.held.peek().map(|Reverse((due, ..))| due.saturating_duration_since(clock::now()));
        // Rounded up to what the kernel's wait can tell apart, or it would spin for the last millisecond.
        due.map_or(IDLE, |d| IDLE.min(d + Duration::from_millis(1)))
    }

    /// Sends the answers whose time has come.
    fn release(&mut self) {
        while let Some(Reverse((due, slot, serial))) = self.held.peek().copied() {
            if due > clock::now() {
                return;
            }
            self.held.pop();
            if self.connections[slot].as_ref().is_some_and(|c| c.serial == serial) {
                self.serve(slot, true);
            }
        }
    }

    /// Builds the bodies of a new tick once, before anyone asks.
    fn advance(&mut self) {
        let elapsed = (clock::unix_us() - self.epoch_us).max(0) as u128;
        let tick = (elapsed / self.options.interval.as_micros().max(1)) as u64;
        if tick != self.tick {
            self.tick = tick;
            self.bodies.advance(&self.shape, tick);
            if let Some(texts) = &mut self.texts {
                texts.advance(&self.shape, tick);
            }
        }
    }

    fn accept(&mut self, target_idx: usize) {
        while let Ok((stream, _)) = self.listeners[target_idx].accept() {
            let _ = stream.set_nonblocking(true);
            let _ = stream.set_nodelay(true);
            let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            if self.poller.add(&stream, slot as u64, Interest::Read).is_ok() {
                self.serial += 1;
                self.connections[slot] = Some(Connection {
                    stream,
                    target_idx,
                    request: Vec::new(),
                    answer: None,
                    held: false,
                    writing: false,
                    serial: self.serial,
                });
            } else {
                self.free.push(slot);
            }
        }
    }

    fn serve(&mut self, slot: usize, released: bool) {
        // An event for a connection closed earlier in this very turn.
        let Some(mut connection) = self.connections.get_mut(slot).and_then(Option::take) else { return };
        if matches!(self.turn(&mut connection, slot, released), Ok(true)) {
            self.connections[slot] = Some(connection);
        } else {
            if connection.answer.is_some() {
                lock(&self.log).aborted += 1;
            }
            self.free.push(slot);
        }
    }

    /// One turn of a connection; false when it is over.
    fn turn(&mut self, connection: &mut Connection, slot: usize, released: bool) -> io::Result<bool> {
        if connection.held && !released {
            return read_request(connection);
        }
        if connection.answer.is_none() {
            if !read_request(connection)? {
                return Ok(false);
            }
            let Some(end) = find_end(&connection.request) else {
                return Ok(connection.request.len() < REQUEST_BYTES_MAX);
            };
            let answer = self.answer(connection.target_idx, &connection.request[..end]);
            connection.request.drain(..end);
            if !self.options.jitter.is_zero() {
                connection.held = true;
                let draw = mix(0x71, connection.target_idx as u64, answer.served.version) & 0xffff;
                let due = clock::now() + self.options.jitter.mul_f64(draw as f64 / 65536.0);
                self.held.push(Reverse((due, slot, connection.serial)));
            }
            connection.answer = Some(answer);
        }
        connection.held &= !released;
        if connection.held {
            return Ok(true);
        }
        let Some(answer) = &mut connection.answer else { return Ok(true) };
        let done = answer.send(&mut connection.stream)?;
        if done {
            self.note(connection.target_idx, answer);
            connection.answer = None;
        }
        if done == connection.writing {
            connection.writing = !done;
            let interest = if done { Interest::Read } else { Interest::Write };
            self.poller.change(&connection.stream, slot as u64, interest)?;
        }
        Ok(true)
    }

    fn answer(&self, target_idx: usize, request: &[u8]) -> Answer {
        let version = self.tick + self.shape.phase(target_idx, self.options.targets);
        let down = is_down(&self.options, target_idx, version);
        let served = Served { at_us: clock::unix_us(), version, down };
        let formatted = self.options.format.asked_for(&header(request, b"accept:"));
        let (format, bodies) = match &self.texts {
            Some(texts) if !formatted => (Format::Text, texts),
            _ => (self.options.format, &self.bodies),
        };
        let body = bodies.body(version).cloned();
        let refuse = |status: &str| {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes();
            Answer { head, body: None, gzip: false, sent: 0, served, samples: 0, formatted }
        };
        let (Some(body), true) = (body, request.starts_with(b"GET ")) else {
            return refuse("400 Bad Request");
        };
        if down {
            return refuse("503 Service Unavailable");
        }
        let gzip = body.gzip.is_some() && header(request, b"accept-encoding:").contains("gzip");
        let mut lines = Vec::with_capacity(2048);
        self.shape.write_head(target_idx, version, &mut lines);
        if format != Format::Text {
            lines = format.convert(&lines);
        }
        // A gzip stream may have several members: the head is one, the shared body another.
        if gzip && !lines.is_empty() {
            lines = compress(&lines);
        }
        let body_len = if gzip { body.gzip.as_ref().map_or(0, Vec::len) } else { body.plain.len() };
        let encoding = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
        let mut head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{encoding}Content-Length: {}\r\n\r\n",
            format.content_type(),
            lines.len() + body_len
        )
        .into_bytes();
        head.extend_from_slice(&lines);
        let samples = body.samples + self.shape.head_samples(target_idx, version);
        Answer { head, body: Some(body), gzip, sent: 0, served, samples, formatted }
    }

    fn note(&self, target_idx: usize, answer: &Answer) {
        if answer.body.is_none() && !answer.served.down {
            return;
        }
        let mut log = lock(&self.log);
        log.requests += 1;
        log.downs += u64::from(answer.served.down);
        log.formatted += u64::from(answer.formatted && !answer.served.down);
        log.samples += answer.samples as u64;
        log.bytes += answer.sent as u64;
        let of_target = &mut log.by_target[target_idx];
        if of_target.len() == LOG_MAX {
            of_target.pop_front();
        }
        of_target.push_back(answer.served);
    }
}

/// Reads what is there; false at the end of the stream.
fn read_request(connection: &mut Connection) -> io::Result<bool> {
    let mut buffer = [0; 2048];
    match connection.stream.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(n) => {
            connection.request.extend_from_slice(&buffer[..n]);
            Ok(true)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
        Err(e) => Err(e),
    }
}

fn find_end(request: &[u8]) -> Option<usize> {
    request.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header whose name is given in lower case with its colon; in lower case, empty without it.
fn header(request: &[u8], name: &[u8]) -> String {
    let of = |line: &[u8]| {
        let (have, value) = line.split_at_checked(name.len())?;
        have.eq_ignore_ascii_case(name).then(|| String::from_utf8_lossy(value).to_ascii_lowercase())
    };
    request.split(|&b| b == b'\n').find_map(of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::node::Node;

    fn start(targets: usize, gzip: bool) -> Result<Targets, Error> {
        let shape = Arc::new(Shape::Node(Node::new(1, 1000, 15.0)));
        Targets::start(shape, Options { gzip, ..Options::plain(targets, Duration::from_secs(15)) })
    }

    fn fetch(stream: &mut TcpStream, headers: &str) -> io::Result<(String, Vec<u8>)> {
        stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())?;
        let mut got = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            if let Some(end) = find_end(&got) {
                let head = String::from_utf8_lossy(&got[..end]).to_string();
                let length = head
                    .split("Content-Length: ")
                    .nth(1)
                    .and_then(|t| t.split('\r').next()?.parse::<usize>().ok());
                if got.len() == end + length.unwrap_or(0) {
                    return Ok((head, got[end..].to_vec()));
                }
            }
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            got.extend_from_slice(&buffer[..n]);
        }
    }

    /// The log once so many answers have left: the last is noted a moment after it was read here.
    fn log_of(targets: &Targets, requests: u64) -> MutexGuard<'_, Log> {
        let begin = clock::now();
        while targets.log().requests < requests && begin.elapsed() < Duration::from_secs(10) {
            clock::sleep(Duration::from_millis(1));
        }
        targets.log()
    }

    #[test]
    fn addresses_are_loopback_and_distinct() {
        let all: std::collections::HashSet<_> = (0..TARGETS_MAX).map(|i| address(i, 9)).collect();
        assert_eq!(all.len(), TARGETS_MAX);
        assert!(all.iter().all(|a| a.ip().is_loopback()));
    }

    #[test]
    fn targets_answer_pages_of_their_own_over_one_connection() -> Result<(), Box<dyn std::error::Error>> {
        let targets = start(40, false)?;
        let mut fetched = 0;
        for i in [0, 33, 39] {
            let mut stream = TcpStream::connect(address(i, targets.port))?;
            for _ in 0..3 {
                let (head, body) = fetch(&mut stream, "")?;
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
                fetched += 1;
                let version =
                    log_of(&targets, fetched).by_target[i].back().map(|s| s.version).unwrap_or_default();
                let mut expect = Vec::new();
                targets.shape.write_head(i, version, &mut expect);
                expect.extend_from_slice(&targets.shape.node().map(|n| n.body(version)).unwrap_or_default());
                assert_eq!(version, i as u64 % crate::shape::PHASES);
                assert!(body == expect, "target {i} answers another page");
            }
        }
        let log = targets.log();
        assert_eq!((log.requests, log.samples, log.aborted), (9, 9000, 0));
        Ok(())
    }

    #[test]
    fn gzip_is_sent_where_asked_for_and_unpacks_to_the_same_page() -> Result<(), Box<dyn std::error::Error>> {
        let targets = start(1, true)?;
        let mut stream = TcpStream::connect(address(0, targets.port))?;
        let (head, packed) = fetch(&mut stream, "Accept-Encoding: gzip\r\n")?;
        assert!(head.contains("Content-Encoding: gzip"), "{head}");
        let (_, plain) = fetch(&mut stream, "")?;
        let mut lines = Vec::new();
        targets.shape.write_head(0, 0, &mut lines);
        assert!(plain.starts_with(&lines));
        assert!(packed == [compress(&lines), compress(&plain[lines.len()..])].concat());
        assert!(packed.len() * 4 < plain.len());
        Ok(())
    }

    #[test]
    fn a_long_request_and_a_post_are_turned_away() -> Result<(), Box<dyn std::error::Error>> {
        let targets = start(1, false)?;
        let mut stream = TcpStream::connect(address(0, targets.port))?;
        stream.write_all(b"POST / HTTP/1.1\r\n\r\n")?;
        let mut buffer = [0; 64];
        let n = stream.read(&mut buffer)?;
        assert!(buffer[..n].starts_with(b"HTTP/1.1 400"));
        let _ = stream.write_all(&[b'a'; 3 * REQUEST_BYTES_MAX]);
        assert!(matches!(stream.read(&mut buffer), Ok(0) | Err(_)));
        assert_eq!(targets.log().requests, 0);
        Ok(())
    }

    #[test]
    fn other_forms_are_shown_to_those_who_ask() -> Result<(), Box<dyn std::error::Error>> {
        for format in [Format::OpenMetrics, Format::Protobuf] {
            let shape = Arc::new(Shape::Node(Node::new(1, 100, 15.0)));
            let options = Options { format, ..Options::plain(1, Duration::from_secs(15)) };
            let targets = Targets::start(shape, options)?;
            let mut stream = TcpStream::connect(address(0, targets.port))?;
            let (_, text) = fetch(&mut stream, "Accept: text/plain\r\n")?;
            assert_eq!(text, targets.shape.page(0, 0));
            let accept = format!("Accept: {};q=0.8,*/*\r\n", format.content_type().to_uppercase());
            let (head, body) = fetch(&mut stream, &accept)?;
            assert!(head.contains(format.content_type()), "{head}");
            assert!(body == [&format.convert(&text), format.end()].concat());
            assert_eq!(log_of(&targets, 2).formatted, 1);
        }
        Ok(())
    }

    #[test]
    fn targets_are_down_and_answers_late_as_the_options_say() -> Result<(), Box<dyn std::error::Error>> {
        let shape = Arc::new(Shape::Node(Node::new(1, 100, 15.0)));
        let jitter = Duration::from_millis(200);
        let options = Options { down: 16384, jitter, ..Options::plain(40, Duration::from_secs(15)) };
        let targets = Targets::start(shape, options)?;
        let begin = clock::now();
        let mut down = 0;
        for i in 0..40 {
            let (head, _) = fetch(&mut TcpStream::connect(address(i, targets.port))?, "")?;
            down += u64::from(head.starts_with("HTTP/1.1 503"));
        }
        let log = log_of(&targets, 40);
        assert_eq!((log.requests, log.downs), (40, down));
        assert!((2..25).contains(&down), "{down} of 40 are down");
        // Half the jitter on average, twice that with a slow machine left out of the judgment.
        assert!(begin.elapsed() > 10 * jitter, "{:?}", begin.elapsed());
        Ok(())
    }
}
