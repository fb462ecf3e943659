//! Flags and their environment variables, exactly as typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{capture, doctor, hosts, import, leases};
use crate::config::{Given, Mode, Range, Vlan, Xdp};

const EXAMPLES: &str = "\
Examples:
  netboot serve --interface eth1                     serve ./data on eth1
  netboot serve --interface eth1 --xdp off           answer DHCP without the XDP program
  netboot serve --interface eth1 --mode proxy        boot files alone: another DHCP server gives out the addresses
  netboot serve --interface eth1.90 --trunk eth1 --vlan 90
                                                     the VLAN eth1.90, its DHCP answered by XDP on the card eth1
  netboot serve --interface eth1 --pool 192.168.90.100-192.168.90.199
  netboot check /srv/netboot                         what is wrong with a data directory
  netboot check /srv/netboot --print                 and the settings that serve would use
  netboot doctor --interface eth1                    what would go wrong on this machine, and how to mend it
  netboot capture --interface eth1 -w boot.pcapng    what boots on eth1, packet by packet, for Wireshark
  netboot hosts                                      the machines, and who waits for a reservation
  netboot leases                                     who has which address of the pool
  netboot import kea kea-dhcp4.conf --write          Kea's reservations into ./data/pxe_hosts.json

Each flag can be set by the variable named beside it, and most by a key of netboot.json in the data directory.
Flags beat the environment, the environment beats the file. NETBOOT_LOG sets what is logged (default: info).
Exit codes: 0 fine, 1 failed while running, 2 wrong usage, settings or data.";

/// Boots machines from the network: DHCP answered in XDP, TFTP on io_uring, HTTP cloud-config.
#[derive(Debug, Parser)]
#[command(name = "netboot", version, after_help = EXAMPLES, max_term_width = 110)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve in the foreground; waits for the interface and its IPv4 address.
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
    /// Say everything that is wrong with a data directory; exit code 2 if there is an error.
    #[command(after_help = EXAMPLES)]
    Check(Check),
    /// Look at this machine and its network: what would go wrong, and the command that mends it.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Doctor),
    /// Capture the boot traffic of the interface, with what the XDP program answers, for Wireshark.
    #[command(after_help = capture::EXAMPLES)]
    Capture(capture::Capture),
    /// List the machines, and those that wait for a reservation; approve these.
    Hosts(hosts::Hosts),
    /// List the leases, of a running netboot or from its files.
    Leases(leases::Leases),
    /// Take over leases or reserved machines from dnsmasq, Kea or ISC dhcpd.
    Import(import::Import),
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The data directory: pxe_hosts.json, templates, tftp/, netboot.json.
    #[arg(long, value_name = "DIR", env = "NETBOOT_DATA", default_value = "./data")]
    pub(super) data: PathBuf,
    #[command(flatten)]
    pub(super) settings: Settings,
    /// How log lines are written to standard error.
    #[arg(long, value_name = "FORMAT", env = "NETBOOT_LOG_FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The data directory.
    #[arg(value_name = "DATA", env = "NETBOOT_DATA", default_value = "./data")]
    pub(super) data: PathBuf,
    /// Print the settings that `serve` would use, as JSON.
    #[arg(long)]
    pub(super) print: bool,
    #[command(flatten)]
    pub(super) settings: Settings,
}

/// What can be set by flag, by environment and in netboot.json.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// The PXE interface. `check` holds the hosts against its subnet.
    #[arg(long, value_name = "IF", env = "NETBOOT_INTERFACE")]
    interface: Option<String>,
    /// The interface that carries the VLAN which --interface is: XDP is attached to it. Goes with --vlan.
    #[arg(long, value_name = "IF", env = "NETBOOT_TRUNK")]
    trunk: Option<String>,
    /// The VLAN's tag on the trunk, 1 to 4094; outer and inner tag (QinQ) as 100.90. Goes with --trunk.
    #[arg(long, value_name = "ID", env = "NETBOOT_VLAN")]
    vlan: Option<Vlan>,
    /// Where leases and the like are kept [default: DATA/state].
    #[arg(long, value_name = "DIR", env = "NETBOOT_STATE")]
    state: Option<PathBuf>,
    /// TCP port for HTTP [default: 8080].
    #[arg(long, value_name = "PORT", env = "NETBOOT_HTTP_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    http_port: Option<u16>,
    /// TCP port for HTTPS, which needs certificate and key [default: 8443].
    #[arg(long, value_name = "PORT", env = "NETBOOT_TLS_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    tls_port: Option<u16>,
    /// Certificate of HTTPS, PEM: the server's first, then those that signed it.
    #[arg(long, value_name = "FILE", env = "NETBOOT_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    #[arg(long, value_name = "FILE", env = "NETBOOT_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Give out addresses and boot files, or boot files alone beside another DHCP server [default: full].
    #[arg(long, value_name = "MODE", env = "NETBOOT_MODE")]
    mode: Option<Mode>,
    /// How the XDP program is attached [default: auto].
    #[arg(long, value_name = "MODE", env = "NETBOOT_XDP")]
    xdp: Option<Xdp>,
    /// Addresses for unknown machines, may be repeated [default: .10-.250 of a /24, the same share of others].
    #[arg(long, value_name = "A-B", env = "NETBOOT_POOL", value_delimiter = ',')]
    pool: Vec<Range>,
}

impl From<Settings> for Given {
    fn from(settings: Settings) -> Self {
        let Settings {
            interface,
            trunk,
            vlan,
            state,
            http_port,
            tls_port,
            tls_cert,
            tls_key,
            mode,
            xdp,
            pool,
        } = settings;
        Self { interface, trunk, vlan, state, http_port, tls_port, tls_cert, tls_key, mode, xdp, pool }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people; coloured on a terminal unless NO_COLOR is set.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command};
    use crate::config::{Given, Mode, Xdp};

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_are_taken_as_typed() {
        let typed = "netboot serve --interface eth1 --data d --state s --http-port 81 --xdp off --mode proxy \
                     --trunk eth0 --vlan 100.90 --pool 10.0.0.1-10.0.0.2 --pool 10.0.0.8-10.0.0.9";
        let Command::Serve(serve) = Arguments::try_parse_from(typed.split_whitespace()).unwrap().command
        else {
            panic!("not serve");
        };
        assert_eq!(serve.data.to_str(), Some("d"));
        let given = Given::from(serve.settings);
        assert_eq!(
            (given.interface.as_deref(), given.http_port, given.xdp, given.mode),
            (Some("eth1"), Some(81), Some(Xdp::Off), Some(Mode::Proxy))
        );
        assert_eq!(
            (given.trunk.as_deref(), given.vlan.map(|vlan| vlan.to_string()).as_deref()),
            (Some("eth0"), Some("100.90"))
        );
        assert_eq!(
            given.pool.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.1-10.0.0.2", "10.0.0.8-10.0.0.9"]
        );
    }

    #[test]
    fn every_setting_has_its_variable() {
        let command = Arguments::command();
        for subcommand in command.get_subcommands() {
            let setting = |id: &str| {
                !["print", "quiet_wire", "json", "format", "waiting"].contains(&id)
                    && !["write", "all", "count", "seconds", "mac", "snaplen"].contains(&id)
            };
            for argument in subcommand.get_arguments().filter(|argument| setting(argument.get_id().as_str()))
            {
                let long = argument.get_long().unwrap_or("data");
                let expected = format!("NETBOOT_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(
                    argument.get_env().and_then(|name| name.to_str()),
                    Some(expected.as_str()),
                    "{long}"
                );
            }
        }
    }

    #[test]
    fn wrong_usage_is_code_2() {
        for typed in [
            "netboot",
            "netboot boot",
            "netboot serve --xdp fast",
            "netboot serve --mode half",
            "netboot serve --pool 1-2",
            "netboot serve --http-port 0",
            "netboot serve --vlan 4095",
        ] {
            assert_eq!(
                Arguments::try_parse_from(typed.split_whitespace()).unwrap_err().exit_code(),
                2,
                "{typed}"
            );
        }
    }
}
