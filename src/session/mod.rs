//! The AMQP 0-9-1 face of links: one connection's protocol state. Synchronous; owned by one task,
//! which gives it bytes, the time and its inbox, and takes bytes to write.
//!
//! ```text
//! handle_input(now, bytes) -> consumed, Progress    frames in; replies into the output
//! handle_inbox(now)                                 deliveries, confirms, shutdown
//! handle_timeout(now)                               heartbeats, handshake and close limits
//! output() / wrote(now, n)                          what to write
//! ```
//! Every turn ends with the queues told, the journal fed and the touched links woken, once each.

mod blocked;
mod channel;
mod close;
mod confirms;
mod consume;
mod content;
mod declare;
mod handshake;
mod heartbeat;
mod input;
mod log;
mod method;
mod publish;
mod reply;
mod settle;
mod timeout;
mod transaction;

pub use input::{Progress, Taken};

use crate::broker::Broker;
use crate::broker::access::User;
use crate::broker::link::{Client, Inbox, PublishBatch, Workspace};
use crate::counters::ConnectionCounters;
use crate::id::ConnectionId;
use crate::limits::{FRAME_MAX, OUTPUT_HARD_BYTES, OUTPUT_HIGH_BYTES, OUTPUT_STALLED_MS_MAX};
use crate::queue::Event;
use crate::store::Reach;
use crate::time::{Millis, Now};
use crate::wire::Output;
use channel::Channel;
use content::PartialBody;
use handshake::Phase;
use hashbrown::HashMap;
use heartbeat::Heartbeat;
use log::Identity;
use std::collections::VecDeque;
use std::sync::Arc;

/// Who connected, as far as the socket can tell.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `127.0.0.1:50918 -> 127.0.0.1:5672`, RabbitMQ's name of a connection.
    pub name: String,
    pub is_loopback: bool,
}

/// Buffers lent to a session for one turn; a thread needs one, whatever the connections.
#[derive(Default)]
pub struct Scratch {
    pub(super) workspace: Workspace,
    batch: PublishBatch,
    events: Vec<Event>,
    message: Vec<u8>,
}

/// One connection.
pub struct Session {
    broker: Arc<Broker>,
    peer: Peer,
    identity: Identity,
    id: ConnectionId,
    inbox: Arc<Inbox>,
    pub counters: Arc<ConnectionCounters>,
    phase: Phase,
    /// Logged in, but no vhost is open.
    user: Option<User>,
    client: Option<Arc<Client>>,
    capabilities: Capabilities,
    channels: HashMap<u16, Box<Channel>>,
    channel_max: u16,
    frame_max: u32,
    output: Output,
    /// Channels with events that the output had no room for, oldest first.
    backlogged: VecDeque<u16>,
    /// Something may have been left in the inbox or with a channel for want of room.
    delivers_late: bool,
    /// A body frame that is taken while it arrives.
    partial_body: Option<PartialBody>,
    /// Bytes of unfinished contents.
    partial_bytes: usize,
    heartbeat: Heartbeat,
    /// It published during an alarm that is not over.
    blocked: bool,
    /// The channel whose get waits for its message.
    awaits_get: Option<u16>,
    /// Handshake, close or silent-close limit.
    phase_ends_at: Option<Millis>,
    /// When some delivery may have been unacknowledged for too long.
    acks_due_at: Option<Millis>,
    /// Since when the peer has taken no byte of a full output.
    stalled_since: Option<Millis>,
    /// When the last turn was, for what is left to do without one.
    now: Now,
    /// The journal will tell us when it gets here, of each part by itself; zero if it was not
    /// asked.
    registered: Reach,
    /// Channels with replies or confirms that wait for the journal.
    waiting: Vec<u16>,
    /// Channels with settlements of this turn.
    settling: Vec<u16>,
}

/// What the client said it understands.
#[derive(Clone, Copy, Debug, Default)]
struct Capabilities {
    authentication_failure_close: bool,
    connection_blocked: bool,
    consumer_cancel_notify: bool,
}

impl Session {
    #[must_use]
    pub fn new(broker: Arc<Broker>, peer: Peer, now: Now) -> Self {
        let inbox = Arc::new(Inbox::new());
        let id = broker.connect(&inbox);
        let handshake_ms = broker.config.handshake_timeout_ms;
        Self {
            broker,
            peer,
            identity: Identity::default(),
            id,
            inbox,
            counters: Arc::new(ConnectionCounters::default()),
            phase: Phase::Header,
            user: None,
            client: None,
            capabilities: Capabilities::default(),
            channels: HashMap::new(),
            channel_max: 0,
            frame_max: FRAME_MAX,
            output: Output::new(),
            backlogged: VecDeque::new(),
            delivers_late: false,
            partial_body: None,
            partial_bytes: 0,
            heartbeat: Heartbeat::off(),
            blocked: false,
            awaits_get: None,
            phase_ends_at: Some(now.monotonic.plus(handshake_ms)),
            acks_due_at: None,
            stalled_since: None,
            now: Now::default(),
            registered: Reach::default(),
            waiting: Vec::new(),
            settling: Vec::new(),
        }
    }

    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Nothing more will come out but what is in the output.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether input would be taken: not while too much output, too many confirms or too many
    /// journal bytes wait, and not while an alarm blocks it or a get waits for its message.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.has_room() && !self.is_closed() && !self.is_held() && !self.must_pause()
    }

    /// Nothing may be read, not even the next frame: an alarm is in force, or a get waits for its
    /// message and what follows must find it done.
    fn must_pause(&self) -> bool {
        self.is_blocked() || self.awaits_get.is_some() && self.phase == Phase::Running
    }

    fn has_room(&self) -> bool {
        self.backlog() < OUTPUT_HARD_BYTES
    }

    /// Whether deliveries wait for room in the output that is there now.
    #[must_use]
    pub fn can_deliver(&self) -> bool {
        self.delivers_late && self.backlog() < OUTPUT_HIGH_BYTES
    }

    /// Bytes that have not left: the output, and what channels hold back.
    fn backlog(&self) -> usize {
        let held = |number: &u16| self.channels.get(number).map_or(0, |c| c.held.bytes());
        self.output.len() + self.waiting.iter().map(held).sum::<usize>()
    }

    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// The peer took `n` bytes of the output; with zero it took none though some wait.
    pub fn wrote(&mut self, now: Now, n: usize) {
        if n > 0 {
            self.output.advance(n);
            self.counters.bytes_out.add(n as u64);
            self.heartbeat.sent();
        }
        if self.output.is_empty() || n > 0 {
            self.stalled_since = None;
        }
        if !self.output.is_empty() {
            self.stalled_since.get_or_insert(now.monotonic);
        }
    }

    /// When `handle_timeout` wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let stalled = self.stalled_since.map(|since| since.plus(OUTPUT_STALLED_MS_MAX));
        let deadlines =
            [self.phase_ends_at, self.heartbeat.next_deadline(), stalled, self.acks_due_at];
        deadlines.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, scratch: &mut Scratch) {
        self.now = now;
        scratch.workspace.effects.now = now;
        let reading = self.wants_input();
        if self.phase_ends_at.is_some_and(|at| at <= now.monotonic) {
            self.log_time_is_up();
            self.drop_connection(now, scratch);
        } else if self
            .stalled_since
            .is_some_and(|since| now.monotonic.since(since) >= OUTPUT_STALLED_MS_MAX)
        {
            self.log_stalled();
            self.drop_connection(now, scratch);
        } else if self.heartbeat.tick(now.monotonic, reading, &mut self.output) {
            self.log_missed_heartbeats();
            self.drop_connection(now, scratch);
        } else if self.acks_due_at.is_some_and(|at| at <= now.monotonic) {
            self.check_acks(now, scratch);
        }
        self.finish_turn(scratch);
    }

    /// Takes what the broker has for this connection.
    pub fn handle_inbox(&mut self, now: Now, scratch: &mut Scratch) {
        self.now = now;
        scratch.workspace.effects.now = now;
        let room = self.backlogged.is_empty() && self.backlog() < OUTPUT_HIGH_BYTES;
        let awaits_get = self.awaits_get.is_some();
        let notices = if room || awaits_get {
            self.inbox.take(&mut scratch.events)
        } else {
            self.inbox.take_notices()
        };
        if notices.failed {
            // Confirms will never come: the broker stops, and the connection with it.
            self.drop_connection(now, scratch);
            return;
        }
        if notices.journal {
            self.forget_reached();
        }
        if notices.unblocked {
            self.unblock();
        }
        self.report_reached();
        if awaits_get {
            self.take_answers(&mut scratch.events, now.monotonic);
        }
        self.deliver(scratch);
        self.delivers_late = !room || !self.backlogged.is_empty();
        if let Some(exception) = notices.close {
            self.close_by_server(&exception, now, scratch);
        }
        self.finish_turn(scratch);
    }

    /// Ends a turn: nothing of it may stay in a buffer that others wait for.
    fn finish_turn(&mut self, scratch: &mut Scratch) {
        self.flush(scratch);
        self.wait_for_journal();
        self.broker.check_memory();
        self.broker.finish_turn(&mut scratch.workspace);
    }

    /// A turn panicked: passes on what queues have asked of it, which they ask only once.
    pub fn give_up_turn(&self, mut scratch: Scratch) {
        scratch.workspace.records.clear();
        self.broker.finish_turn(&mut scratch.workspace);
    }

    /// Lets the queues see what this turn has gathered. Publishes go before acks: a message that
    /// was passed on must not be settled in a journal that does not know its successor.
    fn flush(&mut self, scratch: &mut Scratch) {
        self.flush_publishes(scratch);
        self.flush_settled(scratch);
    }

    /// Gives memory back; for when there is nothing to do.
    pub fn rest(&mut self) {
        if self.output.is_empty() {
            self.output.release();
        }
    }

    /// Ends everything at once, as a broken socket does.
    pub fn drop_connection(&mut self, now: Now, scratch: &mut Scratch) {
        self.now = now;
        scratch.workspace.effects.now = now;
        self.output = Output::new();
        self.stalled_since = None;
        self.phase_ends_at = None;
        self.acks_due_at = None;
        self.heartbeat = Heartbeat::off();
        self.delivers_late = false;
        if !self.is_closed() {
            self.end_channels(scratch);
            self.phase = Phase::Closed;
            self.finish_turn(scratch);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.drop_connection(self.now, &mut Scratch::default());
        self.log_over();
        self.broker.disconnect(self.id);
    }
}
