//! Files of the operator: their text with line numbers, and JSON with comments and trailing commas (`jsonc-parser`),
//! read value by value so that every mistake is found at once and each has its place.
//!
//! Only the syntax is known here; what a key means is said by who reads it.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions};
use miette::NamedSource;

use super::problem::{Place, Problem, Severity, Snippet};

/// Largest file read, bytes: 100,000 hosts with a dozen variables fit.
const LARGEST: u64 = 64 << 20;

/// Of so many members each is held against each.
const FEW: usize = 16;

/// JSON, and what operators write besides: comments and a comma after the last member.
const JSON_WITH_COMMENTS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// A text file, its byte order mark removed.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: Arc<str>,
    /// Where each line begins.
    lines: Arc<[usize]>,
}

impl Source {
    /// A text that was read from `path`.
    pub fn new(path: &Path, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: path.to_owned(), text: text.into(), lines }
    }

    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    /// A problem when it is not a readable UTF-8 text of a sane size.
    pub fn read(path: &Path) -> Result<Option<Self>, Problem> {
        let bad = |message: String, help: &str| Problem::of_file(Severity::Error, path, message, help);
        let unreadable = |error: std::io::Error| {
            bad(format!("cannot be read: {error}"), "make it a file that netboot may read")
        };
        // A FIFO of that name would block the open for ever.
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(bad("is not a regular file".to_owned(), "put a text file there"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST {
            return Err(bad(format!("is larger than {} MiB", LARGEST >> 20), "make it smaller"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = error
                .as_bytes()
                .iter()
                .take(error.utf8_error().valid_up_to())
                .filter(|b| **b == b'\n')
                .count();
            bad(format!("is not UTF-8 text (line {})", line + 1), "save it as UTF-8")
        })?;
        Ok(Some(Self::new(path, &text)))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A problem with the bytes from `start` to `end`.
    pub fn problem(
        &self,
        severity: Severity,
        start: usize,
        end: usize,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Problem {
        let line = self.lines.partition_point(|begin| *begin <= start);
        let begin = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(begin..start).map_or(1, |before| before.chars().count() + 1);
        let source = NamedSource::new(self.path.display().to_string(), Arc::clone(&self.text));
        let snippet = Snippet { source, start, length: end.saturating_sub(start) };
        Problem::of_file(severity, &self.path, message, help).at(Place { line, column }, snippet)
    }

    /// The object that the whole file is.
    ///
    /// # Errors
    /// The first mistake in the syntax; there is no telling what comes after it.
    pub fn object(&self) -> Result<Object<'_>, Problem> {
        let parsed = jsonc_parser::parse_to_ast(&self.text, &CollectOptions::default(), &JSON_WITH_COMMENTS);
        let (range, message, help) = match parsed.map(|result| result.value) {
            Ok(Some(Value::Object(object))) => return Ok(object),
            Ok(Some(other)) => {
                (other.range(), format!("this is {}", kind(&other)), "write an object, as in { }")
            }
            Ok(None) => (Range::new(0, 0), "the file is empty".to_owned(), "write an object, as in { }"),
            Err(error) => {
                let message = format!("not JSON: {}", lower_first(&error.kind().to_string()));
                (error.range(), message, syntax_help(error.kind()))
            }
        };
        Err(self.problem(Severity::Error, range.start, range.end, message, help))
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn syntax_help(kind: &ParseErrorKind) -> &'static str {
    match kind {
        ParseErrorKind::ExpectedComma => "put a comma here, between the two members",
        ParseErrorKind::ExpectedColonAfterObjectKey => "write a colon between the name and its value",
        ParseErrorKind::ExpectedObjectValue => "write a value after the colon",
        ParseErrorKind::ExpectedStringObjectProperty => "write the name in double quotes",
        ParseErrorKind::SingleQuotedStringsNotAllowed => "use double quotes",
        ParseErrorKind::UnterminatedObject => "close this with }",
        ParseErrorKind::UnterminatedArray => "close this with ]",
        ParseErrorKind::UnterminatedCommentBlock => "close the comment with */",
        ParseErrorKind::UnexpectedCloseBrace | ParseErrorKind::UnexpectedCloseBracket => {
            "remove it, or open what it closes"
        }
        ParseErrorKind::UnexpectedComma => "remove it, or write a value before it",
        ParseErrorKind::MultipleRootJsonValues => "remove what follows the closing }",
        ParseErrorKind::String(_) => {
            "close the string with a double quote; in it write \\\" for a quote, \\\\ for a backslash"
        }
        ParseErrorKind::UnexpectedWord => "put text in double quotes",
        _ => "write it as JSON; comments and a comma after the last member are allowed",
    }
}

/// What a value is, in words.
pub fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "a string",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(_) => "true or false",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::NullKeyword(_) => "null",
    }
}

/// Reads values and collects what is wrong with them.
#[derive(Debug)]
pub struct Reader<'s> {
    source: &'s Source,
    /// What was found so far.
    pub problems: Vec<Problem>,
}

impl<'s> Reader<'s> {
    /// Reads values of `source`.
    pub fn new(source: &'s Source) -> Self {
        Self { source, problems: Vec::new() }
    }

    /// Notes an error at a value or name.
    pub fn error(&mut self, at: &impl Ranged, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(self.source.problem(Severity::Error, at.start(), at.end(), message, help));
    }

    /// Notes a warning at a value or name.
    pub fn warning(&mut self, at: &impl Ranged, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(self.source.problem(Severity::Warning, at.start(), at.end(), message, help));
    }

    /// The line of a place, to point at it from elsewhere.
    pub fn line(&self, at: &impl Ranged) -> usize {
        self.source.lines.partition_point(|begin| *begin <= at.start())
    }

    /// Notes every name that an object has twice: only one of the two would count. Of an operator's `$variable` it is
    /// the last, as it always was.
    pub fn unique(&mut self, object: &Object<'_>) {
        let mut seen = HashMap::with_capacity(object.properties.len());
        let members = &object.properties;
        // Most objects are a machine's, and it is no use to make a table for each.
        let few = members.len() <= FEW;
        for (number, member) in members.iter().enumerate() {
            let name = member.name.as_str();
            let first = if few {
                let before = members.iter().take(number);
                before.map(|member| &member.name).find(|other| other.as_str() == name)
            } else {
                seen.get(name).copied()
            };
            let Some(first) = first else {
                if !few {
                    seen.insert(name, &member.name);
                }
                continue;
            };
            let message = format!("`{name}` is here a second time, first in line {}", self.line(first));
            if name.starts_with('$') {
                self.warning(&member.name, message, "the last one counts, remove the other");
            } else {
                self.error(&member.name, message, "keep one of the two");
            }
        }
    }

    /// The text of a string value.
    pub fn text<'v>(&mut self, name: &str, value: &'v Value<'_>, help: &str) -> Option<&'v str> {
        if let Value::StringLit(text) = value {
            return Some(&text.value);
        }
        self.error(value, format!("`{name}` is {}, not a string", kind(value)), help);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Reader, Source};

    #[test]
    fn reads_what_operators_write() {
        for text in ["{}", "\u{feff}{}", "// a\n{ /* b */ \"a\": [1, 2,], }\r\n", "{\"a\": {\"b\": \"c\",},}"]
        {
            assert!(Source::new(Path::new("f"), text).object().is_ok(), "{text}");
        }
    }

    #[test]
    fn says_where_the_syntax_is_wrong() {
        let table = [
            ("", "f:1:1: the file is empty"),
            ("[1]", "f:1:1: this is a list"),
            ("{\n  \"a\": 1\n  \"b\": 2 }", "f:2:9: not JSON: expected comma; put a comma here"),
            ("{\n  \"a\" 1 }", "f:2:7: not JSON: expected colon"),
            ("{ \"a\": 1", "f:1:1: not JSON: unterminated object; close this with }"),
            ("{ a: 1 }", "f:1:3: not JSON"),
            ("{ \"a\": 'x' }", "f:1:8: not JSON"),
            ("{ \"a\": \"x }", "f:1:8: not JSON: unterminated string literal; close the string"),
            ("{} {}", "f:1:4: not JSON"),
            ("{\"a\":[[[}", "f:1:9: not JSON"),
        ];
        for (text, expected) in table {
            let problem = Source::new(Path::new("f"), text).object().unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{text:?}: {problem}");
        }
        let deep = "{\"a\":".to_owned() + &"[".repeat(100_000);
        assert!(Source::new(Path::new("f"), &deep).object().is_err());
    }

    #[test]
    fn finds_names_that_are_there_twice() {
        let source = Source::new(Path::new("f"), "{\n \"a\": 1,\n \"b\": 2,\n \"a\": 3\n}");
        let object = source.object().unwrap();
        let mut reader = Reader::new(&source);
        reader.unique(&object);
        let lines: Vec<_> = reader.problems.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["f:4:2: `a` is here a second time, first in line 2; keep one of the two"]);
    }

    #[test]
    fn what_is_not_a_text_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Source::read(&dir.path().join("none")).unwrap().is_none());
        assert!(Source::read(dir.path()).unwrap_err().message.contains("regular file"));
        let latin = dir.path().join("latin");
        std::fs::write(&latin, b"ok\n\xe4").unwrap();
        assert!(Source::read(&latin).unwrap_err().message.contains("line 2"));
    }
}
