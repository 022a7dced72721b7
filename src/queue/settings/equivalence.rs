//! What a redeclare must repeat: owner, flags, and the arguments that the queue's type knows.

use super::arguments::known;
use super::{QUEUE_TYPE, QueueSettings};
use crate::deduplication;
use crate::exception::{Exception, Resource};
use crate::table::{TableRef, Value};

impl QueueSettings {
    /// Checks a redeclare, in RabbitMQ's order: owner, durable, auto_delete, arguments.
    ///
    /// # Errors
    /// 405 for another owner, 406 for the first difference.
    pub fn check_equivalent(&self, received: &Self, queue: Resource<'_>) -> Result<(), Exception> {
        if self.exclusive_owner != received.exclusive_owner {
            return Err(Exception::locked(queue));
        }
        let flags = [
            ("durable", received.durable, self.durable),
            ("auto_delete", received.auto_delete, self.auto_delete),
        ];
        for (arg, received, current) in flags {
            if received != current {
                let (received, current) = (received.to_string(), current.to_string());
                return Err(Exception::inequivalent(arg, queue, &received, &current));
            }
        }
        let (received, current) = (received.arguments.as_ref(), self.arguments.as_ref());
        known(self.queue_type()).try_for_each(|arg| check_argument(arg, received, current, queue))
    }
}

/// Checks that an exchange declared again is to remember its publishes as it does.
///
/// # Errors
/// 406 for the first difference.
pub fn check_same_deduplication(
    received: TableRef<'_>,
    current: TableRef<'_>,
    exchange: Resource<'_>,
) -> Result<(), Exception> {
    let mut arguments = deduplication::ARGUMENTS.into_iter();
    arguments.try_for_each(|arg| check_argument(arg, received, current, exchange))
}

fn check_argument(
    arg: &str,
    received: TableRef<'_>,
    current: TableRef<'_>,
    queue: Resource<'_>,
) -> Result<(), Exception> {
    let [received, current] = [received, current].map(|side| effective(arg, side));
    if Value::are_equivalent(received, current) {
        return Ok(());
    }
    let (received, current) =
        (received.map(|v| v.argument_text()), current.map(|v| v.argument_text()));
    Err(Exception::inequivalent_argument(arg, queue, received.as_ref(), current.as_ref()))
}

/// RabbitMQ 4: a queue without a type has the default one, and so says every text.
fn effective<'a>(arg: &str, arguments: TableRef<'a>) -> Option<Value<'a>> {
    let value = arguments.get(arg.as_bytes());
    let is_default = || value.is_none_or(|value| matches!(value.as_str(), Some("" | "undefined")));
    if arg == QUEUE_TYPE && is_default() { Some(Value::LongStr(b"classic")) } else { value }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{QUEUE, string, with};
    use super::*;
    use crate::id::ConnectionId;
    use crate::table::Value;

    fn refused(declared: &QueueSettings, received: &QueueSettings) -> String {
        let refused = declared.check_equivalent(received, QUEUE).unwrap_err();
        refused.explanation().to_owned()
    }

    fn same(declared: &QueueSettings, received: &QueueSettings) {
        assert_eq!(declared.check_equivalent(received, QUEUE), Ok(()));
    }

    #[test]
    fn another_width_of_the_same_number_is_the_same_argument() {
        let declared = with(&[("x-message-ttl", Value::I32(1000))]);
        same(&declared, &with(&[("x-message-ttl", Value::I64(1000))]));
        assert_eq!(
            refused(&declared, &with(&[("x-message-ttl", Value::I32(2000))])),
            "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '2000' but \
             current is '1000'"
        );
    }

    #[test]
    fn unknown_arguments_and_those_of_other_types_are_not_compared() {
        let declared = with(&[("x-mine", Value::I32(1))]);
        same(&declared, &with(&[("x-yours", Value::Void), ("x-max-age", string("1h"))]));
        let quorum = with(&[("x-queue-type", string("quorum"))]);
        let priority = ("x-max-priority", Value::I32(5));
        same(&quorum, &with(&[("x-queue-type", string("quorum")), priority]));
    }

    #[test]
    fn a_queue_without_a_type_is_a_classic_one() {
        let (plain, quorum) = (with(&[]), with(&[("x-queue-type", string("quorum"))]));
        for default in ["classic", "", "undefined"] {
            let named = with(&[("x-queue-type", string(default))]);
            same(&plain, &named);
            same(&named, &plain);
        }
        let place = "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/'";
        assert_eq!(
            refused(&quorum, &plain),
            format!("{place}: received 'classic' but current is 'quorum'")
        );
        assert_eq!(
            refused(&plain, &quorum),
            format!("{place}: received 'quorum' but current is 'classic'")
        );
    }

    #[test]
    fn durability_is_compared() {
        let [os, fsync] = ["os", "fsync"].map(|word| with(&[("x-durability", string(word))]));
        assert_eq!(
            refused(&os, &fsync),
            "inequivalent arg 'x-durability' for queue 'q' in vhost '/': received 'fsync' but \
             current is 'os'"
        );
    }

    #[test]
    fn exclusivity_is_compared_before_everything_else() {
        let declared = with(&[("x-max-length", Value::I32(1))]);
        let mine = QueueSettings { exclusive_owner: Some(ConnectionId(7)), ..Default::default() };
        let refused = declared.check_equivalent(&mine, QUEUE).unwrap_err();
        assert_eq!(refused.code.code(), 405);
    }
}
