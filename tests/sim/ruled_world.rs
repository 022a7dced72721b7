//! How a world keeps the ledger of queues with rules: its clients, the ticker and the policies.

use super::ops::Op;
use super::oracle::Gauges;
use super::ruled::{self, Glance, LAST, LATE, NAMES, Order, Policy, RANK_MAX, RANKED};
use super::world::World;
use leveret::broker::policy::{Level, SetPolicy};
use leveret::id::Seq;

const POLICIES: [&str; 2] = ["first", "second"];
/// How much time passes between two looks at what is left, and how often nothing must be seen: dead
/// letters that nobody took are tried again after a second.
const ROUND_MS: u64 = 400;
const QUIET_ROUNDS: usize = 4;
/// As a rule all is taken after five rounds, twenty are rare. A history has 400 operations, and a
/// round takes something, unless all of it waits for times that are a few seconds away.
const DRAIN_ROUNDS_MAX: usize = 500;

impl World {
    /// How the queues with rules look now.
    pub(crate) fn glance(&self) -> Glance {
        let vhost = self.broker.vhost("/").expect("it is always there");
        let gauges = NAMES.map(|name| {
            let counters = &vhost.queue(name)?;
            let counters = &counters.counters;
            Some((counters.ready.get(), counters.unacked.get()))
        });
        let late = vhost.delay_queue(LATE);
        let held = late.as_ref().map_or(0, |queue| queue.counters.ready.get());
        let wanted = late.filter(|_| self.ledger.wants_times());
        let held_until = wanted.iter().flat_map(|queue| queue.waiting(Seq(0), usize::MAX));
        let ranked = vhost.queue(NAMES[RANKED]);
        Glance {
            lsn: self.broker.journal().appended_lsn().0,
            gauges,
            held,
            held_until: held_until.map(|waiting| waiting.seq.time().0).collect(),
            retrying: ranked.map_or(0, |queue| queue.counters.retrying.get()),
        }
    }

    /// Messages above the lowest priority that are not in memory.
    pub(super) fn urgent_absent(&self) -> u64 {
        let queue = self.broker.vhost("/").and_then(|vhost| vhost.queue(NAMES[RANKED]));
        let absent = queue.map(|queue| queue.absent_runs()).unwrap_or_default();
        let urgent = absent.iter().filter(|(first, _)| first.rank() < RANK_MAX);
        urgent.map(|(first, last)| last.0 - first.0 + 1).sum()
    }

    /// A session whose client uses these queues has had a turn.
    pub(super) fn note_ruled(
        &mut self,
        before: &Glance,
        number: usize,
        operations: Vec<(u16, Op)>,
        closed: bool,
    ) {
        self.ledger.begin_turn(before, self.now, operations.len());
        for (channel, op) in operations {
            self.note(|| format!("{number}.{channel} {op:?}"));
            self.ledger.apply((number, channel), &op);
        }
        if closed {
            self.ledger.end_connection(number);
        }
    }

    /// Ends a turn of which the exact queues know nothing.
    pub(super) fn end_other_turn(&mut self, before: Gauges, glance: &Glance) {
        let after = self.glance();
        // Nearly every tick leaves nothing.
        if after.lsn != glance.lsn || self.gauges() != before {
            self.oracle.begin_turn(before, 0);
            self.oracle.end_turn(&self.gauges(), glance.lsn, after.lsn);
        }
        self.ledger.end_turn(glance, &after);
    }

    /// A turn of an exact queue's client may have moved others' dead letters.
    pub(super) fn check_untouched(&mut self, glance: &Glance) {
        let after = self.glance();
        self.ledger.begin_turn(glance, self.now, 0);
        self.ledger.end_turn(glance, &after);
    }

    /// True if it had something to do.
    pub(super) fn send_ruled(&mut self, at: usize) -> bool {
        let seat = &mut self.seats[at];
        let ready = seat.client.channels.get(&1).is_some_and(|view| view.is_open());
        let next = match self.ruled_script.front() {
            Some(op) if seat.client.is_open && ready && !seat.client.is_closing => Some((1, *op)),
            _ => self.ruled.next(&seat.client, self.now.unix, &self.rng),
        };
        let Some((channel, op)) = next else { return false };
        if ready && channel == 1 && !self.ruled_script.is_empty() {
            self.ruled_script.pop_front();
        }
        seat.client.send(channel, op, &self.oracle.messages);
        true
    }

    /// The ticker does what is due; true if it is to look again at once, or has moved something.
    pub(crate) fn tick(&mut self) -> bool {
        let (before, glance) = (self.gauges(), self.glance());
        self.ticker.effects.now = self.now;
        self.ledger.begin_turn(&glance, self.now, 0);
        let next = self.broker.tick(&mut self.ticker);
        let after = self.glance();
        self.ledger.ticked(&after);
        self.end_other_turn(before, &glance);
        let moved = after.lsn != glance.lsn || after.gauges != glance.gauges;
        if moved {
            let now = self.now.unix.0;
            self.note(|| format!("tick at {now}: {:?}", after.gauges));
        }
        moved || next.is_some_and(|next| next <= self.now.unix)
    }

    /// A policy is set or cleared.
    pub(super) fn change_policy(&mut self) {
        let (before, glance) = (self.gauges(), self.glance());
        let which = self.rng.below(POLICIES.len());
        let mut policies = self.ledger.policies();
        let set = policies[which].is_none() || self.rng.percent(50);
        let ttl_ms = self.rng.percent(60).then(|| self.rng.below(60) as u32);
        policies[which] = set.then(|| Policy { ttl_ms, length: self.rng.below(8) as u32 });
        self.note(|| format!("policies {policies:?}"));
        self.ticker.effects.now = self.now;
        self.ledger.begin_turn(&glance, self.now, 0);
        self.ledger.set_policies(policies);
        let (level, name) = (Level::User, POLICIES[which]);
        let changed = match policies[which] {
            None => self.broker.clear_policy(level, "/", name, &mut self.ticker),
            Some(Policy { ttl_ms, length }) => {
                let ttl = ttl_ms.map_or_else(String::new, |ms| format!(",\"message-ttl\":{ms}"));
                let set = SetPolicy {
                    vhost: "/",
                    name,
                    pattern: self.ledger.setup().pattern(),
                    definition: &format!("{{\"max-length\":{length}{ttl}}}"),
                    apply_to: "queues",
                    priority: which as i64,
                };
                self.broker.set_policy(level, &set, &mut self.ticker)
            }
        };
        changed.expect("the policy is well formed");
        self.broker.finish_turn(&mut self.ticker);
        self.end_other_turn(before, &glance);
    }

    /// An operator cancels a message that waits, or has it wait until another time.
    pub(super) fn order_held(&mut self) {
        let late = self.broker.vhost("/").and_then(|vhost| vhost.delay_queue(LATE));
        let waiting = late.map(|queue| queue.waiting(Seq(0), usize::MAX)).unwrap_or_default();
        if waiting.is_empty() {
            return;
        }
        let seq = self.rng.pick(&waiting).seq;
        let Some((id, order)) = self.ledger.draw_order(seq.time().0, &self.rng) else { return };
        self.note(|| format!("{order:?} of {id}, until {}", seq.time().0));
        let (before, glance) = (self.gauges(), self.glance());
        self.ticker.effects.now = self.now;
        self.ledger.begin_turn(&glance, self.now, 0);
        self.ledger.ordered(id, order);
        let message = format!("\"vhost\":\"/\",\"exchange\":\"{LATE}\",\"id\":{}", seq.0);
        let request = match order {
            Order::Cancel => format!("{{\"verb\":\"cancel_delayed\",{message}}}"),
            Order::Reschedule(at) => {
                format!("{{\"verb\":\"reschedule_delayed\",{message},\"deliver_at\":{at}}}")
            }
        };
        let answer = self.broker.control(&request, &mut self.ticker);
        assert_eq!(answer.line, "{\"ok\":null}", "it waits");
        self.end_other_turn(before, &glance);
    }

    /// Nothing moves any more.
    pub(crate) fn check_quiet(&mut self) {
        self.oracle.check_quiet(&self.gauges());
        let glance = self.glance();
        self.ledger.check_quiet(&glance);
    }

    /// A client takes all that is in the queues with rules.
    pub(crate) fn drain_ruled(&mut self) {
        let Some(at) = self.seats.iter().position(|seat| seat.is_ruled) else { return };
        self.say(at, 1, Op::OpenChannel);
        let ready = |world: &Self, queue: usize| world.glance().gauges[queue].map_or(0, |it| it.0);
        // What expires behind what was taken goes on to another queue.
        let mut quiet = 0;
        for _ in 0..DRAIN_ROUNDS_MAX {
            quiet = if left_behind(&self.glance()).is_empty() { quiet + 1 } else { 0 };
            for queue in 0..=LAST {
                for _ in 0..ready(self, queue) {
                    self.ledger.stats.drained += 1;
                    self.say(at, 1, Op::Get { queue: ruled::number(queue), no_ack: true });
                }
                self.calm_down();
            }
            self.pass(ROUND_MS);
            self.calm_down();
            if quiet == QUIET_ROUNDS {
                self.check_quiet();
                return self.ledger.check_drained();
            }
        }
        let (left, ms) =
            (left_behind(&self.glance()).join("; "), DRAIN_ROUNDS_MAX as u64 * ROUND_MS);
        panic!("seed {}: after {ms} ms of draining {left}", self.seed);
    }
}

/// What is still there of each queue, and what it waits for.
fn left_behind(glance: &Glance) -> Vec<String> {
    let ready = NAMES.iter().zip(&glance.gauges);
    let ready = ready.filter_map(|(name, gauges)| {
        let count = gauges.map(|(ready, _)| ready).filter(|ready| *ready > 0)?;
        Some(format!("{name} has {count} ready that neither a get takes nor their time ends"))
    });
    let held = (glance.held > 0)
        .then(|| format!("{LATE} holds {} back that are not released", glance.held));
    let retrying = (glance.retrying > 0)
        .then(|| format!("{} has {} that get no next attempt", NAMES[RANKED], glance.retrying));
    ready.chain(held).chain(retrying).collect()
}
