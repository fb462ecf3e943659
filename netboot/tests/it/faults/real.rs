//! Real clients read large files from the real program.

use std::time::{Duration, Instant};

use xtask::lab::{Child, SERVER_ADDR};

use super::cable::Faults;
use super::{ENGINES, Site, engine, pattern};

const MB: usize = 1_000_000;
/// For one client on a busy machine.
const WITHIN: Duration = Duration::from_mins(2);

/// Reads the file `image` of these bytes with a client, which leaves it in `got`.
fn read(site: &Site, content: &[u8], program: &str, arguments: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    let mut command = site.client.command(program);
    command.args(arguments).current_dir(out.path());
    let began = Instant::now();
    let mut child = Child::spawn(command).unwrap();
    let status = child.wait(WITHIN).unwrap();
    let took = began.elapsed();
    let said = child.output();
    assert!(status.success(), "{program} {arguments:?}: {said}");
    let got = std::fs::read(out.path().join("got")).unwrap();
    assert!(got == content, "{program} {arguments:?}: {} of {} bytes", got.len(), content.len());
    println!("{program} {arguments:?}: {} bytes in {took:?}", got.len());
}

/// Reads it with every client: lock-step with small and large blocks, and with windows. `curl`: its further options.
fn read_with_all(site: &Site, content: &[u8], curl: &[&str]) {
    let host = SERVER_ADDR.to_string();
    let url = format!("tftp://{host}/image");
    for window in ["windowsize 64", "windowsize 16", "tsize"] {
        let options = ["--option", "blksize 1428", "--option", window];
        let file = ["-g", "-r", "image", "-l", "got", &host];
        read(site, content, "atftp", &[&options[..], &file].concat());
    }
    read(site, content, "curl", &[curl, &["-sS", "-o", "got", &url]].concat());
    let busybox = ["tftp", "-g", "-b", "1428", "-r", "image", "-l", "got", &host];
    read(site, content, "busybox", &busybox);
    read(site, content, "tftp", &["-m", "binary", &host, "-c", "get", "image", "got"]);
}

/// Block numbers roll over once with blocks of 1,428 bytes and twice with those of 512. The whole takes 15 s an engine on two
/// processors that others use as well.
#[test]
fn real_clients_read_a_hundred_megabytes() {
    for name in ENGINES {
        let site = Site::new(&engine(name), &[]);
        let content = pattern(100 * MB);
        site.file("image", &content);
        read_with_all(&site, &content, &["--tftp-blksize", "1428"]);
    }
}

/// Half a megabyte, for those that wait some seconds before they ask again. curl without options: it asks for `timeout` 6 else,
/// and six seconds pass for each lost packet.
#[test]
fn real_clients_read_through_a_bad_cable() {
    let faults = Faults { lost: 10, doubled: 20, overtaken: 10, late: 5 };
    let site = Site::through(&engine(ENGINES[0]), &[], faults, 1);
    let content = pattern(MB / 2 + 1);
    site.file("image", &content);
    read_with_all(&site, &content, &["--tftp-no-options"]);
}
