//! Pages of registration, sign-in (password, code by mail, second factor), and the repeated authentication of a signed-in user. Each
//! view's `states` returns a sample of each state of its page, for the check of templates and for tests.

use serde::Serialize;

use super::{authorization::ClientView, owned};

/// Sign-in with a password, a passkey or a mail.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignIn {
    /// The typed address or username.
    pub identifier: String,
    /// Whether anyone can register.
    pub can_register: bool,
    /// Whether users can sign in with a code by mail.
    pub email_code: bool,
    /// Whether users can sign in with passkeys.
    pub passkeys: bool,
    /// The client that the user signs in to.
    pub client: Option<ClientView>,
}

impl SignIn {
    pub(super) fn states() -> Vec<Self> {
        let with_client = Self {
            identifier: owned("ann@example.com"),
            can_register: true,
            email_code: true,
            passkeys: true,
            client: Some(ClientView::sample()),
        };
        vec![Self { client: None, ..with_client.clone() }, with_client, Self::default()]
    }
}

/// Sign-in with a code or a link from a mail: the form that requests the mail, or the one for its code.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignInCode {
    /// Whether the mail was sent.
    pub is_sent: bool,
    /// The address.
    pub email: String,
}

impl SignInCode {
    pub(super) fn states() -> Vec<Self> {
        vec![Self::default(), Self { is_sent: true, email: owned("ann@example.com") }]
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
            method: owned(method),
            others: other_methods(&methods, method),
            passkey_options: (method == "passkey").then(|| owned("{}")),
            can_remember: true,
        };
        let mut states: Vec<_> = methods.iter().map(|method| state(method)).collect();
        states.push(Self { others: Vec::new(), can_remember: false, ..state("totp") });
        states
    }
}

fn other_methods(methods: &[&str], method: &str) -> Vec<String> {
    methods.iter().filter(|other| **other != method).map(|other| owned(other)).collect()
}

/// The set-up of a second factor that a sign-in requires: the choice of a factor, or the form that creates a passkey.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Enrol {
    /// The options of the passkey's registration as JSON; none while the user chooses a factor.
    pub passkey_options: Option<String>,
    /// The typed name of the passkey.
    pub name: String,
}

impl Enrol {
    pub(super) fn states() -> Vec<Self> {
        vec![Self::default(), Self { passkey_options: Some(owned("{}")), name: owned("My phone") }]
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
        vec![Self::default(), Self { email: owned("ann@example.com"), username: owned("ann"), with_username: true }]
    }
}

/// The repeated authentication of a signed-in user, before a sensitive action.
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
    /// With `passkey`: the options of a passkey request, as JSON.
    pub passkey_options: Option<String>,
    /// The client that requests the authentication; `None` for a change of the account.
    pub client: Option<ClientView>,
}

impl Reauthenticate {
    pub(super) fn states() -> Vec<Self> {
        let methods = ["totp", "passkey", "recovery_code"];
        let state = |method: &str| Self {
            email: owned("ann@example.com"),
            method: owned(method),
            others: other_methods(&methods, method),
            next: owned("/account/security"),
            passkey_options: (method == "passkey").then(|| owned("{}")),
            client: None,
        };
        let by_password = Self { others: Vec::new(), ..state("password") };
        let for_client = Self { client: Some(ClientView::sample()), ..by_password.clone() };
        let mut states = vec![for_client, by_password];
        states.extend(methods.iter().map(|method| state(method)));
        states
    }
}
