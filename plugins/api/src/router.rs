//! One exchange at work: it is told of its bindings and chooses where each message goes.

use crate::message::Message;
use crate::value::Fields;

/// The bindings of one exchange, arranged for its type.
///
/// A router is a pure function of what it was told: no clock, no random source (see
/// [`Message::random`]), no I/O. `route` runs in many threads at once, while nobody binds.
///
/// A router that panics is not asked again: its exchange answers publishers with 406, and the log
/// names its type.
pub trait Router: Send + Sync {
    /// A binding came. No two are equal in destination, key and arguments.
    fn bound(&mut self, binding: &Binding<'_>);

    /// A binding went, equal to one that came in all its parts.
    fn unbound(&mut self, binding: &Binding<'_>);

    /// Chooses where `message` goes. No choice is no error: the message goes to the alternate
    /// exchange, or back to its publisher, or nowhere.
    fn route(&self, message: &Message<'_>, choice: &mut Choice<'_>);

    /// Whether equal keys have equal choices while the bindings stay. Then the broker remembers
    /// choices, and asks again after a binding has changed. What looks at anything but
    /// [`Message::keys`], or calls [`Choice::remember`], must leave this as it is.
    fn depends_on_keys_only(&self) -> bool {
        false
    }

    /// Of how many messages the broker keeps copies for what is bound later. It keeps the last
    /// ones for which [`Choice::remember`] was called, in memory and within limits of its own, and
    /// publishes them in their order to a destination whose binding has just come.
    fn history_len(&self) -> usize {
        0
    }
}

/// A destination of one exchange: a small number, given while a binding leads there and reused
/// afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(pub u32);

/// A binding of the exchange.
pub struct Binding<'a> {
    pub destination: DestinationId,
    /// Bytes that name the destination: they differ between destinations and are the same after a
    /// restart.
    pub identity: &'a [u8],
    /// The binding key: any bytes.
    pub key: &'a [u8],
    pub arguments: &'a dyn Fields,
}

/// What becomes of one message.
pub struct Choice<'a> {
    chosen: &'a mut Vec<DestinationId>,
    remembered: bool,
}

impl<'a> Choice<'a> {
    /// An empty choice; destinations are appended to `chosen`. This is the broker's part, and a
    /// test's.
    #[must_use]
    pub fn new(chosen: &'a mut Vec<DestinationId>) -> Self {
        Self { chosen, remembered: false }
    }

    /// Sends the message there. A destination chosen twice gets one copy.
    pub fn add(&mut self, destination: DestinationId) {
        self.chosen.push(destination);
    }

    /// Keeps a copy of the message for what is bound later, see [`Router::history_len`].
    pub fn remember(&mut self) {
        self.remembered = true;
    }

    #[must_use]
    pub fn is_remembered(&self) -> bool {
        self.remembered
    }
}
