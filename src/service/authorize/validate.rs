//! Validates the parameters of an authorization request. First the client and the redirect URI: only when both can be trusted, the client is
//! told what is wrong (RFC 6749, section 4.1.2.1; RFC 9700, section 4.11).

use std::{net::IpAddr, sync::Arc};

use url::Url;

use super::{
    client::{Arrival, trusted_client},
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
    state::AppState,
    store::redis::Authorizations,
};

/// The scopes of OpenID Connect that no client has unless it asks for them.
const ON_REQUEST_ONLY: [&str; 2] = ["openid", "offline_access"];

/// The longest value of a parameter that is stored.
const MAX_VALUE: usize = 2048;

/// The parameters of a request, in order. Names may be repeated, which is an error for all but `resource`.
#[derive(Clone, Debug, Default)]
pub struct Parameters(pub Vec<(String, String)>);

/// A parameter that must not be repeated is.
struct Repeated;

impl Parameters {
    /// The value of a parameter. One without a value counts as absent (RFC 6749, section 3.1).
    fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Repeated> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Repeated),
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(it, value)| it == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The handle with which one of Latchkey's pages sends the browser back. A request object in the same parameter has another form.
    pub(super) fn handle(&self) -> Result<Option<RequestHandle>, UntrustedRequest> {
        let mut others = self.0.iter().filter(|(name, _)| name != "ui_locales");
        match (others.next(), others.next()) {
            (Some((name, value)), None) if name == "request" => {
                RequestHandle::parse(value).map(Some).ok_or(UntrustedRequest::Expired)
            }
            _ => Ok(None),
        }
    }

    /// The languages of the pages.
    pub(super) fn ui_locales(&self) -> Option<&str> {
        self.one("ui_locales").ok().flatten()
    }
}

/// Validates a request.
pub(super) async fn validate(
    state: &AppState,
    parameters: &Parameters,
    ip: Option<IpAddr>,
) -> Result<(AuthorizationRequest, Arc<Client>), AuthorizeError> {
    let client_id = parameters.one("client_id").ok().flatten().ok_or(UntrustedRequest::UnknownClient)?;
    // The client decides which message is right, so it is looked up first.
    let redirect_uri = parameters.one("redirect_uri").ok().flatten().unwrap_or_default();
    let client = trusted_client(state, client_id, redirect_uri, Arrival::New(ip)).await?;
    let mode = match parameters.one("response_mode") {
        Ok(Some("form_post")) => ResponseMode::FormPost,
        _ => ResponseMode::Query,
    };
    let client_state = parameters.one("state").ok().flatten().filter(|text| text.len() <= MAX_VALUE);
    let request = read(state, parameters, &client, redirect_uri, mode, client_state);
    match request {
        Ok(request) => Ok((request, client)),
        Err(error) => {
            let response = error.respond(state, redirect_uri, mode, client_state.map(str::to_owned));
            Err(AuthorizeError::Refused(Box::new(response)))
        }
    }
}

impl From<Repeated> for AuthorizationError {
    fn from(Repeated: Repeated) -> Self {
        Self::InvalidRequest("A parameter is repeated.")
    }
}

fn read(
    state: &AppState,
    parameters: &Parameters,
    client: &Client,
    redirect_uri: &str,
    response_mode: ResponseMode,
    client_state: Option<&str>,
) -> Result<AuthorizationRequest, AuthorizationError> {
    use AuthorizationError as Error;
    if parameters.0.iter().any(|(name, value)| name != "id_token_hint" && value.len() > MAX_VALUE) {
        return Err(Error::InvalidRequest("A parameter is longer than 2048 bytes."));
    }
    let one = |name: &'static str| -> Result<Option<&str>, Error> { Ok(parameters.one(name)?) };
    for (name, error) in [
        ("request", Error::RequestNotSupported),
        ("request_uri", Error::RequestUriNotSupported),
        ("registration", Error::RegistrationNotSupported),
    ] {
        if one(name)?.is_some() {
            return Err(error);
        }
    }
    one("state")?;
    if !matches!(one("response_mode")?, None | Some("query" | "form_post")) {
        return Err(Error::InvalidRequest("The supported values of response_mode are query and form_post."));
    }
    match one("response_type")? {
        Some("code") => {}
        Some(_) => return Err(Error::UnsupportedResponseType),
        None => return Err(Error::InvalidRequest("response_type is missing.")),
    }
    if !client.may_use(GrantType::AuthorizationCode) {
        return Err(Error::UnauthorizedClient);
    }
    let code_challenge = match (one("code_challenge_method")?, one("code_challenge")?) {
        (None, None) if client.app.without_pkce => "",
        (Some("S256"), Some(text)) if is_s256_challenge(text) => text,
        (Some("S256"), _) => return Err(Error::InvalidRequest("code_challenge must be a SHA-256 in base64url.")),
        _ => return Err(Error::InvalidRequest("PKCE is required: code_challenge_method must be S256.")),
    };
    let prompt = Prompt::parse(one("prompt")?.unwrap_or_default());
    let prompt = prompt.ok_or(Error::InvalidRequest("prompt has an unknown value, or none beside another one."))?;
    let max_age = match one("max_age")? {
        None => None,
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(text.parse().unwrap_or(u64::MAX)),
        Some(_) => return Err(Error::InvalidRequest("max_age must be a number of seconds.")),
    };
    let acr = match one("acr_values")? {
        None => 0,
        Some(text) => text.split(' ').filter_map(Acr::parse).map(Acr::level).min().unwrap_or(0),
    };
    // No sign-in reaches this level yet (RFC 9470, section 5).
    if acr > Acr::Aal2.level() {
        return Err(Error::UnmetAuthenticationRequirements);
    }
    let subject = match one("id_token_hint")? {
        None => None,
        Some(token) => {
            let hint = state.tokens.verify_id_token_hint(token, state.clock.now());
            Some(hint.ok_or(Error::InvalidRequest("id_token_hint is no ID token of this issuer."))?.sub)
        }
    };
    let scope = scope(client, one("scope")?)?;
    // Without PKCE, the app must recognize an injected code by the nonce in the ID token (RFC 9700, sections 2.1.1 and 4.5.3.2).
    if code_challenge.is_empty() && !(one("nonce")?.is_some() && scope.contains("openid")) {
        return Err(Error::InvalidRequest("Without PKCE, the scope openid and a nonce are required."));
    }
    let resources = resources(client, parameters)?;
    let request = AuthorizationRequest {
        client_id: client.client_id().to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        response_mode,
        state: client_state.map(str::to_owned),
        scope: scope.to_string(),
        resources,
        nonce: one("nonce")?.map(str::to_owned),
        code_challenge: code_challenge.to_owned(),
        prompt,
        max_age,
        acr,
        login_hint: one("login_hint")?.map(str::to_owned),
        ui_locales: one("ui_locales")?.map(str::to_owned),
        subject,
        created_at: state.clock.now(),
        selected: None,
        consented: None,
    };
    if Authorizations::fits(&grant_of(state, client, &request)) { Ok(request) } else { Err(Error::InvalidScope) }
}

/// The scopes of a request that the client may have. Others are ignored (OpenID Connect Core 1.0, section 3.1.2.1).
fn scope(client: &Client, requested: Option<&str>) -> Result<SpaceSeparated, AuthorizationError> {
    let scope = match requested {
        None => {
            let by_default = client.scopes.words().iter().filter(|word| !ON_REQUEST_ONLY.contains(&word.as_str()));
            SpaceSeparated::parse(by_default)
        }
        Some(text) => SpaceSeparated::parse(text.split(' ').filter(|word| client.scopes.contains(word))),
    };
    scope.ok().filter(|scope| !scope.is_empty()).ok_or(AuthorizationError::InvalidScope)
}

/// The resources of a request (RFC 8707, section 2).
fn resources(client: &Client, parameters: &Parameters) -> Result<Vec<String>, AuthorizationError> {
    let mut resources: Vec<String> = Vec::new();
    for resource in parameters.all("resource") {
        let is_absolute = Url::parse(resource).is_ok_and(|url| url.fragment().is_none());
        let named = named_resource(client.audiences.words(), resource).filter(|_| is_absolute);
        let named = named.ok_or(AuthorizationError::InvalidTarget)?;
        if !resources.contains(named) {
            resources.push(named.clone());
        }
    }
    Ok(resources)
}

/// The one of these audiences that a resource parameter names. An empty path and `/` are the same (RFC 3986, section 6.2.3), and libraries
/// write the one or the other.
pub(crate) fn named_resource<'a>(audiences: &'a [String], resource: &str) -> Option<&'a String> {
    let same = |audience: &&String| match resource.strip_suffix('/') {
        _ if *audience == resource => true,
        Some(bare) => *audience == bare && is_origin(bare),
        None => audience.strip_suffix('/') == Some(resource) && is_origin(resource),
    };
    audiences.iter().find(same)
}

/// Whether a URL has no path, query or fragment.
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

/// The grant of a request: the audiences of its access tokens are the requested resources, or all of the client's if it requested none. With
/// `openid`, and where there are none, the issuer itself is one, for `/oauth2/userinfo`. A client that no operator has registered gets only
/// what it names: one of its resources must not be able to use its tokens at another.
pub(super) fn grant_of(state: &AppState, client: &Client, request: &AuthorizationRequest) -> ClientGrant {
    let by_default = request.resources.is_empty() && client.dynamic.is_none();
    let mut audiences = if by_default { client.audiences.words().to_vec() } else { request.resources.clone() };
    if audiences.is_empty() || request.has_scope("openid") {
        audiences.push(state.config.issuer.clone());
    }
    audiences.dedup();
    ClientGrant { client_id: client.id.to_string(), scope: request.scope.clone(), audiences }
}
