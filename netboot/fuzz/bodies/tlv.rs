//! Options read by another way than netboot's own (RFC 2132, RFC 3396, option 52), to hold its reading against.

/// The BOOTP header and the cookie.
pub(crate) const HEADER: usize = 240;
/// The cookie.
pub(crate) const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// Options, as (code, value).
pub(crate) type Options<'a> = Vec<(u8, &'a [u8])>;

/// The options of an area up to END, and what is behind END; `None` where it is not well-formed.
pub(crate) fn area(bytes: &[u8]) -> Option<(Options<'_>, &[u8])> {
    let (mut options, mut rest) = (Vec::new(), bytes);
    loop {
        match *rest {
            [255, ref behind @ ..] => return Some((options, behind)),
            [0, ref more @ ..] => rest = more,
            [code, length, ref more @ ..] => {
                let (value, more) = more.split_at_checked(length.into())?;
                options.push((code, value));
                rest = more;
            }
            _ => return None,
        }
    }
}

/// The areas of a packet that hold options, in the order of RFC 3396 5.
pub(crate) fn areas(packet: &[u8]) -> Option<Vec<&[u8]>> {
    let mut areas = vec![packet.get(HEADER..)?];
    let (first, _) = area(areas.first()?)?;
    let overload = join(first.iter().copied(), 52);
    let (file, sname) = (packet.get(FILE)?, packet.get(SNAME)?);
    match overload.as_deref() {
        Some([1]) => areas.push(file),
        Some([2]) => areas.push(sname),
        Some([3]) => areas.extend([file, sname]),
        _ => {}
    }
    Some(areas)
}

/// The whole value of an option of a packet, its parts joined; `None` when it is not there.
pub(crate) fn value(packet: &[u8], code: u8) -> Option<Vec<u8>> {
    let mut options = Vec::new();
    for bytes in areas(packet)? {
        options.extend(area(bytes)?.0);
    }
    join(options.into_iter(), code)
}

fn join<'a>(options: impl Iterator<Item = (u8, &'a [u8])>, code: u8) -> Option<Vec<u8>> {
    options.filter(|(other, _)| *other == code).fold(None, |joined, (_, part)| {
        let mut joined = joined.unwrap_or_default();
        joined.extend_from_slice(part);
        Some(joined)
    })
}

/// Writes over everything in a packet that nobody may look at: the fields of a reply, what is behind the options, and
/// `sname` and `file` where they hold no options. What is answered must not depend on any of it.
pub(crate) fn poison(packet: &[u8], with: u8) -> Vec<u8> {
    let mut poisoned = packet.to_vec();
    let mut spoil = |range: std::ops::Range<usize>| {
        if let Some(place) = poisoned.get_mut(range) {
            place.fill(with);
        }
    };
    let held = areas(packet).map_or(1, |areas| areas.len());
    let dhcp = packet.get(HEADER - 4..HEADER) == Some(&COOKIE);
    if dhcp {
        spoil(16..24);
        if held == 1 {
            spoil(SNAME);
            spoil(FILE);
        }
    }
    if dhcp && let Some((_, behind)) = packet.get(HEADER..).and_then(area) {
        spoil(packet.len() - behind.len()..packet.len());
        poisoned.extend([with; 40]);
    }
    poisoned
}
