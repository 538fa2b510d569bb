//! Blocks in the real program: hours of samples are cut from the head, and every answer stays what it was.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::exchange::{ours, said};
use crate::house::{Dir, House, Server, eventually, seconds, try_request};

pub(crate) const SERIES: usize = 25;
pub(crate) const STEP_MS: i64 = 60_000;

fn push_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn push_field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    push_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A remote write of one sample of each series, in a snappy block of one literal.
pub(crate) fn body(time: i64) -> Vec<u8> {
    let mut request = Vec::new();
    for i in 0..SERIES {
        let mut series = Vec::new();
        for (name, value) in [("__name__", format!("m{}_total", i % 4)), ("i", i.to_string())] {
            let mut label = Vec::new();
            push_field(1, name.as_bytes(), &mut label);
            push_field(2, value.as_bytes(), &mut label);
            push_field(1, &label, &mut series);
        }
        let mut sample = vec![0x09];
        let value = (time / 1000 * (i as i64 + 1) % 1_000_000) as f64 / 8.0;
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(0x10);
        push_varint(time as u64, &mut sample);
        push_field(2, &sample, &mut series);
        push_field(1, &series, &mut request);
    }
    let mut block = Vec::new();
    push_varint(request.len() as u64, &mut block);
    block.push(61 << 2);
    block.extend_from_slice(&((request.len() - 1) as u16).to_le_bytes());
    block.extend_from_slice(&request);
    block
}

pub(crate) fn answers(server: &Server, start: i64, end: i64) -> Vec<Value> {
    let (from, to) = (seconds(start), seconds(end));
    let range = |query: &str, step: &str| {
        let params = [("query", query), ("start", &from), ("end", &to), ("step", step)];
        let mut data = server.data("query_range", &params);
        if let Some(series) = data["result"].as_array_mut() {
            series.sort_by_key(|s| s["metric"].to_string());
        }
        data
    };
    let listed = |endpoint: &str| {
        let mut data = server.data(endpoint, &[("start", &from), ("end", &to)]);
        if let Some(all) = data.as_array_mut() {
            all.retain(|v| v.as_str() != Some("__name__") || endpoint == "labels");
            all.sort_by_key(Value::to_string);
        }
        data
    };
    let mut raw = server.query_at("{__name__=~\"m.+\"}[5h]", end);
    if let Some(series) = raw.as_array_mut() {
        series.sort_by_key(|s| s["metric"].to_string());
    }
    vec![
        raw,
        range("m1_total", "60"),
        range("sum by (__name__) (rate({__name__=~\"m.+\"}[10m]))", "120"),
        range("max_over_time(m2_total[1h])", "300"),
        range("count({i=~\"1.*\"})", "600"),
        listed("labels"),
        listed("label/i/values"),
        listed("label/__name__/values"),
    ]
}

pub(crate) fn has_blocks(server: &Server) -> bool {
    let page = server.get("/metrics").text();
    let shards = page.lines().find_map(|l| l.strip_prefix("systole_shards_with_blocks "));
    shards == Some("2")
}

pub(crate) fn block_files(data: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for shard in fs::read_dir(data.join("shards")).expect("shards").flatten() {
        let blocks = fs::read_dir(shard.path().join("blocks")).expect("blocks");
        out.extend(blocks.flatten().map(|f| f.path().display().to_string()));
    }
    out
}

#[test]
fn hours_that_were_cut_are_answered_as_before_through_kills_and_other_shards() {
    let house = House::new("blocks", "scrape_configs: []\n")
        .with("--web.enable-remote-write-receiver")
        .with("--storage.tsdb.block-reload-interval=1s");
    let slow = House::new("blocks-slow", "scrape_configs: []\n").with("--web.enable-remote-write-receiver");
    let (Some(mut running), Some(plain)) = (house.start(), slow.start()) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    // On a full minute, so that both ends of a range are scrape times.
    let end = now / STEP_MS * STEP_MS;
    let start = end - 270 * STEP_MS;
    for time in (start..=end).step_by(STEP_MS as usize) {
        for server in [&running.server, &plain.server] {
            let answer =
                try_request(server.port, "POST /api/v1/write HTTP/1.1", &body(time)).expect("an answer");
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
    }
    let expect = answers(&plain, start, end);
    assert_eq!(expect[0].as_array().map(Vec::len), Some(SERIES));
    eventually("blocks", || has_blocks(&running).then_some(()));
    assert_eq!(answers(&running, start, end), expect, "after the cut");
    let late = try_request(running.port, "POST /api/v1/write HTTP/1.1", &body(start)).expect("an answer");
    assert_eq!(late.status, 400, "what blocks have is settled: {}", late.text());
    running.process.kill();
    let mut running = house.start().expect("it ran before");
    assert_eq!(answers(&running, start, end), expect, "after a kill");
    running.process.kill();
    assert!(block_files(&house.data).len() >= 2);
    let other = house.with("--shards=3");
    let other = House { args: other.args.iter().filter(|a| *a != "--shards=2").cloned().collect(), ..other };
    let running = other.start().expect("it ran before");
    assert_eq!(answers(&running, start, end), expect, "on three shards");
    running.stop();
    plain.stop();
    let out = Dir::new("blocks-exported");
    let data = other.data.display().to_string();
    let target = out.path().display().to_string();
    said(&ours(), &["tsdb", "export", &format!("--storage.tsdb.path={data}"), &target]);
    let samples = said(&ours(), &["tsdb", "dump", &target]).lines().count();
    assert_eq!(samples, SERIES * 271, "all is exported, from blocks and head");
    // What is given back is taken behind the blocks that are there, and a month before them, too.
    let into = format!("--storage.tsdb.path={data}");
    let older: String = (0..SERIES as i64)
        .flat_map(|i| (0..100).map(move |n| (i, n)))
        .map(|(i, n)| {
            format!("m{}_total{{i=\"{i}\"}} {n} {}\n", i % 4, seconds(start - 30 * 86_400_000 + n * 60_000))
        })
        .collect();
    let file = out.write("older.om", &format!("{older}# EOF\n"));
    let month = out.path().join("month").display().to_string();
    said(&ours(), &["tsdb", "create-blocks-from", "openmetrics", &file.display().to_string(), &month]);
    for from in [&target, &month] {
        println!("{}", said(&ours(), &["tsdb", "import", from, &into]));
    }
    let running = other.start().expect("it ran before");
    assert_eq!(answers(&running, start, end), expect, "after the import");
    let count = running.query_at("sum(count_over_time({__name__=~\"m._total\"}[31d]))", end);
    assert_eq!(count[0]["value"][1], (SERIES * (271 + 100)).to_string().as_str());
}

const CLASSES: &str = "scrape_configs: []
storage:
  tsdb:
    retention_classes:
      - {selector: '{i=~\"1.*\"}', time: 1h}
      - {selector: '{i=\"20\"}', time: 30d}
";
const SHORT: &str = "{i=~\"1.*\"}";

/// All samples of a selector in the hours before `end`, those at and after `from`, by series.
fn samples(server: &Server, selector: &str, end: i64, from: i64) -> Vec<Value> {
    let mut all = server.query_at(&format!("{selector}[8h]"), end).as_array().cloned().unwrap_or_default();
    for series in &mut all {
        if let Some(values) = series["values"].as_array_mut() {
            values.retain(|v| v[0].as_f64().is_some_and(|t| t * 1000.0 >= from as f64));
        }
    }
    all.sort_by_key(|s| s["metric"].to_string());
    all
}

/// Of each block, its class and where it begins and ends.
fn classed_blocks(server: &Server) -> Vec<(String, i64, i64)> {
    let data = server.data("status/tsdb/blocks", &[]);
    let of = |b: &Value| {
        let time = |name: &str| b[name].as_i64().expect("a time");
        (b["class"].as_str().unwrap_or("").to_owned(), time("minTime"), time("maxTime"))
    };
    data["blocks"].as_array().expect("a list").iter().map(of).collect()
}

#[test]
fn a_class_with_a_short_retention_is_dropped_while_all_else_stays() {
    let args = |house: House| {
        house
            .with("--web.enable-remote-write-receiver")
            .with("--web.enable-lifecycle")
            .with("--storage.tsdb.block-reload-interval=1s")
    };
    let house = args(House::new("classes", CLASSES));
    let slow = House::new("classes-plain", "scrape_configs: []\n").with("--web.enable-remote-write-receiver");
    let (Some(mut running), Some(plain)) = (house.start(), slow.start()) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let end = now / STEP_MS * STEP_MS;
    let start = end - 420 * STEP_MS;
    for time in (start..=end).step_by(STEP_MS as usize) {
        for server in [&running.server, &plain.server] {
            let answer =
                try_request(server.port, "POST /api/v1/write HTTP/1.1", &body(time)).expect("an answer");
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
    }
    // The head is cut on even hours until it spans three hours at most; of the class only the last block is left.
    let hours = |n: i64| n * 3_600_000;
    let cut_end = (end - hours(3) + hours(2) - 1) / hours(2) * hours(2);
    let kept = cut_end - hours(2);
    assert!(kept > start, "something is dropped");
    let long = "{i!~\"1.*\",__name__=~\"m.+\"}";
    let short = samples(&plain, SHORT, end, kept);
    let rest = samples(&plain, long, end, start);
    assert!(short.len() == 11 && short != samples(&plain, SHORT, end, start) && rest.len() == SERIES - 11);
    eventually("the class's old blocks to go", || {
        (samples(&running, SHORT, end, start) == short).then_some(())
    });
    assert_eq!(samples(&running, long, end, start), rest, "the others are all there");
    let blocks = classed_blocks(&running);
    let of = |class: &str| blocks.iter().filter(|b| b.0 == class).collect::<Vec<_>>();
    assert_eq!(of(SHORT), [&(SHORT.to_owned(), kept, cut_end)], "{blocks:?}");
    assert!(of("{i=\"20\"}").len() > 1 && of("").len() > 1, "{blocks:?}");
    running.process.kill();
    let mut running = house.start().expect("it ran before");
    assert_eq!(samples(&running, SHORT, end, start), short, "after a kill");
    assert_eq!(samples(&running, long, end, start), rest, "after a kill");
    // A configuration that cannot be is refused, and the classes stay.
    house.configure(&CLASSES.replace("30d", "0s"));
    let refused = running.call("POST", "/-/reload");
    assert!(refused.text().contains("must have a 'time' greater than 0"), "{}", refused.text());
    // Blocks of a class that is gone keep it, and its time.
    house.configure("scrape_configs: []\n");
    assert_eq!(running.call("POST", "/-/reload").status, 200);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let have: Vec<_> = classed_blocks(&running).into_iter().filter(|b| b.0 == SHORT).collect();
    assert_eq!(have, [(SHORT.to_owned(), kept, cut_end)]);
    running.process.kill();
    let running =
        args(House { data: house.data.clone(), ..House::new("classes-again", CLASSES) }).with("--shards=3");
    let running =
        House { args: running.args.iter().filter(|a| *a != "--shards=2").cloned().collect(), ..running };
    let running = running.start().expect("it ran before");
    assert_eq!(samples(&running, SHORT, end, start), short, "on three shards");
    assert_eq!(samples(&running, long, end, start), rest, "on three shards");
    running.stop();
    plain.stop();
}
