//! What a client writes, whole, damaged and at any split.

use super::{frame, header};
use leveret::limits::FRAME_MAX;
use leveret::table::TableRef;
use leveret::wire::{Assembly, ClientMethod, Decoded, FrameKind, Properties, decode_frame};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A session's use of the wire layer: frames whole, large bodies as they arrive.
#[derive(Default)]
struct Reader {
    input: Vec<u8>,
    channels: BTreeMap<u16, Assembly>,
    /// Channel and missing octets of the body frame that is arriving.
    body: Option<(u16, usize)>,
    said: Vec<String>,
    is_broken: bool,
}

impl Reader {
    fn read(splits: &[usize], bytes: &[u8]) -> Self {
        let mut reader = Self::default();
        let mut rest = bytes;
        for &split in splits {
            let (part, behind) = rest.split_at(split.min(rest.len()));
            reader.push(part);
            rest = behind;
        }
        reader.push(rest);
        reader
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.is_broken {
            return;
        }
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(taken) = self.step(&input[at..]).filter(|_| !self.is_broken) {
            at += taken;
        }
        self.input = input[at..].to_vec();
    }

    /// How many octets it took; `None` if it needs more.
    fn step(&mut self, input: &[u8]) -> Option<usize> {
        match self.body {
            Some((channel, 0)) => {
                self.is_broken = *input.first()? != 0xce;
                self.body = None;
                if !self.is_broken {
                    self.finish(channel);
                }
                return Some(1);
            }
            Some((channel, left)) => {
                let piece = &input[..left.min(input.len())];
                let is_fine = self.channels.entry(channel).or_default().push_body(piece).is_ok();
                self.is_broken = !is_fine;
                self.body = Some((channel, left - piece.len()));
                return (!piece.is_empty()).then_some(piece.len());
            }
            None => {}
        }
        match decode_frame(input, FRAME_MAX) {
            Ok(Decoded::Frame { kind, channel, payload, consumed }) => {
                self.is_broken = self.take(kind, channel, payload).is_none();
                Some(consumed)
            }
            Ok(Decoded::Incomplete { head: Some(head) }) if head.kind == FrameKind::Body as u8 => {
                self.body = Some((head.channel, head.size as usize));
                let assembly = self.channels.entry(head.channel).or_default();
                self.is_broken = assembly.push_body(&[]).is_err();
                Some(7)
            }
            Ok(Decoded::Incomplete { .. }) => None,
            Err(error) => {
                assert!(error.exception().text().len() <= 255);
                self.is_broken = true;
                None
            }
        }
    }

    fn take(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) -> Option<()> {
        let assembly = self.channels.entry(channel).or_default();
        match kind {
            FrameKind::Method => {
                assembly.expect_method().ok()?;
                let method = ClientMethod::decode(payload).ok()?;
                if let ClientMethod::BasicPublish(publish) = &method {
                    assembly.begin(publish).ok()?;
                }
                self.said.push(format!("{channel}: {method:?}"));
            }
            FrameKind::Header => {
                assembly.push_header(payload).ok()?;
                self.finish(channel);
            }
            FrameKind::Body => {
                assembly.push_body(payload).ok()?;
                self.finish(channel);
            }
            FrameKind::Heartbeat => self.said.push("heartbeat".to_owned()),
        }
        Some(())
    }

    fn finish(&mut self, channel: u16) {
        let assembly = self.channels.entry(channel).or_default();
        if let Some(content) = assembly.take(&mut Vec::new()) {
            let message = content.message;
            let properties = Properties::check(message.header()).map(|p| {
                let edited = [Some(p.with_reply_to(b"r")), p.without_header(b"BCC")];
                for header in edited.iter().flatten() {
                    Properties::check(header).expect("edited properties are valid");
                }
                (p.headers(), p.expiration(), p.cluster_id(), p.timestamp())
            });
            let body = message.body_to_vec();
            self.said.push(format!("{channel}: {message:?} {properties:?} {body:?}"));
        }
    }
}

fn publish(channel: u16, key: &str, values: &[u8], body: &[u8], frame_len: usize) -> Vec<u8> {
    let key_len = u8::try_from(key.len()).expect("a key is a shortstr");
    let address = [&b"\x02ex"[..], &[key_len], key.as_bytes()].concat();
    let method = [&b"\0\x3c\0\x28\0\0"[..], &address, b"\0"].concat();
    let mut bytes = frame(FrameKind::Method, channel, &method);
    bytes.extend(frame(FrameKind::Header, channel, &header(body.len(), values)));
    for part in body.chunks(frame_len) {
        bytes.extend(frame(FrameKind::Body, channel, part));
    }
    bytes
}

const METHODS: [&[u8]; 4] = [
    b"\0\x3c\0\x50\0\0\0\0\0\0\0\x07\x01",
    b"\0\x32\0\x0a\0\0\x01q\x02\0\0\0\x04\x01at\x01",
    b"\0\x0a\0\x32\0\xc8\x03bye\0\0\0\0",
    b"\0\x3c\0\x14\0\0\x01q\x01t\x02\0\0\0\x09\x01aA\0\0\0\x02VV",
];
/// Flags and values.
const PROPERTIES: [&[u8]; 4] = [
    b"\0\0",
    b"\x10\0\x02",
    b"\x21\0\0\0\0\x05\x03BCCV\x0242",
    b"\x80\x42\x04text\0\0\0\0\0\0\0\x09",
];

fn client_frames() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(&METHODS[..]);
    let method =
        (1..4_u16, method).prop_map(|(channel, method)| frame(FrameKind::Method, channel, method));
    let properties = prop::sample::select(&PROPERTIES[..]);
    let body_len = prop_oneof![0..30_usize, 16_000..40_000_usize];
    let publish = (1..4_u16, "[a-z.]{0,9}", properties, body_len, 1000..20_000_usize).prop_map(
        |(channel, key, properties, body_len, frame_len)| {
            publish(channel, &key, properties, &vec![b'x'; body_len], frame_len)
        },
    );
    prop_oneof![method, publish, Just(frame(FrameKind::Heartbeat, 0, b""))]
}

fn splits() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0..12_usize, 0..5000_usize], 0..40)
}

proptest! {
    #[test]
    fn valid_input_means_the_same_at_any_split(
        frames in prop::collection::vec(client_frames(), 1..8), splits in splits(),
    ) {
        let bytes = frames.concat();
        let whole = Reader::read(&[], &bytes);
        let split = Reader::read(&splits, &bytes);
        prop_assert!(!whole.is_broken && whole.input.is_empty());
        prop_assert!(whole.said.len() >= frames.len());
        prop_assert_eq!(&whole.said, &split.said);
    }

    #[test]
    fn damaged_input_means_the_same_at_any_split(
        frames in prop::collection::vec(client_frames(), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        splits in splits(),
    ) {
        let mut bytes = frames.concat();
        for (at, octet) in damage {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        let whole = Reader::read(&[], &bytes);
        let split = Reader::read(&splits, &bytes);
        prop_assert_eq!(&whole.said, &split.said);
        prop_assert_eq!(whole.is_broken, split.is_broken);
    }

    #[test]
    fn any_bytes_at_any_split_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..600), splits in splits(),
        class in prop::sample::select(vec![10, 20, 30, 40, 50, 60, 85, 90]),
        method in 0..130_u8,
    ) {
        Reader::read(&splits, &bytes);
        Reader::read(&splits, &frame(FrameKind::Method, 1, &bytes));
        let payload = [&[0, class, 0, method][..], &bytes].concat();
        let _ = ClientMethod::decode(&payload).map_err(|error| error.exception().text());
        let _ = Properties::check(&header(0, &bytes));
        let _ = TableRef::check(&bytes);
    }
}
