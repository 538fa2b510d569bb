//! The front's wishes, carried to the shards.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use model::{Labels, Matcher, Timestamp};
use tokio::sync::Notify;

use crate::api::backend::{
    ActiveTarget, Answer, Backend, BlockStatus, DamageStatus, DroppedTarget, Exemplar, FederatedSample,
    GatewayChange, Health, MetadataEntry, NamedCount, Question, Reply, RunningQuery, RuntimeInfo, Scope,
    SnapshotWish, Stats, TargetMetadata, Targets, TsdbStatus,
};
use crate::api::doorway::Caller;
use crate::api::error::{ApiError, ErrorKind};
use crate::app::admin::Cleanups;
use crate::app::asking;
use crate::app::core::{Core, HouseMesh};
use crate::app::doors::Doors;
use crate::app::federate::newest;
use crate::app::flags::Flags;
use crate::app::house::{deal, jobs_of, retain, set_exemplars};
use crate::app::metrics::{self, BlockFigures, ExemplarFigures, Requests, ShardFigures};
use crate::app::query_log::{Entry, QueryLog, Times, stats_json};
use crate::app::retention;
use crate::app::vacancy::Vacancies;
use crate::config::{self, Config, SourceResolution};
use crate::push::gateway::Gateway;
use crate::push::{self, otlp};
use crate::query;
use crate::query::account::Token;
use crate::query::engine::{Engine, Listed, Phase, Request, When};
use crate::query::exec::access::Access;
use crate::query::exec::scan::{self, Partial};
use crate::query::merge::{Pending, Shards};
use crate::query::plan::physical::{Fragment, MaxResolution};
use crate::remote::{self, Protocol, Terms};
use crate::rt::{Clock, Moment, TaskClass};
use crate::scrape::Job;
use crate::shard::Shard;
use crate::shard::block::Store;
use crate::shard::block::layout::{Header, Stats as BlockStats};
use crate::shard::commons::Commons;
use crate::shard::keeper::{Keeper, LogState};
use crate::shard::meta::{Cardinality, Counted};
use crate::shard::read_ahead::Damage;

/// How a configuration is found again on reload.
pub type LoadConfig = Box<dyn Fn() -> Result<Config, config::Error> + Send + Sync>;

pub struct HouseBackend {
    pub clock: Arc<dyn Clock>,
    pub flags: Flags,
    pub shard_count: u16,
    pub engine: Arc<Engine>,
    pub query_timeout: Duration,
    pub start_ms: Timestamp,
    pub mesh: OnceLock<HouseMesh>,
    pub commons: Arc<Commons>,
    pub vacancies: Arc<Vacancies>,
    pub stopping: AtomicBool,
    pub quit: Notify,
    pub requests: Arc<Requests>,
    /// Where senders' connections go.
    pub doors: Doors,
    pub cleanups: Arc<Cleanups>,
    pub query_log: Arc<QueryLog>,
    /// What jobs pushed and left.
    pub gateway: Mutex<Gateway>,
    /// What exporters told by its growth alone, added up.
    pub otlp_totals: Arc<Mutex<otlp::Totals>>,
    pub load: LoadConfig,
    pub loaded: Mutex<Loaded>,
    /// One reload at a time.
    pub reloading: Mutex<()>,
}

/// What the running configuration came to.
pub struct Loaded {
    pub config: Arc<Config>,
    pub jobs: Vec<Arc<Job>>,
    pub otlp: Arc<otlp::Settings>,
    pub reload_succeeded: bool,
    pub loaded_ms: Timestamp,
}

/// A fragment's way to the memory of its shard.
struct CoreAccess {
    core: Rc<Core>,
    token: Token,
}

impl Access for CoreAccess {
    fn with<R>(&self, look: impl FnOnce(&Shard) -> R) -> R {
        look(&self.core.keeper.shard())
    }

    fn store(&self) -> Option<Rc<Store>> {
        Some(self.core.keeper.store().clone())
    }

    async fn breathe(&self) -> Result<(), query::Error> {
        crate::rt::yield_if_needed().await;
        self.token.check()
    }
}

/// The shards as a query sees them.
struct MeshShards {
    mesh: HouseMesh,
    token: Token,
    commons: Arc<Commons>,
    vacancies: Arc<Vacancies>,
}

impl Shards for MeshShards {
    fn shard_count(&self) -> usize {
        self.mesh.shards() as usize
    }

    fn run<'a>(&'a self, shard: usize, fragment: Arc<Fragment>) -> Pending<'a> {
        let matchers = fragment.chain.selector.matchers.clone();
        let from = scan::oldest(&fragment);
        let Some(sight) = self.vacancies.look(&self.commons.births, shard, &matchers, from) else {
            return Box::pin(std::future::ready(Ok(Partial::vacant(&fragment))));
        };
        let token = self.token.clone();
        let answer = self.mesh.submit_to(shard as u32, TaskClass::Query, move |core: Rc<Core>| async move {
            scan::run(&CoreAccess { core, token }, &fragment).await
        });
        Box::pin(async move {
            let partial = answer.await.map_err(|e| query::Error::Storage(e.to_string()))??;
            if partial.is_vacant {
                self.vacancies.remember(shard, self.shard_count(), &matchers, sight);
            }
            Ok(partial)
        })
    }
}

/// Ends a query whose asker has gone.
struct CancelOnDrop(Token);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn internal(e: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorKind::Internal, e.to_string())
}

fn query_error(e: query::Error) -> ApiError {
    use query::Error as E;
    match &e {
        E::Parse(_) | E::Unfit(_) => ApiError::bad_parameter("query", &e),
        E::Execution(_) | E::TooManySamples | E::TooManyBytes(_) => {
            ApiError::new(ErrorKind::Execution, e.to_string())
        }
        E::Timeout(_) => ApiError::new(ErrorKind::Timeout, e.to_string()),
        E::Canceled(_) => ApiError::new(ErrorKind::Canceled, e.to_string()),
        E::Busy => ApiError::new(ErrorKind::Unavailable, e.to_string()),
        E::Storage(_) => ApiError::new(ErrorKind::Internal, e.to_string()),
    }
}

impl HouseBackend {
    pub fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::app) fn mesh(&self) -> Result<HouseMesh, ApiError> {
        self.mesh.get().cloned().ok_or_else(|| internal("the shards are not ready"))
    }

    /// Runs `look` beside every shard and gathers what they say.
    fn on_all<R: Send + 'static>(&self, look: impl Fn(&Core) -> R + Clone + Send + 'static) -> Reply<Vec<R>> {
        let answers = self.mesh().map(|mesh| {
            mesh.submit_to_all(TaskClass::Rpc, move |core: Rc<Core>| {
                let look = look.clone();
                async move { look(&core) }
            })
        });
        Box::pin(async move {
            let mut all = Vec::new();
            for answer in answers? {
                all.push(answer.await.map_err(internal)?);
            }
            Ok(all)
        })
    }

    /// Has every shard answer in its own time, as a query does.
    fn ask_all<R, F, W>(&self, work: W) -> Reply<Vec<R>>
    where
        R: Send + 'static,
        F: Future<Output = R> + 'static,
        W: FnOnce(Rc<Core>) -> F + Clone + Send + 'static,
    {
        let answers = self.mesh().map(|mesh| mesh.submit_to_all(TaskClass::Query, work));
        Box::pin(async move {
            let mut all = Vec::new();
            for answer in answers? {
                all.push(answer.await.map_err(internal)?);
            }
            Ok(all)
        })
    }

    /// Loads the configuration again and deals its jobs. The old one stays where the new one is refused.
    pub fn reload_now(&self) -> Result<(), String> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.apply_new_config();
        let mut loaded = self.loaded();
        loaded.reload_succeeded = result.is_ok();
        match &result {
            Ok(()) => tracing::info!("Completed loading of configuration file"),
            Err(e) => tracing::error!(err = e, "Error reloading config"),
        }
        result
    }

    fn apply_new_config(&self) -> Result<(), String> {
        let config = Arc::new((self.load)().map_err(|e| format!("couldn't load configuration: {e}"))?);
        let jobs = jobs_of(&config);
        let log = QueryLog::open(config.global.query_log_file.as_deref())?;
        if let Some(mesh) = self.mesh.get() {
            deal(mesh, &jobs).map_err(|e| e.to_string())?;
            let dir = &self.flags.data_dir;
            let kept = retention::of_shard(&config.storage, dir, self.shard_count);
            retain(mesh, kept).map_err(|e| e.to_string())?;
        }
        self.query_log.write_to(log);
        self.commons.set_window(config.storage.out_of_order_window_ms);
        if let Some(mesh) = self.mesh.get() {
            set_exemplars(mesh, &config, &self.flags).map_err(|e| e.to_string())?;
        }
        let loaded_ms = self.clock.now_ms();
        let otlp = Arc::new(self.flags.otlp(&config, self.engine.options().lookback_ms));
        *self.loaded() = Loaded { config, jobs, otlp, reload_succeeded: true, loaded_ms };
        Ok(())
    }

    /// How coarse the aggregates may be that a question reads: as it says, else as the configuration does for a range.
    fn max_resolution(&self, question: &Question) -> MaxResolution {
        let configured = || match self.loaded().config.storage.max_source_resolution {
            _ if question.step == 0 => MaxResolution::Fixed(0),
            SourceResolution::Auto => MaxResolution::Auto,
            SourceResolution::Fixed(ms) => MaxResolution::Fixed(i64::try_from(ms).unwrap_or(i64::MAX)),
        };
        question.max_resolution.unwrap_or_else(configured)
    }

    fn figures(&self) -> Reply<Vec<ShardFigures>> {
        self.on_all(figures_of)
    }
}

fn figures_of(core: &Core) -> ShardFigures {
    let (shard, p) = (core.keeper.shard(), &core.keeper.probe);
    ShardFigures {
        series: shard.index().series_count() as u64,
        groups: shard.head().group_count() as u64,
        head_bytes: shard.head().heap_bytes() as u64,
        page_bytes: core.scraper.bytes() as u64,
        samples: p.samples.get(),
        series_created: p.series_created.get(),
        out_of_order: p.out_of_order.get(),
        too_old: p.too_old.get(),
        late: p.late.get(),
        histograms_out_of_order: p.histograms_out_of_order.get(),
        histograms_too_old: p.histograms_too_old.get(),
        histograms_late: p.histograms_late.get(),
        duplicates: p.duplicates.get(),
        refused_batches: p.refused_batches.get(),
        commits: p.commits.get(),
        commit_bytes: p.commit_bytes.get(),
        commit_seconds: p.commit_seconds.get(),
        commit_seconds_max: p.commit_seconds_max.get(),
        failed_commits: p.failed_commits.get(),
        checkpoints: p.checkpoints.get(),
        failed_checkpoints: p.failed_checkpoints.get(),
        blocks: blocks_of(&core.keeper),
        damage: core.keeper.recovered.damage.len() as u64,
        is_refusing: core.keeper.state() != LogState::Writing,
        min_time: shard.head().min_time(),
        max_time: shard.head().max_time(),
        targets: core.scraper.target_count() as u64,
        scrape: core.scraper.counters(),
        exemplars: ExemplarFigures::of(shard.exemplars()),
        remote: core.receiver.figures(),
    }
}

fn blocks_of(keeper: &Keeper) -> BlockFigures {
    let (p, store) = (&keeper.probe, keeper.store());
    let blocks = store.all();
    BlockFigures {
        loaded: blocks.len() as u64,
        bytes: blocks.iter().map(|b| b.counted_bytes()).sum(),
        min_time: blocks.iter().map(|b| b.header.mint).min(),
        compactions_triggered: p.cuts_triggered.get() + p.compactions_triggered.get(),
        compactions: p.cuts.get() + p.compactions.get(),
        failed_compactions: p.failed_cuts.get() + p.failed_compactions.get(),
        truncations: p.truncations.get(),
        series_removed: p.series_removed.get(),
        downsamplings: p.downsamplings.get(),
        downsampled_samples: p.downsampled_samples.get(),
        failed_downsamplings: p.failed_downsamplings.get(),
        time_retentions: p.time_retentions.get(),
        size_retentions: p.size_retentions.get(),
        cache_bytes: store.cache.bytes() as u64,
        cache_hits: store.cache.hits.get(),
        cache_misses: store.cache.misses.get(),
        damage: store.damage_count.get(),
        scrubs: p.scrubs.get(),
        scrubbed_bytes: p.scrubbed_bytes.get(),
        deposited: p.deposited.get(),
        deposits_refused: p.deposits_refused.get(),
        deposit_blocks: p.deposit_blocks.get(),
    }
}

/// One entry for what the shards have of a range. A file that several shards read is counted once for each.
fn block_statuses(blocks: impl Iterator<Item = (Header, BlockStats, u64)>) -> Vec<BlockStatus> {
    let mut all: BTreeMap<(Timestamp, Timestamp, u32, String, i64), BlockStatus> = BTreeMap::new();
    for (h, stats, tombstones) in blocks {
        let class = h.class.as_ref().map_or_else(String::new, |c| c.selector.to_string());
        let resolution_ms = h.resolution_ms();
        let key = (h.mint, h.maxt, h.level, class.clone(), resolution_ms);
        let status = all.entry(key).or_insert_with(|| BlockStatus {
            ulid: ulid_of(&h),
            class,
            resolution_ms,
            min_time: h.mint,
            max_time: h.maxt,
            level: h.level,
            ..BlockStatus::default()
        });
        status.float_count += stats.float_count;
        status.histogram_count += stats.histogram_count;
        status.series_count += stats.series_count;
        status.chunk_count += stats.chunk_count;
        status.tombstone_count += tombstones;
    }
    all.into_values().collect()
}

/// A name in ULID's form for what all shards have of a range: its time is the range's end, its chance a hash of range,
/// class and data directory, so it stays the same.
fn ulid_of(h: &Header) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for n in [h.owner.directory_id, h.mint as u64, h.maxt as u64, u64::from(h.level)] {
        hash.update(&n.to_le_bytes());
    }
    if let Some(a) = h.aggregates {
        hash.update(&a.resolution_ms.to_le_bytes());
    }
    hash.update(h.class.as_ref().map_or(&[], |c| c.selector.as_bytes()));
    let number = u128::from(h.maxt.max(0) as u64) << 80 | hash.digest128() >> 48;
    (0..26).rev().map(|i| char::from(DIGITS[(number >> (5 * i)) as usize & 31])).collect()
}

fn answered(answer: query::engine::Answer, text: &str, when: When, stats: Stats, times: &Times) -> Answer {
    let texts = answer.notes.texts(text, query::annotations::SHOWN_MAX);
    let stats = (stats != Stats::None).then(|| stats_json(&answer.statistics, when, times));
    Answer { value: answer.value, warnings: texts.warnings, infos: texts.infos, stats }
}

fn running_query(q: Listed, now: Moment) -> RunningQuery {
    let (start, end, step) = match q.when {
        When::Instant(t) => (t, t, 0),
        When::Range { start, end, step } => (start, end, step),
    };
    RunningQuery {
        id: q.id,
        text: q.text,
        start,
        end,
        step,
        is_waiting: q.is_waiting,
        elapsed: now.since(q.asked),
        progress: q.progress,
    }
}

fn largest(parts: Vec<Vec<Counted>>, limit: usize) -> Vec<NamedCount> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for c in parts.into_iter().flatten() {
        *sums.entry(c.text).or_default() += c.count;
    }
    let mut all: Vec<NamedCount> = sums.into_iter().map(|(name, value)| NamedCount { name, value }).collect();
    all.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    all.truncate(limit);
    all
}

/// The word of a duration as the targets page shows it.
fn interval_text(ms: i64) -> String {
    model::time::format_duration(ms)
}

impl Backend for HouseBackend {
    fn now_ms(&self) -> Timestamp {
        self.clock.now_ms()
    }

    fn is_ready(&self) -> bool {
        self.mesh.get().is_some() && !self.is_stopping()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    fn query(&self, question: Question) -> Reply<Answer> {
        let (engine, mesh, clock) = (self.engine.clone(), self.mesh(), self.clock.clone());
        let log = self.query_log.clone();
        let per_step = self.flags.features.iter().any(|f| f == "promql-per-step-stats");
        let (commons, now_ms) = (self.commons.clone(), self.clock.now_ms());
        let vacancies = self.vacancies.clone();
        let max_resolution = self.max_resolution(&question);
        let timeout = question.timeout.map_or(self.query_timeout, |t| t.min(self.query_timeout));
        Box::pin(async move {
            let token = Token::default();
            let when = match question.step {
                0 => When::Instant(question.start),
                step => When::Range { start: question.start, end: question.end, step },
            };
            let mut request = Request::new(question.text.clone(), when);
            request.lookback_ms = question.lookback_ms;
            request.max_resolution = max_resolution;
            request.token = token.clone();
            let shards =
                MeshShards { mesh: mesh?, token: token.clone(), commons: commons.clone(), vacancies };
            request.asked = clock.now();
            request.counts_steps = per_step && question.stats == Stats::All;
            let mut times = Times::at(request.asked);
            let entry = Entry { text: question.text.clone(), when, origin: question.origin };
            let gauge = asking::Gauge::of(&question.text);
            let gauged = gauge.clone();
            let run = async move {
                let result = match engine.admit(request).await {
                    Ok(admitted) => {
                        gauged.watch(admitted.account());
                        times.admitted = clock.now();
                        times.prepared = times.admitted;
                        let note = |phase| match phase {
                            Phase::Prepared => times.prepared = clock.now(),
                            Phase::Evaluated => times.evaluated = Some(clock.now()),
                            Phase::Sorted => {}
                        };
                        admitted.evaluate(&shards, note).await
                    }
                    Err(e) => Err(e),
                };
                times.ended = clock.now();
                log.note(&entry, &result, &times, clock.wall_ns());
                result.map(|answer| (answer, times))
            };
            let _cancel = CancelOnDrop(token.clone());
            let answer = tokio::select! {
                r = asking::run(gauge, Box::pin(run)) => r.map_err(internal)?,
                () = tokio::time::sleep(timeout) => {
                    token.expire();
                    Err(query::Error::Timeout("expression evaluation"))
                }
            };
            let (answer, times) = answer.map_err(query_error)?;
            let mut answer = answered(answer, &question.text, when, question.stats, &times);
            answer.warnings.extend(commons.budget.warning(now_ms));
            Ok(answer)
        })
    }

    fn language(&self) -> promql::Options {
        self.engine.options().language
    }

    fn running_queries(&self) -> Vec<RunningQuery> {
        let now = self.clock.now();
        self.engine.list().into_iter().map(|q| running_query(q, now)).collect()
    }

    fn cancel_query(&self, id: u64) -> bool {
        self.engine.cancel(id)
    }

    fn series(&self, scope: Scope) -> Reply<Vec<Labels>> {
        let scope = Arc::new(scope);
        let all = self.ask_all(move |core: Rc<Core>| {
            let scope = scope.clone();
            async move {
                let s = &*scope;
                core.keeper.series_labels(&s.selectors, s.start, s.end, s.limit).await
            }
        });
        Box::pin(async move { Ok(all.await?.into_iter().flatten().collect()) })
    }

    fn label_names(&self, scope: Scope) -> Reply<Vec<String>> {
        let scope = Arc::new(scope);
        let all = self.ask_all(move |core: Rc<Core>| {
            let scope = scope.clone();
            async move { core.keeper.label_names(&scope.selectors, scope.start, scope.end).await }
        });
        Box::pin(async move { Ok(all.await?.into_iter().flatten().collect()) })
    }

    fn label_values(&self, name: String, scope: Scope) -> Reply<Vec<String>> {
        let asked = Arc::new((name, scope));
        let all = self.ask_all(move |core: Rc<Core>| {
            let asked = asked.clone();
            async move {
                let (name, s) = &*asked;
                core.keeper.label_values(name, &s.selectors, s.start, s.end).await
            }
        });
        Box::pin(async move { Ok(all.await?.into_iter().flatten().collect()) })
    }

    fn federate(&self, scope: Scope) -> Reply<Vec<FederatedSample>> {
        let scope = Arc::new(scope);
        let all = self.ask_all(move |core: Rc<Core>| async move { newest(&core.keeper, &scope).await });
        Box::pin(async move { Ok(all.await?.into_iter().flatten().collect()) })
    }

    fn metadata(&self) -> Reply<Vec<MetadataEntry>> {
        let all = self.on_all(|core| {
            let mut entries = Vec::new();
            for (_, families) in core.scraper.metadata() {
                entries.extend(families.into_iter().map(|f| MetadataEntry {
                    metric: f.family,
                    kind: f.kind.to_owned(),
                    help: f.help,
                    unit: f.unit,
                }));
            }
            entries
        });
        Box::pin(async move { Ok(all.await?.into_iter().flatten().collect()) })
    }

    fn target_metadata(&self) -> Reply<Vec<TargetMetadata>> {
        let all = self.on_all(|core| {
            let mut found = Vec::new();
            for (target, families) in core.scraper.metadata() {
                found.extend(families.into_iter().map(|f| {
                    let (kind, help, unit) = (f.kind.to_owned(), f.help, f.unit);
                    let entry = MetadataEntry { metric: f.family, kind, help, unit };
                    TargetMetadata { target: target.labels.clone(), entry }
                }));
            }
            found
        });
        Box::pin(async move {
            let mut found: Vec<TargetMetadata> = all.await?.into_iter().flatten().collect();
            found.sort_by(|a, b| (&a.target, &a.entry.metric).cmp(&(&b.target, &b.entry.metric)));
            Ok(found)
        })
    }

    fn exemplars(&self, scope: Scope) -> Reply<Vec<(Labels, Exemplar)>> {
        let all = self.on_all(move |core| {
            let found = core.keeper.shard().select_exemplars(&scope.selectors, scope.start, scope.end);
            let shown = |x: crate::shard::exemplars::Exemplar| Exemplar {
                labels: x.labels,
                time: x.time,
                value: x.value,
            };
            found.into_iter().map(|(labels, x)| (labels, shown(x))).collect::<Vec<_>>()
        });
        Box::pin(async move { Ok(all.await?.into_iter().flatten().collect()) })
    }

    fn targets(&self) -> Reply<Targets> {
        let (dropped, dropped_counts) = {
            let loaded = self.loaded();
            let of_job = |j: &Arc<Job>| {
                let pool = j.config.job_name.clone();
                let dropped = j.dropped.clone().into_iter();
                dropped
                    .map(move |d| DroppedTarget { discovered_labels: d, scrape_pool: pool.clone() })
                    .collect::<Vec<_>>()
            };
            let dropped: Vec<DroppedTarget> = loaded.jobs.iter().flat_map(of_job).collect();
            let counts = loaded.jobs.iter().map(|j| (j.config.job_name.clone(), j.dropped_count)).collect();
            (dropped, counts)
        };
        let all = self.on_all(|core| core.scraper.status());
        Box::pin(async move {
            let mut status: Vec<_> = all.await?.into_iter().flatten().collect();
            status.sort_by(|a, b| (&a.job, &a.target.url).cmp(&(&b.job, &b.target.url)));
            let active = status.into_iter().map(|s| ActiveTarget {
                discovered_labels: s.target.discovered.clone(),
                labels: s.target.labels.clone(),
                scrape_pool: s.job,
                scrape_url: s.target.url.clone(),
                last_error: s.last.error,
                last_scrape: (s.last.started_ns != 0).then_some(s.last.started_ns / 1_000_000),
                last_scrape_seconds: s.last.duration_seconds,
                health: match s.last.health {
                    crate::scrape::Health::Unknown => Health::Unknown,
                    crate::scrape::Health::Up => Health::Up,
                    crate::scrape::Health::Down => Health::Down,
                },
                interval: interval_text(s.target.interval_ms),
                timeout: interval_text(s.target.timeout_ms),
            });
            Ok(Targets { active: active.collect(), dropped, dropped_counts })
        })
    }

    fn tsdb_status(&self, limit: usize) -> Reply<TsdbStatus> {
        let all = self.on_all(|core| core.keeper.shard().cardinality());
        let names = self.label_value_counts();
        Box::pin(async move {
            let all = all.await?;
            let sum = |f: fn(&Cardinality) -> u64| all.iter().map(f).sum();
            let mut status = TsdbStatus {
                series_count: sum(|c| c.series_count),
                chunk_count: sum(|c| c.group_count),
                min_time: all.iter().filter_map(|c| c.min_time).min(),
                max_time: all.iter().filter_map(|c| c.max_time).max(),
                ..TsdbStatus::default()
            };
            let (mut metrics, mut bytes, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
            for c in all {
                metrics.push(c.series_by_metric);
                bytes.push(c.bytes_by_label);
                pairs.push(c.series_by_pair);
            }
            let distinct: std::collections::BTreeSet<&str> =
                pairs.iter().flatten().map(|c| c.text.as_str()).collect();
            status.label_pair_count = distinct.len() as u64;
            status.series_by_metric = largest(metrics, limit);
            status.bytes_by_label = largest(bytes, limit);
            status.series_by_pair = largest(pairs, limit);
            status.values_by_label = largest(vec![names.await?], limit);
            Ok(status)
        })
    }

    fn tsdb_blocks(&self) -> Reply<Vec<BlockStatus>> {
        let all = self.on_all(|core| {
            let blocks = core.keeper.store().all();
            blocks
                .iter()
                .map(|b| (b.header.clone(), b.directory.stats, b.deleted_counts().1))
                .collect::<Vec<_>>()
        });
        Box::pin(async move { Ok(block_statuses(all.await?.into_iter().flatten())) })
    }

    fn takes_callers(&self) -> bool {
        self.flags.enable_remote_write && self.is_ready() && self.doors.has_room()
    }

    fn take_caller(&self, caller: Caller) {
        if let Some(mesh) = self.mesh.get() {
            self.doors.let_in(mesh, caller);
        }
    }

    fn delete_series(&self, matchers: Vec<Matcher>, start: Timestamp, end: Timestamp) -> Reply<()> {
        self.delete(matchers, start, end)
    }

    fn clean_tombstones(&self) -> Reply<()> {
        self.clean()
    }

    fn snapshot(&self, wanted: SnapshotWish) -> Reply<String> {
        self.make_snapshot(wanted)
    }

    fn damage(&self) -> Reply<Vec<DamageStatus>> {
        let all = self.on_all(|core| core.keeper.damage());
        Box::pin(async move {
            let of_shard = |(shard, all): (usize, Vec<Damage>)| {
                all.into_iter().map(move |d| DamageStatus {
                    shard,
                    path: d.path.display().to_string(),
                    offset: d.offset,
                    what: d.what,
                })
            };
            Ok(all.await?.into_iter().enumerate().flat_map(of_shard).collect())
        })
    }

    fn write(&self, protocol: Protocol, body: Bytes, connection: u64) -> Reply<remote::Answer> {
        let (mesh, now) = (self.mesh(), self.clock.now_ms());
        Box::pin(async move {
            let mesh = mesh?;
            let shard = (connection % u64::from(mesh.shards())) as u32;
            let answer = mesh.submit_to(shard, TaskClass::Ingest, move |core: Rc<Core>| async move {
                core.receiver.take(protocol, &body, now).await
            });
            answer.await.map_err(internal)
        })
    }

    fn write_plain(&self, terms: Terms, body: Vec<u8>, connection: u64) -> Reply<remote::Answer> {
        let (mesh, now) = (self.mesh(), self.clock.now_ms());
        Box::pin(async move {
            let mesh = mesh?;
            let shard = (connection % u64::from(mesh.shards())) as u32;
            let answer = mesh.submit_to(shard, TaskClass::Ingest, move |core: Rc<Core>| async move {
                core.receiver.take_plain(terms, &body, now).await
            });
            answer.await.map_err(internal)
        })
    }

    fn settle_imports(&self) -> Reply<()> {
        self.change_all(TaskClass::Ingest, |core: Rc<Core>| async move { core.keeper.settle_deposit().await })
    }

    fn with_gateway(&self, change: GatewayChange<'_>) -> Result<Vec<u8>, push::Error> {
        let mut gateway = self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut gateway, self.clock.now_ms())
    }

    fn otlp_settings(&self) -> Arc<otlp::Settings> {
        self.loaded().otlp.clone()
    }

    fn otlp_totals(&self) -> Arc<Mutex<otlp::Totals>> {
        self.otlp_totals.clone()
    }

    fn note_otlp(&self, warnings: &otlp::Warnings) {
        self.requests.note_otlp(warnings);
    }

    fn note_late_exemplars(&self, count: u64) {
        self.requests.note_late_exemplars(count);
    }

    fn metrics(&self) -> Reply<String> {
        let (succeeded, loaded_ms) = {
            let l = self.loaded();
            (l.reload_succeeded, l.loaded_ms)
        };
        let readings = self.mesh.get().map(|m| m.readings()).unwrap_or_default();
        let figures = self.mesh.get().map(|_| self.figures());
        let (start_ms, is_ready, commons) = (self.start_ms, self.is_ready(), self.commons.clone());
        let cleanups = self.cleanups.figures();
        // The counts of requests are read when the page is made, so their lock is not held across the wait.
        let mut requests = metrics::Page::default();
        self.requests.push_to(&mut requests);
        Box::pin(async move {
            let figures = match figures {
                Some(f) => f.await?,
                None => Vec::new(),
            };
            let sources = metrics::Sources {
                shards: &figures,
                readings: &readings,
                requests: &requests.into_text(),
                reload_succeeded: succeeded,
                last_reload_seconds: loaded_ms as f64 / 1e3,
                start_seconds: start_ms as f64 / 1e3,
                is_ready,
                series_max: commons.budget.max(),
                series_refused: commons.budget.refused(),
                cleanups,
            };
            Ok(metrics::page(&sources))
        })
    }

    fn runtime_info(&self) -> RuntimeInfo {
        let loaded = self.loaded();
        RuntimeInfo {
            start_ms: self.start_ms,
            now_ms: self.clock.now_ms(),
            working_directory: std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default(),
            hostname: hostname(),
            reload_succeeded: loaded.reload_succeeded,
            last_config_ms: loaded.loaded_ms,
            corruption_count: 0,
            shard_count: usize::from(self.shard_count),
            storage_retention: retention::shown(loaded.config.storage.retention),
        }
    }

    fn config_yaml(&self) -> String {
        self.loaded().config.to_yaml()
    }

    fn scrape_pools(&self) -> Vec<String> {
        self.loaded().jobs.iter().map(|j| j.config.job_name.clone()).collect()
    }

    fn external_labels(&self) -> Vec<(String, String)> {
        let labels = self.loaded().config.global.external_labels.clone();
        labels.iter().map(|l| (l.name.to_owned(), l.value.to_owned())).collect()
    }

    fn flags(&self) -> Vec<(String, String)> {
        self.flags.shown(self.shard_count)
    }

    fn reload(self: Arc<Self>) -> Reply<()> {
        Box::pin(async move {
            let result = tokio::task::spawn_blocking(move || self.reload_now()).await.map_err(internal)?;
            result.map_err(internal)
        })
    }

    fn quit(&self) -> bool {
        let is_first = !self.stopping.swap(true, SeqCst);
        self.quit.notify_one();
        is_first
    }

    fn note_request(&self, handler: &'static str, status: u16, took: Duration, bytes: usize) {
        self.requests.note(handler, status, took, bytes);
    }
}

impl HouseBackend {
    /// Distinct values of each label over all shards.
    fn label_value_counts(&self) -> Reply<Vec<Counted>> {
        let all = self.on_all(|core| {
            let shard = core.keeper.shard();
            let of_name = |n| {
                let values = shard.index().postings().values(n).iter();
                (shard.symbol_text(n).to_owned(), values.map(|v| shard.symbol_text(*v).to_owned()).collect())
            };
            shard.index().postings().names().map(of_name).collect::<Vec<(String, Vec<String>)>>()
        });
        Box::pin(async move {
            let mut sets: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
            for (name, values) in all.await?.into_iter().flatten() {
                sets.entry(name).or_default().extend(values);
            }
            Ok(sets.into_iter().map(|(text, s)| Counted { text, count: s.len() as u64 }).collect())
        })
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|h| h.trim().to_owned()).unwrap_or_default()
}
