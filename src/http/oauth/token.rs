//! `POST /oauth2/token` (RFC 6749, section 3.2).

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, types::Example};
use serde::Serialize;

use super::{
    credentials::{self, ClientFields},
    error::{OAuthCode, OAuthError, OAuthErrors, OAuthFailed},
    form::{Form, FormBody, Parameters},
};
use crate::{
    crypto::id_token::IdToken,
    domain::{app_client::GrantType, client::Client, secret::SecretText},
    http::{
        api::Tag,
        extract::{
            client_auth::{FormOrBasic, OptionalClient},
            client_info::ClientInfo,
        },
        raw_json::RawJson,
        types::Secret,
    },
    service::{
        client_token::{self, ClientToken, ClientTokenError},
        exchange_code::{CodeExchange, ExchangeCodeError, exchange_code},
        refresh::{self, RefreshError},
        token_issuer::Tokens,
    },
    state::AppState,
};

/// The token endpoint.
pub struct TokenApi;

/// The grant types.
#[derive(Enum, Clone, Copy, Debug)]
#[oai(rename_all = "snake_case", rename = "GrantType")]
enum GrantTypeName {
    /// An authorization code (RFC 6749, section 4.1.3).
    AuthorizationCode,
    /// A refresh token (RFC 6749, section 6).
    RefreshToken,
    /// The client's own credentials (RFC 6749, section 4.4).
    ClientCredentials,
}

/// A token request.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct TokenForm {
    /// The grant that is exchanged for tokens.
    grant_type: GrantTypeName,
    /// For `authorization_code`: the code.
    code: Option<Secret>,
    /// For `authorization_code`: the redirect URI of the authorization request.
    redirect_uri: Option<String>,
    /// For `authorization_code`: the verifier of the code challenge (RFC 7636).
    code_verifier: Option<Secret>,
    /// For `refresh_token`: the session's refresh token.
    refresh_token: Option<Secret>,
    /// The requested scopes, separated by spaces. For `client_credentials`, the default is all scopes of the client. For `refresh_token`,
    /// scopes that the client does not have are refused, and the token has all scopes of the session, as `scope` of the response says.
    scope: Option<String>,
    /// One of the granted resources, to limit the access token to it (RFC 8707).
    resource: Option<String>,
    #[oai(flatten)]
    client: ClientFields,
}

impl Example for TokenForm {
    fn example() -> Self {
        let client = ClientFields::of_public_client("latchkey");
        Self {
            grant_type: GrantTypeName::RefreshToken,
            code: None,
            redirect_uri: None,
            code_verifier: None,
            refresh_token: Some(Secret::masked()),
            scope: None,
            resource: None,
            client,
        }
    }
}

impl FormBody for TokenForm {
    fn read(parameters: &mut Parameters) -> Result<Self, OAuthError> {
        let name = parameters.take("grant_type").ok_or(OAuthError::invalid_request("grant_type is missing."))?;
        let grant_type = match name.as_str() {
            "authorization_code" => GrantTypeName::AuthorizationCode,
            "refresh_token" => GrantTypeName::RefreshToken,
            "client_credentials" => GrantTypeName::ClientCredentials,
            _ => {
                let description =
                    "The supported grant types are authorization_code, refresh_token and client_credentials.";
                return Err(OAuthError::new(OAuthCode::UnsupportedGrantType, description));
            }
        };
        Ok(Self {
            grant_type,
            code: parameters.take_secret("code"),
            redirect_uri: parameters.take("redirect_uri"),
            code_verifier: parameters.take_secret("code_verifier"),
            resource: parameters.take("resource"),
            refresh_token: parameters.take_secret("refresh_token"),
            scope: parameters.take("scope"),
            client: ClientFields::read(parameters),
        })
    }
}

/// Tokens (RFC 6749, section 5.1).
#[derive(Object, Serialize)]
#[oai(rename = "TokenResponse", skip_serializing_if_is_none, example)]
struct TokenBody {
    /// A JWT (RFC 9068). Send it as `Authorization: Bearer`.
    access_token: String,
    /// Always `Bearer` (RFC 6750).
    token_type: String,
    /// The lifetime of the access token in seconds.
    expires_in: u64,
    /// The token for the next refresh. Absent for `client_credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// The scopes, separated by spaces. Absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// A JWT about the user and their authentication (OpenID Connect Core 1.0, section 2). Only for apps with the scope `openid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

impl Example for TokenBody {
    fn example() -> Self {
        Self {
            access_token: "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9.….…".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: 300,
            refresh_token: Some("lk_rt_AQGTLu…".to_owned()),
            scope: Some("account".to_owned()),
            id_token: None,
        }
    }
}

#[derive(ApiResponse)]
enum TokenAnswer {
    /// The tokens.
    #[oai(status = 200)]
    Ok(
        RawJson<TokenBody>,
        /// For HTTP/1.0 caches (RFC 6749, section 5.1).
        #[oai(header = "Pragma")]
        String,
    ),
}

impl TokenAnswer {
    fn for_first_party(tokens: Tokens) -> Self {
        Self::for_app(tokens, None)
    }

    fn for_app(tokens: Tokens, id_token: Option<IdToken>) -> Self {
        Self::new(TokenBody {
            id_token: id_token.map(IdToken::into_exposed),
            expires_in: tokens.expires_in.as_secs(),
            refresh_token: Some(tokens.refresh_token.expose().to_owned()),
            scope: Some(tokens.scope).filter(|scope| !scope.is_empty()),
            access_token: tokens.access_token.into_exposed(),
            token_type: "Bearer".to_owned(),
        })
    }

    fn for_service_client(token: ClientToken) -> Self {
        Self::new(TokenBody {
            expires_in: token.expires_in.as_secs(),
            refresh_token: None,
            id_token: None,
            scope: Some(token.scope.to_string()).filter(|scope| !scope.is_empty()),
            access_token: token.access_token.into_exposed(),
            token_type: "Bearer".to_owned(),
        })
    }

    fn new(body: TokenBody) -> Self {
        Self::Ok(RawJson::of(&body), "no-cache".to_owned())
    }
}

/// The errors of a token request.
struct TokenErrors;

impl OAuthErrors for TokenErrors {
    const CODES: &'static [OAuthCode] = &[
        OAuthCode::InvalidRequest,
        OAuthCode::InvalidClient,
        OAuthCode::InvalidGrant,
        OAuthCode::UnsupportedGrantType,
        OAuthCode::InvalidScope,
        OAuthCode::InvalidTarget,
        OAuthCode::UnauthorizedClient,
    ];
}

impl From<RefreshError> for OAuthFailed<TokenErrors> {
    fn from(error: RefreshError) -> Self {
        let description = match error {
            RefreshError::InvalidToken => "The refresh token is not valid, or its session has ended.",
            RefreshError::Reused => "The refresh token was already used. Its session was revoked.",
            RefreshError::Expired => "The session has expired.",
            RefreshError::InvalidTarget => {
                return OAuthError::new(OAuthCode::InvalidTarget, "The resource was not granted.").into();
            }
            RefreshError::Service(error) => return error.into(),
        };
        OAuthError::new(OAuthCode::InvalidGrant, description).into()
    }
}

impl From<ExchangeCodeError> for OAuthFailed<TokenErrors> {
    fn from(error: ExchangeCodeError) -> Self {
        match error {
            ExchangeCodeError::InvalidCode => {
                let description = "The code is not valid, or was issued to another client, redirect URI or verifier.";
                OAuthError::new(OAuthCode::InvalidGrant, description).into()
            }
            ExchangeCodeError::InvalidTarget => {
                OAuthError::new(OAuthCode::InvalidTarget, "The resource was not granted.").into()
            }
            ExchangeCodeError::Service(error) => error.into(),
        }
    }
}

impl From<ClientTokenError> for OAuthFailed<TokenErrors> {
    fn from(error: ClientTokenError) -> Self {
        match error {
            ClientTokenError::InvalidScope => {
                OAuthError::new(OAuthCode::InvalidScope, "The client does not have all of these scopes.").into()
            }
            ClientTokenError::Service(error) => error.into(),
        }
    }
}

#[OpenApi(tag = "Tag::OAuth")]
impl TokenApi {
    /// Get tokens
    ///
    /// `authorization_code` exchanges the code that an app got from `/oauth2/authorize` for the tokens of a new session.
    ///
    /// `refresh_token` is for OAuth client libraries: it exchanges a session's refresh token for the next tokens, as `/v1/refresh`
    /// does. A `web` app authenticates. A `public` app sends its `client_id` and no secret or, by HTTP Basic, an empty one. For a
    /// refresh token from the REST API, send no secret. Omit `client_id`, or send the value of `token.client_id`. A refresh token of a
    /// cookie session is not valid here.
    ///
    /// `client_credentials` issues an access token of the service client itself: its `sub` is the client, its `aud` is the
    /// client's audiences, and it has no session.
    #[oai(path = "/oauth2/token", method = "post", operation_id = "token")]
    async fn token(
        &self,
        Data(state): Data<&Arc<AppState>>,
        info: ClientInfo,
        FormOrBasic(authorization): OptionalClient,
        Form(form): Form<TokenForm>,
    ) -> Result<TokenAnswer, OAuthFailed<TokenErrors>> {
        let caller = credentials::authenticate(state, authorization, form.client).await?;
        match form.grant_type {
            GrantTypeName::ClientCredentials => {
                let client = caller.authenticated_client()?;
                credentials::require_grant(&client, GrantType::ClientCredentials)?;
                let token = client_token::issue(state, &client, form.scope.as_deref())?;
                Ok(TokenAnswer::for_service_client(token))
            }
            GrantTypeName::AuthorizationCode => {
                // the first-party client gets no codes: its sessions start through the REST API
                let client = caller.registered_client(state)?;
                let missing = "client_id is missing, or is that of the REST API, whose sessions have no codes.";
                let client = client.ok_or(OAuthError::invalid_client(missing))?;
                credentials::require_grant(&client, GrantType::AuthorizationCode)?;
                let Secret(code) = form.code.ok_or(OAuthError::invalid_request("code is missing."))?;
                let exchange = CodeExchange {
                    code,
                    redirect_uri: form.redirect_uri.ok_or(OAuthError::invalid_request("redirect_uri is missing."))?,
                    code_verifier: require_verifier(form.code_verifier, &client)?,
                    resource: form.resource,
                };
                let (tokens, id_token) = exchange_code(state, &client, exchange, &info.into_session_origin()).await?;
                Ok(TokenAnswer::for_app(tokens, id_token))
            }
            GrantTypeName::RefreshToken => {
                let Secret(token) =
                    form.refresh_token.ok_or(OAuthError::invalid_request("refresh_token is missing."))?;
                let Some(client) = caller.registered_client(state)? else {
                    // the first-party client, whose sessions the REST API starts
                    check_scope(form.scope.as_deref(), &state.config.token.scope)?;
                    let tokens = refresh::refresh_in_body(state, token.expose(), &info.into_session_origin()).await?;
                    return Ok(TokenAnswer::for_first_party(tokens));
                };
                // A service client has no sessions, so another client's token was presented (RFC 6749, section 5.2).
                if client.is_service() {
                    let description = "The refresh token was issued to another client.";
                    return Err(OAuthError::new(OAuthCode::InvalidGrant, description).into());
                }
                credentials::require_grant(&client, GrantType::RefreshToken)?;
                check_scope(form.scope.as_deref(), &client.scopes.to_string())?;
                let resource = form.resource.as_deref();
                let origin = info.into_session_origin();
                let (tokens, id_token) =
                    refresh::refresh_for_client(state, &client, token.expose(), resource, &origin).await?;
                Ok(TokenAnswer::for_app(tokens, id_token))
            }
        }
    }
}

/// Refuses scopes that no session of the client can have. The scopes of this session are known only after the rotation: the token gets all
/// of them, as `scope` of the response says, and other requested scopes are ignored (RFC 6749, sections 3.3 and 6).
fn check_scope(requested: Option<&str>, possible: &str) -> Result<(), OAuthError> {
    let is_possible = |scope: &str| possible.split(' ').any(|other| other == scope);
    if requested.is_some_and(|requested| !requested.split(' ').all(is_possible)) {
        return Err(OAuthError::new(OAuthCode::InvalidScope, "The client does not have all of these scopes."));
    }
    Ok(())
}

/// The verifier. `None` only for a client that may omit PKCE.
fn require_verifier(presented: Option<Secret>, client: &Client) -> Result<Option<SecretText>, OAuthError> {
    if presented.is_none() && !client.app.without_pkce {
        return Err(OAuthError::invalid_request("code_verifier is missing."));
    }
    Ok(presented.map(|Secret(verifier)| verifier))
}
