//! The thread that syncs: one journal round after the other while there is work.

use super::{ServerError, panicked};
use crate::broker::Broker;
use crate::store::{Disk, StoreError};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

const NAME: &str = "leveret-store";

pub(super) struct StoreThread {
    broker: Arc<Broker>,
    disk: Arc<dyn Disk>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

impl StoreThread {
    /// Cancels `failed` if the store fails.
    pub(super) fn start(
        broker: Arc<Broker>,
        disk: Arc<dyn Disk>,
        failed: CancellationToken,
    ) -> io::Result<Self> {
        let thread = std::thread::Builder::new().name(NAME.into()).spawn({
            let (broker, disk) = (Arc::clone(&broker), Arc::clone(&disk));
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
        Ok(Self { broker, disk, thread: Some(thread) })
    }

    /// Writes what is pending, and that the stop was clean.
    pub(super) fn stop(&mut self) -> Result<(), ServerError> {
        self.end()?;
        self.broker.close(&*self.disk).map_err(ServerError::Store)
    }

    /// Writes what is pending and no more, as a crash would.
    pub(super) fn end(&mut self) -> Result<(), ServerError> {
        self.broker.journal().stop();
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended.map_err(ServerError::Store),
            Some(Err(panic)) => Err(panicked(NAME, &*panic)),
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        match self.end() {
            // Nobody else would be told.
            Err(error @ ServerError::Panicked { .. }) if !std::thread::panicking() => {
                panic!("{error}");
            }
            // Any other error was logged where it happened.
            Ok(()) | Err(_) => {}
        }
    }
}
