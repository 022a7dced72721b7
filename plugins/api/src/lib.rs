//! The contract between the broker Leveret and what extends it: traits that a plugin implements,
//! and views of what the broker shows it. There are no broker internals here, no I/O and no state.
//!
//! This version publishes one contract, that of exchange types: an [`ExchangeType`] checks
//! declarations and bindings, and makes a [`Router`] for each exchange of the type. The broker
//! keeps names, permissions, bindings, records on disk and delivery to itself; a router only
//! chooses among the destinations that it was told of.
//!
//! ```
//! use leveret_plugin_api::{
//!     Binding, Choice, DestinationId, ExchangeType, Fields, Message, NewBinding, Router,
//! };
//!
//! /// Routes by the length of the routing key: the binding key says which.
//! struct ByLength;
//!
//! impl ExchangeType for ByLength {
//!     fn name(&self) -> &str {
//!         "x-by-length"
//!     }
//!
//!     fn description(&self) -> &str {
//!         "Routes by the length of the routing key"
//!     }
//!
//!     fn check_binding(&self, binding: &NewBinding<'_>) -> Result<(), String> {
//!         let text = String::from_utf8_lossy(binding.key);
//!         match text.parse::<usize>() {
//!             Ok(_) => Ok(()),
//!             Err(_) => Err(format!("The binding key must be a length: '{text}'")),
//!         }
//!     }
//!
//!     fn router(&self, _arguments: &dyn Fields) -> Box<dyn Router> {
//!         Box::new(Lengths::default())
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Lengths(Vec<(usize, DestinationId)>);
//!
//! fn length(binding: &Binding<'_>) -> usize {
//!     String::from_utf8_lossy(binding.key).parse().unwrap_or(usize::MAX)
//! }
//!
//! impl Router for Lengths {
//!     fn bound(&mut self, binding: &Binding<'_>) {
//!         self.0.push((length(binding), binding.destination));
//!     }
//!
//!     fn unbound(&mut self, binding: &Binding<'_>) {
//!         let gone = (length(binding), binding.destination);
//!         if let Some(at) = self.0.iter().position(|bound| *bound == gone) {
//!             self.0.swap_remove(at);
//!         }
//!     }
//!
//!     fn route(&self, message: &Message<'_>, choice: &mut Choice<'_>) {
//!         for key in message.keys {
//!             let matching = self.0.iter().filter(|(length, _)| *length == key.len());
//!             matching.for_each(|(_, destination)| choice.add(*destination));
//!         }
//!     }
//!
//!     fn depends_on_keys_only(&self) -> bool {
//!         true
//!     }
//! }
//! ```

mod exchange_type;
mod message;
mod router;
mod value;

pub use exchange_type::{DestinationKind, ExchangeType, NewBinding};
pub use message::{Content, Message, Property};
pub use router::{Binding, Choice, DestinationId, Router};
pub use value::{Fields, Value};
