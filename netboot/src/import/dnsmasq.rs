//! dnsmasq: its lease file, both ways, and its `dhcp-host=` lines (dnsmasq(8), "--dhcp-host" and "--dhcp-leasefile").
//!
//! A line of the lease file is `<expiry> <mac> <address> <name|*> <client id|*>`; after a line `duid …` come leases of IPv6.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;

use super::{Found, Host, Leftovers};
use crate::config::json::Source;
use crate::config::problem::{Problem, Severity};
use crate::dhcp::lease::Lease;
use crate::mac::Mac;

/// A lease that ends then, or later, never ends: the largest number that DHCP has for seconds (RFC 2132 9.2).
pub const NEVER: u64 = u32::MAX as u64;

/// What a lease file says.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// The leases, each with its place in the file, bytes.
    pub leases: Vec<(Range<usize>, Lease)>,
    /// What is wrong with the file, and what is left out.
    pub problems: Vec<Problem>,
}

/// A lease as a line of the lease file, without its end. Names and client ids are not kept here.
pub fn line(lease: &Lease) -> String {
    let expires = if lease.expires >= NEVER { 0 } else { lease.expires };
    format!("{expires} {} {} * *", lease.owner.mac, lease.addr)
}

/// Reads a lease file.
pub fn leases(path: &Path, text: &str) -> Leases {
    let source = Source::new(path, text);
    let mut found = Leases::default();
    for line in lines(source.text()) {
        let words = words(source.text(), &line);
        let [first, ..] = words.as_slice() else { continue };
        if text_of(&source, first) == "duid" {
            break;
        }
        match lease(&source, &line, &words) {
            Ok(Some(lease)) => found.leases.push((line, lease)),
            Ok(None) => {
                let help = "nothing to do: netboot leases to Ethernet machines alone";
                let message = "this lease is left out: not of an Ethernet machine";
                found.problems.push(source.problem(Severity::Warning, line.start, line.end, message, help));
            }
            Err(problem) => found.problems.push(*problem),
        }
    }
    found
}

/// A lease; `None` when it is not of an Ethernet machine.
fn lease(
    source: &Source,
    line: &Range<usize>,
    words: &[Range<usize>],
) -> Result<Option<Lease>, Box<Problem>> {
    let bad = |at: &Range<usize>, what: &str| {
        let help = "this is not dnsmasq's lease file, or it is damaged: a line is `<seconds since 1970> <mac> <address> <name> <client id>`";
        let message = format!("`{}` is not {what}", text_of(source, at));
        Box::new(source.problem(Severity::Error, at.start, at.end, message, help))
    };
    let [expires, mac, addr, _name, _id, ..] = words else { return Err(bad(line, "a lease")) };
    let expires = match text_of(source, expires).parse::<u64>() {
        Ok(0) => NEVER,
        Ok(seconds) => seconds.min(NEVER),
        Err(_) => return Err(bad(expires, "a time")),
    };
    let addr = text_of(source, addr).parse::<Ipv4Addr>().map_err(|_| bad(addr, "an IPv4 address"))?;
    match ethernet(text_of(source, mac)) {
        Some(Ok(mac)) => Ok(Some(Lease::new(addr, mac, expires))),
        Some(Err(())) => Err(bad(mac, "a MAC address")),
        None => Ok(None),
    }
}

/// Reads an Ethernet address as dnsmasq writes it; `None` for one of another kind, which begins with the number of its
/// kind (`06-…`, RFC 1700 "Hardware Type").
fn ethernet(text: &str) -> Option<Result<Mac, ()>> {
    let Some((kind, rest)) = text.split_once('-') else { return Some(text.parse().map_err(|_| ())) };
    match u8::from_str_radix(kind, 16) {
        Ok(1) if rest.contains(':') => Some(rest.parse().map_err(|_| ())),
        Ok(_) if rest.contains(':') => None,
        _ => Some(text.parse().map_err(|_| ())),
    }
}

/// Reads the `dhcp-host=` lines of dnsmasq's configuration, or the lines of a `dhcp-hostsfile`.
pub fn hosts(path: &Path, text: &str) -> Found {
    let source = Source::new(path, text);
    let (mut found, mut leftovers) = (Found::default(), Leftovers::default());
    for line in lines(source.text()) {
        let whole = text_of(&source, &line);
        let code = comment(whole).map_or(whole, |at| whole.get(..at).unwrap_or_default());
        let start = match code.split_once('=') {
            Some((key, _)) if key.trim() == "dhcp-host" => line.start + key.len() + 1,
            // A line of a hosts file begins with the address.
            _ if code
                .split(',')
                .next()
                .is_some_and(|first| matches!(ethernet(first.trim()), Some(Ok(_)))) =>
            {
                line.start
            }
            _ => continue,
        };
        host(&source, start..line.start + code.len(), &mut found, &mut leftovers);
    }
    leftovers.tell(&source, &mut found);
    found
}

/// Where a comment begins: at a `#` that is first or follows a blank.
fn comment(line: &str) -> Option<usize> {
    let before = |at: usize| line.get(..at).and_then(|text| text.chars().last());
    line.match_indices('#').map(|(at, _)| at).find(|at| before(*at).is_none_or(char::is_whitespace))
}

/// Reads what stands after `dhcp-host=`.
fn host(source: &Source, value: Range<usize>, found: &mut Found, leftovers: &mut Leftovers) {
    let whole = trimmed(source.text(), value.clone());
    let (mut macs, mut addr, mut hostname, mut odd) = (Vec::new(), None, None, None);
    let mut start = value.start;
    for field in text_of(source, &value).split(',') {
        let at = trimmed(source.text(), start..start + field.len());
        start += field.len() + 1;
        let field = text_of(source, &at);
        if let Ok(one) = field.parse::<Ipv4Addr>() {
            addr = Some(one);
        } else if field.contains(['*', '[']) && field.contains(':') && !field.starts_with("id:") {
            // Wildcards in a MAC, or an address of IPv6.
            odd = odd.or(field.contains('*').then_some("its MAC has a wildcard"));
        } else if let Some((tag, _)) =
            field.split_once(':').filter(|(tag, _)| ["id", "set", "net", "tag"].contains(tag))
        {
            leftovers.note(&format!("{tag}:"), &at);
        } else if field.contains(':') {
            match ethernet(field) {
                Some(Ok(mac)) => macs.push(mac),
                Some(Err(())) => {
                    let message = format!("`{field}` is not a MAC address");
                    found.error(source, &at, message, "write six hexadecimal pairs, as in 52:54:00:12:34:56");
                    return;
                }
                None => odd = odd.or(Some("it is no Ethernet machine")),
            }
        } else if let Ok(mac) = field.parse::<Mac>() {
            macs.push(mac);
        } else if field == "ignore" {
            odd = Some("dnsmasq was told to ignore it");
        } else if field == "infinite" || is_time(field) {
            leftovers.note("lease time", &at);
        } else if !field.is_empty() {
            hostname = Some(field.to_owned());
        }
    }
    let help = "add it by hand if it is to be reserved";
    match (odd, macs.as_slice(), addr) {
        (Some(why), ..) => found.skip(source, &whole, why, help),
        (None, [], _) => found.skip(source, &whole, "it has no MAC", help),
        (None, _, None) => found.skip(source, &whole, "it has no IPv4 address", help),
        (None, [mac, more @ ..], Some(addr)) => {
            if !more.is_empty() {
                leftovers.note("second MAC", &whole);
            }
            found.hosts.push(Host { at: whole, mac: *mac, addr, hostname });
        }
    }
}

/// A lease time: `3600`, `45m`, `12h`, `7d`, `2w`.
fn is_time(text: &str) -> bool {
    let digits = text.strip_suffix(['s', 'm', 'h', 'd', 'w']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Each line that has something in it, without the blanks around it.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let at = trimmed(text, start..start + line.len());
        start += line.len();
        (!at.is_empty()).then_some(at)
    })
}

/// The words of a line.
fn words(text: &str, line: &Range<usize>) -> Vec<Range<usize>> {
    let mut start = line.start;
    let each = text.get(line.clone()).unwrap_or_default().split_inclusive(char::is_whitespace);
    let each = each.map(|word| {
        let at = trimmed(text, start..start + word.len());
        start += word.len();
        at
    });
    each.filter(|at| !at.is_empty()).collect()
}

/// A part of a text without the blanks around it.
fn trimmed(text: &str, at: Range<usize>) -> Range<usize> {
    let part = text.get(at.clone()).unwrap_or_default();
    let start = at.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

fn text_of<'s>(source: &'s Source, at: &Range<usize>) -> &'s str {
    source.text().get(at.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
