//! `perf scenarios`: a fixed list of workloads on several brokers in turn, A B A B, so that what
//! the machine does meanwhile meets all of them; and the medians as a markdown table.
mod cells;
mod features;
mod probe;
mod rows;

use super::error::{PerfError, Result};
use super::plan::Plan;
use super::print;
use super::report::Report;
use super::throughput;
use super::topology;
use super::url::AmqpUrl;
use super::usage::Program;
use clap::Args;
use probe::Probes;
use rows::{Needs, Row, Scenario};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  Two brokers side by side:
    leveret perf scenarios --url rabbitmq=amqp://127.0.0.1:5673,pid=4711 \\
      --url leveret=amqp://127.0.0.1:5672,pid=4712 --probe-dir /var/lib/leveret
  Only the durable rows, longer and more often:
    leveret perf scenarios --url leveret=amqp://127.0.0.1 --only persistent \\
      --seconds 20 --repeat 5
  What queue features cost; a dash where the broker lacks one:
    leveret perf scenarios --url leveret=amqp://127.0.0.1,pid=4712 --only \"queue features\"";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScenariosArgs {
    /// A broker, its name in the table, and its process; give it once for each broker
    #[arg(long = "url", value_name = "NAME=URL[,pid=N]", required = true)]
    brokers: Vec<Broker>,

    /// Run only the rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Seconds that each run is measured, after one second of warm-up; half of both for the rows
    /// about queue features
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = super::args::seconds)]
    seconds: Duration,

    /// Runs of each row on each broker; the table has their median
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,

    /// Messages of the backlog that is filled and drained; half as many are delayed or expire
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    backlog: u64,

    /// Directory on the brokers' disk, where durable rows are compared with bare writes
    #[arg(long, value_name = "DIR", default_value = ".")]
    probe_dir: PathBuf,
}

/// A broker under test.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Broker {
    name: String,
    url: AmqpUrl,
    pid: Option<u32>,
}

/// What came of one run.
pub(super) enum Outcome {
    Measured(Box<Report>),
    Failed,
    /// The broker does not have what the row is about.
    Lacking,
}

impl FromStr for Broker {
    type Err = PerfError;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, rest)) = text.split_once('=').filter(|(name, _)| !name.contains(':'))
        else {
            return Err(PerfError::new("name the broker: NAME=amqp://..."));
        };
        let (url, pid) = match rest.rsplit_once(",pid=") {
            None => (rest, None),
            Some((url, pid)) => {
                let bad = |_| PerfError::new(format!("pid={pid} is not a process number"));
                (url, Some(pid.parse().map_err(bad)?))
            }
        };
        Ok(Self { name: name.to_owned(), url: url.parse()?, pid })
    }
}

/// Runs the rows and prints each line of the table once its row is done.
pub(crate) fn run(args: &ScenariosArgs) -> Result<()> {
    for broker in &args.brokers {
        if let Some(pid) = broker.pid {
            Program::Pid(pid).cpu_us()?;
        }
    }
    let wanted = |scenario: &Scenario| match &args.only {
        None => true,
        Some(text) => {
            let text = text.to_lowercase();
            scenario.rows.iter().any(|row| row.name.to_lowercase().contains(&text))
        }
    };
    let scenarios: Vec<Scenario> =
        rows::scenarios(args.backlog).into_iter().filter(wanted).collect();
    if scenarios.is_empty() {
        return Err(PerfError::new("no row has this in its name; leave --only out to see all"));
    }
    let names: Vec<&str> = args.brokers.iter().map(|broker| broker.name.as_str()).collect();
    print(&cells::head(&names));
    let mut any_measured = false;
    for (index, scenario) in scenarios.iter().enumerate() {
        let prefix = format!("leveret-perf-{index}");
        let (lines, measured) = measure(args, scenario, &prefix)?;
        any_measured |= measured;
        lines.iter().for_each(|line| print(line));
    }
    if any_measured {
        return Ok(());
    }
    Err(PerfError::new("no run succeeded; each has said why above"))
}

/// All runs of one scenario, in turn on each broker: its lines of the table, and whether any run
/// succeeded.
fn measure(args: &ScenariosArgs, scenario: &Scenario, prefix: &str) -> Result<(Vec<String>, bool)> {
    let rows = &scenario.rows;
    let mut outcomes: Vec<Vec<Vec<Outcome>>> =
        rows.iter().map(|_| args.brokers.iter().map(|_| Vec::new()).collect()).collect();
    let mut probes: Vec<Probes> = rows.iter().map(|_| Probes::default()).collect();
    for repeat in 1..=args.repeat {
        for (number, broker) in args.brokers.iter().enumerate() {
            eprintln!("{} on {}, run {repeat} of {}", rows[0].name, broker.name, args.repeat);
            for (row, outcomes) in rows.iter().zip(&mut outcomes) {
                outcomes[number].push(measure_once(args, row, broker, prefix));
            }
        }
        for (row, probes) in rows.iter().zip(&mut probes) {
            probes.run(row, &args.probe_dir)?;
        }
    }
    let any_measured = outcomes.iter().flatten().flatten().any(|it| !matches!(it, Outcome::Failed));
    let lines = rows.iter().zip(&outcomes).zip(&probes);
    let lines = lines.map(|((row, outcomes), probes)| cells::line(row, outcomes, probes));
    Ok((lines.collect(), any_measured))
}

/// One run. A failure is told at once and leaves a hole in the table: the other runs still count.
fn measure_once(args: &ScenariosArgs, row: &Row, broker: &Broker, prefix: &str) -> Outcome {
    let plan = Plan {
        pid: broker.pid,
        duration: args.seconds / row.time_divisor,
        prefix: prefix.to_owned(),
        ..(row.plan)(broker.url.clone())
    };
    let measured = check_needs(row, &plan).and_then(|()| throughput::measure(plan));
    match measured {
        Ok(report) => Outcome::Measured(Box::new(report)),
        Err(error) => {
            eprintln!("{} on {}: {error}", row.name, broker.name);
            let lacking = row.needs != Needs::Nothing && error.is_unsupported();
            if lacking { Outcome::Lacking } else { Outcome::Failed }
        }
    }
}

/// Brokers ignore arguments that they do not know, and the figures would be a plain queue's.
fn check_needs(row: &Row, plan: &Plan) -> Result<()> {
    match row.needs {
        Needs::Argument(argument) if !topology::knows_argument(plan, argument)? => {
            Err(PerfError::unsupported(format!("the broker does not know {argument}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_has_a_name_an_address_and_perhaps_a_process() {
        let broker: Broker = "a=amqp://u:p@h:1/v,pid=12".parse().unwrap();
        assert_eq!((broker.name.as_str(), broker.pid), ("a", Some(12)));
        assert_eq!(broker.url, "amqp://u:p@h:1/v".parse().unwrap());
        assert_eq!("b=amqp://h".parse::<Broker>().unwrap().pid, None);
        for bad in ["amqp://h", "amqp://u:p=q@h", "a=amqp://h,pid=x", "a=http://h"] {
            assert!(bad.parse::<Broker>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_row_is_a_plan_that_can_run() {
        for row in rows::scenarios(1000).iter().flat_map(|scenario| &scenario.rows) {
            (row.plan)("amqp://h".parse().unwrap()).check().unwrap();
        }
    }
}
