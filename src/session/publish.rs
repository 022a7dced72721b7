//! basic.publish: every check in RabbitMQ's order, then the message joins the turn's batch.

use super::channel::State;
use super::confirms::put_no_route;
use super::{Scratch, Session};
use crate::broker::link::{Added, Admitted, Link, PSEUDO_QUEUE, Route, Workspace};
use crate::exception::{Exception, MethodId};
use crate::exchange::Published;
use crate::limits::EXPIRY_MS_MAX;
use crate::message::Message;
use crate::queue::Publish;
use crate::table::{TableRef, Value};
use crate::time::Ttl;
use crate::wire::{ContentHeader, Decoded, FrameKind, Properties, decode_frame, parse_publish};
use std::sync::Arc;

/// RabbitMQ: ten years, in milliseconds.
const EXPIRATION_MS_MAX: i128 = EXPIRY_MS_MAX as i128;

impl Session {
    /// Takes a publish. If its content stands complete in `rest`, that is taken along: says how
    /// many bytes.
    pub(super) fn take_publish(
        &mut self,
        number: u16,
        payload: &[u8],
        rest: &[u8],
        scratch: &mut Scratch,
    ) -> Result<usize, Exception> {
        let publish = parse_publish(payload)?;
        let frame_max = self.frame_max;
        let Self { channels, partial_bytes, broker, .. } = self;
        let channel = channels.get_mut(&number).filter(|channel| channel.state != State::Ended);
        let Some(channel) = channel else {
            return Err(Exception::channel_error("expected 'channel.open'"));
        };
        if channel.state == State::Closing {
            return Ok(0);
        }
        channel.assembly.expect_method()?;
        // During an alarm frames come one by one: nothing behind the header is read.
        let is_calm = !broker.alarms.any();
        let whole = is_calm.then(|| whole_content(number, rest, frame_max)).flatten();
        let Some((header, body, taken)) = whole else {
            channel.assembly.begin(&publish)?;
            channel.charge(partial_bytes);
            return Ok(0);
        };
        let message = Message::from_parts(publish.address, header, body, &mut scratch.message);
        let flags = (publish.mandatory, publish.immediate);
        // After an exception the content's frames are looked at again, and ignored with the rest.
        self.publish(number, message, flags, scratch).map(|()| taken)
    }

    /// Publishes a complete message.
    pub(super) fn publish(
        &mut self,
        number: u16,
        message: Message,
        (mandatory, immediate): (bool, bool),
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let Self { channels, broker, output, .. } = self;
        let Some(channel) = channels.get_mut(&number) else {
            return Ok(());
        };
        if immediate {
            return Err(Exception::not_implemented("immediate=true"));
        }
        let max = broker.config.max_message_size;
        if message.body_len() as u64 > max {
            let size = message.body_len();
            let text = format!("message size {size} is larger than configured max size {max}");
            return Err(Exception::precondition(text));
        }
        let link = &mut channel.link;
        let cached = link.cached_route(message.address());
        let admitted = match &cached {
            Some(_) => None,
            None => Some(link.admit(message.exchange())?),
        };
        let Ok(properties) = Properties::check(message.header()) else {
            return Err(Exception::internal().at(MethodId::NONE));
        };
        let persistent = properties.is_persistent();
        let priority = properties.priority().unwrap_or(0);
        let (rewritten, ttl) = check_properties(link, &properties)?;
        let headers = properties.headers();
        let carbons = headers.map(Carbons::of).transpose()?.unwrap_or_default();
        let route = match (cached, carbons.is_empty()) {
            (Some(route), true) => route,
            _ => {
                let admitted = match admitted {
                    Some(admitted) => admitted,
                    None => link.admit(message.exchange())?,
                };
                route(link, &admitted, &message, (&properties, &carbons), &mut scratch.workspace)?
            }
        };
        check_user_id(link, &properties)?;
        let header = match (rewritten, &carbons.blind) {
            (rewritten, None) => rewritten,
            (rewritten, Some(_)) => {
                without_bcc(rewritten.as_deref().unwrap_or_else(|| message.header()))
            }
        };
        let message = match (header, &carbons.blind) {
            (None, _) => message,
            (Some(header), None) => message.with_header(&header, &mut scratch.message),
            (Some(header), Some(keys)) => message
                .with_header(&header, &mut scratch.message)
                .with_blind_keys(keys, &mut scratch.message),
        };
        let persistent = route.is_persistent(persistent);
        let mark = link.mark(mandatory);
        let publish = Publish { message, persistent, priority, ttl, delay: route.delay, mark };
        if link.is_transactional() {
            return link.keep_publish(route, publish);
        }
        // Behind every check: a refused publish is never confirmed.
        link.count_publish(route.durability(persistent), &mut scratch.batch);
        let added = scratch.batch.add(&route, publish, broker, &mut scratch.workspace);
        if let Added::Unroutable(message) = added {
            route.count_unroutable();
            if mandatory {
                link.counters.returned.add(1);
                put_no_route(channel.held.out(output), number, &message, self.frame_max);
            }
        }
        channel.link.used_route(route);
        Ok(())
    }
}

/// Routes what no cache knows.
fn route(
    link: &mut Link,
    admitted: &Admitted,
    message: &Message,
    (properties, carbons): (&Properties<'_>, &Carbons<'_>),
    workspace: &mut Workspace,
) -> Result<Arc<Route>, Exception> {
    let address = carbons.is_empty().then(|| message.address());
    let published = Published {
        keys: &carbons.keys(message.routing_key()),
        headers: properties.headers(),
        properties: &|property| properties.get(property),
        now: workspace.effects.now.unix,
    };
    link.route(admitted, published, address, &mut workspace.routing)
}

/// The content frames at the start of `input`, if they are all there and there is nothing unusual
/// about them: header, body, and how many bytes they take.
#[inline]
fn whole_content(number: u16, input: &[u8], frame_max: u32) -> Option<(&[u8], &[u8], usize)> {
    let (header, after_header) = content_frame(FrameKind::Header, number, input, frame_max)?;
    let parsed = ContentHeader::parse(header).ok()?;
    if parsed.class != 60 || parsed.weight != 0 {
        return None;
    }
    if parsed.body_size == 0 {
        return Some((header, &[], after_header));
    }
    let rest = &input[after_header..];
    let (body, after_body) = content_frame(FrameKind::Body, number, rest, frame_max)?;
    (body.len() as u64 == parsed.body_size).then_some((header, body, after_header + after_body))
}

#[inline]
fn content_frame(
    wanted: FrameKind,
    number: u16,
    input: &[u8],
    frame_max: u32,
) -> Option<(&[u8], usize)> {
    match decode_frame(input, frame_max) {
        Ok(Decoded::Frame { kind, channel, payload, consumed })
            if kind == wanted && channel == number =>
        {
            Some((payload, consumed))
        }
        _ => None,
    }
}

/// Checks reply_to and expiration; gives the header back if it had to be changed, and how long the
/// message may wait.
fn check_properties(
    link: &Link,
    properties: &Properties<'_>,
) -> Result<(Option<Vec<u8>>, Ttl), Exception> {
    let rewritten = match properties.reply_to() {
        Some(reply_to) if reply_to == PSEUDO_QUEUE.as_bytes() => {
            Some(properties.with_reply_to(link.reply_name()?.as_bytes()))
        }
        _ => None,
    };
    let ttl = properties.expiration().map(check_expiration).transpose()?;
    Ok((rewritten, ttl.unwrap_or(Ttl::FOREVER)))
}

fn check_user_id(link: &Link, properties: &Properties<'_>) -> Result<(), Exception> {
    let Some(user_id) = properties.user_id() else {
        return Ok(());
    };
    let user = &link.client.user;
    if user.may_publish_as(user_id) {
        return Ok(());
    }
    Err(Exception::precondition(format!(
        "user_id property set to '{}' but authenticated user was '{}'",
        String::from_utf8_lossy(user_id),
        user.name
    )))
}

/// RabbitMQ: a decimal integer of milliseconds with an optional sign, nothing behind it.
fn check_expiration(expiration: &[u8]) -> Result<Ttl, Exception> {
    let text = String::from_utf8_lossy(expiration);
    let invalid = |reason: String| {
        Err(Exception::precondition(format!("invalid expiration '{text}': {reason}")))
    };
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return invalid("no_integer".to_owned());
    }
    let (number, rest) = text.split_at(sign + digits);
    if !rest.is_empty() {
        return invalid(format!("{{leftover_string,\"{rest}\"}}"));
    }
    match number.parse::<i128>() {
        Ok(ms) if ms < 0 => invalid(format!("{{value_negative,{ms}}}")),
        Ok(ms) if ms <= EXPIRATION_MS_MAX => Ok(Ttl::of_ms(ms as u64)),
        _ => invalid(format!("{{value_too_large,{}}}", number.trim_start_matches('+'))),
    }
}

/// The further routing keys in a message's headers.
#[derive(Default)]
struct Carbons<'a> {
    /// CC, which stays in the headers.
    open: Vec<&'a [u8]>,
    /// BCC, which is removed from them, also if it has no keys.
    blind: Option<Vec<&'a [u8]>>,
}

impl<'a> Carbons<'a> {
    fn of(headers: TableRef<'a>) -> Result<Self, Exception> {
        let blind = Self::list(headers, "BCC")?;
        let open = Self::list(headers, "CC")?.unwrap_or_default();
        Ok(Self { open, blind })
    }

    fn list(headers: TableRef<'a>, name: &str) -> Result<Option<Vec<&'a [u8]>>, Exception> {
        match headers.get(name.as_bytes()) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(
                items
                    .iter()
                    .filter_map(|item| match item {
                        Value::LongStr(key) => Some(key),
                        _ => None,
                    })
                    .collect(),
            )),
            Some(other) => Err(Exception::precondition(format!(
                "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
                other.kind()
            ))),
        }
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.blind.is_none()
    }

    fn keys(&self, key: &'a [u8]) -> Vec<&'a [u8]> {
        [&[key][..], &self.open, self.blind.as_deref().unwrap_or_default()].concat()
    }
}

fn without_bcc(header: &[u8]) -> Option<Vec<u8>> {
    Properties::check(header).ok()?.without_header(b"BCC")
}

impl Route {
    fn count_unroutable(self: &Arc<Self>) {
        self.exchange().counters.unroutable.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(expiration: &str) -> String {
        let refused = check_expiration(expiration.as_bytes()).unwrap_err();
        refused.explanation().rsplit_once("': ").unwrap().1.to_owned()
    }

    #[test]
    fn expirations_are_refused_as_rabbitmq_refuses_them() {
        assert!(check_expiration(b"0").is_ok());
        assert!(check_expiration(b"+10").is_ok());
        assert!(check_expiration(b"315360000000").is_ok());
        assert_eq!(reason("abc"), "no_integer");
        assert_eq!(reason(""), "no_integer");
        assert_eq!(reason("10x"), "{leftover_string,\"x\"}");
        assert_eq!(reason("-1"), "{value_negative,-1}");
        assert_eq!(reason("99999999999999"), "{value_too_large,99999999999999}");
    }
}
