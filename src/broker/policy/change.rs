//! Setting, clearing and listing policies, and applying them to what is there.
//!
//! A change holds the vhost's lock as long as a declare does. Then every queue and exchange is
//! looked at anew, some at a time; what is declared meanwhile has the new policies from the start.
//! Two changes of a vhost come one after the other, so none ends with the older one's values.

use super::{Level, Policy};
use crate::broker::link::Workspace;
use crate::broker::vhost::State;
use crate::broker::{Broker, Vhost};
use crate::limits::{NAME_BYTES_MAX, POLICY_BYTES_MAX, POLICY_STEP_LEN};
use crate::name::Name;
use crate::store::{Definition, Reach};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// A policy to set.
#[derive(Clone, Copy, Debug)]
pub struct SetPolicy<'a> {
    pub vhost: &'a str,
    pub name: &'a str,
    pub pattern: &'a str,
    /// JSON.
    pub definition: &'a str,
    pub apply_to: &'a str,
    pub priority: i64,
}

/// A policy that is there, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyView {
    pub name: String,
    pub pattern: String,
    pub apply_to: String,
    /// JSON, sorted by key.
    pub definition: String,
    pub priority: i64,
    /// Why it does nothing, if another version stored it and this one cannot carry it out. Then the
    /// other fields are as far as they can be read.
    pub not_applied: Option<String>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    NoVhost(String),
    /// The definition is no JSON.
    Json(String),
    /// A line for each part that is wrong.
    Invalid(String),
    /// There is no such policy.
    NotFound,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVhost(vhost) => write!(f, "Virtual host '{vhost}' does not exist"),
            Self::Json(why) => write!(f, "JSON decoding error. Reason: {why}"),
            Self::Invalid(lines) => f.write_str(lines),
            Self::NotFound => f.write_str("Parameter does not exist"),
        }
    }
}

impl Broker {
    /// Sets a policy in place of the one of that name, and applies it. It survives a crash when the
    /// answer is reached.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set_policy(
        &self,
        level: Level,
        set: &SetPolicy<'_>,
        workspace: &mut Workspace,
    ) -> Result<Reach, Refused> {
        let vhost = self.vhost_of_policies(set.vhost)?;
        let policy = check(level, set)?;
        let definition = policy.recorded(level, set.vhost);
        let changing = vhost.changing_policies.lock();
        let reach = {
            let mut state = vhost.state.write();
            Arc::make_mut(&mut state.policies).insert(level, policy);
            state.define(&[definition], self, workspace)
        };
        self.apply_policies(&vhost, workspace);
        drop(changing);
        Ok(reach)
    }

    /// Clears a policy, and what it did.
    ///
    /// # Errors
    /// There is no such policy.
    pub fn clear_policy(
        &self,
        level: Level,
        vhost: &str,
        name: &str,
        workspace: &mut Workspace,
    ) -> Result<Reach, Refused> {
        // RabbitMQ: a vhost that does not exist has no such policy either.
        let vhost = self.vhost(vhost).ok_or(Refused::NotFound)?;
        let changing = vhost.changing_policies.lock();
        let reach = {
            let mut state = vhost.state.write();
            if !Arc::make_mut(&mut state.policies).remove(level, name) {
                return Err(Refused::NotFound);
            }
            let definition = Definition::ParameterCleared {
                vhost: vhost.name.to_string(),
                component: level.component().to_owned(),
                name: name.to_owned(),
            };
            state.define(&[definition], self, workspace)
        };
        self.apply_policies(&vhost, workspace);
        drop(changing);
        Ok(reach)
    }

    /// The policies of a vhost by name.
    ///
    /// # Errors
    /// There is no such vhost.
    pub fn policies(&self, level: Level, vhost: &str) -> Result<Vec<PolicyView>, Refused> {
        let vhost = self.vhost_of_policies(vhost)?;
        let state = vhost.state.read();
        let applied = state.policies.list(level).iter().map(|it| it.view());
        let mut policies: Vec<_> = applied.chain(state.policies.unapplied_views(level)).collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(policies)
    }

    fn vhost_of_policies(&self, name: &str) -> Result<Arc<Vhost>, Refused> {
        self.vhost(name).ok_or_else(|| Refused::NoVhost(name.to_owned()))
    }

    /// Only under `changing_policies`: what was read here stays the newest until the end.
    fn apply_policies(&self, vhost: &Vhost, workspace: &mut Workspace) {
        let policies = Arc::clone(&vhost.state.read().policies);
        for part in vhost.queues().chunks(POLICY_STEP_LEN) {
            for queue in part {
                let behaviour = policies.behaviour(&queue.name, &queue.settings);
                // One that is gone does nothing any more.
                let _ = queue.set_behaviour(behaviour, &mut workspace.turn(self));
            }
            self.finish_turn(workspace);
        }
        let names = vhost.state.read().exchange_names();
        for part in names.chunks(POLICY_STEP_LEN) {
            let alternates: Vec<_> =
                part.iter().map(|name| policies.alternate_of_exchange(name)).collect();
            let mut state = vhost.state.write();
            for (name, alternate) in part.iter().zip(alternates) {
                state.topology.set_policy_alternate(name, alternate);
            }
        }
    }
}

impl State {
    fn exchange_names(&self) -> Vec<Name> {
        let exchanges = self.topology.exchanges();
        exchanges.iter().map(|exchange| exchange.name().clone()).collect()
    }

    /// Gives every exchange the alternate that its policy names.
    pub(in crate::broker) fn apply_alternates(&mut self) {
        self.exchange_names().iter().for_each(|name| self.apply_alternate(name));
    }

    /// As `apply_alternates`, for one exchange.
    pub(in crate::broker) fn apply_alternate(&mut self, name: &str) {
        let alternate = self.policies.alternate_of_exchange(name);
        self.topology.set_policy_alternate(name, alternate);
    }
}

impl Policy {
    fn view(&self) -> PolicyView {
        PolicyView {
            name: self.name.to_string(),
            pattern: self.pattern.text().to_owned(),
            apply_to: self.apply_to.name().to_owned(),
            definition: Value::Object(self.definition.fields.clone()).to_string(),
            priority: self.priority,
            not_applied: None,
        }
    }
}

fn check(level: Level, set: &SetPolicy<'_>) -> Result<Policy, Refused> {
    let SetPolicy { name, pattern, definition, apply_to, priority, .. } = *set;
    if name.len() > NAME_BYTES_MAX {
        let text = format!("the name has {} bytes, at most {NAME_BYTES_MAX} fit", name.len());
        return Err(Refused::Invalid(text));
    }
    let len = pattern.len() + definition.len();
    if len > POLICY_BYTES_MAX {
        let text =
            format!("pattern and definition have {len} bytes, at most {POLICY_BYTES_MAX} fit");
        return Err(Refused::Invalid(text));
    }
    let definition: Value =
        serde_json::from_str(definition).map_err(|error| Refused::Json(error.to_string()))?;
    Policy::check(level, name, pattern, &definition, apply_to, priority).map_err(Refused::Invalid)
}
