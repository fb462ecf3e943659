//! What of the traffic the kernel gives to a capture at all: classic BPF, so that a busy interface costs nothing else.
//!
//! Instructions only.

use socket2::SockFilter;

// BPF_LD, BPF_LDX, BPF_ALU, BPF_JMP, BPF_RET and BPF_MISC with their sizes and modes, of linux/bpf_common.h
const HALF: u16 = 0x28;
const HALF_AT_X: u16 = 0x48;
const BYTE_AT_X: u16 = 0x50;
const SET_X: u16 = 0x01;
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const ADD_X: u16 = 0x0c;
const TO_X: u16 = 0x07;
const IF_EQUAL: u16 = 0x15;
const IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const IPV4: u32 = 0x0800;
const ARP: u32 = 0x0806;
const TAG: u32 = 0x8100;
const OUTER_TAG: u32 = 0x88a8;

/// Lets pass ARP, and of IPv4 UDP, ICMP and, if there is a port, TCP from or to it; behind up to two VLAN tags that are in
/// the frame. (The kernel takes the outer one off most frames.) A jump is the number of instructions to leave out.
pub(super) fn of(tcp_port: Option<u16>) -> Vec<SockFilter> {
    let one = SockFilter::new;
    let mut program = vec![
        // X is the length of the tags.
        one(SET_X, 0, 0, 0),
        one(HALF, 0, 0, 12),
        one(IF_EQUAL, 1, 0, TAG),
        one(IF_EQUAL, 0, 6, OUTER_TAG),
        one(SET_X, 0, 0, 4),
        one(HALF, 0, 0, 16),
        one(IF_EQUAL, 1, 0, TAG),
        one(IF_EQUAL, 0, 2, OUTER_TAG),
        one(SET_X, 0, 0, 8),
        one(HALF, 0, 0, 20),
        // The accumulator is the type of what is inside.
        one(IF_EQUAL, 5, 0, ARP),
        one(IF_EQUAL, 0, 5, IPV4),
        one(BYTE_AT_X, 0, 0, 23),
        one(IF_EQUAL, 2, 0, 17),
        one(IF_EQUAL, 1, 0, 1),
        one(IF_EQUAL, 2, 1, 6),
        one(RETURN, 0, 0, u32::MAX),
        one(RETURN, 0, 0, 0),
    ];
    let Some(port) = tcp_port.map(u32::from) else {
        program.push(one(RETURN, 0, 0, 0));
        return program;
    };
    program.extend([
        // Only a packet's first fragment has ports.
        one(HALF_AT_X, 0, 0, 20),
        one(IF_SET, 10, 0, 0x1fff),
        one(BYTE_AT_X, 0, 0, 14),
        one(AND, 0, 0, 0xf),
        one(SHIFT_LEFT, 0, 0, 2),
        one(ADD_X, 0, 0, 0),
        one(TO_X, 0, 0, 0),
        one(HALF_AT_X, 0, 0, 14),
        one(IF_EQUAL, 2, 0, port),
        one(HALF_AT_X, 0, 0, 16),
        one(IF_EQUAL, 0, 1, port),
        one(RETURN, 0, 0, u32::MAX),
        one(RETURN, 0, 0, 0),
    ]);
    program
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use socket2::Socket;

    use super::of;

    /// Whether the kernel's own filter lets this frame pass.
    fn passes(tcp_port: Option<u16>, frame: &[u8]) -> bool {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let receiver = Socket::from(receiver);
        receiver.attach_filter(&of(tcp_port)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        // What the filter refuses is tossed; who sends it is not told.
        sender.send(frame).unwrap();
        let length = UnixDatagram::from(receiver).recv(&mut [0; 2048]).ok();
        assert!(length.is_none_or(|length| length == frame.len()), "nothing is cut off");
        length.is_some()
    }

    /// An IPv4 packet with options of so many words behind this Ethernet header.
    fn ip(ethernet: &[u8], protocol: u8, words: u8, offset: u8, ports: [u16; 2]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(ethernet);
        frame.extend([0x45 + words, 0, 0, 40, 0, 0, 0, offset, 64, protocol, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
        frame.extend(vec![1; usize::from(words) * 4]);
        frame.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        frame.extend([0; 16]);
        frame
    }

    #[test]
    fn what_belongs_passes_behind_up_to_two_tags() {
        let plain: &[u8] = &[8, 0];
        let tagged: &[u8] = &[0x81, 0, 0, 90, 8, 0];
        let twice: &[u8] = &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 90, 8, 0];
        for ethernet in [plain, tagged, twice] {
            let frame = |protocol, words, offset, ports| ip(ethernet, protocol, words, offset, ports);
            for words in [0, 3] {
                for port in [None, Some(8080)] {
                    assert!(passes(port, &frame(17, words, 0, [68, 67])), "UDP");
                    assert!(passes(port, &frame(17, words, 9, [1, 1])), "a later fragment of UDP");
                    assert!(passes(port, &frame(1, words, 0, [0, 0])), "ICMP");
                    assert!(!passes(port, &frame(6, words, 0, [1, 22])), "TCP");
                    assert!(!passes(port, &frame(2, words, 0, [0, 0])), "IGMP");
                }
                assert!(passes(Some(8080), &frame(6, words, 0, [8080, 5])));
                assert!(passes(Some(8080), &frame(6, words, 0, [5, 8080])));
                assert!(!passes(None, &frame(6, words, 0, [5, 8080])));
                assert!(!passes(Some(8080), &frame(6, words, 9, [5, 8080])), "a later fragment of TCP");
            }
        }
        let three = [twice.get(..4).unwrap(), twice].concat();
        assert!(!passes(None, &ip(&three, 17, 0, 0, [68, 67])));
    }

    #[test]
    fn arp_passes_and_ipv6_and_stumps_do_not() {
        let frame = |kind: [u8; 2]| [vec![2; 12], kind.to_vec(), vec![0; 46]].concat();
        assert!(passes(None, &frame([8, 6])));
        assert!(passes(None, &[vec![2; 12], vec![0x81, 0, 0, 90, 8, 6], vec![0; 46]].concat()));
        assert!(!passes(None, &frame([0x86, 0xdd])));
        assert!(!passes(None, &frame([0x88, 0xcc])));
        let whole = ip(&[8, 0], 17, 0, 0, [68, 67]);
        for length in 1..24 {
            assert!(!passes(None, &whole[..length]), "{length}");
        }
    }
}
