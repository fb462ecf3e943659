//! The servers that netboot is measured against: Debian packages, unpacked below `target/bench` and never installed,
//! since an installed server starts. Only `bench` fetches them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::{quiet, show};

/// The packages, and what each is for. Libraries that are not on the system come with them.
const PACKAGES: [(&str, &str); 7] = [
    ("dnsmasq-base", "dnsmasq"),
    ("kea-dhcp4-server", "Kea's DHCPv4 server"),
    ("kea-common", "Kea's libraries"),
    ("tftpd-hpa", "tftpd-hpa"),
    ("atftpd", "atftpd"),
    ("nginx", "nginx"),
    ("ethtool", "turns offloads off"),
];

/// The file beside them that says which they are.
const LIST: &str = "packages";

/// What is in it.
fn list() -> String {
    PACKAGES.map(|(name, _)| format!("{name}\n")).concat()
}

/// The unpacked packages.
#[derive(Clone, Debug)]
pub(super) struct Peers(PathBuf);

impl Peers {
    /// Those at this place.
    pub(super) fn at(root: PathBuf) -> Self {
        Self(root)
    }

    /// Brings them if they are not there, or if others are.
    ///
    /// # Errors
    /// When apt cannot; the error has what it said.
    pub(super) fn fetch(home: &Path) -> Result<Self> {
        let root = home.join("peers");
        if std::fs::read_to_string(root.join(LIST)).ok().as_deref() != Some(&list()) {
            if root.exists() {
                std::fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
            }
            for (name, what) in PACKAGES {
                eprintln!("  {name} (unpacked below {}, not installed): {what}", home.display());
            }
            show("apt-get download", || unpack(home, &root))?;
        }
        Ok(Self(root))
    }

    /// Where they are.
    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    /// One of their programs.
    ///
    /// # Errors
    /// When it is in none of the places where Debian has put it.
    pub(super) fn program(&self, name: &str) -> Result<String> {
        let places = ["usr/sbin", "sbin", "usr/bin"].map(|place| self.0.join(place).join(name));
        let found = places.iter().find(|file| file.is_file());
        let found = found
            .with_context(|| format!("{} has no {name}: remove it and run this again", self.0.display()))?;
        Ok(found.to_str().context("the path of the repository is not UTF-8")?.to_owned())
    }

    /// The value of `LD_LIBRARY_PATH` with which they run.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn libraries(&self) -> Result<String> {
        let usr = self.0.join("usr/lib");
        let inside = std::fs::read_dir(&usr).with_context(|| format!("read {}", usr.display()))?;
        // Debian's directory of libraries is named after the architecture.
        let all = inside.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir());
        Ok(all.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":"))
    }
}

fn unpack(home: &Path, root: &Path) -> Result<()> {
    let work = home.join(format!(".peers-{}", std::process::id()));
    let files = work.join("files");
    std::fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
    let mut wanted: Vec<String> = PACKAGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    // The list grows while it is read: libraries need libraries.
    let mut next = 0;
    while let Some(name) = wanted.get(next) {
        let depends = quiet(Command::new("apt-cache").args(["depends", "--important", name]))?;
        for library in libraries(&depends) {
            if !wanted.contains(&library) && !is_installed(&library) {
                wanted.push(library);
            }
        }
        next += 1;
    }
    quiet(Command::new("apt-get").arg("download").args(&wanted).current_dir(&work))
        .context("if apt does not know them: run apt-get update first")?;
    for entry in std::fs::read_dir(&work).with_context(|| format!("read {}", work.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            quiet(Command::new("dpkg").arg("-x").arg(&path).arg(&files))?;
        }
    }
    std::fs::write(files.join(LIST), list()).with_context(|| format!("write {LIST}"))?;
    // Whole or not at all.
    std::fs::rename(&files, root).with_context(|| format!("rename to {}", root.display()))?;
    std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))
}

/// The libraries that `apt-cache depends` names.
fn libraries(text: &str) -> impl Iterator<Item = String> {
    let depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    depends.filter(|name| name.starts_with("lib")).map(str::to_owned)
}

fn is_installed(name: &str) -> bool {
    let status = quiet(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", name]));
    status.is_ok_and(|status| status.starts_with("installed"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn libraries_of_a_package() {
        let text =
            "kea-common\n  Depends: adduser\n  Depends: libpq5\n |Depends: libone\n  Depends: <libtwo>\n";
        assert_eq!(super::libraries(text).collect::<Vec<_>>(), ["libpq5"]);
    }
}
