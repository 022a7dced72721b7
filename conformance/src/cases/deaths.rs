//! Section 6.4: what is a death and what is none, and the history that a dead letter carries.

use super::cases;
use super::dead_letter::{arrival, deaths, morgue};
use crate::client::{
    Channel, Content, ack, bind, consume, declare, delete, nack, publish, purge, recover, reject,
};
use crate::codec::{Properties, Table, Value};
use crate::outcome::{Outcome, eventually, same};
use crate::trial::{Differs, Trial};

cases! {
    "6.4": purge_is_no_death, deletion_is_no_death, expiry_of_the_queue_is_no_death,
        acknowledged_is_no_death, recovered_is_no_death, lost_channel_is_no_death,
        rejections_die_in_their_order, unroutable_letters_are_dropped,
        each_reason_is_a_death_of_its_own, own_deaths_do_not_count, own_deaths_close_no_circle,
        first_death_stays, ttl_of_the_queue_is_not_told,
        queue_that_is_its_own_target_drops_what_expires, letter_has_the_time_of_its_new_queue,
        default_exchange_without_a_key_is_the_queue_itself;
}

struct Morgue {
    channel: Channel,
    dlx: String,
    dead: String,
}

impl Morgue {
    fn new(trial: &Trial<'_>) -> Outcome<Self> {
        let channel = trial.channel()?;
        let (dlx, dead) = morgue(trial, &channel)?;
        Ok(Self { channel, dlx, dead })
    }

    fn dying<const N: usize>(
        &self,
        trial: &Trial<'_>,
        arguments: [(&str, Value); N],
    ) -> Outcome<String> {
        let queue = trial.queue();
        let mut table = Table::from(arguments);
        table.0.push(("x-dead-letter-exchange".to_owned(), self.dlx.as_str().into()));
        self.channel.call(&declare(&queue).with("arguments", table))?;
        Ok(queue)
    }

    fn letter(&self) -> Outcome<Content> {
        arrival(&self.channel, &self.dead)
    }

    /// Nothing died before a message that dies now.
    fn expect_none_before(&self, trial: &Trial<'_>) -> Outcome {
        let last = self.dying(trial, [])?;
        self.channel.publish("", &last, "the last");
        let tag = self.channel.check_out(&last)?.tag();
        self.channel.send(&reject(tag));
        same("letter", self.letter()?.text().as_str(), "the last")
    }
}

fn purge_is_no_death(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [])?;
    morgue.channel.publish("", &queue, "x");
    morgue.channel.expect_ready(&queue, 1)?;
    morgue.channel.call(&purge(&queue))?;
    morgue.expect_none_before(trial)
}

fn deletion_is_no_death(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [])?;
    morgue.channel.publish("", &queue, "x");
    morgue.channel.expect_ready(&queue, 1)?;
    morgue.channel.call(&delete(&queue))?;
    morgue.expect_none_before(trial)
}

fn expiry_of_the_queue_is_no_death(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [("x-expires", 100.into())])?;
    morgue.channel.publish("", &queue, "x");
    std::thread::sleep(std::time::Duration::from_secs(1));
    morgue.channel.expect_absent(&queue, trial.vhost())?;
    morgue.expect_none_before(trial)
}

fn acknowledged_is_no_death(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [])?;
    morgue.channel.publish("", &queue, "x");
    let tag = morgue.channel.check_out(&queue)?.tag();
    morgue.channel.send(&ack(tag));
    morgue.expect_none_before(trial)
}

fn recovered_is_no_death(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [])?;
    morgue.channel.publish("", &queue, "x");
    morgue.channel.check_out(&queue)?;
    morgue.channel.call(&recover())?;
    morgue.channel.expect_bodies(&queue, &["x"])?;
    morgue.expect_none_before(trial)
}

fn lost_channel_is_no_death(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [])?;
    morgue.channel.publish("", &queue, "x");
    morgue.channel.expect_ready(&queue, 1)?;
    let other = trial.channel()?;
    other.check_out(&queue)?;
    other.connection.close()?;
    morgue.channel.expect_ready(&queue, 1)?;
    morgue.channel.expect_bodies(&queue, &["x"])?;
    morgue.expect_none_before(trial)
}

fn rejections_die_in_their_order(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let (channel, queue) = (&morgue.channel, morgue.dying(trial, [])?);
    let bodies = ["a", "b", "c"];
    for body in bodies {
        channel.publish("", &queue, body);
    }
    let mut tag = 0;
    for _ in bodies {
        tag = channel.check_out(&queue)?.tag();
    }
    channel.send(&nack(tag).flags(&["multiple"]));
    eventually("all are dead", || Ok(channel.counts(&morgue.dead)?.0 == 3))?;
    channel.expect_bodies(&morgue.dead, &bodies)
}

fn unroutable_letters_are_dropped(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let nowhere = trial.new_exchange(&morgue.channel, "direct")?;
    let queue = trial.queue();
    let arguments = Table::from([("x-dead-letter-exchange", nowhere.as_str().into())]);
    morgue.channel.call(&declare(&queue).with("arguments", arguments))?;
    morgue.channel.publish("", &queue, "x");
    let tag = morgue.channel.check_out(&queue)?.tag();
    morgue.channel.send(&reject(tag));
    morgue.channel.expect_ready(&queue, 0)?;
    morgue.expect_none_before(trial)
}

fn each_reason_is_a_death_of_its_own(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let (channel, queue) = (&morgue.channel, morgue.dying(trial, [("x-max-length", 1.into())])?);
    channel.call(&bind(&queue, &morgue.dlx, ""))?;
    channel.publish("", &queue, "x");
    let tag = channel.check_out(&queue)?.tag();
    channel.send(&reject(tag));
    morgue.letter()?;
    channel.expect_ready(&queue, 1)?;
    // It is back, and the next one is too many.
    channel.publish("", &queue, "y");
    let letter = morgue.letter()?;
    expect_deaths(&letter, &[(&queue, "maxlen"), (&queue, "rejected")])
}

/// Each of them has happened once.
fn expect_deaths(letter: &Content, expected: &[(&str, &str)]) -> Outcome {
    let deaths = deaths(letter)?;
    let said = |key| deaths.iter().map(|death| death.get(key).cloned()).collect::<Vec<_>>();
    let queues = expected.iter().map(|(queue, _)| Some((*queue).into()));
    same("queues", said("queue"), queues.collect::<Vec<_>>())?;
    let reasons = expected.iter().map(|(_, reason)| Some((*reason).into()));
    same("reasons", said("reason"), reasons.collect::<Vec<_>>())?;
    same("counts", said("count"), vec![Some(Value::I64(1)); expected.len()])
}

/// As a consumer does that publishes a dead letter with the headers that it has.
fn own_deaths_do_not_count(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let (channel, first) = (&morgue.channel, morgue.dying(trial, [])?);
    channel.publish("", &first, "x");
    let tag = channel.check_out(&first)?.tag();
    channel.send(&reject(tag));
    let letter = morgue.letter()?;
    let second = morgue.dying(trial, [])?;
    channel.publish_with(&publish("", &second), &letter.properties, b"x");
    let again = channel.check_out(&second)?;
    same("headers", again.headers()?, letter.headers()?)?;
    channel.send(&reject(again.tag()));
    let letter = morgue.letter()?;
    let both = [(second.as_str(), "rejected"), (first.as_str(), "rejected")];
    let line = "A publisher's own x-death";
    let differs = Differs { rabbitmq: (&both[..], &first), leveret: (&both[..1], &second), line };
    let (deaths, first_death) = trial.expect(differs);
    let told = letter.headers()?.get("x-first-death-queue").cloned();
    same("first death", told, Some(first_death.as_str().into()))?;
    expect_deaths(&letter, deaths)
}

fn own_deaths_close_no_circle(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [("x-message-ttl", 0.into())])?;
    let other = trial.new_queue(&morgue.channel)?;
    morgue.channel.call(&bind(&other, &morgue.dlx, ""))?;
    let death = Table::from([
        ("queue", morgue.dead.as_str().into()),
        ("reason", "expired".into()),
        ("count", Value::I64(1)),
    ]);
    let told = Properties::new().headers([("x-death", Value::Array(vec![Value::Table(death)]))]);
    morgue.channel.publish_with(&publish("", &queue), &told, b"x");
    arrival(&morgue.channel, &other)?;
    let line = "A publisher's own x-death";
    let differs = Differs { rabbitmq: 0, leveret: 1, line };
    morgue.channel.expect_ready(&morgue.dead, trial.expect(differs))
}

fn first_death_stays(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let second = morgue.dying(trial, [("x-message-ttl", 0.into())])?;
    let first = trial.queue();
    let arguments = Table::from([
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", second.as_str().into()),
    ]);
    morgue.channel.call(&declare(&first).with("arguments", arguments))?;
    morgue.channel.publish("", &first, "x");
    let tag = morgue.channel.check_out(&first)?.tag();
    morgue.channel.send(&reject(tag));
    let letter = morgue.letter()?;
    let headers = letter.headers()?;
    for (key, value) in [("reason", "rejected"), ("queue", &first), ("exchange", "")] {
        let key = format!("x-first-death-{key}");
        same(&key, headers.get(&key), Some(&value.into()))?;
    }
    same("deaths", deaths(&letter)?.len(), 2)
}

fn ttl_of_the_queue_is_not_told(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [("x-message-ttl", 0.into())])?;
    morgue.channel.publish("", &queue, "x");
    let deaths = deaths(&morgue.letter()?)?;
    same("original-expiration", deaths[0].get("original-expiration"), None)
}

fn queue_that_is_its_own_target_drops_what_expires(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let arguments = Table::from([
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", queue.as_str().into()),
        ("x-message-ttl", 0.into()),
    ]);
    channel.call(&declare(&queue).with("arguments", arguments))?;
    channel.publish("", &queue, "x");
    channel.expect_ready(&queue, 0)
}

fn letter_has_the_time_of_its_new_queue(trial: &Trial<'_>) -> Outcome {
    let morgue = Morgue::new(trial)?;
    let queue = morgue.dying(trial, [])?;
    let properties = Properties::new().with("expiration", "1");
    morgue.channel.publish_with(&publish("", &queue), &properties, b"x");
    let letter = morgue.letter()?;
    same("expiration", letter.properties.text("expiration"), None)?;
    let consumer = trial.channel()?;
    let brief = trial.queue();
    let arguments = Table::from([("x-message-ttl", 60_000.into())]);
    consumer.call(&declare(&brief).with("arguments", arguments))?;
    consumer.call(&bind(&brief, &morgue.dlx, ""))?;
    morgue.channel.publish_with(&publish("", &queue), &properties, b"y");
    consumer.call(&consume(&brief, "t"))?;
    same("body", consumer.delivery()?.text().as_str(), "y")
}

fn default_exchange_without_a_key_is_the_queue_itself(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let arguments = Table::from([("x-dead-letter-exchange", "".into())]);
    channel.call(&declare(&queue).with("arguments", arguments))?;
    channel.publish("", &queue, "x");
    let tag = channel.check_out(&queue)?.tag();
    channel.send(&reject(tag));
    channel.expect_ready(&queue, 1)?;
    channel.take(&queue)?.expect("", &queue, "x")
}
