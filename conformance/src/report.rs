//! The table of verdicts: plain text for one broker, Markdown for several side by side.

use crate::outcome::Stop;
use crate::runner::Verdict;
use std::fmt::Write;

pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) awaited: usize,
}

impl Totals {
    pub(crate) fn of(verdicts: &[Verdict]) -> Self {
        let count = |word| verdicts.iter().filter(|verdict| verdict.word() == word).count();
        Self {
            passed: count("pass"),
            failed: count("FAIL"),
            skipped: count("skip"),
            awaited: count("await"),
        }
    }

    pub(crate) fn line(&self) -> String {
        let Self { passed, failed, skipped, awaited } = self;
        format!("{passed} passed, {failed} failed, {skipped} skipped, {awaited} awaited")
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self.outcome {
            Ok(()) => "pass",
            Err(Stop::Failed(_)) => "FAIL",
            Err(Stop::Skipped(_)) => "skip",
            Err(Stop::Awaited(_)) => "await",
        }
    }

    /// Why it did not pass, and the differences that its expectations depend on.
    fn reason(&self) -> String {
        let text = match &self.outcome {
            Ok(()) => "",
            Err(Stop::Failed(text) | Stop::Skipped(text) | Stop::Awaited(text)) => text,
        };
        if self.differences.is_empty() {
            return text.to_owned();
        }
        format!("{text} [differs: {}]", self.differences.join(", ")).trim_start().to_owned()
    }
}

pub(crate) fn plain(verdicts: &[Verdict]) -> String {
    let width = verdicts.iter().map(|verdict| verdict.id.len()).max().unwrap_or(0);
    let mut out = String::new();
    for verdict in verdicts {
        let (id, word, time) = (&verdict.id, verdict.word(), verdict.time.as_millis());
        let row = format!("{id:width$}  {word:5} {time:>6} ms  {}", verdict.reason());
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out + &Totals::of(verdicts).line() + "\n"
}

/// One column per broker. All have run the same cases.
pub(crate) fn side_by_side(columns: &[(String, Vec<Verdict>)]) -> String {
    let mut out = String::from("| case |");
    for (name, _) in columns {
        let _ = write!(out, " {name} |");
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(columns.len()));
    let rows = columns.first().map_or(0, |(_, verdicts)| verdicts.len());
    for row in 0..rows {
        let _ = write!(out, "| {} |", columns[0].1[row].id);
        for (_, verdicts) in columns {
            let _ = write!(out, " {} |", cell(&verdicts[row]));
        }
        out.push('\n');
    }
    out.push('\n');
    for (name, verdicts) in columns {
        let _ = writeln!(out, "{name}: {}", Totals::of(verdicts).line());
    }
    out
}

fn cell(verdict: &Verdict) -> String {
    let reason = verdict.reason().replace('|', "\\|").replace('\n', " ");
    format!("{} {reason}", verdict.word()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn verdict(id: &str, outcome: Result<(), Stop>) -> Verdict {
        Verdict {
            id: id.to_owned(),
            outcome,
            time: Duration::from_millis(7),
            differences: Vec::new(),
        }
    }

    #[test]
    fn one_broker_is_a_plain_table_with_a_total() {
        let failed = Err(Stop::Failed("no".to_owned()));
        let awaited = Err(Stop::Awaited("not yet".to_owned()));
        let table = plain(&[
            verdict("1.1/a", Ok(())),
            verdict("1.1/long", failed),
            verdict("1.1/b", awaited),
        ]);
        assert_eq!(
            table,
            "1.1/a     pass       7 ms\n1.1/long  FAIL       7 ms  no\n\
             1.1/b     await      7 ms  not yet\n\
             1 passed, 1 failed, 0 skipped, 1 awaited\n"
        );
    }

    #[test]
    fn differences_are_shown() {
        let mut verdict = verdict("1.1/a", Ok(()));
        verdict.differences = vec!["One", "Two"];
        assert_eq!(verdict.reason(), "[differs: One, Two]");
        verdict.outcome = Err(Stop::Failed("no".to_owned()));
        assert_eq!(verdict.reason(), "no [differs: One, Two]");
    }

    #[test]
    fn several_brokers_are_columns_of_a_markdown_table() {
        let skipped = Err(Stop::Skipped("a|b".to_owned()));
        let table = side_by_side(&[
            ("one".to_owned(), vec![verdict("1.1/a", Ok(()))]),
            ("two".to_owned(), vec![verdict("1.1/a", skipped)]),
        ]);
        assert_eq!(
            table,
            "| case | one | two |\n|---|---|---|\n| 1.1/a | pass | skip a\\|b |\n\n\
             one: 1 passed, 0 failed, 0 skipped, 0 awaited\n\
             two: 0 passed, 0 failed, 1 skipped, 0 awaited\n"
        );
    }
}
