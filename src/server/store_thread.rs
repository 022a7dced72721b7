//! The thread that syncs: one journal round after the other while there is work.

use crate::store::{Disk, Journal, StoreError};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) struct StoreThread {
    journal: Arc<Journal>,
    disk: Arc<dyn Disk>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
    failed: CancellationToken,
}

impl StoreThread {
    pub(super) fn start(journal: Arc<Journal>, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let failed = CancellationToken::new();
        let thread = std::thread::Builder::new().name("leveret-store".into()).spawn({
            let (journal, disk, failed) = (Arc::clone(&journal), Arc::clone(&disk), failed.clone());
            move || {
                // Told even if the thread panics: nobody else would write.
                let guard = failed.drop_guard();
                let ended = journal.run_until_stopped(&*disk);
                match &ended {
                    Ok(()) => drop(guard.disarm()),
                    Err(error) => {
                        tracing::error!("the store failed, nothing more is confirmed: {error}");
                    }
                }
                ended
            }
        })?;
        Ok(Self { journal, disk, thread: Some(thread), failed })
    }

    pub(super) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Writes what is pending, and that the stop was clean.
    pub(super) fn stop(&mut self) -> Result<(), StoreError> {
        self.join()?;
        self.journal.close_clean(&*self.disk)
    }

    fn join(&mut self) -> Result<(), StoreError> {
        self.journal.stop();
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
