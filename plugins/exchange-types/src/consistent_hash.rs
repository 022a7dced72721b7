//! `x-consistent-hash`: each message goes to one destination, chosen by a hash of its routing key,
//! a header or a property, in proportion to the weights that the binding keys are.

use crate::hash::Hasher;
use crate::rendezvous::Rendezvous;
use crate::term;
use leveret_plugin_api::{
    Binding, Choice, DestinationId, ExchangeType, Fields, Message, NewBinding, Property, Router,
    Value,
};
use std::collections::HashMap;

/// RabbitMQ 4.3 has the same bound.
const WEIGHT_MAX: u16 = 10_000;

pub struct ConsistentHash;

impl ExchangeType for ConsistentHash {
    fn name(&self) -> &str {
        "x-consistent-hash"
    }

    fn description(&self) -> &str {
        "Consistent Hashing Exchange"
    }

    fn check_arguments(&self, arguments: &dyn Fields) -> Result<(), String> {
        HashOn::read(arguments).map(drop)
    }

    fn check_binding(&self, binding: &NewBinding<'_>) -> Result<(), String> {
        weight(binding.key).map(drop)
    }

    fn router(&self, arguments: &dyn Fields) -> Box<dyn Router> {
        let hash_on = HashOn::read(arguments).unwrap_or(HashOn::RoutingKey);
        Box::new(Hashing { hash_on, weights: HashMap::new(), seats: Rendezvous::default() })
    }
}

/// What of a message is hashed.
#[derive(Debug, PartialEq, Eq)]
enum HashOn {
    RoutingKey,
    Header(Box<[u8]>),
    Property(Property),
}

impl HashOn {
    fn read(arguments: &dyn Fields) -> Result<Self, String> {
        let text = |name: &str| match arguments.get(name.as_bytes()) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name} must be a longstr")),
        };
        match (text("hash-header")?, text("hash-property")?) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => Ok(Self::Header(header.into())),
            (None, Some(b"correlation_id")) => Ok(Self::Property(Property::CorrelationId)),
            (None, Some(b"message_id")) => Ok(Self::Property(Property::MessageId)),
            (None, Some(b"timestamp")) => Ok(Self::Property(Property::Timestamp)),
            (None, Some(other)) => {
                Err(format!("Unsupported property: {}", String::from_utf8_lossy(other)))
            }
            (Some(_), Some(_)) => {
                Err("hash-header and hash-property are mutually exclusive".to_owned())
            }
        }
    }

    /// What is missing hashes as one constant.
    fn hash(&self, message: &Message<'_>) -> u64 {
        let hasher = Hasher::new();
        let hasher = match self {
            Self::RoutingKey => hasher.part(message.routing_key()),
            Self::Header(name) => value(hasher, message.content.header(name)),
            Self::Property(property) => value(hasher, message.content.property(*property)),
        };
        hasher.finish()
    }
}

/// Values of different types differ, whatever they look like.
fn value(hasher: Hasher, value: Option<Value<'_>>) -> Hasher {
    let Some(value) = value else {
        return hasher;
    };
    match value {
        Value::Bool(value) => hasher.part(b"bool").part(&[value.into()]),
        Value::Int(value) => hasher.part(b"int").part(&value.to_le_bytes()),
        Value::Float(value) => hasher.part(b"float").part(&value.to_bits().to_le_bytes()),
        Value::Decimal { scale, digits } => {
            hasher.part(b"decimal").part(&[scale]).part(&digits.to_le_bytes())
        }
        Value::Text(bytes) => hasher.part(b"text").part(bytes),
        Value::Bytes(bytes) => hasher.part(b"bytes").part(bytes),
        Value::Timestamp(value) => hasher.part(b"timestamp").part(&value.to_le_bytes()),
        Value::Array(bytes) => hasher.part(b"array").part(bytes),
        Value::Table(bytes) => hasher.part(b"table").part(bytes),
        Value::Void => hasher.part(b"void"),
    }
}

/// The weight that a binding key is: what Erlang reads as an integer, from 1 on.
fn weight(key: &[u8]) -> Result<u16, String> {
    let (is_negative, digits) = match key {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(format!("The binding key must be an integer: {}", term::binary(key)));
    }
    let above = WEIGHT_MAX + 1;
    let next = |sum: u16, digit: &u8| {
        let sum = u32::from(sum) * 10 + u32::from(digit - b'0');
        u16::try_from(sum).map_or(above, |sum| sum.min(above))
    };
    match digits.iter().fold(0, next) {
        0 => Err("The binding key must be greater than 0".to_owned()),
        _ if is_negative => Err("The binding key must be greater than 0".to_owned()),
        weight if weight > WEIGHT_MAX => {
            Err(format!("The binding key must not exceed {WEIGHT_MAX}"))
        }
        weight => Ok(weight),
    }
}

struct Hashing {
    hash_on: HashOn,
    /// The weights of each destination's bindings in the order of binding. RabbitMQ: the first
    /// counts, the others add nothing.
    weights: HashMap<DestinationId, Vec<u16>>,
    seats: Rendezvous,
}

impl Router for Hashing {
    fn bound(&mut self, binding: &Binding<'_>) {
        // What another version has stored may be no weight.
        let weight = weight(binding.key).unwrap_or(1);
        let weights = self.weights.entry(binding.destination).or_default();
        weights.push(weight);
        if weights.len() == 1 {
            self.seats.add(binding.destination, binding.identity, weight);
        }
    }

    fn unbound(&mut self, binding: &Binding<'_>) {
        let gone = weight(binding.key).unwrap_or(1);
        let Some(weights) = self.weights.get_mut(&binding.destination) else {
            return;
        };
        let Some(at) = weights.iter().position(|weight| *weight == gone) else {
            return;
        };
        weights.remove(at);
        if at == 0 {
            self.seats.remove(binding.destination, binding.identity, gone);
            match weights.first() {
                Some(next) => self.seats.add(binding.destination, binding.identity, *next),
                None => drop(self.weights.remove(&binding.destination)),
            }
        }
    }

    fn route(&self, message: &Message<'_>, choice: &mut Choice<'_>) {
        let winner = self.seats.winner(self.hash_on.hash(message));
        winner.into_iter().for_each(|destination| choice.add(destination));
    }

    fn depends_on_keys_only(&self) -> bool {
        self.hash_on == HashOn::RoutingKey
    }
}

#[cfg(test)]
#[path = "consistent_hash_tests.rs"]
mod tests;
