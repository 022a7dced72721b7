//! Golden frames: one file per method, captured from a conversation with a broker.
//!
//! The methods that such a conversation does not show are encoded from the specification.

use crate::client::{
    Connection, GREETING, Login, ack, bind, bind_exchange, cancel, consume, declare, delete,
    delete_exchange, exchange, get, nack, publish, purge, qos, recover, reject, select_confirms,
    tx, unbind, unbind_exchange,
};
use crate::codec::{Frame, METHOD, Method, Properties, Table, Value};
use crate::outcome::{Outcome, fail, same};
use crate::url::Url;
use std::collections::HashSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::rc::Rc;

/// Talks to the broker at `url` and writes a file for every method into `directory`.
pub(crate) fn capture(url: &Url, directory: &str) -> Outcome {
    let connection = Connection::dial(&url.address)?;
    let mut album = Album {
        directory: directory.into(),
        connection,
        written: HashSet::new(),
        broker: String::new(),
    };
    album.handshake(&Login::new(url))?;
    album.topology()?;
    album.messages()?;
    album.credit()?;
    album.modes()?;
    album.closing()?;
    for (source, method) in unseen() {
        album.write(source, &method.frame(0))?;
    }
    Ok(())
}

fn unseen() -> [(&'static str, Method); 5] {
    let specification = "written by hand from the specification";
    let alarm = "written by hand, as RabbitMQ 3.10.8 sends it under a memory alarm";
    let drained = Method::new("basic.credit-drained").with("consumer_tag", "credited");
    [
        (specification, Method::new("connection.secure").with("challenge", "challenge")),
        (specification, Method::new("connection.secure-ok").with("response", "response")),
        (alarm, Method::new("connection.blocked").with("reason", "low on memory")),
        (alarm, Method::new("connection.unblocked")),
        ("written by hand from RabbitMQ's extension", drained.with("credit_drained", 5_u32)),
    ]
}

struct Album {
    directory: PathBuf,
    connection: Rc<Connection>,
    written: HashSet<&'static str>,
    /// Product and version, for the source of what is captured.
    broker: String,
}

const QUEUE: &str = "vector.queue";
const EXCHANGE: &str = "vector.exchange";
const OTHER: &str = "vector.other";

impl Album {
    /// Sends a method and keeps its frame.
    fn say(&mut self, channel: u16, method: &Method) -> Outcome {
        let frame = method.frame(channel);
        self.connection.send_frame(&frame);
        let source = format!("accepted by {}", self.broker);
        self.write(&source, &frame)
    }

    /// Receives this method and keeps its frame.
    fn hear(&mut self, channel: u16, name: &str) -> Outcome<Method> {
        let frame = self.connection.next_frame(channel)?;
        same("frame type", frame.kind, METHOD)?;
        let method = Method::decode(&frame.payload)?;
        if method.name() != name {
            return fail(format!("expected {name}, got {method}"));
        }
        if name == "connection.start" {
            let properties = method.table("server_properties");
            let text = |key| match properties.get(key) {
                Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            };
            self.broker = format!("{} {}", text("product"), text("version"));
        }
        let source = format!("sent by {}", self.broker);
        self.write(&source, &frame)?;
        Ok(method)
    }

    fn ask(&mut self, channel: u16, method: &Method) -> Outcome<Method> {
        self.say(channel, method)?;
        self.hear(channel, &format!("{}-ok", method.name()))
    }

    /// The same for a method that content follows.
    fn hear_content(&mut self, channel: u16, name: &str) -> Outcome<Method> {
        let method = self.hear(channel, name)?;
        self.connection.next_frame(channel)?;
        self.connection.next_frame(channel)?;
        Ok(method)
    }

    fn publish(&mut self, method: &Method) -> Outcome {
        self.write(&format!("accepted by {}", self.broker), &method.frame(1))?;
        self.connection.unopened(1).publish_with(method, &Properties::new(), b"body");
        Ok(())
    }

    fn handshake(&mut self, login: &Login) -> Outcome {
        self.connection.send_bytes(GREETING);
        self.hear(0, "connection.start")?;
        self.say(0, &login.start_ok())?;
        self.hear(0, "connection.tune")?;
        self.say(0, &login.tune_ok())?;
        self.ask(0, &login.open_vhost())?;
        let update = Method::new("connection.update-secret");
        self.ask(0, &update.with("new_secret", "secret").with("reason", "renewed"))?;
        for channel in 1..=3 {
            self.ask(channel, &Method::new("channel.open"))?;
        }
        self.ask(1, &Method::new("channel.flow").with("active", true))?;
        let request = Method::new("access.request").with("realm", "/data");
        self.ask(1, &request.flags(&["passive", "active", "read"])).map(drop)
    }

    fn topology(&mut self) -> Outcome {
        let arguments = Table::from([("alternate-exchange", "amq.fanout".into())]);
        let durable = exchange(EXCHANGE, "topic").flags(&["durable", "auto_delete"]);
        self.ask(1, &durable.with("arguments", arguments))?;
        self.ask(1, &exchange(OTHER, "direct"))?;
        self.ask(1, &bind_exchange(OTHER, EXCHANGE, "a.*"))?;
        let arguments = Table::from([
            ("x-max-length", 1000.into()),
            ("x-message-ttl", Value::I64(3_600_000)),
            ("x-overflow", "drop-head".into()),
            ("x-single-active-consumer", false.into()),
        ]);
        let durable = declare(QUEUE).flags(&["durable"]);
        self.ask(1, &durable.with("arguments", arguments))?;
        let arguments = Table::from([("key", "value".into())]);
        self.ask(1, &bind(QUEUE, EXCHANGE, "a.#").with("arguments", arguments))?;
        self.ask(1, &bind(QUEUE, EXCHANGE, "b"))?;
        self.ask(1, &unbind(QUEUE, EXCHANGE, "b"))?;
        self.ask(1, &unbind_exchange(OTHER, EXCHANGE, "a.*")).map(drop)
    }

    fn messages(&mut self) -> Outcome {
        self.ask(1, &qos(10))?;
        self.publish(&publish("amq.direct", "nowhere").flags(&["mandatory"]))?;
        self.hear_content(1, "basic.return")?;
        let arguments = Table::from([("x-priority", 5.into())]);
        self.ask(1, &consume(QUEUE, "tag").with("arguments", arguments))?;
        self.publish(&publish("", QUEUE))?;
        let tag = self.hear_content(1, "basic.deliver")?.number("delivery_tag");
        self.say(1, &ack(tag).flags(&["multiple"]))?;
        self.ask(1, &cancel("tag"))?;
        self.publish(&publish("", QUEUE))?;
        self.say(1, &get(QUEUE))?;
        let tag = self.hear_content(1, "basic.get-ok")?.number("delivery_tag");
        self.say(1, &nack(tag).flags(&["requeue"]))?;
        self.say(1, &get(QUEUE))?;
        let tag = self.hear_content(1, "basic.get-ok")?.number("delivery_tag");
        self.say(1, &reject(tag))?;
        self.say(1, &get(QUEUE))?;
        self.hear(1, "basic.get-empty")?;
        self.say(1, &Method::new("basic.recover-async").flags(&["requeue"]))?;
        self.ask(1, &recover())?;
        self.ask(1, &purge(QUEUE)).map(drop)
    }

    /// An extension that brokers after RabbitMQ 3.x do not serve any more. Draining is left out:
    /// 3.10.8 answers it with an internal error.
    fn credit(&mut self) -> Outcome {
        self.connection.unopened(1).call(&consume(QUEUE, "credited"))?;
        let credit = Method::new("basic.credit").with("consumer_tag", "credited");
        self.ask(1, &credit.with("credit", 5_u32))?;
        self.ask(1, &cancel("credited")).map(drop)
    }

    fn modes(&mut self) -> Outcome {
        self.ask(2, &select_confirms())?;
        for verb in ["select", "commit", "rollback"] {
            self.ask(3, &tx(verb))?;
        }
        Ok(())
    }

    fn closing(&mut self) -> Outcome {
        self.ask(1, &delete(QUEUE))?;
        self.ask(1, &delete_exchange(OTHER))?;
        self.connection.unopened(1).call(&delete_exchange(EXCHANGE))?;
        let close = |name: &str| {
            Method::new(name).with("reply_code", 200_u16).with("reply_text", "Goodbye")
        };
        self.ask(1, &close("channel.close"))?;
        self.ask(0, &close("connection.close")).map(drop)
    }

    /// Only the first frame of a method is kept.
    fn write(&mut self, source: &str, frame: &Frame) -> Outcome {
        let method = Method::decode(&frame.payload)?;
        if !self.written.insert(method.name()) {
            return Ok(());
        }
        let path = self.directory.join(format!("{}.hex", method.name()));
        match std::fs::write(&path, file(source, &method, &frame.encode())) {
            Ok(()) => Ok(()),
            Err(error) => fail(format!("cannot write {}: {error}", path.display())),
        }
    }
}

fn file(source: &str, method: &Method, bytes: &[u8]) -> String {
    let described = method.to_string();
    let fields = described.strip_prefix(method.name()).unwrap_or_default();
    let mut text = format!("# source: {source}\n# method: {}\n# fields:{fields}\n", method.name());
    for line in bytes.chunks(32) {
        for octet in line {
            let _ = write!(text, "{octet:02x}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::METHODS;

    fn bytes_of(text: &str) -> Vec<u8> {
        let hex: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        let octet = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(octet).collect()
    }

    #[test]
    fn every_method_has_a_vector_that_is_what_it_says() {
        for spec in METHODS {
            let path = format!("{}/vectors/{}.hex", env!("CARGO_MANIFEST_DIR"), spec.name);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {path}"));
            let bytes = bytes_of(&text);
            let (frame, length) = Frame::decode(&bytes).unwrap().unwrap();
            assert_eq!(length, bytes.len(), "{path}");
            let method = Method::decode(&frame.payload).unwrap();
            assert_eq!(method.name(), spec.name, "{path}");
            let source = text.lines().next().unwrap().strip_prefix("# source: ").unwrap();
            assert_eq!(file(source, &method, &method.frame(frame.channel).encode()), text);
        }
    }
}
