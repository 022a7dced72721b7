//! What policies say about a queue, as values.

use super::behaviour::{DeadLetterStrategy, Overflow};
use crate::name::Name;

/// What one policy, or a policy and an operator's, says; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyValues {
    pub expires_ms: Option<u64>,
    pub message_ttl_ms: Option<u64>,
    pub max_length: Option<u64>,
    pub max_length_bytes: Option<u64>,
    pub overflow: Option<Overflow>,
    pub dead_letter_exchange: Option<Name>,
    pub dead_letter_routing_key: Option<Name>,
    pub dead_letter_strategy: Option<DeadLetterStrategy>,
    /// Negative: as often as it takes.
    pub delivery_limit: Option<i64>,
    pub consumer_timeout_ms: Option<u64>,
    pub retry_delay_ms_min: Option<u64>,
    /// Says nothing where nobody gives the least.
    pub retry_delay_ms_max: Option<u64>,
    pub exact_expiry: Option<bool>,
}

impl PolicyValues {
    /// This policy under an operator's. RabbitMQ: of two limits the smaller counts, of two words
    /// the operator's.
    #[must_use]
    pub fn under(&self, operator: &Self) -> Self {
        let least = |user: Option<u64>, operator| user.into_iter().chain(operator).min();
        Self {
            expires_ms: least(self.expires_ms, operator.expires_ms),
            message_ttl_ms: least(self.message_ttl_ms, operator.message_ttl_ms),
            max_length: least(self.max_length, operator.max_length),
            max_length_bytes: least(self.max_length_bytes, operator.max_length_bytes),
            overflow: operator.overflow.or(self.overflow),
            delivery_limit: Self::delivery_limit_of(self.delivery_limit, operator.delivery_limit),
            consumer_timeout_ms: least(self.consumer_timeout_ms, operator.consumer_timeout_ms),
            retry_delay_ms_min: least(self.retry_delay_ms_min, operator.retry_delay_ms_min),
            retry_delay_ms_max: least(self.retry_delay_ms_max, operator.retry_delay_ms_max),
            ..self.clone()
        }
    }

    /// Of two delivery limits the smaller counts; the larger if one of them is negative, which is
    /// the one that limits something (RabbitMQ 4).
    #[must_use]
    pub fn delivery_limit_of(one: Option<i64>, other: Option<i64>) -> Option<i64> {
        match (one, other) {
            (Some(one), Some(other)) if one < 0 || other < 0 => Some(one.max(other)),
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}
