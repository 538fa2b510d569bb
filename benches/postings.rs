//! What does it cost to find series? Matchers of every kind over the index of one shard.
//!
//! `cargo bench --bench postings [-- SERIES]`; without a figure a small index, to see that it runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use model::Labels;
use model::matcher::{MatchOp, Matcher};
use systole::shard::index::Index;

const HOSTS_SHARE: u64 = 1000;
/// Long enough that a clock's step is nothing, short enough for a test.
const TIME_PER_CASE: Duration = Duration::from_millis(200);

fn main() {
    let series = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(20_000u64);
    let started = Instant::now();
    let index = index(series);
    let each = started.elapsed().as_nanos() as f64 / series as f64;
    println!("{series} series, {} pairs: {each:.0} ns to insert one", index.pair_count());
    let name = || Matcher::equal("__name__", "node_cpu_seconds_total");
    let regex = |op, label: &str, text: &str| Matcher::new(op, label, text).expect("an expression");
    let host = "10.0.0.1:9100";
    for (what, matchers) in [
        ("one name", vec![name()]),
        ("name and instance", vec![name(), Matcher::equal("instance", host)]),
        ("name and mode", vec![name(), Matcher::equal("mode", "idle")]),
        ("name, not a mode", vec![name(), regex(MatchOp::NotEqual, "mode", "idle")]),
        (
            "a set of instances",
            vec![name(), regex(MatchOp::Regex, "instance", "10.0.0.1:9100|10.0.0.2:9100")],
        ),
        ("instances by prefix", vec![name(), regex(MatchOp::Regex, "instance", "10\\.0\\.0\\..*")]),
        ("without a label", vec![regex(MatchOp::Equal, "mode", ""), Matcher::equal("instance", host)]),
        ("everything", vec![regex(MatchOp::NotEqual, "__name__", "")]),
    ] {
        let found = index.matching(&matchers).len();
        let (mut runs, started) = (0u32, Instant::now());
        while started.elapsed() < TIME_PER_CASE {
            black_box(index.matching(black_box(&matchers)));
            runs += 1;
        }
        let ns = started.elapsed().as_nanos() as f64 / f64::from(runs);
        println!(
            "{what:<22} {found:>9} series {:>12.1} us {:>9.2} ns/series",
            ns / 1e3,
            ns / found.max(1) as f64
        );
    }
}

/// A fleet's index: half of all series are CPU counters, the others of names by the hundred.
fn index(series: u64) -> Index {
    const MODES: [&str; 8] = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
    let mut index = Index::default();
    for i in 0..series {
        let (host, line) = (i / HOSTS_SHARE, i % HOSTS_SHARE);
        let instance = format!("10.{}.{}.{}:9100", host >> 16, host >> 8 & 255, host & 255);
        let labels = if line < HOSTS_SHARE / 2 {
            Labels::from_pairs([
                ("__name__", "node_cpu_seconds_total".to_owned()),
                ("cpu", (line / 8).to_string()),
                ("instance", instance),
                ("job", "node".to_owned()),
                ("mode", MODES[line as usize % 8].to_owned()),
            ])
        } else {
            Labels::from_pairs([
                ("__name__", format!("node_metric_{}", line % 100)),
                ("device", format!("dev{}", line / 100)),
                ("instance", instance),
                ("job", "node".to_owned()),
            ])
        };
        index.find_or_insert(&labels).expect("room for a test's series");
    }
    index
}
