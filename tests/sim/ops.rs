//! What clients do, and the names that they do it with.

use super::ruled::{Publication, Rules, Unique};

/// Name, and whether it is durable.
pub(crate) const QUEUES: [(&str, bool); 4] =
    [("d0", true), ("d1", true), ("d2", true), ("t0", false)];
/// The one of them whose confirms wait for no sync.
pub(crate) const OS_QUEUE: usize = 2;
/// Name and type; all but the default exchange can be deleted.
pub(crate) const EXCHANGES: [(&str, &str); 4] =
    [("", ""), ("fan", "fanout"), ("top", "topic"), ("dir", "direct")];
pub(crate) const TOPIC_PATTERNS: [&str; 5] = ["#", "a.*", "*.b", "a.b", "b.#"];
pub(crate) const ROUTING_KEYS: [&str; 4] = ["a.b", "a.c", "b", "x"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Binding {
    pub(crate) exchange: usize,
    pub(crate) queue: usize,
    pub(crate) key: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) exchange: usize,
    pub(crate) key: &'static str,
    pub(crate) persistent: bool,
    pub(crate) mandatory: bool,
    pub(crate) body_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Confirm,
    Transaction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Ack,
    Nack {
        requeue: bool,
    },
    /// Never for several.
    Reject {
        requeue: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Consume {
    pub(crate) queue: usize,
    pub(crate) tag: u32,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) priority: i8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Handshake and heartbeats, of which no checker knows anything.
    Other,
    CloseConnection,
    OpenChannel,
    CloseChannel,
    CloseChannelOk,
    DeclareExchange(usize),
    DeleteExchange(usize),
    DeclareQueue(usize),
    /// A queue with rules, by its own number.
    DeclareRuled(usize, Rules),
    /// What it remembers of keys.
    DeclareFan(Option<Unique>),
    BindFan(usize),
    DeclareLate(Option<Unique>),
    /// A routing key of the delayed exchange, and a queue.
    BindLate(usize, usize),
    DeleteQueue(usize),
    Purge(usize),
    Bind(Binding),
    Unbind(Binding),
    /// By its number.
    Publish(u32),
    PublishRuled(Publication),
    Qos {
        count: u16,
        global: bool,
    },
    Consume(Consume),
    Cancel(u32),
    Get {
        queue: usize,
        no_ack: bool,
    },
    Settle {
        tag: u64,
        multiple: bool,
        how: How,
    },
    Recover,
    Select(Mode),
    Commit,
    Rollback,
}

impl Message {
    pub(crate) fn body(&self, id: u32) -> Vec<u8> {
        (0..self.body_len).map(|at| (id as usize * 31 + at * 7) as u8).collect()
    }

    /// The content header's payload: delivery mode, and its number as the message id.
    pub(crate) fn header(&self, id: u32) -> Vec<u8> {
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(self.body_len as u64).to_be_bytes());
        header.extend_from_slice(&(1_u16 << 12 | 1 << 7).to_be_bytes());
        header.push(if self.persistent { 2 } else { 1 });
        super::wire::short(&mut header, &id.to_string());
        header
    }

    /// The number in a header that `header` made.
    pub(crate) fn id_of(header: &[u8]) -> u32 {
        let digits = header.get(16..).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).expect("a header that a client wrote")
    }
}

pub(crate) fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            topic_matches(rest, key) || !key.is_empty() && topic_matches(pattern, &key[1..])
        }
        ([word, rest @ ..], [first, more @ ..]) => {
            (*word == "*" || word == first) && topic_matches(rest, more)
        }
        _ => false,
    }
}
