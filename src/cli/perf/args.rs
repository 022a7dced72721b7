//! The command line of `perf throughput`, and the plan it asks for.
use super::error::Result;
use super::plan::{Deferral, ExchangeKind, Plan, QueueDurability};
use super::properties::HeaderCycle;
use super::table::Argument;
use super::url::AmqpUrl;
use clap::Args;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  As fast as possible, 16 bytes, one publisher and one consumer:
    leveret perf throughput
  Persistent messages, 2000 unconfirmed at most, an ack every 100:
    leveret perf throughput --size 1024 --durable --persistent --confirm 2000 --ack-every 100
  Confirm latency, one by one:
    leveret perf throughput --consumers 0 --size 128 --durable --persistent --confirm 1
  Delivery latency at 10000 messages a second, with the broker's CPU:
    leveret perf throughput --size 128 --rate 10000 --pid \"$(pidof leveret)\"
  Fan-out to 10 queues:
    leveret perf throughput --exchange fanout --queues 10 --consumers 10
  Topic exchange with 5000 bindings and 100000 keys:
    leveret perf throughput --exchange topic --bindings 5000 --keys 100000
  Fill a queue, then drain it:
    leveret perf throughput --consumers 0 --messages 2000000 --keep-queues
    leveret perf throughput --publishers 0 --messages 2000000 --ack-every 100
  A queue with groups: 100 keys in turn, 4 consumers:
    leveret perf throughput --queue-argument x-group-key=tenant --header tenant=100 \\
      --consumers 4 --ack-every 100
  How late delayed messages are, by a delayed exchange and by a queue with TTL and dead letters:
    leveret perf throughput --rate 10000 --delay 1000
    leveret perf throughput --rate 10000 --dead-letter-after 1000
  Delivery latency while a million messages expire beside it:
    leveret perf throughput --rate 10000 --expiring 1000000";

/// How long messages may be deferred: the run waits for them.
const DEFERRAL_MS_MAX: u64 = 3_600_000;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ThroughputArgs {
    /// The broker, any that speaks AMQP 0-9-1
    #[arg(long, value_name = "URL", default_value = "amqp://guest:guest@127.0.0.1:5672/%2F")]
    url: AmqpUrl,

    /// Publishing connections; 0 only consumes
    #[arg(long, alias = "producers", value_name = "N", default_value_t = 1)]
    publishers: usize,

    /// Consuming connections; 0 only publishes
    #[arg(long, value_name = "N", default_value_t = 1)]
    consumers: usize,

    /// Queues, shared out among publishers and consumers
    #[arg(long, value_name = "N", default_value_t = 1)]
    queues: usize,

    /// Body size in bytes; latency is measured from 16 on
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    size: usize,

    /// Messages a second by all publishers together; 0 is as fast as possible
    #[arg(long, value_name = "MSG/S", default_value_t = 0)]
    rate: u64,

    /// Unconfirmed messages a publisher may have; 0 is no confirms, 1 is one by one
    #[arg(long, value_name = "MESSAGES", default_value_t = 0)]
    confirm: usize,

    /// Deliveries per ack; 0 is a no-ack consumer, 1 acks each by itself
    #[arg(long, value_name = "MESSAGES", default_value_t = 0)]
    ack_every: u64,

    /// Unacked deliveries the broker may have with a consumer; 0 is no limit
    #[arg(long, value_name = "MESSAGES", default_value_t = 0)]
    prefetch: u16,

    /// Publish persistent messages (delivery mode 2)
    #[arg(long)]
    persistent: bool,

    /// Publish with the mandatory flag and count returned messages
    #[arg(long)]
    mandatory: bool,

    /// Declare durable queues and exchange
    #[arg(long)]
    durable: bool,

    /// Declare them with x-durability, which Leveret obeys [default: what the broker does anyway]
    #[arg(long, value_enum, value_name = "WHAT", requires = "durable")]
    durability: Option<QueueDurability>,

    /// Declare the queues with this argument too: a number, true or false, else text; repeatable
    #[arg(long = "queue-argument", value_name = "NAME=VALUE")]
    queue_arguments: Vec<Argument>,

    /// Publish with this header, which takes N values in turn (k0, k1, ...), or with 0 a new one
    /// for each message; repeatable
    #[arg(long = "header", value_name = "NAME=N")]
    headers: Vec<HeaderCycle>,

    /// Publish with the priorities 0 to N-1 in turn; 0 is without
    #[arg(long, value_name = "N", default_value_t = 0)]
    priorities: u8,

    /// Publish to an x-delayed-message exchange with this x-delay, and report lateness, which is
    /// latency beyond the delay
    #[arg(long, value_name = "MS", conflicts_with = "dead_letter_after")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=DEFERRAL_MS_MAX))]
    delay: Option<u64>,

    /// Publish into queues with this TTL, which dead-letter to those that are consumed from, and
    /// report lateness
    #[arg(long, value_name = "MS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=DEFERRAL_MS_MAX))]
    dead_letter_after: Option<u64>,

    /// Fill another queue before, whose messages all expire when the measured time begins
    #[arg(long, value_name = "MESSAGES", default_value_t = 0)]
    expiring: u64,

    /// Where to publish to; fanout copies each message to every queue
    #[arg(long, value_enum, value_name = "TYPE", default_value = "default")]
    exchange: ExchangeKind,

    /// Bindings of all queues together [default: --queues]
    #[arg(long, value_name = "N")]
    bindings: Option<usize>,

    /// Distinct routing keys that the publishers rotate over [default: --bindings]
    #[arg(long, value_name = "N")]
    keys: Option<usize>,

    /// Publish (without publishers: consume) exactly so many and stop, instead of by time
    #[arg(long, value_name = "N")]
    messages: Option<u64>,

    /// Seconds that publishers may be ahead of consumers, so that it is the broker that is measured
    /// and not the socket buffers before it; 0 is no limit; with --rate, --delay or
    /// --dead-letter-after there is none
    #[arg(long, value_name = "SECONDS", default_value = "0.25", value_parser = seconds)]
    lead: Duration,

    /// Seconds that are measured
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    duration: Duration,

    /// Seconds before that, under the same load, that are not measured; --delay or
    /// --dead-letter-after come on top
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warm_up: Duration,

    /// Queues are named PREFIX-0, PREFIX-1, ...
    #[arg(long, value_name = "PREFIX", default_value = "leveret-perf")]
    queue_prefix: String,

    /// Leave the queues behind, for a run that consumes or looks at them
    #[arg(long)]
    keep_queues: bool,

    /// Process whose CPU time and memory are reported: the broker's
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub(crate) json: bool,
}

impl ThroughputArgs {
    pub(crate) fn plan(&self) -> Result<Plan> {
        let bindings = self.bindings.unwrap_or(self.queues);
        let plan = Plan {
            url: self.url.clone(),
            publishers: self.publishers,
            consumers: self.consumers,
            queues: self.queues,
            size: self.size,
            rate: self.rate,
            confirm_window: self.confirm,
            ack_every: self.ack_every,
            prefetch: self.prefetch,
            persistent: self.persistent,
            mandatory: self.mandatory,
            durable: self.durable,
            durability: self.durability,
            queue_arguments: self.queue_arguments.clone(),
            headers: self.headers.clone(),
            priorities: self.priorities,
            deferral: self.deferral(),
            expiring: self.expiring,
            exchange: self.exchange,
            bindings,
            keys: self.keys.unwrap_or(bindings),
            messages: self.messages,
            lead: self.lead,
            warm_up: self.warm_up,
            duration: self.duration,
            prefix: self.queue_prefix.clone(),
            keep_queues: self.keep_queues,
            pid: self.pid,
        };
        plan.check().map(|()| plan)
    }

    fn deferral(&self) -> Option<Deferral> {
        let delay = self.delay.map(|ms| Deferral::Delay(Duration::from_millis(ms)));
        delay.or_else(|| {
            let ms = self.dead_letter_after?;
            Some(Deferral::DeadLetter(Duration::from_millis(ms)))
        })
    }
}

/// Seconds, also in parts: "0.5".
pub(crate) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}
