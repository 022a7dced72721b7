//! The node: vhosts with their exchanges and queues, users, and the verbs on them. Synchronous and
//! without a clock; it owns no socket and no thread. Clients reach it through `link`.

pub mod access;
mod access_cache;
mod again;
pub mod alarm;
mod checkpoint;
pub mod control;
mod deadletter;
mod deadlines;
mod declare;
mod delays;
#[cfg(test)]
mod delays_tests;
mod hold;
mod keep;
pub mod link;
mod loads;
pub mod policy;
mod relief;
pub mod sasl;
mod space;
mod spill;
mod start;
mod vhost;

pub use declare::{BindTo, DeclareExchange, DeclareQueue, Declared, strip_line_breaks};
pub use start::StartError;
pub use vhost::Vhost;

use crate::config::Config;
use crate::deduplication::KeyBudget;
use crate::exception::Exception;
use crate::exchange::ExchangeTypes;
use crate::id::{ConnectionId, QueueId};
use crate::name::Name;
use crate::queue::{Paging, Queue, Residence};
use crate::store::{Definition, Journal, Log, Reach, RecordBatch, Store};
use access::Access;
use alarm::Alarms;
use deadletter::DeadLetters;
use deadlines::Deadlines;
use hashbrown::HashMap;
use link::{Inbox, ReplyTargets, RouteBudget};
use loads::Loads;
use parking_lot::{Mutex, RwLock};
use relief::Relief;
use space::Space;
use spill::Spilling;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Randomness for names and secrets, given by whoever runs the broker.
pub struct Entropy(Mutex<Box<dyn FnMut() -> [u8; 16] + Send>>);

impl Entropy {
    /// `source` must be unpredictable for clients: direct-reply names rest on it.
    pub fn new(source: impl FnMut() -> [u8; 16] + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(source)))
    }

    pub fn octets(&self) -> [u8; 16] {
        (self.0.lock())()
    }

    /// Half of that.
    pub fn number(&self) -> u64 {
        let octets = self.octets();
        let (half, _) = octets.split_first_chunk().expect("16 octets have 8 at their front");
        u64::from_be_bytes(*half)
    }
}

/// One broker. Several may live in a process.
pub struct Broker {
    pub config: Config,
    pub access: Access,
    pub alarms: Alarms,
    pub replies: ReplyTargets,
    pub route_budget: RouteBudget,
    /// What all queues hold in memory.
    pub residence: Arc<Residence>,
    /// What all caches of keys hold in memory.
    pub key_budget: Arc<KeyBudget>,
    /// What all queues know of paging.
    paging: Arc<Paging>,
    pub entropy: Entropy,
    pub exchange_types: ExchangeTypes,
    store: Store,
    /// Held for reading from the reservation of a message for several queues until all show it.
    gate: RwLock<()>,
    loads: Loads,
    dead_letters: DeadLetters,
    deadlines: Deadlines,
    relief: Relief,
    spilling: Spilling,
    space: Space,
    vhosts: RwLock<HashMap<Name, Arc<Vhost>>>,
    connections: Mutex<HashMap<ConnectionId, Arc<Inbox>>>,
    next_queue: AtomicU64,
    next_connection: AtomicU64,
}

impl Broker {
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// Makes sure that the vhost exists. If it did not, users get their default permissions in it.
    /// It can be used at once; it survives a crash when that is reached.
    pub fn create_vhost(&self, name: &str) -> Reach {
        let mut vhosts = self.vhosts.write();
        if let Some(vhost) = vhosts.get(name) {
            return vhost.defined();
        }
        let mut records = RecordBatch::new();
        records.definition(&Definition::VhostCreated { name: name.into() });
        let created = self.append_definitions(&mut records);
        self.access.create_vhost(name);
        let name = Name::new(name);
        vhosts.insert(name.clone(), Arc::new(Vhost::new(name, created)));
        created
    }

    /// Definitions are as durable as this broker's configuration says, whatever queue they are of:
    /// they are few, and everything else builds on them.
    fn append_definitions(&self, records: &mut RecordBatch) -> Reach {
        let durability = self.config.durability;
        Reach::of(self.log().append_as(records, durability), durability)
    }

    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        self.store.journal()
    }

    #[must_use]
    pub fn log(&self) -> &dyn Log {
        &**self.store.journal()
    }

    /// The queue with this id, in whichever vhost.
    fn queue_by_id(&self, id: QueueId) -> Option<Arc<Queue>> {
        let vhosts = self.vhosts.read();
        vhosts.values().find_map(|vhost| vhost.state.read().by_id.get(&id).cloned())
    }

    /// Enters a connection, so that it can be told of a shutdown.
    pub fn connect(&self, inbox: &Arc<Inbox>) -> ConnectionId {
        let id = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        self.connections.lock().insert(id, Arc::clone(inbox));
        id
    }

    pub fn disconnect(&self, id: ConnectionId) {
        self.connections.lock().remove(&id);
        self.alarms.forget(id);
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections_len(&self) -> usize {
        self.connections.lock().len()
    }

    /// Asks every connection to end.
    pub fn close_connections(&self, exception: &Exception) {
        let inboxes: Vec<_> = self.connections.lock().values().cloned().collect();
        for inbox in inboxes {
            inbox.close(exception.clone());
        }
    }

    /// A name that no one has: `prefix-` and 22 characters (RabbitMQ: amq.gen-, amq.ctag-).
    #[must_use]
    pub fn generate_name(&self, prefix: &str) -> Name {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let random = URL_SAFE_NO_PAD.encode(self.entropy.octets());
        Name::from(format!("{prefix}-{random}"))
    }

    fn next_queue_id(&self) -> QueueId {
        QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed))
    }
}
