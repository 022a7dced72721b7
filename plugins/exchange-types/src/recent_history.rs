//! `x-recent-history`: a fanout exchange that remembers its last messages, and whatever is bound
//! gets them first.

use crate::term;
use leveret_plugin_api::{
    Binding, Choice, DestinationId, ExchangeType, Fields, Message, Router, Value,
};
use std::collections::BTreeMap;

const LENGTH: &str = "x-recent-history-length";
const NO_STORE: &[u8] = b"x-recent-history-no-store";
/// RabbitMQ's plugin remembers as many.
const LENGTH_DEFAULT: usize = 20;

pub struct RecentHistory;

impl ExchangeType for RecentHistory {
    fn name(&self) -> &str {
        "x-recent-history"
    }

    fn description(&self) -> &str {
        "Recent History Exchange."
    }

    fn check_arguments(&self, arguments: &dyn Fields) -> Result<(), String> {
        match arguments.get(LENGTH.as_bytes()) {
            None | Some(Value::Int(1..)) => Ok(()),
            Some(value) => {
                let value = term::value(value);
                Err(format!("Invalid argument {value}, '{LENGTH}' must be a positive integer"))
            }
        }
    }

    fn router(&self, arguments: &dyn Fields) -> Box<dyn Router> {
        let len = match arguments.get(LENGTH.as_bytes()) {
            Some(Value::Int(len @ 1..)) => usize::try_from(len).unwrap_or(usize::MAX),
            _ => LENGTH_DEFAULT,
        };
        Box::new(Remembering { len, bindings: BTreeMap::new() })
    }
}

struct Remembering {
    len: usize,
    /// The number of bindings by destination.
    bindings: BTreeMap<DestinationId, usize>,
}

impl Router for Remembering {
    fn bound(&mut self, binding: &Binding<'_>) {
        *self.bindings.entry(binding.destination).or_insert(0) += 1;
    }

    fn unbound(&mut self, binding: &Binding<'_>) {
        if let Some(count) = self.bindings.get_mut(&binding.destination) {
            *count -= 1;
            if *count == 0 {
                self.bindings.remove(&binding.destination);
            }
        }
    }

    fn route(&self, message: &Message<'_>, choice: &mut Choice<'_>) {
        self.bindings.keys().for_each(|destination| choice.add(*destination));
        if message.content.header(NO_STORE) != Some(Value::Bool(true)) {
            choice.remember();
        }
    }

    fn history_len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Trial, refused_arguments};

    #[test]
    fn lengths_are_positive_integers() {
        let refused = |value| refused_arguments(&RecentHistory, &[(LENGTH, value)]);
        assert_eq!(refused_arguments(&RecentHistory, &[]), None);
        assert_eq!(refused(Value::Int(1)), None);
        let texts = [
            (Value::Int(0), "0"),
            (Value::Int(-3), "-3"),
            (Value::Text(b"abc"), "<<\"abc\">>"),
            (Value::Bool(true), "true"),
        ];
        for (value, printed) in texts {
            let text = refused(value).unwrap_or_default();
            let rest = "'x-recent-history-length' must be a positive integer";
            assert_eq!(text, format!("Invalid argument {printed}, {rest}"));
        }
    }

    #[test]
    fn twenty_messages_are_remembered_unless_the_argument_says_otherwise() {
        let len = |fields| Trial::of(&RecentHistory, fields).router.history_len();
        assert_eq!(len(&[]), 20);
        assert_eq!(len(&[(LENGTH, Value::Int(3))]), 3);
    }

    #[test]
    fn everything_bound_gets_everything_once() {
        let mut trial = Trial::of(&RecentHistory, &[]);
        assert!(trial.routes(&[b"k"]).is_empty());
        for (destination, key) in [(1, "a"), (1, "b"), (2, "")] {
            trial.bind(destination, key);
        }
        assert_eq!(trial.routes(&[b"k"]), [1, 2]);
        trial.unbind(1, "a");
        assert_eq!(trial.routes(&[b"k"]), [1, 2]);
        trial.unbind(1, "b");
        assert_eq!(trial.routes(&[b"k"]), [2]);
    }

    #[test]
    fn a_header_keeps_a_message_out_of_the_history() {
        let trial = Trial::of(&RecentHistory, &[]);
        let no_store = "x-recent-history-no-store";
        assert!(trial.is_remembered(&[]));
        assert!(trial.is_remembered(&[(no_store, Value::Bool(false))]));
        assert!(trial.is_remembered(&[(no_store, Value::Text(b"true"))]));
        assert!(!trial.is_remembered(&[(no_store, Value::Bool(true))]));
    }
}
