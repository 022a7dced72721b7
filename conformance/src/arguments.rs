//! The command line.

use crate::trial::Broker;
use crate::url::Url;
use std::collections::HashMap;

pub(crate) const USAGE: &str = "\
leveret-conformance --url [NAME=]URL [--url [NAME=]URL ...] [OPTIONS]
leveret-conformance --list [--filter SUBSTRING]
leveret-conformance capture-vectors DIRECTORY --url URL

  --url [NAME=]URL         a broker to test, amqp://user:password@host:port/vhost; several give
                           a Markdown table with a column for each
  --broker rabbitmq|leveret  whose expectations apply where the two differ (default: detected)
  --filter SUBSTRING       only the cases whose id contains this
  --jobs N                 cases at the same time (default 4)
  --restricted USER:PASSWORD  the user for the permission cases (default restricted:restricted)
  --ctl COMMAND            a piece of shell that takes the arguments of rabbitmqctl and reaches the
                           broker of the --url before it: cases with policies are skipped without
  --awaited FILE           ids of cases that Leveret does not pass yet, one a line: their failures
                           are counted apart, and a pass is a failure
  --list                   print the ids of the cases
";

#[derive(Debug, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) targets: Vec<(String, Url)>,
    /// A command for each target that has one, by its place among them.
    pub(crate) ctls: HashMap<usize, String>,
    pub(crate) broker: Option<Broker>,
    pub(crate) filter: String,
    pub(crate) jobs: usize,
    pub(crate) restricted: (String, String),
    /// File of cases that may fail.
    pub(crate) awaited: Option<String>,
    pub(crate) list: bool,
    pub(crate) capture_into: Option<String>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            ctls: HashMap::new(),
            broker: None,
            filter: String::new(),
            jobs: 4,
            restricted: ("restricted".to_owned(), "restricted".to_owned()),
            awaited: None,
            list: false,
            capture_into: None,
        }
    }
}

impl Arguments {
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--list" {
                arguments.list = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word}: not known, or no value"))?;
            arguments.set(&word, value)?;
        }
        if arguments.targets.is_empty() && !arguments.list {
            return Err("at least one --url is needed".to_owned());
        }
        Ok(arguments)
    }

    fn set(&mut self, option: &str, value: String) -> Result<(), String> {
        match option {
            "--url" => self.targets.push(target(&value)?),
            "--ctl" => {
                let place =
                    self.targets.len().checked_sub(1).ok_or("--ctl comes behind a --url")?;
                self.ctls.insert(place, value);
            }
            "--broker" => self.broker = Some(broker(&value)?),
            "--filter" => self.filter = value,
            "--jobs" => {
                self.jobs = value.parse().map_err(|_| format!("--jobs {value}: not a number"))?;
            }
            "--restricted" => {
                let (user, password) = value.split_once(':').ok_or("--restricted USER:PASSWORD")?;
                self.restricted = (user.to_owned(), password.to_owned());
            }
            "--awaited" => self.awaited = Some(value),
            "capture-vectors" => self.capture_into = Some(value),
            _ => return Err(format!("{option}: no such option")),
        }
        Ok(())
    }
}

/// `NAME=URL`, or a URL whose name is its address.
fn target(text: &str) -> Result<(String, Url), String> {
    if let Some((name, url)) = text.split_once('=').filter(|(name, _)| !name.contains(':')) {
        return Ok((name.to_owned(), Url::parse(url)?));
    }
    let url = Url::parse(text)?;
    Ok((url.address.clone(), url))
}

fn broker(word: &str) -> Result<Broker, String> {
    match word {
        "rabbitmq" => Ok(Broker::RabbitMq),
        "leveret" => Ok(Broker::Leveret),
        _ => Err(format!("--broker {word}: rabbitmq or leveret")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn brokers_may_have_names() {
        let arguments =
            parse("--url amqp://a:1 --url two=amqp://b:2/%2F --jobs 9 --awaited f").unwrap();
        let names: Vec<_> = arguments.targets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a:1", "two"]);
        assert_eq!(arguments.jobs, 9);
        assert_eq!(arguments.awaited.as_deref(), Some("f"));
    }

    #[test]
    fn a_ctl_belongs_to_the_url_before_it() {
        let arguments = parse("--url amqp://a:1 --url amqp://b:2 --ctl b-ctl").unwrap();
        assert_eq!(arguments.ctls.get(&0), None);
        assert_eq!(arguments.ctls.get(&1).map(String::as_str), Some("b-ctl"));
        assert!(parse("--ctl a-ctl --url amqp://a:1").is_err());
    }

    #[test]
    fn mistakes_are_reported() {
        assert!(parse("--url").is_err());
        assert!(parse("--jobs many --list").is_err());
        assert!(parse("--nope 1").is_err());
        assert!(parse("--filter 2.6").is_err());
    }
}
