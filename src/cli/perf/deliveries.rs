//! Finds deliveries in what a consumer reads, without copying or allocating: the inner loop of the
//! load generator. Knows no socket and no clock; whoever reads supplies both.
//!
//! ```text
//! between -> basic.deliver -> header -> body ... body -> between
//!    \________ all of it in the buffer: one step _______/
//! ```
use super::error::Result;
use super::frame::{
    BASIC_DELIVER, BODY, FRAME_END, FRAME_HEAD, FRAME_MAX, HEADER, METHOD, first_frame, not_amqp,
    u32_at, u64_at,
};
use super::plan::STAMP_BYTES;

/// Takes what the scanner finds.
pub(crate) trait Receive {
    /// A delivery is complete. `stamp` is the start of its body, zeros if the body is shorter.
    fn delivered(&mut self, delivery_tag: u64, stamp: &[u8; STAMP_BYTES]);
    /// A method other than basic.deliver.
    fn method(&mut self, frame: &super::frame::Frame<'_>) -> Result<()>;
}

#[derive(Debug, Default)]
pub(crate) struct Scanner {
    state: State,
    /// Bytes still to come of a body frame whose start was looked at already.
    skip: usize,
    delivery_tag: u64,
    stamp: [u8; STAMP_BYTES],
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Between,
    HeaderDue,
    BodyDue {
        /// Bytes of the body in frames that have not begun.
        left: u64,
        first: bool,
    },
}

impl Scanner {
    /// Takes whole deliveries and methods off `input`, at most `limit` deliveries. Returns how many
    /// bytes are done with; the rest must come again, with more behind it.
    pub(crate) fn scan(
        &mut self,
        input: &[u8],
        limit: u64,
        receive: &mut impl Receive,
    ) -> Result<usize> {
        let mut at = 0;
        let mut left = limit;
        while left > 0 {
            if let (State::Between, 0) = (self.state, self.skip)
                && let Some(delivery) = whole_delivery(&input[at..])
            {
                receive.delivered(delivery.tag, delivery.stamp);
                at += delivery.len;
                left -= 1;
                continue;
            }
            let (len, completed) = self.step(&input[at..], receive)?;
            at += len;
            left -= u64::from(completed);
            if len == 0 {
                break;
            }
        }
        Ok(at)
    }

    /// Takes one frame or a piece of one. Zero bytes if it takes more input to go on.
    fn step(&mut self, input: &[u8], receive: &mut impl Receive) -> Result<(usize, bool)> {
        if self.skip > 0 {
            let len = self.skip.min(input.len());
            self.skip -= len;
            return Ok((len, len > 0 && self.complete(receive)));
        }
        if input.first() == Some(&BODY) {
            return self.begin_body(input).map(|len| (len, len > 0 && self.complete(receive)));
        }
        let Some(frame) = first_frame(input)? else {
            return Ok((0, false));
        };
        let mut completed = false;
        match (frame.kind, self.state) {
            (METHOD, State::Between) if frame.method() == Some(BASIC_DELIVER) => {
                let tag_len = frame.payload.get(4).copied().ok_or_else(not_amqp)?;
                let tag = u64_at(frame.payload, 5 + usize::from(tag_len));
                self.delivery_tag = tag.ok_or_else(not_amqp)?;
                self.state = State::HeaderDue;
            }
            (METHOD, _) => receive.method(&frame)?,
            (HEADER, State::HeaderDue) => {
                let left = u64_at(frame.payload, 4).ok_or_else(not_amqp)?;
                self.stamp = [0; STAMP_BYTES];
                self.state = State::BodyDue { left, first: true };
                completed = self.complete(receive);
            }
            // A heartbeat; or the content of a returned message, which is of no interest.
            _ => {}
        }
        Ok((frame.len, completed))
    }

    /// Reads the start of a body frame and leaves the rest of it to be skipped.
    fn begin_body(&mut self, input: &[u8]) -> Result<usize> {
        let Some(size) = u32_at(input, 3) else {
            return Ok(0);
        };
        if size > FRAME_MAX {
            return Err(not_amqp());
        }
        let size = size as usize;
        if let State::BodyDue { left, first } = self.state {
            let payload = &input[FRAME_HEAD..];
            if first && payload.len() < size.min(STAMP_BYTES) {
                return Ok(0);
            }
            if let (true, Some(stamp)) = (first && size >= STAMP_BYTES, payload.first_chunk()) {
                self.stamp = *stamp;
            }
            let left = left.checked_sub(size as u64).ok_or_else(not_amqp)?;
            self.state = State::BodyDue { left, first: false };
        }
        let len = (FRAME_HEAD + size + 1).min(input.len());
        self.skip = FRAME_HEAD + size + 1 - len;
        Ok(len)
    }

    /// Reports the delivery if its last byte has come.
    fn complete(&mut self, receive: &mut impl Receive) -> bool {
        let done = self.skip == 0 && matches!(self.state, State::BodyDue { left: 0, .. });
        if done {
            receive.delivered(self.delivery_tag, &self.stamp);
            self.state = State::Between;
        }
        done
    }
}

struct Delivery<'a> {
    tag: u64,
    stamp: &'a [u8; STAMP_BYTES],
    len: usize,
}

/// The delivery that starts here, if all of it is here and its body is one frame with a stamp.
fn whole_delivery(input: &[u8]) -> Option<Delivery<'_>> {
    let method: &[u8; 12] = input.first_chunk()?;
    if method[0] != METHOD || method[7..11] != BASIC_DELIVER.to_be_bytes() {
        return None;
    }
    let tag = u64_at(input, 12 + usize::from(method[11]))?;
    let header_at = FRAME_HEAD + 1 + u32_at(method, 3)? as usize;
    let header: &[u8; 19] = input.get(header_at..)?.first_chunk()?;
    if header[0] != HEADER {
        return None;
    }
    let size = u64_at(header, 11)?;
    let body_at = header_at + FRAME_HEAD + 1 + u32_at(header, 3)? as usize;
    let body = input.get(body_at..)?;
    let (head, payload) = body.split_first_chunk::<FRAME_HEAD>()?;
    if head[0] != BODY || u64::from(u32_at(head, 3)?) != size {
        return None;
    }
    let size = usize::try_from(size).ok()?;
    let stamp = payload.first_chunk()?;
    if size < STAMP_BYTES || payload.get(size) != Some(&FRAME_END) {
        return None;
    }
    Some(Delivery { tag, stamp, len: body_at + FRAME_HEAD + size + 1 })
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frame;
    use super::super::properties::Properties;
    use super::super::wire;
    use super::*;

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Seen {
        tags: Vec<u64>,
        stamps: Vec<u8>,
        methods: usize,
    }

    impl Receive for Seen {
        fn delivered(&mut self, delivery_tag: u64, stamp: &[u8; STAMP_BYTES]) {
            self.tags.push(delivery_tag);
            self.stamps.push(stamp[15]);
        }

        fn method(&mut self, _: &Frame<'_>) -> Result<()> {
            self.methods += 1;
            Ok(())
        }
    }

    /// A delivery as a broker with a frame size of 4096 would send it.
    fn deliver(out: &mut Vec<u8>, tag: u64, size: usize) {
        wire::method(out, 1, BASIC_DELIVER, |out| {
            wire::short(out, "ctag");
            out.extend_from_slice(&tag.to_be_bytes());
            out.push(0);
            wire::short(out, "");
            wire::short(out, "queue");
        });
        let mut publish = Vec::new();
        let properties = Properties::new(None, true, None, None);
        let envelope = wire::Envelope {
            exchange: "",
            routing_key: "",
            mandatory: false,
            properties: &properties,
        };
        let body_at = wire::publish(&mut publish, &envelope, size, 4096);
        if size >= STAMP_BYTES {
            publish[body_at + 15] = tag as u8;
        }
        let method = first_frame(&publish).unwrap().unwrap().len;
        out.extend_from_slice(&publish[method..]);
    }

    fn stream() -> (Vec<u8>, Seen) {
        let mut bytes = Vec::new();
        let sizes = [16, 0, 1, 15, 17, 128, 4088, 4089, 20_000, 16, 16];
        for (tag, size) in (1..).zip(sizes) {
            deliver(&mut bytes, tag, size);
            if size == 17 {
                wire::basic_ack(&mut bytes, 1, false);
            }
        }
        let tags: Vec<u64> = (1..).take(sizes.len()).collect();
        let stamps =
            tags.iter().zip(sizes).map(|(&tag, size)| if size < 16 { 0 } else { tag as u8 });
        let stamps = stamps.collect();
        (bytes, Seen { tags, stamps, methods: 1 })
    }

    #[test]
    fn deliveries_of_every_size_are_found_however_the_stream_is_cut() {
        let (bytes, expected) = stream();
        for chunk in [1, 2, 3, 7, 19, 64, 1000, 4096, 65_536] {
            let (mut scanner, mut seen) = (Scanner::default(), Seen::default());
            let mut input = Vec::new();
            for piece in bytes.chunks(chunk) {
                input.extend_from_slice(piece);
                let done = scanner.scan(&input, u64::MAX, &mut seen).unwrap();
                input.drain(..done);
            }
            assert_eq!((&seen, input.len()), (&expected, 0), "chunks of {chunk}");
        }
    }

    #[test]
    fn a_limit_stops_right_behind_its_last_delivery() {
        let (bytes, expected) = stream();
        let (mut scanner, mut seen) = (Scanner::default(), Seen::default());
        let mut at = 0;
        for _ in 0..expected.tags.len() {
            at += scanner.scan(&bytes[at..], 1, &mut seen).unwrap();
        }
        assert_eq!((seen, at), (expected, bytes.len()));
    }

    #[test]
    fn a_long_body_is_let_go_piece_by_piece() {
        let mut bytes = Vec::new();
        deliver(&mut bytes, 1, 4000);
        let (mut scanner, mut seen) = (Scanner::default(), Seen::default());
        assert_eq!(scanner.scan(&bytes[..2000], u64::MAX, &mut seen).unwrap(), 2000);
        assert_eq!(seen.tags, [0; 0]);
        assert_eq!(scanner.scan(&bytes[2000..], u64::MAX, &mut seen).unwrap(), bytes.len() - 2000);
        assert_eq!(seen.tags, [1]);
    }

    #[test]
    fn a_body_longer_than_its_header_said_is_refused() {
        let mut bytes = Vec::new();
        deliver(&mut bytes, 1, 17);
        let size_at = bytes.len() - 17 - 1 - FRAME_HEAD - 1 - 3 - 1;
        assert_eq!(bytes[size_at], 17);
        bytes[size_at] = 5;
        assert!(Scanner::default().scan(&bytes, u64::MAX, &mut Seen::default()).is_err());
    }
}
