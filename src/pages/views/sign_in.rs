//! Signed-out pages of a sign-in: password, code by mail, second factor, registration; and the step-up. Each view's `states` returns a
//! sample of each state of its page.

use serde::Serialize;

use super::{authorization::ClientView, text};

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
    pub(super) fn states() -> Vec<Self> {
        let with_client = Self {
            identifier: text("ann@example.com"),
            can_register: true,
            email_code: true,
            passkeys: true,
            client: Some(ClientView::sample()),
        };
        vec![Self { client: None, ..with_client.clone() }, with_client, Self::default()]
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
    pub(super) fn states() -> Vec<Self> {
        vec![Self::default(), Self { is_sent: true, email: text("ann@example.com") }]
    }
}

/// A second factor.
#[derive(Clone, Debug, Serialize)]
pub struct SecondFactor {
    /// The method of the form: `totp`, `passkey`, `recovery_code` or `email_code`.
    pub method: String,
    /// The account's other methods.
    pub others: Vec<String>,
    /// With `passkey`: the options of the ceremony as JSON.
    pub passkey_options: Option<String>,
    /// Whether the device can be remembered.
    pub can_remember: bool,
}

impl SecondFactor {
    pub(super) fn states() -> Vec<Self> {
        let methods = ["totp", "passkey", "recovery_code", "email_code"];
        let state = |method: &str| Self {
            method: text(method),
            others: other_methods(&methods, method),
            passkey_options: (method == "passkey").then(|| text("{}")),
            can_remember: true,
        };
        let mut states: Vec<_> = methods.iter().map(|method| state(method)).collect();
        states.push(Self { others: Vec::new(), can_remember: false, ..state("totp") });
        states
    }
}

fn other_methods(methods: &[&str], method: &str) -> Vec<String> {
    methods.iter().filter(|other| **other != method).map(|other| text(other)).collect()
}

/// The set-up of a second factor that a sign-in requires: the choice of a factor, or the form that creates a passkey.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Enrol {
    /// The options of the registration of a passkey as JSON; none for the choice.
    pub passkey_options: Option<String>,
    /// The typed name of the passkey.
    pub name: String,
}

impl Enrol {
    pub(super) fn states() -> Vec<Self> {
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
    pub(super) fn states() -> Vec<Self> {
        vec![Self::default(), Self { email: text("ann@example.com"), username: text("ann"), with_username: true }]
    }
}

/// A further authentication of a signed-in user.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reauthenticate {
    /// The primary address, or else the username or the id, for the user and for password managers.
    pub email: String,
    /// The method of the form: `password`, `totp`, `passkey` or `recovery_code`.
    pub method: String,
    /// The account's other methods.
    pub others: Vec<String>,
    /// The path of the page to return to.
    pub next: String,
    /// The options of a passkey request, as JSON.
    pub passkey_options: Option<String>,
    /// The client that requests the authentication; `None` for a change of the account.
    pub client: Option<ClientView>,
}

impl Reauthenticate {
    pub(super) fn states() -> Vec<Self> {
        let methods = ["totp", "passkey", "recovery_code"];
        let state = |method: &str| Self {
            email: text("ann@example.com"),
            method: text(method),
            others: other_methods(&methods, method),
            next: text("/account/security"),
            passkey_options: Some(text("{}")),
            client: None,
        };
        let by_password = Self { others: Vec::new(), ..state("password") };
        let for_client = Self { client: Some(ClientView::sample()), ..by_password.clone() };
        let mut states = vec![for_client, by_password];
        states.extend(methods.iter().map(|method| state(method)));
        states
    }
}
