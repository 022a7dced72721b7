//! A client that hides nothing: every frame the broker sends is either expected by the case or
//! is its failure.

mod channel;
mod connection;
mod content;
mod login;
mod methods;
mod wire;

pub(crate) use channel::Channel;
pub(crate) use connection::Connection;
pub(crate) use content::Content;
pub(crate) use login::{GREETING, Login};
pub(crate) use methods::*;
pub(crate) use wire::{Received, Wire};
