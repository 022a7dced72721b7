#!/usr/bin/env bash
# The tutorial patterns as far as the command-line tools of rabbitmq-c go: amqp-declare-queue,
# amqp-publish, amqp-get, amqp-consume, amqp-delete-queue. Called as `PROGRAM URL PREFIX`.
#
# They cannot declare exchanges, so the predefined ones serve, under keys that start with PREFIX.

url=$1 prefix=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0

run() { # TOOL ARGUMENTS...: no tool may take longer than the time limit
    timeout 10 "amqp-$1" -u "$url" "${@:2}"
}

consumer() { # ARGUMENTS...: to be started in the background; the job is the tool's own process
    exec timeout 10 amqp-consume -u "$url" "$@"
}

equal() { # GOT EXPECTED WHAT
    [ "$1" = "$2" ] && return
    echo "${3:-value}: got '${1:0:200}', expected '${2:0:200}'" >&2
    return 1
}

until_true() { # COMMAND...
    local end=$((SECONDS + 8))
    while ((SECONDS < end)); do
        "$@" && return
        sleep 0.04
    done
    echo "not seen within 8 s: $*" >&2
    return 1
}

holds() { grep -qxF -- "$2" "$1"; } # FILE LINE

declared() { # NAME [OPTION]: declares the queue and has it deleted when the pattern ends
    equal "$(run declare-queue -q "$1" "${@:2}")" "$1" 'declared queue'
    trap 'run delete-queue -q "$queue" >/dev/null' EXIT
}

subscribed() { # FILE EXCHANGE KEY PROBE: an exclusive server-named queue bound to the key
    consumer -x -e "$2" -r "$3" -- sh -c 'cat; echo' >"$1" 2>"$1.name" &
    until_true probed "$1" "$2" "$4"
    grep -q 'amq\.gen' "$1.name" # the tool tells the name the broker gave
}

probed() { # the tool does not tell when it is bound, so messages are sent until one arrives
    holds "$1" probe && return
    run publish -e "$2" -r "$3" -b probe
    sleep 0.1
    holds "$1" probe
}

received() { # FILE: what came, without the probes, in one line
    until_true holds "$1" end
    grep -vxF -e probe -e end -- "$1" | tr '\n' ' '
}

hello() {
    queue=$prefix.hello
    declared "$queue"
    run publish -r "$queue" -C text/plain -H 'greeting: yes' -b 'Hello World!'
    equal "$(run get -q "$queue")" 'Hello World!'
}

work_queue() {
    queue=$prefix.work
    declared "$queue" -d
    printf 'task 0\ntask 1\ntask 2\ntask 3\n' | run publish -r "$queue" -p -l
    # The first worker takes one task and hangs with it.
    consumer -q "$queue" -p 1 -- sh -c 'cat >"$0/held"; exec sleep 20' "$dir" &
    until_true test -s "$dir/held"
    consumer -q "$queue" -p 1 -- sh -c 'cat; echo' >"$dir/done" &
    until_true holds "$dir/done" 'task 3'
    sleep 0.3
    equal "$(cat "$dir/held" | tr -d '\n')" 'task 0' 'the task of the first worker'
    equal "$(grep -c task "$dir/done")" 3 'tasks of the second worker'
    kill %1 # it dies without an ack
    until_true holds "$dir/done" 'task 0'
    sleep 0.3 # the ack follows the output
    kill %2
    wait || true
    equal "$(grep task "$dir/done" | sort | tr '\n' ' ')" 'task 0 task 1 task 2 task 3 '
    code=0
    run get -q "$queue" || code=$?
    equal "$code" 2 'exit status of a get on the emptied queue'
}

# Not amq.fanout, which would reach everybody's queues on a shared broker: one key, two queues.
pubsub() {
    key=$prefix.news
    subscribed "$dir/one" amq.topic "$key" "$key"
    subscribed "$dir/two" amq.topic "$key" "$key"
    for body in news end; do run publish -e amq.topic -r "$key" -b "$body"; done
    equal "$(received "$dir/one")" 'news '
    equal "$(received "$dir/two")" 'news '
    kill %1 %2
}

routing() {
    subscribed "$dir/errors" amq.direct "$prefix.error" "$prefix.error"
    subscribed "$dir/infos" amq.direct "$prefix.info" "$prefix.info"
    for key in info error debug; do run publish -e amq.direct -r "$prefix.$key" -b "$key"; done
    for key in info error; do run publish -e amq.direct -r "$prefix.$key" -b end; done
    equal "$(received "$dir/errors")" 'error '
    equal "$(received "$dir/infos")" 'info '
    kill %1 %2
}

topics() {
    subscribed "$dir/orange" amq.topic "$prefix.*.orange.*" "$prefix.x.orange.x"
    subscribed "$dir/all" amq.topic "$prefix.#" "$prefix"
    for key in quick.orange.rabbit lazy.brown.fox a.orange.b.c; do
        run publish -e amq.topic -r "$prefix.$key" -b "$key"
    done
    run publish -e amq.topic -r "$prefix.x.orange.x" -b end
    equal "$(received "$dir/orange")" 'quick.orange.rabbit '
    equal "$(received "$dir/all")" 'quick.orange.rabbit lazy.brown.fox a.orange.b.c '
    kill %1 %2
}

get() {
    queue=$prefix.get code=0
    declared "$queue"
    run get -q "$queue" || code=$?
    equal "$code" 2 'exit status of a get on an empty queue'
    for body in one two; do run publish -r "$queue" -b "$body"; done
    equal "$(run get -q "$queue") $(run get -q "$queue")" 'one two'
}

missing_queue() {
    queue=$prefix.after code=0
    text=$(run get -q "$prefix.missing" 2>&1) || code=$?
    equal "$code" 1 'exit status'
    [[ $text == *'404'*'NOT_FOUND'*"$prefix.missing"* ]] || equal "$text" '404 NOT_FOUND'
    declared "$queue"
    run publish -r "$queue" -b after
    equal "$(run get -q "$queue")" after
}

large_message() {
    queue=$prefix.large
    declared "$queue"
    head -c 1048576 /dev/urandom >"$dir/sent"
    run publish -r "$queue" <"$dir/sent"
    run get -q "$queue" >"$dir/got"
    cmp "$dir/sent" "$dir/got"
}

heartbeat() {
    queue=$prefix.heartbeat
    declared "$queue"
    consumer --heartbeat=1 -q "$queue" -c 1 cat >"$dir/alive" &
    sleep 5
    kill -0 %1
    run publish -r "$queue" -b alive
    wait %1
    equal "$(cat "$dir/alive")" alive
}

close() {
    key=$prefix.close
    consumer -x -e amq.topic -r "$key" -c 1 -- cat >"$dir/last" 2>"$dir/text" &
    for _ in $(seq 80); do
        run publish -e amq.topic -r "$key" -b last
        [ -s "$dir/last" ] && break
        sleep 0.1
    done
    wait %1 # exit status 0: channel and connection were closed in good order
    exclusive=$(grep -o 'amq\.gen[^ ]*' "$dir/text")
    code=0
    text=$(run get -q "$exclusive" 2>&1) || code=$? # went with its connection
    [[ $code == 1 && $text == *404* ]] || equal "$text" '404 NOT_FOUND'
}

pattern() { # TITLE FUNCTION
    reason=$(set -eu; "$2" 2>&1 >/dev/null)
    if [ $? = 0 ]; then
        echo "ok $1"
    else
        status=1
        echo "FAILED $1: $(tr '\n' ' ' <<<"${reason:-a command failed}")"
    fi
    rm -f "$dir"/*
}

not_offered() { echo "not offered $1: $2"; }

echo "version $(dpkg-query -W -f '${Version}' amqp-tools 2>/dev/null || echo unknown)"
pattern hello hello
pattern work-queue work_queue
pattern pubsub pubsub
pattern routing routing
pattern topics topics
not_offered headers-exchange 'no binding arguments'
not_offered rpc 'amqp-consume does not show reply-to'
not_offered direct-reply-to 'amqp-consume does not show reply-to'
not_offered confirms 'no confirm mode'
not_offered confirms-batch 'no confirm mode'
not_offered mandatory-return 'no mandatory flag'
pattern get get
not_offered tx 'no transactions'
not_offered nack-requeue 'amqp-consume does not reject'
not_offered cancel-notify 'amqp-consume does not ask for notifications'
pattern missing-queue-404 missing_queue
pattern large-message large_message
not_offered headers-table 'no tool shows the headers'
pattern heartbeat heartbeat
pattern close close
exit $status
