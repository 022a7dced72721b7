//! An exchange's type at work: which of its bindings a message matches.

use super::binding::Binding;
use super::delayed::{self, Delayed};
use super::direct::Direct;
use super::fanout::Fanout;
use super::header_fields::HeaderFields;
use super::headers::{Headers, Tried};
use super::history::History;
use super::plugged::Plugged;
use super::targets::Found;
use super::topic::{Topic, TopicScratch};
use super::{Kind, Settings};
use crate::exception::Exception;
use crate::table::TableRef;
use crate::time::{Delay, UnixMillis};
use leveret_plugin_api::{DestinationId, Property, Value};
use std::sync::Arc;

/// The bindings of one exchange, arranged for its type.
#[derive(Debug)]
pub(super) enum Matcher {
    Direct(Direct),
    Fanout(Fanout),
    Topic(Box<Topic>),
    Headers(Box<Headers>),
    Plugged(Box<Plugged>),
    Delayed(Box<Delayed>),
    /// Of a type that is not there: its bindings are kept for the day when it is.
    Missing,
}

/// What of a message counts for its route.
#[derive(Clone, Copy)]
pub(super) struct Subject<'k, 'p> {
    /// No two equal.
    pub(super) keys: &'k [&'k [u8]],
    /// As they were sent.
    pub(super) all_keys: &'p [&'p [u8]],
    pub(super) headers: TableRef<'p>,
    pub(super) properties: &'p dyn Fn(Property) -> Option<Value<'p>>,
    pub(super) now: UnixMillis,
}

/// What an exchange says of a message besides its destinations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Matched {
    Routed,
    /// It goes into the history too.
    Remembered,
    /// It waits in the exchange's own queue first.
    Delayed(Delay),
    /// The exchange's type is not there.
    Missing,
}

/// Buffers of the exchange types, reused from message to message.
#[derive(Debug, Default)]
pub(super) struct MatchScratch {
    topic: TopicScratch,
    fields: HeaderFields,
    /// Whether `fields` holds this message's headers.
    fields_read: bool,
    tried: Tried,
    chosen: Vec<DestinationId>,
    /// Where the sequence of random numbers stands.
    random: u64,
}

impl Matcher {
    pub(super) fn new(settings: &Settings) -> Self {
        Self::of(&settings.kind, settings)
    }

    fn of(kind: &Kind, settings: &Settings) -> Self {
        match kind {
            Kind::Direct => Self::Direct(Direct::default()),
            Kind::Fanout | Kind::Deduplicating => Self::Fanout(Fanout::default()),
            Kind::Topic => Self::Topic(Box::default()),
            Kind::Headers => Self::Headers(Box::default()),
            Kind::Plugged(kind) => {
                Self::Plugged(Box::new(Plugged::new(kind, settings.arguments.as_ref())))
            }
            Kind::Delayed(kind) => {
                let routes = Self::of(&kind.routes, settings);
                Self::Delayed(Box::new(Delayed { routes, queue: kind.queue }))
            }
            Kind::Missing(_) => Self::Missing,
        }
    }

    /// Whether what matches depends on the keys alone, while the bindings stay.
    pub(super) fn depends_on_keys_only(&self) -> bool {
        match self {
            Self::Direct(_) | Self::Fanout(_) | Self::Topic(_) => true,
            Self::Headers(_) | Self::Delayed(_) | Self::Missing => false,
            Self::Plugged(plugged) => plugged.depends_on_keys_only(),
        }
    }

    /// As `depends_on_keys_only`, for a message that waits nowhere.
    pub(super) fn sends_on_by_keys_only(&self) -> bool {
        match self {
            Self::Delayed(delayed) => delayed.routes.depends_on_keys_only(),
            _ => self.depends_on_keys_only(),
        }
    }

    /// What looking for a match counts, in queue operations. The core types find what matches
    /// without looking through what does not.
    pub(super) fn operations(&self) -> usize {
        match self {
            Self::Plugged(plugged) => plugged.operations(),
            Self::Delayed(delayed) => delayed.routes.operations(),
            _ => 0,
        }
    }

    pub(super) fn history(&self) -> Option<&Arc<History>> {
        match self {
            Self::Plugged(plugged) => plugged.history(),
            Self::Delayed(delayed) => delayed.routes.history(),
            _ => None,
        }
    }

    /// # Errors
    /// The binding's arguments are none that this type understands.
    pub(super) fn bind(&mut self, binding: &Binding) -> Result<(), Exception> {
        match self {
            Self::Direct(direct) => direct.bind(binding),
            Self::Fanout(fanout) => fanout.bind(binding),
            Self::Topic(topic) => topic.bind(binding),
            Self::Headers(headers) => headers.bind(binding)?,
            Self::Plugged(plugged) => plugged.bind(binding),
            Self::Delayed(delayed) => delayed.routes.bind(binding)?,
            Self::Missing => {}
        }
        Ok(())
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        match self {
            Self::Direct(direct) => direct.unbind(binding),
            Self::Fanout(fanout) => fanout.unbind(binding),
            Self::Topic(topic) => topic.unbind(binding),
            Self::Headers(headers) => headers.unbind(binding),
            Self::Plugged(plugged) => plugged.unbind(binding),
            Self::Delayed(delayed) => delayed.routes.unbind(binding),
            Self::Missing => {}
        }
    }

    /// Adds the destinations of a message.
    ///
    /// # Errors
    /// A plugin has failed.
    pub(super) fn matches(
        &self,
        subject: Subject<'_, '_>,
        scratch: &mut MatchScratch,
        found: &mut Found<'_>,
    ) -> Result<Matched, Exception> {
        match self {
            Self::Direct(direct) => subject.keys.iter().for_each(|k| direct.matches(k, found)),
            Self::Fanout(fanout) => fanout.matches(found),
            Self::Topic(topic) => topic.matches(subject.keys, &mut scratch.topic, found),
            Self::Headers(headers) => {
                let fields = scratch.fields_of(subject.headers);
                headers.matches(fields.0, fields.1, found);
            }
            Self::Plugged(plugged) => {
                let random = scratch.next_random();
                let remembered = plugged.matches(subject, random, &mut scratch.chosen, found)?;
                return Ok(if remembered { Matched::Remembered } else { Matched::Routed });
            }
            Self::Delayed(delayed) => {
                let Some(delay) = delayed::delay(subject.headers, subject.now) else {
                    return delayed.routes.matches(subject, scratch, found);
                };
                if matches!(delayed.routes, Self::Missing) {
                    return Ok(Matched::Missing);
                }
                found.queues.push(delayed.queue);
                return Ok(Matched::Delayed(delay));
            }
            Self::Missing => return Ok(Matched::Missing),
        }
        Ok(Matched::Routed)
    }
}

impl MatchScratch {
    /// Begins the sequence of random numbers elsewhere.
    pub(super) fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// splitmix64: evenly spread, and what is guessed of it is of no use to anybody.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    /// Forgets the message before.
    pub(super) fn start(&mut self) {
        self.fields_read = false;
    }

    /// The message's headers, read once however many headers exchanges it meets.
    fn fields_of(&mut self, headers: TableRef<'_>) -> (&HeaderFields, &mut Tried) {
        if !self.fields_read {
            self.fields.read(headers);
            self.fields_read = true;
        }
        (&self.fields, &mut self.tried)
    }
}
