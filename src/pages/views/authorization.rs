//! Pages of authorization requests, and the page of a sign-out that an app requests. The function `states` of a view returns its samples,
//! with which start-up and the tests render the page.

use serde::Serialize;

use super::owned;

/// The client that a user signs in to.
#[derive(Clone, Debug, Serialize)]
pub struct ClientView {
    /// The name of the client.
    pub name: String,
    /// The host of the client's redirect URI, which tells clients with the same name apart.
    pub host: String,
}

impl ClientView {
    pub(super) fn sample() -> Self {
        Self { name: owned("Grafana"), host: owned("grafana.example.com") }
    }
}

/// A scope that a client requests.
#[derive(Clone, Debug, Serialize)]
pub struct ScopeView {
    /// The scope.
    pub name: String,
    /// Whether the texts of pages explain the scope. If not, the page shows the scope's name.
    pub is_known: bool,
}

impl ScopeView {
    /// The scopes that the texts of pages explain.
    pub const KNOWN: [&'static str; 4] = ["openid", "profile", "email", "offline_access"];

    /// A scope by its name.
    pub fn new(name: &str) -> Self {
        Self { name: owned(name), is_known: Self::KNOWN.contains(&name) }
    }
}

/// A client that requests access to the account.
#[derive(Clone, Debug, Serialize)]
pub struct Consent {
    /// The client.
    pub client: ClientView,
    /// The scopes that the client requests.
    pub scopes: Vec<ScopeView>,
    /// Whether an operator registered the client; if not, it is unverified.
    pub is_registered: bool,
    /// The host of an unverified client's metadata document; `None` if the client has no such document.
    pub publisher: Option<String>,
    /// Whether the response goes to a program on the user's device, where other programs can pose as the client.
    pub is_on_device: bool,
    /// The services that the client's tokens would be for (RFC 8707).
    pub resources: Vec<String>,
}

impl Consent {
    pub(super) fn states() -> Vec<Self> {
        // All known scopes, and one that the texts do not explain.
        let scopes = ["openid", "profile", "email", "offline_access", "invoices:read"];
        let registered = Self {
            client: ClientView::sample(),
            scopes: scopes.iter().map(|scope| ScopeView::new(scope)).collect(),
            is_registered: true,
            publisher: None,
            is_on_device: false,
            resources: vec![owned("https://invoices.example.com")],
        };
        let unverified = Self { is_registered: false, ..registered.clone() };
        let on_device = Self {
            client: ClientView { name: owned("An App"), host: owned("127.0.0.1") },
            publisher: Some(owned("app.example.com")),
            is_on_device: true,
            ..unverified.clone()
        };
        vec![unverified, on_device, registered]
    }
}

/// The choice between the signed-in account and another account.
#[derive(Clone, Debug, Serialize)]
pub struct SelectAccount {
    /// The client that the user signs in to, if it is known.
    pub client: Option<ClientView>,
    /// The address or name of the signed-in account.
    pub current: String,
}

impl SelectAccount {
    pub(super) fn states() -> Vec<Self> {
        vec![Self { client: Some(ClientView::sample()), current: owned("ann@example.com") }]
    }
}

/// A hidden field of a form.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl Field {
    /// A field.
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: owned(name), value: owned(value) }
    }
}

/// The form with which the browser posts the authorization response to the client (OAuth 2.0 Form Post Response Mode).
#[derive(Clone, Debug, Serialize)]
pub struct FormPost {
    /// The client's redirect URI, to which the form is posted.
    pub action: String,
    /// The parameters of the response.
    pub fields: Vec<Field>,
}

impl FormPost {
    pub(super) fn states() -> Vec<Self> {
        let fields = vec![Field::new("code", "lk_ac_EXAMPLE"), Field::new("state", "s")];
        vec![Self { action: owned("https://grafana.example.com/login"), fields }]
    }
}

/// Asks whether to sign out, after an app has sent the browser to the sign-out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignOut {
    /// The parameters of the app's request, which the form sends again.
    pub fields: Vec<Field>,
    /// The name of the app, if the request names a known one.
    pub client: Option<String>,
}

impl SignOut {
    pub(super) fn states() -> Vec<Self> {
        let requested_by_known_app =
            Self { fields: vec![Field::new("client_id", "grafana")], client: Some(owned("Grafana")) };
        let requested_by_unknown_app = Self::default();
        vec![requested_by_known_app, requested_by_unknown_app]
    }
}
