//! A VLAN whose tag XDP matches on the trunk, while everything else is on the VLAN's own interface. That one is the lab's, in
//! user space: the kernels of test machines do not always have 802.1Q.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use xtask::lab::{Lab, Namespace, Server, Trunk, Vlan, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, status, udhcpc, value};
use crate::life::kill;
use crate::wire::uninterrupted;

/// Each try of what may be lost.
const MOMENT: Duration = Duration::from_millis(200);
const RESERVED: &str = "52:54:00:00:00:77";

/// A server in trunk mode.
fn serve(lab: &Lab, trunk: &Trunk, data: &Path, vlan: &str) -> Server {
    let arguments = ["--trunk", "pxe0", "--vlan", vlan];
    Server::start_on(&trunk.interface, lab, Path::new(NETBOOT), data, &arguments).unwrap()
}

fn rxvlan(lab: &Lab) -> bool {
    lab.server.shell("ethtool -k pxe0").unwrap().contains("rx-vlan-offload: on")
}

/// Who has answered this machine.
fn answered(server: &Server, mac: &str) -> Vec<(String, String)> {
    let steps = server.steps().into_iter();
    let own = steps.filter(|step| step.name() == "dhcp" && step.text("mac") == mac);
    own.map(|step| (step.text("reply").to_owned(), step.text("by").to_owned())).collect()
}

/// Sends datagrams from one to the other until one is there.
fn reaches(from: &Namespace, to: &Namespace, length: usize) -> bool {
    let receiver = to.inside(|| UdpSocket::bind("192.168.90.2:7777")).unwrap().unwrap();
    receiver.set_read_timeout(Some(MOMENT)).unwrap();
    let sender = from.inside(|| UdpSocket::bind("192.168.90.50:0")).unwrap().unwrap();
    let mut buffer = vec![0; 2048];
    wait_for(SOON, || {
        sender.send_to(&vec![7; length], "192.168.90.2:7777").unwrap();
        uninterrupted(|| receiver.recv(&mut buffer)).is_ok_and(|received| received == length)
    })
}

#[test]
fn the_labs_vlan_carries_whole_frames_of_its_tags_alone() {
    for tags in [&[90][..], &[100, 90]] {
        let lab = lab();
        let trunk = lab.trunk(tags).unwrap();
        let other = Vlan::start(&lab.server, "pxe0", "pxe0.91", &[91]).unwrap();
        let machine = client(&lab, RESERVED);
        machine.ip("addr add 192.168.90.50/24 dev eth0").unwrap();
        // As much as an MTU of 1500 holds.
        assert!(reaches(&machine, &lab.server, 1472), "{trunk:?}");
        assert!(trunk.own.received() > 0 && trunk.own.sent() > 0, "{trunk:?}");
        assert_eq!(trunk.own.others(), 0, "{trunk:?}");
        assert!(wait_for(SOON, || other.others() > 0) && other.received() == 0, "{other:?}");
        drop(trunk);
        assert!(lab.server.ip("link show").unwrap().contains("pxe0.91"));
        drop(other);
        assert!(!lab.server.ip("link show").unwrap().contains("pxe0."), "gone with their values");
    }
}

#[test]
fn xdp_answers_on_the_trunk_and_the_rest_is_served_over_the_vlans_own_interface() {
    let (lab, data) = (lab(), data(BLADE));
    std::fs::write(data.path().join("tftp/file"), "over the VLAN").unwrap();
    let trunk = lab.trunk(&[90]).unwrap();
    assert!(rxvlan(&lab));
    // What the server says in the VLAN, with its tag and Ethernet addresses.
    let arguments =
        ["-i", "uplink", "-Q", "in", "-n", "-e", "-l", "--immediate-mode", "vlan 90 and udp src port 67"];
    let heard = lab.switch.spawn("tcpdump", &arguments).unwrap();
    heard.wait_line("listening on", SOON).unwrap();
    let server = serve(&lab, &trunk, data.path(), "90");
    assert_eq!(
        status(&lab)["xdp"],
        "generic (on the trunk pxe0 for VLAN 90; pxe0 is a veth interface)",
        "{}",
        server.child().output()
    );
    assert!(lab.server.ip("-d link show pxe0").unwrap().contains("xdpgeneric"));
    assert!(!lab.server.ip("-d link show pxe0.90").unwrap().contains("xdp"));
    assert!(!rxvlan(&lab), "{}", server.child().output());
    assert!(server.child().output().contains("rxvlan is off on pxe0 as long as XDP is attached"));

    let machine = client(&lab, RESERVED);
    let told = udhcpc(&machine, 5, &[]);
    for (name, expected) in [("ip", "192.168.90.77"), ("hostname", "blade77"), ("serverid", "192.168.90.2")] {
        assert_eq!(value(&told, name), expected, "{told}");
    }
    let by_xdp = || {
        let answers = answered(&server, RESERVED);
        answers.iter().any(|(reply, _)| reply == "ack") && answers.iter().all(|(_, by)| by == "xdp")
    };
    assert!(wait_for(SOON, by_xdp), "{:?}", answered(&server, RESERVED));
    let own = lab.server.ip("-o link show pxe0.90").unwrap();
    let own = &own.split_once("link/ether ").unwrap().1[..17];
    let reply = heard.wait_line(" vlan 90,", SOON).unwrap();
    assert!(reply.contains(&format!("{own} > ")), "from {own}: {reply}");

    machine.ip("addr add 192.168.90.77/24 dev eth0").unwrap();
    let fetched = |url: &str| machine.shell(&format!("curl -s --max-time 10 {url}")).unwrap();
    assert_eq!(
        fetched("http://192.168.90.2:8080/"),
        "#cloud-config\nhostname: blade77\naddr: 192.168.90.77\n"
    );
    assert_eq!(fetched("tftp://192.168.90.2/file"), "over the VLAN");

    let stranger = "52:54:00:00:01:01";
    let told = udhcpc(&client(&lab, stranger), 5, &[]);
    let address: std::net::Ipv4Addr = value(&told, "ip").parse().unwrap();
    assert!((10..=250).contains(&address.octets()[3]) && address.octets()[3] != 77, "{told}");
    assert!(answered(&server, stranger).contains(&("ack".to_owned(), "daemon".to_owned())));

    let log = server.stop().unwrap();
    assert!(rxvlan(&lab), "{log}");
    assert!(log.contains("rxvlan is on again"), "{log}");
    assert!(!lab.server.ip("-d link show pxe0").unwrap().contains("xdp"));
}

#[test]
fn the_offload_stays_off_over_a_hand_over_and_a_kill_and_is_put_right_by_the_last() {
    let (lab, data) = (lab(), data(BLADE));
    let trunk = lab.trunk(&[90]).unwrap();
    assert!(rxvlan(&lab));
    let log = serve(&lab, &trunk, data.path(), "90").hand_over().unwrap();
    assert!(!rxvlan(&lab), "{log}");
    let second = serve(&lab, &trunk, data.path(), "90");
    assert!(!rxvlan(&lab));
    kill(second);
    assert!(!rxvlan(&lab));
    let log = serve(&lab, &trunk, data.path(), "90").stop().unwrap();
    assert!(rxvlan(&lab), "{log}");
    // Who takes the program off puts it right, too.
    drop(serve(&lab, &trunk, data.path(), "90").hand_over().unwrap());
    let arguments = ["--trunk", "pxe0", "--vlan", "90", "--xdp", "off"];
    let off = Server::start_on(&trunk.interface, &lab, Path::new(NETBOOT), data.path(), &arguments).unwrap();
    assert!(rxvlan(&lab), "{}", off.child().output());
    off.stop().unwrap();
}

#[test]
fn a_machine_with_two_tags_is_served() {
    let (lab, data) = (lab(), data(BLADE));
    let trunk = lab.trunk(&[100, 90]).unwrap();
    let server = serve(&lab, &trunk, data.path(), "100.90");
    let told = udhcpc(&client(&lab, RESERVED), 5, &[]);
    assert_eq!(value(&told, "ip"), "192.168.90.77", "{told}{}", server.child().output());
    assert!(status(&lab)["xdp"].as_str().unwrap().contains("on the trunk pxe0 for VLAN 100.90"));
    let by_xdp = || {
        let answers = answered(&server, RESERVED);
        answers.iter().any(|(reply, _)| reply == "ack") && answers.iter().all(|(_, by)| by == "xdp")
    };
    assert!(wait_for(SOON, by_xdp), "{:?}", answered(&server, RESERVED));
    server.stop().unwrap();
}

#[test]
fn a_trunk_that_is_not_there_is_no_reason_not_to_serve() {
    let (lab, data) = (lab(), data(BLADE));
    let trunk = lab.trunk(&[90]).unwrap();
    let arguments = ["--trunk", "eth9", "--vlan", "90"];
    let server =
        Server::start_on(&trunk.interface, &lab, Path::new(NETBOOT), data.path(), &arguments).unwrap();
    let why = "XDP cannot be attached to eth9: there is no such interface (`ip link` lists";
    assert!(server.child().output().contains(why), "{}", server.child().output());
    let told = status(&lab)["xdp"].as_str().unwrap().to_owned();
    assert!(told.starts_with("off (") && told.contains(why), "{told}");
    let told = udhcpc(&client(&lab, RESERVED), 5, &[]);
    assert_eq!(value(&told, "ip"), "192.168.90.77");
    assert!(answered(&server, RESERVED).iter().all(|(_, by)| by == "daemon"));
    assert!(rxvlan(&lab));
    server.stop().unwrap();
}

#[test]
fn native_on_a_veth_is_done_and_warned_of() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "native"]).unwrap();
    let log = server.child().output();
    let warning = log.lines().find(|line| line.contains("\"WARN\"") && line.contains("replies are lost"));
    assert!(warning.is_some_and(|line| line.contains("auto")), "{log}");
    let told = status(&lab)["xdp"].as_str().unwrap().to_owned();
    assert!(told.starts_with("native (pxe0 is a veth interface: replies are lost"), "{told}");
    server.stop().unwrap();
}

/// A command of netboot in the server's namespace: its exit code, and what it printed, problems first.
fn netboot(namespace: &Namespace, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command: Command = namespace.command(NETBOOT);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"NETBOOT_") {
            command.env_remove(name);
        }
    }
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stderr) + &text(&output.stdout))
}

#[test]
fn trunk_and_vlan_go_together_or_are_refused_with_what_to_write() {
    let (namespace, data) = (Namespace::new("server").unwrap(), data(BLADE));
    let directory = data.path().to_str().unwrap();
    let serve = |arguments: &[&str]| {
        netboot(&namespace, &[&["serve", "--data", directory, "--interface", "eth1.90"], arguments].concat())
    };
    for (arguments, message) in [
        (&["--trunk", "eth1"][..], "netboot.json: `trunk` is \"eth1\", and `vlan` does not say which"),
        (&["--vlan", "90"], "--interface eth1.90 --trunk eth1 --vlan 90"),
        (&["--trunk", "eth1.90", "--vlan", "90"], "`trunk` and `interface` are both \"eth1.90\""),
        (&["--trunk", "eth1", "--vlan", "4095"], "`4095` is not a VLAN; write its number, from 1 to 4094"),
    ] {
        let (code, said) = serve(arguments);
        // The terminal's frames and line breaks are not part of it.
        let said = said.replace(['\n', '│'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(code == Some(2) && said.contains(message), "{arguments:?}: {said}");
    }
    let file = data.path().join("netboot.json");
    std::fs::write(&file, "{\n  \"interface\": \"eth1.90\",\n  \"vlan\": \"100.90\"\n}").unwrap();
    let (code, said) = netboot(&namespace, &["check", directory]);
    assert!(code == Some(2) && said.contains("netboot.json:3:11: `vlan` is 100.90"), "{said}");
    let (code, said) = netboot(&namespace, &["check", directory, "--print", "--trunk", "eth1"]);
    assert!(code == Some(0), "{said}");
    let start = said.find("{\n").unwrap();
    let settings: serde_json::Value = serde_json::from_str(&said[start..]).unwrap();
    assert_eq!((&settings["trunk"], &settings["vlan"]), (&"eth1".into(), &"100.90".into()));
}

#[test]
fn doctor_looks_at_the_trunk() {
    let (lab, data) = (lab(), data(BLADE));
    let trunk = lab.trunk(&[90]).unwrap();
    let directory = data.path().to_str().unwrap();
    let doctor = |name: &str| {
        let arguments = ["doctor", "--data", directory, "--quiet-wire", "--vlan", "90", "--trunk", name];
        netboot(&lab.server, &[&arguments[..], &["--interface", &trunk.interface]].concat())
    };
    let holds = |said: &str, state: &str, check: &str, message: &str| {
        let begins = format!("{state:<8} {check} ");
        let found = said.lines().any(|line| line.starts_with(&begins) && line.contains(message));
        assert!(found, "{begins}{message}: {said}");
    };
    let (code, said) = doctor("pxe0");
    assert_eq!(code, Some(0), "{said}");
    holds(&said, "ok", "interface", "pxe0.90 is up");
    holds(&said, "ok", "trunk", "pxe0 carries VLAN 90");
    holds(&said, "ok", "xdp", "generic: pxe0 is a veth interface");
    holds(&said, "ok", "rxvlan", "ethtool -K pxe0 rxvlan off");
    assert!(rxvlan(&lab), "it changes nothing");
    let (code, said) = doctor("eth9");
    assert_eq!(code, Some(0), "{said}");
    holds(&said, "warning", "trunk", "there is no interface eth9: XDP would be off");
    let server = serve(&lab, &trunk, data.path(), "90");
    let (_, said) = doctor("pxe0");
    holds(&said, "ok", "xdp", "the running netboot says: generic (on the trunk pxe0 for VLAN 90");
    holds(&said, "ok", "rxvlan", "stay on");
    server.stop().unwrap();
}
