//! Runs what an operator would: a command that takes the arguments of rabbitmqctl.

use crate::outcome::{Outcome, Stop};
use std::process::Command;

/// What a command said, whether it succeeded or not.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) succeeded: bool,
    pub(crate) text: String,
}

/// Runs `command`, a piece of shell, with these further arguments.
pub(crate) fn run(command: &str, arguments: &[&str]) -> Outcome<Said> {
    let script = format!("{command} \"$@\"");
    let ran = Command::new("sh").args(["-c", &script, "ctl"]).args(arguments).output();
    let output = ran.map_err(|error| Stop::Failed(format!("cannot run {command}: {error}")))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Said { succeeded: output.status.success(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_passed_as_they_are() {
        let said = run("printf '<%s>'", &["a b", "'$HOME'"]).unwrap();
        assert_eq!(said, Said { succeeded: true, text: "<a b><'$HOME'>".to_owned() });
    }

    #[test]
    fn a_failure_comes_with_what_was_said() {
        let said = run("echo no >&2; test a =", &["b"]).unwrap();
        assert_eq!(said, Said { succeeded: false, text: "no\n".to_owned() });
    }
}
