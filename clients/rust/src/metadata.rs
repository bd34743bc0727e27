//! The issuer's metadata (RFC 8414).

use reqwest::Url;
use serde::Deserialize;

use crate::{
    error::FetchError,
    http::{Http, fetch_error},
};

/// The issuer's endpoints. Metadata may omit the last two.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) jwks: Url,
    pub(crate) revocations: Option<Url>,
    pub(crate) introspection: Option<Url>,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    introspection_endpoint: Option<String>,
    latchkey_revocations_endpoint: Option<String>,
}

/// Fetches an issuer's metadata, and checks that it names the same issuer (RFC 8414, section 3.3). `issuer_url` is the parsed
/// `issuer`. An error quotes at most 200 characters of the metadata.
pub(crate) async fn fetch(http: &Http, issuer: &str, issuer_url: &Url) -> Result<Metadata, FetchError> {
    let url = well_known(issuer_url);
    let response = http.get(&url).await?;
    let document: Document =
        serde_json::from_slice(&response.body).map_err(|_| fetch_error(&url, "the response is not issuer metadata"))?;
    if document.issuer != issuer {
        return Err(fetch_error(&url, format!("the metadata belongs to another issuer, {:.200}", document.issuer)));
    }
    let parse_endpoint = |text: String| {
        http.parse_url(&text).ok_or_else(|| {
            fetch_error(&url, format!("the metadata has an invalid URL or one without TLS: {text:.200}"))
        })
    };
    Ok(Metadata {
        jwks: parse_endpoint(document.jwks_uri)?,
        revocations: document.latchkey_revocations_endpoint.map(parse_endpoint).transpose()?,
        introspection: document.introspection_endpoint.map(parse_endpoint).transpose()?,
    })
}

/// The URL of the metadata: the well-known path goes before the issuer's path, without the latter's final `/` (RFC 8414, section 3.1).
fn well_known(issuer: &Url) -> Url {
    let mut url = issuer.clone();
    let path = issuer.path().trim_end_matches('/');
    url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_path_is_inserted_between_host_and_path() {
        for (issuer, expected) in [
            ("https://example.com", "https://example.com/.well-known/oauth-authorization-server"),
            ("https://example.com/a/b", "https://example.com/.well-known/oauth-authorization-server/a/b"),
        ] {
            assert_eq!(well_known(&issuer.parse().unwrap()).as_str(), expected);
        }
    }
}
