//! Declares what a run needs (exchange, queues, bindings) and removes it afterwards.
use super::connection::Connection;
use super::error::{PerfError, Result};
use super::frame::{
    EXCHANGE_DECLARE_OK, EXCHANGE_DELETE_OK, QUEUE_BIND_OK, QUEUE_DECLARE_OK, QUEUE_DELETE_OK,
    QUEUE_PURGE_OK, u32_at,
};
use super::plan::Plan;
use super::wire::{self, Table};

/// Requests sent before their replies are read.
const PIPELINED_MAX: usize = 200;

/// Makes the run's queues exist and, if it publishes, empty and bound. Returns how many messages
/// they hold.
pub(crate) fn prepare(connection: &mut Connection, plan: &Plan) -> Result<u64> {
    let consume_only = plan.publishers == 0;
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
    let place = |error: PerfError| error.inside(format_args!("bind queues {}-*", plan.prefix));
    for_each(connection, plan.queues, QUEUE_PURGE_OK, |out, index| {
        wire::queue_purge(out, &plan.queue(index));
    })?;
    if let Some(kind) = plan.exchange_type() {
        let mut request = Vec::new();
        let exchange = plan.exchange_name();
        // A binding of an earlier run would route to queues that this one does not know of.
        wire::exchange_delete(&mut request, &exchange);
        connection.call(&request, EXCHANGE_DELETE_OK).map_err(place)?;
        request.clear();
        wire::exchange_declare(&mut request, &exchange, kind, plan.durable);
        connection.call(&request, EXCHANGE_DECLARE_OK).map_err(place)?;
        for_each(connection, plan.bindings, QUEUE_BIND_OK, |out, index| {
            let (key, arguments) = plan.binding(index);
            wire::queue_bind(out, &plan.queue(index % plan.queues), &exchange, &key, &arguments);
        })
        .map_err(place)?;
    }
    Ok(0)
}

pub(crate) fn remove(connection: &mut Connection, plan: &Plan) -> Result<()> {
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

fn declare_queues(connection: &mut Connection, plan: &Plan, passive: bool) -> Result<u64> {
    let mut arguments = Table::default();
    if let Some(durability) = plan.durability {
        arguments = arguments.string("x-durability", durability.word());
    }
    for_each(connection, plan.queues, QUEUE_DECLARE_OK, |out, index| {
        wire::queue_declare(out, &plan.queue(index), plan.durable, passive, &arguments);
    })
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
                let name_len = arguments.first().map_or(0, |&len| usize::from(len));
                messages += u64::from(u32_at(&arguments, 1 + name_len).unwrap_or(0));
            }
        }
    }
    Ok(messages)
}
