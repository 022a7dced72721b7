//! Messages that queues want back from disk: asked for at the end of a turn, read by a thread of
//! its own.

use super::Broker;
use super::link::Workspace;
use crate::id::Seq;
use crate::limits::LOAD_BYTES;
use crate::queue::{Effects, Load};
use crate::store::{Bell, Disk, Loaded};
use parking_lot::Mutex;

/// Loads that wait to be read.
#[derive(Default)]
pub(super) struct Loads {
    wanted: Mutex<Vec<Load>>,
    bell: Bell,
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
            self.finish_turn(workspace);
        }
        !wanted.is_empty()
    }

    fn read(&self, disk: &dyn Disk, load: &Load) -> Loaded {
        let load_len = self.config.sizes.load_len;
        let read = self.store.load(disk, load.queue, &load.runs, load_len, LOAD_BYTES);
        read.unwrap_or_else(|error| {
            tracing::error!("messages of queue {} are set aside: {error}", load.queue);
            let wanted = load.runs.iter().flat_map(|run| run.0.0..=run.1.0);
            Loaded { messages: Vec::new(), lost: wanted.take(load_len).map(Seq).collect() }
        })
    }
}
