//! `POST /v1/me/email`, `GET /v1/me/emails`, `POST /v1/me/emails`, `DELETE /v1/me/emails/{id}`,
//! `POST /v1/me/emails/{id}/primary`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Example};
use uuid::Uuid;

use super::{Tag, login::TokensResponse};
use crate::{
    domain::{account::Email, clock::Timestamp, ids::EmailId, session::AcceptedTransport},
    http::{
        extract::{auth::SignedIn, cookie_refusal::CookieRefusal, json::Body},
        problem::{
            Code, Failed, FieldError, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, RECENT, SIGNED_IN, codes},
            sentence,
        },
        raw_json::RawJson,
        types::Time,
    },
    service::{
        authenticate::AuthenticateError,
        change_email,
        emails::{self, AccountEmail, ChangeEmailsError},
        factors::change::Caller,
        recent_authentication::require_recent,
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// The e-mail addresses of the caller's account.
pub struct EmailsApi;

/// A new e-mail address.
#[derive(Object)]
#[oai(example)]
struct ChangeEmailRequest {
    /// The new address.
    #[oai(validator(min_length = 1, max_length = 254))]
    email: String,
}

impl Example for ChangeEmailRequest {
    fn example() -> Self {
        Self { email: "ada@example.org".to_owned() }
    }
}

/// An address to add.
#[derive(Object)]
#[oai(example)]
struct AddEmailRequest {
    /// The address.
    #[oai(validator(min_length = 1, max_length = 254))]
    email: String,
}

impl Example for AddEmailRequest {
    fn example() -> Self {
        Self { email: "ada@work.example".to_owned() }
    }
}

/// An e-mail address of an account.
#[derive(Object)]
#[oai(example)]
struct EmailResponse {
    /// The address's id. The primary address has the account's id.
    id: Uuid,
    /// The address, as it was entered.
    email: String,
    /// Whether it is the primary address, to which notices go.
    primary: bool,
    /// Whether it is verified. The account can be found by a verified address; an unverified secondary address has no effect.
    verified: bool,
    /// When it was added; for the primary address, when the account was created.
    created_at: Time,
}

impl Example for EmailResponse {
    fn example() -> Self {
        Self {
            id: Uuid::from_u128(0x019b_7a63_2c00_7b1e_8c55_0d6f_3a1b_9e22),
            email: "ada@work.example".to_owned(),
            primary: false,
            verified: false,
            created_at: Timestamp::from_millis(1_767_225_600_000).into(), // 2026-01-01
        }
    }
}

impl From<AccountEmail> for EmailResponse {
    fn from(email: AccountEmail) -> Self {
        Self {
            id: email.id.0,
            email: email.email.as_str().to_owned(),
            primary: email.is_primary,
            verified: email.is_verified,
            created_at: email.created_at.into(),
        }
    }
}

/// The addresses of the account.
#[derive(Object)]
struct EmailsResponse {
    /// The primary address, if the account has one, then the secondary ones, oldest first.
    emails: Vec<EmailResponse>,
}

#[derive(ApiResponse)]
enum ChangeEmailResponse {
    /// A link and a code were sent to the new address. The address changes when one of them is used.
    #[oai(status = 202)]
    Accepted,
}

#[derive(ApiResponse)]
enum ListedResponse {
    /// The addresses.
    #[oai(status = 200)]
    Ok(Json<EmailsResponse>),
}

#[derive(ApiResponse)]
enum AddedResponse {
    /// A link and a code were sent to the address. The address is verified once one of them is used.
    #[oai(status = 202)]
    Accepted(Json<EmailResponse>),
}

#[derive(ApiResponse)]
enum RemovedResponse {
    /// A verified address is removed. All sessions have ended. The tokens are those of a new session, which takes the place of
    /// the caller's session.
    #[oai(status = 200)]
    Replaced(
        RawJson<TokensResponse>,
        /// The new refresh cookie, for a cookie session.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
    /// An unverified address is removed. The sessions continue.
    #[oai(status = 204)]
    Unverified,
}

#[derive(ApiResponse)]
enum PrimaryResponse {
    /// The address is the primary one. All sessions have ended. The tokens are those of a new session, which takes the place of
    /// the caller's session.
    #[oai(status = 200)]
    Replaced(
        RawJson<TokensResponse>,
        /// The new refresh cookie, for a cookie session.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// The errors of listing the addresses.
struct ListProblems;

impl Problems for ListProblems {
    const CODES: &'static [Code] = SIGNED_IN;
}

/// The errors of a change of address.
struct ChangeEmailProblems;

impl Problems for ChangeEmailProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, RECENT, [Code::TooManyRequests]];
}

impl From<change_email::RequestError> for ProblemError {
    fn from(error: change_email::RequestError) -> Self {
        match error {
            change_email::RequestError::NoAccount => AuthenticateError::InvalidToken.into(),
            change_email::RequestError::Service(error) => error.into(),
        }
    }
}

/// The errors of adding an address.
struct AddProblems;

impl Problems for AddProblems {
    const CODES: &'static [Code] =
        codes![JSON_BODY, RECENT, [Code::EmailExists, Code::TooManyEmails, Code::TooManyRequests]];
}

/// The errors of removing an address, and of making an address the primary address.
struct RemoveOrPromoteProblems;

impl Problems for RemoveOrPromoteProblems {
    const CODES: &'static [Code] = codes![
        RECENT,
        COOKIE,
        [
            Code::MalformedRequest,
            Code::EmailNotVerified,
            Code::UnknownEmail,
            Code::EmailTaken,
            Code::PrimaryEmail,
            Code::TooManyRequests
        ]
    ];
}

impl From<ChangeEmailsError> for ProblemError {
    fn from(error: ChangeEmailsError) -> Self {
        match error {
            ChangeEmailsError::NoAccount | ChangeEmailsError::SessionEnded => AuthenticateError::InvalidToken.into(),
            ChangeEmailsError::CookieNotAccepted => ProblemError::cookie_not_accepted(),
            ChangeEmailsError::Unknown => Self::new(Code::UnknownEmail, "The account has no such e-mail address."),
            ChangeEmailsError::Exists => Self::new(Code::EmailExists, "The account has this e-mail address already."),
            ChangeEmailsError::TooMany => Self::new(
                Code::TooManyEmails,
                "The account has the maximum number of e-mail addresses. Remove one first.",
            ),
            ChangeEmailsError::IsPrimary => Self::new(
                Code::PrimaryEmail,
                "This is the primary address. Make another address the primary one first.",
            ),
            ChangeEmailsError::NotVerified => {
                Self::new(Code::EmailNotVerified, "Verify the address first: POST /v1/email/verify.")
            }
            ChangeEmailsError::Taken => Self::new(Code::EmailTaken, "Another account has this e-mail address."),
            ChangeEmailsError::Service(error) => error.into(),
        }
    }
}

/// Parses the e-mail address that was entered in a field. An error names the field.
pub(in crate::http) fn parse_email(field: &'static str, text: &str) -> Result<Email, ProblemError> {
    Email::parse(text).map_err(|error| {
        let field_error = FieldError::new(field, (&error).into(), sentence(&error));
        ProblemError::fields(Code::InvalidFields, vec![field_error])
    })
}

#[OpenApi(tag = "Tag::Account")]
impl EmailsApi {
    /// Change the primary e-mail address
    ///
    /// Sends a link and a code to the new address; `POST /v1/email/verify` with one of them changes the address. If
    /// the former address was verified, it gets a link that works for {account.undo_window} and undoes the change. The response does
    /// not reveal whether another account has the address. Needs a session that was authenticated within the last
    /// {session.recent}.
    #[oai(path = "/v1/me/email", method = "post", operation_id = "change_email")]
    async fn change_email(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(caller): SignedIn,
        Body(request): Body<ChangeEmailRequest>,
    ) -> Result<ChangeEmailResponse, Failed<ChangeEmailProblems>> {
        let email = parse_email("email", &request.email)?;
        // the use cases of secondary addresses check this themselves
        require_recent(state, &caller).await?;
        change_email::request(state, &caller, &email, &origin).await?;
        Ok(ChangeEmailResponse::Accepted)
    }

    /// List the e-mail addresses
    ///
    /// The primary address and the secondary ones.
    #[oai(path = "/v1/me/emails", method = "get", operation_id = "list_emails")]
    async fn list(
        &self,
        Data(state): Data<&Arc<AppState>>,
        SignedIn(caller): SignedIn,
    ) -> Result<ListedResponse, Failed<ListProblems>> {
        let listed = emails::list(state, &caller).await?;
        let emails = listed.into_iter().map(EmailResponse::from).collect();
        Ok(ListedResponse::Ok(Json(EmailsResponse { emails })))
    }

    /// Add an e-mail address
    ///
    /// Sends a link and a code to the address; `POST /v1/email/verify` with one of them verifies the address. The account can then be
    /// found by the address: to sign in, and to reset the password. An unverified address has no effect. A repeated call for an
    /// unverified address sends the mail again. The response does not reveal whether another account has the address. An account may
    /// have {account.max_emails} addresses. Needs a session that was authenticated within the last {session.recent}.
    #[oai(path = "/v1/me/emails", method = "post", operation_id = "add_email")]
    async fn add(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        SignedIn(caller): SignedIn,
        Body(request): Body<AddEmailRequest>,
    ) -> Result<AddedResponse, Failed<AddProblems>> {
        let email = parse_email("email", &request.email)?;
        // the call starts no session, so the response sets no cookie that could be refused
        let caller = Caller { claims: &caller, origin: &origin, accepted: AcceptedTransport::Any };
        let added = emails::add::request(state, &caller, &email).await?;
        Ok(AddedResponse::Accepted(Json(added.into())))
    }

    /// Remove an e-mail address
    ///
    /// Removes a secondary address. If it was verified, the primary and the removed address get a mail, all sessions of the account
    /// end, and a new one takes the place of the calling session. Needs a session that was authenticated within the last
    /// {session.recent}.
    #[oai(path = "/v1/me/emails/:id", method = "delete", operation_id = "remove_email")]
    async fn remove(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(caller): SignedIn,
        /// The address's id.
        Path(id): Path<Uuid>,
    ) -> Result<RemovedResponse, Failed<RemoveOrPromoteProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let removed = emails::change::remove(state, &caller, EmailId(id)).await;
        let new_tokens = removed.map_err(|error| cookie_refusal.with_reason(error))?;
        Ok(match new_tokens {
            Some(tokens) => {
                let (body, cookie) = TokensResponse::with_cookie(tokens);
                RemovedResponse::Replaced(body, cookie)
            }
            None => RemovedResponse::Unverified,
        })
    }

    /// Make an e-mail address the primary one
    ///
    /// Makes a verified secondary address the primary one, and the former primary address a secondary one. If the former address
    /// was verified, it gets a link that works for {account.undo_window} and undoes the change. All sessions of the account end,
    /// and a new one takes the place of the calling session. Needs a session that was authenticated within the last
    /// {session.recent}.
    #[oai(path = "/v1/me/emails/:id/primary", method = "post", operation_id = "make_email_primary")]
    async fn make_primary(
        &self,
        Data(state): Data<&Arc<AppState>>,
        origin: RequestOrigin,
        cookie_refusal: CookieRefusal,
        SignedIn(caller): SignedIn,
        /// The address's id.
        Path(id): Path<Uuid>,
    ) -> Result<PrimaryResponse, Failed<RemoveOrPromoteProblems>> {
        let caller = Caller { claims: &caller, origin: &origin, accepted: cookie_refusal.accepted_transport() };
        let changed = emails::change::make_primary(state, &caller, EmailId(id)).await;
        let new_tokens = changed.map_err(|error| cookie_refusal.with_reason(error))?;
        let (body, cookie) = TokensResponse::with_cookie(new_tokens);
        Ok(PrimaryResponse::Replaced(body, cookie))
    }
}
