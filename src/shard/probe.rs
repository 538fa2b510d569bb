//! Counters of one shard, read by the front for `/metrics`.

use std::cell::Cell;
use std::time::Duration;

use crate::shard::Applied;

#[derive(Default)]
pub struct Probe {
    pub samples: Cell<u64>,
    pub series_created: Cell<u64>,
    pub out_of_order: Cell<u64>,
    pub too_old: Cell<u64>,
    /// Samples taken out of order.
    pub late: Cell<u64>,
    /// Which of these are histograms.
    pub histograms_out_of_order: Cell<u64>,
    pub histograms_too_old: Cell<u64>,
    pub histograms_late: Cell<u64>,
    pub duplicates: Cell<u64>,
    pub refused_batches: Cell<u64>,
    pub commits: Cell<u64>,
    pub commit_bytes: Cell<u64>,
    pub commit_seconds: Cell<f64>,
    pub commit_seconds_max: Cell<f64>,
    pub failed_commits: Cell<u64>,
    pub checkpoints: Cell<u64>,
    pub failed_checkpoints: Cell<u64>,
    /// Blocks cut from the head: begun, made, failed.
    pub cuts_triggered: Cell<u64>,
    pub cuts: Cell<u64>,
    pub failed_cuts: Cell<u64>,
    /// Blocks made of others: begun, made, failed.
    pub compactions_triggered: Cell<u64>,
    pub compactions: Cell<u64>,
    pub failed_compactions: Cell<u64>,
    /// Old samples that were taken for blocks, those too old to be kept, and the blocks written of them.
    pub deposited: Cell<u64>,
    pub deposits_refused: Cell<u64>,
    pub deposit_blocks: Cell<u64>,
    /// Blocks of aggregates made, samples they were made of, and how often one could not be made.
    pub downsamplings: Cell<u64>,
    pub downsampled_samples: Cell<u64>,
    pub failed_downsamplings: Cell<u64>,
    /// How often the head gave memory back, and series that it dropped.
    pub truncations: Cell<u64>,
    pub series_removed: Cell<u64>,
    /// Blocks that went because of their age, and because of all blocks' size.
    pub time_retentions: Cell<u64>,
    pub size_retentions: Cell<u64>,
    /// How often all blocks were read again, and bytes read so.
    pub scrubs: Cell<u64>,
    pub scrubbed_bytes: Cell<u64>,
}

fn add(cell: &Cell<u64>, n: usize) {
    cell.set(cell.get() + n as u64);
}

impl Probe {
    pub fn add(&self, cell: &Cell<u64>, n: u64) {
        cell.set(cell.get() + n);
    }

    pub fn note_applied(&self, a: &Applied) {
        add(&self.samples, a.sample_count);
        add(&self.series_created, a.series_created);
        add(&self.out_of_order, a.out_of_order);
        add(&self.too_old, a.too_old);
        add(&self.late, a.late);
        add(&self.histograms_out_of_order, a.of_histograms.out_of_order);
        add(&self.histograms_too_old, a.of_histograms.too_old);
        add(&self.histograms_late, a.of_histograms.late);
        add(&self.duplicates, a.duplicate);
    }

    pub fn note_checkpoint(&self, was_written: bool) {
        add(if was_written { &self.checkpoints } else { &self.failed_checkpoints }, 1);
    }

    pub fn note_commit(&self, bytes: usize, took: Duration) {
        add(&self.commits, 1);
        add(&self.commit_bytes, bytes);
        self.commit_seconds.set(self.commit_seconds.get() + took.as_secs_f64());
        self.commit_seconds_max.set(self.commit_seconds_max.get().max(took.as_secs_f64()));
    }
}
