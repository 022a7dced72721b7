//! Cases that wait for a feature: a list of ids, and what it makes of verdicts.
//!
//! The list stays true: a case that passes must be taken out, and an id that no case has is an
//! error.

use crate::outcome::Stop;
use crate::runner::Verdict;
use std::collections::BTreeSet;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Awaited {
    ids: BTreeSet<String>,
}

impl Awaited {
    /// Reads ids, one a line; `#` begins a comment. `known` are the ids of all cases.
    pub(crate) fn parse(file: &str, text: &str, known: &[String]) -> Result<Self, String> {
        let mut ids = BTreeSet::new();
        for (number, line) in (1..).zip(text.lines()) {
            let id = line.split('#').next().unwrap_or_default().trim();
            if id.is_empty() {
                continue;
            }
            if !known.iter().any(|known| known == id) {
                return Err(format!("{file}:{number}: there is no case {id}; --list names them"));
            }
            if !ids.insert(id.to_owned()) {
                return Err(format!("{file}:{number}: {id} is in the list twice"));
            }
        }
        Ok(Self { ids })
    }

    /// Turns failures that are in the list into awaited ones, and passes into failures.
    pub(crate) fn apply(&self, verdicts: &mut [Verdict]) {
        for verdict in verdicts.iter_mut().filter(|verdict| self.ids.contains(&verdict.id)) {
            match &mut verdict.outcome {
                Ok(()) => {
                    let text = "passes now: take it out of the list".to_owned();
                    verdict.outcome = Err(Stop::Failed(text));
                }
                Err(Stop::Failed(text)) => {
                    verdict.outcome = Err(Stop::Awaited(std::mem::take(text)));
                }
                Err(Stop::Skipped(_) | Stop::Awaited(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parse(text: &str) -> Result<Awaited, String> {
        Awaited::parse("list", text, &["1/a".to_owned(), "1/b".to_owned(), "1/c".to_owned()])
    }

    #[test]
    fn a_list_has_an_id_a_line_and_comments() {
        let awaited = parse("# later\n\n  1/a # a reason\n1/b\n").unwrap();
        assert_eq!(awaited.ids.into_iter().collect::<Vec<_>>(), ["1/a", "1/b"]);
    }

    #[test]
    fn an_id_is_that_of_a_case_and_there_once() {
        assert_eq!(
            parse("1/a\n1/z").unwrap_err(),
            "list:2: there is no case 1/z; --list names them"
        );
        assert_eq!(parse("1/a\n\n1/a").unwrap_err(), "list:3: 1/a is in the list twice");
    }

    #[test]
    fn the_list_of_the_repository_names_cases() {
        let known: Vec<_> = crate::cases::matching("").iter().map(crate::cases::Case::id).collect();
        let awaited = Awaited::parse("awaited.txt", include_str!("../awaited.txt"), &known);
        assert_eq!(awaited.err(), None);
    }

    #[test]
    fn a_failure_is_awaited_and_a_pass_is_a_failure() {
        let awaited = parse("1/a\n1/b").unwrap();
        let failed = || Err(Stop::Failed("no".to_owned()));
        let judge = |id: &str, outcome| {
            let (time, differences) = (Duration::ZERO, Vec::new());
            let mut verdicts = [Verdict { id: id.to_owned(), outcome, time, differences }];
            awaited.apply(&mut verdicts);
            let [verdict] = verdicts;
            verdict.outcome
        };
        assert_eq!(judge("1/a", failed()), Err(Stop::Awaited("no".to_owned())));
        let passed = judge("1/b", Ok(()));
        assert_eq!(passed, Err(Stop::Failed("passes now: take it out of the list".to_owned())));
        assert_eq!(judge("1/c", failed()), failed());
        assert_eq!(judge("1/c", Ok(())), Ok(()));
        let skipped = || Err(Stop::Skipped("no vhost".to_owned()));
        assert_eq!(judge("1/a", skipped()), skipped());
    }
}
