//! What each machine did: one event for each step, from all the parts; a log line for each, the counters, and the last
//! answer to each machine.
//!
//! Parts know only [`Timeline::record`], [`Timeline::count`] and [`Timeline::is_news`]; they do not know who listens.

mod quota;
mod recent;
mod rivals;
mod seen;
mod step;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netboot_ebpf::{Class, Reason};

use crate::mac::Mac;
use quota::Quota;
use recent::Recent;
pub use rivals::Rival;
use rivals::Rivals;
use seen::Book;
pub use seen::Seen;
pub use step::{By, Sent, Step};

/// News that are remembered, so as not to be told again.
const MOST_NEWS: usize = 8192;

/// What is worth a line in the log now and then, and not each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// There is no boot file for this machine in this class.
    NoFile(Mac, Class),
    /// Another DHCP server is there.
    Foreign(Ipv4Addr, Mac),
    /// Packets are dropped for this reason.
    Dropped(Reason),
    /// A counter of what should not happen went up.
    Rose(&'static str),
}

impl News {
    /// After having been told it is none for so long.
    const fn stale(self) -> Duration {
        match self {
            Self::NoFile(..) | Self::Foreign(..) => Duration::from_mins(5),
            Self::Dropped(_) => Duration::from_secs(1),
            Self::Rose(_) => Duration::from_mins(1),
        }
    }
}

/// Who wants to hear of each step.
type Listener = Box<dyn Fn(&Timeline, &Step) + Send + Sync>;

/// Collects steps and counts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Arc<Shared>);

/// What all clones are one of. No lock is held while another is taken, or while something is written.
#[derive(Default)]
struct Shared {
    counters: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    seen: Mutex<Book>,
    rivals: Mutex<Rivals>,
    /// What was told, and when.
    news: Mutex<Option<Recent<News, Instant>>>,
    quota: Mutex<Quota>,
    listener: Option<Listener>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("counters", &self.counters).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Timeline {
    /// A timeline that tells somebody of each step, after it was recorded.
    pub fn heard_by(listener: impl Fn(&Self, &Step) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { listener: Some(Box::new(listener)), ..Shared::default() }))
    }

    /// Counts one event by component (`dhcp`, `tftp`, `http`, `xdp`) and name (a [`Reason`]'s, `offer`, …).
    pub fn count(&self, component: &'static str, name: &'static str) {
        *lock(&self.0.counters).entry((component, name)).or_default() += 1;
    }

    /// Counts what a transfer has sent.
    fn sent(&self, sent: &Sent) {
        let mut counters = lock(&self.0.counters);
        for (name, number) in [("bytes", sent.bytes), ("blocks-resent", sent.resent)] {
            *counters.entry(("tftp", name)).or_default() += number;
        }
    }

    /// Sets a counter that is kept elsewhere, as the XDP program's are. Returns whether it went up.
    pub fn set(&self, component: &'static str, name: &'static str, value: u64) -> bool {
        let before = lock(&self.0.counters).insert((component, name), value);
        before.unwrap_or(0) < value
    }

    /// The counters, by component and name.
    pub fn counters(&self) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
        let mut all: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for ((component, name), value) in &*lock(&self.0.counters) {
            all.entry(*component).or_default().insert(*name, *value);
        }
        all
    }

    /// The last answer to a machine.
    pub fn seen(&self, mac: Mac) -> Option<Seen> {
        lock(&self.0.seen).of(mac)
    }

    /// How many boots of a machine began, as far as is known: another number is another boot.
    pub fn boots(&self, mac: Mac) -> u64 {
        self.seen(mac).map_or(0, |seen| seen.boots)
    }

    /// The other DHCP servers that were heard, the one that spoke last first.
    pub fn rivals(&self) -> Vec<Rival> {
        lock(&self.0.rivals).all()
    }

    /// Whether something is to be told now: it was not for a while.
    pub fn is_news(&self, news: News) -> bool {
        let now = Instant::now();
        let mut told = lock(&self.0.news);
        let told = told.get_or_insert_with(|| Recent::new(MOST_NEWS));
        let due = told.get(&news).is_none_or(|last| now.duration_since(*last) >= news.stale());
        if due {
            told.put(news, now);
        }
        due
    }

    /// Says how many answers of XDP were not in the log, if there were any in seconds that are over.
    pub fn settle(&self) {
        let left_out = lock(&self.0.quota).settle(now());
        if let Some(answers) = left_out {
            tracing::info!(
                answers,
                "{answers} more answers of XDP have no line of their own: there were too many in a second; all are counted"
            );
        }
    }

    /// Records a step: one log line, target `netboot::step`, with the step's facts as fields.
    pub fn record(&self, step: &Step) {
        self.note(step);
        if let Some(listener) = &self.0.listener {
            listener(self, step);
        }
    }

    fn note(&self, step: &Step) {
        match step {
            Step::Dhcp { mac, addr, reply, class, by, relay, reserved } => {
                self.count("dhcp", reply);
                let now = now();
                lock(&self.0.seen).note(*mac, *reserved, Seen::new(now, *addr, reply, *class, *by, *relay));
                if *by == By::Xdp && !lock(&self.0.quota).take(now) {
                    return;
                }
                tracing::info!(target: "netboot::step", step = "dhcp", %mac, %addr, reply, class = class.name(), by = by.name(), "DHCP {reply}{} to {mac} ({}, by {})", given(*addr), class.name(), by.name());
            }
            // As it must be for every lease of the pool, and for who says goodbye.
            Step::XdpPassed { mac, reason: reason @ (Reason::LeaseToWrite | Reason::MessageType) } => {
                tracing::debug!(target: "netboot::step", step = "xdp-passed", %mac, reason = reason.name(), "XDP passed {mac} to the daemon: {}", reason.name());
            }
            Step::XdpPassed { mac, reason } => {
                tracing::info!(target: "netboot::step", step = "xdp-passed", %mac, reason = reason.name(), "XDP passed {mac} to the daemon: {}", reason.name());
            }
            Step::XdpDropped { mac, relay, reason } => {
                if self.is_news(News::Dropped(*reason)) {
                    let (reason, why) = (reason.name(), limit(*reason, *mac, *relay));
                    tracing::warn!(target: "netboot::step", step = "xdp-dropped", %mac, relay = relay.map(tracing::field::display), reason, "XDP drops requests ({reason}): {why}");
                }
            }
            Step::ForeignServer { addr, mac } => {
                lock(&self.0.rivals).note(*addr, *mac, now());
                if self.is_news(News::Foreign(*addr, *mac)) {
                    tracing::warn!(%addr, %mac, "another DHCP server answers on this network: {addr} at {mac}; machines take whichever is first: stop it, or write \"mode\": \"proxy\" into netboot.json");
                }
            }
            Step::DhcpIgnored { mac, reason } => {
                self.count("dhcp", reason.name());
                tracing::info!(target: "netboot::step", step = "dhcp-ignored", %mac, reason = reason.name(), "no DHCP answer to {mac}: {}", reason.name());
            }
            Step::TftpStart { peer, file, size, blksize, windowsize } => {
                tracing::info!(target: "netboot::step", step = "tftp-start", addr = %peer.ip(), file, size, blksize, windowsize, "TFTP {file} to {}: {size} bytes", peer.ip());
            }
            Step::TftpDone { peer, file, sent } => {
                self.count("tftp", "done");
                self.sent(sent);
                let Sent { bytes, blksize, windowsize, resent, .. } = *sent;
                let (mac, millis) = (sent.mac.map(tracing::field::display), millis(sent.took));
                tracing::info!(target: "netboot::step", step = "tftp-done", mac, addr = %peer.ip(), file, bytes, blksize, windowsize, millis, resent, "TFTP {file} to {} done: {bytes} bytes in {millis} ms", peer.ip());
            }
            Step::TftpFailed { peer, file, why, sent } => {
                self.count("tftp", "failed");
                if let Some(sent) = sent {
                    self.sent(sent);
                }
                let mac = sent.and_then(|sent| sent.mac).map(tracing::field::display);
                let (bytes, resent) = (sent.map(|sent| sent.bytes), sent.map(|sent| sent.resent));
                let millis = sent.map(|sent| millis(sent.took));
                tracing::info!(target: "netboot::step", step = "tftp-failed", mac, addr = %peer.ip(), file, bytes, millis, resent, why, "TFTP {file} to {}: {why}", peer.ip());
            }
            Step::Booted { mac, addr, hostname } => {
                self.count("http", "booted");
                let secs = lock(&self.0.seen).booted(*mac, now());
                let since =
                    secs.map_or_else(String::new, |secs| format!(", {secs} s after it was first answered"));
                tracing::info!(target: "netboot::step", step = "booted", %mac, %addr, hostname, secs, "{hostname} at {addr} is up{since}");
            }
            Step::Http { peer, request, what, status, bytes } => {
                self.count("http", what);
                tracing::info!(target: "netboot::step", step = "http", addr = %peer.ip(), request, what, status, bytes, "HTTP {request} {status} to {}", peer.ip());
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Which limit it was, with the setting that changes it.
fn limit(reason: Reason, mac: Mac, relay: Option<Ipv4Addr>) -> String {
    match (reason, relay) {
        (Reason::RelayRate, Some(relay)) => {
            format!("the relay agent {relay} brings more in a second than dhcp.limits.per_relay lets it")
        }
        (Reason::Duplicate, _) => {
            format!("a packet of {mac} came again within dhcp.limits.duplicate_ms")
        }
        _ => format!("{mac} asks more often in a second than dhcp.limits.per_machine lets it"),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The address in a sentence about a reply; one that gives none is not told as 0.0.0.0.
fn given(addr: Ipv4Addr) -> String {
    if addr.is_unspecified() { String::new() } else { format!(" {addr}") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use netboot_ebpf::{Class, Reason};

    use super::{By, News, Step, Timeline, limit};
    use crate::mac::Mac;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn counts_by_component_and_name() {
        let timeline = Timeline::default();
        timeline.count("dhcp", "offer");
        timeline.clone().count("dhcp", "offer");
        assert!(timeline.set("xdp", "unknown-mac", 7));
        assert!(!timeline.set("xdp", "unknown-mac", 7) && timeline.set("xdp", "unknown-mac", 8));
        let counters = timeline.counters();
        assert_eq!(counters["dhcp"]["offer"], 2);
        assert_eq!(counters["xdp"]["unknown-mac"], 8);
    }

    #[test]
    fn an_answer_is_remembered_and_told_to_who_listens() {
        let heard = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&heard);
        let timeline = Timeline::heard_by(move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(timeline.seen(MAC), None);
        let addr = [192, 168, 90, 11].into();
        for (reply, by) in [("offer", By::Xdp), ("ack", By::Daemon)] {
            let relay = Some([10, 0, 0, 1].into());
            let step = Step::Dhcp { mac: MAC, addr, reply, class: Class::Bios, by, relay, reserved: true };
            timeline.record(&step);
        }
        timeline.record(&Step::DhcpIgnored { mac: MAC, reason: Reason::Held });
        let seen = timeline.seen(MAC).expect("it was answered");
        assert_eq!((seen.addr, seen.reply, seen.class, seen.by), (addr, "ack", Class::Bios, By::Daemon));
        assert!(seen.at > 1_700_000_000 && seen.relay == Some([10, 0, 0, 1].into()));
        assert_eq!(heard.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn news_are_news_once() {
        let timeline = Timeline::default();
        let foreign = News::Foreign([10, 0, 0, 1].into(), MAC);
        for news in
            [foreign, News::NoFile(MAC, Class::Efi64), News::NoFile(MAC, Class::Efi32), News::Rose("x")]
        {
            assert!(timeline.is_news(news), "{news:?}");
            assert!(!timeline.is_news(news), "{news:?}");
        }
        timeline.record(&Step::ForeignServer { addr: [10, 0, 0, 1].into(), mac: MAC });
        assert_eq!(timeline.rivals().len(), 1);
    }

    #[test]
    fn every_limit_is_told_with_its_setting() {
        let relay = Some([10, 0, 0, 1].into());
        let table = [
            (Reason::MacRate, relay, "02:00:00:00:00:01 asks", "dhcp.limits.per_machine"),
            (Reason::Duplicate, None, "of 02:00:00:00:00:01 came again", "dhcp.limits.duplicate_ms"),
            (Reason::RelayRate, relay, "relay agent 10.0.0.1 brings", "dhcp.limits.per_relay"),
        ];
        for (reason, relay, who, setting) in table {
            assert!(reason.drops());
            let said = limit(reason, MAC, relay);
            assert!(said.contains(who) && said.contains(setting), "{said}");
        }
    }
}
