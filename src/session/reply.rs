//! A channel's frames leave in order: a reply that must wait for the disk or for a page holds back
//! whatever follows it on its channel, and nothing on any other.

use crate::id::ConsumerToken;
use crate::limits::HELD_REPLIES_MAX;
use crate::store::Reach;
use crate::wire::Output;
use std::collections::VecDeque;

/// What a held reply waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Reached(Reach),
    /// The answer to a get whose message is being loaded.
    Got(ConsumerToken),
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
        held.until = Until::Reached(Reach::default());
        answer.append(&mut held.frames);
        held.frames = answer;
    }

    /// Lets out what has waited long enough.
    pub(super) fn release(&mut self, reached: Reach, output: &mut Output) {
        while let Some(held) = self.queue.front_mut() {
            match held.until {
                Until::Reached(reach) if reached.meets(reach) => {}
                _ => return,
            }
            self.earlier_bytes = self.earlier_bytes.saturating_sub(held.frames.len());
            output.append(&mut held.frames);
            self.queue.pop_front();
        }
    }

    /// The channel ends: gets that wait for their message find nothing. Replies stay in the order
    /// of their requests, as clients rely on.
    pub(super) fn give_up_gets(&mut self, empty: impl Fn(&mut Output)) {
        let waiting = self.queue.iter().filter_map(|held| match held.until {
            Until::Got(token) => Some(token),
            Until::Reached(_) => None,
        });
        for token in waiting.collect::<Vec<_>>() {
            let mut answer = Output::new();
            empty(&mut answer);
            self.answer(token, answer);
        }
    }

    /// What the oldest waits for.
    pub(super) fn next_reach(&self) -> Option<Reach> {
        match self.queue.front()?.until {
            Until::Reached(reach) => Some(reach),
            Until::Got(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::id::Lsn;

    fn synced(lsn: u64) -> Reach {
        Reach::of(Lsn(lsn), Durability::Fsync)
    }

    #[test]
    fn what_follows_a_held_reply_waits_behind_it() {
        let mut held = HeldReplies::default();
        let mut output = Output::new();
        held.hold(Until::Reached(synced(3))).put(b"first");
        held.out(&mut output).put(b"second");
        held.hold(Until::Reached(synced(2))).put(b"third");
        assert_eq!(held.bytes(), b"firstsecondthird".len());
        held.release(synced(2), &mut output);
        assert!(output.is_empty());
        held.release(synced(3), &mut output);
        assert_eq!(output.buffer_mut(), b"firstsecondthird");
        assert!(held.is_empty());
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn a_late_answer_goes_before_what_followed_it() {
        let mut held = HeldReplies::default();
        let mut output = Output::new();
        held.hold(Until::Got(ConsumerToken(1)));
        held.out(&mut output).put(b"second");
        held.hold(Until::Reached(synced(1))).put(b"third");
        held.release(synced(9), &mut output);
        assert!(output.is_empty());
        let mut answer = Output::new();
        answer.put(b"first");
        held.answer(ConsumerToken(1), answer);
        assert_eq!(held.bytes(), b"firstsecondthird".len());
        held.release(synced(9), &mut output);
        assert_eq!(output.buffer_mut(), b"firstsecondthird");
    }
}
