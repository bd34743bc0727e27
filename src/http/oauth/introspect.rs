//! `POST /oauth2/introspect` (RFC 7662).

use std::sync::Arc;

use hyper::body::Bytes;
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
    http::{api::Tag, extract::client_auth::FormOrBasic, raw_json::RawJson, types::Secret},
    service::introspect::{CachedDecision, Introspection, introspect},
    state::AppState,
};

/// Where it is.
pub(super) const PATH: &str = "/oauth2/introspect";

/// Its name in the API document.
pub(super) const OPERATION_ID: &str = "introspect";

/// What its answers are.
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// What tokens are worth, for services that ask.
pub struct IntrospectApi;

/// Which token.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct IntrospectForm {
    /// An access token or a refresh token.
    token: Secret,
    /// `access_token` or `refresh_token`. Not needed: the two are told apart by their looks.
    token_type_hint: Option<String>,
    #[oai(flatten)]
    client: ClientFields,
}

impl Example for IntrospectForm {
    fn example() -> Self {
        Self { token: Secret("".into()), token_type_hint: None, client: ClientFields::default() }
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

/// What a token is worth (RFC 7662, section 2.2). Of one that isn't active, nothing but that is told.
#[derive(Object, Default, Serialize)]
#[oai(skip_serializing_if_is_none, example)]
struct IntrospectionResponse {
    /// Whether it is valid and its session lives.
    active: bool,
    /// What it may be used for, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The client it was issued to.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// `Bearer` for access tokens; not there for refresh tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<String>,
    /// When it expires, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// When it was issued, in seconds since the Unix epoch; not there for a refresh token that was superseded a moment ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// Whose it is: an account's id, or a service client's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// Whom it is for: one audience, or a list of several.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "any")]
    aud: Option<Any<Value>>,
    /// Who issued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// Its own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// Its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
    /// When its owner signed in, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    /// How sure the sign-in was.
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<String>,
    /// By which methods (RFC 8176).
    #[serde(skip_serializing_if = "Option::is_none")]
    amr: Option<Vec<String>>,
    /// The account's roles, where it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<String>>,
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn any<S: Serializer>(value: &Option<Any<Value>>, serializer: S) -> Result<S::Ok, S::Error> {
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
        }
    }
}

#[derive(ApiResponse)]
enum IntrospectAnswer {
    /// What the token is worth.
    #[oai(status = 200)]
    Ok(RawJson<IntrospectionResponse>),
}

/// What asking can be refused with.
struct IntrospectErrors;

impl OAuthErrors for IntrospectErrors {
    const CODES: &'static [OAuthCode] = &[OAuthCode::InvalidRequest, OAuthCode::InvalidClient];
}

#[OpenApi(tag = "Tag::OAuth")]
impl IntrospectApi {
    /// Ask what a token is worth
    ///
    /// For service clients. Understands access tokens and refresh tokens. Once the end of a session was confirmed, every node
    /// says that it is over. A refresh token is active if presenting it now would succeed; asking doesn't use it up. A client is told only of tokens that are for one of its audiences.
    #[oai(path = "/oauth2/introspect", method = "post", operation_id = "introspect")]
    async fn introspect(
        &self,
        Data(state): Data<&Arc<AppState>>,
        FormOrBasic(authorization): FormOrBasic<true>,
        Form(form): Form<IntrospectForm>,
        next_time: CacheSlot,
    ) -> Result<IntrospectAnswer, OAuthFailed<IntrospectErrors>> {
        let secret = authorization.authorization.secret().filter(|_| next_time.is_wanted()).cloned();
        let caller = credentials::authenticate(state, authorization, form.client).await?.client()?;
        let found = introspect(state, &caller, form.token.0.expose()).await?;
        let Introspection::Session(token) = &found else {
            return Ok(IntrospectAnswer::Ok(RawJson::of(&describe(state, &found))));
        };
        let known = token.told.get().map(|told| RawJson::written(told.clone()));
        let answer = known.unwrap_or_else(|| {
            let answer = RawJson::of(&describe(state, &found));
            if let Some(body) = answer.body() {
                // Another request may have been first, with the same. A copy, without the room that an answer is given to grow.
                let _ = token.told.set(Bytes::copy_from_slice(body));
            }
            answer
        });
        if let Some(secret) = secret {
            next_time.remember(|| CachedDecision::new(&caller, &secret, token));
        }
        Ok(IntrospectAnswer::Ok(answer))
    }
}

fn describe(state: &AppState, found: &Introspection) -> IntrospectionResponse {
    match found {
        Introspection::Inactive => IntrospectionResponse::default(),
        Introspection::Session(token) => IntrospectionResponse {
            active: true,
            scope: Some(token.scope.clone()),
            client_id: Some(token.client_id.clone()),
            token_type: Some("Bearer".to_owned()),
            exp: Some(token.exp),
            iat: Some(token.iat),
            sub: Some(token.sub.to_string()),
            aud: Some(Any(json!(token.aud))),
            iss: Some(token.iss.clone()),
            jti: Some(token.jti.clone()),
            sid: Some(token.sid.0),
            auth_time: Some(token.auth_time),
            acr: Some(token.acr.clone()),
            amr: Some(token.amr.clone()),
            roles: Some(token.roles.clone()).filter(|roles| !roles.is_empty()),
        },
        Introspection::Client(token) => IntrospectionResponse {
            active: true,
            scope: Some(token.scope.clone()).filter(|scope| !scope.is_empty()),
            client_id: Some(token.client_id.clone()),
            token_type: Some("Bearer".to_owned()),
            exp: Some(token.exp),
            iat: Some(token.iat),
            sub: Some(token.sub.clone()),
            aud: Some(Any(if let [one] = &token.aud[..] { json!(one) } else { json!(token.aud) })),
            iss: Some(token.iss.clone()),
            jti: Some(token.jti.clone()),
            ..IntrospectionResponse::default()
        },
        Introspection::Refresh(claims, standing) => IntrospectionResponse {
            active: true,
            scope: Some(state.config.token.scope.clone()),
            client_id: Some(state.config.token.client_id.clone()),
            exp: Some(standing.expires_at.as_secs()),
            iat: standing.issued_at.map(|issued_at| issued_at.as_secs()),
            sub: Some(claims.account.to_string()),
            iss: Some(state.config.issuer.clone()),
            sid: Some(claims.session.0),
            ..IntrospectionResponse::default()
        },
    }
}
