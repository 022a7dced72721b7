//! The methods that most cases send, with the fields that most cases set.

use crate::codec::Method;

pub(crate) fn declare(queue: &str) -> Method {
    Method::new("queue.declare").with("queue", queue)
}

pub(crate) fn delete(queue: &str) -> Method {
    Method::new("queue.delete").with("queue", queue)
}

pub(crate) fn purge(queue: &str) -> Method {
    Method::new("queue.purge").with("queue", queue)
}

pub(crate) fn bind(queue: &str, exchange: &str, key: &str) -> Method {
    binding("queue.bind", queue, exchange, key)
}

pub(crate) fn unbind(queue: &str, exchange: &str, key: &str) -> Method {
    binding("queue.unbind", queue, exchange, key)
}

fn binding(name: &str, queue: &str, exchange: &str, key: &str) -> Method {
    Method::new(name).with("queue", queue).with("exchange", exchange).with("routing_key", key)
}

pub(crate) fn exchange(name: &str, kind: &str) -> Method {
    Method::new("exchange.declare").with("exchange", name).with("type", kind)
}

pub(crate) fn delete_exchange(name: &str) -> Method {
    Method::new("exchange.delete").with("exchange", name)
}

pub(crate) fn bind_exchange(destination: &str, source: &str, key: &str) -> Method {
    exchange_binding("exchange.bind", destination, source, key)
}

pub(crate) fn unbind_exchange(destination: &str, source: &str, key: &str) -> Method {
    exchange_binding("exchange.unbind", destination, source, key)
}

fn exchange_binding(name: &str, destination: &str, source: &str, key: &str) -> Method {
    Method::new(name)
        .with("destination", destination)
        .with("source", source)
        .with("routing_key", key)
}

pub(crate) fn publish(exchange: &str, key: &str) -> Method {
    Method::new("basic.publish").with("exchange", exchange).with("routing_key", key)
}

pub(crate) fn get(queue: &str) -> Method {
    Method::new("basic.get").with("queue", queue)
}

pub(crate) fn consume(queue: &str, tag: &str) -> Method {
    Method::new("basic.consume").with("queue", queue).with("consumer_tag", tag)
}

pub(crate) fn cancel(tag: &str) -> Method {
    Method::new("basic.cancel").with("consumer_tag", tag)
}

pub(crate) fn qos(count: u16) -> Method {
    Method::new("basic.qos").with("prefetch_count", count)
}

pub(crate) fn ack(tag: u64) -> Method {
    Method::new("basic.ack").with("delivery_tag", tag)
}

pub(crate) fn ack_up_to(tag: u64) -> Method {
    ack(tag).flags(&["multiple"])
}

pub(crate) fn nack(tag: u64) -> Method {
    Method::new("basic.nack").with("delivery_tag", tag)
}

pub(crate) fn reject(tag: u64) -> Method {
    Method::new("basic.reject").with("delivery_tag", tag)
}

pub(crate) fn recover() -> Method {
    Method::new("basic.recover").flags(&["requeue"])
}

pub(crate) fn select_confirms() -> Method {
    Method::new("confirm.select")
}

pub(crate) fn tx(verb: &str) -> Method {
    Method::new(&format!("tx.{verb}"))
}
