//! How many messages publishers may be ahead of consumers: as many as were delivered in the last
//! moment. Without it an unpaced publisher fills megabytes of socket buffers in front of a slow
//! broker, and the figures tell of those.
use super::plan::Plan;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What may be under way however slow the broker is, as a count and in bytes of bodies.
const MESSAGES_MIN: u64 = 2_000;
const BYTES_MIN: u64 = 4 << 20;

pub(crate) struct Lead {
    span: Duration,
    at_least: u64,
    /// Deliveries so far, at moments of the last `span`.
    delivered: VecDeque<(Instant, u64)>,
}

impl Lead {
    pub(crate) fn new(plan: &Plan) -> Self {
        let messages = (BYTES_MIN / plan.size.max(1) as u64).clamp(2, MESSAGES_MIN);
        let at_least = messages * plan.copies();
        Self { span: plan.lead, at_least, delivered: VecDeque::new() }
    }

    /// Deliveries that may be outstanding from now on.
    pub(crate) fn limit(&mut self, now: Instant, delivered: u64) -> u64 {
        self.delivered.push_back((now, delivered));
        while self.delivered.get(1).is_some_and(|&(at, _)| now - at >= self.span) {
            self.delivered.pop_front();
        }
        let (since, before) = self.delivered[0];
        let elapsed = (now - since).max(Duration::from_millis(1));
        let in_span = (delivered - before) as f64 * self.span.as_secs_f64() / elapsed.as_secs_f64();
        self.at_least.max(in_span as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_rate_of_the_last_moment() {
        let plan = Plan::new("amqp://h".parse().unwrap());
        let mut lead = Lead::new(&plan);
        let start = Instant::now();
        assert_eq!(lead.limit(start, 0), MESSAGES_MIN);
        let at = |ms| start + Duration::from_millis(ms);
        // 1 M/s for half a second, then nothing for as long.
        let limits: Vec<u64> =
            (1..50).map(|tick: u64| lead.limit(at(tick * 20), tick.min(25) * 20_000)).collect();
        assert_eq!((limits[0], limits[24]), (250_000, 250_000));
        assert_eq!(limits[48], MESSAGES_MIN);
    }

    #[test]
    fn large_messages_count_by_their_bytes() {
        let size = 1 << 20;
        let plan = Plan { size, ..Plan::new("amqp://h".parse().unwrap()) };
        assert_eq!(Lead::new(&plan).limit(Instant::now(), 0), 4);
    }
}
