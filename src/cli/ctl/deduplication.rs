//! list_deduplication.

use super::Question;
use serde_json::json;

const COLUMNS: &[&str] = &["object", "name", "keys", "cache_size", "bytes", "duplicates"];

pub(super) fn list(vhost: &str) -> Question {
    Question {
        banner: format!(
            "Listing queues and exchanges that leave out duplicates in vhost \"{vhost}\" ..."
        ),
        request: json!({ "verb": "list_deduplication", "vhost": vhost }),
        columns: Some(COLUMNS),
    }
}
