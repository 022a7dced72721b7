//! The exchange types of a broker: the core ones, and those that plugins bring.

use super::Kind;
use super::delayed::DELAYED;
use super::history::HistoryBudget;
use super::plugged::contained;
use crate::exception::Exception;
use crate::name::Name;
use hashbrown::HashMap;
use leveret_plugin_api::{ExchangeType, Fields, NewBinding, Router};
use std::fmt;
use std::sync::Arc;

/// All exchange types that can be declared.
pub struct ExchangeTypes {
    plugged: HashMap<Name, PluggedType>,
    budget: Arc<HistoryBudget>,
}

/// A type from a plugin.
#[derive(Clone)]
pub struct PluggedType {
    pub(super) name: Name,
    implementation: Arc<dyn ExchangeType>,
    pub(super) budget: Arc<HistoryBudget>,
}

/// Two exchange types of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTaken(pub Name);

impl fmt::Display for NameTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        write!(f, "exchange type '{name}' is there already; give the other one another name")
    }
}

impl std::error::Error for NameTaken {}

impl ExchangeTypes {
    /// Those of the core alone.
    #[must_use]
    pub fn core() -> Self {
        Self { plugged: HashMap::new(), budget: Arc::default() }
    }

    /// Those of the core and all that come with Leveret.
    ///
    /// # Panics
    /// If two of them have one name, which a test excludes.
    #[must_use]
    pub fn built_in() -> Self {
        let types = leveret_exchange_types::all().into_iter();
        let with = |all: Self, one| all.with(one).expect("built-in types have names of their own");
        types.fold(Self::core(), with)
    }

    /// The same and one more.
    ///
    /// # Errors
    /// There is a type of that name.
    pub fn with(mut self, implementation: Arc<dyn ExchangeType>) -> Result<Self, NameTaken> {
        let name = Name::new(implementation.name());
        if self.kind(&name).is_some() || &*name == DELAYED {
            return Err(NameTaken(name));
        }
        let plugged =
            PluggedType { name: name.clone(), implementation, budget: Arc::clone(&self.budget) };
        self.plugged.insert(name, plugged);
        Ok(self)
    }

    /// The type of that name.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<Kind> {
        Kind::from_name(name).or_else(|| self.plugged.get(name).cloned().map(Kind::Plugged))
    }

    /// The type of an exchange that was stored: its plugin may be gone since.
    #[must_use]
    pub fn stored_kind(&self, name: &str) -> Kind {
        self.kind(name).unwrap_or_else(|| Kind::Missing(Name::new(name)))
    }

    /// Names and descriptions of what plugins brought, sorted.
    #[must_use]
    pub fn plugged(&self) -> Vec<(Name, String)> {
        let described = |(name, plugged): (&Name, &PluggedType)| {
            (name.clone(), plugged.implementation.description().to_owned())
        };
        let mut all: Vec<_> = self.plugged.iter().map(described).collect();
        all.sort();
        all
    }
}

impl PluggedType {
    /// Whether a new exchange can have these arguments.
    ///
    /// # Errors
    /// The type refuses them, or failed.
    pub fn check_arguments(&self, arguments: &dyn Fields) -> Result<(), Exception> {
        self.checked(|| self.implementation.check_arguments(arguments))
    }

    /// Whether an exchange can have this new binding.
    ///
    /// # Errors
    /// The type refuses it, or failed.
    pub fn check_binding(&self, binding: &NewBinding<'_>) -> Result<(), Exception> {
        self.checked(|| self.implementation.check_binding(binding))
    }

    fn checked(&self, check: impl FnOnce() -> Result<(), String>) -> Result<(), Exception> {
        match contained(&self.name, check) {
            Some(checked) => checked.map_err(Exception::precondition),
            None => Err(Exception::exchange_type_failed(&self.name)),
        }
    }

    /// A router for one exchange; none if the type failed.
    pub(super) fn router(&self, arguments: &dyn Fields) -> Option<Box<dyn Router>> {
        contained(&self.name, || self.implementation.router(arguments))
    }
}

impl fmt::Debug for PluggedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PluggedType").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_name_of_its_own() {
        let types = ExchangeTypes::built_in();
        let names: Vec<_> = types.plugged().into_iter().map(|(name, _)| name).collect();
        let expected = [
            "x-consistent-hash",
            "x-local-random",
            "x-modulus-hash",
            "x-random",
            "x-recent-history",
        ];
        assert_eq!(names, expected.map(Name::from));
        let again = leveret_exchange_types::all().remove(0);
        let taken = types.with(again).map(drop).unwrap_err();
        assert_eq!(
            taken.to_string(),
            "exchange type 'x-consistent-hash' is there already; give the other one another name"
        );
    }

    #[test]
    fn a_stored_type_that_nobody_brought_is_missing() {
        let (core, all) = (ExchangeTypes::core(), ExchangeTypes::built_in());
        assert!(core.kind("x-random").is_none());
        assert!(
            matches!(core.stored_kind("x-random"), Kind::Missing(name) if &*name == "x-random")
        );
        assert!(matches!(all.stored_kind("x-random"), Kind::Plugged(_)));
        assert_eq!(core.stored_kind("topic"), Kind::Topic);
    }
}
