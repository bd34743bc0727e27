//! `GET /v1/me`, `PATCH /v1/me`, `DELETE /v1/me`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, types::Example};
use serde_json::Map;
use uuid::Uuid;

use super::Tag;
use crate::{
    domain::{
        account::{Account, Username},
        clock::Timestamp,
        profile::{LanguageTag, Metadata, Profile, ProfileError, TimeZoneName, parse_display_name},
    },
    http::{
        extract::{auth::SignedIn, json::Body},
        problem::{
            Code, Failed, FieldCode, FieldError, ProblemError, Problems,
            groups::{JSON_BODY, RECENT, SIGNED_IN, codes},
            sentence,
        },
        types::{JsonObject, Time},
    },
    service::{
        authenticate::{self, AuthenticateError},
        delete_account::{self, DeleteAccountError},
        request_origin::RequestOrigin,
        update_account::{self, AccountUpdate, UpdateAccountError},
    },
    state::AppState,
};

/// The account of the caller.
pub struct MeApi;

/// An account.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
pub(super) struct AccountResponse {
    /// The account's id: the `sub` claim of its access tokens. Ids are never reused.
    id: Uuid,
    /// The e-mail address, as it was entered. Empty if another account has verified the address first.
    email: String,
    /// Whether the e-mail address is verified: its owner used a link or a code that was sent there, or the account was
    /// imported from a system that had verified it.
    email_verified: bool,
    /// The username, if any.
    username: Option<String>,
    /// The name to display, if any.
    display_name: Option<String>,
    /// The language of mails, if it was set: a language tag such as `pt-BR`.
    locale: Option<String>,
    /// The time zone of times in mails, if it was set: an IANA name such as `Europe/Berlin`.
    time_zone: Option<String>,
    /// Metadata that the owner or the app writes, if any.
    user_metadata: Option<JsonObject>,
    /// Metadata that operators write, if any. Read-only.
    app_metadata: Option<JsonObject>,
    /// The roles, as in the `roles` claim of its access tokens.
    roles: Vec<String>,
    /// Whether the account has a password. Absent in the response to a registration. An account without one signs in by passkey or by a code
    /// from a mail; a password reset sets one.
    has_password: Option<bool>,
    /// When the account was created.
    created_at: Time,
    /// When the password was last changed.
    password_changed_at: Time,
}

impl Example for AccountResponse {
    fn example() -> Self {
        let created_at = Time::from(Timestamp::from_millis(1_767_225_600_000)); // 1 January 2026
        Self {
            id: Uuid::from_u128(0x019b_7a63_2c00_7b1e_8c55_0d6f_3a1b_9e21),
            email: "ada@example.com".to_owned(),
            email_verified: false,
            username: Some("ada".to_owned()),
            display_name: None,
            locale: None,
            time_zone: None,
            user_metadata: None,
            app_metadata: None,
            roles: Vec::new(),
            has_password: Some(true),
            created_at,
            password_changed_at: created_at,
        }
    }
}

impl From<Account> for AccountResponse {
    /// The response of a registration. With `registration.conceal`, it must not reveal whether the account has a password (I12, no account
    /// oracle).
    fn from(account: Account) -> Self {
        Self { has_password: None, ..Self::new(account, Profile::default()) }
    }
}

impl AccountResponse {
    pub(super) fn new(account: Account, profile: Profile) -> Self {
        let non_empty = |metadata: &Metadata| {
            let members = metadata.members();
            (!members.is_empty()).then(|| JsonObject(members.clone()))
        };
        Self {
            has_password: Some(account.password_hash.is_some()),
            id: account.id.0,
            email: account.email.as_str().to_owned(),
            email_verified: account.email_verified,
            username: account.username.map(|name| name.as_str().to_owned()),
            display_name: profile.display_name,
            locale: profile.locale.map(|tag| tag.as_str().to_owned()),
            time_zone: profile.time_zone.map(|zone| zone.as_str().to_owned()),
            user_metadata: non_empty(&profile.user_metadata),
            app_metadata: non_empty(&profile.app_metadata),
            roles: account.roles.names().to_vec(),
            created_at: account.created_at.into(),
            password_changed_at: account.password_changed_at.into(),
        }
    }
}

/// Changes to the account. Fields that are absent stay as they are; an empty text removes the value.
#[derive(Object)]
#[oai(example)]
pub(in crate::http) struct UpdateAccountRequest {
    /// A second identifier to sign in with: letters, digits, `.`, `_` and `-`. Needs a recent authentication.
    #[oai(validator(max_length = 64))]
    pub(in crate::http) username: Option<String>,
    /// A name to display.
    #[oai(validator(max_length = 100))]
    pub(in crate::http) display_name: Option<String>,
    /// The language of mails: a language tag such as `pt-BR`.
    #[oai(validator(max_length = 35))]
    pub(in crate::http) locale: Option<String>,
    /// The time zone of times in mails: an IANA name such as `Europe/Berlin`. Only its form is checked. If the zone is unknown, times
    /// are in UTC.
    #[oai(validator(max_length = 64))]
    pub(in crate::http) time_zone: Option<String>,
    /// Metadata that the app writes: replaces the former object. At most 4096 bytes of JSON.
    pub(in crate::http) user_metadata: Option<JsonObject>,
}

impl Example for UpdateAccountRequest {
    fn example() -> Self {
        let mut metadata = Map::new();
        metadata.insert("theme".to_owned(), "dark".into());
        Self {
            username: None,
            display_name: Some("Ada Lovelace".to_owned()),
            locale: Some("en".to_owned()),
            time_zone: Some("Europe/London".to_owned()),
            user_metadata: Some(JsonObject(metadata)),
        }
    }
}

/// When the account will be deleted.
#[derive(Object)]
struct DeletionResponse {
    /// When the account will be deleted, unless its owner signs in before.
    deletes_at: Time,
}

#[derive(ApiResponse)]
enum MeResponse {
    /// The account.
    #[oai(status = 200)]
    Ok(Json<AccountResponse>),
}

#[derive(ApiResponse)]
enum DeletedResponse {
    /// All sessions have ended, and the account will be deleted.
    #[oai(status = 202)]
    Accepted(Json<DeletionResponse>),
}

/// The errors of reading the account.
struct MeProblems;

impl Problems for MeProblems {
    const CODES: &'static [Code] = SIGNED_IN;
}

/// The errors of changing the account.
struct UpdateProblems;

impl Problems for UpdateProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, RECENT, [Code::UsernameTaken, Code::TooManyRequests]];
}

impl From<UpdateAccountError> for ProblemError {
    fn from(error: UpdateAccountError) -> Self {
        let username_error =
            |code, field_code, detail: &str| Self::fields(code, vec![FieldError::new("username", field_code, detail)]);
        match error {
            UpdateAccountError::NoAccount => AuthenticateError::InvalidToken.into(),
            UpdateAccountError::UsernameTaken => {
                username_error(Code::UsernameTaken, FieldCode::Taken, "An account with this username exists.")
            }
            UpdateAccountError::UsernameReserved => {
                username_error(Code::InvalidFields, FieldCode::UsernameReserved, "The username is reserved.")
            }
            UpdateAccountError::Service(error) => error.into(),
        }
    }
}

/// The errors of deleting the account.
struct DeleteProblems;

impl Problems for DeleteProblems {
    const CODES: &'static [Code] = codes![RECENT, [Code::TooManyRequests]];
}

impl From<DeleteAccountError> for ProblemError {
    fn from(error: DeleteAccountError) -> Self {
        match error {
            DeleteAccountError::NoAccount => AuthenticateError::InvalidToken.into(),
            DeleteAccountError::Service(error) => error.into(),
        }
    }
}

#[OpenApi(tag = "Tag::Account")]
impl MeApi {
    /// Get the account
    ///
    /// The account of the access token.
    #[oai(path = "/v1/me", method = "get", operation_id = "me")]
    async fn me(
        &self,
        Data(state): Data<&Arc<AppState>>,
        SignedIn(caller): SignedIn,
    ) -> Result<MeResponse, Failed<MeProblems>> {
        let (account, profile) = authenticate::account_and_profile(state, &caller).await?;
        Ok(MeResponse::Ok(Json(AccountResponse::new(account, profile))))
    }

    /// Change the account
    ///
    /// Changes the profile, and the metadata that the app stores. A new username, with which the account can sign in, needs a
    /// session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me", method = "patch", operation_id = "update_me")]
    async fn update(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(caller): SignedIn,
        Body(request): Body<UpdateAccountRequest>,
    ) -> Result<MeResponse, Failed<UpdateProblems>> {
        let update = parse_update(request)?;
        let (account, profile) = update_account::update_account(state, &caller, update, origin.ip).await?;
        Ok(MeResponse::Ok(Json(AccountResponse::new(account, profile))))
    }

    /// Delete the account
    ///
    /// Ends all sessions and deletes the account after {account.deletion_grace}. A sign-in during that time cancels the
    /// deletion. Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me", method = "delete", operation_id = "delete_me")]
    async fn delete(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(caller): SignedIn,
    ) -> Result<DeletedResponse, Failed<DeleteProblems>> {
        let deletes_at = delete_account::request(state, &caller, &origin).await?;
        Ok(DeletedResponse::Accepted(Json(DeletionResponse { deletes_at: deletes_at.into() })))
    }
}

/// Checks all fields and reports all that are invalid.
pub(in crate::http) fn parse_update(request: UpdateAccountRequest) -> Result<AccountUpdate, ProblemError> {
    let mut errors = Vec::new();
    let username = parse_optional(request.username, |text| {
        Username::parse(text).map_err(|error| FieldError::new("username", FieldCode::from(&error), sentence(&error)))
    });
    let display_name = parse_optional(request.display_name, |text| {
        parse_display_name(text).map_err(|error| profile_error("display_name", error))
    });
    let locale =
        parse_optional(request.locale, |text| LanguageTag::parse(text).map_err(|error| profile_error("locale", error)));
    let time_zone = parse_optional(request.time_zone, |text| {
        TimeZoneName::parse(text).map_err(|error| profile_error("time_zone", error))
    });
    let metadata = request.user_metadata.map(|object| Metadata::new(object.0)).transpose();
    let user_metadata = metadata.map_err(|error| profile_error("user_metadata", error));
    let update = AccountUpdate {
        username: ok_or_collect(username, &mut errors),
        display_name: ok_or_collect(display_name, &mut errors),
        locale: ok_or_collect(locale, &mut errors),
        time_zone: ok_or_collect(time_zone, &mut errors),
        user_metadata: ok_or_collect(user_metadata, &mut errors),
    };
    if errors.is_empty() { Ok(update) } else { Err(ProblemError::fields(Code::InvalidFields, errors)) }
}

fn profile_error(field: &str, error: ProfileError) -> FieldError {
    FieldError::new(field, FieldCode::from(error), sentence(&error))
}

/// Parses an optional text. `None`: the field is absent, and the value stays. `Some(None)`: the text is empty, which removes the value.
fn parse_optional<T>(
    text: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, FieldError>,
) -> Result<Option<Option<T>>, FieldError> {
    match text.as_deref() {
        None => Ok(None),
        Some("") => Ok(Some(None)),
        Some(text) => parse(text).map(|value| Some(Some(value))),
    }
}

/// Returns the value of a field. If it is invalid, adds the error to `errors` and returns `None`.
fn ok_or_collect<T>(result: Result<Option<T>, FieldError>, errors: &mut Vec<FieldError>) -> Option<T> {
    result.unwrap_or_else(|error| {
        errors.push(error);
        None
    })
}
