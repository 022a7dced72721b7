//! Section 4.9: direct reply-to.

use super::cases;
use crate::client::{
    Channel, bind, cancel, consume, declare, delete, get, publish, select_confirms,
};
use crate::codec::{Method, Properties, Value};
use crate::outcome::{Outcome, eventually, holds, same};
use crate::trial::{Differs, Trial};

cases! {
    "4.9": consumer_must_not_acknowledge, second_consumer_is_refused, second_tag_is_refused_first,
        one_consumer_per_channel, cancel_frees_it, consume_without_a_tag,
        exclusive_and_arguments_are_ignored,
        reply_to_is_rewritten, other_properties_are_kept, request_through_an_exchange,
        other_reply_to_is_kept, reply_arrives, reply_by_cc, reply_from_the_same_channel,
        reply_tags_count_on_the_channel, reply_is_never_queued, reply_to_nobody_is_dropped,
        reply_to_a_made_up_name,
        mandatory_reply_to_nobody, mandatory_reply, reply_is_confirmed,
        cancelled_consumer_gets_none,
        declare_a_reply_queue, declare_a_reply_queue_of_nobody, declare_the_bare_name,
        get_from_the_bare_name, delete_the_bare_name, bind_the_bare_name;
}

const BARE: &str = "amq.rabbitmq.reply-to";

fn listen(tag: &str) -> Method {
    consume(BARE, tag).flags(&["no_ack"])
}

fn precondition(text: &str) -> String {
    format!("PRECONDITION_FAILED - {text}")
}

fn consumer_must_not_acknowledge(trial: &Trial<'_>) -> Outcome {
    let text = precondition("reply consumer cannot acknowledge");
    trial.channel()?.refuses(&consume(BARE, "t"), 406, &text)
}

fn second_consumer_is_refused(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&listen("one"))?;
    channel.refuses(&listen("two"), 406, &precondition("reply consumer already set"))
}

fn second_tag_is_refused_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    channel.kills(&listen("t"), 530, "NOT_ALLOWED - attempt to reuse consumer tag 't'")
}

fn one_consumer_per_channel(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&listen("t"))?;
    channel.sibling()?.call(&listen("t")).map(drop)
}

fn cancel_frees_it(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for _ in 0..2 {
        channel.call(&listen("t"))?;
        channel.call(&cancel("t"))?;
    }
    Ok(())
}

fn consume_without_a_tag(trial: &Trial<'_>) -> Outcome {
    let tag = trial.channel()?.call(&listen(""))?.text("consumer_tag");
    super::generated_name(&tag, "amq.ctag-")
}

fn exclusive_and_arguments_are_ignored(trial: &Trial<'_>) -> Outcome {
    let arguments = crate::codec::Table::from([("x-priority", "high".into())]);
    let method = listen("t").flags(&["exclusive"]).with("arguments", arguments);
    let channel = trial.channel()?;
    channel.call(&method)?;
    channel.sibling()?.call(&method).map(drop)
}

/// Two connections, the first of which waits for replies, and the queue of the second.
struct Pair {
    asks: Channel,
    answers: Channel,
    queue: String,
}

impl Pair {
    fn new(trial: &Trial<'_>) -> Outcome<Self> {
        let (asks, answers) = (trial.channel()?, trial.channel()?);
        let queue = trial.new_queue(&answers)?;
        asks.call(&listen("replies"))?;
        Ok(Self { asks, answers, queue })
    }

    /// Sends a request and returns where the reply goes.
    fn request(&self) -> Outcome<String> {
        let properties = Properties::new().with("reply_to", BARE);
        self.asks.publish_with(&publish("", &self.queue), &properties, b"question");
        self.asks.fence()?;
        eventually("the request arrives", || Ok(self.answers.counts(&self.queue)?.0 == 1))?;
        let request = self.answers.take(&self.queue)?;
        Ok(request.properties.text("reply_to").unwrap_or_default())
    }

    fn expect_reply(&self, name: &str, body: &str) -> Outcome {
        let reply = self.asks.delivery()?;
        reply.expect("", name, body)?;
        same("consumer tag", reply.method.text("consumer_tag").as_str(), "replies")?;
        same("redelivered", reply.redelivered(), false)
    }
}

fn reply_to_is_rewritten(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    let rest = name.strip_prefix("amq.rabbitmq.reply-to.").unwrap_or_default();
    let parts: Vec<_> = rest.split('.').collect();
    let right = parts.len() == 2 && parts.iter().all(|part| !part.is_empty());
    holds(right, format!("reply_to is {name:?}"))?;
    same("reply_to of the next request", pair.request()?, name)
}

fn other_properties_are_kept(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let properties = Properties::new()
        .with("correlation_id", "17")
        .headers([("z", 1.into()), ("a", Value::Void)])
        .with("app_id", "app");
    let sent = properties.clone().with("reply_to", BARE);
    pair.asks.publish_with(&publish("", &pair.queue), &sent, b"question");
    eventually("the request arrives", || Ok(pair.answers.counts(&pair.queue)?.0 == 1))?;
    let request = pair.answers.take(&pair.queue)?;
    let name = request.properties.text("reply_to").unwrap_or_default();
    same("properties", request.encoded, properties.with("reply_to", name).encode())
}

fn request_through_an_exchange(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = trial.new_exchange(&pair.answers, "fanout")?;
    pair.answers.call(&bind(&pair.queue, &name, ""))?;
    let properties = Properties::new().with("reply_to", BARE);
    pair.asks.publish_with(&publish(&name, ""), &properties, b"question");
    eventually("the request arrives", || Ok(pair.answers.counts(&pair.queue)?.0 == 1))?;
    let reply_to = pair.answers.take(&pair.queue)?.properties.text("reply_to").unwrap_or_default();
    pair.answers.publish("", &reply_to, "answer");
    pair.expect_reply(&reply_to, "answer")
}

fn other_reply_to_is_kept(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for reply_to in ["my.own.queue", "amq.rabbitmq.reply-to.made.up"] {
        let properties = Properties::new().with("reply_to", reply_to);
        channel.publish_with(&publish("", &queue), &properties, b"");
        let content = channel.take(&queue)?;
        same("reply_to", content.properties.text("reply_to").as_deref(), Some(reply_to))?;
    }
    Ok(())
}

fn reply_arrives(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    for body in ["one", "two"] {
        pair.answers.publish("", &name, body);
        pair.expect_reply(&name, body)?;
    }
    Ok(())
}

fn reply_by_cc(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    let keys = Value::Array(vec![name.as_str().into()]);
    let properties = Properties::new().headers([("CC", keys)]);
    pair.answers.publish_with(&publish("", &pair.queue), &properties, b"answer");
    let reply = pair.asks.delivery()?;
    same("body", reply.text().as_str(), "answer")
}

fn reply_from_the_same_channel(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    pair.asks.publish("", &name, "to myself");
    pair.expect_reply(&name, "to myself")
}

/// RabbitMQ 3.10 writes the channel's next tag on a reply but does not use it up.
fn reply_tags_count_on_the_channel(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    let tags = trial.expect(Differs {
        rabbitmq: [1, 1, 1],
        leveret: [1, 2, 3],
        line: "Delivery tags of direct replies",
    });
    for tag in tags {
        pair.answers.publish("", &name, "answer");
        same("delivery tag", pair.asks.delivery()?.tag(), tag)?;
    }
    Ok(())
}

/// The reply is not there for a consumer that comes later.
fn reply_is_never_queued(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    pair.asks.call(&cancel("replies"))?;
    pair.answers.publish("", &name, "too late");
    pair.answers.fence()?;
    pair.asks.call(&listen("replies"))?;
    pair.asks.fence()
}

fn cancelled_consumer_gets_none(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    pair.asks.call(&cancel("replies"))?;
    pair.asks.publish("", &name, "too late");
    pair.asks.fence()?;
    pair.asks.quiet(&pair.queue)
}

/// A reply queue whose channel is closed.
fn of_nobody(trial: &Trial<'_>) -> Outcome<(Channel, String)> {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    pair.asks.connection.close()?;
    Ok((pair.answers, name))
}

fn reply_to_nobody_is_dropped(trial: &Trial<'_>) -> Outcome {
    let (channel, name) = of_nobody(trial)?;
    channel.publish("", &name, "lost");
    channel.fence()
}

fn reply_to_a_made_up_name(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.publish("", "amq.rabbitmq.reply-to.made.up", "lost");
    let dropped =
        Differs { rabbitmq: false, leveret: true, line: "Direct reply to a made-up name" };
    if trial.expect(dropped) {
        return channel.fence();
    }
    channel.connection.expect_close(541, "INTERNAL_ERROR", "")
}

fn publish_mandatory(channel: &Channel, name: &str) {
    let method = publish("", name).flags(&["mandatory"]);
    channel.publish_with(&method, &Properties::new(), b"answer");
}

fn mandatory_reply_to_nobody(trial: &Trial<'_>) -> Outcome {
    let (channel, name) = of_nobody(trial)?;
    publish_mandatory(&channel, &name);
    let content = channel.expect_content("basic.return")?;
    same("reply code", content.method.number("reply_code"), 312)?;
    content.expect("", &name, "answer")
}

fn mandatory_reply(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    publish_mandatory(&pair.answers, &name);
    pair.expect_reply(&name, "answer")?;
    let returned = Differs { rabbitmq: true, leveret: false, line: "Mandatory direct replies" };
    if !trial.expect(returned) {
        return pair.answers.fence();
    }
    let content = pair.answers.expect_content("basic.return")?;
    same("reply code", content.method.number("reply_code"), 312)
}

fn reply_is_confirmed(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    pair.answers.call(&select_confirms())?;
    pair.answers.publish("", &name, "answer");
    same("confirm", pair.answers.expect("basic.ack")?.number("delivery_tag"), 1)?;
    pair.expect_reply(&name, "answer")
}

fn declare_a_reply_queue(trial: &Trial<'_>) -> Outcome {
    let pair = Pair::new(trial)?;
    let name = pair.request()?;
    for method in [declare(&name), declare(&name).flags(&["passive"])] {
        let ok = pair.answers.call(&method)?;
        same("name", ok.text("queue"), name.as_str())?;
        same("messages", ok.number("message_count"), 0)?;
        same("consumers", ok.number("consumer_count"), 1)?;
    }
    Ok(())
}

fn declare_a_reply_queue_of_nobody(trial: &Trial<'_>) -> Outcome {
    let (channel, name) = of_nobody(trial)?;
    let text = format!("NOT_FOUND - no {}", trial.at("queue", &name));
    channel.refuses(&declare(&name), 404, &super::cut(&text))?;
    channel.refuses(&declare(&name).flags(&["passive"]), 404, &super::cut(&text))
}

fn declare_the_bare_name(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for method in [declare(BARE), declare(BARE).flags(&["passive"])] {
        let ok = channel.call(&method)?;
        same("name", ok.text("queue").as_str(), BARE)?;
        same("messages", ok.number("message_count"), 0)?;
        same("consumers", ok.number("consumer_count"), 1)?;
    }
    Ok(())
}

fn no_queue(trial: &Trial<'_>) -> String {
    format!("NOT_FOUND - no {}", trial.at("queue", BARE))
}

fn get_from_the_bare_name(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.refuses(&get(BARE), 404, &no_queue(trial))
}

fn delete_the_bare_name(trial: &Trial<'_>) -> Outcome {
    same("messages", trial.channel()?.call(&delete(BARE))?.number("message_count"), 0)
}

fn bind_the_bare_name(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.refuses(&bind(BARE, "amq.direct", "key"), 404, &no_queue(trial))
}
