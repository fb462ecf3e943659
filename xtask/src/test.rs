//! `cargo xtask test`: builds as this user, runs unit and documentation tests as this user and the integration
//! binary as root. The runners' summary lines come last, each once.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::steps::{as_root, loud, unlock_sudo};
use xtask::lab::remove_leftovers;

/// The name of the integration binary.
const INTEGRATION: &str = "it";
/// The module of the tests that boot virtual machines, left out by `--quick`.
const BOOTS: &str = "boot::";

/// A test binary that cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Runner {
    name: String,
    kind: String,
    package: PathBuf,
    program: PathBuf,
}

/// Builds and runs all tests.
///
/// # Errors
/// When something does not build or a test fails.
pub(crate) fn test(quick: bool, filter: &[String]) -> Result<()> {
    let runners = build()?;
    let mut summaries = Vec::new();
    let mut failed = Vec::new();
    let (integration, units): (Vec<_>, Vec<_>) =
        runners.into_iter().partition(|runner| runner.name == INTEGRATION);
    let mut run = |name: &str, command: &mut Command| -> Result<()> {
        eprintln!("\nrunning {name}");
        if !follow(command, name, &mut summaries)? {
            failed.push(name.to_owned());
        }
        Ok(())
    };
    for runner in &units {
        let mut command = Command::new(&runner.program);
        run(
            &format!("unit tests of {} ({})", runner.name, runner.kind),
            command.args(filter).current_dir(&runner.package),
        )?;
    }
    let mut doc = cargo();
    doc.args(["test", "--workspace", "--locked", "--doc", "--quiet", "--"]).args(filter);
    run("documentation tests", &mut doc)?;
    for runner in &integration {
        unlock_sudo("the integration tests (network namespaces, XDP)")?;
        if crate::steps::is_root() {
            remove_leftovers()?;
        }
        let mut command = as_root(&runner.program)?;
        command.args(filter).args(["--test-threads", &threads().to_string()]).current_dir(&runner.package);
        if quick {
            command.args(["--skip", BOOTS]);
        }
        run("integration tests", &mut command)?;
    }
    println!();
    for line in summaries {
        println!("{line}");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// As many tests at once as there are processors, in bounds: a virtual machine in software takes one for itself.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4)
}

fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(xtask::root());
    cargo
}

/// Builds every test binary and the program that they start.
fn build() -> Result<Vec<Runner>> {
    // First with its output shown: the second call has nothing left to say.
    loud(cargo().args(["build", "--workspace", "--locked"]))?;
    loud(cargo().args(["test", "--workspace", "--locked", "--no-run", "--quiet"]))?;
    let mut list = cargo();
    list.args([
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    let output = list.stderr(Stdio::inherit()).output().context("start cargo test --no-run")?;
    if !output.status.success() {
        bail!("cargo test --no-run: {}", output.status);
    }
    let runners: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().filter_map(runner).collect();
    if runners.is_empty() {
        bail!("cargo test --no-run named no test binary");
    }
    Ok(runners)
}

/// A test binary, if this message of cargo is about one.
fn runner(message: &str) -> Option<Runner> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message.get("reason")? != "compiler-artifact" || message.get("profile")?.get("test")? != true {
        return None;
    }
    let program = PathBuf::from(message.get("executable")?.as_str()?);
    let target = message.get("target")?;
    let name = target.get("name")?.as_str()?.to_owned();
    let kind = target.get("kind")?.get(0)?.as_str()?.to_owned();
    let package = PathBuf::from(message.get("manifest_path")?.as_str()?).parent()?.to_owned();
    Some(Runner { name, kind, package, program })
}

/// Runs a test runner with its output shown, but for its summary lines, which are kept. Returns whether it succeeded.
fn follow(command: &mut Command, name: &str, summaries: &mut Vec<String>) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start the {name}"))?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.with_context(|| format!("read the output of the {name}"))?;
            if line.starts_with("test result:") {
                summaries.push(format!("     Running {name}"));
                summaries.push(line);
            } else {
                println!("{line}");
            }
        }
    }
    Ok(child.wait().with_context(|| format!("wait for the {name}"))?.success())
}

#[cfg(test)]
mod tests {
    use super::runner;

    #[test]
    fn test_binaries_are_found_among_the_messages_of_cargo() {
        let message = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/netboot/Cargo.toml","target":{{"name":"it","kind":["test"]}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let found = runner(&message(true, r#""/r/target/debug/deps/it-1""#)).unwrap();
        assert_eq!((found.name.as_str(), found.package.to_str().unwrap()), ("it", "/r/netboot"));
        assert_eq!(runner(&message(false, r#""/r/target/debug/netboot""#)), None);
        assert_eq!(runner(&message(true, "null")), None);
        assert_eq!(runner(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(runner("not json"), None);
    }
}
