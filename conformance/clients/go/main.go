package main

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const limit = 20 * time.Second // for one pattern

var (
	url, prefix = os.Args[1], os.Args[2]
	version     = "unknown" // of the client; set by the linker
)

// A test is one running pattern: it knows what to close when the pattern is over.
type test struct{ connections []*amqp.Connection }

type pattern struct {
	title string
	run   func(*test) // nil: not offered
	why   string
}

func name(suffix string) string { return prefix + "." + suffix }

func (t *test) dial(address string) *amqp.Connection {
	connection, err := amqp.Dial(address)
	must(err)
	t.connections = append(t.connections, connection)
	return connection
}

// channel opens a channel on a connection of its own.
func (t *test) channel() *amqp.Channel { return open(t.dial(url)) }

func open(connection *amqp.Connection) *amqp.Channel {
	ch, err := connection.Channel()
	must(err)
	return ch
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(condition bool, format string, values ...interface{}) {
	if !condition {
		panic(fmt.Errorf(format, values...))
	}
}

func equal(got, want interface{}) {
	check(reflect.DeepEqual(got, want), "got %#v, expected %#v", got, want)
}

// take receives the next message, and no other way than within the time a broker may need.
func take(messages <-chan amqp.Delivery) amqp.Delivery {
	select {
	case message, ok := <-messages:
		check(ok, "the consumer's channel was closed")
		return message
	case <-time.After(8 * time.Second):
		panic(fmt.Errorf("no message within 8 s"))
	}
}

func nothing(messages <-chan amqp.Delivery) {
	select {
	case message := <-messages:
		panic(fmt.Errorf("a further message: %q", message.Body))
	case <-time.After(300 * time.Millisecond):
	}
}

func get(ch *amqp.Channel, queue string) amqp.Delivery {
	for n := 0; n < 200; n++ {
		message, ok, err := ch.Get(queue, true)
		must(err)
		if ok {
			return message
		}
		time.Sleep(20 * time.Millisecond)
	}
	panic(fmt.Errorf("%s stays empty", queue))
}

func count(ch *amqp.Channel, queue string) int {
	state, err := ch.QueueDeclarePassive(queue, false, false, false, false, nil)
	must(err)
	return state.Messages
}

func serverQueue(ch *amqp.Channel) string {
	queue := exclusiveQueue(ch, "")
	check(strings.HasPrefix(queue, "amq.gen"), "name %s", queue)
	return queue
}

func exclusiveQueue(ch *amqp.Channel, queue string) string {
	state, err := ch.QueueDeclare(queue, false, false, true, false, nil)
	must(err)
	return state.Name
}

func exchange(ch *amqp.Channel, suffix, kind string) string {
	must(ch.ExchangeDeclare(name(suffix), kind, false, true, false, false, nil))
	return name(suffix)
}

func consume(ch *amqp.Channel, queue string, autoAck bool) <-chan amqp.Delivery {
	messages, err := ch.Consume(queue, "", autoAck, false, false, false, nil)
	must(err)
	return messages
}

func (p pattern) result() (line string) {
	if p.run == nil {
		return fmt.Sprintf("not offered %s: %s", p.title, p.why)
	}
	t, done := &test{}, make(chan error, 1)
	go func() {
		defer func() {
			if reason := recover(); reason != nil {
				done <- fmt.Errorf("%v", reason)
			} else {
				done <- nil
			}
		}()
		p.run(t)
	}()
	var err error
	select {
	case err = <-done:
	case <-time.After(limit):
		err = fmt.Errorf("pattern not finished within %v", limit)
	}
	for _, connection := range t.connections {
		connection.Close()
	}
	if err != nil {
		return fmt.Sprintf("FAILED %s: %s", p.title, strings.Join(strings.Fields(err.Error()), " "))
	}
	return "ok " + p.title
}

func main() {
	fmt.Println("version", version)
	status := 0
	for _, p := range patterns {
		line := p.result()
		if strings.HasPrefix(line, "FAILED") {
			status = 1
		}
		fmt.Println(line)
	}
	os.Exit(status)
}
