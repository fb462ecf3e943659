//! The Vagrantfile says what Vagrant understands. Runs where vagrant is installed; it brings up no machine.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

#[test]
fn vagrant_takes_the_vagrantfile() {
    let home = TempDir::new().unwrap();
    let mut vagrant = Command::new("vagrant");
    // The providers' plug-ins and VirtualBox are not needed to read the file.
    vagrant.args(["validate", "--ignore-provider"]).current_dir(xtask::root().join("vagrant"));
    // What it writes goes beside the tests' other files, not into the source tree.
    vagrant.env("VAGRANT_HOME", home.path()).env("VAGRANT_DOTFILE_PATH", home.path().join("dotfile"));
    let output = match vagrant.output() {
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
            assert!(!Path::new("/usr/bin/vagrant").exists(), "vagrant is installed and cannot be started");
            writeln!(std::io::stderr(), "skipped: vagrant is not installed").unwrap();
            return;
        }
        Ok(output) => output,
    };
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("validated successfully"), "{text}");
}
