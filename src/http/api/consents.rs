//! `GET /v1/me/consents`, `DELETE /v1/me/consents/{client_id}`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Example};

use super::Tag;
use crate::{
    domain::clock::Timestamp,
    http::{
        extract::{auth::SignedIn, client_info::ClientInfo},
        problem::{
            Code, Failed, Problems,
            groups::{SIGNED_IN, codes},
        },
        types::Time,
    },
    service::consents::{self, AuthorizedApp},
    state::AppState,
};

/// The apps that the caller's account has signed in to.
pub struct ConsentsApi;

/// An app that the account's owner has signed in to or consented to.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, rename = "AuthorizedApp")]
struct AppResponse {
    /// The app's `client_id`.
    client_id: String,
    /// The app's name.
    name: String,
    /// The scopes that the owner has allowed. Absent for an app that does not ask for consent.
    scope: Option<String>,
    /// When the owner first consented to the app. Absent for an app that does not ask for consent.
    allowed_at: Option<Time>,
    /// When the app was last used.
    last_used_at: Option<Time>,
    /// The number of the app's live sessions.
    sessions: u64,
    /// The URL that opens the app, which then starts a sign-in (OpenID Connect Core, section 4). Absent if the app has none.
    open_url: Option<String>,
}

/// The apps of an account.
#[derive(Object)]
#[oai(example)]
struct ConsentsResponse {
    /// The apps, by `client_id`.
    apps: Vec<AppResponse>,
}

impl Example for ConsentsResponse {
    fn example() -> Self {
        // 2026-01-01T00:00:00Z
        let time = Time::from(Timestamp::from_millis(1_767_225_600_000));
        Self {
            apps: vec![AppResponse {
                client_id: "grafana".to_owned(),
                name: "Grafana".to_owned(),
                scope: Some("openid profile email".to_owned()),
                allowed_at: Some(time),
                last_used_at: Some(time),
                sessions: 1,
                open_url: Some("https://grafana.example.com/login?iss=https%3A%2F%2Fauth.example.com".to_owned()),
            }],
        }
    }
}

impl From<AuthorizedApp> for AppResponse {
    fn from(app: AuthorizedApp) -> Self {
        let last_used_at = app.last_used_at().map(Time::from);
        Self {
            sessions: app.sessions.len().try_into().unwrap_or(u64::MAX),
            scope: app.consent.as_ref().map(|consent| consent.scope.to_string()),
            allowed_at: app.consent.map(|consent| consent.created_at.into()),
            last_used_at,
            client_id: app.client_id,
            name: app.name,
            open_url: app.open_url,
        }
    }
}

#[derive(ApiResponse)]
enum ListResponse {
    /// The apps.
    #[oai(status = 200)]
    Ok(Json<ConsentsResponse>),
}

#[derive(ApiResponse)]
enum WithdrawResponse {
    /// The app's sessions have ended on every node, and the app has to ask for consent again.
    #[oai(status = 204)]
    Done,
}

/// The errors of the list of apps.
struct ListProblems;

impl Problems for ListProblems {
    const CODES: &'static [Code] = codes![SIGNED_IN, [Code::InsufficientScope]];
}

/// The errors of a withdrawal.
struct WithdrawProblems;

impl Problems for WithdrawProblems {
    const CODES: &'static [Code] = codes![SIGNED_IN, [Code::InsufficientScope, Code::UnknownApp]];
}

#[OpenApi(tag = "Tag::Account")]
impl ConsentsApi {
    /// List apps
    ///
    /// Lists the apps that the account has signed in to, and the scopes that its owner has allowed them.
    #[oai(path = "/v1/me/consents", method = "get", operation_id = "list_consents")]
    async fn list(
        &self,
        Data(state): Data<&Arc<AppState>>,
        SignedIn(caller): SignedIn,
    ) -> Result<ListResponse, Failed<ListProblems>> {
        let apps = consents::apps(state, &caller).await?;
        let apps = apps.into_iter().map(AppResponse::from).collect();
        Ok(ListResponse::Ok(Json(ConsentsResponse { apps })))
    }

    /// Remove an app
    ///
    /// Withdraws the consent of the account's owner to an app, and ends all sessions of the app, those with `offline_access`
    /// included. An app that asks for consent has to ask again.
    #[oai(path = "/v1/me/consents/:client_id", method = "delete", operation_id = "withdraw_consent")]
    async fn withdraw(
        &self,
        Data(state): Data<&Arc<AppState>>,
        caller_info: ClientInfo,
        SignedIn(caller): SignedIn,
        /// The app's `client_id`, percent-encoded if it is a URL.
        Path(client_id): Path<String>,
    ) -> Result<WithdrawResponse, Failed<WithdrawProblems>> {
        let found = match consents::stored_client_id(&client_id) {
            Some(id) => consents::revoke(state, &caller, &id, caller_info.ip).await?,
            // no client can have this id
            None => false,
        };
        if found {
            Ok(WithdrawResponse::Done)
        } else {
            Err(Failed::new(Code::UnknownApp, "The account has neither signed in to this app nor allowed it anything."))
        }
    }
}
