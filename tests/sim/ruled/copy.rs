//! A message as it was found, and what it says of its deaths.

use super::{GROUP, NAMES, Publication};
use leveret::table::{TableRef, Value};
use leveret::wire::Properties;

#[derive(Clone, Debug)]
pub(super) struct Death {
    pub(super) queue: usize,
    pub(super) reason: String,
    /// Unix milliseconds, rounded down to seconds.
    pub(super) time_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) id: u32,
    /// Where it was found.
    pub(super) queue: usize,
    /// The latest first.
    pub(super) deaths: Vec<Death>,
    /// How often it came back, if it says so.
    pub(super) count: Option<u32>,
    /// Until when it waits for its next attempt, if a start says so.
    pub(super) until_ms: Option<u64>,
    pub(super) redelivered: bool,
}

/// What a publication's headers may say.
const SAID: [&str; 4] = ["x-delay", "x-deliver-at", "x-deduplication-header", GROUP];

fn queue_of(name: &str) -> usize {
    let found = NAMES.iter().position(|other| *other == name);
    found.unwrap_or_else(|| panic!("{name} is no queue of ours"))
}

fn text<'a>(table: TableRef<'a>, key: &[u8]) -> &'a str {
    let text = table.get(key).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("{key:?} is no text"))
}

impl Death {
    fn new(death: Value<'_>) -> Self {
        let Value::Table(death) = death else { panic!("{death:?}") };
        let Some(Value::Timestamp(time_s)) = death.get(b"time") else { panic!("no time") };
        // No queue leads back to itself.
        assert_eq!(death.get(b"count").and_then(Value::as_int), Some(1), "dead twice");
        Self {
            queue: queue_of(text(death, b"queue")),
            reason: text(death, b"reason").to_owned(),
            time_ms: time_s * 1000,
        }
    }
}

impl Copy {
    pub(super) fn new(header: &[u8], queue: usize, redelivered: bool) -> Self {
        let properties = Properties::check(header).expect("a header that can be read");
        let headers = properties.headers().unwrap_or(TableRef::EMPTY);
        let id = properties.message_id().and_then(|id| std::str::from_utf8(id).ok());
        let deaths = match headers.get(b"x-death") {
            Some(Value::Array(deaths)) => deaths.iter().map(Death::new).collect(),
            None => Vec::new(),
            Some(other) => panic!("{other:?}"),
        };
        let count = headers.get(b"x-delivery-count").and_then(Value::as_int);
        let copy = Self {
            id: id.and_then(|id| id.parse().ok()).expect("a number"),
            queue,
            deaths,
            count: count.map(|count| u32::try_from(count).expect("a count")),
            until_ms: None,
            redelivered,
        };
        copy.check_first_and_last(headers);
        copy
    }

    fn check_first_and_last(&self, headers: TableRef<'_>) {
        let (Some(last), Some(first)) = (self.deaths.first(), self.deaths.last()) else { return };
        let said = [
            (b"x-first-death-queue".as_slice(), NAMES[first.queue]),
            (b"x-first-death-reason", &first.reason),
            (b"x-last-death-queue", NAMES[last.queue]),
            (b"x-last-death-reason", &last.reason),
        ];
        for (key, value) in said {
            assert_eq!(text(headers, key), value, "{self:?}");
        }
    }

    /// The queue that it was published to.
    pub(super) fn root(&self) -> usize {
        self.deaths.last().map_or(self.queue, |death| death.queue)
    }

    /// It is what was published, but for what its deaths have changed, and that it has `waited`.
    pub(super) fn check_content(
        &self,
        published: &Publication,
        waited: bool,
        (header, body): (&[u8], &[u8]),
        address: (&[u8], &[u8]),
    ) {
        let properties = Properties::check(header).expect("it was read before");
        assert!(body == published.body(), "the body of {self:?}");
        assert_eq!(properties.is_persistent(), published.persistent, "{self:?}");
        assert_eq!(properties.priority(), Some(published.priority), "{self:?}");
        let headers = properties.headers().unwrap_or(TableRef::EMPTY);
        let told = SAID.iter().filter_map(|name| {
            let value = headers.get(name.as_bytes())?;
            Some((*name, value.as_int()?))
        });
        let told: Vec<_> = told.collect();
        let negated = |name: &str| waited && name.starts_with("x-del");
        let as_left = |(name, value): (_, i64)| (name, if negated(name) { -value } else { value });
        let left: Vec<_> = published.headers().into_iter().map(as_left).collect();
        assert_eq!(told, left, "the headers of {self:?}");
        let expected = published.expiration_ms.filter(|_| self.deaths.is_empty());
        let expected = expected.map(|ms| ms.to_string());
        assert_eq!(properties.expiration(), expected.as_ref().map(String::as_bytes), "{self:?}");
        let (exchange, key) =
            if self.deaths.is_empty() { published.address() } else { ("", NAMES[self.queue]) };
        assert_eq!(address, (exchange.as_bytes(), key.as_bytes()), "{self:?}");
    }
}
