//! The properties of published messages, and which of their bytes change from one message to the
//! next: priorities and header values that are taken in turn. Knows where these bytes lie; the
//! ring of publishes writes them.
//!
//! ```text
//! flags | table length, x-delay, n, header values in turn | delivery mode | priority | expiration
//! ```
use super::error::PerfError;
use super::plan::Plan;
use super::table::{Table, name_and_rest};
use super::wire;
use std::str::FromStr;

const HAS_HEADERS: u16 = 1 << 13;
const HAS_DELIVERY_MODE: u16 = 1 << 12;
const HAS_PRIORITY: u16 = 1 << 11;
const HAS_EXPIRATION: u16 = 1 << 8;
const PERSISTENT: u8 = 2;

/// Digits of a value that no other message of the run has, in hexadecimal.
const UNIQUE_DIGITS: usize = 16;

/// A content header's properties, ready to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties {
    flags: u16,
    values: Vec<u8>,
}

/// A header that goes through its values, one for each message: `k00` to `k99`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderCycle {
    pub(crate) name: String,
    /// How many values there are; 0 gives every message one of its own.
    pub(crate) values: u64,
}

/// Bytes of the properties that change with each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// From its first byte to the end of the properties.
    before_end: usize,
    len: usize,
    turn: Turn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    /// The octet is below this, in turn.
    Priority(u64),
    /// Decimal digits of a number below this, in turn.
    Decimal(u64),
    /// Hexadecimal digits of publisher and sequence number.
    Unique,
}

impl Properties {
    /// Those of the message with routing key `key`, before the first turn.
    pub(crate) fn of(plan: &Plan, key: usize) -> Self {
        let mut headers = Table::default();
        if let Some(delay) = plan.delay() {
            headers = headers.int(Plan::DELAY_HEADER, delay.as_millis() as i64);
        }
        if let Some(number) = plan.header(key) {
            headers = headers.int(Plan::HEADER_NAME, i64::from(number));
        }
        for cycle in &plan.headers {
            headers = headers.string(&cycle.name, &format!("k{:0>1$}", 0, cycle.digits()));
        }
        let headers = (!headers.bytes().is_empty()).then_some(headers);
        let priority = (plan.priorities > 0).then_some(0);
        Self::new(headers.as_ref(), plan.persistent, priority, None)
    }

    pub(crate) fn new(
        headers: Option<&Table>,
        persistent: bool,
        priority: Option<u8>,
        expiration: Option<&str>,
    ) -> Self {
        let mut all = Self::default();
        if let Some(headers) = headers {
            all.flags |= HAS_HEADERS;
            wire::long(&mut all.values, headers.bytes());
        }
        if persistent {
            all.flags |= HAS_DELIVERY_MODE;
            all.values.push(PERSISTENT);
        }
        if let Some(priority) = priority {
            all.flags |= HAS_PRIORITY;
            all.values.push(priority);
        }
        if let Some(expiration) = expiration {
            all.flags |= HAS_EXPIRATION;
            wire::short(&mut all.values, expiration);
        }
        all
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&self.values);
    }
}

impl HeaderCycle {
    fn digits(&self) -> usize {
        match self.values {
            0 => UNIQUE_DIGITS,
            values => (values - 1).checked_ilog10().unwrap_or(0) as usize + 1,
        }
    }
}

impl FromStr for HeaderCycle {
    type Err = PerfError;

    fn from_str(text: &str) -> Result<Self, PerfError> {
        let (name, values) = name_and_rest(text, "NAME=N")?;
        let values = values.parse().map_err(|_| {
            PerfError::new(format!("'{values}' is no number of values; write it as NAME=N"))
        })?;
        Ok(Self { name: name.to_owned(), values })
    }
}

impl Spot {
    /// All of a plan's spots; the same for each of its messages.
    pub(crate) fn all(plan: &Plan) -> Vec<Self> {
        let mut spots = Vec::new();
        let mut before_end = 0;
        if plan.priorities > 0 {
            before_end += 1;
            let turn = Turn::Priority(u64::from(plan.priorities));
            spots.push(Self { before_end, len: 1, turn });
        }
        before_end += usize::from(plan.persistent);
        for cycle in plan.headers.iter().rev() {
            let len = cycle.digits();
            before_end += len;
            let turn = match cycle.values {
                0 => Turn::Unique,
                values => Turn::Decimal(values),
            };
            spots.push(Self { before_end, len, turn });
            // What lies before the digits: the name with its length, the type, a length, a `k`.
            before_end += 1 + cycle.name.len() + 1 + 4 + 1;
        }
        spots
    }

    /// Writes what message `sequence` (from 1) of publisher `sender` has here. `properties_end` is
    /// where the message's properties end in `bytes`.
    pub(crate) fn write(
        &self,
        bytes: &mut [u8],
        properties_end: usize,
        sender: usize,
        sequence: u64,
    ) {
        let at = properties_end - self.before_end;
        let place = &mut bytes[at..at + self.len];
        match self.turn {
            Turn::Priority(count) => place[0] = ((sequence - 1) % count) as u8,
            Turn::Decimal(count) => write_digits(place, (sequence - 1) % count, 10),
            Turn::Unique => write_digits(place, (sender as u64) << 48 | sequence, 16),
        }
    }
}

fn write_digits(place: &mut [u8], mut number: u64, base: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Deferral;
    use super::*;
    use std::time::Duration;

    fn plan() -> Plan {
        Plan::new("amqp://h".parse().unwrap())
    }

    fn cycles(texts: &[&str]) -> Vec<HeaderCycle> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn written(plan: &Plan, sender: usize, sequence: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Properties::of(plan, 0).write(&mut bytes);
        let end = bytes.len();
        for spot in Spot::all(plan) {
            spot.write(&mut bytes, end, sender, sequence);
        }
        bytes
    }

    #[test]
    fn properties_stand_in_the_order_of_the_specification() {
        let headers = Table::default().int("n", 5);
        let mut out = Vec::new();
        Properties::new(Some(&headers), true, Some(7), Some("1")).write(&mut out);
        assert_eq!(out, b"\x39\0\0\0\0\x0B\x01nl\0\0\0\0\0\0\0\x05\x02\x07\x011");
        out.clear();
        Properties::of(&plan(), 0).write(&mut out);
        assert_eq!(out, b"\0\0");
    }

    #[test]
    fn turns_change_their_own_bytes_and_no_others() {
        let deferral = Some(Deferral::Delay(Duration::from_millis(258)));
        let headers = cycles(&["group=101", "id=0", "one=1"]);
        let plan = Plan { headers, priorities: 3, persistent: true, deferral, ..plan() };
        let expected = b"\x38\0\0\0\0\x44\x07x-delayl\0\0\0\0\0\0\x01\x02\
            \x05groupS\0\0\0\x04k002\x02idS\0\0\0\x11k0002000000000068\x03oneS\0\0\0\x02k0\
            \x02\x01";
        assert_eq!(written(&plan, 2, 104), expected);
    }

    #[test]
    fn values_come_in_turn() {
        let plan = Plan { headers: cycles(&["g=10"]), priorities: 4, ..plan() };
        let ends: Vec<(u8, u8)> = (1..=12)
            .map(|sequence| {
                let bytes = written(&plan, 0, sequence);
                (bytes[bytes.len() - 2], bytes[bytes.len() - 1])
            })
            .collect();
        let expected: Vec<(u8, u8)> = (0..12).map(|turn| (b'0' + turn % 10, turn % 4)).collect();
        assert_eq!(ends, expected);
    }

    #[test]
    fn a_cycle_is_a_name_and_a_number() {
        let cycle = HeaderCycle { name: "a".to_owned(), values: 12 };
        assert_eq!("a=12".parse(), Ok(cycle));
        for bad in ["", "a", "a=", "a=x", "a=-1", "=3"] {
            assert!(bad.parse::<HeaderCycle>().is_err(), "{bad}");
        }
        let digits = [1, 2, 10, 11, 100, 101, u64::MAX].map(|values| {
            let name = String::new();
            HeaderCycle { name, values }.digits()
        });
        assert_eq!(digits, [1, 1, 1, 2, 2, 3, 20]);
    }
}
