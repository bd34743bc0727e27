//! Where a request comes from, as mails state it.

use std::net::IpAddr;

/// The client of a request that causes a mail.
#[derive(Clone, Debug, Default)]
pub struct RequestOrigin {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The `Accept-Language` header.
    pub accept_language: Option<String>,
}
