//! One AMQP channel: its link, its unfinished content, and what it holds back.

use super::Session;
use super::reply::{HeldReplies, Until};
use crate::broker::link::{Link, Settled};
use crate::name::Name;
use crate::queue::{Event, Settlement};
use crate::store::Reach;
use crate::wire::{Assembly, Output, ServerMethod};
use std::collections::VecDeque;

/// How far a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// We sent channel.close: everything is ignored until close-ok.
    Closing,
    /// It is over for the client, but replies of it still wait for the disk.
    Ended,
}

pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) state: State,
    pub(super) link: Link,
    pub(super) assembly: Assembly,
    /// Bytes of it that the connection's total counts.
    charged: usize,
    pub(super) held: HeldReplies,
    /// Events that the output had no room for, in order.
    pub(super) pending: VecDeque<Event>,
    /// It stands in the session's list of channels that wait for the journal.
    pub(super) waiting: bool,
    /// The queue that an empty name means.
    pub(super) last_queue: Option<Name>,
    /// Settlements of this turn, not yet told to their queues.
    pub(super) settled: Settled,
    pub(super) settling: Settlement,
}

impl Channel {
    pub(super) fn new(number: u16, link: Link) -> Box<Self> {
        Box::new(Self {
            number,
            state: State::Open,
            link,
            assembly: Assembly::default(),
            charged: 0,
            held: HeldReplies::default(),
            pending: VecDeque::new(),
            waiting: false,
            last_queue: None,
            settled: Settled::default(),
            settling: Settlement::Ack,
        })
    }

    /// The number is used again while replies of its last use still wait: they go first.
    pub(super) fn reopen(&mut self, link: Link) {
        self.state = State::Open;
        self.link = link;
        self.last_queue = None;
    }

    /// Brings the connection's total of unfinished contents up to date.
    #[inline]
    pub(super) fn charge(&mut self, total: &mut usize) {
        let held = self.assembly.held_len();
        *total = *total - self.charged + held;
        self.charged = held;
    }

    /// Sends a method, behind whatever waits.
    pub(super) fn send(&mut self, method: &ServerMethod<'_>, output: &mut Output) {
        method.encode(self.number, self.held.out(output));
    }

    /// Sends a method once the journal, which is at `reached`, has come to `reach`.
    pub(super) fn send_when(
        &mut self,
        reach: Reach,
        reached: Reach,
        method: &ServerMethod<'_>,
        output: &mut Output,
    ) {
        if reached.meets(reach) {
            return self.send(method, output);
        }
        method.encode(self.number, self.held.hold(Until::Reached(reach)));
    }
}

impl Session {
    /// The channel of that number, as far as the client is concerned.
    #[inline]
    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        let channel = self.channels.get_mut(&number)?;
        (channel.state != State::Ended).then_some(channel)
    }

    /// Sends a reply on an open channel once the journal has come to `reach`; `nowait` sends none.
    pub(super) fn reply_when(
        &mut self,
        number: u16,
        reach: Reach,
        nowait: bool,
        method: &ServerMethod<'_>,
    ) {
        if nowait {
            return;
        }
        let reached = self.broker.journal().reach();
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        channel.send_when(reach, reached, method, &mut self.output);
        if !channel.held.is_empty() {
            self.wait_on(number);
        }
    }

    pub(super) fn reply(&mut self, number: u16, method: &ServerMethod<'_>) {
        self.reply_when(number, Reach::default(), false, method);
    }

    /// The channel has something that waits for the journal.
    pub(super) fn wait_on(&mut self, number: u16) {
        if let Some(channel) = self.channels.get_mut(&number)
            && !std::mem::replace(&mut channel.waiting, true)
        {
            self.waiting.push(number);
        }
    }
}
