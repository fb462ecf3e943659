//! The operator's token: who shows it may see and order what `http.override_from` lets addresses do.
//!
//! It is never written anywhere, and compared in a time that says nothing of it.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::tls::is_served;
use crate::config::problem::{Problem, Severity};

/// A shorter one can be guessed.
const SHORTEST: usize = 16;
/// Larger files hold no token, bytes.
const LARGEST: u64 = 4096;
/// Who else than the owner.
const OTHERS: u32 = 0o077;

/// What an operator shows as `Authorization: Bearer …` (RFC 6750).
pub struct Token(Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads it. `data`: the data directory.
    ///
    /// # Errors
    /// What is wrong with the file, without what it says.
    pub fn open(file: &Path, data: &Path) -> Result<Self, Problem> {
        let wrong = |message: &str, help: &str| Problem::of_file(Severity::Error, file, message, help);
        let make =
            format!("openssl rand -hex 32 >{0} && chmod 600 {0}, or change http.token_file", file.display());
        let failed = |error: std::io::Error| wrong(&error.to_string(), &make);
        // A pipe is not waited for.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = File::options().read(true).custom_flags(nonblock).open(file).map_err(failed)?;
        let facts = opened.metadata().map_err(failed)?;
        if is_served(data, file) {
            return Err(wrong(
                "machines can fetch this token",
                "move it out of tftp/, files/ and templates/, make a new one, and change http.token_file",
            ));
        }
        if !facts.is_file() || facts.len() > LARGEST {
            return Err(wrong("is no file of a token", &make));
        }
        if facts.mode() & OTHERS != 0 {
            let help = format!("chmod 600 {}, and make a new one if others were here", file.display());
            return Err(wrong("can be read by others than its owner", &help));
        }
        let mut text = Vec::new();
        opened.take(LARGEST).read_to_end(&mut text).map_err(failed)?;
        // An editor ends every file with a new line.
        let token = text.trim_ascii();
        if token.len() < SHORTEST {
            return Err(wrong(&format!("has fewer than {SHORTEST} characters"), &make));
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(wrong("has more than letters, digits and signs of ASCII in one word", &make));
        }
        Ok(Self(token.to_vec()))
    }

    /// Whether this is it. How long that takes depends on what is shown alone.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let differ =
            shown.iter().zip(self.0.iter().cycle()).fold(0, |differ, (a, b)| black_box(differ | (a ^ b)));
        differ == 0 && shown.len() == self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::Token;

    const GOOD: &str = "0123456789abcdef";

    #[test]
    fn a_token_that_others_have_or_that_can_be_guessed_is_refused() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("templates")).unwrap();
        let table = [
            ("token", GOOD, 0o600, None),
            ("token", "0123456789+/-._~==\r\n", 0o400, None),
            ("token", GOOD, 0o640, Some("token: can be read by others than its owner; chmod 600 ")),
            ("token", GOOD, 0o604, Some("token: can be read by others than its owner; chmod 600 ")),
            ("token", "0123456789abcde\n", 0o600, Some("token: has fewer than 16 characters; openssl rand ")),
            ("token", "", 0o600, Some("token: has fewer than 16 characters; openssl rand ")),
            ("token", "0123456789 abcdef", 0o600, Some("token: has more than letters")),
            ("token", "0123456789abcdef\u{e9}", 0o600, Some("token: has more than letters")),
            (
                "templates/token",
                GOOD,
                0o600,
                Some("templates/token: machines can fetch this token; move it "),
            ),
        ];
        for (name, text, mode, expected) in table {
            let file = data.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let problem = Token::open(&file, data.path()).err();
            let said =
                problem.map(|said| said.to_string().replace(&format!("{}/", data.path().display()), ""));
            assert_eq!(said.is_some(), expected.is_some(), "{name} {text:?} {mode:o}: {said:?}");
            assert!(said.clone().unwrap_or_default().starts_with(expected.unwrap_or_default()), "{said:?}");
            assert!(!said.unwrap_or_default().contains("0123456789"), "it is not told");
        }
        for path in ["gone", "."] {
            assert!(Token::open(&data.path().join(path), data.path()).is_err(), "{path}");
        }
        let large = data.path().join("token");
        fs::write(&large, GOOD.repeat(300)).unwrap();
        assert!(Token::open(&large, data.path()).is_err());
    }

    #[test]
    fn the_token_alone_is_it() {
        let token = Token(GOOD.into());
        assert!(token.is(GOOD.as_bytes()));
        let twice = GOOD.repeat(2);
        for other in
            ["", "0", "0123456789abcde", "0123456789abcdeF", "x123456789abcdef", "0123456789abcdef0", &twice]
        {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }
}
