# frozen_string_literal: true

# The tutorial patterns with bunny. Called as `PROGRAM URL PREFIX`.
require 'bunny'
require 'securerandom'
require 'timeout'
require 'uri'

ADDRESS, PREFIX = ARGV
USER = URI.decode_www_form_component(URI.parse(ADDRESS).user || 'guest')
LIMIT = 20 # seconds for one pattern
PATTERNS = {} # rubocop:disable Style/MutableConstant

def pattern(title, &block) = PATTERNS[title] = block
def not_offered(title, why) = PATTERNS[title] = why
def name(suffix) = "#{PREFIX}.#{suffix}"

def equal(got, want, what = 'value')
  raise "#{what}: got #{got.inspect[0, 300]}, expected #{want.inspect[0, 300]}" unless got == want
end

def true!(condition, what) = condition || raise(what)

def connect(**options)
  connection = Bunny.new(ADDRESS, automatically_recover: false, log_level: :fatal, **options)
  connection.start
end

# Yields a channel on a connection of its own, and closes that connection whatever happens.
def channel(**options)
  connection = connect(**options)
  yield connection.create_channel
ensure
  connection.close if connection&.open?
end

def server_queue(chan)
  queue = chan.queue('', exclusive: true)
  true!(queue.name.start_with?('amq.gen'), "name #{queue.name}")
  queue
end

def wait_until(what = 'the expected messages')
  400.times do
    return if yield

    sleep 0.02
  end
  raise "#{what} not seen within 8 s"
end

# Each message is [delivery info, properties, body].
def collect(queue, manual_ack: false)
  got = []
  queue.subscribe(manual_ack: manual_ack) { |*message| got << message }
  got
end

def get(queue)
  message = nil
  wait_until { (message = queue.pop).first }
  message
end

def send_to(chan, queue, body, **properties)
  chan.default_exchange.publish(body, routing_key: queue, **properties)
end

pattern 'hello' do
  channel do |chan|
    queue = chan.queue(name('hello'), exclusive: true)
    send_to(chan, queue.name, 'Hello World!', content_type: 'text/plain')
    got = collect(queue)
    wait_until { got.any? }
    info, properties, body = got.first
    equal([info.exchange, info.routing_key], ['', name('hello')], 'exchange and key')
    equal([body, properties.content_type], ['Hello World!', 'text/plain'])
  end
end

pattern 'work-queue' do
  tasks = (0..5).map { |n| "task #{n}" }
  channel do |chan|
    queue = chan.queue(name('work'), durable: true)
    channel do |second|
      dying = connect
      first = dying.create_channel
      [first, second].each { |worker| worker.prefetch(1) }
      held = collect(first.queue(queue.name, durable: true), manual_ack: true)
      done = []
      second.queue(queue.name, durable: true).subscribe(manual_ack: true) do |*message|
        done << message
        second.ack(message.first.delivery_tag)
      end
      tasks.each { |body| send_to(chan, queue.name, body, persistent: true) }
      wait_until { held.any? && done.size == 5 }
      sleep 0.3
      equal(held.size, 1, 'messages of the worker with prefetch 1')
      true!((held + done).none? { |info, _, _| info.redelivered? }, 'redelivered too early')
      dying.close
      wait_until { done.size == 6 }
      info, properties, body = done.last
      equal([info.redelivered?, body], [true, held.first.last], 'redelivered message')
      equal(properties.delivery_mode, 2, 'delivery mode')
      equal(done.map(&:last).sort, tasks, 'tasks done')
    end
    equal(queue.message_count, 0, 'left over')
  ensure
    queue&.delete
  end
end

pattern 'pubsub' do
  channel do |chan|
    logs = chan.fanout(name('logs'), auto_delete: true)
    queues = Array.new(2) { server_queue(chan).bind(logs) }
    logs.publish('news', routing_key: 'ignored')
    queues.each do |queue|
      info, _, body = get(queue)
      equal([info.exchange, body], [name('logs'), 'news'])
    end
  end
end

# Binds one queue for each list of keys, publishes all, returns the keys each queue got.
def routed(kind, bindings, sent)
  channel do |chan|
    exchange = chan.exchange(name(kind), type: kind, auto_delete: true)
    queues = bindings.map do |keys|
      queue = server_queue(chan)
      keys.each { |key| queue.bind(exchange, routing_key: key) }
      queue
    end
    sent.each { |key| exchange.publish("for #{key}", routing_key: key) }
    queues.map do |queue|
      send_to(chan, queue.name, 'end') # the end mark of each queue
      got = collect(queue)
      wait_until { got.any? && got.last.last == 'end' }
      keys = got[0..-2].map { |info, _, _| info.routing_key }
      equal(got[0..-2].map(&:last), keys.map { |key| "for #{key}" }, 'bodies')
      keys
    end
  end
end

pattern 'routing' do
  bindings = [%w[error], %w[info warning]]
  equal(routed('direct', bindings, %w[info error warning debug]), bindings)
end

pattern 'topics' do
  sent = %w[quick.orange.rabbit lazy.brown.fox lazy orange a.orange.b.c]
  got = routed('topic', [%w[*.orange.*], %w[*.*.rabbit lazy.#], %w[#]], sent)
  equal(got, [sent[0, 1], sent[0, 3], sent])
end

pattern 'headers-exchange' do
  channel do |chan|
    exchange = chan.headers(name('headers'), auto_delete: true)
    match = { 'format' => 'pdf', 'pages' => 3 }
    both, either = %w[all any].map do |kind|
      server_queue(chan).bind(exchange, arguments: { 'x-match' => kind, **match })
    end
    [match, { 'format' => 'pdf' }, { 'format' => 'zip' }].each.with_index(1) do |headers, n|
      exchange.publish(n.to_s, headers: headers)
    end
    equal([get(either).last, get(either).last], %w[1 2], 'any')
    equal(get(both).last, '1', 'all')
    equal([both.message_count, either.message_count], [0, 0], 'left over')
  end
end

# The server answers on its own connection; the caller checks what it got.
def squares
  channel do |server|
    channel do |chan|
      requests = server.queue(name('rpc'), exclusive: true)
      requests.subscribe do |_, properties, body|
        send_to(server, properties.reply_to, (body.to_i**2).to_s,
                correlation_id: properties.correlation_id)
      end
      replies = yield chan
      got = []
      chan.basic_consume(replies, '', true) { |*message| got << message }
      %w[7 12].each do |n|
        send_to(chan, requests.name, n, reply_to: replies, correlation_id: "id#{n}")
      end
      wait_until { got.size == 2 }
      equal(got.map { |_, properties, body| [properties.correlation_id, body] },
            [%w[id7 49], %w[id12 144]])
    end
  end
end

pattern('rpc') { squares { |chan| server_queue(chan).name } }
pattern('direct-reply-to') { squares { 'amq.rabbitmq.reply-to' } }

pattern 'confirms' do
  channel do |chan|
    queue = server_queue(chan)
    chan.confirm_select
    (1..10).each do |n|
      send_to(chan, queue.name, n.to_s)
      true!(chan.wait_for_confirms, 'nacked')
      equal(queue.message_count, n, 'confirmed')
    end
  end
end

pattern 'confirms-batch' do
  channel do |chan|
    queue = server_queue(chan)
    acked = []
    chan.confirm_select(lambda do |tag, multiple, nack|
      acked.concat(((multiple ? 1 : tag)..tag).to_a) unless nack
    end)
    200.times { |n| send_to(chan, queue.name, n.to_s) }
    true!(chan.wait_for_confirms, 'nacked')
    equal([chan.unconfirmed_set.size, chan.nacked_set.size], [0, 0], 'unconfirmed, nacked')
    equal(acked.uniq.sort, (1..200).to_a, 'confirmed tags')
    equal(queue.message_count, 200)
  end
end

pattern 'mandatory-return' do
  channel do |chan|
    exchange = chan.direct(name('lonely'), auto_delete: true)
    server_queue(chan).bind(exchange, routing_key: 'somewhere') # its end takes the exchange along
    back = []
    exchange.on_return { |*returned| back << returned }
    exchange.publish('lost', routing_key: 'nowhere', mandatory: true)
    wait_until { back.any? }
    info, _, body = back.first
    equal([info.reply_code, info.reply_text], [312, 'NO_ROUTE'])
    equal([info.exchange, info.routing_key, body], [name('lonely'), 'nowhere', 'lost'])
  end
end

pattern 'get' do
  channel do |chan|
    queue = server_queue(chan)
    equal(queue.pop, [nil, nil, nil], 'empty queue')
    %w[one two].each { |body| send_to(chan, queue.name, body) }
    info, _, body = get(queue)
    equal([queue.message_count, info.redelivered?, body], [1, false, 'one'])
    equal(get(queue).last, 'two')
  end
end

pattern 'tx' do
  channel do |chan|
    queue = server_queue(chan)
    chan.tx_select
    send_to(chan, queue.name, 'rolled back')
    chan.tx_rollback
    send_to(chan, queue.name, 'committed')
    equal(queue.message_count, 0, 'before commit')
    chan.tx_commit
    equal([get(queue).last, queue.message_count], ['committed', 0])
  end
end

pattern 'nack-requeue' do
  channel do |chan|
    queue = server_queue(chan)
    %w[back drop].each { |body| send_to(chan, queue.name, body) }
    got = collect(queue, manual_ack: true)
    wait_until { got.size == 2 }
    chan.nack(got[0].first.delivery_tag, false, true)
    chan.reject(got[1].first.delivery_tag, false)
    wait_until { got.size == 3 }
    info, _, body = got.last
    equal([info.redelivered?, body], [true, 'back'], 'after nack')
    chan.ack(info.delivery_tag)
    sleep 0.2
    equal(got.size, 3, 'deliveries')
  end
end

pattern 'cancel-notify' do
  channel do |chan|
    channel do |other|
      cancelled = []
      queue = chan.queue(name('cancel'), auto_delete: true)
      queue.subscribe(consumer_tag: 'the-tag',
                      on_cancellation: ->(method) { cancelled << method.consumer_tag }) {}
      other.queue_delete(queue.name)
      wait_until('the cancellation') { cancelled.any? }
      equal(cancelled, ['the-tag'])
      server_queue(chan)
    end
  end
end

def not_found(chan, queue)
  chan.queue(queue, passive: true)
rescue Bunny::NotFound => e
  close = e.channel_close
  equal(close.reply_code, 404)
  true!(close.reply_text.include?('NOT_FOUND') && close.reply_text.include?(queue),
        "text #{close.reply_text}")
else
  raise 'no 404'
end

pattern 'missing-queue-404' do
  channel do |chan|
    not_found(chan, name('missing'))
    equal([chan.open?, chan.connection.open?], [false, true], 'channel and connection open')
    again = chan.connection.create_channel
    queue = server_queue(again)
    send_to(again, queue.name, 'after')
    equal(get(queue).last, 'after')
  end
end

pattern 'large-message' do
  channel do |chan|
    big = SecureRandom.random_bytes(1 << 20)
    queue = server_queue(chan)
    send_to(chan, queue.name, big)
    true!(get(queue).last.b == big, '1 MiB body differs')
  end
end

pattern 'headers-table' do
  headers = {
    'bool' => true, 'no' => false, 'int' => 42, 'negative' => -7, 'long' => 1 << 40,
    'double' => 0.1, 'text' => 'héllo', 'when' => Time.at(1_714_979_289), 'none' => nil,
    'table' => { 'inner' => { 'deep' => 1 }, 'x' => 'y' },
    'array' => [1, 'two', [true, 2.5], { 'k' => 3 }]
  }
  properties = {
    content_type: 'a/b', content_encoding: 'utf-8', priority: 3, correlation_id: 'c',
    reply_to: 'r', expiration: '60000', message_id: 'm', timestamp: 1_234_567_890,
    type: 't', user_id: USER, app_id: 'app'
  }
  channel do |chan|
    queue = server_queue(chan)
    send_to(chan, queue.name, 'x', headers: headers, persistent: false, **properties)
    _, got, = get(queue)
    text = got.headers['text'].dup.force_encoding('UTF-8')
    equal(got.headers.merge('text' => text), headers, 'headers')
    back = got.to_hash.slice(*properties.keys)
    equal(back.merge(timestamp: back[:timestamp].to_i), properties, 'properties')
    equal(got.delivery_mode, 1, 'delivery mode')
  end
end

pattern 'heartbeat' do
  channel(heartbeat: 1) do |chan|
    equal(chan.connection.heartbeat, 1, 'negotiated heartbeat')
    queue = server_queue(chan)
    sleep 5
    send_to(chan, queue.name, 'alive')
    equal(get(queue).last, 'alive')
  end
end

pattern 'close' do
  connection = connect
  chan = connection.create_channel
  queue = server_queue(chan).name
  chan.close
  equal([chan.open?, connection.open?], [false, true], 'channel and connection open')
  connection.close
  equal(connection.open?, false, 'connection open')
  channel { |other| not_found(other, queue) } # the exclusive queue went with its connection
end

def result(title, block)
  return "not offered #{title}: #{block}" if block.is_a?(String)

  Timeout.timeout(LIMIT, nil, "pattern not finished within #{LIMIT} s", &block)
  "ok #{title}"
rescue Exception => e # rubocop:disable Lint/RescueException -- bunny's errors are no StandardError
  "FAILED #{title}: #{e.class}: #{e.message}".gsub(/\s+/, ' ')
end

$stdout.sync = true
puts "version #{Bunny::VERSION}"
lines = PATTERNS.map { |title, block| result(title, block).tap { |line| puts line } }
exit(lines.none? { |line| line.start_with?('FAILED') })
