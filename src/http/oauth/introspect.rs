//! `POST /oauth2/introspect` (RFC 7662).

use std::sync::Arc;

use poem::{http::HeaderValue, web::Data};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    types::{Any, Example},
};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    credentials::{self, ClientFields},
    error::{OAuthCode, OAuthError, OAuthErrors, OAuthFailed},
    form::{Form, FormBody, Parameters},
    introspection_cache::CacheSlot,
};
use crate::{
    http::{
        api::Tag,
        extract::client_auth::{FormOrBasic, RequiredClient},
        raw_json::RawJson,
        types::{JsonObject, Secret},
    },
    service::introspect::{CachedDecision, Introspection, introspect},
    state::AppState,
};

/// The path of the endpoint.
pub(super) const PATH: &str = "/oauth2/introspect";

/// The operation id in the API document.
pub(super) const OPERATION_ID: &str = "introspect";

/// The media type of the endpoint's responses.
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Token introspection for service clients.
pub struct IntrospectApi;

/// The body of an introspection request.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct IntrospectForm {
    /// An access token or a refresh token.
    token: Secret,
    /// `access_token` or `refresh_token`. Ignored: the format of a token shows its type.
    token_type_hint: Option<String>,
    #[oai(flatten)]
    client: ClientFields,
}

impl Example for IntrospectForm {
    fn example() -> Self {
        Self { token: Secret::masked(), token_type_hint: None, client: ClientFields::default() }
    }
}

impl FormBody for IntrospectForm {
    fn read(parameters: &mut Parameters) -> Result<Self, OAuthError> {
        Ok(Self {
            token: parameters.take_secret("token").ok_or(OAuthError::invalid_request("token is missing."))?,
            token_type_hint: parameters.take("token_type_hint"),
            client: ClientFields::read(parameters),
        })
    }
}

/// An introspection response (RFC 7662, section 2.2). For an inactive token it is exactly `{"active": false}`.
#[derive(Object, Default, Serialize)]
#[oai(skip_serializing_if_is_none, example)]
struct IntrospectionResponse {
    /// Whether the token is valid and its session, if any, has not ended.
    active: bool,
    /// The scopes, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The client that the token was issued to.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// `Bearer` for access tokens; omitted for refresh tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<String>,
    /// The expiry, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// The time of issue, in seconds since the Unix epoch; omitted for a superseded refresh token that is still active.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// The account's id, or the service client's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// The audience: a string, or an array of several.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_any")]
    aud: Option<Any<Value>>,
    /// The issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// The token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// The session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
    /// When the session's user last authenticated, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    /// The authentication context class that the session has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<String>,
    /// The authentication methods of that class (RFC 8176).
    #[serde(skip_serializing_if = "Option::is_none")]
    amr: Option<Vec<String>>,
    /// The account's roles; omitted if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<String>>,
    /// Whether the account's e-mail address is verified, if tokens have this claim (`token.email_verified`).
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    /// The members of the account's metadata that tokens have (`token.app_metadata`), if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_metadata: Option<JsonObject>,
}

/// Serializes the value in [`Any`], which has no `Serialize` of its own.
#[expect(clippy::ref_option, reason = "serde's signature")]
fn serialize_any<S: Serializer>(value: &Option<Any<Value>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(|any| &any.0).serialize(serializer)
}

impl Example for IntrospectionResponse {
    fn example() -> Self {
        Self {
            active: true,
            scope: Some("account".to_owned()),
            client_id: Some("latchkey".to_owned()),
            token_type: Some("Bearer".to_owned()),
            exp: Some(1_795_407_210),
            iat: Some(1_795_406_910),
            sub: Some("01a20697-5375-7a3f-a5d0-8181bd56c321".to_owned()),
            aud: Some(Any(json!("latchkey"))),
            iss: Some("https://auth.example.com".to_owned()),
            jti: Some("d8b5cbd5-29b1-4f52-a4b0-3d1d9d6c4f1e".to_owned()),
            sid: Some(Uuid::from_u128(0x5f0c_2f0e_7d1c_4a58_9a3b_2f1f_6a1e_0d42)),
            auth_time: Some(1_795_406_910),
            acr: Some("aal1".to_owned()),
            amr: Some(vec!["pwd".to_owned()]),
            roles: None,
            email_verified: None,
            app_metadata: None,
        }
    }
}

#[derive(ApiResponse)]
enum IntrospectResponse {
    /// The state of the token.
    #[oai(status = 200)]
    Ok(RawJson<IntrospectionResponse>),
}

/// The errors of the endpoint.
struct IntrospectErrors;

impl OAuthErrors for IntrospectErrors {
    const CODES: &'static [OAuthCode] = &[OAuthCode::InvalidRequest, OAuthCode::InvalidClient];
}

#[OpenApi(tag = "Tag::OAuth")]
impl IntrospectApi {
    /// Introspect a token
    ///
    /// For service clients. Accepts access tokens and refresh tokens. Once a sign-out or revocation has been confirmed, every
    /// node answers that the token is inactive. A refresh token is active if a refresh with it would succeed now;
    /// introspection does not consume it. Tokens for other audiences than the client's are inactive.
    #[oai(path = "/oauth2/introspect", method = "post", operation_id = "introspect")]
    async fn introspect(
        &self,
        Data(state): Data<&Arc<AppState>>,
        FormOrBasic(presented): RequiredClient,
        Form(form): Form<IntrospectForm>,
        slot: CacheSlot,
    ) -> Result<IntrospectResponse, OAuthFailed<IntrospectErrors>> {
        // cloned before the authentication, which consumes the credentials, and only if the response can be cached
        let secret_to_cache = presented.authorization.secret().filter(|_| slot.is_available()).cloned();
        let caller = credentials::authenticate(state, presented, form.client).await?.authenticated_client()?;
        let found = introspect(state, &caller, form.token.0.expose()).await?;
        let response = RawJson::of(&describe(state, &found));
        // Caches only responses about tokens for this service, which `CachedDecision` covers. A response with the authentication of a
        // step-up is not cached, since it changes when the step-up expires.
        if let Introspection::Session(token, None) = &found
            && let (Some(secret), Some(body)) = (secret_to_cache, response.body())
        {
            slot.fill(CachedDecision::new(&caller, &secret, token), body);
        }
        Ok(IntrospectResponse::Ok(response))
    }
}

/// One audience as a string and several as an array (RFC 7519, section 4.1.3).
fn one_or_several(audiences: &[String]) -> Any<Value> {
    Any(if let [one] = audiences { json!(one) } else { json!(audiences) })
}

/// The response about a token. `current` is the session's authentication, if it is newer than the token's.
fn describe(state: &AppState, found: &Introspection) -> IntrospectionResponse {
    match found {
        Introspection::Inactive => IntrospectionResponse::default(),
        Introspection::Session(token, current) | Introspection::App(token, current) => IntrospectionResponse {
            active: true,
            scope: Some(token.scope.clone()),
            client_id: Some(token.client_id.clone()),
            token_type: Some("Bearer".to_owned()),
            exp: Some(token.exp),
            iat: Some(token.iat),
            sub: Some(token.sub.to_string()),
            aud: Some(one_or_several(&token.aud)),
            iss: Some(token.iss.clone()),
            jti: Some(token.jti.clone()),
            sid: Some(token.sid.0),
            auth_time: Some(current.map_or(token.auth_time, |current| current.at.as_secs())),
            acr: Some(current.map_or_else(|| token.acr.clone(), |current| current.acr.as_str().to_owned())),
            amr: Some(current.map_or_else(|| token.amr.clone(), |current| current.methods.amr())),
            roles: Some(token.roles.clone()).filter(|roles| !roles.is_empty()),
            email_verified: token.email_verified,
            app_metadata: token.app_metadata.as_deref().cloned().map(JsonObject),
        },
        Introspection::Client(token) => IntrospectionResponse {
            active: true,
            scope: Some(token.scope.clone()).filter(|scope| !scope.is_empty()),
            client_id: Some(token.client_id.clone()),
            token_type: Some("Bearer".to_owned()),
            exp: Some(token.exp),
            iat: Some(token.iat),
            sub: Some(token.sub.clone()),
            aud: Some(one_or_several(&token.aud)),
            iss: Some(token.iss.clone()),
            jti: Some(token.jti.clone()),
            ..IntrospectionResponse::default()
        },
        Introspection::Refresh(claims, status) => IntrospectionResponse {
            active: true,
            scope: Some(state.config.token.scope.clone()),
            client_id: Some(state.config.token.client_id.clone()),
            exp: Some(status.expires_at.as_secs()),
            iat: status.issued_at.map(|issued_at| issued_at.as_secs()),
            sub: Some(claims.account.to_string()),
            iss: Some(state.config.issuer.clone()),
            sid: Some(claims.session.0),
            ..IntrospectionResponse::default()
        },
    }
}
