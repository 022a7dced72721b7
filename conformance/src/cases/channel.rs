//! Sections 2 and 2.1: what holds for all methods, and the class channel.

use super::cases;
use crate::client::{
    bind, bind_exchange, cancel, consume, declare, delete, delete_exchange, exchange, get, publish,
    purge, tx, unbind,
};
use crate::codec::{Method, Properties};
use crate::outcome::{Outcome, same};
use crate::trial::{Differs, Trial};

cases! {
    "2": nowait_suppresses_the_reply, nowait_keeps_errors, line_breaks_are_removed_from_queue_names,
        line_breaks_are_removed_from_exchange_names, line_breaks_are_removed_in_bindings,
        line_breaks_are_kept_elsewhere, names_may_be_255_bytes_of_utf8,
        empty_queue_name_without_a_declared_queue, empty_queue_name_is_the_last_declared,
        passive_and_nowait_declares_count_as_last, last_declared_queue_is_per_channel,
        passive_declare_of_an_empty_name, empty_queue_name_in_bindings,
        failed_declare_forgets_the_last_declared, ticket_is_ignored,
        server_methods_are_unimplemented, unsolicited_close_ok_is_unimplemented, basic_credit;
    "2.1": first_method_must_be_open, publish_before_open, second_open, open_ok_is_empty,
        flow_active, flow_inactive, access_request, close_requeues, close_discards_the_transaction,
        close_removes_consumers, close_of_an_unopened_channel;
}

fn nowait_suppresses_the_reply(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (queue, name, other) = (trial.queue(), trial.exchange(), trial.exchange());
    for method in [
        declare(&queue),
        exchange(&name, "fanout"),
        exchange(&other, "fanout"),
        bind(&queue, &name, ""),
        bind_exchange(&other, &name, ""),
        consume(&queue, "tag"),
        cancel("tag"),
        purge(&queue),
        Method::new("exchange.unbind").with("destination", &other).with("source", &name),
        delete(&queue),
        delete_exchange(&name),
        Method::new("confirm.select"),
    ] {
        channel.send(&method.flags(&["nowait"]));
    }
    channel.fence()
}

fn nowait_keeps_errors(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let text = format!("NOT_FOUND - no {}", trial.at("queue", &queue));
    channel.refuses(&declare(&queue).flags(&["passive", "nowait"]), 404, &text)?;
    channel.refuses(&purge(&queue).flags(&["nowait"]), 404, &text)?;
    channel.refuses(&consume(&queue, "tag").flags(&["nowait"]), 404, &text)
}

fn line_breaks_are_removed_from_queue_names(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let ok = channel.call(&declare(&format!("\r\n{queue}\n\r\n")))?;
    same("name", ok.text("queue"), queue.as_str())?;
    channel.quiet(&format!("{queue}\n"))?;
    channel.call(&delete(&format!("\n{queue}")))?;
    channel.expect_absent(&queue, trial.vhost())
}

fn line_breaks_are_removed_from_exchange_names(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.exchange();
    channel.call(&exchange(&format!("{name}\r\n"), "fanout"))?;
    channel.call(&exchange(&name, "").flags(&["passive"]))?;
    channel.call(&delete_exchange(&format!("\n{name}")))?;
    let text = format!("NOT_FOUND - no {}", trial.at("exchange", &name));
    channel.refuses(&exchange(&name, "").flags(&["passive"]), 404, &text)
}

fn line_breaks_are_removed_in_bindings(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&format!("{queue}\n"), &format!("\r{name}"), ""))?;
    channel.publish(&name, "", "bound");
    channel.expect_bodies(&queue, &["bound"])?;
    channel.call(&unbind(&format!("\n{queue}"), &format!("{name}\r\n"), ""))?;
    channel.publish(&name, "", "unbound");
    channel.expect_ready(&queue, 0)
}

fn line_breaks_are_kept_elsewhere(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let broken = format!("{queue}\n");
    let text = format!("NOT_FOUND - no {}", trial.at("queue", &broken));
    channel.refuses(&get(&broken), 404, &text)?;
    channel.refuses(&purge(&broken), 404, &text)?;
    channel.refuses(&consume(&broken, ""), 404, &text)?;
    let text = format!("NOT_FOUND - no {}", trial.at("exchange", "amq.direct\n"));
    channel.publish("amq.direct\n", "", "");
    channel.expect_close(404, &text, "basic.publish")
}

fn names_may_be_255_bytes_of_utf8(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let mut name = format!("{} \u{1F407}'\"\\\0/", trial.queue());
    while name.len() < 255 {
        name.push('x');
    }
    trial.forget_later(&name);
    same("name", channel.call(&declare(&name))?.text("queue"), name.as_str())?;
    channel.publish("", &name, "long");
    channel.expect_bodies(&name, &["long"])?;
    channel.delete_queue(&name)
}

fn empty_queue_name_without_a_declared_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let text = "NOT_FOUND - no previously declared queue";
    for method in [
        get(""),
        consume("", ""),
        delete(""),
        purge(""),
        bind("", "amq.fanout", "key"),
        unbind("", "amq.fanout", "key"),
    ] {
        channel.refuses(&method, 404, text)?;
    }
    Ok(())
}

fn empty_queue_name_is_the_last_declared(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "one");
    channel.expect_bodies("", &["one"])?;
    channel.publish("", &queue, "two");
    same("purged", channel.call(&purge(""))?.number("message_count"), 1)?;
    channel.call(&consume("", "tag"))?;
    same("consumers", channel.counts(&queue)?.1, 1)?;
    channel.call(&delete(""))?;
    channel.expect("basic.cancel")?;
    channel.expect_absent(&queue, trial.vhost())
}

fn passive_and_nowait_declares_count_as_last(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (one, two) = (trial.new_queue(&channel)?, trial.queue());
    channel.send(&declare(&two).flags(&["nowait"]));
    channel.publish("", &two, "second");
    channel.expect_bodies("", &["second"])?;
    channel.call(&declare(&one).flags(&["passive"]))?;
    channel.publish("", &one, "first");
    channel.expect_bodies("", &["first"])
}

fn last_declared_queue_is_per_channel(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    trial.new_queue(&channel)?;
    channel.sibling()?.refuses(&get(""), 404, "NOT_FOUND - no previously declared queue")
}

fn passive_declare_of_an_empty_name(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    trial.new_queue(&channel)?;
    channel.expect_absent("", trial.vhost())
}

/// With an empty key as well, the key is the queue's name; a given key stays.
fn empty_queue_name_in_bindings(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind("", &name, ""))?;
    channel.call(&bind("", &name, "key"))?;
    for key in [queue.as_str(), "key", ""] {
        channel.publish(&name, key, key);
    }
    channel.expect_bodies(&queue, &[queue.as_str(), "key"])?;
    channel.call(&unbind("", &name, ""))?;
    channel.publish(&name, &queue, "unbound");
    channel.expect_ready(&queue, 0)
}

fn failed_declare_forgets_the_last_declared(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    trial.new_queue(&channel)?;
    let missing = trial.queue();
    channel.expect_absent(&missing, trial.vhost())?;
    // The exception closed the channel, and with it went what it had declared.
    channel.refuses(&get(""), 404, "NOT_FOUND - no previously declared queue")
}

fn ticket_is_ignored(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    channel.call(&declare(&queue).with("ticket", 77_u16))?;
    channel.publish_with(
        &publish("", &queue).with("ticket", 78_u16),
        &Properties::new(),
        b"with a ticket",
    );
    channel.expect_bodies(&queue, &["with a ticket"])
}

const UNIMPLEMENTED: &str = "COMMAND_INVALID - unimplemented method";

fn server_methods_are_unimplemented(trial: &Trial<'_>) -> Outcome {
    for name in ["queue.declare-ok", "channel.open-ok", "basic.consume-ok", "tx.commit-ok"] {
        trial.channel()?.kills(&Method::new(name), 503, UNIMPLEMENTED)?;
    }
    let channel = trial.channel()?;
    let method = Method::new("basic.deliver");
    channel.publish_with(&method, &Properties::new(), b"");
    channel.connection.expect_close(503, UNIMPLEMENTED, method.name())
}

fn unsolicited_close_ok_is_unimplemented(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.kills(&Method::new("channel.close-ok"), 503, UNIMPLEMENTED)
}

fn basic_credit(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let credit = Method::new("basic.credit").with("consumer_tag", "none");
    let refused = Differs { rabbitmq: false, leveret: true, line: "basic.credit" };
    if trial.expect(refused) {
        return channel.kills(&credit, 503, UNIMPLEMENTED);
    }
    // Served, only the consumer is missing.
    channel.refuses(&credit, 406, "PRECONDITION_FAILED - unknown consumer tag 'none'")
}

fn first_method_must_be_open(trial: &Trial<'_>) -> Outcome {
    let text = "CHANNEL_ERROR - expected 'channel.open'";
    trial.connect()?.unopened(5).kills(&declare(&trial.queue()), 504, text)
}

fn publish_before_open(trial: &Trial<'_>) -> Outcome {
    let channel = trial.connect()?.unopened(5);
    channel.publish("", "nowhere", "early");
    let text = "CHANNEL_ERROR - expected 'channel.open'";
    channel.connection.expect_close(504, text, "basic.publish")
}

fn second_open(trial: &Trial<'_>) -> Outcome {
    let text = "CHANNEL_ERROR - second 'channel.open' seen";
    trial.channel()?.kills(&Method::new("channel.open"), 504, text)
}

fn open_ok_is_empty(trial: &Trial<'_>) -> Outcome {
    let ok = trial.connect()?.unopened(1).call(&Method::new("channel.open"))?;
    same("channel id", ok.text("channel_id"), "")
}

fn flow_active(trial: &Trial<'_>) -> Outcome {
    let ok = trial.channel()?.call(&Method::new("channel.flow").with("active", true))?;
    same("active", ok.bit("active"), true)
}

fn flow_inactive(trial: &Trial<'_>) -> Outcome {
    let text = "NOT_IMPLEMENTED - active=false";
    trial.channel()?.kills(&Method::new("channel.flow"), 540, text)
}

fn access_request(trial: &Trial<'_>) -> Outcome {
    let request = Method::new("access.request").with("realm", "/data").flags(&["active", "read"]);
    same("ticket", trial.channel()?.call(&request)?.number("ticket"), 1)
}

fn close_requeues(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let other = channel.sibling()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "back");
    channel.call(&consume(&queue, ""))?;
    channel.delivery()?;
    channel.close()?;
    let content = other.take(&queue)?;
    same("redelivered", content.redelivered(), true)
}

fn close_discards_the_transaction(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&tx("select"))?;
    channel.publish("", &queue, "never");
    channel.close()?;
    channel.reopen()?;
    channel.expect_ready(&queue, 0)
}

fn close_removes_consumers(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let other = channel.sibling()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "tag"))?;
    channel.close()?;
    same("consumers", other.counts(&queue)?.1, 0)
}

fn close_of_an_unopened_channel(trial: &Trial<'_>) -> Outcome {
    let close = Method::new("channel.close").with("reply_code", 200_u16);
    trial.connect()?.unopened(9).kills(&close, 504, "CHANNEL_ERROR - expected 'channel.open'")
}
