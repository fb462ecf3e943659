//! Templates in the language of Jinja (`minijinja`): files whose name ends in `.j2`. Pure: what a name stands for and what
//! another template says come by functions.
//!
//! Whatever is not defined is an error, nothing is escaped, and work and memory of one rendering are bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

/// How the names of such templates end.
pub const SUFFIX: &str = ".j2";

/// What one rendering may cost: so many instructions, or 64 bytes each.
const FUEL: u64 = 500_000;

/// Why a template cannot be rendered, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The template: the one that was to be rendered, or one that it includes.
    pub template: String,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The bytes in it.
    pub bytes: Option<Range<usize>>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template {}", self.template)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// What a name in a template stands for; `None`: nothing.
pub trait Names: fmt::Debug + Send + Sync + 'static {
    /// The value of a name.
    ///
    /// # Errors
    /// Why the template may not have it.
    fn value(&self, name: &str) -> Option<Result<Value, String>>;

    /// The names, for a template that goes through all of them.
    fn names(&self) -> Vec<String>;
}

/// A value of a template that looks its members up when it is asked for one.
pub fn table(names: impl Names) -> Value {
    Value::from_object(Table(names))
}

#[derive(Debug)]
struct Table<N>(N);

impl<N: Names> Object for Table<N> {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let value = self.0.value(key.as_str()?)?;
        Some(value.unwrap_or_else(|why| Error::new(ErrorKind::InvalidOperation, why).into()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.names().into_iter().map(Value::from).collect())
    }
}

/// Renders a template. `load` has the text of another one by its name, `None` where there is none.
///
/// # Errors
/// What is wrong, in it or in a template that it includes.
pub fn render(
    name: &str,
    text: &str,
    names: impl Names,
    load: impl Fn(&str) -> Result<Option<String>, String> + Send + Sync + 'static,
) -> Result<String, Wrong> {
    let mut environment = environment();
    environment.set_loader(move |name| load(name).map_err(|why| Error::new(ErrorKind::BadInclude, why)));
    environment.render_named_str(name, text, table(names)).map_err(|error| wrong(name, &error))
}

/// Whether the syntax of a template is right.
///
/// # Errors
/// What is wrong with it.
pub fn syntax(name: &str, text: &str) -> Result<(), Wrong> {
    let environment = environment();
    let parsed = environment.template_from_named_str(name, text).map(drop);
    parsed.map_err(|error| wrong(name, &error))
}

fn environment<'source>() -> Environment<'source> {
    let mut environment = Environment::new();
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // A line with a statement alone leaves nothing behind, as with cloud-init's own templates, and the last line keeps its end.
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    // Only delimiters can be wrong, and they are the usual ones.
    environment.set_syntax(syntax.build().unwrap_or_default());
    environment
}

/// The innermost error that has a place: of an include it is the one in the included template.
fn wrong(name: &str, error: &Error) -> Wrong {
    let mut inner = error;
    while let Some(source) =
        std::error::Error::source(inner).and_then(|source| source.downcast_ref::<Error>())
    {
        inner = source;
    }
    let why = match (inner.kind(), inner.detail()) {
        (ErrorKind::OutOfFuel, _) => "it does not come to an end, or makes too long a text".to_owned(),
        (ErrorKind::SyntaxError, Some(detail)) => format!("syntax: {detail}"),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    let template = inner.name().unwrap_or(name).to_owned();
    Wrong { template, line: inner.line(), bytes: inner.range(), why }
}

/// Names with fixed values.
impl Names for BTreeMap<String, Value> {
    fn value(&self, name: &str) -> Option<Result<Value, String>> {
        self.get(name).cloned().map(Ok)
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use minijinja::Value;

    use super::render;

    fn with(text: &str) -> Result<String, String> {
        let names: BTreeMap<_, _> = [("a", "<1>"), ("b", "x: \"y\"")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        let load = |name: &str| match name {
            "part.j2" => Ok(Some("part {{ a }}\n".to_owned())),
            "bad.j2" => Ok(Some("one\n two {{ nobody }}\n".to_owned())),
            "broken.j2" => Ok(Some("one\n{% if %}\n".to_owned())),
            "out" => Err("leads out".to_owned()),
            _ => Ok(None),
        };
        render("t.j2", text, names, load).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn what_people_write_comes_out_as_they_mean_it() {
        let table = [
            ("{{ a }} {{ b }}\n", "<1> x: \"y\"\n"),
            ("{{ b | tojson }}", r#""x: \"y\"""#),
            ("x:\n  {% if a == '<1>' %}\n  - one\n  {% endif %}\n", "x:\n  - one\n"),
            ("{% include 'part.j2' %}end", "part <1>\nend"),
            ("{% for n in range(3) %}{{ n }}{% endfor %}$keep ${THIS}\n\n", "012$keep ${THIS}\n\n"),
            ("{{ c | default('none') }}", "none"),
        ];
        for (text, expected) in table {
            assert_eq!(with(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn whatever_is_wrong_has_its_template_and_line() {
        let table = [
            ("one\n\n{{ nobody }}", "template t.j2, line 3: `nobody` is undefined"),
            ("one\n{% if a %}\n", "template t.j2, line 2: syntax: unexpected end of input"),
            ("{% include 'bad.j2' %}", "template bad.j2, line 2: `nobody` is undefined"),
            ("{% include 'broken.j2' %}", "template broken.j2, line 2: syntax: unexpected end of block"),
            ("{% include 'none' %}", "template t.j2, line 1: tried to include non-existing template 'none'"),
            ("\n{% include 'out' %}", "template t.j2, line 2: leads out"),
            ("{{ a | shout }}", "template t.j2, line 1: filter shout is unknown"),
        ];
        for (text, expected) in table {
            let found = with(text).unwrap_err();
            assert!(found.starts_with(expected), "{text}\n{found}");
        }
    }

    #[test]
    fn work_and_memory_are_bounded() {
        let endless = [
            "{% for a in range(3000) %}{% for b in range(3000) %}{% endfor %}{% endfor %}",
            "{{ 'x' * 90000000 }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% include 't.j2' %}",
        ];
        for text in endless {
            assert!(with(text).is_err(), "{text}");
        }
        assert_eq!(with(&"text\n".repeat(200_000)).map(|text| text.len()), Ok(1_000_000));
    }
}
