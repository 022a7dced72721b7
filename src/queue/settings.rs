//! What a queue was declared as.

use crate::config::Durability;
use crate::exception::{Exception, Resource};
use crate::id::ConnectionId;
use crate::table::{Table, TableRef, Value};

/// What a confirm of this queue means; ours alone.
const DURABILITY: &str = "x-durability";

/// Arguments that a redeclare must repeat (RabbitMQ: those that a classic queue knows). All others
/// are kept and never compared.
const COMPARED: [&str; 16] = [
    "x-queue-type",
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-consumer-timeout",
    "x-queue-master-locator",
    "x-queue-leader-locator",
    DURABILITY,
];

/// Arguments that are accepted and kept, and change nothing in this version. The type is one of
/// them unless it is the classic one.
const WITHOUT_EFFECT: [&str; 11] = [
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-priority",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-queue-type",
];

/// A queue's flags and arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// False for every exclusive queue, whatever was asked (RabbitMQ 4).
    pub durable: bool,
    pub auto_delete: bool,
    /// The connection that alone may use it, and whose end is its end.
    pub exclusive_owner: Option<ConnectionId>,
    pub arguments: Table,
}

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
        COMPARED.iter().try_for_each(|arg| check_argument(arg, received, current, queue))
    }

    /// What `x-durability` asks for. A value that no declare lets through asks for nothing: a
    /// version before it may have stored one.
    #[must_use]
    pub fn durability(&self) -> Option<Durability> {
        let value = self.arguments.as_ref().get(DURABILITY.as_bytes())?;
        value.as_str()?.parse().ok()
    }

    /// As `durability`, of a new queue.
    ///
    /// # Errors
    /// 406 for another type or value.
    pub fn check_durability(&self, queue: Resource<'_>) -> Result<Option<Durability>, Exception> {
        let reason = match self.arguments.as_ref().get(DURABILITY.as_bytes()) {
            None => return Ok(None),
            Some(Value::LongStr(_)) if self.durability().is_some() => return Ok(self.durability()),
            Some(Value::LongStr(other)) => {
                format!("\"unsupported durability '{}'\"", String::from_utf8_lossy(other))
            }
            Some(other) => format!("{{unacceptable_type,{}}}", other.kind()),
        };
        Err(Exception::invalid_argument(DURABILITY, queue, &reason))
    }

    /// The names of arguments that ask for what this version does not do, each once.
    pub fn arguments_without_effect(&self) -> impl Iterator<Item = &'static str> {
        let arguments = self.arguments.as_ref();
        WITHOUT_EFFECT.into_iter().filter(move |name| {
            let value = arguments.get(name.as_bytes());
            value.is_some_and(|v| *name != "x-queue-type" || v.as_str() != Some("classic"))
        })
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

fn check_argument(
    arg: &str,
    received: TableRef<'_>,
    current: TableRef<'_>,
    queue: Resource<'_>,
) -> Result<(), Exception> {
    let (received, current) = (received.get(arg.as_bytes()), current.get(arg.as_bytes()));
    let same = match (received, current) {
        (Some(received), Some(current)) => received.equivalent(current),
        (None, None) => true,
        // RabbitMQ: no type at all is the classic type.
        (Some(value), None) | (None, Some(value)) => {
            arg == "x-queue-type" && value.as_str() == Some("classic")
        }
    };
    if same {
        return Ok(());
    }
    let (received, current) =
        (received.map(|v| v.argument_text()), current.map(|v| v.argument_text()));
    Err(Exception::inequivalent_argument(arg, queue, received.as_ref(), current.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{TableBuilder, Value};

    const QUEUE: Resource<'_> = Resource::Queue { vhost: "/", name: "q" };

    fn with(key: &[u8], value: Value<'_>) -> QueueSettings {
        let arguments = TableBuilder::new().put(key, value).finish();
        QueueSettings { durable: true, arguments, ..QueueSettings::default() }
    }

    #[test]
    fn another_width_of_the_same_number_is_the_same_argument() {
        let declared = with(b"x-message-ttl", Value::I32(1000));
        assert!(
            declared.check_equivalent(&with(b"x-message-ttl", Value::I64(1000)), QUEUE).is_ok()
        );
        let refused = declared.check_equivalent(&with(b"x-message-ttl", Value::I32(2000)), QUEUE);
        assert_eq!(
            refused.unwrap_err().explanation(),
            "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '2000' but \
             current is '1000'"
        );
    }

    #[test]
    fn unknown_arguments_and_the_classic_type_are_not_compared() {
        let declared = with(b"x-mine", Value::I32(1));
        assert!(declared.check_equivalent(&with(b"x-yours", Value::Void), QUEUE).is_ok());
        let classic = with(b"x-queue-type", Value::LongStr(b"classic"));
        assert!(declared.check_equivalent(&classic, QUEUE).is_ok());
    }

    #[test]
    fn every_argument_without_effect_is_named_and_no_other() {
        for name in WITHOUT_EFFECT {
            let settings = with(name.as_bytes(), Value::I32(5));
            assert_eq!(settings.arguments_without_effect().collect::<Vec<_>>(), [name]);
        }
        for (name, value) in [("x-mine", "5"), ("x-queue-type", "classic")] {
            let settings = with(name.as_bytes(), Value::LongStr(value.as_bytes()));
            assert_eq!(settings.arguments_without_effect().count(), 0);
        }
    }

    #[test]
    fn durability_is_one_of_two_words_and_compared() {
        let [os, fsync, other] = ["os", "fsync", "Os"]
            .map(|word| with(DURABILITY.as_bytes(), Value::LongStr(word.as_bytes())));
        assert_eq!(os.check_durability(QUEUE).unwrap(), Some(Durability::Os));
        assert_eq!(fsync.check_durability(QUEUE).unwrap(), Some(Durability::Fsync));
        assert_eq!(QueueSettings::default().check_durability(QUEUE).unwrap(), None);
        assert_eq!(other.durability(), None);
        let refused = |settings: &QueueSettings| {
            settings.check_durability(QUEUE).unwrap_err().explanation().to_owned()
        };
        let place = "invalid arg 'x-durability' for queue 'q' in vhost '/'";
        assert_eq!(refused(&other), format!("{place}: \"unsupported durability 'Os'\""));
        let number = with(DURABILITY.as_bytes(), Value::I32(1));
        assert_eq!(refused(&number), format!("{place}: {{unacceptable_type,signedint}}"));
        let refused = os.check_equivalent(&fsync, QUEUE).unwrap_err();
        assert_eq!(
            refused.explanation(),
            "inequivalent arg 'x-durability' for queue 'q' in vhost '/': received 'fsync' but \
             current is 'os'"
        );
    }

    #[test]
    fn exclusivity_is_compared_before_everything_else() {
        let declared = with(b"x", Value::Void);
        let mine = QueueSettings { exclusive_owner: Some(ConnectionId(7)), ..Default::default() };
        let refused = declared.check_equivalent(&mine, QUEUE).unwrap_err();
        assert_eq!(refused.code.code(), 405);
    }
}
