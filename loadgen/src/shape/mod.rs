//! What the targets show: pages whose every value is known beforehand.
//!
//! In: a seed or a recording. Out: the bytes of a page by version. Owns: the pages built ahead.
//! Runs on: the target server's thread, and wherever truth is asked. Invariant: the same seed, target and version
//! give the same bytes, in every run. Never: reads a clock; a version is an argument.
//!
//! A page is a *head* of few lines that belong to one target alone, written when it is asked for, and a *body*
//! that targets of one phase share. A target's version is the tick of the run plus its phase, so neighbors show
//! different values at one moment while the bytes are built once. Pages of a fleet are all head: their names differ by
//! target, so they are rendered from a template when they are asked for, and nothing is kept a target.

pub mod ceph;
pub mod fleet;
pub mod format;
pub mod kube;
pub mod node;
pub mod openstack;
pub mod recording;
pub mod snmp;
pub mod value;

use std::collections::VecDeque;
use std::sync::Arc;

use fleet::Fleet;
use format::Format;
use node::Node;
use recording::Recording;

/// Phases of generated pages: bodies that differ at one moment. 32 pages of 146 KB are 5 MB, small enough to
/// build at start and large enough that no cache level holds one page for all targets.
pub const PHASES: u64 = 32;

/// The line of every generated page that tells the page's version.
pub const PAGE_VERSION: &str = "page_version";

pub enum Shape {
    Node(Node),
    Recording(Recording),
    Fleet(Fleet),
}

impl Shape {
    /// What the report calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Shape::Node(_) => "node",
            Shape::Recording(_) => "recording",
            Shape::Fleet(f) => f.sort.name(),
        }
    }

    /// The phase of a target: how many versions it is ahead of the tick.
    pub fn phase(&self, target_idx: usize, targets: usize) -> u64 {
        match self {
            Shape::Node(_) => target_idx as u64 % PHASES,
            Shape::Recording(r) => (target_idx * r.pages.len() / targets.max(1)) as u64,
            Shape::Fleet(_) => 0,
        }
    }

    /// Appends the lines that belong to this target alone.
    pub fn write_head(&self, target_idx: usize, version: u64, out: &mut Vec<u8>) {
        match self {
            Shape::Node(n) => n.write_head(target_idx, version, out),
            Shape::Recording(_) => {}
            Shape::Fleet(f) => f.write(target_idx, version, out),
        }
    }

    pub fn head_samples(&self, target_idx: usize, version: u64) -> usize {
        match self {
            Shape::Node(n) => n.head_samples(),
            Shape::Recording(_) => 0,
            Shape::Fleet(f) => f.samples(target_idx, version),
        }
    }

    fn build_body(&self, version: u64) -> Vec<u8> {
        match self {
            Shape::Node(n) => n.body(version),
            Shape::Recording(r) => r.page(version).to_vec(),
            Shape::Fleet(_) => Vec::new(),
        }
    }

    /// A whole page, for those who want to know the truth.
    pub fn page(&self, target_idx: usize, version: u64) -> Vec<u8> {
        let mut page = Vec::new();
        self.write_head(target_idx, version, &mut page);
        page.extend_from_slice(&self.build_body(version));
        page
    }

    /// Samples that so many targets show at one moment.
    pub fn series(&self, targets: usize) -> f64 {
        match self {
            Shape::Node(n) => (n.samples() * targets) as f64,
            Shape::Recording(r) => r.samples_mean() * targets as f64,
            Shape::Fleet(f) => (0..targets).map(|t| f.samples(t, 0) as f64).sum(),
        }
    }

    pub fn node(&self) -> Option<&Node> {
        match self {
            Shape::Node(n) => Some(n),
            Shape::Recording(_) | Shape::Fleet(_) => None,
        }
    }
}

/// A body ready to be sent.
pub struct Body {
    /// In the form it is shown in, with its end.
    pub plain: Vec<u8>,
    pub gzip: Option<Vec<u8>>,
    pub samples: usize,
}

impl Body {
    fn new(text: &[u8], format: Format, gzip: bool) -> Self {
        let samples = sample_lines(text).count();
        let mut plain = format.convert(text);
        plain.extend_from_slice(format.end());
        let gzip = gzip.then(|| compress(&plain));
        Body { plain, gzip, samples }
    }
}

/// One gzip member, at the level exporters use.
pub fn compress(plain: &[u8]) -> Vec<u8> {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut out = vec![0; compressor.gzip_compress_bound(plain.len())];
    // The bound is the library's own, so there is always room.
    let n = compressor.gzip_compress(plain, &mut out).unwrap_or(0);
    out.truncate(n);
    out
}

/// Lines of a page that are samples.
pub fn sample_lines(page: &[u8]) -> impl Iterator<Item = &[u8]> {
    page.split(|&b| b == b'\n').filter(|l| !l.is_empty() && l[0] != b'#')
}

/// Bodies by version: all of a recording, or a window of generated ones that moves with the tick.
pub struct Bodies {
    format: Format,
    gzip: bool,
    first: u64,
    window: VecDeque<Arc<Body>>,
    /// Versions repeat after so many; 0 when they do not.
    cycle: u64,
    /// Versions kept ahead of the tick: one for each phase that a target is in.
    ahead: u64,
}

/// Versions kept behind the tick: a scrape that began before a tick is still answered from its own version.
const BEHIND: u64 = 2;

impl Bodies {
    pub fn new(shape: &Shape, targets: usize, format: Format, gzip: bool) -> Self {
        let mut bodies = Bodies { format, gzip, first: 0, window: VecDeque::new(), cycle: 0, ahead: 0 };
        bodies.ahead = match shape {
            Shape::Node(_) => PHASES.min(targets as u64),
            Shape::Recording(r) => {
                bodies.cycle = r.pages.len() as u64;
                bodies.cycle
            }
            // One body for all: empty but for the end of the page.
            Shape::Fleet(_) => {
                bodies.cycle = 1;
                1
            }
        };
        for version in 0..bodies.ahead {
            bodies.window.push_back(Arc::new(Body::new(&shape.build_body(version), format, gzip)));
        }
        bodies
    }

    /// Builds what the tick newly needs and drops what no target can ask for any more.
    pub fn advance(&mut self, shape: &Shape, tick: u64) {
        if self.cycle > 0 {
            return;
        }
        let first = tick.saturating_sub(BEHIND);
        while self.first < first && self.window.pop_front().is_some() {
            self.first += 1;
        }
        self.first = self.first.max(first);
        while self.first + (self.window.len() as u64) < tick + self.ahead {
            let version = self.first + self.window.len() as u64;
            self.window.push_back(Arc::new(Body::new(&shape.build_body(version), self.format, self.gzip)));
        }
    }

    pub fn body(&self, version: u64) -> Option<&Arc<Body>> {
        let at = if self.cycle > 0 { version % self.cycle } else { version.checked_sub(self.first)? };
        self.window.get(at as usize)
    }
}

/// SplitMix64's finisher over three words: the only randomness of the generator.
pub fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let mut z = seed ^ a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Appends a value as client libraries in Go do: `strconv.AppendFloat(v, 'g', -1, 64)`, whose exponent form begins
/// at 1e-4 downwards and at 1e6... where the shortest form needs it, as the recorded pages show.
pub fn push_value(out: &mut Vec<u8>, v: f64) {
    let a = v.abs();
    if a != 0.0 && a.is_finite() && !(1e-4..1e6).contains(&a) {
        model::float_text::push_e(out, v);
    } else {
        model::float_text::push_f(out, v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_go_clients_write_them() {
        let check = |v: f64, expect: &str| {
            let mut out = Vec::new();
            push_value(&mut out, v);
            assert_eq!(String::from_utf8_lossy(&out), expect);
        };
        check(0.0, "0");
        check(707.0, "707");
        check(999_999.0, "999999");
        check(1_018_744.0, "1.018744e+06");
        check(12_345.67, "12345.67");
        check(0.0001, "0.0001");
        check(0.000_05, "5e-05");
        check(9.223372036854776e18, "9.223372036854776e+18");
        check(f64::NAN, "NaN");
    }

    #[test]
    fn bodies_follow_the_tick_and_forget_what_is_behind() {
        let shape = Shape::Node(Node::new(1, 50, 15.0));
        let mut bodies = Bodies::new(&shape, PHASES as usize, Format::Text, false);
        assert!(bodies.body(PHASES - 1).is_some());
        assert!(bodies.body(PHASES).is_none());
        bodies.advance(&shape, 100);
        assert!(bodies.body(97).is_none());
        assert!(bodies.body(98).is_some());
        assert!(bodies.body(100 + PHASES - 1).is_some());
        assert_eq!(bodies.body(105).map(|b| b.plain.clone()), Some(shape.build_body(105)));
    }
}
