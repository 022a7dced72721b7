//! An exchange's type at work: which of its bindings a message matches.

use super::Kind;
use super::binding::Binding;
use super::direct::Direct;
use super::fanout::Fanout;
use super::header_fields::HeaderFields;
use super::headers::{Headers, Tried};
use super::targets::Found;
use super::topic::{Topic, TopicScratch};
use crate::exception::Exception;
use crate::table::TableRef;

/// The bindings of one exchange, arranged for its type.
#[derive(Debug)]
pub(super) enum Matcher {
    Direct(Direct),
    Fanout(Fanout),
    Topic(Box<Topic>),
    Headers(Box<Headers>),
}

/// What of a message counts for its route.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// No two equal.
    pub(super) keys: &'a [&'a [u8]],
    pub(super) headers: TableRef<'a>,
}

/// Buffers of the exchange types, reused from message to message.
#[derive(Debug, Default)]
pub(super) struct MatchScratch {
    topic: TopicScratch,
    fields: HeaderFields,
    /// Whether `fields` holds this message's headers.
    fields_read: bool,
    tried: Tried,
}

impl Matcher {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Direct => Self::Direct(Direct::default()),
            Kind::Fanout => Self::Fanout(Fanout::default()),
            Kind::Topic => Self::Topic(Box::default()),
            Kind::Headers => Self::Headers(Box::default()),
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
        }
        Ok(())
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        match self {
            Self::Direct(direct) => direct.unbind(binding),
            Self::Fanout(fanout) => fanout.unbind(binding),
            Self::Topic(topic) => topic.unbind(binding),
            Self::Headers(headers) => headers.unbind(binding),
        }
    }

    pub(super) fn matches(
        &self,
        subject: Subject<'_>,
        scratch: &mut MatchScratch,
        found: &mut Found<'_>,
    ) {
        match self {
            Self::Direct(direct) => subject.keys.iter().for_each(|k| direct.matches(k, found)),
            Self::Fanout(fanout) => fanout.matches(found),
            Self::Topic(topic) => topic.matches(subject.keys, &mut scratch.topic, found),
            Self::Headers(headers) => {
                let fields = scratch.fields_of(subject.headers);
                headers.matches(fields.0, fields.1, found);
            }
        }
    }
}

impl MatchScratch {
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
