//! The decision about one request of a reserved machine: answer it, or pass it up and say why.
//!
//! RFC 2131 sections 4.3.1 and 4.3.2. Pure: nothing is changed before this has answered. The XDP program
//! asks it for every request; the daemon asks it for reserved machines, so that the two cannot differ.

use crate::class::Class;

/// DHCP message types (RFC 2132 9.6) that a client may send and that matter here.
pub mod message {
    /// No option 53 at all: BOOTP (RFC 951)
    pub const BOOTP: u8 = 0;
    /// DHCPDISCOVER
    pub const DISCOVER: u8 = 1;
    /// DHCPOFFER
    pub const OFFER: u8 = 2;
    /// DHCPREQUEST
    pub const REQUEST: u8 = 3;
    /// DHCPDECLINE
    pub const DECLINE: u8 = 4;
    /// DHCPACK
    pub const ACK: u8 = 5;
    /// DHCPNAK
    pub const NAK: u8 = 6;
    /// DHCPRELEASE
    pub const RELEASE: u8 = 7;
    /// DHCPINFORM
    pub const INFORM: u8 = 8;
}

/// What a request says, as far as the decision needs it. Addresses are host-order numbers; 0 means
/// that the field or option is absent or all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Request {
    /// Option 53, 0 when absent.
    pub message: u8,
    /// Header field `ciaddr`: the address the client already uses.
    pub ciaddr: u32,
    /// Option 50, requested address.
    pub requested: u32,
    /// Option 54, the server that the client has chosen.
    pub server_id: u32,
    /// Option 57, the largest message the client takes, 0 when absent.
    pub max_size: u16,
    /// The relay agent names a subnet or a server: option 82, sub-options 5 (RFC 3527) and 11 (RFC 5107).
    pub agent_decides: bool,
    /// Option 118, subnet selection, is there.
    pub subnet_selection: bool,
    /// Option 51, a lease time that the client would like, is there.
    pub lease_time: bool,
    /// A DISCOVER with option 80, rapid commit, where the daemon answers that by an ACK.
    pub rapid_commit: bool,
    /// What kind of client is asking.
    pub class: Class,
}

/// What is known of the machine and of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The machine's address, host order.
    pub addr: u32,
    /// It has no reservation but a lease, which an ACK would make longer: only its end on the disk makes that true.
    pub leased: bool,
    /// This server's address, host order: option 54 of its replies.
    pub server: u32,
}

/// The reply that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// DHCPOFFER
    Offer = message::OFFER,
    /// DHCPACK
    Ack = message::ACK,
}

/// Answer, or pass with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The machine gets this reply.
    Answer(Answer),
    /// Not decided here. In XDP: the untouched packet goes up to the daemon.
    Pass(Reason),
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a packet was not answered. One list for the XDP program and the daemon: the same thing has
        /// the same name in both, in the log, in the status and in the metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that operators see.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The packet is dropped, by a limit that the operator has turned on; all others are passed up.
            #[inline(always)]
            pub const fn drops(self) -> bool {
                matches!(self, Self::MacRate | Self::RelayRate | Self::Duplicate)
            }
        }
    };
}

reasons! {
    /// Not IPv4 to UDP port 67: other people's traffic.
    NotDhcp => "not-dhcp",
    /// IP fragment or IP options, which no DHCP client sends.
    OddIp => "odd-ip",
    /// The UDP length does not match the packet.
    BadLength => "bad-length",
    /// Shorter than the fixed BOOTP header.
    Truncated => "truncated",
    /// `op` is not BOOTREQUEST.
    NotRequest => "not-a-request",
    /// `htype` or `hlen` is not Ethernet's.
    BadHardware => "bad-hardware-address",
    /// The magic cookie is missing or wrong (RFC 2131 3).
    BadCookie => "bad-cookie",
    /// An option runs past the end of the packet.
    BadOptions => "bad-options",
    /// An option that has a fixed length has another one.
    BadOptionLength => "bad-option-length",
    /// Options continue in `file` or `sname` (option 52).
    Overload => "option-overload",
    /// A message type that nobody answers, or none.
    MessageType => "message-type",
    /// Sent through a relay agent.
    Relayed => "relayed",
    /// The client chose another server (option 54).
    OtherServer => "other-server",
    /// The client asks for an address that is not its own.
    WrongAddress => "wrong-address",
    /// A REQUEST that fits none of the four states of RFC 2131 4.3.2.
    OddRequest => "odd-request",
    /// The class is answered by the daemon alone.
    OtherClass => "other-class",
    /// The reply would be larger than the client takes (option 57).
    TooSmall => "client-takes-too-little",
    /// An option to be echoed is longer than the program copies.
    LongEcho => "long-echo",
    /// No reservation for this MAC.
    Unknown => "unknown-mac",
    /// The daemon's heartbeat is older than the grace time.
    Stale => "stale-heartbeat",
    /// The frame could not be resized or written.
    NoRoom => "no-room",
    /// An internal map entry is missing.
    NoEntry => "no-entry",
    /// Addressed to another host on this network.
    NotForUs => "not-for-us",
    /// No free address is left in the pool.
    PoolExhausted => "pool-exhausted",
    /// The lease could not be written to disk, so it was not acknowledged.
    StoreFailed => "store-failed",
    /// An unknown client asked to keep an address this server never gave it.
    NoLease => "no-lease",
    /// The request queue was full.
    QueueFull => "queue-full",
    /// The reply could not be sent.
    SendFailed => "send-failed",
    /// An option is there twice (RFC 3396 would have it joined, which the program does not).
    RepeatedOption => "repeated-option",
    /// More options than the program reads.
    LongRequest => "long-request",
    /// The machine found somebody else at the address that is reserved for it.
    AddressInUse => "reserved-address-in-use",
    /// Its answer is on its way: the disk or a probe of the address is waited for.
    Pending => "answer-pending",
    /// It waited in the queue, and the same machine has asked again since.
    AskedAgain => "asked-again",
    /// Too many packets of one relay agent waited in the queue.
    RelayLimit => "relay-limit",
    /// It names a subnet, by relay agent or option, that is not served.
    UnknownSubnet => "unknown-subnet",
    /// It has declined as many addresses as one client may.
    DeclineLimit => "decline-limit",
    /// Beside another DHCP server, and the client does not say that it boots: its address is that server's affair.
    NotBootClient => "not-a-boot-client",
    /// There is no boot file for this machine, on purpose or not, and nothing else to tell it.
    NoBootFile => "no-boot-file",
    /// The client chose an item that is not in the boot menu.
    NoMenuItem => "no-such-menu-item",
    /// It has no reservation and waits for one (`dhcp.unknown` is `hold`).
    Held => "held",
    /// It has no reservation, and only reserved machines are answered (`dhcp.unknown` is `deny`).
    Denied => "denied",
    /// The client asks for an address of a subnet that it names (option 118).
    SubnetSelection => "subnet-selection",
    /// The client would take an ACK for its DISCOVER (option 80).
    RapidCommit => "rapid-commit",
    /// A BOOTP request of a machine without reservation: what it gets it would keep for ever.
    BootpUnknown => "bootp-unknown",
    /// It has a tag of another VLAN than the PXE network's.
    OtherVlan => "other-vlan",
    /// The relay agent names a subnet or a server (option 82, sub-options 5 and 11).
    AgentDecides => "relay-agent-decides",
    /// The machine's lease has ended.
    LeaseEnded => "lease-ended",
    /// The lease must be on disk before it is acknowledged.
    LeaseToWrite => "lease-to-write",
    /// Another DHCP server speaks to a client.
    ForeignServer => "foreign-server",
    /// Dropped: the client asks more often than the operator's limit lets it (`dhcp.limits`).
    MacRate => "mac-rate",
    /// Dropped: the relay agent brings more than the operator's limit lets it.
    RelayRate => "relay-rate",
    /// Dropped: the same packet was here a moment ago.
    Duplicate => "duplicate",
}

/// Decides about a well-formed request of a machine whose address is known.
#[inline(always)]
pub fn decide(request: &Request, host: &Host) -> Verdict {
    if request.agent_decides {
        return Verdict::Pass(Reason::AgentDecides);
    }
    if request.subnet_selection {
        return Verdict::Pass(Reason::SubnetSelection);
    }
    if host.leased && (request.message == message::REQUEST || request.lease_time) {
        return Verdict::Pass(Reason::LeaseToWrite);
    }
    match request.message {
        message::DISCOVER if request.rapid_commit => Verdict::Pass(Reason::RapidCommit),
        message::DISCOVER => Verdict::Answer(Answer::Offer),
        message::REQUEST => request_state(request, host),
        _ => Verdict::Pass(Reason::MessageType),
    }
}

/// RFC 2131 4.3.2: SELECTING, INIT-REBOOT, RENEWING or REBINDING, told apart by option 54, option 50 and `ciaddr`.
#[inline(always)]
fn request_state(request: &Request, host: &Host) -> Verdict {
    let claimed = if request.server_id != 0 {
        if request.server_id != host.server {
            return Verdict::Pass(Reason::OtherServer);
        }
        // SELECTING. RFC 2131 wants ciaddr 0 and option 50; some ROMs fill ciaddr as well, with the same address.
        if request.requested == 0 { request.ciaddr } else { request.requested }
    } else if request.ciaddr == 0 {
        // INIT-REBOOT
        request.requested
    } else if request.requested == 0 || request.requested == request.ciaddr {
        // RENEWING (unicast) or REBINDING (broadcast)
        request.ciaddr
    } else {
        return Verdict::Pass(Reason::OddRequest);
    };
    if claimed == 0 {
        Verdict::Pass(Reason::OddRequest)
    } else if claimed != host.addr || (request.ciaddr != 0 && request.ciaddr != host.addr) {
        Verdict::Pass(Reason::WrongAddress)
    } else {
        Verdict::Answer(Answer::Ack)
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Class, Host, Reason, Request, Verdict, decide, message};

    const ME: u32 = 0xc0a8_5a0b;
    const SERVER: u32 = 0xc0a8_5a02;
    const HOST: Host = Host { addr: ME, leased: false, server: SERVER };

    fn request(message: u8) -> Request {
        Request {
            message,
            ciaddr: 0,
            requested: 0,
            server_id: 0,
            max_size: 0,
            agent_decides: false,
            subnet_selection: false,
            lease_time: false,
            rapid_commit: false,
            class: Class::Plain,
        }
    }

    #[test]
    fn the_states_of_rfc_2131() {
        let ask = request(message::REQUEST);
        let ack = Verdict::Answer(Answer::Ack);
        let table = [
            ("discover", request(message::DISCOVER), Verdict::Answer(Answer::Offer)),
            ("selecting", Request { server_id: SERVER, requested: ME, ..ask }, ack),
            ("selecting with ciaddr", Request { server_id: SERVER, requested: ME, ciaddr: ME, ..ask }, ack),
            (
                "selecting, other server",
                Request { server_id: 9, requested: ME, ..ask },
                Verdict::Pass(Reason::OtherServer),
            ),
            (
                "selecting, other address",
                Request { server_id: SERVER, requested: 9, ..ask },
                Verdict::Pass(Reason::WrongAddress),
            ),
            ("init-reboot", Request { requested: ME, ..ask }, ack),
            (
                "init-reboot, other address",
                Request { requested: 9, ..ask },
                Verdict::Pass(Reason::WrongAddress),
            ),
            ("renew", Request { ciaddr: ME, ..ask }, ack),
            ("renew, other address", Request { ciaddr: 9, ..ask }, Verdict::Pass(Reason::WrongAddress)),
            (
                "both addresses, different",
                Request { ciaddr: ME, requested: 9, ..ask },
                Verdict::Pass(Reason::OddRequest),
            ),
            ("no address at all", ask, Verdict::Pass(Reason::OddRequest)),
            (
                "selecting, no address",
                Request { server_id: SERVER, ..ask },
                Verdict::Pass(Reason::OddRequest),
            ),
            (
                "an agent that decides",
                Request { agent_decides: true, ..request(message::DISCOVER) },
                Verdict::Pass(Reason::AgentDecides),
            ),
            (
                "a wish for a lease time",
                Request { lease_time: true, ..request(message::DISCOVER) },
                Verdict::Answer(Answer::Offer),
            ),
            (
                "option 118",
                Request { subnet_selection: true, requested: ME, ..ask },
                Verdict::Pass(Reason::SubnetSelection),
            ),
            (
                "option 80",
                Request { rapid_commit: true, ..request(message::DISCOVER) },
                Verdict::Pass(Reason::RapidCommit),
            ),
            ("release", request(message::RELEASE), Verdict::Pass(Reason::MessageType)),
            ("none", request(0), Verdict::Pass(Reason::MessageType)),
        ];
        for (name, request, verdict) in table {
            assert_eq!(decide(&request, &HOST), verdict, "{name}");
        }
    }

    #[test]
    fn a_lease_is_offered_and_never_made_longer() {
        let host = Host { leased: true, ..HOST };
        let discover = request(message::DISCOVER);
        assert_eq!(decide(&discover, &host), Verdict::Answer(Answer::Offer));
        let renew = Request { ciaddr: ME, ..request(message::REQUEST) };
        for request in [renew, Request { lease_time: true, ..discover }] {
            assert_eq!(decide(&request, &host), Verdict::Pass(Reason::LeaseToWrite));
        }
    }

    #[test]
    fn every_reason_has_its_own_name() {
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            assert!(
                Reason::ALL.iter().filter(|other| other.name() == reason.name()).count() == 1,
                "{reason:?}"
            );
        }
    }
}
