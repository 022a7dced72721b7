//! Sessions without sockets: the test says which bytes make one read, and sees who is woken.

use crate::raw::{self, Frame};
use leveret::Config;
use leveret::broker::link::Workspace;
use leveret::broker::{Broker, Entropy};
use leveret::exchange::ExchangeTypes;
use leveret::session::{Peer, Progress, Scratch, Session};
use leveret::store::{Disk, MemoryDisk};
use leveret::time::Now;
use leveret::wire::{Decoded, decode_frame};
use std::io::IoSlice;
use std::sync::Arc;

/// A broker whose journal moves only when it is told to.
pub(crate) struct Still {
    pub(crate) broker: Arc<Broker>,
    pub(crate) disk: MemoryDisk,
}

impl Still {
    pub(crate) fn open() -> Self {
        Self::open_with(Config::on_loopback("unused"))
    }

    pub(crate) fn open_with(config: Config) -> Self {
        let disk = MemoryDisk::new();
        let broker = Self::broker_on(&disk, config);
        Self { broker, disk }
    }

    fn broker_on(disk: &dyn Disk, config: Config) -> Arc<Broker> {
        let mut given = 0_u128;
        let entropy = Entropy::new(move || {
            given += 1;
            given.to_be_bytes()
        });
        Broker::open(config, disk, entropy, ExchangeTypes::built_in()).unwrap()
    }

    /// The process ends and starts again: what was stored is on disk only.
    pub(crate) fn restart(self) -> Self {
        let broker = Self::broker_on(&self.disk, Config::on_loopback("unused"));
        Self { broker, disk: self.disk }
    }

    /// Brings back what queues want from disk.
    pub(crate) fn load(&self) {
        while self.broker.load(&self.disk, &mut Workspace::default()) {}
    }

    /// Makes safe what is pending.
    pub(crate) fn sync(&self) {
        self.broker.journal().round(&self.disk).unwrap();
    }

    /// A connection on which nothing was said.
    pub(crate) fn accept(&self) -> Client {
        let peer = Peer { name: "test".into(), is_loopback: true };
        Client {
            session: Session::new(Arc::clone(&self.broker), peer, Now::default()),
            scratch: Scratch::default(),
            now: Now::default(),
            leftover: Vec::new(),
        }
    }

    /// A client with channel 1 open.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.accept();
        client.say(&greeting());
        let replies = client.hear();
        assert_eq!(replies.len(), 4, "{replies:?}");
        client
    }
}

/// Everything from the protocol header to channel 1.
pub(crate) fn greeting() -> Vec<u8> {
    let login = raw::start_ok(b"\0guest\0guest");
    let frames = [login, raw::tune_ok(), raw::open("/"), raw::channel_open(1)];
    [raw::HEADER, &frames.concat()].concat()
}

/// A session, and what its connection would keep.
pub(crate) struct Client {
    pub(crate) session: Session,
    scratch: Scratch,
    pub(crate) now: Now,
    leftover: Vec<u8>,
}

impl Client {
    /// One read of these bytes, and then what was left of it, as the connection does.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.leftover.extend_from_slice(bytes);
        loop {
            if !self.session.wants_input() {
                return;
            }
            let input = std::mem::take(&mut self.leftover);
            let taken = self.session.handle_input(self.now, &input, &mut self.scratch);
            assert!(taken.consumed <= input.len(), "{taken:?} of {}", input.len());
            self.leftover = input[taken.consumed..].to_vec();
            if taken.progress != Progress::More {
                return;
            }
            assert!(taken.consumed > 0, "wants another turn, and does nothing with it");
        }
    }

    /// Looks into the inbox, as a woken connection does.
    pub(crate) fn wake(&mut self) {
        self.session.handle_inbox(self.now, &mut self.scratch);
    }

    /// Lets time pass, and does what is due.
    pub(crate) fn pass(&mut self, ms: u64) {
        let Now { monotonic, unix } = self.now;
        self.now = Now { monotonic: monotonic.plus(ms), unix: unix.plus(ms) };
        if self.session.next_deadline().is_some_and(|at| at <= self.now.monotonic) {
            self.session.handle_timeout(self.now, &mut self.scratch);
        }
    }

    /// Times that it was woken, so far.
    pub(crate) fn wakes(&self) -> u64 {
        self.session.inbox().wakes.get()
    }

    /// Takes all output.
    pub(crate) fn read(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.session.output().is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.session.output().slices(&mut slices);
            let before = bytes.len();
            slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
            self.session.wrote(self.now, bytes.len() - before);
        }
        bytes
    }

    /// Takes all output, which must be whole frames, and all that it made room for.
    pub(crate) fn hear_all(&mut self) {
        while !self.session.output().is_empty() {
            self.hear();
            self.wake();
        }
    }

    /// Takes all output as frames.
    pub(crate) fn hear(&mut self) -> Vec<Frame> {
        let bytes = self.read();
        // What does not speak AMQP is told what does.
        let mut rest = bytes.strip_prefix(raw::HEADER).unwrap_or(&bytes);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let decoded = decode_frame(rest, raw::FRAME_MAX).unwrap();
            let Decoded::Frame { kind, channel, payload, consumed } = decoded else {
                panic!("half a frame: {rest:?}");
            };
            let payload = payload.to_vec();
            frames.push(Frame { kind, channel, payload });
            rest = &rest[consumed..];
        }
        frames
    }

    /// The methods among the output.
    pub(crate) fn methods(&mut self) -> Vec<leveret::exception::MethodId> {
        let frames = self.hear();
        frames.iter().filter_map(Frame::method).collect()
    }

    /// Says it, and gives the methods that answer.
    pub(crate) fn call(&mut self, bytes: &[u8]) -> Vec<leveret::exception::MethodId> {
        self.say(bytes);
        self.methods()
    }
}
