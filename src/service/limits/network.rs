//! The networks whose requests are counted for rate limits: an IPv4 address, the /64 of an IPv6 address, and a wider IPv6 network.

use std::net::{IpAddr, Ipv6Addr};

/// Length in bytes of an IPv6 /64 prefix: the network that a provider assigns to a household or a server.
const HOST_PREFIX_BYTES: usize = 8;

/// The name of a network: the bytes of an IPv4 address or of an IPv6 prefix. Empty for requests without an address,
/// which arrive over a Unix socket and count as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    bytes: [u8; HOST_PREFIX_BYTES],
    len: usize,
}

impl Network {
    /// An IPv4 address, or the /64 of an IPv6 address.
    pub(super) fn of_address(ip: Option<IpAddr>) -> Self {
        match ip.map(|ip| ip.to_canonical()) {
            None => Self::new(&[]),
            Some(IpAddr::V4(ip)) => Self::new(&ip.octets()),
            Some(IpAddr::V6(ip)) => Self::new(&ip.octets()[..HOST_PREFIX_BYTES]),
        }
    }

    /// The network of an IPv6 address with a prefix of `prefix_bits`, at most 64; `None` for other addresses.
    pub(super) fn wide(ip: Option<IpAddr>, prefix_bits: u8) -> Option<Self> {
        let Some(IpAddr::V6(ip)) = ip.map(|ip| ip.to_canonical()) else { return None };
        let other_bits = 128 - u32::from(prefix_bits.min(64));
        // `checked_shl` refuses to shift all 128 bits.
        let mask = u128::MAX.checked_shl(other_bits).unwrap_or(0);
        let first_address = Ipv6Addr::from(ip.to_bits() & mask);
        Some(Self::new(&first_address.octets()[..HOST_PREFIX_BYTES]))
    }

    /// The first address of the network with this name. `None` for the empty name.
    pub(super) fn address(name: &[u8]) -> Option<IpAddr> {
        if let Ok(v4) = <[u8; 4]>::try_from(name) {
            return Some(v4.into());
        }
        let prefix: [u8; HOST_PREFIX_BYTES] = name.try_into().ok()?;
        let upper_half = u128::from(u64::from_be_bytes(prefix));
        Some(Ipv6Addr::from(upper_half << 64).into())
    }

    /// The bytes of the network's name.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// `name` has at most [`HOST_PREFIX_BYTES`].
    fn new(name: &[u8]) -> Self {
        let mut bytes = [0; HOST_PREFIX_BYTES];
        bytes[..name.len()].copy_from_slice(name);
        Self { bytes, len: name.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Network {
        Network::of_address(Some(text.parse().unwrap()))
    }

    fn wide(text: &str, prefix: u8) -> Option<Network> {
        Network::wide(Some(text.parse().unwrap()), prefix)
    }

    #[test]
    fn network_name_converts_back_to_its_first_address() {
        let first_address = |text: &str| Network::address(of(text).as_bytes()).unwrap().to_string();
        assert_eq!(first_address("192.0.2.1"), "192.0.2.1");
        assert_eq!(first_address("2001:db8::7:1:2:3"), "2001:db8::");
        assert_eq!(Network::address(&[]), None);
    }

    #[test]
    fn ipv6_addresses_of_one_64_share_a_network_and_ipv4_addresses_do_not() {
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        // an IPv4 address in its IPv6 form
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn wide_network_is_the_prefix_of_an_ipv6_address_only() {
        assert_eq!(wide("2001:db8:1:2::3", 48), wide("2001:db8:1:ffff::4", 48));
        assert_ne!(wide("2001:db8:1:2::3", 48), wide("2001:db8:2:2::3", 48));
        assert_ne!(wide("2001:db8:1:200::3", 56), wide("2001:db8:1:100::3", 56));
        assert_eq!(wide("192.0.2.1", 48), None);
        assert_eq!(wide("::ffff:192.0.2.1", 48), None);
        assert_eq!(Network::wide(None, 48), None);
    }
}
