//! The cookies of browsers, and the checks against cross-site requests.

use std::time::Duration;

use poem::{
    Request,
    http::{HeaderName, HeaderValue, header},
};
use url::{Host, Url};

use super::problem::{Code, ProblemError};
use crate::{
    config::is_loopback,
    crypto::{browser_token::BrowserToken, csrf::VisitorToken, refresh_token::RefreshToken},
    state::AppState,
};

/// The refresh cookie. Browsers accept a `__Host-` cookie only if it is secure, for one host and for all paths.
pub const REFRESH: &str = "__Host-latchkey";

/// The cookie with the device token.
pub const DEVICE: &str = "__Host-latchkey-device";

/// The cookie that names the browser's session on Latchkey's own pages. `SameSite=Lax`: it is sent when another site sends the browser to
/// `/oauth2/authorize`, but not with a POST, frame or script of another site.
pub const BROWSER: &str = "__Host-latchkey-browser";

/// The cookie that tells browsers apart before sign-in. The forms of the pages are bound to it.
pub const VISITOR: &str = "__Host-latchkey-visitor";

/// Where the request of a browser comes from, relative to the API (Fetch Metadata Request Headers).
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// 400 days in seconds, the longest time that browsers keep cookies.
const DEVICE_MAX_AGE_S: u64 = 400 * 24 * 60 * 60;

/// `Set-Cookie` for a device token.
pub fn set_device(token: &str) -> String {
    format!("{DEVICE}={token}; Path=/; Max-Age={DEVICE_MAX_AGE_S}; Secure; HttpOnly; SameSite=Strict")
}

/// `Set-Cookie` for a refresh token that is valid for `max_age`.
pub fn set_refresh(token: &RefreshToken, max_age: Duration) -> String {
    format!("{REFRESH}={}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Strict", token.expose(), max_age.as_secs())
}

/// Whether the value of a `Set-Cookie` header is of the refresh cookie.
pub fn is_refresh(set_cookie: &HeaderValue) -> bool {
    set_cookie.as_bytes().strip_prefix(REFRESH.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

/// `Set-Cookie` that deletes the refresh cookie.
pub fn clear_refresh() -> String {
    format!("{REFRESH}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
}

/// The refresh token in the request's cookie.
pub fn refresh_token(request: &Request) -> Option<String> {
    named(request, REFRESH)
}

/// `Set-Cookie` for the browser's session, for `max_age`: the session's absolute lifetime.
pub fn set_browser(token: &BrowserToken, max_age: Duration) -> String {
    format!("{BROWSER}={}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Lax", token.expose(), max_age.as_secs())
}

/// `Set-Cookie` that deletes the cookie of the browser's session.
pub fn clear_browser() -> String {
    format!("{BROWSER}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")
}

/// The browser's session in the request's cookie.
pub fn browser_token(request: &Request) -> Option<String> {
    named(request, BROWSER)
}

/// `Set-Cookie` for a browser that has not signed in. The cookie lasts until the browser is closed.
pub fn set_visitor(token: &VisitorToken) -> String {
    format!("{VISITOR}={}; Path=/; Secure; HttpOnly; SameSite=Lax", token.expose())
}

/// The visitor token in the request's cookie.
pub fn visitor_token(request: &Request) -> Option<String> {
    named(request, VISITOR)
}

/// The device token in the request's cookie.
pub fn device_token(request: &Request) -> Option<String> {
    named(request, DEVICE)
}

/// The first value of the cookie `name` that is not empty. Other cookies may hold any bytes. Only ASCII white space around names is
/// trimmed, so that no other name is mistaken for this one.
pub(super) fn named(request: &Request, name: &str) -> Option<String> {
    let headers = request.headers().get_all(header::COOKIE).iter();
    headers
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .filter_map(|value| str::from_utf8(value).ok())
        .find(|value| !value.is_empty())
        .map(str::to_owned)
}

/// Refuses a request that a page of another site made. Required wherever a state change relies on the cookie or the
/// response sets it. Every current browser sends `Sec-Fetch-Site` or `Origin`; a request with neither is not a browser's.
///
/// # Errors
/// [`Code::CrossSiteRequest`]
pub fn refuse_cross_site(state: &AppState, request: &Request) -> Result<(), ProblemError> {
    // An unreadable header must not count as absent: "unreadable" equals none of the allowed values.
    let value = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let is_allowed = match (value(header::ORIGIN), value(SEC_FETCH_SITE)) {
        // A page cannot forge Sec-Fetch-Site.
        (_, Some("same-origin")) => true,
        (Some(origin), _) => {
            origin == origin_of(&state.config.issuer)
                || state.config.http.allowed_origins.iter().any(|allowed| allowed == origin)
        }
        // The user's own action, such as a bookmark.
        (None, Some("none")) => true,
        (None, Some(_)) => false,
        // Not a browser.
        (None, None) => true,
    };
    if is_allowed {
        return Ok(());
    }
    let detail = "Only the service's own pages and those of `http.allowed_origins` may use the cookie.";
    Err(ProblemError::new(Code::CrossSiteRequest, detail))
}

/// Refuses a sign-in whose cookie the browser would reject or never send back: the cookie is `Secure` and
/// `SameSite=Strict`, so the page and the API must be of one site, over https or on localhost.
///
/// # Errors
/// [`Code::CookieCrossSite`]
pub fn refuse_unusable_cookie(state: &AppState, request: &Request) -> Result<(), ProblemError> {
    let value = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    // Without an origin, the client is not a page of another origin. `refuse_cross_site` decides about the origin `null`.
    let Some(page) = value(header::ORIGIN).and_then(|origin| Url::parse(origin).ok()) else { return Ok(()) };
    let refuse = |why: String| Err(ProblemError::new(Code::CookieCrossSite, why));
    // Browsers accept secure cookies from this machine without https.
    if page.scheme() == "http" && !is_loopback(&page) {
        return refuse(format!(
            "The browser would reject the cookie because the page {} is not served over https. Use https, or \
             localhost for development, or the transport `bearer`.",
            page.origin().ascii_serialization()
        ));
    }
    // A proxy may have replaced the Host header, so the issuer is compared as well.
    let requested = value(header::HOST).and_then(|host| Url::parse(&format!("http://{host}")).ok());
    let issuer = Url::parse(&state.config.issuer).ok();
    let is_cross_site = match value(SEC_FETCH_SITE) {
        Some(site) => site == "cross-site",
        // An older browser does not send the header.
        None => ![&requested, &issuer].into_iter().flatten().any(|api| may_be_same_site(&page, api)),
    };
    if is_cross_site {
        let api = requested.or(issuer).and_then(|api| api.host_str().map(str::to_owned)).unwrap_or_default();
        return refuse(format!(
            "The browser would not send the cookie back because the page ({}) and the API ({api}) are different sites. \
             Use hosts of one site, or the transport `bearer`.",
            page.host_str().unwrap_or_default(),
        ));
    }
    Ok(())
}

/// Whether two hosts may be of one site: they are equal, or domain names that end in the same two labels. The exact answer needs
/// the public suffix list, so hosts that might be of one site pass.
fn may_be_same_site(page: &Url, api: &Url) -> bool {
    match (page.host(), api.host()) {
        (Some(Host::Domain(page)), Some(Host::Domain(api))) => last_two_labels(page) == last_two_labels(api),
        (Some(page), Some(api)) => page == api,
        _ => false,
    }
}

/// The last two labels of a domain name: `example.com` of `auth.example.com`. A name of one label is returned whole.
fn last_two_labels(name: &str) -> &str {
    match name.rmatch_indices('.').nth(1) {
        Some((second_last_dot, _)) => &name[second_last_dot + 1..],
        None => name,
    }
}

/// The origin of a URL: scheme, host and port (RFC 6454, section 6.2).
pub(super) fn origin_of(url: &str) -> String {
    Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_one_site_are_recognized() {
        let url = |host: &str| Url::parse(&format!("https://{host}")).unwrap();
        for (page, api) in [
            ("app.example.com", "auth.example.com"),
            ("example.com", "auth.example.com"),
            ("a.example.co.uk", "b.example.co.uk"),
            ("localhost:3000", "localhost:8080"),
            ("127.0.0.1:3000", "127.0.0.1:8080"),
        ] {
            assert!(may_be_same_site(&url(page), &url(api)), "{page} {api}");
        }
        for (page, api) in [
            ("localhost:3000", "127.0.0.1:8080"),
            ("my.app", "api.dev"),
            ("shop.example", "auth.example.com"),
            ("one", "two"),
            ("127.0.0.1", "127.0.0.2"),
        ] {
            assert!(!may_be_same_site(&url(page), &url(api)), "{page} {api}");
        }
    }
}
