//! The walk against a simple one that is easy to believe, and the facts as a table.

use super::{Area, Echo, Facts, LONGEST, Notes, STEPS};
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
    area.notes = Notes::default();
    area.begin(u32::try_from(options.len()).expect("short"));
    for _ in 0..STEPS {
        if area.step() {
            break;
        }
    }
    area.facts(&HEADER)
}

/// An option: code, place, value.
type Met<'a> = (u8, usize, &'a [u8]);

/// What a walk that is easy to believe finds: each option with the place where it stands.
fn simple(all: &[u8]) -> Result<Vec<Met<'_>>, Reason> {
    let mut found: Vec<Met<'_>> = Vec::new();
    let mut options = all;
    loop {
        let at = all.len() - options.len();
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] => return Ok(found),
            [code, len, rest @ ..] if rest.len() >= usize::from(*len) => {
                let (value, rest) = rest.split_at(usize::from(*len));
                let right = match code {
                    52 => return Err(Reason::Overload),
                    53 => *len == 1,
                    57 => *len == 2,
                    50 | 54 => *len == 4,
                    93 => *len > 0 && len.is_multiple_of(2),
                    60 | 61 | 77 | 82 | 97 => *len > 0,
                    _ => true,
                };
                if found.iter().any(|(other, _, _)| other == code) {
                    return Err(Reason::RepeatedOption);
                }
                if !right {
                    return Err(Reason::BadOptionLength);
                }
                if *code == 82 {
                    sub_options(value).ok_or(Reason::BadOptions)?;
                }
                found.push((*code, at, value));
                options = rest;
            }
            _ => return Err(Reason::BadOptions),
        }
    }
}

/// The codes of the sub-options of option 82, if they can be told apart.
fn sub_options(mut value: &[u8]) -> Option<Vec<u8>> {
    let mut codes = Vec::new();
    while let [code, rest @ ..] = value {
        let (len, rest) = rest.split_first()?;
        value = rest.get(usize::from(*len)..)?;
        codes.push(*code);
    }
    Some(codes)
}

#[test]
fn the_walk_finds_what_a_simple_one_finds() {
    const CODES: [u8; 22] =
        [0, 50, 50, 52, 53, 53, 54, 54, 57, 57, 60, 61, 61, 77, 80, 82, 97, 97, 118, 175, 255, 12];
    let mut area = Area::default();
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let mut whole = 0;
    for _ in 0..100_000 {
        let mut options = Vec::new();
        for _ in 0..next() % 12 {
            let code = CODES[usize::from(next()) % CODES.len()];
            let len = match (next() % 16, code) {
                (0, _) | (_, 60 | 61 | 77 | 82 | 97 | 12) => next() % 6,
                (_, 50 | 54) => 4,
                (_, 57) => 2,
                (_, 53) => 1,
                _ => 0,
            };
            options.extend([code, len]);
            match (code, len) {
                (82, 2..) if next() % 4 > 0 => {
                    options.extend([[1, 2, 5, 11, 9][usize::from(next() % 5)], len - 2]);
                    options.extend((2..len).map(|_| next()));
                }
                _ => options.extend((0..len).map(|_| next())),
            }
        }
        options.push(255);
        let overload = simple(&options).is_err_and(|reason| reason == Reason::Overload);
        let facts = match (read(&mut area, &options), simple(&options)) {
            (Err(reason), Err(expected)) => {
                assert!(reason == expected || overload, "{reason:?} and not {expected:?}: {options:?}");
                continue;
            }
            (Ok(facts), Ok(found)) => (facts, found),
            (read, simple) => panic!("{read:?} and not {simple:?}: {options:?}"),
        };
        whole += 1;
        let (facts, found) = facts;
        let option = |wanted| found.iter().find(|(code, _, _)| *code == wanted);
        let number = |wanted| {
            option(wanted).map_or(0, |(_, _, value)| value.iter().fold(0, |sum, b| sum << 8 | u32::from(*b)))
        };
        let echo = |wanted| option(wanted).map_or((0, 0), |(_, at, value)| (*at, value.len() + 2));
        let request = facts.request;
        assert_eq!(u32::from(request.message), number(53), "{options:?}");
        assert_eq!(u32::from(request.max_size), number(57), "{options:?}");
        assert_eq!((request.requested, request.server_id), (number(50), number(54)), "{options:?}");
        let codes = option(82).and_then(|(_, _, value)| sub_options(value)).unwrap_or_default();
        assert_eq!(request.agent_decides, codes.iter().any(|code| [5, 11].contains(code)), "{options:?}");
        assert_eq!((facts.relay_info.at, facts.relay_info.len), echo(82), "{options:?}");
        let discover = request.message == 1;
        assert_eq!(request.rapid_commit, discover && option(80).is_some(), "{options:?}");
        assert_eq!(request.subnet_selection, option(118).is_some(), "{options:?}");
        assert_eq!((facts.guid.at, facts.guid.len), echo(97), "{options:?}");
        assert_eq!((facts.client_id.at, facts.client_id.len), echo(61), "{options:?}");
    }
    assert!(whole > 20_000, "only {whole} could be read");
}

#[test]
fn the_longest_walk_ends() {
    let mut area = Area::default();
    let mut options = [0; LONGEST];
    assert_eq!(read(&mut area, &options), Err(Reason::BadOptions), "no END");
    options[LONGEST - 1] = 255;
    assert!(read(&mut area, &options).is_ok());
    assert_eq!(read(&mut area, &[]), Err(Reason::BadOptions));
}

#[test]
fn facts() {
    let mut area = Area::default();
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
    assert_eq!((request.max_size, request.ciaddr), (1500, 0xc0a8_5a0b));
    assert_eq!((request.agent_decides, request.lease_time, request.class), (false, false, Class::Plain));
    assert_eq!((facts.client_id, facts.guid), (Echo { at: 20, len: 9 }, Echo { at: 29, len: 3 }));
    // Nothing of the last request is left.
    let facts = read(&mut area, &[53, 1, 1, 82, 6, 5, 4, 10, 1, 0, 0, 51, 1, 9, 255]).expect("whole");
    let request = facts.request;
    assert_eq!((request.message, request.requested, request.server_id, request.max_size), (1, 0, 0, 0));
    assert!(request.agent_decides && request.lease_time);
    assert_eq!((facts.client_id, facts.guid), (Echo { at: 0, len: 0 }, Echo { at: 0, len: 0 }));
    assert_eq!(facts.relay_info, Echo { at: 3, len: 8 });
    // What an agent says ends where its option does.
    let facts = read(&mut area, &[53, 1, 1, 82, 4, 1, 2, 5, 4, 11, 0, 255]).expect("whole");
    assert!(!facts.request.agent_decides && !facts.request.lease_time);
}

#[test]
fn classes() {
    let arch = |arch| [&[60, 20][..], b"PXEClient:Arch:0000", &[arch]].concat();
    let http = |arch| [&[60, 21][..], b"HTTPClient:Arch:000", arch].concat();
    let table: [(&str, Vec<u8>, Result<Class, Reason>); 21] = [
        ("nothing", vec![], Ok(Class::Plain)),
        ("a ROM", [&arch(b'0')[..], &[93, 2, 0, 0]].concat(), Ok(Class::Bios)),
        ("a ROM without 93", arch(b'0'), Ok(Class::Bios)),
        ("UEFI without 93", arch(b'7'), Ok(Class::Efi64)),
        ("not digits", arch(b'x'), Ok(Class::Bios)),
        ("UEFI", [&arch(b'7')[..], &[93, 2, 0, 7]].concat(), Ok(Class::Efi64)),
        ("a list, the first is known", [&arch(b'0')[..], &[93, 4, 0, 0, 0, 7]].concat(), Ok(Class::Bios)),
        (
            "a list, the first is not",
            [&arch(b'0')[..], &[93, 4, 0, 99, 0, 0]].concat(),
            Err(Reason::OtherClass),
        ),
        ("one that is not known", [&arch(b'0')[..], &[93, 2, 0, 99]].concat(), Ok(Class::Other)),
        ("short 60", [&[60, 9][..], b"PXEClient"].concat(), Ok(Class::Bios)),
        ("shorter 60", [&[60, 8][..], b"PXEClien"].concat(), Ok(Class::Plain)),
        ("HTTP", [&[60, 10][..], b"HTTPClient"].concat(), Ok(Class::Http64)),
        ("HTTP without 93", http(b"19"), Ok(Class::Httparm64)),
        ("HTTP without 93, not digits", http(b"1x"), Ok(Class::Http64)),
        ("iPXE", [&arch(b'0')[..], &[77, 4], b"iPXE"].concat(), Ok(Class::Ipxe)),
        ("iPXE by RFC 3004", [&arch(b'0')[..], &[77, 5, 4], b"iPXE"].concat(), Ok(Class::Ipxe)),
        ("another user class", [&arch(b'0')[..], &[77, 4], b"gPXE"].concat(), Ok(Class::Bios)),
        ("iPXE by 175", vec![175, 3, 177, 1, 1], Ok(Class::Ipxe)),
        ("empty 60", vec![60, 0], Err(Reason::BadOptionLength)),
        ("empty 77", vec![77, 0], Err(Reason::BadOptionLength)),
        ("odd 93", vec![93, 3, 0, 0, 0], Err(Reason::BadOptionLength)),
    ];
    let mut area = Area::default();
    for (name, mut options, expected) in table {
        options.push(255);
        assert_eq!(read(&mut area, &options).map(|facts| facts.request.class), expected, "{name}");
    }
}

#[test]
fn doubts() {
    let mut area = Area::default();
    let table: [(&[u8], Reason); 16] = [
        (&[53, 1, 1], Reason::BadOptions),
        (&[53, 3, 1, 255], Reason::BadOptions),
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
        (&[82, 0, 255], Reason::BadOptionLength),
        (&[82, 1, 1, 255], Reason::BadOptions),
        (&[82, 3, 1, 2, 7, 255], Reason::BadOptions),
        (&[82, 3, 1, 1, 7, 82, 2, 1, 0, 255], Reason::RepeatedOption),
    ];
    for (options, reason) in table {
        assert_eq!(read(&mut area, options), Err(reason), "{options:?}");
    }
}
