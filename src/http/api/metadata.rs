//! `GET /.well-known/oauth-authorization-server` and `GET /.well-known/openid-configuration`.

use std::{sync::Arc, time::Duration};

use poem::{Request, http::Uri, web::Data};
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};
use url::Url;

use super::Tag;
use crate::{
    crypto::signing_key::SigningKey,
    domain::{app_client::GrantType, authentication::Acr, authorization::Prompt, key::Algorithm},
    http::problem::{Code, Failed, Problems},
    service::clients::SIGN_IN_SCOPES,
    state::AppState,
};

/// The path that OAuth clients use (RFC 8414, section 3).
const OAUTH_PATH: &str = "/.well-known/oauth-authorization-server";
/// The path that OpenID Connect clients use (OpenID Connect Discovery 1.0, section 4).
const OPENID_PATH: &str = "/.well-known/openid-configuration";
/// How long the metadata may be cached. It changes with the configuration and with the algorithm of the signing key.
const MAX_AGE: Duration = Duration::from_hours(1);
/// The authentication methods of service clients and web apps (RFC 6749, section 2.3.1; RFC 7523, section 2.2).
const CLIENT_AUTHENTICATION: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/// The metadata of the authorization server.
pub struct MetadataApi;

/// Authorization server metadata (RFC 8414, section 2; OpenID Connect Discovery 1.0, section 3).
#[derive(Object)]
#[oai(rename = "Metadata", skip_serializing_if_is_none)]
struct MetadataResponse {
    /// The `iss` claim of every token. Compare it as a string.
    issuer: String,
    /// Where apps send the browser of their user to sign in. Absent if the pages are off.
    authorization_endpoint: Option<String>,
    /// Exchanges codes, refreshes tokens, and issues the tokens of service clients.
    token_endpoint: String,
    /// Returns the claims about the user that the granted scopes reveal.
    userinfo_endpoint: String,
    /// Where apps send the browser of their user to sign out (OpenID Connect RP-Initiated Logout 1.0). Absent if the pages are off.
    end_session_endpoint: Option<String>,
    /// The public keys of access tokens and ID tokens.
    jwks_uri: String,
    /// Introspects tokens for service clients (RFC 7662).
    introspection_endpoint: String,
    /// Revokes tokens (RFC 7009).
    revocation_endpoint: String,
    /// Registers apps (RFC 7591). Absent while `dynamic_clients.registration` is off.
    registration_endpoint: Option<String>,
    /// Whether the URL of a metadata document is accepted as `client_id` (Client ID Metadata Documents). Absent while
    /// `dynamic_clients.metadata_documents` is off.
    client_id_metadata_document_supported: Option<bool>,
    /// The scopes that apps may request, and the scopes of tokens from a sign-in through the API. An app may have further scopes of its own.
    scopes_supported: Vec<String>,
    /// `code`.
    response_types_supported: Vec<String>,
    /// `query` and `form_post`.
    response_modes_supported: Vec<String>,
    /// `S256` (RFC 7636).
    code_challenge_methods_supported: Vec<String>,
    /// Whether responses of the authorization endpoint have `iss` (RFC 9207): yes.
    authorization_response_iss_parameter_supported: bool,
    /// The values of `prompt`.
    prompt_values_supported: Vec<String>,
    /// The values of `acr_values`.
    acr_values_supported: Vec<String>,
    /// The algorithms of ID tokens.
    id_token_signing_alg_values_supported: Vec<String>,
    /// The claims of ID tokens and of the userinfo endpoint.
    claims_supported: Vec<String>,
    /// The kinds of claims: `normal`.
    claim_types_supported: Vec<String>,
    /// Whether the parameter `claims` is supported: no.
    claims_parameter_supported: bool,
    /// Whether the parameter `request` is supported: no.
    request_parameter_supported: bool,
    /// Whether the parameter `request_uri` is supported: no.
    request_uri_parameter_supported: bool,
    /// The grant types of the token endpoint.
    grant_types_supported: Vec<String>,
    /// `public`: an account has the same `sub` for every client.
    subject_types_supported: Vec<String>,
    /// The authentication methods of the token endpoint; `none` for public clients, which can't use the grant `client_credentials`.
    token_endpoint_auth_methods_supported: Vec<String>,
    /// The JWS algorithms of `private_key_jwt` at the token endpoint.
    token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// The authentication methods of the introspection endpoint.
    introspection_endpoint_auth_methods_supported: Vec<String>,
    /// The JWS algorithms of `private_key_jwt` at the introspection endpoint.
    introspection_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// The authentication methods of the revocation endpoint; `none`, because a token's holder may revoke it.
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

/// The claims of ID tokens and of the userinfo endpoint.
const CLAIMS: [&str; 18] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "acr",
    "amr",
    "sid",
    "at_hash",
    "name",
    "preferred_username",
    "locale",
    "zoneinfo",
    "updated_at",
    "email",
    "email_verified",
];

/// The scopes of OpenID Connect, the scopes of first-party sessions, and the scopes of apps that no operator has registered.
fn scopes(state: &AppState) -> Vec<String> {
    let first_party = state.config.token.scope.split(' ');
    let dynamic = &state.config.dynamic_clients;
    let has_dynamic_clients = dynamic.metadata_documents || dynamic.registration;
    let dynamic_scopes = if has_dynamic_clients { dynamic.scopes.items() } else { &[] };
    let dynamic_scopes = dynamic_scopes.iter().map(String::as_str);
    let mut scopes: Vec<String> = Vec::new();
    for scope in SIGN_IN_SCOPES.into_iter().chain(first_party).chain(dynamic_scopes) {
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

/// The algorithm of the current signing key, and the configured algorithm, which the next key will have.
fn id_token_algorithms(state: &AppState) -> Vec<String> {
    let configured = state.config.keys.algorithm;
    let current = state.keys.current().signer(state.clock.now()).map(SigningKey::algorithm);
    match current {
        Ok(current) if current != configured => vec![current.as_str().to_owned(), configured.as_str().to_owned()],
        // the same algorithm, or no key can sign
        _ => vec![configured.as_str().to_owned()],
    }
}

impl MetadataResponse {
    fn new(state: &AppState) -> Self {
        let url = |path: &str| format!("{}{path}", state.config.issuer);
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let auth_methods = list(&CLIENT_AUTHENTICATION);
        // public clients do not authenticate
        let mut auth_methods_or_none = auth_methods.clone();
        auth_methods_or_none.push("none".to_owned());
        let with_pages = state.pages.is_some();
        let algorithms = list(&Algorithm::ALL.map(Algorithm::as_str));
        Self {
            issuer: state.config.issuer.clone(),
            authorization_endpoint: with_pages.then(|| url("/oauth2/authorize")),
            token_endpoint: url("/oauth2/token"),
            userinfo_endpoint: url("/oauth2/userinfo"),
            end_session_endpoint: with_pages.then(|| url("/oauth2/logout")),
            jwks_uri: url("/.well-known/jwks.json"),
            introspection_endpoint: url("/oauth2/introspect"),
            revocation_endpoint: url("/oauth2/revoke"),
            registration_endpoint: state.config.dynamic_clients.registration.then(|| url("/oauth2/register")),
            client_id_metadata_document_supported: state.config.dynamic_clients.metadata_documents.then_some(true),
            scopes_supported: scopes(state),
            response_types_supported: if with_pages { list(&["code"]) } else { Vec::new() },
            response_modes_supported: if with_pages { list(&["query", "form_post"]) } else { Vec::new() },
            code_challenge_methods_supported: list(&["S256"]),
            authorization_response_iss_parameter_supported: true,
            prompt_values_supported: list(&Prompt::VALUES),
            acr_values_supported: list(&[Acr::Aal1.as_str(), Acr::Aal2.as_str()]),
            id_token_signing_alg_values_supported: id_token_algorithms(state),
            claims_supported: list(&CLAIMS),
            claim_types_supported: list(&["normal"]),
            claims_parameter_supported: false,
            request_parameter_supported: false,
            request_uri_parameter_supported: false,
            grant_types_supported: GrantType::ALL
                .into_iter()
                .filter(|grant| with_pages || *grant != GrantType::AuthorizationCode)
                .map(|grant| grant.as_str().to_owned())
                .collect(),
            subject_types_supported: list(&["public"]),
            token_endpoint_auth_methods_supported: auth_methods_or_none.clone(),
            token_endpoint_auth_signing_alg_values_supported: algorithms.clone(),
            introspection_endpoint_auth_methods_supported: auth_methods,
            introspection_endpoint_auth_signing_alg_values_supported: algorithms.clone(),
            revocation_endpoint_auth_methods_supported: auth_methods_or_none,
            revocation_endpoint_auth_signing_alg_values_supported: algorithms,
            service_documentation: state.config.http.docs.then(|| url("/docs")),
            latchkey_revocations_endpoint: url("/v1/revocations"),
            latchkey_verify_endpoint: url("/v1/verify"),
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

/// The problem codes of these endpoints: none beyond those that every call can return.
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
    /// Equal to `/.well-known/oauth-authorization-server`, for client libraries that use this path.
    #[oai(path = "/.well-known/openid-configuration", method = "get", operation_id = "openid_configuration")]
    async fn openid(&self, Data(state): Data<&Arc<AppState>>) -> Result<MetadataAnswer, Failed<MetadataProblems>> {
        Ok(MetadataAnswer::new(state))
    }
}

/// Removes the issuer's path from a request for the metadata: clients append it to the well-known path (RFC 8414, section 3.1).
pub(crate) fn strip_issuer_path(request: &mut Request) {
    let path = request.uri().path();
    let Some(metadata_path) = [OAUTH_PATH, OPENID_PATH].into_iter().find(|prefix| path.starts_with(prefix)) else {
        return;
    };
    let appended = &path[metadata_path.len()..];
    // the usual case, which need not parse the issuer
    if appended.is_empty() {
        return;
    }
    let issuer = request.data::<Arc<AppState>>().and_then(|state| Url::parse(&state.config.issuer).ok());
    if issuer.is_some_and(|issuer| issuer.path() == appended) {
        *request.uri_mut() = Uri::from_static(metadata_path);
    }
}
