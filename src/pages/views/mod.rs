//! The content of each page: the typed context of its template, and samples of its states.

mod account;
mod authorization;
mod devices;
mod message;
mod recovery;
mod security;
mod sign_in;

use serde::Serialize;

pub use self::{
    account::{Address, Data, Password, Profile, SecondaryAddress},
    authorization::{ClientView, Consent, Field, FormPost, ScopeView, SelectAccount, SignOut},
    devices::{ClientConsent, Devices, SessionView},
    message::{ClientLink, Message},
    recovery::{ForgotPassword, Link, ResetPassword, VerifyAddress},
    security::{PasskeyView, RecoveryCodes, RememberedDeviceView, Security, Totp, TotpFactorView},
    sign_in::{Enrol, Reauthenticate, Register, SecondFactor, SignIn, SignInCode},
};
use super::render::{Frame, Pages, PagesError, render_view};

/// The content of a page.
pub trait View: Serialize + Sized {
    /// The file name of the template.
    const TEMPLATE: &'static str;
    /// The fields of the page's forms that can show an error.
    const FIELDS: &'static [&'static str] = &[];

    /// Sample content for each state of the page.
    fn samples() -> Vec<Self>;
}

/// Implements [`View`] for the views, and the function that renders the samples of all of them. A line names the view, its template
/// and [`View::FIELDS`]. Each view has an inherent function `states`, which returns its samples.
macro_rules! views {
    ($($name:ident = $template:literal [$($field:literal),*];)*) => {
        $(impl View for $name {
            const TEMPLATE: &'static str = $template;
            const FIELDS: &'static [&'static str] = &[$($field),*];

            fn samples() -> Vec<Self> {
                Self::states()
            }
        })*

        /// Renders the samples of all pages: the name of each, such as `sign_in-2`, and its HTML. With `with_errors`, each
        /// form reports errors.
        ///
        /// # Errors
        /// [`PagesError`]
        pub fn render_samples(
            pages: &Pages,
            frame: &Frame,
            with_errors: bool,
        ) -> Result<Vec<(String, String)>, PagesError> {
            let mut rendered = Vec::new();
            $(render_view::<$name>(pages, frame, with_errors, &mut rendered)?;)*
            Ok(rendered)
        }

        /// The file names of the templates of all pages.
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
    FormPost = "form_post.html" [];
    SignOut = "sign_out.html" [];
}

/// An owned copy of `sample`: a shorthand for [`View::samples`].
fn owned(sample: &str) -> String {
    sample.to_owned()
}
