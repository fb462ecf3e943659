//! DHCP requests written as text, so that a person can read what an odd firmware sends: `netboot/tests/data/packets`.
//!
//! A line is a header field and its value (`ciaddr 192.168.90.11`), the number of an option and its value (`60
//! "PXEClient"`), `raw` bytes, `end` (option 255), `pad` (zeros up to this length of the whole) or `cut` (the length of what
//! arrives); what follows `#` is for people. A value is hex digits, text in double quotes, an address, and `17*00` for
//! bytes that repeat. What is not set is a request of a plain Ethernet machine.

/// The fields of the header: name, place, length (RFC 2131 2).
const FIELDS: [(&str, usize, usize); 15] = [
    ("op", 0, 1),
    ("htype", 1, 1),
    ("hlen", 2, 1),
    ("hops", 3, 1),
    ("xid", 4, 4),
    ("secs", 8, 2),
    ("flags", 10, 2),
    ("ciaddr", 12, 4),
    ("yiaddr", 16, 4),
    ("siaddr", 20, 4),
    ("giaddr", 24, 4),
    ("chaddr", 28, 16),
    ("sname", 44, 64),
    ("file", 108, 128),
    ("cookie", 236, 4),
];
/// The header with the cookie.
const HEADER: usize = 240;

/// The bytes of a packet: the payload of UDP.
///
/// # Errors
/// The line that cannot be read, and why.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut packet = vec![0; HEADER];
    for (at, bytes) in [
        (0, &[1, 1, 6][..]),
        (4, &[0xde, 0xad, 0xbe, 0xef]),
        (28, &[0x52, 0x54, 0, 0, 0, 1]),
        (236, &[99, 130, 83, 99]),
    ] {
        packet[at..at + bytes.len()].copy_from_slice(bytes);
    }
    for (number, line) in (1..).zip(text.lines()) {
        read(&mut packet, line).map_err(|why| format!("line {number}: {why}: {line}"))?;
    }
    Ok(packet)
}

fn read(packet: &mut Vec<u8>, line: &str) -> Result<(), String> {
    let mut words = words(line)?.into_iter();
    let Some(name) = words.next() else { return Ok(()) };
    let rest: Vec<String> = words.collect();
    let value =
        || rest.iter().map(|word| bytes(word)).collect::<Result<Vec<_>, _>>().map(|parts| parts.concat());
    let length = || match rest.as_slice() {
        [length] => length.parse::<usize>().map_err(|error| error.to_string()),
        _ => Err("this wants a length".to_owned()),
    };
    if let Some((_, at, room)) = FIELDS.iter().find(|(field, ..)| *field == name) {
        let value = value()?;
        let place = packet.get_mut(*at..at + room).and_then(|field| field.get_mut(..value.len()));
        place.ok_or_else(|| format!("{name} has room for {room} bytes"))?.copy_from_slice(&value);
        return Ok(());
    }
    match name.as_str() {
        "raw" => packet.extend(value()?),
        "end" => packet.push(255),
        "pad" => packet.resize(packet.len().max(length()?), 0),
        "cut" => packet.truncate(length()?),
        code => {
            let code: u8 = code.parse().map_err(|_| format!("`{code}` is no field and no option"))?;
            let value = value()?;
            let length = u8::try_from(value.len()).map_err(|_| "an option has 255 bytes at most")?;
            packet.extend([code, length]);
            packet.extend(value);
        }
    }
    Ok(())
}

/// The words of a line; a text in double quotes is one, and keeps its first quote.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"').ok_or("a text without its end")?;
            (format!("\"{text}"), after)
        } else {
            let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            (word.to_owned(), after)
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// What a word of a value says.
fn bytes(word: &str) -> Result<Vec<u8>, String> {
    if let Some(text) = word.strip_prefix('"') {
        return Ok(text.into());
    }
    if let Some((times, what)) = word.split_once('*') {
        let times: usize = times.parse().map_err(|_| format!("`{times}` times"))?;
        return Ok(bytes(what)?.repeat(times.min(4096)));
    }
    if let Ok(addr) = word.parse::<std::net::Ipv4Addr>() {
        return Ok(addr.octets().into());
    }
    let pairs = word.as_bytes().chunks(2).map(|pair| {
        let digits = std::str::from_utf8(pair).unwrap_or_default();
        if pair.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
    });
    pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| format!("`{word}` is no value"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn every_kind_of_line() {
        let text = "# a packet\nhops 01   # of a relay\ngiaddr 10.0.0.1\nfile \"a # b\"\n\n53 01\n60 \"PXE\" 00 2*ff0a\n80\nraw 0c\nend\npad 260\ncut 258\n";
        let packet = parse(text).unwrap();
        assert_eq!(packet[..4], [1, 1, 6, 1]);
        assert_eq!(packet[24..28], [10, 0, 0, 1]);
        assert_eq!(&packet[108..113], b"a # b");
        let options = [&[53, 1, 1, 60, 8][..], b"PXE", &[0, 255, 10, 255, 10, 80, 0, 12, 255, 0, 0]].concat();
        assert_eq!(packet[236..], [&[99, 130, 83, 99][..], &options].concat()[..22]);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (line, why) in [
            ("53 0", "no value"),
            ("53 0g", "no value"),
            ("60 \"PXE", "without its end"),
            ("what 01", "no field and no option"),
            ("300 01", "no field and no option"),
            ("xid 0102030405", "room for 4"),
            ("61 256*00", "255 bytes"),
            ("pad", "length"),
            ("61 x*00", "times"),
        ] {
            let error = parse(&format!("53 01\n{line}")).unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(why), "{error}");
        }
    }
}
