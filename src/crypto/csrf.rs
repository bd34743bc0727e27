//! Anti-forgery tokens of forms: an HMAC over the browser's session or, before sign-in, over its visitor cookie.
//!
//! A page of another site can neither read such a token nor compute it, and a token of another session or visitor is refused. So no
//! page can submit a form in the name of another user; this includes login CSRF.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::domain::{entropy::Entropy, ids::SessionId};

/// The prefix of every [`VisitorToken`].
const VISITOR_PREFIX: &str = "lk_vs_";
/// The number of random bytes of a [`VisitorToken`].
const VISITOR_BYTES: usize = 16;
/// The length of the random bytes in base64url.
const VISITOR_CHARS: usize = 22;

/// The random value of a browser that has not signed in, from its cookie `__Host-latchkey-visitor`. `Debug` omits it.
#[derive(Clone, PartialEq, Eq)]
pub struct VisitorToken(String);

impl VisitorToken {
    /// A new value of 128 random bits.
    pub fn generate(entropy: &Entropy) -> Self {
        Self(format!("{VISITOR_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes::<VISITOR_BYTES>())))
    }

    /// Parses the value of the cookie; `None` if the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(VISITOR_PREFIX).filter(|encoded| encoded.len() == VISITOR_CHARS)?;
        BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?;
        Some(Self(text.to_owned()))
    }

    /// The text, for the cookie.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for VisitorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[visitor token]")
    }
}

/// The browser to which a form's token is bound.
#[derive(Clone, Copy, Debug)]
pub enum CsrfSubject<'a> {
    /// A browser with a session.
    Session(SessionId),
    /// A browser that has not signed in.
    Visitor(&'a VisitorToken),
}

/// Computes and checks the tokens of forms.
pub struct CsrfTokens {
    current: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl CsrfTokens {
    /// Computes tokens with `current`, and accepts the tokens of all keys, so that the key can be rotated.
    pub fn new<'a>(current: &[u8; 32], previous: impl IntoIterator<Item = &'a [u8; 32]>) -> Self {
        let key = |bytes: &[u8; 32]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Self { current: key(current), previous: previous.into_iter().map(key).collect() }
    }

    /// The token for the forms of this browser: 43 characters of base64url.
    pub fn token(&self, subject: CsrfSubject<'_>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.current, &message(subject)))
    }

    /// Whether `presented` is the token of this browser. Compares in constant time.
    pub fn verify(&self, subject: CsrfSubject<'_>, presented: &str) -> bool {
        let Ok(presented) = BASE64_URL_SAFE_NO_PAD.decode(presented) else { return false };
        let message = message(subject);
        std::iter::once(&self.current).chain(&self.previous).any(|key| hmac::verify(key, &message, &presented).is_ok())
    }
}

/// The message of the MAC: a word for the kind of subject, then the subject. The words have the same length, so messages of two
/// kinds are never equal.
fn message(subject: CsrfSubject<'_>) -> Vec<u8> {
    match subject {
        CsrfSubject::Session(session) => [b"session", session.as_bytes().as_slice()].concat(),
        CsrfSubject::Visitor(visitor) => [b"visitor", visitor.0.as_bytes()].concat(),
    }
}

impl fmt::Debug for CsrfTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[anti-forgery keys]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csrf_token_is_valid_for_its_own_browser_only() {
        let entropy = Entropy::system();
        let (visitor_token, other_visitor_token) = (VisitorToken::generate(&entropy), VisitorToken::generate(&entropy));
        let visitor = CsrfSubject::Visitor(&visitor_token);
        let session = CsrfSubject::Session(SessionId::from_bytes([1; 16]));
        let tokens = CsrfTokens::new(&[7; 32], []);
        let token = tokens.token(visitor);
        assert!(tokens.verify(visitor, &token));
        // after a rotation of the key, with and without the previous key
        assert!(CsrfTokens::new(&[8; 32], [&[7; 32]]).verify(visitor, &token));
        assert!(!CsrfTokens::new(&[8; 32], []).verify(visitor, &token));
        for other in [CsrfSubject::Visitor(&other_visitor_token), session] {
            assert!(!tokens.verify(other, &token));
        }
        for malformed in ["", "?"] {
            assert!(!tokens.verify(visitor, malformed));
        }
    }

    #[test]
    fn visitor_token_is_read_back() {
        let token = VisitorToken::generate(&Entropy::system());
        assert_eq!(VisitorToken::parse(token.expose()), Some(token));
        assert_eq!(VisitorToken::parse("lk_vs_x"), None);
    }
}
