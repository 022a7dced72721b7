//! Starting a broker: what the store recovered becomes vhosts, exchanges, queues and messages.

use super::access::{Access, PasswordHash, Tag};
use super::link::ReplyTargets;
use super::vhost::{State, Vhost};
use super::{Broker, Entropy};
use crate::config::{Config, Durability};
use crate::exception::Resource;
use crate::exchange::{Destination, Kind, Settings, alternate_exchange};
use crate::id::QueueId;
use crate::name::Name;
use crate::queue::{Queue, QueueCore, QueueSettings};
use crate::store::{
    self, BoundTo, Catalogue, Definition, Disk, RecordBatch, Recovered, RecoveredQueue,
    StoredQueue, StoredVhost,
};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Why a broker cannot start.
#[derive(Debug)]
pub enum StartError {
    Store(store::StoreError),
    /// A stored definition that this version cannot carry out.
    Definition(String),
    /// A configured user or permission that cannot be.
    Access(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Definition(text) | Self::Access(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

impl Broker {
    /// Recovers a broker from `disk`. It serves nobody yet, and needs a thread that runs its
    /// journal's rounds.
    ///
    /// # Errors
    /// The disk's, or what is wrong with its contents or the configuration.
    pub fn open(
        config: Config,
        disk: &dyn Disk,
        entropy: Entropy,
    ) -> Result<Arc<Self>, StartError> {
        let salt = u64::from_be_bytes(first_half(entropy.octets()));
        let durability = match config.durability {
            Durability::Fsync => store::Durability::Fsync,
            Durability::Os => store::Durability::Os,
        };
        let (journal, recovered) =
            store::open(disk, durability, salt).map_err(StartError::Store)?;
        let Recovered { catalogue, mut queues, next_queue_id, .. } = recovered;
        let mut vhosts = HashMap::new();
        for (name, stored) in catalogue.vhosts() {
            let vhost = Vhost::new(Name::new(name));
            restore(&vhost, stored, &catalogue, &mut queues)?;
            vhosts.insert(Name::new(name), Arc::new(vhost));
        }
        let access = open_access(&config, &entropy)?;
        let default = config.default_vhost.clone();
        if !vhosts.contains_key(&default) {
            let mut records = RecordBatch::new();
            records.definition(&Definition::VhostCreated { name: default.to_string() });
            journal.append(&mut records);
            vhosts.insert(default.clone(), Arc::new(Vhost::new(default)));
        }
        Ok(Arc::new(Self {
            config,
            access,
            replies: ReplyTargets::default(),
            entropy,
            journal: Arc::new(journal),
            vhosts: RwLock::new(vhosts),
            connections: Mutex::new(HashMap::new()),
            next_queue: AtomicU64::new(next_queue_id.0),
            next_connection: AtomicU64::new(1),
        }))
    }
}

fn open_access(config: &Config, entropy: &Entropy) -> Result<Access, StartError> {
    let access = Access::new(&config.loopback_users);
    let [a, b, c, d, ..] = entropy.octets();
    let password = PasswordHash::new(&config.default_pass.0, [a, b, c, d]);
    let tags: Vec<Tag> = config.default_user_tags.iter().map(|tag| Tag::from(&**tag)).collect();
    access.set_user(&config.default_user, Some(password), &tags);
    access
        .set_permissions(&config.default_user, &config.default_vhost, &config.default_permissions)
        .map_err(|error| StartError::Access(format!("default_permissions: {error}")))?;
    Ok(access)
}

fn restore(
    vhost: &Vhost,
    stored: &StoredVhost,
    catalogue: &Catalogue,
    messages: &mut HashMap<QueueId, RecoveredQueue>,
) -> Result<(), StartError> {
    let mut state = vhost.state.write();
    for (name, exchange) in stored.exchanges() {
        let resource = Resource::Exchange { vhost: &vhost.name, name };
        let kind = Kind::from_name(&exchange.kind).ok_or_else(|| {
            let text =
                format!("{resource} is stored with type '{}', which is unknown", exchange.kind);
            StartError::Definition(text)
        })?;
        let alternate = alternate_exchange(exchange.arguments.as_ref(), resource);
        let settings = Settings {
            kind,
            durable: true,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
            alternate: alternate.map_err(|error| StartError::Definition(error.text()))?,
        };
        state.topology.declare(Name::new(name), settings);
    }
    for (id, queue) in catalogue.queues().filter(|(_, queue)| queue.vhost == *vhost.name) {
        state.restore_queue(&vhost.name, id, queue, messages.remove(&id));
    }
    for binding in stored.bindings() {
        let destination = match &binding.destination {
            BoundTo::Queue(id) => Destination::Queue(*id),
            BoundTo::Exchange(name) => Destination::Exchange(Name::new(name)),
        };
        state
            .topology
            .bind(&binding.source, destination, &binding.key, binding.arguments.as_ref())
            .map_err(|error| StartError::Definition(error.text()))?;
    }
    Ok(())
}

impl State {
    fn restore_queue(
        &mut self,
        vhost: &Name,
        id: QueueId,
        stored: &StoredQueue,
        recovered: Option<RecoveredQueue>,
    ) {
        let mut core = QueueCore::new(id, true);
        if let Some(recovered) = recovered {
            core.restore_next_seq(recovered.next_seq);
            for message in recovered.messages {
                core.restore(message.seq, message.message, message.redelivered);
            }
        }
        let settings = QueueSettings {
            durable: true,
            auto_delete: stored.auto_delete,
            exclusive_owner: None,
            arguments: stored.arguments.clone(),
        };
        let name = Name::new(&stored.name);
        let queue = Arc::new(Queue::new(vhost.clone(), name.clone(), settings, core));
        self.queues.insert(name, Arc::clone(&queue));
        self.by_id.insert(id, queue);
    }
}

fn first_half(octets: [u8; 16]) -> [u8; 8] {
    let (half, _) = octets.split_first_chunk().expect("16 octets have 8 at their front");
    *half
}
