//! Verdicts, error texts, shapes and expansions beside Go's.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// A file of the shared test data, or `None` (said aloud) where it is not at hand.
fn shared(path: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let root = std::env::var_os("SYSTOLE_SHARED").map_or(beside, PathBuf::from);
    let file = root.join("data").join(path);
    if file.exists() {
        return Some(file);
    }
    println!("skipped: {} is not here", file.display());
    None
}

/// Base64 with padding.
fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::new());
    for b in text.bytes().filter(|b| *b != b'=') {
        let digit = ALPHABET.iter().position(|a| *a == b).expect("base64");
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

#[test]
fn verdicts_and_error_texts_are_those_of_go() {
    let Some(file) = shared("regex/re_oracle.json") else { return };
    let text = std::fs::read_to_string(file).expect("the oracle is readable");
    let oracle: serde_json::Value = serde_json::from_str(&text).expect("the oracle is JSON");
    let inputs: Vec<Vec<u8>> =
        oracle["Ins"].as_array().unwrap().iter().map(|i| decode(i.as_str().unwrap())).collect();
    let (mut patterns, mut verdicts, mut not_text) = (0, 0, 0);
    for row in oracle["Rs"].as_array().unwrap() {
        let pattern = row["P"].as_str().unwrap();
        patterns += 1;
        let regex = match Regex::new(pattern) {
            Ok(regex) => regex,
            Err(e) => {
                assert_eq!(e.0, row["Err"].as_str().unwrap(), "{pattern}");
                continue;
            }
        };
        assert_eq!(row["Ok"], true, "{pattern} is accepted");
        for (input, want) in inputs.iter().zip(row["M"].as_array().unwrap()) {
            let Ok(input) = std::str::from_utf8(input) else {
                not_text += 1;
                continue;
            };
            verdicts += 1;
            assert_eq!(regex.matches(input), want.as_bool().unwrap(), "{pattern} on {input:?}");
            assert_eq!(regex.captures(input).is_some(), want.as_bool().unwrap(), "{pattern} on {input:?}");
        }
    }
    println!("{patterns} patterns, {verdicts} verdicts equal; {not_text} inputs are no UTF-8 and left out");
}

fn check_error(pattern: &str, want: &str) {
    let got = Regex::new(pattern).expect_err(pattern).0;
    assert_eq!(got, format!("error parsing regexp: {want}"), "{pattern}");
}

#[test]
fn refusals_are_worded_as_go_words_them() {
    for (pattern, want) in [
        ("[", "missing closing ]: `[)$`"),
        ("a\\", "missing closing ): `^(?s:a\\)$`"),
        ("(?i)(?s", "missing closing ): `^(?s:(?i)(?s)$`"),
        ("(?P<n", "invalid named capture: `(?P<n)$`"),
        ("(?P<>a)", "invalid named capture: `(?P<>`"),
        ("(?P<x y>a)", "invalid named capture: `(?P<x y>`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("\\pX", "invalid character class range: `\\pX`"),
        ("\\p{Grek}", "invalid character class range: `\\p{Grek}`"),
        ("\\p{isGreek}", "invalid character class range: `\\p{isGreek}`"),
        ("\\x{110000}", "invalid escape sequence: `\\x{110000`"),
        ("\\x4g", "invalid escape sequence: `\\x4g`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("x{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
    ] {
        check_error(pattern, want);
    }
}

fn check_shape(pattern: &str, want: Shape) {
    assert_eq!(Regex::new(pattern).expect(pattern).0.shape, want, "{pattern}");
}

fn set(items: &[&str]) -> Shape {
    Shape::Set(items.iter().map(|s| (*s).to_owned()).collect())
}

fn ends(prefix: &str, between: usize, suffix: &str) -> Shape {
    Shape::Ends { prefix: prefix.to_owned(), suffix: suffix.to_owned(), between }
}

#[test]
fn common_expressions_need_no_automaton() {
    check_shape("", set(&[""]));
    check_shape("abc", set(&["abc"]));
    check_shape("(b|a|foo|foobar)", set(&["a", "b", "foo", "foobar"]));
    check_shape("x(a|b)?", set(&["x", "xa", "xb"]));
    check_shape("(?i)ab", set(&["AB", "Ab", "aB", "ab"]));
    check_shape(".*", ends("", 0, ""));
    check_shape("(.+)", ends("", 1, ""));
    check_shape("node_.*", ends("node_", 0, ""));
    check_shape(".+_total", ends("", 1, "_total"));
    check_shape("a.*z", ends("a", 0, "z"));
    check_shape(".*cpu.*", Shape::Contains("cpu".to_owned()));
    check_shape("host[0-9]+", Shape::Other { prefix: "host".to_owned() });
    assert_eq!(Regex::new("foo|fob").unwrap().prefix(), "fo");
    assert_eq!(Regex::new("b|a").unwrap().literals().unwrap(), ["a", "b"]);
    assert!(!Regex::new("a.*a").unwrap().matches("a"));
}

#[test]
fn an_expression_may_close_the_group_it_is_put_in() {
    let regex = Regex::new("a)|(b").expect("Go takes it so");
    assert!(regex.matches("ax") && regex.matches("xb") && !regex.matches("xay"));
}

#[test]
fn deep_and_large_expressions_are_refused_not_followed() {
    let deep = format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(Regex::new(&deep).expect_err("deep").0.contains("expression nests too deeply"));
    let large = "(xx){1000}".repeat(2_000);
    assert!(Regex::new(&large).expect_err("large").0.contains("expression too large"));
    assert!(Regex::new(&"a|".repeat(20_000)).is_ok());
}

fn check_expand(pattern: &str, text: &str, template: &str, want: &str) {
    let regex = Regex::new(pattern).expect(pattern);
    let captures = regex.captures(text).expect("matches");
    assert_eq!(captures.expand(template), want, "{template}");
}

#[test]
fn references_expand_as_in_go() {
    check_expand("(.*)-(?P<n>.*)", "a-b", "$1/${n}/$2/$0", "a/b/b/a-b");
    check_expand("(.*)-(.*)", "a-b", "$1x|${1}x|$$1|$|${|${1|$3|$01", "|ax|$1|$|${|${1||");
    check_expand("(?P<n>a)?(?P<n>b)?", "b", "$n", "b");
    check_expand("(.*)", "x", "", "");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(pattern in "[\\\\()\\[\\]{}*+?|^$.a-c0-9:,<>PQEpxid-]{0,24}", text in "[a-c0-9]{0,6}") {
        if let Ok(regex) = Regex::new(&pattern) {
            let verdict = regex.matches(&text);
            // The shape and the automaton are each other's oracle.
            let engine = meta_engine(&regex.0.hir).expect("small");
            prop_assert_eq!(verdict, engine.is_match(input(&text, regex.0.free)), "{}", pattern);
        }
    }
}
