//! What a reload changes: jobs that stay as they are keep their loops, connections and caches.

use std::sync::Arc;

use super::scrape::ScrapeConfig;

/// The jobs of a new configuration against those of the old one, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobChanges {
    pub added: Vec<Arc<ScrapeConfig>>,
    /// Same name, other wishes: the new ones.
    pub changed: Vec<Arc<ScrapeConfig>>,
    pub unchanged: Vec<Arc<ScrapeConfig>>,
    pub removed: Vec<String>,
}

impl JobChanges {
    pub fn between(old: &[Arc<ScrapeConfig>], new: &[Arc<ScrapeConfig>]) -> Self {
        let mut changes = JobChanges::default();
        for job in new {
            let before = old.iter().find(|o| o.job_name == job.job_name);
            match before {
                None => changes.added.push(job.clone()),
                Some(before) if before == job => changes.unchanged.push(job.clone()),
                Some(_) => changes.changed.push(job.clone()),
            }
        }
        let gone = |o: &&Arc<ScrapeConfig>| !new.iter().any(|n| n.job_name == o.job_name);
        changes.removed = old.iter().filter(gone).map(|o| o.job_name.clone()).collect();
        changes
    }

    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}
