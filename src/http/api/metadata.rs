//! `GET /.well-known/oauth-authorization-server` and `GET /.well-known/openid-configuration`.

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

/// The path of the metadata (RFC 8414, section 3).
const OAUTH: &str = "/.well-known/oauth-authorization-server";
/// The path that OpenID Connect clients use (OpenID Connect Discovery 1.0, section 4).
const OPENID: &str = "/.well-known/openid-configuration";
/// How long the metadata may be cached. It only changes with the configuration.
const MAX_AGE: Duration = Duration::from_hours(1);
/// The authentication methods of service clients (RFC 6749, section 2.3.1; RFC 7523, section 2.2).
const CLIENT_AUTHENTICATION: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/// The metadata of the authorization server.
pub struct MetadataApi;

/// Authorization server metadata (RFC 8414, section 2). There is no authorization endpoint, since no supported grant uses one.
#[derive(Object)]
#[oai(rename = "Metadata", skip_serializing_if_is_none)]
struct MetadataResponse {
    /// The `iss` claim of every token. Compare it as a string.
    issuer: String,
    /// Refreshes tokens and issues those of service clients.
    token_endpoint: String,
    /// The public keys of access tokens.
    jwks_uri: String,
    /// Introspects tokens for service clients (RFC 7662).
    introspection_endpoint: String,
    /// Revokes tokens (RFC 7009).
    revocation_endpoint: String,
    /// The scopes of tokens from a sign-in.
    scopes_supported: Vec<String>,
    /// Empty: there is no authorization endpoint.
    response_types_supported: Vec<String>,
    /// The grant types of the token endpoint.
    grant_types_supported: Vec<String>,
    /// `public`: an account has the same `sub` for every client.
    subject_types_supported: Vec<String>,
    /// The authentication methods of the token endpoint; `none` for the `refresh_token` grant only.
    token_endpoint_auth_methods_supported: Vec<String>,
    /// The JWS algorithms of `private_key_jwt` at the token endpoint.
    token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// The authentication methods of the introspection endpoint.
    introspection_endpoint_auth_methods_supported: Vec<String>,
    /// The JWS algorithms of `private_key_jwt` at the introspection endpoint.
    introspection_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// The authentication methods of the revocation endpoint; `none` for the holder of the token.
    revocation_endpoint_auth_methods_supported: Vec<String>,
    /// The JWS algorithms of `private_key_jwt` at the revocation endpoint.
    revocation_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// The API documentation, unless it is turned off.
    service_documentation: Option<String>,
    /// The revocation feed, for services that verify access tokens themselves.
    latchkey_revocations_endpoint: String,
    /// Verifies access tokens for proxies.
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
            service_documentation: state.config.http.docs.then(|| at("/docs")),
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
        /// How long the metadata may be cached.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

impl MetadataAnswer {
    fn new(state: &AppState) -> Self {
        Self::Ok(Json(MetadataResponse::new(state)), format!("public, max-age={}", MAX_AGE.as_secs()))
    }
}

/// The errors of reading the metadata: none of its own.
struct MetadataProblems;

impl Problems for MetadataProblems {
    const CODES: &'static [Code] = &[];
}

#[OpenApi(tag = "Tag::Services")]
impl MetadataApi {
    /// Get the server metadata
    ///
    /// Authorization server metadata (RFC 8414): the endpoints and what they support. If the issuer has a path, the metadata is
    /// also at `/.well-known/oauth-authorization-server` followed by that path.
    #[oai(path = "/.well-known/oauth-authorization-server", method = "get", operation_id = "metadata")]
    async fn oauth(&self, Data(state): Data<&Arc<AppState>>) -> Result<MetadataAnswer, Failed<MetadataProblems>> {
        Ok(MetadataAnswer::new(state))
    }

    /// Get the server metadata (OpenID Connect discovery)
    ///
    /// Equal to `/.well-known/oauth-authorization-server`, for client libraries that use this path. Latchkey issues no ID tokens.
    #[oai(path = "/.well-known/openid-configuration", method = "get", operation_id = "openid_configuration")]
    async fn openid(&self, Data(state): Data<&Arc<AppState>>) -> Result<MetadataAnswer, Failed<MetadataProblems>> {
        Ok(MetadataAnswer::new(state))
    }
}

/// Removes the issuer's path, which clients append to the path of the metadata (RFC 8414, section 3.1).
pub(crate) fn normalise(request: &mut Request) {
    let path = request.uri().path();
    let found = [OAUTH, OPENID].into_iter().find_map(|base| Some((base, path.strip_prefix(base)?)));
    let Some((base, rest)) = found.filter(|(_, rest)| !rest.is_empty()) else { return };
    let issuer = request.data::<Arc<AppState>>().and_then(|state| Url::parse(&state.config.issuer).ok());
    if issuer.is_some_and(|issuer| issuer.path() == rest) {
        *request.uri_mut() = Uri::from_static(base);
    }
}
