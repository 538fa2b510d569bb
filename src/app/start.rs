//! Start and stop, in order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use model::time::parse_duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::api::{self, Backend};
use crate::app::backend::{HouseBackend, LoadConfig, Loaded};
use crate::app::directory::DataDir;
use crate::app::doors::Doors;
use crate::app::flags::{Ack, Flags, parse_cpus};
use crate::app::house::{House, Options, deal, features_of, jobs_of, set_exemplars};
use crate::app::metrics::Requests;
use crate::app::query_log::QueryLog;
use crate::app::{groups, logging, memory, retention, tsdb, tune, web};
use crate::config::{Config, Reading, process_environment};
use crate::query::engine::{self, Engine};
use crate::query::script;
use crate::remote::Protocol;
use crate::remote::connection::Door;
use crate::rt::clock::{Clock, SystemClock};
use crate::rt::probe;
use crate::shard::commons::Commons;

/// Flags or configuration are wrong: Prometheus's exit code for it.
const EXIT_CONFIG: u8 = 2;
const EXIT_FAILURE: u8 = 1;

/// Shard numbers are a part of source ids, and the last ones are taken.
const SHARDS_MAX: u16 = 1000;

/// The whole program.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("test") {
        return test(&args[2..]);
    }
    if args.get(1).map(String::as_str) == Some("tune") {
        return tune::main(&args[2..]);
    }
    if args.get(1).map(String::as_str) == Some("tsdb") {
        return tsdb::main(&args[1..]);
    }
    match serve(Flags::from_args(args.into_iter())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("systole: {}", stop.text);
            ExitCode::from(stop.code)
        }
    }
}

/// `systole test promql FILE|DIR... [--shards K]`.
fn test(args: &[String]) -> ExitCode {
    let usage = || {
        eprintln!("usage: systole test promql FILE|DIR... [--shards K]");
        ExitCode::from(EXIT_CONFIG)
    };
    if args.first().map(String::as_str) != Some("promql") {
        return usage();
    }
    let (mut paths, mut shard_count, mut rest) = (Vec::new(), 1, args[1..].iter());
    while let Some(arg) = rest.next() {
        let count = match arg.strip_prefix("--shards") {
            Some("") => rest.next().map(String::as_str),
            Some(value) => value.strip_prefix('='),
            None => {
                paths.push(PathBuf::from(arg));
                continue;
            }
        };
        match count.and_then(|c| c.parse::<usize>().ok()).filter(|n| (1..=1024).contains(n)) {
            Some(n) => shard_count = n,
            None => return usage(),
        }
    }
    if paths.is_empty() {
        return usage();
    }
    match script::run(&paths, shard_count) {
        Ok(report) => {
            print!("{report}");
            if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
        }
        Err(e) => {
            eprintln!("systole: {e}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Why the program ends, and with which code.
struct Stop {
    code: u8,
    text: String,
}

fn wrong(text: impl std::fmt::Display) -> Stop {
    Stop { code: EXIT_CONFIG, text: text.to_string() }
}

fn failed(text: impl std::fmt::Display) -> Stop {
    Stop { code: EXIT_FAILURE, text: text.to_string() }
}

fn serve(flags: Flags) -> Result<(), Stop> {
    logging::install(&flags.log_level, &flags.log_format);
    let clock = SystemClock::shared();
    let (load, source) = config_source(&flags);
    let load = with_retention(load, &flags).map_err(wrong)?;
    let config = load().map_err(|e| wrong(format!("Error loading config ({source}): {e}")))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let cpus = parse_cpus(&flags.cpus).map_err(wrong)?;
    let ground = probe::probe().map_err(failed)?;
    let shard_count = match flags.shards {
        0 => ground.choose(&cpus).map_err(failed)?.len().min(SHARDS_MAX as usize) as u16,
        n => n.min(SHARDS_MAX),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(failed)?;
    let listeners = runtime.block_on(bind_all(&flags.listen))?;
    let grpc: Vec<String> = Some(flags.grpc_listen.clone()).filter(|a| !a.is_empty()).into_iter().collect();
    let grpc = runtime.block_on(bind_all(&grpc))?;
    let dir = DataDir::open(&flags.data_dir, !flags.no_lockfile, shard_count).map_err(failed)?;
    crate::app::directory::adopt(&dir, shard_count).map_err(failed)?;
    let backend = Arc::new(backend_of(flags, config, load, clock, shard_count)?);
    runtime.block_on(run(backend, dir, cpus, listeners, grpc))
}

/// Where the configuration comes from, and its name for messages.
fn config_source(flags: &Flags) -> (LoadConfig, String) {
    let default = Path::new("prometheus.yml");
    let path = match &flags.config_file {
        Some(path) => path.clone(),
        None if default.exists() => default.to_path_buf(),
        None => return (Box::new(Config::embedded_default), "embedded default".to_owned()),
    };
    let source = format!("--config.file={}", path.display());
    (Box::new(move || Config::load(&path, Reading::ToRun, &process_environment)), source)
}

/// A second at least, as Prometheus has it.
fn block_interval(text: &str) -> Result<Duration, Stop> {
    let ms = duration_flag("storage.tsdb.block-reload-interval", text)?;
    Ok(Duration::from_millis(ms.max(1000) as u64))
}

fn scrub_pass(text: &str) -> Result<Duration, Stop> {
    let ms = duration_flag("storage.scrub-interval", text)?;
    Ok(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// The flags' retention holds where the configuration says none.
fn with_retention(load: LoadConfig, flags: &Flags) -> Result<LoadConfig, String> {
    let default = retention::of_flags(&flags.retention_time, &flags.retention_size)?;
    Ok(Box::new(move || {
        load().map(|mut config| {
            config.set_default_retention(default);
            config
        })
    }))
}

async fn bind_all(addresses: &[String]) -> Result<Vec<TcpListener>, Stop> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(web::bind(address).await.map_err(failed)?);
    }
    Ok(listeners)
}

fn duration_flag(name: &str, text: &str) -> Result<i64, Stop> {
    parse_duration(text).map_err(|e| wrong(format!("--{name}: {e}")))
}

fn backend_of(
    flags: Flags,
    config: Config,
    load: LoadConfig,
    clock: Arc<dyn Clock>,
    shard_count: u16,
) -> Result<HouseBackend, Stop> {
    let options = engine::Options {
        language: language_of(&flags.features),
        lookback_ms: duration_flag("query.lookback-delta", &flags.lookback)?,
        samples_max: flags.max_samples,
        bytes_max: bytes_flag("query.max-bytes", &flags.max_bytes)?,
        concurrent_max: flags.max_concurrency,
        subquery_interval_ms: config.global.evaluation_interval_ms as i64,
        delayed_name_removal: has(&flags.features, "promql-delayed-name-removal"),
        type_and_unit_labels: has(&flags.features, "type-and-unit-labels"),
        use_start_timestamps: has(&flags.features, "use-start-timestamps"),
    };
    let timeout = duration_flag("query.timeout", &flags.query_timeout)?;
    let query_log = QueryLog::default();
    query_log.write_to(QueryLog::open(config.global.query_log_file.as_deref()).map_err(wrong)?);
    let (config, start_ms) = (Arc::new(config), clock.now_ms());
    let commons = Arc::new(Commons::default());
    commons.set_window(config.storage.out_of_order_window_ms);
    commons.budget.set_max(match flags.max_series {
        0 => memory::series_that_fit(),
        n => n,
    });
    if flags.has("otlp-deltatocumulative") && flags.has("otlp-native-delta-ingestion") {
        let text =
            "cannot enable otlp-deltatocumulative and otlp-native-delta-ingestion features at the same time";
        return Err(wrong(text));
    }
    let (jobs, otlp) = (jobs_of(&config), Arc::new(flags.otlp(&config, options.lookback_ms)));
    let requests = Arc::new(Requests::default());
    let noted = requests.clone();
    let door = Door {
        accepted: accepted_of(&flags).into(),
        clock: clock.clone(),
        note: Arc::new(move |status, took| noted.note(api::write::PATH, status, took, 0)),
    };
    let doors = Doors::new(shard_count, flags.max_connections, door);
    let loaded = Loaded { jobs, otlp, config, reload_succeeded: true, loaded_ms: start_ms };
    let gateway = groups::load(&flags.data_dir);
    Ok(HouseBackend {
        clock,
        flags,
        shard_count,
        engine: Arc::new(Engine::new(options)),
        query_timeout: Duration::from_millis(timeout as u64),
        start_ms,
        mesh: OnceLock::new(),
        commons,
        vacancies: Arc::default(),
        stopping: AtomicBool::new(false),
        quit: Notify::new(),
        requests,
        doors,
        cleanups: Arc::default(),
        query_log: Arc::new(query_log),
        gateway: Mutex::new(gateway),
        otlp_totals: Arc::default(),
        load,
        loaded: Mutex::new(loaded),
        reloading: Mutex::new(()),
    })
}

/// A flag of bytes; 0 stands for a quarter of what memory this process may use.
fn bytes_flag(name: &str, text: &str) -> Result<usize, Stop> {
    match crate::config::size::parse_size(text) {
        Ok(0) => Ok(memory_bytes() / 4),
        Ok(bytes) if bytes > 0 => Ok(bytes as usize),
        Ok(_) => Err(wrong(format!("--{name}: {text} is less than nothing"))),
        Err(e) => Err(wrong(format!("--{name}: {e}"))),
    }
}

/// Memory of the machine, or of the control group where that is less; 4 GiB where neither can be read.
fn memory_bytes() -> usize {
    const UNKNOWN: u64 = 4 << 30;
    memory::bytes().unwrap_or(UNKNOWN) as usize
}

fn has(features: &[String], name: &str) -> bool {
    features.iter().any(|f| f == name)
}

fn language_of(features: &[String]) -> promql::Options {
    let known = [
        "otlp-deltatocumulative",
        "otlp-native-delta-ingestion",
        "promql-experimental-functions",
        "promql-extended-range-selectors",
        "promql-binop-fill-modifiers",
        "promql-delayed-name-removal",
        "promql-duration-expr",
        "created-timestamp-zero-ingestion",
        "exemplar-storage",
        "extra-scrape-metrics",
        "native-histograms",
        "promql-per-step-stats",
        "type-and-unit-labels",
        "use-start-timestamps",
    ];
    for f in features.iter().filter(|f| !known.contains(&f.as_str())) {
        tracing::warn!(option = f, "Unknown option for --enable-feature");
    }
    promql::Options {
        experimental_functions: has(features, "promql-experimental-functions"),
        extended_range_selectors: has(features, "promql-extended-range-selectors"),
        fill_modifiers: has(features, "promql-binop-fill-modifiers"),
        ..promql::Options::default()
    }
}

async fn run(
    backend: Arc<HouseBackend>,
    dir: DataDir,
    cpus: Vec<usize>,
    listeners: Vec<TcpListener>,
    grpc: Vec<TcpListener>,
) -> Result<(), Stop> {
    let shown = listeners.iter().filter_map(|l| l.local_addr().ok()).map(|a| a.to_string());
    let addresses: Vec<String> = shown.collect();
    let ended = Arc::new(Notify::new());
    let workers = web::start_workers().map_err(failed)?;
    for listener in listeners {
        answer_requests(listener, Serves::All, backend.clone(), &workers, &ended);
    }
    for listener in grpc {
        let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
        tracing::info!("OTLP over gRPC is received on {address}");
        answer_requests(listener, Serves::Calls, backend.clone(), &workers, &ended);
    }
    tracing::info!(shards = backend.shard_count, data = %dir.path.display(), "Starting systole");
    let tolerance_ms = match backend.flags.adjust_timestamps {
        true => duration_flag("scrape.timestamp-tolerance", &backend.flags.timestamp_tolerance)?,
        false => -1,
    };
    let options = Options {
        shard_count: backend.shard_count,
        cpus,
        clock: backend.clock.clone(),
        seed: scrape_seed(&backend),
        tolerance_ms,
        ack_durable: backend.flags.ack == Ack::Durable,
        commons: backend.commons.clone(),
        features: features_of(&backend.flags),
        block_cache_bytes: retention::bytes_of("storage.block-cache-size", &backend.flags.block_cache_size)
            .map_err(wrong)?,
        block_interval: block_interval(&backend.flags.block_interval)?,
        scrub_pass: scrub_pass(&backend.flags.scrub_pass)?,
        storage: backend.loaded().config.storage.clone(),
    };
    let house = tokio::task::spawn_blocking(move || House::start(&dir, options).map(|h| (h, dir)));
    let (house, _dir) = house.await.map_err(failed)?.map_err(failed)?;
    let (mesh, jobs) = (house.mesh(), backend.loaded().jobs.clone());
    let (dealt, config, flags) = (mesh.clone(), backend.loaded().config.clone(), backend.flags.clone());
    tokio::task::spawn_blocking(move || {
        set_exemplars(&dealt, &config, &flags)?;
        deal(&dealt, &jobs)
    })
    .await
    .map_err(failed)?
    .map_err(failed)?;
    // Set once, here.
    let _ = backend.mesh.set(mesh);
    tokio::spawn(groups::repeat(backend.clone()));
    tokio::spawn(groups::keep(backend.clone()));
    tracing::info!("Server is ready to receive web requests.");
    for address in &addresses {
        let port = address.rsplit(':').next().unwrap_or("9090");
        tracing::info!("ask it: curl 'http://localhost:{port}/api/v1/query?query=up'");
    }
    wait_for_end(&backend).await?;
    backend.stopping.store(true, SeqCst);
    tracing::info!("stopping: the log's last frame is written");
    ended.notify_waiters();
    let left = backend.clone();
    tokio::task::spawn_blocking(move || groups::write_changed(&left)).await.map_err(failed)?;
    let stopped = tokio::task::spawn_blocking(move || house.stop()).await.map_err(failed)?;
    stopped.map_err(failed)?;
    tracing::info!("See you next time!");
    Ok(())
}

/// Servers that scrape the same targets spread over the interval differently.
fn scrape_seed(backend: &HouseBackend) -> u64 {
    let mut text = backend.runtime_info().hostname;
    for (name, value) in backend.external_labels() {
        text.push_str(&name);
        text.push_str(&value);
    }
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

fn accepted_of(flags: &Flags) -> Vec<Protocol> {
    flags.accepted_messages.iter().filter_map(|m| Protocol::from_message(m)).collect()
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serves {
    All,
    /// OTLP over gRPC.
    Calls,
}

/// Must be called on the control plane, which accepts; the workers answer.
fn answer_requests(
    listener: TcpListener,
    serves: Serves,
    backend: Arc<HouseBackend>,
    workers: &[Handle],
    ended: &Arc<Notify>,
) {
    let port = listener.local_addr().map(|a| a.port()).unwrap_or_default();
    let settings = api::Settings {
        lifecycle_enabled: backend.flags.enable_lifecycle,
        admin_enabled: backend.flags.enable_admin,
        requests_max: backend.flags.max_connections,
        external_host: format!("{}:{port}", backend.runtime_info().hostname),
        lookback_ms: backend.engine.options().lookback_ms,
        remote_write: backend.flags.enable_remote_write,
        otlp: backend.flags.enable_otlp,
        accepted_messages: accepted_of(&backend.flags),
    };
    let clock = backend.clock.clone();
    let shards = (serves == Serves::All).then(|| backend.clone() as Arc<dyn Backend>);
    let router = match serves {
        Serves::All => api::router(backend, clock, settings),
        Serves::Calls => api::grpc_router(backend, clock, settings),
    };
    let doorways = match api::Doorway::open(listener, shards, workers.len()) {
        Ok(doorways) => doorways,
        Err(e) => return tracing::error!(err = %e, "the listener failed"),
    };
    for (worker, doorway) in workers.iter().zip(doorways) {
        let (router, ended) = (router.clone(), ended.clone());
        worker.spawn(async move {
            let router = router.into_make_service_with_connect_info::<api::Connection>();
            let served =
                axum::serve(doorway, router).with_graceful_shutdown(async move { ended.notified().await });
            if let Err(e) = served.await {
                tracing::error!(err = %e, "the listener failed");
            }
        });
    }
}

/// Returns at SIGTERM, SIGINT or `/-/quit`; SIGHUP reloads.
async fn wait_for_end(backend: &Arc<HouseBackend>) -> Result<(), Stop> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = backend.quit.notified() => return Ok(()),
            _ = hangup.recv() => {
                // The result is logged and shown by the API.
                let _ = backend.clone().reload().await;
            }
        }
    }
}
