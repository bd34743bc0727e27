//! What the issuer says about itself (RFC 8414), and the set of its keys.

use reqwest::Url;
use serde::Deserialize;

use crate::{
    error::FetchError,
    http::{Http, failed},
};

/// The issuer's addresses that matter here.
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

/// Reads the metadata of an issuer, which must be that issuer's indeed (RFC 8414, section 3.3).
pub(crate) async fn fetch(http: &Http, issuer: &str, issuer_url: &Url) -> Result<Metadata, FetchError> {
    let url = well_known(issuer_url);
    let answer = http.get(&url).await?;
    let document: Document =
        serde_json::from_slice(&answer.body).map_err(|_| failed(&url, "it is no metadata of an issuer"))?;
    if document.issuer != issuer {
        return Err(failed(&url, format!("it is the metadata of another issuer, {:.200}", document.issuer)));
    }
    let address = |text: Option<String>| match text {
        Some(text) => {
            let found = http.address(&text);
            found.map(Some).ok_or_else(|| failed(&url, format!("it names an address that is not safe: {text:.200}")))
        }
        None => Ok(None),
    };
    Ok(Metadata {
        jwks: address(Some(document.jwks_uri))?.ok_or_else(|| failed(&url, "it names no jwks_uri"))?,
        revocations: address(document.latchkey_revocations_endpoint)?,
        introspection: address(document.introspection_endpoint)?,
    })
}

/// Where RFC 8414, section 3.1, puts the metadata: between the issuer's host and its path.
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
    fn the_metadata_stand_between_host_and_path() {
        for (issuer, expected) in [
            ("https://example.com", "https://example.com/.well-known/oauth-authorization-server"),
            ("https://example.com/a/b", "https://example.com/.well-known/oauth-authorization-server/a/b"),
        ] {
            assert_eq!(well_known(&issuer.parse().unwrap()).as_str(), expected);
        }
    }
}
