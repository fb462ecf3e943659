//! A lease as the store keeps it: key `lease/<address>`, value JSON, so that a person can read it and fields can be added.

use std::net::Ipv4Addr;

use super::leases::Lease;
use crate::store::Change;

const PREFIX: &str = "lease/";

#[derive(serde::Deserialize)]
struct Value {
    mac: String,
    /// Seconds since 1970.
    expires: u64,
}

/// The change that writes a lease.
pub fn put(lease: &Lease) -> Change {
    let value = serde_json::json!({ "mac": lease.mac, "expires": lease.expires });
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
        let lease = read_one(addr, value);
        if lease.is_none() {
            tracing::error!("the record {key} of the store cannot be read; it is left out");
        }
        lease
    };
    entries.iter().filter_map(read).collect()
}

fn read_one(addr: &str, value: &[u8]) -> Option<Lease> {
    let Value { mac, expires } = serde_json::from_slice(value).ok()?;
    Some(Lease { addr: addr.parse().ok()?, mac: mac.parse().ok()?, expires })
}

fn key(addr: Ipv4Addr) -> String {
    format!("{PREFIX}{addr}")
}

#[cfg(test)]
mod tests {
    use super::{put, read_all};
    use crate::dhcp::leases::Lease;
    use crate::mac::Mac;
    use crate::store::{Memory, Store};

    #[test]
    fn a_lease_comes_back_and_what_is_none_is_left_out() {
        let lease =
            Lease { addr: [10, 0, 0, 1].into(), mac: Mac([2, 0, 0, 0, 0, 1]), expires: 1_700_000_000 };
        let mut store = Memory::default();
        store.commit(&[put(&lease)]).unwrap();
        let mut entries = store.list().unwrap();
        assert_eq!(entries[0].0, "lease/10.0.0.1");
        assert_eq!(entries[0].1, br#"{"expires":1700000000,"mac":"02:00:00:00:00:01"}"#);
        for (key, value) in [("lease/10.0.0.2", "{"), ("lease/x", "{}"), ("other", "{}")] {
            entries.push((key.into(), value.into()));
        }
        assert_eq!(read_all(&entries), [lease]);
    }
}
