//! The content of each page: the typed context of its template, and samples of its states.

use serde::Serialize;

use super::render::{Frame, Pages, PagesError, render_view};

/// The content of a page.
pub trait View: Serialize + Sized {
    /// The template.
    const TEMPLATE: &'static str;
    /// The fields of its forms, whose errors are shown beside them.
    const FIELDS: &'static [&'static str] = &[];

    /// The states of the page.
    fn samples() -> Vec<Self>;
}

/// Declares the views, and the check that renders the samples of all of them.
macro_rules! views {
    ($($name:ident = $template:literal [$($field:literal),*];)*) => {
        $(impl View for $name {
            const TEMPLATE: &'static str = $template;
            const FIELDS: &'static [&'static str] = &[$($field),*];

            fn samples() -> Vec<Self> {
                Self::states()
            }
        })*

        /// Renders the samples of all pages: the name of each, such as `sign_in-2`, and its HTML. With `is_failed`, each form
        /// reports errors.
        ///
        /// # Errors
        /// [`PagesError`]
        pub fn render_samples(pages: &Pages, frame: &Frame, is_failed: bool) -> Result<Vec<(String, String)>, PagesError> {
            let mut rendered = Vec::new();
            $(render_view::<$name>(pages, frame, is_failed, &mut rendered)?;)*
            Ok(rendered)
        }

        /// The templates of all pages.
        pub const TEMPLATES: &[&str] = &[$($template),*];
    };
}

views! {
    SignIn = "sign_in.html" ["identifier", "password"];
    SignInCode = "sign_in_code.html" ["email", "code"];
    SecondFactor = "second_factor.html" ["code"];
    Enrol = "enrol.html" ["name"];
    Register = "register.html" ["email", "username", "password"];
    VerifyAddress = "verify_address.html" ["email", "code", "token", "password", "new_password"];
    ForgotPassword = "forgot_password.html" ["identifier"];
    ResetPassword = "reset_password.html" ["identifier", "code", "token", "new_password"];
    Link = "link.html" ["token"];
    Message = "message.html" [];
    Profile = "profile.html" ["username", "display_name", "locale", "time_zone"];
    Address = "address.html" ["email", "secondary"];
    Password = "password.html" ["current_password", "new_password"];
    Security = "security.html" ["name"];
    Totp = "totp.html" ["code"];
    RecoveryCodes = "recovery_codes.html" [];
    Devices = "devices.html" [];
    Data = "data.html" [];
    Reauthenticate = "reauthenticate.html" ["password", "code"];
    Consent = "consent.html" [];
    SelectAccount = "select_account.html" [];
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// The client that a user signs in to.
#[derive(Clone, Debug, Serialize)]
pub struct ClientView {
    /// The name of the client.
    pub name: String,
    /// The host of its redirect URI, which tells clients of one name apart.
    pub host: String,
}

impl ClientView {
    fn sample() -> Self {
        Self { name: text("Grafana"), host: text("grafana.example.com") }
    }
}

/// Sign-in with a password, a passkey or a mail.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignIn {
    /// The typed address or username.
    pub identifier: String,
    /// Whether anyone can register.
    pub can_register: bool,
    /// Whether a code by mail signs in.
    pub email_code: bool,
    /// Whether passkeys sign in.
    pub passkeys: bool,
    /// The client that the user signs in to.
    pub client: Option<ClientView>,
}

impl SignIn {
    fn states() -> Vec<Self> {
        let all = Self {
            identifier: text("ann@example.com"),
            can_register: true,
            email_code: true,
            passkeys: true,
            client: Some(ClientView::sample()),
        };
        vec![Self { client: None, ..all.clone() }, all, Self::default()]
    }
}

/// Sign-in with a code or a link from a mail: ask for it, or enter it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignInCode {
    /// Whether the mail was sent.
    pub is_sent: bool,
    /// The address.
    pub email: String,
}

impl SignInCode {
    fn states() -> Vec<Self> {
        vec![Self::default(), Self { is_sent: true, email: text("ann@example.com") }]
    }
}

/// A second factor.
#[derive(Clone, Debug, Serialize)]
pub struct SecondFactor {
    /// The method of the form: `totp`, `passkey`, `recovery_code` or `email_code`.
    pub method: String,
    /// The methods that the account has besides it.
    pub others: Vec<String>,
    /// With `passkey`: the options of the ceremony as JSON.
    pub passkey_options: Option<String>,
    /// Whether the device can be remembered.
    pub can_remember: bool,
}

impl SecondFactor {
    fn states() -> Vec<Self> {
        let methods = ["totp", "passkey", "recovery_code", "email_code"];
        let state = |method: &str| Self {
            method: text(method),
            others: methods.iter().filter(|other| **other != method).map(|other| text(other)).collect(),
            passkey_options: (method == "passkey").then(|| text("{}")),
            can_remember: true,
        };
        let mut states: Vec<_> = methods.iter().map(|method| state(method)).collect();
        states.push(Self { others: Vec::new(), can_remember: false, ..state("totp") });
        states
    }
}

/// The second factor that a sign-in waits for: the choice of one, or a form that creates a passkey.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Enrol {
    /// The options of the registration of a passkey as JSON; none for the choice.
    pub passkey_options: Option<String>,
    /// The typed name of the passkey.
    pub name: String,
}

impl Enrol {
    fn states() -> Vec<Self> {
        vec![Self::default(), Self { passkey_options: Some(text("{}")), name: text("My phone") }]
    }
}

/// Registration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Register {
    /// The typed address.
    pub email: String,
    /// The typed username.
    pub username: String,
    /// Whether a username can be chosen now.
    pub with_username: bool,
}

impl Register {
    fn states() -> Vec<Self> {
        vec![Self::default(), Self { email: text("ann@example.com"), username: text("ann"), with_username: true }]
    }
}

/// Verification of an address, and confirmation of a new one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyAddress {
    /// Whether it is a new address of an account.
    pub is_change: bool,
    /// Whether a mail was sent just now.
    pub is_sent: bool,
    /// The address.
    pub email: String,
    /// The link or its token, as it was submitted.
    pub token: String,
    /// The proof that the user set up the account: `password`, `new_password`, or `none` for a signed-in user.
    pub proof: String,
}

impl VerifyAddress {
    fn states() -> Vec<Self> {
        let state = |proof: &str| Self { email: text("ann@example.com"), proof: text(proof), ..Self::default() };
        vec![
            state("password"),
            Self { is_sent: true, ..state("password") },
            state("new_password"),
            Self { is_change: true, ..state("password") },
            Self { is_change: true, token: text("lk_ot_EXAMPLE"), ..state("none") },
        ]
    }
}

/// A forgotten password.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ForgotPassword {
    /// The typed address or username.
    pub identifier: String,
}

impl ForgotPassword {
    fn states() -> Vec<Self> {
        vec![Self::default()]
    }
}

/// A new password, after a forgotten one or an invitation.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResetPassword {
    /// Whether it is the first password of an invited account.
    pub is_invitation: bool,
    /// Whether a mail was sent just now.
    pub is_sent: bool,
    /// The address or username.
    pub identifier: String,
    /// The link or its token, as it was submitted.
    pub token: String,
}

impl ResetPassword {
    fn states() -> Vec<Self> {
        vec![
            Self::default(),
            Self { is_sent: true, identifier: text("ann"), ..Self::default() },
            Self { is_invitation: true, token: text("lk_ot_EXAMPLE"), ..Self::default() },
        ]
    }
}

/// The link of a notice, which a button uses.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// The page: `undo_address` or `not_me`.
    pub kind: String,
    /// The link or its token, as it was submitted.
    pub token: String,
}

impl Link {
    fn states() -> Vec<Self> {
        ["undo_address", "not_me"].iter().map(|kind| Self { kind: text(kind), token: String::new() }).collect()
    }
}

/// A message with at most one action.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// The section of its texts: `signed_out`, `error`, …
    pub kind: String,
    /// The code of an error, which its owner's support may ask for.
    pub code: Option<String>,
    /// The id of the request, in the service's log.
    pub request_id: Option<String>,
    /// The page of its action, below the path of pages: `sign-in`, or empty for the account. None: no action.
    pub action: Option<String>,
    /// A time that the message names, in milliseconds since the Unix epoch.
    pub at: Option<i64>,
}

impl Message {
    /// The kinds of messages.
    pub const KINDS: [&'static str; 8] = [
        "signed_out",
        "address_verified",
        "address_changed",
        "address_undone",
        "secured",
        "password_reset",
        "deletion_scheduled",
        "error",
    ];

    /// A message with an action.
    pub fn new(kind: &str, action: &str) -> Self {
        Self { kind: text(kind), code: None, request_id: None, action: Some(text(action)), at: None }
    }

    fn states() -> Vec<Self> {
        let mut states: Vec<_> = Self::KINDS.iter().map(|kind| Self::new(kind, "sign-in")).collect();
        for state in &mut states {
            state.at = Some(1_800_000_000_000);
        }
        for code in ["not_found", "other", "form_expired"] {
            let error = Self::new("error", "");
            states.push(Self { code: Some(text(code)), request_id: Some(text("01J")), action: None, ..error });
        }
        states
    }
}

/// The profile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Profile {
    /// The address.
    pub email: String,
    /// Whether it is verified.
    pub email_verified: bool,
    /// The username.
    pub username: String,
    /// The name for people.
    pub display_name: String,
    /// The language of mails and pages.
    pub locale_tag: String,
    /// The time zone.
    pub zone: String,
    /// The names of time zones to choose from.
    pub zones: Vec<String>,
}

impl Profile {
    fn states() -> Vec<Self> {
        vec![
            Self {
                email: text("ann@example.com"),
                email_verified: true,
                username: text("ann"),
                display_name: text("Ann Example"),
                locale_tag: text("en"),
                zone: text("Europe/Berlin"),
                zones: vec![text("Europe/Berlin"), text("UTC")],
            },
            Self { email: text("ann@example.com"), ..Self::default() },
        ]
    }
}

/// A secondary address.
#[derive(Clone, Debug, Serialize)]
pub struct SecondaryAddress {
    /// The id.
    pub id: String,
    /// The address.
    pub email: String,
    /// Whether it is verified.
    pub is_verified: bool,
}

/// The e-mail addresses of the account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Address {
    /// The primary address.
    pub current: String,
    /// Whether it is verified.
    pub email_verified: bool,
    /// The typed new address.
    pub email: String,
    /// The address that waits for its confirmation.
    pub pending: Option<String>,
    /// The secondary addresses.
    pub addresses: Vec<SecondaryAddress>,
    /// Whether the account may have another one.
    pub can_add: bool,
    /// The typed secondary address.
    pub secondary: String,
}

impl Address {
    fn states() -> Vec<Self> {
        let state = Self { current: text("ann@example.com"), email_verified: true, can_add: true, ..Self::default() };
        let other =
            |email: &str, is_verified| SecondaryAddress { id: text("019b7a63"), email: text(email), is_verified };
        let addresses = vec![other("ann@work.example", true), other("ann@school.example", false)];
        vec![
            state.clone(),
            Self { email_verified: false, ..state.clone() },
            Self { addresses, can_add: false, ..state.clone() },
            Self { pending: Some(text("ann@example.org")), ..state },
        ]
    }
}

/// A new password of the signed-in account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Password {
    /// The address, for password managers.
    pub email: String,
}

impl Password {
    fn states() -> Vec<Self> {
        vec![Self { email: text("ann@example.com") }]
    }
}

/// A passkey.
#[derive(Clone, Debug, Serialize)]
pub struct PasskeyView {
    /// The id of the factor.
    pub id: String,
    /// The name that the owner gave to the factor.
    pub name: String,
    /// When it was added, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// When it was last used.
    pub last_used_at: Option<i64>,
    /// Whether it is synchronized between devices.
    pub is_synced: bool,
}

/// An authenticator app.
#[derive(Clone, Debug, Serialize)]
pub struct TotpFactorView {
    /// The id of the factor.
    pub id: String,
    /// The name that the owner gave to the factor.
    pub name: String,
    /// When it was set up, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// When it was last used.
    pub last_used_at: Option<i64>,
}

/// The factors of the account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Security {
    /// Whether the account has a password.
    pub has_password: bool,
    /// When the password was changed last.
    pub password_changed_at: Option<i64>,
    /// The authenticator apps.
    pub totps: Vec<TotpFactorView>,
    /// How many recovery codes are left.
    pub recovery_codes: u32,
    /// Whether there is a factor that recovery codes could replace.
    pub has_factor: bool,
    /// The passkeys.
    pub passkeys: Vec<PasskeyView>,
    /// Whether passkeys can be added.
    pub with_passkeys: bool,
    /// Whether an authenticator app and recovery codes can be set up.
    pub with_factors: bool,
    /// The options of a new passkey, as JSON; none until the user requests one.
    pub passkey_options: Option<String>,
    /// Whether an account of these roles needs a second factor.
    pub is_required: bool,
    /// Whether codes by mail can be switched on.
    pub with_email_code: bool,
    /// Whether codes by mail are on.
    pub has_email_code: bool,
    /// Whether the address is verified, which codes by mail need.
    pub email_verified: bool,
    /// The remembered devices, the newest first.
    pub devices: Vec<RememberedDeviceView>,
}

/// A device that may skip the second factor.
#[derive(Clone, Debug, Serialize)]
pub struct RememberedDeviceView {
    /// The id.
    pub id: String,
    /// The name of the device, or of its browser and system.
    pub name: Option<String>,
    /// When the device last signed in without the second factor, or was remembered.
    pub last_used_at: i64,
    /// When the device has to show a second factor again.
    pub expires_at: i64,
    /// Whether it is this device.
    pub is_current: bool,
}

impl Security {
    fn states() -> Vec<Self> {
        let passkey = |id: &str, last_used_at| PasskeyView {
            id: text(id),
            name: text("Ann's phone"),
            created_at: 1_800_000_000_000,
            last_used_at,
            is_synced: last_used_at.is_some(),
        };
        let full = Self {
            has_password: true,
            password_changed_at: Some(1_800_000_000_000),
            totps: vec![TotpFactorView {
                id: text("1"),
                name: text("Authenticator app"),
                created_at: 1_800_000_000_000,
                last_used_at: Some(1_800_000_000_000),
            }],
            recovery_codes: 8,
            has_factor: true,
            passkeys: vec![passkey("1", Some(1_800_000_000_000)), passkey("2", None)],
            with_passkeys: true,
            with_factors: true,
            passkey_options: None,
            is_required: true,
            with_email_code: true,
            has_email_code: true,
            email_verified: true,
            devices: [true, false]
                .map(|is_current| RememberedDeviceView {
                    id: text("1"),
                    name: is_current.then(|| text("Firefox, Linux")),
                    last_used_at: 1_800_000_000_000,
                    expires_at: 1_802_592_000_000,
                    is_current,
                })
                .into(),
        };
        vec![
            Self { recovery_codes: 1, has_email_code: false, ..full.clone() },
            Self { with_email_code: true, has_password: true, ..Self::default() },
            Self { passkey_options: Some(text("{}")), ..full },
            Self { with_passkeys: true, with_factors: true, ..Self::default() },
            Self::default(),
        ]
    }
}

/// The enrolment of an authenticator app.
#[derive(Clone, Debug, Serialize)]
pub struct Totp {
    /// The secret, in groups of four characters.
    pub secret: String,
    /// The `otpauth:` URI, for a device with the app on it.
    pub uri: String,
    /// The QR code: an SVG element.
    pub qr_code: String,
    /// The `otpauth:` URI again, for the page after a wrong code.
    pub state: String,
    /// Whether the sign-in waits for it.
    pub is_enrolment: bool,
    /// Whether the user can choose another factor instead.
    pub has_others: bool,
}

impl Totp {
    fn states() -> Vec<Self> {
        let uri = "otpauth://totp/Example:ann@example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Example";
        let state = Self {
            secret: text("JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP"),
            uri: text(uri),
            qr_code: super::qr_code(uri).unwrap_or_default(),
            state: text("state"),
            is_enrolment: false,
            has_others: false,
        };
        let required = Self { is_enrolment: true, ..state.clone() };
        vec![Self { has_others: true, ..required.clone() }, required, state]
    }
}

/// New recovery codes, which are shown once.
#[derive(Clone, Debug, Serialize)]
pub struct RecoveryCodes {
    /// The codes.
    pub codes: Vec<String>,
    /// The location of the next page.
    pub next: String,
}

impl RecoveryCodes {
    fn states() -> Vec<Self> {
        let codes = (0..10).map(|n| format!("K7QF-{n}XWM-R2{n}P")).collect();
        vec![Self { codes, next: text("/account/security") }]
    }
}

/// A session or a remembered device.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// The id.
    pub id: String,
    /// The name: the device's own, or browser and system.
    pub name: Option<String>,
    /// The client, if an app signed in.
    pub client: Option<String>,
    /// When it began, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// When it was last used, to the minute.
    pub last_used_at: i64,
    /// The address of the last use.
    pub ip: Option<String>,
    /// Whether this is the session of the page.
    pub is_current: bool,
    /// The address that opens the app, if it has one.
    pub open_url: Option<String>,
}

/// The sessions of the account: devices and apps.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Devices {
    /// Browsers and devices.
    pub devices: Vec<SessionView>,
    /// Apps that the user signed in to with this account.
    pub apps: Vec<SessionView>,
    /// Consents that are kept: the id and the name of the client.
    pub consents: Vec<ClientConsent>,
}

/// A consent that is kept.
#[derive(Clone, Debug, Serialize)]
pub struct ClientConsent {
    /// The id of the client.
    pub client_id: String,
    /// The name of the client.
    pub name: String,
    /// The permitted scopes.
    pub scopes: Vec<String>,
    /// When it was given, in milliseconds since the Unix epoch.
    pub granted_at: i64,
    /// The address that opens the app, if it has one and no session of it is listed.
    pub open_url: Option<String>,
}

impl Devices {
    fn states() -> Vec<Self> {
        let session = |name: Option<&str>, client: Option<&str>, is_current| SessionView {
            id: text("5f0c2f0e-7d1c-4a58-9a3b-2f1f6a1e0d42"),
            name: name.map(text),
            client: client.map(text),
            created_at: 1_800_000_000_000,
            last_used_at: 1_800_000_360_000,
            ip: name.map(|_| text("192.0.2.7")),
            is_current,
            open_url: client.map(|_| text("https://grafana.example.com/login?iss=https%3A%2F%2Fauth.example.com")),
        };
        let consent = ClientConsent {
            client_id: text("grafana"),
            name: text("Grafana"),
            scopes: vec![text("profile"), text("email")],
            granted_at: 1_800_000_000_000,
            open_url: None,
        };
        let unused = ClientConsent {
            client_id: text("cloud"),
            name: text("Cloud"),
            open_url: Some(text("https://cloud.example.com/start?iss=https%3A%2F%2Fauth.example.com")),
            ..consent.clone()
        };
        vec![
            Self {
                devices: vec![session(Some("Firefox, Linux"), None, true), session(None, None, false)],
                apps: vec![session(Some("Chrome, Android"), Some("Grafana"), false)],
                consents: vec![consent, unused],
            },
            Self::default(),
        ]
    }
}

/// Export and deletion of the account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Data {
    /// Days between the request to delete the account and its deletion.
    pub grace_days: u64,
}

impl Data {
    fn states() -> Vec<Self> {
        vec![Self { grace_days: 14 }, Self { grace_days: 0 }]
    }
}

/// A further authentication of a signed-in user.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reauthenticate {
    /// The address, for password managers.
    pub email: String,
    /// The method of the form: `password`, `totp`, `passkey`, `recovery_code` or `email_code`.
    pub method: String,
    /// Other methods.
    pub others: Vec<String>,
    /// The path of the page to return to.
    pub next: String,
    /// The options of a passkey request, as JSON.
    pub passkey_options: Option<String>,
}

impl Reauthenticate {
    fn states() -> Vec<Self> {
        let state = |method: &str| Self {
            email: text("ann@example.com"),
            method: text(method),
            others: vec![text("password"), text("recovery_code")],
            next: text("/account/security"),
            passkey_options: Some(text("{}")),
        };
        let methods = ["password", "totp", "passkey", "recovery_code", "email_code"];
        let mut states: Vec<_> = methods.iter().map(|method| state(method)).collect();
        states.push(Self { others: Vec::new(), ..state("password") });
        states
    }
}

/// A scope that a client requests.
#[derive(Clone, Debug, Serialize)]
pub struct ScopeView {
    /// The scope.
    pub name: String,
    /// Whether the texts explain it; else its name is shown.
    pub is_known: bool,
}

impl ScopeView {
    /// The scopes that texts explain.
    pub const KNOWN: [&'static str; 4] = ["openid", "profile", "email", "offline_access"];

    /// A scope by its name.
    pub fn new(name: &str) -> Self {
        Self { name: text(name), is_known: Self::KNOWN.contains(&name) }
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
    /// The host that answers for an unverified client: that of its metadata document.
    pub publisher: Option<String>,
    /// Whether the response goes to a program on the user's device, where others can pose as the client.
    pub is_on_device: bool,
    /// The services that the client's tokens would be for (RFC 8707).
    pub resources: Vec<String>,
}

impl Consent {
    fn states() -> Vec<Self> {
        let scopes = ["openid", "profile", "email", "offline_access", "invoices:read"];
        let state = Self {
            client: ClientView::sample(),
            scopes: scopes.iter().map(|scope| ScopeView::new(scope)).collect(),
            is_registered: true,
            publisher: None,
            is_on_device: false,
            resources: vec![text("https://invoices.example.com")],
        };
        let publisher = Some(text("app.example.com"));
        let on_device = ClientView { name: text("An App"), host: text("127.0.0.1") };
        vec![
            Self { is_registered: false, ..state.clone() },
            Self { client: on_device, is_registered: false, is_on_device: true, publisher, ..state.clone() },
            state,
        ]
    }
}

/// The choice between the signed-in account and another.
#[derive(Clone, Debug, Serialize)]
pub struct SelectAccount {
    /// The client.
    pub client: Option<ClientView>,
    /// The address or name of the signed-in account.
    pub current: String,
}

impl SelectAccount {
    fn states() -> Vec<Self> {
        vec![Self { client: Some(ClientView::sample()), current: text("ann@example.com") }]
    }
}
