//! What a queue was declared as, and what it does: its arguments and the policies that apply are
//! one `Behaviour`, made anew when a policy changes. Which policy applies is the broker's business.

mod arguments;
mod behaviour;
mod equivalence;
mod policy_values;

pub use arguments::check_deduplication;
pub use behaviour::{Behaviour, DeadLetter, DeadLetterStrategy, Overflow, QueueType};
pub use equivalence::check_same_deduplication;
pub use policy_values::PolicyValues;

use crate::config::Durability;
use crate::exception::{Exception, Resource};
use crate::id::ConnectionId;
use crate::table::Table;

/// What a confirm of this queue means; ours alone.
const DURABILITY: &str = "x-durability";
const QUEUE_TYPE: &str = "x-queue-type";

/// A queue's flags and arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// False for every exclusive classic queue, whatever was asked (RabbitMQ 4).
    pub durable: bool,
    pub auto_delete: bool,
    /// The connection that alone may use it, and whose end is its end.
    pub exclusive_owner: Option<ConnectionId>,
    pub arguments: Table,
}

impl QueueSettings {
    /// The type that the arguments ask for; one that no declare lets through counts as classic.
    #[must_use]
    pub fn queue_type(&self) -> QueueType {
        arguments::queue_type(self.arguments.as_ref()).unwrap_or_default()
    }

    /// What `x-durability` asks for. A value that no declare lets through asks for nothing: a
    /// version before it may have stored one.
    #[must_use]
    pub fn durability(&self) -> Option<Durability> {
        let value = self.arguments.as_ref().get(DURABILITY.as_bytes())?;
        value.as_str()?.parse().ok()
    }

    /// Whether `connection` may use the queue at all.
    ///
    /// # Errors
    /// 405 for another connection's exclusive queue.
    pub fn check_owner(
        &self,
        connection: ConnectionId,
        queue: Resource<'_>,
    ) -> Result<(), Exception> {
        match self.exclusive_owner {
            Some(owner) if owner != connection => Err(Exception::locked(queue)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod samples {
    use super::QueueSettings;
    use crate::exception::Resource;
    use crate::table::{TableBuilder, Value};

    pub(super) const QUEUE: Resource<'_> = Resource::Queue { vhost: "/", name: "q" };

    /// A durable queue with these arguments.
    pub(super) fn with(arguments: &[(&str, Value<'_>)]) -> QueueSettings {
        let put = |table: TableBuilder, (key, value): &(&str, Value<'_>)| {
            table.put(key.as_bytes(), *value)
        };
        let arguments = arguments.iter().fold(TableBuilder::new(), put).finish();
        QueueSettings { durable: true, arguments, ..QueueSettings::default() }
    }

    pub(super) fn string(text: &str) -> Value<'_> {
        Value::LongStr(text.as_bytes())
    }
}
