//! Decides which IP addresses are public. Strangers choose the hosts of fetches, so a fetch must not reach the operator's network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the public Internet: IANA's registries list no special purpose for it. An IPv4-mapped or
/// NAT64 address is public if the IPv4 address in it is. Addresses of tunnels (6to4, Teredo) are not public.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match (a, b, c) {
        // this network, loopback, link-local
        (0 | 127, ..) | (169, 254, _) => true,
        // private (RFC 1918), shared (RFC 6598)
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => true,
        // protocol assignments, the relay of 6to4, benchmarks
        (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _) => true,
        // documentation
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => true,
        // multicast, reserved, broadcast
        _ => a >= 224,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    // The well-known prefix of NAT64 (RFC 6052). The last four bytes are the IPv4 address.
    if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [first, second] = g.to_be_bytes();
        let [third, fourth] = h.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(first, second, third, fourth));
    }
    // Only 2000::/3 is assigned as global unicast: this excludes loopback, unique local, link-local and multicast addresses.
    let is_global = matches!(a, 0x2000..=0x3fff);
    // 2001::/23, which contains Teredo
    let is_protocol_assignment = a == 0x2001 && b < 0x200;
    let is_6to4 = a == 0x2002;
    // 2001:db8::/32 and 3fff::/20
    let is_documentation = matches!((a, b), (0x2001, 0xdb8) | (0x3fff, 0..=0x0fff));
    is_global && !is_protocol_assignment && !is_6to4 && !is_documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_outside_special_purpose_networks_are_public() {
        let not_public = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1", // 127.0.0.1
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1", // private NAT64
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for text in not_public {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        // several are just outside one of the networks above
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
        ];
        for text in public {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
