//! `GET /.well-known/oauth-authorization-server` and `GET /.well-known/openid-configuration`: where everything is.

use std::{sync::Arc, time::Duration};

use poem::{Request, http::Uri, web::Data};
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};
use url::Url;

use super::Tag;
use crate::{
    domain::key::Algorithm,
    http::problem::{Code, Failed, Problems},
    state::AppState,
};

/// Where the metadata is (RFC 8414, section 3).
const OAUTH: &str = "/.well-known/oauth-authorization-server";
/// Where OpenID Connect clients look for it (OpenID Connect Discovery 1.0, section 4).
const OPENID: &str = "/.well-known/openid-configuration";
/// How long it may be kept: it changes with the configuration only.
const MAX_AGE: Duration = Duration::from_hours(1);
/// How service clients may authenticate (RFC 6749, section 2.3.1; RFC 7523, section 2.2).
const CLIENT_AUTHENTICATION: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/// What this service is, for programs.
pub struct MetadataApi;

/// What an authorization server says of itself (RFC 8414, section 2). There is no authorization endpoint, since no grant
/// that is supported uses one.
#[derive(Object)]
#[oai(rename = "Metadata")]
struct MetadataResponse {
    /// The `iss` of every token, compared letter by letter.
    issuer: String,
    /// Where tokens are refreshed, and where service clients get theirs.
    token_endpoint: String,
    /// The public keys of access tokens.
    jwks_uri: String,
    /// Where service clients ask whether a token is valid (RFC 7662).
    introspection_endpoint: String,
    /// Where tokens are revoked (RFC 7009).
    revocation_endpoint: String,
    /// The scopes of tokens from a sign-in.
    scopes_supported: Vec<String>,
    /// None: there is no authorization endpoint.
    response_types_supported: Vec<String>,
    /// The grants that the token endpoint knows.
    grant_types_supported: Vec<String>,
    /// `public`: an account has the same `sub` for everyone.
    subject_types_supported: Vec<String>,
    /// How clients may authenticate at the token endpoint; `none` for the `refresh_token` grant only.
    token_endpoint_auth_methods_supported: Vec<String>,
    /// The algorithms of the JWTs that clients authenticate with (`private_key_jwt`).
    token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// How clients may authenticate to introspect.
    introspection_endpoint_auth_methods_supported: Vec<String>,
    /// The algorithms of the JWTs that clients authenticate with there.
    introspection_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// How clients may authenticate to revoke; `none` for who holds the token.
    revocation_endpoint_auth_methods_supported: Vec<String>,
    /// The algorithms of the JWTs that clients authenticate with there.
    revocation_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// The documents, for people.
    service_documentation: String,
    /// The revocations as they happen, for services that check access tokens by themselves.
    latchkey_revocations_endpoint: String,
    /// Where proxies have access tokens vouched for.
    latchkey_verify_endpoint: String,
}

impl MetadataResponse {
    fn new(state: &AppState) -> Self {
        let at = |path: &str| format!("{}{path}", state.config.issuer);
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let authenticated = list(&CLIENT_AUTHENTICATION);
        let or_not = list(&[&CLIENT_AUTHENTICATION[..], &["none"]].concat());
        let algorithms = list(&Algorithm::ALL.map(Algorithm::as_str));
        Self {
            issuer: state.config.issuer.clone(),
            token_endpoint: at("/oauth2/token"),
            jwks_uri: at("/.well-known/jwks.json"),
            introspection_endpoint: at("/oauth2/introspect"),
            revocation_endpoint: at("/oauth2/revoke"),
            scopes_supported: state.config.token.scope.split(' ').map(str::to_owned).collect(),
            response_types_supported: Vec::new(),
            grant_types_supported: list(&["refresh_token", "client_credentials"]),
            subject_types_supported: list(&["public"]),
            token_endpoint_auth_methods_supported: or_not.clone(),
            token_endpoint_auth_signing_alg_values_supported: algorithms.clone(),
            introspection_endpoint_auth_methods_supported: authenticated,
            introspection_endpoint_auth_signing_alg_values_supported: algorithms.clone(),
            revocation_endpoint_auth_methods_supported: or_not,
            revocation_endpoint_auth_signing_alg_values_supported: algorithms,
            service_documentation: at("/docs"),
            latchkey_revocations_endpoint: at("/v1/revocations"),
            latchkey_verify_endpoint: at("/v1/verify"),
        }
    }
}

#[derive(ApiResponse)]
enum MetadataAnswer {
    /// The metadata.
    #[oai(status = 200)]
    Ok(
        Json<MetadataResponse>,
        /// How long the answer may be kept.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

impl MetadataAnswer {
    fn new(state: &AppState) -> Self {
        Self::Ok(Json(MetadataResponse::new(state)), format!("public, max-age={}", MAX_AGE.as_secs()))
    }
}

/// What reading the metadata can be refused with: nothing of its own.
struct MetadataProblems;

impl Problems for MetadataProblems {
    const CODES: &'static [Code] = &[];
}

#[OpenApi(tag = "Tag::Services")]
impl MetadataApi {
    /// Find the endpoints
    ///
    /// Authorization server metadata (RFC 8414): where the endpoints are and what they support. Where the issuer has a
    /// path, this is also at `/.well-known/oauth-authorization-server` followed by that path.
    #[oai(path = "/.well-known/oauth-authorization-server", method = "get", operation_id = "metadata")]
    async fn oauth(&self, Data(state): Data<&Arc<AppState>>) -> Result<MetadataAnswer, Failed<MetadataProblems>> {
        Ok(MetadataAnswer::new(state))
    }

    /// Find the endpoints, for OpenID Connect clients
    ///
    /// The same as `/.well-known/oauth-authorization-server`, for client libraries that look here. ID tokens are not issued.
    #[oai(path = "/.well-known/openid-configuration", method = "get", operation_id = "openidConfiguration")]
    async fn openid(&self, Data(state): Data<&Arc<AppState>>) -> Result<MetadataAnswer, Failed<MetadataProblems>> {
        Ok(MetadataAnswer::new(state))
    }
}

/// Where the issuer has a path, clients look for the metadata with that path at the end (RFC 8414, section 3.1): takes it
/// away.
pub(crate) fn normalise(request: &mut Request) {
    let path = request.uri().path();
    let known = [OAUTH, OPENID].into_iter().find_map(|known| Some((known, path.strip_prefix(known)?)));
    let Some((known, rest)) = known.filter(|(_, rest)| !rest.is_empty()) else { return };
    let issuer = request.data::<Arc<AppState>>().and_then(|state| Url::parse(&state.config.issuer).ok());
    if issuer.is_some_and(|issuer| issuer.path() == rest) {
        *request.uri_mut() = Uri::from_static(known);
    }
}
