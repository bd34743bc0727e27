//! HTTPS requests to hosts that strangers name: OAuth clients that no operator has registered (dynamic clients). Protected against
//! server-side request forgery (OWASP, "Server-Side Request Forgery Prevention"):
//!
//! - The host is resolved once, all of its addresses must be public, and the connection goes to one of these addresses. A name
//!   that resolves to another address afterwards (DNS rebinding) has no effect.
//! - Only https, with a verified certificate. No redirect is followed, no proxy is used, no cookie or credential is sent.
//! - Limits apply to the time, to the size of the response and of its headers, and, for each purpose, to the concurrent requests in
//!   total and to one host. Compressed responses are refused.

mod address;
mod caching;
mod slots;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

use crate::config::DynamicClientSettings;

use self::slots::Slots;
pub use self::tls::FetcherError;

/// The maximum number of addresses of a host that are tried.
const MAX_ADDRESSES: usize = 3;
/// The maximum size of the headers of a response, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// The maximum number of headers of a response.
const MAX_HEADERS: usize = 64;

/// The purpose of a fetch. Each purpose has its own limit of concurrent requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchPurpose {
    /// The metadata document of a client, for a browser's authorization request.
    Authorization,
    /// The metadata document or the keys of a client that calls another endpoint.
    ClientAuthentication,
}

/// A JSON document that was fetched. The JSON has not been parsed yet.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The bytes.
    pub body: Vec<u8>,
    /// How long the response may be reused; `None` if its headers do not say.
    pub freshness: Option<Duration>,
}

/// Why a document was not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Too many documents are being fetched for this purpose, or from this host.
    #[error("too many documents are being fetched at the moment")]
    Busy,
    /// The request took too long.
    #[error("the request took longer than dynamic_clients.fetch_timeout")]
    Timeout,
    /// The host has no address.
    #[error("the host has no address")]
    Resolve,
    /// The host is an IP address.
    #[error("the host is an IP address; a name is required")]
    IpAddress,
    /// An address of the host is not public.
    #[error("the host has an address that is not public; dynamic_clients.private_networks allows private ones")]
    PrivateAddress,
    /// No address of the host accepts a connection.
    #[error("no address of the host accepts a connection")]
    Connect,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed, or the certificate is not trusted")]
    Tls,
    /// The connection broke, or the response is not valid HTTP.
    #[error("the connection broke, or the response is malformed or has more than 64 headers or 16 KiB of headers")]
    Http,
    /// The status is not 200. Redirects are not followed.
    #[error("the status is {0} and not 200; redirects are not followed")]
    Status(u16),
    /// The response is not JSON.
    #[error("the content type is not JSON")]
    ContentType,
    /// The response is compressed.
    #[error("the response has a content encoding")]
    ContentEncoding,
    /// The response is too large.
    #[error("the response is larger than dynamic_clients.max_document")]
    TooLarge,
}

impl FetchError {
    /// The name of the outcome in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::PrivateAddress => "private_address",
            Self::Resolve | Self::IpAddress | Self::Connect | Self::Tls | Self::Http => "unreachable",
            Self::Status(_) | Self::ContentType | Self::ContentEncoding | Self::TooLarge => "refused",
        }
    }

    /// Whether a cached copy of the document must no longer be used: the host has refused the request, has sent an unusable response, or
    /// has an address that is not allowed. After any other error, such as the status 503, a later request may succeed.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Busy | Self::Timeout | Self::Resolve | Self::Connect | Self::Tls | Self::Http => false,
            Self::Status(status) => !matches!(status, 408 | 425 | 429 | 500..=599),
            Self::IpAddress | Self::PrivateAddress | Self::ContentType | Self::ContentEncoding | Self::TooLarge => true,
        }
    }
}

/// Fetches JSON documents over https.
pub struct Fetcher {
    tls: TlsConnector,
    private_networks: Vec<IpNet>,
    max_bytes: usize,
    timeout: Duration,
    slots: Slots,
}

impl Fetcher {
    /// Creates a fetcher. Reads the certificate authorities.
    ///
    /// # Errors
    /// [`FetcherError`]
    pub fn new(settings: &DynamicClientSettings) -> Result<Self, FetcherError> {
        Ok(Self {
            tls: tls::build_connector(settings.ca_file.as_deref())?,
            private_networks: settings.private_networks.clone(),
            max_bytes: settings.max_document_bytes,
            timeout: settings.fetch_timeout,
            slots: Slots::new(),
        })
    }

    /// Fetches the JSON document at an https URL.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn get_json(&self, url: &Url, purpose: FetchPurpose) -> Result<Fetched, FetchError> {
        // `connect` refuses a URL without a host.
        let host = url.host_str().unwrap_or_default();
        // Held until the fetch has ended.
        let _slot = self.slots.try_take(purpose, host).ok_or(FetchError::Busy)?;
        tokio::time::timeout(self.timeout, self.get(url)).await.map_err(|_| FetchError::Timeout)?
    }

    /// Fetches a document without a time limit.
    async fn get(&self, url: &Url) -> Result<Fetched, FetchError> {
        let stream = self.connect(url).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| FetchError::Http)?;
        // Closes the connection when this function returns or its timeout drops it.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = build_request(url).ok_or(FetchError::Http)?;
        let response = sender.send_request(request).await.map_err(|_| FetchError::Http)?;
        check_response(&response)?;
        let freshness = caching::freshness(response.headers());
        let body = self.read_body(response).await?;
        Ok(Fetched { body, freshness })
    }

    /// Connects to a checked address of the host and verifies the host's certificate. A URL with an IP address instead of a name is
    /// refused.
    async fn connect(&self, url: &Url) -> Result<TlsStream<TcpStream>, FetchError> {
        let (host, port) = match (url.host(), url.port_or_known_default()) {
            (Some(Host::Domain(host)), Some(port)) => (host, port),
            (Some(Host::Ipv4(_) | Host::Ipv6(_)), _) => return Err(FetchError::IpAddress),
            _ => return Err(FetchError::Resolve),
        };
        let server = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Resolve)?;
        let resolved = tokio::net::lookup_host((host, port)).await.map_err(|_| FetchError::Resolve)?;
        let addresses = self.check_addresses(resolved)?;
        for address in addresses {
            if let Ok(stream) = TcpStream::connect(address).await {
                return self.tls.connect(server, stream).await.map_err(|_| FetchError::Tls);
            }
        }
        Err(FetchError::Connect)
    }

    /// Returns the first [`MAX_ADDRESSES`] addresses of a host. Refuses all of them if one is not allowed, because the host may be an
    /// attacker's.
    fn check_addresses(&self, resolved: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, FetchError> {
        let mut addresses = Vec::new();
        for address in resolved {
            if !self.is_allowed(address.ip()) {
                return Err(FetchError::PrivateAddress);
            }
            addresses.push(address);
        }
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() { Err(FetchError::Resolve) } else { Ok(addresses) }
    }

    /// Whether an address is public, or in a network of `dynamic_clients.private_networks`.
    fn is_allowed(&self, address: IpAddr) -> bool {
        // The kernel connects to an IPv4-mapped IPv6 address over IPv4.
        let address = address.to_canonical();
        address::is_public(address) || self.private_networks.iter().any(|network| network.contains(&address))
    }

    /// Reads the body, up to `dynamic_clients.max_document`.
    async fn read_body(&self, response: Response<Incoming>) -> Result<Vec<u8>, FetchError> {
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| FetchError::Http)?;
            // A frame without data has trailers.
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.max_bytes {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}

/// Builds the request. `None` if the URL has no host, or its parts are not valid in HTTP.
fn build_request(url: &Url) -> Option<Request<Empty<Bytes>>> {
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str()?),
        None => url.host_str()?.to_owned(),
    };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let request = Request::get(target)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, concat!("latchkey/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    request.body(Empty::new()).ok()
}

/// Checks the status and the headers of a response.
fn check_response(response: &Response<Incoming>) -> Result<(), FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let lower_case_header = |name: header::HeaderName| {
        response.headers().get(name).map(|value| value.to_str().unwrap_or_default().to_ascii_lowercase())
    };
    if lower_case_header(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(FetchError::ContentEncoding);
    }
    let content_type = lower_case_header(header::CONTENT_TYPE).unwrap_or_default();
    // Parameters follow the semicolon.
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = media_type.strip_prefix("application/");
    let is_json = subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"));
    if is_json { Ok(()) } else { Err(FetchError::ContentType) }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("private_networks", &self.private_networks).finish_non_exhaustive()
    }
}
