//! Which shards have nothing that a selector fits: they are not woken for it again until something was born.
//!
//! A question for one series, or for a metric of one machine, is asked of all shards and answered by one. To be woken
//! costs a shard several times what it takes to find nothing.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};
use model::labels::METRIC_NAME;
use model::{MatchOp, Matcher, Timestamp};

use crate::shard::births::{Births, Kind};

/// Selectors that are remembered, at some 200 bytes each. Dashboards ask the same ones over and over.
const SELECTORS_MAX: usize = 4096;

/// What was seen before a shard was asked, to be remembered if it had nothing.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    births: u64,
    /// The question reaches back to here.
    from: Timestamp,
}

#[derive(Debug)]
struct Known {
    matchers: Arc<[Matcher]>,
    /// For each shard that had nothing, what was seen then.
    shards: Box<[Option<Sight>]>,
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
        let found = known.find(self.hash(matchers), |k| is_same(&k.matchers, matchers));
        let then = found.and_then(|k| *k.shards.get(shard)?);
        let is_vacant = then.is_some_and(|then| then.births == sight.births && then.from <= from);
        (!is_vacant).then_some(sight)
    }

    /// The shard, asked after `sight`, has nothing that the matchers fit: no series in memory, and no block that reaches
    /// behind the question's beginning.
    pub fn remember(&self, shard: usize, shard_count: usize, matchers: &Arc<[Matcher]>, sight: Sight) {
        let hash = self.hash(matchers);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(k) = known.find_mut(hash, |k| is_same(&k.matchers, matchers)) {
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
        let new = Known { matchers: matchers.clone(), shards };
        known.insert_unique(hash, new, |k| self.hash(&k.matchers));
    }

    fn hash(&self, matchers: &[Matcher]) -> u64 {
        use std::hash::BuildHasher;
        let mut hasher = self.builder.build_hasher();
        for m in matchers {
            (&m.name, m.op, &m.value).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// A selector that names its metric is told only of births that may be of it.
fn kind(matchers: &[Matcher]) -> Option<Kind> {
    let name = matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal)?;
    Some(Kind::of(&name.value))
}

fn is_same(a: &[Matcher], b: &[Matcher]) -> bool {
    let same = |(a, b): (&Matcher, &Matcher)| a.op == b.op && a.name == b.name && a.value == b.value;
    a.len() == b.len() && a.iter().zip(b).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Arc<[Matcher]> {
        [Matcher::new(MatchOp::Equal, METRIC_NAME, name).expect("a matcher")].into()
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
