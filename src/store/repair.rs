//! Makes a new catalogue from the snapshot and the journal, offline. Nothing else changes: what was
//! redelivered stays so, and what was no clean stop does not become one.

use super::check::{Report, Severity, check};
use super::checkpoint::Source;
use super::definition::Definition;
use super::disk::Disk;
use super::entries::Standing;
use super::error::StoreError;
use super::given_up::Loss;
use super::open::open_with;
use super::recovered::{Recovered, StoredPage};
use super::start::Copies;
use super::{Options, RunSet, Store, StoredKeys};
use crate::id::{CacheId, Lsn, QueueId};

/// What became of it.
#[derive(Debug)]
pub enum Repair {
    /// The journal is damaged, and nothing was changed.
    Refused(Report),
    /// The catalogue is new; this is how all looks now.
    Done(Report),
}

/// Puts the catalogue aside and makes a new one.
///
/// # Errors
/// The disk's. A start is as good as before then, but for a clean stop, which does not count any
/// more.
pub fn repair(disk: &dyn Disk, options: &Options) -> Result<Repair, StoreError> {
    let before = check(disk, options.page_len)?;
    if before.findings.iter().any(|finding| finding.severity == Severity::Damage) {
        return Ok(Repair::Refused(before));
    }
    let without = |disk: &dyn Disk| Copies { is_blank: false, ..Copies::read(Ok(None), disk) };
    let (store, recovered) = open_with(disk, options, without, Loss::Refused)?;
    make_catalogue(disk, &store, &recovered)?;
    drop(store);
    check(disk, options.page_len).map(Repair::Done)
}

/// Makes a checkpoint of what was recovered. An empty journal has nothing to make one of.
pub(super) fn make_catalogue(
    disk: &dyn Disk,
    store: &Store,
    recovered: &Recovered,
) -> Result<(), StoreError> {
    if recovered.last_lsn == Lsn(0) {
        return Ok(());
    }
    store.checkpoint_now(disk, recovered)?;
    if recovered.clean {
        store.journal().close_clean(disk)?;
    }
    store.journal().flush(disk)?;
    store.journal().seal(disk)
}

/// No broker is there: what was recovered is all there is.
impl Source for Recovered {
    fn pass_gate(&self) {}

    fn definitions(&self, each: &mut dyn FnMut(Definition)) {
        let vhosts = self.definitions.vhosts();
        vhosts.for_each(|(name, _)| each(Definition::VhostCreated { name: name.to_owned() }));
        for (vhost, stored) in self.definitions.vhosts() {
            for (component, name, value) in stored.parameters() {
                let [vhost, component, name, value] =
                    [vhost, component, name, value].map(str::to_owned);
                each(Definition::ParameterSet { vhost, component, name, value });
            }
            for (name, exchange) in stored.exchanges() {
                each(exchange.clone().declared(vhost.to_owned(), name.to_owned()));
            }
        }
        self.definitions.queues().for_each(|(id, queue)| each(queue.clone().declared(id)));
        let held = self.definitions.held();
        held.for_each(|(id, _, gap)| each(Definition::QueueHeld { id, gap: *gap }));
        for (vhost, stored) in self.definitions.vhosts() {
            stored.bindings().for_each(|binding| each(binding.clone().bound(vhost.to_owned())));
        }
    }

    fn standings(&self, all: bool, each: &mut dyn FnMut(QueueId, Standing)) {
        for (id, queue) in self.queues.iter().filter(|(_, queue)| all || queue.changed) {
            let (mut live, mut redelivered) = (RunSet::default(), RunSet::default());
            for (seq, is_redelivered) in queue.pages.iter().flat_map(|page| page.messages()) {
                live.insert(seq..=seq);
                if is_redelivered {
                    redelivered.insert(seq..=seq);
                }
            }
            let (next_seq, due, returns) = (queue.next_seq, queue.due, queue.returns.clone());
            each(*id, Standing { next_seq, due, live, redelivered, returns });
        }
    }

    fn caches(&self, all: bool, each: &mut dyn FnMut(CacheId, StoredKeys)) {
        let caches = self.caches.iter().filter(|(_, cache)| all || cache.changed);
        caches.for_each(|(id, cache)| each(*id, cache.keys.clone()));
    }

    fn live_bytes(&self) -> u64 {
        let pages = self.queues.values().flat_map(|queue| &queue.pages);
        pages.map(StoredPage::bytes).sum()
    }

    fn next_queue_id(&self) -> QueueId {
        self.next_queue_id
    }
}
