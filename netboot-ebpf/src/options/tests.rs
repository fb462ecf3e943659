//! The walk against a simple one that is easy to believe, and the facts as a table.

use super::{Area, Echo, Facts, LONGEST, STEPS};
use crate::bootp::Header;
use crate::class::Class;
use crate::verdict::Reason;

const HEADER: Header = Header {
    xid: [0; 4],
    secs: [0; 2],
    flags: [0; 2],
    ciaddr: [192, 168, 90, 11],
    giaddr: [0, 0, 0, 9],
    chaddr: [0; 16],
};

fn read(area: &mut Area, options: &[u8]) -> Result<Facts, Reason> {
    area.bytes[..options.len()].copy_from_slice(options);
    area.begin(u32::try_from(options.len()).expect("short"));
    for _ in 0..STEPS {
        if area.step() {
            break;
        }
    }
    area.facts(&HEADER)
}

/// Options that were met, or nothing when they cannot be read.
fn simple(mut options: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found: Vec<(u8, &[u8])> = Vec::new();
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] => return Some(found),
            [code, len, rest @ ..] if rest.len() >= usize::from(*len) => {
                if found.iter().any(|(other, _)| other == code) {
                    return None;
                }
                let (value, rest) = rest.split_at(usize::from(*len));
                found.push((*code, value));
                options = rest;
            }
            _ => return None,
        }
    }
}

#[test]
fn the_walk_finds_what_a_simple_one_finds() {
    let mut area = Area::new();
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut whole = 0;
    for _ in 0..50_000 {
        let mut options = Vec::new();
        for _ in 0..next() % 12 {
            let code = [0, 50, 52, 53, 54, 57, 60, 61, 77, 82, 93, 97, 175, 255, 12][(next() % 15) as usize];
            options.push(code);
            let len = next() % 6;
            options.push(len.to_le_bytes()[0]);
            options.extend((0..len).map(|_| next().to_le_bytes()[0]));
        }
        options.truncate(LONGEST);
        let read = read(&mut area, &options);
        let expected = simple(&options);
        let Some(found) = expected else {
            assert!(matches!(read, Err(Reason::BadOptions | Reason::RepeatedOption)), "{options:?}");
            continue;
        };
        whole += 1;
        for code in 1..255 {
            let at = area.find(code);
            let value = found.iter().find(|(other, _)| *other == code);
            assert_eq!(at.is_some(), value.is_some(), "{code} in {options:?}");
            if let (Some(at), Some((_, value))) = (at, value) {
                assert_eq!(&area.bytes[at + 2..at + 2 + usize::from(area.len(at))], *value);
            }
        }
    }
    assert!(whole > 5_000, "only {whole} could be read");
}

#[test]
fn the_longest_walk_ends() {
    let mut area = Area::new();
    let mut options = [0; LONGEST];
    assert_eq!(read(&mut area, &options), Err(Reason::BadOptions), "no END");
    options[LONGEST - 1] = 255;
    assert!(read(&mut area, &options).is_ok());
    assert_eq!(read(&mut area, &[]), Err(Reason::BadOptions));
}

#[test]
fn facts() {
    let mut area = Area::new();
    let facts = read(
        &mut area,
        &[
            53, 1, 3, 50, 4, 1, 2, 3, 4, 54, 4, 5, 6, 7, 8, 57, 2, 5, 220, 0, 61, 7, 1, 2, 0, 0, 0, 0, 1, 97,
            1, 0, 255,
        ],
    )
    .expect("whole");
    let request = facts.request;
    assert_eq!((request.message, request.requested, request.server_id), (3, 0x0102_0304, 0x0506_0708));
    assert_eq!((request.max_size, request.ciaddr, request.giaddr), (1500, 0xc0a8_5a0b, 9));
    assert_eq!((request.relay_info, request.class), (false, Class::Plain));
    assert_eq!((facts.client_id, facts.guid), (Echo { at: 20, len: 9 }, Echo { at: 29, len: 3 }));
    // Nothing of the last request is left.
    let facts = read(&mut area, &[53, 1, 1, 82, 0, 255]).expect("whole");
    let request = facts.request;
    assert_eq!((request.message, request.requested, request.server_id, request.max_size), (1, 0, 0, 0));
    assert!(request.relay_info);
    assert_eq!((facts.client_id, facts.guid), (Echo { at: 0, len: 0 }, Echo { at: 0, len: 0 }));
}

#[test]
fn classes() {
    let arch = |arch| [&[60, 20][..], b"PXEClient:Arch:0000", &[arch]].concat();
    let table: [(&str, Vec<u8>, Result<Class, Reason>); 16] = [
        ("nothing", vec![], Ok(Class::Plain)),
        ("a ROM", [&arch(b'0')[..], &[93, 2, 0, 0]].concat(), Ok(Class::Bios)),
        ("a ROM without 93", arch(b'0'), Ok(Class::Bios)),
        ("UEFI without 93", arch(b'7'), Ok(Class::Firmware)),
        ("not digits", arch(b'x'), Ok(Class::Bios)),
        ("UEFI", [&arch(b'7')[..], &[93, 2, 0, 7]].concat(), Ok(Class::Firmware)),
        ("short 60", [&[60, 9][..], b"PXEClient"].concat(), Ok(Class::Bios)),
        ("shorter 60", [&[60, 8][..], b"PXEClien"].concat(), Ok(Class::Plain)),
        ("HTTP", [&[60, 10][..], b"HTTPClient"].concat(), Ok(Class::Firmware)),
        ("iPXE", [&arch(b'0')[..], &[77, 4], b"iPXE"].concat(), Ok(Class::Ipxe)),
        ("iPXE by RFC 3004", [&arch(b'0')[..], &[77, 5, 4], b"iPXE"].concat(), Ok(Class::Ipxe)),
        ("another user class", [&arch(b'0')[..], &[77, 4], b"gPXE"].concat(), Ok(Class::Bios)),
        ("iPXE by 175", vec![175, 3, 177, 1, 1], Ok(Class::Ipxe)),
        ("empty 60", vec![60, 0], Err(Reason::BadOptionLength)),
        ("empty 77", vec![77, 0], Err(Reason::BadOptionLength)),
        ("odd 93", vec![93, 3, 0, 0, 0], Err(Reason::BadOptionLength)),
    ];
    let mut area = Area::new();
    for (name, mut options, expected) in table {
        options.push(255);
        assert_eq!(read(&mut area, &options).map(|facts| facts.request.class), expected, "{name}");
    }
}

#[test]
fn doubts() {
    let mut area = Area::new();
    let table: [(&[u8], Reason); 12] = [
        (&[53, 1, 1], Reason::BadOptions),
        (&[53, 2, 1, 255], Reason::BadOptions),
        (&[53], Reason::BadOptions),
        (&[53, 1, 1, 53, 1, 1, 255], Reason::RepeatedOption),
        (&[52, 1, 1, 255], Reason::Overload),
        (&[53, 0, 255], Reason::BadOptionLength),
        (&[53, 2, 1, 1, 255], Reason::BadOptionLength),
        (&[50, 0, 255], Reason::BadOptionLength),
        (&[54, 5, 1, 2, 3, 4, 5, 255], Reason::BadOptionLength),
        (&[57, 1, 2, 255], Reason::BadOptionLength),
        (&[61, 0, 255], Reason::BadOptionLength),
        (&[97, 0, 255], Reason::BadOptionLength),
    ];
    for (options, reason) in table {
        assert_eq!(read(&mut area, options), Err(reason), "{options:?}");
    }
}
