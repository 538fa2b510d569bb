//! What the queries of Q1 must answer, from what the targets served: rates and sums told without a database.
//!
//! In: the log of served pages, a moment. Out: values by group. Invariant: a rate is Prometheus's, extrapolated to
//! the window's ends, over the samples that lie in the left-open window.

use std::collections::BTreeMap;

use crate::scrape::rack;
use crate::shape::node::{HEAD_DEVICES, MODES, Node};
use crate::targets::{Served, Targets};

/// The values of an answer at one moment, by the value of the label they are grouped by (empty without one).
pub type Groups = BTreeMap<String, f64>;

/// What a system means by `rate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateRule {
    /// First to last sample in the window, extrapolated to its ends: Prometheus.
    Extrapolated,
    /// From the sample before the window to the last one in it: VictoriaMetrics. The sample before is taken where it
    /// is not older than so many milliseconds.
    Neighbor { reach_ms: i64 },
}

impl RateRule {
    /// VictoriaMetrics's, for samples an interval apart: the shorter, the more scrapes may be missing.
    pub fn neighbor(interval_ms: i64) -> RateRule {
        const STEPS: [(i64, i64); 5] = [(2_000, 32), (4_000, 16), (8_000, 8), (16_000, 4), (32_000, 2)];
        let eighths = STEPS.iter().find(|(longest, _)| interval_ms <= *longest).map_or(1, |(_, n)| *n);
        let more = interval_ms * eighths / 8;
        RateRule::Neighbor { reach_ms: interval_ms + more }
    }

    /// Whether the last sample before a window that begins at `start` counts.
    pub fn takes(self, before: Option<&Served>, start: f64) -> bool {
        match (self, before) {
            (RateRule::Neighbor { reach_ms }, Some(s)) => is_after(s, start - reach_ms as f64 / 1e3),
            _ => false,
        }
    }
}

/// Whether a sample lies after a moment, to the millisecond: so fine are all systems' times.
pub fn is_after(s: &Served, time: f64) -> bool {
    s.at_us > (time * 1e3).round() as i64 * 1000
}

/// All that was served until a moment, and the generator that made it.
pub struct Truth<'a> {
    pub rule: RateRule,
    pub node: &'a Node,
    pub served: Vec<Vec<Served>>,
    pub instances: Vec<String>,
    pub lines: usize,
}

impl<'a> Truth<'a> {
    /// `served`: by target, what was scraped at the times that the system under question gives its samples.
    pub fn of(targets: &'a Targets, node: &'a Node, rule: RateRule, served: &[Vec<Served>]) -> Self {
        let shown = |t: &Vec<Served>| t.iter().filter(|s| !s.down).copied().collect();
        let served = served.iter().map(shown).collect();
        let instances = (0..targets.options.targets).map(|i| targets.instance(i)).collect();
        Truth { rule, node, served, instances, lines: node.samples() }
    }

    /// Where in the log of a target the window begins and ends.
    fn window(&self, target_idx: usize, time: f64, window: f64) -> (usize, usize) {
        let served = &self.served[target_idx];
        let first = served.partition_point(|s| !is_after(s, time - window));
        let last = served.partition_point(|s| !is_after(s, time));
        (first, last.max(first))
    }

    /// The samples that a rate is made of; `None` where there are too few for one.
    fn span(&self, target_idx: usize, time: f64, window: f64) -> Option<Span> {
        let (mut first, last) = self.window(target_idx, time, window);
        if self.rule.takes(self.served[target_idx].get(first.wrapping_sub(1)), time - window) {
            first -= 1;
        }
        let served = &self.served[target_idx][first..last];
        let (first, last) = (*served.first()?, *served.last()?);
        let ends = (time - window, time);
        (first.at_us < last.at_us).then_some(Span {
            rule: self.rule,
            first,
            last,
            samples: served.len(),
            ends,
        })
    }

    /// The target whose scrapes lie farthest from the window's ends: which samples are inside is then beyond doubt.
    pub fn clearest_target(&self, time: f64, interval: f64) -> usize {
        let doubt = |i: &usize| {
            let age =
                self.served[*i].iter().rev().map(seconds).find(|t| *t <= time).map_or(0.0, |t| time - t);
            ((age / interval).fract() - 0.5).abs()
        };
        (0..self.served.len()).min_by(|a, b| doubt(a).total_cmp(&doubt(b))).unwrap_or(0)
    }

    /// `sum by (mode) (rate(node_cpu_seconds_total[window]))`
    pub fn cpu_by_mode(&self, time: f64, window: f64) -> Groups {
        let mut groups = Groups::new();
        for span in (0..self.served.len()).filter_map(|i| self.span(i, time, window)) {
            for (m, mode) in MODES.iter().enumerate() {
                let rate = |cpu| span.rate(|v| self.node.value(self.node.cpu_line(cpu, m), v));
                *groups.entry(mode.to_string()).or_default() += (0..self.node.cpus).map(rate).sum::<f64>();
            }
        }
        groups
    }

    /// `sum by (instance) (rate(node_network_receive_bytes_total[window]))`
    pub fn net_by_instance(&self, time: f64, window: f64) -> Groups {
        let mut groups = Groups::new();
        for (i, instance) in self.instances.iter().enumerate() {
            let Some(span) = self.span(i, time, window) else { continue };
            let rate = |device| span.rate(|v| self.node.head_value(i, device, v));
            groups.insert(instance.clone(), (0..HEAD_DEVICES).map(rate).sum());
        }
        groups
    }

    /// `sum by (instance) (node_filesystem_avail_bytes)`
    pub fn fs_by_instance(&self, time: f64) -> Groups {
        let sum = |v: u64| (0..self.node.filesystems).map(|f| self.node.value(self.node.fs_line(f), v)).sum();
        self.last_by_instance(time, sum)
    }

    fn last_by_instance(&self, time: f64, value: impl Fn(u64) -> f64) -> Groups {
        let last = |i: usize| {
            let (first, last) = self.window(i, time, 300.0);
            let served = self.served[i][first..last].last()?;
            Some((self.instances[i].clone(), value(served.version)))
        };
        (0..self.served.len()).filter_map(last).collect()
    }

    /// `node_load1{instance="..."}`
    pub fn load1(&self, target_idx: usize, time: f64) -> Groups {
        let all = self.last_by_instance(time, |v| self.node.value(self.node.load1_line(), v));
        all.into_iter().filter(|(i, _)| *i == self.instances[target_idx]).collect()
    }

    /// `rate(node_cpu_seconds_total{instance="..."}[window])`, keyed by cpu and mode.
    pub fn cpu_of_host(&self, target_idx: usize, time: f64, window: f64) -> Groups {
        let mut groups = Groups::new();
        let Some(span) = self.span(target_idx, time, window) else { return groups };
        for cpu in 0..self.node.cpus {
            for (m, mode) in MODES.iter().enumerate() {
                let rate = span.rate(|v| self.node.value(self.node.cpu_line(cpu, m), v));
                groups.insert(format!("{cpu} {mode}"), rate);
            }
        }
        groups
    }

    /// `avg by (rack) (100 - rate(node_cpu_seconds_total{mode="idle"}[window]) * 100)`
    pub fn busy_by_rack(&self, time: f64, window: f64) -> Groups {
        let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for target_idx in 0..self.served.len() {
            let Some(span) = self.span(target_idx, time, window) else { continue };
            let busy = |cpu| 100.0 - 100.0 * span.rate(|v| self.node.value(self.node.cpu_line(cpu, 0), v));
            let sum = sums.entry(rack(target_idx)).or_default();
            *sum = (sum.0 + (0..self.node.cpus).map(busy).sum::<f64>(), sum.1 + self.node.cpus as f64);
        }
        sums.into_iter().map(|(rack, (sum, n))| (rack, sum / n)).collect()
    }
}

/// First and last sample of a window.
struct Span {
    rule: RateRule,
    first: Served,
    last: Served,
    samples: usize,
    ends: (f64, f64),
}

impl Span {
    fn rate(&self, value: impl Fn(u64) -> f64) -> f64 {
        let first = (seconds(&self.first), value(self.first.version));
        let last = (seconds(&self.last), value(self.last.version));
        match self.rule {
            RateRule::Extrapolated => extrapolated_rate(first, last, self.samples, self.ends),
            RateRule::Neighbor { .. } => (last.1 - first.1) / (last.0 - first.0),
        }
    }
}

fn seconds(s: &Served) -> f64 {
    s.at_us as f64 / 1e6
}

/// Prometheus's `rate` of a counter without resets, from its first and last sample in the window (two at least).
pub fn extrapolated_rate(first: (f64, f64), last: (f64, f64), samples: usize, window: (f64, f64)) -> f64 {
    let sampled = last.0 - first.0;
    let between = sampled / (samples - 1) as f64;
    let threshold = between * 1.1;
    let increase = last.1 - first.1;
    let mut to_start = first.0 - window.0;
    let mut to_end = window.1 - last.0;
    if to_start >= threshold {
        to_start = between / 2.0;
    }
    if increase > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / increase));
    }
    if to_end >= threshold {
        to_end = between / 2.0;
    }
    increase * (sampled + to_start + to_end) / sampled / (window.1 - window.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(first: (f64, f64), last: (f64, f64), samples: usize, expect: f64) {
        assert_eq!(extrapolated_rate(first, last, samples, (0.0, 60.0)), expect);
    }

    #[test]
    fn rates_are_extrapolated_as_prometheus_does() {
        check((5.0, 100.0), (50.0, 145.0), 4, 1.0);
        // Too far from both ends: half an interval on each side.
        check((20.0, 100.0), (40.0, 120.0), 3, 20.0 * 30.0 / 20.0 / 60.0);
        // A counter is not extrapolated below zero.
        check((10.0, 0.0), (50.0, 40.0), 5, 40.0 * 50.0 / 40.0 / 60.0);
    }
}
