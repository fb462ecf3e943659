//! A text that is made for one machine at each request: cloud-config, Ignition, or any template. Either all of it or, in a
//! comment, the reason why not.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app::{Shared, State};
use super::client::Client;
use super::whose::{Asked, Subject, whose};
use crate::inventory::rendering::{For, Secret};
use crate::inventory::{HOSTS_FILE, Host, Snapshot, secrets, template};
use crate::mac::Mac;

/// What a preview has in the place of a secret.
const HIDDEN: &str = "********";

/// What a client gets.
pub(super) type Answer = Result<String, Refused>;

/// What it gets instead: a status, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

/// Makes a text for a client and sends it. `at_hand`: nothing has to be read for it, so it is made here and not on another
/// thread.
pub(super) async fn send(
    state: Shared,
    at_hand: bool,
    client: Client,
    asked: Asked,
    content_type: &'static str,
    of: impl FnOnce(&Making<'_>) -> Answer + Send + 'static,
) -> Response {
    let work = move || {
        let snapshot = state.inventory.snapshot();
        let subject = whose(&state, &snapshot, client, &asked).map_err(|who| unknown(&state, &who))?;
        of(&Making { state: &state, snapshot: &snapshot, subject })
    };
    let done = if at_hand { Ok(work()) } else { tokio::task::spawn_blocking(work).await };
    let made = done.unwrap_or_else(|error| {
        tracing::error!("HTTP: the text for {} failed: {error}", client.addr);
        Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, "this server failed, its log says how".to_owned()))
    });
    let uncached = (header::CACHE_CONTROL, "no-store");
    match made {
        Ok(text) => ([(header::CONTENT_TYPE, content_type), uncached], text).into_response(),
        Err(Refused(status, why)) => {
            (status, [(header::CONTENT_TYPE, PLAIN), uncached], comment(&why)).into_response()
        }
    }
}

/// Text for machines and people.
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";

/// What there is for a client that is no machine of ours.
fn unknown(state: &State, who: &str) -> Refused {
    let why = if state.inventory.missing() {
        format!("{HOSTS_FILE} is missing in the data directory; add it, with a host {who}")
    } else {
        format!("no configuration for {who}; add this address to `hosts` in {HOSTS_FILE}")
    };
    Refused(StatusCode::NOT_FOUND, why)
}

/// A cloud-config that configures nothing and says why; a comment for whatever else reads it.
fn comment(why: &str) -> String {
    format!("#cloud-config\n# {}\n", why.replace(|c: char| c.is_control(), " "))
}

/// What a text is made of.
pub(super) struct Making<'a> {
    pub(super) state: &'a Shared,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) subject: Subject<'a>,
}

impl Making<'_> {
    /// The template with this name, rendered for the machine. Reads it, so an edit counts at once.
    pub(super) fn rendered(&self, name: &str) -> Answer {
        self.rendered_if_there(name)?.ok_or_else(|| {
            tracing::error!("HTTP: template {name} of host {} is missing", self.subject.host.addr);
            Refused(StatusCode::NOT_FOUND, format!("template {name} is missing in the data directory"))
        })
    }

    /// The same; `None` if it is not there.
    pub(super) fn rendered_if_there(&self, name: &str) -> Result<Option<String>, Refused> {
        let Self { state, snapshot, subject: Subject { host, itself } } = self;
        let data = state.inventory.data();
        let failed = |why: String, told: String| {
            tracing::error!("HTTP: host {}: {why}", host.addr);
            Refused(StatusCode::INTERNAL_SERVER_ERROR, told)
        };
        let (name, text) = match template::find(name, |name| state.templates.open(data, name)) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let told = format!("template {name} in the data directory cannot be read");
                return Err(failed(format!("template {name}: {error}"), told));
            }
        };
        let told = Arc::new(Mutex::new(Told::default()));
        let with = |secret| For { data, snapshot, host, server: state.server, secret }.render(&name, &text);
        let rendered = with(secret(state, snapshot, host, *itself, &told));
        let told = lock(&told);
        if told.refused {
            let most = state.reads.most();
            tracing::warn!(addr = %host.addr, mac = %host.mac, "HTTP: {} has had its secrets {most} times since it booted and gets no more (http.secret_reads)", host.addr);
            let why = format!(
                "the secrets of {} were read {most} times since it booted (http.secret_reads)",
                host.addr
            );
            return Err(Refused(StatusCode::FORBIDDEN, why));
        }
        rendered.map(Some).map_err(|wrong| {
            let why = match &told.failed {
                Some(why) => format!("template {name}: {why}"),
                // What goes wrong may tell a secret. What goes wrong without it does not.
                None if told.secret => with(hidden()).map_or_else(
                    |wrong| wrong.to_string(),
                    |_| format!("template {name}: it fails with the secrets of this machine"),
                ),
                None => wrong.to_string(),
            };
            failed(why.clone(), why)
        })
    }
}

/// What became of secrets while one text was made.
#[derive(Default)]
struct Told {
    /// One was told.
    secret: bool,
    counted: bool,
    /// The machine has had them too often.
    refused: bool,
    /// Why one could not be read.
    failed: Option<String>,
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What others see of a secret.
fn hidden() -> Secret {
    Arc::new(|_| Ok(HIDDEN.to_owned()))
}

/// Has the secrets of a machine, for one text: for the machine itself, a limited number of times a boot.
fn secret(
    state: &Shared,
    snapshot: &Arc<Snapshot>,
    host: &Host,
    itself: bool,
    told: &Arc<Mutex<Told>>,
) -> Secret {
    if !itself {
        return hidden();
    }
    let (state, snapshot, told) = (Arc::clone(state), Arc::clone(snapshot), Arc::clone(told));
    let mac: Mac = host.mac;
    Arc::new(move |name| {
        let host = snapshot.by_mac(mac).ok_or_else(|| "its machine is gone".to_owned())?;
        let mut told = lock(&told);
        if !told.counted {
            told.counted = true;
            told.refused = !state.reads.take(mac, state.timeline.boots(mac));
        }
        if told.refused {
            return Err("was read too often".to_owned());
        }
        let read = secrets::read(state.inventory.data(), &snapshot, host, name);
        told.secret |= read.is_ok();
        told.failed = read.as_ref().err().cloned().or(told.failed.take());
        read
    })
}
