//! The whole way through at tiny scale: ours, and the real peers where they are at hand.

use systole_loadgen::{history, report, smoke, system};

fn check(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let Ok(mut specs) = system::parse_specs(name) else {
        println!(
            "skipped: no {name} here; `systole-loadgen peers` fetches the peers, a build of all makes ours"
        );
        return Ok(());
    };
    for spec in specs.iter_mut().filter(|s| s.kind == system::Kind::VictoriaMetrics) {
        // It loses what it has not flushed with a kill, five seconds else: something must be left to find.
        spec.flags.push("-inmemoryDataFlushInterval=1s".into());
    }
    let folder = std::env::temp_dir().join(format!("systole-loadgen-test-{name}-{}", std::process::id()));
    // Side by side: nothing is timed here, and most of it is waiting.
    let (mut runs, written) = std::thread::scope(|scope| {
        let written = scope.spawn(|| smoke::written(&smoke::TINY, &specs, folder.join("write")));
        let scraped = smoke::scraped(&smoke::TINY, &specs, folder.join("scrape"));
        (scraped, written.join())
    });
    let _ = std::fs::remove_dir_all(folder);
    runs.extend(written.map_err(|_| "the writes' thread ended by itself")??);
    let report = report::wrap(&[], runs);
    assert_eq!(report::workloads(&report), ["S1", "W1"]);
    let figure = |at: &str| report::figure(&report, "S1", name, at).unwrap_or(f64::NAN);
    assert!(figure("/scrape/cpu_us_per_sample") > 0.0, "{report:#}");
    assert!(figure("/oracle/compared") > 0.0, "{report:#}");
    assert_eq!(figure("/oracle/wrong"), 0.0, "{report:#}");
    assert!(figure("/restart/all_series_seconds") > 0.0, "{report:#}");
    let queries = report["runs"][0]["queries"].as_array().map_or(0, Vec::len);
    assert_eq!(queries, 8, "{report:#}");
    // The truth is told at the system's own times, so a busy machine makes no right answer wrong.
    for asked in report["runs"][0]["queries"].as_array().into_iter().flatten() {
        assert_eq!(asked["equal"], true, "{asked:#}");
    }
    assert_eq!(report["runs"][1]["complaints"].as_array().map(Vec::len), Some(0), "{report:#}");
    Ok(())
}

#[test]
fn every_system_is_measured_and_answers_the_truth() -> Result<(), String> {
    // Side by side, however few CPUs there are: tests take turns by them.
    std::thread::scope(|scope| {
        let named = |name| move || check(name).map_err(|e| format!("{name}: {e}"));
        let running = ["ours", "prometheus", "victoriametrics"].map(|name| scope.spawn(named(name)));
        running.into_iter().try_for_each(|r| r.join().map_err(|_| "a check ended by itself".to_string())?)
    })
}

#[test]
fn hours_are_written_at_once_and_are_all_there() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(specs) = system::parse_specs("ours") else {
        println!("skipped: a build of all makes ours");
        return Ok(());
    };
    let folder = std::env::temp_dir().join(format!("systole-loadgen-test-history-{}", std::process::id()));
    let plan = history::Plan { hosts: 2, lines: 60, hours: 1, rounds: 1, seed: 1, folder: folder.clone() };
    let runs = history::run(&plan, &specs);
    let _ = std::fs::remove_dir_all(folder);
    let report = report::wrap(&[], runs?);
    assert!(report::complaints(&report).is_empty(), "{report:#}");
    let figure = |at: &str| report::figure(&report, "O2 1 h", "ours", at);
    assert!(figure("/history/ack_ms/max").is_some_and(|ms| ms > 0.0), "{report:#}");
    assert_eq!(figure("/history/series").map(|n| n > 0.0), Some(true), "{report:#}");
    Ok(())
}
