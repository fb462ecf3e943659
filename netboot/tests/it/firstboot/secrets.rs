//! Secrets: whom they are told, and how often.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use netboot::mac::Mac;
use netboot::timeline::{By, Step};
use netboot_ebpf::Class;

use super::{OPERATOR, Rig, STRANGER};

const FILES: &[(&str, &str)] = &[
    ("default.yaml", "#cloud-config\npassword: $secret_pw\nnote: $note\n"),
    (
        "own.yaml.j2",
        "#cloud-config\npassword: {{ secret_pw | tojson }}\n{% for v in vars %}{{ v }} {% endfor %}\n",
    ),
    ("templates/none", "nothing of $hostname\n"),
    ("templates/bad.j2", "{% include secret_pw %}\n"),
    ("templates/only.j2", "{% if secret_pw == 's\"12' %}{% include secret_pw | upper %}{% endif %}\n"),
    ("secrets/pw", "for $all\n"),
    ("secrets/127.0.0.12/pw", "s\"12\n"),
];

fn mode(rig: &Rig, name: &str, mode: u32) {
    set_permissions(rig.dir.path().join(name), Permissions::from_mode(mode)).unwrap();
}

async fn started() -> Rig {
    let rig = Rig::start(FILES).await;
    for (name, _) in FILES.iter().filter(|(name, _)| Path::new(name).starts_with("secrets")) {
        mode(&rig, name, 0o600);
    }
    rig
}

fn offered(rig: &Rig, mac: [u8; 6], addr: [u8; 4]) {
    let (mac, addr, class, by) = (Mac(mac), addr.into(), Class::Bios, By::Xdp);
    rig.state.timeline.record(&Step::Dhcp {
        mac,
        addr,
        reply: "offer",
        class,
        by,
        relay: None,
        reserved: true,
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_for_its_machine_and_hidden_from_everybody_else() {
    let rig = started().await;
    assert_eq!(
        rig.get("127.0.0.1", "/").await,
        (200, "#cloud-config\npassword: for $all\nnote: $note\n".to_owned())
    );
    let own = "#cloud-config\npassword: \"s\\\"12\"\ndns fqdn hostname private_ipv4 who ";
    assert_eq!(rig.get("127.0.0.12", "/nocloud/user-data").await, (200, own.to_owned()));
    for path in
        ["/?override_ipv4=127.0.0.1", "/nocloud/52:54:00:00:00:01/user-data", "/?mac=52:54:00:00:00:12"]
    {
        let (status, text) = rig.get(OPERATOR, path).await;
        assert_eq!(status, 200, "{path}");
        assert!(text.contains("********") && !text.contains("for $all") && !text.contains("12\""), "{text}");
    }
    assert!(!rig.get(STRANGER, "/").await.1.contains("for $all"));
    assert!(!rig.get("127.0.0.12", "/?override_ipv4=127.0.0.1").await.1.contains("for $all"));
    // Nor over TFTP's files, nor by what goes wrong with it.
    assert_eq!(rig.get("127.0.0.1", "/tftp/..%2fsecrets%2fpw").await.0, 403);
    let (status, text) = rig.get("127.0.0.12", "/t/bad").await;
    assert_eq!(status, 500);
    let why = "template templates/bad.j2, line 1: `********` is no template";
    assert!(text.contains(why) && !text.contains("12"), "{text}");
    offered(&rig, [0x52, 0x54, 0, 0, 0, 0x12], [127, 0, 0, 12]);
    let (status, text) = rig.get("127.0.0.12", "/t/only").await;
    let why = "#cloud-config\n# template templates/only.j2: it fails with the secrets of this machine\n";
    assert_eq!((status, text.as_str()), (500, why));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_read_so_often_a_boot_and_no_more() {
    let rig = started().await;
    let why =
        "#cloud-config\n# the secrets of 127.0.0.1 were read 3 times since it booted (http.secret_reads)\n";
    for round in 0..3 {
        for _ in 0..3 {
            assert_eq!(rig.get("127.0.0.1", "/").await.0, 200);
            // What has none in it does not count, nor does a preview.
            assert_eq!(rig.get("127.0.0.1", "/t/none").await.0, 200);
            assert_eq!(rig.get(OPERATOR, "/?override_ipv4=127.0.0.1").await.0, 200);
        }
        assert_eq!(rig.get("127.0.0.1", "/").await, (403, why.to_owned()), "round {round}");
        assert_eq!(rig.get("127.0.0.1", "/?override_ipv4=127.0.0.1").await.0, 403);
        assert_eq!(rig.get("127.0.0.1", "/t/none").await.0, 200);
        // Another machine's boot is its own.
        offered(&rig, [0x52, 0x54, 0, 0, 0, 0x12], [127, 0, 0, 12]);
        assert_eq!(rig.get("127.0.0.12", "/").await.0, 200);
        assert_eq!(rig.get("127.0.0.1", "/").await.0, 403);
        offered(&rig, [0x52, 0x54, 0, 0, 0, 1], [127, 0, 0, 1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_others_can_read_is_refused_with_what_to_do() {
    let rig = started().await;
    mode(&rig, "secrets/pw", 0o640);
    let why = "#cloud-config\n# template default.yaml: secrets/pw can be read by others than its owner: chmod 600\n";
    assert_eq!(rig.get("127.0.0.1", "/").await, (500, why.to_owned()));
    assert_eq!(rig.get("127.0.0.12", "/").await.0, 200, "it has its own");
    rig.state.inventory.reload();
    let problems = rig.state.inventory.problems();
    assert!(problems.iter().any(|problem| problem.message.contains("can be read by others")), "{problems:?}");
    // Without a file nothing is known, and the name stays in the text.
    std::fs::remove_file(rig.dir.path().join("secrets/pw")).unwrap();
    assert!(rig.get("127.0.0.1", "/").await.1.contains("password: $secret_pw\n"));
}
