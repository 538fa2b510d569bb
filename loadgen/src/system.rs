//! The systems under measurement: ours, Prometheus, VictoriaMetrics; found, started, asked, stopped.
//!
//! In: a spec such as `ours=PATH` or `prometheus`, a scrape configuration. Out: a running server on a free port.
//! Owns: the child process and its data folder. Runs on: the main thread, since children die with their parent thread.
//! Invariant: a system dropped is a process ended. Never: ends a process it did not start.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::clock;
use crate::error::{Context, Error};
use crate::write::request::Protocol;
use crate::{process, ring};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Ours,
    Prometheus,
    VictoriaMetrics,
}

/// A system as the command line names it.
#[derive(Clone, Debug)]
pub struct Spec {
    pub kind: Kind,
    /// What the report calls it; two builds of ours have two names.
    pub name: String,
    pub binary: PathBuf,
    pub flags: Vec<String>,
    /// A system that grows past this is ended, so that the machine goes on.
    pub memory_bytes_max: u64,
    /// The control group it runs in, where its memory is bounded by the kernel.
    pub group: Option<PathBuf>,
}

/// Of a machine with 24 GiB: room is left for the generator and for others' work.
pub const MEMORY_BYTES_MAX: u64 = 18 << 30;
/// How often the memory is looked at: at 1 GB/s of growth, the worst seen, the bound is missed by little.
const WATCH_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for a system to come up, or to end when asked to.
const READY_MAX: Duration = Duration::from_secs(180);
const STOP_MAX: Duration = Duration::from_secs(60);
const QUERY_MAX: Duration = Duration::from_secs(120);

/// Reads `ours=PATH`, `prometheus`, `victoriametrics[=PATH]`, comma-separated; flags may follow the path, separated
/// by spaces: `ours=target/release/systole --shards=1`.
pub fn parse_specs(text: &str) -> Result<Vec<Spec>, Error> {
    let mut specs: Vec<Spec> = Vec::new();
    for part in text.split(',').filter(|p| !p.trim().is_empty()) {
        let (name, rest) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
        let mut words = rest.split_ascii_whitespace().map(str::to_string);
        let path = words.next().map(PathBuf::from);
        // `prometheus?`: left out, with a word, where it is not at hand.
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        let (kind, program) = match name {
            "prometheus" => (Kind::Prometheus, "prometheus"),
            "victoriametrics" | "vm" => (Kind::VictoriaMetrics, "victoria-metrics"),
            n if n.starts_with("ours") || n.starts_with("systole") => (Kind::Ours, "systole"),
            n => return Err(Error::Usage(format!("{n:?} is none of ours, prometheus, victoriametrics"))),
        };
        let binary = match path {
            Some(p) if p.is_file() => p,
            Some(p) => {
                return Err(Error::NoBinary {
                    name: name.into(),
                    hint: format!("{} is no file", p.display()),
                });
            }
            None => match find_binary(program) {
                Some(binary) => binary,
                None if optional => {
                    eprintln!("{name} is left out: no binary found");
                    continue;
                }
                None => {
                    let hint = "`systole-loadgen peers` fetches the peers; ours is named by ours=PATH";
                    return Err(Error::NoBinary { name: name.into(), hint: hint.into() });
                }
            },
        };
        // Systems run in a folder of their own, where a relative path would mean another file.
        let binary = binary.canonicalize().unwrap_or(binary);
        let name = if name == "vm" { "victoriametrics" } else { name };
        if specs.iter().any(|s| s.name == name) {
            return Err(Error::Usage(format!("{name} is named twice: call the second ours-b, for instance")));
        }
        let flags = words.collect();
        specs.push(Spec {
            kind,
            name: name.into(),
            binary,
            flags,
            memory_bytes_max: MEMORY_BYTES_MAX,
            group: None,
        });
    }
    if specs.is_empty() { Err(Error::Usage("no system named".into())) } else { Ok(specs) }
}

/// Defaults, equal retention, and what makes answers comparable: no result cache, no latency offset. Retention is
/// more than the day that some workloads write.
pub fn default_flags(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::VictoriaMetrics => &[
            "-promscrape.config=scrape.yml",
            "-storageDataPath=data",
            "-retentionPeriod=2d",
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-search.maxUniqueTimeseries=50000000",
            "-search.maxQueryDuration=120s",
            "-promscrape.maxScrapeSize=1GiB",
            "-loggerLevel=WARN",
        ],
        Kind::Prometheus | Kind::Ours => &[
            "--config.file=scrape.yml",
            "--storage.tsdb.path=data",
            "--storage.tsdb.retention.time=2d",
            "--web.enable-remote-write-receiver",
            "--web.enable-otlp-receiver",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ],
    }
}

/// Where peers are kept: `SYSTOLE_PEERS`, else `peers` in the build's target folder.
pub fn peers_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("SYSTOLE_PEERS") {
        return PathBuf::from(folder);
    }
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
        return PathBuf::from(target).join("peers");
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers")
}

/// Looks in the peers' folder, beside this binary (a test's is a folder deeper), then on PATH.
fn find_binary(program: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(peers_folder()).chain(beside).chain(std::env::split_paths(&path));
    folders.map(|f| f.join(program)).find(|p| p.is_file())
}

/// The version a binary reports, as far as it does.
pub fn version(spec: &Spec) -> String {
    let versions = fs::read_to_string(peers_folder().join("VERSIONS")).unwrap_or_default();
    let package = match spec.kind {
        Kind::VictoriaMetrics => "victoria-metrics ",
        Kind::Prometheus => "prometheus ",
        Kind::Ours => "",
    };
    let of_package = versions.lines().find_map(|l| l.strip_prefix(package)).filter(|_| !package.is_empty());
    if let (Some(v), true) = (of_package, spec.binary.starts_with(peers_folder())) {
        return v.to_string();
    }
    let output = Command::new(&spec.binary).arg("--version").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).lines().next().unwrap_or("").to_string());
    text.unwrap_or_default()
}

/// Ports that are tried.
const PORTS_MAX: u32 = 4;

/// A running system.
pub struct System {
    pub spec: Spec,
    pub address: SocketAddr,
    pub folder: PathBuf,
    /// From spawn to the ready answer.
    pub ready_after: Duration,
    child: Option<Child>,
    starts: u32,
    watch: Option<Watch>,
}

impl System {
    /// Starts `spec` over an empty folder with this scrape configuration, and waits until it is ready.
    pub fn start(spec: &Spec, folder: &Path, config: &str) -> Result<Self, Error> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder.join("data")).context(|| folder.display().to_string())?;
        fs::write(folder.join("scrape.yml"), config).context(|| folder.display().to_string())?;
        let mut system = System {
            spec: spec.clone(),
            address: free_address()?,
            folder: folder.to_path_buf(),
            ready_after: Duration::ZERO,
            child: None,
            starts: 0,
            watch: None,
        };
        for _ in 0..PORTS_MAX {
            system.spawn()?;
            match system.wait_ready() {
                // Between its choice and its use the port was another's: of a connection, even of one that asked whether
                // it listens yet.
                Err(e) if e.is_port_taken() => system.address = free_address()?,
                ready => return ready.map(|()| system),
            }
        }
        Err(system.failure(format!("found no free port in {PORTS_MAX} tries")))
    }

    pub fn spawn(&mut self) -> Result<(), Error> {
        self.starts += 1;
        let log = self.folder.join(format!("log.{}", self.starts));
        let log = File::create(&log).context(|| log.display().to_string())?;
        let copy = log.try_clone().context(|| "log".to_string())?;
        let mut command = match &self.spec.group {
            None => Command::new(&self.spec.binary),
            // In the group before the program begins, since some size themselves by it.
            Some(group) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(group.join("cgroup.procs"));
                shell.arg(&self.spec.binary);
                shell
            }
        };
        command.args(self.arguments()).args(&self.spec.flags);
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(copy);
        let child = ring::die_with_parent(&mut command).spawn();
        let child = child.context(|| self.spec.binary.display().to_string())?;
        self.watch = Some(Watch::start(child.id(), self.spec.memory_bytes_max)?);
        self.child = Some(child);
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let flags = default_flags(self.spec.kind);
        let listen = match self.spec.kind {
            Kind::VictoriaMetrics => format!("-httpListenAddr={}", self.address),
            Kind::Prometheus | Kind::Ours => format!("--web.listen-address={}", self.address),
        };
        let known = self.known_flags();
        // Prometheus writes a switch as `--[no-]web.enable-lifecycle`.
        let is_known = |f: &&&str| {
            let name = f.split('=').next().unwrap_or("");
            let switch = format!("--[no-]{}", name.trim_start_matches("--"));
            known.as_ref().is_none_or(|k| k.contains(name) || k.contains(&switch))
        };
        flags.iter().filter(is_known).map(|f| f.to_string()).chain([listen]).collect()
    }

    /// The help text of a program whose builds differ in their flags: one of ours may not have grown every flag of
    /// Prometheus, and Debian's Prometheus is built without OTLP.
    fn known_flags(&self) -> Option<String> {
        if self.spec.kind == Kind::VictoriaMetrics {
            return None;
        }
        let output = Command::new(&self.spec.binary).arg("--help").output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).into())
    }

    /// Where a protocol's requests go.
    pub fn write_path(&self, protocol: Protocol) -> &'static str {
        match (protocol, self.spec.kind) {
            (Protocol::V1 | Protocol::V2, _) => "/api/v1/write",
            (Protocol::Otlp, Kind::VictoriaMetrics) => "/opentelemetry/v1/metrics",
            (Protocol::Otlp, _) => "/api/v1/otlp/v1/metrics",
        }
    }

    fn ready_path(&self) -> &'static str {
        match self.spec.kind {
            Kind::VictoriaMetrics => "/health",
            Kind::Prometheus | Kind::Ours => "/-/ready",
        }
    }

    /// Waits for the ready answer; the time since `spawn` is kept in `ready_after`.
    pub fn wait_ready(&mut self) -> Result<(), Error> {
        let begin = clock::now();
        while !self.is_ready() {
            self.check_alive()?;
            if begin.elapsed() > READY_MAX {
                return Err(self.failure(format!("not ready after {READY_MAX:?}")));
            }
            clock::sleep(Duration::from_millis(10));
        }
        self.ready_after = begin.elapsed();
        Ok(())
    }

    pub fn is_ready(&self) -> bool {
        let mut client = Client::new(self.address, Duration::from_secs(2));
        client.fetch(self.ready_path()).is_ok_and(|r| r.status == 200)
    }

    pub fn client(&self) -> Client {
        Client::new(self.address, QUERY_MAX)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// What the process tree uses now, or why there is no process any more.
    pub fn usage(&mut self) -> Result<process::Usage, Error> {
        self.check_alive()?;
        process::usage(self.pid()).ok_or_else(|| self.failure("ended".into()))
    }

    pub fn disk_bytes(&self) -> u64 {
        process::disk_bytes(&self.folder.join("data"))
    }

    fn check_alive(&mut self) -> Result<(), Error> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(_))) if self.watch.as_ref().is_some_and(Watch::has_ended_it) => {
                let gib = self.spec.memory_bytes_max >> 30;
                Err(self.failure(format!("was ended: it grew past {gib} GiB")))
            }
            Some(Ok(Some(status))) => Err(self.failure(format!("ended by itself ({status})"))),
            _ => Err(self.failure("is not running".into())),
        }
    }

    fn failure(&self, what: String) -> Error {
        let log = fs::read(self.folder.join(format!("log.{}", self.starts))).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(1500)..];
        Error::System { name: self.spec.name.clone(), what, log_tail: String::from_utf8_lossy(tail).into() }
    }

    /// Replaces the scrape configuration and has it read.
    pub fn reload(&mut self, config: &str) -> Result<(), Error> {
        fs::write(self.folder.join("scrape.yml"), config).context(|| self.folder.display().to_string())?;
        let answer =
            self.client().post("/-/reload", "", &[]).context(|| format!("{}: reload", self.spec.name))?;
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        Err(self.failure(format!(
            "reload answered {}: {}",
            answer.status,
            crate::client::excerpt(&answer.body)
        )))
    }

    /// SIGKILL, as a power cut would have it for the process.
    pub fn kill(&mut self) {
        self.watch = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the process to end and waits for it; returns how long it took.
    pub fn stop(&mut self) -> Duration {
        let begin = clock::now();
        self.watch = None;
        if let Some(mut child) = self.child.take() {
            // Once waited for, its number may belong to another.
            if matches!(child.try_wait(), Ok(None)) {
                ring::terminate(child.id());
            }
            while matches!(child.try_wait(), Ok(None)) {
                if begin.elapsed() > STOP_MAX {
                    let _ = child.kill();
                }
                clock::sleep(Duration::from_millis(10));
            }
        }
        begin.elapsed()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(self.folder.join("data"));
    }
}

fn free_address() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(|| "finding a free port".into())?;
    listener.local_addr().context(|| "finding a free port".into())
}

/// Looks at a child's memory from a thread of its own, and ends the child where it grows past a bound.
struct Watch {
    /// Cleared before the child is waited for: after that its number may belong to another.
    pid: Arc<Mutex<Option<u32>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(pid: u32, memory_bytes_max: u64) -> Result<Watch, Error> {
        let (shared, ended) = (Arc::new(Mutex::new(Some(pid))), Arc::new(AtomicBool::new(false)));
        let (theirs, flag) = (shared.clone(), ended.clone());
        let look = move || {
            loop {
                {
                    let held = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(pid) = *held else { return };
                    if process::usage(pid).is_some_and(|u| u.rss_bytes > memory_bytes_max) {
                        flag.store(true, Ordering::Release);
                        ring::kill(pid);
                        return;
                    }
                }
                std::thread::park_timeout(WATCH_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("watch".into()).spawn(look);
        let thread = Some(thread.context(|| "thread".to_string())?);
        Ok(Watch { pid: shared, ended, thread })
    }

    fn has_ended_it(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Reads a process tree once a second while something goes on, for the plots.
pub struct Sampler {
    begin: Instant,
    next: Instant,
    pub points: Vec<(f64, process::Usage)>,
}

impl Sampler {
    pub fn start() -> Self {
        let begin = clock::now();
        Sampler { begin, next: begin, points: Vec::new() }
    }

    /// Takes a point if one is due.
    pub fn poll(&mut self, system: &mut System) -> Result<(), Error> {
        let now = clock::now();
        if now >= self.next {
            self.next = now + Duration::from_secs(1);
            self.points.push((now.duration_since(self.begin).as_secs_f64(), system.usage()?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_wrong_ones_refused() {
        let exe = std::env::current_exe().unwrap_or_default();
        let text = format!("ours={} --shards=1 --x,ours-b={}", exe.display(), exe.display());
        let specs = parse_specs(&text).unwrap_or_default();
        assert_eq!(specs.len(), 2);
        assert_eq!((specs[0].kind, specs[0].flags.len(), specs[1].name.as_str()), (Kind::Ours, 2, "ours-b"));
        for wrong in ["", "influx", "ours=/nowhere/at/all", &format!("ours={0},ours={0}", exe.display())] {
            assert!(parse_specs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_child_that_grows_past_its_bound_is_ended_and_no_other() -> Result<(), Box<dyn std::error::Error>> {
        let mut small = Command::new("sleep").arg("30").spawn()?;
        let mut large = Command::new("sleep").arg("30").spawn()?;
        let (a, b) = (Watch::start(small.id(), 1 << 40)?, Watch::start(large.id(), 1)?);
        assert!(!large.wait()?.success() && b.has_ended_it());
        assert!(small.try_wait()?.is_none() && !a.has_ended_it());
        drop(a);
        small.kill()?;
        small.wait()?;
        Ok(())
    }
}
