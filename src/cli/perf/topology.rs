//! Declares what a run needs (exchange, queues, bindings) and removes it afterwards.
use super::connection::Connection;
use super::error::{PerfError, Result};
use super::frame::{
    EXCHANGE_DECLARE_OK, EXCHANGE_DELETE_OK, QUEUE_BIND_OK, QUEUE_DECLARE_OK, QUEUE_DELETE_OK,
    QUEUE_PURGE_OK, u32_at,
};
use super::plan::Plan;
use super::table::Table;
use super::wire;

/// Requests sent before their replies are read.
const PIPELINED_MAX: usize = 200;

/// Makes the run's queues exist and, if it publishes, empty and bound. Returns how many messages
/// they hold.
pub(crate) fn prepare(connection: &mut Connection, plan: &Plan) -> Result<u64> {
    let consume_only = plan.publishers == 0;
    // First, since a type that the broker lacks is then refused before there are queues.
    if !consume_only {
        declare_exchange(connection, plan)?;
    }
    let declared = declare_queues(connection, plan, consume_only).map_err(|error| {
        let way_out = if consume_only {
            "fill them first with the same --queue-prefix and --keep-queues"
        } else {
            "pick another --queue-prefix if they exist with other settings"
        };
        error.inside(format_args!("declare queues {}-* ({way_out})", plan.prefix))
    })?;
    if consume_only {
        return Ok(declared);
    }
    for_each(connection, plan.queues, QUEUE_PURGE_OK, |out, index| {
        wire::queue_purge(out, &plan.queue(index));
    })?;
    for_each_waiting(connection, plan, QUEUE_PURGE_OK, |out, _, queue| {
        wire::queue_purge(out, queue);
    })?;
    if plan.exchange_type().is_some() {
        let exchange = plan.exchange_name();
        for_each(connection, plan.bindings, QUEUE_BIND_OK, |out, index| {
            let (key, arguments) = plan.binding(index);
            let queue = plan.entry_queue(index % plan.queues);
            wire::queue_bind(out, &queue, &exchange, &key, &arguments);
        })
        .map_err(|error| error.inside(format_args!("bind queues {}-*", plan.prefix)))?;
    }
    Ok(0)
}

pub(crate) fn remove(connection: &mut Connection, plan: &Plan) -> Result<()> {
    for_each_waiting(connection, plan, QUEUE_DELETE_OK, |out, _, queue| {
        wire::queue_delete(out, queue);
    })?;
    for_each(connection, plan.queues, QUEUE_DELETE_OK, |out, index| {
        wire::queue_delete(out, &plan.queue(index));
    })?;
    if plan.exchange_type().is_some() {
        let mut request = Vec::new();
        wire::exchange_delete(&mut request, &plan.exchange_name());
        connection.call(&request, EXCHANGE_DELETE_OK)?;
    }
    Ok(())
}

/// Whether the broker looks at this queue argument at all: one that does refuses a value of a type
/// that no argument has.
pub(crate) fn knows_argument(plan: &Plan, argument: &str) -> Result<bool> {
    let mut connection = Connection::open(&plan.url, "leveret perf control")?;
    let nonsense = Table::default().table(argument, &Table::default());
    let mut request = Vec::new();
    let queue = format!("{}-nonsense", plan.prefix);
    wire::queue_declare(&mut request, &queue, wire::EXCLUSIVE, &nonsense);
    match connection.call(&request, QUEUE_DECLARE_OK) {
        Ok(_) => connection.close().map(|()| false),
        Err(error) if error.is_unsupported() => Ok(true),
        Err(error) => Err(error),
    }
}

/// A binding of an earlier run would route to queues that this one does not know of: so an
/// exchange of the same name goes first.
fn declare_exchange(connection: &mut Connection, plan: &Plan) -> Result<()> {
    let Some(kind) = plan.exchange_type() else {
        return Ok(());
    };
    let exchange = plan.exchange_name();
    let place = |error: PerfError| error.inside(format_args!("declare exchange {exchange}"));
    let mut request = Vec::new();
    wire::exchange_delete(&mut request, &exchange);
    connection.call(&request, EXCHANGE_DELETE_OK).map_err(place)?;
    request.clear();
    wire::exchange_declare(&mut request, &exchange, kind, plan.durable, &plan.exchange_table());
    connection.call(&request, EXCHANGE_DECLARE_OK).map(drop).map_err(place)
}

fn declare_queues(connection: &mut Connection, plan: &Plan, passive: bool) -> Result<u64> {
    let durable = if plan.durable { wire::DURABLE } else { 0 };
    let bits = durable | if passive { wire::PASSIVE } else { 0 };
    let arguments = plan.queue_table();
    let messages = for_each(connection, plan.queues, QUEUE_DECLARE_OK, |out, index| {
        wire::queue_declare(out, &plan.queue(index), bits, &arguments);
    })?;
    for_each_waiting(connection, plan, QUEUE_DECLARE_OK, |out, index, queue| {
        wire::queue_declare(out, queue, bits, &plan.waiting_queue_table(index));
    })?;
    Ok(messages)
}

/// As [`for_each`], for the queues where messages wait to be dead-lettered, if there are any.
fn for_each_waiting(
    connection: &mut Connection,
    plan: &Plan,
    reply: u32,
    mut encode: impl FnMut(&mut Vec<u8>, usize, &str),
) -> Result<()> {
    let count = if plan.waiting_queue(0).is_some() { plan.queues } else { 0 };
    for_each(connection, count, reply, |out, index| {
        encode(out, index, &plan.entry_queue(index));
    })
    .map(drop)
}

/// Sends `count` requests and takes their replies, in batches. Returns the sum of the message
/// counts, which declare-ok has behind the queue's name.
fn for_each(
    connection: &mut Connection,
    count: usize,
    reply: u32,
    mut encode: impl FnMut(&mut Vec<u8>, usize),
) -> Result<u64> {
    let mut messages = 0;
    let mut out = Vec::new();
    for first in (0..count).step_by(PIPELINED_MAX) {
        let batch = first..count.min(first + PIPELINED_MAX);
        out.clear();
        batch.clone().for_each(|index| encode(&mut out, index));
        connection.send(&out)?;
        for _ in batch {
            let arguments = connection.receive(reply)?;
            if reply == QUEUE_DECLARE_OK {
                messages += declared_messages(&arguments);
            }
        }
    }
    Ok(messages)
}

/// How many messages a queue holds, by its declare-ok.
pub(crate) fn declared_messages(arguments: &[u8]) -> u64 {
    let name_len = arguments.first().map_or(0, |&len| usize::from(len));
    u64::from(u32_at(arguments, 1 + name_len).unwrap_or(0))
}
