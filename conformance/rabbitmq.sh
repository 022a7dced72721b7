#!/bin/sh
# Starts, stops or shows the reference broker: a private RabbitMQ on loopback that shares nothing
# with a system one (own node name, ports, epmd, cookie, data and logs under one directory).
#
#   rabbitmq.sh start | stop | status | ctl ARGUMENTS...
#
# RABBITMQ_NODE_PORT chooses the port (5673), LEVERET_RABBITMQ_DIR the directory. Brokers on
# several ports can run side by side when each has its own directory and distribution ports.
set -eu

base=${LEVERET_RABBITMQ_DIR:-${TMPDIR:-/tmp}/leveret-rabbitmq}
bin=/usr/lib/rabbitmq/bin

export RABBITMQ_NODE_PORT="${RABBITMQ_NODE_PORT:-5673}"
export RABBITMQ_DIST_PORT="${RABBITMQ_DIST_PORT:-$((RABBITMQ_NODE_PORT + 20000))}"
export ERL_EPMD_PORT="${ERL_EPMD_PORT:-$((RABBITMQ_NODE_PORT + 10000))}"
export ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_NODENAME="${RABBITMQ_NODENAME:-leveret-reference-$RABBITMQ_NODE_PORT@localhost}"
export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
export RABBITMQ_MNESIA_BASE="$base/mnesia"
export RABBITMQ_LOG_BASE="$base/log"
export RABBITMQ_ENABLED_PLUGINS_FILE="$base/enabled_plugins"
export RABBITMQ_CONF_ENV_FILE="$base/rabbitmq-env.conf"
export RABBITMQ_CONFIG_FILE="$base/rabbitmq.conf"
export RABBITMQ_ADVANCED_CONFIG_FILE="$base/advanced.config"
export RABBITMQ_GENERATED_CONFIG_DIR="$base/generated"
export RABBITMQ_SCHEMA_DIR="$base/schema"
export RABBITMQ_PID_FILE="$base/rabbitmq.pid"
# Busy-waiting schedulers would take the cores from the broker that is compared with this one.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none \
-kernel inet_dist_use_interface {127,0,0,1}"
export RABBITMQ_CTL_ERL_ARGS="+sbwt none"
export HOME="$base"
export LC_ALL=C.UTF-8

is_running() {
    [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null
}

install_when_missing() {
    [ -x "$bin/rabbitmq-server" ] && return
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends rabbitmq-server
}

# The exchange types that the suite has cases for; all are part of Debian's package.
enabled_plugins() {
    echo '[rabbitmq_consistent_hash_exchange, rabbitmq_random_exchange,'
    echo ' rabbitmq_recent_history_exchange, rabbitmq_sharding].'
}

start_epmd() {
    is_running "$base/epmd.pid" && return
    epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 >"$base/log/epmd.log" 2>&1 &
    echo $! >"$base/epmd.pid"
}

# What the suite's permission cases expect: a user who may do little, and a vhost that is closed
# to everybody.
add_permissions() {
    "$bin/rabbitmqctl" -q list_users | grep -q '^restricted' && return
    "$bin/rabbitmqctl" -q add_vhost closed
    "$bin/rabbitmqctl" -q add_user restricted restricted
    "$bin/rabbitmqctl" -q set_permissions restricted '^own-' '^(own|write)-' '^(own|read)-'
}

start() {
    if is_running "$RABBITMQ_PID_FILE"; then
        status
        return
    fi
    install_when_missing
    mkdir -p "$base/mnesia" "$base/log" "$base/generated" "$base/schema"
    : >"$RABBITMQ_CONF_ENV_FILE"
    echo 'cluster_name = leveret-reference' >"$RABBITMQ_CONFIG_FILE"
    echo '[].' >"$RABBITMQ_ADVANCED_CONFIG_FILE"
    enabled_plugins >"$RABBITMQ_ENABLED_PLUGINS_FILE"
    rm -f "$RABBITMQ_PID_FILE"
    start_epmd
    (cd "$base" && exec setsid "$bin/rabbitmq-server" >"$base/log/console.log" 2>&1 </dev/null) &
    if ! "$bin/rabbitmqctl" -q wait --timeout 90 "$RABBITMQ_PID_FILE"; then
        echo "the broker did not start, see $base/log" >&2
        exit 1
    fi
    "$bin/rabbitmqctl" -q await_online_nodes 1 --timeout 60
    add_permissions
    status
}

stop_one() {
    is_running "$1" || return 0
    pid=$(cat "$1")
    kill -TERM "$pid"
    waited=0
    while kill -0 "$pid" 2>/dev/null && [ "$waited" -lt 30 ]; do
        sleep 1
        waited=$((waited + 1))
    done
    kill -KILL "$pid" 2>/dev/null || true
    rm -f "$1"
}

stop() {
    stop_one "$RABBITMQ_PID_FILE"
    stop_one "$base/epmd.pid"
}

status() {
    if is_running "$RABBITMQ_PID_FILE"; then
        echo "running: pid $(cat "$RABBITMQ_PID_FILE"), port $RABBITMQ_NODE_PORT"
    else
        echo "not running"
        return 1
    fi
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    status) status ;;
    ctl) shift && "$bin/rabbitmqctl" "$@" ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
