//! Variables of the environment by which RabbitMQ is set up, and what to use in their place:
//! whoever sets them should not wonder why nothing happens.

/// Each with what does the same here. Others that begin alike, such as those that Kubernetes makes
/// of a service's name, are not meant for a broker.
const VARIABLES: &[(&str, &str)] = &[
    ("RABBITMQ_ADVANCED_CONFIG_FILE", "--config"),
    ("RABBITMQ_CONFIG_FILE", "--config"),
    ("RABBITMQ_CONFIG_FILES", "--config"),
    ("RABBITMQ_CONF_ENV_FILE", "arguments or --config"),
    ("RABBITMQ_DEFAULT_PASS", "default_pass in the file of --config"),
    ("RABBITMQ_DEFAULT_USER", "default_user in the file of --config"),
    ("RABBITMQ_DEFAULT_VHOST", "default_vhost in the file of --config"),
    ("RABBITMQ_LOG", "--log-level"),
    ("RABBITMQ_LOGS", "standard error"),
    ("RABBITMQ_LOG_BASE", "standard error"),
    ("RABBITMQ_MNESIA_BASE", "--data-dir"),
    ("RABBITMQ_MNESIA_DIR", "--data-dir"),
    ("RABBITMQ_NODENAME", "node_name in the file of --config"),
    ("RABBITMQ_NODE_IP_ADDRESS", "--bind"),
    ("RABBITMQ_NODE_PORT", "--amqp-port"),
    (
        "RABBITMQ_VM_MEMORY_HIGH_WATERMARK",
        "vm_memory_high_watermark.relative in the file of --config",
    ),
];

/// A line for each variable that is set; `is_set` looks a name up.
pub(crate) fn unread_variables(is_set: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    let set = VARIABLES.iter().filter(move |(name, _)| is_set(name));
    set.map(|(name, in_place)| {
        format!("the variable {name} is set and has no effect: use {in_place}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_rabbitmqs_is_named_with_what_does_the_same() {
        let set = ["RABBITMQ_NODE_PORT", "RABBITMQ_SERVICE_HOST", "HOME"];
        let lines: Vec<_> = unread_variables(|name| set.contains(&name)).collect();
        let expected = "the variable RABBITMQ_NODE_PORT is set and has no effect: use --amqp-port";
        assert_eq!(lines, [expected]);
    }
}
