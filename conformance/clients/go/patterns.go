// The tutorial patterns with Go's amqp091 client. Called as `PROGRAM URL PREFIX`.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"sort"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var patterns = []pattern{
	{title: "hello", run: hello},
	{title: "work-queue", run: workQueue},
	{title: "pubsub", run: pubsub},
	{title: "routing", run: routing},
	{title: "topics", run: topics},
	{title: "headers-exchange", run: headersExchange},
	{title: "rpc", run: func(t *test) { squares(t, serverQueue) }},
	{title: "direct-reply-to", run: func(t *test) {
		squares(t, func(*amqp.Channel) string { return "amq.rabbitmq.reply-to" })
	}},
	{title: "confirms", run: confirms},
	{title: "confirms-batch", run: confirmsBatch},
	{title: "mandatory-return", run: mandatoryReturn},
	{title: "get", run: basicGet},
	{title: "tx", run: tx},
	{title: "nack-requeue", run: nackRequeue},
	{title: "cancel-notify", run: cancelNotify},
	{title: "missing-queue-404", run: missingQueue},
	{title: "large-message", run: largeMessage},
	{title: "headers-table", run: headersTable},
	{title: "heartbeat", run: heartbeat},
	{title: "close", run: closing},
}

func publish(ch *amqp.Channel, exchange, key, body string) {
	publishing(ch, exchange, key, amqp.Publishing{Body: []byte(body)})
}

func publishing(ch *amqp.Channel, exchange, key string, message amqp.Publishing) {
	must(ch.PublishWithContext(context.Background(), exchange, key, false, false, message))
}

func hello(t *test) {
	ch := t.channel()
	queue := exclusiveQueue(ch, name("hello"))
	equal(queue, name("hello"))
	publishing(ch, "", queue, amqp.Publishing{ContentType: "text/plain", Body: []byte("Hello World!")})
	got := take(consume(ch, queue, true))
	equal([]string{got.Exchange, got.RoutingKey, got.ContentType}, []string{"", queue, "text/plain"})
	equal(string(got.Body), "Hello World!")
}

func workQueue(t *test) {
	ch, second := t.channel(), t.channel()
	queue, tasks := name("work"), []string{"0", "1", "2", "3", "4", "5"}
	_, err := ch.QueueDeclare(queue, true, false, false, false, nil)
	must(err)
	defer func() {
		_, err := ch.QueueDelete(queue, false, false, false)
		must(err)
	}()
	var socket net.Conn
	dial := func(network, address string) (c net.Conn, err error) {
		c, err = amqp.DefaultDial(5*time.Second)(network, address)
		socket = c
		return
	}
	dying, err := amqp.DialConfig(url, amqp.Config{Dial: dial})
	must(err)
	first := open(dying)
	must(first.Qos(1, 0, false))
	must(second.Qos(1, 0, false))
	firsts, seconds := consume(first, queue, false), consume(second, queue, false)
	for _, body := range tasks {
		publishing(ch, "", queue, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)})
	}
	held, done := take(firsts), []string{}
	check(!held.Redelivered, "redelivered too early")
	for len(done) < 5 {
		message := take(seconds)
		check(!message.Redelivered, "redelivered too early")
		must(message.Ack(false))
		done = append(done, string(message.Body))
	}
	nothing(firsts) // prefetch 1
	socket.Close()  // no close method: the worker just dies
	last := take(seconds)
	equal(last.Redelivered, true)
	equal(string(last.Body), string(held.Body))
	equal(last.DeliveryMode, amqp.Persistent)
	must(last.Ack(false))
	done = append(done, string(last.Body))
	sort.Strings(done)
	equal(done, tasks)
	must(second.Close())
	equal(count(ch, queue), 0)
}

func pubsub(t *test) {
	ch := t.channel()
	logs := exchange(ch, "logs", "fanout")
	queues := []string{serverQueue(ch), serverQueue(ch)}
	for _, queue := range queues {
		must(ch.QueueBind(queue, "", logs, false, nil))
	}
	publish(ch, logs, "ignored", "news")
	for _, queue := range queues {
		message := get(ch, queue)
		equal([]string{message.Exchange, string(message.Body)}, []string{logs, "news"})
	}
}

// routed binds one queue for each list of keys, publishes all, returns the keys each queue got.
func routed(t *test, kind string, bindings [][]string, sent []string) (result [][]string) {
	ch := t.channel()
	exchange := exchange(ch, kind, kind)
	queues := []string{}
	for _, keys := range bindings {
		queues = append(queues, serverQueue(ch))
		for _, key := range keys {
			must(ch.QueueBind(queues[len(queues)-1], key, exchange, false, nil))
		}
	}
	for _, key := range sent {
		publish(ch, exchange, key, "for "+key)
	}
	for _, queue := range queues {
		publish(ch, "", queue, "end") // the end mark of each queue
		messages, keys := consume(ch, queue, true), []string{}
		for message := take(messages); string(message.Body) != "end"; message = take(messages) {
			equal(string(message.Body), "for "+message.RoutingKey)
			keys = append(keys, message.RoutingKey)
		}
		result = append(result, keys)
	}
	return
}

func routing(t *test) {
	bindings := [][]string{{"error"}, {"info", "warning"}}
	equal(routed(t, "direct", bindings, []string{"info", "error", "warning", "debug"}), bindings)
}

func topics(t *test) {
	sent := []string{"quick.orange.rabbit", "lazy.brown.fox", "lazy", "orange", "a.orange.b.c"}
	got := routed(t, "topic", [][]string{{"*.orange.*"}, {"*.*.rabbit", "lazy.#"}, {"#"}}, sent)
	equal(got, [][]string{sent[:1], sent[:3], sent})
}

func headersExchange(t *test) {
	ch := t.channel()
	exchange := exchange(ch, "headers", "headers")
	both, either := serverQueue(ch), serverQueue(ch)
	for queue, match := range map[string]string{both: "all", either: "any"} {
		must(ch.QueueBind(queue, "", exchange, false,
			amqp.Table{"x-match": match, "format": "pdf", "pages": int32(3)}))
	}
	for n, headers := range []amqp.Table{
		{"format": "pdf", "pages": int32(3)}, {"format": "pdf"}, {"format": "zip"},
	} {
		publishing(ch, exchange, "", amqp.Publishing{Headers: headers, Body: []byte{byte('1' + n)}})
	}
	equal(string(get(ch, either).Body)+string(get(ch, either).Body), "12")
	equal(string(get(ch, both).Body), "1")
	equal(count(ch, both)+count(ch, either), 0)
}

// squares: the server answers on its own connection; the caller checks what it got.
func squares(t *test, replyQueue func(*amqp.Channel) string) {
	server, ch := t.channel(), t.channel()
	requests := exclusiveQueue(server, name("rpc"))
	serving := consume(server, requests, false)
	go func() {
		for request := range serving {
			n, _ := strconv.Atoi(string(request.Body))
			publishing(server, "", request.ReplyTo, amqp.Publishing{
				CorrelationId: request.CorrelationId, Body: []byte(strconv.Itoa(n * n))})
			must(request.Ack(false))
		}
	}()
	replyTo := replyQueue(ch)
	replies, got := consume(ch, replyTo, true), []string{}
	for _, n := range []string{"7", "12"} {
		publishing(ch, "", requests, amqp.Publishing{
			ReplyTo: replyTo, CorrelationId: "id" + n, Body: []byte(n)})
	}
	for len(got) < 2 {
		answer := take(replies)
		got = append(got, answer.CorrelationId+"="+string(answer.Body))
	}
	equal(got, []string{"id7=49", "id12=144"})
}

// Not by DeferredConfirmation: up to 1.7 its Wait() never returns if the confirm comes before
// PublishWithDeferredConfirm does (rabbitmq/amqp091-go issue 182).
func confirming(t *test) (*amqp.Channel, string, <-chan amqp.Confirmation) {
	ch := t.channel()
	must(ch.Confirm(false))
	return ch, serverQueue(ch), ch.NotifyPublish(make(chan amqp.Confirmation, 200))
}

func confirms(t *test) {
	ch, queue, notified := confirming(t)
	for n := 1; n <= 10; n++ {
		publish(ch, "", queue, strconv.Itoa(n))
		equal(<-notified, amqp.Confirmation{DeliveryTag: uint64(n), Ack: true})
		equal(count(ch, queue), n)
	}
}

func confirmsBatch(t *test) {
	ch, queue, notified := confirming(t)
	for n := 1; n <= 200; n++ {
		publish(ch, "", queue, strconv.Itoa(n))
	}
	for n := 1; n <= 200; n++ {
		equal(<-notified, amqp.Confirmation{DeliveryTag: uint64(n), Ack: true})
	}
	equal(count(ch, queue), 200)
}

func mandatoryReturn(t *test) {
	ch := t.channel()
	returned := ch.NotifyReturn(make(chan amqp.Return, 1))
	must(ch.PublishWithContext(context.Background(), "", name("nowhere"), true, false,
		amqp.Publishing{Body: []byte("lost")}))
	select {
	case back := <-returned:
		got := fmt.Sprintf("%d %s %s %s", back.ReplyCode, back.ReplyText, back.RoutingKey, back.Body)
		equal(got, fmt.Sprintf("312 NO_ROUTE %s lost", name("nowhere")))
	case <-time.After(8 * time.Second):
		check(false, "the message did not come back")
	}
}

func basicGet(t *test) {
	ch := t.channel()
	queue := serverQueue(ch)
	_, ok, err := ch.Get(queue, true)
	must(err)
	check(!ok, "a message from an empty queue")
	publish(ch, "", queue, "one")
	publish(ch, "", queue, "two")
	first := get(ch, queue)
	equal(fmt.Sprintf("%d %v %s", first.MessageCount, first.Redelivered, first.Body), "1 false one")
	equal(string(get(ch, queue).Body), "two")
}

func tx(t *test) {
	ch := t.channel()
	queue := serverQueue(ch)
	must(ch.Tx())
	publish(ch, "", queue, "rolled back")
	must(ch.TxRollback())
	publish(ch, "", queue, "committed")
	equal(count(ch, queue), 0)
	must(ch.TxCommit())
	message := get(ch, queue)
	equal(fmt.Sprintf("%d %s", message.MessageCount, message.Body), "0 committed")
}

func nackRequeue(t *test) {
	ch := t.channel()
	queue := serverQueue(ch)
	publish(ch, "", queue, "back")
	publish(ch, "", queue, "drop")
	messages := consume(ch, queue, false)
	back, drop := take(messages), take(messages)
	must(back.Nack(false, true))
	must(drop.Reject(false))
	again := take(messages)
	equal(fmt.Sprintf("%v %s", again.Redelivered, again.Body), "true back")
	must(again.Ack(false))
	nothing(messages)
}

func cancelNotify(t *test) {
	ch, other := t.channel(), t.channel()
	queue, err := ch.QueueDeclare(name("cancel"), false, true, false, false, nil)
	must(err)
	cancelled := ch.NotifyCancel(make(chan string, 1))
	messages, err := ch.Consume(queue.Name, "the-tag", true, false, false, false, nil)
	must(err)
	_, err = other.QueueDelete(queue.Name, false, false, false)
	must(err)
	select {
	case tag := <-cancelled:
		equal(tag, "the-tag")
	case <-time.After(8 * time.Second):
		check(false, "no notification")
	}
	_, more := <-messages
	check(!more, "the consumer goes on")
	serverQueue(ch)
}

func notFound(ch *amqp.Channel, queue string) {
	_, err := ch.QueueDeclarePassive(queue, false, false, false, false, nil)
	reason, ok := err.(*amqp.Error)
	check(ok && reason.Code == amqp.NotFound && reason.Server, "got %v", err)
	check(strings.Contains(reason.Reason, "NOT_FOUND") && strings.Contains(reason.Reason, queue),
		"text %s", reason.Reason)
}

func missingQueue(t *test) {
	connection := t.dial(url)
	ch := open(connection)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	notFound(ch, name("missing"))
	equal((<-closed).Code, amqp.NotFound)
	check(ch.IsClosed() && !connection.IsClosed(), "channel closed, connection open")
	again := open(connection)
	queue := serverQueue(again)
	publish(again, "", queue, "after")
	equal(string(get(again, queue).Body), "after")
}

func largeMessage(t *test) {
	ch, big := t.channel(), make([]byte, 1<<20)
	_, err := rand.Read(big)
	must(err)
	queue := serverQueue(ch)
	publishing(ch, "", queue, amqp.Publishing{Body: big})
	check(bytes.Equal(get(ch, queue).Body, big), "1 MiB body differs")
}

func headersTable(t *test) {
	ch, when := t.channel(), time.Unix(1714979289, 0)
	headers := amqp.Table{
		"bool": true, "no": false, "uint8": byte(255), "int8": int8(-7), "int16": int16(-300),
		"int32": int32(70000), "int64": int64(1) << 40, "float": float32(1.5), "double": 0.1,
		"decimal": amqp.Decimal{Scale: 2, Value: 314}, "text": "héllo", "bytes": []byte{0, 255},
		"when": when, "none": nil, "table": amqp.Table{"inner": amqp.Table{"deep": int32(1)}},
		"array": []interface{}{int32(1), "two", []interface{}{true, nil}, amqp.Table{"k": int64(3)}},
	}
	uri, err := amqp.ParseURI(url)
	must(err)
	sent := amqp.Publishing{
		Headers: headers, ContentType: "a/b", ContentEncoding: "utf-8", DeliveryMode: 1, Priority: 3,
		CorrelationId: "c", ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: when,
		Type: "t", UserId: uri.Username, AppId: "app", Body: []byte("x"),
	}
	queue := serverQueue(ch)
	publishing(ch, "", queue, sent)
	got := get(ch, queue)
	for key, value := range headers {
		equal(got.Headers[key], value)
	}
	equal(amqp.Publishing{
		Headers: got.Headers, ContentType: got.ContentType, ContentEncoding: got.ContentEncoding,
		DeliveryMode: got.DeliveryMode, Priority: got.Priority, CorrelationId: got.CorrelationId,
		ReplyTo: got.ReplyTo, Expiration: got.Expiration, MessageId: got.MessageId,
		Timestamp: got.Timestamp, Type: got.Type, UserId: got.UserId, AppId: got.AppId, Body: got.Body,
	}, sent)
}

func heartbeat(t *test) {
	connection, err := amqp.DialConfig(url, amqp.Config{Heartbeat: time.Second})
	must(err)
	t.connections = append(t.connections, connection)
	equal(connection.Config.Heartbeat, time.Second)
	ch := open(connection)
	queue := serverQueue(ch)
	time.Sleep(5 * time.Second)
	publish(ch, "", queue, "alive")
	equal(string(get(ch, queue).Body), "alive")
}

func closing(t *test) {
	connection := t.dial(url)
	ch := open(connection)
	queue, closed := serverQueue(ch), connection.NotifyClose(make(chan *amqp.Error, 1))
	must(ch.Close())
	check(ch.IsClosed() && !connection.IsClosed(), "channel closed, connection open")
	must(connection.Close())
	equal(<-closed, (*amqp.Error)(nil))
	notFound(t.channel(), queue) // the exclusive queue went with its connection
}
