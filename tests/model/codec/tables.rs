//! Field tables through a method's frame.

use super::frame;
use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, queue};
use leveret::limits::FRAME_MAX;
use leveret::table::{Table, TableBuilder, Value};
use leveret::wire::{ClientMethod, Decoded, FrameKind, decode_frame};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A field whose value may hold others.
#[derive(Clone, Debug)]
enum Field {
    Int(i64),
    Bool(bool),
    Text(String),
    Float(i16),
    Void,
    Table(Vec<(String, Self)>),
}

fn field() -> impl Strategy<Value = Field> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Field::Int),
        any::<bool>().prop_map(Field::Bool),
        "\\PC{0,20}".prop_map(Field::Text),
        any::<i16>().prop_map(Field::Float),
        Just(Field::Void),
    ];
    leaf.prop_recursive(5, 30, 6, |field| {
        prop::collection::vec(("[a-c]{0,2}", field), 0..6).prop_map(Field::Table)
    })
}

fn table(fields: &[(String, Field)]) -> Table {
    let builder = fields.iter().fold(TableBuilder::new(), |builder, (key, field)| {
        let key = key.as_bytes();
        match field {
            Field::Int(n) => builder.put(key, Value::I64(*n)),
            Field::Bool(b) => builder.put(key, Value::Bool(*b)),
            Field::Text(text) => builder.put(key, Value::LongStr(text.as_bytes())),
            Field::Float(n) => builder.put(key, Value::F64(f64::from(*n))),
            Field::Void => builder.put(key, Value::Void),
            Field::Table(inner) => builder.put(key, Value::Table(table(inner).as_ref())),
        }
    });
    builder.finish()
}

proptest! {
    #[test]
    fn a_table_comes_through_untouched(
        fields in prop::collection::vec(("[a-c]{0,2}", field()), 0..8),
    ) {
        let table = table(&fields);
        let table = table.as_ref();
        let len = u32::try_from(table.bytes().len()).unwrap().to_be_bytes();
        let payload = [&b"\0\x32\0\x0a\0\0\x01q\0"[..], &len, table.bytes()].concat();
        let bytes = frame(FrameKind::Method, 1, &payload);

        let Ok(Decoded::Frame { payload, .. }) = decode_frame(&bytes, FRAME_MAX) else {
            panic!("the frame is whole");
        };
        let Ok(ClientMethod::QueueDeclare(declare)) = ClientMethod::decode(payload) else {
            panic!("it is a queue.declare");
        };
        prop_assert_eq!(declare.arguments, table);
        let keys: Vec<_> = declare.arguments.iter().map(|(key, _)| key.to_vec()).collect();
        let put: Vec<_> = fields.iter().map(|(key, _)| key.clone().into_bytes()).collect();
        prop_assert_eq!(keys, put);

        let theirs = parse_frame(&bytes[..]).expect("amq-protocol reads it").1;
        let AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(theirs))) = theirs
        else {
            panic!("amq-protocol reads a queue.declare");
        };
        let distinct: BTreeSet<_> = fields.iter().map(|(key, _)| key).collect();
        prop_assert_eq!(theirs.arguments.inner().len(), distinct.len());
    }
}
