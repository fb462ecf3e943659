//! Blades and a server, brought together: frames go to and fro until the time is up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};

use super::blades::{self, Blades, Next, PATIENCE};
use super::contestant::Running;
use super::samples::Sample;

/// How long a server may take from its start to its first ACK.
pub(super) const START: Duration = Duration::from_mins(1);

/// Processor time of this thread; what it does in softirq while it sends is in it.
///
/// # Errors
/// Never, on a clock that every kernel has.
pub(super) fn own_cpu() -> Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::ThreadCPUTime))?)
}

/// Asks until the first machine has its address.
pub(super) fn first(running: &Running, blades: &mut Blades, stop: &AtomicBool) -> Result<()> {
    while running.started.elapsed() < START {
        running.cpu()?;
        drive(running, blades, 1, Duration::from_millis(20), Duration::from_millis(20), stop)?;
        if blades.tally.done > 0 {
            return Ok(());
        }
    }
    bail!("no answer within {} s; its log:\n{}", START.as_secs(), running.log())
}

/// One measurement of a server; whose it is, the caller knows.
pub(super) fn sample(
    running: &Running,
    blades: &mut Blades,
    clients: usize,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Sample> {
    let (server, client) = (running.cpu()?, own_cpu()?);
    let (in_time, took) = drive(running, blades, clients, time, PATIENCE * 2, stop)?;
    Ok(Sample {
        contestant: 0,
        clients,
        in_time,
        took,
        tally: std::mem::take(&mut blades.tally),
        server_cpu: running.cpu()?.saturating_sub(server),
        client_cpu: own_cpu()?.saturating_sub(client),
    })
}

/// Runs the blades for a time, and then until nobody waits any more, for `grace` at most. Returns how many exchanges
/// ended within the time, and the time.
pub(super) fn drive(
    running: &Running,
    blades: &mut Blades,
    clients: usize,
    time: Duration,
    grace: Duration,
    stop: &AtomicBool,
) -> Result<(u64, Duration)> {
    let wire = &running.wire;
    let start = Instant::now();
    blades.reset(clients, start);
    for slot in 0..clients {
        wire.send(blades.begin(slot, Instant::now()).unwrap_or_default()).context("send")?;
    }
    let mut frame = [0; 2048];
    let mut in_time = None;
    let mut looked = start;
    loop {
        let mut now = Instant::now();
        if in_time.is_none() && now - start >= time {
            in_time = Some((blades.tally.done, now - start));
        }
        if let Some(in_time) = in_time
            && (blades.waiting() == 0 || now - start >= time + grace)
        {
            return Ok(in_time);
        }
        if now - looked >= Duration::from_millis(100) {
            looked = now;
            while let Some(slot) = blades.give_up(now) {
                if in_time.is_none() {
                    wire.send(blades.begin(slot, now).unwrap_or_default()).context("send")?;
                }
            }
            anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        }
        // Not without end, so that the clock is looked at.
        let mut heard = 0;
        while heard < blades::MOST
            && let Some(length) = wire.receive(&mut frame).context("receive")?
        {
            heard += 1;
            now = Instant::now();
            match blades.hear(frame.get(..length).unwrap_or_default(), now) {
                Next::Send(request) => wire.send(request).context("send")?,
                Next::Done(slot) if in_time.is_none() => {
                    wire.send(blades.begin(slot, now).unwrap_or_default()).context("send")?;
                }
                Next::Nothing | Next::Done(_) => {}
            }
        }
        if heard == 0 {
            wire.wait(Duration::from_millis(5))?;
        }
    }
}
