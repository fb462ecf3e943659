//! bpf(2): what the kernel counts of an attached program, and programs of two instructions to hold it against.
//!
//! Structures are those of `linux/bpf.h`, the parts of them that are used. Neither netboot's own code nor its maps are
//! looked at: any XDP program can be asked.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What a program of two instructions returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// `XDP_PASS`: up to the IP stack.
    Pass = 2,
    /// `XDP_TX`: back to where it came from, as it is.
    Reflect = 3,
}

const PROG_LOAD: c_long = 5;
const PROG_TEST_RUN: c_long = 10;
const PROG_GET_FD_BY_ID: c_long = 13;
const OBJ_GET_INFO_BY_FD: c_long = 15;
const LINK_CREATE: c_long = 28;
const ENABLE_STATS: c_long = 32;

/// `BPF_PROG_TYPE_XDP`
const TYPE_XDP: u32 = 6;
/// `BPF_XDP` as what is attached.
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`, which netboot takes on a veth.
const GENERIC: u32 = 2;
/// `BPF_STATS_RUN_TIME`
const RUN_TIME: u32 = 0;

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `bpf_prog_info` up to the number of its runs.
#[repr(C)]
struct Info {
    before: [u64; 24],
    run_time_ns: u64,
    run_cnt: u64,
}

const _: () = {
    assert!(size_of::<Load>() == 48);
    assert!(size_of::<TestRun>() == 80);
    assert!(std::mem::offset_of!(Info, run_time_ns) == 192);
};

/// A call that returns a new file descriptor, or 0.
fn bpf<T>(command: c_long, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attr` is laid out as the kernel's union for this command begins, and its length is told; what it points to
    // outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

fn open<T>(command: c_long, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: &OwnedFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or_default()
}

fn address<T>(of: *const T) -> u64 {
    of.addr() as u64
}

/// The kernel counts the runs and the time of all programs as long as this lives.
///
/// # Errors
/// When it may not, or the kernel is older than 5.8.
pub(super) fn count_runs() -> io::Result<OwnedFd> {
    open(ENABLE_STATS, &mut [RUN_TIME])
}

/// Runs of a program, and the time that they took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) time: Duration,
}

/// A program in the kernel. It is gone when nobody has it any more.
#[derive(Debug)]
pub(super) struct Program(OwnedFd);

impl Program {
    /// The one with this number.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn by_id(id: u32) -> io::Result<Self> {
        open(PROG_GET_FD_BY_ID, &mut [id, 0, 0]).map(Self)
    }

    /// One that returns this for every frame.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(super) fn constant(action: Action) -> io::Result<Self> {
        // r0 = action; exit
        let instructions = [0xb7 | (action as u64) << 32, 0x95];
        let license = c"Apache-2.0";
        let mut attr = Load {
            prog_type: TYPE_XDP,
            insn_cnt: 2,
            insns: address(instructions.as_ptr()),
            license: address(license.as_ptr()),
            ..Load::default()
        };
        open(PROG_LOAD, &mut attr).map(Self)
    }

    /// Attaches it to an interface of this thread's network namespace, in generic mode, as long as the result lives.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn attach(&self, index: u32) -> io::Result<OwnedFd> {
        open(LINK_CREATE, &mut [number(&self.0), index, ATTACH_XDP, GENERIC])
    }

    /// Its runs so far, while [`count_runs`] was in force.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn runs(&self) -> io::Result<Runs> {
        let mut info = Info { before: [0; 24], run_time_ns: 0, run_cnt: 0 };
        let info_len = u32::try_from(size_of::<Info>()).map_err(io::Error::other)?;
        let place = address(std::ptr::from_mut(&mut info));
        bpf(OBJ_GET_INFO_BY_FD, &mut GetInfo { bpf_fd: number(&self.0), info_len, info: place })?;
        Ok(Runs { count: info.run_cnt, time: Duration::from_nanos(info.run_time_ns) })
    }

    /// Runs it so often on a frame, without a network, and returns the mean nanoseconds of a run and what it returned.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn test(&self, frame: &[u8], times: u32) -> io::Result<(u32, u32)> {
        let mut attr = TestRun {
            prog_fd: number(&self.0),
            data_size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
            data_in: address(frame.as_ptr()),
            repeat: times,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attr)?;
        Ok((attr.duration, attr.retval))
    }
}
