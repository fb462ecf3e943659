//! The program in the kernel: loads it, and opens its maps.
//!
//! Does not need RLIMIT_MEMLOCK to be raised: since Linux 5.11 maps are charged to the memory cgroup.

use std::io;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use ipnetwork::Ipv4Network;
use log::Log;
use netboot_ebpf::abi::{self, Host, HostKey, Server, Template, map};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use super::Error;
use super::pins::{self, Handle};
use super::sync::Table;
use crate::mac::Mac;

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netboot-ebpf"));

/// How often the program is given to the kernel that a signal keeps from it.
const MOST_TRIES: usize = 20;
/// Lines of the verifier's log that are shown.
const LAST_LINES: usize = 8;

/// A key or value of the program's maps.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
struct Plain<T>(T);

// SAFETY: `repr(C)`, integers only, no padding: netboot_ebpf::abi asserts the sizes.
unsafe impl aya::Pod for Plain<HostKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Host> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Template> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Server> {}

/// The map of heartbeats: one `u64`.
pub type Beat = Array<MapData, u64>;
/// The counters.
pub type Counters = PerCpuArray<MapData, u64>;
/// The ring buffer of events.
pub type Events = RingBuf<MapData>;

/// The loaded program, not attached. When dropped, the program is detached and gone.
pub struct Loaded {
    ebpf: Ebpf,
    handles: Vec<Handle>,
    hosts: HashMap<MapData, Plain<HostKey>, Plain<Host>>,
    templates: Array<MapData, Plain<Template>>,
    stamp: u64,
}

impl Loaded {
    /// Loads the program for a server, and tells it which relay agents speak for which segment. It passes everything until
    /// there is a first heartbeat.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn load(server: Server, relays: &[(Ipv4Network, u32)]) -> Result<Self, Error> {
        let mut object = EbpfLoader::new();
        if server.limits.are_off() {
            // Nobody has a bucket then.
            object.map_max_entries(map::GUARD, 1);
        }
        let mut ebpf = object.load(OBJECT).map_err(|error| load_error(&error))?;
        let handles = pins::handles(&ebpf).map_err(|error| Error::Load { why: chain(&error) })?;
        let hosts =
            HashMap::try_from(take(&mut ebpf, map::HOSTS)?).map_err(|error| open(map::HOSTS, &error))?;
        let templates = Array::try_from(take(&mut ebpf, map::TEMPLATES)?)
            .map_err(|error| open(map::TEMPLATES, &error))?;
        let mut trie: LpmTrie<_, [u8; 4], u32> =
            LpmTrie::try_from(take(&mut ebpf, map::RELAYS)?).map_err(|error| open(map::RELAYS, &error))?;
        for (prefix, segment) in relays {
            let key = Key::new(prefix.prefix().into(), prefix.ip().octets());
            trie.insert(&key, segment, 0).map_err(|error| write(map::RELAYS, &error))?;
        }
        let mut place: Array<_, Plain<Server>> =
            Array::try_from(take(&mut ebpf, map::SERVER)?).map_err(|error| open(map::SERVER, &error))?;
        place.set(0, Plain(server), 0).map_err(|error| write(map::SERVER, &error))?;
        let mut loaded = Self { ebpf, handles, hosts, templates, stamp: 0 };
        let program = loaded.program()?;
        until_looked_at(|| program.load()).map_err(|error| load_error(&error.into()))?;
        Ok(loaded)
    }

    /// The program.
    ///
    /// # Errors
    /// When the object has no such program.
    pub fn program(&mut self) -> Result<&mut Xdp, Error> {
        let program = self.ebpf.program_mut(abi::PROGRAM).and_then(|program| program.try_into().ok());
        program.ok_or_else(|| Error::Load {
            why: format!("its object file has no XDP program {}", abi::PROGRAM),
        })
    }

    /// All maps, to be pinned.
    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// The map of heartbeats. Each of the maps can be taken once.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn take_beat(&mut self) -> Result<Beat, Error> {
        Array::try_from(take(&mut self.ebpf, map::BEAT)?).map_err(|error| open(map::BEAT, &error))
    }

    /// The counters.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub fn take_counters(&mut self) -> Result<Counters, Error> {
        PerCpuArray::try_from(take(&mut self.ebpf, map::COUNTERS)?)
            .map_err(|error| open(map::COUNTERS, &error))
    }

    /// Until when answered packets are copied, as the heartbeat's map has it, and the ring buffer of the copies.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub fn take_capture(&mut self) -> Result<(Beat, Events), Error> {
        let until = Array::try_from(take(&mut self.ebpf, map::CAPTURE)?);
        let copies = RingBuf::try_from(take(&mut self.ebpf, map::CAPTURED)?);
        let until = until.map_err(|error| open(map::CAPTURE, &error))?;
        Ok((until, copies.map_err(|error| open(map::CAPTURED, &error))?))
    }

    /// What the program says in words, for this logger.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn take_words<T: Log>(&mut self, logger: T) -> Result<EbpfLogger<T>, Error> {
        let failed = |error: aya_log::Error| Error::Map { what: "open", map: "AYA_LOGS", why: chain(&error) };
        EbpfLogger::init_with_logger(&mut self.ebpf, logger).map_err(failed)
    }

    /// The ring buffer of events.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn take_events(&mut self) -> Result<Events, Error> {
        RingBuf::try_from(take(&mut self.ebpf, map::EVENTS)?).map_err(|error| open(map::EVENTS, &error))
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

impl Table for Loaded {
    type Error = Error;

    fn write(&mut self, slot: u16, template: &[u8]) -> Result<(), Error> {
        let Some(template) = Template::new(template) else {
            let why = "the template is too long".to_owned();
            return Err(Error::Map { what: "write", map: map::TEMPLATES, why });
        };
        self.templates.set(slot.into(), Plain(template), 0).map_err(|error| write(map::TEMPLATES, &error))
    }

    fn put(&mut self, mac: Mac, host: &Host) -> Result<(), Error> {
        self.stamp += 1;
        let host = Host { stamp: self.stamp, ..*host };
        self.hosts.insert(Plain(key(mac)), Plain(host), 0).map_err(|error| write(map::HOSTS, &error))
    }

    fn take(&mut self, mac: Mac) -> Result<(), Error> {
        match self.hosts.remove(&Plain(key(mac))) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) if errno(&error) == Some(Errno::NOENT.raw_os_error()) => Ok(()),
            Err(error) => Err(write(map::HOSTS, &error)),
        }
    }
}

/// The map's key of a machine.
fn key(mac: Mac) -> HostKey {
    HostKey { mac: mac.0, pad: [0; 2] }
}

/// The sum of a counter over all CPUs.
///
/// # Errors
/// When it cannot be read.
pub fn count(counters: &Counters, index: u32) -> Result<u64, Error> {
    let values = counters.get(&index, 0).map_err(|error| failed("read", map::COUNTERS, &error))?;
    Ok(values.iter().sum())
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, Error> {
    ebpf.take_map(name).ok_or_else(|| Error::Map {
        what: "open",
        map: name,
        why: "it is not there".to_owned(),
    })
}

fn open(name: &'static str, error: &MapError) -> Error {
    failed("open", name, error)
}

pub(super) fn write(name: &'static str, error: &MapError) -> Error {
    failed("write", name, error)
}

fn failed(what: &'static str, name: &'static str, error: &MapError) -> Error {
    Error::Map { what, map: name, why: chain(error) }
}

/// Loads a program, again where a signal has kept the kernel from looking at it to the end.
fn until_looked_at<E: std::error::Error + 'static>(mut load: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    for _ in 1..MOST_TRIES {
        match load() {
            Err(error) if errno(&error) == Some(Errno::AGAIN.raw_os_error()) => {}
            done => return done,
        }
    }
    load()
}

fn load_error(error: &EbpfError) -> Error {
    let code = match error {
        EbpfError::MapError(error) => errno(error),
        EbpfError::ProgramError(ProgramError::LoadError { io_error, .. }) => io_error.raw_os_error(),
        _ => None,
    };
    // Without CAP_PERFMON it is the verifier that refuses, in words that do not say so.
    let known = code.map(Errno::from_raw_os_error);
    if known == Some(Errno::PERM) || (known == Some(Errno::ACCESS) && !may_load()) {
        let source = code.map_or_else(|| Errno::PERM.into(), io::Error::from_raw_os_error);
        return Error::Permission { what: "loading the XDP program", source };
    }
    Error::Load { why: end(&chain(error)) }
}

/// The end of what the verifier has to say, which is where it says what it does not like.
fn end(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.as_slice() {
        [first, .., _] if lines.len() > LAST_LINES + 1 => {
            // The first has what was tried, and the beginning of the verifier's words.
            let first = first.split("Verifier output").next().unwrap_or_default();
            let last = lines.get(lines.len() - LAST_LINES..).unwrap_or_default();
            format!("{first}the last of the verifier's words: {}", last.join("; "))
        }
        _ => text.to_owned(),
    }
}

/// Whether the thread has what the kernel wants for this program.
fn may_load() -> bool {
    let wanted = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// The error number behind an error, if there is one.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        next = error.source();
    }
    None
}

/// An error with all its causes, in one line each.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::io::Errno;

    use super::{MOST_TRIES, end, until_looked_at};

    #[derive(Debug, thiserror::Error)]
    #[error("it was refused")]
    struct Refused(#[source] io::Error);

    #[test]
    fn a_signal_is_no_refusal() {
        let failing = |code: Errno, times: usize| {
            let mut tries = 0;
            let done = until_looked_at(|| {
                tries += 1;
                if tries <= times { Err(Refused(code.into())) } else { Ok(()) }
            });
            (done.is_ok(), tries)
        };
        assert_eq!(failing(Errno::AGAIN, 3), (true, 4));
        assert_eq!(failing(Errno::AGAIN, MOST_TRIES), (false, MOST_TRIES));
        assert_eq!(failing(Errno::INVAL, 3), (false, 1));
    }

    #[test]
    fn of_a_long_log_the_end_is_shown() {
        assert_eq!(end("no such map: x"), "no such map: x");
        let log: Vec<_> = (0..1000).map(|line| format!("{line}: (b7) r9 = 0")).collect();
        let text =
            format!("the syscall returned EINVAL. Verifier output: {}\nR1 is bad\n: EINVAL", log.join("\n"));
        let shown = end(&text);
        assert!(
            shown.starts_with("the syscall returned EINVAL. the last of the verifier's words: 994: "),
            "{shown}"
        );
        assert!(shown.ends_with("; 999: (b7) r9 = 0; R1 is bad; : EINVAL"), "{shown}");
    }
}
