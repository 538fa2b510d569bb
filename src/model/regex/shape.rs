//! What an anchored expression amounts to: most matchers are a literal, a set, a prefix, and need no automaton.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Strings an expression may be unrolled into: dashboards send alternations of thousands of names, and 65 536
/// names of 64 bytes are 4 MiB.
const SET_MAX: usize = 1 << 16;
/// Strings that a product of classes may make, as `[ab][cd]`: past it an automaton is smaller.
const PRODUCT_MAX: usize = 256;

/// The meaning of an expression that must match a whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One of these strings, sorted.
    Set(Vec<String>),
    /// Begins with `prefix`, ends with `suffix`, and has at least `between` characters (0 or 1) between them.
    Ends {
        prefix: String,
        suffix: String,
        between: usize,
    },
    Contains(String),
    /// Needs an automaton; every match begins with `prefix`.
    Other {
        prefix: String,
    },
}

pub(super) fn shape(hir: &Hir) -> Shape {
    if let Some(mut set) = unroll(hir) {
        set.sort_unstable();
        set.dedup();
        return Shape::Set(set);
    }
    let mut parts = Vec::new();
    flatten(hir, &mut parts);
    let between = |h: &Hir| any_times(h);
    match parts.as_slice() {
        [mid] if between(mid).is_some() => ends("", between(mid), ""),
        [a, mid] if literal(a).is_some() && between(mid).is_some() => {
            ends(literal(a).unwrap_or(""), between(mid), "")
        }
        [mid, z] if literal(z).is_some() && between(mid).is_some() => {
            ends("", between(mid), literal(z).unwrap_or(""))
        }
        [a, mid, z] if literal(a).is_some() && literal(z).is_some() && between(mid).is_some() => {
            ends(literal(a).unwrap_or(""), between(mid), literal(z).unwrap_or(""))
        }
        [a, mid, z] if between(a) == Some(0) && between(z) == Some(0) && literal(mid).is_some() => {
            Shape::Contains(literal(mid).unwrap_or("").to_owned())
        }
        _ => Shape::Other { prefix: parts.first().and_then(|h| literal(h)).unwrap_or("").to_owned() },
    }
}

fn ends(prefix: &str, between: Option<usize>, suffix: &str) -> Shape {
    Shape::Ends { prefix: prefix.to_owned(), suffix: suffix.to_owned(), between: between.unwrap_or(0) }
}

/// The parts of a concatenation, seen through its groups.
fn flatten<'h>(hir: &'h Hir, parts: &mut Vec<&'h Hir>) {
    match hir.kind() {
        HirKind::Concat(subs) => subs.iter().for_each(|s| parts.push(ungroup(s))),
        HirKind::Capture(c) if matches!(c.sub.kind(), HirKind::Concat(_)) => flatten(&c.sub, parts),
        _ => parts.push(ungroup(hir)),
    }
}

fn ungroup(mut hir: &Hir) -> &Hir {
    while let HirKind::Capture(c) = hir.kind() {
        hir = &c.sub;
    }
    hir
}

fn literal(hir: &Hir) -> Option<&str> {
    match hir.kind() {
        HirKind::Literal(l) => std::str::from_utf8(&l.0).ok(),
        _ => None,
    }
}

/// `.*` is 0, `.+` is 1, where the dot matches a newline too.
fn any_times(hir: &Hir) -> Option<usize> {
    let HirKind::Repetition(r) = hir.kind() else {
        return None;
    };
    let HirKind::Class(Class::Unicode(class)) = ungroup(&r.sub).kind() else {
        return None;
    };
    let everything = matches!(class.ranges(), [only] if only.start() == '\0' && only.end() == char::MAX);
    (everything && r.min <= 1 && r.max.is_none()).then_some(r.min as usize)
}

/// All strings an expression can match, where they are finitely and not too many.
fn unroll(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(l) => Some(vec![std::str::from_utf8(&l.0).ok()?.to_owned()]),
        HirKind::Capture(c) => unroll(&c.sub),
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = class.ranges();
            let count: usize = ranges.iter().map(|r| r.len()).sum();
            (count <= PRODUCT_MAX)
                .then(|| ranges.iter().flat_map(|r| r.start()..=r.end()).map(String::from).collect())
        }
        HirKind::Class(Class::Bytes(class)) => {
            let bytes = class.ranges().iter().flat_map(|r| r.start()..=r.end());
            Some(bytes.filter(u8::is_ascii).map(|b| char::from(b).to_string()).collect())
        }
        HirKind::Alternation(subs) => {
            let mut all = Vec::new();
            for sub in subs {
                all.extend(unroll(sub)?);
                if all.len() > SET_MAX {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Concat(subs) => subs.iter().try_fold(vec![String::new()], |heads, sub| product(&heads, sub)),
        HirKind::Repetition(r) if r.min == 0 && r.max == Some(1) => {
            let mut all = unroll(&r.sub)?;
            all.push(String::new());
            Some(all)
        }
        _ => None,
    }
}

fn product(heads: &[String], sub: &Hir) -> Option<Vec<String>> {
    let tails = unroll(sub)?;
    if heads.len() > 1 && tails.len() > 1 && heads.len() * tails.len() > PRODUCT_MAX {
        return None;
    }
    Some(heads.iter().flat_map(|h| tails.iter().map(move |t| format!("{h}{t}"))).collect())
}
