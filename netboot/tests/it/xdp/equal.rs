//! The differential test: sites, machines and packets at random through the loaded program and through the daemon's policy. What
//! the program sends is what the daemon would, byte for byte; what it passes up it has not touched, and counts for the
//! reason that is predicted. The body is `fuzz/bodies/equal.rs`; `cargo xtask fuzz equal` is the long form.

use std::fs;

use netboot_ebpf::{Class, Reason};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use crate::corpus::bodies::dice::expand;
use crate::corpus::bodies::equal::{self, Met, Program, Ran, XDP_PASS, XDP_TX};
use crate::corpus::bodies::program::Kernel;
use crate::corpus::bodies::requests::RAW;
use crate::corpus::bodies::site::Place;
use crate::corpus::{files, odd_packets, package};

/// Packets of the normal run, at least.
const PACKETS: usize = 20_000;
/// Sites of the normal run.
const SITES: u32 = 200;
/// Packets at one site, at most; half of them on average.
const MOST: usize = 260;
/// Every reason for which the program passes packets up that come to it at random, while the daemon is alive and nothing is
/// limited.
const REASONS: [Reason; 29] = [
    Reason::NotDhcp,
    Reason::OddIp,
    Reason::BadLength,
    Reason::Truncated,
    Reason::NotRequest,
    Reason::BadHardware,
    Reason::BadCookie,
    Reason::BadOptions,
    Reason::BadOptionLength,
    Reason::Overload,
    Reason::MessageType,
    Reason::OtherServer,
    Reason::WrongAddress,
    Reason::OddRequest,
    Reason::OtherClass,
    Reason::TooSmall,
    Reason::LongEcho,
    Reason::Unknown,
    Reason::NotForUs,
    Reason::RepeatedOption,
    Reason::LongRequest,
    Reason::UnknownSubnet,
    Reason::SubnetSelection,
    Reason::RapidCommit,
    Reason::OtherVlan,
    Reason::AgentDecides,
    Reason::ForeignServer,
    Reason::LeaseEnded,
    Reason::LeaseToWrite,
];

/// No program, where it can be loaded at all.
fn kernel() -> Kernel {
    netboot::fastpath::probe().unwrap_or_else(|error| panic!("{error}"));
    Kernel::default()
}

/// The bytes by which a packet is made: at random, or with the payload of a firmware's and how it is changed.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let kept: Vec<_> = odd_packets().into_iter().map(|(_, payload)| payload).collect();
    let raw = (prop::sample::select(kept), prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(payload, rest)| {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            [&[RAW], &length[..], &payload, &rest].concat()
        },
    );
    prop_oneof![7 => prop::collection::vec(any::<u8>(), 30..160), 1 => raw]
}

#[test]
fn xdp_is_equal_to_the_daemon_or_passes() {
    let mut kernel = kernel();
    let mut met = Met::new();
    let config = ProptestConfig {
        cases: SITES,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    };
    let cell = std::cell::RefCell::new((&mut kernel, &mut met));
    let strategy = (any::<u16>(), prop::collection::vec(packets(), 1..=MOST));
    let result = TestRunner::new(config).run(&strategy, |(place, packets)| {
        let (kernel, met) = &mut *cell.borrow_mut();
        let case = equal::written(place, &packets);
        equal::run(&case, *kernel, met).map_err(TestCaseError::fail)
    });
    match result {
        // What was left of the case after all that makes no difference was taken away is in the reason.
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        result => result.unwrap(),
    }
    eprintln!("{met:#?}");
    let packets: usize = met.values().sum();
    assert!(packets >= PACKETS, "{packets} packets");
    // A test in which all is passed up, or nothing is near a limit, says nothing.
    let times = |name: &str| met.get(name).copied().unwrap_or_default();
    for class in Class::ALL {
        for answer in ["Offer", "Ack"] {
            let name = format!("{answer} {}", class.name());
            assert!(times(&name) > 50, "{name}: {} of {packets}", times(&name));
        }
    }
    for reason in REASONS {
        assert!(times(reason.name()) > 5, "{}: {} of {packets}", reason.name(), times(reason.name()));
    }
    let answered: usize = met.iter().filter(|(name, _)| name.contains(' ')).map(|(_, times)| times).sum();
    assert!(answered > packets / 5, "{answered} of {packets} are answered");
}

#[test]
fn what_was_found_in_the_program_stays_found() {
    let mut kernel = kernel();
    let mut met = Met::new();
    let kept = files(&package().join("fuzz/corpus/equal"));
    assert!(kept.len() > 10, "the corpus is where this test looks for it");
    for path in kept {
        let name = path.display();
        equal::run(&fs::read(&path).unwrap(), &mut kernel, &mut met)
            .unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

/// What is done to what the program has made of a frame; `false`: there was nothing to break.
type Break = fn(&[u8], &mut Ran) -> bool;

/// The program, broken.
struct Broken<'a>(&'a mut Kernel, Break, &'a mut usize);

impl Program for Broken<'_> {
    fn settle(&mut self, place: &Place) {
        self.0.settle(place);
    }

    fn run(&mut self, frame: &[u8]) -> Ran {
        let mut ran = self.0.run(frame);
        *self.2 += usize::from((self.1)(frame, &mut ran));
        ran
    }

    fn count(&self, counter: u32) -> u64 {
        self.0.count(counter)
    }
}

/// Changes an answer, and says whether that changed anything.
fn answer(ran: &mut Ran, change: impl FnOnce(&mut Vec<u8>)) -> bool {
    let before = ran.out.clone();
    if ran.action == XDP_TX {
        change(&mut ran.out);
    }
    ran.out != before
}

/// Where the DHCP message of an answer begins.
fn message(out: &[u8]) -> usize {
    28 + 2 + (12..=20).step_by(4).find(|at| out[*at..*at + 2] == [8, 0]).unwrap()
}

/// Everything of this kind is noticed at the first place where it can be seen.
const BREAKS: [(&str, Break); 11] = [
    ("nothing", |_, _| false),
    ("ciaddr in an OFFER", |request, ran| {
        answer(ran, |out| {
            let at = message(out);
            if out[at + 242] == 2 {
                out[at + 12..at + 16].copy_from_slice(&request[at + 12..at + 16]);
            }
        })
    }),
    ("bytes of an earlier packet behind END", |_, ran| {
        answer(ran, |out| {
            let at = message(out);
            if out.len() == at + 300 && out[at + 299] == 0 {
                out[at + 299] = 0xa5;
            }
        })
    }),
    ("the client's port to a relay agent", |_, ran| {
        answer(ran, |out| {
            let at = message(out);
            out[at - 6..at - 4].copy_from_slice(&[0, 68]);
        })
    }),
    ("the tag without its priority", |_, ran| {
        answer(ran, |out| {
            if message(out) > 42 {
                out[14] &= 0x0f;
            }
        })
    }),
    ("a byte less", |_, ran| answer(ran, |out| out.truncate(out.len() - 1))),
    ("a byte more", |_, ran| answer(ran, |out| out.push(0))),
    ("no checksum", |_, ran| {
        answer(ran, |out| {
            let at = message(out);
            out[at - 2..at].fill(0);
        })
    }),
    ("a pass of what was changed", |_, ran| {
        ran.out[6] ^= u8::from(ran.action == XDP_PASS);
        ran.action == XDP_PASS
    }),
    ("a drop", |_, ran| {
        let passed = ran.action == XDP_PASS;
        ran.action -= u32::from(passed);
        passed
    }),
    ("an answer that nobody is told of", |_, ran| {
        ran.events.clear();
        ran.action == XDP_TX
    }),
];

#[test]
fn whatever_is_broken_is_noticed() {
    let mut kernel = kernel();
    for (name, how) in BREAKS {
        let mut noticed = None;
        let mut broken = 0;
        for place in 0..20 {
            let packets: Vec<_> = (0..50).map(|packet| expand(1000 * place + packet, 120)).collect();
            let case = equal::written(u16::try_from(place).unwrap(), &packets);
            let result = equal::run(&case, &mut Broken(&mut kernel, how, &mut broken), &mut Met::new());
            noticed = noticed.or(result.err());
            if broken > 0 {
                break;
            }
        }
        assert_eq!(noticed.is_some(), name != "nothing", "{name}: {}", noticed.unwrap_or_default());
        assert_eq!(broken, usize::from(name != "nothing"), "{name}: not noticed at once");
    }
}
