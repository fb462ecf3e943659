//! Limits that the operator turned on: which requests are dropped before anybody looks at them.
//!
//! A token bucket for each Ethernet address and each relay agent, and the same packet over again, as a loop in the
//! network brings it. Pure; the bucket is the caller's memory. All of it is off unless it was set: nothing here decides
//! about an answer.

use crate::verdict::Reason;

/// What is admitted. Zero: no limit. Rates are requests in a second; a bucket holds the requests of as many seconds
/// as `burst_secs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in a second of one Ethernet address.
    pub mac_rate: u32,
    /// Requests in a second of one relay agent.
    pub relay_rate: u32,
    /// So many seconds' requests may come at once.
    pub burst_secs: u32,
    /// The same packet again within this time, milliseconds, is dropped.
    pub duplicate_ms: u32,
}

/// What is known of one client or relay agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it was last looked at, in nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// What is left, in nanoseconds' worth of one request a second: a request costs `REQUEST`.
    pub left: u64,
    /// What tells the last packet that was admitted from others: transaction, checksum and length.
    pub packet: u64,
    /// When that was.
    pub packet_at_ns: u64,
}

/// A request, in units of [`Bucket::left`].
const REQUEST: u64 = 1_000_000_000;
/// A bucket that nobody has looked at for so long is full, whatever its rate; also keeps products within 64 bits.
const FORGOTTEN_NS: u64 = 60_000_000_000;

impl Limits {
    /// Nothing is limited.
    #[inline(always)]
    pub const fn are_off(&self) -> bool {
        self.mac_rate == 0 && self.relay_rate == 0 && self.duplicate_ms == 0
    }
}

impl Bucket {
    /// A bucket that nothing has been taken from.
    #[inline(always)]
    pub fn full(rate: u32, burst_secs: u32, now_ns: u64) -> Self {
        Self { at_ns: now_ns, left: room(rate, burst_secs), packet: 0, packet_at_ns: 0 }
    }

    /// Takes one request out; `false`: it is empty. A rate of 0 never is.
    #[inline(always)]
    pub fn take(&mut self, rate: u32, burst_secs: u32, now_ns: u64) -> bool {
        if rate == 0 {
            return true;
        }
        let mut since = now_ns.saturating_sub(self.at_ns);
        if since > FORGOTTEN_NS {
            since = FORGOTTEN_NS;
        }
        let most = room(rate, burst_secs);
        let mut left = self.left.wrapping_add(since.wrapping_mul(u64::from(rate)));
        if left > most {
            left = most;
        }
        self.at_ns = now_ns;
        let enough = left >= REQUEST;
        self.left = if enough { left.wrapping_sub(REQUEST) } else { left };
        enough
    }

    /// Whether this very packet was admitted within the time; if not, it is remembered. 0 is no packet.
    #[inline(always)]
    pub fn repeats(&mut self, packet: u64, within_ms: u32, now_ns: u64) -> bool {
        let span_ns = u64::from(within_ms).wrapping_mul(1_000_000);
        if packet != 0 && self.packet == packet && now_ns.saturating_sub(self.packet_at_ns) < span_ns {
            return true;
        }
        self.packet = packet;
        self.packet_at_ns = now_ns;
        false
    }
}

/// What a bucket holds: one request at least.
#[inline(always)]
fn room(rate: u32, burst_secs: u32) -> u64 {
    let burst = if burst_secs == 0 { 1 } else { u64::from(burst_secs) };
    // Rates are below 2^20 and bursts below 2^8, as the settings see to.
    (u64::from(rate) & 0xf_ffff).wrapping_mul(burst & 0xff).wrapping_mul(REQUEST)
}

/// What tells this packet from others of its client: 0 where nothing does, since its checksum is missing or was left to
/// a network card, which would make every packet of a length the same.
#[inline(always)]
pub fn packet(xid: u32, checksum: u16, unfinished: u16, length: u16) -> u64 {
    if checksum == 0 || checksum == unfinished {
        return 0;
    }
    u64::from(xid) << 32 | u64::from(checksum) << 16 | u64::from(length)
}

/// What becomes of a request of this client, and of this relay agent if there is one.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn admit(
    limits: &Limits,
    client: &mut Bucket,
    relay: Option<&mut Bucket>,
    packet: u64,
    now_ns: u64,
) -> Result<(), Reason> {
    if limits.duplicate_ms != 0 && client.repeats(packet, limits.duplicate_ms, now_ns) {
        return Err(Reason::Duplicate);
    }
    if !client.take(limits.mac_rate, limits.burst_secs, now_ns) {
        return Err(Reason::MacRate);
    }
    if let Some(relay) = relay
        && !relay.take(limits.relay_rate, limits.burst_secs, now_ns)
    {
        return Err(Reason::RelayRate);
    }
    Ok(())
}

const _: () = {
    assert!(size_of::<Limits>() == 16);
    assert!(size_of::<Bucket>() == 32);
};

#[cfg(test)]
mod tests {
    use super::{Bucket, Limits, admit, packet};
    use crate::verdict::Reason;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::full(10, 2, SECOND);
        let given = (0..100).filter(|_| bucket.take(10, 2, SECOND)).count();
        assert_eq!(given, 20);
        assert!(!bucket.take(10, 2, SECOND + SECOND / 10 - 1));
        assert!(bucket.take(10, 2, SECOND + SECOND / 10));
        let given = (1..=100).filter(|tenth| bucket.take(10, 2, 2 * SECOND + tenth * SECOND / 20)).count();
        assert!((50..=60).contains(&given), "{given} in five seconds, and what was left over");
        // A day later it is full and not more, and a clock that stands still gives nothing.
        let later = 86_400 * SECOND;
        assert_eq!((0..100).filter(|_| bucket.take(10, 2, later)).count(), 20);
        assert!(!bucket.take(10, 2, later - SECOND));
    }

    #[test]
    fn no_rate_is_no_limit_and_the_smallest_admits_one() {
        let mut bucket = Bucket::full(0, 0, 0);
        assert!((0..1000).all(|_| bucket.take(0, 0, 0)));
        let mut bucket = Bucket::full(1, 0, 0);
        assert_eq!((0..10).filter(|_| bucket.take(1, 0, 0)).count(), 1);
        let mut bucket = Bucket::full(0xf_ffff, 255, 0);
        assert!((0..1000).all(|_| bucket.take(0xf_ffff, 255, u64::MAX / 2)));
    }

    #[test]
    fn the_same_packet_again_is_told_from_another() {
        let first = packet(7, 0x1234, 0x9999, 300);
        assert_ne!(first, 0);
        let mut bucket = Bucket::full(0, 0, 0);
        assert!(!bucket.repeats(first, 100, SECOND));
        assert!(bucket.repeats(first, 100, SECOND + 99_999_999));
        assert!(!bucket.repeats(first, 100, SECOND + 100_000_000), "the client asks again");
        for other in [packet(8, 0x1234, 0, 300), packet(7, 0x1235, 0, 300), packet(7, 0x1234, 0, 301)] {
            let mut bucket = bucket;
            assert!(!bucket.repeats(other, 100, SECOND + 100_000_001));
        }
        for nothing in [packet(7, 0, 0x9999, 300), packet(7, 0x9999, 0x9999, 300)] {
            let mut bucket = Bucket::full(0, 0, 0);
            assert!(!bucket.repeats(nothing, 100, SECOND) && !bucket.repeats(nothing, 100, SECOND));
        }
    }

    #[test]
    fn what_is_dropped_has_its_reason() {
        let limits = Limits { mac_rate: 2, relay_rate: 3, burst_secs: 1, duplicate_ms: 100 };
        let mut client = Bucket::full(2, 1, 0);
        let mut relay = Bucket::full(3, 1, 0);
        assert_eq!(admit(&limits, &mut client, Some(&mut relay), 1, 0), Ok(()));
        assert_eq!(admit(&limits, &mut client, Some(&mut relay), 1, 0), Err(Reason::Duplicate));
        assert_eq!(admit(&limits, &mut client, Some(&mut relay), 2, 0), Ok(()));
        assert_eq!(admit(&limits, &mut client, Some(&mut relay), 3, 0), Err(Reason::MacRate));
        let mut other = Bucket::full(2, 1, 0);
        assert_eq!(admit(&limits, &mut other, Some(&mut relay), 1, 0), Ok(()));
        assert_eq!(admit(&limits, &mut other, Some(&mut relay), 2, 0), Err(Reason::RelayRate));
        let mut third = Bucket::full(2, 1, 0);
        assert_eq!(admit(&limits, &mut third, None, 1, 0), Ok(()), "not relayed");
        assert!(!limits.are_off() && Limits::default().are_off());
    }
}
