//! Extracts the client of a request: [`ClientInfo`] is its address, user agent and device token, [`RequestOrigin`] its address, user agent
//! and languages.

use std::{net::IpAddr, sync::Arc};

use poem::{
    Request, RequestBody, Response, Result,
    http::{HeaderName, header},
};

use super::client_address::{self, ClientAddressResolver};
use crate::{
    config::HttpSettings,
    domain::session::SessionOrigin,
    http::cookie,
    service::{limits::DeviceToken, request_origin::RequestOrigin},
    state::AppState,
};

/// The header with the device token, in responses and in requests of apps that store their tokens themselves. In a browser, a cookie holds
/// the device token.
pub const DEVICE_TOKEN: &str = "x-device-token";

/// The client of a request.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The token by which a sign-in recognizes a device of the account's owner.
    pub device_token: Option<DeviceToken>,
}

impl ClientInfo {
    /// The data that a session stores about the client, without a name of the device.
    pub fn into_session_origin(self) -> SessionOrigin {
        self.into_session_origin_with_device(None)
    }

    /// The data that a session stores about the client, with the name that the client gave its device.
    pub fn into_session_origin_with_device(self, device: Option<String>) -> SessionOrigin {
        SessionOrigin { ip: self.ip, user_agent: self.user_agent, device }
    }
}

impl<'a> poem::FromRequest<'a> for ClientInfo {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self {
            ip: address_of(request),
            user_agent: header_text(request, header::USER_AGENT),
            device_token: device_token(request),
        })
    }
}

impl<'a> poem::FromRequest<'a> for RequestOrigin {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self {
            ip: address_of(request),
            user_agent: header_text(request, header::USER_AGENT),
            accept_language: header_text(request, header::ACCEPT_LANGUAGE),
        })
    }
}

/// The value of a header, in which U+FFFD replaces bytes that are not UTF-8.
fn header_text(request: &Request, name: HeaderName) -> Option<String> {
    let value = request.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The client's address, if the request came over a network: the address that a trusted proxy reports, or else the peer's.
pub(in crate::http) fn address_of(request: &Request) -> Option<IpAddr> {
    let peer = ClientAddressResolver::peer(request)?.ip();
    // Without the state, which the server adds to every request, no proxy is trusted.
    let Some(state) = request.data::<Arc<AppState>>() else { return Some(peer) };
    let settings = &state.config.http;
    let trusted = &settings.trusted_proxies;
    Some(client_address::client_address(peer, request.headers(), trusted, settings.forwarded_header))
}

/// Whether a request's connection comes from a trusted proxy.
pub(in crate::http) fn is_from_trusted_proxy(request: &Request, settings: &HttpSettings) -> bool {
    let trusted = &settings.trusted_proxies;
    !trusted.is_empty()
        && ClientAddressResolver::peer(request).is_some_and(|peer| client_address::is_trusted(trusted, peer.ip()))
}

/// If the response sets the refresh cookie: moves its device token into a cookie, out of reach of a page's scripts.
pub fn move_device_token_to_cookie(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.get_all(header::SET_COOKIE).iter().any(cookie::is_refresh) {
        return response;
    }
    let Some(token) = headers.remove(DEVICE_TOKEN) else { return response };
    let set_cookie = token.to_str().ok().and_then(|token| cookie::set_device(token).parse().ok());
    if let Some(set_cookie) = set_cookie {
        headers.append(header::SET_COOKIE, set_cookie);
    }
    response
}

/// The device token in the header or, if the header has no valid one, in the cookie.
fn device_token(request: &Request) -> Option<DeviceToken> {
    let header = request.headers().get(DEVICE_TOKEN).and_then(|value| value.to_str().ok());
    if let Some(token) = header.and_then(DeviceToken::parse) {
        return Some(token);
    }
    let cookie = cookie::device_token(request)?;
    DeviceToken::parse(&cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_token_moves_to_a_cookie_only_beside_the_refresh_cookie() {
        let respond = |set_cookie: &str| {
            let response = Response::builder().header(header::SET_COOKIE, set_cookie).header(DEVICE_TOKEN, "token");
            let response = move_device_token_to_cookie(response.finish());
            let cookies = response.headers().get_all(header::SET_COOKIE).iter();
            let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().unwrap().to_owned()).collect();
            (cookies, response.headers().contains_key(DEVICE_TOKEN))
        };
        let refresh = "__Host-latchkey=lk_rt_x; Path=/";
        assert_eq!(respond(refresh), (vec![refresh.to_owned(), cookie::set_device("token")], false));
        let visitor = "__Host-latchkey-visitor=x; Path=/";
        assert_eq!(respond(visitor), (vec![visitor.to_owned()], true));
    }
}
