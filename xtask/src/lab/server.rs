//! netboot as a lab's server: started, waited for, and its log read step by step.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::namespace::Child;
use super::network::Lab;

/// What is found in the line of the log that says that the server is ready.
pub const READY: &str = "\"message\":\"ready\"";
/// How long the server may take from its start to that line.
const START: Duration = Duration::from_secs(30);

/// A running server. Killed when dropped; [`Server::stop`] ends it as an operator does.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts `netboot serve` on the lab's `pxe0` with further arguments and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the error has its log.
    pub fn start(lab: &Lab, netboot: &Path, data: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_on("pxe0", lab, netboot, data, arguments)
    }

    /// The same on another interface of the server's namespace.
    ///
    /// # Errors
    /// As above.
    pub fn start_on(
        interface: &str,
        lab: &Lab,
        netboot: &Path,
        data: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = lab.server.command(netboot.to_str().context("the program's path is not UTF-8")?);
        forget_settings(&mut command, std::env::vars_os().map(|(name, _)| name));
        command
            .args(["serve", "--interface", interface, "--log-format", "json", "--data"])
            .arg(data)
            .args(arguments);
        let child = Child::spawn(command)?;
        child.wait_line(READY, START).context("netboot did not become ready")?;
        Ok(Self { child })
    }

    /// The process, to signal it or to read its log.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.wait(Duration::ZERO).is_err()
    }

    /// The next line of its log, `None` when there is none within the time.
    pub fn next_line(&self, within: Duration) -> Option<String> {
        self.child.next_line(within)
    }

    /// All steps that machines have made so far.
    pub fn steps(&self) -> Vec<Step> {
        self.child.output().lines().filter_map(Step::parse).collect()
    }

    /// Ends it with SIGTERM and returns its whole log.
    ///
    /// # Errors
    /// When it does not end in time or not with exit code 0; the error has its log.
    pub fn stop(self) -> Result<String> {
        self.end("TERM")
    }

    /// Ends it with SIGUSR1, for a successor, and returns its whole log.
    ///
    /// # Errors
    /// As of [`Server::stop`].
    pub fn hand_over(self) -> Result<String> {
        self.end("USR1")
    }

    fn end(mut self, signal: &str) -> Result<String> {
        self.child.signal(signal)?;
        let status = self.child.wait(Duration::from_secs(20))?;
        let log = self.child.output();
        anyhow::ensure!(status.success(), "netboot ended with {status}; its log:\n{log}");
        Ok(log)
    }
}

/// Takes the user's own settings from a program's environment: with a `NETBOOT_STATE` the lab would write into the leases
/// of the real appliance.
fn forget_settings(command: &mut Command, names: impl Iterator<Item = OsString>) {
    for name in names.filter(|name| name.as_encoded_bytes().starts_with(b"NETBOOT_")) {
        command.env_remove(name);
    }
}

/// One step of a machine, as the server's log has it (target `netboot::step`).
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    fields: Value,
}

impl Step {
    /// Reads a step from a line of the log; `None` for every other line.
    pub fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        if value.get("target")?.as_str()? != "netboot::step" {
            return None;
        }
        Some(Self { fields: value })
    }

    /// Its name: `dhcp`, `dhcp-ignored`, `tftp-start`, `tftp-done`, `tftp-failed` or `http`.
    pub fn name(&self) -> &str {
        self.text("step")
    }

    /// A field as text, empty when it has none of this name.
    pub fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field as a number, 0 when it has none of this name.
    pub fn number(&self, field: &str) -> u64 {
        self.fields.get(field).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The sentence that an operator reads.
    pub fn message(&self) -> &str {
        self.text("message")
    }
}

/// What a line of the log says to a person: level and message. Lines that are not JSON stay as they are.
pub fn sentence(line: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let Value::Object(fields) = value else { return line.to_owned() };
    let level = fields.get("level").and_then(Value::as_str).unwrap_or_default();
    let mut text = String::new();
    if level != "INFO" {
        text.push_str(level);
        text.push(' ');
    }
    text.push_str(fields.get("message").and_then(Value::as_str).unwrap_or_default());
    for (name, value) in &fields {
        // A step's sentence says it all; other lines have facts beside it.
        let framing = ["timestamp", "level", "message", "target"].contains(&name.as_str());
        if !framing && !fields.contains_key("step") {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.extend([" ", name, "=", &shown]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Step, forget_settings, sentence};

    const DHCP: &str = r#"{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","message":"DHCP offer 192.168.90.11 to 52:54:00:12:34:56","step":"dhcp","mac":"52:54:00:12:34:56","addr":"192.168.90.11","reply":"offer","class":"ipxe","by":"xdp","target":"netboot::step"}"#;

    #[test]
    fn a_step_is_read_from_its_line() {
        let step = Step::parse(DHCP).unwrap();
        assert_eq!((step.name(), step.text("by"), step.text("absent")), ("dhcp", "xdp", ""));
        assert_eq!(step.message(), "DHCP offer 192.168.90.11 to 52:54:00:12:34:56");
        let done =
            r#"{"message":"m","step":"tftp-done","bytes":42,"file":"pxelinux.0","target":"netboot::step"}"#;
        assert_eq!(Step::parse(done).unwrap().number("bytes"), 42);
    }

    #[test]
    fn other_lines_are_no_steps() {
        for line in ["", "plain text", "{}", r#"{"message":"ready","target":"netboot::daemon"}"#] {
            assert_eq!(Step::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_line_for_people_has_its_level_only_when_it_matters() {
        assert_eq!(sentence(DHCP), "DHCP offer 192.168.90.11 to 52:54:00:12:34:56");
        let warning = r#"{"level":"WARN","message":"no XDP","reason":"EPERM","tries":2,"target":"netboot"}"#;
        assert_eq!(sentence(warning), "WARN no XDP reason=EPERM tries=2");
        assert_eq!(sentence("panicked"), "panicked");
    }

    #[test]
    fn the_users_own_settings_are_not_the_labs() {
        let mut command = Command::new("netboot");
        forget_settings(&mut command, ["PATH", "NETBOOT_STATE", "NETBOOT_LOG"].into_iter().map(Into::into));
        let changed: Vec<_> = command.get_envs().collect();
        assert_eq!(changed, [("NETBOOT_LOG".as_ref(), None), ("NETBOOT_STATE".as_ref(), None)]);
    }
}
