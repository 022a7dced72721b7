//! The names that follow from a plan: its queues, exchange, bindings and routing keys, with their
//! arguments. Declares nothing.
//!
//! ```text
//! publish -> exchange -> consumers' queue                          usual
//! publish -> x-delayed-message exchange -> consumers' queue        --delay
//! publish -> exchange -> waiting queue (TTL) -> consumers' queue   --dead-letter-after
//! ```
use super::plan::{Deferral, ExchangeKind, Plan};
use super::table::Table;

impl Plan {
    /// The header that messages carry and headers bindings ask for.
    pub(crate) const HEADER_NAME: &str = "n";
    pub(crate) const DELAY_HEADER: &str = "x-delay";

    /// A queue that consumers consume from.
    pub(crate) fn queue(&self, index: usize) -> String {
        format!("{}-{index}", self.prefix)
    }

    /// The queue where messages for queue `index` wait to be dead-lettered.
    pub(crate) fn waiting_queue(&self, index: usize) -> Option<String> {
        let waits = matches!(self.deferral, Some(Deferral::DeadLetter(_)));
        waits.then(|| format!("{}-waiting-{index}", self.prefix))
    }

    /// The queue into which messages for queue `index` are published.
    pub(crate) fn entry_queue(&self, index: usize) -> String {
        self.waiting_queue(index).unwrap_or_else(|| self.queue(index))
    }

    pub(crate) fn expiring_queue(&self) -> String {
        format!("{}-expiring", self.prefix)
    }

    pub(crate) fn queue_table(&self) -> Table {
        self.queue_arguments.iter().fold(self.durability_table(), Table::argument)
    }

    pub(crate) fn waiting_queue_table(&self, index: usize) -> Table {
        self.durability_table()
            .int("x-message-ttl", self.deferred_by().as_millis() as i64)
            .string("x-dead-letter-exchange", "")
            .string("x-dead-letter-routing-key", &self.queue(index))
    }

    fn durability_table(&self) -> Table {
        let none = Table::default();
        match self.durability {
            None => none,
            Some(durability) => none.string("x-durability", durability.word()),
        }
    }

    /// Empty for the default exchange.
    pub(crate) fn exchange_name(&self) -> String {
        match self.exchange_type() {
            None => String::new(),
            Some(kind) => format!("{}-{kind}", self.prefix),
        }
    }

    /// The AMQP type to declare, unless it is the default exchange.
    pub(crate) fn exchange_type(&self) -> Option<&'static str> {
        match self.delay() {
            Some(_) => Some("x-delayed-message"),
            None => self.routing_type(),
        }
    }

    pub(crate) fn exchange_table(&self) -> Table {
        let none = Table::default();
        match self.delay() {
            Some(_) => none.string("x-delayed-type", self.routing_type().unwrap_or("direct")),
            None => none,
        }
    }

    fn routing_type(&self) -> Option<&'static str> {
        match self.exchange {
            ExchangeKind::Default => None,
            ExchangeKind::Direct => Some("direct"),
            ExchangeKind::Fanout => Some("fanout"),
            ExchangeKind::Topic => Some("topic"),
            ExchangeKind::Headers => Some("headers"),
        }
    }

    /// Key and arguments of a binding, which belongs to queue `index % queues`. What would go to
    /// the default exchange, were it not delayed, is bound by its queue's name.
    pub(crate) fn binding(&self, index: usize) -> (String, Table) {
        let none = Table::default();
        match self.exchange {
            ExchangeKind::Default => (self.entry_queue(index), none),
            ExchangeKind::Fanout => (String::new(), none),
            ExchangeKind::Direct => (format!("key.{index}"), none),
            // Both wildcards, so that a matcher cannot get by with one of them.
            ExchangeKind::Topic if index.is_multiple_of(2) => {
                (format!("area{index}.*.event"), none)
            }
            ExchangeKind::Topic => (format!("area{index}.#"), none),
            ExchangeKind::Headers => {
                let arguments = none.string("x-match", "all").int(Self::HEADER_NAME, index as i64);
                (String::new(), arguments)
            }
        }
    }

    pub(crate) fn routing_key(&self, index: usize) -> String {
        match self.exchange {
            ExchangeKind::Default => self.entry_queue(index),
            ExchangeKind::Topic => format!("area{}.item{index}.event", index % self.bindings),
            _ => format!("key.{index}"),
        }
    }

    /// What the header says by which a headers exchange routes.
    pub(crate) fn header(&self, index: usize) -> Option<u32> {
        (self.exchange == ExchangeKind::Headers).then_some((index % self.bindings) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::QueueDurability;
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan() -> Plan {
        let plan = Plan::new("amqp://h".parse().unwrap());
        Plan { prefix: "p".to_owned(), ..plan }
    }

    #[test]
    fn each_topic_key_names_one_binding() {
        let topic = ExchangeKind::Topic;
        let plan = Plan { exchange: topic, bindings: 3, keys: 10, ..plan() };
        assert_eq!(plan.routing_key(7), "area1.item7.event");
        assert_eq!(plan.binding(1).0, "area1.#");
        assert_eq!(plan.binding(2).0, "area2.*.event");
        plan.check().unwrap();
    }

    #[test]
    fn without_a_deferral_messages_go_straight_to_their_queue() {
        let plan = plan();
        assert_eq!((plan.exchange_name().as_str(), plan.exchange_type()), ("", None));
        assert_eq!((plan.routing_key(3), plan.waiting_queue(3)), ("p-3".to_owned(), None));
    }

    #[test]
    fn a_delayed_exchange_routes_as_the_one_it_stands_for() {
        let deferral = Some(Deferral::Delay(SECOND));
        for (exchange, kind, key) in [
            (ExchangeKind::Default, "direct", "p-0"),
            (ExchangeKind::Topic, "topic", "area0.*.event"),
        ] {
            let plan = Plan { deferral, exchange, ..plan() };
            assert_eq!(plan.exchange_name(), "p-x-delayed-message");
            let table = Table::default().string("x-delayed-type", kind);
            assert_eq!(plan.exchange_table().bytes(), table.bytes());
            assert_eq!(plan.binding(0).0, key);
            plan.check().unwrap();
        }
        let plan = Plan { deferral, ..plan() };
        assert_eq!(plan.routing_key(0), plan.binding(0).0);
    }

    #[test]
    fn messages_that_are_dead_lettered_go_through_a_queue_of_their_own() {
        let durability = Some(QueueDurability::Os);
        let queue_arguments = vec!["x-max-length=5".parse().unwrap()];
        let deferral = Some(Deferral::DeadLetter(SECOND));
        let plan = Plan { deferral, durability, queue_arguments, ..plan() };
        assert_eq!((plan.exchange_type(), plan.routing_key(1)), (None, "p-waiting-1".to_owned()));
        let durability = || Table::default().string("x-durability", "os");
        let waiting = durability()
            .int("x-message-ttl", 1000)
            .string("x-dead-letter-exchange", "")
            .string("x-dead-letter-routing-key", "p-1");
        assert_eq!(plan.waiting_queue_table(1).bytes(), waiting.bytes());
        let consumed = durability().int("x-max-length", 5);
        assert_eq!(plan.queue_table().bytes(), consumed.bytes());
    }
}
