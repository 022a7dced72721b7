//! The workloads of the table, each as a plan. What is compared with what: see `Shows` and `Bare`.
use super::super::plan::{ExchangeKind, Plan};
use super::super::url::AmqpUrl;
use super::features;

/// Rows that belong together: each leaves behind what the next one needs.
pub(super) struct Scenario {
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    pub(super) name: String,
    pub(super) shows: Shows,
    pub(super) bare: Option<Bare>,
    pub(super) needs: Needs,
    /// The row is measured for the time asked for divided by this.
    pub(super) time_divisor: u32,
    pub(super) plan: Box<dyn Fn(AmqpUrl) -> Plan>,
}

/// The figure a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Rate,
    ConfirmLatency,
    DeliveryLatency,
    /// Of deferred messages, and the memory they took.
    Lateness,
}

/// What a broker must have for a row to say something about it. Without it, the row has a dash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// Something that is refused if the broker lacks it.
    Declared,
    /// A queue argument, which brokers that lack it may ignore as well as refuse.
    Argument(&'static str),
}

/// What the machine can do for this row without any broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// Write and sync this many bytes again and again, each with so many messages in it.
    DiskBatches { bytes: usize, messages: usize },
    /// Write and sync 4 KiB, and wait for it.
    DiskSync,
    /// Pass bytes on from one loopback socket to another.
    Relay { bytes: usize },
}

const MIB: usize = 1 << 20;
const WINDOW: usize = 2_000;

pub(super) fn scenarios(backlog: u64) -> Vec<Scenario> {
    let mut all = transient();
    all.extend(routed());
    all.extend(durable());
    all.push(filled_and_drained(backlog));
    all.extend(features::scenarios(backlog));
    all
}

fn transient() -> Vec<Scenario> {
    vec![
        rate("16 B transient, no-ack, 1 publisher 1 consumer", Plan::new),
        rate("16 B, 4 publishers, 4 queues, 4 consumers", |url| {
            let plan = Plan::new(url);
            Plan { publishers: 4, queues: 4, consumers: 4, bindings: 4, keys: 4, ..plan }
        }),
        rate("1 KiB transient, no-ack", |url| Plan { size: 1024, ..Plan::new(url) }),
        rate("16 B, ack every 100", |url| Plan { ack_every: 100, ..Plan::new(url) }),
        rate("128 B, ack each, prefetch 250", |url| Plan {
            size: 128,
            ack_every: 1,
            prefetch: 250,
            ..Plan::new(url)
        }),
        one("1 MiB messages", Shows::Rate, Some(Bare::Relay { bytes: MIB }), |url| Plan {
            size: MIB,
            ..Plan::new(url)
        }),
        one("128 B at 10 k msg/s, delivery latency", Shows::DeliveryLatency, None, |url| Plan {
            size: 128,
            rate: 10_000,
            ..Plan::new(url)
        }),
    ]
}

fn routed() -> Vec<Scenario> {
    vec![
        rate("128 B fan-out to 10 queues, deliveries", |url| Plan {
            size: 128,
            exchange: ExchangeKind::Fanout,
            queues: 10,
            bindings: 10,
            keys: 1,
            consumers: 10,
            ..Plan::new(url)
        }),
        rate("128 B topic exchange, 5000 bindings, 100 k rotating keys", |url| Plan {
            size: 128,
            exchange: ExchangeKind::Topic,
            bindings: 5_000,
            keys: 100_000,
            ..Plan::new(url)
        }),
    ]
}

fn durable() -> Vec<Scenario> {
    vec![
        one(
            "1 KiB persistent, confirms (window 2000), ack 100",
            Shows::Rate,
            Some(Bare::DiskBatches { bytes: WINDOW * 1024, messages: WINDOW }),
            |url| Plan { size: 1024, ack_every: 100, ..durable_plan(url) },
        ),
        one(
            "128 B one by one, persistent, confirm each",
            Shows::ConfirmLatency,
            Some(Bare::DiskSync),
            |url| Plan { size: 128, confirm_window: 1, consumers: 0, ..durable_plan(url) },
        ),
    ]
}

fn filled_and_drained(backlog: u64) -> Scenario {
    let fill = row(
        "256 B persistent confirmed backlog, fill",
        Shows::Rate,
        Some(Bare::DiskBatches { bytes: WINDOW * 256, messages: WINDOW }),
        move |url| {
            let messages = Some(backlog);
            Plan { size: 256, messages, consumers: 0, keep_queues: true, ..durable_plan(url) }
        },
    );
    let drain = row("256 B persistent backlog, drain, ack 100", Shows::Rate, None, move |url| {
        let messages = Some(backlog);
        Plan { size: 256, messages, publishers: 0, ack_every: 100, ..durable_plan(url) }
    });
    Scenario { rows: vec![fill, drain] }
}

fn durable_plan(url: AmqpUrl) -> Plan {
    Plan { durable: true, persistent: true, confirm_window: WINDOW, ..Plan::new(url) }
}

fn rate(name: &str, plan: impl Fn(AmqpUrl) -> Plan + 'static) -> Scenario {
    one(name, Shows::Rate, None, plan)
}

fn one(
    name: &str,
    shows: Shows,
    bare: Option<Bare>,
    plan: impl Fn(AmqpUrl) -> Plan + 'static,
) -> Scenario {
    Scenario { rows: vec![row(name, shows, bare, plan)] }
}

fn row(
    name: &str,
    shows: Shows,
    bare: Option<Bare>,
    plan: impl Fn(AmqpUrl) -> Plan + 'static,
) -> Row {
    let (name, needs) = (name.to_owned(), Needs::Nothing);
    Row { name, shows, bare, needs, time_divisor: 1, plan: Box::new(plan) }
}
