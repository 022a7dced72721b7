//! What clients of queues with rules do next, by chance.

use super::{BRIEF, FANNED, LAST, NAMES, Publication, RANKED, SHORT, Setup, number};
use crate::client::{CHANNELS, ChannelView, Client, View};
use crate::ops::{Consume, Mode, Op};
use crate::rng::Rng;
use crate::workload::settle;

#[derive(Clone, Copy)]
enum Act {
    Publish,
    Consume,
    Cancel,
    Get,
    Settle,
    Recover,
    Qos,
    Purge,
    Declare,
    Delete,
    Close,
    End,
}

/// Names what comes next, with numbers that are new.
#[derive(Debug)]
pub(crate) struct Workload {
    setup: Setup,
    tags: u32,
    messages: u32,
}

impl Workload {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup, tags: 0, messages: 0 }
    }

    /// What makes the queues as they are to be.
    pub(crate) fn script(&self) -> impl Iterator<Item = Op> + use<> {
        let rules = self.setup.rules;
        let declares = (0..NAMES.len()).map(move |queue| Op::DeclareRuled(queue, rules[queue]));
        declares.chain([Op::DeclareFan]).chain(FANNED.map(Op::BindFan))
    }

    /// One operation of this client, if it can do any.
    pub(crate) fn next(&mut self, client: &Client, rng: &Rng) -> Option<(u16, Op)> {
        if !client.is_open || client.is_closing {
            return None;
        }
        if rng.below(400) == 0 {
            return Some((0, Op::CloseConnection));
        }
        let channel = *rng.pick(&CHANNELS);
        let view = &client.channels[&channel];
        let op = match view.view {
            View::Closing => return None,
            View::Closed => Op::OpenChannel,
            View::Open if view.is_new() && view.mode == Mode::Plain && rng.percent(70) => {
                Op::Select(*rng.pick(&[Mode::Confirm, Mode::Confirm, Mode::Transaction]))
            }
            View::Open => self.on_open_channel(view, rng),
        };
        Some((channel, op))
    }

    fn on_open_channel(&mut self, view: &ChannelView, rng: &Rng) -> Op {
        let if_any = |any: bool, weight: usize| if any { weight } else { 0 };
        let unsettled = view.unsettled.len();
        let act = rng.weighted(&[
            (60, Act::Publish),
            (if_any(view.consumers.len() < 4, 6), Act::Consume),
            (if_any(!view.consumers.is_empty(), 3), Act::Cancel),
            (15, Act::Get),
            (if_any(unsettled > 0, 14 + 2 * unsettled.min(20)), Act::Settle),
            (1, Act::Recover),
            (2, Act::Qos),
            (if_any(self.setup.deletes, 1), Act::Purge),
            (10, Act::Declare),
            (if_any(self.setup.deletes, 1), Act::Delete),
            (1, Act::Close),
            (if_any(view.mode == Mode::Transaction, 12), Act::End),
        ]);
        let queue = rng.below(NAMES.len());
        let no_ack = self.setup.no_ack && rng.percent(15);
        match act {
            Act::Publish => Op::PublishRuled(self.publish(view.mode, rng)),
            Act::Consume => {
                self.tags += 1;
                let (queue, tag) = (number(queue), self.tags);
                Op::Consume(Consume { queue, tag, no_ack, exclusive: false, priority: 0 })
            }
            Act::Cancel => Op::Cancel(*rng.pick(&view.consumers)),
            Act::Get => Op::Get { queue: number(queue), no_ack },
            Act::Settle => settle(view, rng),
            Act::Recover => Op::Recover,
            Act::Qos => Op::Qos { count: *rng.pick(&[0, 1, 2, 5]), global: rng.percent(15) },
            Act::Purge => Op::Purge(number(*rng.pick(&[BRIEF, RANKED]))),
            Act::Declare if rng.percent(20) => {
                *rng.pick(&[Op::DeclareFan, Op::BindFan(FANNED[0]), Op::BindFan(FANNED[1])])
            }
            Act::Declare => Op::DeclareRuled(queue, self.setup.rules[queue]),
            Act::Delete => Op::DeleteQueue(number(BRIEF)),
            Act::Close => Op::CloseChannel,
            Act::End if rng.percent(75) => Op::Commit,
            Act::End => Op::Rollback,
        }
    }

    fn publish(&mut self, mode: Mode, rng: &Rng) -> Publication {
        self.messages += 1;
        let to = rng.below(LAST + 1);
        // A queue that refuses would fail a whole commit.
        let to = if to == SHORT && mode == Mode::Transaction { RANKED } else { to };
        Publication {
            id: self.messages,
            to: (to < LAST).then_some(to),
            persistent: rng.percent(80),
            expiration_ms: rng.percent(20).then(|| rng.below(80) as u32),
            priority: rng.below(4) as u8,
            body_len: if rng.percent(5) { rng.below(10_000) } else { rng.below(40) },
        }
    }
}
