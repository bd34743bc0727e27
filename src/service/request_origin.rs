//! The client of a request that causes a mail: [`RequestOrigin`].

use std::net::IpAddr;

/// The client of a request that causes a mail. The mail states where the request came from.
#[derive(Clone, Debug, Default)]
pub struct RequestOrigin {
    /// The client's IP address.
    pub ip: Option<IpAddr>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The `Accept-Language` header, which determines the language of a mail to an account without a locale.
    pub accept_language: Option<String>,
}
