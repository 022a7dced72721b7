//! Keys of RabbitMQ's configuration that this broker does not obey (yet), so that an existing file
//! starts it, with a warning, while a misspelt key does not go unnoticed.

/// What RabbitMQ means by a key that sets nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Would change what users see: said in a warning.
    NotUsedYet,
    /// Tunes Erlang or a RabbitMQ internal that has no counterpart here: passed over in silence.
    Meaningless,
}

/// First parts of keys, up to a dot or to the end.
const NOT_USED_YET: &[&str] = &[
    "amqp1_0",
    "amqp_client",
    "anonymous_login_pass",
    "anonymous_login_user",
    "auth_backends",
    "auth_cache",
    "auth_http",
    "auth_ldap",
    "auth_mechanisms",
    "auth_oauth2",
    "channel_max_per_node",
    "cluster_exchange_limit",
    "cluster_formation",
    "cluster_queue_limit",
    "cluster_tags",
    "collect_statistics",
    "collect_statistics_interval",
    "connection_max",
    "consumer_max_per_channel",
    "credential_validator",
    "default_limits",
    "default_policies",
    "default_queue_type",
    "definitions",
    "event_exchange",
    "federation",
    "initial_frame_max",
    "link_max_per_session",
    "listeners.ssl",
    "load_definitions",
    "log",
    "management",
    "max_channels_per_connection",
    "max_connections",
    "message_interceptors",
    "motd_file",
    "mqtt",
    "node_tags",
    "password_hashing_module",
    "product",
    "prometheus",
    "proxy_protocol",
    "queue_leader_locator",
    "ranch_connection_max",
    "reverse_dns_lookups",
    "runtime_parameters",
    "session_max_per_connection",
    "shovel",
    "ssl_cert_login_from",
    "ssl_cert_login_san_index",
    "ssl_cert_login_san_type",
    "ssl_handshake_timeout",
    "ssl_options",
    "stomp",
    "stream",
    "tcp_listen_options",
    "total_memory_available_override_value",
    "tracing",
    "trust_store",
    "vhost_max",
    "web_amqp",
    "web_mqtt",
    "web_stomp",
];

const MEANINGLESS: &[&str] = &[
    "aws",
    "background_gc_enabled",
    "background_gc_target_interval",
    "classic_queue",
    "cluster_keepalive_interval",
    "cluster_partition_handling",
    "default_worker_pool_size",
    "delegate_count",
    "deprecated_features",
    "distributed_cookie",
    "distribution",
    "erlang",
    "hipe_compile",
    "khepri",
    "log.console",
    "management_agent",
    "memory_monitor_interval",
    "message_store_shutdown_timeout",
    "mirroring_sync_batch_size",
    "mirroring_sync_max_throughput",
    "mnesia_table_loading_retry_limit",
    "mnesia_table_loading_retry_timeout",
    "net_ticktime",
    "nodename",
    "num_acceptors",
    "queue_index_embed_msgs_below",
    "queue_master_locator",
    "quorum_queue",
    "raft",
    "socket_writer",
    "ssl_allow_poodle_attack",
    "sysmon_handler",
    "vhost_restart_strategy",
    "vm_memory_calculation_strategy",
    "vm_memory_high_watermark_paging_ratio",
];

/// What the key means to RabbitMQ; `None` if nothing.
pub(super) fn known(key: &str, value: &str) -> Option<Known> {
    // That a log goes to the console is no choice here; whoever wants none may notice.
    if key == "log.console" && value != "true" {
        Some(Known::NotUsedYet)
    } else if MEANINGLESS.iter().any(|first| starts_key(key, first))
        && !key.starts_with("log.console.")
    {
        Some(Known::Meaningless)
    } else if NOT_USED_YET.iter().any(|first| starts_key(key, first)) {
        Some(Known::NotUsedYet)
    } else {
        None
    }
}

fn starts_key(key: &str, first: &str) -> bool {
    key.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What to write in place of an unknown key, if that can be guessed.
pub(super) fn guess(key: &str, candidates: &[&str]) -> Option<String> {
    let below = candidates.iter().filter(|candidate| starts_key(candidate, key));
    let below: Vec<_> = below.map(|key| (*key).to_owned()).collect();
    let guess =
        if below.is_empty() { nearest(key, candidates)?.to_owned() } else { below.join(" or ") };
    Some(format!("did you mean {guess}?"))
}

/// The key of `candidates` that a misspelt one was probably meant to be.
pub(super) fn nearest<'a>(key: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let distances = candidates.iter().map(|c| (edits(key, c), *c));
    let (distance, nearest) = distances.min()?;
    (distance <= 2).then_some(nearest)
}

/// Insertions, deletions and replacements from one word to the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_first_parts() {
        let known = |key| known(key, "true");
        assert_eq!(known("ssl_options.certfile"), Some(Known::NotUsedYet));
        assert_eq!(known("management.tcp.port"), Some(Known::NotUsedYet));
        assert_eq!(known("listeners.ssl.default"), Some(Known::NotUsedYet));
        assert_eq!(known("net_ticktime"), Some(Known::Meaningless));
        assert_eq!(known("log.console"), Some(Known::Meaningless));
        assert_eq!(known("log.console.formatter"), Some(Known::NotUsedYet));
        assert_eq!(known("managements"), None);
        assert_eq!(known("ssl"), None);
        assert_eq!(super::known("log.console", "false"), Some(Known::NotUsedYet));
    }

    #[test]
    fn keys_of_later_versions_are_known() {
        let keys = [
            "channel_max_per_node",
            "consumer_max_per_channel",
            "session_max_per_connection",
            "link_max_per_session",
            "vhost_max",
            "node_tags.region",
            "cluster_tags.region",
            "cluster_queue_limit",
            "runtime_parameters.limits.shovel",
        ];
        for key in keys {
            assert_eq!(known(key, "1"), Some(Known::NotUsedYet), "{key}");
        }
        assert_eq!(known("aws.prefer_imdsv2", "true"), Some(Known::Meaningless));
    }

    #[test]
    fn a_misspelt_key_is_told_from_a_foreign_one() {
        let keys = ["heartbeat", "frame_max"];
        assert_eq!(nearest("hartbeat", &keys), Some("heartbeat"));
        assert_eq!(nearest("frame-max", &keys), Some("frame_max"));
        assert_eq!(nearest("colour", &keys), None);
    }
}
