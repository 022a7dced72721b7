//! What clients of queues with rules do next, by chance.

use super::{
    BRIEF, FANNED, Hold, LAST, LATE_TO, NAMES, Publication, RANKED, SHORT, Setup, Way, number,
};
use crate::client::{CHANNELS, ChannelView, Client, View};
use crate::ops::{Consume, How, Mode, Op};
use crate::rng::Rng;
use crate::workload::settle;
use leveret::time::UnixMillis;

/// How many keys and groups there are.
pub(super) const KEYS: usize = 6;
const GROUPS: usize = 3;

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
        let exchanges = [Op::DeclareFan(self.setup.fan), Op::DeclareLate(self.setup.late)];
        declares.chain(exchanges).chain(FANNED.map(Op::BindFan)).chain(late_bindings())
    }

    /// One operation of this client, if it can do any.
    pub(crate) fn next(
        &mut self,
        client: &Client,
        now: UnixMillis,
        rng: &Rng,
    ) -> Option<(u16, Op)> {
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
            View::Open => self.on_open_channel(view, now, rng),
        };
        Some((channel, op))
    }

    fn on_open_channel(&mut self, view: &ChannelView, now: UnixMillis, rng: &Rng) -> Op {
        let if_any = |any: bool, weight: usize| if any { weight } else { 0 };
        let (focus, unsettled) = (self.setup.focus, view.unsettled.len());
        // Where what fails is counted, much is taken, and fails.
        let eager = if focus == RANKED { 3 } else { 1 };
        let act = rng.weighted(&[
            (45, Act::Publish),
            (if_any(view.consumers.len() < 4, 10), Act::Consume),
            (if_any(!view.consumers.is_empty(), 3), Act::Cancel),
            (20 * eager, Act::Get),
            (if_any(unsettled > 0, eager * (40 + 5 * unsettled.min(20))), Act::Settle),
            (1, Act::Recover),
            (2, Act::Qos),
            (if_any(self.setup.deletes, 3), Act::Purge),
            (10, Act::Declare),
            (if_any(self.setup.deletes, 1), Act::Delete),
            (1, Act::Close),
            (if_any(view.mode == Mode::Transaction, 12), Act::End),
        ]);
        let queue = if rng.percent(40) { focus } else { rng.below(NAMES.len()) };
        let no_ack = self.setup.no_ack && rng.percent(15);
        match act {
            Act::Publish => Op::PublishRuled(self.publish(view.mode, now, rng)),
            Act::Consume => {
                self.tags += 1;
                let (queue, tag) = (number(queue), self.tags);
                Op::Consume(Consume { queue, tag, no_ack, exclusive: false, priority: 0 })
            }
            Act::Cancel => Op::Cancel(*rng.pick(&view.consumers)),
            Act::Get => Op::Get { queue: number(queue), no_ack },
            Act::Settle if focus == RANKED && rng.percent(50) => {
                let how = How::Nack { requeue: true };
                Op::Settle { tag: view.unsettled[0], multiple: false, how }
            }
            Act::Settle => settle(view, rng),
            Act::Recover => Op::Recover,
            Act::Qos => Op::Qos { count: *rng.pick(&[0, 1, 2, 5]), global: rng.percent(15) },
            Act::Purge => Op::Purge(number(*rng.pick(&[BRIEF, RANKED]))),
            Act::Declare if rng.percent(30) => self.declare_exchange(rng),
            Act::Declare => Op::DeclareRuled(queue, self.setup.rules[queue]),
            Act::Delete => Op::DeleteQueue(number(BRIEF)),
            Act::Close => Op::CloseChannel,
            Act::End if rng.percent(75) => Op::Commit,
            Act::End => Op::Rollback,
        }
    }

    fn declare_exchange(&self, rng: &Rng) -> Op {
        match rng.below(4) {
            0 => Op::DeclareFan(self.setup.fan),
            1 => Op::BindFan(*rng.pick(&FANNED)),
            2 => Op::DeclareLate(self.setup.late),
            _ => *rng.pick(&late_bindings().collect::<Vec<_>>()),
        }
    }

    fn publish(&mut self, mode: Mode, now: UnixMillis, rng: &Rng) -> Publication {
        self.messages += 1;
        let drawn = if rng.percent(40) { self.setup.focus } else { rng.below(LAST + 3) };
        let way = match drawn {
            LAST if rng.percent(50) => Way::Late(rng.below(LATE_TO.len())),
            // A queue that refuses would fail a whole commit.
            SHORT if mode == Mode::Transaction => Way::Queue(RANKED),
            queue if queue < LAST => Way::Queue(queue),
            LAST => Way::Fan,
            _ => Way::Late(rng.below(LATE_TO.len())),
        };
        let hold = match rng.below(10) {
            0 => None,
            1 => Some(Hold::ForMs(0)),
            // A commit may come when that time is over.
            2..5 if mode != Mode::Transaction => {
                Some(Hold::Until((now.0 + rng.below(200) as u64).saturating_sub(20)))
            }
            _ => Some(Hold::ForMs(1 + rng.below(150) as u32)),
        };
        Publication {
            id: self.messages,
            way,
            persistent: rng.percent(80),
            expiration_ms: rng.percent(20).then(|| rng.below(80) as u32),
            priority: rng.below(4) as u8,
            body_len: if rng.percent(5) { rng.below(10_000) } else { rng.below(40) },
            hold: hold.filter(|_| matches!(way, Way::Late(_))),
            key: rng.percent(70).then(|| rng.below(KEYS) as u8),
            group: rng.percent(80).then(|| rng.below(GROUPS) as u8),
        }
    }
}

fn late_bindings() -> impl Iterator<Item = Op> {
    let keys = LATE_TO.iter().enumerate();
    keys.flat_map(|(key, (_, queues))| queues.iter().map(move |queue| Op::BindLate(key, *queue)))
}
