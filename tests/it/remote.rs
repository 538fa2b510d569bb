//! Remote write to the real program: a real Prometheus sends, and everything it scraped is found.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::house::{Dir, House, Process, Response, Server, eventually, try_request};
use crate::peers;

const NO_SCRAPES: &str = "scrape_configs: []\n";
const ENABLED: &str = "--web.enable-remote-write-receiver";

fn write(server: &Server, headers: &str, body: &[u8]) -> Response {
    let head = format!("POST /api/v1/write HTTP/1.1{headers}");
    try_request(server.port, &head, body).expect("an answer")
}

/// One sample of `__name__="m"` in a snappy block of one literal.
fn one_sample(time: i64, value: f64) -> Vec<u8> {
    let mut sample = vec![0x09];
    sample.extend_from_slice(&value.to_le_bytes());
    sample.push(0x10);
    let mut t = time as u64;
    while t >= 0x80 {
        sample.push(t as u8 | 0x80);
        t >>= 7;
    }
    sample.push(t as u8);
    let mut series = b"\x0a\x0d\x0a\x08__name__\x12\x01m\x12".to_vec();
    series.push(sample.len() as u8);
    series.extend_from_slice(&sample);
    let mut body = vec![0x0a, series.len() as u8];
    body.extend_from_slice(&series);
    let mut block = vec![body.len() as u8, ((body.len() - 1) << 2) as u8];
    block.extend_from_slice(&body);
    block
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_millis() as i64
}

#[test]
fn the_receiver_answers_as_prometheus_does() {
    let now = now_ms();
    let off = House::new("remote-off", NO_SCRAPES);
    let Some(running) = off.start() else { return };
    let answer = write(&running, "", &one_sample(now, 1.0));
    let disabled = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
    assert_eq!((answer.status, answer.text().as_str()), (404, disabled));
    running.stop();
    let on = House::new("remote-on", NO_SCRAPES).with(ENABLED);
    let Some(mut running) = on.start() else { return };
    let check = |headers: &str, body: &[u8], expect: (u16, &str)| {
        let answer = write(&running, headers, body);
        assert_eq!((answer.status, answer.text().as_str()), expect);
    };
    check("", &one_sample(now - 1000, 1.0), (204, ""));
    check("\r\nContent-Encoding: snappy", &one_sample(now, 2.0), (204, ""));
    check("", &one_sample(now - 500, 2.0), (400, "out of order sample\n"));
    check("", b"\x05no", (400, "snappy: corrupt input\n"));
    let plain = "expected application/x-protobuf as the first (media) part, got text/plain content-type\n";
    check("\r\nContent-Type: text/plain", &[], (415, plain));
    let gzip = "gzip encoding (compression) is not accepted by this server; only snappy is acceptable\n";
    check("\r\nContent-Encoding: gzip", &[], (415, gzip));
    let v2 = "\r\nContent-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let empty = write(&running, v2, &[0]);
    assert_eq!((empty.status, empty.header("X-Prometheus-Remote-Write-Samples-Written")), (204, Some("0")));
    assert_eq!(running.get("/api/v1/write").status, 405);
    assert_eq!(running.value("m").as_deref(), Some("2"));
    running.process.kill();
    drop(running);
    let Some(again) = on.start() else { return };
    assert_eq!(again.value("count_over_time(m[1m])").as_deref(), Some("2"), "what was acknowledged is kept");
}

/// Reads from `stream` until what came ends with `end`.
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&text)));
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn a_connection_may_say_other_things_than_remote_write() {
    let house = House::new("remote-mixed", NO_SCRAPES).with(ENABLED);
    let Some(running) = house.start() else { return };
    let mut stream = TcpStream::connect(("127.0.0.1", running.port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let now = now_ms();
    let mut bytes = Vec::new();
    let say = |bytes: &mut Vec<u8>, body: &[u8]| {
        let head =
            format!("POST /api/v1/write HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body);
    };
    // In one go: what a shard takes, what it does not, and what the front then takes in its stead.
    say(&mut bytes, &one_sample(now - 2000, 1.0));
    say(&mut bytes, &one_sample(now - 1000, 2.0));
    say(&mut bytes, &one_sample(now - 5000, 2.0));
    bytes.extend_from_slice(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n");
    say(&mut bytes, &one_sample(now, 3.0));
    let (first, rest) = bytes.split_at(70);
    stream.write_all(first).expect("a piece of a head");
    sleep(Duration::from_millis(100));
    stream.write_all(rest).expect("the rest");
    for _ in 0..2 {
        let answer = read_to(&mut stream, "\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 204 No Content\r\n") && answer.contains("\r\ndate: "),
            "{answer}"
        );
    }
    let refused = read_to(&mut stream, "out of order sample\n");
    assert!(refused.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{refused}");
    assert!(refused.contains("content-length: 20\r\n"), "{refused}");
    assert!(refused.contains("x-content-type-options: nosniff\r\n"), "{refused}");
    let healthy = read_to(&mut stream, "Prometheus Server is Healthy.\n");
    assert!(healthy.starts_with("HTTP/1.1 200 OK\r\n"), "{healthy}");
    assert!(read_to(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 204 No Content\r\n"));
    assert_eq!(running.value("count_over_time(m[1m])").as_deref(), Some("3"));
    let counted = "prometheus_http_requests_total{code=\"204\",handler=\"/api/v1/write\"} 3";
    let page = running.get("/metrics").text();
    assert!(page.contains(counted), "{page}");
}

/// A Prometheus that scrapes itself each second and sends it all on.
fn sender(dir: &Dir, receiver: &Server, message: &str) -> Option<(Process, Server)> {
    let program = peers::find("prometheus")?;
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?.port();
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n\
         remote_write: [{{url: 'http://127.0.0.1:{}/api/v1/write', protobuf_message: {message}, \
         send_native_histograms: true}}]\n",
        receiver.port
    );
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.write("sender.yml", &config).display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("sender").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let process = Process::start(&mut command, dir.path().join("sender.log"));
    let server = Server { port };
    eventually("the sender is ready", || server.is_ready().then_some(()));
    Some((process, server))
}

fn check_sender(message: &str) {
    let house = House::new("remote-peer", NO_SCRAPES).with(ENABLED);
    let Some(running) = house.start() else { return };
    let Some((_process, sender)) = sender(&house.dir, &running, message) else { return };
    let scrapes = |server: &Server| -> f64 {
        server.value("max(count_over_time(up[1m]))").and_then(|v| v.parse().ok()).unwrap_or(0.0)
    };
    eventually("six scrapes have come", || (scrapes(&running) >= 6.0).then_some(()));
    // Sums over samples that lie far enough back for both to have them.
    let at = now_ms() / 1000 - 2;
    for query in [
        format!("sum(count_over_time(prometheus_http_requests_total[3s] @ {at}))"),
        format!("sum(sum_over_time(prometheus_http_requests_total[3s] @ {at}))"),
        format!("sum(sum_over_time(go_memstats_alloc_bytes[3s] @ {at}))"),
    ] {
        let mut pair = (None, None);
        for _ in 0..100 {
            pair = (sender.value(&query), running.value(&query));
            if pair.0.is_some() && pair.0 == pair.1 {
                break;
            }
            sleep(Duration::from_millis(100));
        }
        assert!(pair.0.is_some() && pair.0 == pair.1, "{message}: {query}: {pair:?}");
    }
    let failed = sender.value("sum(prometheus_remote_storage_samples_failed_total)");
    assert!(failed.is_none_or(|n| n == "0"), "{message}");
}

#[test]
fn a_real_prometheus_sends_all_it_scrapes() {
    check_sender("prometheus.WriteRequest");
}

#[test]
fn a_real_prometheus_sends_the_second_protocol() {
    check_sender("io.prometheus.write.v2.Request");
}

/// What a target of two scrapers shows: always the same.
const PAGE: &str = r#"# HELP m_total Counted.
# TYPE m_total counter
m_total{a="1",b="x y"} 17
m_total{a="\"quoted\" \\ \n",b="é😀"} 1.5e300
# TYPE h histogram
h_bucket{le="0.25"} 3
h_bucket{le="+Inf"} 4
h_sum 1.25
h_count 4
# TYPE g gauge
g{k="nan"} NaN
g{k="inf"} -Inf
g{k="tiny"} 5e-324
g{k="empty",e=""} 0
plain 0.1
"#;

/// Shows the page to everybody; says on which port.
fn target() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut request = Vec::new();
            let mut chunk = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut chunk) {
                    Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
                    _ => break,
                }
            }
            let length = PAGE.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            let _ = stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{PAGE}").as_bytes());
        }
    });
    port
}

/// Series of the page and their values, in order.
fn shown(server: &Server) -> Vec<String> {
    let result = server.query("{job=\"page\",__name__!~\"up|scrape_.*\"}");
    let series = result.as_array().cloned().unwrap_or_default();
    let mut out: Vec<String> = series.iter().map(|s| format!("{} {}", s["metric"], s["value"][1])).collect();
    out.sort();
    out
}

#[test]
fn a_real_vmagent_sends_all_it_scrapes() {
    let Some(program) = peers::find("vmagent") else { return };
    let port = target();
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs: [{{job_name: page, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    );
    let direct = House::new("vmagent-direct", &scrape);
    let sent = House::new("vmagent-sent", NO_SCRAPES).with(ENABLED);
    let (Some(direct), Some(receiver)) = (direct.start(), sent.start()) else { return };
    let mut command = Command::new(program);
    command
        .arg(format!("-promscrape.config={}", sent.dir.write("vmagent.yml", &scrape).display()))
        .arg(format!("-remoteWrite.url=http://127.0.0.1:{}/api/v1/write", receiver.port))
        .arg(format!("-remoteWrite.tmpDataPath={}", sent.dir.path().join("vmagent").display()))
        .arg("-httpListenAddr=127.0.0.1:0");
    let process = Process::start(&mut command, sent.dir.path().join("vmagent.log"));
    let page_lines = PAGE.lines().filter(|l| !l.starts_with('#')).count();
    eventually("the page was scraped", || (shown(&direct).len() == page_lines).then_some(()));
    eventually("the page was sent", || (shown(&receiver).len() == page_lines).then_some(()));
    assert_eq!(shown(&receiver), shown(&direct), "{}", process.said());
}
