//! The OpenAPI document and the page that shows it.
//!
//! poem-openapi derives the document from the handlers. `complete` adds the details that poem-openapi leaves out and those that depend
//! on the configuration. [`pages`] serves the result.

mod complete;
pub mod pages;
mod yaml;

use std::time::Duration;

use poem_openapi::{LicenseObject, OpenApi, OpenApiService};
use serde_json::Value;

use crate::config::{self, Config};

const DESCRIPTION: &str = "\
Sessions and authentication: sign users in, keep them signed in, and sign them out on every node at once.

**Tokens.** A sign-in returns an access token and a refresh token. The access token is a JWT (RFC 9068) that is valid for \
minutes; other services can verify it with the keys of `/.well-known/jwks.json`. The refresh token is opaque: `POST /v1/refresh` \
exchanges it for a new pair of tokens. When a session ends, this service refuses both of its tokens at once. Services that verify access tokens \
themselves learn of the end within milliseconds if they subscribe to `/v1/revocations`. Otherwise they accept the token \
until it expires.

**Errors** are problems (RFC 9457) of the type `application/problem+json`. Clients should branch on `code`, which is stable; \
later releases may add codes. In addition to the listed errors, unknown paths return `404 not_found`, unsupported methods \
`405 method_not_allowed`, invalid HTTP `400 malformed_request`, and oversized headers `431 headers_too_large`. The endpoints \
under `/oauth2/` report errors of the OAuth request as RFC 6749 does (`error` and `error_description`, with 400 and 401), \
and everything else as problems.

**Browsers.** CORS: pages of the origins in `http.allowed_origins` may call the user endpoints and read the responses, errors \
included. Any page may read the documents under `/.well-known/`. With the transport `cookie` the refresh token is in the cookie `__Host-latchkey`, \
which scripts cannot read and browsers send by themselves; this works only for pages of the same site as the API.

**Fields.** JSON requests with undocumented fields are refused; undocumented form fields are ignored. `null` counts as an \
absent field. Responses may gain fields; ignore unknown ones.";

/// The settings that appear in the document, as texts. Durations have a unit: `10 s`.
#[derive(Clone, Debug)]
pub struct Limits {
    password_min: String,
    password_max: String,
    sessions: String,
    grace: String,
    recent: String,
    step_up_ttl: String,
    deletion_grace: String,
    undo_window: String,
    emails: String,
    retry_window: String,
    counted_repeats: String,
    passkey_timeout: String,
    passkeys: String,
}

impl Limits {
    /// The configured values.
    pub fn of(config: &Config) -> Self {
        Self {
            password_min: config.password.min_length.to_string(),
            password_max: config.password.max_length.to_string(),
            sessions: config.session.max_per_account.to_string(),
            grace: seconds(config.session.grace),
            recent: seconds(config.session.recent),
            step_up_ttl: seconds(config.factors.step_up_ttl),
            deletion_grace: seconds(config.account.deletion_grace),
            undo_window: seconds(config.account.undo_window),
            emails: config.account.max_emails.to_string(),
            retry_window: hours(config.session.retry_window),
            counted_repeats: config.session.counted_repeats_limit.to_string(),
            passkey_timeout: seconds(config.passkeys.timeout),
            passkeys: config.passkeys.max_per_account.to_string(),
        }
    }

    /// The default values.
    pub fn defaults() -> Self {
        let text = |key| config::default_text(key).to_owned();
        // the fallback is never used: the default of a setting is valid
        let duration_in = |unit: fn(Duration) -> String, key| {
            config::parse_duration(config::default_text(key)).map(unit).unwrap_or_default()
        };
        let duration = |key| duration_in(seconds, key);
        Self {
            password_min: text("password.min_length"),
            password_max: text("password.max_length"),
            sessions: text("session.max_per_account"),
            grace: duration("session.grace"),
            recent: duration("session.recent"),
            step_up_ttl: duration("factors.step_up_ttl"),
            deletion_grace: duration("account.deletion_grace"),
            undo_window: duration("account.undo_window"),
            emails: text("account.max_emails"),
            retry_window: duration_in(hours, "session.retry_window"),
            counted_repeats: text("session.counted_repeats_limit"),
            passkey_timeout: duration("passkeys.timeout"),
            passkeys: text("passkeys.max_per_account"),
        }
    }

    /// Replaces the placeholders of descriptions, which are names of settings in braces.
    fn fill_in(&self, text: &str) -> String {
        text.replace("{password.min_length}", &self.password_min)
            .replace("{password.max_length}", &self.password_max)
            .replace("{session.max_per_account}", &self.sessions)
            .replace("{session.grace}", &self.grace)
            .replace("{session.recent}", &self.recent)
            .replace("{factors.step_up_ttl}", &self.step_up_ttl)
            .replace("{account.deletion_grace}", &self.deletion_grace)
            .replace("{account.undo_window}", &self.undo_window)
            .replace("{account.max_emails}", &self.emails)
            .replace("{session.retry_window}", &self.retry_window)
            .replace("{session.counted_repeats_limit}", &self.counted_repeats)
            .replace("{passkeys.timeout}", &self.passkey_timeout)
            .replace("{passkeys.max_per_account}", &self.passkeys)
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

fn hours(duration: Duration) -> String {
    format!("{} h", duration.as_secs_f64() / 3600.0)
}

/// The rendered document.
pub struct Document {
    /// Indented JSON.
    pub json: String,
    /// YAML.
    pub yaml: String,
    /// The page that shows the document.
    pub html: String,
}

impl Document {
    /// Renders the document of `service`.
    pub fn new<T: OpenApi>(service: &OpenApiService<T, ()>, limits: &Limits) -> Self {
        let derived = service.spec();
        let mut document: Value = serde_json::from_str(&derived).unwrap_or_default();
        complete::complete(&mut document, limits);
        #[cfg(feature = "swagger-ui")]
        let html = pages::html(&service.swagger_ui_html(), &derived, &document);
        // Without Swagger UI, the page has only links to the document.
        #[cfg(not(feature = "swagger-ui"))]
        let html = pages::links();
        Self { json: format!("{document:#}\n"), yaml: yaml::to_yaml(&document), html }
    }
}

/// Combines the APIs into a service, with the title and the description of the document.
pub fn service<T: OpenApi>(apis: T) -> OpenApiService<T, ()> {
    OpenApiService::new(apis, "Latchkey", env!("CARGO_PKG_VERSION"))
        .summary("Sessions and authentication.")
        .description(DESCRIPTION)
        .license(LicenseObject::new("Apache-2.0").url("https://www.apache.org/licenses/LICENSE-2.0"))
}
