//! What an exchange type says before there is an exchange of it: its name and what it refuses.

use crate::router::Router;
use crate::value::Fields;

/// A type of exchanges, as `exchange.declare` names it. There is one object of it in a broker.
///
/// Texts of errors reach the client as the explanation of a 406 PRECONDITION_FAILED, cut at 255
/// bytes. The checks run for what is new only: what was stored is not refused after a restart, so
/// a router must bear any binding.
pub trait ExchangeType: Send + Sync {
    /// The name in `exchange.declare`: at most 255 bytes, by custom with `x-` in front. It must not
    /// change between calls or restarts: durable exchanges are stored with it.
    fn name(&self) -> &str;

    /// One line for people.
    fn description(&self) -> &str;

    /// Whether an exchange can have these arguments.
    ///
    /// # Errors
    /// What is wrong with them.
    fn check_arguments(&self, arguments: &dyn Fields) -> Result<(), String> {
        let _ = arguments;
        Ok(())
    }

    /// Whether an exchange of this type can have that binding.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_binding(&self, binding: &NewBinding<'_>) -> Result<(), String> {
        let _ = binding;
        Ok(())
    }

    /// A router for a new exchange. It is told of all bindings, after a restart too; then in
    /// another order.
    fn router(&self, arguments: &dyn Fields) -> Box<dyn Router>;
}

/// A binding that a client asks for.
pub struct NewBinding<'a> {
    pub to: DestinationKind<'a>,
    /// The binding key: any bytes.
    pub key: &'a [u8],
    pub arguments: &'a dyn Fields,
}

/// Where a binding leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind<'a> {
    Queue {
        /// As in the argument `x-queue-type`: `classic`, `quorum`, `stream`.
        queue_type: &'a str,
    },
    Exchange,
}
