//! Looks at memory and disk, sets and clears the broker's alarms, and says so in the log.
//!
//! RabbitMQ: no hysteresis, an alarm ends where it began. The nearer a limit, the sooner the next
//! look; what an alarm does to connections is the session's.

use super::memory::{self, Memory, MemoryGauge};
use crate::broker::Broker;
use crate::broker::alarm::Alarm;
use crate::limits::{
    ALARM_LINE_MS_MIN, DEDUPLICATION_PART, MEASURE_ALARMED_MS, MEASURE_BYTES_PER_MS,
    MEASURE_MS_MAX, MEASURE_MS_MIN, SPILL_BYTES_MIN, SPILL_PART, SPILL_PART_NEAR, SPILL_USED_PART,
    SPILL_USED_PART_NEAR, WATERMARK_BYTES_SCANT,
};
use crate::store::Disk;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What is left of one resource, and what has to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// So many bytes may still be used before the alarm.
    Margin(u64),
    /// The alarm is due.
    TooLittle,
    Unknown,
}

/// What the log's last line says of an alarm.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    is_set: bool,
    at: Option<Instant>,
    /// Changes since then.
    changes: u64,
}

impl Said {
    /// Whether what is now is worth a line: at a limit an alarm may come and go with each look, and
    /// the log is for people. Says the changes that had none.
    fn news(&mut self, is_set: bool, has_changed: bool, now: Instant) -> Option<u64> {
        self.changes += u64::from(has_changed);
        let is_soon = self.at.is_some_and(|at| now.duration_since(at) < ALARM_LINE_MIN);
        if is_soon || self.is_set == is_set {
            return None;
        }
        let unsaid = self.changes.saturating_sub(1);
        *self = Self { is_set, at: Some(now), changes: 0 };
        Some(unsaid)
    }
}

const ALARM_LINE_MIN: Duration = Duration::from_millis(ALARM_LINE_MS_MIN);

/// Who looks.
pub(super) struct Lookout {
    broker: Arc<Broker>,
    /// A broker that was dropped gives its directory free at once, without waiting for us.
    disk: Weak<dyn Disk>,
    gauge: Option<MemoryGauge>,
    said: [Said; 2],
    /// Said that it cannot be seen, and nothing was seen since.
    memory_is_hidden: bool,
    disk_is_hidden: bool,
}

impl Lookout {
    pub(super) fn new(broker: Arc<Broker>, disk: &Arc<dyn Disk>) -> Self {
        let disk = Arc::downgrade(disk);
        Self {
            broker,
            disk,
            gauge: None,
            said: [Said::default(); 2],
            memory_is_hidden: false,
            disk_is_hidden: false,
        }
    }

    /// Looks again and again, first after `pause`, until told to stop.
    pub(super) async fn run(mut self, mut pause: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            // A file system may take its time to answer.
            let looked = tokio::task::spawn_blocking(move || {
                let next = self.look();
                (self, next)
            });
            let Ok(looked) = looked.await else {
                // The runtime goes down, or a look panicked, which is said where it happened.
                return;
            };
            (self, pause) = looked;
        }
    }

    /// Looks once; says when to look again.
    pub(super) fn look(&mut self) -> Duration {
        memory::give_back();
        self.broker.look_at_space();
        let memory = self.read_memory();
        if let Err(why) = &memory {
            complain(&mut self.memory_is_hidden, Alarm::Memory, why);
        }
        let memory = memory.ok();
        pause([self.look_at_memory(memory), self.look_at_disk(memory)])
    }

    fn read_memory(&mut self) -> Result<Memory, String> {
        match &self.gauge {
            Some(gauge) => gauge.read(),
            None => self.gauge.insert(MemoryGauge::open()?).read(),
        }
    }

    /// What there is of memory, disk and files, and what of it may be used.
    pub(super) fn log_resources(&mut self) {
        let config = &self.broker.config;
        let (memory_limit, disk_limit) = (config.memory_high_watermark, config.disk_free_limit);
        let memory = self.read_memory().ok();
        let total = memory.map_or(0, |memory| memory.total);
        let memory = memory.map_or_else(
            || "unknown".to_owned(),
            |Memory { used, total }| {
                let limit = memory_limit.bytes(total).min(total);
                warn_if_scant(limit);
                let [used, limit, total] = [used, limit, total].map(megabytes);
                format!("{used} in use of {total}, vm_memory_high_watermark is {limit}")
            },
        );
        let room = self.disk.upgrade().and_then(|disk| disk.room().ok().flatten());
        let room = room.map_or_else(|| "unknown".to_owned(), megabytes);
        let disk_limit = megabytes(disk_limit.bytes(total));
        let files = memory::open_files_max();
        let files = files.map_or_else(|| "any number".to_owned(), |files| files.to_string());
        tracing::info!(
            "memory: {memory}; disk: {room} free, disk_free_limit is {disk_limit}; open files: at \
             most {files}"
        );
    }

    fn look_at_memory(&mut self, memory: Option<Memory>) -> Left {
        let Some(Memory { used, total }) = memory else { return Left::Unknown };
        self.memory_is_hidden = false;
        // More than there is would be no limit.
        let limit = self.broker.config.memory_high_watermark.bytes(total).min(total);
        self.judge(Alarm::Memory, used > limit, || {
            let [used, limit, total] = [used, limit, total].map(megabytes);
            format!("{used} are in use of {total}, vm_memory_high_watermark is {limit}")
        });
        self.broker.key_budget.set_bytes_max((limit as f64 * DEDUPLICATION_PART) as u64);
        let until_spilled = self.let_spill(used, limit);
        limit
            .checked_sub(used)
            .map_or(Left::TooLittle, |left| Left::Margin(left.min(until_spilled)))
    }

    /// Says from when on transient messages leave memory, so that the alarm is not needed. Returns
    /// how much may be used until it should say so again.
    fn let_spill(&self, used: u64, limit: u64) -> u64 {
        // A disk without a notion of room is memory itself.
        let has_room = |disk: Arc<dyn Disk>| matches!(disk.room(), Ok(Some(_)));
        if !self.disk.upgrade().is_some_and(has_room) {
            return u64::MAX;
        }
        let part = |part: f64| (limit as f64 * part) as u64;
        let [from, near] = [SPILL_USED_PART, SPILL_USED_PART_NEAR].map(part);
        let (budget, until) = match used {
            _ if used < from => (u64::MAX, from),
            _ if used < near => (part(SPILL_PART), near),
            _ => (part(SPILL_PART_NEAR), u64::MAX),
        };
        // Keys of duplicates cannot leave memory: messages leave it in their place.
        let budget = match budget {
            u64::MAX => budget,
            _ => budget.saturating_sub(self.broker.key_budget.bytes()),
        };
        self.broker.set_spill_budget(budget.max(SPILL_BYTES_MIN));
        until - used
    }

    fn look_at_disk(&mut self, memory: Option<Memory>) -> Left {
        let Some(disk) = self.disk.upgrade() else { return Left::Unknown };
        let room = match disk.room() {
            Ok(Some(room)) => room,
            Ok(None) => return Left::Unknown,
            Err(error) => {
                complain(&mut self.disk_is_hidden, Alarm::Disk, &error.to_string());
                return Left::Unknown;
            }
        };
        self.disk_is_hidden = false;
        let total = memory.map_or(0, |memory| memory.total);
        let limit = self.broker.config.disk_free_limit.bytes(total);
        self.judge(Alarm::Disk, room < limit, || {
            let (place, [room, limit]) = (disk.path(""), [room, limit].map(megabytes));
            format!("{room} are free in {}, disk_free_limit is {limit}", place.display())
        });
        room.checked_sub(limit).map_or(Left::TooLittle, Left::Margin)
    }

    /// Sets an alarm or clears it, and says so if that is news.
    fn judge(&mut self, alarm: Alarm, is_low: bool, figures: impl FnOnce() -> String) {
        let has_changed = self.broker.alarms.set(alarm, is_low);
        let said = &mut self.said[alarm as usize - 1];
        let Some(unsaid) = said.news(is_low, has_changed, Instant::now()) else { return };
        let (name, way_out) = match alarm {
            Alarm::Memory => ("memory", "messages are consumed or the limit is raised"),
            Alarm::Disk => ("disk", "there is more room"),
        };
        let mut figures = figures();
        if unsaid > 0 {
            figures.push_str(&format!(" (and {unsaid} changes since the last such line)"));
        }
        if is_low {
            tracing::warn!(
                "{name} resource limit alarm set: {figures}; publishers are blocked until {way_out}"
            );
        } else {
            tracing::warn!("{name} resource limit alarm cleared: {figures}");
        }
    }
}

fn warn_if_scant(limit: u64) {
    if limit < WATERMARK_BYTES_SCANT {
        let [limit, least] = [limit, WATERMARK_BYTES_SCANT].map(megabytes);
        tracing::warn!(
            "vm_memory_high_watermark of {limit} is little: buffers alone may fill it, and then \
             publishers stay blocked until messages are consumed; allow {least} or more"
        );
    }
}

/// Says once that a resource cannot be seen. Its alarm stays as it was.
fn complain(is_hidden: &mut bool, alarm: Alarm, why: &str) {
    if !std::mem::replace(is_hidden, true) {
        tracing::warn!("the alarm for {alarm:?} stays as it is, since it cannot be seen: {why}");
    }
}

/// Soon enough that publishers cannot have used what is left, nor wait long for an alarm's end.
fn pause(left: [Left; 2]) -> Duration {
    let ms = left.map(|left| match left {
        Left::Margin(bytes) => bytes / MEASURE_BYTES_PER_MS,
        Left::TooLittle => MEASURE_ALARMED_MS,
        Left::Unknown => MEASURE_MS_MAX,
    });
    let ms = ms.into_iter().fold(MEASURE_MS_MAX, u64::min);
    Duration::from_millis(ms.max(MEASURE_MS_MIN))
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Entropy;
    use crate::config::{Config, LogLevel, ResourceLimit};
    use crate::exchange::ExchangeTypes;
    use crate::store::MemoryDisk;

    fn broker(config: Config) -> (Arc<MemoryDisk>, Lookout) {
        let disk = Arc::new(MemoryDisk::new());
        let broker =
            Broker::open(config, &*disk, Entropy::new(|| [7; 16]), ExchangeTypes::core()).unwrap();
        let dyn_disk: Arc<dyn Disk> = disk.clone();
        (disk, Lookout::new(broker, &dyn_disk))
    }

    #[test]
    fn the_disk_alarm_begins_below_the_limit_and_ends_at_it() {
        let limit = ResourceLimit::Absolute(5_000_000);
        let (disk, mut lookout) = broker(Config { disk_free_limit: limit, ..Config::default() });
        let is_set = |lookout: &Lookout| lookout.broker.alarms.is_set(Alarm::Disk);
        lookout.look();
        assert!(!is_set(&lookout), "a disk without a notion of room has no alarm");
        for (room, low, next_ms) in [
            (1 << 40, false, 10_000),
            (2_005_000_000, false, 2_000),
            (5_000_000, false, 100),
            (4_999_999, true, 1_000),
            (0, true, 1_000),
            (5_000_000, false, 100),
        ] {
            disk.limit_room(room);
            let memory = Some(Memory { used: 0, total: 1 << 50 });
            let left = lookout.look_at_disk(memory);
            let next = pause([Left::Unknown, left]);
            assert_eq!((is_set(&lookout), next.as_millis()), (low, next_ms), "{room} bytes");
        }
    }

    #[test]
    fn a_disk_limit_may_be_a_part_of_all_memory() {
        let limit = ResourceLimit::Relative(1.5);
        let (disk, mut lookout) = broker(Config { disk_free_limit: limit, ..Config::default() });
        disk.limit_room(1500);
        let mut look = |total| lookout.look_at_disk(Some(Memory { used: 0, total }));
        assert_eq!([look(1000), look(1001)], [Left::Margin(0), Left::TooLittle]);
    }

    #[test]
    fn the_memory_alarm_begins_above_the_watermark_which_is_never_above_all() {
        let half = ResourceLimit::Relative(0.5);
        let (_, mut lookout) = broker(Config { memory_high_watermark: half, ..Config::default() });
        let mut look = |used| lookout.look_at_memory(Some(Memory { used, total: 1000 }));
        assert_eq!([look(499), look(500), look(501)].map(low), [false, false, true]);
        assert!(lookout.broker.alarms.is_set(Alarm::Memory));
        assert_eq!(lookout.look_at_memory(None), Left::Unknown);
        assert!(lookout.broker.alarms.is_set(Alarm::Memory), "nothing was seen");

        let all = ResourceLimit::Absolute(u64::MAX);
        let (_, mut lookout) = broker(Config { memory_high_watermark: all, ..Config::default() });
        let mut look = |used| lookout.look_at_memory(Some(Memory { used, total: 1000 }));
        assert_eq!([look(1000), look(1001)].map(low), [false, true]);
    }

    #[test]
    fn a_watermark_that_buffers_alone_may_fill_is_warned_of() {
        #[derive(Clone, Default)]
        struct Written(Arc<parking_lot::Mutex<Vec<u8>>>);
        impl std::io::Write for Written {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let said = |limit| {
            let written = Written::default();
            let writer = written.clone();
            let log = crate::server::log::subscriber(LogLevel::Warning, move || writer.clone());
            tracing::subscriber::with_default(log, || warn_if_scant(limit));
            String::from_utf8(written.0.lock().clone()).unwrap()
        };
        let line = said(WATERMARK_BYTES_SCANT - 1);
        assert!(line.contains("watermark of 149.9 MB is little"), "{line}");
        assert!(line.ends_with("allow 150.0 MB or more\n"), "{line}");
        assert_eq!(said(WATERMARK_BYTES_SCANT), "");
    }

    #[test]
    fn the_next_look_comes_before_transient_messages_should_be_spilled() {
        let half = ResourceLimit::Relative(0.5);
        let (disk, mut lookout) =
            broker(Config { memory_high_watermark: half, ..Config::default() });
        let mut look = |used| lookout.look_at_memory(Some(Memory { used, total: 1000 }));
        assert_eq!(look(0), Left::Margin(500), "what this disk takes is in memory");
        disk.limit_room(1 << 30);
        let left = [0, 199, 200, 399, 400, 500].map(look);
        assert_eq!(left, [200, 1, 200, 1, 100, 0].map(Left::Margin));
    }

    #[test]
    fn an_alarm_that_comes_and_goes_is_said_at_once_and_then_seldom() {
        let start = Instant::now();
        let mut said = Said::default();
        let mut news = |ms, is_set, has_changed| {
            said.news(is_set, has_changed, start + Duration::from_millis(ms))
        };
        assert_eq!(news(0, false, false), None);
        assert_eq!(news(1, true, true), Some(0), "the first time at once");
        for second in 1..10 {
            assert_eq!(news(second * 1000, second % 2 == 0, true), None);
        }
        assert_eq!(news(9_999, false, false), None);
        assert_eq!(news(10_001, false, false), Some(8), "what lasts is said in the end");
        assert_eq!(news(30_000, false, false), None);
        assert_eq!(news(30_001, true, true), Some(0));
    }

    #[test]
    fn a_gauge_once_opened_is_read_again() {
        let (_, mut lookout) = broker(Config::default());
        lookout.look();
        assert!(lookout.gauge.is_some());
        assert!(lookout.read_memory().is_ok_and(|memory| memory.used > 0));
    }

    fn low(left: Left) -> bool {
        left == Left::TooLittle
    }

    #[test]
    fn a_disk_that_is_gone_is_not_looked_at() {
        let (disk, mut lookout) = broker(Config::default());
        disk.limit_room(0);
        drop(disk);
        assert_eq!(lookout.look_at_disk(None), Left::Unknown);
    }
}
