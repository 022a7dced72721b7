//! A policy as the value of a runtime parameter, and back.

use super::definition::Definition;
use super::pattern::Pattern;
use super::{ApplyTo, Level, Policies, Policy};
use crate::name::Name;
use crate::store;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The fields are RabbitMQ's.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Stored {
    apply_to: String,
    definition: Value,
    pattern: String,
    priority: i64,
}

impl Policy {
    /// Checks the parts of a policy.
    ///
    /// # Errors
    /// A line for each part that is wrong, in RabbitMQ's order.
    pub(super) fn check(
        level: Level,
        name: &str,
        pattern: &str,
        definition: &Value,
        apply_to: &str,
        priority: i64,
    ) -> Result<Self, String> {
        let definition = Definition::check(definition, level);
        let checked_apply_to = ApplyTo::from_name(apply_to).ok_or_else(|| {
            format!(
                "apply-to '{apply_to}' unrecognised; should be one of: 'queues', 'classic_queues', \
                 'quorum_queues', 'streams', 'exchanges', or 'all'"
            )
        });
        let pattern = Pattern::compile(pattern)
            .map_err(|why| format!("pattern should be regular expression but is invalid: {why}"));
        match (definition, checked_apply_to, pattern) {
            (Ok(definition), Ok(apply_to), Ok(pattern)) => {
                Ok(Self { name: Name::new(name), pattern, apply_to, priority, definition })
            }
            (definition, apply_to, pattern) => {
                let wrong = [definition.err(), apply_to.err(), pattern.err()];
                Err(wrong.into_iter().flatten().collect::<Vec<_>>().join("\n"))
            }
        }
    }

    /// What setting it is recorded as.
    pub(super) fn recorded(&self, level: Level, vhost: &str) -> store::Definition {
        store::Definition::ParameterSet {
            vhost: vhost.to_owned(),
            component: level.component().to_owned(),
            name: self.name.to_string(),
            value: self.value(),
        }
    }

    fn value(&self) -> String {
        let stored = Stored {
            apply_to: self.apply_to.name().to_owned(),
            definition: Value::Object(self.definition.fields.clone()),
            pattern: self.pattern.text().to_owned(),
            priority: self.priority,
        };
        serde_json::to_string(&stored).expect("JSON with strings for keys")
    }
}

impl Policies {
    /// Hands over the definitions that lead to these.
    pub(in crate::broker) fn definitions(
        &self,
        vhost: &str,
        each: &mut dyn FnMut(store::Definition),
    ) {
        for level in [Level::User, Level::Operator] {
            self.list(level).iter().for_each(|policy| each(policy.recorded(level, vhost)));
        }
        self.unapplied_definitions(vhost, each);
    }

    /// Takes a stored parameter. What this version cannot carry out is kept, and does nothing.
    pub(in crate::broker) fn restore(&mut self, component: &str, name: &str, value: &str) {
        match read(component, name, value) {
            Ok((level, policy)) => self.insert(level, policy),
            Err(why) => self.keep_unapplied(component, name, value, &why),
        }
    }
}

fn read(component: &str, name: &str, value: &str) -> Result<(Level, Policy), String> {
    let level = Level::from_component(component);
    let level = level.ok_or("this version knows no such component")?;
    let stored: Stored = serde_json::from_str(value).map_err(|error| error.to_string())?;
    let Stored { apply_to, definition, pattern, priority } = stored;
    let policy = Policy::check(level, name, &pattern, &definition, &apply_to, priority)?;
    Ok((level, policy))
}
