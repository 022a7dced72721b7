//! Starting a broker: what the store recovered becomes vhosts, exchanges, queues and messages.

use super::access::{Access, PasswordHash, Tag};
use super::alarm::Alarms;
use super::deadletter::DeadLetters;
use super::deadlines::Deadlines;
use super::link::{ReplyTargets, RouteBudget};
use super::loads::Loads;
use super::relief::Relief;
use super::space::Space;
use super::spill::Spilling;
use super::vhost::{State, Vhost};
use super::{Broker, Entropy};
use crate::config::{Config, Secret};
use crate::deduplication::KeyBudget;
use crate::exception::Resource;
use crate::exchange::{
    DELAYED, DelayedKind, Destination, ExchangeTypes, Kind, Settings, alternate_exchange,
};
use crate::id::{CacheId, Lsn, QueueId, Seq};
use crate::name::Name;
use crate::queue::{Page, Paged, Paging, Queue, QueueCore, QueueSettings, Residence};
use crate::store::{
    self, BoundTo, CameBack, Definitions, Disk, Reach, Recovered, RecoveredKeys, RecoveredQueue,
    StoredMessage, StoredPage, StoredQueue, StoredVhost,
};
use crate::time::UnixMillis;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
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

/// What a restored queue shares with all others.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    residence: &'a Arc<Residence>,
    paging: &'a Arc<Paging>,
    config: &'a Config,
}

impl Broker {
    /// Recovers a broker from `disk`. It serves nobody yet, and needs a thread that runs its
    /// journal's rounds. An exchange of a type that is not among `exchange_types` is kept, and
    /// refuses to route.
    ///
    /// # Errors
    /// The disk's, or what is wrong with its contents or the configuration.
    pub fn open(
        config: Config,
        disk: &dyn Disk,
        entropy: Entropy,
        exchange_types: ExchangeTypes,
    ) -> Result<Arc<Self>, StartError> {
        let salt = entropy.number();
        let options = store::Options {
            segment_bytes: config.sizes.segment_bytes,
            segment_records: config.sizes.segment_records,
            frame_bytes: config.sizes.frame_bytes,
            page_len: config.sizes.page_len,
            slack_segments: config.sizes.slack_segments,
            spill_file_bytes: config.sizes.spill_file_bytes,
            ..store::Options::new(config.durability, salt)
        };
        let (store, recovered) = store::open(disk, &options).map_err(StartError::Store)?;
        let Recovered { definitions, mut queues, caches, next_queue_id, .. } = recovered;
        let is_clean = (recovered.last_lsn > Lsn(0)).then_some(recovered.clean);
        let mut vhosts = HashMap::new();
        let (residence, key_budget) = (Arc::default(), Arc::default());
        let paging = Arc::new(Paging::from(config.sizes));
        let surroundings = Surroundings { residence: &residence, paging: &paging, config: &config };
        let access = open_access(&config, &entropy)?;
        for (name, stored) in definitions.vhosts() {
            let vhost = Vhost::new(Name::new(name), Reach::default());
            restore_exchanges(&vhost, stored, &definitions, &exchange_types)?;
            restore_queues(&vhost, stored, &definitions, &mut queues, surroundings)?;
            restore_caches(&vhost, &caches, &key_budget);
            access.create_vhost(name);
            vhosts.insert(Name::new(name), Arc::new(vhost));
        }
        let broker = Arc::new(Self {
            relief: Relief::new(&config.sizes),
            spilling: Spilling::new(config.sizes.spill_bytes.unwrap_or(u64::MAX)),
            config,
            access,
            alarms: Alarms::default(),
            replies: ReplyTargets::default(),
            route_budget: RouteBudget::default(),
            residence,
            key_budget,
            paging,
            entropy,
            exchange_types,
            store,
            gate: RwLock::new(()),
            loads: Loads::default(),
            dead_letters: DeadLetters::default(),
            deadlines: Deadlines::default(),
            space: Space::default(),
            vhosts: RwLock::new(vhosts),
            connections: Mutex::new(HashMap::new()),
            next_queue: AtomicU64::new(next_queue_id.0),
            next_connection: AtomicU64::new(1),
        });
        for name in std::iter::once(&broker.config.default_vhost).chain(&broker.config.vhosts) {
            broker.create_vhost(name);
        }
        broker.look_at_restored();
        broker.log_restored(is_clean);
        Ok(broker)
    }

    /// Says what came back; whether the last stop was clean, or nothing if there was none.
    fn log_restored(&self, is_clean: Option<bool>) {
        let vhosts = self.vhosts.read();
        let queues: Vec<_> = vhosts.values().flat_map(|vhost| vhost.queues()).collect();
        let messages: u64 = queues.iter().map(|queue| queue.counters.ready.get()).sum();
        let (vhosts, queues) = (vhosts.len(), queues.len());
        let stop = match is_clean {
            None => "in a new data directory",
            Some(true) => "after a clean stop",
            Some(false) => {
                "after a stop that was not clean: what may have been delivered is redelivered"
            }
        };
        tracing::info!("vhosts: {vhosts}, queues: {queues}, messages: {messages}, {stop}");
    }
}

/// Makes the users of the configuration. No other is kept: a start forgets what was changed.
fn open_access(config: &Config, entropy: &Entropy) -> Result<Access, StartError> {
    let access = Access::new(&config.loopback_users);
    let set_user = |name: &Name, password: &Secret, tags: &[Name]| {
        let [a, b, c, d, ..] = entropy.octets();
        let password = PasswordHash::new(&password.0, [a, b, c, d]);
        let tags: Vec<Tag> = tags.iter().map(|tag| Tag::from(&**tag)).collect();
        access.set_user(name, Some(password), &tags);
    };
    set_user(&config.default_user, &config.default_pass, &config.default_user_tags);
    access
        .set_permissions(&config.default_user, &config.default_vhost, &config.default_permissions)
        .map_err(|error| StartError::Access(format!("default_permissions: {error}")))?;
    for user in &config.users {
        set_user(&user.name, &user.password, &user.tags);
        access
            .set_default_permissions(&user.name, &user.vhost_pattern, &user.permissions)
            .map_err(|error| StartError::Access(format!("user '{}': {error}", user.name)))?;
    }
    Ok(access)
}

fn restore_exchanges(
    vhost: &Vhost,
    stored: &StoredVhost,
    definitions: &Definitions,
    exchange_types: &ExchangeTypes,
) -> Result<(), StartError> {
    let mut state = vhost.state.write();
    let waiting =
        definitions.queues().filter(|(id, queue)| id.is_timed() && *queue.vhost == *vhost.name);
    let waiting: HashMap<_, _> = waiting.map(|(id, queue)| (queue.name.as_str(), id)).collect();
    for (component, name, value) in stored.parameters() {
        Arc::make_mut(&mut state.policies).restore(component, name, value);
    }
    state.policies.warnings(&vhost.name).for_each(|warning| tracing::warn!("{warning}"));
    for (name, exchange) in stored.exchanges() {
        let resource = Resource::Exchange { vhost: &vhost.name, name };
        let kind = match waiting.get(name).filter(|_| exchange.kind == DELAYED) {
            Some(&queue) => {
                let routes = exchange_types.stored_delayed(exchange.arguments.as_ref());
                Kind::Delayed(Box::new(DelayedKind { routes, queue }))
            }
            None => exchange_types.stored_kind(&exchange.kind),
        };
        if let Kind::Missing(kind) = kind.routes() {
            tracing::warn!("{resource} routes nothing: no plugin brings exchange type '{kind}'");
        }
        let alternate = alternate_exchange(exchange.arguments.as_ref(), resource);
        let settings = Settings {
            kind,
            durable: true,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
            alternate: alternate.map_err(|error| StartError::Definition(error.text()))?,
            cache: exchange.cache,
        };
        state.topology.declare(Name::new(name), settings);
    }
    // The predeclared ones have them too.
    state.apply_alternates();
    Ok(())
}

/// Queues with their messages, then all bindings.
fn restore_queues(
    vhost: &Vhost,
    stored: &StoredVhost,
    definitions: &Definitions,
    messages: &mut HashMap<QueueId, RecoveredQueue>,
    surroundings: Surroundings<'_>,
) -> Result<(), StartError> {
    let mut state = vhost.state.write();
    for (id, queue) in definitions.queues().filter(|(_, queue)| queue.vhost == *vhost.name) {
        let gaps: Vec<_> = definitions.holds(id).copied().collect();
        let is_held = !gaps.is_empty();
        if is_held {
            state.held.insert(id, gaps);
        }
        let messages = messages.remove(&id);
        state.restore_queue(&vhost.name, (id, is_held), queue, messages, surroundings);
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

/// What its queues and exchanges remember.
fn restore_caches(
    vhost: &Vhost,
    caches: &HashMap<CacheId, RecoveredKeys>,
    budget: &Arc<KeyBudget>,
) {
    for deduplicator in vhost.state.read().deduplicators() {
        if let Some(RecoveredKeys { keys, changed }) = caches.get(&deduplicator.id) {
            let entries = keys.entries.iter().copied();
            deduplicator.restore(entries, keys.next_number, *changed, budget);
        }
    }
}

impl State {
    fn restore_queue(
        &mut self,
        vhost: &Name,
        (id, is_held): (QueueId, bool),
        stored: &StoredQueue,
        recovered: Option<RecoveredQueue>,
        Surroundings { residence, paging, config }: Surroundings<'_>,
    ) {
        let mut core = QueueCore::new(id, true).with_paging(Arc::clone(paging));
        if is_held {
            core = core.on_hold();
        }
        let changed = recovered.as_ref().is_some_and(|recovered| recovered.changed);
        if let Some(recovered) = recovered {
            let RecoveredQueue { next_seq, due, pages, returns, .. } = recovered;
            core.restore_next_seq(next_seq);
            for stored in pages {
                let stored = restore_retrying(&mut core, stored, &returns, due);
                pages_of(stored).into_iter().for_each(|page| core.restore_page(page.with_due(due)));
            }
            core.restore_due(due);
            core.restore_returns(returns);
        }
        let settings = QueueSettings {
            durable: true,
            auto_delete: stored.auto_delete,
            exclusive_owner: None,
            arguments: stored.arguments.clone(),
        };
        let name = Name::new(&stored.name);
        // No policy applies to a queue that nobody can name.
        if !id.is_timed() {
            core = core.with_behaviour(self.policies.behaviour(&name, &settings));
        }
        let durability = settings.durability().unwrap_or(config.durability);
        let queue = Queue::new(vhost.clone(), name.clone(), settings, core, residence);
        let queue = Arc::new(queue.with_durability(durability));
        if changed {
            queue.mark_changed();
        }
        if !id.is_timed() {
            self.queues.insert(name, Arc::clone(&queue));
        }
        self.by_id.insert(id, queue);
    }
}

/// Gives the queue those messages of a page that wait for their next attempt, and the rest back.
fn restore_retrying(
    core: &mut QueueCore,
    page: StoredPage,
    returns: &BTreeMap<Seq, CameBack>,
    due: UnixMillis,
) -> StoredPage {
    let StoredPage::List(mut messages) = page else { return page };
    messages.retain(|message| {
        let StoredMessage { seq, body_len, redelivered } = *message;
        let waits = returns.get(&seq).filter(|it| it.waits());
        if let Some(it) = waits {
            core.restore_retrying((seq, body_len), redelivered, due, it.until);
        }
        waits.is_none()
    });
    StoredPage::List(messages)
}

/// One page for each rank: where new messages join, none has to be divided.
fn pages_of(stored: StoredPage) -> Vec<Page> {
    match stored {
        StoredPage::Dense { first, last, bytes, redelivered } => {
            vec![Page::dense(first, last, bytes, redelivered)]
        }
        StoredPage::List(messages) => {
            let of_one_rank = messages.chunk_by(|a, b| a.seq.rank() == b.seq.rank());
            let pages = of_one_rank.map(|part| {
                Page::new(part.iter().map(|message| Paged {
                    seq: message.seq,
                    body_len: message.body_len,
                    persistent: true,
                    redelivered: message.redelivered,
                    due: UnixMillis::NEVER,
                }))
            });
            pages.flatten().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UserConfig;
    use crate::exception::Permission;
    use crate::store::MemoryDisk;

    fn open(users: &[UserConfig], vhosts: &[&str], disk: &MemoryDisk) -> Arc<Broker> {
        let config = Config {
            users: users.to_vec(),
            vhosts: vhosts.iter().map(|name| Name::new(name)).collect(),
            ..Config::default()
        };
        Broker::open(config, disk, Entropy::new(|| [7; 16]), ExchangeTypes::built_in()).unwrap()
    }

    fn may_open(broker: &Broker, user: &str, vhost: &str) -> bool {
        let user = broker.access.user(user).unwrap();
        broker.access.vhost_access(&user, vhost)
    }

    #[test]
    fn configured_vhosts_are_created_once_and_stay() {
        let disk = MemoryDisk::new();
        let broker = open(&[], &["burrow", "/"], &disk);
        assert!(broker.vhost("/").is_some() && broker.vhost("burrow").is_some());
        let created = broker.create_vhost("burrow");
        assert_eq!(created.durable, broker.journal().appended_lsn());
        assert!(broker.journal().round(&disk).unwrap());
        assert!(broker.journal().reach().meets(created));
        drop(broker);

        let broker = open(&[], &[], &disk);
        assert!(broker.vhost("burrow").is_some());
        let before = broker.journal().appended_lsn();
        assert!(broker.create_vhost("burrow").durable <= before);
        assert_eq!(broker.journal().appended_lsn(), before);
    }

    #[test]
    fn a_user_has_his_permissions_in_each_vhost_that_matches_old_and_new() {
        let disk = MemoryDisk::new();
        let mut hare = UserConfig::new("hare", "secret");
        hare.vhost_pattern = "^burrow".into();
        hare.permissions.write = "^w".into();
        let broker = open(&[hare.clone()], &["burrow.1", "field"], &disk);
        assert!(broker.access.authenticate_plain("hare", "secret", false).is_ok());
        assert!(may_open(&broker, "hare", "burrow.1"));
        assert!(!may_open(&broker, "hare", "field") && !may_open(&broker, "hare", "/"));
        assert!(!may_open(&broker, "guest", "burrow.1") && may_open(&broker, "guest", "/"));
        broker.create_vhost("burrow.2");
        let user = broker.access.user("hare").unwrap();
        let may_write = |name| broker.access.check(&user, "burrow.2", Permission::Write, name);
        assert!(may_write("w") && !may_write("r"));
        broker.journal().round(&disk).unwrap();

        let broker = open(&[hare], &[], &disk);
        assert!(may_open(&broker, "hare", "burrow.2") && !may_open(&broker, "hare", "field"));
        let broker = open(&[], &[], &disk);
        assert!(broker.access.user("hare").is_none());
    }

    #[test]
    fn an_entry_for_the_default_user_counts_in_its_place() {
        let guest = UserConfig::new("guest", "secret");
        let broker = open(&[guest], &["burrow"], &MemoryDisk::new());
        assert!(broker.access.authenticate_plain("guest", "guest", true).is_err());
        assert!(may_open(&broker, "guest", "/") && may_open(&broker, "guest", "burrow"));
    }

    #[test]
    fn a_pattern_that_is_wrong_stops_the_start() {
        let mut user = UserConfig::new("hare", "secret");
        user.vhost_pattern = "(".into();
        let config = Config { users: vec![user], ..Config::default() };
        let opened = Broker::open(
            config,
            &MemoryDisk::new(),
            Entropy::new(|| [7; 16]),
            ExchangeTypes::core(),
        );
        let text = opened.err().unwrap().to_string();
        assert_eq!(text, "user 'hare': '(' is not a regular expression: unclosed group");
    }
}
