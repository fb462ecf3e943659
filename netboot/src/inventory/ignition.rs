//! What Ignition takes: JSON that says its version. Pure.

use serde_json::Value;

use super::user_data::Mistake;

/// The template of machines that name no other.
pub const TEMPLATE: &str = "ignition.json";

/// The largest configuration, bytes.
const LARGEST: usize = 4 << 20;

/// What keeps Ignition from reading a text. Its depth is limited by the parser, to 128.
///
/// # Errors
/// What is wrong.
pub fn check(text: &str) -> Result<(), Mistake> {
    let wrong = |line: usize, column: usize, why: String| {
        Err(Mistake { line: line.max(1), column: column.max(1), why, harmless: false })
    };
    if text.len() > LARGEST {
        return wrong(1, 1, format!("it is larger than {} MiB", LARGEST >> 20));
    }
    if !text.trim_start().starts_with('{') {
        let why = "this is not JSON; a Butane configuration (YAML) is translated first: butane --strict config.bu > ignition.json";
        return wrong(1, 1, why.to_owned());
    }
    let config: Value = match serde_json::from_str(text) {
        Ok(config) => config,
        Err(error) => {
            let said = error.to_string();
            let why = said.split(" at line ").next().unwrap_or_default();
            return wrong(error.line(), error.column(), format!("not JSON: {why}"));
        }
    };
    let version = config.pointer("/ignition/version").and_then(Value::as_str);
    if version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit())) {
        return Ok(());
    }
    wrong(1, 1, "`ignition.version` is missing: write \"ignition\": { \"version\": \"3.4.0\" }".to_owned())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_configuration_is_json_and_says_its_version() {
        assert_eq!(check("{\"ignition\": {\"version\": \"3.4.0\"}, \"storage\": {}}\n"), Ok(()));
        let deep = format!("{{\"a\": {}", "[".repeat(10_000));
        let large = format!("{{\"ignition\": {{\"version\": \"3.4.0\"}}}}{}", " ".repeat(4 << 20));
        let table = [
            ("variant: fcos\nversion: 1.5.0\n", (1, 1), "this is not JSON; a Butane configuration (YAML)"),
            ("", (1, 1), "this is not JSON"),
            ("{\n  \"ignition\": {,\n", (2, 16), "not JSON: key must be a string"),
            ("{}", (1, 1), "`ignition.version` is missing"),
            ("{\"ignition\": {\"version\": 3}}", (1, 1), "`ignition.version` is missing"),
            (deep.as_str(), (1, 133), "not JSON: recursion limit exceeded"),
            (large.as_str(), (1, 1), "it is larger than 4 MiB"),
        ];
        for (text, place, why) in table {
            let found = check(text).unwrap_err();
            assert_eq!((found.line, found.column), place, "{found:?}");
            assert!(found.why.starts_with(why), "{found:?}");
        }
    }
}
