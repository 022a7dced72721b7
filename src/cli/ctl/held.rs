//! list_held_queues and release_queue.

use super::Question;
use clap::Args;
use serde_json::json;

const COLUMNS: &[&str] = &["name", "messages", "file", "offset", "why"];

#[derive(Args, Debug)]
pub(super) struct ReleaseQueue {
    /// The queue's name
    name: String,
}

pub(super) fn list(vhost: &str) -> Question {
    Question {
        banner: format!("Listing held queues for vhost \"{vhost}\" ..."),
        request: json!({ "verb": "list_held_queues", "vhost": vhost }),
        columns: Some(COLUMNS),
    }
}

pub(super) fn release(args: &ReleaseQueue, vhost: &str) -> Question {
    let name = &args.name;
    Question {
        banner: format!("Releasing queue \"{name}\" in vhost \"{vhost}\" ..."),
        request: json!({ "verb": "release_queue", "vhost": vhost, "name": name }),
        columns: None,
    }
}
