//! Samples out of order, too old, doubled: the same requests to a real Prometheus and to us, the same answers.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::house::{House, Process, Response, Running, Server, eventually, seconds, try_request};
use crate::peers;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

const CONTENT_V2: &str = "\r\nContent-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// What is counted of them; 3.5.3 does not tell how late they were, and counts a late sample as taken, too, where the
/// series has one at its time already.
const COUNTERS: [&str; 3] = [
    "prometheus_tsdb_out_of_order_samples_total",
    "prometheus_tsdb_too_old_samples_total",
    "prometheus_tsdb_out_of_bound_samples_total",
];

const FLOATS: [&str; 5] = ["a", "b", "c", "d", "e"];
const HISTOGRAMS: [&str; 2] = ["h", "i"];

/// One series of a request: its name, and its samples' times and values.
type Series = (&'static str, Vec<(i64, u8)>);

fn config(window: &str) -> String {
    match window {
        "" => "scrape_configs: []\n".to_owned(),
        w => format!("storage: {{tsdb: {{out_of_order_time_window: {w}}}}}\nscrape_configs: []\n"),
    }
}

struct Pair {
    house: House,
    ours: Running,
    _process: Process,
    theirs: Server,
    chance: u64,
}

impl Pair {
    fn start() -> Option<Pair> {
        let program = peers::find("prometheus")?;
        let mut house = House::new("out-of-order", &config(""))
            .with("--web.enable-remote-write-receiver")
            .with("--web.enable-lifecycle");
        // One shard: what several take of one request is not undone where another refuses its part.
        house.args[0] = "--shards=1".to_owned();
        let ours = house.start()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?.port();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", house.dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", house.dir.path().join("theirs").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-remote-write-receiver", "--web.enable-lifecycle"])
            .arg("--enable-feature=native-histograms");
        let process = Process::start(&mut command, house.dir.path().join("theirs.log"));
        let theirs = Server { port };
        eventually("the peer is ready", || theirs.is_ready().then_some(()));
        Some(Pair { house, ours, _process: process, theirs, chance: 0x9e37_79b9_7f4a_7c15 })
    }

    fn reload(&self, window: &str) {
        self.house.configure(&config(window));
        for server in [*self.ours, self.theirs] {
            let answer = server.call("POST", "/-/reload");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }

    fn chance(&mut self, n: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % n
    }

    /// Sends one request to both; they say the same.
    fn send(&self, is_v2: bool, request: &[Series]) {
        let body = if is_v2 { v2(request) } else { v1(request) };
        let body = snap::raw::Encoder::new().compress_vec(&body).expect("it fits");
        let head = format!("POST /api/v1/write HTTP/1.1{}", if is_v2 { CONTENT_V2 } else { "" });
        let said = |server: &Server| {
            let r: Response = try_request(server.port, &head, &body).expect("an answer");
            let written = |what: &str| {
                r.header(&format!("X-Prometheus-Remote-Write-{what}-Written")).map(str::to_owned)
            };
            (r.status, r.text(), written("Samples"), written("Histograms"))
        };
        assert_eq!(said(&self.ours), said(&self.theirs), "v2 {is_v2}: {request:?}");
    }

    /// What is stored, and what was counted, is the same.
    fn compare(&self, when: &str, end: i64) {
        self.compare_samples(when, end);
        assert_eq!(counters(&self.ours), counters(&self.theirs), "{when}: ours, theirs");
    }

    fn compare_samples(&self, when: &str, end: i64) {
        for name in FLOATS.iter().chain(&HISTOGRAMS) {
            let query = format!("{name}[6h]");
            let params = [("query", query.as_str()), ("time", &seconds(end))];
            let mut ours = self.ours.data("query", &params);
            let mut theirs = self.theirs.data("query", &params);
            assert_eq!(ours["result"].take(), theirs["result"].take(), "{when}: {query}");
        }
    }
}

/// Those that have counted something: Prometheus shows some of the others only from then on.
fn counters(server: &Server) -> BTreeSet<String> {
    let page = server.get("/metrics").text();
    let lines = page.lines().filter(|l| COUNTERS.iter().any(|c| l.starts_with(c)));
    lines.filter(|l| !l.ends_with(" 0")).map(str::to_owned).collect()
}

fn newest_of(server: &Server) -> i64 {
    let page = server.get("/metrics").text();
    let line = page.lines().find(|l| l.starts_with("prometheus_tsdb_head_max_time ")).expect("the metric");
    line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).expect("a time") as i64
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn sized(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Floats as samples, or as histograms of two buckets in `field`.
fn push_samples(out: &mut Vec<u8>, (name, samples): &Series, field: u8) {
    for (time, value) in samples {
        let mut one = Vec::new();
        if HISTOGRAMS.contains(name) {
            one.extend_from_slice(&[0x08, value + 3, 0x19]);
            one.extend_from_slice(&f64::from(*value).to_le_bytes());
            // One span of two buckets, which hold value + 1 and 2.
            one.extend_from_slice(&[0x5a, 4, 0x08, 0, 0x10, 2]);
            let deltas = [i64::from(*value) + 1, 1 - i64::from(*value)];
            let zigzag = deltas.map(|d| ((d << 1) ^ (d >> 63)) as u8);
            sized(&mut one, 12, &zigzag);
            one.push(0x78);
            varint(&mut one, *time as u64);
            sized(out, field, &one);
        } else {
            one.push(0x09);
            one.extend_from_slice(&f64::from(*value).to_le_bytes());
            one.push(0x10);
            varint(&mut one, *time as u64);
            sized(out, 2, &one);
        }
    }
}

fn v1(request: &[Series]) -> Vec<u8> {
    let mut body = Vec::new();
    for one in request {
        let (mut label, mut series) = (Vec::new(), Vec::new());
        sized(&mut label, 1, b"__name__");
        sized(&mut label, 2, one.0.as_bytes());
        sized(&mut series, 1, &label);
        push_samples(&mut series, one, 4);
        sized(&mut body, 1, &series);
    }
    body
}

fn v2(request: &[Series]) -> Vec<u8> {
    let mut body = Vec::new();
    for (i, one) in request.iter().enumerate() {
        let mut series = Vec::new();
        sized(&mut series, 1, &[1, 2 + i as u8]);
        push_samples(&mut series, one, 3);
        sized(&mut body, 5, &series);
    }
    for text in ["", "__name__"].into_iter().chain(request.iter().map(|s| s.0)) {
        sized(&mut body, 4, text.as_bytes());
    }
    body
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_secs() as i64 * SECOND
}

/// Distances from the newest sample at which something changes, or nothing does.
const BEHIND: [i64; 17] = [
    -5 * SECOND,
    -SECOND,
    0,
    0,
    SECOND,
    5 * SECOND,
    MINUTE,
    10 * MINUTE,
    30 * MINUTE - 1,
    30 * MINUTE,
    30 * MINUTE + 1,
    HOUR,
    HOUR + 1,
    2 * HOUR,
    2 * HOUR + 1,
    3 * HOUR,
    -20 * MINUTE,
];

/// Of two samples at one time, of which one came late, either may win: they are alike.
fn value_at(time: i64) -> u8 {
    (time as u64 / 7 % 3) as u8
}

/// How many of them lie within half an hour.
const YOUNG: usize = 8;

#[test]
fn late_samples_meet_what_they_would_meet_in_prometheus() {
    check(&FLOATS);
}

#[test]
fn late_histograms_meet_what_they_would_meet_in_prometheus() {
    check(&HISTOGRAMS);
}

/// Sends random requests for these series to both, under changing windows.
fn check(names: &'static [&'static str]) {
    let Some(mut pair) = Pair::start() else { return };
    let base = now();
    // An empty house counts from the first sample of the request.
    let at = |behind: i64| (base - behind, value_at(base - behind));
    let other = |behind: i64| (base - behind, value_at(base - behind) + 1);
    pair.send(false, &[("a", vec![at(10 * MINUTE)]), ("b", vec![at(3 * HOUR)])]);
    pair.send(true, &[("a", vec![at(10 * MINUTE)]), ("b", vec![at(3 * HOUR)])]);
    pair.send(true, &[("h", vec![at(10 * MINUTE)]), ("b", vec![at(9 * MINUTE)])]);
    for is_v2 in [false, true] {
        pair.send(is_v2, &[("b", vec![other(9 * MINUTE)])]);
        pair.send(is_v2, &[("h", vec![other(10 * MINUTE)])]);
    }
    pair.compare("the first", base + 20 * MINUTE);
    let mut newest = base - 9 * MINUTE;
    for (phase, window) in ["", "30m", "2h", "90m", "", "30m"].into_iter().enumerate() {
        pair.reload(window);
        for turn in 0..60 {
            let count = 1 + pair.chance(3);
            let mut request: Vec<Series> = Vec::new();
            for _ in 0..count {
                let name = names[pair.chance(names.len() as u64) as usize];
                if request.iter().any(|r| r.0 == name) {
                    continue;
                }
                // Floats may come in any order; of histograms one at a time.
                let most = if HISTOGRAMS.contains(&name) { 1 } else { 1 + pair.chance(3) };
                let mut samples = Vec::new();
                // 3.5.3 gives up a whole request of the second protocol for a histogram that is too old, with a 500;
                // 3.14 refuses it like a float.
                let is_spared = HISTOGRAMS.contains(&name) && turn % 2 == 1;
                let behind = if is_spared { &BEHIND[..YOUNG] } else { &BEHIND[..] };
                for _ in 0..most {
                    let time = newest - behind[pair.chance(behind.len() as u64) as usize];
                    samples.push((time, value_at(time)));
                }
                request.push((name, samples));
            }
            pair.send(turn % 2 == 1, &request);
            newest = newest_of(&pair.theirs);
        }
        let when = format!("phase {phase}, window {window:?}");
        match names == FLOATS {
            true => pair.compare(&when, base + HOUR),
            // 3.5.3 counts some refused histograms twice.
            false => pair.compare_samples(&when, base + HOUR),
        }
    }
    // What was taken late is found again, under a configuration that takes nothing late.
    pair.ours.process.kill();
    pair.house.configure(&config(""));
    let Some(again) = pair.house.start() else { return };
    pair.ours = again;
    pair.compare_samples("after a kill", base + HOUR);
}
