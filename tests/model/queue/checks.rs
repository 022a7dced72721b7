//! What must hold after each verb: the links got what the model allows and in queue order, nothing
//! that could go on stands still, and the counts agree.

use super::model::State;
use super::world::World;
use leveret::limits::{CONSUMER_CREDIT_BYTES, CONSUMER_CREDIT_MESSAGES};
use leveret::queue::Event;
use std::collections::VecDeque;

/// What the links got in one lock hold.
pub(super) struct Arrivals {
    lsn: Option<u64>,
    links: Vec<VecDeque<Event>>,
    /// Gets that were told that there is nothing.
    in_vain: Vec<u64>,
}

fn seq_of(event: &Event) -> u64 {
    match event {
        Event::Delivery(delivery) => delivery.seq.0,
        Event::Got { delivery: Some(delivery), .. } => delivery.seq.0,
        _ => panic!("nobody asked for an end: {event:?}"),
    }
}

impl Arrivals {
    /// The end of a consumer, which was told before the others had anything.
    pub(super) fn take_end(&mut self, link: usize) -> Option<Event> {
        self.links[link].pop_front()
    }

    /// This message, if it comes next on its link.
    fn take(&mut self, seq: u64) -> Option<Event> {
        let link = self.links.iter_mut().find(|l| l.front().is_some_and(|e| seq_of(e) == seq))?;
        link.pop_front()
    }

    fn take_first(&mut self) -> Option<Event> {
        let first = self.links.iter().filter_map(VecDeque::front).map(seq_of).min()?;
        self.take(first)
    }
}

impl World {
    /// Ends a verb as the lock hold around it does: log, then show.
    pub(super) fn collect(&mut self) -> Arrivals {
        let lsn = self.append();
        self.core.push_events(&mut self.effects);
        let mut in_vain = Vec::new();
        let links = self.links.iter().map(|link| {
            let mut events = VecDeque::from(link.take());
            events.retain(|event| match event {
                Event::Got { token, delivery: None, .. } => {
                    in_vain.push(token.0);
                    false
                }
                _ => true,
            });
            events
        });
        let links = links.collect();
        Arrivals { lsn, links, in_vain }
    }

    /// A publish that finds the queue clear and a consumer goes past all others, whatever it is.
    pub(super) fn hand_over_at_once(&mut self, seq: u64, arrivals: &mut Arrivals) {
        if self.model.anyone_can_take() {
            match arrivals.take(seq) {
                Some(Event::Delivery(delivery)) => self.model.delivered(&delivery),
                other => panic!("somebody can take seq {seq} and gets {other:?}"),
            }
        }
    }

    /// Gives the links the rest. `looks`: the verb looked for what is due and too much.
    pub(super) fn drain_rest(&mut self, mut arrivals: Arrivals, looks: bool) {
        let mut gotten = Vec::new();
        if looks {
            self.model.look();
        }
        // One lock hold hands over in queue order, whichever links it is for.
        while let Some(event) = arrivals.take_first() {
            assert!(looks, "this verb hands nothing over: {event:?}");
            match event {
                Event::Delivery(delivery) => self.model.delivered(&delivery),
                Event::Got { token, delivery: Some(delivery), ready_left } => {
                    let get = self.model.waiting.pop_front().expect("somebody waits");
                    assert_eq!(get.token, token.0, "gets are answered in the order of asking");
                    self.model.gotten(&delivery, get, ready_left);
                    gotten.push((*delivery, get));
                }
                _ => {}
            }
            self.model.look();
        }
        for (delivery, get) in gotten {
            self.count_got(&delivery, get);
        }
        for token in arrivals.in_vain {
            let at = self.model.waiting.iter().position(|get| get.token == token);
            self.model.waiting.remove(at.expect("it asked"));
            assert_eq!(self.model.visible().count(), 0, "a get finds what is visible");
        }
        if looks {
            self.model.trim();
        }
        self.note_deaths();
        self.note_deadlines();
        self.note_loads();
        self.remember(arrivals.lsn);
    }

    pub(super) fn drain(&mut self, looks: bool) {
        let arrivals = self.collect();
        self.drain_rest(arrivals, looks);
    }

    /// Ends a verb that looks at the head.
    pub(super) fn finish(&mut self) {
        self.drain(true);
        self.check();
    }

    /// Ends a verb that does not.
    pub(super) fn finish_aside(&mut self) {
        self.drain(false);
        self.check();
    }

    pub(super) fn check(&mut self) {
        self.model.forget_blocked();
        self.check_counts();
        self.check_waits();
        self.check_residence();
        self.check_alive();
        self.check_bounds();
        self.check_progress();
        self.check_deadlines();
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
            let largest = super::ops::BODY_LENS.iter().max().expect("there are some");
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
