//! The client's credentials. The secret is never printed.

use std::fmt::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// A service client's id and secret. The secret is wiped from memory when dropped.
pub(crate) struct Credentials {
    id: String,
    secret: Zeroizing<String>,
}

impl Credentials {
    pub(crate) fn new(id: String, secret: String) -> Self {
        Self { id, secret: Zeroizing::new(secret) }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The value of the `Authorization` header (RFC 6749, section 2.3.1), marked as sensitive so that it is not logged. Never
    /// `None` in practice: base64 has no character that a header refuses.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        const SCHEME: &str = "Basic ";
        // The texts have their capacity from the start: a growing text would leave copies of the secret in memory.
        let (id, secret) = (form_encoded(&self.id), form_encoded(&self.secret));
        let mut pair = Zeroizing::new(String::with_capacity(id.len() + 1 + secret.len()));
        for part in [id.as_str(), ":", secret.as_str()] {
            pair.push_str(part);
        }
        let mut text = Zeroizing::new(String::with_capacity(SCHEME.len() + pair.len().div_ceil(3) * 4));
        text.push_str(SCHEME);
        BASE64_STANDARD.encode_string(pair.as_bytes(), &mut text);
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Encodes text as `application/x-www-form-urlencoded`, for form bodies and for client credentials (RFC 6749, section
/// 2.3.1). Encodes a space as `%20`: servers that decode forms accept it like `+`, and servers that only percent-decode would take
/// `+` literally.
pub(crate) fn form_encoded(text: &str) -> Zeroizing<String> {
    // `%` and two digits for each byte at most: the text may be a secret, so it must not be copied as it grows
    let mut encoded = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => encoded.push(char::from(byte)),
            _ => {
                // never fails for a `String`
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorization_encodes_reserved_characters() {
        let credentials = Credentials::new("a:b".to_owned(), "c d%é".to_owned());
        let expected = format!("Basic {}", BASE64_STANDARD.encode("a%3Ab:c%20d%25%C3%A9"));
        assert_eq!(credentials.authorization().unwrap(), expected);
    }

    #[test]
    fn encoded_text_never_outgrows_its_first_allocation() {
        for text in ["", "a", "%%%", "é", "lk_cs_0-9.*~"] {
            assert!(form_encoded(text).capacity() <= 3 * text.len(), "{text}");
        }
    }

    #[test]
    fn debug_output_omits_secret() {
        let credentials = Credentials::new("reports".to_owned(), "lk_cs_hidden".to_owned());
        assert_eq!(format!("{credentials:?}"), r#"Credentials { id: "reports", .. }"#);
        let header = format!("{:?}", credentials.authorization().unwrap());
        assert!(!header.contains("Basic"), "{header}");
    }
}
