//! Real clients read large files from the real program.

use std::time::{Duration, Instant};

use xtask::lab::{Child, SERVER_ADDR};

use super::{ENGINES, Site, engine, pattern};

const MB: usize = 1_000_000;
/// For one client on a busy machine.
const WITHIN: Duration = Duration::from_secs(120);

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

#[test]
fn measure() {
    let host = SERVER_ADDR.to_string();
    let url = format!("tftp://{host}/image");
    for name in ENGINES {
        let site = Site::new(&engine(name), &[]);
        let content = pattern(100 * MB);
        site.file("image", &content);
        read(
            &site,
            &content,
            "atftp",
            &[
                "--option",
                "blksize 1428",
                "--option",
                "windowsize 64",
                "-g",
                "-r",
                "image",
                "-l",
                "got",
                &host,
            ],
        );
        read(
            &site,
            &content,
            "atftp",
            &[
                "--option",
                "blksize 1428",
                "--option",
                "windowsize 16",
                "-g",
                "-r",
                "image",
                "-l",
                "got",
                &host,
            ],
        );
        read(
            &site,
            &content,
            "atftp",
            &["--option", "blksize 1428", "-g", "-r", "image", "-l", "got", &host],
        );
        read(&site, &content, "curl", &["-sS", "--tftp-blksize", "1428", "-o", "got", &url]);
        read(&site, &content, "busybox", &["tftp", "-g", "-b", "1428", "-r", "image", "-l", "got", &host]);
        read(&site, &content, "tftp", &["-m", "binary", &host, "-c", "get", "image", "got"]);
    }
}
