//! `dhcpd.conf` as it is found in the field.

use std::path::Path;

use proptest::prelude::*;

use super::hosts;

fn read(text: &str) -> (Vec<String>, Vec<String>) {
    let found = hosts(Path::new("f"), text);
    let host = |host: &crate::import::Host| {
        format!("{} {} {}", host.mac, host.addr, host.hostname.as_deref().unwrap_or("-"))
    };
    (found.hosts.iter().map(host).collect(), found.problems.iter().map(ToString::to_string).collect())
}

const CONFIGURATION: &str = r#"# dhcpd.conf of the rack
option domain-name "rack.example"; option domain-name-servers 10.0.0.1, 10.0.0.2;
authoritative;
option arch code 93 = unsigned integer 16; # RFC 4578
key "rndc" { algorithm hmac-md5; secret "x{y;\"}"; };

class "pxe" {
  match if substring (option vendor-class-identifier, 0, 9) = "PXEClient";
  if option arch = 00:07 { filename "grubx64.efi"; } elsif option arch = 00:00 { filename "pxelinux.0"; }
  else { log(info, "odd"); }
}

include "/etc/dhcp/more.conf";

shared-network rack {
  subnet 10.0.0.0 netmask 255.255.255.0 {
    pool { range 10.0.0.100 10.0.0.199; deny members of "pxe"; }
    group {
      next-server 10.0.0.1;
      host blade2 { hardware ethernet 52:54:00:00:00:02; fixed-address 10.0.0.2; }
      host blade3 {
        # host blade99 { }
        Hardware Ethernet 52:54:0:AB:CD:3;
        fixed-address 10.0.0.3, 10.0.1.3;
        option host-name "b3.rack.example";
        filename "special.0"; option root-path "/srv";
        if known { next-server 10.0.0.9; }
      }
    }
  }
}
host "blade4" { fixed-address 10.0.0.4; hardware ethernet 52:54:00:00:00:04; filename "x"; }
host nowhere { hardware ethernet 52:54:00:00:00:05; }
host named { hardware ethernet 52:54:00:00:00:06; fixed-address blade6.rack.example; }
host ring { hardware token-ring 52:54:00:00:00:07; fixed-address 10.0.0.7; }
host byid { host-identifier option dhcp-client-identifier "x"; fixed-address 10.0.0.8; }
host gone { dynamic; deleted; }
"#;

#[test]
fn reads_a_configuration() {
    let (hosts, said) = read(CONFIGURATION);
    assert_eq!(
        hosts,
        [
            "52:54:00:00:00:02 10.0.0.2 blade2",
            "52:54:00:ab:cd:03 10.0.0.3 b3.rack.example",
            "52:54:00:00:00:04 10.0.0.4 blade4",
        ]
    );
    let expected = [
        "f:13:1: warning: this file is not read: `include` is not followed;",
        "f:33:1: warning: this machine is left out: it has no `fixed-address`;",
        "f:34:1: warning: this machine is left out: its `fixed-address` is a name, not an address;",
        "f:35:1: warning: this machine is left out: it is no Ethernet machine;",
        "f:36:1: warning: this machine is left out: it has no `hardware ethernet`;",
        "f:37:1: warning: this machine is left out: it was deleted;",
        "f:37:13: warning: `dynamic` of a machine is not taken over (once in this file);",
        "f:26:9: warning: `filename` of a machine is not taken over (2 times in this file);",
        "f:36:13: warning: `host-identifier` of a machine",
        "f:26:31: warning: `option root-path` of a machine",
        "f:24:33: warning: `second fixed-address` of a machine",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\nis not\n{expected}");
    }
}

#[test]
fn mistakes_have_their_place() {
    let table = [
        (
            "host a {\n  hardware ethernet 52:54:zz;\n  fixed-address 10.0.0.1;\n}",
            "f:2:21: `52:54:zz` is not a MAC address; write six",
        ),
        ("host a { fixed-address 10.0.0.1;", "f:1:8: this block is never closed; close it with }"),
        ("host a { fixed-address 10.0.0.1 }", "f:1:10: this statement has no end; end it with ;"),
        ("subnet x {\n } }", "f:2:4: this closes nothing;"),
        ("authoritative", "f:1:1: this statement has no end;"),
        ("option x \"abc;\n", "f:1:10: this string is never closed;"),
    ];
    for (text, expected) in table {
        let (hosts, said) = read(text);
        assert!(hosts.is_empty(), "{text}");
        assert!(said.len() == 1 && said[0].starts_with(expected), "{text}: {said:?}");
    }
    assert_eq!(read(""), (vec![], vec![]));
}

proptest! {
    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = hosts(Path::new("f"), &text);
    }

    #[test]
    fn never_panics_near_the_truth(
        text in "(host |hardware |ethernet |52:54:00:00:00:01|fixed-address |10[.]0[.]0[.]1|option |host-name |[{};,\"\\\\#é \n]){0,40}"
    ) {
        let _ = hosts(Path::new("f"), &text);
    }
}
