//! Waits, without holding a thread, until the journal has come as far as an answer needs.

use crate::id::Lsn;
use crate::store::{Journal, Reach, Waiter};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Told once; whether it was reached.
struct Told(Mutex<Option<oneshot::Sender<bool>>>);

impl Told {
    fn tell(&self, is_reached: bool) {
        if let Some(sender) = self.0.lock().take() {
            // Whoever waited may have gone.
            let _ = sender.send(is_reached);
        }
    }
}

impl Waiter for Told {
    fn reached(&self, _: Lsn) {
        self.tell(true);
    }

    fn failed(&self) {
        self.tell(false);
    }
}

/// # Errors
/// The store has failed, or the broker stops: it will never be known.
pub(super) async fn reached(journal: &Journal, demand: Reach) -> io::Result<()> {
    while !journal.reach().meets(demand) {
        let (lsn, durability) = demand.next_step(journal.reach());
        let (sender, told) = oneshot::channel();
        journal.wait(lsn, durability, Arc::new(Told(Mutex::new(Some(sender)))));
        if !told.await.unwrap_or(false) {
            return Err(io::Error::other("the journal has ended before the change was durable"));
        }
    }
    Ok(())
}
