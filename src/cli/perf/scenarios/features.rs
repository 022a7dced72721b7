//! The rows about what queues do: each beside the same load on a plain queue, then what is late
//! when messages wait. There are many, so each is measured for half as long as the others.
use super::super::plan::{Deferral, Plan};
use super::super::url::AmqpUrl;
use super::rows::{Needs, Row, Scenario, Shows};
use std::time::Duration;

/// What `--only` selects the group by.
const GROUP: &str = "queue features";
const WARM_UP: Duration = Duration::from_millis(500);
/// How long the messages of the paced rows wait.
const WAIT: Duration = Duration::from_millis(500);
/// Longer than a fast broker takes to take them in, so that all of them wait at the same time.
const WAIT_TOGETHER: Duration = Duration::from_secs(5);
const WINDOW: usize = 2_000;

pub(super) fn scenarios(backlog: u64) -> Vec<Scenario> {
    let mut rows = bounded();
    rows.extend(keyed());
    rows.extend(deferred(backlog / 2));
    let mut all: Vec<Scenario> = rows.into_iter().map(|row| Scenario { rows: vec![row] }).collect();
    all.push(beside_expiring(backlog / 2));
    all
}

/// A queue's limits and orders, each beside the first row.
fn bounded() -> Vec<Row> {
    let with = |argument: &'static str| move |url| with_argument(plain(url), argument);
    vec![
        rate("16 B, ack every 100, plain queue", Needs::Nothing, plain),
        rate("10 priorities", Needs::Nothing, |url| Plan {
            priorities: 10,
            ..with_argument(plain(url), "x-max-priority=9")
        }),
        rate("x-max-length, never reached", Needs::Nothing, with("x-max-length=100000000")),
        rate("x-max-length 1000, no consumer, each publish drops one", Needs::Nothing, |url| {
            Plan { consumers: 0, ..with_argument(plain(url), "x-max-length=1000") }
        }),
        rate("x-message-ttl of an hour", Needs::Nothing, with("x-message-ttl=3600000")),
        rate("x-delivery-limit", Needs::Argument("x-delivery-limit"), with("x-delivery-limit=20")),
    ]
}

/// What queues do with a header of messages.
fn keyed() -> Vec<Row> {
    vec![
        rate("plain queue, 4 consumers", Needs::Nothing, |url| Plan { consumers: 4, ..plain(url) }),
        rate("x-group-key, 100 groups, 4 consumers", Needs::Argument("x-group-key"), |url| Plan {
            consumers: 4,
            ..with_header(with_argument(plain(url), "x-group-key=key"), "key=100")
        }),
        rate("x-fair-key, 100 keys", Needs::Argument("x-fair-key"), |url| {
            with_header(with_argument(plain(url), "x-fair-key=key"), "key=100")
        }),
        rate("deduplication, no duplicates", Needs::Argument("x-message-deduplication"), |url| {
            let plan = with_argument(plain(url), "x-message-deduplication=true");
            with_header(plan, "x-deduplication-header=0")
        }),
    ]
}

/// Messages that come later. Those of the paced rows are persistent, as jobs for later usually are.
fn deferred(together: u64) -> Vec<Row> {
    vec![
        row("10 k/s dead-lettered after a TTL", Shows::Lateness, Needs::Nothing, |url| Plan {
            deferral: Some(Deferral::DeadLetter(WAIT)),
            ..paced(url, true)
        }),
        row("10 k/s of a delayed exchange", Shows::Lateness, Needs::Declared, |url| Plan {
            deferral: Some(Deferral::Delay(WAIT)),
            ..paced(url, true)
        }),
        row(
            &format!("{} delayed together", count(together)),
            Shows::Lateness,
            Needs::Declared,
            move |url| Plan {
                deferral: Some(Deferral::Delay(WAIT_TOGETHER)),
                messages: Some(together),
                confirm_window: WINDOW,
                ack_every: 100,
                rate: 0,
                ..paced(url, true)
            },
        ),
    ]
}

/// A quiet queue, alone and while another one's messages all expire.
fn beside_expiring(expiring: u64) -> Scenario {
    let alone =
        row("10 k/s, latency", Shows::DeliveryLatency, Needs::Nothing, |url| paced(url, false));
    let name = format!("10 k/s, latency while {} expire at once beside", count(expiring));
    let beside = row(&name, Shows::DeliveryLatency, Needs::Nothing, move |url| Plan {
        expiring,
        ..paced(url, false)
    });
    Scenario { rows: vec![alone, beside] }
}

fn plain(url: AmqpUrl) -> Plan {
    Plan { ack_every: 100, warm_up: WARM_UP, ..Plan::new(url) }
}

fn paced(url: AmqpUrl, durable: bool) -> Plan {
    let (warm_up, rate) = (WARM_UP, 10_000);
    Plan { size: 128, rate, warm_up, durable, persistent: durable, ..Plan::new(url) }
}

fn with_argument(mut plan: Plan, argument: &str) -> Plan {
    plan.queue_arguments.push(argument.parse().expect("an argument of ours is NAME=VALUE"));
    plan
}

fn with_header(mut plan: Plan, header: &str) -> Plan {
    plan.headers.push(header.parse().expect("a header of ours is NAME=N"));
    plan
}

fn rate(name: &str, needs: Needs, plan: impl Fn(AmqpUrl) -> Plan + 'static) -> Row {
    row(name, Shows::Rate, needs, plan)
}

fn row(name: &str, shows: Shows, needs: Needs, plan: impl Fn(AmqpUrl) -> Plan + 'static) -> Row {
    let name = format!("{GROUP}: {name}");
    Row { name, shows, bare: None, needs, time_divisor: 2, plan: Box::new(plan) }
}

/// A number of messages as a row's name says it.
fn count(messages: u64) -> String {
    match messages {
        messages if messages >= 1_000_000 && messages.is_multiple_of(100_000) => {
            format!("{} M", messages as f64 / 1e6)
        }
        messages if messages >= 1_000 && messages.is_multiple_of(1_000) => {
            format!("{} k", messages / 1_000)
        }
        messages => messages.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short_and_exact() {
        let counts = [999, 1_000, 1_500, 999_000, 1_000_000, 1_500_000, 1_234_000].map(count);
        assert_eq!(counts, ["999", "1 k", "1500", "999 k", "1 M", "1.5 M", "1234 k"]);
    }

    #[test]
    fn the_group_is_selected_by_its_name() {
        for scenario in scenarios(2_000_000) {
            for row in scenario.rows {
                assert!(row.name.starts_with("queue features: "), "{}", row.name);
            }
        }
    }
}
