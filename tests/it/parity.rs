//! The same pages in systole and in a real Prometheus, and the same questions to both: the answers must be equal.
//!
//! Pages with timestamps of their own are served to both, and both store the same ones by themselves. Pages without
//! are scraped by systole first; then Prometheus gets the same samples with the timestamps that systole chose.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::house::{Dir, House, Process, Running, Server, eventually, form, seconds};
use crate::peers;
use crate::target::{Page, Target};

/// Pages of each job: a quarter of an hour by their own timestamps, some seconds by the clock.
const PAGES: usize = 60;

/// How often systole scrapes. Prometheus catches up faster.
const INTERVAL_MS: i64 = 200;

/// A page of a recording: when it was scraped, and its text.
#[derive(Clone)]
struct Recorded {
    time_ms: i64,
    text: String,
}

fn shared() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    std::env::var_os("SYSTOLE_SHARED").map_or(beside, PathBuf::from)
}

/// The first pages of a recording. `None` where it is not here.
fn recording(name: &str, count: usize) -> Option<Vec<Recorded>> {
    let path = shared().join("data/recordings").join(name);
    let Ok(file) = std::fs::File::open(&path) else {
        println!("skipped: no {}", path.display());
        return None;
    };
    let mut bytes = Vec::new();
    zstd::Decoder::new(file).expect("a decoder").read_to_end(&mut bytes).expect("a recording");
    let mut rest = &bytes[..];
    let mut pages = Vec::new();
    while pages.len() < count && !rest.is_empty() {
        let line = rest.iter().position(|b| *b == b'\n').expect("a head line");
        let head = std::str::from_utf8(&rest[..line]).expect("a head line");
        let mut words = head.split(' ').skip(1);
        let mut number = || words.next().and_then(|w| w.parse::<i64>().ok()).expect("a number");
        let (time_ms, length) = (number(), number() as usize);
        let text = String::from_utf8(rest[line + 1..line + 1 + length].to_vec()).expect("a page");
        pages.push(Recorded { time_ms, text });
        rest = &rest[line + 1 + length..];
    }
    Some(pages)
}

/// The page with a timestamp behind every sample.
fn stamped(page: &Recorded, shift_ms: i64) -> String {
    let mut out = String::new();
    for line in page.text.lines() {
        match line.starts_with('#') || line.is_empty() {
            true => out.push_str(line),
            false => write!(out, "{line} {}", page.time_ms + shift_ms).expect("memory"),
        }
        out.push('\n');
    }
    out
}

/// The pages without series that are not on all of them: what ends is no sample, and could not be handed on.
fn steady(pages: &[Recorded]) -> Vec<String> {
    let key = |line: &str| line.rsplit_once(' ').map_or("", |(key, _)| key).to_owned();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for line in pages.iter().flat_map(|p| p.text.lines()) {
        *seen.entry(key(line)).or_default() += 1;
    }
    let is_steady = |line: &&str| line.starts_with('#') || seen.get(&key(line)) == Some(&pages.len());
    pages.iter().map(|p| p.text.lines().filter(is_steady).map(|l| format!("{l}\n")).collect()).collect()
}

/// Serves pages one after the other to each asker (known by the path), and the last one from then on.
fn replay(pages: Vec<String>) -> Target {
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    Target::scripted(move |asked| {
        let i = next.entry(asked.path.clone()).or_default();
        let page = pages[(*i).min(pages.len() - 1)].clone();
        *i += 1;
        Page::of(page)
    })
}

/// A job that both servers have, with the target that systole scrapes.
struct Job {
    name: &'static str,
    target: Target,
    pages: Vec<String>,
    is_stamped: bool,
}

fn configuration(interval_ms: i64, asker: &str, jobs: &[(&str, &Target)]) -> String {
    let mut text = format!("global: {{scrape_interval: {interval_ms}ms, scrape_timeout: {interval_ms}ms}}\n");
    text.push_str("scrape_configs:\n");
    for (name, target) in jobs {
        let port = target.port;
        write!(
            text,
            "  - job_name: {name}\n    metrics_path: /{asker}\n    honor_labels: true\n    \
             static_configs: [{{targets: [\"127.0.0.1:{port}\"], labels: {{instance: {name}}}}}]\n"
        )
        .expect("memory");
    }
    text
}

/// All samples of a job's pages, as the API shows them.
fn raw(server: &Server, job: &str) -> Value {
    canonical(server.query(&format!("{{job=\"{job}\",__name__!~\"up|scrape_.*\"}}[2h]")))
}

/// A result whose series are in the order of their labels.
fn canonical(mut result: Value) -> Value {
    if let Some(elements) = result.as_array_mut()
        && elements.first().is_some_and(Value::is_object)
    {
        elements.sort_by_cached_key(|e| e["metric"].to_string());
    }
    result
}

/// Time and value of each sample of a raw series.
fn samples(series: &Value) -> impl Iterator<Item = (i64, &str)> {
    let values = series["values"].as_array().expect("samples").iter();
    values
        .map(|v| ((v[0].as_f64().expect("a time") * 1000.0).round() as i64, v[1].as_str().expect("a value")))
}

fn ends(raw: &Value) -> (i64, i64) {
    let times = raw.as_array().expect("a matrix").iter().flat_map(|s| samples(s).map(|(t, _)| t));
    times.fold((i64::MAX, i64::MIN), |(first, last), t| (first.min(t), last.max(t)))
}

/// The samples up to `last`, dealt to pages: each has the next one of every series, with its timestamp.
fn pages_of(raw: &Value, last: i64) -> Vec<String> {
    let mut pages: Vec<String> = Vec::new();
    for series in raw.as_array().expect("a matrix") {
        let metric = series["metric"].as_object().expect("labels");
        let labels: Vec<String> = metric
            .iter()
            .filter(|(name, _)| *name != "__name__")
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let name = metric["__name__"].as_str().expect("a name");
        for (i, (time, value)) in samples(series).filter(|(time, _)| *time <= last).enumerate() {
            if pages.len() == i {
                pages.push(String::new());
            }
            writeln!(pages[i], "{name}{{{}}} {value} {time}", labels.join(",")).expect("memory");
        }
    }
    pages
}

/// The values of each series are those of the pages, in their order; the last page's may repeat.
fn check_values(raw: &Value, pages: &[String]) {
    let mut truth: HashMap<String, Vec<f64>> = HashMap::new();
    for line in pages.iter().flat_map(|p| p.lines()).filter(|l| !l.starts_with('#')) {
        let (key, value) = line.rsplit_once(' ').expect("a sample");
        truth.entry(key.to_owned()).or_default().push(value.parse().expect("a float"));
    }
    let series = raw.as_array().expect("a matrix");
    assert_eq!(series.len(), truth.len(), "as many series as the pages have");
    let mut checked = 0;
    for s in series {
        let name = s["metric"]["__name__"].as_str().expect("a name");
        // Series without labels are known by their names; those with labels are as many, and checked by queries.
        let Some(wanted) = truth.get(name) else { continue };
        let found = samples(s).map(|(_, v)| v.parse::<f64>().expect("a float"));
        for (found, wanted) in found.zip(wanted) {
            assert!(found == *wanted || (found.is_nan() && wanted.is_nan()), "{name}: {found} {wanted}");
            checked += 1;
        }
    }
    assert!(checked > pages.len() * 100, "{checked} samples were compared");
}

fn start_prometheus(program: PathBuf, dir: &Dir, config: &str) -> (Process, Server) {
    let file = dir.write("prometheus.yml", config);
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .args(["--web.listen-address=127.0.0.1:0", "--scrape.discovery-reload-interval=1s"]);
    let mut process = Process::start(&mut command, dir.path().join("log"));
    let port = process.wait_for_port("msg=\"Listening on\" component=web address=127.0.0.1:");
    let server = Server { port };
    eventually("prometheus is ready", || server.is_ready().then_some(()));
    (process, server)
}

/// Both servers, with the same samples in them.
struct Pair {
    ours: Running,
    theirs: Server,
    /// The job's name, its first and its last sample.
    spans: Vec<(&'static str, i64, i64)>,
    _kept: (House, Process, Dir, Vec<Target>),
}

impl Pair {
    fn start() -> Option<Pair> {
        let program = peers::find("prometheus")?;
        let jobs = [
            job_of("node_stamped", "node.rec.zst", true)?,
            job_of("node_plain", "node.rec.zst", false)?,
            job_of("prometheus_stamped", "prometheus.rec.zst", true)?,
            job_of("prometheus_plain", "prometheus.rec.zst", false)?,
        ];
        let served: Vec<(&str, &Target)> = jobs.iter().map(|j| (j.name, &j.target)).collect();
        let house = House::new("parity", &configuration(INTERVAL_MS, "ours", &served));
        let ours = house.start()?;
        eventually("systole has read all pages", || {
            jobs.iter().all(|j| j.target.served() > PAGES as u64 + 1).then_some(())
        });
        let mut spans = Vec::new();
        let mut theirs_read = Vec::new();
        for j in jobs {
            let raw = raw(&ours, j.name);
            let (first, last) = ends(&raw);
            if j.is_stamped {
                spans.push((j.name, first, last));
                theirs_read.push((j.name, j.target));
                continue;
            }
            check_values(&raw, &j.pages);
            // Shards take a row one after the other: the last ones may not be whole yet.
            let ends = raw.as_array().expect("a matrix").iter().filter_map(|s| samples(s).last());
            let last = ends.map(|(time, _)| time).min().unwrap_or(last);
            // Questions look a second ahead.
            spans.push((j.name, first, last - 1000));
            theirs_read.push((j.name, replay(pages_of(&raw, last))));
        }
        let served: Vec<(&str, &Target)> = theirs_read.iter().map(|(name, target)| (*name, target)).collect();
        let dir = Dir::new("prometheus");
        let (process, theirs) = start_prometheus(program, &dir, &configuration(100, "theirs", &served));
        let kept = theirs_read.into_iter().map(|(_, target)| target).collect();
        let pair = Pair { ours, theirs, spans, _kept: (house, process, dir, kept) };
        pair.wait_for_equal_samples();
        Some(pair)
    }

    /// Until both hold the same samples of every job, to the letter.
    fn wait_for_equal_samples(&self) {
        for (job, first, last) in &self.spans {
            let window = format!("{}ms", last - first + 1);
            let raw = |server: &Server| {
                let query = format!("{{job=\"{job}\",__name__!~\"up|scrape_.*\"}}[{window}]");
                canonical(server.query_at(&query, *last))
            };
            eventually(&format!("both hold the samples of {job}"), || {
                let ours = raw(&self.ours);
                (ours.as_array().is_some_and(|a| a.len() > 300) && ours == raw(&self.theirs)).then_some(())
            });
        }
    }
}

fn job_of(name: &'static str, file: &str, is_stamped: bool) -> Option<Job> {
    let pages = recording(file, PAGES)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64;
    let shift = now - pages[pages.len() - 1].time_ms;
    let texts = if is_stamped { pages.iter().map(|p| stamped(p, shift)).collect() } else { steady(&pages) };
    Some(Job { name, target: replay(texts.clone()), pages: texts, is_stamped })
}

/// `J` stands for the job, `W` for a window, `O` for an offset, `S` for a step, `T` for a time, `N` for a number.
const QUESTIONS: &[&str] = &[
    "node_load1{J}",
    "{__name__=~\"node_memory_.*_bytes\",J}",
    "{__name__!~\"go_.*|node_.*|up|scrape_.*\",J}",
    "node_cpu_seconds_total{J,mode!~\"idle|user\",cpu=\"0\"}",
    "rate(node_cpu_seconds_total{J}[W])",
    "increase(node_network_receive_bytes_total{J}[W])",
    "increase(node_context_switches_total{J}[W] offset O)",
    "irate(node_context_switches_total{J}[W])",
    "sum by (mode) (rate(node_cpu_seconds_total{J}[W]))",
    "sum without (cpu, mode) (rate(node_cpu_seconds_total{J}[W]))",
    "sum({__name__=~\"node_netstat_.*\",J})",
    "avg by (cpu) (irate(node_cpu_seconds_total{J}[W]))",
    "avg({__name__=~\"node_memory_.*_bytes\",J})",
    "min by (job) (node_cpu_seconds_total{J})",
    "max by (mode) (node_cpu_seconds_total{J})",
    "count by (mode) (node_cpu_seconds_total{J})",
    "group by (cpu) (node_cpu_seconds_total{J})",
    "count_values(\"bytes\", node_filesystem_size_bytes{J})",
    "topk(3, {__name__=~\"node_memory_.*_bytes\",J})",
    "bottomk(2, rate(node_cpu_seconds_total{J}[W]))",
    "quantile(0.9, rate(node_cpu_seconds_total{J}[W]))",
    "quantile by (cpu) (0.25, node_cpu_seconds_total{J})",
    "1 - avg by (instance) (rate(node_cpu_seconds_total{J,mode=\"idle\"}[W]))",
    "node_filesystem_avail_bytes{J} / node_filesystem_size_bytes",
    "rate(node_cpu_seconds_total{J}[W]) / on(cpu) group_left() sum by (cpu) (rate(node_cpu_seconds_total{J}[W]))",
    "node_cpu_seconds_total{J} - ignoring(mode) group_left node_cpu_seconds_total{J,mode=\"idle\"}",
    "node_cpu_seconds_total{J} > 100 and on(cpu) node_cpu_seconds_total{mode=\"user\"}",
    "node_load1{J} or node_load5{J}",
    "node_cpu_seconds_total{J} unless on(mode) node_cpu_guest_seconds_total{J}",
    "node_load1{J} > bool 1",
    "node_load1{J} != 0.5",
    "-node_load1{J} ^ 2 + node_load5 % 0.3 * 7",
    "label_replace(node_cpu_seconds_total{J}, \"core\", \"c$1\", \"cpu\", \"(.*)\")",
    "label_join(node_cpu_seconds_total{J}, \"both\", \"-\", \"cpu\", \"mode\")",
    "max_over_time(rate(node_context_switches_total{J}[W])[W:S])",
    "sum_over_time((node_load1{J} * 2)[W:S] offset O)",
    "node_load1{J} offset O",
    "node_load1{J} offset -O",
    "node_load1{J} @ end()",
    "node_load1{J} @ T",
    "rate(node_context_switches_total{J}[W] @ start())",
    "avg_over_time(node_load15{J}[W])",
    "sum_over_time(node_memory_MemFree_bytes{J}[W])",
    "min_over_time(node_memory_MemFree_bytes{J}[W])",
    "max_over_time(node_memory_MemFree_bytes{J}[W])",
    "count_over_time(node_memory_MemFree_bytes{J}[W])",
    "last_over_time(node_memory_MemFree_bytes{J}[W])",
    "stddev_over_time(node_memory_MemFree_bytes{J}[W])",
    "stdvar_over_time(node_load1{J}[W])",
    "quantile_over_time(0.7, node_load1{J}[W])",
    "present_over_time(node_load1{J}[W])",
    "absent_over_time(node_load1{J,cpu=\"x\"}[W])",
    "absent(node_load1{J,cpu=\"x\"})",
    "delta(node_memory_MemFree_bytes{J}[W])",
    "idelta(node_memory_MemFree_bytes{J}[W])",
    "deriv(node_memory_MemFree_bytes{J}[W])",
    "predict_linear(node_memory_MemFree_bytes{J}[W], 60)",
    "changes(node_load1{J}[W])",
    "resets(node_load1{J}[W])",
    "clamp(node_load1{J}, 0.2, 0.5)",
    "clamp_min(node_load1{J}, 0.3) + clamp_max(node_load1{J}, 0.3)",
    "round(node_load1{J}, 0.05) + abs(-node_load1{J}) + ceil(node_load1{J}) + floor(node_load1{J})",
    "sqrt(node_load1{J})",
    "exp(node_load1{J})",
    "ln(node_load1{J})",
    "log2(node_load1{J})",
    "log10(node_load1{J})",
    "deg(node_load1{J})",
    "rad(node_load1{J})",
    "sgn(node_load1{J} - 0.5)",
    "node_load1{J} ^ 0.37",
    "node_load1{J} atan2 node_load5",
    "sin(N)",
    "cos(N)",
    "tan(N)",
    "asin(N)",
    "acos(N)",
    "atan(N)",
    "sinh(N)",
    "cosh(N)",
    "tanh(N)",
    "asinh(N)",
    "acosh(N + 1)",
    "atanh(N)",
    "exp(N)",
    "ln(N)",
    "log2(N)",
    "log10(N)",
    "sqrt(N)",
    "(N) ^ (N)",
    "(N) atan2 vector(0.3)",
    "sin((N) * 1e6) + cos((N) * 77) + tan((N) * 5)",
    "sinh((N) * 30) + cosh((N) * 25) + tanh((N) * 10)",
    "exp((N) * 700)",
    "asinh((N) * 1e9)",
    "timestamp(node_load1{J})",
    "time() - node_boot_time_seconds{J}",
    "day_of_week(node_boot_time_seconds{J}) + hour(node_boot_time_seconds{J})",
    "scalar(node_load1{J}) * 2",
    "vector(scalar(sum(node_load1{J})))",
    "sort_desc(node_cpu_seconds_total{J})",
    "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket{P}[W])))",
    "histogram_quantile(0.5, prometheus_http_request_duration_seconds_bucket{P})",
    "histogram_quantile(0.99, rate(prometheus_http_response_size_bytes_bucket{P}[W]))",
    "prometheus_engine_query_duration_seconds{P,quantile=\"0.9\"}",
    "sum by (handler, code) (rate(prometheus_http_requests_total{P}[W])) > 0",
    "rate(prometheus_http_request_duration_seconds_sum{P}[W]) / rate(prometheus_http_request_duration_seconds_count{P}[W])",
    "count by (__name__) ({__name__!~\"up|scrape_.*\",P})",
];

/// Questions whose last digits are not defined: they depend on the order in which series are added up.
const CLOSE_QUESTIONS: &[&str] =
    &["stddev(node_cpu_seconds_total{J}) by (mode)", "stdvar(node_cpu_seconds_total{J})"];

/// How far such answers may be apart, of their size.
const CLOSE: f64 = 1e-12;

/// How questions are put to a job: by the span of its samples.
struct Scale {
    job: &'static str,
    start: i64,
    end: i64,
    window: &'static str,
    offset: &'static str,
    step: &'static str,
}

impl Scale {
    fn question(&self, text: &str) -> String {
        let at = seconds((self.start + self.end) / 2);
        let other = self.job.replace("node", "prometheus");
        let mut out = String::new();
        let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for word in text.split_inclusive(|c: char| !is_letter(c)) {
            let (name, rest) = word.split_at(word.find(|c| !is_letter(c)).unwrap_or(word.len()));
            match name {
                "J" => write!(out, "job=\"{}\"", self.job).expect("memory"),
                "P" => write!(out, "job=\"{other}\"").expect("memory"),
                "W" => out.push_str(self.window),
                "O" => out.push_str(self.offset),
                "S" => out.push_str(self.step),
                // A number between -1 and 1 for each time, anywhere on its digits.
                "N" => out.push_str("vector(time() * 0.0137 % 2 - 1)"),
                "T" => out.push_str(&at),
                name => out.push_str(name),
            }
            out.push_str(rest);
        }
        out
    }
}

/// Whether two answers are the same where floats within strings may differ by `tolerance`.
fn is_close(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(a, b, tolerance))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| is_close(a, b, tolerance)))
        }
        (Value::String(a), Value::String(b)) if a != b => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => (a - b).abs() <= tolerance * a.abs(),
            _ => false,
        },
        (a, b) => a == b,
    }
}

/// The answers to one question, where they differ.
fn difference(pair: &Pair, endpoint: &str, params: &[(&str, &str)], tolerance: f64) -> Option<String> {
    let ask = |server: &Server| {
        let mut answer = server.get(&format!("/api/v1/{endpoint}?{}", form(params))).json();
        let result = canonical(answer["data"]["result"].take());
        json!([answer["status"], answer["data"]["resultType"], result, answer["error"]])
    };
    let (ours, theirs) = (ask(&pair.ours), ask(&pair.theirs));
    if ours[0] == "success" && is_close(&ours, &theirs, tolerance) {
        return None;
    }
    let (a, b) = (ours.to_string(), theirs.to_string());
    let at = a.bytes().zip(b.bytes()).position(|(a, b)| a != b).unwrap_or(0).saturating_sub(150);
    let excerpt = |text: &str| text.chars().skip(at).take(300).collect::<String>();
    Some(format!("{endpoint} {params:?}\n  ours   ..{}\n  theirs ..{}", excerpt(&a), excerpt(&b)))
}

#[test]
fn answers_equal_those_of_a_real_prometheus() {
    let Some(pair) = Pair::start() else { return };
    let span = |name: &str| pair.spans.iter().find(|s| s.0 == name).copied().expect("the job");
    let scale = |name, window, offset, step| {
        let (job, start, end) = span(name);
        Scale { job, start, end, window, offset, step }
    };
    let mut differences = Vec::new();
    let mut asked = 0;
    let mut nothing = Vec::new();
    let questions = QUESTIONS.iter().map(|q| (q, 0.0)).chain(CLOSE_QUESTIONS.iter().map(|q| (q, CLOSE)));
    let questions: Vec<(&&str, f64)> = questions.collect();
    for s in [scale("node_stamped", "5m", "2m", "30s"), scale("node_plain", "3s", "1s", "400ms")] {
        let times = [s.end, s.start + (s.end - s.start) * 2 / 3, s.start + 1];
        for (text, tolerance) in &questions {
            let question = s.question(text);
            for time in times {
                let time = seconds(time);
                let params = [("query", question.as_str()), ("time", time.as_str())];
                differences.extend(difference(&pair, "query", &params, *tolerance));
            }
            // Steps that do not fall on samples.
            let (start, end) = (seconds(s.start - 77), seconds(s.end));
            let params = [("query", question.as_str()), ("start", &start), ("end", &end), ("step", s.step)];
            differences.extend(difference(&pair, "query_range", &params, *tolerance));
            asked += 4;
            if pair.ours.data("query_range", &params)["result"].as_array().is_none_or(Vec::is_empty) {
                nothing.push(question);
            }
        }
    }
    assert!(nothing.len() < 10, "no answers to {nothing:#?}");
    let count = differences.len();
    assert!(count == 0, "{count} of {asked} answers differ:\n{}", differences.join("\n"));
    println!("{asked} answers are equal");
}
