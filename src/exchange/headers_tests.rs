use super::super::targets::tests::{queue, queues_found};
use super::*;
use crate::table::{Table, TableBuilder};

type Fields<'a> = &'a [(&'a str, Value<'a>)];

fn table(fields: Fields<'_>) -> Table {
    let put =
        |table: TableBuilder, &(name, value): &(&str, Value<'_>)| table.put(name.as_bytes(), value);
    fields.iter().fold(TableBuilder::new(), put).finish()
}

fn binding(id: u64, arguments: Fields<'_>) -> Binding {
    Binding::new(queue(id), b"", table(arguments).as_ref())
}

fn matches(exchange: &Headers, headers: Fields<'_>) -> Vec<u64> {
    let mut fields = HeaderFields::default();
    fields.read(table(headers).as_ref());
    queues_found(|found| exchange.matches(&fields, &mut Tried::default(), found))
}

fn matched(arguments: Fields<'_>, headers: Fields<'_>) -> bool {
    let mut exchange = Headers::default();
    exchange.bind(&binding(1, arguments)).unwrap();
    !matches(&exchange, headers).is_empty()
}

const fn text(text: &str) -> Value<'_> {
    Value::LongStr(text.as_bytes())
}

const A1: (&str, Value<'_>) = ("a", Value::I32(1));
const B2: (&str, Value<'_>) = ("b", Value::I32(2));
const X3: (&str, Value<'_>) = ("x-c", Value::I32(3));

#[test]
fn all_is_the_default_and_any_needs_one() {
    let (all, any) = (("x-match", text("all")), ("x-match", text("any")));
    assert!(matched(&[A1, B2], &[B2, A1, X3]));
    assert!(!matched(&[A1, B2], &[A1]));
    assert!(matched(&[all, A1, B2], &[A1, B2]));
    assert!(!matched(&[all, A1, B2], &[B2, ("a", Value::I32(2))]));
    assert!(matched(&[any, A1, B2], &[B2]));
    assert!(!matched(&[any, A1, B2], &[("b", Value::I32(1))]));
    assert!(!matched(&[any, A1, B2], &[]));
}

#[test]
fn arguments_that_begin_with_x_count_only_with_x() {
    let (any, all_x) = (("x-match", text("any")), ("x-match", text("all-with-x")));
    let any_x = ("x-match", text("any-with-x"));
    assert!(matched(&[A1, X3], &[A1]));
    assert!(!matched(&[any, A1, X3], &[X3]));
    assert!(!matched(&[all_x, A1, X3], &[A1]));
    assert!(matched(&[all_x, A1, X3], &[A1, X3]));
    assert!(matched(&[any_x, A1, X3], &[X3]));
}

#[test]
fn without_conditions_all_matches_everything_and_any_nothing() {
    let any = ("x-match", text("any"));
    assert!(matched(&[], &[]));
    assert!(matched(&[X3], &[A1]));
    assert!(!matched(&[any, X3], &[X3]));
    assert!(!matched(&[any], &[]));
    assert!(matched(&[("x-match", text("all-with-x"))], &[]));
    assert!(!matched(&[("x-match", text("any-with-x"))], &[any]));
}

#[test]
fn void_asks_for_presence_only() {
    assert!(matched(&[("a", Value::Void)], &[A1]));
    assert!(matched(&[("a", Value::Void)], &[("a", Value::Void)]));
    assert!(!matched(&[("a", Value::Void)], &[B2]));
    assert!(!matched(&[A1], &[("a", Value::Void)]));
}

#[test]
fn a_wrong_x_match_is_refused() {
    let refused = |value| {
        let mut exchange = Headers::default();
        let error = exchange.bind(&binding(1, &[("x-match", value)])).unwrap_err();
        error.text()
    };
    assert_eq!(
        refused(text("zz")),
        "PRECONDITION_FAILED - Invalid x-match field value <<\"zz\">>; expected all, any, \
         all-with-x, or any-with-x"
    );
    assert_eq!(
        refused(Value::I32(5)),
        "PRECONDITION_FAILED - Invalid x-match field type signedint (value 5); expected longstr"
    );
}

#[test]
fn a_queue_that_two_conditions_find_is_emitted_once() {
    let mut exchange = Headers::default();
    exchange.bind(&binding(1, &[("x-match", text("any")), A1, B2])).unwrap();
    assert_eq!(matches(&exchange, &[A1, B2]), [1]);
}

#[test]
fn of_equal_headers_the_last_one_counts() {
    assert!(matched(&[A1], &[("a", Value::I32(9)), A1]));
    assert!(!matched(&[A1], &[A1, ("a", Value::I32(9))]));
}

#[test]
fn unbinding_forgets_a_rule_with_its_last_binding() {
    let mut exchange = Headers::default();
    let bindings = [
        binding(1, &[A1, B2]),
        binding(2, &[A1, B2]),
        binding(3, &[B2, ("x-match", text("any")), A1, ("c", Value::Void)]),
        binding(4, &[("b", Value::Void)]),
        binding(5, &[]),
    ];
    for _ in 0..2 {
        for binding in &bindings {
            exchange.bind(binding).unwrap();
        }
        assert_eq!(matches(&exchange, &[A1, B2]), [1, 2, 3, 4, 5]);
        exchange.unbind(&bindings[0]);
        assert_eq!(matches(&exchange, &[A1, B2]), [2, 3, 4, 5]);
        for binding in &bindings[1..] {
            exchange.unbind(binding);
        }
        assert!(matches(&exchange, &[A1, B2]).is_empty());
        assert!(exchange.by_name.is_empty() && exchange.ids.is_empty());
        assert_eq!(exchange.free.len(), exchange.rules.len());
    }
    assert_eq!(exchange.rules.len(), 3);
}

#[test]
fn a_rule_of_all_is_found_by_its_rarest_value() {
    let mut exchange = Headers::default();
    for id in 0..100 {
        let tenant = ("tenant", Value::I64(id));
        let arguments = [A1, ("present", Value::Void), tenant];
        exchange.bind(&binding(id as u64, &arguments)).unwrap();
    }
    let found_by = |name: &str, value: Option<Value<'_>>| {
        let named = exchange.by_name.get(name.as_bytes())?;
        let condition = Condition::new(name.as_bytes(), value.unwrap_or(Value::Void));
        Some(match condition.value {
            None => named.present.len(),
            Some(value) => named.equal.get(&value).map_or(0, Vec::len),
        })
    };
    assert_eq!(found_by("a", Some(Value::I32(1))), Some(1), "the first had the choice");
    assert_eq!(found_by("tenant", Some(Value::I32(50))), Some(1));
    assert_eq!(found_by("present", None), None);
    let message = [A1, ("present", Value::Void), ("tenant", Value::U8(50))];
    assert_eq!(matches(&exchange, &message), [50]);
}
