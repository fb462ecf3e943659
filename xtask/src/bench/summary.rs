//! The short table, for the README: a column for each server, what a site would ask first.

use std::fmt::Write as _;

use super::contestant::{ALL, Contestant, Program};
use super::report::Report;

/// The columns, in their order.
const COLUMNS: [(&str, Program); 4] = [
    ("netboot, XDP", Program::Netboot { xdp: true }),
    ("netboot, `--xdp off`", Program::Netboot { xdp: false }),
    ("Kea", Program::Kea),
    ("dnsmasq", Program::Dnsmasq),
];

/// The table. A server that was not measured with these addresses has a dash.
pub(super) fn summary(report: &Report) -> String {
    let mut text = "| |".to_owned();
    for (name, _) in COLUMNS {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n|---|--:|--:|--:|--:|\n");
    for reserved in [true, false] {
        let of = if reserved { "reserved" } else { "from the pool" };
        let mut line = |what: &str, cell: &dyn Fn(usize) -> String| {
            let _ = write!(text, "| {of}: {what} |");
            for (_, program) in COLUMNS {
                let is = |who: &Contestant| who.program == program && who.reserved == reserved;
                let shown = ALL.iter().position(is).map_or_else(|| "–".to_owned(), cell);
                let _ = write!(text, " {shown} |");
            }
            text.push('\n');
        };
        for clients in [32, 256] {
            line(&format!("DORA/s, {clients} clients"), &|who| {
                format!("{:.0}", report.samples.row(who, clients).rate)
            });
        }
        line("lossless DORA/s", &|who| format!("{:.0}", report.lossless(who).0));
        line("ACK p50 / p99 of 32 clients, µs", &|who| {
            let [_, _, p50, p99] = report.samples.row(who, 32).latency;
            format!("{p50} / {p99}")
        });
        line("CPU of both ends, 32 clients, µs an exchange", &|who| {
            let row = report.samples.row(who, 32);
            format!("{:.0}", row.server_cpu + row.client_cpu)
        });
        line("lost / invalid of all", &|who| {
            let rows = super::dhcp::CLIENTS.map(|clients| report.samples.row(who, clients));
            let sum = |of: fn(&super::samples::Row) -> u64| rows.iter().map(of).sum::<u64>();
            format!("{} / {}", sum(|row| row.lost), sum(|row| row.invalid))
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::contestant::ALL;
    use super::super::report::Report;
    use super::summary;

    #[test]
    fn every_line_has_every_column() {
        let lossless = (1..=ALL.len()).map(|number| if number == 2 { 9000.0 } else { 300.0 }).collect();
        let text = summary(&Report { lossless, ..Report::default() });
        assert_eq!(text.lines().count(), 2 + 2 * 6, "{text}");
        assert!(text.lines().all(|line| line.matches('|').count() == 6), "{text}");
        assert!(text.contains("| reserved: lossless DORA/s | 9000 | 300 | 300 | 300 |"), "{text}");
        assert!(text.contains("| from the pool: lossless DORA/s | – | 300 | 300 | 300 |"), "{text}");
    }
}
