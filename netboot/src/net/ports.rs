//! Who has a port that we want: the error message that an operator can act on.
//!
//! Reads /proc of this network namespace. Only ever asked after a bind has failed.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::Path;

use socket2::{Domain, Socket, Type};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// UDP
    Udp,
    /// TCP, listening sockets.
    Tcp,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The name of its program, as `ps` shows it.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The process that has this port on this address, or on every one, if it can be seen: other users' processes cannot
/// without root. On an unspecified address: the process that has it on any.
pub fn holder(proto: Proto, wanted: SocketAddrV4) -> Option<Process> {
    let sockets: Vec<String> = ["", "6"]
        .iter()
        .filter_map(|family| fs::read_to_string(format!("/proc/thread-self/net/{proto}{family}")).ok())
        .flat_map(|table| inodes(&table, proto, wanted))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let holders: Vec<u32> = pids.filter(|pid| has_one(*pid, &sockets)).collect();
    // A child has what its parent has, for a moment or for good: it is the parent that is to be stopped.
    let is_child = |pid: &u32| parent(*pid).is_some_and(|parent| holders.contains(&parent));
    let pid = *holders.iter().find(|pid| !is_child(pid)).or(holders.first())?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Process { pid, name: name.trim_end().to_owned() })
}

/// The parent of a process.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Takes a port as a server does, on the interface if one is named, and lets it go at once.
///
/// # Errors
/// When it is taken, or may not be.
pub fn attempt(proto: Proto, wanted: SocketAddrV4, interface: Option<&str>) -> io::Result<()> {
    let socket = match proto {
        Proto::Udp => Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?,
        Proto::Tcp => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
            // Connections that have ended keep no listener away, neither here nor when the daemon starts.
            socket.set_reuse_address(true)?;
            socket
        }
    };
    if interface.is_some() {
        socket.bind_device(interface.map(str::as_bytes))?;
    }
    socket.bind(&wanted.into())?;
    if proto == Proto::Tcp { socket.listen(1) } else { Ok(()) }
}

/// Whether this process has this file open, as far as that can be seen.
pub fn has_open(pid: u32, file: &Path) -> bool {
    let Ok(file) = file.canonicalize() else { return false };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == file)
}

/// The sentence for the operator: the port, who has it, how to free it.
pub fn taken(proto: Proto, wanted: SocketAddrV4) -> String {
    let port = wanted.port();
    match holder(proto, wanted) {
        Some(process) => format!(
            "port {port}/{proto} is taken by {process}; stop it (`systemctl stop {}` if it is a service, else `kill {}`) and start again",
            process.name, process.pid
        ),
        None => format!(
            "port {port}/{proto} is taken by a process that cannot be seen from here; `sudo ss -lnp` shows it; stop it and start again"
        ),
    }
}

/// The socket inodes of a port in a table of /proc/net, where addresses are hexadecimal, their bytes in memory order.
fn inodes(table: &str, proto: Proto, wanted: SocketAddrV4) -> Vec<u64> {
    let suffix = format!(":{:04X}", wanted.port());
    let addr = format!("{:08X}", u32::from_ne_bytes(wanted.ip().octets()));
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        // 0A is LISTEN; a connection from this port to somewhere takes nothing away.
        // In the table of IPv6 the last of four words is an IPv4 address.
        let on = local.strip_suffix(&suffix)?;
        let clashes =
            wanted.ip().is_unspecified() || on.ends_with(&addr) || on.bytes().all(|digit| digit == b'0');
        let counts = clashes && (proto == Proto::Udp || state == "0A");
        let inode = fields.nth(5)?.parse().ok()?;
        counts.then_some(inode)
    };
    table.lines().skip(1).filter_map(line).collect()
}

fn has_one(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else { return false };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| sockets.iter().any(|socket| Path::new(socket) == target))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

    use super::{Proto, holder, inodes, taken};

    #[test]
    fn finds_its_own_process() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        for (proto, port) in
            [(Proto::Udp, udp.local_addr().unwrap().port()), (Proto::Tcp, tcp.local_addr().unwrap().port())]
        {
            let wanted = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            assert_eq!(holder(proto, wanted).unwrap().pid, std::process::id());
            assert_eq!(
                holder(proto, SocketAddrV4::new([127, 9, 9, 9].into(), port)),
                None,
                "another address"
            );
            let message = taken(proto, wanted);
            let who = format!("port {port}/{proto} is taken by {}", holder(proto, wanted).unwrap());
            assert!(message.starts_with(&who), "{message}");
            assert!(message.contains(&format!("kill {}", std::process::id())), "{message}");
        }
    }

    #[test]
    fn a_child_that_has_its_parents_socket_is_not_who_has_it() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        rustix::io::fcntl_setfd(&udp, rustix::io::FdFlags::empty()).unwrap();
        let mut children: Vec<_> = (0..3)
            .map(|_| {
                let mut sleep = std::process::Command::new("sleep");
                sleep.arg("60").spawn().unwrap()
            })
            .collect();
        let port = udp.local_addr().unwrap().port();
        let found = holder(Proto::Udp, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(found.pid, std::process::id());
        let other = super::parent(children[0].id());
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(other, Some(std::process::id()));
    }

    #[test]
    fn reads_the_tables_of_the_kernel() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  12: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 00000000 0
  13: 0100007F:0043 0200007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 2 00000000 0
  14: 00000000:0044 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 2 00000000 0
  15: short
";
        let any = |port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        assert_eq!(inodes(table, Proto::Udp, any(67)), [4711, 4712]);
        assert_eq!(inodes(table, Proto::Udp, SocketAddrV4::new([10, 0, 0, 1].into(), 67)), [4711]);
        assert_eq!(inodes(table, Proto::Udp, SocketAddrV4::new([127, 0, 0, 1].into(), 67)), [4711, 4712]);
        assert!(inodes(table, Proto::Tcp, any(67)).is_empty(), "nobody listens");
        assert_eq!(inodes(table, Proto::Tcp, any(68)), [4713]);
        assert!(holder(Proto::Udp, any(0)).is_none());
    }
}
