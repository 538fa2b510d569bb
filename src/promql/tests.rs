//! The parser against Prometheus's own cases, and properties that hold for any input.

use std::path::PathBuf;

use serde_json::Value;

use crate::ast::Span;
use crate::error::{Complaint, Error};
use crate::{Options, parse};

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
