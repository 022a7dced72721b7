//! Messages that queues want back from disk: asked for at the end of a turn, read by a thread of
//! its own.

use super::Broker;
use super::link::Workspace;
use crate::command;
use crate::id::{QueueId, Seq};
use crate::limits::LOAD_BYTES;
use crate::queue::{Effects, Load, Queue};
use crate::store::{Bell, Disk, Loaded, StoreError};
use hashbrown::HashMap;
use parking_lot::Mutex;

/// Loads that wait to be read.
#[derive(Default)]
pub(super) struct Loads {
    wanted: Mutex<Vec<Load>>,
    bell: Bell,
    /// Why messages of a queue were set aside last: one entry for a queue that is there.
    set_aside: Mutex<HashMap<QueueId, StoreError>>,
}

impl Broker {
    /// Passes on what a turn's queues want to be loaded.
    pub fn want_loads(&self, effects: &mut Effects) {
        if !effects.loads.is_empty() {
            self.loads.wanted.lock().append(&mut effects.loads);
            self.loads.bell.ring();
        }
    }

    /// Rings when something is to be loaded.
    #[must_use]
    pub fn loads_bell(&self) -> &Bell {
        &self.loads.bell
    }

    /// Reads all that is wanted, and gives it to its queues. False if nothing was.
    pub fn load(&self, disk: &dyn Disk, workspace: &mut Workspace) -> bool {
        let wanted = std::mem::take(&mut *self.loads.wanted.lock());
        for load in &wanted {
            let Some(queue) = self.queue_by_id(load.queue) else { continue };
            let loaded = self.read(disk, load);
            // A queue that is gone wants nothing.
            let _ = queue.loaded(loaded.messages, &loaded.lost, &mut workspace.turn(self));
            if let (Some(why), Some(first)) = (loaded.why, loaded.lost.iter().min()) {
                self.tell_set_aside(&queue, loaded.lost.len(), *first, why);
            }
            self.finish_turn(workspace);
        }
        !wanted.is_empty()
    }

    fn tell_set_aside(&self, queue: &Queue, len: usize, first: Seq, why: StoreError) {
        let (vhost, name) = (&queue.vhost, &queue.name);
        let (whose, end) = if queue.id.is_timed() {
            (format!("exchange '{name}' in vhost '{vhost}'"), "delete the exchange".to_owned())
        } else {
            let release = command::ctl("release_queue", vhost, name);
            (queue.resource().to_string(), format!("give them up with `{release}`"))
        };
        tracing::error!(
            "{whose}: {len} messages from number {first} on cannot be read and are set aside: \
             {why}; stop the broker and restore the file from a copy, or {end}"
        );
        let mut set_aside = self.loads.set_aside.lock();
        if !set_aside.contains_key(&queue.id) {
            set_aside.retain(|id, _| self.queue_by_id(*id).is_some());
        }
        set_aside.insert(queue.id, why);
    }

    /// Why messages of the queue were set aside, if any were and are.
    pub(super) fn why_set_aside(&self, queue: &Queue) -> Option<StoreError> {
        self.loads.set_aside.lock().get(&queue.id).cloned()
    }

    fn read(&self, disk: &dyn Disk, load: &Load) -> Loaded {
        let load_len = self.config.sizes.load_len;
        let read = self.store.load(disk, load.queue, &load.runs, load_len, LOAD_BYTES);
        read.unwrap_or_else(|error| {
            let wanted = load.runs.iter().flat_map(|run| run.0.0..=run.1.0);
            let lost = wanted.take(load_len).map(Seq).collect();
            Loaded { messages: Vec::new(), lost, why: Some(error) }
        })
    }
}
