//! exchange.declare and exchange.delete.

use crate::broker::link::{Link, Workspace};
use crate::deduplication::check_exchange as check_deduplicating;
use crate::exception::{Exception, Permission, Resource};
use crate::exchange::{DELAYED, DelayedKind, Kind, Settings, alternate_exchange, api_table};
use crate::id::{CacheId, QueueId};
use crate::name::Name;
use crate::queue::{check_deduplication, check_same_deduplication};
use crate::store::{Definition, Reach};
use crate::table::TableRef;
use std::sync::Arc;

/// An exchange.declare that is not passive.
pub struct DeclareExchange<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: TableRef<'a>,
}

impl Link {
    /// Declares an exchange.
    ///
    /// # Errors
    /// 406 for an unknown type, a bad argument or a difference to what exists; 403 for the default
    /// exchange, the permission or the reserved prefix.
    pub fn declare_exchange(
        &mut self,
        declare: &DeclareExchange<'_>,
        workspace: &mut Workspace,
    ) -> Result<Reach, Exception> {
        let mut exists = self.vhost().exchange(declare.name).is_some();
        loop {
            match self.declare_exchange_if(exists, declare, workspace)? {
                Some(reach) => return Ok(reach),
                // It has gone meanwhile, and what is new is looked at more closely.
                None => exists = false,
            }
        }
    }

    /// As `declare_exchange`, checked as one that `exists` or as a new one. `None` if it was to
    /// exist and does not.
    fn declare_exchange_if(
        &mut self,
        exists: bool,
        declare: &DeclareExchange<'_>,
        workspace: &mut Workspace,
    ) -> Result<Option<Reach>, Exception> {
        let delayed = declare.kind == DELAYED;
        let kind = self.broker.exchange_types.kind(declare.kind);
        // What it delays for is looked at below.
        let kind = kind.or_else(|| delayed.then(|| Kind::Missing(Name::new(DELAYED))));
        let kind = kind.ok_or_else(|| Exception::unknown_exchange_type(declare.kind))?;
        if declare.name.is_empty() {
            return Err(Exception::default_exchange());
        }
        let vhost = Arc::clone(self.vhost());
        let resource = Resource::Exchange { vhost: &vhost.name, name: declare.name };
        self.check(Permission::Configure, resource)?;
        if !exists && declare.name.starts_with("amq.") {
            return Err(Exception::reserved_prefix("exchange", declare.name));
        }
        let alternate = alternate_exchange(declare.arguments, resource);
        let alternate = match alternate {
            // RabbitMQ: an existing exchange is only compared.
            Err(_) if exists => None,
            alternate => alternate?,
        };
        if let Some(alternate) = alternate.as_ref().filter(|_| !exists) {
            self.check(Permission::Read, resource)?;
            let target = Resource::Exchange { vhost: &vhost.name, name: alternate };
            self.check(Permission::Write, target)?;
        }
        let routes = delayed.then(|| self.broker.exchange_types.delayed(declare.arguments));
        if !exists {
            match kind {
                Kind::Deduplicating => check_deduplicating(declare.arguments)?,
                _ => check_deduplication(declare.arguments, resource)?,
            }
            let routes = routes.clone().transpose()?;
            if let Kind::Plugged(kind) = routes.as_ref().unwrap_or(&kind) {
                kind.check_arguments(&api_table(declare.arguments))?;
            }
        }
        let mut settings = Settings {
            kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.to_table(),
            alternate,
            cache: None,
        };
        settings.cache =
            settings.deduplication().map(|_| CacheId(self.broker.next_queue_id().number()));
        let definition = definition(&vhost.name, declare, &settings);
        let mut state = vhost.state.write();
        if let Some(exchange) = state.topology.exchange(declare.name) {
            check_equivalent(exchange.settings(), &settings, resource)?;
            let durable = exchange.settings().durable;
            return Ok(Some(if durable { state.defined } else { Reach::default() }));
        }
        if exists {
            return Ok(None);
        }
        let waiting = match routes.transpose()? {
            Some(routes) => {
                let queue = QueueId::timed(self.broker.next_queue_id().number());
                settings.kind = Kind::Delayed(Box::new(DelayedKind { routes, queue }));
                Some(state.add_delay_queue(queue, declare, &vhost.name, &self.broker))
            }
            None => None,
        };
        state.topology.declare(Name::new(declare.name), settings);
        state.apply_alternate(declare.name);
        if !declare.durable {
            return Ok(Some(Reach::default()));
        }
        let definitions: Vec<_> = waiting.flatten().into_iter().chain([definition]).collect();
        Ok(Some(state.define(&definitions, &self.broker, workspace)))
    }

    /// exchange.declare with passive: does it exist?
    ///
    /// # Errors
    /// 403 for the default exchange, 404.
    pub fn check_exchange(&self, name: &str) -> Result<(), Exception> {
        if name.is_empty() {
            return Err(Exception::default_exchange());
        }
        let resource = Resource::Exchange { vhost: &self.vhost().name, name };
        match self.vhost().exchange(name) {
            Some(_) => Ok(()),
            None => Err(Exception::not_found(resource)),
        }
    }

    /// Deletes an exchange; one that is not there is deleted already.
    ///
    /// # Errors
    /// 403 for the default and predeclared ones and the permission, 406 if it is in use.
    pub fn delete_exchange(
        &mut self,
        name: &str,
        if_unused: bool,
        workspace: &mut Workspace,
    ) -> Result<Reach, Exception> {
        if name.is_empty() {
            return Err(Exception::default_exchange());
        }
        let vhost = Arc::clone(self.vhost());
        let resource = Resource::Exchange { vhost: &vhost.name, name };
        if name.starts_with("amq.") {
            return Err(Exception::system_exchange(resource));
        }
        self.check(Permission::Configure, resource)?;
        let mut state = vhost.state.write();
        if state.topology.exchange(name).is_none() {
            return Ok(state.defined);
        }
        let removed = state.topology.delete(name, if_unused)?;
        let definitions = state.exchanges_deleted(&removed, &vhost.name, workspace);
        Ok(state.define(&definitions, &self.broker, workspace))
    }
}

fn check_equivalent(
    current: &Settings,
    received: &Settings,
    exchange: Resource<'_>,
) -> Result<(), Exception> {
    current.check_equivalent(received, exchange)?;
    let [received, current] = [received, current].map(|settings| settings.arguments.as_ref());
    check_same_deduplication(received, current, exchange)
}

fn definition(vhost: &str, declare: &DeclareExchange<'_>, settings: &Settings) -> Definition {
    Definition::ExchangeDeclared {
        vhost: vhost.to_owned(),
        name: declare.name.to_owned(),
        kind: declare.kind.to_owned(),
        auto_delete: settings.auto_delete,
        internal: settings.internal,
        arguments: settings.arguments.clone(),
        cache: settings.cache,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{connect, open};
    use super::*;
    use crate::config::PermissionPatterns;
    use crate::store::MemoryDisk;
    use crate::table::{TableBuilder, Value};

    /// Stored, an alternate exchange that is no string would stop the next start.
    #[test]
    fn one_that_goes_while_it_is_declared_again_is_checked_as_a_new_one() {
        let broker = open(&MemoryDisk::new());
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        let wrong = TableBuilder::new().put(b"alternate-exchange", Value::I32(5)).finish();
        let declare = DeclareExchange {
            name: "e",
            kind: "direct",
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: wrong.as_ref(),
        };
        let found_gone = link.declare_exchange_if(true, &declare, &mut workspace);
        assert_eq!(found_gone, Ok(None));
        assert!(link.vhost().exchange("e").is_none());
        let refused = link.declare_exchange(&declare, &mut workspace).unwrap_err();
        assert_eq!(refused.code.code(), 406);
    }
    #[test]
    fn the_default_exchange_as_alternate_is_checked_under_its_other_name() {
        let broker = open(&MemoryDisk::new());
        let mut workspace = Workspace::default();
        let alternate = TableBuilder::new().put(b"alternate-exchange", Value::LongStr(b""));
        let alternate = alternate.finish();
        let declare = DeclareExchange {
            name: "e",
            kind: "direct",
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: alternate.as_ref(),
        };
        for (write, allowed) in [("^$", false), ("^amq\\.default$", true)] {
            let all = || ".*".to_owned();
            let permissions =
                PermissionPatterns { configure: all(), write: write.into(), read: all() };
            broker.access.set_permissions("guest", "/", &permissions).unwrap();
            let declared = connect(&broker).declare_exchange(&declare, &mut workspace);
            assert_eq!(declared.is_ok(), allowed, "{declared:?}");
        }
    }
}
