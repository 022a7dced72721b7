//! What the main thread does while the others put the load on: lets a stretch of the run pass,
//! keeps publishers from getting too far ahead, and notes the broker's memory.
use super::error::{PerfError, Result};
use super::lead::Lead;
use super::run::Run;
use super::usage::Program;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A counted run in which nothing moves for this long, beyond what it defers, is given up.
const STALL: Duration = Duration::from_secs(30);
/// How long after the last deferred message was due a run waits for those that have not come.
const OVERDUE_MAX: Duration = Duration::from_secs(10);
const MEMORY_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Watch<'a> {
    run: &'a Run,
    lead: Option<Lead>,
    /// The most memory that the broker was seen to take.
    pub(crate) rss_bytes_max: Option<u64>,
    memory_at: Instant,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(run: &'a Run) -> Self {
        let lead = run.plan.limits_lead().then(|| Lead::new(&run.plan));
        let mut watch = Self { run, lead, rss_bytes_max: None, memory_at: Instant::now() };
        watch.limit_lead(Instant::now());
        watch
    }

    /// Waits out a span of time, unless the run fails before.
    pub(crate) fn pause(&mut self, span: Duration) -> Result<()> {
        let until = Instant::now() + span;
        while !self.run.is_stopped() {
            let now = Instant::now();
            self.limit_lead(now);
            self.note_memory(now)?;
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                break;
            }
            sleep(left.min(Duration::from_millis(20)));
        }
        Ok(())
    }

    /// Waits until everything is published, confirmed and delivered, or nothing moves any more.
    pub(crate) fn until_counted(&mut self) -> Result<()> {
        let run = self.run;
        let stall = STALL + run.plan.deferred_by();
        let mut last_total = 0;
        let mut moved_at = Instant::now();
        while !run.is_stopped() {
            let consumed = run.plan.consumers == 0 || run.deliveries_left() == 0;
            if consumed && run.publishers_done() {
                break;
            }
            let total = run.published.total() + run.confirmed.total() + run.delivered.total();
            let now = Instant::now();
            if total != last_total {
                (last_total, moved_at) = (total, now);
            } else if now - moved_at > stall {
                let way_out = if run.blocked.load(Relaxed) {
                    "the broker blocks publishers by an alarm (memory or disk): consume, or raise \
                     its limit"
                } else {
                    "look into the broker's log"
                };
                run.fail(PerfError::new(format!(
                    "nothing moved for {} s: {} published, {} confirmed, {} delivered; {way_out}",
                    stall.as_secs(),
                    run.published.total(),
                    run.confirmed.total(),
                    run.delivered.total()
                )));
            }
            self.note_memory(now)?;
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits for what was published and not delivered when publishers stopped, but not much longer
    /// than it is deferred. Returns how many messages did not come.
    pub(crate) fn until_drained(&mut self) -> Result<u64> {
        let run = self.run;
        let until = Instant::now() + run.plan.deferred_by() + OVERDUE_MAX;
        let missing = || {
            let published = run.published.total() * run.plan.copies();
            published.saturating_sub(run.delivered.total())
        };
        while !run.is_stopped() {
            let arrived = run.publishers_done() && missing() == 0;
            let now = Instant::now();
            if arrived || now > until {
                break;
            }
            self.note_memory(now)?;
            sleep(Duration::from_millis(1));
        }
        Ok(missing())
    }

    fn limit_lead(&mut self, now: Instant) {
        if let Some(lead) = &mut self.lead {
            self.run.limit_lead(lead.limit(now, self.run.delivered.total()));
        }
    }

    fn note_memory(&mut self, now: Instant) -> Result<()> {
        if let Some(pid) = self.run.plan.pid
            && now >= self.memory_at
        {
            let memory = Program::Pid(pid).memory()?;
            self.rss_bytes_max = self.rss_bytes_max.max(Some(memory.rss_bytes));
            self.memory_at = now + MEMORY_EVERY;
        }
        Ok(())
    }
}
