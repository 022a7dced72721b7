"""The tutorial patterns with aio-pika."""

import asyncio
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from decimal import Decimal

import aio_pika
from aio_pika import DeliveryMode, Message
from aio_pika.exceptions import ChannelNotFoundEntity, PublishError, QueueEmpty

from harness import (
    BIG, URL, USER, equal, main, name, pattern, true, with_heartbeat,
)


@asynccontextmanager
async def channel(url=URL, **options):
    async with await aio_pika.connect(url, timeout=5) as connection:
        yield await connection.channel(**options)


async def server_queue(ch):
    queue = await ch.declare_queue("", exclusive=True)
    true(queue.name.startswith("amq.gen"), f"name {queue.name}")
    return queue


async def count(ch, queue):
    return (await ch.declare_queue(str(queue), passive=True)).declaration_result.message_count


async def collect(queue, no_ack=True):
    got = asyncio.Queue()
    await queue.consume(got.put, no_ack=no_ack)
    return got


async def take(got, number=1, seconds=8):
    return [await asyncio.wait_for(got.get(), seconds) for _ in range(number)]


async def get(queue):
    for _ in range(200):
        message = await queue.get(no_ack=True, fail=False)
        if message:
            return message
        await asyncio.sleep(0.02)
    raise AssertionError(f"{queue} stays empty")


def send(ch, key, body, **properties):
    return ch.default_exchange.publish(Message(body, **properties), str(key))


@pattern("hello")
async def hello():
    async with channel() as ch:
        queue = await ch.declare_queue(name("hello"), exclusive=True)
        await send(ch, queue, b"Hello World!", content_type="text/plain")
        async with queue.iterator() as messages:  # the tutorial's way to consume
            async for message in messages:
                async with message.process():
                    break
        equal((message.exchange, message.routing_key), ("", name("hello")), "exchange and key")
        equal((message.body, message.content_type), (b"Hello World!", "text/plain"))


@pattern("work-queue")
async def work_queue():
    tasks = [f"task {n}".encode() for n in range(6)]
    async with channel() as ch:
        queue = await ch.declare_queue(name("work"), durable=True)
        try:
            async with channel() as second:
                dying = await aio_pika.connect(URL)
                first, workers = await dying.channel(), []
                for worker in (first, second):
                    await worker.set_qos(prefetch_count=1)
                    workers.append(await collect(await worker.get_queue(queue.name), False))
                for body in tasks:
                    await send(ch, queue, body, delivery_mode=DeliveryMode.PERSISTENT)
                held, done = (await take(workers[0]))[0], []
                while len(done) < 6:
                    done += await take(workers[1])
                    await done[-1].ack()
                    if len(done) == 5:
                        true(not any(m.redelivered for m in [held, *done]), "too early")
                        await asyncio.sleep(0.3)
                        true(workers[0].empty(), "prefetch 1 was not kept")
                        await dying.close()
                last = done[-1]
                equal((last.redelivered, last.body), (True, held.body), "redelivered message")
                equal(last.delivery_mode, DeliveryMode.PERSISTENT, "delivery mode")
                equal(sorted(m.body for m in done), tasks, "tasks done")
            equal(await count(ch, queue), 0, "left over")
        finally:
            await queue.delete(if_unused=False, if_empty=False)


@pattern("pubsub")
async def pubsub():
    async with channel() as ch:
        logs = await ch.declare_exchange(name("logs"), "fanout", auto_delete=True)
        queues = [await server_queue(ch), await server_queue(ch)]
        for queue in queues:
            await queue.bind(logs)
        await logs.publish(Message(b"news"), "ignored")
        for queue in queues:
            message = await get(queue)
            equal((message.exchange, message.body), (name("logs"), b"news"))


async def routed(kind, bindings, sent):
    """Bind one queue for each list of keys, publish all, return the keys each queue got."""
    async with channel() as ch:
        exchange = await ch.declare_exchange(name(kind), kind, auto_delete=True)
        queues, result = [], []
        for keys in bindings:
            queues.append(await server_queue(ch))
            for key in keys:
                await queues[-1].bind(exchange, key)
        for key in sent:
            await exchange.publish(Message(b"for " + key.encode()), key, mandatory=False)
        for queue in queues:
            await send(ch, queue, b"end")  # the end mark of each queue
            got, keys = await collect(queue), []
            while (message := (await take(got))[0]).body != b"end":
                keys.append(message.routing_key)
                equal(message.body, b"for " + message.routing_key.encode(), "body")
            result.append(keys)
        return result


@pattern("routing")
async def routing():
    got = await routed("direct", [["error"], ["info", "warning"]],
                       ["info", "error", "warning", "debug"])
    equal(got, [["error"], ["info", "warning"]])


@pattern("topics")
async def topics():
    got = await routed("topic", [["*.orange.*"], ["*.*.rabbit", "lazy.#"], ["#"]],
                       ["quick.orange.rabbit", "lazy.brown.fox", "lazy", "orange", "a.orange.b.c"])
    equal(got, [["quick.orange.rabbit"], ["quick.orange.rabbit", "lazy.brown.fox", "lazy"],
                ["quick.orange.rabbit", "lazy.brown.fox", "lazy", "orange", "a.orange.b.c"]])


@pattern("headers-exchange")
async def headers_exchange():
    async with channel() as ch:
        exchange = await ch.declare_exchange(name("headers"), "headers", auto_delete=True)
        both, either = await server_queue(ch), await server_queue(ch)
        match = {"format": "pdf", "pages": 3}
        await both.bind(exchange, "", arguments={"x-match": "all", **match})
        await either.bind(exchange, "", arguments={"x-match": "any", **match})
        for body, headers in ((b"1", match), (b"2", {"format": "pdf"}), (b"3", {"format": "zip"})):
            await exchange.publish(Message(body, headers=headers), "", mandatory=False)
        equal([(await get(either)).body for _ in range(2)], [b"1", b"2"], "any")
        equal((await get(both)).body, b"1", "all")
        equal((await count(ch, both), await count(ch, either)), (0, 0), "left over")


async def squares(reply_queue):
    """The server answers on its own connection; the caller checks what it got."""
    async with channel() as server, channel() as ch:
        requests = await server.declare_queue(name("rpc"), exclusive=True)

        async def serve(message):
            async with message.process():
                await send(server, message.reply_to, b"%d" % int(message.body) ** 2,
                           correlation_id=message.correlation_id)

        await requests.consume(serve)
        replies = await reply_queue(ch)
        got = await collect(replies)
        for number in (b"7", b"12"):
            await send(ch, requests, number, reply_to=replies.name,
                       correlation_id="id" + number.decode())
        answers = await take(got, 2)
        equal({m.correlation_id: m.body for m in answers}, {"id7": b"49", "id12": b"144"})


@pattern("rpc")
async def rpc():
    await squares(server_queue)


@pattern("direct-reply-to")
async def direct_reply_to():
    await squares(lambda ch: ch.get_queue("amq.rabbitmq.reply-to"))


@pattern("confirms")
async def confirms():
    async with channel() as ch:
        queue = await server_queue(ch)
        for n in range(10):
            confirmation = await send(ch, queue, str(n).encode())
            equal((confirmation.name, confirmation.delivery_tag), ("Basic.Ack", n + 1))
            equal(await count(ch, queue), n + 1, "confirmed")


@pattern("confirms-batch")
async def confirms_batch():
    async with channel() as ch:
        queue = await server_queue(ch)
        answers = await asyncio.gather(*(send(ch, queue, b"%d" % n) for n in range(200)))
        equal({answer.name for answer in answers}, {"Basic.Ack"}, "answers")
        equal(await count(ch, queue), 200, "messages in the queue")


@pattern("mandatory-return")
async def mandatory_return():
    async with channel(on_return_raises=True) as ch:
        try:
            await send(ch, name("nowhere"), b"lost")
        except PublishError as error:
            equal((error.message.delivery.reply_code, error.message.delivery.reply_text),
                  (312, "NO_ROUTE"))
            equal((error.message.delivery.routing_key, error.message.body),
                  (name("nowhere"), b"lost"))
        else:
            raise AssertionError("the message did not come back")


@pattern("get")
async def basic_get():
    async with channel() as ch:
        queue = await server_queue(ch)
        try:
            await queue.get(fail=True)
        except QueueEmpty:
            pass
        else:
            raise AssertionError("a message from an empty queue")
        for body in (b"one", b"two"):
            await send(ch, queue, body)
        first = await get(queue)
        equal((first.message_count, first.redelivered, first.body), (1, False, b"one"))
        equal((await get(queue)).body, b"two")


@pattern("tx")
async def tx():
    async with channel(publisher_confirms=False) as ch:
        queue = await server_queue(ch)
        transaction = ch.transaction()
        await transaction.select()
        await send(ch, queue, b"rolled back")
        await transaction.rollback()
        await send(ch, queue, b"committed")
        equal(await count(ch, queue), 0, "before commit")
        await transaction.commit()
        message = await get(queue)
        equal((message.message_count, message.body), (0, b"committed"))


@pattern("nack-requeue")
async def nack_requeue():
    async with channel() as ch:
        queue = await server_queue(ch)
        for body in (b"back", b"drop"):
            await send(ch, queue, body)
        got = await collect(queue, no_ack=False)
        back, drop = await take(got, 2)
        await back.nack(requeue=True)
        await drop.reject(requeue=False)
        again = (await take(got))[0]
        equal((again.redelivered, again.body), (True, b"back"), "after nack")
        await again.ack()
        await asyncio.sleep(0.2)
        true(got.empty(), "a further delivery")


@pattern("cancel-notify")
async def cancel_notify():
    async with channel() as ch, channel() as other:
        queue, cancelled = await ch.declare_queue(name("cancel"), auto_delete=True), asyncio.Queue()
        tag = await queue.consume(print)
        (await ch.get_underlay_channel()).on_consumer_cancel_callbacks.add(cancelled.put_nowait)
        await other.queue_delete(queue.name)
        frame = (await take(cancelled))[0]
        equal((frame.name, frame.consumer_tag), ("Basic.Cancel", tag), "notification")
        true(await server_queue(ch), "channel still usable")


async def not_found(ch, queue):
    try:
        await ch.declare_queue(queue, passive=True)
    except ChannelNotFoundEntity as error:
        true("NOT_FOUND" in str(error) and queue in str(error), f"text {error}")
    else:
        raise AssertionError("no 404")


@pattern("missing-queue-404")
async def missing_queue():
    async with channel() as ch:
        await not_found(ch, name("missing"))
        true(ch.is_closed, "channel closed")
        await ch.reopen()
        queue = await server_queue(ch)
        await send(ch, queue, b"after")
        equal((await get(queue)).body, b"after")


@pattern("large-message")
async def large_message():
    async with channel() as ch:
        queue = await server_queue(ch)
        await send(ch, queue, BIG)
        true((await get(queue)).body == BIG, "1 MiB body differs")


@pattern("headers-table")
async def headers_table():
    headers = {
        "bool": True, "no": False, "int": 42, "negative": -7, "long": 1 << 40, "float": 2.5,
        "decimal": Decimal("3.14"), "text": "héllo", "bytes": bytearray(b"\x00\xff"), "none": None,
        "when": datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc),
        "table": {"inner": {"deep": 1}, "x": "y"}, "array": [1, "two", [True, None], {"k": 3}],
    }
    properties = dict(
        content_type="a/b", content_encoding="utf-8", delivery_mode=DeliveryMode.NOT_PERSISTENT,
        priority=3, correlation_id="c", reply_to="r", expiration=60.0, message_id="m",
        timestamp=datetime(2009, 2, 13, 23, 31, 30, tzinfo=timezone.utc), type="t", user_id=USER,
        app_id="app")
    async with channel() as ch:
        queue = await server_queue(ch)
        await send(ch, queue, b"x", headers=headers, **properties)
        got = await get(queue)
        equal(got.headers, headers, "headers")
        equal({key: getattr(got, key) for key in properties}, properties, "properties")


@pattern("heartbeat")
async def heartbeat():
    async with channel(with_heartbeat(1)) as ch:
        queue = await server_queue(ch)
        await asyncio.sleep(5)
        await send(ch, queue, b"alive")
        equal((await get(queue)).body, b"alive")


@pattern("close")
async def close():
    connection = await aio_pika.connect_robust(URL)
    ch = await connection.channel()
    queue = await ch.declare_queue(name("close"), exclusive=True)
    await ch.close()
    true(ch.is_closed and not connection.is_closed, "channel closed, connection open")
    await connection.close()
    true(connection.is_closed, "connection closed")
    async with channel() as ch:
        await not_found(ch, queue.name)  # the exclusive queue went with its connection


if __name__ == "__main__":
    main(aio_pika.__version__)
