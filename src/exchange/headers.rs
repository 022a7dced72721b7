//! Headers exchanges: a binding's arguments are conditions on the message's headers, and its
//! `x-match` says whether all or any of them must hold. Keys do not matter.
//!
//! Bindings that ask the same share a rule, and rules are found by a condition that the message
//! fulfils: the cost of a message goes with its headers and what they may match, not with the
//! number of bindings.

use super::binding::Binding;
use super::header_fields::{HeaderFields, put_comparable};
use super::targets::{Found, Targets};
use crate::exception::Exception;
use crate::table::{TableRef, Value};
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// A rule's index in `Headers::rules`.
type RuleId = u32;

#[derive(Debug, Default)]
pub(super) struct Headers {
    /// RabbitMQ: `all` of no conditions matches every message, even one without headers.
    always: Targets,
    rules: Vec<Rule>,
    free: Vec<RuleId>,
    ids: HashMap<Arc<Query>, RuleId>,
    /// Where rules are found, by the name of a header.
    by_name: HashMap<Box<[u8]>, Named>,
}

/// Which rules were tried for a message, reused from message to message.
pub(super) type Tried = HashSet<RuleId>;

#[derive(Debug, Default)]
struct Rule {
    query: Arc<Query>,
    /// The conditions under which the rule is found: one of `all`, or each of `any`.
    found_by: std::ops::Range<usize>,
    targets: Targets,
}

/// The rules found by one header name.
#[derive(Debug, Default)]
struct Named {
    present: Vec<RuleId>,
    equal: HashMap<Box<[u8]>, Vec<RuleId>>,
}

/// What a binding asks of a message.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Query {
    any: bool,
    /// Sorted, no two equal.
    conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Condition {
    name: Box<[u8]>,
    /// A comparable value; none if the header only has to be there.
    value: Option<Box<[u8]>>,
}

/// Whether a headers exchange can have a binding with these arguments.
///
/// # Errors
/// Their `x-match` is none of those that exist.
pub fn check_headers_binding(arguments: TableRef<'_>) -> Result<(), Exception> {
    Query::new(arguments).map(drop)
}

impl Headers {
    /// # Errors
    /// The binding's `x-match` is none of those that exist.
    pub(super) fn bind(&mut self, binding: &Binding) -> Result<(), Exception> {
        let query = Query::new(binding.arguments.as_ref())?;
        if !query.conditions.is_empty() {
            let id = match self.ids.get(&query) {
                Some(id) => *id,
                None => self.add_rule(query),
            };
            self.rules[id as usize].targets.add(&binding.destination);
        } else if !query.any {
            self.always.add(&binding.destination);
        }
        Ok(())
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        let query = Query::new(binding.arguments.as_ref()).expect("bind has read the same");
        if !query.conditions.is_empty() {
            let id = *self.ids.get(&query).expect("only what was bound is unbound");
            let rule = &mut self.rules[id as usize];
            rule.targets.remove(&binding.destination);
            if rule.targets.is_empty() {
                self.remove_rule(id);
            }
        } else if !query.any {
            self.always.remove(&binding.destination);
        }
    }

    pub(super) fn matches(&self, fields: &HeaderFields, tried: &mut Tried, found: &mut Found<'_>) {
        self.always.emit(found);
        tried.clear();
        for (name, value) in fields.iter() {
            let Some(named) = self.by_name.get(name) else {
                continue;
            };
            let equal = named.equal.get(value).into_iter().flatten();
            for &id in named.present.iter().chain(equal) {
                let rule = &self.rules[id as usize];
                if tried.insert(id) && rule.query.holds(fields) {
                    rule.targets.emit(found);
                }
            }
        }
    }

    fn add_rule(&mut self, query: Query) -> RuleId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.rules.push(Rule::default());
            RuleId::try_from(self.rules.len() - 1).expect("four billion rules do not fit in RAM")
        });
        let found_by = if query.any {
            0..query.conditions.len()
        } else {
            let rarest = self.rarest(&query.conditions);
            rarest..rarest + 1
        };
        for condition in &query.conditions[found_by.clone()] {
            self.by_name.entry(condition.name.clone()).or_default().rules_mut(condition).push(id);
        }
        let query = Arc::new(query);
        self.ids.insert(query.clone(), id);
        self.rules[id as usize] = Rule { query, found_by, targets: Targets::default() };
        id
    }

    fn remove_rule(&mut self, id: RuleId) {
        let rule = std::mem::take(&mut self.rules[id as usize]);
        for condition in &rule.query.conditions[rule.found_by] {
            let named =
                self.by_name.get_mut(&*condition.name).expect("a rule is found by its conditions");
            let rules = named.rules_mut(condition);
            rules.retain(|other| *other != id);
            if let (true, Some(value)) = (rules.is_empty(), &condition.value) {
                named.equal.remove(value);
            }
            if named.present.is_empty() && named.equal.is_empty() {
                self.by_name.remove(&*condition.name);
            }
        }
        self.ids.remove(&rule.query);
        self.free.push(id);
    }

    /// The condition that leads to the fewest rules so far; one on a value, if there is one, since
    /// more messages have a header than have it with that value.
    fn rarest(&self, conditions: &[Condition]) -> usize {
        let commonness = |condition: &Condition| {
            let named = self.by_name.get(&condition.name);
            match (&condition.value, named) {
                (None, named) => (true, named.map_or(0, |n| n.present.len())),
                (Some(value), named) => {
                    let rules = named.and_then(|n| n.equal.get(value));
                    (false, rules.map_or(0, Vec::len))
                }
            }
        };
        let rarest = (0..conditions.len()).min_by_key(|index| commonness(&conditions[*index]));
        rarest.expect("a rule has conditions")
    }
}

impl Named {
    fn rules_mut(&mut self, condition: &Condition) -> &mut Vec<RuleId> {
        match &condition.value {
            None => &mut self.present,
            Some(value) => self.equal.entry(value.clone()).or_default(),
        }
    }
}

impl Query {
    fn new(arguments: TableRef<'_>) -> Result<Self, Exception> {
        let (any, with_x) = match arguments.get(b"x-match") {
            None | Some(Value::LongStr(b"all")) => (false, false),
            Some(Value::LongStr(b"any")) => (true, false),
            Some(Value::LongStr(b"all-with-x")) => (false, true),
            Some(Value::LongStr(b"any-with-x")) => (true, true),
            Some(other) => return Err(invalid_x_match(other)),
        };
        let counts = |name: &[u8]| match with_x {
            true => name != b"x-match",
            false => !name.starts_with(b"x-"),
        };
        let asked = arguments.iter().filter(|(name, _)| counts(name));
        let mut conditions: Vec<_> = asked.map(|(name, v)| Condition::new(name, v)).collect();
        conditions.sort_unstable();
        conditions.dedup();
        Ok(Self { any, conditions })
    }

    /// Whether it holds for a message that fulfils one of its conditions.
    fn holds(&self, fields: &HeaderFields) -> bool {
        self.any || self.conditions.iter().all(|condition| condition.holds(fields))
    }
}

impl Condition {
    fn new(name: &[u8], value: Value<'_>) -> Self {
        let comparable = || {
            let mut out = Vec::new();
            put_comparable(&mut out, value);
            out.into()
        };
        Self { name: name.into(), value: (value != Value::Void).then(comparable) }
    }

    fn holds(&self, fields: &HeaderFields) -> bool {
        let value = fields.get(&self.name);
        match &self.value {
            None => value.is_some(),
            Some(expected) => value == Some(expected),
        }
    }
}

fn invalid_x_match(value: Value<'_>) -> Exception {
    let mut text = value.argument_text().value;
    if let Value::LongStr(_) | Value::Bytes(_) = value {
        text = format!("<<\"{text}\">>");
    }
    Exception::precondition(match value {
        Value::LongStr(_) => format!(
            "Invalid x-match field value {text}; expected all, any, all-with-x, or any-with-x"
        ),
        other => {
            format!("Invalid x-match field type {} (value {text}); expected longstr", other.kind())
        }
    })
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
