//! The queues in which the messages of delayed exchanges wait: one for each such exchange, under
//! its name, listed by id only. It comes and goes with the exchange.

use super::Broker;
use super::checkpoint::queue_declared;
use super::declare::DeclareExchange;
use super::link::Workspace;
use super::vhost::{State, Vhost};
use crate::exchange::{Kind, Removed};
use crate::id::QueueId;
use crate::name::Name;
use crate::queue::{Queue, QueueCore, QueueSettings};
use crate::store::Definition;
use crate::table::Table;
use std::sync::Arc;

impl State {
    /// Makes the queue of a new delayed exchange; gives its definition, which is to be recorded
    /// together with the exchange's if that is durable.
    pub(super) fn add_delay_queue(
        &mut self,
        id: QueueId,
        exchange: &DeclareExchange<'_>,
        vhost: &Name,
        broker: &Broker,
    ) -> Option<Definition> {
        let settings = QueueSettings {
            durable: exchange.durable,
            auto_delete: false,
            exclusive_owner: None,
            arguments: Table::default(),
        };
        let core = QueueCore::new(id, settings.durable).with_paging(Arc::clone(&broker.paging));
        let name = Name::new(exchange.name);
        let queue = Queue::new(vhost.clone(), name, settings, core, &broker.residence);
        let queue = Arc::new(queue.with_durability(broker.config.durability));
        let definition = exchange.durable.then(|| queue_declared(&queue));
        self.by_id.insert(id, queue);
        definition
    }

    /// Exchanges have been deleted: forgets their delay queues, and says what is to be recorded.
    pub(super) fn exchanges_deleted(
        &mut self,
        removed: &Removed,
        vhost: &Name,
        workspace: &mut Workspace,
    ) -> Vec<Definition> {
        let mut definitions = Vec::new();
        for exchange in &removed.exchanges {
            let queue = exchange.delay_queue.and_then(|id| self.by_id.remove(&id));
            if exchange.durable {
                let id = queue.as_ref().map(|queue| queue.id);
                definitions.extend(id.map(|id| Definition::QueueDeleted { id }));
                definitions.push(Definition::ExchangeDeleted {
                    vhost: vhost.to_string(),
                    name: exchange.name.to_string(),
                });
            }
            workspace.ending.extend(queue);
        }
        definitions
    }
}

impl Vhost {
    /// The queues of delayed exchanges too.
    pub(super) fn all_queues(&self) -> Vec<Arc<Queue>> {
        self.state.read().by_id.values().cloned().collect()
    }

    /// Where the messages of a delayed exchange wait; `None` if it is none, or is not there.
    #[must_use]
    pub fn delay_queue(&self, exchange: &str) -> Option<Arc<Queue>> {
        let state = self.state.read();
        let id = state.topology.exchange(exchange)?.settings().kind.delay_queue()?;
        state.by_id.get(&id).cloned()
    }
}

impl Broker {
    /// Ends the delay queues of exchanges that are deleted, with their messages.
    pub(super) fn end_delay_queues(&self, workspace: &mut Workspace) {
        for queue in std::mem::take(&mut workspace.ending) {
            // Nobody else ends it.
            let _ = queue.close_if(&mut workspace.effects, |_| Ok::<(), ()>(()));
            self.deadlines.forget(queue.id);
        }
    }

    /// Whether what is due in this queue can go on. Without the plugin that routes for its exchange
    /// it waits for a start that brings it.
    pub(super) fn can_release(&self, queue: &Queue) -> bool {
        if !queue.id.is_timed() {
            return true;
        }
        let exchange = self.vhost(&queue.vhost).and_then(|vhost| vhost.exchange(&queue.name));
        exchange.is_some_and(|exchange| !matches!(exchange.kind.routes(), Kind::Missing(_)))
    }
}
