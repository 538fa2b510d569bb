//! Deletes and their cleaning: the same wishes to a real Prometheus and to us, the same answers.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::blocks::{STEP_MS, answers, block_files, body, has_blocks};
use crate::house::{House, Process, Running, Server, eventually, form, seconds, try_request};
use crate::peers;

pub(crate) const DELETE: &str = "/api/v1/admin/tsdb/delete_series";
pub(crate) const SNAPSHOT: &str = "/api/v1/admin/tsdb/snapshot";
const CLEAN: &str = "/api/v1/admin/tsdb/clean_tombstones";

/// A real Prometheus beside one of our houses.
pub(crate) struct Peer {
    process: Process,
    pub(crate) server: Server,
}

/// Started on `data`, with the configuration of a house.
pub(crate) fn peer_on(program: &Path, house: &House, data: &Path, port: u16, args: &[&str]) -> Peer {
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", house.dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--web.enable-remote-write-receiver")
        .args(args);
    let process = Process::start(&mut command, house.dir.path().join("theirs.log"));
    let server = Server { port };
    eventually("the peer is ready", || server.is_ready().then_some(()));
    Peer { process, server }
}

fn peer(program: &Path, house: &House, port: u16, args: &[&str]) -> Peer {
    peer_on(program, house, &house.dir.path().join("theirs"), port, args)
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

fn house() -> House {
    House::new("deletes", "scrape_configs: []\n")
        .with("--web.enable-remote-write-receiver")
        .with("--storage.tsdb.block-reload-interval=1s")
}

/// Sends a request to both, which say the same.
fn wish(servers: [Server; 2], method: &str, path: &str, params: &[(&str, &str)]) -> u16 {
    let said = servers.map(|s| {
        let r = s.call(method, &format!("{path}?{}", form(params)));
        (r.status, r.text())
    });
    assert_eq!(said[0], said[1], "{method} {path} {params:?}: ours, theirs");
    said[0].0
}

fn write(servers: [Server; 2], time: i64) {
    for server in servers {
        let answer = try_request(server.port, "POST /api/v1/write HTTP/1.1", &body(time)).expect("an answer");
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
}

fn series(server: &Server, start: i64, end: i64) -> Value {
    let params = [("match[]", "{i=~\".+\"}"), ("start", &*seconds(start)), ("end", &*seconds(end))];
    let mut series = server.data("series", &params);
    if let Some(all) = series.as_array_mut() {
        all.sort_by_key(Value::to_string);
    }
    series
}

/// What is told of labels.
fn listed(server: &Server, start: i64, end: i64) -> Vec<Value> {
    let (from, to) = (seconds(start), seconds(end));
    let times = [("start", from.as_str()), ("end", to.as_str())];
    let values = |name: &str| server.data(&format!("label/{name}/values"), &times);
    let some = server.data("label/i/values", &[("match[]", "m1_total"), times[0], times[1]]);
    vec![server.data("labels", &times), values("i"), values("__name__"), some]
}

/// `/federate`, the lines in order.
fn federated(server: &Server) -> Vec<String> {
    let page = server.get(&format!("/federate?{}", form(&[("match[]", "{i=~\".+\"}")]))).text();
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn compare(servers: [Server; 2], start: i64, end: i64, when: &str) {
    assert_eq!(answers(&servers[0], start, end), answers(&servers[1], start, end), "{when}");
    assert_eq!(federated(&servers[0]), federated(&servers[1]), "{when}: federated");
    // Of a part of the time 3.5.3 cannot tell, where several times were deleted: it panics.
    assert_eq!(series(&servers[0], start, end), series(&servers[1], start, end), "{when}: series");
    // All there is, and a time that only blocks have.
    for (from, to) in [(start, end), (start, start + 60 * STEP_MS)] {
        assert_eq!(listed(&servers[0], from, to), listed(&servers[1], from, to), "{when}: {from} to {to}");
    }
}

#[test]
fn who_may_not_delete_is_told_so_as_prometheus_tells() {
    let Some(program) = peers::find("prometheus") else { return };
    for args in [&[][..], &["--web.enable-admin-api"]] {
        let mut house = house();
        args.iter().for_each(|a| house.args.push((*a).to_owned()));
        let Some(ours) = house.start() else { return };
        let theirs = peer(&program, &house, free_port(), args);
        let both = [*ours, theirs.server];
        for method in ["POST", "PUT", "GET"] {
            for params in [
                &[][..],
                &[("match[]", "up"), ("start", "x")],
                &[("match[]", "up"), ("end", "x")],
                &[("match[]", "up"), ("match[]", "{")],
                &[("match[]", "")],
                &[("match[]", "up"), ("start", "10"), ("end", "5")],
                &[("match[]", "{}")],
                &[("match[]", "{a=~\".*\"}")],
            ] {
                wish(both, method, DELETE, params);
            }
            wish(both, method, CLEAN, &[]);
            let asks = |skips| [("skip_head", skips)];
            wish(both, method, SNAPSHOT, &asks("q"));
            if method == "GET" || args.is_empty() {
                wish(both, method, SNAPSHOT, &asks("true"));
            }
        }
        ours.stop();
    }
}

#[test]
fn deleted_samples_are_gone_as_they_are_from_prometheus() {
    let Some(program) = peers::find("prometheus") else { return };
    let house = house().with("--web.enable-admin-api");
    let Some(ours) = house.start() else { return };
    let (port, admin) = (free_port(), ["--web.enable-admin-api"]);
    let theirs = peer(&program, &house, port, &admin);
    let both = [*ours, theirs.server];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let end = now / STEP_MS * STEP_MS;
    let start = end - 270 * STEP_MS;
    (start..=end - 2 * STEP_MS).step_by(STEP_MS as usize).for_each(|time| write(both, time));
    eventually("our blocks", || has_blocks(&ours).then_some(()));
    eventually("their block", || {
        let page = theirs.server.get("/metrics").text();
        page.lines()
            .any(|l| l.starts_with("prometheus_tsdb_blocks_loaded ") && !l.ends_with(" 0"))
            .then_some(())
    });
    compare(both, start, end, "before");
    let at = |steps: i64| seconds(start + steps * STEP_MS);
    // A metric; a time in blocks; one from blocks into the head; the head's end and beyond; some series.
    assert_eq!(wish(both, "POST", DELETE, &[("match[]", "m0_total")]), 204);
    compare(both, start, end, "a metric");
    let of_blocks = both.map(|s| series(&s, start, start + 60 * STEP_MS));
    assert_eq!(of_blocks[0], of_blocks[1], "series of a time that only blocks have: ours, theirs");
    wish(both, "PUT", DELETE, &[("match[]", "{i=\"5\"}"), ("start", &at(10)), ("end", &at(40))]);
    wish(both, "POST", DELETE, &[("match[]", "m1_total"), ("start", &at(20)), ("end", &at(200))]);
    wish(both, "POST", DELETE, &[("match[]", "m2_total"), ("match[]", "{i=\"7\"}"), ("start", &at(260))]);
    wish(both, "POST", DELETE, &[("match[]", "{i=~\"1.\",__name__!=\"m3_total\"}"), ("end", &at(5))]);
    wish(both, "POST", DELETE, &[("match[]", "{i=~\"1.\"}"), ("start", &at(3)), ("end", &at(8))]);
    compare(both, start, end, "parts");
    (end - STEP_MS..=end).step_by(STEP_MS as usize).for_each(|time| write(both, time));
    compare(both, start, end, "what comes is there");
    let (ours, theirs) = again(&house, ours, theirs, &program, port);
    compare([*ours, theirs.server], start, end, "after a kill");
    let files = block_files(&house.data);
    assert!(files.iter().any(|f| f.ends_with(".tombstones")), "{files:?}");
    assert_eq!(wish([*ours, theirs.server], "POST", CLEAN, &[]), 204);
    compare([*ours, theirs.server], start, end, "cleaned");
    let files = block_files(&house.data);
    assert!(!files.iter().any(|f| f.ends_with(".tombstones")), "{files:?}");
    let page = ours.get("/metrics").text();
    assert!(page.contains("\nprometheus_tsdb_tombstone_cleanup_seconds_count 1\n"), "{page}");
    let (ours, theirs) = again(&house, ours, theirs, &program, port);
    compare([*ours, theirs.server], start, end, "cleaned, and after a kill");
    assert_eq!(wish([*ours, theirs.server], "POST", DELETE, &[("match[]", "{}")]), 204);
    compare([*ours, theirs.server], start, end, "nothing more");
    assert_eq!(wish([*ours, theirs.server], "POST", DELETE, &[("match[]", "{a=~\".*\"}")]), 204);
    // Blocks of which all is deleted go by themselves, sooner or later, and the labels with them.
    let samples = [*ours, theirs.server].map(|s| answers(&s, start, end)[..5].to_vec());
    assert_eq!(samples[0], samples[1], "all is gone: ours, theirs");
    ours.stop();
}

/// Both killed and started again.
fn again(house: &House, mut ours: Running, mut theirs: Peer, program: &Path, port: u16) -> (Running, Peer) {
    ours.process.kill();
    theirs.process.kill();
    let ours = house.start().expect("it ran before");
    (ours, peer(program, house, port, &["--web.enable-admin-api"]))
}
