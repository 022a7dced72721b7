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
}

struct Held {
    until: Until,
    /// The reply and what was written after it.
    frames: Output,
}

/// The replies of one channel that wait, in order.
#[derive(Default)]
pub(super) struct HeldReplies(VecDeque<Held>);

impl HeldReplies {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The channel's client must wait before it is read again.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= HELD_REPLIES_MAX
    }

    /// Where the channel's next frame is to be written: behind what waits, or straight out.
    pub(super) fn out<'a>(&'a mut self, output: &'a mut Output) -> &'a mut Output {
        match self.0.back_mut() {
            Some(held) => &mut held.frames,
            None => output,
        }
    }

    /// Holds back what is written next until then.
    pub(super) fn hold(&mut self, until: Until) -> &mut Output {
        self.0.push_back(Held { until, frames: Output::new() });
        &mut self.0.back_mut().expect("pushed just now").frames
    }

    /// The frames that wait for `token`, to put the answer before them; they wait no more.
    pub(super) fn answer(&mut self, token: ConsumerToken) -> Option<&mut Output> {
        let held = self.0.iter_mut().find(|held| held.until == Until::Got(token))?;
        held.until = Until::Durable(Lsn(0));
        Some(&mut held.frames)
    }

    /// Lets out what has waited long enough.
    pub(super) fn release(&mut self, durable: Lsn, output: &mut Output) {
        while let Some(held) = self.0.front_mut() {
            match held.until {
                Until::Durable(lsn) if lsn <= durable => output.append(&mut held.frames),
                _ => return,
            }
            self.0.pop_front();
        }
    }

    /// Lets out everything: the channel is no more.
    pub(super) fn release_all(&mut self, output: &mut Output) {
        for mut held in self.0.drain(..) {
            output.append(&mut held.frames);
        }
    }

    /// The LSN that the oldest waits for.
    pub(super) fn next_lsn(&self) -> Option<Lsn> {
        match self.0.front()?.until {
            Until::Durable(lsn) => Some(lsn),
            Until::Got(_) => None,
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
        held.release(Lsn(2), &mut output);
        assert!(output.is_empty());
        held.release(Lsn(3), &mut output);
        assert_eq!(output.buffer_mut(), b"firstsecondthird");
        assert!(held.is_empty());
    }
}
