//! Relabel rules: a pure function on a label set.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use crate::labels::{LabelsBuilder, NameScheme};
use crate::md5::md5;
use crate::quote::quoted;
use crate::regex::{Regex, RegexError};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl Action {
    /// In any case, as Prometheus reads it.
    pub fn parse(text: &str) -> Result<Self, RelabelError> {
        let lower = text.to_lowercase();
        let known = ACTIONS.iter().find(|(name, _)| *name == lower);
        known.map(|(_, a)| *a).ok_or_else(|| RelabelError(format!("unknown relabel action {}", quoted(text))))
    }

    pub fn text(self) -> &'static str {
        ACTIONS.iter().find(|(_, a)| *a == self).map_or("", |(name, _)| name)
    }

    /// The names of all actions, for those who say what is allowed.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ACTIONS.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a rule is refused, in Prometheus's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RelabelError(pub String);

impl From<RegexError> for RelabelError {
    fn from(e: RegexError) -> Self {
        RelabelError(e.0)
    }
}

const SEPARATOR: &str = ";";
const REPLACEMENT: &str = "$1";
/// The expression of a rule that has none.
pub const REGEX: &str = "(.*)";

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    pub source_labels: Vec<String>,
    pub separator: String,
    /// `None` where the rule does not say: then everything matches.
    pub regex: Option<String>,
    pub modulus: u64,
    pub target_label: String,
    pub replacement: String,
    pub action: Action,
}

impl Default for RuleText {
    fn default() -> Self {
        RuleText {
            source_labels: Vec::new(),
            separator: SEPARATOR.to_owned(),
            regex: None,
            modulus: 0,
            target_label: String::new(),
            replacement: REPLACEMENT.to_owned(),
            action: Action::Replace,
        }
    }
}

/// A rule that was checked and compiled.
#[derive(Clone, Debug)]
pub struct Rule {
    text: RuleText,
    regex: Regex,
    scheme: NameScheme,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.scheme) == (&other.text, other.scheme)
    }
}

impl Eq for Rule {}

/// Targets with references to groups, under the names of old.
static LEGACY_TEMPLATE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+").expect("the expression is constant and tested")
});

impl Rule {
    pub fn new(text: RuleText, scheme: NameScheme) -> Result<Self, RelabelError> {
        let regex = Regex::new(text.regex.as_deref().unwrap_or(REGEX))?;
        text.check(scheme)?;
        Ok(Rule { text, regex, scheme })
    }

    pub fn text(&self) -> &RuleText {
        &self.text
    }

    /// Applies the rule; `false` drops what the labels belong to.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let rule = &self.text;
        match rule.action {
            Action::Keep => return self.regex.matches(&self.source(labels)),
            Action::Drop => return !self.regex.matches(&self.source(labels)),
            Action::KeepEqual => return labels.value(&rule.target_label) == self.source(labels),
            Action::DropEqual => return labels.value(&rule.target_label) != self.source(labels),
            Action::Replace => self.replace(labels),
            Action::HashMod => {
                let digest = md5(self.source(labels).as_bytes());
                let low = digest[8..].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                // A modulus of zero was refused with the rule.
                let rest = low.checked_rem(rule.modulus).unwrap_or(0);
                labels.set(&rule.target_label, &rest.to_string());
            }
            Action::Lowercase => {
                let value = self.source(labels).to_lowercase();
                labels.set(&rule.target_label, &value);
            }
            Action::Uppercase => {
                let value = self.source(labels).to_uppercase();
                labels.set(&rule.target_label, &value);
            }
            Action::LabelMap => self.map(labels),
            Action::LabelDrop => {
                labels.retain(|name, _| !self.regex.matches(name));
            }
            Action::LabelKeep => {
                labels.retain(|name, _| self.regex.matches(name));
            }
        }
        true
    }

    /// The values of the source labels, joined.
    fn source<'l>(&self, labels: &'l LabelsBuilder) -> Cow<'l, str> {
        match self.text.source_labels.as_slice() {
            [] => Cow::Borrowed(""),
            [only] => Cow::Borrowed(labels.value(only)),
            many => {
                let values: Vec<&str> = many.iter().map(|n| labels.value(n)).collect();
                Cow::Owned(values.join(&self.text.separator))
            }
        }
    }

    fn replace(&self, labels: &mut LabelsBuilder) {
        let rule = &self.text;
        let source = self.source(labels);
        let plain = !rule.target_label.contains('$') && !rule.replacement.contains('$');
        if plain {
            if self.regex.matches(&source) {
                self.set(labels, &rule.target_label, &rule.replacement);
            }
            return;
        }
        if rule.regex.is_none() && rule.replacement == REPLACEMENT && !rule.target_label.contains('$') {
            let value = source.into_owned();
            self.set(labels, &rule.target_label, &value);
            return;
        }
        let Some(captures) = self.regex.captures(&source) else {
            return;
        };
        let (target, value) = (captures.expand(&rule.target_label), captures.expand(&rule.replacement));
        self.set(labels, &target, &value);
    }

    fn set(&self, labels: &mut LabelsBuilder, target: &str, value: &str) {
        if self.scheme.is_label_name(target) {
            labels.set(target, value);
        }
    }

    fn map(&self, labels: &mut LabelsBuilder) {
        let mut mapped = Vec::new();
        for (name, value) in labels.iter() {
            if let Some(captures) = self.regex.captures(name) {
                mapped.push((captures.expand(&self.text.replacement), value.to_owned()));
            }
        }
        for (name, value) in mapped {
            if !name.is_empty() {
                labels.set(&name, &value);
            }
        }
    }
}

/// Applies the rules in order; `false` as soon as one drops what the labels belong to.
pub fn apply(rules: &[Rule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl RuleText {
    fn check(&self, scheme: NameScheme) -> Result<(), RelabelError> {
        use Action::{
            DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase,
        };
        let action = self.action;
        let refuse = |text: String| Err(RelabelError(text));
        if self.modulus == 0 && action == HashMod {
            return refuse("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        let writes = matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if writes && self.target_label.is_empty() {
            return refuse(format!(
                "relabel configuration for {action} action requires 'target_label' value"
            ));
        }
        let target_ok = if action == Replace && self.target_label.contains('$') {
            template_ok(&self.target_label, scheme)
        } else {
            scheme.is_label_name(&self.target_label)
        };
        if writes && !target_ok {
            let target = quoted(&self.target_label);
            return refuse(format!("{target} is invalid 'target_label' for {action} action"));
        }
        let equal = matches!(action, KeepEqual | DropEqual);
        let other_replacement = self.replacement != REPLACEMENT;
        if other_replacement && (equal || matches!(action, Lowercase | Uppercase)) {
            return refuse(format!("'replacement' can not be set for {action} action"));
        }
        if action == LabelMap && !template_ok(&self.replacement, scheme) {
            let replacement = quoted(&self.replacement);
            return refuse(format!("{replacement} is invalid 'replacement' for {action} action"));
        }
        let tuned = self.modulus != 0 || self.separator != SEPARATOR || other_replacement;
        if equal && (self.regex.is_some() || tuned) {
            return refuse(format!(
                "{action} action requires only 'source_labels' and `target_label`, and no other fields"
            ));
        }
        let by_name = matches!(action, LabelDrop | LabelKeep);
        if by_name && (!self.source_labels.is_empty() || !self.target_label.is_empty() || tuned) {
            return refuse(format!("{action} action requires only 'regex', and no other fields"));
        }
        Ok(())
    }
}

fn template_ok(template: &str, scheme: NameScheme) -> bool {
    match scheme {
        NameScheme::Utf8 => scheme.is_label_name(template),
        NameScheme::Legacy => LEGACY_TEMPLATE.matches(template),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Labels;

    fn rule(
        action: &str,
        sources: &[&str],
        regex: Option<&str>,
        target: &str,
        replacement: &str,
    ) -> RuleText {
        RuleText {
            source_labels: sources.iter().map(|s| (*s).to_owned()).collect(),
            regex: regex.map(str::to_owned),
            target_label: target.to_owned(),
            replacement: replacement.to_owned(),
            modulus: if action.eq_ignore_ascii_case("hashmod") { 1000 } else { 0 },
            action: Action::parse(action).expect("an action"),
            ..RuleText::default()
        }
    }

    fn check(text: RuleText, want: Option<&str>) {
        let what = format!("{text:?}");
        let labels = Labels::from_pairs([("a", "foo"), ("b", "bar"), ("c", "baz"), ("__meta_x_y", "Z")]);
        let mut builder = LabelsBuilder::from(&labels);
        let kept = Rule::new(text, NameScheme::Utf8).expect("a good rule").apply(&mut builder);
        builder.remove("__meta_x_y");
        assert_eq!(kept.then(|| builder.build().to_string()).as_deref(), want, "{what}");
    }

    #[test]
    fn every_action_does_what_prometheus_does() {
        let same = r#"{a="foo", b="bar", c="baz"}"#;
        check(
            rule("replace", &["a"], Some("f(.*)"), "d", "ch${1}-ch${1}"),
            Some(r#"{a="foo", b="bar", c="baz", d="choo-choo"}"#),
        );
        check(
            rule("replace", &["a", "b"], Some("(f).*;(.*)r"), "a", "b${1}${2}m"),
            Some(r#"{a="bfbam", b="bar", c="baz"}"#),
        );
        check(rule("replace", &["a"], Some("nope"), "d", "x"), Some(same));
        check(rule("replace", &["a"], None, "d", "$1"), Some(r#"{a="foo", b="bar", c="baz", d="foo"}"#));
        check(rule("replace", &["a"], Some("(foo)"), "b", "$2"), Some(r#"{a="foo", c="baz"}"#));
        check(rule("replace", &[], None, "d", "x"), Some(r#"{a="foo", b="bar", c="baz", d="x"}"#));
        check(
            rule("replace", &["a"], Some("(f)(.*)"), "${2}", "$1"),
            Some(r#"{a="foo", b="bar", c="baz", oo="f"}"#),
        );
        check(rule("replace", &["a"], Some("(x)?.*"), "${1}", "y"), Some(same));
        check(rule("keep", &["a"], Some("foo|x"), "", "$1"), Some(same));
        check(rule("keep", &["a"], Some("fo"), "", "$1"), None);
        check(rule("drop", &["a", "b"], Some("foo;bar"), "", "$1"), None);
        check(rule("keepequal", &["a"], None, "b", "$1"), None);
        check(rule("dropequal", &["a"], None, "b", "$1"), Some(same));
        check(rule("HashMod", &["c"], None, "d", "$1"), Some(r#"{a="foo", b="bar", c="baz", d="976"}"#));
        check(
            rule("labelmap", &[], Some("__meta_(.*)_(.*)"), "", "${1}_$2"),
            Some(r#"{a="foo", b="bar", c="baz", x_y="Z"}"#),
        );
        check(rule("labeldrop", &[], Some("a|b"), "", "$1"), Some(r#"{c="baz"}"#));
        check(rule("labelkeep", &[], Some("a"), "", "$1"), Some(r#"{a="foo"}"#));
        check(rule("uppercase", &["a"], None, "a", "$1"), Some(r#"{a="FOO", b="bar", c="baz"}"#));
        check(rule("lowercase", &["__meta_x_y"], None, "b", "$1"), Some(r#"{a="foo", b="z", c="baz"}"#));
    }

    #[test]
    fn bad_rules_are_refused_in_prometheus_words() {
        for (text, scheme, want) in [
            (
                rule("replace", &[], None, "", "$1"),
                NameScheme::Utf8,
                "relabel configuration for replace action requires 'target_label' value",
            ),
            (
                rule("replace", &[], None, "a-b", "$1"),
                NameScheme::Legacy,
                "\"a-b\" is invalid 'target_label' for replace action",
            ),
            (
                rule("replace", &[], None, "a-${1}", "$1"),
                NameScheme::Legacy,
                "\"a-${1}\" is invalid 'target_label' for replace action",
            ),
            (
                rule("labelmap", &[], None, "", "a-$1"),
                NameScheme::Legacy,
                "\"a-$1\" is invalid 'replacement' for labelmap action",
            ),
            (
                rule("lowercase", &["a"], None, "b", "x"),
                NameScheme::Utf8,
                "'replacement' can not be set for lowercase action",
            ),
            (
                rule("keepequal", &["a"], Some("x"), "b", "$1"),
                NameScheme::Utf8,
                "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
            ),
            (
                rule("labeldrop", &["a"], Some("x"), "", "$1"),
                NameScheme::Utf8,
                "labeldrop action requires only 'regex', and no other fields",
            ),
            (
                rule("keep", &["a"], Some("("), "", "$1"),
                NameScheme::Utf8,
                "error parsing regexp: missing closing ): `^(?s:()$`",
            ),
        ] {
            assert_eq!(Rule::new(text, scheme).map(|_| ()), Err(RelabelError(want.to_owned())));
        }
        assert!(Rule::new(rule("replace", &[], None, "a_${1}_b", "$1"), NameScheme::Legacy).is_ok());
        assert_eq!(Action::parse("x"), Err(RelabelError("unknown relabel action \"x\"".to_owned())));
    }
}
