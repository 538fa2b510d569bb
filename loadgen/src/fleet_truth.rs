//! What queries over a fleet must answer, from what its targets served: sums by label of rates and last values, of
//! series that begin, end and start anew.
//!
//! In: the log of served pages, a moment. Out: values by group. Invariant: a series that ended, or whose target was
//! down at its last scrape, has no last value; a rate counts a fall of a counter as a reset.

use std::collections::HashMap;

use crate::shape::fleet::{Fleet, Sort};
use crate::targets::{Served, Targets};
use crate::truth::{Groups, RateRule, extrapolated_rate, is_after};

/// How a query is put; `W` in it stands for the window of a rate.
pub struct Asked {
    pub id: &'static str,
    pub query: &'static str,
    pub range: bool,
    pub by: &'static [&'static str],
    family: &'static str,
    what: What,
    join: Option<Join>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Rate,
    Last,
    Count,
    /// Counts the values that are one.
    CountOnes,
}

/// Series of the family are multiplied by the info series that has the same `on` labels.
#[derive(Clone, Copy)]
struct Join {
    info: &'static str,
    on: &'static [&'static str],
}

type Row = (&'static str, &'static str, &'static [&'static str], &'static str, What);

const fn row((id, query, by, family, what): Row, range: bool, join: Option<Join>) -> Asked {
    Asked { id, query, range, by, family, what, join }
}

const POD: Option<Join> = Some(Join { info: "kube_pod_info", on: &["namespace", "pod"] });
const OSD: Option<Join> = Some(Join { info: "ceph_osd_metadata", on: &["ceph_daemon"] });
const CPU: &str = "container_cpu_usage_seconds_total";
const BY_NAMESPACE: &str = "sum by (namespace) (rate(container_cpu_usage_seconds_total[W]))";
const BY_NODE: &str = "sum by (node) (rate(container_cpu_usage_seconds_total[W]) \
                       * on (namespace, pod) group_left (node) kube_pod_info)";
const BY_CLASS: &str = "sum by (device_class) (rate(ceph_osd_op_w[W]) \
                        * on (ceph_daemon) group_left (device_class) ceph_osd_metadata)";
const VCPU: &str = "libvirt_domain_vcpu_time_seconds_total";
const BY_PROJECT: &str = "sum by (project_name) (rate(libvirt_domain_vcpu_time_seconds_total[W]))";
const MEMORY: &str = "libvirt_domain_info_memory_usage_bytes";

/// What each fleet is asked.
pub fn asked(sort: Sort) -> Vec<Asked> {
    use What::{Count, CountOnes, Last, Rate};
    match sort {
        Sort::Kube => vec![
            row(("f1", BY_NAMESPACE, &["namespace"], CPU, Rate), false, None),
            row(("f2", BY_NODE, &["node"], CPU, Rate), false, POD),
            row(
                (
                    "f3",
                    "count by (phase) (kube_pod_status_phase == 1)",
                    &["phase"],
                    "kube_pod_status_phase",
                    CountOnes,
                ),
                false,
                None,
            ),
            row(
                (
                    "f4",
                    "sum by (namespace) (container_memory_working_set_bytes)",
                    &["namespace"],
                    "container_memory_working_set_bytes",
                    Last,
                ),
                false,
                None,
            ),
            row(("f5", BY_NAMESPACE, &["namespace"], CPU, Rate), true, None),
        ],
        Sort::Ceph => vec![
            row(
                ("f1", "sum by (instance) (rate(ceph_osd_op_w[W]))", &["instance"], "ceph_osd_op_w", Rate),
                false,
                None,
            ),
            row(("f2", BY_CLASS, &["device_class"], "ceph_osd_op_w", Rate), false, OSD),
            row(
                (
                    "f3",
                    "count by (device_class) (ceph_osd_metadata)",
                    &["device_class"],
                    "ceph_osd_metadata",
                    Count,
                ),
                false,
                None,
            ),
            row(
                (
                    "f4",
                    "sum by (instance) (ceph_bluestore_onodes)",
                    &["instance"],
                    "ceph_bluestore_onodes",
                    Last,
                ),
                false,
                None,
            ),
            row(("f5", BY_CLASS, &["device_class"], "ceph_osd_op_w", Rate), true, OSD),
        ],
        Sort::Openstack => vec![
            row(("f1", BY_PROJECT, &["project_name"], VCPU, Rate), false, None),
            row(
                (
                    "f2",
                    "sum by (mode) (rate(node_cpu_seconds_total[W]))",
                    &["mode"],
                    "node_cpu_seconds_total",
                    Rate,
                ),
                false,
                None,
            ),
            row(
                (
                    "f3",
                    "count by (flavor) (libvirt_domain_info_vstate)",
                    &["flavor"],
                    "libvirt_domain_info_vstate",
                    Count,
                ),
                false,
                None,
            ),
            row(
                (
                    "f4",
                    "sum by (project_name) (libvirt_domain_info_memory_usage_bytes)",
                    &["project_name"],
                    MEMORY,
                    Last,
                ),
                false,
                None,
            ),
            row(("f5", BY_PROJECT, &["project_name"], VCPU, Rate), true, None),
        ],
        Sort::Snmp => vec![
            row(
                ("f1", "sum by (ifName) (rate(ifHCInOctets[W]))", &["ifName"], "ifHCInOctets", Rate),
                false,
                None,
            ),
            row(
                ("f2", "sum by (instance) (rate(ifHCOutOctets[W]))", &["instance"], "ifHCOutOctets", Rate),
                false,
                None,
            ),
            row(
                ("f3", "count by (ifName) (ifOperStatus == 1)", &["ifName"], "ifOperStatus", CountOnes),
                false,
                None,
            ),
            row(("f4", "sum by (instance) (ifMtu)", &["instance"], "ifMtu", Last), false, None),
            row(
                ("f5", "sum by (ifName) (rate(ifHCInOctets[W]))", &["ifName"], "ifHCInOctets", Rate),
                true,
                None,
            ),
        ],
    }
}

/// All that was served until a moment, and the fleet that it was rendered from.
pub struct FleetTruth<'a> {
    rule: RateRule,
    fleet: &'a Fleet,
    served: Vec<Vec<Served>>,
    instances: Vec<String>,
}

impl<'a> FleetTruth<'a> {
    /// `served`: by target, what was scraped at the times that the system under question gives its samples.
    pub fn of(targets: &'a Targets, fleet: &'a Fleet, rule: RateRule, served: Vec<Vec<Served>>) -> Self {
        let instances = (0..targets.options.targets).map(|i| targets.instance(i)).collect();
        FleetTruth { rule, fleet, served, instances }
    }

    /// The answer at `time`; rates are over `window` seconds.
    pub fn answer(&self, asked: &Asked, time: f64, window: f64) -> Groups {
        let infos = asked.join.map(|join| self.infos(join, time));
        let mut groups = Groups::new();
        for target_idx in 0..self.served.len() {
            for line_idx in self.fleet.family(target_idx, asked.family) {
                for (key, value) in self.values(target_idx, line_idx, asked.what, time, window) {
                    let info = match (&infos, asked.join) {
                        (Some(infos), Some(join)) => match infos.get(&labels(&key, join.on)) {
                            Some(info) => info.as_str(),
                            None => continue,
                        },
                        _ => "",
                    };
                    let name = self.group(&key, info, target_idx, asked.by);
                    *groups.entry(name).or_default() += value;
                }
            }
        }
        groups
    }

    fn group(&self, key: &str, info: &str, target_idx: usize, by: &[&str]) -> String {
        let of = |name: &&str| match *name {
            "instance" => self.instances[target_idx].as_str(),
            name => label(key, name).or_else(|| label(info, name)).unwrap_or(""),
        };
        by.iter().map(of).collect::<Vec<_>>().join(" ")
    }

    /// Info series that have a value at `time`, by the labels they are joined on.
    fn infos(&self, join: Join, time: f64) -> HashMap<Vec<String>, String> {
        let mut infos = HashMap::new();
        for target_idx in 0..self.served.len() {
            for line_idx in self.fleet.family(target_idx, join.info) {
                for (key, _) in self.values(target_idx, line_idx, What::Last, time, 0.0) {
                    infos.insert(labels(&key, join.on), key);
                }
            }
        }
        infos
    }

    /// All samples of all targets' last pages before `time`.
    pub fn count(&self, time: f64) -> f64 {
        let of = |(i, served): (usize, &Vec<Served>)| match last(served, time) {
            Some(s) if !s.down => self.fleet.samples(i, s.version) as f64,
            _ => 0.0,
        };
        self.served.iter().enumerate().map(of).sum()
    }

    /// The series that one line is and was lately, each with its value.
    fn values(
        &self,
        target_idx: usize,
        line_idx: usize,
        what: What,
        time: f64,
        window: f64,
    ) -> Vec<(String, f64)> {
        let served = &self.served[target_idx];
        let value = |s: &Served| self.fleet.value(target_idx, line_idx, s.version);
        let key = |s: &Served| self.fleet.key(target_idx, line_idx, s.version);
        if what != What::Rate {
            let Some(newest) = last(served, time).filter(|s| !s.down) else { return Vec::new() };
            let v = value(newest);
            return match what {
                What::CountOnes if v != 1.0 => Vec::new(),
                What::Count | What::CountOnes => vec![(key(newest), 1.0)],
                _ => vec![(key(newest), v)],
            };
        }
        let end = served.partition_point(|s| !is_after(s, time));
        let begin = served[..end].partition_point(|s| !is_after(s, time - window));
        // The sample before the window, where one counts, may lie before a time that the target was down.
        let shown: Vec<&Served> = served[begin.saturating_sub(8)..end].iter().filter(|s| !s.down).collect();
        let generation = |s: &&Served| self.fleet.generation(target_idx, line_idx, s.version);
        let mut all = Vec::new();
        for series in shown.chunk_by(|a, b| generation(a) == generation(b)) {
            let inside = series.partition_point(|s| !is_after(s, time - window));
            let before = inside.checked_sub(1).map(|i| series[i]);
            let first = inside - usize::from(self.rule.takes(before, time - window));
            let points: Vec<(f64, f64)> = series[first..].iter().map(|s| (seconds(s), value(s))).collect();
            if inside < series.len()
                && let Some(rate) = rate(self.rule, &points, (time - window, time))
            {
                all.push((key(series[0]), rate));
            }
        }
        all
    }
}

/// The rate of what lies in a window, with the sample before it where the rule takes that.
fn rate(rule: RateRule, used: &[(f64, f64)], ends: (f64, f64)) -> Option<f64> {
    if used.len() < 2 {
        return None;
    }
    let falls = used.windows(2).map(|w| if w[1].1 < w[0].1 { w[0].1 } else { 0.0 });
    let (begin, last) = (used[0], used[used.len() - 1]);
    let last = (last.0, last.1 + falls.sum::<f64>());
    Some(match rule {
        RateRule::Extrapolated => extrapolated_rate(begin, last, used.len(), ends),
        RateRule::Neighbor { .. } => (last.1 - begin.1) / (last.0 - begin.0),
    })
}

fn last(served: &[Served], time: f64) -> Option<&Served> {
    served[..served.partition_point(|s| !is_after(s, time))].last()
}

fn seconds(s: &Served) -> f64 {
    s.at_us as f64 / 1e6
}

/// The value of a label in a key, as the generator writes it: without escapes.
fn label<'k>(key: &'k str, name: &str) -> Option<&'k str> {
    let mut rest = key.split_once('{')?.1;
    while let Some((have, after)) = rest.split_once("=\"") {
        let (value, more) = after.split_once('"')?;
        if have == name {
            return Some(value);
        }
        rest = more.strip_prefix(',').unwrap_or("");
    }
    None
}

fn labels(key: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|n| label(key, n).unwrap_or("").to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::fleet::Trouble;

    #[test]
    fn labels_are_found_in_keys() {
        let check = |key, name, expect| assert_eq!(label(key, name), expect, "{key} {name}");
        check("a{x=\"1\",xy=\"2\"}", "xy", Some("2"));
        check("a{x=\"1\",xy=\"2\"}", "y", None);
        check("a", "y", None);
    }

    #[test]
    fn resets_count_as_growth_from_zero() {
        let points = [(10.0, 20.0), (20.0, 0.0), (30.0, 10.0), (40.0, 20.0)];
        assert_eq!(rate(RateRule::neighbor(10_000), &points, (15.0, 40.0)), Some(20.0 / 30.0));
        let expect = extrapolated_rate((10.0, 20.0), (40.0, 40.0), 4, (5.0, 45.0));
        assert_eq!(rate(RateRule::Extrapolated, &points, (5.0, 45.0)), Some(expect));
        assert_eq!(rate(RateRule::Extrapolated, &points[..1], (-5.0, 15.0)), None);
    }

    /// Every second from 0 to 30, by one target a second after the other.
    fn truth(fleet: &Fleet, down: bool) -> FleetTruth<'_> {
        let served = |_| {
            (0..30)
                .map(|i| Served { at_us: 1_000_000 * i, version: i as u64, down: down && i == 29 })
                .collect()
        };
        FleetTruth {
            rule: RateRule::Extrapolated,
            fleet,
            served: (0..3).map(served).collect(),
            instances: (0..3).map(|i| format!("i{i}")).collect(),
        }
    }

    #[test]
    fn every_question_has_an_answer_and_its_groups_are_the_labels() {
        for sort in [Sort::Kube, Sort::Ceph, Sort::Openstack, Sort::Snmp] {
            let fleet = Fleet::new(sort, 1, 3, 1.0, Trouble { life: 50, reset: 40, explosion: None });
            let truth = truth(&fleet, false);
            for asked in asked(sort) {
                let got = truth.answer(&asked, 29.5, 10.0);
                assert!(
                    !got.is_empty() && got.keys().all(|k| !k.trim().is_empty()),
                    "{} {got:?}",
                    asked.query
                );
                assert!(got.values().all(|v| v.is_finite()), "{} {got:?}", asked.query);
            }
        }
    }

    #[test]
    fn a_join_loses_nothing_and_a_target_that_is_down_has_no_last_value() {
        let fleet = Fleet::new(Sort::Kube, 1, 3, 1.0, Trouble::default());
        let all = asked(Sort::Kube);
        let sum = |g: Groups| g.values().sum::<f64>();
        let (by_namespace, by_node) = (
            sum(truth(&fleet, false).answer(&all[0], 29.5, 10.0)),
            sum(truth(&fleet, false).answer(&all[1], 29.5, 10.0)),
        );
        assert!((by_namespace - by_node).abs() < 1e-9 && by_node > 0.0, "{by_namespace} {by_node}");
        assert!(truth(&fleet, true).answer(&all[3], 29.5, 10.0).is_empty());
        assert_eq!(truth(&fleet, true).count(29.5), 0.0);
        assert_eq!(truth(&fleet, true).count(28.5), (0..3).map(|t| fleet.samples(t, 0) as f64).sum::<f64>());
    }
}
