//! The parser against Prometheus's own cases, and properties that hold for any input.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;

use crate::ast::Span;
use crate::error::{Complaint, Error};
use crate::series::parse_start_times;
use crate::{MAX_HEIGHT, MAX_NESTING, Options, parse, parse_metric, parse_metric_selector, parse_series};

/// The folder of shared test data, where there is one.
fn shared(path: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("SYSTOLE_SHARED") {
        Some(root) => PathBuf::from(root),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
    };
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not here", path.display());
    None
}

fn cases() -> Vec<Value> {
    let Some(path) = shared("data/promql_parser_cases.json") else { return Vec::new() };
    let text = std::fs::read_to_string(path).expect("the cases are readable");
    serde_json::from_str(&text).expect("the cases are JSON")
}

/// The case's input. JSON cannot hold the bytes that are not UTF-8: they came as U+FFFD.
fn input_of(case: &Value) -> Vec<u8> {
    let input = case["input"].as_str().expect("an input");
    input.split('\u{fffd}').map(str::as_bytes).collect::<Vec<_>>().join(&b"\xff"[..])
}

fn complaints_of(case: &Value) -> Vec<Complaint> {
    let of = |c: &Value| Complaint {
        span: Span::new(c["Start"].as_u64().unwrap() as usize, c["End"].as_u64().unwrap() as usize),
        message: c["Msg"].as_str().unwrap().to_owned(),
    };
    case["errors"].as_array().into_iter().flatten().map(of).collect()
}

#[test]
fn every_case_is_accepted_or_refused_as_prometheus_does() {
    let (mut wrong, mut others_differ) = (Vec::new(), Vec::new());
    let cases = cases();
    for case in &cases {
        let input = input_of(case);
        let shown = String::from_utf8_lossy(&input);
        let fail = case["fail"].as_bool().unwrap();
        match parse(&input, Options::ALL) {
            Ok(e) if fail => wrong.push(format!("accepted: {shown}\n  as {e}\n  not {}", case["err_full"])),
            Ok(e) if e.to_string() != case["str"].as_str().unwrap() => {
                wrong.push(format!("printed: {shown}\n  as  {e}\n  not {}", case["str"].as_str().unwrap()));
            }
            Err(e) if !fail => wrong.push(format!("refused: {shown}\n  with {e}")),
            Err(e) => {
                let wanted = complaints_of(case);
                let Error::Refused(r) = &e else { panic!("{e}") };
                let full = case["err_full"].as_str().unwrap();
                if e.to_string() != full || r.first != wanted[0] {
                    wrong.push(format!(
                        "error: {shown}\n  is  {e} {:?}\n  not {full} {:?}",
                        r.first, wanted[0]
                    ));
                } else if r.others != wanted[1..] {
                    others_differ.push(shown.chars().take(80).collect::<String>());
                }
            }
            Ok(_) => {}
        }
    }
    println!("{} cases; later complaints differ in {}: {others_differ:#?}", cases.len(), others_differ.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn without_options_as_many_are_refused() {
    let none = Options {
        experimental_functions: false,
        duration_expressions: false,
        extended_range_selectors: false,
        fill_modifiers: false,
    };
    let mut wrong = Vec::new();
    for case in cases() {
        let refused = parse(input_of(&case), none).is_err();
        if refused != case["fail_noopts"].as_bool().unwrap() {
            wrong.push(format!("{} refused: {refused}", case["input"]));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The lines of a script's `load` blocks.
fn loads(script: &str) -> Vec<&str> {
    let mut inside = false;
    let mut out = Vec::new();
    for line in script.lines().map(str::trim) {
        if line.starts_with("load") {
            inside = true;
        } else if line.is_empty() {
            inside = false;
        } else if inside && !line.starts_with('#') {
            out.push(line);
        }
    }
    out
}

#[test]
fn every_series_of_the_golden_scripts_is_understood() {
    let Some(folder) = shared("data/promqltest") else { return };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).expect("the scripts are there") {
        let path = entry.expect("a folder's entry").path();
        if path.extension().is_none_or(|e| e != "test") {
            continue;
        }
        let script = std::fs::read_to_string(&path).expect("a script");
        for line in loads(&script) {
            count += 1;
            let refused = match line.split_once("@st") {
                Some((metric, times)) => {
                    let times = parse_start_times(times).is_none().then(|| "start times".to_owned());
                    parse_metric(metric).err().map(|e| e.to_string()).or(times)
                }
                None => parse_series(line).err().map(|e| e.to_string()),
            };
            wrong.extend(refused.map(|e| format!("{}: {line}\n  {e}", path.display())));
        }
    }
    println!("{count} series");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every entrance of the room, and every way out of a tree.
fn exercise(input: &[u8]) {
    if let Ok(tree) = parse(input, Options::ALL) {
        let (text, pretty, json) = (tree.to_string(), tree.pretty(), tree.to_json());
        if !is_lossy(&text) {
            let shown = String::from_utf8_lossy(input);
            let read =
                |text: &str| parse(text, Options::ALL).unwrap_or_else(|e| panic!("{text} from {shown}: {e}"));
            let again = read(&text);
            assert_eq!(again.to_string(), text, "from {shown}");
            assert_eq!(matchers_sorted(&again.to_json()), matchers_sorted(&json), "from {shown}");
            assert_eq!(read(&pretty).to_string(), text, "from {shown}");
        }
    }
    let _ = parse(input, Options::default());
    let _ = parse_metric_selector(input, Options::ALL);
    let _ = parse_metric(input);
    let _ = parse_series(input);
    let _ = parse_start_times(&String::from_utf8_lossy(input));
}

/// The JSON with every list of matchers in order: the canonical text orders them, the tree does not.
fn matchers_sorted(json: &str) -> Value {
    fn sort(v: &mut Value) {
        match v {
            Value::Array(list) => list.iter_mut().for_each(sort),
            Value::Object(members) => {
                members.values_mut().for_each(sort);
                if let Some(Value::Array(list)) = members.get_mut("matchers") {
                    list.sort_by_key(Value::to_string);
                }
            }
            _ => {}
        }
    }
    let mut v = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
    sort(&mut v);
    v
}

/// Texts that Prometheus prints and does not read back as they were meant: a range below a millisecond comes
/// out as nothing; a plus before a parenthesized offset is lost, and with it where the offset ends; infinity
/// gets a plus, which after that belongs to all of a power.
fn is_lossy(text: &str) -> bool {
    ["[0s", ":0s", "offset (", "Inf ^"].iter().any(|lossy| text.contains(lossy))
}

const WORDS: &[&str] = &[
    "foo",
    "a:b",
    "rate",
    "sum",
    "topk",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "and",
    "or",
    "unless",
    "atan2",
    "offset",
    "start",
    "end",
    "step",
    "range",
    "min_of",
    "max_of",
    "anchored",
    "smoothed",
    "fill",
    "fill_left",
    "info",
    "label_replace",
    "histogram_quantile",
    "time",
    "(",
    ")",
    "(",
    ")",
    "[",
    "]",
    "[5m]",
    "[5m:1m]",
    "{",
    "}",
    "{a=\"b\"}",
    "{\"x.y\"}",
    ",",
    "=",
    "==",
    "!=",
    "=~",
    "!~",
    "<",
    ">",
    "<=",
    ">=",
    "</",
    ">/",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "@",
    ":",
    "1",
    "0x1f",
    "1e3",
    "1_000",
    "Inf",
    "NaN",
    "5m",
    "1h30m",
    "100ms",
    "\"s\"",
    "'\\''",
    "`r`",
    "\"\\xff\"",
    "#c\n",
    "\n",
    "_",
    "x",
    "{{",
    "}}",
    "stale",
    "schema:1",
    "buckets:[1 2]",
    "é",
    "\u{fffd}",
];

fn soup() -> impl Strategy<Value = String> {
    let word = (0..WORDS.len(), any::<bool>());
    prop::collection::vec(word, 0..24).prop_map(|words| {
        let spaced = |(i, space): (usize, bool)| format!("{}{}", WORDS[i], if space { " " } else { "" });
        words.into_iter().map(spaced).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..64)) {
        exercise(&input);
    }

    #[test]
    fn a_soup_of_words_never_panics(input in soup()) {
        exercise(input.as_bytes());
    }

    #[test]
    fn a_metric_with_a_soup_of_values_never_panics(input in soup()) {
        exercise(format!("m{{a=\"b\"}} {input}").as_bytes());
    }
}

/// A stream of numbers from a seed (xorshift64*).
struct Stream(u64);

impl Stream {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn duration(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            return self.pick(&["5m", "1h30m", "90", "1.5", "step()", "range()", "100ms"]).to_owned();
        }
        let (l, r) = (self.duration(depth - 1), self.duration(depth - 1));
        match self.below(4) {
            0 => format!("({l})"),
            1 => format!("-{l}"),
            2 => format!("{}({l}, {r})", self.pick(&["min_of", "max_of"])),
            _ => format!("{l} {} {r}", self.pick(&["+", "-", "*", "/", "%", "^"])),
        }
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            let selector =
                self.pick(&["foo", "a:b{c!=\"d\"}", "{\"x.y\",e=~\"f.*\"}", "sum", "offset", "fill"]);
            let modifier = self.pick(&["", "", " offset -5m", " @ 1.5", " @ start() offset 1w", " anchored"]);
            return format!("{selector}{modifier}");
        }
        let v = self.vector(depth - 1);
        match self.below(9) {
            0 => format!("({v})"),
            1 => format!("-{v}"),
            2 => format!("sum {} (a, \"b c\") ({v})", self.pick(&["by", "without"])),
            3 => format!("topk({}, {v})", self.scalar(depth - 1)),
            4 => format!("{}({})", self.pick(&["rate", "deriv", "last_over_time"]), self.matrix(depth - 1)),
            5 => format!(
                "{v} {} {}",
                self.pick(&["+", "^", "*", "-", "%", "atan2", "<", "</"]),
                self.scalar(depth - 1)
            ),
            6 => format!(
                "{v} {} {}",
                self.pick(&[
                    "+ on(a) group_left(b) fill(1)",
                    "== bool",
                    "or",
                    "unless on()",
                    "/ ignoring(c) fill_left(-1)"
                ]),
                self.vector(depth - 1)
            ),
            7 => format!("label_replace({v}, \"a\", '$1', \"b\", `(.*)`)"),
            _ => format!("abs({v})"),
        }
    }

    fn matrix(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            return format!(
                "foo{{a=\"b\"}}[{}]{}",
                self.duration(2),
                self.pick(&["", " offset 1h", " @ end()"])
            );
        }
        format!("({})[{}:{}]", self.vector(depth - 1), self.duration(1), self.pick(&["", "1m", "step()"]))
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&["1", "-2.5", "Inf", "5m", "0x10", "time()", "step()", "1e-9"]).to_owned();
        }
        match self.below(3) {
            0 => format!("scalar({})", self.vector(depth - 1)),
            1 => format!(
                "{} {} {}",
                self.scalar(depth - 1),
                self.pick(&["+", "-", "^", "> bool"]),
                self.scalar(depth - 1)
            ),
            _ => format!("({})", self.scalar(depth - 1)),
        }
    }
}

/// How many expressions the seeded tests make; `SYSTOLE_FUZZ_CASES` makes more of them.
fn fuzz_cases() -> u64 {
    std::env::var("SYSTOLE_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

#[test]
fn what_is_printed_parses_to_the_same_text() {
    let (mut accepted, cases) = (0, fuzz_cases());
    for seed in 1..=cases {
        let text = Stream(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).vector(1 + seed as usize % 5);
        accepted += u64::from(parse(&text, Options::ALL).is_ok());
        exercise(text.as_bytes());
    }
    // Some durations come out negative: most do not.
    assert!(accepted * 2 > cases, "only {accepted} of {cases} accepted");
}

#[test]
fn cases_cut_and_stitched_never_panic() {
    let inputs: Vec<Vec<u8>> = cases().iter().map(input_of).filter(|i| i.len() < 400).collect();
    if inputs.is_empty() {
        return;
    }
    for seed in 1..=fuzz_cases() {
        let mut s = Stream(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (a, b) = (&inputs[s.below(inputs.len())], &inputs[s.below(inputs.len())]);
        let (cut, paste) = (s.below(a.len() + 1), s.below(b.len() + 1));
        exercise(&[&a[..cut], &b[paste..]].concat());
    }
}

#[test]
fn what_is_too_deep_is_refused_and_what_is_deep_is_not() {
    let wrap = |n: usize, open: &str, close: &str| format!("{}x{}", open.repeat(n), close.repeat(n));
    for (open, close) in [("(", ")"), ("-", ""), ("abs(", ")"), ("sum(", ")"), ("1^", "")] {
        assert!(parse(wrap(MAX_NESTING - 10, open, close), Options::ALL).is_ok(), "{open}");
        assert!(parse(wrap(MAX_NESTING + 1, open, close), Options::ALL).is_err(), "{open}");
        assert!(parse(wrap(100_000, open, close), Options::ALL).is_err(), "{open}");
    }
    let chain = |n: usize| vec!["x"; n].join("+");
    let high = parse(chain(MAX_HEIGHT), Options::ALL).expect("a chain as long as the tree may be high");
    assert!(high.clone().pretty().lines().count() > MAX_HEIGHT);
    assert_eq!(high.to_json().matches("binaryExpr").count(), MAX_HEIGHT - 1);
    let refused = parse(chain(MAX_HEIGHT + 1), Options::ALL).map_err(|e| e.to_string());
    assert_eq!(refused, Err("1:1: parse error: expression is more than 1000 levels high".to_owned()));
    let ranges = |n: usize| format!("x{}", "[1m:]".repeat(n));
    assert!(parse(ranges(100_000), Options::ALL).is_err());
    let sums = |n: usize| format!("x[{}1]", "1+".repeat(n));
    assert!(parse(sums(MAX_NESTING - 10), Options::ALL).is_ok());
    assert!(parse(sums(100_000), Options::ALL).is_err());
    assert!(parse(format!("x[{}1]", "-".repeat(100_000)), Options::ALL).is_err());
}

#[test]
fn trees_cross_threads() {
    fn assert_crosses<T: Send + Sync + Clone + 'static>() {}
    assert_crosses::<crate::Expr>();
}

#[test]
fn a_range_of_everything_is_refused_as_an_instant_of_everything_is() {
    let wanted = "parse error: vector selector must contain at least one non-empty matcher";
    for (text, place) in [("{a!=\"b\"}", "1:1"), ("{a!=\"b\"}[5m]", "1:1"), ("rate({a=~\".*\"}[5m])", "1:6")]
    {
        let error = parse(text, Options::ALL).expect_err(text);
        assert_eq!(error.to_string(), format!("{place}: {wanted}"), "{text}");
    }
}
