"""The tutorial patterns with py-amqp."""

import socket
import time
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal

import amqp
from amqp import Message

from harness import (
    BIG, HOST, PASSWORD, USER, VHOST, equal, main, name, pattern, true, wait_until,
)


def connect(**options):
    connection = amqp.Connection(HOST, USER, PASSWORD, virtual_host=VHOST, **options)
    connection.connect()
    return connection


@contextmanager
def channel(**options):
    connection = connect(**options)
    try:
        yield connection.channel()
    finally:
        if connection.connected:
            connection.close()


def server_queue(ch):
    return ch.queue_declare("", exclusive=True, auto_delete=False).queue


def count(ch, queue):
    return ch.queue_declare(queue, passive=True).message_count


def collect(ch, queue, no_ack=True):
    got = []
    ch.basic_consume(queue, callback=got.append, no_ack=no_ack)
    return got


def drain(ch, seconds=0.1):
    try:
        ch.connection.drain_events(timeout=seconds)
    except (socket.timeout, TimeoutError):
        pass


def wait_for(ch, done):
    wait_until(done, lambda: drain(ch))


def get(ch, queue):
    got = []

    def step():
        message = ch.basic_get(queue, no_ack=True)
        got.append(message) if message else time.sleep(0.02)

    wait_until(lambda: got, step)
    return got[0]


@pattern("hello")
def hello():
    with channel() as ch:
        queue = ch.queue_declare(name("hello"), exclusive=True).queue
        equal(queue, name("hello"), "queue name")
        ch.basic_publish(Message("Hello World!", content_type="text/plain"), "", queue)
        got = collect(ch, queue)
        wait_for(ch, lambda: got)
        info = got[0].delivery_info
        equal((info["exchange"], info["routing_key"]), ("", queue), "exchange and key")
        equal((got[0].body, got[0].content_type), ("Hello World!", "text/plain"))


@pattern("work-queue")
def work_queue():
    queue, tasks = name("work"), [f"task {n}" for n in range(6)]
    with channel() as ch:
        try:
            ch.queue_declare(queue, durable=True, auto_delete=False)
            with channel() as second:
                dying = connect()
                first = dying.channel()
                for worker in (first, second):
                    worker.basic_qos(0, 1, False)
                held, done = collect(first, queue, False), []

                def work(message):
                    done.append(message)
                    message.channel.basic_ack(message.delivery_tag)

                second.basic_consume(queue, callback=work)
                for body in tasks:
                    ch.basic_publish(Message(body, delivery_mode=2), "", queue)
                wait_for(first, lambda: held)
                wait_for(second, lambda: len(done) == 5)
                drain(first, 0.3)
                equal(len(held), 1, "messages of the worker with prefetch 1")
                true(not any(m.delivery_info["redelivered"] for m in held + done), "too early")
                dying.collect()  # drops the socket without a close
                wait_for(second, lambda: len(done) == 6)
                last = done[-1]
                equal((last.delivery_info["redelivered"], last.body), (True, held[0].body))
                equal(last.delivery_mode, 2, "delivery mode")
                equal(sorted(m.body for m in done), tasks, "tasks done")
            equal(count(ch, queue), 0, "left over")
        finally:
            ch.connection.channel().queue_delete(queue)


@pattern("pubsub")
def pubsub():
    with channel() as ch:
        ch.exchange_declare(name("logs"), "fanout", auto_delete=True)
        queues = [server_queue(ch), server_queue(ch)]
        true(queues[0] != queues[1] and queues[0].startswith("amq.gen"), f"names {queues}")
        for queue in queues:
            ch.queue_bind(queue, name("logs"))
        ch.basic_publish(Message("news"), name("logs"), "ignored")
        for queue in queues:
            message = get(ch, queue)
            equal((message.delivery_info["exchange"], message.body), (name("logs"), "news"))


def routed(kind, bindings, sent):
    """Bind one queue for each list of keys, publish all, return the keys each queue got."""
    exchange = name(kind)
    with channel() as ch:
        ch.exchange_declare(exchange, kind, auto_delete=True)
        queues = []
        for keys in bindings:
            queues.append(server_queue(ch))
            for key in keys:
                ch.queue_bind(queues[-1], exchange, key)
        for key in sent:
            ch.basic_publish(Message("for " + key), exchange, key)
        for queue in queues:  # the end mark of each queue
            ch.basic_publish(Message("end"), "", queue)
        got = [collect(ch, queue) for queue in queues]
        wait_for(ch, lambda: all(one and one[-1].body == "end" for one in got))
        for message in [message for one in got for message in one[:-1]]:
            equal(message.body, "for " + message.delivery_info["routing_key"], "body")
        return [[m.delivery_info["routing_key"] for m in one[:-1]] for one in got]


@pattern("routing")
def routing():
    got = routed("direct", [["error"], ["info", "warning"]], ["info", "error", "warning", "debug"])
    equal(got, [["error"], ["info", "warning"]])


@pattern("topics")
def topics():
    got = routed("topic", [["*.orange.*"], ["*.*.rabbit", "lazy.#"], ["#"]],
                 ["quick.orange.rabbit", "lazy.brown.fox", "lazy", "orange", "a.orange.b.c"])
    equal(got, [["quick.orange.rabbit"], ["quick.orange.rabbit", "lazy.brown.fox", "lazy"],
                ["quick.orange.rabbit", "lazy.brown.fox", "lazy", "orange", "a.orange.b.c"]])


@pattern("headers-exchange")
def headers_exchange():
    with channel() as ch:
        ch.exchange_declare(name("headers"), "headers", auto_delete=True)
        both, either = server_queue(ch), server_queue(ch)
        match = {"format": "pdf", "pages": 3}
        ch.queue_bind(both, name("headers"), arguments={"x-match": "all", **match})
        ch.queue_bind(either, name("headers"), arguments={"x-match": "any", **match})
        for body, headers in (("1", match), ("2", {"format": "pdf"}), ("3", {"format": "zip"})):
            ch.basic_publish(Message(body, application_headers=headers), name("headers"))
        equal([get(ch, either).body for _ in range(2)], ["1", "2"], "any")
        equal(get(ch, both).body, "1", "all")
        equal((count(ch, both), count(ch, either)), (0, 0), "left over")


def squares(reply_queue):
    """The server answers on its own connection; the caller checks what it got."""
    with channel() as server, channel() as ch:
        requests = server.queue_declare(name("rpc"), exclusive=True).queue

        def serve(message):
            answer = Message(str(int(message.body) ** 2), correlation_id=message.correlation_id)
            server.basic_publish(answer, "", message.reply_to)
            server.basic_ack(message.delivery_tag)

        server.basic_consume(requests, callback=serve)
        reply_to = reply_queue(ch)
        got = collect(ch, reply_to)
        for number in ("7", "12"):
            ch.basic_publish(
                Message(number, reply_to=reply_to, correlation_id="id" + number), "", requests)

        def step():
            drain(server, 0.05)
            drain(ch, 0.05)

        wait_until(lambda: len(got) == 2, step)
        # publish reads the socket first, so the second request may be served inside the first
        equal({m.correlation_id: m.body for m in got}, {"id7": "49", "id12": "144"})


@pattern("rpc")
def rpc():
    squares(server_queue)


@pattern("direct-reply-to")
def direct_reply_to():
    squares(lambda _ch: "amq.rabbitmq.reply-to")


@pattern("confirms")
def confirms():
    with channel(confirm_publish=True) as ch:
        queue = server_queue(ch)
        for n in range(10):  # each call waits for its own confirm
            ch.basic_publish(Message(str(n)), "", queue, confirm_timeout=5)
            equal(count(ch, queue), n + 1, "confirmed")


@pattern("confirms-batch")
def confirms_batch():
    acked = set()
    with channel() as ch:
        queue = server_queue(ch)
        ch.confirm_select()
        ch.events["basic_ack"].add(
            lambda tag, multiple: acked.update(range(1 if multiple else tag, tag + 1)))
        for n in range(200):
            ch.basic_publish(Message(str(n)), "", queue)
        wait_for(ch, lambda: len(acked) >= 200)
        equal(acked, set(range(1, 201)), "confirmed tags")


@pattern("mandatory-return")
def mandatory_return():
    back = []
    with channel() as ch:
        ch.events["basic_return"].add(lambda *returned: back.append(returned))
        ch.basic_publish(Message("lost"), "", name("nowhere"), mandatory=True)
        wait_for(ch, lambda: back)
        error, exchange, key, message = back[0]
        equal((error.reply_code, error.reply_text), (312, "NO_ROUTE"))
        equal((exchange, key, message.body), ("", name("nowhere"), "lost"))


@pattern("get")
def basic_get():
    with channel() as ch:
        queue = server_queue(ch)
        equal(ch.basic_get(queue), None, "empty queue")
        for body in ("one", "two"):
            ch.basic_publish(Message(body), "", queue)
        first = get(ch, queue)
        equal((first.delivery_info["message_count"], first.body), (1, "one"))
        equal(first.delivery_info["redelivered"], False, "redelivered")
        equal(get(ch, queue).body, "two")


@pattern("tx")
def tx():
    with channel() as ch:
        queue = server_queue(ch)
        ch.tx_select()
        ch.basic_publish(Message("rolled back"), "", queue)
        ch.tx_rollback()
        ch.basic_publish(Message("committed"), "", queue)
        equal(count(ch, queue), 0, "before commit")
        ch.tx_commit()
        equal((get(ch, queue).body, count(ch, queue)), ("committed", 0))


@pattern("nack-requeue")
def reject_requeue():
    """py-amqp has no basic.nack of its own: basic.reject with and without requeue."""
    with channel() as ch:
        queue = server_queue(ch)
        for body in ("back", "drop"):
            ch.basic_publish(Message(body), "", queue)
        got = collect(ch, queue, no_ack=False)
        wait_for(ch, lambda: len(got) == 2)
        ch.basic_reject(got[0].delivery_tag, requeue=True)
        ch.basic_reject(got[1].delivery_tag, requeue=False)
        wait_for(ch, lambda: len(got) == 3)
        equal((got[2].delivery_info["redelivered"], got[2].body), (True, "back"), "after reject")
        ch.basic_ack(got[2].delivery_tag)
        drain(ch, 0.2)
        equal(len(got), 3, "deliveries")


@pattern("cancel-notify")
def cancel_notify():
    with channel() as ch, channel() as other:
        queue, cancelled = ch.queue_declare(name("cancel")).queue, []
        tag = ch.basic_consume(queue, callback=print, on_cancel=cancelled.append)
        other.queue_delete(queue)
        wait_for(ch, lambda: cancelled)
        equal(cancelled, [tag], "cancelled consumers")
        true(server_queue(ch), "channel still usable")


def not_found(ch, queue):
    try:
        ch.queue_declare(queue, passive=True)
    except amqp.NotFound as error:
        equal(error.reply_code, 404)
        true("NOT_FOUND" in error.reply_text and queue in error.reply_text, error.reply_text)
    else:
        raise AssertionError("no 404")


@pattern("missing-queue-404")
def missing_queue():
    with channel() as ch:
        not_found(ch, name("missing"))  # py-amqp opens the channel again under its number
        queue = server_queue(ch)
        ch.basic_publish(Message("after"), "", queue)
        equal(get(ch, queue).body, "after")


@pattern("large-message")
def large_message():
    with channel() as ch:
        queue = server_queue(ch)
        ch.basic_publish(Message(BIG), "", queue)
        true(get(ch, queue).body == BIG, "1 MiB body differs")


@pattern("headers-table")
def headers_table():
    headers = {
        "bool": True, "no": False, "int": 42, "negative": -7, "long": 1 << 40, "float": 2.5,
        "decimal": Decimal("3.14"), "text": "héllo", "bytes": b"\x00\xff", "none": None,
        "when": datetime(2024, 5, 6, 7, 8, 9), "table": {"inner": {"deep": 1}, "x": "y"},
        "array": [1, "two", [True, None], {"k": 3}],
    }
    properties = dict(
        content_type="a/b", content_encoding="utf-8", application_headers=headers, delivery_mode=1,
        priority=3, correlation_id="c", reply_to="r", expiration="60000", message_id="m",
        timestamp=1234567890, type="t", user_id=USER, app_id="app", cluster_id="cl")
    with channel() as ch:
        queue = server_queue(ch)
        ch.basic_publish(Message("x", **properties), "", queue)
        got = get(ch, queue).properties
        for key, value in headers.items():
            equal(got["application_headers"].get(key), value, f"header {key}")
        equal(got, properties, "properties")


@pattern("heartbeat")
def heartbeat():
    with channel(heartbeat=1) as ch:
        connection = ch.connection
        equal(connection.heartbeat, 1, "negotiated heartbeat")
        queue, before = server_queue(ch), connection.bytes_recv
        end = time.monotonic() + 5
        while time.monotonic() < end:
            drain(ch, 0.25)
            connection.heartbeat_tick()  # raises when the broker's heartbeats stay away
        true(connection.bytes_recv > before, "no heartbeat of the broker seen")
        ch.basic_publish(Message("alive"), "", queue)
        equal(get(ch, queue).body, "alive")


@pattern("close")
def close():
    with channel() as ch:
        queue, connection = server_queue(ch), ch.connection
        ch.close()
        true(not ch.is_open and connection.connected, "channel closed, connection open")
    true(not connection.connected, "connection closed")
    with channel() as ch:
        not_found(ch, queue)  # the exclusive queue went with its connection


if __name__ == "__main__":
    main(amqp.__version__)
