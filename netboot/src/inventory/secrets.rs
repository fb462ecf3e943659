//! Secrets of the machines: files in `secrets/` of the data directory, or in `secrets/<address>/` for one machine, that only
//! their owner may read. A template says `$secret_<name>`.
//!
//! Who may have one, and how often, is not decided here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Host, Snapshot};
use crate::beneath::{self, Opened, Refused};
use crate::config::problem::{Problem, Severity};

/// Where they are, in the data directory.
pub const DIRECTORY: &str = "secrets";
/// How the names of such variables begin.
const PREFIX: &str = "secret_";
/// The same in plain text.
const VARIABLE: &str = "$secret_";
/// The largest one, bytes.
const LARGEST: u64 = 64 << 10;
/// Who else than the owner.
const OTHERS: u32 = 0o077;

/// Whether a variable is a secret by its name, with its `$` or without.
pub fn is(name: &str) -> bool {
    name.strip_prefix('$').unwrap_or(name).starts_with(PREFIX)
}

/// Whether a text in plain text says one.
pub(super) fn are_in(text: &str) -> bool {
    text.contains(VARIABLE)
}

/// The name of a secret's file.
pub(super) fn file(name: &str) -> &str {
    let name = name.strip_prefix('$').unwrap_or(name);
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// The secrets that a machine has, as `secret_<name>`: by their files, and by variables of that name in the hosts file.
pub(super) fn names(data: &Path, host: &Host, known: &BTreeMap<&str, Cow<'_, str>>) -> BTreeSet<String> {
    let root = data.join(DIRECTORY);
    let files = files(&root).into_iter().chain(files(&root.join(host.addr.to_string())));
    let files = files.filter(|name| is_name(name)).map(|name| format!("{PREFIX}{name}"));
    let written = known.keys().filter(|name| is(name)).filter_map(|name| name.strip_prefix('$'));
    files.chain(written.map(str::to_owned)).collect()
}

/// The names of all files of secrets, read once for all machines.
pub(super) struct Listed {
    all: Vec<String>,
    own: BTreeMap<Ipv4Addr, Vec<String>>,
}

impl Listed {
    pub(super) fn read(data: &Path) -> Self {
        let root = data.join(DIRECTORY);
        let all = files(&root);
        let addrs = all.iter().filter_map(|name| name.parse().ok());
        let own = addrs.map(|addr: Ipv4Addr| (addr, files(&root.join(addr.to_string())))).collect();
        Self { all, own }
    }

    /// A machine's own.
    pub(super) fn of(&self, addr: Ipv4Addr) -> Option<&Vec<String>> {
        self.own.get(&addr)
    }

    /// The variables that a machine has by these files.
    pub(super) fn names(&self, addr: Ipv4Addr) -> Vec<String> {
        let files = self.all.iter().chain(self.of(addr).into_iter().flatten());
        files.filter(|name| is_name(name)).map(|name| format!("${PREFIX}{name}")).collect()
    }
}

/// The value of a secret: the machine's own file, the file for all, or what the hosts file says.
///
/// # Errors
/// Why it cannot be had, in words that do not tell it.
pub fn read(data: &Path, snapshot: &Snapshot, host: &Host, name: &str) -> Result<String, String> {
    let file = file(name);
    for path in [format!("{DIRECTORY}/{}/{file}", host.addr), format!("{DIRECTORY}/{file}")] {
        match beneath::open(data, &path) {
            Ok(opened) => return text(opened).map_err(|why| format!("{path} {why}")),
            Err(Refused::NotFound) => {}
            Err(refused) => return Err(format!("{path}: {refused}")),
        }
    }
    let variable = format!("${name}");
    let written = host.variables.get(&variable).or_else(|| snapshot.common().get(&variable));
    written.cloned().ok_or_else(|| format!("there is no {DIRECTORY}/{file}"))
}

fn text(Opened { file, size, .. }: Opened) -> Result<String, String> {
    let mode = file.metadata().map_err(|error| format!("cannot be read: {error}"))?.mode();
    if mode & OTHERS != 0 {
        return Err("can be read by others than its owner: chmod 600".to_owned());
    }
    if size > LARGEST {
        return Err(format!("is larger than {} KiB", LARGEST >> 10));
    }
    let mut text = String::new();
    // What it says is not in the error.
    file.take(LARGEST).read_to_string(&mut text).map_err(|_| "is not UTF-8 text".to_owned())?;
    // An editor ends every file with a new line.
    let ended = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(ended.map_or_else(|| text.clone(), str::to_owned))
}

/// What is wrong with the files, whether or not a template wants them.
pub(super) fn check(data: &Path, snapshot: &Snapshot) -> Vec<Problem> {
    let root = data.join(DIRECTORY);
    let mut problems = Vec::new();
    let mut file = |path: &Path, name: &str| {
        let Ok(found) = fs::metadata(path) else { return };
        if !is_name(name) {
            let message = "is not the name of a secret and is ignored";
            let help = "use letters, digits and underscores";
            problems.push(Problem::of_file(Severity::Warning, path, message, help));
        } else if found.is_file() && found.permissions().mode() & OTHERS != 0 {
            let message = "can be read by others than its owner, so no machine gets it";
            let help = format!("chmod 600 {}", path.display());
            problems.push(Problem::of_file(Severity::Error, path, message, help));
        }
    };
    let mut nobodys = Vec::new();
    for name in files(&root) {
        let path = root.join(&name);
        if !path.is_dir() {
            file(&path, &name);
            continue;
        }
        if name.parse().is_ok_and(|addr| snapshot.by_addr(addr).is_some()) {
            for name in files(&path) {
                file(&path.join(&name), &name);
            }
        } else {
            nobodys.push(path);
        }
    }
    problems.extend(nobodys.into_iter().map(|path| {
        let help = "name it like the machine's address in `hosts`, or remove it";
        Problem::of_file(Severity::Warning, &path, "is no machine's directory of secrets", help)
    }));
    problems
}

/// The names in a directory, in order; none if it cannot be read.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{check, read};
    use crate::inventory::{Networks, Snapshot, load};

    fn put(data: &Path, name: &str, text: &[u8], mode: u32) {
        let path = data.join("secrets").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn machines(data: &Path) -> Snapshot {
        let hosts = r#"{"common": {"$secret_old": "written"}, "hosts": {
            "10.9.0.11": {"macaddr": "52:54:00:00:00:11", "$hostname": "b11", "channel": "stable"},
            "10.9.0.12": {"macaddr": "52:54:00:00:00:12", "$hostname": "b12", "channel": "stable"}}}"#;
        fs::write(data.join("pxe_hosts.json"), hosts).unwrap();
        load(data, &Networks::default()).snapshot.unwrap()
    }

    #[test]
    fn the_machines_own_beats_the_one_for_all_and_what_the_hosts_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = machines(dir.path());
        put(dir.path(), "pw", b"all $x\n", 0o600);
        put(dir.path(), "10.9.0.11/pw", b"own", 0o400);
        put(dir.path(), "large", &vec![b'x'; 65537], 0o600);
        put(dir.path(), "bytes", b"\xff", 0o600);
        put(dir.path(), "open", b"told", 0o640);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("secrets/out")).unwrap();
        let get = |host: usize, name| read(dir.path(), &snapshot, snapshot.hosts().nth(host).unwrap(), name);
        assert_eq!(get(0, "secret_pw").as_deref(), Ok("own"));
        assert_eq!(get(1, "secret_pw").as_deref(), Ok("all $x"));
        assert_eq!(get(1, "secret_old").as_deref(), Ok("written"));
        let table = [
            ("secret_none", "there is no secrets/none"),
            ("secret_large", "secrets/large is larger than 64 KiB"),
            ("secret_bytes", "secrets/bytes is not UTF-8 text"),
            ("secret_open", "secrets/open can be read by others than its owner: chmod 600"),
            ("secret_out", "secrets/out: leads out of its directory (an absolute link counts as out)"),
        ];
        for (name, why) in table {
            assert_eq!(get(1, name).unwrap_err(), why);
        }
    }

    #[test]
    fn files_that_nobody_gets_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = machines(dir.path());
        assert_eq!(check(dir.path(), &snapshot), []);
        put(dir.path(), "pw", b"x", 0o600);
        put(dir.path(), "open", b"x", 0o644);
        put(dir.path(), "pw~", b"x", 0o600);
        put(dir.path(), "10.9.0.12/open", b"x", 0o604);
        put(dir.path(), "10.9.0.99/pw", b"x", 0o600);
        let found: Vec<String> = check(dir.path(), &snapshot)
            .iter()
            .map(|problem| problem.to_string().replace(&format!("{}/", dir.path().display()), ""))
            .collect();
        let open = "can be read by others than its owner, so no machine gets it; chmod 600";
        assert_eq!(
            found,
            [
                format!("secrets/10.9.0.12/open: {open} secrets/10.9.0.12/open"),
                format!("secrets/open: {open} secrets/open"),
                "secrets/pw~: warning: is not the name of a secret and is ignored; use letters, digits and underscores".to_owned(),
                "secrets/10.9.0.99: warning: is no machine's directory of secrets; name it like the machine's address in `hosts`, or remove it".to_owned(),
            ]
        );
    }
}
