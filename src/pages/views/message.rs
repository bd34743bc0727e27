//! The page that shows a message, such as an error or the end of a sign-out.

use serde::Serialize;

use super::owned;

/// A client that the user has not allowed. The browser is not redirected to it, but the user may follow a link.
#[derive(Clone, Debug, Serialize)]
pub struct ClientLink {
    /// The host of the client's redirect URI.
    pub host: String,
    /// The link: the redirect URI with the response. None if the client expects the response as a form, which a link cannot send.
    pub url: Option<String>,
}

/// A message with at most one action.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// One of [`Self::KINDS`]: the section of the message's texts.
    pub kind: String,
    /// The code of an error, which the user can tell to support.
    pub code: Option<String>,
    /// The id of the request, by which support finds it in the service's log.
    pub request_id: Option<String>,
    /// A reason for developers, in English.
    pub detail: Option<String>,
    /// The client to which the user may continue.
    pub client: Option<ClientLink>,
    /// The page to which the action leads, below `/account`: `sign-in`, or empty for the account. None if there is no action.
    pub action: Option<String>,
    /// Whether the action loads the current page again. `action` then has no effect.
    pub can_retry: bool,
    /// A time that the message names, in milliseconds since the Unix epoch.
    pub at: Option<i64>,
}

impl Message {
    /// The kinds of messages.
    pub const KINDS: [&'static str; 10] = [
        "signed_out",
        "address_verified",
        "address_changed",
        "address_undone",
        "secured",
        "password_reset",
        "deletion_scheduled",
        "error",
        "sign_in_failed",
        "sign_out_failed",
    ];

    /// A message whose action leads to the page `action` ([`Self::action`]).
    pub fn new(kind: &str, action: &str) -> Self {
        Self {
            kind: owned(kind),
            code: None,
            request_id: None,
            detail: None,
            client: None,
            action: Some(owned(action)),
            can_retry: false,
            at: None,
        }
    }

    /// A message without an action.
    pub fn without_action(kind: &str) -> Self {
        Self { action: None, ..Self::new(kind, "") }
    }

    /// A sample of every kind of message, with and without the optional parts.
    pub(super) fn states() -> Vec<Self> {
        let mut states: Vec<_> = Self::KINDS.iter().map(|kind| Self::new(kind, "sign-in")).collect();
        for state in &mut states {
            state.at = Some(1_800_000_000_000);
            if state.kind.ends_with("_failed") {
                state.action = None;
                state.detail = Some(owned("the request names no client of this service"));
            }
        }
        for url in [None, Some(owned("https://app.example.com/callback?error=invalid_scope"))] {
            let client = Some(ClientLink { host: owned("app.example.com"), url });
            states.push(Self { client, ..Self::without_action("sign_in_failed") });
        }
        // `other` is the text of codes that have none of their own
        for code in ["not_found", "other", "form_expired"] {
            let error = Self::without_action("error");
            states.push(Self { code: Some(owned(code)), request_id: Some(owned("01J")), ..error });
        }
        states.push(Self { code: Some(owned("unavailable")), can_retry: true, ..Self::new("error", "") });
        states
    }
}
