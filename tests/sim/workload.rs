//! What a client does next, by chance.

use super::client::{CHANNELS, ChannelView, Client, View};
use super::ops::{
    Binding, Consume, EXCHANGES, How, Message, Mode, Op, QUEUES, ROUTING_KEYS, TOPIC_PATTERNS,
};
use super::rng::Rng;

/// What sets one run apart from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) clients: usize,
    /// Consumers and gets without acknowledgement, of which a cut loses count.
    pub(crate) no_ack: bool,
    /// Queues and exchanges are deleted, and channels refused for it.
    pub(crate) deletes: bool,
    /// Power losses between two steps, in a hundred thousand steps.
    pub(crate) crashes: usize,
    /// Power losses at a named place within a step; if there are any, checkpoints are cut too.
    pub(crate) crashes_within: usize,
    pub(crate) cuts: usize,
    /// How much of the work is publishing, and how many bodies in a hundred are large.
    pub(crate) publishes: usize,
    large: usize,
    /// Journal rounds, in a hundred thousand steps.
    pub(crate) rounds: usize,
    /// Faults of the catalogue and of what the keeper writes, in a hundred thousand steps.
    pub(crate) catalogue: usize,
}

impl Options {
    pub(crate) fn new(rng: &Rng) -> Self {
        let (clients, no_ack, deletes) = (2 + rng.below(3), rng.percent(30), rng.percent(60));
        let crashes = *rng.pick(&[0, 30, 100, 300]);
        Self {
            clients,
            no_ack,
            deletes,
            crashes,
            crashes_within: crashes / 2,
            cuts: *rng.pick(&[0, 50, 300]),
            publishes: *rng.pick(&[30, 60, 120]),
            large: *rng.pick(&[1, 1, 1, 1, 30]),
            rounds: *rng.pick(&[1000, 3000, 8000]),
            catalogue: *rng.pick(&[0, 50, 200]),
        }
    }
}

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
    DeleteQueue,
    Exchange,
    Bind,
    Unbind,
    Close,
    End,
}

/// Names what comes next, with numbers that are new.
pub(crate) struct Workload {
    pub(crate) options: Options,
    tags: u32,
}

impl Workload {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, tags: 0 }
    }

    /// One operation of this client, if it can do any.
    pub(crate) fn next(
        &mut self,
        client: &Client,
        messages: &mut Vec<Message>,
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
            // A mode is chosen at once or never.
            View::Open if view.is_new() && view.mode == Mode::Plain && rng.percent(70) => {
                Op::Select(*rng.pick(&[Mode::Confirm, Mode::Confirm, Mode::Transaction]))
            }
            View::Open => self.on_open_channel(view, messages, rng),
        };
        Some((channel, op))
    }

    fn on_open_channel(
        &mut self,
        view: &ChannelView,
        messages: &mut Vec<Message>,
        rng: &Rng,
    ) -> Op {
        let if_any = |any: bool, weight: usize| if any { weight } else { 0 };
        let unsettled = view.unsettled.len();
        let act = rng.weighted(&[
            (self.options.publishes, Act::Publish),
            (if_any(view.consumers.len() < 4, 5), Act::Consume),
            (if_any(!view.consumers.is_empty(), 2), Act::Cancel),
            (6, Act::Get),
            (if_any(unsettled > 0, 12 + 2 * unsettled.min(20)), Act::Settle),
            (1, Act::Recover),
            (2, Act::Qos),
            (1, Act::Purge),
            (7, Act::Declare),
            (if_any(self.options.deletes, 1), Act::DeleteQueue),
            (2, Act::Exchange),
            (4, Act::Bind),
            (1, Act::Unbind),
            (1, Act::Close),
            (if_any(view.mode == Mode::Transaction, 10), Act::End),
        ]);
        let queue = rng.below(QUEUES.len());
        match act {
            Act::Publish => self.publish(messages, rng),
            Act::Consume => {
                self.tags += 1;
                Op::Consume(Consume {
                    queue,
                    tag: self.tags,
                    no_ack: self.options.no_ack && rng.percent(25),
                    exclusive: self.options.deletes && rng.percent(5),
                    priority: *rng.pick(&[0, 0, 0, 1, -1]),
                })
            }
            Act::Cancel => Op::Cancel(*rng.pick(&view.consumers)),
            Act::Get => Op::Get { queue, no_ack: self.options.no_ack && rng.percent(25) },
            Act::Settle => settle(view, rng),
            Act::Recover => Op::Recover,
            Act::Qos => Op::Qos { count: *rng.pick(&[0, 1, 2, 5]), global: rng.percent(15) },
            Act::Purge => Op::Purge(queue),
            Act::Declare => Op::DeclareQueue(queue),
            Act::DeleteQueue => Op::DeleteQueue(queue),
            Act::Exchange => {
                let exchange = 1 + rng.below(EXCHANGES.len() - 1);
                let delete = self.options.deletes && rng.percent(20);
                if delete { Op::DeleteExchange(exchange) } else { Op::DeclareExchange(exchange) }
            }
            Act::Bind => Op::Bind(binding(rng)),
            Act::Unbind => Op::Unbind(binding(rng)),
            Act::Close => Op::CloseChannel,
            Act::End if rng.percent(75) => Op::Commit,
            Act::End => Op::Rollback,
        }
    }

    fn publish(&self, messages: &mut Vec<Message>, rng: &Rng) -> Op {
        let exchange = rng.below(EXCHANGES.len());
        let key = if exchange == 0 { rng.pick(&QUEUES).0 } else { *rng.pick(&ROUTING_KEYS) };
        let body_len = match rng.below(100) {
            n if n < self.options.large => 16 * 1024 + rng.below(16 * 1024),
            n if n > 90 => rng.below(10_000),
            _ => rng.below(40),
        };
        messages.push(Message {
            exchange,
            key,
            persistent: rng.percent(75),
            mandatory: rng.percent(30),
            body_len,
        });
        Op::Publish(u32::try_from(messages.len() - 1).expect("far fewer messages"))
    }
}

impl ChannelView {
    pub(crate) fn is_new(&self) -> bool {
        self.consumers.is_empty() && self.unsettled.is_empty() && self.kept.is_empty()
    }
}

pub(crate) fn binding(rng: &Rng) -> Binding {
    let exchange = 1 + rng.below(EXCHANGES.len() - 1);
    let key = match EXCHANGES[exchange].1 {
        "topic" => *rng.pick(&TOPIC_PATTERNS),
        "direct" => *rng.pick(&ROUTING_KEYS),
        _ => "",
    };
    Binding { exchange, queue: rng.below(QUEUES.len()), key }
}

pub(crate) fn settle(view: &ChannelView, rng: &Rng) -> Op {
    let requeue = rng.percent(50);
    let how =
        rng.weighted(&[(70, How::Ack), (15, How::Nack { requeue }), (15, How::Reject { requeue })]);
    let multiple = !matches!(how, How::Reject { .. }) && rng.percent(30);
    // Mostly in order, as consumers do.
    let at = if rng.percent(60) { 0 } else { rng.below(view.unsettled.len()) };
    Op::Settle { tag: view.unsettled[at], multiple, how }
}
