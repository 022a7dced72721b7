//! One change of what is durable besides messages: a vhost, exchange, queue, binding or parameter.
//!
//! Only durable things are stored, exclusive queues never. On disk a definition is postcard, which
//! numbers variants and fields by their place: new variants go to the end, and a variant that was
//! ever released keeps its fields.

use super::gap::Gap;
use crate::id::{CacheId, QueueId};
use crate::table::Table;
use serde::{Deserialize, Serialize};

/// One change, stored before it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Definition {
    VhostCreated {
        name: String,
    },
    /// Ends everything in it.
    VhostDeleted {
        name: String,
    },
    ExchangeDeclared {
        vhost: String,
        name: String,
        kind: String,
        auto_delete: bool,
        internal: bool,
        arguments: Table,
        /// Its cache of keys, if it has one.
        cache: Option<CacheId>,
    },
    /// Ends its bindings, as source and as destination.
    ExchangeDeleted {
        vhost: String,
        name: String,
    },
    QueueDeclared {
        id: QueueId,
        vhost: String,
        name: String,
        auto_delete: bool,
        arguments: Table,
    },
    /// Ends its bindings and its messages.
    QueueDeleted {
        id: QueueId,
    },
    Bound {
        vhost: String,
        source: String,
        destination: BoundTo,
        key: Vec<u8>,
        arguments: Table,
    },
    Unbound {
        vhost: String,
        source: String,
        destination: BoundTo,
        key: Vec<u8>,
        arguments: Table,
    },
    /// A runtime parameter of a vhost, such as a policy: `component` says of what kind. The value
    /// is JSON, which the store does not look into.
    ParameterSet {
        vhost: String,
        component: String,
        name: String,
        value: String,
    },
    ParameterCleared {
        vhost: String,
        component: String,
        name: String,
    },
    /// The queue may have lost records in this gap: nothing leaves it until somebody has seen that.
    QueueHeld {
        id: QueueId,
        gap: Gap,
    },
    /// Somebody has seen it, and the queue goes on with what is there.
    QueueReleased {
        id: QueueId,
        gap: Gap,
    },
}

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BoundTo {
    Queue(QueueId),
    Exchange(String),
}

impl Definition {
    /// # Panics
    /// Never: writing to memory cannot fail, and nothing here lacks a postcard form.
    #[must_use]
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a definition is plain strings and numbers")
    }

    /// Reads what `encode` gave; `None` if the bytes are anything else.
    #[must_use]
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (definition, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        (rest.is_empty() && definition.is_sound()).then_some(definition)
    }

    /// Its arguments are a table that can be walked.
    pub(super) fn is_sound(&self) -> bool {
        let arguments = self.arguments();
        arguments.is_none_or(|table| Table::from_bytes(table.as_ref().bytes()).is_ok())
    }

    /// What it changes depends on what is there.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::VhostDeleted { .. }
            | Self::ExchangeDeleted { .. }
            | Self::QueueDeleted { .. } => true,
            Self::VhostCreated { .. }
            | Self::ExchangeDeclared { .. }
            | Self::QueueDeclared { .. }
            | Self::Bound { .. }
            | Self::Unbound { .. }
            | Self::ParameterSet { .. }
            | Self::ParameterCleared { .. }
            | Self::QueueHeld { .. }
            | Self::QueueReleased { .. } => false,
        }
    }

    fn arguments(&self) -> Option<&Table> {
        match self {
            Self::ExchangeDeclared { arguments, .. }
            | Self::QueueDeclared { arguments, .. }
            | Self::Bound { arguments, .. }
            | Self::Unbound { arguments, .. } => Some(arguments),
            Self::VhostCreated { .. }
            | Self::VhostDeleted { .. }
            | Self::ExchangeDeleted { .. }
            | Self::QueueDeleted { .. }
            | Self::ParameterSet { .. }
            | Self::ParameterCleared { .. }
            | Self::QueueHeld { .. }
            | Self::QueueReleased { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Lsn, SegmentNo};
    use crate::table::{TableBuilder, Value};

    #[test]
    fn a_definition_comes_back_and_damaged_bytes_do_not_panic() {
        let arguments = TableBuilder::new().put(b"x-max-length", Value::I32(5));
        let declared = Definition::QueueDeclared {
            id: QueueId(300),
            vhost: "/".to_owned(),
            name: "orders".to_owned(),
            auto_delete: true,
            arguments: arguments.finish(),
        };
        let bytes = declared.encode();
        assert_eq!(Definition::decode(&bytes), Some(declared));
        for len in 0..bytes.len() {
            assert_eq!(Definition::decode(&bytes[..len]), None);
        }
        assert_eq!(Definition::decode(&[&bytes[..], b"x"].concat()), None);
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let _ = Definition::decode(&flipped);
        }
    }

    /// These bytes are on disks: if this fails, the format version must change.
    #[test]
    fn the_stored_form_is_fixed() {
        let bound = Definition::Bound {
            vhost: "v".to_owned(),
            source: "s".to_owned(),
            destination: BoundTo::Exchange("e".to_owned()),
            key: vec![7],
            arguments: Table::default(),
        };
        assert_eq!(bound.encode(), b"\x06\x01v\x01s\x01\x01e\x01\x07\x00");
        let deleted = Definition::QueueDeleted { id: QueueId(300) };
        assert_eq!(deleted.encode(), b"\x05\xac\x02");
        let [vhost, component, name, value] = ["v", "c", "n", "5"].map(str::to_owned);
        let set = Definition::ParameterSet { vhost, component, name, value };
        assert_eq!(set.encode(), b"\x08\x01v\x01c\x01n\x015");
        let (offset, damaged_at, end, first, last) = (1024, 1024, 2000, Lsn(9), Lsn(11));
        let gap = Gap { segment: SegmentNo(3), offset, damaged_at, end, first, last };
        let released = Definition::QueueReleased { id: QueueId(300), gap };
        assert_eq!(released.encode(), b"\x0b\xac\x02\x03\x80\x08\x80\x08\xd0\x0f\x09\x0b");
    }
}
