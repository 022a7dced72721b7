//! Declaring, binding and deleting: every check in RabbitMQ's order, then the topology and its
//! record in one hold of the vhost's lock. An answer that a durable change deserves comes with the
//! LSN it must wait for; zero means at once.

mod binding;
mod exchange;
mod queue;

pub use binding::BindTo;
pub use exchange::DeclareExchange;
pub use queue::{DeclareQueue, Declared};

/// RabbitMQ: CR and LF are taken out of declared names.
#[must_use]
pub fn strip_line_breaks(name: &str) -> std::borrow::Cow<'_, str> {
    if name.bytes().any(|b| b == b'\r' || b == b'\n') {
        return name.replace(['\r', '\n'], "").into();
    }
    name.into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::DeclareQueue;
    use crate::broker::link::{Client, Inbox, Link};
    use crate::broker::{Broker, Entropy};
    use crate::config::Config;
    use crate::exchange::ExchangeTypes;
    use crate::store::MemoryDisk;
    use crate::table::TableRef;
    use std::sync::Arc;

    pub(in crate::broker) const EXCLUSIVE: DeclareQueue<'_> = DeclareQueue {
        name: "",
        durable: false,
        exclusive: true,
        auto_delete: false,
        arguments: TableRef::EMPTY,
    };

    pub(in crate::broker) const DURABLE: DeclareQueue<'_> =
        DeclareQueue { durable: true, exclusive: false, ..EXCLUSIVE };

    pub(in crate::broker) fn open(disk: &MemoryDisk) -> Arc<Broker> {
        let entropy = Entropy::new(|| [7; 16]);
        Broker::open(Config::default(), disk, entropy, ExchangeTypes::built_in()).unwrap()
    }

    /// A channel of a new connection in the default vhost.
    pub(in crate::broker) fn connect(broker: &Arc<Broker>) -> Link {
        let inbox = Arc::new(Inbox::new());
        let (user, vhost) = (broker.access.user("guest"), broker.vhost("/"));
        let connection = broker.connect(&inbox);
        let client = Client::new(connection, user.unwrap(), vhost.unwrap(), inbox);
        Link::new(Arc::clone(broker), Arc::new(client), 1)
    }
}
