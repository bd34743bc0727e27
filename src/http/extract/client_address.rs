//! The address of a request's client, taken from the header that trusted proxies write.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

use ipnet::IpNet;
use poem::{
    Request,
    http::{HeaderMap, HeaderName, header},
    web::RemoteAddr,
};

use crate::{
    config::{ForwardedHeader, HttpSettings},
    metrics::ForwardedMetrics,
};

/// The headers in which proxies report their clients.
const HEADERS: [ForwardedHeader; 2] = [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded];

/// The name of a header, parsed once: `HeaderMap` parses a text at every look-up.
const fn header_name(header: ForwardedHeader) -> HeaderName {
    match header {
        ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
        ForwardedHeader::Forwarded => header::FORWARDED,
    }
}

/// Derives client addresses as `http.trusted_proxies` and `http.forwarded_header` say.
#[derive(Clone, Debug)]
pub struct ClientAddressResolver {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
}

impl ClientAddressResolver {
    /// Uses the proxies and the header of the settings.
    pub fn new(settings: &HttpSettings) -> Self {
        Self { trusted: settings.trusted_proxies.clone(), header: settings.forwarded_header }
    }

    /// Whether this is the address of a trusted proxy.
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        is_trusted(&self.trusted, peer)
    }

    /// The address of the client whose request came from `peer`.
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(peer, headers, &self.trusted, self.header)
    }

    /// The other end of a request's connection, if it came over a network.
    pub fn peer(request: &Request) -> Option<SocketAddr> {
        match request.remote_addr() {
            RemoteAddr(poem::Addr::SocketAddr(peer)) => Some(SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            _ => None,
        }
    }
}

/// Whether this is the address of a trusted proxy.
pub(in crate::http) fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The nearest address that is not a trusted proxy's.
///
/// To the list in `header`, each proxy appends the address of its caller. The list is read from its end up to the
/// first address that is not trusted. Earlier elements may have been written by anyone and have no effect (RFC 7239, section
/// 8.1). If a trusted proxy reports no address (`unknown`) or something unreadable, the address of that proxy
/// is the result.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet], header: ForwardedHeader) -> IpAddr {
    let mut nearest = peer;
    if !is_trusted(trusted, nearest) {
        return nearest;
    }
    let lines: Vec<&[u8]> = headers.get_all(header_name(header)).iter().map(|value| value.as_bytes()).collect();
    let last_item_first = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    for item in last_item_first.filter(|item| !item.is_empty()) {
        let address = match header {
            ForwardedHeader::XForwardedFor => node_address(item),
            ForwardedHeader::Forwarded => forwarded_for(item),
        };
        let Some(address) = address else { break };
        nearest = address;
        if !is_trusted(trusted, nearest) {
            break;
        }
    }
    nearest
}

/// The `for` of an element of `Forwarded` (RFC 7239, section 4): `for=192.0.2.1;proto=https`.
///
/// An element is only read if all of it is well-formed. The caller splits the header at every comma, also within a quoted
/// string. The last part of such a string is malformed: it ends with a quote that it does not begin with, or has an escape. The
/// caller reads from the end and stops there, so it never takes a value that a client has chosen (`host="a, for=192.0.2.1"`) for
/// an element.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut rest = element;
    let mut client = None;
    loop {
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let name = rest[..equals].trim_ascii_start();
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return None;
        }
        let (value, after) = pair_value(&rest[equals + 1..])?;
        if name.eq_ignore_ascii_case(b"for") {
            // Two clients in one element would be ambiguous.
            if client.is_some() {
                return None;
            }
            client = Some(value);
        }
        match after.trim_ascii_start() {
            [] => return node_address(client?),
            [b';', more @ ..] => rest = more,
            _ => return None,
        }
    }
}

/// Splits a text into the value that it begins with, and the rest. The value is a token, a node name that should have been
/// quoted, or a quoted string without escapes.
fn pair_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(quoted) = text.strip_prefix(b"\"") {
        let end = quoted.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        return (quoted[end] == b'"').then(|| (&quoted[..end], &quoted[end + 1..]));
    }
    let is_value = |byte: &u8| is_token_byte(*byte) || matches!(byte, b':' | b'[' | b']');
    let end = text.iter().position(|byte| !is_value(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Whether the byte may be part of a token (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`. An IPv4 address that is mapped into
/// IPv6 becomes the IPv4 address.
fn node_address(node: &[u8]) -> Option<IpAddr> {
    let node = str::from_utf8(node).ok()?;
    let bare = match node.strip_prefix('[') {
        Some(rest) => {
            let (bare, port) = rest.split_once(']')?;
            if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
                return None;
            }
            bare
        }
        None => node,
    };
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = node.rsplit_once(':')?;
    address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::from)
}

/// Whether the text is a port, or an obfuscated port such as `_a1` (RFC 7239, section 6).
fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() || (text.len() > 1 && text.starts_with('_') && text.bytes().all(is_token_byte))
}

/// Counts how a request through a proxy names its client. Logs, once per process for each of two causes, that a proxy's header is
/// ignored: a proxy at a loopback, private or link-local address is not in `http.trusted_proxies`, or a trusted proxy writes the
/// other header than `http.forwarded_header`.
pub(in crate::http) fn observe_forwarding(request: &Request, settings: &HttpSettings, metrics: &ForwardedMetrics) {
    static UNTRUSTED_IS_LOGGED: AtomicBool = AtomicBool::new(false);
    static OTHER_HEADER_IS_LOGGED: AtomicBool = AtomicBool::new(false);
    let sent_header = HEADERS.into_iter().find(|header| request.headers().contains_key(header_name(*header)));
    let came_directly = sent_header.is_none() && settings.trusted_proxies.is_empty();
    if came_directly {
        return;
    }
    let Some(peer) = ClientAddressResolver::peer(request).map(|peer| peer.ip()) else { return };
    if !is_trusted(&settings.trusted_proxies, peer) {
        // A peer with a public address may be a client that wrote the header itself.
        let Some(header) = sent_header.filter(|_| is_local(peer)) else { return };
        metrics.untrusted_peer.inc();
        if !UNTRUSTED_IS_LOGGED.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                proxy = %peer,
                header = header.name(),
                "a proxy's client addresses are ignored: it is not in http.trusted_proxies, so all its clients share its \
                 address and rate limits until its address is added there"
            );
        }
        return;
    }
    if request.headers().contains_key(header_name(settings.forwarded_header)) {
        metrics.read.inc();
    } else if let Some(other_header) = sent_header {
        metrics.other_header.inc();
        if !OTHER_HEADER_IS_LOGGED.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                proxy = %peer,
                header = other_header.name(),
                configured = settings.forwarded_header.name(),
                "a trusted proxy writes another header than http.forwarded_header: its clients share its address and \
                 rate limits until http.forwarded_header names the header that the proxy writes"
            );
        }
    } else {
        metrics.absent.inc();
    }
}

/// Loopback, private (RFC 1918, RFC 4193) and link-local addresses.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// The networks of trusted proxies.
    fn trusted() -> [IpNet; 2] {
        ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    /// The client of a request from `peer` with these header lines (name and value). The proxies are configured to write `header`.
    fn resolve(peer: &str, header: ForwardedHeader, lines: &[(&'static str, &[u8])]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        client_address(peer.parse().unwrap(), &map, &trusted(), header).to_string()
    }

    fn by_x_forwarded_for(peer: &str, lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", line.as_bytes())).collect();
        resolve(peer, ForwardedHeader::XForwardedFor, &lines)
    }

    fn by_forwarded(peer: &str, lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| ("forwarded", line.as_bytes())).collect();
        resolve(peer, ForwardedHeader::Forwarded, &lines)
    }

    #[test]
    fn untrusted_peer_is_the_client_whatever_it_sends() {
        for header in HEADERS {
            let lines: [(&str, &[u8]); 2] = [("x-forwarded-for", b"198.51.100.1"), ("forwarded", b"for=198.51.100.1")];
            assert_eq!(resolve("192.0.2.7", header, &lines), "192.0.2.7");
        }
    }

    #[test]
    fn nearest_untrusted_address_is_the_client() {
        // 10.0.0.1, 10.0.0.2 and 10.0.0.9 are trusted proxies, and 6.6.6.6 is what a client has forged
        assert_eq!(by_x_forwarded_for("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(by_x_forwarded_for("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(by_x_forwarded_for("10.0.0.1", &["6.6.6.6", "198.51.100.1:443"]), "198.51.100.1");
        assert_eq!(by_x_forwarded_for("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(by_x_forwarded_for("10.0.0.1", &["192.0.2.1, [::ffff:10.0.0.2]:443"]), "192.0.2.1");
        assert_eq!(by_x_forwarded_for("10.0.0.1", &["192.0.2.1, , 10.0.0.2,"]), "192.0.2.1");
        let quoted = ["for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https"];
        assert_eq!(by_forwarded("fd00::1", &quoted), "2001:db8::1");
        assert_eq!(by_forwarded("10.0.0.1", &["for=192.0.2.43, for=10.0.0.9;by=10.0.0.1"]), "192.0.2.43");
        assert_eq!(by_forwarded("10.0.0.1", &["for=6.6.6.6, for=unknown"]), "10.0.0.1");
        assert_eq!(by_forwarded("10.0.0.1", &["for=6.6.6.6, For=10.0.0.2;for=192.0.2.1"]), "10.0.0.1");
    }

    #[test]
    fn other_header_than_the_configured_one_is_ignored() {
        let both: [(&str, &[u8]); 2] = [("forwarded", b"for=6.6.6.6"), ("x-forwarded-for", b"198.51.100.1")];
        assert_eq!(resolve("10.0.0.1", ForwardedHeader::XForwardedFor, &both), "198.51.100.1");
        assert_eq!(resolve("10.0.0.1", ForwardedHeader::Forwarded, &both), "6.6.6.6");
    }

    #[test]
    fn quoted_value_of_a_client_is_not_an_element() {
        // The last part is malformed, so the search ends at the proxy.
        for value in [
            r#"for=192.0.2.1;host="x, for=6.6.6.6""#,
            r#"for=192.0.2.1;host="x, for=6.6.6.6; b=\"""#,
            r#"for=192.0.2.1;host="x, for=6.6.6.6;b=c""#,
            r#"for=192.0.2.1;host="\", for=6.6.6.6""#,
            r#"for=192.0.2.1;host="x, for=6.6.6.6, y""#,
        ] {
            assert_eq!(by_forwarded("10.0.0.1", &[value]), "10.0.0.1", "{value}");
        }
        let quoted = r#"for=192.0.2.1;host="example.com:80";proto=https"#;
        assert_eq!(by_forwarded("10.0.0.1", &[quoted]), "192.0.2.1");
    }

    /// The bytes that hyper lets into a header's value.
    fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
        // Four of five bytes have a meaning in the headers.
        let byte = prop_oneof![
            4 => prop::sample::select(b"0123456789.:[],;=\"\\ for\t".to_vec()),
            1 => (0x20_u8..=0xff).prop_filter("no DEL", |byte| *byte != 0x7f),
        ];
        prop::collection::vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn bytes_before_the_client_have_no_effect(forged in prop::collection::vec(header_bytes(), 0..4), joined: bool) {
            let lists: [(ForwardedHeader, &'static str, &[u8]); 2] = [
                (ForwardedHeader::XForwardedFor, "x-forwarded-for", b"198.51.100.1, 10.0.0.2"),
                (ForwardedHeader::Forwarded, "forwarded", b"for=198.51.100.1;proto=http, for=\"10.0.0.2:80\""),
            ];
            for (header, name, by_proxy) in lists {
                let mut lines: Vec<Vec<u8>> = forged.clone();
                match lines.last_mut() {
                    // the proxy appends to the client's line, or writes a line of its own
                    Some(last) if joined => {
                        last.extend(b", ");
                        last.extend(by_proxy);
                    }
                    _ => lines.push(by_proxy.to_vec()),
                }
                let lines: Vec<(&str, &[u8])> = lines.iter().map(|line| (name, line.as_slice())).collect();
                prop_assert_eq!(resolve("10.0.0.1", header, &lines), "198.51.100.1");
            }
        }

        /// Arbitrary lists neither panic nor yield an IPv4 address in IPv6 form.
        #[test]
        fn arbitrary_lists_yield_a_canonical_address(line in header_bytes()) {
            for (header, name) in [(ForwardedHeader::XForwardedFor, "x-forwarded-for"), (ForwardedHeader::Forwarded, "forwarded")] {
                let address: IpAddr = resolve("10.0.0.1", header, &[(name, &line)]).parse().unwrap();
                prop_assert_eq!(address, address.to_canonical());
            }
        }
    }
}
