//! Socket options that neither socket2 nor rustix has, as bytes in the kernel's layout.

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// The level of the options of packet(7).
pub(super) const SOL_PACKET: i32 = 263;

unsafe extern "C" {
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const u8, length: u32) -> i32;
    fn getsockopt(fd: i32, level: i32, name: i32, value: *mut u8, length: *mut u32) -> i32;
}

/// Has a TCP socket that listens give out connections when their first bytes are there, and silent ones after so many seconds;
/// with 0, at once.
pub(crate) fn defer_accept(socket: &Socket, secs: i32) -> io::Result<()> {
    const IPPROTO_TCP: i32 = 6;
    const TCP_DEFER_ACCEPT: i32 = 9;
    set(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT, &secs.to_ne_bytes())
}

/// Sets an option.
pub(super) fn set(socket: &Socket, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = u32::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the C library's function with its own signature, `socklen_t` being 32 bits; it reads `length` bytes of a
    // slice that lives until it returns.
    let result = unsafe { setsockopt(socket.as_raw_fd(), level, name, value.as_ptr(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option of at most `N` bytes; what the kernel does not write is zero.
pub(super) fn get<const N: usize>(socket: &Socket, level: i32, name: i32) -> io::Result<[u8; N]> {
    let mut value = [0; N];
    let mut length = u32::try_from(N).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: as above; it writes at most `length` bytes, which is the length of the array.
    let result = unsafe { getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr(), &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
