//! Events on their way to the links, gathered in one lock hold and pushed at its end.
//!
//! They are kept per link and not per consumer: a link's deliveries leave in queue order, whichever
//! of its consumers they are for.

use super::effects::Effects;
use super::outlet::{Event, Outlet};
use super::places::Places;
use hashbrown::HashMap;
use std::sync::Arc;

/// Places that are walked over to find a link's; most queues never have more.
const WALKED_MAX: usize = 8;

pub(super) struct Outgoing {
    places: Places<Place>,
    /// Places by their outlet's address, which is no other's while the place holds it. Only there
    /// once they are more than `WALKED_MAX`.
    by_address: Option<Box<HashMap<usize, u32>>>,
    /// The first and the last of the places with events, which name one another.
    first: u32,
    last: u32,
}

struct Place {
    outlet: Arc<dyn Outlet>,
    events: Vec<Event>,
    consumers: u32,
    /// The place with events after this one.
    next: u32,
}

const NONE: u32 = u32::MAX;

impl Default for Outgoing {
    fn default() -> Self {
        Self { places: Places::default(), by_address: None, first: NONE, last: NONE }
    }
}

impl Outgoing {
    /// The place of a link, with one more consumer.
    pub(super) fn refer(&mut self, outlet: &Arc<dyn Outlet>) -> u32 {
        if let Some(at) = self.find(outlet) {
            if let Some(place) = self.places.get_mut(at) {
                place.consumers += 1;
            }
            return at;
        }
        let at = self.places.insert(Place {
            outlet: Arc::clone(outlet),
            events: Vec::new(),
            consumers: 1,
            next: NONE,
        });
        if let Some(by_address) = &mut self.by_address {
            by_address.insert(address(outlet), at);
        } else if self.places.len() > WALKED_MAX {
            let taken = self.places.iter().map(|(at, place)| (address(&place.outlet), at));
            self.by_address = Some(Box::new(taken.collect()));
        }
        at
    }

    fn find(&self, outlet: &Arc<dyn Outlet>) -> Option<u32> {
        if let Some(by_address) = &self.by_address {
            return by_address.get(&address(outlet)).copied();
        }
        let known = self.places.iter().find(|(_, place)| Arc::ptr_eq(&place.outlet, outlet))?;
        Some(known.0)
    }

    /// One consumer less; the place goes once its events are pushed.
    pub(super) fn release(&mut self, at: u32) {
        if let Some(place) = self.places.get_mut(at) {
            place.consumers -= 1;
        }
    }

    pub(super) fn push(&mut self, at: u32, event: Event) {
        let Some(place) = self.places.get_mut(at) else { return };
        let is_first = place.events.is_empty();
        place.events.push(event);
        if is_first {
            self.list(at);
        }
    }

    /// Puts a place behind the others that have events.
    fn list(&mut self, at: u32) {
        let last = std::mem::replace(&mut self.last, at);
        match self.places.get_mut(last) {
            Some(last) => last.next = at,
            None => self.first = at,
        }
    }

    pub(super) fn push_all(&mut self, effects: &mut Effects) {
        let mut next = std::mem::replace(&mut self.first, NONE);
        self.last = NONE;
        while let Some(place) = self.places.get_mut(next) {
            let at = std::mem::replace(&mut next, std::mem::replace(&mut place.next, NONE));
            effects.push(&place.outlet, &mut place.events);
            if place.consumers == 0 {
                if let Some(by_address) = &mut self.by_address {
                    by_address.remove(&address(&place.outlet));
                }
                self.places.remove(at);
            }
        }
    }
}

fn address(outlet: &Arc<dyn Outlet>) -> usize {
    Arc::as_ptr(outlet).cast::<()>() as usize
}

#[cfg(test)]
mod tests {
    use super::super::outlet::EndReason;
    use super::super::samples::Sink;
    use super::*;
    use crate::id::ConsumerToken;

    #[test]
    fn a_link_has_one_place_which_goes_with_its_last_consumer() {
        let sinks: Vec<_> = (0..1_000).map(|_| Arc::new(Sink::default())).collect();
        let outlets: Vec<Arc<dyn Outlet>> = sinks.iter().map(|sink| sink.clone() as _).collect();
        let (mut outgoing, mut effects) = (Outgoing::default(), Effects::new());
        let places: Vec<_> = outlets.iter().map(|outlet| outgoing.refer(outlet)).collect();
        let again: Vec<_> = outlets.iter().map(|outlet| outgoing.refer(outlet)).collect();
        assert_eq!(places, again);
        let known = |outgoing: &Outgoing| outgoing.by_address.as_ref().unwrap().len();
        assert_eq!((outgoing.places.len(), known(&outgoing)), (1_000, 1_000));
        for round in 0..2 {
            for (&at, token) in places.iter().zip(0..) {
                let token = ConsumerToken(token);
                outgoing.push(at, Event::Ended { token, reason: EndReason::Cancelled });
                outgoing.release(at);
            }
            outgoing.push_all(&mut effects);
            assert_eq!(outgoing.places.len(), [1_000, 0][round]);
            assert_eq!(known(&outgoing), [1_000, 0][round]);
        }
        effects.wake_all();
        drop(outlets);
        for (sink, token) in sinks.iter().zip(0..) {
            assert_eq!(sink.tokens(), [token, token]);
            assert_eq!(Arc::strong_count(sink), 1);
        }
    }
}
