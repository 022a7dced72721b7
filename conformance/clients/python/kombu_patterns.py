"""The tutorial patterns with kombu over its amqp transport: entities, producers, consumers."""

import socket
import time
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal

import kombu
from amqp import NotFound
from amqp.exceptions import ConsumerCancelled
from kombu import Consumer, Exchange, Producer, Queue

from harness import (
    BIG, URL, USER, equal, main, name, not_offered, pattern, true, wait_until,
)


@contextmanager
def connect(**options):
    with kombu.Connection(URL, **options) as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        yield connection


def server_queue(connection, **options):
    queue = Queue("", exclusive=True, durable=False, channel=connection, **options)
    queue.declare()
    true(queue.name.startswith("amq.gen"), f"name {queue.name}")
    return queue


def count(queue):
    return queue.queue_declare(passive=True).message_count


@contextmanager
def collecting(connection, queues, no_ack=True, prefetch=None, on_message=None):
    """A consumer of the queues on a channel of its own; yields the list of its messages."""
    got = []
    with Consumer(connection.channel(), queues, no_ack=no_ack, prefetch_count=prefetch,
                  tag_prefix=name("tag"), auto_declare=False,
                  accept=["json", "text/plain", "application/data"],
                  on_message=on_message or got.append):
        yield got


def drain(connection, seconds=0.1):
    try:
        connection.drain_events(timeout=seconds)
    except (socket.timeout, TimeoutError):
        pass


def wait_for(connection, done):
    wait_until(done, lambda: drain(connection))


def get(queue):
    got = []

    def step():
        message = queue.get(no_ack=True, accept=["json", "text/plain", "application/data"])
        got.append(message) if message else time.sleep(0.02)

    wait_until(lambda: got, step)
    return got[0]


@pattern("hello")
def hello():
    """kombu's SimpleQueue: its own durable exchange and queue, JSON bodies."""
    with connect() as connection:
        simple = connection.SimpleQueue(name("hello"))
        try:
            simple.put({"text": "Hello World!", "n": [1, 2]})
            message = simple.get(timeout=8)
            equal(message.payload, {"text": "Hello World!", "n": [1, 2]})
            equal(message.content_type, "application/json")
            equal(message.delivery_info["exchange"], name("hello"))
            message.ack()
        finally:
            simple.close()
            simple.queue.delete()
            simple.queue.exchange.delete()
        with Producer(connection) as producer:  # and through the default exchange
            queue = server_queue(connection)
            producer.publish("Hello again", routing_key=queue.name)
            equal(get(queue).payload, "Hello again")


@pattern("work-queue")
def work_queue():
    tasks = [f"task {n}" for n in range(6)]
    with connect() as connection:
        queue = Queue(name("work"), durable=True, channel=connection)
        queue.declare()
        try:
            with connect() as dying, connect() as second:
                done = []

                def work(message):
                    done.append(message)
                    message.ack()

                with collecting(second, [queue], False, 1, work):
                    with collecting(dying, [queue], False, 1) as held:
                        for body in tasks:
                            connection.Producer().publish(body, routing_key=queue.name)
                        wait_for(dying, lambda: held)
                        wait_for(second, lambda: len(done) == 5)
                        drain(dying, 0.3)
                        equal(len(held), 1, "messages of the worker with prefetch 1")
                        early = [m.delivery_info["redelivered"] for m in held + done]
                        equal(early, [False] * 6, "redelivered flags")
                        dying.connection.collect()  # drops the socket without a close
                    wait_for(second, lambda: len(done) == 6)
                last = done[-1]
                equal((last.delivery_info["redelivered"], last.payload), (True, held[0].payload))
                equal(last.properties["delivery_mode"], 2, "delivery mode")
                equal(sorted(m.payload for m in done), tasks, "tasks done")
            equal(count(queue), 0, "left over")
        finally:
            queue.delete()


@pattern("pubsub")
def pubsub():
    with connect() as connection:
        logs = Exchange(name("logs"), "fanout", durable=False, auto_delete=True)
        queues = [server_queue(connection, exchange=logs) for _ in range(2)]
        connection.Producer(exchange=logs).publish("news", routing_key="ignored")
        for queue in queues:
            message = get(queue)
            equal((message.delivery_info["exchange"], message.payload), (logs.name, "news"))


def routed(kind, bindings, sent):
    """Bind one queue for each list of keys, publish all, return the keys each queue got."""
    exchange = Exchange(name(kind), kind, durable=False, auto_delete=True)
    with connect() as connection:
        queues = []
        for keys in bindings:
            queues.append(server_queue(connection, exchange=exchange, routing_key=keys[0]))
            for key in keys[1:]:
                queues[-1].bind_to(exchange, key)
        producer = connection.Producer(auto_declare=False)
        for key in sent:
            producer.publish("for " + key, routing_key=key, exchange=exchange)
        for queue in queues:  # the end mark of each queue
            producer.publish("end", routing_key=queue.name)
        result = []
        for queue in queues:
            with collecting(connection, [queue]) as got:
                wait_for(connection, lambda: got and got[-1].payload == "end")
            result.append([m.delivery_info["routing_key"] for m in got[:-1]])
            equal([m.payload for m in got[:-1]], ["for " + key for key in result[-1]], "bodies")
        return result


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
    with connect() as connection:
        exchange = Exchange(name("headers"), "headers", durable=False, auto_delete=True)
        match = {"format": "pdf", "pages": 3}
        both, either = (
            server_queue(connection, exchange=exchange,
                         binding_arguments={"x-match": kind, **match}) for kind in ("all", "any"))
        producer = connection.Producer(exchange=exchange)
        for body, headers in (("1", match), ("2", {"format": "pdf"}), ("3", {"format": "zip"})):
            producer.publish(body, headers=dict(headers))
        equal([get(either).payload for _ in range(2)], ["1", "2"], "any")
        equal(get(both).payload, "1", "all")
        equal((count(both), count(either)), (0, 0), "left over")


def squares(reply_queue):
    """The server answers on its own connection; the caller checks what it got."""
    with connect() as server, connect() as connection:
        requests = Queue(name("rpc"), exclusive=True, durable=False, channel=server)
        requests.declare()

        def serve(message):
            server.Producer().publish(
                {"square": message.payload["n"] ** 2}, routing_key=message.properties["reply_to"],
                correlation_id=message.properties["correlation_id"])
            message.ack()

        replies, channel, got = reply_queue(connection), connection.channel(), []
        with collecting(server, [requests], False, 1, serve), \
                Consumer(channel, [replies], no_ack=True, auto_declare=False, accept=["json"],
                         on_message=got.append):
            for number in (7, 12):
                Producer(channel).publish(
                    {"n": number}, routing_key=requests.name, reply_to=replies.name,
                    correlation_id=f"id{number}")

            def step():
                drain(server, 0.05)
                drain(connection, 0.05)

            wait_until(lambda: len(got) == 2, step)
        equal({m.properties["correlation_id"]: m.payload for m in got},
              {"id7": {"square": 49}, "id12": {"square": 144}})


@pattern("rpc")
def rpc():
    squares(server_queue)


@pattern("direct-reply-to")
def direct_reply_to():
    squares(lambda _connection: Queue("amq.rabbitmq.reply-to", no_declare=True))


@pattern("confirms")
def confirms():
    with connect(transport_options={"confirm_publish": True}) as connection:
        queue = server_queue(connection)
        producer = connection.Producer()
        for n in range(10):  # each call waits for its own confirm
            producer.publish(str(n), routing_key=queue.name, confirm_timeout=5)
            equal(count(queue), n + 1, "confirmed")


not_offered("confirms-batch", "its confirms are waited for one by one")


@pattern("mandatory-return")
def mandatory_return():
    back = []
    with connect() as connection:
        producer = connection.Producer(on_return=lambda *returned: back.append(returned))
        producer.publish("lost", routing_key=name("nowhere"), mandatory=True)
        wait_for(connection, lambda: back)
        error, exchange, key, message = back[0]
        equal((error.reply_code, error.reply_text), (312, "NO_ROUTE"))
        equal((exchange, key, message.body), ("", name("nowhere"), "lost"))


@pattern("get")
def basic_get():
    with connect() as connection:
        queue = server_queue(connection)
        equal(queue.get(), None, "empty queue")
        for body in ("one", "two"):
            connection.Producer().publish(body, routing_key=queue.name)
        first = get(queue)
        equal((first.delivery_info["message_count"], first.payload), (1, "one"))
        equal(get(queue).payload, "two")


not_offered("tx", "not in its API")


@pattern("nack-requeue")
def reject_requeue():
    with connect() as connection:
        queue = server_queue(connection)
        for body in ("back", "drop"):
            connection.Producer().publish(body, routing_key=queue.name)
        with collecting(connection, [queue], no_ack=False) as got:
            wait_for(connection, lambda: len(got) == 2)
            got[0].requeue()
            got[1].reject()
            wait_for(connection, lambda: len(got) == 3)
            equal((got[2].delivery_info["redelivered"], got[2].payload), (True, "back"))
            got[2].ack()
            drain(connection, 0.2)
            equal(len(got), 3, "deliveries")


@pattern("cancel-notify")
def cancel_notify():
    with connect() as connection, connect() as other:
        queue = Queue(name("cancel"), auto_delete=True, durable=False, channel=connection)
        queue.declare()
        with collecting(connection, [queue]):
            queue(other).delete()
            try:
                wait_for(connection, lambda: False)
            except ConsumerCancelled as error:
                true(name("tag") in str(error), f"text {error}")
            true(server_queue(connection), "connection still usable")


def not_found(connection, queue_name):
    try:
        Queue(queue_name, channel=connection).queue_declare(passive=True)
    except connection.channel_errors as error:
        true(isinstance(error, NotFound), f"{type(error)}")
        equal(error.reply_code, 404)
        true("NOT_FOUND" in error.reply_text and queue_name in error.reply_text, error.reply_text)
    else:
        raise AssertionError("no 404")


@pattern("missing-queue-404")
def missing_queue():
    with connect() as connection:
        not_found(connection, name("missing"))
        queue = server_queue(connection)
        connection.Producer().publish("after", routing_key=queue.name)
        equal(get(queue).payload, "after")


@pattern("large-message")
def large_message():
    with connect() as connection:
        queue = server_queue(connection)
        connection.Producer().publish(BIG, routing_key=queue.name)
        message = get(queue)
        true(message.payload == BIG, "1 MiB body differs")
        equal(message.content_type, "application/data")


@pattern("headers-table")
def headers_table():
    headers = {
        "bool": True, "no": False, "int": 42, "negative": -7, "long": 1 << 40, "float": 2.5,
        "decimal": Decimal("3.14"), "text": "héllo", "none": None,
        "when": datetime(2024, 5, 6, 7, 8, 9), "table": {"inner": {"deep": 1}, "x": "y"},
        "array": [1, "two", [True, None], {"k": 3}],
    }
    properties = dict(
        correlation_id="c", reply_to="r", message_id="m", timestamp=1234567890, type="t",
        user_id=USER, app_id="app", cluster_id="cl")
    with connect() as connection:
        queue = server_queue(connection)
        connection.Producer().publish(
            "x", routing_key=queue.name, headers=dict(headers), priority=3, expiration=60,
            delivery_mode="transient", **properties)
        got = get(queue)
        equal(got.headers, headers, "headers")
        wanted = dict(properties, expiration="60000", priority=3, delivery_mode=1)
        equal({key: got.properties.get(key) for key in wanted}, wanted, "properties")


@pattern("heartbeat")
def heartbeat():
    with connect(heartbeat=1) as connection:
        equal(connection.get_heartbeat_interval(), 1, "negotiated heartbeat")
        queue, end = server_queue(connection), time.monotonic() + 5
        while time.monotonic() < end:
            drain(connection, 0.25)
            connection.heartbeat_check()  # raises when the broker's heartbeats stay away
        connection.Producer().publish("alive", routing_key=queue.name)
        equal(get(queue).payload, "alive")


@pattern("close")
def close():
    with connect() as connection:
        queue = server_queue(connection)
        connection.default_channel.close()
        true(connection.connected, "connection open after its channel closed")
    true(not connection.connected, "connection closed")
    with connect() as connection:
        not_found(connection, queue.name)  # the exclusive queue went with its connection


if __name__ == "__main__":
    main(kombu.__version__)
