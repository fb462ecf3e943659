//! Network namespaces and the processes in them; both end with their value.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where netboot pins the links and maps of its programs.
const PINS: &str = "/sys/fs/bpf/netboot";

/// A network namespace, deleted when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates a namespace called `nb-<pid>-<number>-<role>`, with its loopback up. Needs root.
    ///
    /// # Errors
    /// When `ip netns add` fails.
    pub fn new(role: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("nb-{}-{number}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. Entered with nsenter: `ip netns exec` would hide the host's /sys and its bpffs.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// Runs `ip …` inside and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the error has what it said.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(self.command("ip").args(arguments.split_whitespace()))
    }

    /// Runs a shell line inside and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the error has what it said.
    pub fn shell(&self, line: &str) -> Result<String> {
        run(self.command("sh").args(["-c", line]))
    }

    /// Makes a veth pair, one end here and one there, both up.
    ///
    /// # Errors
    /// When `ip link` fails.
    pub fn veth(&self, here: &str, other: &Self, there: &str) -> Result<()> {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.name))?;
        self.ip(&format!("link set {here} up"))?;
        other.ip(&format!("link set {there} up"))?;
        Ok(())
    }

    /// Runs something on a thread of its own inside, as the opening of a socket that is used here. A panic goes on here.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| enter(&self.name).map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a program inside; it is killed when the [`Child`] is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(program);
        command.args(arguments);
        Child::spawn(command)
    }
}

/// Moves this thread into the namespace of this name, for the rest of its life.
///
/// # Errors
/// When the namespace is gone, or this process may not.
pub fn enter(name: &str) -> Result<()> {
    let path = format!("/run/netns/{name}");
    let file = File::open(&path).with_context(|| format!("open {path}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("enter {path}"))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.name) {
            eprintln!("{error:#}");
        }
    }
}

/// Deletes the namespace of this name, and what a netboot that was killed in it has left pinned: that would stay until another
/// netboot starts.
pub(super) fn delete(name: &str) -> Result<()> {
    let directories = pin_directories(name);
    run(Command::new("ip").args(["netns", "del", name]))?;
    remove_pins(&directories);
    Ok(())
}

/// The directories in which a netboot pins what is to outlive it, for the interfaces of the namespace of this name.
pub fn pin_directories(name: &str) -> Vec<PathBuf> {
    let Ok(namespace) = std::fs::metadata(Path::new("/run/netns").join(name)) else { return Vec::new() };
    let end = format!("-{}", namespace.ino());
    let entries = std::fs::read_dir(PINS).into_iter().flatten().flatten();
    let of = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(&end));
    of.map(|entry| entry.path()).collect()
}

/// Removes such directories.
pub fn remove_pins(directories: &[PathBuf]) {
    for directory in directories {
        // A netboot that starts may be quicker: it sweeps as well.
        let _ = std::fs::remove_dir_all(directory);
    }
    // The last takes this with it.
    let _ = std::fs::remove_dir(PINS);
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or ends with another status than 0; the error has its output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// How long the output of a program that has ended is waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running program whose output is collected line by line. nsenter executes its program in place, so the pid is
/// the program's own.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    lines: mpsc::Receiver<String>,
    seen: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Child {
    /// Starts a command with its output collected.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let (sender, lines) = mpsc::channel();
        let seen = Arc::new(Mutex::new(String::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            process.stdout.take().map(|out| Box::new(out) as _),
            process.stderr.take().map(|err| Box::new(err) as _),
        ];
        let mut readers = Vec::new();
        for stream in streams.into_iter().flatten() {
            let (sender, seen) = (sender.clone(), Arc::clone(&seen));
            readers.push(std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = Vec::new();
                while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                    line.clear();
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.push_str(&text);
                    seen.push('\n');
                    drop(seen);
                    // Nobody listens any more: go on reading, so that the program does not block.
                    let _ = sender.send(text);
                }
            }));
        }
        Ok(Self { process, lines, seen, readers })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// All it printed so far, both streams.
    pub fn output(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next line it prints, `None` when both streams have ended or the time is up.
    pub fn next_line(&self, within: Duration) -> Option<String> {
        self.lines.recv_timeout(within).ok()
    }

    /// Waits for a line that contains `text` and returns it. Lines before it are taken.
    ///
    /// # Errors
    /// When the program ends or the time is up first; the error has all it printed.
    pub fn wait_line(&self, text: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(_) => {}
                Err(end) => {
                    bail!("no line with {text:?} within {within:?} ({end}); it printed:\n{}", self.output())
                }
            }
        }
    }

    /// Sends a signal (its name without `SIG`, as `TERM`).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        run(Command::new("kill").args(["-s", name, &self.process.id().to_string()])).map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the time is up; the error has all it printed.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let mut status = None;
        let ended = wait_for(within, || {
            status = self.process.try_wait().ok().flatten();
            status.is_some()
        });
        match status {
            Some(status) if ended => {
                // Its last words may still be on their way; who inherited its output may keep that open for ever.
                wait_for(LAST_WORDS, || self.readers.iter().all(JoinHandle::is_finished));
                Ok(status)
            }
            _ => bail!("still running after {within:?}; it printed:\n{}", self.output()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks until the condition holds or the time is up; returns whether it held.
pub fn wait_for(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
