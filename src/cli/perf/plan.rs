//! One load run, as numbers: who publishes what where, who consumes, for how long. Checked here,
//! run elsewhere; the names of its queues, bindings and routing keys follow from it in `names`.
use super::error::{PerfError, Result};
use super::properties::HeaderCycle;
use super::table::Argument;
use super::url::AmqpUrl;
use clap::ValueEnum;
use std::time::Duration;

/// Bytes of a publisher's clock reading and sequence number at the start of a body.
pub(crate) const STAMP_BYTES: usize = 16;
const THREADS_MAX: usize = 20_000;
const MESSAGE_BYTES_MAX: usize = 512 << 20;
const NAMES_MAX: usize = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExchangeKind {
    /// The nameless exchange: routing key = queue name
    Default,
    /// Each binding has a key of its own
    Direct,
    /// Each message goes to every queue
    Fanout,
    /// Wildcard bindings, of which each message matches one
    Topic,
    /// Bindings on a header, of which each message matches one
    Headers,
}

/// What queues are declared to ask for with `x-durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueueDurability {
    /// Confirms survive a power loss
    Fsync,
    /// Confirms survive the broker's end only
    Os,
}

impl QueueDurability {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        }
    }
}

/// How messages get to the consumers' queues later than they are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deferral {
    /// An exchange of type `x-delayed-message` keeps them so long.
    Delay(Duration),
    /// Queues without consumers keep them so long, and dead-letter them to those with.
    DeadLetter(Duration),
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) url: AmqpUrl,
    pub(crate) publishers: usize,
    pub(crate) consumers: usize,
    pub(crate) queues: usize,
    /// Bytes of a message's body.
    pub(crate) size: usize,
    /// Messages a second by all publishers together; 0 is as fast as possible.
    pub(crate) rate: u64,
    /// Unconfirmed publishes a publisher may have; 0 is without confirms.
    pub(crate) confirm_window: usize,
    /// Deliveries per ack; 0 is a no-ack consumer.
    pub(crate) ack_every: u64,
    pub(crate) prefetch: u16,
    pub(crate) persistent: bool,
    pub(crate) mandatory: bool,
    pub(crate) durable: bool,
    /// None leaves it to the broker.
    pub(crate) durability: Option<QueueDurability>,
    /// Arguments of the consumers' queues.
    pub(crate) queue_arguments: Vec<Argument>,
    /// Headers that go through their values.
    pub(crate) headers: Vec<HeaderCycle>,
    /// Message priorities are 0 to this less one, in turn; 0 is without priorities.
    pub(crate) priorities: u8,
    pub(crate) deferral: Option<Deferral>,
    /// Messages of another queue that expire together when the measured time begins.
    pub(crate) expiring: u64,
    pub(crate) exchange: ExchangeKind,
    /// Bindings of all queues together.
    pub(crate) bindings: usize,
    /// Distinct routing keys the publishers rotate over.
    pub(crate) keys: usize,
    /// Publish or consume this many and stop, instead of by time.
    pub(crate) messages: Option<u64>,
    /// How far the publishers may lead the consumers, in time; zero is without limit.
    pub(crate) lead: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) prefix: String,
    pub(crate) keep_queues: bool,
    /// The broker's process, to account CPU and memory of.
    pub(crate) pid: Option<u32>,
}

impl Plan {
    /// A plan for the smallest load: one publisher, queue and consumer, 16 bytes, nothing durable.
    pub(crate) fn new(url: AmqpUrl) -> Self {
        Self {
            url,
            publishers: 1,
            consumers: 1,
            queues: 1,
            size: 16,
            rate: 0,
            confirm_window: 0,
            ack_every: 0,
            prefetch: 0,
            persistent: false,
            mandatory: false,
            durable: false,
            durability: None,
            queue_arguments: Vec::new(),
            headers: Vec::new(),
            priorities: 0,
            deferral: None,
            expiring: 0,
            exchange: ExchangeKind::Default,
            bindings: 1,
            keys: 1,
            messages: None,
            lead: Duration::from_millis(250),
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            prefix: "leveret-perf".to_owned(),
            keep_queues: false,
            pid: None,
        }
    }

    /// Refuses what cannot run or would measure something else than it says.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |text: &str| Err(PerfError::new(text));
        if self.publishers + self.consumers == 0 {
            return refuse("nothing to do: give --publishers or --consumers at least one");
        }
        if self.publishers.max(self.consumers) > THREADS_MAX {
            return refuse("too many connections: at most 20000 publishers and 20000 consumers");
        }
        if self.queues == 0 || self.bindings == 0 || self.keys == 0 {
            return refuse("--queues, --bindings and --keys must be at least 1");
        }
        if self.size > MESSAGE_BYTES_MAX || self.bindings.max(self.keys) > NAMES_MAX {
            return refuse("at most 512 MiB a message, 10 M bindings and 10 M keys");
        }
        if self.ack_every > u64::from(self.prefetch) && self.prefetch != 0 {
            return refuse(
                "--ack-every above --prefetch would stall: the broker stops before the first ack",
            );
        }
        if self.prefix.is_empty() || self.prefix.len() > 200 {
            return refuse("--queue-prefix must have 1 to 200 bytes");
        }
        if self.duration.is_zero() && self.messages.is_none() {
            return refuse("--duration 0 measures nothing; give seconds or --messages");
        }
        if self.publishers == 0 && self.deferral.is_some() {
            return refuse(
                "--delay and --dead-letter-after are for messages that this run publishes; \
                 give --publishers at least one",
            );
        }
        self.check_headers()?;
        let needs_exchange = self.bindings != self.queues || self.keys != self.queues;
        match self.exchange {
            ExchangeKind::Default if needs_exchange => {
                refuse("--bindings and --keys need --exchange direct, fanout, topic or headers")
            }
            ExchangeKind::Direct if self.keys > self.bindings => refuse(
                "a direct exchange would drop keys without a binding; raise --bindings to --keys",
            ),
            ExchangeKind::Fanout if self.bindings != self.queues => {
                refuse("a fanout exchange has one binding a queue; leave --bindings out")
            }
            _ => Ok(()),
        }
    }

    fn check_headers(&self) -> Result<()> {
        let refuse = |name: &str, reason: &str| {
            Err(PerfError::new(format!("--header {name}: {reason}; pick another name")))
        };
        for (index, cycle) in self.headers.iter().enumerate() {
            let name = cycle.name.as_str();
            if self.headers[..index].iter().any(|before| before.name == name) {
                return refuse(name, "given twice");
            }
            if self.exchange == ExchangeKind::Headers && name == Self::HEADER_NAME {
                return refuse(name, "the bindings of --exchange headers ask for it");
            }
            if self.delay().is_some() && name == Self::DELAY_HEADER {
                return refuse(name, "--delay sets it");
            }
        }
        Ok(())
    }

    /// How many queues receive a copy of each message.
    pub(crate) fn copies(&self) -> u64 {
        if self.exchange == ExchangeKind::Fanout { self.queues as u64 } else { 1 }
    }

    /// How long a message is kept before a consumer may have it.
    pub(crate) fn deferred_by(&self) -> Duration {
        match self.deferral {
            None => Duration::ZERO,
            Some(Deferral::Delay(time) | Deferral::DeadLetter(time)) => time,
        }
    }

    /// What messages ask of a delayed exchange.
    pub(crate) fn delay(&self) -> Option<Duration> {
        match self.deferral {
            Some(Deferral::Delay(delay)) => Some(delay),
            _ => None,
        }
    }

    /// Whether a consumer of one queue gets each publisher's messages in their order. Priorities
    /// and keys that order by themselves are asked for to change it.
    pub(crate) fn keeps_order(&self) -> bool {
        let orders = |argument: &Argument| {
            matches!(argument.name.as_str(), "x-max-priority" | "x-group-key" | "x-fair-key")
        };
        !self.queue_arguments.iter().any(orders)
    }

    /// Whether deliveries can tell when they were published: by this very run, with room to say so.
    pub(crate) fn measures_latency(&self) -> bool {
        self.publishers > 0 && self.consumers > 0 && self.size >= STAMP_BYTES
    }

    /// How often a thread that waits looks whether the run has ended: less often the more there
    /// are, or thousands of idle connections would load the machine by looking.
    pub(crate) fn wake(&self) -> Duration {
        let connections = (self.publishers + self.consumers) as u64;
        Duration::from_millis(connections.max(50))
    }

    /// Whether publishers must not get too far ahead. A rate asks for its messages in any case, a
    /// counted run for all of them, and of deferred ones most are on their way.
    pub(crate) fn limits_lead(&self) -> bool {
        let both = self.publishers > 0 && self.consumers > 0;
        both && !self.lead.is_zero()
            && self.rate == 0
            && self.messages.is_none()
            && self.deferral.is_none()
    }

    /// Which of `total` queues or keys fall to one of `parts` connections: a fair share, or, if
    /// there are more connections than things, one thing each, several connections on the same.
    pub(crate) fn share(
        total: usize,
        parts: usize,
        index: usize,
    ) -> impl Iterator<Item = usize> + Clone {
        (index % total..total).step_by(parts.max(1))
    }

    /// This publisher's part of `messages`.
    pub(crate) fn quota(&self, index: usize) -> Option<u64> {
        let (all, parts) = (self.messages?, self.publishers as u64);
        Some(all / parts + u64::from((index as u64) < all % parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new("amqp://h".parse().unwrap())
    }

    fn share(total: usize, parts: usize, index: usize) -> Vec<usize> {
        Plan::share(total, parts, index).collect()
    }

    #[test]
    fn queues_are_shared_out_and_none_is_left() {
        assert_eq!(share(5, 2, 0), [0, 2, 4]);
        assert_eq!(share(5, 2, 1), [1, 3]);
        assert_eq!([share(2, 5, 0), share(2, 5, 3), share(2, 5, 4)], [[0], [1], [0]]);
        let more = share(3, 7, 6);
        assert_eq!(more, [0]);
    }

    #[test]
    fn quotas_add_up() {
        let plan = Plan { publishers: 3, messages: Some(11), ..plan() };
        assert_eq!([0, 1, 2].map(|index| plan.quota(index)), [Some(4), Some(4), Some(3)]);
    }

    #[test]
    fn plans_that_would_stall_or_lie_are_refused() {
        let direct = ExchangeKind::Direct;
        let fanout = ExchangeKind::Fanout;
        let delay = Deferral::Delay(Duration::from_secs(1));
        let cycles = |names: &[&str]| -> Vec<HeaderCycle> {
            names.iter().map(|name| format!("{name}=5").parse().unwrap()).collect()
        };
        for bad in [
            Plan { publishers: 0, consumers: 0, ..plan() },
            Plan { ack_every: 100, prefetch: 50, ..plan() },
            Plan { keys: 2, ..plan() },
            Plan { exchange: direct, keys: 2, ..plan() },
            Plan { exchange: fanout, bindings: 2, ..plan() },
            Plan { duration: Duration::ZERO, ..plan() },
            Plan { queues: 0, ..plan() },
            Plan { publishers: 0, deferral: Some(delay), ..plan() },
            Plan { headers: cycles(&["a", "b", "a"]), ..plan() },
            Plan { headers: cycles(&["n"]), exchange: ExchangeKind::Headers, ..plan() },
            Plan { headers: cycles(&["x-delay"]), deferral: Some(delay), ..plan() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        plan().check().unwrap();
    }
}
