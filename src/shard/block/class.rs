//! Retention classes: series by selector whose samples lie in files of their own, to be kept for a time of their own.

use std::sync::Arc;

use model::Matcher;

/// What the configuration says of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub mark: ClassMark,
    pub matchers: Vec<Matcher>,
    pub downsampling: Vec<Downsampling>,
}

/// Aggregates that are to be made of a class, or of series of none. Where there are several, finer ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downsampling {
    pub resolution_ms: i64,
    /// How far samples have to be behind the newest block.
    pub after_ms: i64,
    pub keep_ms: i64,
}

/// A class as its blocks have it in their headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMark {
    /// The selector in one fixed form, which is the class's name.
    pub selector: Arc<str>,
    /// How far its blocks may be behind the newest one before they go.
    pub time_ms: i64,
}

/// All classes, in the order in which a series is held against them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes(Arc<[Class]>);

impl Default for Classes {
    fn default() -> Self {
        Classes(Arc::new([]))
    }
}

impl Classes {
    pub fn new(classes: Vec<Class>) -> Self {
        Classes(classes.into())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn marks(&self) -> impl Iterator<Item = &ClassMark> {
        self.0.iter().map(|c| &c.mark)
    }

    /// The place of the class of a series: the first one that takes it. As many as there are for a series of none.
    pub fn class_of<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> usize {
        let value = |name: &str| labels.clone().find(|(n, _)| *n == name).map_or("", |(_, v)| v);
        let takes = |c: &Class| c.matchers.iter().all(|m| m.matches(value(&m.name)));
        self.0.iter().position(takes).unwrap_or(self.0.len())
    }

    /// What is made of a class's samples: nothing where there is no such class any more.
    pub fn downsampling_of(&self, mark: &ClassMark) -> &[Downsampling] {
        self.0.iter().find(|c| c.mark.selector == mark.selector).map_or(&[], |c| &c.downsampling)
    }

    /// How long a class's blocks are kept: as the class has it now, else as it had when they were written.
    pub fn time_of(&self, mark: &ClassMark) -> i64 {
        self.marks().find(|m| m.selector == mark.selector).map_or(mark.time_ms, |m| m.time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MatchOp;

    fn class(name: &str, op: MatchOp, value: &str, time_ms: i64) -> Class {
        let matcher = Matcher::new(op, name, value).expect("a matcher");
        let selector = format!("{{{matcher}}}").into();
        Class { mark: ClassMark { selector, time_ms }, matchers: vec![matcher], downsampling: Vec::new() }
    }

    fn classes() -> Classes {
        Classes::new(vec![
            class("job", MatchOp::Equal, "debug", 1),
            class("job", MatchOp::Regex, "debug|test", 2),
            class("env", MatchOp::Equal, "", 3),
        ])
    }

    fn check(labels: &[(&str, &str)], expect: usize) {
        assert_eq!(classes().class_of(labels.iter().copied()), expect, "{labels:?}");
    }

    #[test]
    fn the_first_class_that_takes_a_series_has_it() {
        check(&[("env", "a"), ("job", "debug")], 0);
        check(&[("job", "debug")], 0);
        check(&[("env", "a"), ("job", "test")], 1);
        check(&[("job", "other")], 2);
        check(&[("env", "a"), ("job", "other")], 3);
        assert_eq!(Classes::default().class_of([("job", "debug")].into_iter()), 0);
    }

    #[test]
    fn a_class_that_is_gone_keeps_its_time() {
        let of = |selector: &str| classes().time_of(&ClassMark { selector: selector.into(), time_ms: 9 });
        assert_eq!(of("{job=\"debug\"}"), 1);
        assert_eq!(of("{job=\"gone\"}"), 9);
    }
}
