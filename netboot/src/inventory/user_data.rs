//! What cloud-init takes as a machine's configuration, and whether a text is YAML (`serde-saphyr`). Pure.

use serde::de::IgnoredAny;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, from_multiple_with_options, options};

/// What a cloud-config begins with; cloud-init leaves every other YAML alone.
pub const HEADER: &str = "#cloud-config";

/// The template of the appliance's own additions, if it is there.
pub const VENDOR_DATA: &str = "vendor-data.yaml";
/// The template of the machines' networks, if it is there.
pub const NETWORK_CONFIG: &str = "network-config.yaml";

/// The first words of what else it takes: scripts, templates of its own, lists of URLs, parts of several kinds.
const OTHERS: [&str; 9] = [
    "#!",
    "## template:",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "#upstart-job",
    "Content-Type:",
    "MIME-Version:",
    "From ",
];

/// What a text is to cloud-init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cloud-config, which is YAML.
    CloudConfig,
    /// Something else that it knows.
    Other,
    /// Nothing that it knows.
    Unknown,
}

/// What a text is, by its first words.
pub fn kind(text: &str) -> Kind {
    if text.starts_with(HEADER) {
        Kind::CloudConfig
    } else if OTHERS.iter().any(|words| text.starts_with(words)) {
        Kind::Other
    } else {
        Kind::Unknown
    }
}

/// Why a text is no YAML, or not what was meant, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub why: String,
    /// It is YAML all the same.
    pub harmless: bool,
}

/// The first mistake in YAML. Depth, number and aliases are limited.
///
/// # Errors
/// What is wrong.
pub fn yaml(text: &str) -> Result<(), Mistake> {
    let read = |duplicate_keys| {
        let options = options! { with_snippet: false, duplicate_keys: duplicate_keys };
        from_multiple_with_options::<IgnoredAny>(text, options).map(drop)
    };
    let Err(error) = read(DuplicateKeyPolicy::Error) else { return Ok(()) };
    // Of a name that is there twice cloud-init takes the last, and what else is wrong is worse.
    match error.without_snippet() {
        Error::DuplicateMappingKey { key, .. } => match read(DuplicateKeyPolicy::LastWins) {
            Ok(()) => {
                let key = key.as_deref().unwrap_or_default();
                Err(mistake(
                    &error,
                    Some(format!("`{key}` is here a second time, and only the last one counts")),
                ))
            }
            Err(worse) => Err(mistake(&worse, None)),
        },
        _ => Err(mistake(&error, None)),
    }
}

fn mistake(error: &Error, harmless: Option<String>) -> Mistake {
    let number = |number: u64| usize::try_from(number).unwrap_or(1).max(1);
    let (line, column) =
        error.location().map_or((1, 1), |place| (number(place.line()), number(place.column())));
    let said = error.without_snippet().to_string();
    // Its places are those of the rendered text, which nobody has before them.
    let why = said.split(" at line ").next().unwrap_or_default().to_owned();
    Mistake { line, column, harmless: harmless.is_some(), why: harmless.unwrap_or(why) }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{Kind, kind, yaml};

    #[test]
    fn what_cloud_init_knows_is_known_by_its_first_words() {
        let table = [
            ("#cloud-config\nhostname: x\n", Kind::CloudConfig),
            ("#!/bin/sh\n", Kind::Other),
            ("## template: jinja\n#cloud-config\n", Kind::Other),
            ("#include\nhttp://192.0.2.1/\n", Kind::Other),
            ("Content-Type: multipart/mixed; boundary=x\n", Kind::Other),
            ("hostname: x\n", Kind::Unknown),
            (" #cloud-config\n", Kind::Unknown),
            ("", Kind::Unknown),
        ];
        for (text, expected) in table {
            assert_eq!(kind(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_found_with_its_place() {
        for fine in [
            "",
            "#cloud-config\n",
            "#cloud-config\nhostname: b1\nx: [1, {a: b}]\n",
            "a: &x [1]\nb: *x\n",
            "$name ${shell}\n",
            "path: 0644\ntag: !!binary aGVsbG8=\n",
            "a: 1\n---\nb: 2\n",
        ] {
            assert_eq!(yaml(fine), Ok(()), "{fine}");
        }
        let table = [
            ("a:\n  - b\n c: d\n", 3, 2, false, "while parsing a block mapping"),
            ("a: b: c\n", 1, 5, false, "mapping values are not allowed"),
            ("\na: \"x\n", 2, 4, false, "unclosed quote"),
            ("a: *x\n", 1, 4, false, "alias references unknown anchor"),
            ("ä: 1\na: @x\n", 2, 4, false, "unexpected character"),
            ("a: 1\nb: 2\na: 3\n", 3, 1, true, "`a` is here a second time"),
            ("a: 1\na: 3\nb: [\n", 3, 4, false, "unclosed bracket"),
        ];
        for (text, line, column, harmless, why) in table {
            let found = yaml(text).unwrap_err();
            assert_eq!(
                (found.line, found.column, found.harmless),
                (line, column, harmless),
                "{text}{found:?}"
            );
            assert!(found.why.starts_with(why) && !found.why.contains("at line"), "{text}{found:?}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{},", level - 1).repeat(10);
            let _ = writeln!(bomb, "a{level}: &a{level} [{before}]");
        }
        let begun = std::time::Instant::now();
        for text in [bomb, "[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(50_000)] {
            assert!(yaml(&text).is_err());
        }
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
