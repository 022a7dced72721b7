//! A conformance suite for AMQP 0-9-1 brokers: cases on the raw wire, run by URL.
//!
//! `codec` and `client` speak the protocol, `cases` holds what is expected, `trial` is one run of
//! one case, `runner` and `report` do the rest.

mod arguments;
mod awaited;
mod cases;
mod client;
mod codec;
mod ctl;
mod outcome;
mod report;
mod runner;
mod trial;
mod url;
mod vectors;

use arguments::{Arguments, USAGE};
use awaited::Awaited;
use client::Connection;
use codec::Value;
use outcome::{Outcome, Stop};
use std::process::ExitCode;
use trial::{Broker, Target};
use url::Url;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(mistake) => {
            eprintln!("{mistake}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match act(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Stop::Failed(text) | Stop::Skipped(text) | Stop::Awaited(text)) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

/// Whether no case has failed.
fn act(arguments: &Arguments) -> Outcome<bool> {
    let cases = cases::matching(&arguments.filter);
    if arguments.list {
        cases.iter().for_each(|case| println!("{}", case.id()));
        return Ok(true);
    }
    if let (Some(directory), Some((_, url))) = (&arguments.capture_into, arguments.targets.first())
    {
        vectors::capture(url, directory)?;
        return Ok(true);
    }
    let awaited = read_awaited(arguments.awaited.as_deref())?;
    // A case that panics is reported as failed, with the text; the hook would print it as well.
    std::panic::set_hook(Box::new(|_| {}));
    let mut columns = Vec::new();
    for (place, (name, url)) in arguments.targets.iter().enumerate() {
        let broker = arguments.broker.map_or_else(|| detect(url), Ok)?;
        let restricted = arguments.restricted.clone();
        let ctl = arguments.ctls.get(&place).cloned();
        let target = Target { name: name.clone(), url: url.clone(), broker, restricted, ctl };
        let mut verdicts = runner::run(&cases, &target, arguments.jobs);
        // RabbitMQ has all features.
        if broker == Broker::Leveret {
            awaited.apply(&mut verdicts);
        }
        columns.push((target.name, verdicts));
    }
    match columns.as_slice() {
        [(_, verdicts)] => print!("{}", report::plain(verdicts)),
        several => print!("{}", report::side_by_side(several)),
    }
    Ok(columns.iter().all(|(_, verdicts)| report::Totals::of(verdicts).failed == 0))
}

fn read_awaited(file: Option<&str>) -> Outcome<Awaited> {
    let Some(file) = file else {
        return Ok(Awaited::default());
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| Stop::Failed(format!("cannot read {file}: {error}")))?;
    let known: Vec<_> = cases::matching("").iter().map(cases::Case::id).collect();
    Awaited::parse(file, &text, &known).map_err(Stop::Failed)
}

fn detect(url: &Url) -> Outcome<Broker> {
    let connection = Connection::dial(&url.address)?;
    connection.send_bytes(client::GREETING);
    let start = connection.expect("connection.start")?;
    let name = start.table("server_properties").get("product_name");
    Ok(if name == Some(&Value::from("Leveret")) { Broker::Leveret } else { Broker::RabbitMq })
}
