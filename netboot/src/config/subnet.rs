//! `dhcp.subnets`: the subnets behind relay agents, as written, and whether pools fit where they are.

use std::net::Ipv4Addr;
use std::path::Path;

use ipnetwork::Ipv4Network;
use jsonc_parser::ast::{Object, Value};

use super::json::{Reader, Source, kind};
use super::options::{self, Place};
use super::problem::Problem;
use super::written::{checked, domain, excluded, lease_secs, name_servers, ranges, routers, section};
use super::{FILE, Range, Subnet};

/// Reads the list; what is wrong with a subnet is left in `reader`.
pub(super) fn list(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Vec<Subnet> {
    let Value::Array(array) = value else {
        let message = format!("`{name}` is {}, not a list", kind(value));
        reader.error(value, message, format!("write \"{name}\": [{{ \"prefix\": \"10.1.0.0/16\" }}]"));
        return Vec::new();
    };
    let mut subnets: Vec<Subnet> = Vec::new();
    for value in &array.elements {
        let Some(subnet) = one(reader, name, value) else { continue };
        if let Some(other) = subnets.iter().find(|other| other.prefix.overlaps(subnet.prefix)) {
            let message = format!("the subnets {} and {} overlap", other.prefix, subnet.prefix);
            reader.error(value, message, "write each address in one subnet only");
        }
        subnets.push(subnet);
    }
    subnets
}

fn one(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Subnet> {
    let before = reader.problems.len();
    let mut prefix = None;
    let mut subnet = Subnet {
        prefix: Ipv4Addr::UNSPECIFIED.into(),
        relay: None,
        pool: Vec::new(),
        exclude: Vec::new(),
        lease_secs: None,
        router: None,
        dns: None,
        domain: None,
        options: options::Options::default(),
    };
    section(reader, name, value, |reader, name, key, value| {
        match key {
            "prefix" => prefix = network(reader, name, value),
            "relay" => subnet.relay = address(reader, name, value),
            "pool" => subnet.pool = ranges(reader, name, value).unwrap_or_default(),
            "exclude" => subnet.exclude = excluded(reader, name, value).unwrap_or_default(),
            "lease_secs" => subnet.lease_secs = lease_secs(reader, name, value),
            "router" => subnet.router = routers(reader, name, value),
            "dns" => subnet.dns = name_servers(reader, name, value),
            "domain" => subnet.domain = checked(reader, name, value, domain),
            "options" => subnet.options = options::read(reader, name, value, Place::Narrower),
            _ => return Err("prefix, relay, pool, exclude, lease_secs, router, dns, domain, options"),
        }
        Ok(())
    });
    if reader.problems.len() > before {
        return None;
    }
    let Some(prefix) = prefix else {
        reader.error(
            value,
            format!("`{name}` has a subnet without `prefix`"),
            "add \"prefix\": \"10.1.0.0/16\"",
        );
        return None;
    };
    subnet.prefix = prefix;
    for range in subnet.pool.iter().filter(|range| !range.within(prefix)) {
        let at = value.as_object().and_then(|object| written(object, *range)).unwrap_or(value);
        reader.error(at, outside(*range, prefix), "write addresses of this subnet");
    }
    Some(subnet)
}

fn network(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Ipv4Network> {
    let help = "write the subnet's address and length, as in \"10.1.0.0/16\"";
    let text = reader.text(name, value, help)?;
    match text.parse::<Ipv4Network>() {
        Ok(prefix) if text.contains('/') && prefix.ip() == prefix.network() => Some(prefix),
        _ => {
            reader.error(value, format!("`{name}` is \"{text}\""), help);
            None
        }
    }
}

fn address(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<Ipv4Addr> {
    let help = "write the address that the relay agent puts into its packets, as in \"10.1.0.1\"";
    let text = reader.text(name, value, help)?;
    let addr = text.parse().ok().filter(|addr: &Ipv4Addr| !addr.is_unspecified());
    if addr.is_none() {
        reader.error(value, format!("`{name}` is \"{text}\""), help);
    }
    addr
}

fn outside(range: Range, prefix: Ipv4Network) -> String {
    format!("the pool {range} is not inside the subnet {}/{}", prefix.network(), prefix.prefix())
}

/// Where a range is written in the `pool` of this object.
fn written<'v, 'a>(object: &'v Object<'a>, range: Range) -> Option<&'v Value<'a>> {
    let pool = &object.get("pool")?.value;
    let values = pool.as_array().map_or(std::slice::from_ref(pool), |array| array.elements.as_slice());
    values.iter().find(|value| value.as_string_lit().and_then(|text| text.value.parse().ok()) == Some(range))
}

/// What of the settings does not fit the subnet of the interface, with its place in `netboot.json` where it has one.
pub fn unfit(data: &Path, pool: &[Range], relayed: &[Subnet], own: Ipv4Network) -> Vec<Problem> {
    let file = data.join(FILE);
    let source = Source::read(&file).ok().flatten().unwrap_or_else(|| Source::new(&file, "{}"));
    let object = source.object().ok();
    let dhcp = object.as_ref().and_then(|object| object.get_object("dhcp"));
    let mut reader = Reader::new(&source);
    let place = |range: &Range| dhcp.and_then(|dhcp| written(dhcp, *range));
    let mut without = Vec::new();
    for range in pool.iter().filter(|range| !range.within(own)) {
        let (message, help) = (outside(*range, own), "write addresses of the PXE interface's subnet");
        match place(range) {
            Some(value) => reader.error(value, message, help),
            None => without.push((message, help)),
        }
    }
    for subnet in relayed.iter().filter(|subnet| subnet.prefix.overlaps(own)) {
        let own = format!("{}/{}", own.network(), own.prefix());
        let message = format!("the subnet {} overlaps {own}, the PXE interface's own", subnet.prefix);
        let help = "name only subnets behind relay agents";
        match dhcp.and_then(|dhcp| dhcp.get("subnets")) {
            Some(member) => reader.error(&member.name, message, help),
            None => without.push((message, help)),
        }
    }
    let mut problems = reader.problems;
    let of_file = |(message, help)| Problem::of_file(super::problem::Severity::Error, &file, message, help);
    problems.extend(without.into_iter().map(of_file));
    problems
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{list, unfit};
    use crate::config::json::{Reader, Source};
    use crate::config::{FILE, Subnet};

    fn read(text: &str) -> (Vec<Subnet>, Vec<String>) {
        let text = format!("{{\"subnets\": {text}}}");
        let source = Source::new(Path::new("f"), &text);
        let object = source.object().unwrap();
        let mut reader = Reader::new(&source);
        let subnets = list(&mut reader, "dhcp.subnets", &object.get("subnets").unwrap().value);
        (subnets, reader.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn everything_about_a_subnet_but_its_prefix_can_be_left_out() {
        let (subnets, problems) = read(
            r#"[{ "prefix": "10.1.0.0/16" },
                { "prefix": "10.2.0.0/24", "relay": "172.16.0.1", "pool": ["10.2.0.20-10.2.0.30", "10.2.0.40-10.2.0.50"], "exclude": ["10.2.0.25"],
                  "lease_secs": 600, "router": "", "dns": ["10.2.0.2"], "domain": "two.example" }]"#,
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!((subnets[0].prefix.to_string().as_str(), subnets[0].relay), ("10.1.0.0/16", None));
        let second = &subnets[1];
        assert_eq!(second.relay, Some([172, 16, 0, 1].into()));
        assert_eq!((second.pool.len(), second.exclude.len(), second.lease_secs), (2, 1, Some(600)));
        assert_eq!(
            (second.router.as_deref(), second.domain.as_deref()),
            (Some(&[][..]), Some("two.example"))
        );
    }

    #[test]
    fn every_mistake_has_its_place() {
        let table = [
            ("{}", "f:1:13: `dhcp.subnets` is an object, not a list; write"),
            ("[5]", "f:1:14: `dhcp.subnets` is a number, not an object"),
            ("[{}]", "f:1:14: `dhcp.subnets` has a subnet without `prefix`; add"),
            (r#"[{"prefix": "10.1.0.0"}]"#, "f:1:25: `dhcp.subnets.prefix` is \"10.1.0.0\"; write"),
            (r#"[{"prefix": "10.1.0.1/24"}]"#, "f:1:25: `dhcp.subnets.prefix` is \"10.1.0.1/24\"; write"),
            (r#"[{"prefix": "10.1.0.0/24", "relay": "x"}]"#, "f:1:49: `dhcp.subnets.relay` is \"x\"; write"),
            (
                r#"[{"prefix": "10.1.0.0/24", "pool": ["10.1.0.5-10.1.0.9", "10.1.1.5-10.1.1.9"]}]"#,
                "f:1:70: the pool 10.1.1.5-10.1.1.9 is not inside the subnet 10.1.0.0/24; write addresses of this",
            ),
            (
                r#"[{"prefix": "10.1.0.0/16"}, {"prefix": "10.1.2.0/24"}]"#,
                "f:1:41: the subnets 10.1.0.0/16 and 10.1.2.0/24 overlap",
            ),
            (
                r#"[{"prefix": "10.1.0.0/16", "mask": 1}]"#,
                "f:1:40: `dhcp.subnets.mask` is not a setting; use one of: prefix",
            ),
        ];
        for (text, expected) in table {
            let (_, problems) = read(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].starts_with(expected), "{text}\n{}", problems[0]);
        }
    }

    #[test]
    fn what_does_not_fit_the_interface_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let text = "{ \"dhcp\": {\n \"pool\": [\"10.0.0.5-10.0.0.9\", \"10.0.1.5-10.0.1.9\"],\n \"subnets\": [{ \"prefix\": \"10.0.0.0/8\" }] } }";
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let settings = crate::config::resolve(dir.path(), crate::config::Given::default()).unwrap();
        let said = |pool: &[_], own: &str| -> Vec<String> {
            let problems = unfit(dir.path(), pool, &settings.dhcp.subnets, own.parse().unwrap());
            problems
                .iter()
                .map(|problem| problem.to_string().replace(&format!("{}/", dir.path().display()), ""))
                .collect()
        };
        let pool = &settings.dhcp.pool;
        assert_eq!(
            said(pool, "10.0.0.2/24"),
            [
                "netboot.json:2:32: the pool 10.0.1.5-10.0.1.9 is not inside the subnet 10.0.0.0/24; write addresses of the PXE interface's subnet",
                "netboot.json:3:2: the subnet 10.0.0.0/8 overlaps 10.0.0.0/24, the PXE interface's own; name only subnets behind relay agents"
            ]
        );
        let given = ["10.3.0.1-10.3.0.2".parse().unwrap()];
        let elsewhere = said(&given, "192.168.90.2/24");
        assert!(
            elsewhere[0].starts_with("netboot.json: the pool 10.3.0.1-10.3.0.2 is not inside"),
            "{elsewhere:?}"
        );
    }
}
