//! Fleets: pages of several kinds of targets, rendered from templates whose names and values are functions.
//!
//! In: a kind of fleet, a seed, a number of targets. Out: any page of any target at any version, and every line's key
//! and value by itself. Owns: one template a kind of target, not a page a target. Runs on: the target server's thread,
//! and wherever truth is asked. Invariant: the same seed, target and version give the same bytes, and `key` and `value`
//! are what `write` writes. Never: reads a clock.
//!
//! Items (pods, virtual machines) have names with holes: the number of the host that owns them and a name drawn for
//! each generation. An item lives for so many versions; its successor is another series whose counters begin at zero.

use std::fmt::Write as _;
use std::ops::Range;

use super::value::Value;
use super::{PAGE_VERSION, ceph, kube, mix, openstack, push_value, snmp};

/// In a line's text: the five digits of the owner's number.
pub const OWNER: char = '\u{1}';
/// In a line's text: five letters of the item's present generation, as a pod's name ends.
pub const SUFFIX: char = '\u{2}';
/// In a line's text: the item's present generation as a UUID.
pub const UUID: char = '\u{3}';

/// Which lines are not bound to an item that may be replaced.
const NO_ITEM: u32 = u32::MAX;
/// A line owned by the target that shows it.
const SELF: u32 = u32::MAX;

/// What goes wrong in a fleet, on a schedule that the seed decides.
#[derive(Clone, Copy, Default, Debug)]
pub struct Trouble {
    /// Versions an item lives before another takes its place; 0 for ever.
    pub life: u64,
    /// Versions between two restarts of a target, which set its counters back; 0 for never.
    pub reset: u64,
    /// From this version on, so many lines a page that are new each time.
    pub explosion: Option<(u64, u32)>,
}

/// The fleets there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    Kube,
    Ceph,
    Openstack,
    Snmp,
}

impl Sort {
    pub fn parse(name: &str) -> Option<Sort> {
        [Sort::Kube, Sort::Ceph, Sort::Openstack, Sort::Snmp].into_iter().find(|s| s.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Sort::Kube => "kube",
            Sort::Ceph => "ceph",
            Sort::Openstack => "openstack",
            Sort::Snmp => "snmp",
        }
    }
}

/// How targets are of kinds.
#[derive(Clone, Copy)]
enum Layout {
    /// All of kind 0.
    Alike,
    /// The first of kind 0, which describes all others, of kind 1.
    HeadThenMembers,
    /// Kinds 0 and 1 in turn: two exporters on each host.
    Pairs,
}

pub struct Fleet {
    pub sort: Sort,
    pub trouble: Trouble,
    seed: u64,
    layout: Layout,
    kinds: Vec<Template>,
}

impl Fleet {
    pub fn new(sort: Sort, seed: u64, targets: usize, step_seconds: f64, trouble: Trouble) -> Fleet {
        let new = || Template::new(step_seconds);
        let members = targets.saturating_sub(1).max(1) as u32;
        let (layout, kinds) = match sort {
            Sort::Kube => (
                Layout::HeadThenMembers,
                vec![kube::state(new(), seed, members), kube::cadvisor(new(), seed)],
            ),
            Sort::Ceph => (
                Layout::HeadThenMembers,
                vec![ceph::manager(new(), seed, members), ceph::exporter(new(), seed)],
            ),
            Sort::Openstack => {
                (Layout::Pairs, vec![openstack::compute(new(), seed), openstack::machines(new(), seed)])
            }
            Sort::Snmp => (Layout::Alike, vec![snmp::device(new(), seed)]),
        };
        Fleet { sort, trouble, seed, layout, kinds }
    }

    /// The kind of a target and its number among those.
    pub fn kind_of(&self, target_idx: usize) -> (usize, u32) {
        match self.layout {
            Layout::Alike => (0, target_idx as u32),
            Layout::HeadThenMembers if target_idx == 0 => (0, 0),
            Layout::HeadThenMembers => (1, target_idx as u32 - 1),
            Layout::Pairs => (target_idx % 2, target_idx as u32 / 2),
        }
    }

    fn template(&self, target_idx: usize) -> &Template {
        &self.kinds[self.kind_of(target_idx).0]
    }

    /// Samples of a target's page at a version.
    pub fn samples(&self, target_idx: usize, version: u64) -> usize {
        1 + self.template(target_idx).lines.len() + self.exploded(version) as usize
    }

    fn exploded(&self, version: u64) -> u32 {
        self.trouble.explosion.filter(|(from, _)| version >= *from).map_or(0, |(_, lines)| lines)
    }

    /// The lines of a family on a target's page.
    pub fn family(&self, target_idx: usize, name: &str) -> Range<usize> {
        let families = &self.template(target_idx).families;
        families.iter().find(|f| f.0 == name).map_or(0..0, |f| f.1.clone())
    }

    /// Names and first lines of all families of the target's page.
    pub fn families(&self, target_idx: usize) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.template(target_idx).families.iter().map(|f| (f.0.as_str(), f.1.clone()))
    }

    /// Writes the whole page.
    pub fn write(&self, target_idx: usize, version: u64, out: &mut Vec<u8>) {
        let template = self.template(target_idx);
        for line_idx in 0..template.lines.len() {
            let from = template.lines[line_idx].text.start;
            self.write_text(target_idx, line_idx, version, from, out);
            push_value(out, self.value(target_idx, line_idx, version));
            out.push(b'\n');
        }
        out.extend_from_slice(format!("# HELP {PAGE_VERSION} Which page this is.\n").as_bytes());
        out.extend_from_slice(format!("# TYPE {PAGE_VERSION} gauge\n{PAGE_VERSION} ").as_bytes());
        push_value(out, version as f64);
        out.push(b'\n');
        let fresh = self.exploded(version);
        if fresh > 0 {
            out.extend_from_slice(
                b"# HELP request_size_bytes One request's size.\n# TYPE request_size_bytes gauge\n",
            );
        }
        for i in 0..u64::from(fresh) {
            let id = mix(self.seed ^ version, target_idx as u64, i);
            out.extend_from_slice(format!("request_size_bytes{{request_id=\"{id:016x}\"}} ").as_bytes());
            push_value(out, (id % 100_000) as f64);
            out.push(b'\n');
        }
    }

    /// What a line is called at a version.
    pub fn key(&self, target_idx: usize, line_idx: usize, version: u64) -> String {
        let mut out = Vec::new();
        let line = &self.template(target_idx).lines[line_idx];
        self.write_text(target_idx, line_idx, version, line.key_start, &mut out);
        String::from_utf8_lossy(&out).trim_end().to_string()
    }

    /// The value of a line at a version.
    pub fn value(&self, target_idx: usize, line_idx: usize, version: u64) -> f64 {
        let (kind, member) = self.kind_of(target_idx);
        let line = &self.kinds[kind].lines[line_idx];
        let owner = line.owner(member);
        let id = (kind as u64) << 60 ^ u64::from(owner) << 28 ^ line_idx as u64;
        let born = self.life(owner, line.item, version).1.max(self.started(target_idx, version));
        line.value.at(self.seed, id, version, born)
    }

    /// What tells a line's series from its successor's.
    pub fn generation(&self, target_idx: usize, line_idx: usize, version: u64) -> u64 {
        let (kind, member) = self.kind_of(target_idx);
        let line = &self.kinds[kind].lines[line_idx];
        self.life(line.owner(member), line.item, version).0
    }

    /// An item's generation, and the version that it began with.
    fn life(&self, owner: u32, item: u32, version: u64) -> (u64, u64) {
        if item == NO_ITEM || self.trouble.life == 0 {
            return (0, 0);
        }
        let offset = mix(self.seed, u64::from(owner), u64::from(item) ^ 0x11fe) % self.trouble.life;
        let generation = (version + offset) / self.trouble.life;
        (generation, (generation * self.trouble.life).saturating_sub(offset))
    }

    /// The version at which a target last started.
    fn started(&self, target_idx: usize, version: u64) -> u64 {
        if self.trouble.reset == 0 {
            return 0;
        }
        let offset = mix(self.seed, target_idx as u64, 0x5e7) % self.trouble.reset;
        ((version + offset) / self.trouble.reset * self.trouble.reset).saturating_sub(offset)
    }

    fn write_text(&self, target_idx: usize, line_idx: usize, version: u64, from: usize, out: &mut Vec<u8>) {
        let (kind, member) = self.kind_of(target_idx);
        let template = &self.kinds[kind];
        let line = &template.lines[line_idx];
        let mut at = from;
        for (place, hole) in &template.holes[line.holes.clone()] {
            out.extend_from_slice(&template.text[at..*place]);
            at = *place;
            let owner = line.owner(member);
            match *hole {
                OWNER => push_digits(out, owner),
                hole => {
                    let generation = self.life(owner, line.item, version).0;
                    let name = mix(self.seed ^ generation, u64::from(owner), u64::from(line.item));
                    if hole == UUID { push_uuid(out, name) } else { push_suffix(out, name) }
                }
            }
        }
        out.extend_from_slice(&template.text[at..line.text.end]);
    }
}

fn push_digits(out: &mut Vec<u8>, n: u32) {
    let digit = |power: u32| b'0' + (n / power % 10) as u8;
    out.extend_from_slice(&[10_000, 1000, 100, 10, 1].map(digit));
}

/// The letters that Kubernetes names pods with.
fn push_suffix(out: &mut Vec<u8>, name: u64) {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    out.extend_from_slice(&[0, 1, 2, 3, 4].map(|i| LETTERS[(name >> (8 * i)) as usize % 27]));
}

fn push_uuid(out: &mut Vec<u8>, name: u64) {
    let second = mix(name, 1, 2);
    let mut text = String::with_capacity(36);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        name >> 32,
        name & 0xffff,
        (name >> 16) & 0xfff,
        second >> 52,
        second & 0xffff_ffff_ffff
    );
    out.extend_from_slice(text.as_bytes());
}

struct Line {
    /// In the template's text: comments before the line, its key and a space.
    text: Range<usize>,
    key_start: usize,
    holes: Range<usize>,
    owner: u32,
    item: u32,
    value: Value,
}

impl Line {
    fn owner(&self, member: u32) -> u32 {
        if self.owner == SELF { member } else { self.owner }
    }
}

/// The page of one kind of target, as the fleets' files write it down: family by family, item by item.
pub struct Template {
    pub step_seconds: f64,
    text: Vec<u8>,
    holes: Vec<(usize, char)>,
    lines: Vec<Line>,
    families: Vec<(String, Range<usize>)>,
    owner: u32,
    item: u32,
    /// Where the text of the next line begins: before its family's comments.
    begin: usize,
}

impl Template {
    fn new(step_seconds: f64) -> Template {
        Template {
            step_seconds,
            text: Vec::new(),
            holes: Vec::new(),
            lines: Vec::new(),
            families: Vec::new(),
            owner: SELF,
            item: NO_ITEM,
            begin: 0,
        }
    }

    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.text.extend_from_slice(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n").as_bytes());
        let at = self.lines.len();
        self.families.push((name.to_string(), at..at));
        self.item = NO_ITEM;
        self.owner = SELF;
    }

    /// The lines that follow belong to this item, which may be replaced.
    pub fn item(&mut self, item: u32) {
        self.item = item;
    }

    /// The lines that follow tell of another target's things.
    pub fn owner(&mut self, owner: u32) {
        self.owner = owner;
    }

    /// A line of the family begun last; `labels` may hold [`OWNER`], [`SUFFIX`] and [`UUID`].
    pub fn line(&mut self, labels: &str, value: Value) {
        let Some((name, lines)) = self.families.last_mut() else { return };
        lines.end = self.lines.len() + 1;
        let key_start = self.text.len();
        let holes_start = self.holes.len();
        self.text.extend_from_slice(name.as_bytes());
        if !labels.is_empty() {
            self.text.push(b'{');
            let mut buffer = [0; 4];
            for c in labels.chars() {
                match c {
                    OWNER | SUFFIX | UUID => self.holes.push((self.text.len(), c)),
                    c => self.text.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
                }
            }
            self.text.push(b'}');
        }
        self.text.push(b' ');
        let text = self.begin..self.text.len();
        self.begin = text.end;
        let (owner, item) = (self.owner, self.item);
        self.lines.push(Line { text, key_start, holes: holes_start..self.holes.len(), owner, item, value });
    }

    pub fn counter(&self, base: u64, per_second: f64, chance: f64, scale: f64) -> Value {
        Value::counter(base, per_second, chance, scale, self.step_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_lines;
    use super::*;
    use std::collections::BTreeSet;

    const ALL: [Sort; 4] = [Sort::Kube, Sort::Ceph, Sort::Openstack, Sort::Snmp];

    fn page(fleet: &Fleet, target_idx: usize, version: u64) -> String {
        let mut page = Vec::new();
        fleet.write(target_idx, version, &mut page);
        String::from_utf8_lossy(&page).into()
    }

    fn keys(page: &str) -> BTreeSet<&str> {
        sample_lines(page.as_bytes())
            .filter_map(|l| std::str::from_utf8(l).ok()?.rsplit_once(' ').map(|(key, _)| key))
            .collect()
    }

    #[test]
    fn pages_hold_each_key_once_and_what_key_and_value_say() {
        let trouble = Trouble { life: 40, reset: 25, explosion: Some((90, 7)) };
        for sort in ALL {
            let fleet = Fleet::new(sort, 3, 5, 15.0, trouble);
            for (target_idx, version) in [(0, 0), (1, 0), (1, 33), (4, 95), (0, 95)] {
                let page = page(&fleet, target_idx, version);
                let lines: Vec<&str> = page.lines().filter(|l| !l.starts_with('#')).collect();
                let samples = fleet.samples(target_idx, version);
                assert_eq!(
                    (lines.len(), keys(&page).len()),
                    (samples, samples),
                    "{sort:?} {target_idx} {version}"
                );
                let known = samples - if version >= 90 { 8 } else { 1 };
                let mut end = format!("{PAGE_VERSION} ").into_bytes();
                push_value(&mut end, version as f64);
                assert_eq!(lines[known].as_bytes(), end);
                for (i, line) in lines[..known].iter().enumerate() {
                    let mut expect = fleet.key(target_idx, i, version).into_bytes();
                    expect.push(b' ');
                    push_value(&mut expect, fleet.value(target_idx, i, version));
                    assert_eq!(line.as_bytes(), expect, "{sort:?} {target_idx} {version}");
                }
                assert!(page.is_ascii() && !page.contains(OWNER), "{page}");
            }
        }
    }

    #[test]
    fn items_are_replaced_and_counters_of_the_new_ones_begin_anew() {
        let fleet = Fleet::new(Sort::Kube, 1, 3, 15.0, Trouble { life: 10, ..Trouble::default() });
        let (a, b, c) = (page(&fleet, 1, 5), page(&fleet, 1, 6), page(&fleet, 1, 16));
        let stay = keys(&a).intersection(&keys(&b)).count() as f64 / keys(&a).len() as f64;
        assert!((0.8..0.98).contains(&stay), "{stay} of the series stay from one version to the next");
        let stay = keys(&a).intersection(&keys(&c)).count();
        assert!(stay * 3 < keys(&a).len(), "{stay} of {} series outlive a life", keys(&a).len());
        let line = fleet.family(1, "container_cpu_usage_seconds_total").start;
        let born = (5..30).find(|v| fleet.generation(1, line, *v) != fleet.generation(1, line, v - 1));
        assert_eq!(born.map(|v| fleet.value(1, line, v)), Some(0.0));
    }

    #[test]
    fn resets_set_counters_back_and_nothing_else_falls() {
        let fleet = Fleet::new(Sort::Snmp, 1, 2, 15.0, Trouble { reset: 20, ..Trouble::default() });
        let line = fleet.family(0, "ifHCInOctets").start;
        let values: Vec<f64> = (0..100).map(|v| fleet.value(0, line, v)).collect();
        let falls: Vec<usize> = (1..100).filter(|&v| values[v] < values[v - 1]).collect();
        assert_eq!(falls.len(), 5);
        assert!(falls.windows(2).all(|w| w[1] - w[0] == 20), "{falls:?}");
        assert!(falls.iter().all(|&v| values[v] == 0.0));
    }

    #[test]
    fn what_one_target_tells_of_another_is_called_the_same() {
        for (sort, info, label, own) in [
            (Sort::Kube, "kube_pod_info", "pod=\"", "container_cpu_usage_seconds_total"),
            (Sort::Ceph, "ceph_osd_metadata", "ceph_daemon=\"", "ceph_osd_op_w"),
        ] {
            let fleet = Fleet::new(sort, 9, 4, 15.0, Trouble { life: 7, ..Trouble::default() });
            let named = |target: usize, family: &str| -> BTreeSet<String> {
                let all = fleet.family(target, family).map(|l| fleet.key(target, l, 30));
                all.filter_map(|k| Some(k.split(label).nth(1)?.split('"').next()?.to_string())).collect()
            };
            let told = named(0, info);
            let shown: BTreeSet<String> = (1..4).flat_map(|t| named(t, own)).collect();
            assert!(
                shown.len() > 30 && told == shown,
                "{sort:?}: {} told, {} shown",
                told.len(),
                shown.len()
            );
        }
    }

    #[test]
    fn same_seed_gives_same_bytes_and_sizes_are_those_of_the_design() {
        let samples = |sort, targets: usize, target| {
            Fleet::new(sort, 1, targets, 15.0, Trouble::default()).samples(target, 0)
        };
        assert_eq!(samples(Sort::Openstack, 2, 0), 1500 + 1);
        assert_eq!(samples(Sort::Openstack, 2, 1), 30 * 40 + 1);
        assert!((150 * 20..220 * 20).contains(&samples(Sort::Ceph, 201, 1)));
        assert!(samples(Sort::Ceph, 201, 0) > 4000 * 9);
        for sort in ALL {
            let new = |seed| Fleet::new(sort, seed, 3, 15.0, Trouble { life: 9, ..Trouble::default() });
            assert_eq!(page(&new(4), 1, 17), page(&new(4), 1, 17));
            assert_ne!(page(&new(4), 1, 17), page(&new(5), 1, 17));
        }
    }
}
