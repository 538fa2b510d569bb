//! Exchange with a real Prometheus: its promtool says what ours says, its directories are taken over, ours are opened.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::house::{Dir, House, Process, Server, eventually, try_request};
use crate::peers;

const NO_SCRAPES: &str = "scrape_configs: []\n";

pub(crate) fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program:?} {args:?}: {e}"))
}

/// What a command says that must succeed.
pub(crate) fn said(program: &Path, args: &[&str]) -> String {
    let output = run(program, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program:?} {args:?}:\n{out}\n{err}");
    out.into_owned()
}

pub(crate) fn ours() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_systole"))
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_millis() as i64
}

/// Seven hours of a few series that end at `end_ms`: steady, broken off, sparse, odd values and names.
fn open_metrics(end_ms: i64) -> String {
    let mut out = String::from("# HELP steady_total Nothing.\n# TYPE steady counter\n");
    let start = end_ms - 7 * 3_600_000;
    let line = |out: &mut String, key: &str, value: &str, t: i64| {
        out.push_str(&format!("{key} {value} {}.{:03}\n", t / 1000, t % 1000));
    };
    for i in 0..1680 {
        let t = start + i * 15_000;
        for instance in 0..3 {
            let key = format!("steady_total{{instance=\"h{instance}:9\",job=\"j\"}}");
            line(&mut out, &key, &(i * (instance + 1)).to_string(), t);
        }
        if i % 400 < 200 {
            line(&mut out, "broken{instance=\"h0:9\",job=\"j\"}", &format!("{}", i as f64 / 7.0), t);
        }
        if i % 97 == 0 {
            line(
                &mut out,
                "sparse{path=\"C:\\\\a \\\"b\\\"\"}",
                ["NaN", "+Inf", "-Inf", "1e-320"][i as usize % 4],
                t + 7,
            );
        }
    }
    out.push_str("# EOF\n");
    out
}

/// Lines without the columns of a block's name and size.
fn without_names(table: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let cells: Vec<String> = line.split_whitespace().skip(1).map(str::to_owned).collect();
        cells[..cells.len() - 1].to_vec()
    };
    table.lines().map(cells).collect()
}

/// Within a list of `count text`, promtool leaves what is equal in no order.
fn ties_sorted(text: &str) -> Vec<String> {
    let mut lists: Vec<Vec<String>> =
        text.split("\n\n").map(|l| l.lines().map(str::to_owned).collect()).collect();
    let is_list = |l: &str| l.split(' ').next().is_some_and(|n| n.parse::<u64>().is_ok());
    for list in lists.iter_mut().filter(|l| l.iter().skip(1).all(|line| is_list(line))) {
        list.sort();
    }
    lists.concat()
}

#[test]
fn promtool_and_we_say_the_same_of_a_directory() {
    let Some(promtool) = peers::find("promtool") else { return };
    let dir = Dir::new("exchange-tools");
    let text = dir.write("in.txt", &open_metrics(1_700_020_000_000));
    let (theirs, made) = (dir.path().join("theirs"), dir.path().join("ours"));
    let create = |program: &Path, to: &Path| {
        let (text, to) = (text.to_str().expect("a path"), to.to_str().expect("a path"));
        said(program, &["tsdb", "create-blocks-from", "openmetrics", text, to])
    };
    let (a, b) = (create(&promtool, &theirs), create(&ours(), &made));
    assert_eq!(without_names(&a), without_names(&b), "the same blocks were made");
    for data in [&theirs, &made] {
        std::fs::create_dir_all(data.join("wal")).expect("promtool wants one");
        let data = data.to_str().expect("a path");
        let check = |args: &[&str]| {
            let args = [&["tsdb"], args, &[data]].concat();
            assert_eq!(said(&ours(), &args), said(&promtool, &args), "{args:?}");
        };
        check(&["list"]);
        check(&["list", "-r"]);
        check(&["dump"]);
        check(&["dump", "--min-time=1700000000000", "--max-time=1700007000000", "--match=broken"]);
        check(&["dump", "--match=broken", "--match={job=\"j\"}"]);
        check(&["dump-openmetrics"]);
        for args in [&["analyze"][..], &["analyze", "--extended"], &["analyze", "--match={job=\"j\"}"]] {
            let args = [&["tsdb"], args, &[data]].concat();
            assert_eq!(ties_sorted(&said(&ours(), &args)), ties_sorted(&said(&promtool, &args)), "{args:?}");
        }
    }
    for args in [
        &["tsdb", "list", "/nonexistent"][..],
        &["tsdb", "analyze", theirs.to_str().expect("a path"), "nope"],
        &["tsdb", "create-blocks-from", "openmetrics", "/nonexistent", "/tmp/x"],
    ] {
        let (a, b) = (run(&ours(), args), run(&promtool, args));
        assert_eq!(a.status.code(), b.status.code(), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&a.stderr), String::from_utf8_lossy(&b.stderr), "{args:?}");
    }
}

/// A real Prometheus on a directory, maybe one that scrapes itself.
fn prometheus(dir: &Dir, data: &Path, config: &str) -> Option<(Process, Server)> {
    let program = peers::find("prometheus")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?.port();
    let config = dir.write("peer.yml", &config.replace("PORT", &port.to_string()));
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--enable-feature=native-histograms", "--web.enable-admin-api"])
        .arg("--web.enable-remote-write-receiver");
    let process = Process::start(&mut command, dir.path().join("peer.log"));
    let server = Server { port };
    eventually("the peer is ready", || server.is_ready().then_some(()));
    Some((process, server))
}

/// Fifty questions whose answers do not hang on the order in which floats are added.
fn questions() -> Vec<String> {
    let mut all = Vec::new();
    for selector in [
        "steady_total",
        "broken",
        "late",
        "up",
        "prometheus_http_requests_total",
        "go_goroutines",
        "scrape_duration_seconds",
    ] {
        for form in
            ["X", "count_over_time(X[10h])", "max_over_time(X[1h] offset 5s)", "rate(X[5m])", "count(X)"]
        {
            all.push(form.replace('X', selector));
        }
    }
    let histogram = "prometheus_http_request_duration_seconds{handler=\"/api/v1/query\"}";
    for form in
        ["X", "histogram_count(X)", "histogram_quantile(0.9, X)", "count_over_time(X[10h])", "rate(X[1m])"]
    {
        all.push(form.replace('X', histogram));
    }
    for text in [
        "sparse",
        "last_over_time(sparse[3h])",
        "present_over_time(broken[30m] offset 3h)",
        "absent(nothing_at_all)",
        "topk(2, steady_total)",
        "count by (job) ({__name__=~\".+\"})",
        "resets(steady_total[7h])",
        "timestamp(up)",
        "changes(up[10h])",
        "count({__name__=~\"prometheus_tsdb.*\"})",
    ] {
        all.push(text.to_owned());
    }
    all
}

/// Answers at a time, and over the hours before it, in order of their labels.
fn answers(server: &Server, at_ms: i64) -> Vec<(String, Value)> {
    let sorted = |mut v: Value| {
        if let Some(list) = v.as_array_mut() {
            list.sort_by_key(|e| e["metric"].to_string());
        }
        v
    };
    let (end, start) = (crate::house::seconds(at_ms), crate::house::seconds(at_ms - 8 * 3_600_000));
    let mut all = Vec::new();
    for text in questions() {
        let params = [("query", text.as_str()), ("start", &start), ("end", &end), ("step", "180")];
        let range = sorted(server.data("query_range", &params)["result"].take());
        all.push((text.clone(), sorted(server.query_at(&text, at_ms))));
        all.push((format!("{text} over hours"), range));
    }
    all
}

fn compare(ours: &[(String, Value)], theirs: &[(String, Value)]) {
    let mut with_answer = 0;
    for ((text, a), (_, b)) in ours.iter().zip(theirs) {
        assert_eq!(a, b, "{text}");
        with_answer += usize::from(a.as_array().is_some_and(|l| !l.is_empty()));
    }
    assert!(with_answer * 3 > ours.len() * 2, "most questions have an answer: {with_answer}");
    println!("{} answers equal, {with_answer} of them not empty", ours.len());
}

/// One float of `late` at a time, as remote write sends it.
fn write_late(server: &Server, time: i64, value: f64) {
    let mut sample = vec![0x09];
    sample.extend_from_slice(&value.to_le_bytes());
    sample.push(0x10);
    let mut t = time as u64;
    while t >= 0x80 {
        sample.push(t as u8 | 0x80);
        t >>= 7;
    }
    sample.push(t as u8);
    let mut series = b"\x0a\x10\x0a\x08__name__\x12\x04late\x12".to_vec();
    series.push(sample.len() as u8);
    series.extend_from_slice(&sample);
    let mut body = vec![0x0a, series.len() as u8];
    body.extend_from_slice(&series);
    let mut block = vec![body.len() as u8, ((body.len() - 1) << 2) as u8];
    block.extend_from_slice(&body);
    let head =
        "POST /api/v1/write HTTP/1.1\r\nContent-Encoding: snappy\r\nContent-Type: application/x-protobuf";
    let answer = try_request(server.port, head, &block).expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.text());
}

const SELF_SCRAPE: &str = "global: {scrape_interval: 1s}\n\
    storage: {tsdb: {out_of_order_time_window: 2h}}\n\
    scrape_configs: [{job_name: self, static_configs: [{targets: ['127.0.0.1:PORT']}]}]\n";

/// Makes a directory with blocks, a log, a log of late samples, native histograms and tombstones of both; returns
/// the time of the questions and a real Prometheus's answers.
fn real_directory(dir: &Dir, data: &Path) -> Option<(i64, Vec<(String, Value)>)> {
    let promtool = peers::find("promtool")?;
    let text = dir.write("in.txt", &open_metrics(now_ms() - 120_000));
    let (text, to) = (text.to_str()?, data.to_str()?);
    said(&promtool, &["tsdb", "create-blocks-from", "openmetrics", "-q", text, to]);
    let (mut process, server) = prometheus(dir, data, SELF_SCRAPE)?;
    let now = now_ms();
    write_late(&server, now, 1.0);
    [90, 60, 75, 30].iter().for_each(|s| write_late(&server, now - s * 1000, *s as f64));
    for _ in 0..12 {
        server.query("up");
        sleep(Duration::from_secs(1));
    }
    let (start, end) =
        (crate::house::seconds(now - 4 * 3_600_000), crate::house::seconds(now - 3 * 3_600_000));
    for matched in [
        format!("match[]=steady_total%7Binstance%3D%22h1%3A9%22%7D&start={start}&end={end}"),
        "match[]=go_goroutines".to_owned(),
    ] {
        let path = format!("/api/v1/admin/tsdb/delete_series?{matched}");
        assert_eq!(server.call("POST", &path).status, 204);
    }
    sleep(Duration::from_secs(3));
    let at = now_ms() - 500;
    let theirs = answers(&server, at);
    process.signal("TERM");
    process.wait_for_end();
    Some((at, theirs))
}

#[test]
fn a_directory_of_prometheus_is_taken_over_and_given_back() {
    let dir = Dir::new("exchange-real");
    let data = dir.path().join("theirs");
    let Some((at, theirs)) = real_directory(&dir, &data) else { return };
    let house = House::new("exchange-import", NO_SCRAPES);
    let path = format!("--storage.tsdb.path={}", house.data.display());
    let from = data.to_str().expect("a path");
    println!("{}", said(&ours(), &["tsdb", "import", &path, "--shards=2", from]));
    let Some(running) = house.start() else { return };
    compare(&answers(&running, at), &theirs);
    running.stop();
    let again = said(&ours(), &["tsdb", "import", &path, from]);
    assert!(again.contains(", 0 samples taken, "), "nothing is there twice: {again}");
    let back = dir.path().join("back");
    let to = back.to_str().expect("a path");
    println!("{}", said(&ours(), &["tsdb", "export", &path, to]));
    opened_by_promtool(from, &back);
    let Some((mut process, server)) = prometheus(&dir, &back, NO_SCRAPES) else { return };
    compare(&answers(&server, at), &theirs);
    process.signal("TERM");
    process.wait_for_end();
}

/// promtool lists, analyzes and dumps what we wrote, and finds in it the floats of the directory it came from.
fn opened_by_promtool(from: &str, back: &Path) {
    let Some(promtool) = peers::find("promtool") else { return };
    std::fs::create_dir_all(back.join("wal")).expect("promtool wants one");
    let to = back.to_str().expect("a path");
    assert!(said(&promtool, &["tsdb", "list", to]).lines().count() > 3);
    assert!(
        said(&promtool, &["tsdb", "analyze", "--extended", to]).contains("samples per histogram chunk (min")
    );
    let floats = |text: String| {
        let is_float = |line: &&str| !line.contains("} {count:");
        let mut lines: Vec<String> = text.lines().filter(is_float).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (a, b) =
        (floats(said(&promtool, &["tsdb", "dump", from])), floats(said(&promtool, &["tsdb", "dump", to])));
    assert!(a.len() > 6000 && a == b, "{} floats of {}", b.len(), a.len());
    assert_eq!(floats(said(&ours(), &["tsdb", "dump", from])), a);
}
