//! A channel's frames leave in order: a reply that must wait for the disk or for a page holds back
//! whatever follows it on its channel, and nothing on any other.

use crate::id::{ConsumerToken, Lsn};
use crate::limits::HELD_REPLIES_MAX;
use crate::wire::Output;
use std::collections::VecDeque;

/// What a held reply waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Durable(Lsn),
    /// The answer to a get whose message is being loaded.
    Got(ConsumerToken),
    /// A cancelled consumer's last delivery, and then the disk. Deliveries go out before it.
    Ended(ConsumerToken, Lsn),
}

struct Held {
    until: Until,
    /// The reply and what was written after it.
    frames: Output,
}

/// The replies of one channel that wait, in order.
#[derive(Default)]
pub(super) struct HeldReplies {
    queue: VecDeque<Held>,
    /// Bytes of all but the last.
    earlier_bytes: usize,
}

impl HeldReplies {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.earlier_bytes + self.queue.back().map_or(0, |held| held.frames.len())
    }

    /// The channel's client must wait before it is read again.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= HELD_REPLIES_MAX
    }

    /// Where the channel's next frame is to be written: behind what waits, or straight out.
    pub(super) fn out<'a>(&'a mut self, output: &'a mut Output) -> &'a mut Output {
        match self.queue.back_mut() {
            Some(held) => &mut held.frames,
            None => output,
        }
    }

    /// Where a delivery is to be written: before the answer to a cancel that is still to come.
    pub(super) fn out_for_delivery<'a>(&'a mut self, output: &'a mut Output) -> &'a mut Output {
        match self.first_cancel() {
            None => self.out(output),
            Some(0) => output,
            Some(at) => &mut self.queue[at - 1].frames,
        }
    }

    /// So many bytes were written there.
    pub(super) fn delivered(&mut self, bytes: usize) {
        if self.first_cancel().is_some_and(|at| at > 0) {
            self.earlier_bytes += bytes;
        }
    }

    /// A cancel is not answered yet, and deliveries go out before what is written now.
    pub(super) fn awaits_cancel(&self) -> bool {
        self.first_cancel().is_some()
    }

    fn first_cancel(&self) -> Option<usize> {
        self.queue.iter().position(|held| matches!(held.until, Until::Ended(..)))
    }

    /// A consumer's end has come out of the inbox: its cancel is answered once the disk allows.
    pub(super) fn ended(&mut self, token: ConsumerToken) {
        for held in &mut self.queue {
            if let Until::Ended(ended, lsn) = held.until
                && ended == token
            {
                held.until = Until::Durable(lsn);
            }
        }
    }

    /// Holds back what is written next until then.
    pub(super) fn hold(&mut self, until: Until) -> &mut Output {
        self.earlier_bytes = self.bytes();
        self.queue.push_back(Held { until, frames: Output::new() });
        &mut self.queue.back_mut().expect("pushed just now").frames
    }

    /// The answer that something waited for under `token`: it goes before what was written since.
    pub(super) fn answer(&mut self, token: ConsumerToken, mut answer: Output) {
        let last = self.queue.len().saturating_sub(1);
        let waits = |held: &Held| held.until == Until::Got(token);
        let Some(at) = self.queue.iter().position(waits) else { return };
        if at < last {
            self.earlier_bytes += answer.len();
        }
        let held = &mut self.queue[at];
        held.until = Until::Durable(Lsn(0));
        answer.append(&mut held.frames);
        held.frames = answer;
    }

    /// Lets out what has waited long enough.
    pub(super) fn release(&mut self, durable: Lsn, output: &mut Output) {
        while let Some(held) = self.queue.front_mut() {
            match held.until {
                Until::Durable(lsn) if lsn <= durable => {}
                _ => return,
            }
            self.earlier_bytes = self.earlier_bytes.saturating_sub(held.frames.len());
            output.append(&mut held.frames);
            self.queue.pop_front();
        }
    }

    /// The channel ends: no delivery comes any more, neither to a get nor before a cancel-ok.
    pub(super) fn give_up_deliveries(&mut self) {
        for held in &mut self.queue {
            match held.until {
                Until::Durable(_) => {}
                Until::Got(_) => held.until = Until::Durable(Lsn(0)),
                Until::Ended(_, lsn) => held.until = Until::Durable(lsn),
            }
        }
    }

    /// The LSN that the oldest waits for.
    pub(super) fn next_lsn(&self) -> Option<Lsn> {
        match self.queue.front()?.until {
            Until::Durable(lsn) => Some(lsn),
            Until::Got(_) | Until::Ended(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_held_reply_waits_behind_it() {
        let mut held = HeldReplies::default();
        let mut output = Output::new();
        held.hold(Until::Durable(Lsn(3))).put(b"first");
        held.out(&mut output).put(b"second");
        held.hold(Until::Durable(Lsn(2))).put(b"third");
        assert_eq!(held.bytes(), b"firstsecondthird".len());
        held.release(Lsn(2), &mut output);
        assert!(output.is_empty());
        held.release(Lsn(3), &mut output);
        assert_eq!(output.buffer_mut(), b"firstsecondthird");
        assert!(held.is_empty());
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn deliveries_go_before_the_answer_to_a_cancel() {
        let mut held = HeldReplies::default();
        let mut output = Output::new();
        held.hold(Until::Durable(Lsn(1))).put(b"declare-ok ");
        held.hold(Until::Ended(ConsumerToken(1), Lsn(0))).put(b"cancel-ok");
        held.out_for_delivery(&mut output).put(b"delivery ");
        held.delivered(b"delivery ".len());
        assert_eq!(held.bytes(), b"declare-ok delivery cancel-ok".len());
        held.release(Lsn(9), &mut output);
        assert_eq!(output.buffer_mut(), b"declare-ok delivery ");
        held.out_for_delivery(&mut output).put(b"last ");
        held.delivered(b"last ".len());
        held.ended(ConsumerToken(1));
        held.release(Lsn(9), &mut output);
        assert_eq!(output.buffer_mut(), b"declare-ok delivery last cancel-ok");
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn a_late_answer_goes_before_what_followed_it() {
        let mut held = HeldReplies::default();
        let mut output = Output::new();
        held.hold(Until::Got(ConsumerToken(1)));
        held.out(&mut output).put(b"second");
        held.hold(Until::Durable(Lsn(1))).put(b"third");
        held.release(Lsn(9), &mut output);
        assert!(output.is_empty());
        let mut answer = Output::new();
        answer.put(b"first");
        held.answer(ConsumerToken(1), answer);
        assert_eq!(held.bytes(), b"firstsecondthird".len());
        held.release(Lsn(9), &mut output);
        assert_eq!(output.buffer_mut(), b"firstsecondthird");
    }
}
