//! Runs one plan against one broker and measures it: declare, connect, warm up, measure, stop,
//! clean up. The measured stretch lies in the middle: rates are counter differences over it.
use super::connection::Connection;
use super::consumer::{Consumed, Consumer};
use super::error::{PerfError, Result};
use super::expiring::Expiring;
use super::histogram::Histogram;
use super::plan::Plan;
use super::publisher::{Published, Publisher};
use super::report::{Latency, Measured, Report};
use super::run::{Phase, Run};
use super::usage::{Memory, Program};
use super::watch::Watch;
use super::{start_thread, topology};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Instant;

pub(crate) fn measure(plan: Plan) -> Result<Report> {
    plan.check()?;
    let mut control = Connection::open(&plan.url, "leveret perf control")?;
    let backlog = topology::prepare(&mut control, &plan)?;
    let run = Arc::new(Run::new(plan));
    let report =
        Expiring::fill(&run.plan).and_then(|expiring| measure_prepared(&run, backlog, expiring));
    if !run.plan.keep_queues {
        let removed = topology::remove(&mut control, &run.plan);
        // A failed run has a better reason to tell than that its queues could not be removed.
        if report.is_ok() {
            removed.map_err(|error| error.inside("remove the queues"))?;
        }
    }
    let closed = control.close();
    let report = report?;
    closed.map(|()| report)
}

fn measure_prepared(
    run: &Arc<Run>,
    backlog: u64,
    mut expiring: Option<Expiring>,
) -> Result<Report> {
    let plan = &run.plan;
    if plan.publishers == 0 && plan.messages.is_some_and(|messages| messages > backlog) {
        return Err(PerfError::new(format!(
            "queues {}-* hold {backlog} messages; lower --messages, or fill them with more",
            plan.prefix
        )));
    }
    let publishers = open_publishers(run)?;
    let mut watch = Watch::new(run);
    // A counted run starts with its first message and has no warm-up.
    let counted = plan.messages.is_some();
    let opened = Sample::take(run)?;
    if counted {
        begin(run, &mut expiring)?;
    }
    let consumers = start_consumers(run)?;
    let publishers = start_publishers(publishers)?;
    let stretch = let_pass(run, &mut watch, opened, &mut expiring);
    run.enter(Phase::Stop);
    let learned = join(publishers, consumers);
    run.failure()?;
    let Stretch { first, last, missing } = stretch?;
    let expiring_left = expiring.map(|mut expiring| expiring.messages_left()).transpose()?;
    Ok(Report {
        measured: first.until(&last, plan),
        backlog: last.backlog(plan, backlog),
        deferred: plan.deferred_by(),
        missing,
        latency: Latency::of(&learned.latency),
        confirm_latency: Latency::of(&learned.confirm_latency),
        oversleep: Latency::of(&learned.oversleep),
        memory: last.memory,
        rss_bytes_max: watch.rss_bytes_max,
        out_of_order: learned.out_of_order,
        early: learned.early,
        expiring_left,
        nacked: run.nacked.load(Relaxed),
        returned: run.returned.load(Relaxed),
        blocked: run.blocked.load(Relaxed),
    })
}

/// The measured stretch, and what was not delivered after it.
struct Stretch {
    first: Sample,
    last: Sample,
    missing: u64,
}

/// Lets the run pass. Deferred messages warm up until the first of them arrive, and at the end the
/// last are waited for.
fn let_pass(
    run: &Run,
    watch: &mut Watch<'_>,
    opened: Sample,
    expiring: &mut Option<Expiring>,
) -> Result<Stretch> {
    let plan = &run.plan;
    if plan.messages.is_some() {
        watch.until_counted()?;
        return Ok(Stretch { first: opened, last: Sample::take(run)?, missing: 0 });
    }
    watch.pause(plan.warm_up + plan.deferred_by())?;
    let first = Sample::take(run)?;
    if !run.is_stopped() {
        begin(run, expiring)?;
    }
    watch.pause(plan.duration)?;
    let last = Sample::take(run)?;
    let mut missing = 0;
    if plan.deferral.is_some() && plan.consumers > 0 && !run.is_stopped() {
        run.drain();
        missing = watch.until_drained()?;
    }
    Ok(Stretch { first, last, missing })
}

fn begin(run: &Run, expiring: &mut Option<Expiring>) -> Result<()> {
    run.enter(Phase::Measure);
    expiring.as_mut().map_or(Ok(()), Expiring::release)
}

fn open_publishers(run: &Arc<Run>) -> Result<Vec<Publisher>> {
    (0..run.plan.publishers)
        .map(|index| Publisher::open(run, index))
        .collect::<Result<_>>()
        .inspect_err(|_| run.enter(Phase::Stop))
}

fn start_consumers(run: &Arc<Run>) -> Result<Vec<JoinHandle<Consumed>>> {
    (0..run.plan.consumers)
        .map(|index| {
            let consumer = Consumer::open(run, index)?;
            start_thread("consumer", move || consumer.consume_all())
        })
        .collect::<Result<_>>()
        .inspect_err(|_| run.enter(Phase::Stop))
}

fn start_publishers(publishers: Vec<Publisher>) -> Result<Vec<JoinHandle<Published>>> {
    let start = |publisher: Publisher| start_thread("publisher", move || publisher.publish_all());
    publishers.into_iter().map(start).collect()
}

/// What all threads learned together.
struct Learned {
    latency: Histogram,
    confirm_latency: Histogram,
    oversleep: Histogram,
    out_of_order: u64,
    early: u64,
}

fn join(publishers: Vec<JoinHandle<Published>>, consumers: Vec<JoinHandle<Consumed>>) -> Learned {
    let mut all = Learned {
        latency: Histogram::new(),
        confirm_latency: Histogram::new(),
        oversleep: Histogram::new(),
        out_of_order: 0,
        early: 0,
    };
    for published in publishers.into_iter().filter_map(|thread| thread.join().ok()) {
        all.confirm_latency.add(&published.confirm_latency);
        all.oversleep.add(&published.oversleep);
    }
    for consumed in consumers.into_iter().filter_map(|thread| thread.join().ok()) {
        all.latency.add(&consumed.latency);
        all.out_of_order += consumed.out_of_order;
        all.early += consumed.early;
    }
    all
}

/// The counters at one moment.
struct Sample {
    at: Instant,
    published: u64,
    confirmed: u64,
    delivered: u64,
    own_cpu_us: u64,
    cpu_us: Option<u64>,
    memory: Option<Memory>,
}

impl Sample {
    fn take(run: &Run) -> Result<Self> {
        let broker = run.plan.pid.map(Program::Pid);
        Ok(Self {
            at: Instant::now(),
            published: run.published.total(),
            confirmed: run.confirmed.total(),
            delivered: run.delivered.total(),
            own_cpu_us: Program::Own.cpu_us()?,
            cpu_us: broker.map(Program::cpu_us).transpose()?,
            memory: broker.map(Program::memory).transpose()?,
        })
    }

    fn until(&self, last: &Self, plan: &Plan) -> Measured {
        let cpu_us = self.cpu_us.zip(last.cpu_us);
        Measured {
            seconds: (last.at - self.at).as_secs_f64(),
            published: (plan.publishers > 0).then_some(last.published - self.published),
            confirmed: (plan.confirm_window > 0 && plan.publishers > 0)
                .then_some(last.confirmed - self.confirmed),
            delivered: (plan.consumers > 0).then_some(last.delivered - self.delivered),
            own_cpu_us: last.own_cpu_us - self.own_cpu_us,
            cpu_us: cpu_us.map(|(first, last)| last.saturating_sub(first)),
        }
    }

    /// Messages that were published, or there from the start, and not yet delivered.
    fn backlog(&self, plan: &Plan, at_start: u64) -> u64 {
        (at_start + self.published * plan.copies()).saturating_sub(self.delivered)
    }
}
