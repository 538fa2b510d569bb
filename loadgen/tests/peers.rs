//! The whole way through at tiny scale: ours, and the real peers where they are at hand.

use systole_loadgen::{report, smoke, system};

fn check(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let Ok(specs) = system::parse_specs(name) else {
        println!(
            "skipped: no {name} here; `systole-loadgen peers` fetches the peers, a build of all makes ours"
        );
        return Ok(());
    };
    let folder = std::env::temp_dir().join(format!("systole-loadgen-test-{name}-{}", std::process::id()));
    let runs = smoke::run(&smoke::TINY, &specs, folder.clone());
    let _ = std::fs::remove_dir_all(folder);
    let report = report::wrap(&[], runs?);
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
fn ours_is_measured_and_answers_the_truth() -> Result<(), Box<dyn std::error::Error>> {
    check("ours")
}

#[test]
fn prometheus_is_measured_and_answers_the_truth() -> Result<(), Box<dyn std::error::Error>> {
    check("prometheus")
}

#[test]
fn victoriametrics_is_measured_and_answers_the_truth() -> Result<(), Box<dyn std::error::Error>> {
    check("victoriametrics")
}
