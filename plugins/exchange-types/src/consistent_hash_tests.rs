use super::*;
use crate::trial::{Sent, Trial, refused_arguments, refused_binding, spread};
use leveret_plugin_api::DestinationKind;
use proptest::prelude::*;

fn trial() -> Trial {
    Trial::of(&ConsistentHash, &[])
}

#[test]
fn binding_keys_are_weights() {
    let to = DestinationKind::Queue { queue_type: "classic" };
    let refused = |key: &[u8]| refused_binding(&ConsistentHash, to, key);
    for key in ["1", "+1", "007", "10000"] {
        assert_eq!(refused(key.as_bytes()), None, "{key}");
    }
    let texts = [
        ("abc", "The binding key must be an integer: <<\"abc\">>"),
        ("", "The binding key must be an integer: <<>>"),
        (" 1", "The binding key must be an integer: <<\" 1\">>"),
        ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
        ("-", "The binding key must be an integer: <<\"-\">>"),
        ("0", "The binding key must be greater than 0"),
        ("-0", "The binding key must be greater than 0"),
        ("-5", "The binding key must be greater than 0"),
        ("-99999999999999999999", "The binding key must be greater than 0"),
        ("10001", "The binding key must not exceed 10000"),
        ("65537", "The binding key must not exceed 10000"),
        ("99999999999999999999", "The binding key must not exceed 10000"),
    ];
    for (key, text) in texts {
        assert_eq!(refused(key.as_bytes()).as_deref(), Some(text));
    }
}

#[test]
fn arguments_say_what_is_hashed() {
    let text = |text: &'static str| Value::Text(text.as_bytes());
    let refused = |fields: &[(&str, Value<'_>)]| refused_arguments(&ConsistentHash, fields);
    assert_eq!(refused(&[("hash-header", text("any"))]), None);
    for property in ["correlation_id", "message_id", "timestamp"] {
        assert_eq!(refused(&[("hash-property", text(property))]), None);
    }
    let both = [("hash-header", text("h")), ("hash-property", text("zz"))];
    assert_eq!(
        refused(&both).as_deref(),
        Some("hash-header and hash-property are mutually exclusive")
    );
    assert_eq!(
        refused(&[("hash-property", text("zz"))]).as_deref(),
        Some("Unsupported property: zz")
    );
    assert_eq!(
        refused(&[("hash-header", Value::Int(5))]).as_deref(),
        Some("hash-header must be a longstr")
    );
}

#[test]
fn the_routing_key_alone_is_hashed_and_may_be_remembered() {
    let mut trial = trial();
    assert!(trial.router.depends_on_keys_only());
    assert_eq!(trial.route(&[b"k"]), None);
    for destination in 0..50 {
        trial.bind(destination, "1");
    }
    let chosen = trial.route(&[b"k"]);
    assert_eq!(trial.route(&[b"k", b"cc", b"bcc"]), chosen);
    assert!(spread((0..99_u8).map(|key| trial.route(&[&[key]]))).len() > 20);
}

#[test]
fn headers_and_properties_are_hashed_and_what_is_missing_is_one_value() {
    let by_header = &[("hash-header", Value::Text(b"h"))];
    let by_property = &[("hash-property", Value::Text(b"message_id"))];
    for arguments in [by_header, by_property] {
        let mut trial = Trial::of(&ConsistentHash, arguments);
        assert!(!trial.router.depends_on_keys_only());
        for destination in 0..50 {
            trial.bind(destination, "1");
        }
        let missing = trial.route_content(&Sent::default());
        let other = Sent {
            headers: &[("other", Value::Int(1))],
            property: Some((Property::AppId, Value::Text(b"a"))),
        };
        assert_eq!(trial.route_content(&other), missing);
        let ids: Vec<_> = (0..99).map(|n| format!("{n}")).collect();
        let chosen = ids.iter().map(|id| {
            let value = Value::Text(id.as_bytes());
            let sent =
                Sent { headers: &[("h", value)], property: Some((Property::MessageId, value)) };
            trial.route_content(&sent)
        });
        assert!(spread(chosen).len() > 20);
    }
}

#[test]
fn values_of_every_type_are_told_apart() {
    let values = [
        Value::Bool(true),
        Value::Int(1),
        Value::Float(1.0),
        Value::Decimal { scale: 0, digits: 1 },
        Value::Text(b"1"),
        Value::Bytes(b"1"),
        Value::Timestamp(1),
        Value::Array(b"1"),
        Value::Table(b"1"),
        Value::Void,
    ];
    let hash = |sent| value(Hasher::new(), sent).finish();
    let mut hashes: Vec<_> = values.map(|sent| hash(Some(sent))).to_vec();
    hashes.push(hash(None));
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), values.len() + 1);
}

#[test]
fn a_second_binding_adds_no_weight_and_takes_over_when_the_first_goes() {
    let keys: Vec<_> = (0..2000_u32).map(u32::to_le_bytes).collect();
    let share = |trial: &Trial| {
        let counts = spread(keys.iter().map(|key| trial.route(&[key])));
        counts.get(&1).copied().unwrap_or(0)
    };
    let mut trial = trial();
    trial.bind(1, "1");
    trial.bind(2, "1");
    let alone = share(&trial);
    trial.bind(1, "9");
    assert_eq!(share(&trial), alone);
    trial.unbind(1, "1");
    let heavy = share(&trial);
    assert!(heavy > 1600, "nine parts of ten are {heavy} of 2000");
    trial.unbind(1, "9");
    assert_eq!(share(&trial), 0);
}

proptest! {
    #[test]
    fn whatever_was_bound_and_unbound_only_what_is_bound_counts(
        ops in prop::collection::vec((any::<bool>(), 0..5_u32, 1..4_u32), 1..60),
    ) {
        let mut lived = trial();
        let mut bound: Vec<(u32, u32)> = Vec::new();
        for (binds, destination, weight) in ops {
            let binding = (destination, weight);
            match bound.iter().position(|known| *known == binding) {
                None if binds => {
                    lived.bind(destination, &weight.to_string());
                    bound.push(binding);
                }
                Some(at) if !binds => {
                    lived.unbind(destination, &weight.to_string());
                    bound.remove(at);
                }
                _ => {}
            }
        }
        let mut fresh = trial();
        for (destination, weight) in &bound {
            fresh.bind(*destination, &weight.to_string());
        }
        for key in 0..200_u32 {
            let key = key.to_le_bytes();
            let chosen = lived.route(&[&key]);
            prop_assert_eq!(chosen, fresh.route(&[&key]));
            prop_assert_eq!(chosen.is_some(), !bound.is_empty());
            let is_bound = |chosen| bound.iter().any(|(destination, _)| *destination == chosen);
            prop_assert!(chosen.is_none_or(is_bound));
        }
    }
}
