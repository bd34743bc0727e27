//! Fuzzes the headers in which proxies report the addresses of their clients.

use std::net::IpAddr;

use latchkey::{config::ForwardedHeader, http::extract::client_address::client_address};
use poem::http::{HeaderMap, HeaderValue, header};

/// Only the configured header of trusted proxies is used, and elements before the client's address have no effect.
///
/// The first byte of the input selects the configured header. Each line is the value of one header field.
pub fn forwarded(bytes: &[u8]) {
    let trusted: [ipnet::IpNet; 2] = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
    let trusted_proxy = IpAddr::from([10, 0, 0, 1]);
    let stranger = IpAddr::from([192, 0, 2, 7]);
    let x_forwarded_for = header::HeaderName::from_static("x-forwarded-for");
    let (configured, name, other_name) = match bytes.first() {
        Some(b'F') => (ForwardedHeader::Forwarded, header::FORWARDED, x_forwarded_for),
        _ => (ForwardedHeader::XForwardedFor, x_forwarded_for, header::FORWARDED),
    };
    // A client can send elements of its own, which end up before the one that the proxy appends.
    let forged: &[u8] = if configured == ForwardedHeader::Forwarded { b"for=6.6.6.6, " } else { b"6.6.6.6, " };
    let mut headers = HeaderMap::new();
    let mut with_forged = HeaderMap::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let forged_line = if index == 0 { [forged, line].concat() } else { line.to_vec() };
        // Not every line is a valid value of a header field.
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        let Ok(forged_value) = HeaderValue::from_bytes(&forged_line) else { return };
        headers.append(name.clone(), value);
        with_forged.append(name.clone(), forged_value);
    }
    assert_eq!(client_address(stranger, &headers, &trusted, configured), stranger);
    let found = client_address(trusted_proxy, &headers, &trusted, configured);
    assert_eq!(found, found.to_canonical(), "an IPv4 address is returned in its IPv6-mapped form");
    // If all addresses are those of trusted proxies, the forged element rightly counts as the client's address.
    let all_trusted = trusted.iter().any(|network| network.contains(&found));
    if !all_trusted {
        let found_with_forged = client_address(trusted_proxy, &with_forged, &trusted, configured);
        assert_eq!(found_with_forged, found, "an element before the client's address has an effect");
    }
    headers.append(other_name, HeaderValue::from_static("6.6.6.6"));
    let found_with_other = client_address(trusted_proxy, &headers, &trusted, configured);
    assert_eq!(found_with_other, found, "the other header has an effect");
}
