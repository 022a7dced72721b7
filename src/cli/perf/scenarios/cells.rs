//! The markdown table: medians of the runs, in words short enough to be read side by side.
use super::super::report::{Report, time};
use super::Outcome;
use super::probe::Probes;
use super::rows::{Bare, Row, Shows};

pub(super) fn head(brokers: &[&str]) -> String {
    let rule = "|---".repeat(brokers.len() + 2);
    format!("| work | {} | bare machine |\n{rule}|\n", brokers.join(" | "))
}

/// One line of the table; `outcomes` are the runs of each broker.
pub(super) fn line(row: &Row, outcomes: &[Vec<Outcome>], probes: &Probes) -> String {
    let cells: Vec<String> = outcomes.iter().map(|runs| runs_cell(row.shows, runs)).collect();
    format!("| {} | {} | {} |\n", row.name, cells.join(" | "), probe_cell(row.bare, probes))
}

fn runs_cell(shows: Shows, runs: &[Outcome]) -> String {
    if runs.iter().any(|run| matches!(run, Outcome::Lacking)) {
        return "-".to_owned();
    }
    let measured = runs.iter().filter_map(|run| match run {
        Outcome::Measured(report) => Some(&**report),
        Outcome::Failed | Outcome::Lacking => None,
    });
    let reports: Vec<&Report> = measured.collect();
    let mut cell = broker_cell(shows, &reports);
    if reports.len() < runs.len() {
        cell += &format!(" ({} of {} runs failed)", runs.len() - reports.len(), runs.len());
    }
    cell
}

fn broker_cell(shows: Shows, reports: &[&Report]) -> String {
    if reports.is_empty() {
        return "failed".to_owned();
    }
    let median_of = |figure: &dyn Fn(&Report) -> Option<f64>| {
        median(reports.iter().filter_map(|report| figure(report)).collect())
    };
    let latency = |figure: &dyn Fn(&Report) -> Option<u64>| {
        median_of(&|report| figure(report).map(|ns| ns as f64)).map(|ns| time(ns as u64))
    };
    let mut parts = Vec::new();
    if shows == Shows::ConfirmLatency {
        let p50 = latency(&|report| Some(report.confirm_latency?.p50_ns));
        let p99 = latency(&|report| Some(report.confirm_latency?.p99_ns));
        parts.extend(p50.zip(p99).map(|(p50, p99)| format!("p50 {p50}, p99 {p99}")));
    }
    if shows == Shows::DeliveryLatency {
        let p99 = latency(&|report| Some(report.latency?.p99_ns));
        let p50 = latency(&|report| Some(report.latency?.p50_ns));
        parts.extend(p99.zip(p50).map(|(p99, p50)| format!("p99 {p99}, p50 {p50}")));
    }
    if shows == Shows::Lateness {
        let p50 = latency(&|report| Some(report.latency?.p50_ns));
        let p99 = latency(&|report| Some(report.latency?.p99_ns));
        let max = latency(&|report| Some(report.latency?.max_ns));
        let late = p99.zip(p50).zip(max);
        parts.extend(late.map(|((p99, p50), max)| format!("late p99 {p99}, p50 {p50}, max {max}")));
    } else {
        parts.extend(median_of(&|report| Some(report.message_rate())).map(rate));
    }
    parts.extend(median_of(&Report::cpu_us_per_message).map(|us| format!("{us:.2} us CPU")));
    let rss = match shows {
        Shows::Lateness => median_of(&|report| Some(report.rss_bytes_max? as f64)),
        _ => median_of(&|report| Some(report.memory?.rss_bytes as f64)),
    };
    parts.extend(rss.map(|bytes| format!("{:.0} MiB", bytes / f64::from(1 << 20))));
    for (what, most) in [
        ("never arrived", reports.iter().map(|report| report.missing).max()),
        ("too early", reports.iter().map(|report| report.early).max()),
        ("not expired", reports.iter().filter_map(|report| report.expiring_left).max()),
    ] {
        parts.extend(most.filter(|&most| most > 0).map(|most| format!("{most} {what}")));
    }
    if !reports.iter().all(|report| report.is_sustained()) {
        parts.push("not sustained".to_owned());
    }
    parts.join(", ")
}

fn probe_cell(bare: Option<Bare>, probes: &Probes) -> String {
    let what = match bare {
        None => return "-".to_owned(),
        Some(Bare::DiskBatches { .. }) => "write + fdatasync",
        Some(Bare::DiskSync) => "4 KiB write + fdatasync",
        Some(Bare::Relay { .. }) => "relay",
    };
    let rate = median(probes.rates.clone()).map(rate);
    let sync = median(probes.sync_ns.clone()).map(|ns| format!("p50 {}", time(ns as u64)));
    format!("{} ({what})", rate.or(sync).unwrap_or_default())
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().checked_sub(1)?;
    Some((figures[last / 2] + figures[last.div_ceil(2)]) / 2.0)
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.0} k/s", rate / 1e3),
        rate => format!("{rate:.0}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn rates_are_short() {
        let rates = [1055.4, 117_300.0, 8_900_000.0].map(rate);
        assert_eq!(rates, ["1055/s", "117 k/s", "8.90 M/s"]);
    }

    #[test]
    fn a_broker_that_lacks_a_feature_has_a_dash_and_one_that_fails_says_so() {
        let cell = |runs: &[Outcome]| runs_cell(Shows::Rate, runs);
        assert_eq!(cell(&[Outcome::Lacking, Outcome::Failed]), "-");
        assert_eq!(cell(&[Outcome::Failed, Outcome::Failed]), "failed (2 of 2 runs failed)");
    }

    #[test]
    fn the_table_has_a_column_for_each_broker_and_the_machine() {
        assert_eq!(head(&["a", "b"]), "| work | a | b | bare machine |\n|---|---|---|---|\n");
    }
}
