//! A conformance suite for AMQP 0-9-1 brokers: cases on the raw wire, run by URL.
//!
//! `codec` and `client` speak the protocol, `cases` holds what is expected, `trial` is one run of
//! one case, `runner` and `report` do the rest.

mod arguments;
mod cases;
mod client;
mod codec;
mod outcome;
mod report;
mod runner;
mod trial;
mod url;
mod vectors;

use arguments::{Arguments, USAGE};
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
        Err(Stop::Failed(text) | Stop::Skipped(text)) => {
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
    // A case that panics is reported as failed, with the text; the hook would print it as well.
    std::panic::set_hook(Box::new(|_| {}));
    let mut columns = Vec::new();
    for (name, url) in &arguments.targets {
        let broker = arguments.broker.map_or_else(|| detect(url), Ok)?;
        let restricted = arguments.restricted.clone();
        let target = Target { name: name.clone(), url: url.clone(), broker, restricted };
        columns.push((target.name.clone(), runner::run(&cases, &target, arguments.jobs)));
    }
    match columns.as_slice() {
        [(_, verdicts)] => print!("{}", report::plain(verdicts)),
        several => print!("{}", report::side_by_side(several)),
    }
    Ok(columns.iter().all(|(_, verdicts)| report::Totals::of(verdicts).failed == 0))
}

fn detect(url: &Url) -> Outcome<Broker> {
    let connection = Connection::dial(&url.address)?;
    connection.send_bytes(client::GREETING);
    let start = connection.expect("connection.start")?;
    let name = start.table("server_properties").get("product_name");
    Ok(if name == Some(&Value::from("Leveret")) { Broker::Leveret } else { Broker::RabbitMq })
}
