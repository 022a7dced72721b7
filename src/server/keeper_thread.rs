//! The thread that does what can wait, beside the one that syncs: see `Broker::keep`.

use crate::broker::Broker;
use crate::store::Disk;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

pub(super) struct KeeperThread {
    broker: Arc<Broker>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KeeperThread {
    pub(super) fn start(broker: Arc<Broker>, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let stopping = Arc::<AtomicBool>::default();
        let thread = std::thread::Builder::new().name("leveret-keeper".into()).spawn({
            let (broker, stopping) = (Arc::clone(&broker), Arc::clone(&stopping));
            move || loop {
                broker.journal().bell().wait();
                if stopping.load(SeqCst) {
                    return;
                }
                broker.keep(&*disk);
            }
        })?;
        Ok(Self { broker, stopping, thread: Some(thread) })
    }

    /// Returns once it does nothing any more.
    pub(super) fn stop(&mut self) {
        self.stopping.store(true, SeqCst);
        self.broker.journal().bell().ring();
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(())) => {}
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for KeeperThread {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
