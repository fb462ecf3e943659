//! HTTPS: which files, which port, and what is missing. The files themselves are looked at by who serves them.

use std::path::{Path, PathBuf};

use super::resolve::Given;
use super::written::Written;

/// Where nothing is written.
const PORT: u16 = 8443;

/// HTTPS settings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tls {
    /// TCP port, default 8443.
    pub port: u16,
    /// PEM: the server's certificate, then those that signed it.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// HTTPS as far as it is set: it needs both files.
pub(super) struct Half {
    port: Option<u16>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Half {
    /// Paths that were given are those of whoever gave them, written ones are of the data directory.
    pub(super) fn of(data: &Path, given: &Given, written: &Written) -> Self {
        let path = |given: &Option<PathBuf>, written: &Option<PathBuf>| {
            let given = given.clone().filter(|path| !path.as_os_str().is_empty());
            given.or_else(|| written.as_ref().map(|path| data.join(path)))
        };
        Self {
            port: given.tls_port.or(written.tls_port),
            cert: path(&given.tls_cert, &written.tls_cert),
            key: path(&given.tls_key, &written.tls_key),
        }
    }

    /// Both files and a port, or nothing.
    ///
    /// # Errors
    /// What is missing, and what to write.
    pub(super) fn whole(self, http_port: u16) -> Result<Option<Tls>, (&'static str, &'static str)> {
        let Self { port, cert, key } = self;
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) if port.is_none() => return Ok(None),
            (None, None) => {
                let help = "write http.tls_cert and http.tls_key, or leave http.tls_port out";
                return Err(("there is a port for HTTPS and no certificate", help));
            }
            (Some(_), None) => {
                return Err((
                    "there is a certificate and no key",
                    "write http.tls_key, the file with its private key",
                ));
            }
            (None, Some(_)) => {
                return Err((
                    "there is a key and no certificate",
                    "write http.tls_cert, the file with its certificate",
                ));
            }
        };
        let port = port.unwrap_or(PORT);
        if port == http_port {
            return Err(("HTTP and HTTPS have the same port", "choose another for http.tls_port"));
        }
        Ok(Some(Tls { port, cert, key }))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Given, Settings, resolve};

    fn with(text: &str, given: Given) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(crate::config::FILE), text).unwrap();
        resolve(dir.path(), given)
            .map_err(|problems| problems.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn https_needs_a_certificate_and_its_key() {
        let table = [
            (
                r#"{"http": {"tls_port": 443}}"#,
                "netboot.json: there is a port for HTTPS and no certificate; write http.tls_cert and http.tls_key",
            ),
            (
                r#"{"http": {"tls_cert": "c"}}"#,
                "netboot.json: there is a certificate and no key; write http.tls_key",
            ),
            (
                r#"{"http": {"tls_key": "k"}}"#,
                "netboot.json: there is a key and no certificate; write http.tls_cert",
            ),
            (
                r#"{"http": {"port": 8443, "tls_key": "k", "tls_cert": "c"}}"#,
                "netboot.json: HTTP and HTTPS have the same port; choose",
            ),
            (r#"{"http": {"tls_key": ""}}"#, "netboot.json:1:22: `http.tls_key` is \"\"; write a path"),
            (
                r#"{"http": {"tls": "c"}}"#,
                "netboot.json:1:11: `http.tls` is not a setting; use one of: port, override_from, secret_reads, token_file, tls_port",
            ),
        ];
        for (text, expected) in table {
            let problem = with(text, Given::default()).unwrap_err();
            assert!(problem.starts_with(expected), "{text}\n{problem}");
        }
        let usual = with(r#"{"http": {"tls_key": "k", "tls_cert": "c"}}"#, Given::default()).unwrap();
        assert_eq!(usual.http.tls.unwrap().port, 8443);
        assert_eq!(
            with("{}", Given { tls_key: Some("".into()), ..Given::default() }).unwrap().http.tls,
            None
        );
    }
}
