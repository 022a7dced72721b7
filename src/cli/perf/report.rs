//! What a run measured, and the two ways to print it: for people, and as JSON for programs.
use super::histogram::Histogram;
use super::plan::Plan;
use super::usage::Memory;
use std::fmt::Write as _;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) measured: Measured,
    /// Messages published and not delivered at the end.
    pub(crate) backlog: u64,
    /// How long messages were deferred; their latency is what came on top.
    pub(crate) deferred: Duration,
    /// Deferred messages that did not arrive at all.
    pub(crate) missing: u64,
    pub(crate) latency: Option<Latency>,
    pub(crate) confirm_latency: Option<Latency>,
    /// How late the publishers woke up for a due time: a measure of the machine, not the broker.
    pub(crate) oversleep: Option<Latency>,
    pub(crate) memory: Option<Memory>,
    /// The most memory that the broker took during the run.
    pub(crate) rss_bytes_max: Option<u64>,
    pub(crate) out_of_order: u64,
    /// Deferred messages that arrived before their time.
    pub(crate) early: u64,
    /// What was left, at the end, of the messages that were to expire at once.
    pub(crate) expiring_left: Option<u64>,
    pub(crate) nacked: u64,
    pub(crate) returned: u64,
    pub(crate) blocked: bool,
}

/// Differences over the measured stretch. `None` where the run has no such side.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) published: Option<u64>,
    pub(crate) confirmed: Option<u64>,
    pub(crate) delivered: Option<u64>,
    pub(crate) own_cpu_us: u64,
    pub(crate) cpu_us: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
    pub(crate) samples: u64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram) -> Option<Self> {
        (histogram.count() > 0).then(|| Self {
            p50_ns: histogram.quantile(0.5),
            p99_ns: histogram.quantile(0.99),
            p999_ns: histogram.quantile(0.999),
            max_ns: histogram.max(),
            samples: histogram.count(),
        })
    }
}

impl Report {
    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.measured.seconds
    }

    /// Deliveries a second; of a run without consumers, publishes (confirmed ones if it confirms).
    pub(crate) fn message_rate(&self) -> f64 {
        self.rate(self.messages())
    }

    fn messages(&self) -> u64 {
        let measured = &self.measured;
        measured.delivered.or(measured.confirmed).or(measured.published).unwrap_or(0)
    }

    /// The broker's CPU time for a message, if its process is known.
    pub(crate) fn cpu_us_per_message(&self) -> Option<f64> {
        Some(self.measured.cpu_us? as f64 / self.messages().max(1) as f64)
    }

    fn own_cpu_us_per_message(&self) -> f64 {
        self.measured.own_cpu_us as f64 / self.messages().max(1) as f64
    }

    /// How long the consumers would take for the backlog at the measured rate.
    pub(crate) fn backlog_s(&self) -> Option<f64> {
        let rate = self.rate(self.measured.delivered?);
        Some(self.backlog as f64 / rate.max(1e-9))
    }

    /// A rate is sustained if the consumers are less than a second behind at the end, what is still
    /// deferred aside.
    pub(crate) fn is_sustained(&self) -> bool {
        let seconds_max = 1.0 + self.deferred.as_secs_f64();
        self.backlog_s().is_none_or(|seconds| seconds < seconds_max)
    }

    pub(crate) fn text(&self, plan: &Plan) -> String {
        let mut lines = Lines(String::new());
        let measured = &self.measured;
        lines.add("measured", &format!("{:.2} s", measured.seconds));
        if let Some(durability) = plan.durability {
            lines.add("durability", durability.word());
        }
        for (name, count) in [
            ("published", measured.published),
            ("confirmed", measured.confirmed),
            ("delivered", measured.delivered),
        ] {
            if let Some(count) = count {
                let rate = grouped(self.rate(count).round() as u64);
                let mib = self.rate(count) * plan.size as f64 / f64::from(1 << 20);
                // What lay in the queues before is not known to have the plan's size.
                let volume = (plan.publishers > 0).then(|| format!(", {mib:.1} MiB/s"));
                lines.add(name, &format!("{rate} msg/s{}", volume.unwrap_or_default()));
            }
        }
        if let Some(seconds) = self.backlog_s() {
            let verdict = match (plan.messages, self.is_sustained()) {
                (Some(_), _) => "",
                (None, true) => "; the rate was sustained",
                (None, false) if self.blocked => "; the broker blocked publishers by an alarm",
                (None, false) => "; the rate was NOT sustained: consumers fell behind",
            };
            let backlog = grouped(self.backlog);
            let seconds = match measured.delivered {
                Some(0) => "nothing was delivered".to_owned(),
                _ => format!("{seconds:.3} s"),
            };
            lines.add("backlog", &format!("{backlog} messages, {seconds}{verdict}"));
        }
        for (name, latency) in [
            (self.latency_name(), self.latency),
            ("confirm latency", self.confirm_latency),
            ("own oversleep", self.oversleep),
        ] {
            if let Some(latency) = latency {
                lines.add(name, &latency.text());
            }
        }
        if let (Some(us), Some(cpu_us)) = (self.cpu_us_per_message(), measured.cpu_us) {
            let cores = cpu_us as f64 / 1e6 / measured.seconds;
            lines.add("broker CPU", &format!("{us:.3} us a message, {cores:.2} cores"));
        }
        if let Some(memory) = self.memory {
            let mib = |bytes: u64| bytes >> 20;
            let (now, peak) = (mib(memory.rss_bytes), mib(memory.peak_bytes));
            let most = mib(self.rss_bytes_max.unwrap_or(memory.rss_bytes));
            let text =
                format!("{now} MiB at the end, {most} MiB at most, {peak} MiB since its start");
            lines.add("broker memory", &text);
        }
        let own = self.own_cpu_us_per_message();
        lines.add("own CPU", &format!("{own:.3} us a message"));
        for (name, count) in [
            ("out of order", self.out_of_order),
            ("too early", self.early),
            ("never arrived", self.missing),
            ("not expired", self.expiring_left.unwrap_or(0)),
            ("nacked", self.nacked),
            ("returned", self.returned),
        ] {
            if count > 0 {
                lines.add(name, &format!("{} messages", grouped(count)));
            }
        }
        if self.blocked {
            lines.add("note", "the broker blocked publishers by an alarm (memory or disk)");
        }
        lines.0
    }

    /// What is beyond a deferral is called by another word, since it is another thing.
    fn latency_name(&self) -> &'static str {
        if self.deferred.is_zero() { "latency" } else { "lateness" }
    }

    pub(crate) fn json(&self, plan: &Plan) -> String {
        let measured = &self.measured;
        let mut object = Object::new();
        object.number("measured_s", Some(measured.seconds));
        object.number("published_per_s", measured.published.map(|count| self.rate(count)));
        object.number("confirmed_per_s", measured.confirmed.map(|count| self.rate(count)));
        object.number("delivered_per_s", measured.delivered.map(|count| self.rate(count)));
        object.number("backlog_messages", Some(self.backlog as f64));
        object.number("backlog_s", self.backlog_s());
        let durability = plan.durability.map(|durability| format!("\"{}\"", durability.word()));
        object.raw("queue_durability", durability.as_deref().unwrap_or("null"));
        object.raw("sustained", &self.is_sustained().to_string());
        let (latency, lateness) =
            if self.deferred.is_zero() { (self.latency, None) } else { (None, self.latency) };
        object.latency("latency", latency);
        object.latency("lateness", lateness);
        object.latency("confirm_latency", self.confirm_latency);
        object.latency("own_oversleep", self.oversleep);
        object.number("broker_cpu_us_per_message", self.cpu_us_per_message());
        object.number("broker_rss_bytes", self.memory.map(|memory| memory.rss_bytes as f64));
        object.number("broker_peak_bytes", self.memory.map(|memory| memory.peak_bytes as f64));
        object.number("broker_rss_bytes_max", self.rss_bytes_max.map(|bytes| bytes as f64));
        object.number("own_cpu_us_per_message", Some(self.own_cpu_us_per_message()));
        object.number("out_of_order", Some(self.out_of_order as f64));
        object.number("too_early", Some(self.early as f64));
        object.number("never_arrived", Some(self.missing as f64));
        object.number("not_expired", self.expiring_left.map(|left| left as f64));
        object.number("nacked", Some(self.nacked as f64));
        object.number("returned", Some(self.returned as f64));
        object.raw("blocked", &self.blocked.to_string());
        object.finish()
    }
}

impl Latency {
    fn text(&self) -> String {
        format!(
            "p50 {}, p99 {}, p99.9 {}, max {} ({} samples)",
            time(self.p50_ns),
            time(self.p99_ns),
            time(self.p999_ns),
            time(self.max_ns),
            grouped(self.samples)
        )
    }
}

/// A span of time in the unit that suits it.
pub(crate) fn time(ns: u64) -> String {
    let us = ns as f64 / 1e3;
    match us {
        us if us < 100.0 => format!("{us:.1} us"),
        us if us < 10_000.0 => format!("{us:.0} us"),
        us if us < 10_000_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Lines of a name and what there is to say about it.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, text: &str) {
        let _ = writeln!(self.0, "{name:<16} {text}");
    }
}

/// A JSON object under construction. Names and values here need no escapes.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn raw(&mut self, name: &str, value: &str) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        let _ = write!(self.0, "{comma}\"{name}\":{value}");
    }

    fn number(&mut self, name: &str, value: Option<f64>) {
        let value = value.filter(|value| value.is_finite());
        self.raw(name, &value.map_or_else(|| "null".to_owned(), |value| value.to_string()));
    }

    fn latency(&mut self, name: &str, latency: Option<Latency>) {
        let Some(latency) = latency else {
            return self.raw(name, "null");
        };
        let mut object = Self::new();
        object.number("p50_ns", Some(latency.p50_ns as f64));
        object.number("p99_ns", Some(latency.p99_ns as f64));
        object.number("p999_ns", Some(latency.p999_ns as f64));
        object.number("max_ns", Some(latency.max_ns as f64));
        object.number("samples", Some(latency.samples as f64));
        self.raw(name, &object.finish());
    }

    fn finish(self) -> String {
        self.0 + "}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            measured: Measured {
                seconds: 2.0,
                published: Some(3000),
                confirmed: None,
                delivered: Some(2000),
                own_cpu_us: 400,
                cpu_us: Some(8000),
            },
            backlog: 1000,
            deferred: Duration::ZERO,
            missing: 0,
            latency: None,
            confirm_latency: None,
            oversleep: None,
            memory: None,
            rss_bytes_max: None,
            out_of_order: 0,
            early: 0,
            expiring_left: None,
            nacked: 0,
            returned: 0,
            blocked: false,
        }
    }

    #[test]
    fn what_an_alarm_held_up_is_not_laid_to_the_consumers() {
        let mut report = Report { blocked: true, backlog: 2555, ..report() };
        report.measured.delivered = Some(0);
        let plan = Plan::new("amqp://h".parse().unwrap());
        let text = report.text(&plan);
        let backlog = "\nbacklog          2 555 messages, nothing was delivered; the broker \
                       blocked publishers by an alarm\n";
        assert!(text.contains(backlog), "{text}");
    }

    #[test]
    fn only_what_was_published_too_has_a_known_volume() {
        let plan = Plan::new("amqp://h".parse().unwrap());
        assert!(report().text(&plan).contains("1 000 msg/s, 0.0 MiB/s\n"));
        let text = report().text(&Plan { publishers: 0, ..plan });
        assert!(text.contains("1 000 msg/s\n") && !text.contains("MiB/s"), "{text}");
    }

    #[test]
    fn rates_and_costs_are_per_delivered_message() {
        let report = report();
        assert_eq!(report.message_rate(), 1000.0);
        assert_eq!(report.cpu_us_per_message(), Some(4.0));
        assert_eq!(report.backlog_s(), Some(1.0));
        assert!(!report.is_sustained());
    }

    #[test]
    fn json_has_null_for_what_was_not_measured() {
        let json = report().json(&Plan::new("amqp://h".parse().unwrap()));
        assert!(json.starts_with("{\"measured_s\":2,\"published_per_s\":1500,"), "{json}");
        assert!(json.contains("\"confirmed_per_s\":null"), "{json}");
        assert!(json.ends_with("\"blocked\":false}"), "{json}");
    }

    #[test]
    fn what_is_deferred_has_a_lateness_and_no_latency() {
        let mut histogram = Histogram::new();
        histogram.record(1500);
        let latency = Latency::of(&histogram);
        let deferred = Duration::from_millis(500);
        let report = Report { deferred, missing: 3, latency, ..report() };
        let plan = Plan::new("amqp://h".parse().unwrap());
        let json = report.json(&plan);
        assert!(json.contains("\"latency\":null,\"lateness\":{\"p50_ns\":1500,"), "{json}");
        let text = report.text(&plan);
        assert!(text.contains("\nlateness         p50 1.5 us, p99 1.5 us,"), "{text}");
        assert!(text.contains("\nnever arrived    3 messages\n"), "{text}");
        // A second's messages are there, of which half a second's are deferred.
        assert!(report.is_sustained());
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
        let times = [1500, 150_000, 15_000_000, 15_000_000_000].map(time);
        assert_eq!(times, ["1.5 us", "150 us", "15.0 ms", "15.0 s"]);
    }
}
