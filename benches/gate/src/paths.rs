//! The hot paths, each with an input of its own making: the same bytes on every machine, and some ten
//! thousand instructions a run: a step takes up to 20 us.
//!
//! All are of the pure crates: what a sample costs on its way in and out before disks, sockets and tasks.

use std::fmt::Write;
use std::hint::black_box;

use codec::chunk::{ChunkReader, ChunkWriter, Times};
use codec::{Tier, sorted};
use compute::range::{RangeFunction, RateKind};
use compute::wide::{self, RateTable, Series, Steps, WindowTable};
use exposition::remote_write::{RequestV1, SeriesReader, checked_labels, read_pairs};
use exposition::remote_write_build::RequestBuilder;
use exposition::{Event, PageCache, PageReader, Parser, key};
use model::{Labels, float_text};

pub(crate) struct HotPath {
    pub(crate) name: &'static str,
    /// Makes the input and returns the run, which may be run again and again.
    pub(crate) prepare: fn() -> Box<dyn FnMut()>,
}

pub(crate) const ALL: &[HotPath] = &[
    HotPath { name: "page_diff", prepare: page_diff },
    HotPath { name: "page_lines", prepare: page_lines },
    HotPath { name: "new_series", prepare: new_series },
    HotPath { name: "remote_write", prepare: remote_write },
    HotPath { name: "encode", prepare: encode },
    HotPath { name: "decode", prepare: decode },
    HotPath { name: "intersect", prepare: intersect },
    HotPath { name: "wide_rate", prepare: wide_rate },
    HotPath { name: "wide_max", prepare: wide_max },
    HotPath { name: "numbers", prepare: numbers },
];

/// A fixed sequence that looks like chance.
struct Chance(u64);

impl Chance {
    fn new() -> Chance {
        Chance(88_172_645_463_325_252)
    }

    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

const LINES: usize = 80;

/// Pages of a node: one value in four is another on the next page.
fn pages(count: usize) -> Vec<Vec<u8>> {
    let mut chance = Chance::new();
    let mut values: Vec<u64> = (0..LINES).map(|_| chance.next(1_000_000)).collect();
    let mut pages = Vec::new();
    for _ in 0..count {
        let mut page = String::new();
        for (i, value) in values.iter_mut().enumerate() {
            if i.is_multiple_of(8) {
                let _ =
                    writeln!(page, "# HELP node_metric_{}_total What it counts, told at some length.", i / 8);
                let _ = writeln!(page, "# TYPE node_metric_{}_total counter", i / 8);
            }
            if chance.next(4) == 0 {
                *value += chance.next(2000);
            }
            let whole = *value as f64 / 100.0;
            let _ = writeln!(page, "node_metric_{}_total{{cpu=\"{}\",mode=\"idle\"}} {whole}", i / 8, i % 8);
        }
        pages.push(page.into_bytes());
    }
    pages
}

/// A page read as its predecessor's successor.
fn page_diff() -> Box<dyn FnMut()> {
    let pages = pages(2);
    let mut reader = PageReader::new();
    let (mut cache, mut buffer) = (PageCache::new(), Vec::new());
    Box::new(move || {
        for page in &pages {
            buffer.clear();
            buffer.extend_from_slice(page);
            black_box(reader.read(&mut cache, &mut buffer).expect("a page"));
        }
    })
}

/// Every line of a page, as of a target never seen before.
fn page_lines() -> Box<dyn FnMut()> {
    let page = pages(1).remove(0);
    Box::new(move || {
        let mut parser = Parser::new(&page);
        while let Some(event) = parser.next_event().expect("a page") {
            black_box(event);
        }
    })
}

/// Labels and hash of series that appear.
fn new_series() -> Box<dyn FnMut()> {
    let page = pages(1).remove(0);
    let end = page.len() / 8;
    Box::new(move || {
        let mut parser = Parser::new(&page[..end]);
        while let Ok(Some(event)) = parser.next_event() {
            let Event::Sample(sample) = event else { continue };
            let labels = Labels::from_pairs(key::decode(sample.key, sample.kind).expect("a key"));
            black_box(labels.series_hash());
        }
    })
}

/// A request of remote write 1.0: every series is walked, the labels of one in sixteen are read.
fn remote_write() -> Box<dyn FnMut()> {
    let mut chance = Chance::new();
    let mut builder = RequestBuilder::with_capacity(64 << 10);
    for i in 0..96 {
        let (instance, cpu) = (format!("10.0.0.{}:9100", i / 16), (i % 16).to_string());
        let labels = [
            ("__name__", "node_cpu_seconds_total"),
            ("cpu", cpu.as_str()),
            ("instance", instance.as_str()),
            ("job", "node"),
            ("mode", "idle"),
        ];
        builder.float(labels, 1_700_000_000_000, chance.next(1_000_000) as f64 / 100.0);
    }
    let body = builder.into_bytes();
    let (mut series, mut i) = (SeriesReader::default(), 0u32);
    Box::new(move || {
        let mut request = RequestV1::new(&body);
        while let Some(message) = request.try_next().expect("a request") {
            series.read_v1(message).expect("a series");
            black_box(&series.samples);
            i = i.wrapping_add(1);
            if i.is_multiple_of(16) {
                let mut pairs = Vec::new();
                read_pairs(series.labels_v1(message), &mut pairs).expect("labels");
                black_box(checked_labels(&mut pairs).is_ok());
            }
        }
    })
}

/// A counter, a gauge of two decimals, one that seldom changes, and one of full width.
fn columns(length: usize) -> [Vec<f64>; 4] {
    let mut chance = Chance::new();
    let mut counter = 0;
    let counters = (0..length).map(|_| {
        counter += chance.next(97);
        counter as f64
    });
    let counters = counters.collect();
    let gauges = (0..length).map(|_| chance.next(10_000) as f64 / 100.0).collect();
    let seldom = (0..length).map(|i| (i / 100) as f64).collect();
    let wide = (0..length).map(|_| 1.0 / (1 + chance.next(1_000_000)) as f64).collect();
    [counters, gauges, seldom, wide]
}

/// Times of a scrape each 15 s, a millisecond early or late.
fn times(length: usize) -> Vec<i64> {
    let mut chance = Chance::new();
    (0..length as i64).map(|i| 1_700_000_000_000 + i * 15_000 + chance.next(3) as i64 - 1).collect()
}

fn chunks(writer: &mut ChunkWriter, columns: &[Vec<f64>], times: &[i64], out: &mut Vec<u8>) -> Vec<usize> {
    let one = |column: &Vec<f64>| {
        let start = out.len();
        writer.encode(Times::Own(times), column, Tier::Full, out).expect("a chunk");
        start
    };
    columns.iter().map(one).collect()
}

fn encode() -> Box<dyn FnMut()> {
    let (columns, times) = (columns(32), times(32));
    let (mut writer, mut out) = (ChunkWriter::new(), Vec::new());
    Box::new(move || {
        out.clear();
        black_box(chunks(&mut writer, &columns, &times, &mut out));
    })
}

fn decode() -> Box<dyn FnMut()> {
    let (columns, times) = (columns(480), times(480));
    let mut bytes = Vec::new();
    let starts = chunks(&mut ChunkWriter::new(), &columns, &times, &mut bytes);
    // Readers may look a little past a chunk.
    bytes.extend_from_slice(&[0; 64]);
    let (mut at, mut values) = (vec![0; 480], vec![0.0; 480]);
    Box::new(move || {
        for start in &starts {
            let chunk = ChunkReader::parse(&bytes[*start..]).expect("what was encoded");
            chunk.decode(&mut at, &mut values).expect("what was encoded");
            black_box((&at, &values));
        }
    })
}

/// Postings of a common and of a less common label.
fn intersect() -> Box<dyn FnMut()> {
    let mut chance = Chance::new();
    let mut set = |share: u64| -> Vec<u32> { (0..4_000).filter(|_| chance.next(share) == 0).collect() };
    let (common, dense, rare) = (set(3), set(4), set(200));
    let mut out = Vec::new();
    Box::new(move || {
        for (a, b) in [(&common, &dense), (&rare, &common)] {
            out.clear();
            sorted::intersect(a, b, &mut out);
            black_box(&out);
        }
    })
}

/// Times of 60 steps, each of whose windows has 20 samples.
fn steps(times: &[i64]) -> Steps {
    Steps { first: times[20], interval: 50_000, count: 60, range: 300_000, offset: 0 }
}

/// Rates of 4 series that were scraped together, as a query over many reads them.
fn wide_rate() -> Box<dyn FnMut()> {
    let (columns, times) = (columns(240), times(240));
    let steps = steps(&times);
    let mut table = WindowTable::default();
    let mut out = Vec::new();
    Box::new(move || {
        table.rebuild(&times, &steps);
        let mut rates = RateTable::new(RateKind::Rate, &times, &steps, &table);
        for values in &columns {
            out.clear();
            rates.eval(values, &mut out);
            black_box(&out);
        }
    })
}

/// The largest values of 4 series.
fn wide_max() -> Box<dyn FnMut()> {
    let (columns, times) = (columns(240), times(240));
    let steps = steps(&times);
    let mut table = WindowTable::default();
    let mut out = Vec::new();
    Box::new(move || {
        table.rebuild(&times, &steps);
        for values in &columns {
            let series = Series { times: &times, values, starts: &[] };
            black_box(wide::eval(RangeFunction::MaxOverTime, series, &steps, &table, &mut out));
            black_box(&out);
        }
    })
}

/// The numbers of an answer as text.
fn numbers() -> Box<dyn FnMut()> {
    let columns = columns(20);
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        for v in columns.iter().flatten() {
            float_text::push_api(&mut out, *v);
        }
        black_box(&out);
    })
}
