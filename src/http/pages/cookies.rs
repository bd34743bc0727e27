//! The cookies of pages. All are `__Host-` cookies, which no other host can set (cookie tossing), and unreadable for scripts.

use std::time::Duration;

/// The challenge of a sign-in that waits for a second factor, and the factors of the account.
pub(super) const CHALLENGE: &str = "__Host-latchkey-challenge";

/// The secret that the code and the link of a sign-in mail require.
pub(super) const LOGIN_REQUEST: &str = "__Host-latchkey-login";

/// The address or username that was typed on the page before, for the page that takes the code from the mail.
pub(super) const TYPED: &str = "__Host-latchkey-typed";

/// How long [`TYPED`] is kept.
pub(super) const TYPED_TTL: Duration = Duration::from_mins(15);

/// Returns the value of `Set-Cookie` for a cookie that the browser also sends when the user follows a link from elsewhere, such as a mail
/// (`SameSite=Lax`). The browser keeps the cookie for `max_age`.
pub(super) fn set(name: &str, value: &str, max_age: Duration) -> String {
    format!("{name}={value}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Lax", max_age.as_secs())
}

/// Returns the value of `Set-Cookie` that deletes a cookie.
pub(super) fn clear(name: &str) -> String {
    set(name, "", Duration::ZERO)
}
