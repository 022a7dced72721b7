//! A queue on hold: damage on the disk may have hit it, and nobody has seen that yet. It takes
//! messages as ever, and refuses those that its limits refuse; but nothing expires, is dropped or
//! ends it for being unused. Who would take from it is turned away before it gets here.

use super::core::QueueCore;
use super::effects::Effects;
use crate::store::RecordBatch;

impl QueueCore {
    /// The same queue on hold. Call before it is used.
    #[must_use]
    pub fn on_hold(self) -> Self {
        Self { on_hold: true, ..self }
    }

    /// Goes on with what is there; what became due meanwhile ends now, and the time that it may be
    /// unused begins now.
    pub fn end_hold(&mut self, records: &mut RecordBatch, effects: &mut Effects) {
        self.on_hold = false;
        self.touch(effects);
        self.tick(records, effects);
    }
}

#[cfg(test)]
mod tests {
    use super::super::core::Publish;
    use super::super::samples::publish;
    use super::super::settings::{Behaviour, Overflow};
    use super::*;
    use crate::id::{QueueId, Seq};
    use crate::name::Name;
    use crate::time::{Millis, Now, Ttl, UnixMillis};

    fn now(ms: u64) -> Now {
        Now { monotonic: Millis(ms), unix: UnixMillis(ms) }
    }

    /// Publishes six messages that live for 50 ms to such a queue on hold; then 10 s pass.
    fn held(behaviour: Behaviour) -> (QueueCore, RecordBatch, Effects) {
        let (mut records, mut effects) = (RecordBatch::new(), Effects::new());
        let mut core = QueueCore::new(QueueId(1), true).on_hold().with_behaviour(behaviour);
        effects.now = now(1000);
        core.touch(&mut effects);
        let mut batch = vec![Publish { ttl: Ttl::of_ms(50), ..publish() }; 6];
        core.publish(&mut batch, &mut records, &mut effects);
        effects.now = now(11_000);
        core.tick(&mut records, &mut effects);
        (core, records, effects)
    }

    #[test]
    fn nothing_leaves_a_queue_on_hold_and_it_asks_for_no_look() {
        let some = || Some(Name::new("k"));
        let drop_head = || Behaviour { max_length: Some(2), ..Behaviour::default() };
        for behaviour in [
            Behaviour::default(),
            Behaviour { exact_expiry: true, ..Behaviour::default() },
            Behaviour { expires_ms: Some(100), ..drop_head() },
            Behaviour { fair_key: some(), ..drop_head() },
            Behaviour { group_key: some(), exact_expiry: true, ..Behaviour::default() },
        ] {
            let (mut core, mut records, mut effects) = held(behaviour);
            assert_eq!((core.ready_len(), effects.dead.len(), effects.idle.len()), (6, 0, 0));
            assert!(effects.deadlines.is_empty(), "{:?}", effects.deadlines);
            assert!(!core.is_idle(now(1_000_000)));
            assert_eq!(records.records(), 6, "nothing but the publishes");
            core.end_hold(&mut records, &mut effects);
            assert_eq!((core.ready_len(), effects.idle.len()), (0, 0), "what is due ends now");
        }
    }

    #[test]
    fn a_queue_on_hold_refuses_what_its_limits_refuse() {
        let overflow = Overflow::RejectPublish;
        let (core, _, effects) =
            held(Behaviour { max_length: Some(2), overflow, ..Behaviour::default() });
        assert_eq!((core.ready_len(), effects.refused.len()), (2, 4));
    }

    /// Nobody takes from it, so all that comes would stay in memory.
    #[test]
    fn what_a_queue_on_hold_has_leaves_memory_after_a_policy_made_it_exact() {
        let (mut core, mut records, mut effects) = held(Behaviour::default());
        let exact = Behaviour { exact_expiry: true, ..Behaviour::default() };
        core.set_behaviour(exact, &mut records, &mut effects);
        assert!(!effects.deadlines.is_empty(), "it asks for a look");
        core.tick(&mut records, &mut effects);
        drop(core.page_out(&[(Seq(0), Seq(u64::MAX))], 0, 0, usize::MAX));
        assert_eq!((core.ready_len(), core.absent_seqs().len()), (6, 6));
        assert_eq!((effects.dead.len(), effects.loads.len()), (0, 0));
    }

    #[test]
    fn the_time_without_use_begins_when_the_hold_ends() {
        let (mut core, mut records, mut effects) =
            held(Behaviour { expires_ms: Some(100), ..Behaviour::default() });
        core.end_hold(&mut records, &mut effects);
        assert!(!core.is_idle(now(11_099)) && core.is_idle(now(11_100)));
    }
}
