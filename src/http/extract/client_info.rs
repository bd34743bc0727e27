//! Where a request comes from: the client's address, as far as trusted proxies tell it, and its user agent; and what it
//! shows to be recognised by.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use poem::{
    Request, RequestBody, Response, Result,
    http::{HeaderMap, header},
    web::RemoteAddr,
};

use crate::http::cookie;
use crate::{domain::session::Origin, service::limits::DeviceToken, state::AppState};

/// The client of a request.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its `User-Agent`.
    pub user_agent: Option<String>,
    /// By which an account may know its device.
    pub device_token: Option<DeviceToken>,
}

impl ClientInfo {
    /// As a session remembers it.
    pub fn into_origin(self, device: Option<String>) -> Origin {
        Origin { ip: self.ip, user_agent: self.user_agent, device }
    }
}

impl<'a> poem::FromRequest<'a> for ClientInfo {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        let user_agent = request.headers().get(header::USER_AGENT);
        Ok(Self {
            ip: address_of(request),
            device_token: device_token(request),
            user_agent: user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        })
    }
}

/// The client's address, if the request came over a network.
pub(in crate::http) fn address_of(request: &Request) -> Option<IpAddr> {
    let trusted = request.data::<Arc<AppState>>().map_or(&[][..], |state| &state.config.http.trusted_proxies);
    peer(request).map(|peer| client_address(peer, request.headers(), trusted))
}

/// Whether a request came from a proxy whose headers are believed.
pub(in crate::http) fn is_of_trusted_proxy(request: &Request, trusted: &[IpNet]) -> bool {
    !trusted.is_empty() && peer(request).is_some_and(|peer| trusted.iter().any(|network| network.contains(&peer)))
}

/// The address at the other end of the connection.
fn peer(request: &Request) -> Option<IpAddr> {
    match request.remote_addr() {
        RemoteAddr(poem::Addr::SocketAddr(address)) => Some(address.ip().to_canonical()),
        _ => None,
    }
}

/// The header in which apps that keep their refresh tokens themselves keep this one too.
pub const DEVICE_TOKEN: &str = "x-device-token";

/// Where an answer sets the cookie with the refresh token, it gives the device token in a cookie too: out of reach of a
/// page's scripts.
pub fn keep_device(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if headers.contains_key(header::SET_COOKIE)
        && let Some(token) = headers.remove(DEVICE_TOKEN)
        && let Some(cookie) = token.to_str().ok().and_then(|token| cookie::set_device(token).parse().ok())
    {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

/// The device token in the header, or in the cookie.
fn device_token(request: &Request) -> Option<DeviceToken> {
    let header = request.headers().get(DEVICE_TOKEN).and_then(|value| value.to_str().ok());
    header.and_then(DeviceToken::parse).or_else(|| DeviceToken::parse(&cookie::device_token(request)?))
}

/// The address nearest to us that isn't a trusted proxy's. Each proxy appends the address it was called from, so the
/// list is read from its end and no further than the first that isn't trusted: what stands before, anyone may have
/// written (RFC 7239, section 8.1).
///
/// There are two such lists, `Forwarded` (RFC 7239) and `X-Forwarded-For`, and most proxies write one of them and pass the
/// other on as the client sent it. Which, can't be seen: where they don't agree neither is believed, and what is known is
/// the proxy's own address.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
    if !is_trusted(&peer) {
        return peer;
    }
    let told = |name: &str, node: fn(&str) -> Option<IpAddr>| {
        let mut nearest = peer;
        for hop in hops(headers, name, node)?.into_iter().rev() {
            // a proxy that hides addresses ("unknown", "_hidden") is as far as can be seen
            let Some(ip) = hop else { break };
            nearest = ip;
            if !is_trusted(&ip) {
                break;
            }
        }
        Some(nearest)
    };
    match (told("forwarded", forwarded_for), told("x-forwarded-for", address)) {
        (Some(one), Some(other)) if one != other => peer,
        (told, other) => told.or(other).unwrap_or(peer),
    }
}

/// What a header's list says of the way, nearest last, if it is there.
fn hops(headers: &HeaderMap, name: &str, node: fn(&str) -> Option<IpAddr>) -> Option<Vec<Option<IpAddr>>> {
    let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    let hops = values.flat_map(|value| value.split(',')).map(|item| node(item.trim())).collect();
    headers.contains_key(name).then_some(hops)
}

/// The `for` of an element of `Forwarded`: `for=192.0.2.1;proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(node.trim().trim_matches('"'))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`; an IPv4 address that is written as an
/// IPv6 one is the former.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').map_or(Some(node), |rest| Some(rest.split_once(']')?.0))?;
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    node.rsplit_once(':')?.0.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn seen(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client_address(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn strangers_are_not_believed() {
        assert_eq!(seen("192.0.2.7", &[("x-forwarded-for", "198.51.100.1")]), "192.0.2.7");
    }

    #[test]
    fn the_nearest_untrusted_address_counts() {
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 198.51.100.1, 10.0.0.2")]), "198.51.100.1");
        assert_eq!(
            seen("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.1:443")]),
            "198.51.100.1"
        );
        assert_eq!(
            seen("fd00::1", &[("forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https")]),
            "2001:db8::1"
        );
        assert_eq!(seen("10.0.0.1", &[("forwarded", "for=6.6.6.6, for=unknown")]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", "rubbish")]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", "192.0.2.1, [::ffff:10.0.0.2]:443")]), "192.0.2.1");
    }

    #[test]
    fn a_header_that_the_proxy_only_passed_on_is_not_believed() {
        for (forged, written) in [
            (("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "198.51.100.1")),
            (("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=198.51.100.1")),
            (("forwarded", ""), ("x-forwarded-for", "198.51.100.1")),
        ] {
            assert_eq!(seen("10.0.0.1", &[forged, written]), "10.0.0.1", "{forged:?}");
        }
        let both = [("forwarded", "for=6.6.6.6, for=198.51.100.1"), ("x-forwarded-for", "198.51.100.1, 10.0.0.2")];
        assert_eq!(seen("10.0.0.1", &both), "198.51.100.1");
    }
}
