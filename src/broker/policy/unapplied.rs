//! Stored parameters that this version cannot carry out: policies that are wrong to it, and
//! components that it does not know. They stay as they are stored and say nothing, until somebody
//! clears or replaces them, or a version runs that knows them.

use super::change::PolicyView;
use super::{Level, Policies};
use crate::command;
use crate::store;
use serde_json::Value;

/// One of them, beside its component and name.
#[derive(Clone, Debug)]
pub(super) struct Unapplied {
    /// As it is stored.
    value: String,
    /// On one line.
    why: String,
}

impl Policies {
    pub(super) fn keep_unapplied(&mut self, component: &str, name: &str, value: &str, why: &str) {
        let key = (component.to_owned(), name.to_owned());
        let unapplied = Unapplied { value: value.to_owned(), why: why.replace('\n', "; ") };
        self.unapplied.insert(key, unapplied);
    }

    /// False if no policy of that name was there without applying.
    pub(super) fn drop_unapplied(&mut self, level: Level, name: &str) -> bool {
        self.unapplied.remove(&(level.component().to_owned(), name.to_owned())).is_some()
    }

    /// A line for each, with what an operator can do.
    pub(in crate::broker) fn warnings(&self, vhost: &str) -> impl Iterator<Item = String> {
        self.unapplied.iter().map(move |((component, name), Unapplied { why, .. })| {
            let way_out = match Level::from_component(component) {
                Some(level) => {
                    let clear = command::ctl(level.verb_to_clear(), vhost, name);
                    format!("set it anew, or clear it with `{clear}`")
                }
                None => "a version that knows it will apply it".to_owned(),
            };
            format!(
                "{component} '{name}' in vhost '{vhost}' is kept, but does not apply: {why}; \
                 {way_out}"
            )
        })
    }

    pub(super) fn unapplied_definitions(
        &self,
        vhost: &str,
        each: &mut dyn FnMut(store::Definition),
    ) {
        for ((component, name), Unapplied { value, .. }) in &self.unapplied {
            each(store::Definition::ParameterSet {
                vhost: vhost.to_owned(),
                component: component.clone(),
                name: name.clone(),
                value: value.clone(),
            });
        }
    }

    /// The policies of a level that do not apply, with as much of each as can be read.
    pub(super) fn unapplied_views(&self, level: Level) -> impl Iterator<Item = PolicyView> {
        let of_level =
            self.unapplied.iter().filter(move |((component, _), _)| component == level.component());
        of_level.map(|((_, name), Unapplied { value, why })| {
            let stored = serde_json::from_str(value).unwrap_or(Value::Null);
            let text = |key| stored[key].as_str().unwrap_or_default().to_owned();
            let definition = stored.get("definition").map(Value::to_string);
            PolicyView {
                name: name.clone(),
                pattern: text("pattern"),
                apply_to: text("apply-to"),
                definition: definition.unwrap_or_else(|| value.clone()),
                priority: stored["priority"].as_i64().unwrap_or_default(),
                not_applied: Some(why.clone()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Refused, SetPolicy};
    use super::*;
    use crate::broker::Broker;
    use crate::broker::DeclareQueue;
    use crate::broker::declare::tests::{DURABLE, connect, open};
    use crate::broker::link::Workspace;
    use crate::broker::policy::Level::User;
    use crate::store::{Definition, MemoryDisk, Source};
    use std::sync::Arc;

    const WRONG: &str =
        r#"{"apply-to":"queues","definition":{"max-age-of-hares":7},"pattern":"^q","priority":3}"#;
    const BROKEN: &str = r#"{"pattern":"^q""#;
    const SHARDS: &str = r#"{"shards":3}"#;
    const STORED: [(&str, &str, &str); 4] = [
        ("operator_policy", "it's broken", BROKEN),
        ("policy", "broken", BROKEN),
        ("policy", "wrong", WRONG),
        ("sharding", "s", SHARDS),
    ];
    const UNKNOWN: &str = r#"[{<<"max-age-of-hares">>,7}] are not recognised policy settings"#;
    const CUT_OFF: &str = "EOF while parsing an object at line 1 column 15";

    /// Starts again on what a crash leaves once the journal has had a round.
    fn restarted(broker: Arc<Broker>, disk: &MemoryDisk) -> Arc<Broker> {
        broker.journal().round(disk).unwrap();
        drop(broker);
        open(disk)
    }

    /// A broker that another version left with these parameters, and with a policy that applies.
    fn left_by_another_version(disk: &MemoryDisk) -> Arc<Broker> {
        let broker = open(disk);
        let mut workspace = Workspace::default();
        set(&broker, "fine", r#"{"max-length":5}"#);
        connect(&broker)
            .declare_queue(&DeclareQueue { name: "q", ..DURABLE }, &mut workspace)
            .unwrap();
        let vhost = broker.vhost("/").unwrap();
        let definitions = STORED.map(parameter);
        vhost.state.write().define(&definitions, &broker, &mut workspace);
        restarted(broker, disk)
    }

    fn parameter((component, name, value): (&str, &str, &str)) -> Definition {
        let [vhost, component, name, value] = ["/", component, name, value].map(str::to_owned);
        Definition::ParameterSet { vhost, component, name, value }
    }

    fn set(broker: &Broker, name: &str, definition: &str) {
        let (vhost, pattern, apply_to, priority) = ("/", "^q", "all", 0);
        let set = SetPolicy { vhost, name, pattern, definition, apply_to, priority };
        broker.set_policy(User, &set, &mut Workspace::default()).unwrap();
    }

    /// What a checkpoint that writes everything gets, but for the policy that applies.
    fn kept(broker: &Broker) -> Vec<Definition> {
        let mut kept = Vec::new();
        Source::definitions(broker, &mut |it| kept.push(it));
        kept.retain(
            |it| matches!(it, Definition::ParameterSet { name, .. } if name.as_str() != "fine"),
        );
        kept
    }

    fn names(broker: &Broker, level: Level) -> Vec<String> {
        broker.policies(level, "/").unwrap().into_iter().map(|policy| policy.name).collect()
    }

    #[test]
    fn what_cannot_be_applied_is_kept_as_it_is_stored_and_does_nothing() {
        let disk = MemoryDisk::new();
        let mut broker = left_by_another_version(&disk);
        for _ in 0..2 {
            let behaviour = broker.vhost("/").unwrap().queue("q").unwrap().behaviour();
            assert_eq!(behaviour.max_length, Some(5));
            assert_eq!(kept(&broker), STORED.map(parameter));
            broker = restarted(broker, &disk);
        }
    }

    #[test]
    fn each_that_does_not_apply_has_a_line_with_the_reason_and_the_way_out() {
        let broker = left_by_another_version(&MemoryDisk::new());
        let vhost = broker.vhost("/").unwrap();
        let warnings: Vec<_> = vhost.state.read().policies.warnings("burrow").collect();
        let clear = "set it anew, or clear it with `leveret ctl -p burrow clear_";
        let rest = "in vhost 'burrow' is kept, but does not apply:";
        let unknown = "this version knows no such component; a version that knows it will apply it";
        assert_eq!(
            warnings,
            [
                format!(
                    "operator_policy 'it's broken' {rest} {CUT_OFF}; \
                     {clear}operator_policy 'it'\\''s broken'`"
                ),
                format!("policy 'broken' {rest} {CUT_OFF}; {clear}policy broken`"),
                format!("policy 'wrong' {rest} {UNKNOWN}; {clear}policy wrong`"),
                format!("sharding 's' {rest} {unknown}"),
            ]
        );
    }

    #[test]
    fn a_policy_that_does_not_apply_is_listed_with_the_reason() {
        let broker = left_by_another_version(&MemoryDisk::new());
        let listed = broker.policies(User, "/").unwrap();
        assert_eq!(names(&broker, User), ["broken", "fine", "wrong"]);
        let (broken, wrong) = (&listed[0], &listed[2]);
        assert_eq!(broken.not_applied.as_deref(), Some(CUT_OFF));
        assert_eq!((&*broken.pattern, &*broken.definition), ("", BROKEN));
        assert_eq!(wrong.not_applied.as_deref(), Some(UNKNOWN));
        assert_eq!((&*wrong.pattern, &*wrong.apply_to, wrong.priority), ("^q", "queues", 3));
        assert_eq!(wrong.definition, r#"{"max-age-of-hares":7}"#);
        assert_eq!(listed[1].not_applied, None);
        assert_eq!(names(&broker, Level::Operator), ["it's broken"]);
        let request = r#"{"verb":"list_operator_policies","vhost":"/"}"#;
        let line = broker.control(request, &mut Workspace::default()).line;
        assert!(line.contains(&format!(r#""apply-to":"nothing: {CUT_OFF}""#)), "{line}");
    }

    #[test]
    fn clearing_and_setting_end_what_does_not_apply_for_good() {
        let disk = MemoryDisk::new();
        let broker = left_by_another_version(&disk);
        let clear = |level, name| {
            broker.clear_policy(level, "/", name, &mut Workspace::default()).map(|_| ())
        };
        assert_eq!(clear(Level::Operator, "wrong"), Err(Refused::NotFound), "of another level");
        assert_eq!(clear(User, "s"), Err(Refused::NotFound), "no policy");
        assert_eq!(clear(Level::Operator, "it's broken"), Ok(()));
        assert_eq!(clear(User, "broken"), Ok(()));
        assert_eq!(clear(User, "broken"), Err(Refused::NotFound));
        set(&broker, "wrong", r#"{"max-length":4}"#);
        assert_eq!(names(&broker, User), ["fine", "wrong"]);
        let broker = restarted(broker, &disk);
        assert_eq!(names(&broker, User), ["fine", "wrong"]);
        assert_eq!(names(&broker, Level::Operator), [""; 0]);
        assert_eq!(kept(&broker)[1..], [parameter(STORED[3])]);
    }
}
