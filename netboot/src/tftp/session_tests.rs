//! Tests of a session over an engine that fails: a kernel that does not cut packets, reads that give little, no memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::UdpSocket;
use tokio::task::LocalSet;

use super::super::wire::Mode;
use super::*;
use crate::inventory::Snapshot;

thread_local! {
    /// Sends that fail for want of memory: one bit for each, the next one lowest.
    static NO_MEMORY: Cell<u32> = const { Cell::new(0) };
    /// Sends that were to be cut.
    static CUT: Cell<u32> = const { Cell::new(0) };
}

struct Poor(UdpSocket);

impl Socket for Poor {
    type File = File;

    fn adopt(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket).map(Self)
    }

    fn file(file: File) -> File {
        file
    }

    async fn recv(&self, buffer: Vec<u8>) -> (io::Result<SocketAddr>, Vec<u8>) {
        Socket::recv(&self.0, buffer).await
    }

    async fn send(&self, packets: Vec<u8>, segment: Option<u16>, peer: SocketAddr) -> io::Result<()> {
        if segment.is_some() {
            CUT.set(CUT.get() + 1);
            return Err(rustix::io::Errno::IO.into());
        }
        let fate = NO_MEMORY.get();
        NO_MEMORY.set(fate >> 1);
        if fate & 1 == 1 {
            return Err(rustix::io::Errno::NOBUFS.into());
        }
        Socket::send(&self.0, packets, None, peer).await
    }

    async fn read(file: &File, mut buffer: Vec<u8>, at: u64) -> (io::Result<()>, Vec<u8>) {
        buffer.resize(buffer.capacity().min(100), 0);
        let result = file.read_at(&mut buffer, at);
        buffer.truncate(*result.as_ref().unwrap_or(&0));
        (result.map(drop), buffer)
    }
}

/// Reads a file of so many bytes in windows of eight; returns what the client got and the session's counters.
fn read(content: &[u8]) -> (Vec<u8>, BTreeMap<&'static str, u64>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tftp")).unwrap();
    std::fs::write(dir.path().join("tftp/file"), content).unwrap();
    let inventory = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    let shared = Rc::new(Shared {
        files: Files::new(dir.path(), inventory, Ipv4Addr::LOCALHOST, 80),
        limits: Limits { mtu: 1500, max_window: 8 },
        timeline: Timeline::default(),
        addr: Ipv4Addr::LOCALHOST.into(),
        stop: CancellationToken::new(),
        segmenting: Cell::new(true),
    });
    let options = vec![("windowsize", "8")];
    let request = Packet::Read(Request { name: "file", mode: Mode::Octet, options }).encode();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let got = LocalSet::new().block_on(&runtime, async {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (shared, claim) = (Rc::clone(&shared), Rc::new(Claim::new(&request)));
        let session = Session { shared, claim, peer: client.local_addr().unwrap() };
        let played = tokio::task::spawn_local(session.play::<Poor>());
        let (mut got, mut next, mut in_window) = (vec![], 1_u16, 0);
        let mut buffer = [0; 2000];
        loop {
            let (length, from) = client.recv_from(&mut buffer).await.unwrap();
            let mut ack = Some(0);
            let packet = wire::parse(&buffer[..length]).unwrap();
            assert!(!matches!(packet, Packet::Error { .. }), "{packet:?}");
            if let Packet::Data { block, bytes } = packet {
                let new = block == next;
                if new {
                    (next, in_window) = (next + 1, in_window + 1);
                    got.extend_from_slice(bytes);
                }
                ack = (!new || in_window == 8 || bytes.len() < 512).then_some(next - 1);
            }
            if let Some(block) = ack {
                in_window = 0;
                client.send_to(&Packet::Ack(block).encode(), from).await.unwrap();
            }
            if length < 512 && next > 1 {
                break;
            }
        }
        played.await.unwrap();
        got
    });
    let counters = shared.timeline.counters().remove("tftp").unwrap_or_default();
    assert!(!shared.segmenting.get() || content.len() < 512);
    (got, counters)
}

fn content() -> Vec<u8> {
    (0..512 * 30 + 7).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn sends_one_by_one_where_the_kernel_does_not_cut() {
    let (got, counters) = read(&content());
    assert!(got == content());
    assert_eq!(CUT.get(), 1, "it is tried once");
    assert_eq!(counters, BTreeMap::from([("done", 1)]));
}

#[test]
fn want_of_memory_is_a_lost_packet() {
    // The OACK, then the block after the second OACK.
    NO_MEMORY.set(0b101);
    let (got, counters) = read(b"short");
    assert_eq!(got, b"short");
    assert_eq!(counters, BTreeMap::from([("done", 1), ("send-dropped", 2)]));
}
