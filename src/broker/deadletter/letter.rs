//! A dead letter as it goes on: another address, no expiration, and its deaths in its headers.
//!
//! RabbitMQ: one entry of `x-death` for each queue and reason, the latest first; a repeated death
//! counts on the entry that is there and brings it to the front. RabbitMQ 4: deaths that a
//! publisher wrote do not count, and are replaced.

use crate::broker::again::copies;
use crate::message::Message;
use crate::queue::{DeadLetter, Reason};
use crate::table::{ArrayBuilder, Table, TableBuilder, TableRef, Value};
use crate::time::UnixMillis;
use crate::wire::Properties;

const DEATHS: &[u8] = b"x-death";
const COPIES: &[u8] = b"CC";
/// The headers that tell of the first death, and those that tell of the last.
const FIRST: [&[u8]; 3] =
    [b"x-first-death-reason", b"x-first-death-queue", b"x-first-death-exchange"];
const LAST: [&[u8]; 3] = [b"x-last-death-reason", b"x-last-death-queue", b"x-last-death-exchange"];

/// A message that died.
pub(super) struct Corpse<'a> {
    pub(super) message: &'a Message,
    pub(super) queue: &'a str,
    pub(super) reason: Reason,
    pub(super) died: UnixMillis,
}

/// What becomes of it.
pub(super) struct Letter {
    pub(super) message: Message,
    deaths: Vec<Table>,
}

impl Corpse<'_> {
    /// The message as it goes to `to`.
    pub(super) fn letter(&self, to: &DeadLetter, scratch: &mut Vec<u8>) -> Option<Letter> {
        // What was published has been checked.
        let properties = Properties::check(self.message.header()).ok()?;
        let headers = properties.headers().unwrap_or(TableRef::EMPTY);
        let deaths = self.deaths(headers, properties.expiration());
        let headers = self.headers(headers, &deaths, to.routing_key.is_some());
        let header = properties.with_headers(headers.as_ref());
        let header = Properties::check(&header).ok()?.without_expiration();
        let exchange = to.exchange.as_bytes();
        let key = to.routing_key.as_ref().map(|key| key.as_bytes());
        let message = self.message.dead_letter(exchange, key, header, scratch);
        Some(Letter { message, deaths })
    }

    fn headers(&self, headers: TableRef<'_>, deaths: &[Table], drops_copies: bool) -> Table {
        let is_first = !self.message.has_died();
        let replaced = |key: &[u8]| {
            key == DEATHS
                || LAST.contains(&key)
                || is_first && FIRST.contains(&key)
                || drops_copies && key == COPIES
        };
        let kept = headers.iter().filter(|(key, _)| !replaced(key));
        let mut table = kept.fold(TableBuilder::new(), |table, (key, value)| table.put(key, value));
        let mut array = ArrayBuilder::default();
        for death in deaths {
            array.push(Value::Table(death.as_ref()));
        }
        table = table.put(DEATHS, Value::Array(array.as_ref()));
        let said = [self.reason.name().as_bytes(), self.queue.as_bytes(), self.message.exchange()];
        let names = if is_first { &[FIRST, LAST][..] } else { &[LAST] };
        for (name, value) in names.iter().flat_map(|names| names.iter().zip(said)) {
            table = table.put(name, Value::LongStr(value));
        }
        table.finish()
    }

    /// All its deaths, this one first.
    fn deaths(&self, headers: TableRef<'_>, expiration: Option<&[u8]>) -> Vec<Table> {
        let mut earlier: Vec<Table> = match headers.get(DEATHS) {
            Some(Value::Array(deaths)) if self.message.has_died() => {
                deaths.iter().filter_map(table).collect()
            }
            _ => Vec::new(),
        };
        let same = |death: &Table| {
            text(death, b"queue") == Some(self.queue.as_bytes())
                && text(death, b"reason") == Some(self.reason.name().as_bytes())
        };
        let death = match earlier.iter().position(same) {
            Some(at) => counted(&earlier.remove(at)),
            None => self.death(headers, expiration),
        };
        earlier.insert(0, death);
        earlier
    }

    /// RabbitMQ: the keys of a BCC header are not told.
    fn death(&self, headers: TableRef<'_>, expiration: Option<&[u8]>) -> Table {
        let mut array = ArrayBuilder::default();
        for key in std::iter::once(self.message.routing_key()).chain(copies(headers)) {
            array.push(Value::LongStr(key));
        }
        let table = TableBuilder::new()
            .put(b"count", Value::I64(1))
            .put(b"reason", Value::LongStr(self.reason.name().as_bytes()))
            .put(b"queue", Value::LongStr(self.queue.as_bytes()))
            .put(b"time", Value::Timestamp(self.died.0 / 1000))
            .put(b"exchange", Value::LongStr(self.message.exchange()))
            .put(b"routing-keys", Value::Array(array.as_ref()));
        match expiration {
            Some(text) => table.put(b"original-expiration", Value::LongStr(text)),
            None => table,
        }
        .finish()
    }
}

impl Letter {
    /// Where it died, the latest first.
    pub(super) fn queues(&self) -> impl Iterator<Item = &[u8]> {
        self.deaths.iter().filter_map(|death| text(death, b"queue"))
    }

    /// Whether it would go round for ever: it has been in that queue, and since then nobody has
    /// rejected it.
    pub(super) fn has_cycled(&self, queue: &str) -> bool {
        let seen = |death: &Table| text(death, b"queue") == Some(queue.as_bytes());
        let Some(at) = self.deaths.iter().position(seen) else { return false };
        let rejected = |death: &Table| text(death, b"reason") == Some(b"rejected");
        !self.deaths[..=at].iter().any(rejected)
    }
}

fn table(value: Value<'_>) -> Option<Table> {
    if let Value::Table(table) = value { Some(table.to_table()) } else { None }
}

fn text<'a>(death: &'a Table, key: &[u8]) -> Option<&'a [u8]> {
    match death.as_ref().get(key)? {
        Value::LongStr(text) => Some(text),
        _ => None,
    }
}

/// The same death once more (RabbitMQ: its fields are sorted then).
fn counted(death: &Table) -> Table {
    let count = death.as_ref().get(b"count").and_then(Value::as_int).unwrap_or(0);
    let fields = death.as_ref().iter().filter(|(key, _)| *key != b"count");
    let table = TableBuilder::new().put(b"count", Value::I64(count.saturating_add(1)));
    let table = fields.fold(table, |table, (key, value)| table.put(key, value));
    table.finish().as_ref().sorted()
}

#[cfg(test)]
#[path = "letter_tests.rs"]
mod tests;
