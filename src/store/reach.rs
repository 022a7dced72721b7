//! How far the journal is, and what somebody waits for, in the same two numbers.

use crate::config::Durability;
use crate::id::Lsn;

/// Records up to `written` are with the operating system and those up to `durable` are synced: as
/// a fact about the journal, or as a demand on it. The default is what is always met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub written: Lsn,
    pub durable: Lsn,
}

impl Reach {
    /// What a record that was appended with this durability waits for. Only such a demand is sure
    /// to be met: nobody syncs for a record that did not ask for it.
    #[must_use]
    pub fn of(lsn: Lsn, durability: Durability) -> Self {
        match durability {
            Durability::Os => Self { written: lsn, durable: Lsn(0) },
            Durability::Fsync => Self { written: Lsn(0), durable: lsn },
        }
    }

    /// The least that meets both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { written: self.written.max(other.written), durable: self.durable.max(other.durable) }
    }

    /// Whether the journal is as far as `demand` asks. What is synced was written before.
    #[must_use]
    pub fn meets(self, demand: Self) -> bool {
        demand.durable <= self.durable && demand.written <= self.written
    }

    /// Which part of a demand to wait for first when the journal has come `reached` far.
    #[must_use]
    pub fn next_step(self, reached: Self) -> (Lsn, Durability) {
        if self.durable <= reached.durable && self.written > reached.written {
            (self.written, Durability::Os)
        } else {
            (self.durable, Durability::Fsync)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_is_met_when_both_of_its_parts_are() {
        let demand = Reach::of(Lsn(3), Durability::Fsync).max(Reach::of(Lsn(5), Durability::Os));
        let at = |written, durable| Reach { written: Lsn(written), durable: Lsn(durable) };
        assert!(!at(5, 2).meets(demand) && !at(4, 4).meets(demand) && at(5, 3).meets(demand));
        assert_eq!(demand.next_step(at(5, 2)), (Lsn(3), Durability::Fsync));
        assert_eq!(demand.next_step(at(4, 4)), (Lsn(5), Durability::Os));
        assert!(Reach::default().meets(Reach::default()));
    }
}
