//! The Internet checksum (RFC 1071).
//!
//! Sums are kept in the machine's own byte order, as the kernel's helper does: the sum of swapped words is the
//! swapped sum, so the result is right when it is stored as it stands.

/// The sum of the 16-bit words of some bytes, not folded.
#[inline(always)]
pub fn sum<const N: usize>(bytes: &[u8; N]) -> u64 {
    let (words, _) = bytes.as_chunks::<2>();
    let mut total = 0;
    for word in words {
        total += u64::from(u16::from_ne_bytes(*word));
    }
    total
}

/// Folds a sum to 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let folded = sum as u16;
    folded
}

/// The checksum of an IPv4 header whose checksum field is zero; 0 for a received header that is whole.
#[inline(always)]
pub fn ipv4(header: &[u8; 20]) -> u16 {
    !fold(sum(header))
}

/// The UDP checksum over IPv4 (RFC 768) from the sum of UDP header and data with the field zero.
/// Never 0, which would mean that there is none.
#[inline(always)]
pub fn udp(data: u64, src: [u8; 4], dst: [u8; 4], length: u16) -> u16 {
    let pseudo = sum(&src) + sum(&dst) + sum(&[0, 17]) + sum(&length.to_be_bytes());
    match !fold(u64::from(fold(data)) + pseudo) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::{fold, ipv4, sum, udp};

    #[test]
    fn a_known_ipv4_header() {
        // The example that everybody uses.
        let mut header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(ipv4(&header).to_ne_bytes(), [0xb8, 0x61]);
        header[10..12].copy_from_slice(&[0xb8, 0x61]);
        assert_eq!(ipv4(&header), 0);
    }

    #[test]
    fn folds_every_carry() {
        assert_eq!(fold(0), 0);
        assert_eq!(fold(0x1_0000), 1);
        assert_eq!(fold(0xffff_ffff_ffff_ffff), 0xffff);
        assert_eq!(fold(0x0001_fffe_ffff_ffff), naive(0x0001_fffe_ffff_ffff));
        let mut number = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..1000 {
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            assert_eq!(fold(number), naive(number), "{number:#x}");
        }
    }

    fn naive(mut number: u64) -> u16 {
        while number > 0xffff {
            number = (number & 0xffff) + (number >> 16);
        }
        u16::try_from(number).expect("folded")
    }

    #[test]
    fn udp_adds_up_at_the_receiver_and_is_never_zero() {
        let (src, dst) = ([192, 168, 90, 2], [255, 255, 255, 255]);
        for last in 0..=u16::MAX {
            let mut datagram = [0, 67, 0, 68, 0, 10, 0, 0, 0, 0];
            datagram[8..10].copy_from_slice(&last.to_be_bytes());
            let checksum = udp(sum(&datagram), src, dst, 10);
            assert_ne!(checksum, 0);
            datagram[6..8].copy_from_slice(&checksum.to_ne_bytes());
            assert_eq!(fold(sum(&datagram) + sum(&src) + sum(&dst) + sum(&[0, 17, 0, 10])), 0xffff);
        }
    }
}
