//! Snapshots: a start on one answers as the server did when it was made, and so does a real Prometheus.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use systole::rt::disk::Tail;

use crate::blocks::{STEP_MS, answers, block_files, body, has_blocks};
use crate::deletes::{DELETE, SNAPSHOT, free_port, peer_on};
use crate::exchange::said;
use crate::house::{House, Server, eventually, form, seconds, try_request};
use crate::peers;

const BLOCK_MS: i64 = 2 * 60 * STEP_MS;

const CONFIG: &str = "scrape_configs: []\n";

fn write(server: &Server, time: i64) {
    let answer = try_request(server.port, "POST /api/v1/write HTTP/1.1", &body(time)).expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Makes a snapshot; its directory.
fn snapshot(server: &Server, data: &Path, params: &[(&str, &str)]) -> PathBuf {
    let answer = server.call("POST", &format!("{SNAPSHOT}?{}", form(params)));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let name = text.split('"').nth(9).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(text, format!(r#"{{"status":"success","data":{{"name":"{name}"}}}}"#));
    assert!(name.len() == 33 && name.as_bytes()[15..17] == *b"Z-", "{name}");
    let dir = data.join("snapshots").join(name);
    assert!(dir.is_dir(), "{}", dir.display());
    dir
}

/// What a start on a directory answers.
fn answers_of(data: &Path, shards: &str, ask: impl Fn(&Server) -> Vec<Value>) -> Vec<Value> {
    let mut house = House::new("snapshot-of", CONFIG);
    (house.data, house.args) = (data.to_path_buf(), vec![shards.to_owned()]);
    let running = house.start().expect("it ran before");
    let found = ask(&running);
    running.stop();
    let _ = fs::remove_dir_all(Tail::dir_for(data));
    found
}

#[test]
fn a_snapshot_answers_as_the_server_did() {
    let house = House::new("snapshots", CONFIG)
        .with("--web.enable-remote-write-receiver")
        .with("--web.enable-admin-api")
        .with("--storage.tsdb.block-reload-interval=1s");
    let Some(running) = house.start() else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    // An hour before a block's end: the first block of each shard covers an hour and a half then, at any time of day,
    // and what comes after it is too short for a second one.
    let end = now / BLOCK_MS * BLOCK_MS - 60 * STEP_MS;
    let start = end - 270 * STEP_MS;
    (start..end).step_by(STEP_MS as usize).for_each(|time| write(&running, time));
    eventually("blocks", || has_blocks(&running).then_some(()));
    let gone = [
        ("match[]", "{i=~\"1.\"}"),
        ("start", &*seconds(start + 9 * STEP_MS)),
        ("end", &*seconds(end - STEP_MS)),
    ];
    assert_eq!(running.call("POST", &format!("{DELETE}?{}", form(&gone))).status, 204);
    let ask = |s: &Server| answers(s, start, end);
    let (expect, files) = (ask(&running), block_files(&house.data));
    let whole = snapshot(&running, &house.data, &[]);
    let blocks = snapshot(&running, &house.data, &[("skip_head", "true")]);
    let theirs = snapshot(&running, &house.data, &[("format", "prometheus")]);
    let wrong = running.call("POST", &format!("{SNAPSHOT}?format=x"));
    assert!(wrong.status == 400 && wrong.text().contains("unknown format"), "{}", wrong.text());
    // What comes later is none of a snapshot's business.
    write(&running, end);
    assert_eq!(running.call("POST", &format!("{DELETE}?{}", form(&[("match[]", "{i=\"3\"}")]))).status, 204);
    running.stop();
    assert!(block_files(&whole).len() == files.len() && block_files(&blocks).len() == files.len());
    assert_eq!(answers_of(&whole, "--shards=2", ask), expect, "the whole");
    assert_eq!(answers_of(&whole, "--shards=3", ask), expect, "the whole, on three shards");
    let of_blocks = |s: &Server| answers(s, start, start + 60 * STEP_MS);
    let (of_whole, of_part) =
        (answers_of(&whole, "--shards=3", of_blocks), answers_of(&blocks, "--shards=2", of_blocks));
    assert_eq!(of_part[..5], of_whole[..5], "blocks alone");
    assert_ne!(answers_of(&blocks, "--shards=2", ask), expect, "without the head");
    let left: Vec<_> = fs::read_dir(house.data.join("snapshots")).expect("snapshots").flatten().collect();
    assert_eq!(left.len(), 3, "nothing unfinished is left: {left:?}");
    let (Some(program), Some(promtool)) = (peers::find("prometheus"), peers::find("promtool")) else {
        return;
    };
    let listed = said(&promtool, &["tsdb", "list", &theirs.display().to_string()]);
    assert!(listed.lines().count() >= 3, "{listed}");
    let peer = peer_on(&program, &house, &theirs, free_port(), &[]);
    let found = ask(&peer.server);
    assert_eq!(found[..5], expect[..5], "a real Prometheus");
}
