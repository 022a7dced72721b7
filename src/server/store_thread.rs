//! The thread that syncs: one journal round after the other while there is work.

use crate::broker::Broker;
use crate::store::{Disk, StoreError};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) struct StoreThread {
    broker: Arc<Broker>,
    disk: Arc<dyn Disk>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
    failed: CancellationToken,
}

impl StoreThread {
    pub(super) fn start(broker: Arc<Broker>, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let failed = CancellationToken::new();
        let thread = std::thread::Builder::new().name("leveret-store".into()).spawn({
            let (broker, disk, failed) = (Arc::clone(&broker), Arc::clone(&disk), failed.clone());
            move || {
                // Told even if the thread panics: nobody else would write.
                let guard = failed.drop_guard();
                let ended = broker.journal().run_until_stopped(&*disk);
                match &ended {
                    Ok(()) => drop(guard.disarm()),
                    Err(error) => {
                        tracing::error!("the store failed, nothing more is confirmed: {error}");
                    }
                }
                ended
            }
        })?;
        Ok(Self { broker, disk, thread: Some(thread), failed })
    }

    pub(super) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Writes what is pending, and that the stop was clean.
    pub(super) fn stop(&mut self) -> Result<(), StoreError> {
        self.join()?;
        self.broker.close(&*self.disk)
    }

    fn join(&mut self) -> Result<(), StoreError> {
        self.broker.journal().stop();
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        // An error was logged where it happened.
        let _ = self.join();
    }
}
