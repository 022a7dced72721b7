//! A channel as the case sees it.

use super::connection::{Connection, check_close, expect_name};
use super::content::Content;
use super::methods::{declare, delete, get, publish};
use crate::codec::{BODY, Frame, Method, Properties, header_frame, method_ids};
use crate::outcome::{Outcome, eventually, fail, holds, same};
use std::rc::Rc;

const CLASS_BASIC: u16 = 60;

#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) connection: Rc<Connection>,
    pub(crate) number: u16,
}

impl Channel {
    pub(super) fn new(connection: Rc<Connection>, number: u16) -> Self {
        Self { connection, number }
    }

    /// Another channel of the same connection.
    pub(crate) fn sibling(&self) -> Outcome<Self> {
        self.connection.channel(self.number + 1)
    }

    pub(crate) fn send(&self, method: &Method) {
        self.connection.send_frame(&method.frame(self.number));
    }

    pub(crate) fn send_frame(&self, kind: u8, payload: &[u8]) {
        self.connection.send_frame(&Frame::new(kind, self.number, payload));
    }

    /// The next method of this channel, which has to be this one.
    pub(crate) fn expect(&self, name: &str) -> Outcome<Method> {
        expect_name(self.next_method()?, name)
    }

    /// The next method of this channel, whichever it is.
    pub(crate) fn next_method(&self) -> Outcome<Method> {
        self.connection.next_method(self.number)
    }

    /// Sends a method and expects its `-ok`.
    pub(crate) fn call(&self, method: &Method) -> Outcome<Method> {
        self.send(method);
        self.expect(&format!("{}-ok", method.name()))
    }

    /// The next method is channel.close with exactly this. It is answered, and the channel is
    /// opened again. `method` names the method whose ids it carries, empty for none.
    pub(crate) fn expect_close(&self, code: u16, text: &str, method: &str) -> Outcome {
        check_close(&self.expect("channel.close")?, code, text, method_ids(method))?;
        self.send(&Method::new("channel.close-ok"));
        self.reopen()
    }

    pub(crate) fn reopen(&self) -> Outcome {
        self.call(&Method::new("channel.open")).map(drop)
    }

    /// The broker answers the method with this channel exception.
    pub(crate) fn refuses(&self, method: &Method, code: u16, text: &str) -> Outcome {
        self.send(method);
        self.expect_close(code, text, method.name())
    }

    /// The broker answers the method with this connection exception.
    pub(crate) fn kills(&self, method: &Method, code: u16, text: &str) -> Outcome {
        self.send(method);
        self.connection.expect_close(code, text, method.name())
    }

    /// A round trip that changes nothing: what the channel had to say before has arrived.
    pub(crate) fn fence(&self) -> Outcome {
        self.call(&Method::new("channel.flow").with("active", true)).map(drop)
    }

    /// Round trips through the queue: it had nothing to deliver to this channel.
    pub(crate) fn quiet(&self, queue: &str) -> Outcome {
        self.counts(queue).map(drop)
    }

    /// Ready messages and consumers of a queue. RabbitMQ may answer a declaration before it has
    /// enqueued what was published just before; when the second one comes, it has.
    pub(crate) fn counts(&self, queue: &str) -> Outcome<(u64, u64)> {
        let passive = declare(queue).flags(&["passive"]);
        self.call(&passive)?;
        let ok = self.call(&passive)?;
        Ok((ok.number("message_count"), ok.number("consumer_count")))
    }

    /// Whether a message is ready; it is taken. This one is answered in the order of publishes.
    pub(crate) fn has_message(&self, queue: &str) -> Outcome<bool> {
        Ok(self.get(&get(queue).flags(&["no_ack"]))?.is_some())
    }

    pub(crate) fn expect_ready(&self, queue: &str, ready: u64) -> Outcome {
        if ready == 0 {
            return self.expect_bodies(queue, &[]);
        }
        eventually(&format!("{ready} messages in {queue}"), || Ok(self.counts(queue)?.0 == ready))
    }

    /// The queue does not exist any more.
    pub(crate) fn expect_absent(&self, queue: &str, vhost: &str) -> Outcome {
        let text = format!("NOT_FOUND - no queue '{queue}' in vhost '{vhost}'");
        self.refuses(&declare(queue).flags(&["passive"]), 404, &text)
    }

    pub(crate) fn publish(&self, exchange: &str, key: &str, body: &str) {
        self.publish_with(&publish(exchange, key), &Properties::new(), body.as_bytes());
    }

    pub(crate) fn publish_with(&self, method: &Method, properties: &Properties, body: &[u8]) {
        self.publish_encoded(method, &properties.encode(), body);
    }

    /// Method, header and body frames in one write; the properties are sent as they are.
    pub(crate) fn publish_encoded(&self, method: &Method, properties: &[u8], body: &[u8]) {
        let mut bytes = method.frame(self.number).encode();
        let size = body.len() as u64;
        bytes.extend(header_frame(self.number, CLASS_BASIC, size, properties).encode());
        for part in body.chunks(self.connection.frame_max.get() - 8) {
            bytes.extend(Frame::new(BODY, self.number, part).encode());
        }
        self.connection.send_bytes(&bytes);
    }

    /// The next method is this one, and its content follows.
    pub(crate) fn expect_content(&self, name: &str) -> Outcome<Content> {
        self.content_of(self.expect(name)?)
    }

    /// The header and the body that follow a method.
    pub(crate) fn content_of(&self, method: Method) -> Outcome<Content> {
        Content::read(method, || self.connection.next_frame(self.number))
    }

    pub(crate) fn delivery(&self) -> Outcome<Content> {
        self.expect_content("basic.deliver")
    }

    /// The next delivery, or `None` if the next method is that other one.
    pub(crate) fn delivery_or(&self, name: &str) -> Outcome<Option<Content>> {
        let method = self.next_method()?;
        if method.name() == name {
            return Ok(None);
        }
        self.content_of(expect_name(method, "basic.deliver")?).map(Some)
    }

    /// The next frames deliver exactly these bodies.
    pub(crate) fn expect_deliveries(&self, bodies: &[&str]) -> Outcome {
        for body in bodies {
            same("body", self.delivery()?.text().as_str(), *body)?;
        }
        Ok(())
    }

    /// Takes a message out of a queue; the caller may have to acknowledge it.
    pub(crate) fn get(&self, method: &Method) -> Outcome<Option<Content>> {
        self.send(method);
        let method = self.next_method()?;
        match method.name() {
            "basic.get-empty" => Ok(None),
            "basic.get-ok" => self.content_of(method).map(Some),
            _ => fail(format!("expected basic.get-ok, got {method}")),
        }
    }

    /// Takes a message that must be there, without acknowledgement.
    pub(crate) fn take(&self, queue: &str) -> Outcome<Content> {
        match self.get(&get(queue).flags(&["no_ack"]))? {
            Some(content) => Ok(content),
            None => fail(format!("queue {queue} is empty")),
        }
    }

    /// Takes a message that must be there and leaves it unacknowledged.
    pub(crate) fn check_out(&self, queue: &str) -> Outcome<Content> {
        match self.get(&get(queue))? {
            Some(content) => Ok(content),
            None => fail(format!("queue {queue} is empty")),
        }
    }

    /// The queue holds exactly these bodies in this order; they are taken.
    pub(crate) fn expect_bodies(&self, queue: &str, bodies: &[&str]) -> Outcome {
        for body in bodies {
            same("body", self.take(queue)?.text().as_str(), *body)?;
        }
        let more = self.has_message(queue)?;
        holds(!more, format!("queue {queue} holds more than {bodies:?}"))
    }

    pub(crate) fn delete_queue(&self, queue: &str) -> Outcome {
        self.call(&delete(queue)).map(drop)
    }

    pub(crate) fn close(&self) -> Outcome {
        self.call(&Method::new("channel.close").with("reply_code", 200_u16)).map(drop)
    }
}
