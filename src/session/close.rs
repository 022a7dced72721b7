//! How channels and connections end: by an exception, by the client, by the server.

use super::channel::State;
use super::handshake::Phase;
use super::{Scratch, Session};
use crate::exception::{Exception, MethodId, Scope};
use crate::limits::CLOSE_MS_MAX;
use crate::time::Now;
use crate::wire::ServerMethod;

impl Session {
    /// An exception on a channel, or on the connection as its code says; `method` is what was run.
    pub(super) fn raise(
        &mut self,
        number: u16,
        exception: Exception,
        method: MethodId,
        now: Now,
        scratch: &mut Scratch,
    ) {
        let exception = match exception.method {
            Some(_) => exception,
            None => exception.at(method),
        };
        if number != 0 && exception.code.scope() == Scope::Channel {
            self.close_channel_with(number, &exception, scratch);
        } else {
            self.close_connection_with(number, &exception, now, scratch);
        }
    }

    fn close_channel_with(&mut self, number: u16, exception: &Exception, scratch: &mut Scratch) {
        self.log_channel_exception(number, exception);
        self.end_channel(number, scratch);
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        channel.state = State::Closing;
        let text = exception.text();
        channel.send(
            &ServerMethod::ChannelClose {
                code: exception.code.code(),
                text: &text,
                method: exception.method.unwrap_or(MethodId::NONE),
            },
            &mut self.output,
        );
    }

    /// `number` is that of the channel at fault, or zero.
    pub(super) fn close_connection_with(
        &mut self,
        number: u16,
        exception: &Exception,
        now: Now,
        scratch: &mut Scratch,
    ) {
        self.log_exception(number, exception);
        self.end_channels(scratch);
        self.put_connection_close(exception);
        self.await_close(false, now);
    }

    pub(super) fn put_connection_close(&mut self, exception: &Exception) {
        let text = exception.text();
        ServerMethod::ConnectionClose {
            code: exception.code.code(),
            text: &text,
            method: exception.method.unwrap_or(MethodId::NONE),
        }
        .encode(0, &mut self.output);
    }

    /// The server ends the connection, as it does at shutdown.
    pub(super) fn close_by_server(
        &mut self,
        exception: &Exception,
        now: Now,
        scratch: &mut Scratch,
    ) {
        match self.phase {
            Phase::Running => self.close_connection_with(0, exception, now, scratch),
            Phase::Closing { .. } | Phase::Closed => {}
            _ => self.drop_connection(self.now, scratch),
        }
    }

    /// connection.close from the client.
    pub(super) fn close_by_client(&mut self, now: Now, scratch: &mut Scratch) {
        self.end_channels(scratch);
        ServerMethod::ConnectionCloseOk.encode(0, &mut self.output);
        self.await_close(false, now);
    }

    /// RabbitMQ: the peer has min(heartbeat, 30 s) to close its end.
    pub(super) fn await_close(&mut self, deaf: bool, now: Now) {
        let heartbeat_ms = self.heartbeat.interval_s() * 1000;
        let limit = if heartbeat_ms == 0 { CLOSE_MS_MAX } else { heartbeat_ms.min(CLOSE_MS_MAX) };
        let limit = if deaf { crate::limits::SILENT_CLOSE_MS } else { limit };
        self.phase = Phase::Closing { deaf };
        self.phase_ends_at = Some(now.monotonic.plus(limit));
    }

    /// Gives back what a channel holds; its number stays taken.
    pub(super) fn end_channel(&mut self, number: u16, scratch: &mut Scratch) {
        self.flush(scratch);
        self.stop_channel(number, scratch);
        self.inbox.take_events(&mut scratch.events);
        self.distribute(&mut scratch.events);
        self.finish_channel(number, scratch);
    }

    /// Ends everything that the connection has in the broker.
    pub(super) fn end_channels(&mut self, scratch: &mut Scratch) {
        self.flush(scratch);
        let mut numbers: Vec<_> = self.channels.keys().copied().collect();
        numbers.sort_unstable();
        for number in &numbers {
            self.stop_channel(*number, scratch);
        }
        // The inbox is looked through once, however many channels there are.
        self.inbox.take_events(&mut scratch.events);
        self.distribute(&mut scratch.events);
        for number in &numbers {
            self.finish_channel(*number, scratch);
        }
        self.channels.clear();
        self.backlogged.clear();
        self.waiting.clear();
        self.counters.channels.set(0);
        if let Some(client) = self.client.take() {
            let workspace = &mut scratch.workspace;
            client.vhost.end_exclusive(client.connection, &self.broker, workspace);
        }
    }

    /// From here on no queue has anything more for the channel.
    fn stop_channel(&mut self, number: u16, scratch: &mut Scratch) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.held.give_up_gets(|out| ServerMethod::BasicGetEmpty.encode(number, out));
        self.awaits_get.take_if(|awaiting| *awaiting == number);
        channel.assembly.clear();
        channel.assembly.release();
        channel.charge(&mut self.partial_bytes);
        channel.link.stop(&mut scratch.workspace);
    }

    /// What was delivered to it, or was on its way, goes back.
    fn finish_channel(&mut self, number: u16, scratch: &mut Scratch) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let undelivered = std::mem::take(&mut channel.pending);
        channel.link.finish(undelivered, &mut scratch.workspace);
    }
}
