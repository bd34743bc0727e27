//! The section `passkeys`: the relying party of WebAuthn and the requirements for authenticators.

use std::{collections::BTreeSet, time::Duration};

use url::{Host, Url};

use super::{check, read::Reader};
use crate::domain::passkey::Aaguid;

const MINUTE: Duration = Duration::from_mins(1);

/// The maximum number of origins in `passkeys.origins`. Browsers accept only a few different domains among them (WebAuthn Level 3,
/// section 5.11.1).
const MAX_ORIGINS: usize = 64;

/// Settings of passkeys.
#[derive(Clone, Debug)]
pub struct PasskeySettings {
    /// The relying party. `None` if passkeys are off, or if the issuer has no domain that passkeys could belong to.
    pub relying_party: Option<RelyingParty>,
    /// Whether a sign-in by passkey alone needs user verification.
    pub user_verification: UserVerification,
    /// The models of authenticators that can be registered; empty for all.
    pub allowed_aaguids: Vec<Aaguid>,
    /// The maximum number of passkeys of an account.
    pub max_per_account: usize,
    /// The lifetime of a challenge.
    pub timeout: Duration,
}

/// The relying party of WebAuthn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelyingParty {
    /// The domain that passkeys belong to.
    pub id: String,
    /// The origins of the pages and apps that can use the passkeys.
    pub origins: Vec<String>,
}

/// Whether an authenticator must verify its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserVerification {
    /// User verification is required.
    Required,
    /// The authenticator verifies its user if it can.
    Preferred,
}

/// Reads the section `passkeys`. `allowed_origins` are the origins of CORS.
pub(super) fn passkeys(read: &mut Reader<'_>, issuer: &str, allowed_origins: &[String]) -> PasskeySettings {
    let enabled = read.boolean("passkeys.enabled");
    let host = Url::parse(issuer).ok().and_then(|url| url.host().map(|host| host.to_owned()));
    let rp_id =
        read.one("passkeys.rp_id", |text| if text.is_empty() { Ok(None) } else { check_domain(text).map(Some) });
    // Browsers accept the host of the page or a domain above it. The pages of a loopback issuer are opened as localhost.
    let fits_issuer = match (&rp_id, &host) {
        (Some(id), Some(Host::Domain(host))) => host == id || host.ends_with(&format!(".{id}")),
        (Some(id), Some(host)) => id == "localhost" && check::is_loopback_host(&without_brackets(host)),
        (Some(_), None) => false,
        (None, _) => true,
    };
    read.rule(&["passkeys.rp_id", "issuer"], fits_issuer, |_| {
        format!("must be the host of the issuer, {issuer}, or a domain above it: browsers accept no other")
    });
    let configured_origins = read.many("passkeys.origins", check_origin);
    read.rule(&["passkeys.origins"], configured_origins.len() <= MAX_ORIGINS, |_| {
        format!("must have at most {MAX_ORIGINS} origins")
    });
    let id = rp_id.or_else(|| host.as_ref().and_then(default_id));
    let relying_party = match id {
        Some(id) if enabled => {
            let origins = all_origins(issuer, allowed_origins, &configured_origins, &id);
            Some(RelyingParty { id, origins })
        }
        _ => None,
    };
    PasskeySettings {
        relying_party,
        user_verification: read.one("passkeys.user_verification", |text| match text {
            "required" => Ok(UserVerification::Required),
            "preferred" => Ok(UserVerification::Preferred),
            _ => Err("must be required or preferred".into()),
        }),
        allowed_aaguids: read.many("passkeys.allowed_aaguids", |text| {
            text.parse().map_err(|_| "must hold AAGUIDs: UUIDs such as ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4".into())
        }),
        max_per_account: read.number("passkeys.max_per_account", 1..=100),
        timeout: read.duration("passkeys.timeout", MINUTE, 15 * MINUTE),
    }
}

/// The host as text, an IPv6 address without its brackets.
fn without_brackets(host: &Host<String>) -> String {
    match host {
        Host::Domain(name) => name.clone(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    }
}

/// The domain that passkeys belong to by default: the host of the issuer. Browsers accept no IP address, so `localhost` replaces a
/// loopback address, and the result is `None` for any other address.
fn default_id(host: &Host<String>) -> Option<String> {
    match host {
        Host::Domain(name) => Some(name.clone()),
        host => check::is_loopback_host(&without_brackets(host)).then(|| "localhost".to_owned()),
    }
}

/// The origins of the issuer, of CORS (`allowed`) and of `passkeys.origins` (`configured`), each once. `id` is the relying party's.
fn all_origins(issuer: &str, allowed: &[String], configured: &[String], id: &str) -> Vec<String> {
    let issuer = Url::parse(issuer).ok();
    // users open the pages of a loopback issuer as localhost
    let as_localhost = issuer.clone().filter(|_| id == "localhost").and_then(|mut url| {
        url.set_host(Some("localhost")).ok()?;
        Some(url)
    });
    let of_issuer = [issuer, as_localhost].into_iter().flatten().map(|url| url.origin().ascii_serialization());
    let mut seen = BTreeSet::new();
    of_issuer.chain(allowed.iter().chain(configured).cloned()).filter(|origin| seen.insert(origin.clone())).collect()
}

/// Checks that a domain name has the form in which browsers compare it: in lower case, internationalised names in ASCII.
fn check_domain(text: &str) -> Result<String, String> {
    match Host::parse(text) {
        Ok(Host::Domain(name)) if name == text && !name.ends_with('.') => Ok(name),
        Ok(Host::Domain(name)) => Err(format!("must have the form that browsers use: {}", name.trim_end_matches('.'))),
        _ => Err("must be a domain, such as example.com".to_owned()),
    }
}

/// Checks the origin of a page or of an Android app. An app's origin has the digest of the certificate that signed the app.
fn check_origin(text: &str) -> Result<String, String> {
    let Some(hash) = text.strip_prefix("android:apk-key-hash:") else { return check::origin(text) };
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    // 43 characters: 32 bytes in base64url without padding
    if hash.len() == 43 && hash.bytes().all(is_base64url) {
        return Ok(text.to_owned());
    }
    Err("must hold origins, such as https://example.org, or android:apk-key-hash: and a SHA-256 in base64url"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relying_party_of_loopback_issuer_is_localhost_and_other_addresses_have_none() {
        let id = |issuer: &str| Url::parse(issuer).unwrap().host().and_then(|host| default_id(&host.to_owned()));
        assert_eq!(id("https://auth.example.com/x").as_deref(), Some("auth.example.com"));
        for local in ["http://127.0.0.1:8080", "http://[::1]:1", "http://localhost"] {
            assert_eq!(id(local).as_deref(), Some("localhost"), "{local}");
        }
        assert_eq!(id("https://192.0.2.7"), None);
        // An origin omits the default port 80, so the configured origin repeats one of the issuer's.
        assert_eq!(
            all_origins(
                "http://127.0.0.1:80/a",
                &["http://localhost:3000".into()],
                &["http://localhost".into()],
                "localhost"
            ),
            ["http://127.0.0.1", "http://localhost", "http://localhost:3000"]
        );
    }

    #[test]
    fn domain_must_have_the_form_that_browsers_use() {
        assert_eq!(check_domain("example.com"), Ok("example.com".into()));
        for bad in ["Example.com", "example.com.", "192.0.2.1", "[::1]", "https://example.com", "a b", "bücher.example"]
        {
            assert!(check_domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origin_of_an_app_is_the_digest_of_its_certificate() {
        // 43 characters of base64url
        let hash = format!("-_{}", "a".repeat(41));
        let app = format!("android:apk-key-hash:{hash}");
        assert_eq!(check_origin(&app), Ok(app.clone()));
        assert!(check_origin("android:apk-key-hash:short").is_err());
        assert!(check_origin("https://a.example/b").is_err(), "the origin of a page has no path");
    }
}
