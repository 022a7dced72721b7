//! Any bytes, and sessions gone wrong at any place, at any split: no panic, no hang, no harm.

use crate::raw::{self, Fields, Raw};
use crate::session::{Client, Still, greeting};
use crate::support::TestBroker;
use leveret::exception::MethodId;
use leveret::wire::method::*;
use proptest::prelude::*;
use proptest::sample::Index;

/// One thing that a client may say on one of two channels, about one of two queues.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let channel = 1..3_u16;
    let queue = prop_oneof!["durable", "transient", "missing", ""];
    let body = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (15_000..40_000_usize).prop_map(|len| vec![b'x'; len]),
    ];
    (0..24_u8, channel, queue, body, 0..6_u64, any::<u8>()).prop_map(frame_of)
}

fn frame_of(
    (what, channel, queue, body, tag, bits): (u8, u16, String, Vec<u8>, u64, u8),
) -> Vec<u8> {
    let fields = Fields::default;
    let named = || fields().short(0).shortstr(&queue);
    let method = |id, fields| raw::method(channel, id, fields);
    match what {
        0 => raw::channel_open(channel),
        1 => method(CHANNEL_CLOSE, fields().short(200).shortstr("").short(0).short(0)),
        2 => method(CHANNEL_CLOSE_OK, fields()),
        3 => raw::queue_declare(channel, &queue, bits),
        4 => method(QUEUE_DELETE, named().octet(bits)),
        5 => method(QUEUE_PURGE, named().octet(bits)),
        6 => {
            method(QUEUE_BIND, named().shortstr("amq.topic").shortstr("#").octet(bits).longstr(&[]))
        }
        7 => method(BASIC_CONSUME, named().shortstr("tag").octet(bits).longstr(&[])),
        8 => method(BASIC_CANCEL, fields().shortstr("tag").octet(bits)),
        9 => raw::get(channel, &queue, bits & 1 == 1),
        10 => raw::ack(channel, tag, bits & 1 == 1),
        11 => method(BASIC_NACK, fields().longlong(tag).octet(bits)),
        12 => method(BASIC_QOS, fields().long(0).short(tag as u16).octet(bits & 1)),
        13 => method(BASIC_RECOVER, fields().octet(1)),
        14 => raw::confirm_select(channel),
        15 => method([TX_SELECT, TX_COMMIT, TX_ROLLBACK][bits as usize % 3], fields()),
        16 => raw::consume(channel, "amq.rabbitmq.reply-to", true),
        17 => raw::publish(
            channel,
            &queue,
            &fields().short(1 << 9).shortstr("amq.rabbitmq.reply-to").0,
            &body,
        ),
        18 => [
            raw::publish_method(channel, "amq.topic", &queue, bits & 1),
            raw::content_header(channel, body.len() as u64, raw::PERSISTENT),
            raw::frame(3, channel, &body),
        ]
        .concat(),
        19 => raw::publish(channel, &queue, raw::TRANSIENT, &body),
        20 => raw::frame(8, 0, &[]),
        21 => raw::frame(bits % 10, channel, &body),
        22 => method(MethodId::new(u16::from(bits) % 100, tag as u16 * 10), Fields(body)),
        _ => raw::publish(channel, &queue, raw::PERSISTENT, &body),
    }
}

/// A change to bytes at some place.
#[derive(Clone, Debug)]
enum Harm {
    None,
    Flip(Index, u8),
    Cut(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        Just(Harm::None),
        (any::<Index>(), any::<u8>()).prop_map(|(at, octet)| Harm::Flip(at, octet)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, len)| Harm::Cut(at, len)),
        (any::<Index>(), 1..200_usize).prop_map(|(at, len)| Harm::Repeat(at, len)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
    ]
}

impl Harm {
    fn to(&self, bytes: &mut Vec<u8>) {
        let span = |at: &Index, len: usize| {
            let from = at.index(bytes.len());
            from..bytes.len().min(from + len)
        };
        match self {
            Self::None => {}
            Self::Flip(at, octet) => {
                let at = at.index(bytes.len());
                bytes[at] ^= octet;
            }
            Self::Cut(at, len) => drop(bytes.drain(span(at, *len))),
            Self::Repeat(at, len) => {
                let span = span(at, *len);
                let again = bytes[span.clone()].to_vec();
                bytes.splice(span.end..span.end, again);
            }
            Self::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

/// A session, harmed in up to two places, and where its reads end.
fn harmed_session() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let frames = prop::collection::vec(frames(), 0..30);
    let cuts = prop::collection::vec(any::<Index>(), 0..8);
    (frames, harm(), harm(), cuts).prop_map(|(frames, first, second, cuts)| {
        let mut bytes = [greeting(), frames.concat()].concat();
        first.to(&mut bytes);
        second.to(&mut bytes);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        (bytes, cuts)
    })
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let from = std::iter::once(0).chain(cuts.iter().copied());
    let to = cuts.iter().copied().chain([bytes.len()]);
    from.zip(to).map(|(from, to)| &bytes[from..to]).collect()
}

/// More of them if there is time.
fn cases(count: u32) -> u32 {
    match std::env::var_os("LEVERET_LONG") {
        Some(_) => count * 20,
        None => count,
    }
}

fn assert_serves(client: &mut Client) {
    client.say(&raw::queue_declare(1, "healthy", 0));
    client.say(&raw::publish(1, "healthy", raw::TRANSIENT, b"x"));
    client.say(&raw::get(1, "healthy", true));
    assert_eq!(client.methods(), [QUEUE_DECLARE_OK, BASIC_GET_OK]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_500)))]

    #[test]
    fn any_bytes_are_taken_or_refused(
        login: bool, bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(any::<Index>(), 0..5),
    ) {
        let still = Still::open();
        let mut client = if login { still.client() } else { still.accept() };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        for piece in pieces(&bytes, &cuts) {
            client.say(piece);
            client.wake();
            client.read();
        }
        client.pass(120_000);
        assert_serves(&mut still.client());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_500)))]

    #[test]
    fn a_harmed_session_harms_no_other((bytes, cuts) in harmed_session(), lag in 0..4_usize) {
        let still = Still::open();
        let mut other = still.client();
        other.say(&raw::queue_declare(1, "durable", raw::DURABLE));
        other.say(&raw::queue_declare(1, "transient", 0));
        other.say(&raw::consume(1, "transient", false));
        let mut client = still.accept();
        for (turn, piece) in pieces(&bytes, &cuts).into_iter().enumerate() {
            client.say(piece);
            // The disk and the others move when they like.
            if turn % (lag + 1) == 0 {
                still.sync();
                client.wake();
                client.read();
            }
            other.wake();
            other.pass(1_000);
            client.pass(1_000);
        }
        still.sync();
        client.wake();
        client.hear_all();
        drop(client);
        other.wake();
        other.hear_all();
        assert_serves(&mut still.client());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(40),
        max_shrink_iters: 40,
        ..Default::default()
    })]

    #[test]
    fn a_harmed_session_over_a_socket_harms_no_other(
        sessions in prop::collection::vec(harmed_session(), 1..6),
    ) {
        let broker = TestBroker::start();
        let mut healthy = Raw::channel(&broker);
        let mut harmed = Vec::new();
        for (bytes, cuts) in sessions {
            let mut raw = Raw::dial(broker.address);
            for piece in pieces(&bytes, &cuts) {
                // It may have hung up.
                let _ = raw.try_send(piece);
            }
            raw.end_of_input();
            harmed.push(raw);
        }
        healthy.call(&raw::queue_declare(1, "healthy", 0), QUEUE_DECLARE_OK);
        healthy.send(&raw::publish(1, "healthy", raw::TRANSIENT, b"x"));
        let gotten = healthy.call(&raw::get(1, "healthy", true), BASIC_GET_OK);
        assert_eq!(healthy.content_of(&gotten).body, b"x");
        drop(harmed);
        crate::support::wait_until("the others to end", || broker.broker.connections_len() == 1);
        drop(healthy);
        broker.stop().unwrap();
    }
}
