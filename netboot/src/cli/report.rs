//! Shows problems: with their snippet on a terminal, a line each elsewhere.

use std::io::Write;

use super::logs;
use crate::config::problem::Problem;

/// Prints problems to standard error.
pub(super) fn problems(problems: &[Problem]) {
    let mut out = std::io::stderr().lock();
    for problem in problems {
        // There is nobody to tell if standard error is gone.
        let _ = if logs::terminal() {
            writeln!(out, "{}", problem.graphical(logs::colours()))
        } else {
            writeln!(out, "{problem}")
        };
    }
}

/// A number of things.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// How many problems there are, in words.
pub(super) fn summary(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    match (errors, problems.len() - errors) {
        (0, 0) => "no problems".to_owned(),
        (0, warnings) => count(warnings, "warning"),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}
