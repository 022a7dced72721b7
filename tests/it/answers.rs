//! What a client is told, and what it must not be told: confirms, returns, replies, refusals.

use crate::bounds::*;
use crate::raw::{self, Fields, Frame};
use crate::session::{Client, Still};
use leveret::broker::link::{Added, Client as Stakeholder, Inbox, Link, PublishBatch, Workspace};
use leveret::exchange::Published;
use leveret::message::Message;
use leveret::queue::Publish;
use leveret::session::Scratch;
use leveret::time::{Now, Ttl};
use leveret::wire::method::*;
use std::sync::Arc;

const FANOUT: &str = "amq.fanout";
const MANDATORY: u8 = 1;

/// The properties of a message with nothing but these headers: a table without its length.
fn headers(table: &[u8]) -> Vec<u8> {
    Fields::default().short(1 << 13).longstr(table).0
}

/// A whole publish of `x` that closes its channel with 406, and why.
fn refused_publishes() -> [(&'static str, Vec<u8>); 2] {
    let user_id = Fields::default().short(1 << 4 | 1 << 12).octet(2).shortstr("somebody else").0;
    let cc = Fields::default().shortstr("CC").octet(b'S').longstr(b"q").0;
    [("user_id", user_id), ("CC", headers(&cc))]
        .map(|(what, properties)| (what, raw::publish(1, "q", &properties, b"x")))
}

/// A client in confirm mode, and a durable queue.
fn confirming(still: &Still) -> Client {
    let mut client = still.client();
    client.say(&[raw::queue_declare(1, "q", raw::DURABLE), raw::confirm_select(1)].concat());
    still.sync();
    client.wake();
    assert_eq!(client.methods(), [QUEUE_DECLARE_OK, CONFIRM_SELECT_OK]);
    client
}

#[test]
fn a_refused_publish_is_not_confirmed() {
    for (what, refused) in refused_publishes() {
        let still = Still::open();
        let mut client = confirming(&still);
        // The one before it is, and counts alone.
        client.say(&[raw::publish(1, "nowhere", raw::TRANSIENT, b"x"), refused].concat());
        still.sync();
        client.wake();
        let frames = client.hear();
        let methods: Vec<_> = frames.iter().filter_map(Frame::method).collect();
        assert_eq!(methods, [BASIC_ACK, CHANNEL_CLOSE], "{what}");
        assert_eq!(frames[0].fields().longlong(), 1, "{what}");
        assert_eq!(frames[1].fields().short(), 406, "{what}");
        assert_eq!(ready_and_out(&still, "q"), (0, 0), "{what}");
    }
}

#[test]
fn a_channel_that_was_closed_is_told_nothing_more() {
    let still = Still::open();
    let mut client = confirming(&still);
    let waits = raw::publish(1, "q", raw::PERSISTENT, b"x");
    let missing = raw::queue_declare(1, "missing", 1);
    assert_eq!(client.call(&[waits, missing].concat()), [CHANNEL_CLOSE]);
    still.sync();
    client.wake();
    assert_eq!(client.methods(), [], "behind channel.close");
    let close_ok = raw::method(1, CHANNEL_CLOSE_OK, Fields::default());
    let again = [close_ok, raw::channel_open(1), raw::confirm_select(1)].concat();
    assert_eq!(client.call(&again), [CHANNEL_OPEN_OK, CONFIRM_SELECT_OK]);
    assert_eq!(ready_and_out(&still, "q"), (1, 0), "it was published all the same");
}

#[test]
fn a_failed_journal_leaves_no_connection_s_messages_to_the_next() {
    let still = Still::open();
    let mut failing = confirming(&still);
    let mut next = still.client();
    // Each has one consumer on channel 1: their events look the same.
    next.call(&[raw::queue_declare(1, "other", 0), raw::consume(1, "other", false)].concat());
    failing.call(&raw::consume(1, "q", false));
    failing.say(&raw::publish(1, "q", raw::PERSISTENT, b"x"));
    assert_eq!(ready_and_out(&still, "q"), (0, 1), "in the inbox");
    still.disk.fail_sync_after(0);
    still.broker.journal().round(&still.disk).unwrap_err();

    let mut scratch = Scratch::default();
    failing.session.handle_inbox(Now::default(), &mut scratch);
    assert!(failing.session.is_closed());
    assert_eq!(ready_and_out(&still, "q"), (1, 0), "given back");
    next.session.handle_inbox(Now::default(), &mut scratch);
    assert_eq!(next.methods(), [], "a message of another connection");
    still.client().say(&raw::publish(1, "other", raw::TRANSIENT, b"x"));
    next.session.handle_inbox(Now::default(), &mut scratch);
    assert_eq!(next.methods(), [BASIC_DELIVER]);
}

/// A client with a transaction, to which all messages of `q`, numbered from 0, were delivered.
fn holding(still: &Still, messages: u32) -> Client {
    let mut client = still.client();
    client.call(&raw::queue_declare(1, "q", 0));
    let publish = |n: u32| raw::publish(1, "q", raw::TRANSIENT, &n.to_be_bytes());
    let publishes: Vec<u8> = (0..messages).flat_map(publish).collect();
    client.say(&publishes);
    client.call(&[raw::consume(1, "q", false), tx(TX_SELECT)].concat());
    client.wake();
    client.hear_all();
    assert_eq!(ready_and_out(still, "q"), (0, messages.into()));
    client
}

/// Single acks of the tags up to `last`, in a scattered order.
fn scattered_acks(last: u64) -> Vec<u8> {
    let prime = 7_919;
    (0..last).flat_map(|n| raw::ack(1, 1 + n * prime % last, false)).collect()
}

#[test]
fn a_rollback_after_thousands_of_acks_leaves_them_as_they_were() {
    const MESSAGES: u32 = 5_000;
    const HALF: u32 = MESSAGES / 2;
    let still = Still::open();
    let mut client = holding(&still, MESSAGES);
    client.say(&scattered_acks(MESSAGES.into()));
    assert_eq!(client.call(&tx(TX_ROLLBACK)), [TX_ROLLBACK_OK]);
    assert_eq!(ready_and_out(&still, "q"), (0, MESSAGES.into()));
    // Up to a tag means the tags up to it, and no other.
    let ack = raw::ack(1, HALF.into(), true);
    assert_eq!(client.call(&[ack, tx(TX_COMMIT)].concat()), [TX_COMMIT_OK]);
    assert_eq!(ready_and_out(&still, "q"), (0, HALF.into()));
    drop(client);
    assert!(take_numbers(&mut still.client(), "q").into_iter().eq(HALF..MESSAGES));
}

#[test]
fn a_channel_that_closes_in_a_transaction_gives_back_what_it_settled() {
    const MESSAGES: u32 = 5_000;
    let still = Still::open();
    let mut client = holding(&still, MESSAGES);
    client.say(&raw::publish(1, "q", raw::TRANSIENT, b"never committed"));
    client.say(&scattered_acks(1_000));
    let reject = Fields::default().longlong(3_000).octet(0);
    client.say(&raw::method(1, BASIC_REJECT, reject));
    let close = Fields::default().short(200).shortstr("").short(0).short(0);
    assert_eq!(client.call(&raw::method(1, CHANNEL_CLOSE, close)), [CHANNEL_CLOSE_OK]);
    assert_eq!(ready_and_out(&still, "q"), (MESSAGES.into(), 0));
    assert!(take_numbers(&mut still.client(), "q").into_iter().eq(0..MESSAGES));
}

#[test]
fn a_reply_goes_once_to_an_asker_named_many_times() {
    const REPLIES: &str = "amq.rabbitmq.reply-to";
    let still = Still::open();
    let (mut asker, mut answerer) = (still.client(), still.client());
    asker.call(&[raw::consume(1, REPLIES, true), raw::queue_declare(1, "requests", 0)].concat());
    let reply_to = Fields::default().short(1 << 9).shortstr(REPLIES).0;
    asker.say(&raw::publish(1, "requests", &reply_to, b"?"));
    answerer.say(&raw::get(1, "requests", true));
    // Class, weight and size, then the flags, then reply_to alone.
    let address = raw::Reader(&answerer.hear()[1].payload[14..]).shortstr();
    let name = Fields::default().octet(b'S').longstr(address.as_bytes()).0;
    for lists in [&["CC"][..], &["BCC"], &["CC", "BCC"]] {
        let list =
            |list: &&str| Fields::default().shortstr(list).octet(b'A').longstr(&name.repeat(100)).0;
        let table: Vec<u8> = lists.iter().flat_map(list).collect();
        answerer.say(&raw::publish(1, &address, &headers(&table), b"!"));
        asker.wake();
        assert_eq!(asker.methods(), [BASIC_DELIVER], "in {lists:?}");
    }
}

#[test]
fn a_message_that_one_queue_took_is_not_returned() {
    let still = Still::open();
    let mut owner = still.client();
    let delete = |owner: &mut Client, queue: &str| {
        let fields = Fields::default().short(0).shortstr(queue).octet(0);
        assert_eq!(owner.call(&raw::method(1, QUEUE_DELETE, fields)), [QUEUE_DELETE_OK]);
    };
    // A stake of our own, to end a queue between the route and the hand-over.
    let broker = &still.broker;
    let (user, vhost) = (broker.access.user("guest").unwrap(), broker.vhost("/").unwrap());
    let inbox = Arc::new(Inbox::new());
    let stakeholder = Stakeholder::new(broker.connect(&inbox), user, vhost, inbox);
    let mut link = Link::new(Arc::clone(broker), Arc::new(stakeholder), 1);
    let (mut batch, mut workspace) = (PublishBatch::default(), Workspace::default());
    let mut returned = |owner: &mut Client, queues: &[&str], ends: &str| {
        for queue in queues {
            owner.call(&bound_queue(queue, FANOUT, ""));
        }
        let admitted = link.admit(FANOUT.as_bytes()).unwrap();
        let routing = &mut workspace.routing;
        let published = Published::new(&[b""], None);
        let route = link.route(&admitted, published, None, routing).unwrap();
        let header = Fields::default().short(60).short(0).longlong(1).short(0).0;
        let message = Message::new(FANOUT.as_bytes(), b"", &header, b"x", &mut Vec::new());
        let publish = Publish {
            message,
            persistent: false,
            priority: 0,
            ttl: Ttl::FOREVER,
            delay: None,
            mark: link.mark(true),
        };
        let added = batch.add(&route, publish, broker, &mut workspace);
        assert!(matches!(added, Added::Routed));
        delete(owner, ends);
        batch.flush(broker, &mut workspace);
        workspace.unrouted.drain(..).filter(|unrouted| unrouted.mandatory).count()
    };
    assert_eq!(returned(&mut owner, &["stays", "ends"], "ends"), 0, "the other has it");
    assert_eq!(ready_and_out(&still, "stays"), (1, 0));
    delete(&mut owner, "stays");
    assert_eq!(returned(&mut owner, &["ends"], "ends"), 1, "nobody has it");
}

#[test]
fn a_commit_returns_what_no_queue_took_and_nothing_else() {
    let still = Still::open();
    let (mut owner, mut publisher) = (still.client(), still.client());
    let cases: [(&[&str], &[_]); 2] =
        [(&["a"], &[TX_COMMIT_OK]), (&["a", "b"], &[BASIC_RETURN, TX_COMMIT_OK])];
    publisher.call(&tx(TX_SELECT));
    for (ends, expected) in cases {
        owner.call(&[bound_queue("a", FANOUT, ""), bound_queue("b", FANOUT, "")].concat());
        publisher.say(&publish_to(FANOUT, "", MANDATORY, b"x"));
        for queue in ends {
            let fields = Fields::default().short(0).shortstr(queue).octet(0);
            owner.call(&raw::method(1, QUEUE_DELETE, fields));
        }
        assert_eq!(publisher.call(&tx(TX_COMMIT)), expected, "{ends:?} ended");
    }
}

#[test]
fn arguments_for_streams_are_refused_on_other_queues() {
    let still = Still::open();
    for (name, value) in [("x-stream-offset", &b"S\0\0\0\x05first"[..]), ("x-stream-filter", b"V")]
    {
        let mut client = still.client();
        client.call(&raw::queue_declare(1, "q", 0));
        let mut arguments = Fields::default().shortstr(name).0;
        arguments.extend(value);
        let consume = Fields::default().short(0).shortstr("q").shortstr("t").octet(0);
        client.say(&raw::method(1, BASIC_CONSUME, consume.longstr(&arguments)));
        let frames = client.hear();
        assert_eq!(frames[0].method(), Some(CHANNEL_CLOSE), "{frames:?}");
        let mut fields = frames[0].fields();
        let expected = format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/' of queue type \
             rabbit_classic_queue"
        );
        assert_eq!((fields.short(), fields.shortstr()), (406, expected));
        assert_eq!(queue(&still, "q").counters.consumers.get(), 0);
    }
}
