//! HTTPS: the operator's certificate and key, read again when the files change. The one user of rustls.
//!
//! A pair that does not fit, as while one of the two files is new and the other is not yet, leaves the pair before it in use.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use crate::config::Tls;
use crate::config::problem::{Problem, Severity};

/// Larger files are no certificate or key, bytes.
const LARGEST: u64 = 1 << 20;

/// Inode, size and time of each of the two files; `None` of one that is not there.
type Stamp = [Option<(u64, u64, i64, i64)>; 2];

/// What HTTPS is served with.
#[derive(Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    /// The pair that was looked at last, and the pair in use.
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Certificate {
    /// Reads certificate and key. `data`: the data directory.
    ///
    /// # Errors
    /// What is wrong with which of the files.
    pub fn open(tls: &Tls, data: &Path) -> Result<Self, Problem> {
        let Tls { cert, key, .. } = tls;
        if is_served(data, key) {
            let help = "move it out of tftp/, files/ and templates/, make a new one, and change http.tls_key";
            return Err(wrong(key, "anybody can fetch this private key", help));
        }
        let stamp = stamp(cert, key);
        let config = read(cert, key)?;
        Ok(Self { cert: cert.clone(), key: key.clone(), current: Mutex::new((stamp, config)) })
    }

    /// The pair in use, which is what the files hold if that is right. May wait for the disk.
    fn current(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.cert, &self.key);
        if now != current.0 {
            // What is wrong is said once.
            current.0 = now;
            match read(&self.cert, &self.key) {
                Ok(config) => {
                    tracing::info!("HTTPS: the certificate has changed: {}", self.cert.display());
                    current.1 = config;
                }
                Err(problem) => tracing::error!("HTTPS: the certificate before stays in use: {problem}"),
            }
        }
        Arc::clone(&current.1)
    }

    /// The server's part of a handshake.
    ///
    /// # Errors
    /// When the client does not know how, does not want, or has gone.
    pub(super) async fn accept(self: Arc<Self>, connection: Connection) -> io::Result<TlsStream<Connection>> {
        let current = tokio::task::spawn_blocking(move || self.current()).await.map_err(io::Error::other)?;
        TlsAcceptor::from(current).accept(connection).await
    }
}

/// Whether clients can fetch this file, or what is made of it.
pub(super) fn is_served(data: &Path, file: &Path) -> bool {
    let folders = ["tftp", "files", "templates"].map(|folder| data.join(folder).canonicalize());
    file.canonicalize().is_ok_and(|real| folders.iter().flatten().any(|folder| real.starts_with(folder)))
}

fn stamp(cert: &Path, key: &Path) -> Stamp {
    [cert, key].map(|file| {
        let facts = std::fs::metadata(file).ok()?;
        Some((facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec()))
    })
}

fn wrong(file: &Path, message: impl Into<String>, help: &str) -> Problem {
    Problem::of_file(Severity::Error, file, message, help)
}

fn bytes(file: &Path, what: &str, setting: &str) -> Result<Vec<u8>, Problem> {
    let help = format!("put {what} there as PEM, readable for netboot, or change {setting}");
    let facts = std::fs::metadata(file).map_err(|error| wrong(file, error.to_string(), &help))?;
    if !facts.is_file() || facts.len() > LARGEST {
        return Err(wrong(file, "is no file of PEM", &help));
    }
    std::fs::read(file).map_err(|error| wrong(file, error.to_string(), &help))
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, Problem> {
    let text = bytes(cert, "the certificate", "http.tls_cert")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let help = "write PEM, which begins with -----BEGIN CERTIFICATE-----: the server's first, then those that signed it";
    let chain = chain.map_err(|error| wrong(cert, error.to_string(), help))?;
    if chain.is_empty() {
        return Err(wrong(cert, "has no certificate", help));
    }
    let text = bytes(key, "the certificate's private key", "http.tls_key")?;
    let own = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let help = "write PEM without a password: openssl pkey -in FILE -out FILE.plain takes it away";
        wrong(key, format!("has no private key that can be read: {error}"), help)
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, own));
    let mut config = config.map_err(|error| {
        let message = format!("does not go with the certificate {}: {error}", cert.display());
        wrong(
            key,
            message,
            "name the key that this certificate was made for in http.tls_key, RSA, ECDSA or Ed25519",
        )
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
