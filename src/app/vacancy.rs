//! Which shards have nothing that a selector fits: they are not woken for it again until something was born.
//!
//! A question for one series, or for a metric of one machine, is asked of all shards and answered by one. To be woken
//! costs a shard several times what it takes to find nothing.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};
use model::labels::METRIC_NAME;
use model::{MatchOp, Matcher, Timestamp};

use crate::shard::births::{Births, Kind};

/// Selectors that are remembered: dashboards ask the same ones over and over, and a hundred of them with forty selectors
/// each are that many. At some 200 bytes each it is a megabyte, and never more than four by the next bound.
const SELECTORS_MAX: usize = 4096;

/// A longer selector is not remembered: it is a list of names, and costs more to look for than a shard to wake.
const SELECTOR_BYTES_MAX: usize = 1024;

/// What was seen before a shard was asked, to be remembered if it had nothing.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    births: u64,
    /// The question reaches back to here.
    from: Timestamp,
}

/// A matcher's text, without what was made of it to match.
#[derive(Debug)]
struct Term {
    name: Box<str>,
    op: MatchOp,
    value: Box<str>,
}

impl Term {
    fn of(m: &Matcher) -> Term {
        Term { name: m.name.as_str().into(), op: m.op, value: m.value.as_str().into() }
    }

    fn is(&self, m: &Matcher) -> bool {
        self.op == m.op && *self.name == *m.name && *self.value == *m.value
    }
}

#[derive(Debug)]
struct Known {
    selector: Box<[Term]>,
    hash: u64,
    /// For each shard that had nothing, what was seen then.
    shards: Box<[Option<Sight>]>,
}

impl Known {
    fn is_of(&self, matchers: &[Matcher]) -> bool {
        self.selector.len() == matchers.len() && self.selector.iter().zip(matchers).all(|(t, m)| t.is(m))
    }
}

#[derive(Debug, Default)]
pub struct Vacancies {
    builder: DefaultHashBuilder,
    known: Mutex<HashTable<Known>>,
}

impl Vacancies {
    /// `None` where the shard is known to have nothing from `from` on; else what to remember should it say so.
    pub fn look(
        &self,
        births: &Births,
        shard: usize,
        matchers: &[Matcher],
        from: Timestamp,
    ) -> Option<Sight> {
        let sight = Sight { births: births.seen(kind(matchers)), from };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.find(self.hash(matchers), |k| k.is_of(matchers));
        let then = found.and_then(|k| *k.shards.get(shard)?);
        let is_vacant = then.is_some_and(|then| then.births == sight.births && then.from <= from);
        (!is_vacant).then_some(sight)
    }

    /// The shard, asked after `sight`, has nothing that the matchers fit: no series in memory, and no block that reaches
    /// behind the question's beginning.
    pub fn remember(&self, shard: usize, shard_count: usize, matchers: &[Matcher], sight: Sight) {
        if bytes(matchers) > SELECTOR_BYTES_MAX {
            return;
        }
        let hash = self.hash(matchers);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(k) = known.find_mut(hash, |k| k.is_of(matchers)) {
            if let Some(then) = k.shards.get_mut(shard) {
                *then = Some(sight);
            }
            return;
        }
        if known.len() >= SELECTORS_MAX {
            // Who asks again is remembered again: cheaper than to keep an order.
            known.clear();
        }
        let mut shards = vec![None; shard_count].into_boxed_slice();
        if let Some(then) = shards.get_mut(shard) {
            *then = Some(sight);
        }
        let new = Known { selector: matchers.iter().map(Term::of).collect(), hash, shards };
        known.insert_unique(hash, new, |k| k.hash);
    }

    fn hash(&self, matchers: &[Matcher]) -> u64 {
        let mut hasher = self.builder.build_hasher();
        for m in matchers {
            (&m.name, m.op, &m.value).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// What it takes to remember a selector.
fn bytes(matchers: &[Matcher]) -> usize {
    matchers.iter().map(|m| size_of::<Term>() + m.name.len() + m.value.len()).sum()
}

/// A selector that names its metric is told only of births that may be of it.
fn kind(matchers: &[Matcher]) -> Option<Kind> {
    let name = matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal)?;
    Some(Kind::of(&name.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> [Matcher; 1] {
        [Matcher::new(MatchOp::Equal, METRIC_NAME, name).expect("a matcher")]
    }

    #[test]
    fn a_shard_is_spared_until_something_is_born_that_may_fit() {
        let (births, vacancies, a) = (Births::default(), Vacancies::default(), of("a"));
        let other = (0..).map(|i| format!("m{i}")).find(|n| Kind::of(n) != Kind::of("a")).expect("a name");
        let is_asked = |shard, from| vacancies.look(&births, shard, &a, from).is_some();
        let sight = vacancies.look(&births, 0, &a, 100).expect("nothing is known yet");
        vacancies.remember(0, 2, &a, sight);
        assert_eq!([is_asked(0, 100), is_asked(0, 101), is_asked(0, 99)], [false, false, true]);
        assert!(is_asked(1, 100), "of the other shard nothing is known");
        assert!(vacancies.look(&births, 0, &of("b"), 100).is_some(), "nor of another selector");
        births.note(Kind::of(&other));
        assert!(!is_asked(0, 100));
        births.note(Kind::of("a"));
        assert!(is_asked(0, 100));
    }

    #[test]
    fn what_is_born_while_a_shard_is_asked_is_not_missed() {
        let (births, vacancies, a) = (Births::default(), Vacancies::default(), of("a"));
        let sight = vacancies.look(&births, 0, &a, 0).expect("nothing is known yet");
        births.note(Kind::of("a"));
        vacancies.remember(0, 1, &a, sight);
        assert!(vacancies.look(&births, 0, &a, 0).is_some());
        let sight = vacancies.look(&births, 0, &a, 0).expect("asked");
        vacancies.remember(0, 1, &a, sight);
        births.note_all();
        assert!(vacancies.look(&births, 0, &a, 0).is_some());
    }

    #[test]
    fn a_selector_as_long_as_a_list_is_asked_each_time() {
        let (births, vacancies) = (Births::default(), Vacancies::default());
        for (length, is_asked) in [(100, false), (SELECTOR_BYTES_MAX, true)] {
            let long = of(&"a".repeat(length));
            let sight = vacancies.look(&births, 0, &long, 0).expect("asked");
            vacancies.remember(0, 1, &long, sight);
            assert_eq!(vacancies.look(&births, 0, &long, 0).is_some(), is_asked, "{length}");
        }
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (births, vacancies) = (Births::default(), Vacancies::default());
        for i in 0..SELECTORS_MAX + 10 {
            let one = of(&format!("m{i}"));
            let sight = vacancies.look(&births, 0, &one, 0).expect("asked");
            vacancies.remember(0, 1, &one, sight);
        }
        assert!(vacancies.known.lock().expect("whole").len() <= SELECTORS_MAX);
    }
}
