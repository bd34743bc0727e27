//! Validates the parameters of an authorization request. Checks the client and the redirect URI first: an error is sent to the client
//! only if both can be trusted (RFC 6749, section 4.1.2.1; RFC 9700, section 4.11).

use std::{net::IpAddr, sync::Arc};

use url::Url;

use super::{
    client::{RequestStage, may_redirect, trusted_client},
    error::{AuthorizationError, AuthorizeError, UntrustedRequest},
};
use crate::{
    crypto::authorization_code::{RequestHandle, is_s256_challenge},
    domain::{
        app_client::GrantType,
        authentication::Acr,
        authorization::{AuthorizationRequest, Prompt, ResponseMode},
        client::{Client, SpaceSeparated},
        session::ClientGrant,
    },
    service::{browser_session::BrowserSession, error::ServiceError},
    state::AppState,
    store::redis::Authorizations,
};

/// The scopes that are granted only if the request names them.
const ON_REQUEST_ONLY: [&str; 2] = ["openid", "offline_access"];

/// The maximum size of a parameter's value, in bytes, since Redis stores the request. `id_token_hint` is not stored, and may be larger.
const MAX_VALUE_BYTES: usize = 2048;

/// The parameters of a request, in order. Repeating one is an error, except `resource` and unknown parameters.
#[derive(Clone, Debug, Default)]
pub struct Parameters(pub Vec<(String, String)>);

/// The error for a parameter that occurs more than once.
struct Repeated;

impl Parameters {
    /// The single value of a parameter. An empty value counts as absent (RFC 6749, section 3.1).
    fn single<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Repeated> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Repeated),
        }
    }

    /// All values of a parameter that are not empty.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The handle of a stored request. A page of Latchkey sends it in the parameter `request`, beside which it may send only `ui_locales`.
    /// If there are other parameters, such as `client_id`, then `request` is not a handle but a request object (OpenID Connect Core 1.0,
    /// section 6.1).
    pub(super) fn handle(&self) -> Result<Option<RequestHandle>, UntrustedRequest> {
        let mut without_locales = self.0.iter().filter(|(name, _)| name != "ui_locales");
        match (without_locales.next(), without_locales.next()) {
            (Some((name, value)), None) if name == "request" => {
                RequestHandle::parse(value).map(Some).ok_or(UntrustedRequest::Expired)
            }
            _ => Ok(None),
        }
    }

    /// The parameter `ui_locales`: the user's preferred languages. A repeated one counts as absent.
    pub(super) fn ui_locales(&self) -> Option<&str> {
        self.single("ui_locales").ok().flatten()
    }
}

/// Validates a new request of a browser at `ip`. Returns the request and its client.
pub(super) async fn validate(
    state: &AppState,
    parameters: &Parameters,
    browser: Option<&BrowserSession>,
    ip: Option<IpAddr>,
) -> Result<(AuthorizationRequest, Arc<Client>), AuthorizeError> {
    // A repeated `client_id` or `redirect_uri` counts as missing. `trusted_client` refuses an empty redirect URI.
    let client_id = parameters.single("client_id").ok().flatten().ok_or(UntrustedRequest::UnknownClient)?;
    // The client is looked up first, so that an unknown client is not reported as an unregistered redirect URI.
    let redirect_uri = parameters.single("redirect_uri").ok().flatten().unwrap_or_default();
    let client = trusted_client(state, client_id, redirect_uri, RequestStage::New(ip)).await?;
    // `parse_request` refuses other modes and repeated or overlong values. The error response still needs a mode and a `state`.
    let mode = match parameters.single("response_mode") {
        Ok(Some("form_post")) => ResponseMode::FormPost,
        _ => ResponseMode::Query,
    };
    let client_state = parameters.single("state").ok().flatten().filter(|text| text.len() <= MAX_VALUE_BYTES);
    match parse_request(state, parameters, &client, redirect_uri, mode, client_state) {
        Ok(request) => Ok((request, client)),
        Err(error) => {
            let response = Box::new(error.response_to_uri(state, redirect_uri, mode, client_state.map(str::to_owned)));
            let is_trusted = may_redirect(state, &client, redirect_uri, browser).await?;
            Err(if is_trusted { AuthorizeError::Refused(response) } else { AuthorizeError::Unconfirmed(response) })
        }
    }
}

impl From<Repeated> for AuthorizationError {
    fn from(_: Repeated) -> Self {
        Self::InvalidRequest("A parameter is repeated.")
    }
}

/// Validates the parameters other than `client_id` and `redirect_uri`. `client_state` is the parameter `state`.
fn parse_request(
    state: &AppState,
    parameters: &Parameters,
    client: &Client,
    redirect_uri: &str,
    response_mode: ResponseMode,
    client_state: Option<&str>,
) -> Result<AuthorizationRequest, AuthorizationError> {
    use AuthorizationError as Error;
    if parameters.0.iter().any(|(name, value)| name != "id_token_hint" && value.len() > MAX_VALUE_BYTES) {
        return Err(Error::InvalidRequest("A parameter is longer than 2048 bytes."));
    }
    let single = |name: &'static str| -> Result<Option<&str>, Error> { Ok(parameters.single(name)?) };
    for (name, error) in [
        ("request", Error::RequestNotSupported),
        ("request_uri", Error::RequestUriNotSupported),
        ("registration", Error::RegistrationNotSupported),
    ] {
        if single(name)?.is_some() {
            return Err(error);
        }
    }
    // Refuses a repeated `state`. The value is in `client_state`.
    single("state")?;
    if !matches!(single("response_mode")?, None | Some("query" | "form_post")) {
        return Err(Error::InvalidRequest("The supported values of response_mode are query and form_post."));
    }
    match single("response_type")? {
        Some("code") => {}
        Some(_) => return Err(Error::UnsupportedResponseType),
        None => return Err(Error::InvalidRequest("response_type is missing.")),
    }
    if !client.may_use(GrantType::AuthorizationCode) {
        return Err(Error::UnauthorizedClient);
    }
    let code_challenge = match (single("code_challenge_method")?, single("code_challenge")?) {
        (None, None) if client.app.without_pkce => "",
        (Some("S256"), Some(text)) if is_s256_challenge(text) => text,
        (Some("S256"), _) => return Err(Error::InvalidRequest("code_challenge must be a SHA-256 in base64url.")),
        _ => return Err(Error::InvalidRequest("PKCE is required: code_challenge_method must be S256.")),
    };
    let prompt = Prompt::parse(single("prompt")?.unwrap_or_default());
    let prompt = prompt.ok_or(Error::InvalidRequest("prompt has an unknown value, or none beside another one."))?;
    let max_age = match single("max_age")? {
        None => None,
        // parsing can only fail because the number is too large
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(text.parse().unwrap_or(u64::MAX)),
        Some(_) => return Err(Error::InvalidRequest("max_age must be a number of seconds.")),
    };
    // The values are alternatives, so the lowest level that they name is enough. 0 requires no level.
    let acr = match single("acr_values")? {
        None => 0,
        Some(text) => text.split(' ').filter_map(Acr::parse).map(Acr::level).min().unwrap_or(0),
    };
    // No sign-in reaches a higher level yet (RFC 9470, section 5).
    if acr > Acr::Aal2.level() {
        return Err(Error::UnmetAuthenticationRequirements);
    }
    let subject = match single("id_token_hint")? {
        None => None,
        Some(token) => {
            let claims = state.tokens.verify_id_token_hint(token, state.clock.now());
            let claims = claims.ok_or(Error::InvalidRequest("id_token_hint is not an ID token of this issuer."))?;
            Some(claims.sub)
        }
    };
    let scope = granted_scopes(client, single("scope")?)?;
    // Without PKCE, the app must recognize an injected code by the nonce in the ID token (RFC 9700, sections 2.1.1 and 4.5.3.2).
    if code_challenge.is_empty() && !(single("nonce")?.is_some() && scope.contains("openid")) {
        return Err(Error::InvalidRequest("Without PKCE, the scope openid and a nonce are required."));
    }
    let resources = requested_resources(client, parameters)?;
    let request = AuthorizationRequest {
        client_id: client.client_id().to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        response_mode,
        state: client_state.map(str::to_owned),
        scope: scope.to_string(),
        resources,
        nonce: single("nonce")?.map(str::to_owned),
        code_challenge: code_challenge.to_owned(),
        prompt,
        max_age,
        acr,
        login_hint: single("login_hint")?.map(str::to_owned),
        ui_locales: single("ui_locales")?.map(str::to_owned),
        subject,
        created_at: state.clock.now(),
        selected: None,
        consented: None,
    };
    // The record of a session in Redis has a maximum size.
    if Authorizations::grant_fits(&grant_of(state, client, &request)) { Ok(request) } else { Err(Error::InvalidScope) }
}

/// The resources for which the user of a request consents: the audiences of its access tokens without the issuer.
pub(super) fn resources_of(
    state: &AppState,
    client: &Client,
    request: &AuthorizationRequest,
) -> Result<SpaceSeparated, ServiceError> {
    let audiences = grant_of(state, client, request).audiences;
    let resources = audiences.iter().filter(|audience| **audience != state.config.issuer);
    SpaceSeparated::parse(resources).map_err(|error| ServiceError::Internal(error.into()))
}

/// The requested scopes that the client may have. Other scopes are ignored (OpenID Connect Core 1.0, section 3.1.2.1).
fn granted_scopes(client: &Client, requested: Option<&str>) -> Result<SpaceSeparated, AuthorizationError> {
    let granted = match requested {
        None => {
            let by_default = client.scopes.items().iter().filter(|scope| !ON_REQUEST_ONLY.contains(&scope.as_str()));
            SpaceSeparated::parse(by_default)
        }
        Some(text) => SpaceSeparated::parse(text.split(' ').filter(|scope| client.scopes.contains(scope))),
    };
    granted.ok().filter(|granted| !granted.is_empty()).ok_or(AuthorizationError::InvalidScope)
}

/// The resources of a request (RFC 8707, section 2).
fn requested_resources(client: &Client, parameters: &Parameters) -> Result<Vec<String>, AuthorizationError> {
    let mut resources: Vec<String> = Vec::new();
    for resource in parameters.all("resource") {
        let is_valid = Url::parse(resource).is_ok_and(|url| url.fragment().is_none());
        if !is_valid {
            return Err(AuthorizationError::InvalidTarget);
        }
        let audience = find_audience(client.audiences.items(), resource).ok_or(AuthorizationError::InvalidTarget)?;
        if !resources.contains(audience) {
            resources.push(audience.clone());
        }
    }
    Ok(resources)
}

/// Finds the audience that a resource parameter names. An empty path and `/` are equivalent (RFC 3986, section 6.2.3), and libraries
/// write either.
pub(crate) fn find_audience<'a>(audiences: &'a [String], resource: &str) -> Option<&'a String> {
    let is_named =
        |audience: &&String| *audience == resource || is_root_of(resource, audience) || is_root_of(audience, resource);
    audiences.iter().find(is_named)
}

/// Whether `origin` is a URL without a path, and `url` is `origin` with the path `/`.
fn is_root_of(url: &str, origin: &str) -> bool {
    url.strip_suffix('/') == Some(origin) && is_origin(origin)
}

/// Whether a URL has no path, query or fragment.
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

/// The grant of a request.
///
/// The audiences of its access tokens are the requested resources, or all audiences of the client if it requested none. A dynamic client
/// gets only the resources that it names, so that one resource can't use the client's token at another. With `openid`, or without
/// any audience, the issuer is an audience too, for `/oauth2/userinfo`.
pub(super) fn grant_of(state: &AppState, client: &Client, request: &AuthorizationRequest) -> ClientGrant {
    let uses_all = request.resources.is_empty() && client.dynamic.is_none();
    let mut audiences = if uses_all { client.audiences.items().to_vec() } else { request.resources.clone() };
    let issuer = &state.config.issuer;
    if (audiences.is_empty() || request.has_scope("openid")) && !audiences.contains(issuer) {
        audiences.push(issuer.clone());
    }
    // The id and not the `client_id`, which is a long URL for some dynamic clients.
    ClientGrant { client_id: client.id.to_string(), scope: request.scope.clone(), audiences }
}
