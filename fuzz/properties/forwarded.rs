//! The client address in proxy headers.

use std::net::IpAddr;

use latchkey::http::extract::client_info::client_address;
use poem::http::{HeaderMap, HeaderValue, header};

/// Only the entries of trusted proxies count: neither earlier entries nor the other header change the client address.
pub fn forwarded(bytes: &[u8]) {
    let trusted = ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|network: &ipnet::IpNet| network.contains(ip));
    let (proxy, stranger) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 7]));
    let mut headers = HeaderMap::new();
    let mut before = HeaderMap::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (name, forged): (_, &[u8]) = match bytes.first() {
            Some(b'F') => (header::FORWARDED, b"for=6.6.6.6, "),
            _ => (header::HeaderName::from_static("x-forwarded-for"), b"6.6.6.6, "),
        };
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        // an entry that the client put before it
        let first = if number == 0 { [forged, line].concat() } else { line.to_vec() };
        let Ok(forged) = HeaderValue::from_bytes(&first) else { return };
        headers.append(name.clone(), value);
        before.append(name, forged);
    }
    assert_eq!(client_address(stranger, &headers, &trusted), stranger);
    let seen = client_address(proxy, &headers, &trusted);
    let forged = client_address(proxy, &before, &trusted);
    assert_eq!(seen, seen.to_canonical(), "an IPv4 address has two forms");
    if !is_trusted(&seen) {
        assert_eq!(forged, seen, "an entry before the nearest untrusted address counts");
    }
    // a proxy that writes the other header and forwards this one unchanged
    let (written, value) = if headers.contains_key(header::FORWARDED) {
        (header::HeaderName::from_static("x-forwarded-for"), "192.0.2.7")
    } else {
        (header::FORWARDED, "for=192.0.2.7")
    };
    headers.append(written, HeaderValue::from_static(value));
    let seen = client_address(proxy, &headers, &trusted);
    assert!(seen == proxy || seen == stranger, "a forwarded header counts");
}
