//! An exchange whose type comes from a plugin: destinations by number, a router that knows only
//! these, and what becomes of a router that panics.

use super::binding::{Binding, Destination};
use super::fields::{MessageContent, api_table};
use super::history::History;
use super::matcher::Subject;
use super::registry::PluggedType;
use super::targets::Found;
use crate::exception::Exception;
use crate::limits::DESTINATIONS_PER_OPERATION;
use crate::name::Name;
use crate::table::TableRef;
use hashbrown::HashMap;
use leveret_plugin_api as api;
use leveret_plugin_api::{Choice, DestinationId, Router};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The bindings of one exchange of a plugged type.
pub(super) struct Plugged {
    kind: Name,
    router: Option<Box<dyn Router>>,
    /// The router panicked: it is in no state to be asked again.
    is_broken: AtomicBool,
    depends_on_keys_only: bool,
    destinations: Destinations,
    history: Option<Arc<History>>,
}

impl Plugged {
    pub(super) fn new(kind: &PluggedType, arguments: TableRef<'_>) -> Self {
        let mut plugged = Self {
            kind: kind.name.clone(),
            router: kind.router(&api_table(arguments)),
            is_broken: AtomicBool::new(false),
            depends_on_keys_only: false,
            destinations: Destinations::default(),
            history: None,
        };
        let asked = |router: &dyn Router| (router.depends_on_keys_only(), router.history_len());
        if let Some((keys_only, history_len)) = plugged.asked(asked) {
            plugged.depends_on_keys_only = keys_only && history_len == 0;
            plugged.history =
                (history_len > 0).then(|| Arc::new(History::new(history_len, &kind.budget)));
        }
        plugged
    }

    pub(super) fn bind(&mut self, binding: &Binding) {
        let id = self.destinations.refer(&binding.destination);
        self.tell(id, binding, |router, binding| router.bound(binding));
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        let id = self.destinations.release(&binding.destination);
        self.tell(id, binding, |router, binding| router.unbound(binding));
    }

    fn tell(
        &mut self,
        destination: DestinationId,
        binding: &Binding,
        tell: impl FnOnce(&mut dyn Router, &api::Binding<'_>),
    ) {
        let arguments = api_table(binding.arguments.as_ref());
        let identity = identity(&binding.destination);
        let view = api::Binding {
            destination,
            identity: &identity,
            key: &binding.key,
            arguments: &arguments,
        };
        let is_broken = self.is_broken.get_mut();
        if let Some(router) = self.router.as_deref_mut().filter(|_| !*is_broken) {
            *is_broken = contained(&self.kind, || tell(router, &view)).is_none();
        }
    }

    /// Whether a choice holds for equal keys until a binding changes.
    pub(super) fn depends_on_keys_only(&self) -> bool {
        self.depends_on_keys_only
    }

    /// What asking the router counts, in queue operations.
    pub(super) fn operations(&self) -> usize {
        self.destinations.ids.len() / DESTINATIONS_PER_OPERATION
    }

    pub(super) fn history(&self) -> Option<&Arc<History>> {
        self.history.as_ref()
    }

    /// Adds what the router chooses, and says whether the message is for the history.
    ///
    /// # Errors
    /// The router has failed.
    pub(super) fn matches(
        &self,
        subject: Subject<'_, '_>,
        random: u64,
        chosen: &mut Vec<DestinationId>,
        found: &mut Found<'_>,
    ) -> Result<bool, Exception> {
        chosen.clear();
        let content = MessageContent(subject);
        let message = api::Message { keys: subject.all_keys, content: &content, random };
        let remembered = self.asked(|router| {
            let mut choice = Choice::new(chosen);
            router.route(&message, &mut choice);
            choice.is_remembered()
        });
        let remembered = remembered.ok_or_else(|| Exception::exchange_type_failed(&self.kind))?;
        for destination in chosen.iter().filter_map(|id| self.destinations.get(*id)) {
            found.push(destination);
        }
        Ok(remembered)
    }

    /// What the router says, unless it has failed now or before.
    fn asked<T>(&self, ask: impl FnOnce(&dyn Router) -> T) -> Option<T> {
        let is_broken = self.is_broken.load(Ordering::Relaxed);
        let router = self.router.as_deref().filter(|_| !is_broken)?;
        let answer = contained(&self.kind, || ask(router));
        if answer.is_none() {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        answer
    }
}

impl fmt::Debug for Plugged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugged").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Runs a plugin's code; a panic ends there, and the log names the type.
pub(super) fn contained<T>(kind: &str, call: impl FnOnce() -> T) -> Option<T> {
    // Whoever calls does not ask again what a panic may have left half done.
    let called = catch_unwind(AssertUnwindSafe(call)).ok();
    if called.is_none() {
        tracing::error!("exchange type '{kind}' panicked; what it was asked for is refused");
    }
    called
}

/// Queues by id and exchanges by name: neither changes with a restart.
fn identity(destination: &Destination) -> Vec<u8> {
    match destination {
        Destination::Queue(id) => [&b"q"[..], &id.0.to_be_bytes()].concat(),
        Destination::Exchange(name) => [b"e", name.as_bytes()].concat(),
    }
}

/// Destinations by number, each while a binding leads there.
#[derive(Default)]
struct Destinations {
    by_id: Vec<Option<Destination>>,
    free: Vec<u32>,
    /// With the number of bindings.
    ids: HashMap<Destination, (u32, usize)>,
}

impl Destinations {
    fn refer(&mut self, destination: &Destination) -> DestinationId {
        let (id, bindings) = self.ids.entry_ref(destination).or_insert_with(|| {
            let id = self.free.pop().unwrap_or_else(|| {
                self.by_id.push(None);
                u32::try_from(self.by_id.len() - 1).expect("fewer than 2^32 destinations")
            });
            self.by_id[id as usize] = Some(destination.clone());
            (id, 0)
        });
        *bindings += 1;
        DestinationId(*id)
    }

    fn release(&mut self, destination: &Destination) -> DestinationId {
        let found = self.ids.get_mut(destination);
        let (id, bindings) = found.expect("only what was bound is unbound");
        let id = *id;
        *bindings -= 1;
        if *bindings == 0 {
            self.ids.remove(destination);
            self.by_id[id as usize] = None;
            self.free.push(id);
        }
        DestinationId(id)
    }

    fn get(&self, id: DestinationId) -> Option<&Destination> {
        self.by_id.get(id.0 as usize)?.as_ref()
    }
}

#[cfg(test)]
#[path = "plugged_tests.rs"]
mod tests;
