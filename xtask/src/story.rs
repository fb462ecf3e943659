//! The summary of a boot: who answered DHCP, how long each stage took, how many bytes went over the wire.

use std::fmt;
use std::time::{Duration, Instant};

use xtask::lab::Step;

/// The stages of a boot, in their order, each named after what is waited for.
const STAGES: [&str; 5] = ["firmware", "DHCP", "TFTP", "kernel", "cloud-config"];

/// Collects what the server's log and the blade's console tell, as it happens.
pub(crate) struct Story {
    start: Instant,
    /// When each stage ended.
    ends: [Option<Duration>; STAGES.len()],
    by_xdp: u32,
    by_daemon: u32,
    tftp_bytes: u64,
    tftp_files: u32,
    http_bytes: u64,
}

impl Story {
    /// Begins with the blade's switch.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            ends: [None; STAGES.len()],
            by_xdp: 0,
            by_daemon: 0,
            tftp_bytes: 0,
            tftp_files: 0,
            http_bytes: 0,
        }
    }

    /// A line of the server's log.
    pub(crate) fn server(&mut self, line: &str) {
        let Some(step) = Step::parse(line) else { return };
        let now = self.start.elapsed();
        match step.name() {
            "dhcp" => {
                self.ends[0].get_or_insert(now);
                if step.text("by") == "xdp" { self.by_xdp += 1 } else { self.by_daemon += 1 }
            }
            "tftp-start" => {
                self.ends[1].get_or_insert(now);
            }
            "tftp-done" => {
                self.ends[2] = Some(now);
                self.tftp_files += 1;
                self.tftp_bytes += step.number("bytes");
            }
            "http" => {
                self.http_bytes += step.number("bytes");
                if step.text("what") == "cloud-config" {
                    self.ends[4] = Some(now);
                }
            }
            _ => {}
        }
    }

    /// A line of the blade's console.
    pub(crate) fn console(&mut self, line: &str) {
        if line.contains("netboot blade: Linux") {
            self.ends[3].get_or_insert(self.start.elapsed());
        }
    }

    /// Seconds of each stage that has ended, since the end of the one before.
    fn stages(&self) -> Vec<(&'static str, f32)> {
        let mut before = Duration::ZERO;
        let ended = STAGES.into_iter().zip(self.ends).filter_map(|(name, end)| Some((name, end?)));
        ended
            .map(|(name, end)| {
                let took = end.saturating_sub(before);
                before = end;
                (name, took.as_secs_f32())
            })
            .collect()
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "DHCP       {} answered by XDP, {} by the daemon", self.by_xdp, self.by_daemon)?;
        let stages: Vec<_> =
            self.stages().iter().map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect();
        writeln!(
            f,
            "stages     {}",
            if stages.is_empty() { "none ended".to_owned() } else { stages.join(", ") }
        )?;
        write!(
            f,
            "bytes      {} over TFTP in {} files, {} over HTTP",
            self.tftp_bytes, self.tftp_files, self.http_bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Story;

    fn step(fields: &str) -> String {
        format!(r#"{{"level":"INFO","message":"m",{fields},"target":"netboot::step"}}"#)
    }

    #[test]
    fn counts_answers_bytes_and_stages() {
        let mut story = Story::new();
        story.server("not json");
        assert!(story.to_string().contains("none ended"));
        for by in ["xdp", "xdp", "daemon"] {
            story.server(&step(&format!(r#""step":"dhcp","by":"{by}""#)));
        }
        story.server(&step(r#""step":"tftp-start","file":"pxelinux.0""#));
        story.server(&step(r#""step":"tftp-done","bytes":42"#));
        story.server(&step(r#""step":"tftp-done","bytes":8"#));
        story.console("junk netboot blade: Linux 6.1 is up");
        story.server(&step(r#""step":"http","what":"cloud-config","bytes":100"#));
        let text = story.to_string();
        assert!(text.contains("2 answered by XDP, 1 by the daemon"), "{text}");
        assert!(text.contains("50 over TFTP in 2 files, 100 over HTTP"), "{text}");
        let names: Vec<_> = story.stages().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, super::STAGES);
    }
}
