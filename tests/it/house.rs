//! The real program on free ports with a directory of its own, and a small client to ask it with.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use systole::rt::disk::Tail;

/// No condition that is waited for takes longer, on a busy machine either.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` finds something; names `what` where it never does.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        sleep(LOOK_EVERY);
    }
}

/// An empty directory under the build's own, removed on drop unless the test failed.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("it-{name}-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory for the test");
        Dir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file for the test");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.0.display());
            return;
        }
        let _ = fs::remove_dir_all(Tail::dir_for(&self.0.join("data")));
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that ends with its handle, and what it said.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Process {
        let file = File::create(&log).expect("a log file");
        let both = file.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(both).stderr(file).spawn();
        Process { child: child.unwrap_or_else(|e| panic!("{command:?}: {e}")), log }
    }

    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(sent.expect("kill").success(), "kill -{name}");
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child's state")
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        eventually("the program ends", || self.has_ended())
    }

    /// Waits until the log holds `marker` and gives the digits behind it.
    pub(crate) fn wait_for_port(&mut self, marker: &str) -> u16 {
        eventually(&format!("`{marker}` in {}", self.log.display()), || {
            let said = self.said();
            let found = said.split(marker).nth(1).and_then(|rest| {
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
                // What follows the digits must be there, too: a line may be half written.
                (rest.len() > digits.len()).then(|| digits.parse::<u16>().ok())?
            });
            if found.is_none()
                && let Some(status) = self.has_ended()
            {
                panic!("ended with {status} before `{marker}`:\n{said}");
            }
            found
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.said());
        }
    }
}

/// An answer, body decoded where it was chunked.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// One request over a connection of its own. `None` where nobody answers, or not to the end.
pub(crate) fn try_request(port: u16, head: &str, body: &[u8]) -> Option<Response> {
    let address = ("127.0.0.1", port).to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    let head =
        format!("{head}\r\nHost: localhost:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    parse_response(&bytes)
}

fn parse_response(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let body = bytes[end + 4..].to_vec();
    let mut response = Response { status, headers, body };
    if response.header("Transfer-Encoding") == Some("chunked") {
        response.body = unchunked(&response.body)?;
    } else if let Some(length) = response.header("Content-Length") {
        let length: usize = length.parse().ok()?;
        // A killed server leaves less.
        if response.body.len() < length && !response.body.is_empty() {
            return None;
        }
    }
    Some(response)
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(out);
        }
        rest = rest.get(line + 2..)?;
        out.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// Text as a form's value.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(b as char),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

pub(crate) fn form(params: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = params.iter().map(|(n, v)| format!("{}={}", escaped(n), escaped(v))).collect();
    pairs.join("&")
}

/// A server of Prometheus's API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
}

impl Server {
    fn request(&self, head: &str, body: &[u8]) -> Response {
        try_request(self.port, head, body).unwrap_or_else(|| panic!("no answer to {head}"))
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.request(&format!("GET {path} HTTP/1.1"), b"")
    }

    pub(crate) fn get_with(&self, path: &str, headers: &str) -> Response {
        self.request(&format!("GET {path} HTTP/1.1\r\n{headers}"), b"")
    }

    pub(crate) fn call(&self, method: &str, path: &str) -> Response {
        self.request(&format!("{method} {path} HTTP/1.1"), b"")
    }

    pub(crate) fn post(&self, path: &str, params: &[(&str, &str)]) -> Response {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded");
        self.request(&head, form(params).as_bytes())
    }

    /// `data` of an answer that must be a success.
    pub(crate) fn data(&self, endpoint: &str, params: &[(&str, &str)]) -> Value {
        let response = self.get(&format!("/api/v1/{endpoint}?{}", form(params)));
        let mut answer = response.json();
        assert_eq!(answer["status"], "success", "{endpoint} {params:?}: {answer}");
        answer["data"].take()
    }

    /// `result` of an instant query.
    pub(crate) fn query(&self, text: &str) -> Value {
        self.data("query", &[("query", text)])["result"].take()
    }

    pub(crate) fn query_at(&self, text: &str, time_ms: i64) -> Value {
        let time = seconds(time_ms);
        self.data("query", &[("query", text), ("time", &time)])["result"].take()
    }

    /// The value of the only element of a vector, as its text. `None` where there is no element.
    pub(crate) fn value(&self, text: &str) -> Option<String> {
        let result = self.query(text);
        let elements = result.as_array().expect("a vector");
        assert!(elements.len() <= 1, "{text}: {result}");
        elements.first().map(|e| e["value"][1].as_str().expect("a value").to_owned())
    }

    /// Waits until the only element of `text` has this value; `None`: until there is no element.
    pub(crate) fn wait_for_value(&self, text: &str, wanted: Option<&str>) {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = self.value(text);
            if last.as_deref() == wanted {
                return;
            }
            sleep(LOOK_EVERY);
        }
        panic!("waited for {text} to be {wanted:?}, it is {last:?}");
    }

    /// The active target whose `job` label is `job`.
    pub(crate) fn target_of(&self, job: &str) -> Value {
        let targets = self.data("targets", &[("state", "active")]);
        let active = targets["activeTargets"].as_array().expect("a list");
        active.iter().find(|t| t["scrapePool"] == job).cloned().unwrap_or(Value::Null)
    }

    pub(crate) fn is_ready(&self) -> bool {
        try_request(self.port, "GET /-/ready HTTP/1.1", b"").is_some_and(|r| r.status == 200)
    }
}

/// Milliseconds as the API takes them.
pub(crate) fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// The program under test, as it shall be started.
pub(crate) struct House {
    pub(crate) dir: Dir,
    pub(crate) args: Vec<String>,
    pub(crate) data: PathBuf,
}

impl House {
    /// With a configuration of its own, on two shards.
    pub(crate) fn new(name: &str, config: &str) -> House {
        let dir = Dir::new(name);
        dir.write("prometheus.yml", config);
        let data = dir.path().join("data");
        House { dir, args: vec!["--shards=2".to_owned()], data }
    }

    pub(crate) fn configure(&self, config: &str) {
        self.dir.write("prometheus.yml", config);
    }

    pub(crate) fn with(mut self, arg: &str) -> House {
        self.args.push(arg.to_owned());
        self
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_systole"));
        command
            .arg(format!("--config.file={}", self.dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", self.data.display()))
            .args(&self.args);
        if !self.args.iter().any(|a| a.starts_with("--web.listen-address")) {
            command.arg("--web.listen-address=127.0.0.1:0");
        }
        command
    }

    /// Starts it and waits until it is ready. `None` where this machine cannot run it.
    pub(crate) fn start(&self) -> Option<Running> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = systole::rt::probe::probe() {
            println!("skipped: {why}");
            return None;
        }
        let log = self.dir.path().join(format!("log-{count}"));
        let mut process = Process::start(&mut self.command(), log);
        let port = process.wait_for_port("curl 'http://localhost:");
        let server = Server { port };
        eventually("ready", || server.is_ready().then_some(()));
        Some(Running { process, server })
    }

    /// Starts it where it must refuse; its exit code and what it said.
    pub(crate) fn start_refused(&self) -> (Option<i32>, String) {
        let mut process = Process::start(&mut self.command(), self.dir.path().join("refused"));
        let status = process.wait_for_end();
        (status.code(), process.said())
    }
}

pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) server: Server,
}

impl Running {
    /// SIGTERM, and waits for the orderly end.
    pub(crate) fn stop(mut self) {
        self.process.signal("TERM");
        let status = self.process.wait_for_end();
        assert_eq!(status.code(), Some(0), "{}", self.process.said());
    }
}

impl std::ops::Deref for Running {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
