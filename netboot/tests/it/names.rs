//! Names that must not be served, whichever road they come by: TFTP and HTTP are asked for the same ones.

use std::path::Path;

/// What must become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// TFTP: code 1. HTTP: 404.
    NotFound,
    /// TFTP: code 2. HTTP: 403.
    Refused,
}

/// Makes a secret in a data directory, and in one of its folders what leads there or is no regular file. Returns the names.
pub(crate) fn lay(data: &Path, folder: &str) -> Vec<(String, Answer)> {
    use Answer::{NotFound, Refused};
    std::fs::write(data.join("secret"), "secret").unwrap();
    let root = data.join(folder);
    std::fs::create_dir_all(root.join("directory")).unwrap();
    std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
    std::os::unix::fs::symlink(data, root.join("out")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(made.success());
    let names = [
        ("../secret", Refused),
        ("..\\secret", Refused),
        ("directory/../../secret", Refused),
        ("directory/../link", Refused),
        ("/../secret", Refused),
        ("%2e%2e/secret", NotFound),
        ("..%2fsecret", NotFound),
        ("..;/secret", NotFound),
        ("/etc/passwd", NotFound),
        ("link", Refused),
        ("./link", Refused),
        ("out/secret", Refused),
        ("magic", Refused),
        ("fifo", Refused),
        ("directory", Refused),
        ("directory/", Refused),
        ("/", Refused),
        ("..", Refused),
        (".", Refused),
        ("a\x1b[2Jb", Refused),
        ("link\r\nx", Refused),
    ];
    let absolute = data.join("secret").to_str().unwrap().to_owned();
    let names = names.into_iter().map(|(name, answer)| (name.to_owned(), answer));
    names.chain([(absolute, NotFound)]).collect()
}
