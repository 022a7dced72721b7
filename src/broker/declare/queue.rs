//! queue.declare, queue.delete and queue.purge, and finding a queue for a client.

use crate::broker::checkpoint::queue_declared;
use crate::broker::link::{Link, PSEUDO_QUEUE, Workspace};
use crate::exception::{Exception, Permission, Resource};
use crate::name::Name;
use crate::queue::{Queue, QueueCore, QueueSettings, QueueType};
use crate::store::Reach;
use crate::table::{TableRef, Value};
use std::sync::Arc;

/// A queue.declare that is not passive.
pub struct DeclareQueue<'a> {
    /// Empty: the server makes one.
    pub name: &'a str,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub arguments: TableRef<'a>,
}

/// A queue that is there.
pub struct Declared {
    pub name: Name,
    pub ready: u64,
    pub consumers: u64,
    /// What declare-ok waits for.
    pub reach: Reach,
}

impl Link {
    /// Declares a queue.
    ///
    /// # Errors
    /// 403 for the reserved prefix or the permission, 405 for another owner, 406 for a difference
    /// to what exists or a bad argument.
    pub fn declare_queue(
        &mut self,
        declare: &DeclareQueue<'_>,
        workspace: &mut Workspace,
    ) -> Result<Declared, Exception> {
        if let Some(declared) = self.declare_reply_queue(declare.name)? {
            return Ok(declared);
        }
        if declare.name.starts_with("amq.") {
            return Err(Exception::reserved_prefix("queue", declare.name));
        }
        let settings = QueueSettings {
            durable: declare.durable && !declare.exclusive,
            auto_delete: declare.auto_delete,
            exclusive_owner: declare.exclusive.then_some(self.client.connection),
            arguments: declare.arguments.to_table(),
        };
        let name = match (declare.name, settings.queue_type()) {
            ("", QueueType::Classic) => self.broker.generate_name("amq.gen"),
            ("", kind) => return Err(Exception::server_named(kind.module())),
            (name, _) => Name::new(name),
        };
        let vhost = Arc::clone(self.vhost());
        let resource = Resource::Queue { vhost: &vhost.name, name: &name };
        self.check(Permission::Configure, resource)?;
        let mut exists = vhost.queue(&name).is_some();
        loop {
            if !exists {
                self.check_dead_letter_exchange(declare.arguments, resource)?;
            }
            match self.declare_queue_if(exists, &name, &settings, workspace)? {
                Some(declared) => return Ok(declared),
                // It has gone meanwhile, and what is new is looked at more closely.
                None => exists = false,
            }
        }
    }

    /// As `declare_queue`, once its name and permissions are checked, as one that `exists` or as a
    /// new one. `None` if it was to exist and does not.
    fn declare_queue_if(
        &mut self,
        exists: bool,
        name: &Name,
        settings: &QueueSettings,
        workspace: &mut Workspace,
    ) -> Result<Option<Declared>, Exception> {
        let vhost = Arc::clone(self.vhost());
        let resource = Resource::Queue { vhost: &vhost.name, name };
        let checked = settings.check_arguments(resource);
        let mut state = vhost.state.write();
        if let Some(queue) = state.queues.get(name).cloned() {
            if !queue.is_gone() {
                queue.settings.check_equivalent(settings, resource)?;
                let reach = if queue.settings.durable { state.defined } else { Reach::default() };
                queue.touch(&mut workspace.effects);
                let (ready, consumers) = queue.depth();
                return Ok(Some(Declared { name: name.clone(), ready, consumers, reach }));
            }
            state.forget_queue(&queue, &vhost.name, &self.broker, workspace);
        }
        if exists {
            return Ok(None);
        }
        checked?;
        let behaviour = state.policies.behaviour(name, settings);
        let core = QueueCore::new(self.broker.next_queue_id(), settings.durable)
            .with_paging(Arc::clone(&self.broker.paging))
            .with_behaviour(behaviour);
        let durability = settings.durability();
        let (vhost_name, residence) = (vhost.name.clone(), &self.broker.residence);
        let queue = Queue::new(vhost_name, name.clone(), settings.clone(), core, residence);
        let durability = durability.unwrap_or(self.broker.config.durability);
        let queue = Arc::new(queue.with_durability(durability));
        if let Some(owner) = queue.settings.exclusive_owner {
            state.exclusive.entry(owner).or_default().insert(queue.id);
        }
        queue.touch(&mut workspace.effects);
        state.queues.insert(name.clone(), Arc::clone(&queue));
        state.by_id.insert(queue.id, Arc::clone(&queue));
        let reach = if queue.settings.durable {
            state.define(&[queue_declared(&queue)], &self.broker, workspace)
        } else {
            Reach::default()
        };
        Ok(Some(Declared { name: name.clone(), ready: 0, consumers: 0, reach }))
    }

    /// RabbitMQ: a new queue's dead-letter exchange needs READ here and WRITE there, and may be
    /// missing.
    fn check_dead_letter_exchange(
        &mut self,
        arguments: TableRef<'_>,
        queue: Resource<'_>,
    ) -> Result<(), Exception> {
        const ARGUMENT: &str = "x-dead-letter-exchange";
        let exchange = match arguments.get(ARGUMENT.as_bytes()) {
            None => return Ok(()),
            Some(Value::LongStr(exchange)) => String::from_utf8_lossy(exchange),
            Some(other) => return Err(Exception::invalid_type(other.kind(), ARGUMENT, queue)),
        };
        self.check(Permission::Read, queue)?;
        let vhost = Arc::clone(self.vhost());
        self.check(Permission::Write, Resource::Exchange { vhost: &vhost.name, name: &exchange })
    }

    /// The pseudo-queue always exists, a requester's name as long as the requester does.
    fn declare_reply_queue(&self, name: &str) -> Result<Option<Declared>, Exception> {
        let Some(rest) = name.strip_prefix(PSEUDO_QUEUE) else {
            return Ok(None);
        };
        if !rest.is_empty() && !rest.starts_with('.') {
            return Ok(None);
        }
        if !rest.is_empty() && self.broker.replies.find(name.as_bytes()).is_none() {
            let resource = Resource::Queue { vhost: &self.vhost().name, name };
            return Err(Exception::not_found(resource));
        }
        let name = Name::new(name);
        Ok(Some(Declared { name, ready: 0, consumers: 1, reach: Reach::default() }))
    }

    /// queue.declare with passive.
    ///
    /// # Errors
    /// 404; 405 for another connection's exclusive queue.
    pub fn check_queue(
        &self,
        name: &str,
        workspace: &mut Workspace,
    ) -> Result<Declared, Exception> {
        if let Some(declared) = self.declare_reply_queue(name)? {
            return Ok(declared);
        }
        let queue = self.find_queue(name)?;
        queue.touch(&mut workspace.effects);
        let (ready, consumers) = queue.depth();
        let reach = if queue.settings.durable {
            self.vhost().state.read().defined
        } else {
            Reach::default()
        };
        Ok(Declared { name: queue.name.clone(), ready, consumers, reach })
    }

    /// The queue of that name, if this connection may use it.
    ///
    /// # Errors
    /// 404, 405.
    pub fn find_queue(&self, name: &str) -> Result<Arc<Queue>, Exception> {
        let resource = Resource::Queue { vhost: &self.vhost().name, name };
        let queue = self.vhost().queue(name).ok_or_else(|| Exception::not_found(resource))?;
        queue.settings.check_owner(self.client.connection, resource)?;
        Ok(queue)
    }

    /// As `find_queue`, after the READ permission that get, consume and purge need, and only if the
    /// queue is not held.
    ///
    /// # Errors
    /// 403, 404, 405.
    pub fn find_queue_to_read(&mut self, name: &str) -> Result<Arc<Queue>, Exception> {
        let vhost = Arc::clone(self.vhost());
        self.check(Permission::Read, Resource::Queue { vhost: &vhost.name, name })?;
        let queue = self.find_queue(name)?;
        vhost.check_hold(&queue, &self.broker)?;
        Ok(queue)
    }

    /// Deletes a queue; says how many messages were ready. One that is not there had none.
    ///
    /// # Errors
    /// 403, 405, 406 if it is not empty or in use and that was asked, 540 if a quorum queue was
    /// asked that.
    pub fn delete_queue(
        &mut self,
        name: &str,
        (if_unused, if_empty): (bool, bool),
        workspace: &mut Workspace,
    ) -> Result<(u64, Reach), Exception> {
        let vhost = Arc::clone(self.vhost());
        let resource = Resource::Queue { vhost: &vhost.name, name };
        self.check(Permission::Configure, resource)?;
        let Some(queue) = vhost.queue(name) else {
            return Ok((0, vhost.state.read().defined));
        };
        queue.settings.check_owner(self.client.connection, resource)?;
        check_conditions(&queue, if_unused, if_empty)?;
        let allowed = |core: &QueueCore| {
            let is_empty = core.message_count() + core.damaged_len() == 0 && !core.holds_back();
            if if_empty && !is_empty {
                return Err(Exception::not_empty(resource));
            }
            if if_unused && core.consumers_len() > 0 {
                return Err(Exception::in_use(resource));
            }
            Ok(())
        };
        match queue.close_if(&mut workspace.effects, allowed) {
            Ok(ready) => Ok((ready, vhost.forget_queue(&queue, &self.broker, workspace))),
            Err(None) => Ok((0, vhost.state.read().defined)),
            Err(Some(refused)) => Err(refused),
        }
    }

    /// Drops a queue's ready messages; says how many.
    ///
    /// # Errors
    /// 403, 404, 405.
    pub fn purge_queue(
        &mut self,
        name: &str,
        workspace: &mut Workspace,
    ) -> Result<(u64, Reach), Exception> {
        let queue = self.find_queue_to_read(name)?;
        let purged = queue.purge(&mut workspace.turn(&self.broker));
        let (ready, lsn) = purged.map_err(|_| Exception::not_found(queue.resource()))?;
        Ok((ready, Reach::of(lsn, queue.durability())))
    }
}

/// RabbitMQ: nobody knows for all replicas of a quorum queue whether it is unused or empty.
fn check_conditions(queue: &Queue, if_unused: bool, if_empty: bool) -> Result<(), Exception> {
    let condition = match queue.kind {
        QueueType::Quorum if if_unused => "if-unused",
        QueueType::Quorum if if_empty => "if-empty",
        _ => return Ok(()),
    };
    Err(Exception::not_implemented(format!(
        "cannot delete {}. queue.delete operations with {condition} flag set are not supported by \
         quorum queues",
        queue.resource()
    )))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DURABLE, connect, open};
    use super::*;
    use crate::store::MemoryDisk;

    #[test]
    fn one_that_goes_while_it_is_declared_again_is_checked_as_a_new_one() {
        let broker = open(&MemoryDisk::new());
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        let (name, settings) = (Name::new("q"), QueueSettings::default());
        let mut found = |link: &mut Link, exists| {
            let declared = link.declare_queue_if(exists, &name, &settings, &mut workspace);
            declared.unwrap().is_some()
        };
        assert!(!found(&mut link, true));
        assert!(link.vhost().queue("q").is_none());
        assert!(found(&mut link, false) && found(&mut link, true));
        let queue = link.find_queue("q").unwrap();
        let mut effects = crate::queue::Effects::new();
        queue.close_if(&mut effects, |_| Ok::<(), ()>(())).unwrap();
        assert!(!found(&mut link, true), "it has ended, and nobody has said so yet");
        let declare = DeclareQueue { name: "q", ..DURABLE };
        assert_eq!(link.declare_queue(&declare, &mut Workspace::default()).unwrap().ready, 0);
    }
}
