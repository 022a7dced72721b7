"""The tutorial patterns with pika: BlockingConnection, and SelectConnection for batch confirms."""

import uuid
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal

import pika
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from harness import (
    BIG, URL, USER, equal, main, name, pattern, true, wait_until, with_heartbeat,
)


@contextmanager
def channel(url=URL):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def server_queue(ch):
    return ch.queue_declare("", exclusive=True).method.queue


def collect(ch, queue, auto_ack=True):
    got = []
    ch.basic_consume(queue, lambda _c, m, p, body: got.append((m, p, body)), auto_ack=auto_ack)
    return got


def wait_for(ch, done):
    wait_until(done, lambda: ch.connection.process_data_events(time_limit=0.1))


def get(ch, queue):
    got = []

    def step():
        method, properties, body = ch.basic_get(queue, auto_ack=True)
        if method:
            got.append((method, properties, body))
        else:
            ch.connection.sleep(0.02)

    wait_until(lambda: got, step)
    return got[0]


@pattern("hello")
def hello():
    with channel() as ch:
        queue = ch.queue_declare(name("hello"), exclusive=True).method.queue
        equal(queue, name("hello"), "queue name")
        plain = pika.BasicProperties(content_type="text/plain")
        ch.basic_publish("", queue, b"Hello World!", plain)
        got = collect(ch, queue)
        wait_for(ch, lambda: got)
        method, properties, body = got[0]
        equal((method.exchange, method.routing_key), ("", queue), "exchange and key")
        equal((body, properties.content_type), (b"Hello World!", "text/plain"))


@pattern("work-queue")
def work_queue():
    queue, tasks = name("work"), [f"task {n}".encode() for n in range(6)]
    with channel() as ch:
        try:
            ch.queue_declare(queue, durable=True)
            with channel() as second:
                dying = pika.BlockingConnection(pika.URLParameters(URL))
                first = dying.channel()
                for worker in (first, second):
                    worker.basic_qos(prefetch_count=1)
                held, done = collect(first, queue, False), []

                def work(ch, method, properties, body):
                    done.append((method, properties, body))
                    ch.basic_ack(method.delivery_tag)

                second.basic_consume(queue, work)
                for body in tasks:
                    ch.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))
                wait_for(first, lambda: held)
                wait_for(second, lambda: len(done) == 5)
                dying.process_data_events(time_limit=0.3)
                equal(len(held), 1, "messages of the worker with prefetch 1")
                true(not any(m.redelivered for m, _, _ in held + done), "redelivered too early")
                dying.close()
                wait_for(second, lambda: len(done) == 6)
                method, properties, body = done[-1]
                equal((method.redelivered, body), (True, held[0][2]), "redelivered message")
                equal(properties.delivery_mode, 2, "delivery mode")
                equal(sorted(b for _, _, b in done), tasks, "tasks done")
            equal(ch.queue_declare(queue, passive=True).method.message_count, 0, "left over")
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
        ch.basic_publish(name("logs"), "ignored", b"news")
        for queue in queues:
            method, _, body = get(ch, queue)
            equal((method.exchange, body), (name("logs"), b"news"))


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
            ch.basic_publish(exchange, key, b"for " + key.encode())
        for queue in queues:  # the end mark of each queue
            ch.basic_publish("", queue, b"end")
        got = [collect(ch, queue) for queue in queues]
        wait_for(ch, lambda: all(one and one[-1][2] == b"end" for one in got))
        for method, _, body in [message for one in got for message in one[:-1]]:
            equal(body, b"for " + method.routing_key.encode(), "body")
        return [[method.routing_key for method, _, _ in one[:-1]] for one in got]


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
        for body, headers in ((b"1", match), (b"2", {"format": "pdf"}), (b"3", {"format": "zip"})):
            ch.basic_publish(name("headers"), "", body, pika.BasicProperties(headers=headers))
        equal([get(ch, either)[2] for _ in range(2)], [b"1", b"2"], "any")
        equal(get(ch, both)[2], b"1", "all")
        for queue in (both, either):
            equal(ch.queue_declare(queue, passive=True).method.message_count, 0, "left over")


def fibonacci(reply_queue):
    """The server answers on its own connection; returns what the caller got."""
    correlation = str(uuid.uuid4())
    with channel() as server, channel() as ch:
        requests = server.queue_declare(name("rpc"), exclusive=True).method.queue

        def serve(_channel, method, properties, body):
            answer = str(int(body) * int(body)).encode()
            server.basic_publish("", properties.reply_to, answer, pika.BasicProperties(
                correlation_id=properties.correlation_id))
            server.basic_ack(method.delivery_tag)

        server.basic_consume(requests, serve)
        reply_to = reply_queue(ch)
        got = collect(ch, reply_to)
        for number in (b"7", b"12"):
            ch.basic_publish("", requests, number, pika.BasicProperties(
                reply_to=reply_to, correlation_id=correlation + number.decode()))

        def step():
            server.connection.process_data_events(time_limit=0.05)
            ch.connection.process_data_events(time_limit=0.05)

        wait_until(lambda: len(got) == 2, step)
        equal([(p.correlation_id, b) for _, p, b in got],
              [(correlation + "7", b"49"), (correlation + "12", b"144")])


@pattern("rpc")
def rpc():
    fibonacci(server_queue)


@pattern("direct-reply-to")
def direct_reply_to():
    fibonacci(lambda _ch: "amq.rabbitmq.reply-to")


@pattern("confirms")
def confirms():
    with channel() as ch:
        queue = server_queue(ch)
        ch.confirm_delivery()
        for n in range(10):  # each call waits for its own confirm
            ch.basic_publish("", queue, str(n).encode())
            equal(ch.queue_declare(queue, passive=True).method.message_count, n + 1, "confirmed")


@pattern("confirms-batch")
def confirms_batch():
    seen = {"acked": set(), "nacked": 0, "error": None}

    def failed(_connection, error):
        seen["error"] = error
        connection.ioloop.stop()

    def confirmed(frame):
        method = frame.method
        if not isinstance(method, pika.spec.Basic.Ack):
            seen["nacked"] += 1
        first = 1 if method.multiple else method.delivery_tag
        seen["acked"].update(range(first, method.delivery_tag + 1))
        if len(seen["acked"]) >= 200:
            connection.close()

    def confirming(_frame):
        for n in range(200):
            ch.basic_publish("", seen["queue"], str(n).encode())

    def declared(frame):
        seen["queue"] = frame.method.queue
        ch.confirm_delivery(confirmed, callback=confirming)

    def opened(_connection):
        nonlocal ch
        ch = connection.channel(on_open_callback=lambda c: c.queue_declare(
            "", exclusive=True, callback=declared))

    ch, url = None, pika.URLParameters(URL)
    connection = pika.SelectConnection(url, opened, failed, lambda c, _e: c.ioloop.stop())
    connection.ioloop.call_later(10, connection.ioloop.stop)
    connection.ioloop.start()
    equal((seen["error"], seen["nacked"]), (None, 0), "errors and nacks")
    equal(seen["acked"], set(range(1, 201)), "confirmed tags")


@pattern("mandatory-return")
def mandatory_return():
    with channel() as ch:
        ch.confirm_delivery()
        try:
            ch.basic_publish("", name("nowhere"), b"lost", mandatory=True)
        except UnroutableError as error:
            back = error.messages[0]
            equal((back.method.reply_code, back.method.reply_text), (312, "NO_ROUTE"))
            equal((back.method.routing_key, back.body), (name("nowhere"), b"lost"))
        else:
            raise AssertionError("the message did not come back")


@pattern("get")
def basic_get():
    with channel() as ch:
        queue = server_queue(ch)
        equal(ch.basic_get(queue), (None, None, None), "empty queue")
        for body in (b"one", b"two"):
            ch.basic_publish("", queue, body)
        method, _, body = get(ch, queue)
        equal((method.message_count, method.redelivered, body), (1, False, b"one"))
        equal(get(ch, queue)[2], b"two")


@pattern("tx")
def tx():
    with channel() as ch:
        queue = server_queue(ch)
        ch.tx_select()
        ch.basic_publish("", queue, b"rolled back")
        ch.tx_rollback()
        ch.basic_publish("", queue, b"committed")
        equal(ch.queue_declare(queue, passive=True).method.message_count, 0, "before commit")
        ch.tx_commit()
        method, _, body = get(ch, queue)
        equal((method.message_count, body), (0, b"committed"))


@pattern("nack-requeue")
def nack_requeue():
    with channel() as ch:
        queue = server_queue(ch)
        for body in (b"back", b"drop"):
            ch.basic_publish("", queue, body)
        got = collect(ch, queue, auto_ack=False)
        wait_for(ch, lambda: len(got) == 2)
        ch.basic_nack(got[0][0].delivery_tag, requeue=True)
        ch.basic_reject(got[1][0].delivery_tag, requeue=False)
        wait_for(ch, lambda: len(got) == 3)
        equal((got[2][0].redelivered, got[2][2]), (True, b"back"), "after nack")
        ch.basic_ack(got[2][0].delivery_tag)
        ch.connection.process_data_events(time_limit=0.2)
        equal(len(got), 3, "deliveries")


@pattern("cancel-notify")
def cancel_notify():
    with channel() as ch, channel() as other:
        queue, cancelled = ch.queue_declare(name("cancel"), auto_delete=True).method.queue, []
        ch.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        tag = ch.basic_consume(queue, lambda *_: None)
        other.queue_delete(queue)
        wait_for(ch, lambda: cancelled)
        equal(cancelled, [tag], "cancelled consumers")
        true(server_queue(ch), "channel still usable")


@pattern("missing-queue-404")
def missing_queue():
    with channel() as ch:
        try:
            ch.queue_declare(name("missing"), passive=True)
        except ChannelClosedByBroker as error:
            equal(error.reply_code, 404)
            true("NOT_FOUND" in error.reply_text, f"text {error.reply_text}")
            true(name("missing") in error.reply_text, f"text {error.reply_text}")
        else:
            raise AssertionError("no 404")
        true(ch.is_closed and ch.connection.is_open, "channel closed, connection open")
        again = ch.connection.channel()
        queue = server_queue(again)
        again.basic_publish("", queue, b"after")
        equal(get(again, queue)[2], b"after")


@pattern("large-message")
def large_message():
    with channel() as ch:
        queue = server_queue(ch)
        ch.basic_publish("", queue, BIG)
        true(get(ch, queue)[2] == BIG, "1 MiB body differs")


@pattern("headers-table")
def headers_table():
    headers = {
        "bool": True, "no": False, "int": 42, "negative": -7, "long": 1 << 40,
        "decimal": Decimal("3.14"), "text": "héllo", "bytes": b"\x00\xff", "none": None,
        "when": datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc),
        "table": {"inner": {"deep": 1}, "x": "y"}, "array": [1, "two", [True, None], {"k": 3}],
    }
    properties = pika.BasicProperties(
        content_type="a/b", content_encoding="utf-8", headers=headers, delivery_mode=1, priority=3,
        correlation_id="c", reply_to="r", expiration="60000", message_id="m", timestamp=1234567890,
        type="t", user_id=USER, app_id="app",
        cluster_id="cl")
    with channel() as ch:
        queue = server_queue(ch)
        ch.basic_publish("", queue, b"x", properties)
        _, got, _ = get(ch, queue)
        for key, value in headers.items():
            equal(got.headers.get(key), value, f"header {key}")
        equal(set(got.headers), set(headers), "header names")
        equal(got, properties, "properties")


@pattern("heartbeat")
def heartbeat():
    with channel(with_heartbeat(1)) as ch:
        queue = server_queue(ch)
        ch.connection.sleep(5)
        ch.basic_publish("", queue, b"alive")
        equal(get(ch, queue)[2], b"alive")


@pattern("close")
def close():
    with channel() as ch:
        queue = server_queue(ch)
        ch.close()
        connection = ch.connection
        true(ch.is_closed and connection.is_open, "channel closed, connection open")
    true(connection.is_closed, "connection closed")
    with channel() as ch:
        try:
            ch.queue_declare(queue, passive=True)
        except ChannelClosedByBroker as error:
            equal(error.reply_code, 404, "exclusive queue after close")
        else:
            raise AssertionError("exclusive queue outlived its connection")


if __name__ == "__main__":
    main(pika.__version__)
