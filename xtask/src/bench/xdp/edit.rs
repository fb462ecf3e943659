//! How long an edit of `pxe_hosts.json` takes until the next DISCOVER is answered by it, and how much of that is the XDP
//! program's maps.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::contestant::{Running, SERVER};
use crate::bench::samples::median;

use super::frames::{Kind, Sender, Template, is_reply};

/// An edit is seen within this time, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked.
const ASKED_EVERY: Duration = Duration::from_millis(1);

/// What an edit takes.
#[derive(Debug, Default)]
pub(super) struct Edit {
    pub(super) hosts: u32,
    /// To build and to write all machines at the start, as netboot says, µs.
    pub(super) loaded: [u64; 2],
    /// From the file's new name to the first answer with the new content, ms.
    pub(super) millis: Vec<f64>,
    /// To build and to write the last of these edits, µs.
    pub(super) edited: [u64; 2],
}

impl Edit {
    /// Of all that were made.
    pub(super) fn middle(&self) -> f64 {
        median(&self.millis)
    }
}

/// What netboot says of its last update of the maps.
fn told(running: &Running) -> Result<[u64; 2]> {
    let status = running.namespace().shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/status")?;
    let status: serde_json::Value = serde_json::from_str(&status).context("read the status of netboot")?;
    let micros = |name: &str| status["counters"]["xdp"][name].as_u64();
    let both = micros("last-build-us").zip(micros("last-write-us"));
    both.map(<[u64; 2]>::from)
        .with_context(|| format!("netboot does not say how long an update took: {status}"))
}

/// Gives one machine another name, so often, with a file as an editor saves it.
///
/// # Errors
/// When the file cannot be changed, or no answer ever has the new name.
pub(super) fn edits(running: &Running, home: &Path, hosts: u32, count: u64) -> Result<Edit> {
    let mut edit = Edit { hosts, loaded: told(running)?, ..Edit::default() };
    let (file, saved) = (home.join("pxe_hosts.json"), home.join("saved"));
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let old = "\"blade7\"";
    let template = Template::new(Kind::Discover, SERVER);
    let mut frame = vec![0; template.len()];
    template.lay(&mut frame);
    for number in 0..count {
        let name = format!("edited{number}");
        std::fs::write(&saved, text.replacen(old, &format!("\"{name}\""), 1)).context("save the hosts")?;
        let begun = Instant::now();
        std::fs::rename(&saved, &file).context("save the hosts")?;
        let sender = Sender {
            mac: crate::bench::blades::Plan::mac(7),
            xid: u32::try_from(number).unwrap_or_default(),
            addr: std::net::Ipv4Addr::UNSPECIFIED,
        };
        template.fill(&mut frame, &sender);
        while !answered_with(running, &frame, name.as_bytes())? {
            if begun.elapsed() > PATIENCE {
                bail!(
                    "no answer has the new name after {} s; its log:\n{}",
                    PATIENCE.as_secs(),
                    running.log()
                );
            }
        }
        edit.millis.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    edit.edited = told(running)?;
    Ok(edit)
}

/// Asks once; whether an answer that comes soon has these bytes.
fn answered_with(running: &Running, frame: &[u8], name: &[u8]) -> Result<bool> {
    let wire = &running.wire;
    wire.send(frame).context("send")?;
    let asked = Instant::now();
    let mut buffer = [0; 2048];
    while asked.elapsed() < ASKED_EVERY {
        if let Some(length) = wire.receive(&mut buffer).context("receive")? {
            let heard = buffer.get(..length).unwrap_or_default();
            if is_reply(heard) && heard.windows(name.len()).any(|part| part == name) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
