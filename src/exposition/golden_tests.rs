//! Pages that Prometheus was asked about, with its answers: `tests/exposition/*.txt`.

use crate::flat::FlatPage;
use crate::lines::{Lines, Syntax};
use crate::page::{PageCache, PageReader};
use crate::{gather, nhcb};

/// A JSON string whose characters are bytes.
fn unescaped(line: &str) -> Vec<u8> {
    let inner = line.strip_prefix('"').and_then(|l| l.strip_suffix('"')).expect("a quoted page");
    let mut out = Vec::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c as u8);
            continue;
        }
        match chars.next() {
            Some('n') => out.push(b'\n'),
            Some('r') => out.push(b'\r'),
            Some('t') => out.push(b'\t'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                out.push(u8::from_str_radix(&digits, 16).expect("four digits"));
            }
            Some(c) => out.push(c as u8),
            None => panic!("an escape ends the line"),
        }
    }
    out
}

fn cases(text: &str) -> Vec<(Vec<u8>, &str)> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    lines.chunks(2).map(|pair| (unescaped(pair[0]), pair[1].trim_start())).collect()
}

fn told(syntax: Syntax, page: &[u8]) -> String {
    let mut lines = Lines::new(syntax, page);
    loop {
        match lines.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => return "ok".to_owned(),
            Err(e) => return e.to_string(),
        }
    }
}

/// A fresh page, and the same page after a good one that it shares much with.
fn read(syntax: Syntax, before: &[u8], page: &[u8]) -> String {
    let (mut cache, mut reader) = (PageCache::of(syntax), PageReader::new());
    let mut first = before.to_vec();
    reader.read(&mut cache, &mut first).expect("the page before is good");
    match reader.read(&mut cache, &mut page.to_vec()) {
        Ok(_) => "ok".to_owned(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn text_pages_are_judged_as_prometheus_judges_them() {
    let cases = cases(include_str!("../../tests/exposition/text.txt"));
    assert!(cases.len() > 100, "{}", cases.len());
    for (page, expect) in cases {
        let shown = String::from_utf8_lossy(&page).into_owned();
        assert_eq!(told(Syntax::Text, &page), expect, "{shown:?}");
        for before in ["", "a 1\n", "foo 1 2\na 1"] {
            assert_eq!(read(Syntax::Text, before.as_bytes(), &page), expect, "{shown:?} after {before:?}");
        }
    }
}

/// A page of many families, where the files are at hand: lines with and without metadata, and in OpenMetrics.
#[test]
fn pages_of_all_types_are_read_whole() {
    let root = std::env::var("SYSTOLE_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned());
    let page = |name: &str| std::fs::read(format!("{root}/data/textparse/{name}")).ok();
    let check = |name: &str, syntax: Syntax, samples: usize, histograms: usize| {
        let Some(page) = page(name) else { return println!("skipped: no {name} beside the project") };
        let mut flat = FlatPage::default();
        gather::read(syntax, &page, &mut flat).unwrap_or_else(|e| panic!("{name}: {e}"));
        let lines = page.split(|b| *b == b'\n').filter(|l| !l.is_empty() && l[0] != b'#').count();
        assert_eq!((flat.samples.len(), lines), (samples, samples), "{name}");
        nhcb::convert(&mut flat, false);
        assert_eq!(flat.histograms.len(), histograms, "{name}");
    };
    check("alltypes.237mfs.prom.txt", Syntax::Text, 1857, 105);
    check("alltypes.237mfs.nometa.prom.txt", Syntax::Text, 1857, 0);
    check("alltypes.5mfs.om.txt", Syntax::OpenMetrics, 53, 1);
    check("1histogram.om.txt", Syntax::OpenMetrics, 42, 3);
}

#[test]
fn openmetrics_pages_are_judged_as_prometheus_judges_them() {
    let cases = cases(include_str!("../../tests/exposition/openmetrics.txt"));
    assert!(cases.len() > 140, "{}", cases.len());
    for (page, expect) in cases {
        let shown = String::from_utf8_lossy(&page).into_owned();
        assert_eq!(told(Syntax::OpenMetrics, &page), expect, "{shown:?}");
        for before in ["# EOF\n", "a 1\n# EOF\n", "foo 1 # {a=\"b\"} 1\na 1\n# EOF"] {
            assert_eq!(
                read(Syntax::OpenMetrics, before.as_bytes(), &page),
                expect,
                "{shown:?} after {before:?}"
            );
        }
    }
}
