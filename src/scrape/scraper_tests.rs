//! Loops against real sockets: a shard that scrapes a server of this test.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::config::ScrapeConfig;
use crate::rt::{self, Machine};
use crate::scrape::Health;
use crate::scrape::target::tests::config;
use crate::shard::Shard;
use crate::shard::budget::{Refusal, Room};
use crate::shard::commons::Bounds;
use crate::shard::record::SourceId;
use crate::shard::select::Batch;
use futures_lite::future::block_on;
use model::{Labels, Matcher, ShardId, TargetGroup, Timestamp, is_stale};

/// Answers every request with what it holds at the time; an empty answer closes the connection.
struct Server {
    address: String,
    answer: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
    last_request: Arc<Mutex<String>>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server {
            address,
            answer: Arc::default(),
            connections: Arc::default(),
            last_request: Arc::default(),
        };
        let (answer, connections, last) =
            (server.answer.clone(), server.connections.clone(), server.last_request.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (answer, last) = (answer.clone(), last.clone());
                std::thread::spawn(move || serve(stream, &answer, &last));
            }
        });
        server
    }

    fn set(&self, answer: impl Into<Vec<u8>>) {
        *self.answer.lock().unwrap() = answer.into();
    }

    fn set_page(&self, page: &str) {
        self.set(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        ));
    }
}

fn serve(mut stream: std::net::TcpStream, answer: &Mutex<Vec<u8>>, last: &Mutex<String>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut chunk) {
                Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
                _ => return,
            }
        }
        *last.lock().unwrap() = String::from_utf8_lossy(&request).into_owned();
        request.clear();
        let bytes = answer.lock().unwrap().clone();
        if bytes.is_empty() || stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

struct Kept {
    shard: RefCell<Shard>,
    sources: Cell<u64>,
}

impl Sink for Rc<Kept> {
    fn shard_count(&self) -> u16 {
        1
    }

    fn new_source(&self) -> SourceId {
        self.sources.set(self.sources.get() + 1);
        SourceId(self.sources.get())
    }

    fn generation(&self) -> u64 {
        0
    }

    fn bounds(&self, _: Timestamp) -> Bounds {
        Bounds::NONE
    }

    fn room(&self) -> Room {
        Room::ENDLESS
    }

    fn note_refusal(&self, _: Refusal, _: Timestamp) {}

    fn has_backlog(&self) -> bool {
        false
    }

    fn deliver(&self, _: u64, _: ShardId, batch: &[u8]) -> bool {
        self.shard.borrow_mut().apply(batch).is_ok()
    }
}

struct Beside {
    scraper: Scraper,
    kept: Rc<Kept>,
}

/// A machine with one shard that scrapes.
struct World {
    machine: Machine<Beside, ()>,
}

impl World {
    fn new() -> World {
        let mut settings = rt::Settings::new(1);
        settings.watchdog = None;
        settings.grid = Duration::from_millis(10);
        let factory = |context: rt::ShardContext<Beside, ()>| async move {
            let kept = Rc::new(Kept { shard: RefCell::default(), sources: Cell::new(0) });
            let sink: Rc<dyn Sink> = Rc::new(kept.clone());
            let scraper =
                Scraper::new(context.pulse, context.gate, sink, Settings::new(0, "Prometheus/3.14.0"));
            Ok(Rc::new(Beside { scraper, kept }))
        };
        World { machine: Machine::start(settings, factory, |_, ()| {}).expect("a machine starts") }
    }

    fn ask<R: Send + 'static>(&self, work: impl FnOnce(&Beside) -> R + Send + 'static) -> R {
        let answer = self.machine.mesh().submit_to(0, TaskClass::Rpc, move |b| async move { work(&b) });
        block_on(answer).expect("the shard answers")
    }

    fn apply(&self, config: ScrapeConfig, addresses: &[&str]) {
        let targets = addresses.iter().map(|a| Labels::from_pairs([("__address__", *a)])).collect();
        let group = TargetGroup { targets, ..TargetGroup::default() };
        let job = Arc::new(Job::new(Arc::new(config), &[group]));
        self.ask(move |b| b.scraper.apply(&[job]));
    }

    fn status(&self) -> Vec<TargetStatus> {
        self.ask(|b| b.scraper.status())
    }

    /// The values of a metric, `stale` for markers, repeats of one value once.
    fn values(&self, name: &'static str) -> Vec<String> {
        let mut out = self.ask(move |b| {
            let shard = b.kept.shard.borrow();
            let mut selection = shard.select(&[Matcher::equal("__name__", name)], 0, i64::MAX);
            let mut batch = Batch::default();
            let mut out = Vec::new();
            while shard.next_batch(&mut selection, &mut batch) {
                for series in &batch.series {
                    let text = |v: &f64| if is_stale(*v) { "stale".to_owned() } else { v.to_string() };
                    out.extend(batch.values_of(series).iter().map(text));
                }
            }
            out
        });
        out.dedup();
        out
    }

    fn wait_for(&self, what: &str, mut is_there: impl FnMut(&World) -> bool) {
        for _ in 0..500 {
            if is_there(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited in vain for {what}; up: {:?}; {:?}", self.values("up"), self.status());
    }

    fn wait_for_error(&self, error: &str) {
        self.wait_for(error, |w| w.status().iter().any(|s| s.last.error == error));
    }

    fn stop(self) {
        self.machine.stop(Duration::from_secs(10)).expect("the machine stops");
    }
}

fn fast() -> ScrapeConfig {
    ScrapeConfig { interval_ms: 100, timeout_ms: 50, ..config() }
}

#[test]
fn a_job_may_keep_what_came_before_the_deadline() {
    let partial = ScrapeConfig { keeps_partial: true, ..fast() };
    for (head, is_known) in [("Content-Length: 1000", true), ("Transfer-Encoding: chunked", false)] {
        let (world, server) = (World::new(), Server::start());
        server.set_page("# TYPE a counter\na 1\n# TYPE b counter\nb 1\n# TYPE c counter\nc 1\n");
        world.apply(partial.clone(), &[&server.address]);
        world.wait_for("whole pages", |w| w.values("c") == ["1"] && w.values("up") == ["1"]);
        assert!(server.last_request.lock().unwrap().contains("Accept-Encoding: identity\r\n"));
        let cut = "# TYPE a counter\na 2\n# TYPE b counter\nb 2";
        let body = if is_known { cut.to_owned() } else { format!("{:x}\r\n{cut}\r\n", cut.len()) };
        server.set(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{head}\r\n\r\n{body}"));
        world.wait_for_error("context deadline exceeded");
        world.wait_for("what came", |w| w.values("a") == ["1", "2"]);
        assert_eq!(
            (world.values("b"), world.values("c")),
            (["1", "stale"].map(str::to_owned).to_vec(), ["1", "stale"].map(str::to_owned).to_vec())
        );
        assert_eq!(world.values("up"), ["1", "0"]);
        server.set(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{head}\r\n\r\n"));
        world.wait_for("nothing came", |w| w.values("a") == ["1", "2", "stale"]);
        server.set_page("a 3\nb 3\n");
        world.wait_for("a whole page", |w| w.values("b") == ["1", "stale", "3"]);
        assert_eq!(world.values("a"), ["1", "2", "stale", "3"]);
        world.stop();
    }
}

#[test]
fn a_target_is_scraped_over_one_connection_until_it_is_gone() {
    let (world, server) = (World::new(), Server::start());
    server.set_page("# HELP a An a.\n# TYPE a counter\na 1\n");
    world.apply(fast(), &[&server.address]);
    world.wait_for("a sample", |w| w.values("a") == ["1"]);
    server.set_page("# HELP a An a.\n# TYPE a counter\na 2\n");
    world.wait_for("another", |w| w.values("a") == ["1", "2"]);
    let status = world.status();
    assert_eq!((status.len(), status[0].last.health, status[0].last.error.as_str()), (1, Health::Up, ""));
    let families = world.ask(|b| b.scraper.metadata());
    assert_eq!((families[0].1[0].kind, families[0].1[0].help.as_str()), ("counter", "An a."));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "one connection for all scrapes");
    let request = server.last_request.lock().unwrap().clone();
    assert!(request.starts_with("GET /metrics HTTP/1.1\r\nHost: "), "{request}");
    assert!(request.contains("X-Prometheus-Scrape-Timeout-Seconds: 0.05\r\n"), "{request}");
    // A change that leaves the series alone leaves no gap.
    world.apply(ScrapeConfig { interval_ms: 150, ..fast() }, &[&server.address]);
    server.set_page("a 3\n");
    world.wait_for("a value after the reload", |w| w.values("a") == ["1", "2", "3"]);
    world.apply(fast(), &[]);
    world.wait_for("the end", |w| w.values("a") == ["1", "2", "3", "stale"]);
    assert_eq!(world.values("up"), ["1", "stale"]);
    assert_eq!(world.ask(|b| b.scraper.target_count()), 0);
    world.stop();
}

#[test]
fn failures_are_worded_as_prometheus_words_them() {
    let (world, server) = (World::new(), Server::start());
    let url = format!("http://{}/metrics", server.address);
    let limited = |bytes| {
        let mut c = fast();
        c.limits.body_bytes = bytes;
        c
    };
    server.set_page("a 1\n");
    world.apply(fast(), &[&server.address]);
    world.wait_for("a sample", |w| w.values("a") == ["1"]);
    server.set("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    world.wait_for_error("server returned HTTP status 404 Not Found");
    assert_eq!(world.values("up"), ["1", "0"]);
    server.set("");
    world.wait_for_error(&format!("Get \"{url}\": EOF"));
    server.set("HTTP/1.1 200 OK\r\n");
    world.wait_for_error(&format!("Get \"{url}\": context deadline exceeded"));
    server.set("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\na 1\n");
    world.wait_for_error("context deadline exceeded");
    server.set("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n");
    world.wait_for_error(
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
    );
    server.set_page("a 1\nb\n");
    world.wait_for_error("expected value after metric, got \"\\n\" (\"INVALID\") while parsing: \"b\\n\"");
    world.apply(limited(4), &[&server.address]);
    server.set_page("a 1\n");
    world.wait_for_error("body size limit exceeded");
    world.apply(limited(5), &[&server.address]);
    world.wait_for("a good scrape", |w| w.status()[0].last.health == Health::Up);
    assert_eq!(world.values("a"), ["1", "stale", "1"]);
    world.stop();
}

#[test]
fn nobody_listening_is_said_and_a_restarted_target_is_found_again() {
    let (world, server) = (World::new(), Server::start());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    server.set("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 7\n\r\n0\r\n\r\n");
    world.apply(fast(), &[&free, &server.address]);
    let refused = format!("Get \"http://{free}/metrics\": dial tcp {free}: connect: connection refused");
    world.wait_for_error(&refused);
    world.wait_for("a chunked page", |w| w.values("a") == ["7"]);
    world.wait_for("a fresh connection each", |_| server.connections.load(Ordering::SeqCst) > 2);
    assert!(world.status().iter().any(|s| s.last.health == Health::Up));
    world.stop();
}

#[test]
fn a_job_with_too_many_targets_asks_none() {
    let (world, server) = (World::new(), Server::start());
    let mut c = fast();
    c.limits.targets = 1;
    world.apply(c, &[&server.address, "127.0.0.1:1"]);
    world.wait_for_error("target_limit exceeded (number of targets: 2, limit: 1)");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    assert_eq!(world.values("up"), ["0"]);
    world.stop();
}

#[test]
fn packed_pages_are_unpacked_within_the_limit() {
    let (world, server) = (World::new(), Server::start());
    let page: String = (0..1000).map(|i| format!("a{{i=\"{i}\"}} 1\n")).collect();
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut packed = vec![0; page.len()];
    let n = compressor.gzip_compress(page.as_bytes(), &mut packed).unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n";
    let mut answer = format!("{head}Content-Length: {n}\r\n\r\n").into_bytes();
    answer.extend_from_slice(&packed[..n]);
    server.set(answer);
    world.apply(fast(), &[&server.address]);
    world.wait_for("the page", |w| w.values("scrape_samples_scraped") == ["1000"]);
    assert!(server.last_request.lock().unwrap().contains("Accept-Encoding: gzip\r\n"));
    let mut c = fast();
    c.limits.body_bytes = page.len() as u64;
    world.apply(c, &[&server.address]);
    world.wait_for_error("body size limit exceeded");
    world.stop();
}

/// A page of more than four megabytes whose series `a` has this value; its last line stands behind all others.
fn large_page(value: u32, last: &str) -> String {
    let mut page = format!("a {value}\n");
    for i in 0..50_000 {
        page.push_str(&format!(
            "wide_metric_name_total{{device=\"a_device_with_a_long_name\",number=\"{i}\"}} {i}\n"
        ));
    }
    page + last
}

#[test]
fn large_pages_are_read_as_they_come() {
    let config = ScrapeConfig { interval_ms: 1000, timeout_ms: 1000, ..config() };
    let (world, server) = (World::new(), Server::start());
    let set = |coding: &str, page: String| {
        let page = page.into_bytes();
        let (head, body) = match coding {
            "chunked" => {
                let chunk = |c: &[u8]| [format!("{:x}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat();
                let chunks: Vec<u8> = page.chunks(100_000).flat_map(chunk).chain(*b"0\r\n\r\n").collect();
                ("Transfer-Encoding: chunked".to_owned(), chunks)
            }
            "gzip" => {
                let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
                let mut out = vec![0; compressor.gzip_compress_bound(page.len())];
                let n = compressor.gzip_compress(&page, &mut out).unwrap();
                out.truncate(n);
                (format!("Content-Encoding: gzip\r\nContent-Length: {n}"), out)
            }
            _ => (format!("Content-Length: {}", page.len()), page),
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{head}\r\n\r\n");
        server.set([head.as_bytes(), &body].concat());
    };
    set("", large_page(1, "z 1\n"));
    world.apply(config, &[&server.address]);
    world.wait_for("a large page", |w| w.values("z") == ["1"] && w.values("up") == ["1"]);
    set("chunked", large_page(2, "z 2\n"));
    world.wait_for("its next, in chunks", |w| w.values("z") == ["1", "2"]);
    set("gzip", large_page(3, "z 3"));
    world.wait_for("its next, packed", |w| w.values("z") == ["1", "2", "3"]);
    set("gzip", large_page(4, "z x\n"));
    world.wait_for("a malformed one", |w| w.values("up") == ["1", "0"]);
    assert_eq!(world.values("a"), ["1", "2", "3", "stale"], "nothing of it is kept");
    world.wait_for_error("strconv.ParseFloat: parsing \"x\": invalid syntax while parsing: \"z x\"");
    set("", "a 5\n".to_owned());
    world.wait_for("a small one", |w| w.values("a") == ["1", "2", "3", "stale", "5"]);
    assert_eq!(world.values("z"), ["1", "2", "3", "stale"]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    world.stop();
}
