//! Events on their way to the links, gathered in one lock hold and pushed at its end.
//!
//! They are kept per link and not per consumer: a link's deliveries leave in queue order, whichever
//! of its consumers they are for.

use super::effects::Effects;
use super::outlet::{Event, Outlet};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Outgoing {
    places: Vec<Option<Place>>,
    free: Vec<u32>,
    /// Places with events.
    touched: Vec<u32>,
}

struct Place {
    outlet: Arc<dyn Outlet>,
    events: Vec<Event>,
    consumers: u32,
}

impl Outgoing {
    /// The place of a link, with one more consumer.
    pub(super) fn refer(&mut self, outlet: &Arc<dyn Outlet>) -> u32 {
        let mut places = self.places.iter_mut().zip(0..);
        let known = places.find_map(|(place, at)| {
            let place = place.as_mut().filter(|place| Arc::ptr_eq(&place.outlet, outlet))?;
            place.consumers += 1;
            Some(at)
        });
        if let Some(known) = known {
            return known;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 links")
        });
        let place = Place { outlet: Arc::clone(outlet), events: Vec::new(), consumers: 1 };
        self.places[at as usize] = Some(place);
        at
    }

    /// One consumer less; the place goes once its events are pushed.
    pub(super) fn release(&mut self, at: u32) {
        if let Some(place) = &mut self.places[at as usize] {
            place.consumers -= 1;
        }
    }

    pub(super) fn push(&mut self, at: u32, event: Event) {
        let Some(place) = &mut self.places[at as usize] else { return };
        if place.events.is_empty() {
            self.touched.push(at);
        }
        place.events.push(event);
    }

    pub(super) fn push_all(&mut self, effects: &mut Effects) {
        for at in self.touched.drain(..) {
            let Some(place) = &mut self.places[at as usize] else { continue };
            effects.push(&place.outlet, &mut place.events);
            if place.consumers == 0 {
                self.places[at as usize] = None;
                self.free.push(at);
            }
        }
    }
}
