//! Regular expressions as Prometheus means them: anchored at both ends, `.` matches a newline, Go's syntax.
//!
//! Most expressions in matchers and relabel rules are a literal, a set of literals, a prefix or a suffix, and are
//! answered without an automaton; the others run on a small anchored DFA, or on `regex_automata`'s meta engine
//! where the DFA would be large.

use std::sync::{Arc, OnceLock};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input, meta};
use regex_syntax::hir::{Hir, Look};

mod class;
mod expand;
mod parse;
mod shape;

use parse::{Flags, SyntaxError};
use shape::Shape;

/// A DFA past this size is slower to build than most uses of it repay (0.5 ms at 256 KiB).
const DFA_BYTES_MAX: usize = 256 << 10;
/// Go bounds a program at 128 MiB; an automaton of ours at half of it.
const NFA_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegexError(pub String);

/// A compiled, anchored expression; a clone shares the compiled form.
#[derive(Clone, Debug)]
pub struct Regex(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    shape: Shape,
    engine: Option<Engine>,
    /// What the groups are found with: built on first use, as matchers never ask.
    capturing: OnceLock<Option<meta::Regex>>,
    hir: Hir,
    /// Whether `hir` has its own anchors (an expression that closes the group it is put in: `a)|(b`).
    free: bool,
    names: Vec<Option<String>>,
    prefix: String,
}

#[derive(Debug)]
enum Engine {
    Dense(Box<dense::DFA<Vec<u32>>>),
    Meta(Box<meta::Regex>),
}

impl Regex {
    /// Errors: the text is not in Go's syntax; worded as Go words it.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let wrapped = format!("^(?s:{pattern})$");
        let refuse = |e: SyntaxError| RegexError(e.text());
        let whole = parse::parse(&wrapped, Flags::NONE).map_err(refuse)?;
        let (shape, hir, free) = match parse::parse(pattern, Flags::DOT_NEWLINE) {
            Ok(inner) => {
                let shape = shape::shape(&inner.hir);
                (shape, Hir::concat(vec![inner.hir, Hir::look(Look::End)]), false)
            }
            Err(_) => (Shape::Other { prefix: String::new() }, whole.hir, true),
        };
        let engine = match shape {
            Shape::Other { .. } => {
                let too_large = || refuse(SyntaxError::too_large(&wrapped));
                Some(Engine::build(&hir, free).ok_or_else(too_large)?)
            }
            _ => None,
        };
        let prefix = prefix_of(&shape);
        let capturing = OnceLock::new();
        Ok(Regex(Arc::new(Compiled { shape, engine, capturing, hir, free, names: whole.names, prefix })))
    }

    /// As Prometheus's matchers compile: the expression must stand by itself before it is anchored, and
    /// errors quote it without its anchors.
    pub fn of_matcher(pattern: &str) -> Result<Self, RegexError> {
        parse::parse(pattern, Flags::DOT_NEWLINE).map_err(|e| RegexError(e.text()))?;
        Regex::new(pattern)
    }

    pub fn matches(&self, text: &str) -> bool {
        match &self.0.shape {
            Shape::Set(set) => match set.as_slice() {
                [only] => only == text,
                set => set.binary_search_by(|s| s.as_str().cmp(text)).is_ok(),
            },
            Shape::Ends { prefix, suffix, between } => {
                text.len() >= prefix.len() + suffix.len() + between
                    && text.starts_with(prefix.as_str())
                    && text.ends_with(suffix.as_str())
            }
            Shape::Contains(part) => text.contains(part.as_str()),
            Shape::Other { .. } => self.0.engine.as_ref().is_some_and(|e| e.matches(text, self.0.free)),
        }
    }

    /// The literal strings that the expression is an alternation of, where it is one (`a|b|c`), sorted.
    pub fn literals(&self) -> Option<&[String]> {
        match &self.0.shape {
            Shape::Set(set) => Some(set),
            _ => None,
        }
    }

    /// A literal that every matching string begins with (may be empty).
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// What the groups matched, where the whole of `text` matches.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        if !self.matches(text) {
            return None;
        }
        let engine = self.0.capturing.get_or_init(|| meta_engine(&self.0.hir)).as_ref()?;
        let mut found = engine.create_captures();
        engine.captures(input(text, self.0.free), &mut found);
        let groups = (0..self.0.names.len()).map(|i| found.get_group(i).map(|s| &text[s.range()])).collect();
        Some(Captures { groups, regex: self.clone() })
    }
}

/// What each group of an expression matched.
#[derive(Debug)]
pub struct Captures<'t> {
    groups: Vec<Option<&'t str>>,
    regex: Regex,
}

impl<'t> Captures<'t> {
    /// Group 0 is the whole match.
    pub fn group(&self, index: usize) -> Option<&'t str> {
        self.groups.get(index).copied().flatten()
    }

    /// The first group of this name that took part in the match.
    pub fn named(&self, name: &str) -> Option<&'t str> {
        let mut named = self.regex.0.names.iter().zip(&self.groups);
        named.find_map(|(n, g)| g.filter(|_| n.as_deref() == Some(name)))
    }

    /// `template` with `$1`, `${name}` and `$$` replaced, as Go's `Regexp.Expand`.
    pub fn expand(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len() + 16);
        expand::expand(&mut out, template, self);
        out
    }
}

impl Engine {
    fn build(hir: &Hir, free: bool) -> Option<Self> {
        if !free && let Some(dfa) = dense_dfa(hir) {
            return Some(Engine::Dense(Box::new(dfa)));
        }
        meta_engine(hir).map(|e| Engine::Meta(Box::new(e)))
    }

    fn matches(&self, text: &str, free: bool) -> bool {
        match self {
            // The error is for bytes the automaton was told to give up at: it was told none.
            Engine::Dense(dfa) => matches!(dfa.try_search_fwd(&input(text, free)), Ok(Some(_))),
            Engine::Meta(engine) => engine.is_match(input(text, free)),
        }
    }
}

fn input(text: &str, free: bool) -> Input<'_> {
    Input::new(text).anchored(if free { Anchored::No } else { Anchored::Yes })
}

fn dense_dfa(hir: &Hir) -> Option<dense::DFA<Vec<u32>>> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .nfa_size_limit(Some(4 * DFA_BYTES_MAX))
                .which_captures(thompson::WhichCaptures::None),
        )
        .build_from_hir(hir)
        .ok()?;
    dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                .dfa_size_limit(Some(DFA_BYTES_MAX))
                .determinize_size_limit(Some(4 * DFA_BYTES_MAX)),
        )
        .build_from_nfa(&nfa)
        .ok()
}

fn meta_engine(hir: &Hir) -> Option<meta::Regex> {
    meta::Builder::new()
        .configure(meta::Config::new().nfa_size_limit(Some(NFA_BYTES_MAX)))
        .build_from_hir(hir)
        .ok()
}

fn prefix_of(shape: &Shape) -> String {
    match shape {
        Shape::Ends { prefix, .. } | Shape::Other { prefix } => prefix.clone(),
        Shape::Contains(_) => String::new(),
        Shape::Set(set) => {
            // Sorted: what the first and the last share, all share.
            let (first, last) = (set.first().map_or("", |s| s), set.last().map_or("", |s| s));
            let shared = first.char_indices().zip(last.chars()).find(|((_, a), b)| a != b);
            let end = shared.map_or(first.len().min(last.len()), |((i, _), _)| i);
            first[..end].to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
