//! What an operator asks a running broker to do, whichever way it comes: a request and an answer,
//! both one line of JSON.
//!
//! ```text
//! {"verb":"clear_policy","vhost":"/","name":"limits"}
//! {"ok":null}
//! {"error":{"kind":"not_found","text":"Parameter does not exist"}}
//! ```
//! A verb is a function here and a name in `VERBS`; those of one thing are one file. Who may ask is
//! decided before: by whoever may reach the socket.

mod deduplication;
mod delayed;
mod held;
mod policies;

use super::Broker;
use super::link::Workspace;
use super::policy::Refused;
use crate::store::Reach;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What a verb needs besides its name.
type Arguments = Map<String, Value>;
type Verb = fn(&Broker, Arguments, &mut Workspace) -> Result<Done, Error>;

const VERBS: [(&str, Verb); 12] = [
    ("set_policy", policies::set_policy),
    ("clear_policy", policies::clear_policy),
    ("list_policies", policies::list_policies),
    ("set_operator_policy", policies::set_operator_policy),
    ("clear_operator_policy", policies::clear_operator_policy),
    ("list_operator_policies", policies::list_operator_policies),
    ("list_delayed", delayed::list_delayed),
    ("cancel_delayed", delayed::cancel_delayed),
    ("reschedule_delayed", delayed::reschedule_delayed),
    ("list_deduplication", deduplication::list_deduplication),
    ("list_held_queues", held::list_held_queues),
    ("release_queue", held::release_queue),
];

/// An answer, to be given once the journal has come so far.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// A line without its end.
    pub line: String,
    pub reach: Reach,
}

/// A verb was carried out.
struct Done {
    value: Value,
    reach: Reach,
}

/// A verb was not carried out.
#[derive(Debug, Serialize)]
struct Error {
    kind: Kind,
    text: String,
}

/// What an exit code is made of.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// It is no request: another version is at the other end.
    BadRequest,
    NoVhost,
    NotFound,
    BadJson,
    Invalid,
}

impl Broker {
    /// Carries out one request.
    #[must_use]
    pub fn control(&self, request: &str, workspace: &mut Workspace) -> Answer {
        let (answer, reach) = match self.carry_out(request, workspace) {
            Ok(Done { value, reach }) => (("ok", value), reach),
            Err(error) => {
                let error = serde_json::to_value(error).expect("an error is plain strings");
                (("error", error), Reach::default())
            }
        };
        let (key, value) = answer;
        let line = Value::Object(Map::from_iter([(key.to_owned(), value)])).to_string();
        Answer { line, reach }
    }

    fn carry_out(&self, request: &str, workspace: &mut Workspace) -> Result<Done, Error> {
        let mut arguments: Arguments = serde_json::from_str(request).map_err(bad_request)?;
        let Some(Value::String(name)) = arguments.remove("verb") else {
            return Err(bad_request("the request has no verb"));
        };
        let verb = VERBS.iter().find(|(known, _)| *known == name);
        let unknown = || bad_request(format!("this broker knows no verb '{name}'"));
        let (_, verb) = verb.ok_or_else(unknown)?;
        verb(self, arguments, workspace)
    }
}

fn bad_request(why: impl ToString) -> Error {
    Error { kind: Kind::BadRequest, text: why.to_string() }
}

fn parse<T: DeserializeOwned>(arguments: Arguments) -> Result<T, Error> {
    serde_json::from_value(Value::Object(arguments)).map_err(bad_request)
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::NoVhost(_) => Kind::NoVhost,
            Refused::Json(_) => Kind::BadJson,
            Refused::Invalid(_) => Kind::Invalid,
            Refused::NotFound => Kind::NotFound,
        };
        Self { kind, text: refused.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::declare::tests::open;
    use super::*;
    use crate::store::MemoryDisk;

    #[test]
    fn what_is_no_request_is_answered_and_changes_nothing() {
        let broker = open(&MemoryDisk::new());
        let before = broker.journal().appended_lsn();
        for (request, why) in [
            ("", "EOF while parsing"),
            ("nonsense", "expected"),
            ("[]", "invalid type"),
            ("{}", "no verb"),
            (r#"{"verb":5}"#, "no verb"),
            (r#"{"verb":"fly"}"#, "no verb 'fly'"),
            (r#"{"verb":"set_policy"}"#, "missing field"),
            (r#"{"verb":"clear_policy","vhost":"/","name":5}"#, "invalid type"),
            (&r#"{"a":"#.repeat(100_000), "recursion limit"),
        ] {
            let answer = broker.control(request, &mut Workspace::default());
            assert!(answer.line.starts_with(r#"{"error":{"kind":"bad_request""#), "{answer:?}");
            assert!(answer.line.contains(why), "{answer:?}");
            assert_eq!(answer.reach, Reach::default());
        }
        assert_eq!(broker.journal().appended_lsn(), before);
    }

    #[test]
    fn a_policy_is_set_listed_and_cleared_by_requests() {
        let broker = open(&MemoryDisk::new());
        let ask = |request: &str| broker.control(request, &mut Workspace::default());
        let set = ask(r#"{"verb":"set_policy","vhost":"/","name":"p","pattern":"^q","priority":3,
                "apply_to":"queues","definition":"{\"max-length\":5}"}"#);
        assert_eq!(set.line, r#"{"ok":null}"#);
        assert_eq!(set.reach.durable, broker.journal().appended_lsn());
        let listed = r#"{"ok":[{"apply-to":"queues","definition":"{\"max-length\":5}","#.to_owned()
            + r#""name":"p","pattern":"^q","priority":3,"vhost":"/"}]}"#;
        assert_eq!(ask(r#"{"verb":"list_policies","vhost":"/"}"#).line, listed);
        assert_eq!(ask(r#"{"verb":"list_operator_policies","vhost":"/"}"#).line, r#"{"ok":[]}"#);
        let clear = r#"{"verb":"clear_policy","vhost":"/","name":"p"}"#;
        assert_eq!(ask(clear).line, r#"{"ok":null}"#);
        let gone = r#"{"error":{"kind":"not_found","text":"Parameter does not exist"}}"#;
        assert_eq!(ask(clear).line, gone);
    }
}
