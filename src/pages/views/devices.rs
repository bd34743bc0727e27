//! The data of the page `/account/devices`: sessions and consents of the signed-in account.

use serde::Serialize;

use super::owned;

/// A session of a device or of an app.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// The id.
    pub id: String,
    /// The device's name, or its browser and operating system.
    pub name: Option<String>,
    /// The name of the app, if the session is an app's.
    pub client: Option<String>,
    /// When the session began, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// When the session was last used, to the minute, in milliseconds since the Unix epoch.
    pub last_used_at: i64,
    /// The IP address of the last use.
    pub ip: Option<String>,
    /// Whether the page was requested in this session.
    pub is_current: bool,
    /// The URL that opens the app, if it has one.
    pub open_url: Option<String>,
}

/// The lists of the page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Devices {
    /// The sessions of browsers and devices.
    pub devices: Vec<SessionView>,
    /// The sessions of apps.
    pub apps: Vec<SessionView>,
    /// The stored consents to apps.
    pub consents: Vec<ClientConsent>,
}

impl Devices {
    /// A sample for each state of the page.
    pub(super) fn states() -> Vec<Self> {
        let unknown_device = SessionView {
            id: owned("5f0c2f0e-7d1c-4a58-9a3b-2f1f6a1e0d42"),
            name: None,
            client: None,
            created_at: 1_800_000_000_000,
            last_used_at: 1_800_000_360_000,
            ip: None,
            is_current: false,
            open_url: None,
        };
        let this_device = SessionView {
            name: Some(owned("Firefox, Linux")),
            ip: Some(owned("192.0.2.7")),
            is_current: true,
            ..unknown_device.clone()
        };
        let app_session = SessionView {
            name: Some(owned("Chrome, Android")),
            client: Some(owned("Grafana")),
            ip: Some(owned("192.0.2.7")),
            open_url: Some(owned("https://grafana.example.com/login?iss=https%3A%2F%2Fauth.example.com")),
            ..unknown_device.clone()
        };
        // without `open_url`, because `app_session` has the link to the app
        let consent = ClientConsent {
            client_id: owned("grafana"),
            name: owned("Grafana"),
            scopes: vec![owned("profile"), owned("email")],
            granted_at: 1_800_000_000_000,
            open_url: None,
        };
        let consent_without_session = ClientConsent {
            client_id: owned("cloud"),
            name: owned("Cloud"),
            open_url: Some(owned("https://cloud.example.com/start?iss=https%3A%2F%2Fauth.example.com")),
            ..consent.clone()
        };
        vec![
            Self {
                devices: vec![this_device, unknown_device],
                apps: vec![app_session],
                consents: vec![consent, consent_without_session],
            },
            Self::default(),
        ]
    }
}

/// A stored consent.
#[derive(Clone, Debug, Serialize)]
pub struct ClientConsent {
    /// The id of the client.
    pub client_id: String,
    /// The name of the client.
    pub name: String,
    /// The permitted scopes.
    pub scopes: Vec<String>,
    /// When the consent was given, in milliseconds since the Unix epoch.
    pub granted_at: i64,
    /// The URL that opens the app, if the app has one and none of its sessions is listed.
    pub open_url: Option<String>,
}
