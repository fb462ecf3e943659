//! The whole program: a machine that really boots begins a boot, and ends it; what is secret is in no log.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use xtask::lab::{Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, udhcpc};

const SECRET: &str = "correct-horse-battery";

#[test]
fn each_boot_has_its_secrets_and_its_end_with_xdp_and_without() {
    for xdp in ["generic", "off"] {
        let (lab, data) = (lab(), data(BLADE));
        let path = data.path().join("secrets/pw");
        fs::create_dir(data.path().join("secrets")).unwrap();
        fs::write(&path, SECRET).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(data.path().join("default.yaml"), "#cloud-config\npassword: $secret_pw\n").unwrap();
        fs::write(data.path().join("netboot.json"), r#"{"http": {"secret_reads": 2}}"#).unwrap();
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", xdp]).unwrap();
        let blade = client(&lab, "52:54:00:00:00:77");
        let offers = || server.steps().iter().filter(|step| step.text("reply") == "offer").count();
        let ask = |arguments: &str| {
            blade
                .shell(&format!("curl -s --max-time 10 -w ' %{{http_code}}' {arguments}"))
                .unwrap_or_else(|error| panic!("{error:#}\n{}", server.child().output()))
        };
        for boot in 1..=2 {
            let before = offers();
            blade.ip("addr flush dev eth0").unwrap();
            assert!(udhcpc(&blade, 5, &[]).contains("ip=192.168.90.77"), "boot {boot} with --xdp {xdp}");
            assert!(wait_for(SOON, || offers() > before), "{}", server.child().output());
            blade.ip("addr add 192.168.90.77/24 dev eth0").unwrap();
            for _ in 0..2 {
                assert_eq!(
                    ask("http://192.168.90.2:8080/"),
                    format!("#cloud-config\npassword: {SECRET}\n 200")
                );
            }
            let refused = ask("http://192.168.90.2:8080/");
            assert!(refused.ends_with("(http.secret_reads)\n 403"), "{refused}");
            assert_eq!(ask("-d hostname=blade77 http://192.168.90.2:8080/phone_home"), " 204");
            let ended =
                |step: &xtask::lab::Step| step.name() == "booted" && step.text("hostname") == "blade77";
            assert!(
                wait_for(SOON, || server.steps().iter().filter(|step| ended(step)).count() == boot),
                "{}",
                server.child().output()
            );
        }
        let shown = lab.server.shell("curl -s 'http://127.0.0.1:8080/?override_ipv4=192.168.90.77'").unwrap();
        assert_eq!(shown, "#cloud-config\npassword: ********\n");
        let hosts = lab.server.shell(&format!("{NETBOOT} hosts --data {}", data.path().display())).unwrap();
        assert!(hosts.contains(", up since "), "{hosts}");
        let log = server.stop().unwrap();
        assert!(log.contains("blade77 at 192.168.90.77 is up, ") && !log.contains(SECRET), "{log}");
    }
}
