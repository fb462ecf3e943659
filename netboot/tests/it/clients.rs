//! DHCP clients that know nothing of each other, against the real daemon: each gets an address, renews it, gives it back and
//! gets it again, from the pool and by reservation, with XDP and without.
//!
//! None of them leaves its namespace: udhcpc and dhclient call a script of the test instead of their own; dhcpcd, which is
//! unpacked and not installed, and systemd-networkd see a /run and a /var/lib of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use xtask::lab::{Child, Lab, Namespace, Server, wait_for};
use xtask::packages::DHCPCD;

use crate::daemon::{BLADE, NETBOOT, SOON, data, lab, status};

/// What udhcpc and dhclient call with each event: sets the address, and nothing else on this machine.
const SCRIPT: &str = "#!/bin/sh\n\
    case \"$1$reason\" in\n\
    bound|renew) ip address replace \"$ip/24\" dev \"$interface\";;\n\
    BOUND|RENEW|REBIND|REBOOT) ip address replace \"$new_ip_address/24\" dev \"$interface\";;\n\
    deconfig|RELEASE|EXPIRE|STOP) ip address flush dev \"$interface\";;\n\
    esac\n";

/// Makes the file systems that a client sees instead of the machine's, and keeps them. It ends by itself, should the test be
/// killed. systemd-networkd takes a /sys that it cannot write for that of a container, and does not wait for udev.
const MOUNTS: &str = "mount -t tmpfs run /run && mount -t tmpfs lib /var/lib && mkdir /var/lib/dhcpcd && \
    mount -t sysfs -o ro sys /sys && mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases && \
    chown -R systemd-network /run/systemd/netif && \
    printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\n' >/run/systemd/network/eth0.network && \
    echo mounted && exec sleep 300";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Udhcpc,
    Dhclient,
    Dhcpcd,
    Networkd,
}

/// A client on a machine of its own.
struct Client {
    kind: Kind,
    machine: Namespace,
    place: TempDir,
    /// Holds the file systems that it sees.
    mounts: Option<Child>,
    running: Option<Child>,
}

impl Client {
    fn new(kind: Kind, lab: &Lab, mac: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("script");
        fs::write(&script, SCRIPT).unwrap();
        assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
        let machine = crate::daemon::client(lab, mac);
        let mounts = [Kind::Dhcpcd, Kind::Networkd].contains(&kind).then(|| {
            let holder = machine.spawn("unshare", &["--mount", "sh", "-c", MOUNTS]).unwrap();
            holder.wait_line("mounted", SOON).unwrap();
            holder
        });
        Self { kind, machine, place, mounts, running: None }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The program with these arguments and all that tells it where it is.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.kind {
            Kind::Udhcpc => {
                let mut command = self.machine.command("udhcpc");
                command.args(["-i", "eth0", "-A", "1", "-T", "1", "-t", "5", "-s"]).arg(self.file("script"));
                command
            }
            Kind::Dhclient => {
                let mut command = self.machine.command("dhclient");
                command.args(["-4", "-v", "-cf", "/dev/null", "-sf"]).arg(self.file("script"));
                command.arg("-lf").arg(self.file("leases")).arg("-pf").arg(self.file("pid"));
                command
            }
            Kind::Dhcpcd => {
                let mut command = self.mounted();
                command.arg(DHCPCD.file("usr/sbin/dhcpcd").unwrap());
                // No address of its own making, no probe before it takes one, no hooks, no udev.
                command.args(["-4", "-L", "-A", "--nodev", "-f", "/dev/null", "-c", "/bin/true"]);
                command
            }
            Kind::Networkd => {
                let mut command = self.mounted();
                command.arg("/lib/systemd/systemd-networkd");
                command
            }
        };
        command.args(arguments);
        // The others know their interface by now.
        if [Kind::Dhclient, Kind::Dhcpcd].contains(&self.kind) {
            command.arg("eth0");
        }
        command
    }

    /// A command that sees the file systems of its own.
    fn mounted(&self) -> Command {
        let mut command = self.machine.command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.mounts.as_ref().unwrap().pid()));
        command
    }

    /// Starts it; it stays in the foreground.
    fn start(&mut self) {
        let arguments: &[&str] = match self.kind {
            Kind::Udhcpc => &["-f"],
            Kind::Dhclient => &["-d"],
            Kind::Dhcpcd => &["-B"],
            Kind::Networkd => &[],
        };
        self.running = Some(Child::spawn(self.command(arguments)).unwrap());
    }

    /// Asks for the address that it has once more.
    fn renew(&mut self) {
        match self.kind {
            Kind::Udhcpc => self.running.as_ref().unwrap().signal("USR1").unwrap(),
            // Has no other way than to be started again: INIT-REBOOT with what is in its file.
            Kind::Dhclient => {
                self.running = None;
                self.start();
            }
            Kind::Dhcpcd => self.run(&["-N"]),
            // Takes what it had once more when its cable is plugged in again: INIT-REBOOT, too.
            Kind::Networkd => {
                self.machine.ip("link set eth0 down").unwrap();
                let off = || self.said().contains("DHCP lease lost");
                assert!(wait_for(SOON, off), "{}", self.said());
                self.machine.ip("link set eth0 up").unwrap();
            }
        }
    }

    /// Gives the address back, and ends.
    fn release(&mut self) {
        match self.kind {
            Kind::Udhcpc => self.running.as_ref().unwrap().signal("USR2").unwrap(),
            Kind::Dhclient => self.run(&["-r"]),
            Kind::Dhcpcd => self.run(&["-k"]),
            // Keeps the address, for it means to come back.
            Kind::Networkd => {
                let mut running = self.running.take().unwrap();
                running.signal("TERM").unwrap();
                running.wait(SOON).unwrap();
                self.machine.ip("address flush dev eth0").unwrap();
            }
        }
        let gone = || !self.machine.ip("-4 -o address show dev eth0").unwrap().contains("inet");
        assert!(wait_for(SOON, gone), "{}", self.said());
        self.running = None;
    }

    /// Runs it with these arguments to its end.
    fn run(&self, arguments: &[&str]) {
        let mut child = Child::spawn(self.command(arguments)).unwrap();
        let status = child.wait(SOON).unwrap();
        assert!(status.success(), "{arguments:?}: {status}; {}", child.output());
    }

    fn has(&self, addr: &str) -> bool {
        self.machine.ip("-4 -o address show dev eth0").unwrap().contains(&format!("inet {addr}/24"))
    }

    fn said(&self) -> String {
        self.running.as_ref().map(Child::output).unwrap_or_default()
    }
}

/// The ACKs that a machine got: address, and who answered.
fn acks(server: &Server, mac: &str) -> Vec<(String, String)> {
    let steps = server.steps();
    let own = steps.iter().filter(|step| step.text("mac") == mac && step.text("reply") == "ack");
    own.map(|step| (step.text("addr").to_owned(), step.text("by").to_owned())).collect()
}

fn gets_renews_and_gives_back(kind: Kind) {
    for xdp in ["auto", "off"] {
        let (lab, data) = (lab(), data(BLADE));
        let server =
            Server::start(&lab, std::path::Path::new(NETBOOT), data.path(), &["--xdp", xdp]).unwrap();
        for mac in ["52:54:00:00:00:77", "52:54:00:00:05:01"] {
            let reserved = mac.ends_with("77");
            let mut client = Client::new(kind, &lab, mac);
            let wait_acks = |client: &Client, count: usize| {
                let enough = wait_for(SOON, || acks(&server, mac).len() >= count);
                let client = client.said();
                assert!(
                    enough,
                    "{kind:?} {mac} --xdp {xdp}, ACK {count}: {client}\n{}",
                    server.child().output()
                );
            };
            client.start();
            wait_acks(&client, 1);
            let (addr, by) = acks(&server, mac).remove(0);
            assert_eq!(by, if reserved && xdp == "auto" { "xdp" } else { "daemon" });
            assert!(!reserved || addr == "192.168.90.77", "{addr}");
            assert!(wait_for(SOON, || client.has(&addr)), "{}", client.said());
            client.renew();
            wait_acks(&client, 2);
            assert!(wait_for(SOON, || client.has(&addr)), "{}", client.said());

            let released = || status(&lab)["counters"]["dhcp"]["release"].as_u64().unwrap_or_default();
            client.release();
            // A reservation is not given back.
            assert!(wait_for(SOON, || released() == u64::from(!reserved)), "{}", status(&lab));
            let before = acks(&server, mac).len();
            client.start();
            wait_acks(&client, before + 1);
            assert!(wait_for(SOON, || client.has(&addr)), "{}", client.said());
            assert!(acks(&server, mac).iter().all(|(other, _)| *other == addr), "{:?}", acks(&server, mac));
        }
        server.stop().unwrap();
    }
}

#[test]
fn udhcpc_gets_renews_and_gives_back() {
    gets_renews_and_gives_back(Kind::Udhcpc);
}

#[test]
fn dhclient_gets_renews_and_gives_back() {
    gets_renews_and_gives_back(Kind::Dhclient);
}

#[test]
fn dhcpcd_gets_renews_and_gives_back() {
    gets_renews_and_gives_back(Kind::Dhcpcd);
}

#[test]
fn systemd_networkd_gets_renews_and_gives_back() {
    gets_renews_and_gives_back(Kind::Networkd);
}
