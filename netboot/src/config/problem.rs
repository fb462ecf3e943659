//! What is wrong with a file of the operator: where it is, what was found, what to write.
//!
//! A [`Problem`] is data. It is shown with its snippet on a terminal (miette) and as one line
//! `file:line:column: message; help` elsewhere; it never ends the program by itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used as it stands, or a machine would not boot.
    Error,
    /// Legal, but perhaps not what was meant.
    Warning,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// Line and column, both from 1; `None` when it concerns the whole file.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What was found.
    pub message: String,
    /// What to write.
    pub help: String,
    #[serde(skip)]
    snippet: Option<Box<Snippet>>,
}

/// Where in a file; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// The text around a problem, for the terminal.
#[derive(Clone, Debug)]
pub(super) struct Snippet {
    pub(super) source: NamedSource<Arc<str>>,
    pub(super) start: usize,
    pub(super) length: usize,
}

impl Problem {
    /// A problem of a whole file.
    pub fn of_file(
        severity: Severity,
        file: &Path,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let (message, help) = (message.into(), help.into());
        Self { severity, file: file.to_owned(), place: None, message, help, snippet: None }
    }

    /// A problem at a place; made by [`super::json::Source::problem`], which knows the text.
    pub(super) fn at(mut self, place: Place, snippet: Snippet) -> Self {
        self.place = Some(place);
        self.snippet = Some(Box::new(snippet));
        self
    }

    /// Whether the file cannot be used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The problem with its snippet, for a terminal.
    pub fn graphical(&self, colours: bool) -> String {
        let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::new();
        match GraphicalReportHandler::new_themed(theme).render_report(&mut text, &Headline(self)) {
            Ok(()) => text,
            Err(fmt::Error) => format!("{self}\n"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        write!(f, " {}; {}", self.message, self.help)
    }
}

/// The same text counts as the same problem.
impl PartialEq for Problem {
    fn eq(&self, other: &Self) -> bool {
        (self.severity, self.place) == (other.severity, other.place)
            && (&self.file, &self.message, &self.help) == (&other.file, &other.message, &other.help)
    }
}

/// A longer line is not shown: it would fill the screen, and miette panics over a column beyond 65,535.
const LONGEST_LINE: usize = 1000;

impl Snippet {
    /// The lines that would be shown, one before and one after it among them, are those of a file that people write.
    fn is_readable(&self) -> bool {
        let text = self.source.inner().as_bytes();
        let (before, after) = text.split_at(self.start.min(text.len()));
        let (inside, after) = after.split_at(self.length.min(after.len()));
        let near = |byte: &u8| *byte == b'\n';
        let head: usize = before.rsplit(near).take(2).map(<[u8]>::len).max().unwrap_or_default();
        let tail: usize = after.split(near).take(2).map(<[u8]>::len).max().unwrap_or_default();
        let longest = inside.split(near).map(<[u8]>::len).max().unwrap_or_default();
        head + longest + tail <= LONGEST_LINE
    }
}

/// miette prints the `Display` of an error as its headline, and the rest beside it.
struct Headline<'a>(&'a Problem);

impl Headline<'_> {
    fn snippet(&self) -> Option<&Snippet> {
        self.0.snippet.as_deref().filter(|snippet| snippet.is_readable())
    }
}

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.snippet(), self.0.place) {
            (Some(_), _) => f.write_str(&self.0.message),
            (None, Some(Place { line, column })) => {
                write!(f, "{}:{line}:{column}: {}", self.0.file.display(), self.0.message)
            }
            (None, None) => write!(f, "{}: {}", self.0.file.display(), self.0.message),
        }
    }
}

impl fmt::Debug for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl std::error::Error for Headline<'_> {}

impl Diagnostic for Headline<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.0.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.snippet().map(|snippet| &snippet.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let snippet = self.snippet()?;
        let label = LabeledSpan::new(Some("here".to_owned()), snippet.start, snippet.length);
        Some(Box::new(std::iter::once(label)))
    }
}

/// Problems that keep something from starting.
#[derive(Clone, Debug, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Problem, Problems, Severity};
    use crate::config::json::Source;

    #[test]
    fn one_line_for_machines_and_a_snippet_for_people() {
        let source = Source::new(Path::new("d/x.json"), "{\n  \"ä\": 12\n}");
        let start = source.text().find("12").unwrap();
        let problem = source.problem(Severity::Error, start, start + 2, "`12` is wrong", "write 13");
        assert_eq!(problem.to_string(), "d/x.json:2:8: `12` is wrong; write 13");
        let shown = problem.graphical(false);
        for part in ["`12` is wrong", "d/x.json:2:", "\"ä\": 12", "here", "write 13"] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        assert!(!shown.contains('\x1b'), "{shown}");
        assert!(problem.graphical(true).contains('\x1b'));
    }

    #[test]
    fn a_file_in_one_line_is_not_shown_but_its_place_is() {
        for length in [900, 1200, 70_000, 3_000_000] {
            let source = Source::new(Path::new("x.json"), &format!("{{{}12}}", " ".repeat(length)));
            let start = length + 1;
            let shown =
                source.problem(Severity::Error, start, start + 2, "wrong", "write 13").graphical(false);
            assert!(shown.contains(&format!("x.json:1:{}", start + 1)), "{shown}");
            assert!(shown.contains("wrong") && shown.contains("write 13"), "{shown}");
            assert_eq!(shown.contains("here"), length == 900, "{length}");
        }
    }

    #[test]
    fn a_whole_file_has_no_line() {
        let missing =
            Problem::of_file(Severity::Warning, Path::new("d/default.yaml"), "is missing", "write one");
        assert_eq!(missing.to_string(), "d/default.yaml: warning: is missing; write one");
        assert!(missing.graphical(false).contains("d/default.yaml: is missing"));
        assert_eq!(Problems(vec![missing.clone(), missing]).to_string().lines().count(), 2);
    }
}
