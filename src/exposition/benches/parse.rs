//! What does a page cost? Every recorded page parsed from scratch, and read by its runs with the one before.
//!
//! `cargo bench -p exposition`: needs `data/recordings` (see `SYSTOLE_SHARED`). Pages come from many targets in
//! turn, so that they are not in the nearest cache, as on a busy shard.

use std::time::Duration;

use criterion::measurement::{Measurement, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exposition::page::{PageCache, PageReader};
use exposition::text::{Event, Parser};
use exposition::{FlatCache, FlatPage, FlatReader, Syntax, protobuf, scan};

const TARGETS: usize = 200;
const RECORDINGS: [&str; 4] = ["node", "prometheus", "victoriametrics", "alertmanager"];

fn recording(name: &str) -> Option<Vec<Vec<u8>>> {
    let root = std::env::var("SYSTOLE_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned());
    let packed = std::fs::read(format!("{root}/data/recordings/{name}.rec.zst")).ok()?;
    let bytes = zstd::decode_all(&packed[..]).ok()?;
    let (mut pages, mut at) = (vec![], 0);
    while at < bytes.len() {
        let head = at + memchr::memchr(b'\n', &bytes[at..])?;
        let size: usize = std::str::from_utf8(&bytes[at..head]).ok()?.rsplit(' ').next()?.parse().ok()?;
        pages.push(bytes[head + 1..head + 1 + size].to_vec());
        at = head + 1 + size;
    }
    Some(pages)
}

fn parse_all(page: &[u8]) -> (u64, f64) {
    let mut parser = Parser::new(page);
    let (mut n, mut sum) = (0, 0.0);
    while let Ok(Some(event)) = parser.next_event() {
        if let Event::Sample(s) = event {
            n += 1;
            sum += s.value;
        }
    }
    (n, sum)
}

/// The page in OpenMetrics: the same series and values.
fn as_openmetrics(page: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(page);
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.lines().filter(|l| !l.is_empty()) {
        match line.strip_suffix(" untyped") {
            Some(start) if line.starts_with("# TYPE") => out.push_str(&format!("{start} unknown")),
            _ if line.starts_with('#') => out.push_str(line),
            // Where text may have a space between labels, OpenMetrics has none.
            _ => out.push_str(&line.replace("\", ", "\",")),
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out.into_bytes()
}

fn push_varint(out: &mut Vec<u8>, mut v: usize) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn push_sized(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// The page in protobuf, every series a gauge.
fn as_protobuf(page: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut parser = Parser::new(page);
    let (mut name, mut family) = (String::new(), Vec::new());
    let mut flush = |name: &str, metrics: &mut Vec<u8>| {
        if !metrics.is_empty() {
            let mut body = Vec::new();
            push_sized(&mut body, 1, name.as_bytes());
            body.extend_from_slice(&[0x18, 1]);
            body.append(metrics);
            push_varint(&mut out, body.len());
            out.append(&mut body);
        }
    };
    while let Ok(Some(event)) = parser.next_event() {
        let Event::Sample(s) = event else { continue };
        let Ok(labels) = exposition::key::decode(s.key, s.kind) else { continue };
        if labels[0].1 != name {
            flush(&name, &mut family);
            name = labels[0].1.to_string();
        }
        let mut metric = Vec::new();
        for (name, value) in &labels[1..] {
            let mut pair = Vec::new();
            push_sized(&mut pair, 1, name.as_bytes());
            push_sized(&mut pair, 2, value.as_bytes());
            push_sized(&mut metric, 1, &pair);
        }
        let mut gauge = vec![0x09];
        gauge.extend_from_slice(&s.value.to_le_bytes());
        push_sized(&mut metric, 2, &gauge);
        push_sized(&mut family, 4, &metric);
    }
    flush(&name, &mut family);
    out
}

/// Protobuf pages of one target, one after the other.
fn read_protobuf(c: &mut Criterion, name: &str, pages: &[Vec<u8>], lines: u64) {
    let pages: Vec<Vec<u8>> = pages.iter().take(40).map(|p| as_protobuf(p)).collect();
    let mut group = c.benchmark_group(format!("parse/{name}/protobuf"));
    group.throughput(Throughput::Elements(lines));
    let (mut cache, mut reader, mut flat) =
        (FlatCache::default(), FlatReader::default(), FlatPage::default());
    let mut at = 0;
    group.bench_function("next page", |b| {
        b.iter(|| {
            at = (at + 1) % pages.len();
            protobuf::read(&pages[at], protobuf::Wishes::default(), &mut flat).expect("a good page");
            reader.read(&mut cache, &mut flat).changed.len()
        });
    });
    group.finish();
}

/// Time inside `read` for `rounds` pages of each target; the copy that stands for the kernel's is not counted.
fn read_rounds(syntax: Syntax, pages: &[Vec<u8>], reader: &mut PageReader, rounds: u64) -> Duration {
    let mut caches: Vec<PageCache> = (0..TARGETS).map(|_| PageCache::of(syntax)).collect();
    let mut buffers: Vec<Vec<u8>> = vec![vec![]; TARGETS];
    let mut spent = Duration::ZERO;
    let mut done = 0;
    for k in 0.. {
        for (j, (cache, buffer)) in caches.iter_mut().zip(&mut buffers).enumerate() {
            let page = &pages[(k + j) % pages.len()];
            buffer.clear();
            buffer.reserve_exact(page.len());
            buffer.extend_from_slice(page);
            let start = WallTime.start();
            let result = reader.read(cache, buffer);
            result.expect("a good page");
            // The first page, and the jump from the recording's end to its start, are not steady work.
            if k > 0 && !(k + j).is_multiple_of(pages.len()) {
                spent += WallTime.end(start);
                done += 1;
                if done == rounds {
                    return spent;
                }
            }
        }
    }
    spent
}

fn parse(c: &mut Criterion) {
    for name in RECORDINGS {
        let Some(pages) = recording(name) else {
            println!("skipped: no recordings beside the project (set SYSTOLE_SHARED)");
            return;
        };
        let lines = parse_all(&pages[0]).0;
        let mut group = c.benchmark_group(format!("parse/{name}"));
        group.throughput(Throughput::Elements(lines));
        let mut at = 0;
        group.bench_function("every line", |b| {
            b.iter(|| {
                at = (at + 1) % pages.len();
                parse_all(&pages[at])
            });
        });
        group.bench_function("first page", |b| {
            let mut reader = PageReader::new();
            b.iter_custom(|n| {
                let mut spent = Duration::ZERO;
                for i in 0..n {
                    let mut page = pages[i as usize % pages.len()].clone();
                    let mut cache = PageCache::new();
                    let start = WallTime.start();
                    assert!(reader.read(&mut cache, &mut page).is_ok());
                    spent += WallTime.end(start);
                }
                spent
            });
        });
        for (form, mismatch) in scan::all() {
            let mut reader = PageReader::with_mismatch(mismatch);
            group.bench_function(format!("next page, {form}"), |b| {
                b.iter_custom(|n| read_rounds(Syntax::Text, &pages, &mut reader, n));
            });
        }
        let openmetrics: Vec<Vec<u8>> = pages.iter().map(|p| as_openmetrics(p)).collect();
        let mut reader = PageReader::new();
        group.bench_function("next page, OpenMetrics", |b| {
            b.iter_custom(|n| read_rounds(Syntax::OpenMetrics, &openmetrics, &mut reader, n));
        });
        group.finish();
        read_protobuf(c, name, &pages, lines);
        let mut reader = PageReader::new();
        let mut cache = PageCache::new();
        for page in &pages {
            let mut page = page.clone();
            assert!(reader.read(&mut cache, &mut page).is_ok());
        }
        let held = cache.bytes() as f64 / cache.line_count() as f64;
        let text = cache.page().len() as f64 / cache.line_count() as f64;
        println!("{name}: {} lines, {text:.0} bytes of text a line, {held:.0} held", cache.line_count());
    }
}

criterion_group!(benches, parse);
criterion_main!(benches);
