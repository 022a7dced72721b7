//! What the threads of one load run share: the plan, the clock, the phase, the counters and the
//! first failure. Counters are plain atomics on lines of their own, written once per batch.
use super::error::{PerfError, Result};
use super::plan::Plan;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) struct Run {
    pub(crate) plan: Plan,
    started_at: Instant,
    phase: AtomicU8,
    failure: Mutex<Option<PerfError>>,
    pub(crate) published: Counters,
    pub(crate) confirmed: Counters,
    pub(crate) delivered: Counters,
    pub(crate) nacked: AtomicU64,
    pub(crate) returned: AtomicU64,
    pub(crate) blocked: AtomicBool,
    publishers_done: AtomicUsize,
    /// When the measured stretch ended; `u64::MAX` until then.
    measured_until_ns: AtomicU64,
    /// Deliveries that may be outstanding before publishers pause.
    lead_max: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    WarmUp,
    Measure,
    /// Publishers have stopped; consumers wait for what is deferred, and time what was due before.
    Drain,
    Stop,
}

/// One counter per connection; each has one writer.
pub(crate) struct Counters(Vec<Counter>);

/// Alone on its pair of cache lines, so that two threads do not fight for it.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

impl Counters {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| Counter::default()).collect())
    }

    pub(crate) fn set(&self, index: usize, value: u64) {
        self.0[index].0.store(value, Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|counter| counter.0.load(Relaxed)).sum()
    }
}

impl Run {
    pub(crate) fn new(plan: Plan) -> Self {
        let (publishers, consumers) = (plan.publishers, plan.consumers);
        Self {
            plan,
            started_at: Instant::now(),
            phase: AtomicU8::new(Phase::WarmUp as u8),
            failure: Mutex::new(None),
            published: Counters::new(publishers),
            confirmed: Counters::new(publishers),
            delivered: Counters::new(consumers),
            nacked: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            publishers_done: AtomicUsize::new(0),
            measured_until_ns: AtomicU64::new(u64::MAX),
            lead_max: AtomicU64::new(u64::MAX),
        }
    }

    /// Nanoseconds since the run began, counted from 1: zero stands for "not stamped".
    pub(crate) fn now_ns(&self) -> u64 {
        self.started_at.elapsed().as_nanos() as u64 + 1
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.phase.load(Relaxed) == Phase::Stop as u8
    }

    pub(crate) fn publishes(&self) -> bool {
        self.phase.load(Relaxed) <= Phase::Measure as u8
    }

    pub(crate) fn is_measured(&self) -> bool {
        self.phase.load(Relaxed) == Phase::Measure as u8
    }

    /// The measured stretch ends; what is deferred is waited for.
    pub(crate) fn drain(&self) {
        self.measured_until_ns.store(self.now_ns(), Relaxed);
        // A run that has failed meanwhile stays stopped.
        let (measure, drain) = (Phase::Measure as u8, Phase::Drain as u8);
        let _ = self.phase.compare_exchange(measure, drain, Release, Relaxed);
    }

    /// Deliveries that arrive now are timed if they were due by then. So what is late does not go
    /// unmeasured because the measured stretch is over.
    pub(crate) fn timed_until_ns(&self) -> Option<u64> {
        match self.phase.load(Acquire) {
            phase if phase == Phase::Measure as u8 => Some(u64::MAX),
            phase if phase == Phase::Drain as u8 => Some(self.measured_until_ns.load(Relaxed)),
            _ => None,
        }
    }

    /// Ends the run, unless it has ended: what breaks while closing does not spoil the figures, and
    /// what breaks after the first failure is its consequence.
    pub(crate) fn fail(&self, error: PerfError) {
        if !self.is_stopped() {
            self.failure_slot().get_or_insert(error);
            self.enter(Phase::Stop);
        }
    }

    pub(crate) fn failure(&self) -> Result<()> {
        match &*self.failure_slot() {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    pub(crate) fn publisher_done(&self) {
        self.publishers_done.fetch_add(1, Relaxed);
    }

    pub(crate) fn publishers_done(&self) -> bool {
        self.publishers_done.load(Relaxed) == self.plan.publishers
    }

    pub(crate) fn limit_lead(&self, deliveries: u64) {
        self.lead_max.store(deliveries, Relaxed);
    }

    /// Whether publishers are far enough ahead of consumers.
    pub(crate) fn is_ahead(&self) -> bool {
        let lead_max = self.lead_max.load(Relaxed);
        lead_max != u64::MAX
            && self.published.total() * self.plan.copies() > self.delivered.total() + lead_max
    }

    /// How many deliveries are still wanted by a run that counts them.
    pub(crate) fn deliveries_left(&self) -> u64 {
        match self.deliveries_wanted() {
            None => u64::MAX,
            Some(wanted) => wanted.saturating_sub(self.delivered.total()),
        }
    }

    fn deliveries_wanted(&self) -> Option<u64> {
        let copies = if self.plan.publishers > 0 { self.plan.copies() } else { 1 };
        self.plan.messages.map(|messages| messages * copies)
    }

    fn failure_slot(&self) -> MutexGuard<'_, Option<PerfError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_in_the_measured_stretch_is_timed_however_late_it_arrives() {
        let run = Run::new(Plan::new("amqp://h".parse().unwrap()));
        assert_eq!(run.timed_until_ns(), None);
        run.enter(Phase::Measure);
        assert_eq!(run.timed_until_ns(), Some(u64::MAX));
        let before = run.now_ns();
        run.drain();
        let until = run.timed_until_ns().unwrap();
        assert!((before..=run.now_ns()).contains(&until) && !run.publishes());
        run.enter(Phase::Stop);
        run.drain();
        assert!(run.timed_until_ns().is_none() && run.is_stopped());
    }
}
