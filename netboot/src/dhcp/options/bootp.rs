//! The reply to a BOOTP request (RFC 951, 1497, 1534).
//!
//! Pure. Its options fit the vendor area of old, and nothing in it speaks of DHCP: such a client has its address for good.

use super::custom::{add_custom, belongs};
use super::{Builder, COOKIE, Client, HEADER, Kind, Subnet, Template, addresses, header};

/// Length of the vendor area of BOOTP, with cookie and END (RFC 951 3).
const VENDOR_AREA: usize = 64;

/// Builds the template of a BOOTP reply: what the header says, and as many as fit of the options that BOOTP knows (RFC
/// 1497) and that people have set. To a client that reads no options, none.
pub fn bootp(subnet: &Subnet, client: &Client<'_>, reads_options: bool) -> Template {
    let file = client.file.unwrap_or_default();
    let mut reply = Builder(vec![0; HEADER]);
    header(&mut reply.0, client.addr, subnet.server, &subnet.server.to_string(), file);
    let mut options: Vec<(u8, Vec<u8>)> = vec![
        (1, addresses(&[subnet.prefix.mask()])),
        (3, addresses(&subnet.routers)),
        (6, addresses(&subnet.dns)),
        (12, client.hostname.unwrap_or_default().into()),
        (15, subnet.domain.as_deref().unwrap_or_default().into()),
    ];
    add_custom(&mut options, client, |code| belongs(code, client.class, Kind::Inform));
    let mut left_out = Vec::new();
    if reads_options {
        reply.0.extend_from_slice(&COOKIE);
        for (code, value) in &options {
            if reply.0.len() + 2 + value.len() < HEADER + VENDOR_AREA {
                reply.option(*code, value);
            } else {
                left_out.push(*code);
            }
        }
    }
    Template { name_at: reply.0.len(), bytes: reply.0, left_out }
}
