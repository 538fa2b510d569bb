//! Series of one page that become one by relabeling, or are one: what a real Prometheus keeps and counts of them.

use std::process::Command;

use serde_json::Value;

use crate::house::{Dir, House, Process, Server, eventually};
use crate::peers;
use crate::target::Target;

const PAGE: &str = "other{x=\"1\"} 1
other{x=\"2\"} 2
other{x=\"3\"} 3
same{x=\"1\"} 5
same{x=\"2\"} 5
again 7
again 8
alike 9
alike 9
lone{x=\"1\"} 4
";

const COUNTER: &str = "prometheus_target_scrapes_sample_duplicate_timestamp_total";

fn config(target: &Target) -> String {
    format!(
        "scrape_configs:
  - job_name: j
    scrape_interval: 1s
    static_configs: [{{targets: ['{}']}}]
    metric_relabel_configs: [{{action: labeldrop, regex: x}}]
",
        target.address()
    )
}

fn peer(dir: &Dir, config: &str) -> Option<(Process, Server)> {
    let program = peers::find("prometheus")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?.port();
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.write("peer.yml", config).display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("peer").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let process = Process::start(&mut command, dir.path().join("peer.log"));
    let server = Server { port };
    eventually("the peer is ready", || server.is_ready().then_some(()));
    Some((process, server))
}

/// Name, value of each series after some scrapes, and by how much a scrape raises the counter of duplicates.
fn found(server: &Server) -> (Vec<String>, f64) {
    eventually("some scrapes", || server.value("count_over_time(up[1m]) > 3"));
    let counted = || {
        let page = server.get("/metrics").text();
        let line = page.lines().find(|l| l.starts_with(COUNTER)).expect("the counter").to_owned();
        line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).expect("a number")
    };
    let scrapes = || {
        let value = server.value("count_over_time(up[10m])");
        value.and_then(|v| v.parse::<f64>().ok()).expect("a number")
    };
    // A scrape may come in between the two looks: what fits is looked for.
    let per_scrape = eventually("a whole number of duplicates a scrape", || {
        let (before, count, after) = (scrapes(), counted(), scrapes());
        (before == after).then_some(count / before).filter(|n| n.fract() == 0.0)
    });
    let wanted = "{__name__=~\"other|same|again|alike|lone|up|scrape_samples_.*\"}";
    let result = server.query(wanted);
    let mut all: Vec<String> = result
        .as_array()
        .expect("a vector")
        .iter()
        .map(|s: &Value| format!("{} {}", s["metric"]["__name__"], s["value"][1]))
        .collect();
    all.sort();
    (all, per_scrape)
}

#[test]
fn series_that_become_one_are_kept_and_counted_as_by_a_real_prometheus() {
    let target = Target::with(PAGE);
    let config = config(&target);
    let house = House::new("duplicates", &config);
    let Some(running) = house.start() else { return };
    let Some((_process, peer)) = peer(&house.dir, &config) else { return };
    let want = found(&peer);
    // Two lines of one text are counted, whatever their values; two that become one by relabeling are not.
    assert_eq!((want.0.contains(&"\"other\" \"1\"".to_owned()), want.1), (true, 2.0), "{want:?}");
    assert_eq!(found(&running), want);
}
