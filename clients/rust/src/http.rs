//! HTTP requests to the issuer: with timeouts, without redirects, with bounded responses.

use std::time::Duration;

use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap},
    redirect::Policy,
};

use crate::error::{BuildError, FetchError};

/// The maximum size of metadata, JWK Sets and introspection responses, in bytes.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// The timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The HTTP client.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    /// Whether URLs without TLS are allowed for hosts other than this machine.
    plain_http: bool,
    timeout: Duration,
}

/// The response to a `GET`.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) body: Vec<u8>,
    /// How long the document may be cached, if the response says so.
    pub(crate) max_age: Option<Duration>,
}

impl Http {
    /// Creates a client. `plain_http` allows URLs without TLS for other hosts than this machine, `timeout` limits one whole
    /// request, and the PEM `certificates` are trusted in addition to the system's.
    pub(crate) fn new(plain_http: bool, timeout: Duration, certificates: &[Vec<u8>]) -> Result<Self, BuildError> {
        let parsed: Result<Vec<_>, _> = certificates.iter().map(|pem| reqwest::Certificate::from_pem(pem)).collect();
        let certificates = parsed.map_err(|_| BuildError::Setting("a root certificate is not a PEM certificate"))?;
        let mut client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .user_agent(concat!("latchkey-verify/", env!("CARGO_PKG_VERSION")));
        if !certificates.is_empty() {
            client = client.tls_certs_merge(certificates);
        }
        let client = client.build().map_err(|_| BuildError::Setting("TLS cannot be set up"))?;
        Ok(Self { client, plain_http, timeout })
    }

    /// Parses the URL of a document. An `https` URL may name any host. An `http` URL must name this machine, unless plain HTTP is allowed.
    /// Returns `None` for other URLs, and for URLs with a username or a password.
    pub(crate) fn parse_url(&self, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let is_this_machine = match url.host_str()? {
            "localhost" | "[::1]" => true,
            host => host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
        };
        match url.scheme() {
            "https" => Some(url),
            "http" if is_this_machine || self.plain_http => Some(url),
            _ => None,
        }
    }

    /// Fetches a document. Any status but 200 is an error.
    pub(crate) async fn get(&self, url: &Url) -> Result<Document, FetchError> {
        let request = self.client.get(url.clone()).header(ACCEPT, "application/json");
        let (status, headers, body) = self.call(request).await.map_err(|reason| fetch_error(url, reason))?;
        if status != StatusCode::OK {
            return Err(fetch_error(url, format!("the response is {status}")));
        }
        Ok(Document { body, max_age: max_age(&headers) })
    }

    /// Prepares a `POST`, which [`Http::call`] sends.
    pub(crate) fn post(&self, url: &Url) -> RequestBuilder {
        self.client.post(url.clone())
    }

    /// Prepares a `GET` of an event stream, which has no total timeout.
    pub(crate) fn get_stream(&self, url: &Url) -> RequestBuilder {
        self.client.get(url.clone()).header(ACCEPT, "text/event-stream").header(CACHE_CONTROL, "no-store")
    }

    /// Sends a request and reads the response within the timeout. The error is the reason, without the URL.
    pub(crate) async fn call(&self, request: RequestBuilder) -> Result<(StatusCode, HeaderMap, Vec<u8>), String> {
        let response = async {
            let mut response = request.send().await.map_err(|error| describe(&error))?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
                if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                    return Err(format!("the response has more than {MAX_DOCUMENT_BYTES} bytes"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok((response.status(), response.headers().clone(), body))
        };
        tokio::time::timeout(self.timeout, response).await.unwrap_or_else(|_| Err("no response in time".to_owned()))
    }
}

/// Describes the root cause of a failed request, without the URL.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(deeper) = source.source() {
        source = deeper;
    }
    source.to_string()
}

/// Whether a body with these headers is an event stream. Parameters may follow its media type.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    let media_type = content_type.and_then(|value| value.as_bytes().split(|byte| *byte == b';').next());
    media_type.is_some_and(|media_type| media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// `Retry-After`, if it is a number of seconds and not a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// The error of a document that cannot be fetched or used.
pub(crate) fn fetch_error(url: &Url, reason: impl Into<String>) -> FetchError {
    FetchError { url: url.to_string(), reason: reason.into() }
}

/// How long a response may be cached: its `max-age` (RFC 9111, section 5.2.2.1), or zero for `no-store` and `no-cache`.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut age = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            if directive == "no-store" || directive == "no-cache" {
                return Some(Duration::ZERO);
            }
            if let Some(seconds) = directive.strip_prefix("max-age=") {
                age = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
            }
        }
    }
    age
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_without_tls_is_accepted_on_loopback_or_if_allowed() {
        let timeout = Duration::from_secs(1);
        let http = |plain_http: bool| Http::new(plain_http, timeout, &[]).unwrap();
        let (tls_only, plain_allowed) = (http(false), http(true));
        for url in ["https://auth.example.com", "http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:1/x"] {
            assert!(tls_only.parse_url(url).is_some(), "{url}");
        }
        for url in ["http://auth.example.com", "http://localhost.example.com", "http://10.0.0.1"] {
            assert!(tls_only.parse_url(url).is_none(), "{url}");
            assert!(plain_allowed.parse_url(url).is_some(), "{url}");
        }
        for url in ["", "auth.example.com", "file:///etc/passwd", "https://user:password@auth.example.com"] {
            assert!(plain_allowed.parse_url(url).is_none(), "{url}");
        }
    }

    #[test]
    fn event_stream_is_recognized_by_its_whole_media_type() {
        let is_stream = |content_type: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
            is_event_stream(&headers)
        };
        for content_type in ["text/event-stream", "Text/Event-Stream", "text/event-stream ; charset=utf-8"] {
            assert!(is_stream(content_type), "{content_type}");
        }
        for content_type in ["text/event-streamx", "text/event-stream, text/html", "text/event", ""] {
            assert!(!is_stream(content_type), "{content_type}");
        }
        assert!(!is_event_stream(&HeaderMap::new()));
    }

    #[test]
    fn max_age_is_read_from_cache_control() {
        let max_age_seconds = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, value.parse().unwrap());
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(max_age_seconds(&[]), None);
        assert_eq!(max_age_seconds(&["public, max-age=300"]), Some(300));
        assert_eq!(max_age_seconds(&["public", "Max-Age=\"5\""]), Some(5));
        assert_eq!(max_age_seconds(&["no-store, max-age=300"]), Some(0));
        assert_eq!(max_age_seconds(&["max-age=soon"]), None);
    }
}
