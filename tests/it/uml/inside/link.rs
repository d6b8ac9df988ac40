//! Dummy devices and their addresses, beside `ip`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use svcproxy::host::{Host, HostErrorKind, LocalAddress};

use super::{alone, as_anybody};
use crate::rig::Namespace;

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Device and address of each line of `ip -o address`.
fn shown(namespace: &Namespace) -> BTreeSet<String> {
    let text = namespace.run(&["ip", "-o", "address"]);
    let words = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {}", words[1], words[3])
    };
    text.lines().map(words).filter(|line| !line.starts_with("lo ")).collect()
}

#[test]
fn a_dummy_bears_addresses_and_stays_down() {
    alone(|namespace, host| {
        assert_eq!(host.dummy_addresses("d0"), Ok(None));
        host.dummy_add("d0").unwrap();
        assert_eq!(host.dummy_addresses("d0"), Ok(Some(BTreeSet::new())));
        let all = addresses(&["10.96.0.10", "10.96.0.1", "fd00:96::10"]);
        host.addresses_add("d0", &all).unwrap();
        host.addresses_add("d0", &all[..2]).unwrap();
        let expected = ["d0 10.96.0.1/32", "d0 10.96.0.10/32", "d0 fd00:96::10/128"];
        assert_eq!(shown(namespace), expected.map(str::to_owned).into());
        assert_eq!(host.dummy_addresses("d0"), Ok(Some(all.iter().copied().collect())));
        let local = LocalAddress { device: "d0".into(), addr: all[2] };
        assert!(host.local_addresses().unwrap().contains(&local));
        let link = namespace.run(&["ip", "-o", "-d", "link", "show", "d0"]);
        assert!(link.contains(" state DOWN ") && link.contains(" dummy "), "{link}");
        host.addresses_delete("d0", &all[1..]).unwrap();
        host.addresses_delete("d0", &all[1..]).unwrap();
        assert_eq!(shown(namespace), ["d0 10.96.0.10/32".to_owned()].into());
        host.dummy_delete("d0").unwrap();
        assert_eq!(host.dummy_addresses("d0"), Ok(None));
    });
}

#[test]
fn an_address_of_a_network_is_another_one() {
    alone(|namespace, host| {
        host.dummy_add("d0").unwrap();
        namespace.run(&["ip", "address", "add", "10.96.0.1/16", "dev", "d0"]);
        host.addresses_add("d0", &addresses(&["10.96.0.1"])).unwrap();
        host.addresses_delete("d0", &addresses(&["10.96.0.1"])).unwrap();
        assert_eq!(shown(namespace), ["d0 10.96.0.1/16".to_owned()].into());
    });
}

#[test]
fn leaves_out_what_the_kernel_makes() {
    alone(|namespace, host| {
        host.dummy_add("d0").unwrap();
        host.addresses_add("d0", &addresses(&["fd00:96::1"])).unwrap();
        namespace.run(&["ip", "link", "set", "d0", "up"]);
        assert!(shown(namespace).iter().any(|line| line.starts_with("d0 fe80::")), "{:?}", shown(namespace));
        assert_eq!(host.dummy_addresses("d0"), Ok(Some(addresses(&["fd00:96::1"]).into_iter().collect())));
    });
}

#[test]
fn takes_no_other_device_for_a_dummy() {
    alone(|namespace, host| {
        host.dummy_add("d0").unwrap();
        namespace.run(&["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
        for (error, kind, words) in [
            (host.dummy_add("d0"), HostErrorKind::Exists, "cannot add the dummy device `d0`: File exists"),
            (host.dummy_add("v0"), HostErrorKind::Exists, "cannot add the dummy device `v0`: File exists"),
            (
                host.dummy_delete("v0"),
                HostErrorKind::Exists,
                "cannot delete the dummy device `v0`: `v0` is there, and is no dummy device",
            ),
            (
                host.dummy_delete("d1"),
                HostErrorKind::NotFound,
                "cannot delete the dummy device `d1`: there is no such device",
            ),
            (
                host.addresses_add("d1", &addresses(&["10.96.0.1"])),
                HostErrorKind::NotFound,
                "cannot add addresses to `d1`: there is no such device",
            ),
            (
                host.addresses_add("d0", &addresses(&["10.96.0.1", "ff02::1", "10.96.0.2"])),
                HostErrorKind::Other,
                "cannot add the address ff02::1 to `d0`: Cannot assign requested address",
            ),
        ] {
            let error = error.unwrap_err();
            assert_eq!((error.kind, error.to_string().as_str()), (kind, words));
        }
        assert!(namespace.run(&["ip", "-o", "link"]).contains(" v0@"));
    });
}

#[test]
fn needs_rights() {
    alone(|namespace, host| {
        host.dummy_add("d0").unwrap();
        as_anybody(namespace, |host| {
            assert_eq!(host.dummy_addresses("d0"), Ok(Some(BTreeSet::new())));
            for (error, words) in [
                (host.dummy_add("d1"), "cannot add the dummy device `d1`: Operation not permitted"),
                (host.dummy_delete("d0"), "cannot delete the dummy device `d0`: Operation not permitted"),
                (
                    host.addresses_add("d0", &addresses(&["10.96.0.1"])),
                    "cannot add the address 10.96.0.1 to `d0`: Operation not permitted",
                ),
            ] {
                let error = error.unwrap_err();
                assert_eq!((error.kind, error.to_string().as_str()), (HostErrorKind::Permission, words));
            }
        });
        assert_eq!(shown(namespace), BTreeSet::new());
    });
}

#[test]
fn ten_thousand_addresses() {
    alone(|_, host| {
        host.dummy_add("d0").unwrap();
        let all: Vec<IpAddr> = (0..10_000_u16)
            .map(u16::to_be_bytes)
            .map(|[high, low]| IpAddr::from([10, 96, high, low]))
            .collect();
        let since = Instant::now();
        host.addresses_add("d0", &all).unwrap();
        let read = host.dummy_addresses("d0").unwrap().unwrap();
        eprintln!("added and read 10,000 addresses: {:.2} s", since.elapsed().as_secs_f64());
        assert!(read.into_iter().eq(all.iter().copied()));
        let since = Instant::now();
        host.addresses_delete("d0", &all).unwrap();
        eprintln!("deleted them: {:.2} s", since.elapsed().as_secs_f64());
        assert_eq!(host.dummy_addresses("d0"), Ok(Some(BTreeSet::new())));
    });
}
