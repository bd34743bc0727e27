//! The text of a challenge, with which a client continues a sign-in: `lk_ch_` and 56 characters of base64url. They encode a version
//! (1 byte), the purpose (1), the account (16) and a secret (24). Redis holds the state of the challenge under a digest of the secret.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::domain::{challenge::ChallengePurpose, entropy::Entropy, ids::AccountId, secret::SecretText};

/// The prefix of every challenge, by which secret scanners find leaked ones.
pub const PREFIX: &str = "lk_ch_";

const VERSION: u8 = 1;
const SECRET_BYTES: usize = 24;
/// The secret follows the version, the purpose and the account.
const SECRET_START: usize = 18;
const TOKEN_BYTES: usize = SECRET_START + SECRET_BYTES;
/// The length in base64url, which needs no padding: the number of bytes is a multiple of 3.
const ENCODED_CHARS: usize = TOKEN_BYTES / 3 * 4;

/// A challenge as its holder presents it. `Debug` omits its secret.
#[derive(Clone)]
pub struct ChallengeToken {
    /// The step of the sign-in that the challenge is for.
    pub purpose: ChallengePurpose,
    /// The account.
    pub account: AccountId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl ChallengeToken {
    /// A new challenge.
    pub fn generate(entropy: &Entropy, purpose: ChallengePurpose, account: AccountId) -> Self {
        Self { purpose, account, secret: Zeroizing::new(entropy.bytes()) }
    }

    /// Parses the text of a challenge; `None` if the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX).filter(|encoded| encoded.len() == ENCODED_CHARS)?;
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        BASE64_URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes).ok()?;
        if bytes[0] != VERSION {
            return None;
        }
        Some(Self {
            purpose: ChallengePurpose::from_byte(bytes[1])?,
            account: AccountId::from_bytes(bytes[2..SECRET_START].try_into().ok()?),
            secret: Zeroizing::new(bytes[SECRET_START..].try_into().ok()?),
        })
    }

    /// The text to send.
    pub fn to_text(&self) -> SecretText {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        bytes[0] = VERSION;
        bytes[1] = self.purpose.byte();
        bytes[2..SECRET_START].copy_from_slice(self.account.as_bytes());
        bytes[SECRET_START..].copy_from_slice(&*self.secret);
        let mut text = String::with_capacity(PREFIX.len() + ENCODED_CHARS);
        text.push_str(PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
        text.into()
    }

    /// The name under which Redis holds the challenge's state: the first half of the secret's SHA-256. Nobody can guess the secret from the
    /// name, since the secret has 192 random bits.
    pub fn name(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(&digest(&SHA256, &*self.secret).as_ref()[..16])
    }
}

impl fmt::Debug for ChallengeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[challenge for {:?}]", self.purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_is_read_back_and_its_secret_is_not_printed() {
        let account = AccountId::from_bytes([7; 16]);
        let token = ChallengeToken::generate(&Entropy::system(), ChallengePurpose::SecondFactor, account);
        let text = token.to_text();
        assert_eq!(text.expose().len(), "lk_ch_".len() + 56);
        let parsed = ChallengeToken::parse(text.expose()).unwrap();
        assert_eq!(parsed.purpose, token.purpose);
        assert_eq!(parsed.account, account);
        // the name depends on the secret only
        assert_eq!(parsed.name(), token.name());
        assert!(!text.expose().contains(&token.name()));
        assert_eq!(format!("{token:?}"), "[challenge for SecondFactor]");
        let longer = format!("{}A", text.expose());
        for bad in ["", "lk_ch_", &text.expose()[1..], &longer, "lk_ch_ä"] {
            assert!(ChallengeToken::parse(bad).is_none(), "{bad}");
        }
    }
}
