//! A client that says what it is told to, byte for byte, and waits for nothing by itself.

use crate::support::{PATIENCE, TestBroker};
use leveret::exception::MethodId;
use leveret::wire::method::*;
use leveret::wire::{Decoded, FrameKind, decode_frame};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

pub(crate) const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
pub(crate) const FRAME_MAX: u32 = 131_072;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Class and method, if it is a method.
    pub(crate) fn method(&self) -> Option<MethodId> {
        (self.kind == FrameKind::Method).then(|| method_id(&self.payload).unwrap())
    }

    pub(crate) fn fields(&self) -> Reader<'_> {
        Reader(&self.payload[4..])
    }
}

/// Takes a method's fields in order.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    pub(crate) fn octet(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub(crate) fn long(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub(crate) fn longlong(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    pub(crate) fn shortstr(&mut self) -> String {
        let len = self.octet();
        String::from_utf8(self.take(len.into()).to_vec()).unwrap()
    }
}

/// Puts a method's fields in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<u8>);

impl Fields {
    pub(crate) fn octet(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn short(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn longlong(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn shortstr(self, text: &str) -> Self {
        let mut fields = self.octet(u8::try_from(text.len()).unwrap());
        fields.0.extend(text.as_bytes());
        fields
    }

    /// A longstr, a table, or whatever has its length in four octets before it.
    pub(crate) fn longstr(self, bytes: &[u8]) -> Self {
        let mut fields = self.long(u32::try_from(bytes.len()).unwrap());
        fields.0.extend(bytes);
        fields
    }
}

pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let fields = Fields::default().octet(kind).short(channel);
    fields.longstr(payload).octet(0xce).0
}

pub(crate) fn method(channel: u16, id: MethodId, fields: Fields) -> Vec<u8> {
    let mut payload = Fields::default().short(id.class).short(id.method).0;
    payload.extend(fields.0);
    frame(1, channel, &payload)
}

pub(crate) fn start_ok(response: &[u8]) -> Vec<u8> {
    start_ok_with(&[], response)
}

/// The bytes of a table `capabilities` with one that is true.
pub(crate) fn capability(name: &str) -> Vec<u8> {
    let capability = Fields::default().shortstr(name).octet(b't').octet(1);
    Fields::default().shortstr("capabilities").octet(b'F').longstr(&capability.0).0
}

pub(crate) fn start_ok_with(client_properties: &[u8], response: &[u8]) -> Vec<u8> {
    let fields = Fields::default().longstr(client_properties);
    let fields = fields.shortstr("PLAIN").longstr(response).shortstr("en_US");
    method(0, CONNECTION_START_OK, fields)
}

pub(crate) fn tune_ok() -> Vec<u8> {
    let fields = Fields::default().short(2047).long(FRAME_MAX).short(0);
    method(0, CONNECTION_TUNE_OK, fields)
}

pub(crate) fn open(vhost: &str) -> Vec<u8> {
    let fields = Fields::default().shortstr(vhost).shortstr("").octet(0);
    method(0, CONNECTION_OPEN, fields)
}

pub(crate) fn channel_open(channel: u16) -> Vec<u8> {
    method(channel, CHANNEL_OPEN, Fields::default().shortstr(""))
}

/// A bit of queue.declare.
pub(crate) const DURABLE: u8 = 2;

pub(crate) fn queue_declare(channel: u16, queue: &str, bits: u8) -> Vec<u8> {
    queue_declare_with(channel, queue, bits, &[])
}

/// `arguments` is a table without its length.
pub(crate) fn queue_declare_with(channel: u16, queue: &str, bits: u8, arguments: &[u8]) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr(queue).octet(bits);
    method(channel, QUEUE_DECLARE, fields.longstr(arguments))
}

/// `no_ack` is bit 1.
pub(crate) fn consume(channel: u16, queue: &str, no_ack: bool) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr(queue).shortstr("");
    let fields = fields.octet(u8::from(no_ack) << 1).longstr(&[]);
    method(channel, BASIC_CONSUME, fields)
}

pub(crate) fn get(channel: u16, queue: &str, no_ack: bool) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr(queue);
    method(channel, BASIC_GET, fields.octet(no_ack.into()))
}

pub(crate) fn ack(channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
    let fields = Fields::default().longlong(tag).octet(multiple.into());
    method(channel, BASIC_ACK, fields)
}

pub(crate) fn confirm_select(channel: u16) -> Vec<u8> {
    method(channel, CONFIRM_SELECT, Fields::default().octet(0))
}

/// The method frame of a publish alone.
pub(crate) fn publish_method(channel: u16, exchange: &str, key: &str, bits: u8) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr(exchange).shortstr(key);
    method(channel, BASIC_PUBLISH, fields.octet(bits))
}

/// A content header; `properties` begins with the flags.
pub(crate) fn content_header(channel: u16, body_size: u64, properties: &[u8]) -> Vec<u8> {
    let fields = Fields::default().short(60).short(0).longlong(body_size);
    frame(2, channel, &[&fields.0, properties].concat())
}

pub(crate) const PERSISTENT: &[u8] = &[0x10, 0, 2];
pub(crate) const TRANSIENT: &[u8] = &[0, 0];

/// A whole publish to the default exchange.
pub(crate) fn publish(channel: u16, queue: &str, properties: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = publish_method(channel, "", queue, 0);
    bytes.extend(content_header(channel, body.len() as u64, properties));
    for piece in body.chunks(FRAME_MAX as usize - 8) {
        bytes.extend(frame(3, channel, piece));
    }
    bytes
}

/// What basic.deliver or basic.get-ok brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    /// So much of `received` was taken.
    taken: usize,
}

impl Raw {
    /// A socket, and nothing said on it.
    pub(crate) fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: Vec::new(), taken: 0 }
    }

    /// Logged in, in the default vhost.
    pub(crate) fn connect_to(address: SocketAddr) -> Self {
        let mut raw = Self::dial(address);
        raw.send(HEADER);
        raw.expect(CONNECTION_START);
        raw.send(&start_ok(b"\0guest\0guest"));
        raw.expect(CONNECTION_TUNE);
        raw.send(&[tune_ok(), open("/")].concat());
        raw.expect(CONNECTION_OPEN_OK);
        raw
    }

    /// The same, with channel 1 open.
    pub(crate) fn channel(broker: &TestBroker) -> Self {
        Self::channel_to(broker.address)
    }

    pub(crate) fn channel_to(address: SocketAddr) -> Self {
        let mut raw = Self::connect_to(address);
        raw.call(&channel_open(1), CHANNEL_OPEN_OK);
        raw
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// As `send`, where the broker may have hung up.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Nothing more will be said, but all that comes is still taken.
    pub(crate) fn end_of_input(&self) {
        // The broker may have hung up.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next frame; `None` once the broker has hung up.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let decoded = decode_frame(&self.received[self.taken..], FRAME_MAX).unwrap();
            if let Decoded::Frame { kind, channel, payload, consumed } = decoded {
                let payload = payload.to_vec();
                self.taken += consumed;
                return Some(Frame { kind, channel, payload });
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// Reads once; zero at the end, also if that came as a reset.
    fn fill(&mut self) -> usize {
        self.received.drain(..self.taken);
        self.taken = 0;
        let mut buffer = [0; 64 * 1024];
        let read = match self.stream.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("waited in vain for the broker's bytes: {error}"),
        };
        self.received.extend(&buffer[..read]);
        read
    }

    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        self.next_frame().expect("the broker has hung up")
    }

    /// The next frame, which must be this method.
    #[track_caller]
    pub(crate) fn expect(&mut self, id: MethodId) -> Frame {
        let frame = self.frame();
        assert_eq!(frame.method(), Some(id), "{frame:?}");
        frame
    }

    /// Sends, and takes the reply.
    #[track_caller]
    pub(crate) fn call(&mut self, bytes: &[u8], reply: MethodId) -> Frame {
        self.send(bytes);
        self.expect(reply)
    }

    /// A connection.close or channel.close: its code and text.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, id: MethodId) -> (u16, String) {
        let frame = self.expect(id);
        let mut fields = frame.fields();
        (fields.short(), fields.shortstr())
    }

    /// The next message, by basic.deliver.
    #[track_caller]
    pub(crate) fn delivery(&mut self) -> Delivered {
        self.try_delivery().expect("the broker has hung up")
    }

    /// As `delivery`; `None` if the broker hangs up before all of it has come.
    #[track_caller]
    pub(crate) fn try_delivery(&mut self) -> Option<Delivered> {
        let frame = self.next_frame()?;
        assert_eq!(frame.method(), Some(BASIC_DELIVER), "{frame:?}");
        self.try_content_of(&frame)
    }

    /// The message that a deliver or get-ok announces.
    #[track_caller]
    pub(crate) fn content_of(&mut self, frame: &Frame) -> Delivered {
        self.try_content_of(frame).expect("the broker has hung up")
    }

    fn try_content_of(&mut self, frame: &Frame) -> Option<Delivered> {
        let mut fields = frame.fields();
        if frame.method() == Some(BASIC_DELIVER) {
            fields.shortstr();
        }
        let (tag, redelivered) = (fields.longlong(), fields.octet() == 1);
        let header = self.next_frame()?;
        assert_eq!(header.kind, FrameKind::Header);
        let size = Reader(&header.payload[4..]).longlong();
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let frame = self.next_frame()?;
            assert_eq!(frame.kind, FrameKind::Body);
            body.extend(frame.payload);
        }
        Some(Delivered { tag, redelivered, body })
    }

    /// Reads to the end, and gives the methods that came before it.
    pub(crate) fn rest(&mut self) -> Vec<MethodId> {
        std::iter::from_fn(|| self.next_frame()).filter_map(|frame| frame.method()).collect()
    }
}
