//! Limits of what clients and relay agents may ask, as people set them: `dhcp.limits` in `netboot.json`.
//!
//! Only what was written, and the rules for it. What is admitted is decided in `netboot_ebpf::guard`.

use jsonc_parser::ast::Value;
use netboot_ebpf::guard;

use super::json::Reader;
use super::written::{number, section};

/// The highest rate: what `guard` can count.
const HIGHEST_RATE: u32 = (1 << 20) - 1;
/// The same of seconds that may come at once.
const LONGEST_BURST: u32 = (1 << 8) - 1;
/// A client that asks again after a minute asks anew.
const LONGEST_DUPLICATE_MS: u32 = 60_000;

/// What is dropped before anybody looks at it. All of it is off unless it is set, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// Requests in a second of one machine.
    pub per_machine: u32,
    /// Requests in a second that come through one relay agent.
    pub per_relay: u32,
    /// So many seconds' requests may come at once.
    pub burst_secs: u32,
    /// The same packet again within this time, milliseconds, is dropped.
    pub duplicate_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_machine: 0, per_relay: 0, burst_secs: 2, duplicate_ms: 0 }
    }
}

impl Limits {
    /// Nothing is limited.
    pub fn are_off(self) -> bool {
        guard::Limits::from(self).are_off()
    }
}

impl From<Limits> for guard::Limits {
    fn from(limits: Limits) -> Self {
        let Limits { per_machine, per_relay, burst_secs, duplicate_ms } = limits;
        Self { mac_rate: per_machine, relay_rate: per_relay, burst_secs, duplicate_ms }
    }
}

/// Reads `dhcp.limits`.
pub(super) fn read(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Limits {
    let mut limits = Limits::default();
    section(reader, name, value, |reader, name, key, value| {
        let (place, range) = match key {
            "per_machine" => (&mut limits.per_machine, 0..=HIGHEST_RATE),
            "per_relay" => (&mut limits.per_relay, 0..=HIGHEST_RATE),
            "burst_secs" => (&mut limits.burst_secs, 1..=LONGEST_BURST),
            "duplicate_ms" => (&mut limits.duplicate_ms, 0..=LONGEST_DUPLICATE_MS),
            _ => return Err("per_machine, per_relay, burst_secs, duplicate_ms"),
        };
        // What is wrong is in the reader.
        *place = number(reader, name, value, range).unwrap_or_default();
        Ok(())
    });
    limits
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use netboot_ebpf::guard;

    use super::Limits;
    use crate::config::{FILE, Given, resolve};

    fn read(limits: &str) -> Result<Limits, String> {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(r#"{{"dhcp": {{"limits": {limits}}}}}"#);
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let settings = resolve(dir.path(), Given::default());
        settings
            .map(|settings| settings.dhcp.limits)
            .map_err(|problems| problems.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn each_limit_is_off_until_it_is_set() {
        let none = resolve(Path::new("/nowhere"), Given::default()).unwrap().dhcp.limits;
        assert!(none.are_off() && read("{}") == Ok(none) && read(r#"{"burst_secs": 9}"#).unwrap().are_off());
        for one in ["per_machine", "per_relay", "duplicate_ms"] {
            assert!(!read(&format!(r#"{{"{one}": 1}}"#)).unwrap().are_off(), "{one}");
        }
        let all =
            read(r#"{"per_machine": 20, "per_relay": 1000, "burst_secs": 3, "duplicate_ms": 100}"#).unwrap();
        let expected = guard::Limits { mac_rate: 20, relay_rate: 1000, burst_secs: 3, duplicate_ms: 100 };
        assert_eq!(guard::Limits::from(all), expected);
        assert_eq!(read(r#"{"per_machine": 20}"#).unwrap().burst_secs, 2);
        let shown = serde_json::to_value(all).unwrap();
        let json =
            serde_json::json!({"per_machine": 20, "per_relay": 1000, "burst_secs": 3, "duplicate_ms": 100});
        assert_eq!(shown, json);
    }

    #[test]
    fn what_cannot_be_counted_is_refused_with_its_place() {
        let table = [
            (
                r#"{"per_mac": 1}"#,
                "netboot.json:1:22: `dhcp.limits.per_mac` is not a setting; use one of: per_machine, per_relay,",
            ),
            (
                r#"{"per_machine": 1048576}"#,
                "netboot.json:1:37: `dhcp.limits.per_machine` is 1048576; write a whole number from 0 to 1048575",
            ),
            (
                r#"{"per_relay": -1}"#,
                "netboot.json:1:35: `dhcp.limits.per_relay` is -1; write a whole number from 0 to 1048575",
            ),
            (
                r#"{"burst_secs": 0}"#,
                "netboot.json:1:36: `dhcp.limits.burst_secs` is 0; write a whole number from 1 to 255",
            ),
            (r#"{"burst_secs": 256}"#, "netboot.json:1:36: `dhcp.limits.burst_secs` is 256; write"),
            (
                r#"{"duplicate_ms": "100"}"#,
                "netboot.json:1:38: `dhcp.limits.duplicate_ms` is a string; write a whole number from 0 to 60000",
            ),
            ("20", "netboot.json:1:21: `dhcp.limits` is a number, not an object; write \"dhcp.limits\": {"),
        ];
        for (limits, expected) in table {
            let problem = read(limits).unwrap_err();
            assert!(problem.starts_with(expected), "{limits}\n{problem}");
        }
    }
}
