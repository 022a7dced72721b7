//! Policies against a naive model: whatever is set, cleared and declared in whichever order, and
//! over restarts, every queue does what its arguments and the one policy of each level say. A power
//! loss leaves what was after some change, and not before the last durable one.

#![allow(clippy::unwrap_used, reason = "where something fails, the test has failed")]

use leveret::Config;
use leveret::broker::link::{Client, Inbox, Link, Workspace};
use leveret::broker::policy::{Level, SetPolicy};
use leveret::broker::{Broker, DeclareQueue, Entropy};
use leveret::exchange::ExchangeTypes;
use leveret::id::Lsn;
use leveret::queue::{Behaviour, DeadLetter, DeadLetterStrategy, Overflow, QueueType};
use leveret::store::MemoryDisk;
use leveret::table::{TableBuilder, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an argument, a user's policy or an operator's may set.
#[derive(Clone, Debug, Default, PartialEq)]
struct Values {
    expires: Option<u32>,
    ttl: Option<u32>,
    length: Option<u32>,
    bytes: Option<u32>,
    overflow: Option<usize>,
    exchange: Option<u8>,
    key: Option<u8>,
    limit: Option<i8>,
    /// The least, and how much more may be waited.
    delay: Option<(u32, u32)>,
}

const OVERFLOWS: [(&str, Overflow); 3] = [
    ("drop-head", Overflow::DropHead),
    ("reject-publish", Overflow::RejectPublish),
    ("reject-publish-dlx", Overflow::RejectPublishDlx),
];
const PATTERNS: [&str; 4] = ["", "^a", "b$", "^(?!a)"];
const APPLY_TO: [&str; 5] = ["all", "queues", "classic_queues", "quorum_queues", "exchanges"];
const NAMES: [&str; 4] = ["a", "ab", "b", "c"];

#[derive(Clone, Debug, PartialEq)]
struct Policy {
    pattern: usize,
    apply_to: usize,
    priority: i64,
    values: Values,
}

#[derive(Clone, Debug)]
enum Step {
    Set(bool, u8, Policy),
    Clear(bool, u8),
    Declare(usize, bool, Values),
    /// What was recorded becomes durable.
    Round,
    Restart,
    Crash(u64),
}

fn values() -> impl Strategy<Value = Values> {
    fn some<T: std::fmt::Debug + Clone>(
        strategy: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Option<T>> {
        proptest::option::weighted(0.3, strategy)
    }
    let numbers = (some(1..9_u32), some(0..9_u32), some(0..9_u32), some(0..9_u32));
    let words = (some(0..3_usize), some(0..3_u8), some(0..3_u8), some(-1..5_i8));
    let delay = some((1..9_u32, 0..9_u32));
    (numbers, words, delay).prop_map(
        |((expires, ttl, length, bytes), (overflow, exchange, key, limit), delay)| Values {
            expires,
            ttl,
            length,
            bytes,
            overflow,
            exchange,
            key,
            limit,
            delay,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let values = values().prop_map(|values| Values {
        // A definition says something.
        length: values.length.or(Some(5)),
        ..values
    });
    (0..PATTERNS.len(), 0..APPLY_TO.len(), -1..3_i64, values).prop_map(
        |(pattern, apply_to, priority, values)| Policy { pattern, apply_to, priority, values },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<bool>(), 0..4_u8, policy()).prop_map(|(level, n, it)| Step::Set(level, n, it)),
        2 => (any::<bool>(), 0..4_u8).prop_map(|(level, name)| Step::Clear(level, name)),
        4 => (0..NAMES.len(), any::<bool>(), values())
            .prop_map(|(name, quorum, values)| Step::Declare(name, quorum, values)),
        3 => Just(Step::Round),
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

fn level(is_operator: bool) -> Level {
    if is_operator { Level::Operator } else { Level::User }
}

/// Operators cannot say where dead letters go.
fn allowed(values: &Values, is_operator: bool) -> Values {
    let values = values.clone();
    if is_operator { Values { exchange: None, key: None, ..values } } else { values }
}

fn definition(values: &Values) -> String {
    let mut fields = Vec::new();
    let mut put = |key: &str, value: Option<String>| {
        fields.extend(value.map(|value| format!("\"{key}\":{value}")));
    };
    put("expires", values.expires.map(|it| it.to_string()));
    put("message-ttl", values.ttl.map(|it| it.to_string()));
    put("max-length", values.length.map(|it| it.to_string()));
    put("max-length-bytes", values.bytes.map(|it| it.to_string()));
    put("overflow", values.overflow.map(|it| format!("\"{}\"", OVERFLOWS[it].0)));
    put("dead-letter-exchange", values.exchange.map(|it| format!("\"x{it}\"")));
    put("dead-letter-routing-key", values.key.map(|it| format!("\"k{it}\"")));
    put("delivery-limit", values.limit.map(|it| it.to_string()));
    put("retry-delay-min", values.delay.map(|(min, _)| min.to_string()));
    put("retry-delay-max", values.delay.map(|(min, more)| (min + more).to_string()));
    format!("{{{}}}", fields.join(","))
}

fn same_json(one: &str, other: &str) -> bool {
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
    parse(one) == parse(other)
}

fn matches(pattern: usize, name: &str) -> bool {
    match pattern {
        0 => true,
        1 => name.starts_with('a'),
        2 => name.ends_with('b'),
        _ => !name.starts_with('a'),
    }
}

fn applies(policy: &Policy, name: &str, quorum: bool) -> bool {
    let kind = match APPLY_TO[policy.apply_to] {
        "all" | "queues" => true,
        "classic_queues" => !quorum,
        "quorum_queues" => quorum,
        _ => false,
    };
    let limits_deliveries = policy.values.limit.is_some();
    let named = APPLY_TO[policy.apply_to] == "classic_queues";
    kind && matches(policy.pattern, name) && (quorum || named || !limits_deliveries)
}

type OfLevel = BTreeMap<u8, Policy>;

fn chosen(policies: &OfLevel, name: &str, quorum: bool) -> Option<Values> {
    let mut best: Option<&Policy> = None;
    for policy in policies.values().filter(|policy| applies(policy, name, quorum)) {
        if best.is_none_or(|best| policy.priority > best.priority) {
            best = Some(policy);
        }
    }
    best.map(|policy| policy.values.clone())
}

fn expected(arguments: &Values, quorum: bool, user: &Values, operator: &Values) -> Behaviour {
    let all = [arguments, user, operator];
    let least = |of: fn(&Values) -> Option<u32>| all.iter().filter_map(|it| of(it)).min();
    let overflow = arguments.overflow.or(operator.overflow).or(user.overflow);
    let overflow = overflow.map_or(Overflow::DropHead, |it| OVERFLOWS[it].1);
    let limit = [user.limit, operator.limit].into_iter().flatten();
    let of_two = |a: i8, b: i8| if a < 0 || b < 0 { a.max(b) } else { a.min(b) };
    let limit = arguments.limit.into_iter().chain(limit.reduce(of_two)).reduce(of_two);
    let limit = limit.or_else(|| quorum.then_some(20));
    let exchange = arguments.exchange.or(user.exchange);
    let key = arguments.key.or(user.key);
    Behaviour {
        kind: if quorum { QueueType::Quorum } else { QueueType::Classic },
        expires_ms: least(|it| it.expires).map(Into::into),
        message_ttl_ms: least(|it| it.ttl).map(Into::into),
        max_length: least(|it| it.length).map(Into::into),
        max_length_bytes: least(|it| it.bytes).map(Into::into),
        overflow: match overflow {
            Overflow::RejectPublishDlx if quorum => Overflow::DropHead,
            overflow => overflow,
        },
        dead_letter: exchange.map(|exchange| DeadLetter {
            exchange: format!("x{exchange}").into(),
            routing_key: key.map(|key| format!("k{key}").into()),
            strategy: DeadLetterStrategy::AtMostOnce,
        }),
        retry_delay_ms: least(|it| Some(it.delay?.0)).map(|min| {
            let max = least(|it| it.delay.map(|(min, more)| min + more)).unwrap_or(min);
            (min.into(), max.max(min).into())
        }),
        delivery_limit: limit.and_then(|limit| u64::try_from(limit).ok()),
        ..Behaviour::default()
    }
}

/// What there is.
#[derive(Clone, Debug, Default)]
struct State {
    policies: [OfLevel; 2],
    /// Type and arguments.
    queues: BTreeMap<usize, (bool, Values)>,
}

struct World {
    disk: MemoryDisk,
    broker: Arc<Broker>,
    state: State,
    /// What there was after each change since the last start, and its record.
    history: Vec<(Lsn, State)>,
}

fn open(disk: &MemoryDisk) -> Arc<Broker> {
    Broker::open(
        Config::on_loopback("unused"),
        disk,
        Entropy::new(|| [7; 16]),
        ExchangeTypes::core(),
    )
    .unwrap()
}

impl World {
    fn step(&mut self, step: &Step) {
        let mut workspace = Workspace::default();
        match step {
            Step::Set(operator, name, policy) => {
                let values = allowed(&policy.values, *operator);
                let set = SetPolicy {
                    vhost: "/",
                    name: &format!("p{name}"),
                    pattern: PATTERNS[policy.pattern],
                    definition: &definition(&values),
                    apply_to: APPLY_TO[policy.apply_to],
                    priority: policy.priority,
                };
                self.broker.set_policy(level(*operator), &set, &mut workspace).unwrap();
                let policy = Policy { values, ..policy.clone() };
                self.state.policies[usize::from(*operator)].insert(*name, policy);
            }
            Step::Clear(operator, name) => {
                let was_there = self.state.policies[usize::from(*operator)].remove(name).is_some();
                let name = format!("p{name}");
                let cleared =
                    self.broker.clear_policy(level(*operator), "/", &name, &mut workspace);
                assert_eq!(cleared.is_ok(), was_there);
            }
            Step::Declare(name, quorum, values) if !self.state.queues.contains_key(name) => {
                // A key needs an exchange.
                let values = Values { key: values.exchange.and(values.key), ..values.clone() };
                self.declare(NAMES[*name], *quorum, &values);
                self.state.queues.insert(*name, (*quorum, values));
            }
            Step::Declare(..) => {}
            Step::Round => drop(self.broker.journal().round(&self.disk).unwrap()),
            Step::Restart => {
                self.broker.journal().round(&self.disk).unwrap();
                self.start();
            }
            Step::Crash(seed) => self.crash(*seed),
        }
        self.history.push((self.broker.journal().appended_lsn(), self.state.clone()));
    }

    fn start(&mut self) {
        self.broker = open(&self.disk);
        self.history = vec![(Lsn(0), self.state.clone())];
    }

    fn crash(&mut self, seed: u64) {
        let durable = self.broker.journal().durable_lsn();
        let safe = self.history.iter().rposition(|(lsn, _)| *lsn <= durable).unwrap();
        let candidates = self.history.split_off(safe);
        self.disk = self.disk.crash(seed);
        self.broker = open(&self.disk);
        let mut states = candidates.into_iter().map(|(_, state)| state);
        let found = states.find(|state| self.is_there(state));
        self.state = found.expect("what was after a change that was safe, or later");
        self.history = vec![(Lsn(0), self.state.clone())];
    }

    /// Whether exactly these policies and queues are there.
    fn is_there(&self, state: &State) -> bool {
        let levels = [Level::User, Level::Operator].into_iter().zip(&state.policies);
        let mut policies = levels.map(|(level, expected)| {
            let found = self.broker.policies(level, "/").unwrap();
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, (name, policy))| {
                    found.name == format!("p{name}")
                        && found.pattern == PATTERNS[policy.pattern]
                        && found.apply_to == APPLY_TO[policy.apply_to]
                        && found.priority == policy.priority
                        && same_json(&found.definition, &definition(&policy.values))
                })
        });
        let found = self.broker.vhost("/").unwrap().queues();
        let found: Vec<_> = found.iter().map(|queue| queue.name.to_string()).collect();
        let expected: Vec<_> = state.queues.keys().map(|name| NAMES[*name]).collect();
        policies.all(|same| same) && found == expected
    }

    fn declare(&self, name: &str, quorum: bool, values: &Values) {
        let kind = if quorum { "quorum" } else { "classic" };
        let mut table = TableBuilder::new().put(b"x-queue-type", Value::LongStr(kind.as_bytes()));
        let numbers = [
            ("x-expires", values.expires.map(i64::from)),
            ("x-message-ttl", values.ttl.map(i64::from)),
            ("x-max-length", values.length.map(i64::from)),
            ("x-max-length-bytes", values.bytes.map(i64::from)),
            ("x-delivery-limit", values.limit.map(i64::from)),
            ("x-retry-delay-min", values.delay.map(|(min, _)| i64::from(min))),
            ("x-retry-delay-max", values.delay.map(|(min, more)| i64::from(min + more))),
        ];
        for (key, value) in numbers {
            table = value.into_iter().fold(table, |it, n| it.put(key.as_bytes(), Value::I64(n)));
        }
        let words = [
            ("x-overflow", values.overflow.map(|it| OVERFLOWS[it].0.to_owned())),
            ("x-dead-letter-exchange", values.exchange.map(|it| format!("x{it}"))),
            ("x-dead-letter-routing-key", values.key.map(|it| format!("k{it}"))),
        ];
        for (key, value) in words {
            table = value.iter().fold(table, |table, word| {
                table.put(key.as_bytes(), Value::LongStr(word.as_bytes()))
            });
        }
        let arguments = table.finish();
        let inbox = Arc::new(Inbox::new());
        let (user, vhost) = (self.broker.access.user("guest"), self.broker.vhost("/"));
        let connection = self.broker.connect(&inbox);
        let client = Client::new(connection, user.unwrap(), vhost.unwrap(), inbox);
        let mut link = Link::new(Arc::clone(&self.broker), Arc::new(client), 1);
        let declare = DeclareQueue {
            name,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: arguments.as_ref(),
        };
        link.declare_queue(&declare, &mut Workspace::default()).unwrap();
        self.broker.disconnect(connection);
    }

    fn check(&self) {
        let vhost = self.broker.vhost("/").unwrap();
        for (name, (quorum, arguments)) in &self.state.queues {
            let name = NAMES[*name];
            let [user, operator] = self
                .state
                .policies
                .each_ref()
                .map(|policies| chosen(policies, name, *quorum).unwrap_or_default());
            let found = vhost.queue(name).unwrap().behaviour();
            assert_eq!(*found, expected(arguments, *quorum, &user, &operator), "queue {name}");
        }
    }
}

proptest! {
    #[test]
    fn queues_do_what_arguments_and_policies_say(steps in vec(step(), 1..30)) {
        let disk = MemoryDisk::new();
        let broker = open(&disk);
        // A vhost that is lost with the power is made anew.
        broker.journal().round(&disk).unwrap();
        let (state, history) = (State::default(), vec![(Lsn(0), State::default())]);
        let mut world = World { disk, broker, state, history };
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}
