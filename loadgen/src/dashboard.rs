//! Workloads Q3 and Q4: dashboards refreshed by many users, and look-ups of labels, over what was scraped.
//!
//! In: a loaded system whose targets are of the node shape. Out: latencies on a schedule, and whether answers had the
//! series they must have. A dashboard has a panel a family of the page, as the one that is made for node_exporter has;
//! a refresh asks the last ten minutes of each, as a client does that keeps what it has.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{escape, query_range_path};
use crate::error::Error;
use crate::load::{self, Asked, Mix};
use crate::system::System;
use crate::targets::Targets;

#[derive(Clone, Copy)]
pub struct Plan {
    pub users: usize,
    /// Between two refreshes of one user.
    pub refresh: Duration,
    pub window: Duration,
}

/// What a client asks again, though it has it, for samples that came late.
const OVERLAP_SECONDS: f64 = 600.0;
const STEP_SECONDS: f64 = 30.0;
/// Connections that browsers open to one server, times users; more than this many threads measure themselves.
const WORKERS_MAX: usize = 64;
/// Look-ups of labels a second.
const LOOKUPS_PER_SECOND: f64 = 20.0;

/// A panel's question, and how many series its answer has.
struct Panel {
    query: String,
    series: usize,
}

/// Refreshes dashboards up to `end` (unix seconds).
pub fn run(plan: &Plan, targets: &Targets, system: &mut System, end: f64) -> Result<Value, Error> {
    let start = (end - OVERLAP_SECONDS).max(targets.epoch_us as f64 / 1e6);
    let window = (4.0 * targets.options.interval.as_secs_f64()).max(60.0);
    let (mut asked, mut wrong) = (Vec::new(), Vec::new());
    let mut panels_count = 0;
    for user in 0..plan.users {
        let host = targets.instance(user * 37 % targets.options.targets);
        let panels = panels(targets, &host, window);
        panels_count = panels.len();
        for panel in panels {
            let path = query_range_path(&panel.query, start, end, STEP_SECONDS);
            if user == 0 {
                let got = system.client().data(&path)?["result"].as_array().map_or(0, Vec::len);
                if got != panel.series {
                    wrong.push(format!("{}: {got} series, the page has {}", panel.query, panel.series));
                }
            }
            asked.push(Asked { kind: 0, path });
        }
    }
    let mix = Mix {
        kinds: vec!["panel"],
        rate: asked.len() as f64 / plan.refresh.as_secs_f64(),
        asked,
        workers: (6 * plan.users).min(WORKERS_MAX),
        window: plan.window,
        together: panels_count.max(1),
    };
    let mut run = load::run(&mix, system)?;
    run["users"] = json!(plan.users);
    run["panels"] = json!(panels_count);
    run["wrong"] = json!(wrong);
    Ok(run)
}

fn panels(targets: &Targets, host: &str, window: f64) -> Vec<Panel> {
    let page = targets.shape.page(0, 0);
    let text = String::from_utf8_lossy(&page);
    let mut panels = Vec::new();
    for family in text.split("# HELP ").skip(1) {
        let name = family.split(' ').next().unwrap_or("");
        let series = family.lines().filter(|l| l.starts_with(name) && !l.is_empty()).count();
        // The line after HELP's text is TYPE; HELP's own line begins with the name, too.
        let series = series.saturating_sub(1);
        let is_counter = family.contains(&format!("# TYPE {name} counter"));
        let selector = format!("{name}{{instance=\"{host}\"}}");
        if is_counter {
            panels.push(Panel { query: format!("rate({selector}[{window}s])"), series });
            panels.push(Panel { query: format!("sum(rate({selector}[{window}s]))"), series: 1 });
        } else {
            panels.push(Panel { query: selector.clone(), series });
            panels.push(Panel { query: format!("max({selector})"), series: 1 });
        }
    }
    panels
}

/// Looks labels up, as query builders and variables do.
pub fn labels(targets: &Targets, system: &mut System, window: Duration) -> Result<Value, Error> {
    let host = escape(&format!("{{instance=\"{}\"}}", targets.instance(0)));
    let lines = targets.shape.page(0, 0);
    let lines = crate::shape::sample_lines(&lines).count();
    // Kind, path, and the least and most entries of the answer: systems have series of their own beside a page's.
    let count = targets.options.targets;
    let all = [
        ("values of instance", "/api/v1/label/instance/values".to_string(), count, count + 1),
        (
            "values of instance, 10",
            "/api/v1/label/instance/values?limit=10".into(),
            count.min(10),
            count.min(10),
        ),
        ("names", "/api/v1/labels".into(), 8, 64),
        ("metric names", "/api/v1/label/__name__/values".into(), 20, 2000),
        ("series of a host", format!("/api/v1/series?match[]={host}"), lines, lines + 20),
    ];
    let mut wrong = Vec::new();
    for (kind, path, least, most) in &all {
        let got = system.client().data(path)?.as_array().map_or(0, Vec::len);
        if !(least..=most).contains(&&got) {
            wrong.push(format!("{kind}: {got} entries, between {least} and {most} are right"));
        }
    }
    let kinds = all.iter().map(|a| a.0).collect();
    let asked = all.into_iter().enumerate().map(|(kind, a)| Asked { kind, path: a.1 }).collect();
    let mix = Mix { kinds, asked, rate: LOOKUPS_PER_SECOND, workers: 8, window, together: 1 };
    let mut run = load::run(&mix, system)?;
    run["wrong"] = json!(wrong);
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;
    use crate::shape::node::Node;
    use crate::targets::Options;
    use std::sync::Arc;

    #[test]
    fn a_dashboard_has_panels_of_every_family_and_knows_their_series()
    -> Result<(), Box<dyn std::error::Error>> {
        let shape = Arc::new(Shape::Node(Node::new(1, 1000, 15.0)));
        let targets = Targets::start(shape, Options::plain(1, Duration::from_secs(15)))?;
        let panels = panels(&targets, "h", 60.0);
        assert!((100..200).contains(&panels.len()), "{} panels", panels.len());
        let of = |query: &str| panels.iter().find(|p| p.query == query).map(|p| p.series);
        assert_eq!(of("rate(node_cpu_seconds_total{instance=\"h\"}[60s])"), Some(384));
        assert_eq!(of("node_load1{instance=\"h\"}"), Some(1));
        let all: usize = panels.iter().step_by(2).map(|p| p.series).sum();
        assert_eq!(all, 1000);
        Ok(())
    }
}
