//! The cookie that a browser keeps its refresh token in, and who may make it act.

use std::time::Duration;

use poem::{Request, http::header};

use super::problem::{Code, ProblemError};
use crate::{crypto::refresh_token::RefreshToken, state::AppState};

/// The cookie's name. Browsers accept a `__Host-` cookie only when it is secure, for this host alone and for all paths.
pub const NAME: &str = "__Host-latchkey";

/// The cookie by which an account knows a browser where its owner signed in.
pub const DEVICE: &str = "__Host-latchkey-device";

/// `Set-Cookie` for a device token: for 400 days, which is the longest that browsers keep cookies.
pub fn set_device(token: &str) -> String {
    format!("{DEVICE}={token}; Path=/; Max-Age=34560000; Secure; HttpOnly; SameSite=Strict")
}

/// `Set-Cookie` for a refresh token that is valid for `max_age`.
pub fn set(token: &RefreshToken, max_age: Duration) -> String {
    format!("{NAME}={}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Strict", token.expose(), max_age.as_secs())
}

/// `Set-Cookie` that makes a browser forget the token.
pub fn clear() -> String {
    format!("{NAME}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
}

/// The refresh token in the request's cookie, if there is one. Other cookies may hold any bytes; around names only what
/// HTTP calls white space is dropped, so that no other name can pass for ours.
pub fn token(request: &Request) -> Option<String> {
    named(request, NAME)
}

/// The device token in the request's cookie, if there is one.
pub fn device_token(request: &Request) -> Option<String> {
    named(request, DEVICE)
}

fn named(request: &Request, name: &str) -> Option<String> {
    let pairs =
        request.headers().get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    pairs
        .map(<[u8]>::trim_ascii)
        .filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .filter_map(|value| str::from_utf8(value).ok())
        .find(|value| !value.is_empty())
        .map(str::to_owned)
}

/// Refuses a request that a page of another site made: to be asked wherever the cookie is what a state-changing call
/// relies on. Every browser of today tells `Sec-Fetch-Site` or `Origin`; a request with neither isn't a browser's.
///
/// # Errors
/// [`Code::CrossSiteRequest`]
pub fn refuse_cross_site(state: &AppState, request: &Request) -> Result<(), ProblemError> {
    let value = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let site = value("sec-fetch-site");
    let allowed = match (value("origin"), site) {
        (_, Some("same-origin" | "none")) => true,
        (Some(origin), _) => {
            origin == origin_of(&state.config.issuer)
                || state.config.http.allowed_origins.iter().any(|known| known == origin)
        }
        (None, Some(_)) => false,
        (None, None) => true,
    };
    if allowed {
        return Ok(());
    }
    let detail = "The cookie may be used by this service's own pages and those of `http.allowed_origins` only.";
    Err(ProblemError::new(Code::CrossSiteRequest, detail))
}

/// The origin of a URL: scheme, host and port (RFC 6454, section 6.2).
pub(super) fn origin_of(url: &str) -> String {
    url::Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}
