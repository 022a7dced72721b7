//! What must hold after each verb: the links got what the model allows and in queue order, nothing
//! that could go on stands still, and the counts agree.

use super::model::State;
use super::world::World;
use leveret::limits::{CONSUMER_CREDIT_BYTES, CONSUMER_CREDIT_MESSAGES};
use leveret::queue::Event;

impl World {
    /// Ends a verb as the lock hold around it does: log, then show.
    pub(super) fn drain(&mut self) {
        let lsn = self.append();
        self.core.push_events(&mut self.effects);
        let mut handed = Vec::new();
        let mut in_vain = Vec::new();
        for link in &self.links {
            let mut last = 0;
            for event in link.take() {
                let seq = match &event {
                    Event::Delivery(delivery) | Event::Got { delivery: Some(delivery), .. } => {
                        delivery.seq.0
                    }
                    Event::Got { token, .. } => {
                        in_vain.push(token.0);
                        continue;
                    }
                    Event::Ended { .. } => panic!("nobody asked for an end: {event:?}"),
                };
                assert!(seq > last, "a link got {last} before {seq}");
                last = seq;
                handed.push((seq, event));
            }
        }
        // One lock hold hands over in queue order, whichever links it is for.
        handed.sort_by_key(|(seq, _)| *seq);
        let mut gotten = Vec::new();
        for (_, event) in handed {
            match event {
                Event::Delivery(delivery) => self.model.delivered(&delivery),
                Event::Got { token, delivery: Some(delivery), ready_left } => {
                    let get = self.model.waiting.pop_front().expect("somebody waits");
                    assert_eq!(get.token, token.0, "gets are answered in the order of asking");
                    self.model.gotten(&delivery, get, ready_left);
                    gotten.push((delivery, get));
                }
                _ => {}
            }
        }
        for (delivery, get) in gotten {
            self.count_got(&delivery, get);
        }
        for token in in_vain {
            let at = self.model.waiting.iter().position(|get| get.token == token);
            self.model.waiting.remove(at.expect("it asked"));
            assert_eq!(self.model.visible().count(), 0, "a get finds what is visible");
        }
        self.note_loads();
        self.remember(lsn);
    }

    pub(super) fn finish(&mut self) {
        self.drain();
        self.model.forget_blocked();
        self.check_counts();
        self.check_residence();
        self.check_alive();
        self.check_bounds();
        self.check_progress();
    }

    fn check_counts(&mut self) {
        let visible: Vec<_> = self.model.visible().collect();
        let seqs: Vec<_> = self.core.ready_seqs().iter().map(|seq| seq.0).collect();
        assert_eq!(seqs, visible.iter().map(|entry| entry.seq).collect::<Vec<_>>());
        assert_eq!(self.core.ready_len(), visible.len());
        let bytes = visible.iter().map(|entry| entry.body_len).sum::<u64>();
        // A page does not know which of its bytes are those of a message that is lost.
        let in_page = !self.model.absent().is_empty();
        let damaged = self.model.entries.iter().filter(|e| in_page && e.state == State::Damaged);
        let blurred = bytes + damaged.map(|entry| entry.body_len).sum::<u64>();
        assert!((bytes..=blurred).contains(&self.core.ready_bytes()));
        assert_eq!(self.core.unacked_len(), self.model.out().count());
        assert_eq!(self.core.consumers_len(), self.model.consumers.len());
    }

    fn check_bounds(&self) {
        for consumer in &self.model.consumers {
            let out = self.model.out().filter(
                |entry| matches!(entry.state, State::Out { token, .. } if token == consumer.token),
            );
            let out = out.count();
            assert!(consumer.prefetch == 0 || out <= consumer.prefetch as usize, "{consumer:?}");
            let (messages, bytes) = consumer.drained;
            assert!(messages <= CONSUMER_CREDIT_MESSAGES, "{consumer:?}");
            let largest = super::BODY_LENS.iter().max().expect("there are some");
            assert!(bytes < u64::from(CONSUMER_CREDIT_BYTES) + *largest as u64, "{consumer:?}");
        }
    }

    /// Whoever can go on has gone on, or waits for a load that was asked for.
    fn check_progress(&self) {
        if let Some(head) = self.model.head().filter(|_| self.model.anyone_can_take()) {
            let State::Ready { evicted } = head.state else { unreachable!("a head is ready") };
            assert!(evicted, "seq {} is not handed over though somebody can take it", head.seq);
            assert!(self.load.is_some(), "nobody loads seq {}", head.seq);
        }
        if let Some(get) = self.model.waiting.front() {
            assert!(self.load.is_some(), "get {} waits for nothing", get.token);
        }
    }
}
