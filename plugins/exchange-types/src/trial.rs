//! A router under test, and the little that a broker does for it.

use leveret_plugin_api::{
    Binding, Choice, Content, DestinationId, DestinationKind, ExchangeType, Fields, Message,
    NewBinding, Property, Router, Value,
};
use std::collections::BTreeMap;

/// Named values.
pub(crate) struct Named<'a>(pub(crate) &'a [(&'a str, Value<'a>)]);

impl Fields for Named<'_> {
    fn get(&self, name: &[u8]) -> Option<Value<'_>> {
        let found = self.0.iter().find(|(known, _)| known.as_bytes() == name);
        found.map(|(_, value)| *value)
    }

    fn for_each(&self, show: &mut dyn FnMut(&[u8], Value<'_>)) {
        self.0.iter().for_each(|(name, value)| show(name.as_bytes(), *value));
    }
}

/// Headers, and one property.
#[derive(Default)]
pub(crate) struct Sent<'a> {
    pub(crate) headers: &'a [(&'a str, Value<'a>)],
    pub(crate) property: Option<(Property, Value<'a>)>,
}

impl Content for Sent<'_> {
    fn header(&self, name: &[u8]) -> Option<Value<'_>> {
        let found = self.headers.iter().find(|(known, _)| known.as_bytes() == name);
        found.map(|(_, value)| *value)
    }

    fn property(&self, property: Property) -> Option<Value<'_>> {
        self.property.filter(|(known, _)| *known == property).map(|(_, value)| value)
    }
}

pub(crate) struct Trial {
    pub(crate) router: Box<dyn Router>,
}

impl Trial {
    pub(crate) fn of(exchange_type: &dyn ExchangeType, arguments: &[(&str, Value<'_>)]) -> Self {
        Self { router: exchange_type.router(&Named(arguments)) }
    }

    pub(crate) fn bind(&mut self, destination: u32, key: &str) {
        with_binding(destination, key, |binding| self.router.bound(binding));
    }

    pub(crate) fn unbind(&mut self, destination: u32, key: &str) {
        with_binding(destination, key, |binding| self.router.unbound(binding));
    }

    /// Where a message goes, and whether it is remembered.
    pub(crate) fn publish(&self, message: &Message<'_>) -> (Vec<u32>, bool) {
        let mut chosen = Vec::new();
        let mut choice = Choice::new(&mut chosen);
        self.router.route(message, &mut choice);
        let remembered = choice.is_remembered();
        (chosen.into_iter().map(|destination| destination.0).collect(), remembered)
    }

    pub(crate) fn routes(&self, keys: &[&[u8]]) -> Vec<u32> {
        self.publish(&Message { keys, content: &Sent::default(), random: 0 }).0
    }

    /// Where a message goes that can go to one destination only.
    pub(crate) fn route(&self, keys: &[&[u8]]) -> Option<u32> {
        only(&self.routes(keys))
    }

    pub(crate) fn route_content(&self, content: &Sent<'_>) -> Option<u32> {
        only(&self.publish(&Message { keys: &[b"same"], content, random: 0 }).0)
    }

    pub(crate) fn is_remembered(&self, headers: &[(&str, Value<'_>)]) -> bool {
        let content = Sent { headers, property: None };
        self.publish(&Message { keys: &[b""], content: &content, random: 0 }).1
    }

    /// As `route`, for dice that differ with `seed`.
    pub(crate) fn route_by_chance(&self, seed: u64) -> Option<u32> {
        let random = crate::hash::mix(seed);
        only(&self.publish(&Message { keys: &[b""], content: &Sent::default(), random }).0)
    }
}

fn only(chosen: &[u32]) -> Option<u32> {
    assert!(chosen.len() < 2, "one at most: {chosen:?}");
    chosen.first().copied()
}

fn with_binding(destination: u32, key: &str, tell: impl FnOnce(&Binding<'_>)) {
    tell(&Binding {
        destination: DestinationId(destination),
        identity: &destination.to_be_bytes(),
        key: key.as_bytes(),
        arguments: &Named(&[]),
    });
}

/// Why such a binding is refused, if it is.
pub(crate) fn refused_binding(
    exchange_type: &dyn ExchangeType,
    to: DestinationKind<'_>,
    key: &[u8],
) -> Option<String> {
    exchange_type.check_binding(&NewBinding { to, key, arguments: &Named(&[]) }).err()
}

/// Why such arguments are refused, if they are.
pub(crate) fn refused_arguments(
    exchange_type: &dyn ExchangeType,
    arguments: &[(&str, Value<'_>)],
) -> Option<String> {
    exchange_type.check_arguments(&Named(arguments)).err()
}

/// How often each destination was chosen.
pub(crate) fn spread(chosen: impl Iterator<Item = Option<u32>>) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    for destination in chosen {
        *counts.entry(destination.expect("something is bound")).or_insert(0) += 1;
    }
    counts
}
