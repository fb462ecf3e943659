//! Equal or pass: what the XDP program sends is what the daemon would, byte for byte; what it passes up it has not touched,
//! and counts for the reason that is predicted.
//!
//! The program is behind a trait: here is nothing that needs root. Who runs it is in `program`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use netboot::dhcp::policy::{Addressed, Outcome, Route};
use netboot::mac::Mac;
use netboot_ebpf::abi::{COUNTERS, Event, OFFERS, counter_name, what};
use netboot_ebpf::{Answer, Reason};

use super::dice::Dice;
use super::frames::{self, Envelope};
use super::predict::{Answered, payload, predict};
use super::requests::{self, SERVER_MAC};
use super::server::Server;
use super::site::Place;
use super::world::SERVER;

/// The packet goes up.
pub(crate) const XDP_PASS: u32 = 2;
/// It goes back.
pub(crate) const XDP_TX: u32 = 3;

/// What the program makes of a frame.
pub(crate) struct Ran {
    /// What is to become of it.
    pub(crate) action: u32,
    /// The frame.
    pub(crate) out: Vec<u8>,
    /// What it tells of it.
    pub(crate) events: Vec<Event>,
}

/// The program with the machines of a place.
pub(crate) trait Program {
    /// Takes a place.
    fn settle(&mut self, place: &Place);
    /// Runs on a frame.
    fn run(&mut self, frame: &[u8]) -> Ran;
    /// A counter.
    fn count(&self, counter: u32) -> u64;
}

/// How often each answer and each reason was met.
pub(crate) type Met = BTreeMap<String, usize>;

/// One place, the daemon there, and what the program must have counted.
pub(crate) struct Scene {
    place: Place,
    server: Server,
    counts: Vec<u64>,
}

impl Scene {
    /// The place of this number, and the program in it.
    pub(crate) fn new(number: u16, program: &mut dyn Program) -> Self {
        let place = Place::new(number);
        program.settle(&place);
        let counts = (0..COUNTERS).map(|counter| program.count(counter)).collect();
        Self { server: place.server(), place, counts }
    }

    /// Makes a frame by these bytes and looks at what becomes of it.
    ///
    /// # Errors
    /// What is not right, in words.
    pub(crate) fn packet(
        &mut self,
        program: &mut dyn Program,
        bytes: &[u8],
        met: &mut Met,
    ) -> Result<(), String> {
        let frame = requests::frame(&mut Dice::new(bytes), &self.place);
        self.frame(program, &frame, met).map_err(|why| {
            let case = hex(&written(self.place.number, &[bytes.to_vec()])).replace([' ', '\n'], "");
            let text = self.place.text();
            format!("{why}\n\nthe request:\n{}\nthe case, for fuzz/corpus/equal: {case}\n{text}", hex(&frame))
        })
    }

    /// Looks at what becomes of a frame.
    fn frame(&mut self, program: &mut dyn Program, frame: &[u8], met: &mut Met) -> Result<(), String> {
        let predicted = predict(frame, &self.place);
        let Ran { action, out, events } = program.run(frame);
        let counter = match &predicted {
            Ok(answered) => OFFERS + u32::from(answered.answer == Answer::Ack),
            Err(reason) => *reason as u32,
        };
        self.counts[counter as usize] += 1;
        if program.count(counter) != self.counts[counter as usize] {
            return Err(format!("{predicted:?} is predicted, and not counted: {}", self.counted(program)));
        }
        let event = match events.as_slice() {
            [] => None,
            [event] => Some(*event),
            more => return Err(format!("one packet is told more than once: {more:?}")),
        };
        match predicted {
            Ok(answered) => {
                *met.entry(format!("{:?} {}", answered.answer, answered.class.name())).or_default() += 1;
                if action != XDP_TX {
                    return Err(format!("it is counted as answered, and the program says {action}"));
                }
                self.answer(frame, &out, &answered)?;
                told(event, &answered)
            }
            Err(reason) => {
                *met.entry(reason.name().to_owned()).or_default() += 1;
                if action != XDP_PASS {
                    return Err(format!("it is counted as {}, and the program says {action}", reason.name()));
                }
                if out != frame {
                    return Err(format!("passed ({}), but touched:\n{}", reason.name(), hex(&out)));
                }
                told_seldom(event, reason)
            }
        }
    }

    /// What was sent is what the daemon would send.
    fn answer(&self, frame: &[u8], out: &[u8], answered: &Answered) -> Result<(), String> {
        let (data, unicast) = payload(frame).ok_or("what is answered is no request")?;
        let addressed = if unicast { Addressed::Server } else { Addressed::Broadcast };
        let reply = match self.server.outcome(&frame[data.clone()], addressed) {
            Ok(Outcome::Reply(reply, _)) => reply,
            other => return Err(format!("the program answers, and the daemon does not: {other:?}")),
        };
        // As `Replies` of `dhcp::server` sends it; by a router or relay agent it goes back to where it came from.
        let router = Mac(frame[6..12].try_into().expect("six bytes"));
        let (to, dst) = match reply.route {
            Route::Unicast { mac, addr } => (mac, (addr, 68)),
            Route::Broadcast => (Mac::BROADCAST, ([255; 4].into(), 68)),
            Route::Relay(agent) => (router, (agent, 67)),
            Route::Routed(addr) => (router, (addr, 68)),
            Route::BootService(_) => return Err("the program answers for the boot service".to_owned()),
        };
        let tags = frame[12..data.start - 28 - 2].as_chunks().0.to_vec();
        let envelope = Envelope { to, from: SERVER_MAC, tags, src: (SERVER, 67), dst };
        let expected = frames::frame(&envelope, &reply.bytes);
        if out != expected {
            return Err(format!(
                "{answered:?}: not what the daemon would send:{}\n\nwhat the daemon would send:\n{}\n\nwhat was sent:\n{}",
                differences(&expected, out),
                hex(&expected),
                hex(out)
            ));
        }
        Ok(())
    }

    /// Each packet was counted once.
    ///
    /// # Errors
    /// What was not.
    pub(crate) fn ended(&self, program: &dyn Program) -> Result<(), String> {
        let wrong = self.counted(program);
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("counted as nothing was met: {wrong}\n{}", self.place.text()))
        }
    }

    /// The counters that are not as they should be.
    fn counted(&self, program: &dyn Program) -> String {
        let mut text = String::new();
        for (counter, want) in (0..).zip(&self.counts) {
            let is = program.count(counter);
            if is != *want {
                let _ = write!(text, " {} {is}, not {want};", counter_name(counter).unwrap_or_default());
            }
        }
        text
    }
}

/// An answer is told, as it was.
fn told(event: Option<Event>, answered: &Answered) -> Result<(), String> {
    let event = event.ok_or("an answer that is not told")?;
    let Answered { answer, class, addr, header } = answered;
    let expected = Event {
        at_ns: event.at_ns,
        addr: *addr,
        xid: u32::from_be_bytes(header.xid),
        giaddr: u32::from_be_bytes(header.giaddr),
        mac: header.mac(),
        class: *class as u8,
        what: what::ANSWERED,
        detail: *answer as u8,
        pad: [0; 3],
    };
    if event == expected && event.at_ns > 0 {
        Ok(())
    } else {
        Err(format!("{event:?} is told of {expected:?}"))
    }
}

/// A pass is told now and then, and as what it is.
fn told_seldom(event: Option<Event>, reason: Reason) -> Result<(), String> {
    let Some(event) = event else { return Ok(()) };
    let expected = if reason == Reason::ForeignServer { what::FOREIGN } else { what::PASSED };
    let right = event.what == expected && event.detail == reason as u8 && event.class == 0;
    if right { Ok(()) } else { Err(format!("{event:?} is told of a pass, {}", reason.name())) }
}

/// Where two frames differ.
fn differences(expected: &[u8], out: &[u8]) -> String {
    let mut text = String::new();
    if expected.len() != out.len() {
        let _ = write!(text, " {} bytes, not {};", out.len(), expected.len());
    }
    let pairs = expected.iter().zip(out).enumerate().filter(|(_, (one, other))| one != other);
    for (at, (one, other)) in pairs.take(20) {
        let _ = write!(text, " byte {at} is {other:02x}, not {one:02x};");
    }
    text
}

/// Sixteen bytes a line.
fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

/// A whole case as bytes: two bytes of the place, then packets, each behind two bytes that say how many it has.
///
/// # Errors
/// What is not right, in words.
pub(crate) fn run(data: &[u8], program: &mut dyn Program, met: &mut Met) -> Result<(), String> {
    let dice = &mut Dice::new(data);
    let mut scene = Scene::new(dice.number(), program);
    while !dice.is_empty() {
        let length = dice.number();
        let bytes = dice.bytes(length.into());
        scene.packet(program, bytes, met)?;
    }
    scene.ended(program)
}

/// The bytes of a case.
pub(crate) fn written(number: u16, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    for packet in packets {
        bytes.extend(u16::try_from(packet.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(packet);
    }
    bytes
}
