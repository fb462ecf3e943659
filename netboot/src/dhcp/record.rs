//! A lease as the store keeps it: key `lease/<address>`, value JSON, so that a person can read it and fields can be added.

use std::net::Ipv4Addr;

use super::lease::{self, Lease, Owner};
use crate::store::Change;

const PREFIX: &str = "lease/";

#[derive(serde::Deserialize)]
struct Value {
    mac: String,
    /// Option 61 where it is what the client is known by.
    #[serde(default)]
    client_id: Option<String>,
    /// Seconds since 1970.
    expires: u64,
}

/// The change that writes a lease.
pub fn put(lease: &Lease) -> Change {
    let mut value = serde_json::json!({ "mac": lease.owner.mac, "expires": lease.expires });
    if let Some(id) = &lease.owner.id {
        value["client_id"] = lease::digits(id).into();
    }
    Change::Put { key: key(lease.addr), value: value.to_string().into_bytes() }
}

/// The change that deletes the lease of an address.
pub fn delete(addr: Ipv4Addr) -> Change {
    Change::Delete { key: key(addr) }
}

/// The leases among the entries of a store. One that cannot be read is left out, with an error in the log.
pub fn read_all(entries: &[(String, Vec<u8>)]) -> Vec<Lease> {
    let read = |(key, value): &(String, Vec<u8>)| {
        let addr = key.strip_prefix(PREFIX)?;
        let lease = addr.parse().ok().and_then(|addr| read_one(addr, value));
        if lease.is_none() {
            tracing::error!("the record {key} of the store cannot be read; it is left out");
        }
        lease
    };
    entries.iter().filter_map(read).collect()
}

/// The lease that a value is, `None` if it cannot be read.
pub fn read_one(addr: Ipv4Addr, value: &[u8]) -> Option<Lease> {
    let Value { mac, client_id, expires } = serde_json::from_slice(value).ok()?;
    let id = match client_id {
        Some(digits) => Some(lease::bytes(&digits)?),
        None => None,
    };
    Some(Lease::new(addr, Owner { mac: mac.parse().ok()?, id }, expires))
}

/// The key of the lease of an address.
pub fn key(addr: Ipv4Addr) -> String {
    format!("{PREFIX}{addr}")
}

#[cfg(test)]
mod tests {
    use super::{put, read_all};
    use crate::dhcp::lease::{Lease, Owner};
    use crate::mac::Mac;
    use crate::store::{Memory, Store};

    #[test]
    fn a_lease_comes_back_and_what_is_none_is_left_out() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let lease = Lease::new([10, 0, 0, 1].into(), mac, 1_700_000_000);
        let known = Owner { mac, id: Some([1, 0xab].into()) };
        let other = Lease::new([10, 0, 0, 9].into(), known, 1_700_000_000);
        let mut store = Memory::default();
        store.commit(&[put(&lease), put(&other)]).unwrap();
        let mut entries = store.list().unwrap();
        assert_eq!(entries[0].0, "lease/10.0.0.1");
        assert_eq!(entries[0].1, br#"{"expires":1700000000,"mac":"02:00:00:00:00:01"}"#);
        assert_eq!(entries[1].1, br#"{"client_id":"01ab","expires":1700000000,"mac":"02:00:00:00:00:01"}"#);
        for (key, value) in [
            ("lease/10.0.0.2", "{"),
            ("lease/x", "{}"),
            ("lease/10.0.0.3", r#"{"client_id":"0","expires":1,"mac":"02:00:00:00:00:01"}"#),
            ("other", "{}"),
        ] {
            entries.push((key.into(), value.into()));
        }
        assert_eq!(read_all(&entries), [lease, other]);
    }
}
