//! Policies: set, clear and list, those of users and those of operators.

use super::{Arguments, Done, Error, parse};
use crate::broker::Broker;
use crate::broker::link::Workspace;
use crate::broker::policy::{Level, SetPolicy};
use crate::store::Reach;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Set {
    vhost: String,
    name: String,
    pattern: String,
    definition: String,
    apply_to: String,
    priority: i64,
}

#[derive(Deserialize)]
struct Clear {
    vhost: String,
    name: String,
}

#[derive(Deserialize)]
struct List {
    vhost: String,
}

pub(super) fn set_policy(
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    set(Level::User, broker, arguments, workspace)
}

pub(super) fn clear_policy(
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    clear(Level::User, broker, arguments, workspace)
}

pub(super) fn list_policies(
    broker: &Broker,
    arguments: Arguments,
    _: &mut Workspace,
) -> Result<Done, Error> {
    list(Level::User, broker, arguments)
}

pub(super) fn set_operator_policy(
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    set(Level::Operator, broker, arguments, workspace)
}

pub(super) fn clear_operator_policy(
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    clear(Level::Operator, broker, arguments, workspace)
}

pub(super) fn list_operator_policies(
    broker: &Broker,
    arguments: Arguments,
    _: &mut Workspace,
) -> Result<Done, Error> {
    list(Level::Operator, broker, arguments)
}

fn set(
    level: Level,
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    let Set { vhost, name, pattern, definition, apply_to, priority } = parse(arguments)?;
    let set = SetPolicy {
        vhost: &vhost,
        name: &name,
        pattern: &pattern,
        definition: &definition,
        apply_to: &apply_to,
        priority,
    };
    let reach = broker.set_policy(level, &set, workspace)?;
    let component = level.component();
    tracing::info!("{component} '{name}' in vhost '{vhost}' is set: '{pattern}' {definition}");
    Ok(Done { value: Value::Null, reach })
}

fn clear(
    level: Level,
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    let Clear { vhost, name } = parse(arguments)?;
    let reach = broker.clear_policy(level, &vhost, &name, workspace)?;
    tracing::info!("{} '{name}' in vhost '{vhost}' is cleared", level.component());
    Ok(Done { value: Value::Null, reach })
}

fn list(level: Level, broker: &Broker, arguments: Arguments) -> Result<Done, Error> {
    let List { vhost } = parse(arguments)?;
    let policies = broker.policies(level, &vhost)?;
    let rows = policies.iter().map(|policy| {
        let nothing = policy.not_applied.as_ref().map(|why| format!("nothing: {why}"));
        json!({
            "vhost": vhost,
            "name": policy.name,
            "pattern": policy.pattern,
            "apply-to": nothing.as_ref().unwrap_or(&policy.apply_to),
            "definition": policy.definition,
            "priority": policy.priority,
        })
    });
    Ok(Done { value: rows.collect(), reach: Reach::default() })
}
