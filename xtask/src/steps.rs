//! Says what is being done, and runs it: a spinner on a terminal, plain lines elsewhere; the output of a command is
//! shown only when it fails.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Shows `what` while `work` runs, and how long it took.
pub(crate) fn show<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| {
        let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    });
    if spinner.is_none() {
        eprintln!("  {what} ...");
    }
    let result = work();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let seconds = start.elapsed().as_secs_f32();
    match result {
        Ok(_) => eprintln!("  {what}: done in {seconds:.1} s"),
        Err(_) => eprintln!("  {what}: FAILED after {seconds:.1} s"),
    }
    result
}

/// Runs a command to its end without showing its output, and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails; the error has all its output.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", words(command)))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{}: {}\n{out}{}", words(command), output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(out)
}

/// Runs a command to its end with its output shown, and says so when it fails.
pub(crate) fn loud(command: &mut Command) -> Result<()> {
    let line = words(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// A command as a person would type it.
pub(crate) fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Finds a program as the shell would, and in the administrator's directories, which users often do not have in
/// their `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that will run as root: as it is, or by sudo with this user's environment.
///
/// # Errors
/// When this is not root and there is no sudo.
pub(crate) fn as_root(name: impl AsRef<OsStr>) -> Result<Command> {
    let name = name.as_ref();
    if is_root() {
        return Ok(Command::new(name));
    }
    if program("sudo").is_none() {
        bail!("{} must run as root, and there is no sudo here: run this as root", name.to_string_lossy());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sudo");
    // sudo resets PATH even with -E where the system says so (secure_path).
    command.args(["-E", "--", "env", &format!("PATH={path}:/usr/sbin:/sbin")]).arg(name);
    Ok(command)
}

/// Asks for the password now, before anything else is on the screen.
///
/// # Errors
/// When sudo refuses.
pub(crate) fn unlock_sudo(why: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    if program("sudo").is_none() {
        bail!("{why} needs root, and there is no sudo here: run this as root");
    }
    eprintln!("{why} needs root: using sudo for that alone");
    loud(Command::new("sudo").arg("-v"))
}
