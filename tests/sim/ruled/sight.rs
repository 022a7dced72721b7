//! What clients of these queues read: it may be there, and says the truth.

use super::chain::{Chain, Lane, Span, State};
use super::copy::Copy;
use super::keys::Holder;
use super::ledger::{Holding, Ledger, Recorded};
use super::{KEYED, NAMES, RANKED, SINGLE};
use crate::client::{Content, Seen};
use crate::oracle::Place;

const CHANNEL_CLOSE: u32 = 20 << 16 | 40;
const RECOVER_OK: u32 = 60 << 16 | 111;
const GET_EMPTY: u32 = 60 << 16 | 72;
const COMMIT_OK: u32 = 90 << 16 | 21;

/// How a message came to a client.
struct Handover {
    tag: u64,
    queue: usize,
    no_ack: bool,
    /// It was in the queue at that time or later.
    since_ms: u64,
    consumer: Option<u32>,
}

impl Ledger {
    pub(crate) fn saw(&mut self, place: Place, lsn: u64, seen: &Seen<'_>) {
        match seen {
            Seen::Method { method, .. } => self.saw_reply(place, *method),
            Seen::Deliver { consumer: tag, tag: delivery_tag, redelivered, content } => {
                let consumer = self.channel(place).consumers.get(tag).expect("a consumer of ours");
                let was_active = consumer.was_active;
                let handover = Handover {
                    tag: *delivery_tag,
                    queue: consumer.queue,
                    no_ack: consumer.no_ack,
                    // What expires as it comes may still reach one that waits.
                    since_ms: consumer.since_ms.saturating_sub(1),
                    consumer: Some(*tag),
                };
                if handover.queue == SINGLE {
                    assert!(was_active, "{place:?} {tag} gets what another one is to have");
                    self.stats.single_active += 1;
                }
                let _ = self.saw_message(place, lsn, &handover, *redelivered, content);
            }
            Seen::GetOk { tag, redelivered, content, .. } => {
                let got = self.channel(place).gets.pop_front().expect("a get of ours");
                let handover = Handover {
                    tag: *tag,
                    queue: got.queue,
                    no_ack: got.no_ack,
                    since_ms: got.at_ms,
                    consumer: None,
                };
                let rank = self.saw_message(place, lsn, &handover, *redelivered, content);
                let overtaken = got.rank.is_some_and(|best| best < rank);
                assert!(!overtaken, "rank {rank} was taken, and {:?} was ready", got.rank);
            }
            Seen::Ack { up_to, multiple } => self.saw_answer(place, *up_to, *multiple, true),
            Seen::Nack { up_to, multiple } => self.saw_answer(place, *up_to, *multiple, false),
            Seen::Cancel { consumer } => {
                let is_there =
                    |queue: &super::ledger::Queue| queue.consumers.contains(&(place, *consumer));
                let active = self.queues.iter().any(is_there);
                assert!(!active, "a consumer was cancelled for nothing");
            }
            Seen::Return { .. } => panic!("nothing of theirs is mandatory"),
        }
    }

    fn saw_reply(&mut self, place: Place, method: u32) {
        match method {
            CHANNEL_CLOSE => {
                assert!(!self.channel(place).is_open, "{place:?} was refused for nothing");
            }
            RECOVER_OK => self.channel(place).recovering -= 1,
            GET_EMPTY => drop(self.channel(place).gets.pop_front()),
            COMMIT_OK => {
                let commit = self.channel(place).commits.pop_front();
                self.is_safe(&commit.expect("a commit of ours"));
            }
            _ => {}
        }
    }

    /// Somebody was told that all of this is safe.
    fn is_safe(&mut self, recorded: &Recorded) {
        recorded.chains.iter().for_each(|at| self.is_confirmed(*at, recorded.turn));
        for turn in &recorded.originals {
            let before = self.span(*turn).before;
            assert!(before < self.synced, "a duplicate is confirmed before its original");
            self.stats.duplicates_confirmed += 1;
        }
    }

    fn is_confirmed(&mut self, at: usize, turn: usize) {
        let before = self.span(turn).before;
        let chain = &mut self.chains[at];
        assert_ne!(chain.taken, Some(false), "confirmed, and refused: {chain:?}");
        chain.taken = Some(true);
        if chain.publication.persistent && self.setup.rules[chain.root].durable {
            assert!(before < self.synced, "confirmed before its sync: {chain:?}");
            chain.safe = true;
        }
    }

    fn saw_answer(&mut self, place: Place, up_to: u64, multiple: bool, taken: bool) {
        let up_to = usize::try_from(up_to).expect("few publishes");
        let published = &mut self.channel(place).published;
        assert!((1..=published.len()).contains(&up_to), "an answer to no publish: {up_to}");
        let first = if multiple { 0 } else { up_to - 1 };
        let waiting = published[first..up_to].iter_mut().filter(|it| !it.answered);
        let answered: Vec<_> = waiting
            .map(|it| {
                it.answered = true;
                it.recorded.clone()
            })
            .collect();
        assert!(!answered.is_empty(), "answered twice: {up_to}");
        for recorded in answered {
            self.stats.confirms += u64::from(taken);
            self.stats.nacks += u64::from(!taken);
            assert!(taken || !recorded.chains.is_empty(), "{up_to} was refused by no queue");
            if taken {
                self.is_safe(&recorded);
            } else {
                recorded.chains.into_iter().for_each(|at| self.is_refused(at));
            }
        }
    }

    fn is_refused(&mut self, at: usize) {
        let refuses = self.refuses(self.chains[at].root);
        let chain = &mut self.chains[at];
        let may = refuses && chain.taken != Some(true) && !chain.was_at_root;
        assert!(may, "it was taken, and then refused: {chain:?}");
        (chain.taken, chain.excused) = (Some(false), true);
    }

    /// Says what rank it has; the best if that does not count any more.
    fn saw_message(
        &mut self,
        place: Place,
        lsn: u64,
        handover: &Handover,
        redelivered: bool,
        content: &Content<'_>,
    ) -> u8 {
        self.stats.deliveries += 1;
        let queue = handover.queue;
        let copy = Copy::new(content.header, queue, redelivered);
        let at = self.identify(&copy);
        let address = (content.exchange.as_bytes(), content.key.as_bytes());
        let Chain { publication, wait, .. } = &self.chains[at];
        let read = (content.header, content.body);
        copy.check_content(publication, wait.is_some(), read, address);
        self.check_deaths(at, &copy);
        let channel = &self.channels[&place];
        if !handover.no_ack && (!channel.is_open || channel.recovering > 0) {
            // It was given back meanwhile.
            return 0;
        }
        let about = format!("{copy:?} for {place:?} of {:?}", self.chains[at]);
        let holding = Holding { chain: at, queue };
        if self.chains[at].ended_with_queue && !handover.no_ack {
            self.channel(place).tags.insert(handover.tag, holding);
            return 0;
        }
        let is_ended = self.chains[at].ended_with_queue;
        self.check_time(at, &copy, handover.since_ms);
        self.note_left(at, lsn);
        self.check_attempt(at, &copy);
        self.note_seen(at, &copy, lsn);
        // Its end is in a record of some turn before.
        let read = self.turns.len();
        let end = self.turns[read - 1].end;
        self.turns.push(Span { before: 0, end });
        let is_first = !redelivered && copy.deaths.is_empty();
        let holder = Holder { queue, place, consumer: handover.consumer };
        if !handover.no_ack {
            self.check_group(at, holder, is_first);
        }
        let chain = &mut self.chains[at];
        chain.holder = Some(holder);
        assert!(is_ended || chain.state == State::There, "delivered once too often: {about}");
        let again = chain.delivered == Some(copy.deaths.len());
        assert!(redelivered || !again, "delivered again, and not redelivered: {about}");
        chain.delivered = Some(copy.deaths.len());
        if handover.no_ack {
            chain.state = State::Ended(read);
        } else {
            chain.state = State::Held(place, handover.tag);
            self.channel(place).tags.insert(handover.tag, holding);
        }
        if handover.consumer.is_some() && is_first {
            self.check_order(place, at);
        }
        self.chains[at].rank()
    }

    /// What is expired reaches nobody.
    fn check_time(&self, at: usize, copy: &Copy, since_ms: u64) {
        let due_ms = match copy.deaths.first() {
            None => self.chains[at].due_ms,
            Some(death) if self.setup.policies == 0 => {
                self.ttl_ms(copy.queue).map(|ttl| death.time_ms + 999 + ttl)
            }
            Some(_) => None,
        };
        let expired = due_ms.is_some_and(|due| due <= since_ms);
        assert!(!expired, "{copy:?} was due at {due_ms:?}, and there at {since_ms}");
    }

    /// A copy is there: with no fewer deaths than before, and the right count.
    pub(super) fn note_seen(&mut self, at: usize, copy: &Copy, lsn: u64) {
        let limit = self.setup.rules[copy.queue].limit;
        let chain = &mut self.chains[at];
        let said = || format!("{copy:?} of {chain:?}");
        assert!(copy.deaths.len() >= chain.deaths.0, "it had died before: {}", said());
        let at_root = copy.deaths.is_empty();
        assert!(!at_root || chain.taken != Some(false), "it was refused: {}", said());
        assert!(!at_root || !chain.has_left, "it had gone from there: {}", said());
        if copy.queue == RANKED && at_root {
            let (count, all) = (copy.count.unwrap_or(0), chain.returns.min()..=chain.returns.max());
            assert!(all.contains(&count), "it came back so often: {}", said());
            assert!(limit.is_none_or(|limit| count <= limit), "it came back too often: {}", said());
            self.stats.counted += u64::from(count > 0);
        } else {
            assert_eq!(copy.count, None, "{} counts nothing: {}", NAMES[copy.queue], said());
        }
        if copy.deaths.len() > chain.deaths.0 {
            chain.deaths = (copy.deaths.len(), lsn);
        }
        chain.was_at_root |= at_root;
    }

    /// Nothing that was ready before it, and goes first, comes behind it.
    fn check_order(&mut self, place: Place, at: usize) {
        let chain = &self.chains[at];
        let wait = chain.wait.as_ref();
        // What an operator gave another time has its place by when it got that.
        let has_place = wait.is_none_or(|wait| wait.in_order);
        if !has_place || chain.root == KEYED && chain.publication.group.is_none() {
            return;
        }
        let this = (wait.map_or(0, |wait| wait.until_ms), at);
        self.stats.late_in_order += u64::from(wait.is_some());
        let lane = chain.lane();
        let newest = &mut self.channels.get_mut(&place).expect("it is there").newest;
        let lanes = newest.range(lane..=Lane { rank: u8::MAX, ..lane });
        let later = lanes.map(|(_, other)| *other).find(|other| *other > this);
        assert!(later.is_none(), "{later:?} came before {this:?} in {lane:?}");
        newest.insert(lane, this);
    }
}
