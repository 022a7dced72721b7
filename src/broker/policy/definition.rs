//! A policy's definition: a JSON object of keys and values, checked.

use super::Level;
use super::keys::{Classic, key};
use super::term::{Fields, Term};
use crate::name::Name;
use crate::queue::{PolicyValues, QueueType};
use serde_json::{Map, Value};

#[derive(Clone, Debug, Default)]
pub(super) struct Definition {
    /// As JSON, by key.
    pub(super) fields: Map<String, Value>,
    pub(super) values: PolicyValues,
    pub(super) alternate: Option<Name>,
    /// Some key means nothing to classic queues.
    beyond_classic: bool,
    /// Some key means nothing to RabbitMQ's classic queues, and something to ours.
    beyond_their_classic: bool,
    /// Some key means nothing to quorum queues.
    beyond_quorum: bool,
}

impl Definition {
    /// Checks every key and value.
    ///
    /// # Errors
    /// RabbitMQ's text: the first wrong value, by key; then all keys that are unknown.
    pub(super) fn check(definition: &Value, level: Level) -> Result<Self, String> {
        let Value::Object(fields) = definition else {
            return Err(format!("{} is not a JSON object of policy settings", Term(definition)));
        };
        if fields.is_empty() {
            return Err("no policy provided".to_owned());
        }
        let mut checked = Self { fields: fields.clone(), ..Self::default() };
        let mut unknown = Vec::new();
        for (name, value) in fields {
            match key(name).filter(|key| key.is_operators || level == Level::User) {
                None => unknown.push((name.as_str(), value)),
                Some(key) => {
                    let taken = (key.take)(value, &mut checked);
                    taken.ok_or_else(|| format!("{} {}", Term(value), key.wrong))?;
                    checked.beyond_classic |= key.classic == Classic::Never;
                    checked.beyond_their_classic |= key.classic == Classic::Alone;
                    checked.beyond_quorum |= !key.quorum;
                }
            }
        }
        if !unknown.is_empty() {
            return Err(format!("{} are not recognised policy settings", Fields(&unknown)));
        }
        let PolicyValues { retry_delay_ms_min: min, retry_delay_ms_max: max, .. } = checked.values;
        match min.zip(max) {
            Some((min, max)) if max < min => {
                Err(format!("{max} is not a valid maximum retry delay: the minimum is {min}"))
            }
            _ => Ok(checked),
        }
    }

    /// Whether a queue of that type knows all keys. RabbitMQ's classic queues know no delivery
    /// limit and no strategy of dead letters; ours take them from a policy that is `for_classic`
    /// queues alone, so that none that was written for RabbitMQ does more than it did.
    pub(super) fn is_known_to(&self, kind: QueueType, for_classic: bool) -> bool {
        match kind {
            QueueType::Classic => {
                !self.beyond_classic && (for_classic || !self.beyond_their_classic)
            }
            QueueType::Quorum => !self.beyond_quorum,
        }
    }
}
