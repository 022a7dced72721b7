//! Ending deliveries and the channel-wide limit, done to the queue and the model as links do it.

use super::model::{Limit, State};
use super::world::{CHANNELS, QUEUE, World};
use leveret::id::Seq;
use leveret::queue::Settlement;

impl World {
    /// Ends deliveries as links do: one call a channel, then the channel's limit lets others go on.
    pub(super) fn settle(&mut self, seqs: &[u64], how: Settlement, transaction: bool) {
        for channel in 0..CHANNELS {
            let pair = |seq: &u64| match self.model.out().find(|e| e.seq == *seq)?.state {
                State::Out { slot, channel: c, .. } if c == channel => Some((slot, Seq(*seq))),
                _ => None,
            };
            let pairs: Vec<_> = seqs.iter().filter_map(pair).collect();
            // Another's slot with a seq that is not there: passed over.
            let other = self.model.out().find(|entry| !seqs.contains(&entry.seq));
            let stray = other.and_then(|entry| match entry.state {
                State::Out { slot, .. } => Some((slot, Seq(entry.seq + 1_000_000))),
                _ => None,
            });
            let pairs: Vec<_> = stray.into_iter().chain(pairs).collect();
            if transaction && !how.gives_back() {
                self.record_ends(&pairs, how);
            }
            let mut limited = 0;
            // One that is named twice has ended when it comes again.
            for (_, seq) in &pairs {
                if self.model.is_out(seq.0) {
                    limited += u32::from(self.model.settled(seq.0, how));
                }
            }
            let (records, effects) = (&mut self.records, &mut self.effects);
            if transaction {
                self.core.settle_recorded(&pairs, how, records, effects);
            } else {
                self.core.settle(&pairs, how, records, effects);
            }
            self.learn_waits();
            self.drain(true);
            if limited > 0 {
                let taken = &mut self.model.limits[channel].taken;
                *taken = taken.saturating_sub(limited);
                self.limiters[channel].give(limited);
                self.resume(channel);
            }
            self.finish_aside();
        }
    }

    /// The ends that a transaction's record has to name.
    fn record_ends(&mut self, pairs: &[(u32, Seq)], how: Settlement) {
        let recorded = self.core.recorded(pairs, how);
        let out = pairs.iter().filter(|(_, seq)| self.model.is_out(seq.0));
        let known: Vec<_> = out.map(|(_, seq)| *seq).collect();
        let goes_on = how == Settlement::Discard && self.model.behaviour.dead_letter.is_some();
        let ends = |seq: &Seq| !goes_on && self.model.find(seq.0).persistent;
        let known: Vec<_> = known.into_iter().filter(ends).collect();
        assert_eq!(recorded, known, "the journal knows the persistent ones");
        self.records.begin_transaction();
        self.records.ack(QUEUE, recorded.iter().map(|seq| (*seq, *seq)));
        self.records.end_transaction();
    }

    /// As a link does: the next is asked for only when this one has had its turn.
    fn resume(&mut self, channel: usize) {
        loop {
            let next = self.limiters[channel].next_starved();
            self.model.starved = self.limiters[channel].starved().iter().map(|t| t.0).collect();
            let Some(token) = next else { break };
            let key = self.keys.get(&token.0);
            if let Some(key) = key {
                self.core.grant(*key, 0, 0, &mut self.records, &mut self.effects);
            }
            let looks = key.is_some();
            self.drain(looks);
        }
        self.model.starved.clear();
    }

    pub(super) fn limit(&mut self, channel: usize, limit: u32) {
        if limit == 0 && !self.limiters[channel].is_active() {
            return;
        }
        let (mut count, mut changed) = (0, 0);
        for entry in &mut self.model.entries {
            if let State::Out { channel: c, limited, .. } = &mut entry.state
                && *c == channel
            {
                changed += u32::from(*limited != (limit != 0));
                *limited = limit != 0;
                count += 1;
            }
        }
        self.model.limits[channel] = Limit { limit, taken: count };
        self.limiters[channel].set(limit, changed);
        self.resume(channel);
        self.finish_aside();
    }
}
