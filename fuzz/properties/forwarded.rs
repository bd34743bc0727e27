//! The headers in which proxies report their clients.

use std::net::IpAddr;

use latchkey::{config::ForwardedHeader, http::extract::client_address::client_address};
use poem::http::{HeaderMap, HeaderValue, header};

/// Only the configured header of trusted proxies is used, and elements before the client's address have no effect.
///
/// The first byte of the input selects the configured header. Each line is the value of one header field.
pub fn forwarded(bytes: &[u8]) {
    let trusted = ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|network: &ipnet::IpNet| network.contains(ip));
    let (proxy, stranger) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 7]));
    let x_forwarded_for = header::HeaderName::from_static("x-forwarded-for");
    let (configured, name, other_name) = match bytes.first() {
        Some(b'F') => (ForwardedHeader::Forwarded, header::FORWARDED, x_forwarded_for),
        _ => (ForwardedHeader::XForwardedFor, x_forwarded_for, header::FORWARDED),
    };
    let forged: &[u8] = if configured == ForwardedHeader::Forwarded { b"for=6.6.6.6, " } else { b"6.6.6.6, " };
    let (mut headers, mut with_forged) = (HeaderMap::new(), HeaderMap::new());
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        let forged_line = if number == 0 { [forged, line].concat() } else { line.to_vec() };
        let Ok(forged_line) = HeaderValue::from_bytes(&forged_line) else { return };
        headers.append(name.clone(), value);
        with_forged.append(name.clone(), forged_line);
    }
    assert_eq!(client_address(stranger, &headers, &trusted, configured), stranger);
    let found = client_address(proxy, &headers, &trusted, configured);
    assert_eq!(found, found.to_canonical(), "an IPv4 address is returned in its IPv6-mapped form");
    // If all addresses are those of trusted proxies, the forged element is the client's.
    if !is_trusted(&found) {
        assert_eq!(
            client_address(proxy, &with_forged, &trusted, configured),
            found,
            "an element before the client's address has an effect"
        );
    }
    headers.append(other_name, HeaderValue::from_static("6.6.6.6"));
    assert_eq!(client_address(proxy, &headers, &trusted, configured), found, "the other header has an effect");
}
