//! What work costs, counted: syncs of the disk, wake-ups of connections, frames of confirms.

use crate::disk::Gate;
use crate::raw::{self, Fields, Raw};
use crate::session::Still;
use crate::support::{TestBroker, wait_until};
use leveret::wire::method::*;

#[test]
fn two_hundred_pipelined_declares_cost_a_few_syncs() {
    let (gate, disk) = Gate::before_a_disk();
    let broker = TestBroker::on(disk.clone());
    let mut raw = Raw::channel(&broker);
    let declares: Vec<u8> =
        (0..200).flat_map(|n| raw::queue_declare(1, &format!("q{n}"), raw::DURABLE)).collect();
    let before = disk.memory.syncs();
    gate.shut();
    raw.send(&declares);
    let vhost = broker.broker.vhost("/").unwrap();
    wait_until("200 queues", || vhost.queues().len() == 200);
    gate.open();
    for n in 0..200 {
        let declared = raw.expect(QUEUE_DECLARE_OK);
        assert_eq!(declared.fields().shortstr(), format!("q{n}"));
    }
    let syncs = disk.memory.syncs() - before;
    // The first round may have left with a part of them; all others go with the next.
    assert!((1..=2).contains(&syncs), "{syncs} syncs");
}

#[test]
fn a_thousand_pipelined_publishes_cost_a_few_syncs_and_a_few_acks() {
    let (gate, disk) = Gate::before_a_disk();
    let broker = TestBroker::on(disk.clone());
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare(1, "q", raw::DURABLE), QUEUE_DECLARE_OK);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    let before = disk.memory.syncs();
    gate.shut();
    raw.send(&raw::publish(1, "q", raw::PERSISTENT, b"x").repeat(1_000));
    wait_until("1000 messages", || broker.ready("q") == 1_000);
    gate.open();
    let (mut acks, mut confirmed) = (0, 0);
    while confirmed < 1_000 {
        confirmed = raw.expect(BASIC_ACK).fields().longlong();
        acks += 1;
    }
    let syncs = disk.memory.syncs() - before;
    assert!((1..=2).contains(&syncs) && acks <= syncs, "{syncs} syncs, {acks} acks");
}

#[test]
fn a_batch_of_publishes_wakes_its_consumer_once() {
    let still = Still::open();
    let (mut publisher, mut consumer) = (still.client(), still.client());
    consumer.say(&raw::queue_declare(1, "q", 0));
    consumer.say(&raw::consume(1, "q", true));
    consumer.hear();
    for round in 1..=3 {
        let before = consumer.wakes();
        publisher.say(&raw::publish(1, "q", raw::TRANSIENT, b"x").repeat(500));
        assert_eq!(consumer.wakes(), before + 1, "round {round}");
        // It has not looked yet, so it need not be told again.
        publisher.say(&raw::publish(1, "q", raw::TRANSIENT, b"x").repeat(500));
        assert_eq!(consumer.wakes(), before + 1, "round {round}");
        consumer.wake();
        let delivered = consumer.methods();
        assert_eq!(delivered, vec![BASIC_DELIVER; 1_000], "round {round}");
    }
    assert_eq!(publisher.wakes(), 0);
}

#[test]
fn one_read_wakes_each_connection_that_it_touches_once() {
    let still = Still::open();
    let mut publisher = still.client();
    let mut consumers: Vec<_> = (0..10).map(|_| still.client()).collect();
    for (n, consumer) in consumers.iter_mut().enumerate() {
        // Two channels and two queues each.
        consumer.say(&raw::channel_open(2));
        for channel in [1, 2] {
            let queue = format!("q{n}.{channel}");
            consumer.say(&raw::queue_declare(channel, &queue, 0));
            consumer.say(&raw::consume(channel, &queue, true));
        }
        consumer.hear();
    }
    let mut untouched = still.client();
    let before: Vec<_> = consumers.iter().map(|consumer| consumer.wakes()).collect();
    let publishes: Vec<u8> = (0..1_000)
        .flat_map(|n| {
            let queue = format!("q{}.{}", n % 10, 1 + n / 10 % 2);
            raw::publish(1, &queue, raw::TRANSIENT, b"x")
        })
        .collect();
    publisher.say(&publishes);
    for (consumer, before) in consumers.iter_mut().zip(before) {
        assert_eq!(consumer.wakes(), before + 1);
        consumer.wake();
        assert_eq!(consumer.methods(), vec![BASIC_DELIVER; 100]);
    }
    assert_eq!(untouched.wakes(), 0);
    untouched.wake();
    assert!(untouched.hear().is_empty());
}

#[test]
fn a_consumer_that_can_take_nothing_is_not_woken() {
    let still = Still::open();
    let (mut publisher, mut consumer) = (still.client(), still.client());
    let prefetch = Fields::default().long(0).short(10).octet(0);
    consumer.say(&raw::method(1, BASIC_QOS, prefetch));
    consumer.say(&raw::queue_declare(1, "q", 0));
    consumer.say(&raw::consume(1, "q", false));
    publisher.say(&raw::publish(1, "q", raw::TRANSIENT, b"x").repeat(10));
    let full = consumer.wakes();
    consumer.wake();
    publisher.say(&raw::publish(1, "q", raw::TRANSIENT, b"x").repeat(100));
    assert_eq!(consumer.wakes(), full);
    consumer.hear();
    // Its own acks bring it the next ones.
    consumer.say(&raw::ack(1, 10, true));
    consumer.wake();
    assert_eq!(consumer.methods(), vec![BASIC_DELIVER; 10]);
}

#[test]
fn a_sync_tells_each_connection_that_waits_once() {
    let still = Still::open();
    let mut publishers: Vec<_> = (0..5).map(|_| still.client()).collect();
    for publisher in &mut publishers {
        publisher.say(&raw::queue_declare(1, "q", raw::DURABLE));
        still.sync();
        publisher.wake();
        publisher.say(&raw::channel_open(2));
        publisher.say(&[raw::confirm_select(1), raw::confirm_select(2)].concat());
        publisher.hear();
    }
    for publisher in &mut publishers {
        for _ in 0..20 {
            publisher.say(&raw::publish(1, "q", raw::PERSISTENT, b"x").repeat(10));
            publisher.say(&raw::publish(2, "q", raw::PERSISTENT, b"x").repeat(10));
        }
        assert!(publisher.hear().is_empty(), "confirmed before the sync");
    }
    let before: Vec<_> = publishers.iter().map(|publisher| publisher.wakes()).collect();
    let syncs = still.disk.syncs();
    still.sync();
    assert_eq!(still.disk.syncs(), syncs + 1);
    for (publisher, before) in publishers.iter_mut().zip(before) {
        assert_eq!(publisher.wakes(), before + 1);
        publisher.wake();
        still.sync();
        publisher.wake();
        let acks = publisher.hear();
        let acked: u64 = last_of(&acks, 1) + last_of(&acks, 2);
        assert_eq!((acked, acks.len()), (400, 2), "{acks:?}");
    }
}

fn last_of(acks: &[raw::Frame], channel: u16) -> u64 {
    let of_channel = acks.iter().filter(|frame| frame.channel == channel);
    of_channel.map(|frame| frame.fields().longlong()).max().unwrap()
}
