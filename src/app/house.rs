//! The running shards, and the jobs that were dealt to them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;

use crate::app::core::{Core, HouseMesh, MeshPeers, MeshSink, Rows, receive};
use crate::app::directory::DataDir;
use crate::app::flags::Flags;
use crate::app::retention;
use crate::config::{self, Config};
use crate::remote::{self, Receiver};
use crate::rt::clock::Clock;
use crate::rt::disk::DirectDisk;
use crate::rt::executor::{Failure, Machine, ShardContext};
use crate::rt::{self, Settings, TaskClass, spawn};
use crate::scrape::{self, Features, Job, Scraper, Sink};
use crate::shard::block::retention::Retention;
use crate::shard::commons::Commons;
use crate::shard::exemplars::EXEMPLARS_DEFAULT;
use crate::shard::keeper::{Keeper, Place};
use crate::shard::wal::pending::Owner;

/// How long an orderly stop waits for the shards.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// The stream of chance that keys the hashes of pushed labels.
const SEED_OF_LABELS: u64 = 0x7265_6d6f_7465;

pub struct House {
    machine: Machine<Core, Rows>,
    pub clock: Arc<dyn Clock>,
}

/// What a shard is built from, the same for all.
#[derive(Clone)]
struct Plan {
    data_dir: std::path::PathBuf,
    directory_id: u64,
    commons: Arc<Commons>,
    /// Which start of the data directory this is.
    start: u64,
    seed: u64,
    tolerance_ms: i64,
    ack_durable: bool,
    features: Features,
    /// Of one shard.
    block_cache_bytes: usize,
    block_interval: Duration,
    scrub_pass: Duration,
    retention: Retention,
}

pub struct Options {
    pub shard_count: u16,
    pub cpus: Vec<usize>,
    pub clock: Arc<dyn Clock>,
    /// Spreads the scrapes of several servers.
    pub seed: u64,
    /// Negative where timestamps shall not be aligned.
    pub tolerance_ms: i64,
    /// Whether pushed samples are acknowledged when they are on the disk.
    pub ack_durable: bool,
    /// What all shards share; who reloads the configuration keeps it, too.
    pub commons: Arc<Commons>,
    pub features: Features,
    /// What was read of blocks, kept in memory: all shards together.
    pub block_cache_bytes: u64,
    /// How often is looked for blocks to be made and to be removed.
    pub block_interval: Duration,
    /// In how long all blocks are read again; zero for not at all.
    pub scrub_pass: Duration,
    pub storage: config::Storage,
}

impl House {
    /// Starts the shards; returns when all have recovered.
    pub fn start(dir: &DataDir, options: Options) -> Result<House, rt::Error> {
        let mut settings = Settings::new(u32::from(options.shard_count));
        settings.cpus = options.cpus;
        settings.data_dirs = vec![dir.path.clone()];
        settings.clock = options.clock.clone();
        let plan = Plan {
            data_dir: dir.path.clone(),
            directory_id: dir.id,
            commons: options.commons,
            start: dir.start,
            seed: options.seed,
            tolerance_ms: options.tolerance_ms,
            ack_durable: options.ack_durable,
            features: options.features,
            block_cache_bytes: (options.block_cache_bytes / u64::from(options.shard_count.max(1))) as usize,
            block_interval: options.block_interval,
            scrub_pass: options.scrub_pass,
            retention: retention::of_shard(&options.storage, &dir.path, options.shard_count),
        };
        let factory = move |context: ShardContext<Core, Rows>| build(plan.clone(), context);
        let machine = Machine::start(settings, factory, receive)?;
        Ok(House { machine, clock: options.clock })
    }

    pub fn mesh(&self) -> HouseMesh {
        self.machine.mesh()
    }

    /// Ends the scrapes, commits what is left, ends the shards.
    pub fn stop(self) -> Result<(), rt::Error> {
        self.machine.stop(STOP_PATIENCE)
    }
}

async fn build(plan: Plan, context: ShardContext<Core, Rows>) -> Result<Rc<Core>, Failure> {
    let shard = context.shard as u16;
    let owner = Owner { directory_id: plan.directory_id, shard, shard_count: context.shards as u16 };
    let place = Place::new(&plan.data_dir, owner);
    let started = context.clock.now();
    let keeper = Rc::new(Keeper::open(Rc::new(DirectDisk), &place, plan.commons.clone()).await?);
    let took = context.clock.now().since(started);
    let r = &keeper.recovered;
    tracing::info!(
        shard,
        records = r.record_count,
        series = r.series_count,
        bytes = r.bytes,
        image_bytes = r.image_bytes,
        ?took,
        "log replayed"
    );
    for damage in &r.damage {
        tracing::error!(shard, %damage, "the shard is damaged: what does not fit there was set aside");
    }
    spawn(TaskClass::Ingest, keeper.clone().run_commits(context.pulse.clone(), context.gate.clone()))
        .detach();
    spawn(TaskClass::Background, keeper.clone().run_checkpoints(context.pulse.clone(), context.gate.clone()))
        .detach();
    keeper.store().cache.set_bytes_max(plan.block_cache_bytes);
    keeper.set_retention(plan.retention);
    spawn(
        TaskClass::Background,
        keeper.clone().run_upkeep(context.pulse.clone(), context.gate.clone(), plan.block_interval),
    )
    .detach();
    spawn(
        TaskClass::Background,
        keeper.clone().run_scrub(context.pulse.clone(), context.gate.clone(), plan.scrub_pass),
    )
    .detach();
    let sink = MeshSink {
        shard,
        keeper: keeper.clone(),
        mesh: context.mesh.clone(),
        commons: plan.commons,
        life: MeshSink::source_base(plan.start, shard),
        sources: std::cell::Cell::new(0),
    };
    let received = remote::Settings {
        shard,
        seed: context.rng.fork(SEED_OF_LABELS).next_u64(),
        source: sink.new_source(),
        is_durable: plan.ack_durable,
    };
    let peers = Rc::new(MeshPeers { mesh: context.mesh.clone() });
    let receiver = Receiver::new(received, keeper.clone(), peers);
    let mut settings = scrape::Settings::new(shard, concat!("Prometheus/", "3.14.0"));
    settings.seed = plan.seed;
    settings.timestamp_tolerance_ms = plan.tolerance_ms;
    settings.features = plan.features;
    let (pulse, gate) = (context.pulse.clone(), context.gate.clone());
    let scraper = Scraper::new(context.pulse, context.gate, Rc::new(sink), settings);
    Ok(Rc::new(Core { keeper, scraper, receiver, pulse, gate }))
}

/// The jobs of a configuration, ready to be dealt.
pub fn jobs_of(config: &Config) -> Vec<Arc<Job>> {
    let job = |c: &Arc<crate::config::ScrapeConfig>| Arc::new(Job::new(c.clone(), &c.static_groups));
    let jobs: Vec<Arc<Job>> = config.scrape.iter().map(job).collect();
    for job in &jobs {
        for failure in &job.failures {
            tracing::error!(job = job.config.job_name, "Creating target failed: {failure}");
        }
    }
    jobs
}

/// What `--enable-feature` switches on in scraping.
pub fn features_of(flags: &Flags) -> Features {
    let has = |name: &str| flags.features.iter().any(|f| f == name);
    Features {
        exemplars: has("exemplar-storage"),
        type_and_unit: has("type-and-unit-labels"),
        created_zero: has("created-timestamp-zero-ingestion"),
        extra_metrics: has("extra-scrape-metrics"),
    }
}

/// Tells all shards how many exemplars they keep: each its part of what the configuration allows.
pub fn set_exemplars(mesh: &HouseMesh, config: &Config, flags: &Flags) -> Result<(), rt::Error> {
    let wanted = config.storage.exemplars_max.map_or(EXEMPLARS_DEFAULT, |n| n.max(0) as usize);
    let all = if features_of(flags).exemplars { wanted } else { 0 };
    let max = all.div_ceil(mesh.shards().max(1) as usize);
    let window_ms = i64::try_from(config.storage.out_of_order_window_ms).unwrap_or(i64::MAX);
    let answers = mesh.submit_to_all(TaskClass::Rpc, move |core: Rc<Core>| async move {
        core.keeper.set_exemplars(max, window_ms);
    });
    for answer in answers {
        block_on(answer)?;
    }
    Ok(())
}

/// Deals jobs to all shards; returns when each has taken them.
pub fn deal(mesh: &HouseMesh, jobs: &[Arc<Job>]) -> Result<(), rt::Error> {
    let jobs: Arc<[Arc<Job>]> = jobs.into();
    let answers = mesh.submit_to_all(TaskClass::Rpc, move |core: Rc<Core>| {
        let jobs = jobs.clone();
        async move { core.scraper.apply(&jobs) }
    });
    for answer in answers {
        block_on(answer)?;
    }
    Ok(())
}

/// Tells all shards what they may keep from now on.
pub fn retain(mesh: &HouseMesh, retention: Retention) -> Result<(), rt::Error> {
    let told = mesh.submit_to_all(TaskClass::Rpc, move |core: Rc<Core>| {
        let retention = retention.clone();
        async move { core.keeper.set_retention(retention) }
    });
    for answer in told {
        block_on(answer)?;
    }
    Ok(())
}
