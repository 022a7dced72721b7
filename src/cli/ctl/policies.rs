//! set_policy, clear_policy, list_policies, and the same for operator policies.

use super::Question;
use clap::Args;
use serde_json::json;

const COLUMNS: &[&str] = &["vhost", "name", "pattern", "apply-to", "definition", "priority"];

/// Whose policies: what the verbs are called, and what rabbitmqctl calls the thing.
pub(super) struct Words {
    verbs: [&'static str; 3],
    set: &'static str,
    cleared: &'static str,
    listed: &'static str,
}

pub(super) const USER: Words = Words {
    verbs: ["set_policy", "clear_policy", "list_policies"],
    set: "policy",
    cleared: "policy",
    listed: "policies",
};

pub(super) const OPERATOR: Words = Words {
    verbs: ["set_operator_policy", "clear_operator_policy", "list_operator_policies"],
    set: "operator policy override",
    cleared: "operator policy",
    listed: "operator policy overrides",
};

#[derive(Args, Debug)]
pub(super) struct SetPolicy {
    /// Of several policies that match, the one with the highest applies
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,

    /// all, queues, classic_queues, quorum_queues, streams or exchanges
    #[arg(long, value_name = "WHAT", default_value = "all")]
    apply_to: String,

    /// The policy's name
    name: String,

    /// A regular expression for names of queues and exchanges; it matches anywhere in them
    pattern: String,

    /// What it sets, a JSON object such as {"max-length":1000}
    definition: String,
}

#[derive(Args, Debug)]
pub(super) struct ClearPolicy {
    /// The policy's name
    name: String,
}

pub(super) fn set(words: &Words, args: &SetPolicy, vhost: &str) -> Question {
    let SetPolicy { priority, apply_to, name, pattern, definition } = args;
    Question {
        banner: format!(
            "Setting {} \"{name}\" for pattern \"{pattern}\" to \"{definition}\" with priority \
             \"{priority}\" for vhost \"{vhost}\" ...",
            words.set
        ),
        request: json!({
            "verb": words.verbs[0],
            "vhost": vhost,
            "name": name,
            "pattern": pattern,
            "definition": definition,
            "apply_to": apply_to,
            "priority": priority,
        }),
        columns: None,
    }
}

pub(super) fn clear(words: &Words, args: &ClearPolicy, vhost: &str) -> Question {
    let name = &args.name;
    Question {
        banner: format!("Clearing {} \"{name}\" on vhost \"{vhost}\" ...", words.cleared),
        request: json!({ "verb": words.verbs[1], "vhost": vhost, "name": name }),
        columns: None,
    }
}

pub(super) fn list(words: &Words, vhost: &str) -> Question {
    Question {
        banner: format!("Listing {} for vhost \"{vhost}\" ...", words.listed),
        request: json!({ "verb": words.verbs[2], "vhost": vhost }),
        columns: Some(COLUMNS),
    }
}
