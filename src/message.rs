//! A message: immutable, shared, in one exact allocation if it is small.
//!
//! ```text
//! +----+-------+----+--------+-----------------------------------------------+------+
//! | xl | exch. | kl | key    | class 60 u16, weight u16, size u64, flags u16, | body |
//! | u8 | xl    | u8 | kl     | properties                                     |      |
//! +----+-------+----+--------+-----------------------------------------------+------+
//!  `address()`: as in basic.deliver    `header()`: a content header's payload
//! ```
//! Both parts leave as they lie, so a delivery copies bytes and encodes nothing.

use crate::limits::INLINE_BODY_MAX;
use bytes::Bytes;
use triomphe::ThinArc;

/// A published message. Cloning shares it. One word, since entries, deliveries and publishes move.
#[derive(Clone)]
pub struct Message(ThinArc<Option<Box<LargeBody>>, u8>);

/// A body above `INLINE_BODY_MAX`, kept in the pieces in which it came.
struct LargeBody {
    pieces: Box<[Bytes]>,
    len: usize,
}

impl Message {
    /// Builds a message whose body is in one piece. `header` is the payload of a content header
    /// frame, checked by the wire layer. `scratch` is reused between calls.
    ///
    /// # Panics
    /// If `exchange` or `key` is longer than 255 bytes, which a shortstr cannot be.
    #[must_use]
    pub fn new(
        exchange: &[u8],
        key: &[u8],
        header: &[u8],
        body: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        put_head(scratch, exchange, key, header);
        if body.len() <= INLINE_BODY_MAX {
            scratch.extend_from_slice(body);
            Self::small(scratch)
        } else {
            Self::large(scratch, vec![Bytes::copy_from_slice(body)])
        }
    }

    /// As `new`, from both names as they stand in a basic.publish: two shortstrs in one piece.
    #[must_use]
    #[inline]
    pub fn from_parts(address: &[u8], header: &[u8], body: &[u8], scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        scratch.extend_from_slice(address);
        scratch.extend_from_slice(header);
        if body.len() <= INLINE_BODY_MAX {
            scratch.extend_from_slice(body);
            Self::small(scratch)
        } else {
            Self::large(scratch, vec![Bytes::copy_from_slice(body)])
        }
    }

    /// The same message with other properties.
    #[must_use]
    pub fn with_header(&self, header: &[u8], scratch: &mut Vec<u8>) -> Self {
        match self.small_body() {
            Some(body) => Self::from_parts(self.address(), header, body, scratch),
            None => {
                let body = self.large_body().to_vec();
                Self::from_pieces(self.exchange(), self.routing_key(), header, body, scratch)
            }
        }
    }

    /// The same body under another address, with other properties.
    #[must_use]
    pub fn readdressed(
        &self,
        exchange: &[u8],
        key: &[u8],
        header: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Self {
        match self.small_body() {
            Some(body) => Self::new(exchange, key, header, body, scratch),
            None => Self::from_pieces(exchange, key, header, self.large_body().to_vec(), scratch),
        }
    }

    /// Builds a message from a body that came in pieces.
    #[must_use]
    pub fn from_pieces(
        exchange: &[u8],
        key: &[u8],
        header: &[u8],
        body: Vec<Bytes>,
        scratch: &mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        put_head(scratch, exchange, key, header);
        if body.iter().map(Bytes::len).sum::<usize>() > INLINE_BODY_MAX {
            return Self::large(scratch, body);
        }
        for piece in &body {
            scratch.extend_from_slice(piece);
        }
        Self::small(scratch)
    }

    /// Builds a message from what `contiguous` or `head` and the body pieces gave, as the store
    /// does.
    #[must_use]
    pub fn from_stored(bytes: &[u8], body_len: usize) -> Option<Self> {
        let head_len = bytes.len().checked_sub(body_len)?;
        let head = Head::locate(bytes.get(..head_len)?)?;
        if body_size(&bytes[head.header_at..]) != body_len {
            return None;
        }
        if body_len <= INLINE_BODY_MAX {
            return Some(Self::small(bytes));
        }
        let body = Bytes::copy_from_slice(bytes.get(head_len..)?);
        Some(Self::large(bytes.get(..head_len)?, vec![body]))
    }

    /// As `from_stored`, of what `head` gave and the body in pieces.
    #[must_use]
    pub fn from_stored_pieces(head: &[u8], body: Vec<Bytes>) -> Option<Self> {
        let body_len = body.iter().map(Bytes::len).sum::<usize>();
        if body_len <= INLINE_BODY_MAX {
            return Self::from_stored(&[head, &body.concat()].concat(), body_len);
        }
        let at = Head::locate(head)?.header_at;
        (body_size(&head[at..]) == body_len).then(|| Self::large(head, body))
    }

    fn small(bytes: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice(None, bytes))
    }

    fn large(head: &[u8], body: Vec<Bytes>) -> Self {
        let len = body.iter().map(Bytes::len).sum();
        let body = LargeBody { pieces: body.into(), len };
        Self(ThinArc::from_header_and_slice(Some(Box::new(body)), head))
    }

    /// Exchange and routing key as two shortstrs, as basic.deliver, get-ok and return end.
    #[must_use]
    pub fn address(&self) -> &[u8] {
        let bytes = self.bytes();
        &bytes[..Head::of(bytes).header_at]
    }

    #[must_use]
    pub fn exchange(&self) -> &[u8] {
        let bytes = self.bytes();
        &bytes[1..1 + usize::from(bytes[0])]
    }

    #[must_use]
    pub fn routing_key(&self) -> &[u8] {
        let bytes = self.bytes();
        let key_at = 2 + usize::from(bytes[0]);
        &bytes[key_at..key_at + usize::from(bytes[key_at - 1])]
    }

    /// The payload of the content header frame: class, weight, body size, flags, properties.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        let head = self.head();
        &head[Head::of(head).header_at..]
    }

    /// Body length in bytes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        match self.large_part() {
            None => self.small_body_len(),
            Some(large) => large.len,
        }
    }

    /// Bytes that this message keeps alive, roughly.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes().len() + self.large_part().map_or(0, |large| large.len)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The whole message in one slice, if it is small.
    #[must_use]
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.large_part().is_none().then(|| self.bytes())
    }

    /// Address and header.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        let bytes = self.bytes();
        match self.large_part() {
            None => &bytes[..bytes.len() - self.small_body_len()],
            Some(_) => bytes,
        }
    }

    /// The body of a small message.
    #[must_use]
    pub fn small_body(&self) -> Option<&[u8]> {
        let bytes = self.bytes();
        self.large_part().is_none().then(|| &bytes[bytes.len() - self.small_body_len()..])
    }

    /// The pieces of a large body; empty for a small message.
    #[must_use]
    pub fn large_body(&self) -> &[Bytes] {
        self.large_part().map_or(&[], |large| &large.pieces)
    }

    /// The body in one buffer, for cold paths.
    #[must_use]
    pub fn body_to_vec(&self) -> Vec<u8> {
        self.small_body().map_or_else(|| self.large_body().concat(), <[u8]>::to_vec)
    }

    /// Everything but a large body.
    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    fn large_part(&self) -> Option<&LargeBody> {
        self.0.header.header.as_deref()
    }

    fn small_body_len(&self) -> usize {
        let bytes = self.bytes();
        body_size(&bytes[Head::of(bytes).header_at..])
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &String::from_utf8_lossy(self.exchange()))
            .field("routing_key", &String::from_utf8_lossy(self.routing_key()))
            .field("body_len", &self.body_len())
            .finish()
    }
}

/// Where the parts of a message's head begin.
struct Head {
    header_at: usize,
}

impl Head {
    fn of(bytes: &[u8]) -> Self {
        let key_len_at = 1 + usize::from(bytes[0]);
        Self { header_at: key_len_at + 1 + usize::from(bytes[key_len_at]) }
    }

    /// As `of`, for bytes that may be damaged.
    fn locate(bytes: &[u8]) -> Option<Self> {
        let key_len_at = 1 + usize::from(*bytes.first()?);
        let header_at = key_len_at + 1 + usize::from(*bytes.get(key_len_at)?);
        (bytes.len() >= header_at + 14).then_some(Self { header_at })
    }
}

fn put_head(out: &mut Vec<u8>, exchange: &[u8], key: &[u8], header: &[u8]) {
    let short = |text: &[u8]| u8::try_from(text.len()).expect("a shortstr has at most 255 bytes");
    out.push(short(exchange));
    out.extend_from_slice(exchange);
    out.push(short(key));
    out.extend_from_slice(key);
    out.extend_from_slice(header);
}

fn body_size(header: &[u8]) -> usize {
    let size: [u8; 8] = header[4..12].try_into().expect("a content header has 14 octets or more");
    u64::from_be_bytes(size) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(body_len: u64) -> Vec<u8> {
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&body_len.to_be_bytes());
        header.extend_from_slice(&[0x10, 0, 2]);
        header
    }

    #[test]
    fn a_small_message_gives_back_its_parts() {
        let message = Message::new(b"ex", b"key", &header(4), b"body", &mut Vec::new());
        assert_eq!(message.address(), b"\x02ex\x03key");
        assert_eq!(message.exchange(), b"ex");
        assert_eq!(message.routing_key(), b"key");
        assert_eq!(message.header(), header(4));
        assert_eq!(message.small_body(), Some(&b"body"[..]));
        assert_eq!(message.body_len(), 4);
        assert_eq!(size_of::<Option<Message>>(), 8, "a message is one word in every queue entry");
    }

    #[test]
    fn a_large_message_keeps_its_pieces() {
        let piece = Bytes::from(vec![7; INLINE_BODY_MAX]);
        let pieces = vec![piece.clone(), piece];
        let header = header(2 * INLINE_BODY_MAX as u64);
        let message = Message::from_pieces(b"", b"q", &header, pieces, &mut Vec::new());
        assert_eq!(message.large_body().len(), 2);
        assert_eq!(message.body_len(), 2 * INLINE_BODY_MAX);
        assert_eq!(message.header(), header);
        assert_eq!(message.small_body(), None);
    }

    #[test]
    fn damaged_stored_bytes_are_refused() {
        assert!(Message::from_stored(b"", 0).is_none());
        assert!(Message::from_stored(b"\xffshort", 0).is_none());
        assert!(Message::from_stored(b"\x00\x00", 3).is_none());
        let stored = Message::new(b"", b"q", &header(4), b"body", &mut Vec::new());
        let bytes = stored.contiguous().unwrap();
        assert!(Message::from_stored(bytes, 3).is_none(), "the announced size is another");
        assert_eq!(Message::from_stored(bytes, 4).unwrap().small_body(), Some(&b"body"[..]));
    }
}
