//! Threads that sleep until a bell rings and then do what is due: the keeper, see `Broker::keep`,
//! the pager, see `Broker::relieve`, and the reader, see `Broker::load`.

use crate::broker::Broker;
use crate::broker::link::Workspace;
use crate::store::{Bell, Disk};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

pub(super) struct BellThread {
    broker: Arc<Broker>,
    bell: fn(&Broker) -> &Bell,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BellThread {
    pub(super) fn keeper(broker: Arc<Broker>, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let keep = move |broker: &Broker| broker.keep(&*disk);
        Self::start("leveret-keeper", broker, |broker| broker.journal().bell(), keep)
    }

    pub(super) fn pager(broker: Arc<Broker>, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let relieve = move |broker: &Broker| broker.relieve(&*disk);
        Self::start("leveret-pager", broker, |broker| broker.relief_bell(), relieve)
    }

    pub(super) fn reader(broker: Arc<Broker>, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let mut workspace = Workspace::default();
        let load = move |broker: &Broker| while broker.load(&*disk, &mut workspace) {};
        Self::start("leveret-reader", broker, |broker| broker.loads_bell(), load)
    }

    fn start(
        name: &str,
        broker: Arc<Broker>,
        bell: fn(&Broker) -> &Bell,
        mut act: impl FnMut(&Broker) + Send + 'static,
    ) -> io::Result<Self> {
        let stopping = Arc::<AtomicBool>::default();
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let (broker, stopping) = (Arc::clone(&broker), Arc::clone(&stopping));
            move || {
                loop {
                    bell(&broker).wait();
                    if stopping.load(SeqCst) {
                        return;
                    }
                    act(&broker);
                }
            }
        })?;
        Ok(Self { broker, bell, stopping, thread: Some(thread) })
    }

    /// Returns once it does nothing any more.
    pub(super) fn stop(&mut self) {
        self.stopping.store(true, SeqCst);
        (self.bell)(&self.broker).ring();
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(())) => {}
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for BellThread {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
