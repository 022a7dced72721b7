//! One run of one case against one broker: connections, names of its own, and their removal.

use crate::client::{Channel, Connection, Login, declare, delete, delete_exchange};
use crate::ctl::{self, Said};
use crate::outcome::{Outcome, Stop, fail, holds};
use crate::url::Url;
use std::cell::RefCell;
use std::rc::Rc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    RabbitMq,
    Leveret,
}

/// A broker under test.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) url: Url,
    pub(crate) broker: Broker,
    /// A user with few permissions, set up as `rabbitmq.sh` does.
    pub(crate) restricted: (String, String),
    /// A piece of shell that takes rabbitmqctl's arguments.
    pub(crate) ctl: Option<String>,
}

/// What RabbitMQ 3.10 does and what Leveret does instead.
pub(crate) struct Differs<T> {
    pub(crate) rabbitmq: T,
    pub(crate) leveret: T,
    /// The heading of the difference in `differences.md`.
    pub(crate) line: &'static str,
}

pub(crate) struct Trial<'a> {
    target: &'a Target,
    prefix: String,
    names: RefCell<Names>,
    differences: RefCell<Vec<&'static str>>,
}

#[derive(Default)]
struct Names {
    queues: Vec<String>,
    exchanges: Vec<String>,
    policies: Vec<Policy>,
}

/// A policy that a case has set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    /// Of the verbs: nothing, or `operator_`.
    kind: &'static str,
    name: String,
}

impl<'a> Trial<'a> {
    /// `prefix` starts every name of this trial and of no other.
    pub(crate) fn new(target: &'a Target, prefix: String) -> Self {
        Self { target, prefix, names: RefCell::default(), differences: RefCell::default() }
    }

    pub(crate) fn expect<T>(&self, differs: Differs<T>) -> T {
        let mut differences = self.differences.borrow_mut();
        if !differences.contains(&differs.line) {
            differences.push(differs.line);
        }
        match self.target.broker {
            Broker::RabbitMq => differs.rabbitmq,
            Broker::Leveret => differs.leveret,
        }
    }

    /// The differences whose expectation the case has asked for.
    pub(crate) fn differences(&self) -> Vec<&'static str> {
        self.differences.borrow().clone()
    }

    pub(crate) fn login(&self) -> Login {
        Login::new(&self.target.url)
    }

    pub(crate) fn connect(&self) -> Outcome<Rc<Connection>> {
        self.login().open()
    }

    /// Channel 1 of a new connection.
    pub(crate) fn channel(&self) -> Outcome<Channel> {
        self.connect()?.channel(1)
    }

    /// Channel 1 of a new connection of the user who may configure `own-`, write `own-` and
    /// `write-`, and read `own-` and `read-` only.
    pub(crate) fn restricted_channel(&self) -> Outcome<Channel> {
        let (user, password) = &self.target.restricted;
        let login = self.login().user(user, password);
        let connection = login.greeted()?;
        connection.send(&login.start_ok());
        if connection.expect("connection.tune").is_err() {
            return Err(Stop::Skipped(format!("the broker has no user {user}")));
        }
        login.open()?.channel(1)
    }

    pub(crate) fn user(&self) -> &str {
        &self.target.url.user
    }

    pub(crate) fn restricted_user(&self) -> &str {
        &self.target.restricted.0
    }

    pub(crate) fn vhost(&self) -> &str {
        &self.target.url.vhost
    }

    /// How the broker prints a resource.
    pub(crate) fn at(&self, kind: &str, name: &str) -> String {
        format!("{kind} '{name}' in vhost '{}'", self.vhost())
    }

    /// A name for a queue that the case may declare. It is deleted after the case.
    pub(crate) fn queue(&self) -> String {
        self.queue_named("")
    }

    /// The same with something in front, for permissions that look there.
    pub(crate) fn queue_named(&self, front: &str) -> String {
        let queues = &mut self.names.borrow_mut().queues;
        let name = format!("{front}{}.q{}", self.prefix, queues.len());
        queues.push(name.clone());
        name
    }

    /// Deletes a queue with a name the broker made, or that the case changed.
    pub(crate) fn forget_later(&self, queue: &str) {
        self.names.borrow_mut().queues.push(queue.to_owned());
    }

    /// A name for an exchange that the case may declare. It is deleted after the case.
    pub(crate) fn exchange(&self) -> String {
        self.exchange_named("")
    }

    pub(crate) fn exchange_named(&self, front: &str) -> String {
        let exchanges = &mut self.names.borrow_mut().exchanges;
        let name = format!("{front}{}.x{}", self.prefix, exchanges.len());
        exchanges.push(name.clone());
        name
    }

    /// A new queue: not durable, not exclusive, not auto-delete.
    pub(crate) fn new_queue(&self, channel: &Channel) -> Outcome<String> {
        let queue = self.queue();
        channel.call(&declare(&queue))?;
        Ok(queue)
    }

    pub(crate) fn new_exchange(&self, channel: &Channel, kind: &str) -> Outcome<String> {
        let name = self.exchange();
        channel.call(&crate::client::exchange(&name, kind))?;
        Ok(name)
    }

    /// Sets a policy, or an operator policy if `kind` is `operator_`. It is cleared after the case.
    pub(crate) fn set_policy(
        &self,
        kind: &'static str,
        pattern: &str,
        definition: &str,
        options: &[&str],
    ) -> Outcome<Policy> {
        let (policy, said) = self.try_policy(kind, pattern, definition, options)?;
        let text = format!("set_{kind}policy of {definition} failed: {}", said.text);
        holds(said.succeeded, text)?;
        Ok(policy)
    }

    /// The same policy is refused with this text.
    pub(crate) fn policy_is_refused(
        &self,
        kind: &'static str,
        pattern: &str,
        definition: &str,
        text: &str,
    ) -> Outcome {
        let (_, said) = self.try_policy(kind, pattern, definition, &[])?;
        if !said.succeeded && said.text.contains(text) {
            return Ok(());
        }
        fail(format!("set_{kind}policy of {definition}: expected {text:?}, got {said:?}"))
    }

    fn try_policy(
        &self,
        kind: &'static str,
        pattern: &str,
        definition: &str,
        options: &[&str],
    ) -> Outcome<(Policy, Said)> {
        let number = self.names.borrow().policies.len();
        let policy = Policy { kind, name: format!("{}.p{number}", self.prefix) };
        let verb = format!("set_{kind}policy");
        let words = [&[verb.as_str()], options, &[&policy.name, pattern, definition]].concat();
        let said = self.ctl(&words)?;
        if said.succeeded {
            self.names.borrow_mut().policies.push(policy.clone());
        }
        Ok((policy, said))
    }

    pub(crate) fn clear_policy(&self, policy: &Policy) -> Outcome {
        self.names.borrow_mut().policies.retain(|set| set != policy);
        let said = self.ctl(&[&format!("clear_{}policy", policy.kind), &policy.name])?;
        holds(said.succeeded, format!("{policy:?} was not cleared: {}", said.text))
    }

    fn ctl(&self, words: &[&str]) -> Outcome<Said> {
        let Some(command) = &self.target.ctl else {
            return Err(Stop::Skipped("no --ctl says how to reach the broker".to_owned()));
        };
        ctl::run(command, &[&["-p", self.vhost()], words].concat())
    }

    /// Deletes what the case may have declared. A refusal does not matter: exclusive queues go
    /// with their connection.
    pub(crate) fn clean_up(&self) -> Outcome {
        let names = self.names.take();
        names.policies.iter().try_for_each(|policy| self.clear_policy(policy))?;
        if names.queues.is_empty() && names.exchanges.is_empty() {
            return Ok(());
        }
        let channel = self.channel()?;
        let queues = names.queues.iter().map(|queue| delete(queue));
        let exchanges = names.exchanges.iter().map(|exchange| delete_exchange(exchange));
        for method in queues.chain(exchanges) {
            channel.send(&method);
            let ok = format!("{}-ok", method.name());
            if channel.expect(&ok).is_err() {
                channel.send(&crate::codec::Method::new("channel.close-ok"));
                channel.reopen()?;
            }
        }
        channel.connection.close()
    }
}
