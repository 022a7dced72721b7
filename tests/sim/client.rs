//! A client: what it sends, what it reads, and what it believes of its channels.

use super::ops::{Message, Mode, Op};
use super::wire::{self, Fields, Frame, encode, first_frame};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) const CHANNELS: [u16; 2] = [1, 2];

#[derive(Debug)]
pub(crate) struct Content<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) key: &'a str,
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// Something that a client has read.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    Method { method: u32, fields: &'a [u8] },
    Deliver { consumer: u32, tag: u64, redelivered: bool, content: Content<'a> },
    GetOk { tag: u64, redelivered: bool, left: u32, content: Content<'a> },
    Return { content: Content<'a> },
    Ack { up_to: u64, multiple: bool },
    Nack { up_to: u64, multiple: bool },
    Cancel { consumer: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Closed,
    Open,
    /// We said close, and wait for close-ok.
    Closing,
}

/// A channel as the client sees it, which lags behind the broker or runs ahead of it.
#[derive(Debug)]
pub(crate) struct ChannelView {
    pub(crate) view: View,
    pub(crate) mode: Mode,
    pub(crate) consumers: Vec<u32>,
    pub(crate) unsettled: Vec<u64>,
    /// Settled in a transaction that is not over.
    pub(crate) kept: Vec<u64>,
    pub(crate) recovers: usize,
    /// Consumers and gets whose deliveries need no settling.
    no_ack: BTreeSet<u32>,
    gets: VecDeque<bool>,
    /// A content that has not come whole: its method, header and body.
    partial: Option<(Vec<u8>, Vec<u8>, Vec<u8>)>,
}

impl ChannelView {
    pub(crate) fn is_open(&self) -> bool {
        self.view == View::Open
    }

    fn closed() -> Self {
        Self {
            view: View::Closed,
            mode: Mode::Plain,
            consumers: Vec::new(),
            unsettled: Vec::new(),
            kept: Vec::new(),
            recovers: 0,
            no_ack: BTreeSet::new(),
            gets: VecDeque::new(),
            partial: None,
        }
    }
}

pub(crate) struct Client {
    /// Sent, and not with the broker yet.
    pub(crate) out: VecDeque<u8>,
    /// Bytes sent since the beginning.
    pub(crate) sent: u64,
    /// What was sent and where it ends, from the first that the broker has not taken.
    pub(crate) operations: VecDeque<(u64, u16, Op)>,
    input: Vec<u8>,
    pub(crate) channels: BTreeMap<u16, ChannelView>,
    pub(crate) heartbeat_s: u16,
    /// The handshake is over.
    pub(crate) is_open: bool,
    /// The broker said that it does not read us.
    is_blocked: bool,
    /// We said close.
    pub(crate) is_closing: bool,
    /// Nothing more is to be expected.
    pub(crate) is_over: bool,
}

impl Client {
    pub(crate) fn new(heartbeat_s: u16) -> Self {
        let mut client = Self {
            out: VecDeque::new(),
            sent: 0,
            operations: VecDeque::new(),
            input: Vec::new(),
            channels: CHANNELS.iter().map(|number| (*number, ChannelView::closed())).collect(),
            heartbeat_s,
            is_open: false,
            is_blocked: false,
            is_closing: false,
            is_over: false,
        };
        client.send_bytes(wire::PROTOCOL_HEADER, 0, Op::Other);
        client
    }

    fn send_bytes(&mut self, bytes: &[u8], channel: u16, op: Op) {
        self.out.extend(bytes);
        self.sent += bytes.len() as u64;
        self.operations.push_back((self.sent, channel, op));
    }

    pub(crate) fn heartbeat(&mut self) {
        self.send_bytes(&wire::heartbeat(), 0, Op::Other);
    }

    /// Sends an operation, and believes that it will be carried out.
    pub(crate) fn send(&mut self, channel: u16, op: Op, messages: &[Message]) {
        self.send_bytes(&encode(&op, channel, messages), channel, op);
        let Some(view) = self.channels.get_mut(&channel) else {
            self.is_closing |= matches!(op, Op::CloseConnection);
            return;
        };
        match op {
            Op::OpenChannel => *view = ChannelView { view: View::Open, ..ChannelView::closed() },
            Op::CloseChannel => view.view = View::Closing,
            Op::Select(mode) => view.mode = mode,
            Op::Consume(consume) => {
                view.consumers.push(consume.tag);
                view.no_ack.extend(consume.no_ack.then_some(consume.tag));
            }
            Op::Get { no_ack, .. } => view.gets.push_back(no_ack),
            Op::Cancel(tag) => view.consumers.retain(|consumer| *consumer != tag),
            Op::Recover => {
                view.recovers += 1;
                view.unsettled.clear();
            }
            Op::Settle { tag, multiple, .. } => {
                let settled = |unsettled: &u64| *unsettled == tag || multiple && *unsettled < tag;
                view.kept.extend(view.unsettled.extract_if(.., |tag| settled(tag)));
                if view.mode != Mode::Transaction {
                    view.kept.clear();
                }
            }
            Op::Commit => view.kept.clear(),
            Op::Rollback => {
                view.unsettled.append(&mut view.kept);
                view.unsettled.sort_unstable();
            }
            _ => {}
        }
    }

    /// How many of `out`'s bytes end the next operation.
    pub(crate) fn next_end(&self) -> Option<usize> {
        let delivered = self.sent - self.out.len() as u64;
        let next = self.operations.iter().find(|(end, ..)| *end > delivered)?;
        usize::try_from(next.0 - delivered).ok()
    }

    /// Operations that end at or before `taken`.
    pub(crate) fn taken(&mut self, taken: u64) -> Vec<(u16, Op)> {
        let count = self.operations.iter().take_while(|(end, ..)| *end <= taken).count();
        self.operations.drain(..count).map(|(_, channel, op)| (channel, op)).collect()
    }

    /// Reads bytes; `see` is told what they say, channel by channel.
    pub(crate) fn read(&mut self, bytes: &[u8], mut see: impl FnMut(u16, &Seen<'_>)) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some((frame, len)) = first_frame(rest) {
            rest = &rest[len..];
            match frame.channel {
                0 => self.take_connection_frame(&frame),
                _ => self.take_channel_frame(&frame, &mut see),
            }
        }
        self.input = rest.to_vec();
    }

    fn take_connection_frame(&mut self, frame: &Frame<'_>) {
        if frame.kind == 8 {
            return;
        }
        let mut fields = Fields(frame.payload);
        match (fields.u16(), fields.u16()) {
            (10, 10) => self.send_bytes(&wire::start_ok(), 0, Op::Other),
            (10, 30) => {
                let bytes = [wire::tune_ok(self.heartbeat_s), wire::open()].concat();
                self.send_bytes(&bytes, 0, Op::Other);
            }
            (10, 41) => self.is_open = true,
            (10, 51) => self.is_over = true,
            (10, 60) => {
                assert!(!self.is_blocked, "blocked twice");
                self.is_blocked = true;
            }
            (10, 61) => {
                assert!(self.is_blocked, "unblocked for nothing");
                self.is_blocked = false;
            }
            (class, id) => {
                let said = (fields.u16(), fields.short());
                panic!("{class},{id} on channel 0: {said:?}");
            }
        }
    }

    fn take_channel_frame(&mut self, frame: &Frame<'_>, see: &mut impl FnMut(u16, &Seen<'_>)) {
        let view = self.channels.get_mut(&frame.channel).expect("a channel that we opened");
        match (frame.kind, &mut view.partial) {
            (1, None) => {
                let mut fields = Fields(frame.payload);
                let method = fields.u32();
                if matches!(method & 0xffff, 50 | 60 | 71) && method >> 16 == 60 {
                    view.partial = Some((frame.payload.to_vec(), Vec::new(), Vec::new()));
                    return;
                }
                let fields = fields.0;
                self.take_method(frame.channel, method, fields, see);
                return;
            }
            (2, Some((_, header, _))) if header.is_empty() => header.extend(frame.payload),
            (3, Some((_, _, body))) => body.extend(frame.payload),
            (kind, partial) => panic!("frame kind {kind} amid {partial:?}"),
        }
        let Some((_, header, body)) = &view.partial else { return };
        let whole = Fields(&header[4..]).u64() == body.len() as u64;
        if whole && let Some(content) = view.partial.take() {
            self.take_content(frame.channel, content, see);
        }
    }

    fn take_method(
        &mut self,
        channel: u16,
        method: u32,
        fields: &[u8],
        see: &mut impl FnMut(u16, &Seen<'_>),
    ) {
        let mut read = Fields(fields);
        let seen = match (method >> 16, method & 0xffff) {
            (60, 80) => Seen::Ack { up_to: read.u64(), multiple: read.u8() == 1 },
            (60, 120) => Seen::Nack { up_to: read.u64(), multiple: read.u8() == 1 },
            (60, 30) => Seen::Cancel { consumer: read.tag() },
            _ => Seen::Method { method, fields },
        };
        see(channel, &seen);
        let view = self.channels.get_mut(&channel).expect("a channel that we opened");
        match (method >> 16, method & 0xffff) {
            (20, 40) => {
                // A close of ours that crosses it is answered as well, and comes to nothing.
                let crossed = view.view == View::Closing;
                *view = ChannelView::closed();
                if crossed {
                    view.view = View::Closing;
                }
                self.send(channel, Op::CloseChannelOk, &[]);
            }
            (20, 41) => *view = ChannelView::closed(),
            (60, 111) => view.recovers -= 1,
            (60, 72) => drop(view.gets.pop_front()),
            (60, 30) => {
                let tag = Fields(fields).tag();
                view.consumers.retain(|consumer| *consumer != tag);
            }
            _ => {}
        }
    }

    fn take_content(
        &mut self,
        channel: u16,
        (method, header, body): (Vec<u8>, Vec<u8>, Vec<u8>),
        see: &mut impl FnMut(u16, &Seen<'_>),
    ) {
        let id = Fields(&method).u32() & 0xffff;
        let (header, body) = (header.as_slice(), body.as_slice());
        let mut read = Fields(&method[4..]);
        let view = self.channels.get_mut(&channel).expect("a channel that we opened");
        let (seen, tag) = match id {
            50 => {
                assert_eq!((read.u16(), read.short()), (312, "NO_ROUTE"));
                let (exchange, key) = (read.short(), read.short());
                (Seen::Return { content: Content { exchange, key, header, body } }, None)
            }
            60 => {
                let (consumer, tag, redelivered) = (read.tag(), read.u64(), read.u8() == 1);
                let (exchange, key) = (read.short(), read.short());
                let content = Content { exchange, key, header, body };
                let settles = !view.no_ack.contains(&consumer);
                (Seen::Deliver { consumer, tag, redelivered, content }, settles.then_some(tag))
            }
            _ => {
                let (tag, redelivered) = (read.u64(), read.u8() == 1);
                let (exchange, key) = (read.short(), read.short());
                let content = Content { exchange, key, header, body };
                let settles = view.gets.pop_front() == Some(false);
                let seen = Seen::GetOk { tag, redelivered, left: read.u32(), content };
                (seen, settles.then_some(tag))
            }
        };
        see(channel, &seen);
        if let Some(tag) = tag.filter(|_| view.view == View::Open && view.recovers == 0) {
            view.unsettled.push(tag);
        }
    }
}
