//! Section 5.2: transactions.

use super::cases;
use crate::client::{
    Channel, ack, bind, consume, declare, delete, nack, publish, recover, select_confirms, tx,
};
use crate::codec::{Method, Properties, Table};
use crate::outcome::{Outcome, same};
use crate::trial::{Differs, Trial};

cases! {
    "5.2": select_is_idempotent, select_in_confirm_mode, commit_without_select,
        rollback_without_select, publishes_wait_for_the_commit, rollback_discards_publishes,
        next_transaction_starts_by_itself, publishes_are_checked_at_once,
        queues_are_chosen_at_publish, returns_precede_commit_ok, mandatory_waits_for_the_commit,
        gets_and_declares_are_immediate, acks_wait_for_the_commit, rollback_restores_tags,
        unknown_tag_is_refused_at_once, acked_tag_is_gone_at_once, nack_waits_for_the_commit,
        rollback_does_not_redeliver, channel_close_rolls_back, empty_commit,
        commit_to_a_deleted_queue, rejected_publish_at_commit, methods_behind_a_commit,
        publishes_keep_their_order, commit_is_all_or_nothing;
}

fn transactional(trial: &Trial<'_>) -> Outcome<(Channel, String)> {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&tx("select"))?;
    Ok((channel, queue))
}

fn select_is_idempotent(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    channel.publish("", &queue, "kept over the second select");
    channel.call(&tx("select"))?;
    channel.call(&tx("commit"))?;
    channel.expect_ready(&queue, 1)
}

fn select_in_confirm_mode(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&select_confirms())?;
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    channel.refuses(&tx("select"), 406, text)
}

const NOT_TRANSACTIONAL: &str = "PRECONDITION_FAILED - channel is not transactional";

fn commit_without_select(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.refuses(&tx("commit"), 406, NOT_TRANSACTIONAL)
}

fn rollback_without_select(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.refuses(&tx("rollback"), 406, NOT_TRANSACTIONAL)
}

fn publishes_wait_for_the_commit(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    channel.publish("", &queue, "x");
    channel.expect_ready(&queue, 0)?;
    channel.call(&tx("commit"))?;
    channel.expect_bodies(&queue, &["x"])
}

fn rollback_discards_publishes(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    channel.publish("", &queue, "x");
    channel.call(&tx("rollback"))?;
    channel.call(&tx("commit"))?;
    channel.expect_ready(&queue, 0)
}

fn next_transaction_starts_by_itself(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    for verb in ["commit", "rollback"] {
        channel.call(&tx(verb))?;
        channel.publish("", &queue, "x");
        channel.expect_ready(&queue, 0)?;
        channel.call(&tx("rollback"))?;
    }
    Ok(())
}

fn publishes_are_checked_at_once(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = transactional(trial)?;
    let name = trial.exchange();
    channel.publish(&name, "", "x");
    let text = format!("NOT_FOUND - no {}", trial.at("exchange", &name));
    channel.expect_close(404, &text, "basic.publish")?;
    channel.call(&tx("select"))?;
    let properties = Properties::new().with("expiration", "x");
    channel.publish_with(&publish("", ""), &properties, b"");
    let text = "PRECONDITION_FAILED - invalid expiration 'x': no_integer";
    channel.expect_close(406, text, "basic.publish")
}

fn queues_are_chosen_at_publish(trial: &Trial<'_>) -> Outcome {
    let (channel, early) = transactional(trial)?;
    let name = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&early, &name, ""))?;
    channel.publish(&name, "", "x");
    let late = trial.new_queue(&channel)?;
    channel.call(&bind(&late, &name, ""))?;
    channel.call(&crate::client::unbind(&early, &name, ""))?;
    channel.call(&tx("commit"))?;
    channel.expect_bodies(&early, &["x"])?;
    channel.expect_bodies(&late, &[])
}

fn publish_mandatory(channel: &Channel, key: &str, body: &str) {
    let method = publish("", key).flags(&["mandatory"]);
    channel.publish_with(&method, &Properties::new(), body.as_bytes());
}

fn returns_precede_commit_ok(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    let missing = trial.queue();
    publish_mandatory(&channel, &missing, "one");
    publish_mandatory(&channel, &queue, "routed");
    publish_mandatory(&channel, &missing, "two");
    channel.send(&tx("commit"));
    for body in ["one", "two"] {
        channel.expect_content("basic.return")?.expect("", &missing, body)?;
    }
    channel.expect("tx.commit-ok").map(drop)
}

fn mandatory_waits_for_the_commit(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    publish_mandatory(&channel, &trial.queue(), "x");
    channel.quiet(&queue)?;
    channel.call(&tx("rollback"))?;
    channel.call(&tx("commit")).map(drop)
}

fn gets_and_declares_are_immediate(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    let (other, declared) = (trial.channel()?, trial.queue());
    other.publish("", &queue, "x");
    other.fence()?;
    channel.expect_bodies(&queue, &["x"])?;
    channel.call(&declare(&declared))?;
    channel.call(&tx("rollback"))?;
    other.quiet(&declared)?;
    other.expect_ready(&queue, 0)
}

/// A transactional channel that holds these messages with tags from 1.
fn holding(trial: &Trial<'_>, bodies: &[&str]) -> Outcome<(Channel, String)> {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    bodies.iter().for_each(|body| channel.publish("", &queue, body));
    for _ in bodies {
        channel.check_out(&queue)?;
    }
    channel.call(&tx("select"))?;
    Ok((channel, queue))
}

fn acks_wait_for_the_commit(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = holding(trial, &["a", "b"])?;
    channel.send(&ack(1));
    channel.call(&tx("commit"))?;
    channel.send(&ack(2));
    channel.close()?;
    channel.reopen()?;
    crate::outcome::eventually("b is back", || Ok(channel.counts(&queue)?.0 == 1))?;
    channel.expect_bodies(&queue, &["b"])
}

fn rollback_restores_tags(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = holding(trial, &["a", "b"])?;
    channel.send(&ack(1));
    channel.send(&ack(2));
    channel.call(&tx("rollback"))?;
    channel.send(&ack(1));
    channel.call(&tx("commit"))?;
    channel.call(&recover())?;
    channel.expect_bodies(&queue, &["b"])
}

fn unknown_tag_is_refused_at_once(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = transactional(trial)?;
    channel.refuses(&ack(9), 406, "PRECONDITION_FAILED - unknown delivery tag 9")
}

fn acked_tag_is_gone_at_once(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = holding(trial, &["a"])?;
    channel.send(&ack(1));
    channel.refuses(&ack(1), 406, "PRECONDITION_FAILED - unknown delivery tag 1")
}

fn nack_waits_for_the_commit(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = holding(trial, &["a", "b"])?;
    channel.send(&nack(1).flags(&["requeue"]));
    channel.send(&crate::client::reject(2).flags(&["requeue"]));
    channel.expect_ready(&queue, 0)?;
    channel.call(&tx("commit"))?;
    channel.expect_bodies(&queue, &["a", "b"])
}

fn rollback_does_not_redeliver(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    channel.call(&consume(&queue, "t"))?;
    let other = trial.channel()?;
    other.publish("", &queue, "x");
    channel.expect_deliveries(&["x"])?;
    channel.send(&ack(1));
    channel.call(&tx("rollback"))?;
    channel.quiet(&queue)
}

fn channel_close_rolls_back(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = holding(trial, &["a"])?;
    channel.send(&ack(1));
    channel.publish("", &queue, "never");
    channel.close()?;
    channel.reopen()?;
    crate::outcome::eventually("a is back", || Ok(channel.counts(&queue)?.0 == 1))?;
    channel.expect_bodies(&queue, &["a"])
}

fn empty_commit(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = transactional(trial)?;
    channel.call(&tx("commit"))?;
    channel.call(&tx("rollback"))?;
    channel.call(&tx("commit")).map(drop)
}

fn commit_to_a_deleted_queue(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    channel.publish("", &queue, "x");
    channel.call(&delete(&queue))?;
    channel.call(&tx("commit")).map(drop)
}

fn rejected_publish_at_commit(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let arguments =
        Table::from([("x-max-length", 0.into()), ("x-overflow", "reject-publish".into())]);
    channel.call(&declare(&queue).with("arguments", arguments))?;
    channel.call(&tx("select"))?;
    channel.publish("", &queue, "refused");
    channel.refuses(&tx("commit"), 406, "PRECONDITION_FAILED - partial tx completion")
}

/// RabbitMQ 3.10 refuses whatever arrives while a commit waits for the disk.
fn methods_behind_a_commit(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    channel.call(&declare(&queue).flags(&["durable"]))?;
    channel.call(&tx("select"))?;
    channel.publish_with(&publish("", &queue), &Properties::new().persistent(), b"x");
    let flow = Method::new("channel.flow").with("active", true);
    let bytes = [tx("commit"), flow].map(|method| method.frame(channel.number).encode());
    channel.connection.send_bytes(&bytes.concat());
    let queued = Differs { rabbitmq: false, leveret: true, line: "Methods behind tx.commit" };
    if !trial.expect(queued) {
        let text = "CHANNEL_ERROR - unexpected command while processing 'tx.commit'";
        return channel.connection.expect_close(504, text, "channel.flow");
    }
    channel.expect("tx.commit-ok")?;
    channel.expect("channel.flow-ok").map(drop)
}

fn publishes_keep_their_order(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = transactional(trial)?;
    for number in 0..20 {
        channel.publish("", &queue, &number.to_string());
    }
    channel.call(&tx("commit"))?;
    for number in 0..20 {
        same("body", channel.take(&queue)?.text(), number.to_string())?;
    }
    Ok(())
}

/// RabbitMQ 3.10 keeps what the other queues took, Leveret nothing.
fn commit_is_all_or_nothing(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (full, other) = (trial.queue(), trial.new_queue(&channel)?);
    let arguments =
        Table::from([("x-max-length", 0.into()), ("x-overflow", "reject-publish".into())]);
    channel.call(&declare(&full).with("arguments", arguments))?;
    channel.call(&tx("select"))?;
    channel.publish("", &other, "before");
    channel.publish("", &full, "refused");
    channel.refuses(&tx("commit"), 406, "PRECONDITION_FAILED - partial tx completion")?;
    let kept: &[&str] =
        trial.expect(Differs { rabbitmq: &["before"], leveret: &[], line: "Atomic tx.commit" });
    channel.expect_bodies(&other, kept)
}
