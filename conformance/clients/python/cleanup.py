"""Deletes what a program that was cut short may have left: `cleanup.py URL PREFIX`."""

import amqp
from harness import HOST, PASSWORD, USER, VHOST, name

QUEUES = "hello work cancel get after large heartbeat rpc close".split()
EXCHANGES = "hello logs fanout direct topic headers lonely".split()

with amqp.Connection(HOST, USER, PASSWORD, virtual_host=VHOST, connect_timeout=5) as connection:
    for delete, suffixes in (("queue_delete", QUEUES), ("exchange_delete", EXCHANGES)):
        for suffix in suffixes:
            try:
                getattr(connection.channel(), delete)(name(suffix))
            except amqp.NotFound:
                pass
