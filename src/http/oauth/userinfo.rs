//! `GET` and `POST /oauth2/userinfo` (OpenID Connect Core 1.0, section 5.3).

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Example};
use uuid::Uuid;

use crate::{
    http::{
        api::Tag,
        extract::auth::BearerToken,
        problem::{Code, Failed, ProblemError, Problems},
    },
    service::userinfo::{self, UserInfoError},
    state::AppState,
};

/// The userinfo endpoint.
pub struct UserInfoApi;

/// The claims about the user that the granted scopes reveal.
#[derive(Object)]
#[oai(rename = "UserInfo", skip_serializing_if_is_none, example)]
struct UserInfoResponse {
    /// The account's id, as in the ID token.
    sub: Uuid,
    /// Scope `profile`: the name for people.
    name: Option<String>,
    /// Scope `profile`: the username, or the e-mail address before its `@`.
    preferred_username: Option<String>,
    /// Scope `profile`: a language tag (BCP 47).
    locale: Option<String>,
    /// Scope `profile`: a time zone (IANA).
    zoneinfo: Option<String>,
    /// Scope `profile`: when the account last changed, in seconds since the Unix epoch.
    updated_at: Option<i64>,
    /// Scope `email`: the address.
    email: Option<String>,
    /// Scope `email`: whether the address is verified.
    email_verified: Option<bool>,
}

impl Example for UserInfoResponse {
    fn example() -> Self {
        Self {
            sub: Uuid::from_u128(0x01a2_0697_5375_7a3f_a5d0_8181_bd56_c321),
            name: Some("Ada Lovelace".to_owned()),
            preferred_username: Some("ada".to_owned()),
            locale: None,
            zoneinfo: None,
            updated_at: Some(1_795_406_910),
            email: Some("ada@example.com".to_owned()),
            email_verified: Some(true),
        }
    }
}

#[derive(ApiResponse)]
enum UserInfoAnswer {
    /// The claims.
    #[oai(status = 200)]
    Ok(Json<UserInfoResponse>),
}

/// The errors of a request.
struct UserInfoProblems;

impl Problems for UserInfoProblems {
    const CODES: &'static [Code] =
        &[Code::AuthenticationRequired, Code::InvalidToken, Code::ClaimsChanged, Code::InsufficientScope];
}

impl From<UserInfoError> for Failed<UserInfoProblems> {
    fn from(error: UserInfoError) -> Self {
        match error {
            UserInfoError::InsufficientScope => {
                Self::new(Code::InsufficientScope, "The access token does not have the scope openid.")
            }
            UserInfoError::Authenticate(error) => ProblemError::from(error).into(),
        }
    }
}

async fn answer(state: &AppState, token: &str) -> Result<UserInfoAnswer, Failed<UserInfoProblems>> {
    let (account, user) = userinfo::userinfo(state, token).await?;
    Ok(UserInfoAnswer::Ok(Json(UserInfoResponse {
        sub: account.0,
        name: user.name,
        preferred_username: user.preferred_username,
        locale: user.locale,
        zoneinfo: user.zoneinfo,
        updated_at: user.updated_at,
        email: user.email,
        email_verified: user.email_verified,
    })))
}

#[OpenApi(tag = "Tag::OAuth")]
impl UserInfoApi {
    /// Get claims about the user
    ///
    /// For apps: what the scopes of their access token reveal about its user (OpenID Connect Core 1.0, section 5.3). The scope `openid` is
    /// required.
    #[oai(path = "/oauth2/userinfo", method = "get", operation_id = "userinfo")]
    async fn get(
        &self,
        Data(state): Data<&Arc<AppState>>,
        BearerToken(token): BearerToken,
    ) -> Result<UserInfoAnswer, Failed<UserInfoProblems>> {
        answer(state, &token).await
    }

    /// Get claims about the user (POST)
    ///
    /// As `GET`.
    #[oai(path = "/oauth2/userinfo", method = "post", operation_id = "userinfo_post")]
    async fn post(
        &self,
        Data(state): Data<&Arc<AppState>>,
        BearerToken(token): BearerToken,
    ) -> Result<UserInfoAnswer, Failed<UserInfoProblems>> {
        answer(state, &token).await
    }
}
