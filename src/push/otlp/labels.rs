//! Attributes of resources, scopes and points as labels.

use std::borrow::Cow;
use std::rc::Rc;

use exposition::otlp::{self, Attribute, ScopeMetrics};
use hashbrown::HashMap;

use crate::push::otlp::Settings;

/// What identifies a resource: it becomes `job` and `instance`.
pub(super) const NAMESPACE: &str = "service.namespace";
pub(super) const SERVICE: &str = "service.name";
pub(super) const INSTANCE: &str = "service.instance.id";

/// Why attributes make no labels.
#[derive(Debug)]
pub(super) enum Fault {
    Bytes(otlp::Error),
    Name(String),
}

impl From<otlp::Error> for Fault {
    fn from(e: otlp::Error) -> Self {
        Fault::Bytes(e)
    }
}

/// A label under construction: names are shared, values borrowed where they can be.
pub(super) type Pair<'a> = (Rc<str>, Cow<'a, str>);

/// Names and values, each name once.
#[derive(Clone, Debug, Default)]
pub(super) struct LabelSet<'a> {
    pairs: Vec<Pair<'a>>,
}

impl<'a> LabelSet<'a> {
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (&**n, &**v))
    }

    fn find(&mut self, name: &str) -> Option<&mut Cow<'a, str>> {
        self.pairs.iter_mut().find(|(n, _)| **n == *name).map(|(_, v)| v)
    }

    pub(super) fn set(&mut self, name: Rc<str>, value: Cow<'a, str>) {
        match self.find(&name) {
            Some(old) => *old = value,
            None => self.pairs.push((name, value)),
        }
    }

    fn set_where_absent(&mut self, name: Rc<str>, value: Cow<'a, str>) {
        if self.find(&name).is_none() {
            self.pairs.push((name, value));
        }
    }

    pub(super) fn sort(&mut self) {
        self.pairs.sort_by(|a, b| a.0.cmp(&b.0));
    }
}

pub(super) fn text_of<'a>(attribute: &Attribute<'a>) -> Result<Cow<'a, str>, otlp::Error> {
    if let otlp::AnyValue::Text(text) = attribute.value {
        return Ok(Cow::Borrowed(text));
    }
    let mut text = String::new();
    attribute.value.push_to(&mut text)?;
    Ok(Cow::Owned(text))
}

/// Attribute keys met in this request, with their label names.
pub(super) struct LabelNames<'s, 'a> {
    settings: &'s Settings,
    known: HashMap<&'a str, Rc<str>>,
    sorted: Vec<Attribute<'a>>,
    /// Labels that several attributes fell on, for the log.
    pub(super) collisions: Vec<String>,
    pub(super) collision_count: u64,
}

/// Collisions that are told by name; further ones are counted.
const COLLISIONS_TOLD_MAX: usize = 10;

impl<'s, 'a> LabelNames<'s, 'a> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        LabelNames {
            settings,
            known: HashMap::new(),
            sorted: Vec::new(),
            collisions: Vec::new(),
            collision_count: 0,
        }
    }

    pub(super) fn name(&mut self, key: &'a str) -> Result<Rc<str>, Fault> {
        if let Some(name) = self.known.get(key) {
            return Ok(name.clone());
        }
        let name: Rc<str> = self.settings.naming.label(key).map_err(Fault::Name)?.into();
        self.known.insert(key, name.clone());
        Ok(name)
    }

    /// Adds attributes; values that fall on one label are joined, by the order of their keys.
    pub(super) fn add(
        &mut self,
        attributes: &[Attribute<'a>],
        ignored: &[&str],
        out: &mut LabelSet<'a>,
    ) -> Result<(), Fault> {
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clear();
        sorted.extend(attributes.iter().filter(|a| !ignored.contains(&a.key)));
        sorted.sort_by(|a, b| a.key.cmp(b.key));
        let result = sorted.iter().try_for_each(|a| {
            let (name, value) = (self.name(a.key)?, text_of(a)?);
            match out.find(&name) {
                None => out.pairs.push((name, value)),
                Some(old) => {
                    self.collision_count += 1;
                    if self.collisions.len() < COLLISIONS_TOLD_MAX {
                        self.collisions.push(format!("attribute {:?} collides as label {name:?}", a.key));
                    }
                    let joined = old.to_mut();
                    joined.push(';');
                    joined.push_str(&value);
                }
            }
            Ok(())
        });
        self.sorted = sorted;
        result
    }
}

/// Labels that all series of a resource have.
#[derive(Clone, Debug, Default)]
pub(super) struct ResourceLabels<'a> {
    /// Where a point has none of that name.
    promoted: Vec<Pair<'a>>,
    /// In any case: `job` and `instance`.
    fixed: Vec<Pair<'a>>,
}

impl<'a> ResourceLabels<'a> {
    pub(super) fn read(attributes: &[Attribute<'a>], names: &mut LabelNames<'_, 'a>) -> Result<Self, Fault> {
        let mut labels = ResourceLabels::default();
        let mut promoted: Vec<&Attribute<'a>> =
            attributes.iter().filter(|a| names.settings.promoted.holds(a.key)).collect();
        promoted.sort_by(|a, b| a.key.cmp(b.key));
        for a in promoted {
            labels.promoted.push((names.name(a.key)?, text_of(a)?));
        }
        let find = |key: &str| attributes.iter().find(|a| a.key == key);
        if let Some(service) = find(SERVICE) {
            let mut job = text_of(service)?;
            if let Some(namespace) = find(NAMESPACE) {
                job = Cow::Owned(format!("{}/{job}", text_of(namespace)?));
            }
            labels.fixed.push(("job".into(), job));
        }
        if let Some(instance) = find(INSTANCE) {
            labels.fixed.push(("instance".into(), text_of(instance)?));
        }
        Ok(labels)
    }

    pub(super) fn add_promoted(&self, out: &mut LabelSet<'a>) {
        self.promoted.iter().for_each(|(n, v)| out.set_where_absent(n.clone(), v.clone()));
    }

    pub(super) fn add_fixed(&self, out: &mut LabelSet<'a>) {
        self.fixed.iter().for_each(|(n, v)| out.set(n.clone(), v.clone()));
    }

    pub(super) fn is_identified(&self) -> bool {
        !self.fixed.is_empty()
    }
}

/// Labels that tell the scope.
pub(super) fn scope_labels<'a>(
    scope: &ScopeMetrics<'a>,
    names: &mut LabelNames<'_, 'a>,
) -> Result<Vec<Pair<'a>>, Fault> {
    let mut labels: LabelSet<'a> = LabelSet::default();
    if names.settings.promotes_scope && !scope.name.is_empty() {
        labels.set("otel_scope_name".into(), scope.name.into());
        labels.set("otel_scope_version".into(), scope.version.into());
        labels.set("otel_scope_schema_url".into(), scope.schema_url.into());
        for a in &scope.attributes {
            let name = names.settings.naming.label(&format!("otel_scope_{}", a.key)).map_err(Fault::Name)?;
            labels.set(name.into(), text_of(a)?);
        }
    }
    Ok(labels.pairs)
}
