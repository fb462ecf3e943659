//! The program that a daemon has left, while its successor takes its time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use netboot::config::{Limits, Xdp};
use netboot::fastpath::{Fastpath, GRACE};
use netboot::timeline::Timeline;
use xtask::lab::wait_for;

use super::live::link;
use super::{BLADE, site, snapshot};
use crate::daemon::{SOON, lab};
use crate::wire::{Ask, DISCOVER, Wire};

#[test]
fn a_successor_keeps_it_alive_until_it_is_ready_and_never_wakes_it_up() {
    let lab = lab();
    let machines = lab.client("machines").unwrap();
    let (wire, link) = (Wire::open(&lab, &machines), link(&lab.server, "pxe0"));
    let inside = || {
        Fastpath::start(&link, None, site(), Xdp::Generic, Limits::default(), Timeline::default()).unwrap()
    };
    let start = || lab.server.inside(inside).unwrap();
    let begin = |fastpath: &mut Fastpath| {
        lab.server.inside(|| fastpath.update(&snapshot(), &BTreeSet::new())).unwrap().unwrap();
    };
    let mut xid = 0;
    let mut answered = || {
        xid += 1;
        wire.send(&Ask::new(BLADE, xid, DISCOVER));
        wire.hear(Duration::from_millis(100)).is_some_and(|reply| reply.xid == xid)
    };

    let mut first = start();
    begin(&mut first);
    assert!(wait_for(SOON, &mut answered), "when the switch knows the way");
    first.leave().unwrap();

    // One that takes longer than the grace time to have everything together.
    let (left, mut second) = (Instant::now(), start());
    while left.elapsed() < GRACE + GRACE / 3 {
        assert!(answered(), "{:?}", left.elapsed());
    }
    begin(&mut second);
    assert!(answered());
    second.leave().unwrap();

    // One that comes when it is too late: what the program knows is old.
    assert!(wait_for(SOON, || !answered()));
    let mut third = start();
    assert!(!answered());
    begin(&mut third);
    assert!(answered());
    lab.server.inside(|| third.close()).unwrap();
    assert!(!answered());
    assert!(!lab.server.ip("link show pxe0").unwrap().contains("xdp"));
}
