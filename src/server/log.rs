//! The log's lines, as RabbitMQ writes them, on standard error:
//!
//! ```text
//! 2026-11-20 09:27:54.276904+00:00 [info] <0.17.0> accepting AMQP connection ...
//! ```
//!
//! An event with the field `detail` is two lines, as RabbitMQ's errors are: what, and why.
//!
//! The number between the dots is the field `connection` of the event, or of the span around it.
//! Only a program installs this: the library writes events and leaves it to others to show them.

use crate::config::LogLevel;
use std::fmt::{self, Write};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The field, of events and spans, that says which connection a line is about.
pub const CONNECTION: &str = "connection";

/// The field of an event that becomes a line of its own below the event's.
pub const DETAIL: &str = "detail";

/// Sends the events of the whole process to standard error. A second call changes nothing.
pub fn install(level: LogLevel) {
    // A program that embeds the broker may have a logger already, and keeps it.
    let _ = tracing::subscriber::set_global_default(subscriber(level, io::stderr));
}

/// What writes the same lines elsewhere, for a program with a logger of its own.
pub fn subscriber<W>(level: LogLevel, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        // With standard error closed there is nobody to complain to, and complaining panics.
        .log_internal_errors(false)
        .fmt_fields(ConnectionOnly)
        .event_format(RabbitLine)
        .with_max_level(filter(level))
        .with_writer(writer)
        .finish()
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::None => LevelFilter::OFF,
    }
}

/// RabbitMQ's names, which differ from Rust's at `warning`.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// Keeps of a span's fields the connection's number, as text.
struct ConnectionOnly;

impl<'writer> FormatFields<'writer> for ConnectionOnly {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        fields.record(&mut parts);
        writer.write_str(&parts.connection)
    }
}

/// Writes an event as one line.
struct RabbitLine;

impl<S> FormatEvent<S, ConnectionOnly> for RabbitLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, ConnectionOnly>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        for span in context.event_scope().into_iter().flatten() {
            if !parts.connection.is_empty() {
                break;
            }
            if let Some(fields) = span.extensions().get::<FormattedFields<ConnectionOnly>>() {
                parts.connection.push_str(&fields.fields);
            }
        }
        if parts.connection.is_empty() {
            parts.connection.push('0');
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let since_epoch = since_epoch.unwrap_or_default();
        let mut time = String::new();
        write_utc(&mut time, since_epoch.as_secs(), since_epoch.subsec_micros())?;
        let level = level_name(*event.metadata().level());
        let Parts { connection, message, rest, detail } = parts;
        writeln!(out, "{time} [{level}] <0.{connection}.0> {message}{rest}")?;
        match detail {
            // RabbitMQ: every line of an event begins as its first.
            Some(detail) => writeln!(out, "{time} [{level}] <0.{connection}.0> {detail}"),
            None => Ok(()),
        }
    }
}

/// An event's fields as text without control characters.
#[derive(Default)]
struct Parts {
    connection: String,
    message: String,
    /// All others, each as ` name=value`.
    rest: String,
    /// What the second line says.
    detail: Option<String>,
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let out = match field.name() {
            "message" => &mut self.message,
            CONNECTION => &mut self.connection,
            DETAIL => self.detail.get_or_insert_default(),
            name => {
                let _ = write!(self.rest, " {name}=");
                &mut self.rest
            }
        };
        // A value whose own formatting fails is cut short, and the line goes out without it.
        let _ = write!(OneLine(out), "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Escapes what could end a line or move a terminal's cursor: a client chooses its names, and must
/// not be able to forge a line of its own.
struct OneLine<'a>(&'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() || is_layout(c) {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

/// Line and paragraph separators, and what reverses or overrides the writing direction.
fn is_layout(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes `2026-11-20 09:27:54.276904+00:00`.
fn write_utc(out: &mut impl Write, unix_s: u64, micros: u32) -> fmt::Result {
    let (year, month, day) = civil_date(unix_s / 86_400);
    let (hour, minute, second) = (unix_s / 3600 % 24, unix_s / 60 % 60, unix_s % 60);
    write!(out, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}+00:00")
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is a year's last; 719 468 days lie between
    // 0000-03-01 and the epoch. Months alternate between 30 and 31 days: 153 in each five.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) = match month_from_march {
        0..=9 => (month_from_march + 3, 0),
        _ => (month_from_march - 9, 1),
    };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `events` writes at the level, without their times.
    fn lines(level: LogLevel, events: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        tracing::subscriber::with_default(subscriber(level, move || writer.clone()), events);
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        let after_time = |line: &str| line[32..].to_owned();
        text.lines().map(after_time).collect()
    }

    #[test]
    fn a_line_has_rabbitmqs_shape() {
        let lines = lines(LogLevel::Info, || {
            tracing::info!("ready");
            tracing::warn!(connection = 17, "user '{}' - invalid credentials", "x");
            tracing::error!(file = "a b", count = 3, "disk");
            tracing::debug!("hidden");
        });
        assert_eq!(
            lines,
            [
                " [info] <0.0.0> ready",
                " [warning] <0.17.0> user 'x' - invalid credentials",
                " [error] <0.0.0> disk file=a b count=3",
            ]
        );
    }

    #[test]
    fn a_reason_is_a_line_of_its_own_that_begins_as_the_first() {
        let lines = lines(LogLevel::Info, || {
            let reason = "user 'x\ny'";
            tracing::error!(connection = 4, detail = reason, "Error on AMQP connection:");
            tracing::info!(detail = None::<&str>, "ready");
        });
        assert_eq!(
            lines,
            [
                " [error] <0.4.0> Error on AMQP connection:",
                " [error] <0.4.0> user 'x\\ny'",
                " [info] <0.0.0> ready",
            ]
        );
    }

    #[test]
    fn the_span_nearest_to_an_event_names_its_connection() {
        let lines = lines(LogLevel::Debug, || {
            let _connection = tracing::info_span!("connection", connection = 5, peer = "p");
            let _connection = _connection.entered();
            let _channel = tracing::info_span!("channel", number = 1).entered();
            tracing::debug!("closing");
        });
        assert_eq!(lines, [" [debug] <0.5.0> closing"]);
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let name = "x\n2026-01-01 [info] <0.0.0> granted\r\u{1b}[2K\u{202e}é";
        let lines = lines(LogLevel::Info, || {
            tracing::info!(user = name, "user '{name}' refused");
        });
        let escaped = "x\\n2026-01-01 [info] <0.0.0> granted\\r\\u{1b}[2K\\u{202e}é";
        let expected = format!(" [info] <0.0.0> user '{escaped}' refused user={escaped}");
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn no_level_is_no_line() {
        assert!(lines(LogLevel::None, || tracing::error!("disk")).is_empty());
    }

    #[test]
    fn times_are_utc_and_gregorian() {
        let at = |unix_s, micros| {
            let mut out = String::new();
            write_utc(&mut out, unix_s, micros).unwrap();
            out
        };
        assert_eq!(at(0, 0), "1970-01-01 00:00:00.000000+00:00");
        assert_eq!(at(951_827_696, 5), "2000-02-29 12:34:56.000005+00:00");
        assert_eq!(at(1_795_166_874, 276_904), "2026-11-20 09:27:54.276904+00:00");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28 23:59:59.000000+00:00");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01 00:00:00.000000+00:00");
    }
}
