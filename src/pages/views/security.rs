//! Views of the signed-in account's factors: passkeys, authenticator apps, recovery codes. All times are in milliseconds since the Unix
//! epoch.

use serde::Serialize;

use super::owned;

/// A passkey.
#[derive(Clone, Debug, Serialize)]
pub struct PasskeyView {
    /// The id of the factor.
    pub id: String,
    /// The name that the owner gave to the factor.
    pub name: String,
    /// When the passkey was added.
    pub created_at: i64,
    /// When the factor was last used.
    pub last_used_at: Option<i64>,
    /// Whether the passkey is synchronized between devices.
    pub is_synced: bool,
}

/// An authenticator app.
#[derive(Clone, Debug, Serialize)]
pub struct TotpFactorView {
    /// The id of the factor.
    pub id: String,
    /// The name that the owner gave to the factor.
    pub name: String,
    /// When the app was set up.
    pub created_at: i64,
    /// When the factor was last used.
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
    /// Whether passkeys can be added on this service.
    pub with_passkeys: bool,
    /// The options of a new passkey, as JSON; none until the user requests one.
    pub passkey_options: Option<String>,
    /// Whether a role of the account requires a second factor.
    pub is_required: bool,
    /// Whether codes by mail can be a second factor on this service.
    pub with_email_code: bool,
    /// Whether codes by mail are on.
    pub has_email_code: bool,
    /// Whether the address is verified, as it must be before codes by mail can be switched on.
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
    /// When the device stops skipping the second factor.
    pub expires_at: i64,
    /// Whether the page is open on this device.
    pub is_current: bool,
}

impl Security {
    /// A sample for each state of the page.
    pub(super) fn states() -> Vec<Self> {
        const SAMPLE_TIME: i64 = 1_800_000_000_000;
        const THIRTY_DAYS_MILLIS: i64 = 30 * 86_400 * 1000;
        let used_passkey = PasskeyView {
            id: owned("1"),
            name: owned("Ann's phone"),
            created_at: SAMPLE_TIME,
            last_used_at: Some(SAMPLE_TIME),
            is_synced: true,
        };
        let unused_passkey =
            PasskeyView { id: owned("2"), last_used_at: None, is_synced: false, ..used_passkey.clone() };
        let device = |name, is_current| RememberedDeviceView {
            id: owned("1"),
            name,
            last_used_at: SAMPLE_TIME,
            expires_at: SAMPLE_TIME + THIRTY_DAYS_MILLIS,
            is_current,
        };
        let current_device = device(Some(owned("Firefox, Linux")), true);
        let unnamed_device = device(None, false);
        let full = Self {
            has_password: true,
            password_changed_at: Some(SAMPLE_TIME),
            totps: vec![TotpFactorView {
                id: owned("1"),
                name: owned("Authenticator app"),
                created_at: SAMPLE_TIME,
                last_used_at: Some(SAMPLE_TIME),
            }],
            recovery_codes: 8,
            has_factor: true,
            passkeys: vec![used_passkey, unused_passkey],
            with_passkeys: true,
            passkey_options: None,
            is_required: true,
            with_email_code: true,
            has_email_code: true,
            email_verified: true,
            devices: vec![current_device, unnamed_device],
        };
        vec![
            // the last recovery code, in the singular; codes by mail can be switched on
            Self { recovery_codes: 1, has_email_code: false, ..full.clone() },
            // codes by mail can be switched on once the address is verified
            Self { with_email_code: true, has_password: true, ..Self::default() },
            // the user adds a passkey
            Self { passkey_options: Some(owned("{}")), ..full },
            // no factor and no password; passkeys can be added
            Self { with_passkeys: true, ..Self::default() },
            // no kind of factor is switched on
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
    /// The `otpauth:` URI again, in a hidden field: after a wrong code the page is shown with the same secret.
    pub state: String,
    /// Whether a sign-in waits for the enrolment.
    pub is_enrolment: bool,
    /// Whether the user can choose another factor instead.
    pub has_others: bool,
}

impl Totp {
    pub(super) fn states() -> Vec<Self> {
        let uri = "otpauth://totp/Example:ann@example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Example";
        let optional = Self {
            secret: owned("JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP"),
            uri: owned(uri),
            qr_code: crate::pages::qr_code(uri).unwrap_or_default(),
            state: owned("state"),
            is_enrolment: false,
            has_others: false,
        };
        let required = Self { is_enrolment: true, ..optional.clone() };
        vec![Self { has_others: true, ..required.clone() }, required, optional]
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
    pub(super) fn states() -> Vec<Self> {
        let codes = (0..10).map(|n| format!("K7QF-{n}XWM-R2{n}P")).collect();
        vec![Self { codes, next: owned("/account/security") }]
    }
}
