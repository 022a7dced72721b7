//! Runs cases on a few threads; a case that panics has failed.

use crate::cases::Case;
use crate::outcome::{Outcome, Stop};
use crate::trial::{Target, Trial};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) id: String,
    pub(crate) outcome: Outcome,
    pub(crate) time: Duration,
    /// Headings in `differences.md` that the case's expectations depend on.
    pub(crate) differences: Vec<&'static str>,
}

/// One verdict per case, in the order of the cases.
pub(crate) fn run(cases: &[Case], target: &Target, jobs: usize) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    // Names of an earlier, interrupted run must not be met again.
    let run = run_number();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { break };
                    let prefix = format!("{run:x}.{index}.{}", case.slug());
                    let verdict = judge(case, &Trial::new(target, prefix));
                    let mut verdicts = verdicts.lock().expect("no thread panics with the lock");
                    verdicts.push((index, verdict));
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().expect("no thread panics with the lock");
    verdicts.sort_by_key(|(index, _)| *index);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

fn run_number() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_millis() as u64 ^ (u64::from(std::process::id()) << 40)
}

fn judge(case: &Case, trial: &Trial<'_>) -> Verdict {
    let start = Instant::now();
    let ran = catch_unwind(AssertUnwindSafe(|| (case.run)(trial)));
    let outcome = ran.unwrap_or_else(|panic| Err(Stop::Failed(panic_text(&*panic))));
    let time = start.elapsed();
    let cleaned = trial.clean_up();
    Verdict { id: case.id(), outcome: outcome.and(cleaned), time, differences: trial.differences() }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned()
}
