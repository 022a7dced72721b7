'use strict';
// The tutorial patterns with amqplib's promise API. Called as `PROGRAM URL PREFIX`.
const { deepStrictEqual: equal, ok, rejects } = require('node:assert');
const { randomBytes } = require('node:crypto');
const { dirname, join } = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const amqp = require('amqplib');
const { version } = require(join(dirname(require.resolve('amqplib')), 'package.json'));

const [url, prefix] = process.argv.slice(2);
const user = decodeURIComponent(new URL(url).username || 'guest');
const name = (suffix) => `${prefix}.${suffix}`;
const LIMIT = 20000; // milliseconds for one pattern
const patterns = {};

// Runs `use(connection)` and closes the connection whatever happens.
async function connected(use, address = url) {
  const connection = await amqp.connect(address);
  connection.on('error', () => {});
  try {
    return await use(connection);
  } finally {
    await connection.close().catch(() => {});
  }
}

async function open(connection, kind = 'createChannel') {
  const channel = await connection[kind]();
  channel.on('error', () => {}); // the pending call is rejected as well
  return channel;
}

const withChannel = (use, address) =>
  connected(async (connection) => use(await open(connection), connection), address);

async function serverQueue(channel) {
  const { queue } = await channel.assertQueue('', { exclusive: true });
  ok(queue.startsWith('amq.gen'), `name ${queue}`);
  return queue;
}

const count = async (channel, queue) => (await channel.checkQueue(queue)).messageCount;

async function until(done, what = 'the expected messages') {
  for (const end = Date.now() + 8000; !done(); await sleep(10)) {
    if (Date.now() > end) throw new Error(`${what} not seen within 8 s`);
  }
}

async function collect(channel, queue, noAck = true) {
  const got = [];
  await channel.consume(queue, (message) => got.push(message), { noAck });
  return got;
}

async function get(channel, queue) {
  for (let n = 0; n < 200; n++) {
    const message = await channel.get(queue, { noAck: true });
    if (message) return message;
    await sleep(20);
  }
  throw new Error(`${queue} stays empty`);
}

const text = (message) => message.content.toString();
const send = (channel, queue, body, options) =>
  channel.sendToQueue(queue, Buffer.from(body), options);

patterns.hello = () =>
  withChannel(async (channel) => {
    const { queue } = await channel.assertQueue(name('hello'), { exclusive: true });
    equal(queue, name('hello'));
    send(channel, queue, 'Hello World!', { contentType: 'text/plain' });
    const got = await collect(channel, queue);
    await until(() => got.length === 1);
    equal([got[0].fields.exchange, got[0].fields.routingKey], ['', queue]);
    equal([text(got[0]), got[0].properties.contentType], ['Hello World!', 'text/plain']);
  });

patterns['work-queue'] = () =>
  withChannel(async (channel) => {
    const queue = name('work');
    const tasks = [0, 1, 2, 3, 4, 5].map((n) => `task ${n}`);
    await channel.assertQueue(queue, { durable: true });
    try {
      await withChannel(async (second) => {
        const dying = await amqp.connect(url);
        const first = await open(dying);
        await first.prefetch(1);
        await second.prefetch(1);
        const held = await collect(first, queue, false);
        const done = [];
        await second.consume(queue, (message) => {
          done.push(message);
          second.ack(message);
        });
        for (const body of tasks) send(channel, queue, body, { persistent: true });
        await until(() => held.length && done.length === 5);
        await sleep(300);
        equal(held.length, 1, 'prefetch 1 was not kept');
        ok(![...held, ...done].some((message) => message.fields.redelivered), 'too early');
        dying.on('error', () => {});
        dying.connection.stream.destroy(); // no close: the worker just dies
        await until(() => done.length === 6);
        const last = done[5];
        equal([last.fields.redelivered, text(last)], [true, text(held[0])]);
        equal(last.properties.deliveryMode, 2);
        equal(done.map(text).sort(), tasks);
      });
      equal(await count(channel, queue), 0);
    } finally {
      await channel.deleteQueue(queue);
    }
  });

patterns.pubsub = () =>
  withChannel(async (channel) => {
    await channel.assertExchange(name('logs'), 'fanout', { autoDelete: true, durable: false });
    const queues = [await serverQueue(channel), await serverQueue(channel)];
    for (const queue of queues) await channel.bindQueue(queue, name('logs'), '');
    channel.publish(name('logs'), 'ignored', Buffer.from('news'));
    for (const queue of queues) {
      const message = await get(channel, queue);
      equal([message.fields.exchange, text(message)], [name('logs'), 'news']);
    }
  });

// Binds one queue for each list of keys, publishes all, checks the keys each queue got.
const routed = (kind, sent, bindings, wanted) =>
  withChannel(async (channel) => {
    const exchange = name(kind);
    await channel.assertExchange(exchange, kind, { autoDelete: true, durable: false });
    const queues = [];
    for (const keys of bindings) {
      const queue = await serverQueue(channel);
      for (const key of keys) await channel.bindQueue(queue, exchange, key);
      queues.push(queue);
    }
    for (const key of sent) channel.publish(exchange, key, Buffer.from(`for ${key}`));
    const result = [];
    for (const queue of queues) {
      send(channel, queue, 'end'); // the end mark of each queue
      const got = await collect(channel, queue);
      await until(() => got.length && text(got[got.length - 1]) === 'end');
      const keys = got.slice(0, -1).map((message) => message.fields.routingKey);
      equal(got.slice(0, -1).map(text), keys.map((key) => `for ${key}`));
      result.push(keys);
    }
    equal(result, wanted);
  });

patterns.routing = () =>
  routed('direct', ['info', 'error', 'warning', 'debug'],
    [['error'], ['info', 'warning']], [['error'], ['info', 'warning']]);

patterns.topics = () => {
  const sent = ['quick.orange.rabbit', 'lazy.brown.fox', 'lazy', 'orange', 'a.orange.b.c'];
  return routed('topic', sent, [['*.orange.*'], ['*.*.rabbit', 'lazy.#'], ['#']],
    [sent.slice(0, 1), sent.slice(0, 3), sent]);
};

patterns['headers-exchange'] = () =>
  withChannel(async (channel) => {
    const exchange = name('headers');
    await channel.assertExchange(exchange, 'headers', { autoDelete: true, durable: false });
    const [both, either] = [await serverQueue(channel), await serverQueue(channel)];
    const match = { format: 'pdf', pages: 3 };
    await channel.bindQueue(both, exchange, '', { 'x-match': 'all', ...match });
    await channel.bindQueue(either, exchange, '', { 'x-match': 'any', ...match });
    [match, { format: 'pdf' }, { format: 'zip' }].forEach((headers, n) =>
      channel.publish(exchange, '', Buffer.from(`${n + 1}`), { headers }));
    equal([text(await get(channel, either)), text(await get(channel, either))], ['1', '2']);
    equal(text(await get(channel, both)), '1');
    equal([await count(channel, both), await count(channel, either)], [0, 0]);
  });

// The server answers on its own connection; the caller checks what it got.
const squares = (replyQueue) =>
  withChannel((server) => withChannel(async (channel) => {
    const { queue } = await server.assertQueue(name('rpc'), { exclusive: true });
    await server.consume(queue, (message) => {
      const { replyTo, correlationId } = message.properties;
      send(server, replyTo, `${Number(text(message)) ** 2}`, { correlationId });
      server.ack(message);
    });
    const replyTo = await replyQueue(channel);
    const got = await collect(channel, replyTo);
    for (const n of ['7', '12']) send(channel, queue, n, { replyTo, correlationId: `id${n}` });
    await until(() => got.length === 2);
    equal(got.map((m) => [m.properties.correlationId, text(m)]), [['id7', '49'], ['id12', '144']]);
  }));

patterns.rpc = () => squares(serverQueue);
patterns['direct-reply-to'] = () => squares(async () => 'amq.rabbitmq.reply-to');

patterns.confirms = () =>
  connected(async (connection) => {
    const channel = await open(connection, 'createConfirmChannel');
    const queue = await serverQueue(channel);
    for (let n = 0; n < 10; n++) {
      await new Promise((resolve, reject) =>
        channel.sendToQueue(queue, Buffer.from(`${n}`), {}, (e) => (e ? reject(e) : resolve())));
      equal(await count(channel, queue), n + 1);
    }
  });

patterns['confirms-batch'] = () =>
  connected(async (connection) => {
    const channel = await open(connection, 'createConfirmChannel');
    const queue = await serverQueue(channel);
    const acked = [];
    for (let n = 0; n < 200; n++) {
      channel.sendToQueue(queue, Buffer.from(`${n}`), {}, (error) => acked.push(error));
    }
    await channel.waitForConfirms();
    equal(acked, Array(200).fill(null));
    equal(await count(channel, queue), 200);
  });

patterns['mandatory-return'] = () =>
  connected(async (connection) => {
    const channel = await open(connection, 'createConfirmChannel');
    const back = [];
    channel.on('return', (message) => back.push(message));
    channel.publish('', name('nowhere'), Buffer.from('lost'), { mandatory: true });
    await channel.waitForConfirms();
    equal(back.length, 1, 'returned before the confirm');
    const { replyCode, replyText, routingKey } = back[0].fields;
    equal([replyCode, replyText, routingKey], [312, 'NO_ROUTE', name('nowhere')]);
    equal(text(back[0]), 'lost');
  });

patterns.get = () =>
  withChannel(async (channel) => {
    const queue = await serverQueue(channel);
    equal(await channel.get(queue), false);
    for (const body of ['one', 'two']) send(channel, queue, body);
    const first = await get(channel, queue);
    equal([first.fields.messageCount, first.fields.redelivered, text(first)], [1, false, 'one']);
    equal(text(await get(channel, queue)), 'two');
  });

patterns.tx = 'no tx methods in its API';

patterns['nack-requeue'] = () =>
  withChannel(async (channel) => {
    const queue = await serverQueue(channel);
    for (const body of ['back', 'drop']) send(channel, queue, body);
    const got = await collect(channel, queue, false);
    await until(() => got.length === 2);
    channel.nack(got[0], false, true);
    channel.reject(got[1], false);
    await until(() => got.length === 3);
    equal([got[2].fields.redelivered, text(got[2])], [true, 'back']);
    channel.ack(got[2]);
    await sleep(200);
    equal(got.length, 3);
  });

patterns['cancel-notify'] = () =>
  withChannel((channel) => withChannel(async (other) => {
    const { queue } = await channel.assertQueue(name('cancel'), { autoDelete: true });
    const got = await collect(channel, queue);
    await other.deleteQueue(queue);
    await until(() => got.length === 1, 'the cancellation');
    equal(got, [null]); // amqplib calls a cancelled consumer with null
    ok(await serverQueue(channel));
  }));

const notFound = (channel, queue) =>
  rejects(channel.checkQueue(queue), (error) => {
    equal(error.code, 404);
    return error.message.includes('NOT_FOUND') && error.message.includes(queue);
  });

patterns['missing-queue-404'] = () =>
  withChannel(async (channel, connection) => {
    await notFound(channel, name('missing'));
    const again = await open(connection);
    const queue = await serverQueue(again);
    send(again, queue, 'after');
    equal(text(await get(again, queue)), 'after');
  });

patterns['large-message'] = () =>
  withChannel(async (channel) => {
    const big = randomBytes(1 << 20);
    const queue = await serverQueue(channel);
    channel.sendToQueue(queue, big);
    ok((await get(channel, queue)).content.equals(big), '1 MiB body differs');
  });

patterns['headers-table'] = () =>
  withChannel(async (channel) => {
    const as = (type, value) => ({ '!': type, value });
    const headers = {
      bool: true, no: false, byte: 42, negative: -7, short: 300, int: 70000, long: 2 ** 40,
      float: as('float', 1.5), double: 0.1, uint16: as('uint16', 65535), text: 'héllo',
      uint8: as('uint8', 255), uint32: as('uint32', 4294967295), bytes: Buffer.from([0, 255]),
      decimal: as('decimal', { places: 2, digits: 314 }), when: as('timestamp', 1714979289),
      none: null, table: { inner: { deep: 1 }, x: 'y' }, array: [1, 'two', [true, null], { k: 3 }],
    };
    const properties = {
      contentType: 'a/b', contentEncoding: 'utf-8', deliveryMode: 1, priority: 3,
      correlationId: 'c', replyTo: 'r', expiration: '60000', messageId: 'm',
      timestamp: 1234567890, type: 't', userId: user, appId: 'app',
    };
    const queue = await serverQueue(channel);
    send(channel, queue, 'x', { ...properties, headers });
    const { headers: got, ...rest } = (await get(channel, queue)).properties;
    const wanted = Object.entries(headers).map(([key, value]) => {
      const plain = value && ['float', 'uint8', 'uint16', 'uint32'].includes(value['!']);
      return [key, plain ? value.value : value];
    });
    equal(Object.fromEntries(Object.entries(got)), Object.fromEntries(wanted));
    equal(rest, { ...properties, clusterId: undefined });
  });

patterns.heartbeat = () =>
  withChannel(async (channel, connection) => {
    equal(connection.connection.heartbeat, 1);
    const queue = await serverQueue(channel);
    await sleep(5000);
    send(channel, queue, 'alive');
    equal(text(await get(channel, queue)), 'alive');
  }, `${url}${url.includes('?') ? '&' : '?'}heartbeat=1`);

patterns.close = async () => {
  const connection = await amqp.connect(url);
  const closed = new Promise((resolve) => connection.on('close', resolve));
  const channel = await open(connection);
  const queue = await serverQueue(channel);
  await channel.close();
  await rejects(async () => channel.checkQueue(queue), /closed/i);
  await connection.close();
  equal(await closed, undefined); // an error would come along here
  await withChannel((other) => notFound(other, queue)); // exclusive: gone with its connection
};

async function run(title, pattern) {
  if (typeof pattern === 'string') return `not offered ${title}: ${pattern}`;
  const late = new AbortController();
  try {
    const limit = sleep(LIMIT, null, { signal: late.signal }).then(() => {
      throw new Error(`pattern not finished within ${LIMIT / 1000} s`);
    });
    await Promise.race([pattern(), limit]);
    return `ok ${title}`;
  } catch (error) {
    process.exitCode = 1;
    return `FAILED ${title}: ${`${error.message}`.replace(/\s+/g, ' ').slice(0, 600)}`;
  } finally {
    late.abort();
  }
}

(async () => {
  console.log(`version ${version}`);
  for (const [title, pattern] of Object.entries(patterns)) console.log(await run(title, pattern));
  process.exit();
})();
