//! A queue beside the measured ones, all of whose messages expire at the same moment. Messages
//! expire at a queue's head: so behind one that does not, any number waits that should have long.
//!
//! ```text
//! fill     | never expires | 1 ms | 1 ms | 1 ms | ...
//! release  basic.get takes the first; the others are due
//! ```
use super::connection::Connection;
use super::error::{PerfError, Result};
use super::frame::QUEUE_DECLARE_OK;
use super::plan::Plan;
use super::properties::Properties;
use super::table::Table;
use super::topology::declared_messages;
use super::wire::{self, Envelope};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Publishes of one write.
const TOGETHER: u64 = 500;
/// A queue that takes in nothing for this long will not.
const STALL: Duration = Duration::from_secs(5);

pub(crate) struct Expiring {
    connection: Connection,
    queue: String,
}

impl Expiring {
    /// Fills the queue, if the plan has one. It is exclusive: the broker removes it with the
    /// connection.
    pub(crate) fn fill(plan: &Plan) -> Result<Option<Self>> {
        if plan.expiring == 0 {
            return Ok(None);
        }
        let queue = plan.expiring_queue();
        let connection = Connection::open(&plan.url, "leveret perf expiring")?;
        let mut expiring = Self { connection, queue };
        let filled = expiring.fill_queue(plan);
        filled.map_err(|error| error.inside(format_args!("fill queue {}", expiring.queue)))?;
        Ok(Some(expiring))
    }

    fn fill_queue(&mut self, plan: &Plan) -> Result<()> {
        let durable = if plan.durable { wire::DURABLE } else { 0 };
        let mut out = Vec::new();
        wire::queue_declare(&mut out, &self.queue, durable | wire::EXCLUSIVE, &Table::default());
        self.connection.call(&out, QUEUE_DECLARE_OK)?;
        out.clear();
        self.encode(&mut out, plan, None);
        self.connection.send(&out)?;
        let mut left = plan.expiring;
        out.clear();
        for _ in 0..left.min(TOGETHER) {
            self.encode(&mut out, plan, Some("1"));
        }
        let publish_bytes = out.len() / left.min(TOGETHER) as usize;
        while left > 0 {
            let count = left.min(TOGETHER);
            self.connection.send(&out[..publish_bytes * count as usize])?;
            left -= count;
        }
        self.until_it_holds(plan.expiring + 1)
    }

    /// Brokers may count before they have taken in all that was sent.
    fn until_it_holds(&mut self, wanted: u64) -> Result<()> {
        let (mut held, mut moved_at) = (0, Instant::now());
        while held != wanted {
            if moved_at.elapsed() > STALL {
                return Err(PerfError::new(format!(
                    "it holds {held} of {wanted} messages; either the broker drops some, or its \
                     messages expire before they are at the head, and --expiring measures nothing"
                )));
            }
            let now_held = self.messages_left()?;
            if now_held != held {
                (held, moved_at) = (now_held, Instant::now());
            } else {
                sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>, plan: &Plan, expiration: Option<&str>) {
        let properties = &Properties::new(None, plan.persistent, None, expiration);
        let envelope =
            Envelope { exchange: "", routing_key: &self.queue, mandatory: false, properties };
        wire::publish(out, &envelope, plan.size, self.connection.frame_max());
    }

    /// Lets all of it expire, and does not wait for that.
    pub(crate) fn release(&mut self) -> Result<()> {
        let mut request = Vec::new();
        // The second get is for brokers that look at the head's age only when they are asked.
        wire::basic_get(&mut request, &self.queue, true);
        wire::basic_get(&mut request, &self.queue, true);
        self.connection.send(&request)
    }

    /// How many messages the queue still holds.
    pub(crate) fn messages_left(&mut self) -> Result<u64> {
        let mut request = Vec::new();
        wire::queue_declare(&mut request, &self.queue, wire::PASSIVE, &Table::default());
        let declared = self.connection.call(&request, QUEUE_DECLARE_OK)?;
        Ok(declared_messages(&declared))
    }
}
