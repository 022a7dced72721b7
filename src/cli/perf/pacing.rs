//! When a publish is due, if a rate is asked for. Arithmetic on nanoseconds since the run's start,
//! plus the one sleep that waits for it.
//!
//! Messages are due in ticks of at least `TICK_NS`: at low rates a tick is one message, at high
//! rates several are due at once, and their common due time is the time they are measured from.
use std::fs;
use std::time::Duration;

/// Waking up more often would cost more CPU than it adds to the picture.
const TICK_NS: u128 = 100_000;
const SECOND_NS: u128 = 1_000_000_000;

/// The share of one publisher in a rate that all publishers reach together.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    per_tick: u64,
    /// A tick lasts `tick_numerator / rate` nanoseconds; kept as a fraction so nothing drifts.
    tick_numerator: u128,
    rate: u128,
    /// Publishers take turns instead of all waking up at the same time.
    offset_ns: u64,
}

impl Pacer {
    pub(crate) fn new(rate: u64, publishers: u64, index: u64) -> Self {
        assert!(rate > 0 && index < publishers, "a rate and a publisher to pace");
        let rate = u128::from(rate);
        let per_tick = (rate * TICK_NS / (u128::from(publishers) * SECOND_NS)).max(1);
        let tick_numerator = per_tick * u128::from(publishers) * SECOND_NS;
        let offset = tick_numerator * u128::from(index) / (rate * u128::from(publishers));
        Self { per_tick: per_tick as u64, tick_numerator, rate, offset_ns: offset as u64 }
    }

    pub(crate) fn per_tick(&self) -> u64 {
        self.per_tick
    }

    /// When this publisher's message `index` (from 0) is due.
    pub(crate) fn due_at(&self, index: u64) -> u64 {
        let tick = u128::from(index / self.per_tick);
        // Rounded up, so that at this time the message counts as due.
        (tick * self.tick_numerator).div_ceil(self.rate) as u64 + self.offset_ns
    }

    /// How many messages are due by `now_ns`.
    pub(crate) fn due_by(&self, now_ns: u64) -> u64 {
        match now_ns.checked_sub(self.offset_ns) {
            None => 0,
            Some(ns) => {
                let ticks = u128::from(ns) * self.rate / self.tick_numerator + 1;
                ticks as u64 * self.per_tick
            }
        }
    }
}

/// Sleeps that long, to within some microseconds once [`sharpen_sleep`] was called.
pub(crate) fn sleep_ns(ns: u64) {
    std::thread::sleep(Duration::from_nanos(ns));
}

/// Asks the kernel not to round this thread's sleeps up by its usual 50 us, which would show up
/// as broker latency. Where that is not allowed, sleeps stay coarser and nothing else changes.
pub(crate) fn sharpen_sleep() {
    let Ok(thread) = fs::read_link("/proc/thread-self") else {
        return;
    };
    let Some(id) = thread.file_name() else { return };
    let slack = std::path::Path::new("/proc").join(id).join("timerslack_ns");
    let _ = fs::write(slack, "1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_rate_is_one_message_a_tick_evenly_spread() {
        let pacer = Pacer::new(1000, 1, 0);
        assert_eq!(pacer.per_tick(), 1);
        assert_eq!([0, 1, 2].map(|index| pacer.due_at(index)), [0, 1_000_000, 2_000_000]);
        assert_eq!(pacer.due_by(1_999_999), 2);
    }

    #[test]
    fn a_high_rate_sends_several_messages_a_tick() {
        let pacer = Pacer::new(1_000_000, 1, 0);
        assert_eq!(pacer.per_tick(), 100);
        assert_eq!((pacer.due_at(99), pacer.due_at(100)), (0, 100_000));
        assert_eq!(pacer.due_by(1_000_000_000), 1_000_100);
    }

    #[test]
    fn publishers_take_turns_and_reach_the_rate_together() {
        let pacers = [0, 1, 2, 3].map(|index| Pacer::new(10_000, 4, index));
        let starts = [0, 1, 2, 3].map(|index: usize| pacers[index].due_at(0));
        assert_eq!(starts, [0, 100_000, 200_000, 300_000]);
        let total: u64 = pacers.iter().map(|pacer| pacer.due_by(999_999_999)).sum();
        assert_eq!(total, 10_000);
    }

    #[test]
    fn a_message_is_due_from_its_due_time_on_and_not_before() {
        for (rate, publishers) in [(1, 1), (3, 2), (9_999, 1), (123_457, 3), (7_000_003, 2)] {
            let pacer = Pacer::new(rate, publishers, publishers - 1);
            for index in [0, 1, 2, 699, 700, 123_456, 10_000_000_000] {
                let at = pacer.due_at(index);
                assert!(pacer.due_by(at) > index, "{rate}/{publishers} message {index}");
                assert!(at == 0 || pacer.due_by(at - 1) <= index, "{rate}/{publishers} {index}");
            }
        }
    }
}
