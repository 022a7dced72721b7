//! A message: immutable, shared, in one exact allocation if it is small.
//!
//! ```text
//! +----+-------+----+--------+-----------------------------------------------+------+
//! | xl | exch. | kl | key    | class 60 u16, weight u16, size u64, flags u16, | body |
//! | u8 | xl    | u8 | kl     | properties                                     |      |
//! +----+-------+----+--------+-----------------------------------------------+------+
//!  `address()`: as in basic.deliver    `header()`: a content header's payload
//! ```
//! Both parts leave as they lie, so a delivery copies bytes and encodes nothing. A large body lies
//! apart, and so does any body of a message with a BCC header, together with that header's keys. In
//! the store such keys stand behind the head, and the weight says so. It also says that a message
//! has died here; a publisher's is zero, and whoever sends a message writes zero.

mod blind;

use crate::limits::INLINE_BODY_MAX;
use blind::BlindKeys;
use bytes::Bytes;
use std::borrow::Cow;
use triomphe::ThinArc;

/// The low octet of the weight in a content header. Publishers have to send zero.
const WEIGHT_AT: usize = 3;

/// In the weight of a stored head: blind keys stand behind it.
const WITH_BLIND_KEYS: u8 = 1;

/// In the weight: this broker has written what the headers say of deaths.
const HAS_DIED: u8 = 2;

/// A published message. Cloning shares it. One word, since entries, deliveries and publishes move.
#[derive(Clone)]
pub struct Message(ThinArc<Option<Box<Apart>>, u8>);

/// What lies beside the head: a body above `INLINE_BODY_MAX`, kept in the pieces in which it came,
/// or any body of a message with blind keys.
struct Apart {
    pieces: Box<[Bytes]>,
    len: usize,
    blind: BlindKeys,
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
        self.rebuilt(self.exchange(), self.routing_key(), header, self.blind(), scratch)
    }

    /// The same message as a dead letter: from another exchange, with `header`, which tells of all
    /// its deaths here. With a `key` it has that one only.
    #[must_use]
    pub fn dead_letter(
        &self,
        exchange: &[u8],
        key: Option<&[u8]>,
        mut header: Vec<u8>,
        scratch: &mut Vec<u8>,
    ) -> Self {
        header[WEIGHT_AT] |= HAS_DIED;
        match key {
            Some(key) => self.rebuilt(exchange, key, &header, BlindKeys::default(), scratch),
            None => self.rebuilt(exchange, self.routing_key(), &header, self.blind(), scratch),
        }
    }

    /// The same message, which remembers these keys.
    #[must_use]
    pub fn with_blind_keys(&self, keys: &[&[u8]], scratch: &mut Vec<u8>) -> Self {
        let (exchange, key) = (self.exchange(), self.routing_key());
        self.rebuilt(exchange, key, self.header(), BlindKeys::of(keys), scratch)
    }

    fn rebuilt(
        &self,
        exchange: &[u8],
        key: &[u8],
        header: &[u8],
        blind: BlindKeys,
        scratch: &mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        put_head(scratch, exchange, key, header);
        match self.small_body() {
            Some(body) if blind.is_empty() => {
                scratch.extend_from_slice(body);
                Self::small(scratch)
            }
            Some(body) => Self::apart(scratch, vec![Bytes::copy_from_slice(body)], blind),
            None if blind.is_empty() && self.body_len() <= INLINE_BODY_MAX => {
                scratch.extend_from_slice(&self.large_body().concat());
                Self::small(scratch)
            }
            None => Self::apart(scratch, self.large_body().to_vec(), blind),
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

    /// Builds a message from what `stored_head` gave, with the body behind it.
    #[must_use]
    pub fn from_stored(bytes: &[u8], body_len: usize) -> Option<Self> {
        let (head, body) = bytes.split_at_checked(bytes.len().checked_sub(body_len)?)?;
        let at = Head::locate(head)?.header_at;
        if body_size(&head[at..]) != body_len {
            return None;
        }
        if body_len <= INLINE_BODY_MAX && !has_blind_keys(&head[at..]) {
            return Some(Self::small(bytes));
        }
        Self::from_stored_apart(head, at, vec![Bytes::copy_from_slice(body)])
    }

    /// As `from_stored`, with the body in pieces.
    #[must_use]
    pub fn from_stored_pieces(head: &[u8], body: Vec<Bytes>) -> Option<Self> {
        let body_len = body.iter().map(Bytes::len).sum::<usize>();
        if body_len <= INLINE_BODY_MAX {
            return Self::from_stored(&[head, &body.concat()].concat(), body_len);
        }
        let at = Head::locate(head)?.header_at;
        (body_size(&head[at..]) == body_len).then(|| Self::from_stored_apart(head, at, body))?
    }

    fn from_stored_apart(head: &[u8], header_at: usize, body: Vec<Bytes>) -> Option<Self> {
        if !has_blind_keys(&head[header_at..]) {
            return Some(Self::large(head, body));
        }
        let (head, blind) = BlindKeys::split_from(head)?;
        // It must still have all that `locate` has seen.
        Head::locate(head)?;
        let mut head = head.to_vec();
        head[header_at + WEIGHT_AT] &= !WITH_BLIND_KEYS;
        Some(Self::apart(&head, body, blind))
    }

    fn small(bytes: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice(None, bytes))
    }

    fn large(head: &[u8], body: Vec<Bytes>) -> Self {
        Self::apart(head, body, BlindKeys::default())
    }

    fn apart(head: &[u8], body: Vec<Bytes>, blind: BlindKeys) -> Self {
        let len = body.iter().map(Bytes::len).sum();
        let apart = Apart { pieces: body.into(), len, blind };
        Self(ThinArc::from_header_and_slice(Some(Box::new(apart)), head))
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

    /// The payload of the content header frame: class, weight, body size, flags, properties. The
    /// weight is ours, and no client's.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        let head = self.head();
        &head[Head::of(head).header_at..]
    }

    /// Whether it is a dead letter of this broker: its publisher did not write what its headers say
    /// of deaths.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.header()[WEIGHT_AT] & HAS_DIED != 0
    }

    /// Body length in bytes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        match self.part_apart() {
            None => self.small_body_len(),
            Some(apart) => apart.len,
        }
    }

    /// Bytes that this message keeps alive, roughly.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes().len() + self.part_apart().map_or(0, |apart| apart.len + apart.blind.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The whole message in one slice, as it is stored too, if that is how it lies.
    #[must_use]
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.part_apart().is_none().then(|| self.bytes())
    }

    /// Address and header.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        let bytes = self.bytes();
        match self.part_apart() {
            None => &bytes[..bytes.len() - self.small_body_len()],
            Some(_) => bytes,
        }
    }

    /// What is stored before the body.
    #[must_use]
    pub fn stored_head(&self) -> Cow<'_, [u8]> {
        let head = self.head();
        let Some(Apart { blind, .. }) = self.part_apart().filter(|it| !it.blind.is_empty()) else {
            return Cow::Borrowed(head);
        };
        let mut stored = head.to_vec();
        stored[Head::of(head).header_at + WEIGHT_AT] |= WITH_BLIND_KEYS;
        blind.store(&mut stored);
        Cow::Owned(stored)
    }

    /// The keys of its BCC header, which is not among its headers.
    pub fn blind_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.part_apart().into_iter().flat_map(|apart| apart.blind.iter())
    }

    /// The body, if it lies behind the head.
    #[must_use]
    pub fn small_body(&self) -> Option<&[u8]> {
        let bytes = self.bytes();
        self.part_apart().is_none().then(|| &bytes[bytes.len() - self.small_body_len()..])
    }

    /// The pieces of a body that lies apart; none for another.
    #[must_use]
    pub fn large_body(&self) -> &[Bytes] {
        self.part_apart().map_or(&[], |apart| &apart.pieces)
    }

    /// The body in one buffer, for cold paths.
    #[must_use]
    pub fn body_to_vec(&self) -> Vec<u8> {
        self.small_body().map_or_else(|| self.large_body().concat(), <[u8]>::to_vec)
    }

    /// Everything but what lies apart.
    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    fn part_apart(&self) -> Option<&Apart> {
        self.0.header.header.as_deref()
    }

    fn blind(&self) -> BlindKeys {
        self.part_apart().map_or_else(BlindKeys::default, |apart| apart.blind.clone())
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

/// Whether blind keys stand behind a stored head with this content header.
fn has_blind_keys(header: &[u8]) -> bool {
    header[WEIGHT_AT] & WITH_BLIND_KEYS != 0
}

fn body_size(header: &[u8]) -> usize {
    let size: [u8; 8] = header[4..12].try_into().expect("a content header has 14 octets or more");
    u64::from_be_bytes(size) as usize
}

#[cfg(test)]
mod tests;
