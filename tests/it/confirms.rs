//! Publisher confirms and transactions.

use crate::client::*;
use crate::support::{TestBroker, soon};
use lapin::options::*;
use lapin::{BasicProperties, Channel, Confirmation};

async fn confirming(channel: &Channel) {
    channel.confirm_select(Default::default()).await.unwrap();
}

async fn mandatory(channel: &Channel, key: &str, body: &str) -> lapin::PublisherConfirm {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default();
    channel
        .basic_publish("".into(), key.into(), options, body.as_bytes(), properties)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_publish_is_confirmed_whatever_became_of_it() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    confirming(&channel).await;
    transient(&channel, "transient").await;
    declare(&channel, "durable", durable()).await;
    for queue in ["transient", "durable", "no such queue"] {
        for properties in [BasicProperties::default(), persistent()] {
            let confirm = publish_to(&channel, "", queue, "x", properties).await;
            let confirmed = soon("a confirm", confirm).await.unwrap();
            assert_eq!(confirmed, Confirmation::Ack(None), "{queue}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_publishes_in_flight_are_all_confirmed() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    confirming(&channel).await;
    declare(&channel, "q", durable()).await;
    let mut confirms = Vec::new();
    for n in 0..1_000 {
        confirms.push(publish_to(&channel, "", "q", n.to_string(), persistent()).await);
    }
    for confirm in confirms {
        assert!(soon("a confirm", confirm).await.unwrap().is_ack());
    }
    let expected: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&channel, "q").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unroutable_mandatory_message_is_returned_before_its_ack() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    confirming(&channel).await;
    transient(&channel, "q").await;
    // lapin gives a confirm the message that was returned before it.
    let confirm = mandatory(&channel, "nowhere", "lost").await;
    let Confirmation::Ack(Some(returned)) = soon("a confirm", confirm).await.unwrap() else {
        panic!("acked without being returned");
    };
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(returned.routing_key.as_str(), "nowhere");
    assert_eq!(text(returned.data.clone()), "lost");
    let confirm = mandatory(&channel, "q", "found").await;
    let confirmed = soon("a confirm", confirm).await.unwrap();
    assert_eq!(confirmed, Confirmation::Ack(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandatory_message_to_a_queue_that_went_is_returned() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    confirming(&channel).await;
    // The channel has this route in its cache when the queue goes.
    for round in 0..3 {
        transient(&channel, "q").await;
        let confirm = mandatory(&channel, "q", "found").await;
        let confirmed = soon("a confirm", confirm).await.unwrap();
        assert_eq!(confirmed, Confirmation::Ack(None), "round {round}");
        channel.queue_delete("q".into(), Default::default()).await.unwrap();
        let confirm = mandatory(&channel, "q", "lost").await;
        let returned = soon("a confirm", confirm).await.unwrap().take_message();
        assert_eq!(returned.map(|m| text(m.delivery.data)), Some("lost".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_transaction_shows_before_its_commit() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    let (_other, other) = crate::client::channel(&broker).await;
    transient(&channel, "q").await;
    declare(&channel, "d", durable()).await;
    publish(&channel, "q", "before").await;
    channel.tx_select().await.unwrap();
    let before = get(&channel, "q").await.unwrap();
    before.ack(Default::default()).await.unwrap();
    publish(&channel, "q", "a").await;
    publish_to(&channel, "", "d", "b", persistent()).await;
    assert_eq!(declare(&channel, "q", Default::default()).await, 0);
    assert_eq!(broker.queue("q").counters.unacked.get(), 1);
    assert!(get(&other, "d").await.is_none());
    channel.tx_commit().await.unwrap();
    assert_eq!(broker.queue("q").counters.unacked.get(), 0);
    assert_eq!(bodies(&other, "q").await, ["a"]);
    assert_eq!(bodies(&other, "d").await, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_forgets_publishes_and_gives_acks_back() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    publish(&channel, "q", "before").await;
    channel.tx_select().await.unwrap();
    get(&channel, "q").await.unwrap();
    publish(&channel, "q", "never").await;
    channel.basic_ack(1, Default::default()).await.unwrap();
    channel.tx_rollback().await.unwrap();
    assert_eq!(broker.queue("q").counters.unacked.get(), 1);
    // The tag is outstanding again, and can be acked in the transaction that has begun.
    channel.basic_ack(1, Default::default()).await.unwrap();
    publish(&channel, "q", "after").await;
    channel.tx_commit().await.unwrap();
    assert_eq!(broker.queue("q").counters.unacked.get(), 0);
    assert_eq!(bodies(&channel, "q").await, ["after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_ends_with_its_channel() {
    let broker = TestBroker::start();
    let (connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    publish(&channel, "q", "before").await;
    channel.tx_select().await.unwrap();
    get(&channel, "q").await.unwrap();
    channel.basic_ack(1, Default::default()).await.unwrap();
    publish(&channel, "q", "never").await;
    channel.close(200, "".into()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    assert_eq!(drain(&channel, "q").await, [(b"before".to_vec(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_transactional_or_confirming_but_not_both() {
    let broker = TestBroker::start();
    let (connection, first) = channel(&broker).await;
    first.tx_select().await.unwrap();
    let refused = reply(first.confirm_select(Default::default()).await);
    let expected = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    assert_eq!(refused, (406, expected.to_owned()));
    let second = connection.create_channel().await.unwrap();
    confirming(&second).await;
    let refused = reply(second.tx_select().await);
    let expected = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    assert_eq!(refused, (406, expected.to_owned()));
    let third = connection.create_channel().await.unwrap();
    let refused = reply(third.tx_commit().await);
    let expected = "PRECONDITION_FAILED - channel is not transactional";
    assert_eq!(refused, (406, expected.to_owned()));
}
