//! A job: its configuration and the targets that its groups make, the same for every shard.

use std::sync::Arc;

use hashbrown::HashSet;
use model::{Labels, TargetGroup};

use crate::config::ScrapeConfig;
use crate::scrape::target::{Target, Verdict};

/// What one entry of `scrape_configs` comes to.
#[derive(Clone, Debug)]
pub struct Job {
    pub config: Arc<ScrapeConfig>,
    /// Each once, in the order found.
    pub targets: Vec<Arc<Target>>,
    /// Labels before relabeling of targets that rules dropped: as many as `keep_dropped_targets` says.
    pub dropped: Vec<Labels>,
    pub dropped_count: usize,
    /// `instance 0 in group x: no address`: to be logged and counted.
    pub failures: Vec<String>,
    /// Set where the job has more targets than `target_limit`: none is scraped.
    pub limit_error: Option<String>,
}

impl Job {
    pub fn new(config: Arc<ScrapeConfig>, groups: &[TargetGroup]) -> Job {
        let mut job = Job {
            targets: Vec::new(),
            dropped: Vec::new(),
            dropped_count: 0,
            failures: Vec::new(),
            limit_error: None,
            config,
        };
        let mut seen = HashSet::new();
        for group in groups {
            for (i, found) in group.targets.iter().enumerate() {
                match Target::judge(&job.config, found, &group.labels) {
                    Ok(Verdict::Scrape(t)) if seen.insert(t.identity) => job.targets.push(Arc::new(*t)),
                    Ok(Verdict::Scrape(_)) => {}
                    Ok(Verdict::Dropped(labels)) => job.drop_target(labels),
                    Err(e) => job.failures.push(format!("instance {i} in group {}: {e}", group.source)),
                }
            }
        }
        let (count, limit) = (job.targets.len() as u64, job.config.limits.targets);
        job.limit_error = (limit > 0 && count > limit)
            .then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"));
        job
    }

    fn drop_target(&mut self, labels: Labels) {
        self.dropped_count += 1;
        let kept = self.config.limits.kept_dropped_targets;
        if kept == 0 || (self.dropped.len() as u64) < kept {
            self.dropped.push(labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::target::tests::config;

    #[test]
    fn targets_are_found_once_and_counted_against_the_limit() {
        let at = |a: &str| Labels::from_pairs([("__address__", a)]);
        let group = TargetGroup {
            targets: vec![at("a:1"), at("b:1"), at("a:1"), at("x/y")],
            labels: Labels::from_pairs([("rack", "1")]),
            source: "0".into(),
        };
        let mut c = config();
        let job = Job::new(Arc::new(c.clone()), std::slice::from_ref(&group));
        assert_eq!(job.targets.len(), 2);
        assert_eq!(job.failures, ["instance 3 in group 0: \"x/y\" is not a valid hostname"]);
        assert_eq!(job.limit_error, None);
        c.limits.targets = 1;
        let job = Job::new(Arc::new(c), &[group]);
        assert_eq!(
            job.limit_error.as_deref(),
            Some("target_limit exceeded (number of targets: 2, limit: 1)")
        );
    }
}
