//! AMQP 0-9-1 from the client's side, by hand, so that the broker's codec is not its own judge.

use super::ops::{EXCHANGES, How, Message, Mode, OS_QUEUE, Op, QUEUES};
use super::ruled::{
    self, FAN, GROUP, Keyed, LATE, LATE_TO, OVERFLOWS, Publication, RANK_MAX, Rules, Unique,
    name_of,
};

/// Small, so that bodies come in many frames.
pub(crate) const FRAME_MAX: u32 = 4096;
pub(crate) const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

pub(crate) fn short(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("names are short"));
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("small").to_be_bytes());
    out.extend_from_slice(bytes);
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    long(out, payload);
    out.push(0xce);
}

fn method(channel: u16, class: u16, id: u16, arguments: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = [class.to_be_bytes(), id.to_be_bytes()].concat();
    arguments(&mut payload);
    let mut out = Vec::new();
    frame(&mut out, 1, channel, &payload);
    out
}

pub(crate) fn start_ok() -> Vec<u8> {
    let mut capability = Vec::new();
    for name in ["consumer_cancel_notify", "connection.blocked"] {
        short(&mut capability, name);
        capability.extend_from_slice(b"t\x01");
    }
    let mut properties = Vec::new();
    short(&mut properties, "capabilities");
    properties.push(b'F');
    long(&mut properties, &capability);
    method(0, 10, 11, |out| {
        long(out, &properties);
        short(out, "PLAIN");
        long(out, b"\0guest\0guest");
        short(out, "en_US");
    })
}

pub(crate) fn tune_ok(heartbeat_s: u16) -> Vec<u8> {
    method(0, 10, 31, |out| {
        out.extend_from_slice(&16_u16.to_be_bytes());
        out.extend_from_slice(&FRAME_MAX.to_be_bytes());
        out.extend_from_slice(&heartbeat_s.to_be_bytes());
    })
}

pub(crate) fn open() -> Vec<u8> {
    method(0, 10, 40, |out| {
        short(out, "/");
        out.extend_from_slice(&[0, 0]);
    })
}

pub(crate) fn heartbeat() -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, 8, 0, &[]);
    out
}

fn close_arguments(out: &mut Vec<u8>) {
    out.extend_from_slice(&200_u16.to_be_bytes());
    short(out, "done");
    out.extend_from_slice(&[0; 4]);
}

/// A method that begins with a reserved short and a name.
fn named(channel: u16, ids: (u16, u16), name: &str, rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    method(channel, ids.0, ids.1, |out| {
        out.extend_from_slice(&[0, 0]);
        short(out, name);
        rest(out);
    })
}

pub(crate) fn tag_text(tag: u32) -> String {
    format!("c{tag}")
}

/// The bytes of an operation.
pub(crate) fn encode(op: &Op, channel: u16, messages: &[Message]) -> Vec<u8> {
    let flags = |bits: &'static [u8]| move |out: &mut Vec<u8>| out.extend_from_slice(bits);
    match *op {
        Op::Other => Vec::new(),
        Op::CloseConnection => method(0, 10, 50, close_arguments),
        Op::OpenChannel => method(channel, 20, 10, flags(&[0])),
        Op::CloseChannel => method(channel, 20, 40, close_arguments),
        Op::CloseChannelOk => method(channel, 20, 41, |_| ()),
        Op::DeclareExchange(exchange) => {
            let (name, kind) = EXCHANGES[exchange];
            named(channel, (40, 10), name, |out| {
                short(out, kind);
                out.push(0b10);
                long(out, &[]);
            })
        }
        Op::DeleteExchange(exchange) => {
            named(channel, (40, 20), EXCHANGES[exchange].0, flags(&[0]))
        }
        Op::DeclareQueue(queue) => {
            let (name, durable) = QUEUES[queue];
            named(channel, (50, 10), name, |out| {
                out.push(u8::from(durable) << 1);
                let arguments = b"\x0cx-durabilityS\0\0\0\x02os";
                long(out, if queue == OS_QUEUE { arguments } else { &[] });
            })
        }
        Op::DeclareRuled(queue, rules) => declare_ruled(channel, queue, &rules),
        Op::DeclareFan(unique) => declare_exchange(channel, FAN, "fanout", &remembers(unique)),
        Op::DeclareLate(unique) => {
            let mut arguments = remembers(unique);
            text(&mut arguments, "x-delayed-type", "direct");
            declare_exchange(channel, LATE, "x-delayed-message", &arguments)
        }
        Op::BindFan(queue) => bind(channel, FAN, queue, ""),
        Op::BindLate(key, queue) => bind(channel, LATE, queue, LATE_TO[key].0),
        Op::DeleteQueue(queue) => named(channel, (50, 40), name_of(queue), flags(&[0])),
        Op::Purge(queue) => named(channel, (50, 30), name_of(queue), flags(&[0])),
        Op::Bind(binding) => named(channel, (50, 20), QUEUES[binding.queue].0, |out| {
            short(out, EXCHANGES[binding.exchange].0);
            short(out, binding.key);
            out.push(0);
            long(out, &[]);
        }),
        Op::Unbind(binding) => named(channel, (50, 50), QUEUES[binding.queue].0, |out| {
            short(out, EXCHANGES[binding.exchange].0);
            short(out, binding.key);
            long(out, &[]);
        }),
        Op::Publish(id) => publish(channel, id, &messages[id as usize]),
        Op::PublishRuled(publication) => publish_ruled(channel, &publication),
        Op::Qos { count, global } => method(channel, 60, 10, |out| {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&count.to_be_bytes());
            out.push(u8::from(global));
        }),
        Op::Consume(consume) => named(channel, (60, 20), name_of(consume.queue), |out| {
            short(out, &tag_text(consume.tag));
            out.push(u8::from(consume.no_ack) << 1 | u8::from(consume.exclusive) << 2);
            let mut arguments = Vec::new();
            short(&mut arguments, "x-priority");
            arguments.extend_from_slice(&[b'b', consume.priority as u8]);
            long(out, &arguments);
        }),
        Op::Cancel(tag) => method(channel, 60, 30, |out| {
            short(out, &tag_text(tag));
            out.push(0);
        }),
        Op::Get { queue, no_ack } => {
            named(channel, (60, 70), name_of(queue), |out| out.push(u8::from(no_ack)))
        }
        Op::Settle { tag, multiple, how } => {
            let (id, bits) = match how {
                How::Ack => (80, u8::from(multiple)),
                How::Reject { requeue } => (90, u8::from(requeue)),
                How::Nack { requeue } => (120, u8::from(multiple) | u8::from(requeue) << 1),
            };
            method(channel, 60, id, |out| {
                out.extend_from_slice(&tag.to_be_bytes());
                out.push(bits);
            })
        }
        Op::Recover => method(channel, 60, 110, flags(&[1])),
        Op::Select(Mode::Transaction) => method(channel, 90, 10, |_| ()),
        Op::Select(_) => method(channel, 85, 10, flags(&[0])),
        Op::Commit => method(channel, 90, 20, |_| ()),
        Op::Rollback => method(channel, 90, 30, |_| ()),
    }
}

fn publish(channel: u16, id: u32, message: &Message) -> Vec<u8> {
    let mut out = named(channel, (60, 40), EXCHANGES[message.exchange].0, |out| {
        short(out, message.key);
        out.push(u8::from(message.mandatory));
    });
    frame(&mut out, 2, channel, &message.header(id));
    for body in message.body(id).chunks(FRAME_MAX as usize - 8) {
        frame(&mut out, 3, channel, body);
    }
    out
}

fn publish_ruled(channel: u16, publication: &Publication) -> Vec<u8> {
    let (exchange, key) = publication.address();
    let mut out = named(channel, (60, 40), exchange, |out| {
        short(out, key);
        out.push(0);
    });
    frame(&mut out, 2, channel, &publication.header());
    for body in publication.body().chunks(FRAME_MAX as usize - 8) {
        frame(&mut out, 3, channel, body);
    }
    out
}

fn number(out: &mut Vec<u8>, key: &str, number: Option<u32>) {
    if let Some(number) = number {
        short(out, key);
        out.push(b'l');
        out.extend(u64::from(number).to_be_bytes());
    }
}

fn text(out: &mut Vec<u8>, key: &str, text: &str) {
    short(out, key);
    out.push(b'S');
    long(out, text.as_bytes());
}

/// The arguments of a queue or an exchange that remembers keys.
fn remembers(unique: Option<Unique>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(Unique { len, ttl_ms }) = unique {
        short(&mut out, "x-message-deduplication");
        out.extend(b"t\x01");
        number(&mut out, "x-cache-size", Some(len));
        number(&mut out, "x-cache-ttl", ttl_ms);
    }
    out
}

fn declare_exchange(channel: u16, name: &str, kind: &str, arguments: &[u8]) -> Vec<u8> {
    named(channel, (40, 10), name, |out| {
        short(out, kind);
        out.push(0b10);
        long(out, arguments);
    })
}

fn bind(channel: u16, exchange: &str, queue: usize, key: &str) -> Vec<u8> {
    named(channel, (50, 20), ruled::NAMES[queue], |out| {
        short(out, exchange);
        short(out, key);
        out.push(0);
        long(out, &[]);
    })
}

fn declare_ruled(channel: u16, queue: usize, rules: &Rules) -> Vec<u8> {
    let mut arguments = remembers(rules.unique);
    let numbers = [
        ("x-message-ttl", rules.ttl_ms),
        ("x-max-length", rules.length),
        ("x-max-priority", rules.ranked.then_some(RANK_MAX.into())),
        ("x-delivery-limit", rules.limit),
        ("x-expires", rules.expires_ms),
        ("x-retry-delay-min", rules.retry_ms.map(|ms| ms.0)),
        ("x-retry-delay-max", rules.retry_ms.map(|ms| ms.1)),
    ];
    numbers.into_iter().for_each(|(key, value)| number(&mut arguments, key, value));
    let keyed = |which| (rules.keyed == Some(which)).then_some(GROUP);
    let texts = [
        ("x-dead-letter-exchange", rules.dead_to.map(|_| "")),
        ("x-dead-letter-routing-key", rules.dead_to.map(|queue| ruled::NAMES[queue])),
        ("x-dead-letter-strategy", rules.must_arrive.then_some("at-least-once")),
        ("x-overflow", rules.overflow.map(|overflow| OVERFLOWS[overflow])),
        ("x-expiry", rules.exact.then_some("exact")),
        ("x-group-key", keyed(Keyed::Groups)),
        ("x-fair-key", keyed(Keyed::Turns)),
    ];
    for (key, value) in texts {
        value.into_iter().for_each(|value| text(&mut arguments, key, value));
    }
    if rules.single {
        short(&mut arguments, "x-single-active-consumer");
        arguments.extend(b"t\x01");
    }
    named(channel, (50, 10), ruled::NAMES[queue], |out| {
        out.push(u8::from(rules.durable) << 1);
        long(out, &arguments);
    })
}

/// A frame of the server's.
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: &'a [u8],
}

/// The first frame of `input` and its length, once it is whole.
pub(crate) fn first_frame(input: &[u8]) -> Option<(Frame<'_>, usize)> {
    let [kind, a, b, c, d, e, f, rest @ ..] = input else { return None };
    let len = u32::from_be_bytes([*c, *d, *e, *f]) as usize;
    assert!(len + 8 <= FRAME_MAX as usize, "a frame of {len} bytes is larger than agreed");
    let payload = rest.get(..len)?;
    assert_eq!(*rest.get(len)?, 0xce, "a frame ends with its mark");
    let channel = u16::from_be_bytes([*a, *b]);
    Some((Frame { kind: *kind, channel, payload }, len + 8))
}

/// Takes fields off a method's payload.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.take(2).iter().fold(0, |number, byte| number << 8 | u16::from(*byte))
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.take(4).iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.take(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub(crate) fn short(&mut self) -> &'a str {
        let len = self.u8();
        std::str::from_utf8(self.take(len.into())).expect("names are plain text")
    }

    pub(crate) fn tag(&mut self) -> u32 {
        let tag = self.short().strip_prefix('c').and_then(|number| number.parse().ok());
        tag.expect("a consumer tag that a client made")
    }
}
