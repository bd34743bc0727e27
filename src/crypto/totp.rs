//! Time-based codes of authenticator apps (RFC 6238): six digits by HMAC-SHA-1, and a new code every 30 seconds. Many apps
//! ignore other parameters.

use std::fmt;

use subtle::ConstantTimeEq;
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use crate::domain::{clock::Timestamp, entropy::Entropy, secret::SecretText};

/// The length of new secrets, as RFC 4226, section 4, recommends.
const SECRET_BYTES: usize = 20;

/// The lengths of secrets that can be imported: RFC 4226 requires 16 bytes, but some systems use 10.
const IMPORTED_BYTES: std::ops::RangeInclusive<usize> = 10..=64;

/// The number of digits.
pub const DIGITS: u8 = 6;

/// The lifetime of a code in seconds.
pub const STEP_SECONDS: u64 = 30;

/// How many codes before and after the current one are accepted, for clocks that differ (RFC 6238, section 5.2).
const MAX_DRIFT_STEPS: u64 = 1;

/// A secret that an account and its owner's authenticator app share. `Debug` omits it.
#[derive(Clone)]
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl TotpSecret {
    /// A new secret.
    pub fn generate(entropy: &Entropy) -> Self {
        Self(Zeroizing::new(entropy.bytes::<SECRET_BYTES>().to_vec()))
    }

    /// A secret from its bytes.
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Reads a secret of another system: base32 (RFC 4648), in any case, with or without padding, spaces and hyphens. None if the
    /// text is not base32, or the secret is shorter than 10 bytes or longer than 64.
    pub fn from_base32(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 5 / 8 + 1));
        // the bits that do not fill a byte yet, and their number
        let (mut buffer, mut bits) = (0_u32, 0);
        for c in text.trim_end_matches('=').bytes().filter(|c| !matches!(c, b' ' | b'-')) {
            let value = match c.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                digit @ b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            // At most 12 bits are needed: 7 from before and 5 new ones.
            buffer = ((buffer << 5) | u32::from(value)) & 0xfff;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push((buffer >> bits) as u8);
            }
        }
        IMPORTED_BYTES.contains(&bytes.len()).then(|| Self(bytes))
    }

    /// The bytes, to be encrypted.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret in base32 without padding, to be typed into an app.
    pub fn to_base32(&self) -> SecretText {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * 8 / 5 + 1));
        // the bits that do not fill a character yet, and their number
        let (mut buffer, mut bits) = (0_u32, 0);
        for byte in self.0.iter() {
            // At most 12 bits are needed: 4 from before and 8 new ones.
            buffer = ((buffer << 8) | u32::from(*byte)) & 0xfff;
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                text.push(char::from(ALPHABET[((buffer >> bits) & 31) as usize]));
            }
        }
        // zeros fill up the last character
        if bits > 0 {
            text.push(char::from(ALPHABET[((buffer << (5 - bits)) & 31) as usize]));
        }
        text.as_str().into()
    }

    /// The URI that a QR code passes to an app. The app shows `service` and `account` to its user.
    pub fn uri(&self, service: &str, account: &str) -> SecretText {
        let encode = |text: &str| -> String {
            // unreserved characters, and `@`, which needs no encoding in a path or a query (RFC 3986)
            let needs_no_encoding =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@');
            text.bytes()
                .map(|byte| if needs_no_encoding(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
                .collect()
        };
        // A colon separates the service from the account, so neither may contain one.
        let (service, account) = (encode(&service.replace(':', " ")), encode(&account.replace(':', " ")));
        let secret = self.to_base32();
        format!(
            "otpauth://totp/{service}:{account}?secret={}&issuer={service}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
            secret.expose()
        )
        .into()
    }

    /// Finds the time step of a code, if the code is valid at `now`. Codes of the step `last_used` and of earlier
    /// steps are refused, because a code works once (RFC 6238, section 5.2). `last_used` is 0 if no code was used.
    pub fn find_step(&self, code: &TotpCode, now: Timestamp, last_used: u64) -> Option<u64> {
        let totp = self.totp();
        let current_step = now.as_secs().max(0).unsigned_abs() / STEP_SECONDS;
        let mut found = None;
        // All steps are compared, so that the running time reveals nothing about the code.
        for step in current_step.saturating_sub(MAX_DRIFT_STEPS)..=current_step + MAX_DRIFT_STEPS {
            let expected = totp.generate(step * STEP_SECONDS).to_string();
            let equal: bool = expected.as_bytes().ct_eq(code.0.expose().as_bytes()).into();
            if equal && step > last_used {
                found = found.or(Some(step));
            }
        }
        found
    }

    fn totp(&self) -> Totp {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_step_duration(STEP_SECONDS)
            .with_secret(self.0.to_vec())
            // imported secrets may be shorter than `build` accepts
            .build_noncompliant()
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[TOTP secret]")
    }
}

/// A code of six digits as typed. `Debug` omits it.
#[derive(Clone)]
pub struct TotpCode(SecretText);

impl TotpCode {
    /// Reads a code. Spaces and hyphens are ignored, also those at which no line breaks (U+00A0, U+2011). None if the rest is not six digits.
    pub fn parse(text: &str) -> Option<Self> {
        // Four bytes for each digit leave room for a separator beside it, of up to three bytes.
        if text.len() > 4 * usize::from(DIGITS) {
            return None;
        }
        let kept = text.chars().filter(|c| !matches!(c, ' ' | '-' | '\u{2011}' | '\u{a0}'));
        let code: Zeroizing<String> = Zeroizing::new(kept.collect());
        let valid = code.len() == usize::from(DIGITS) && code.bytes().all(|byte| byte.is_ascii_digit());
        valid.then(|| Self(code.as_str().into()))
    }
}

impl fmt::Debug for TotpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[TOTP code]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of the test vectors of RFC 6238, appendix B, for SHA-1.
    fn rfc_6238_secret() -> TotpSecret {
        TotpSecret::from_bytes(Zeroizing::new(b"12345678901234567890".to_vec()))
    }

    /// The test vectors of RFC 6238, appendix B, for SHA-1, cut to six digits.
    #[test]
    fn codes_match_the_vectors_of_rfc_6238() {
        let secret = rfc_6238_secret();
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (2_000_000_000, "279037")]
        {
            let now = Timestamp::from_millis(seconds * 1000);
            let step = secret.find_step(&TotpCode::parse(code).unwrap(), now, 0);
            // the step that contains the time, and not one of its neighbours
            assert_eq!(step, Some(seconds.unsigned_abs() / STEP_SECONDS), "{code}");
        }
    }

    #[test]
    fn code_is_accepted_one_step_early_and_late_and_once() {
        // any step
        const STEP: u64 = 60_000_000;
        let secret = TotpSecret::generate(&Entropy::system());
        let code = TotpCode::parse(&secret.totp().generate(STEP * STEP_SECONDS).to_string()).unwrap();
        let at = |step: u64| Timestamp::from_millis((step * STEP_SECONDS * 1000).cast_signed());
        let accepted =
            [STEP - 2, STEP - 1, STEP, STEP + 1, STEP + 2].map(|now| secret.find_step(&code, at(now), 0).is_some());
        assert_eq!(accepted, [false, true, true, true, false]);
        assert_eq!(secret.find_step(&code, at(STEP), STEP), None, "the step was used");
        assert_eq!(secret.find_step(&code, at(STEP), STEP - 1), Some(STEP));
    }

    #[test]
    fn secret_round_trips_through_base32() {
        let secret = rfc_6238_secret();
        assert_eq!(secret.to_base32().expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for text in [
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
            "GEZD-GNBV-GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ",
        ] {
            assert_eq!(TotpSecret::from_base32(text).unwrap().expose(), secret.expose(), "{text}");
        }
        assert_eq!(TotpSecret::from_base32("GEZDGNBVGY3TQOJQGEZA====").unwrap().expose(), b"123456789012");
        // 15 characters hold 9 whole bytes, and 104 hold 65
        let (too_short, too_long) = ("A".repeat(15), "A".repeat(104));
        // `1` is not in the alphabet
        for bad in ["", &too_short, &too_long, "GEZDGNBVGY3TQOJ1", "GEZDGNBVGY3TQOJÄ"] {
            assert!(TotpSecret::from_base32(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn uri_escapes_names_and_debug_output_omits_secrets() {
        let secret = rfc_6238_secret();
        assert_eq!(
            secret.uri("Acme: Café & Co", "ada@example.com").expose(),
            "otpauth://totp/Acme%20%20Caf%C3%A9%20%26%20Co:ada@example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Acme%20%20Caf%C3%A9%20%26%20Co&algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(format!("{secret:?} {:?}", TotpCode::parse("123456").unwrap()), "[TOTP secret] [TOTP code]");
    }

    #[test]
    fn code_that_is_not_six_ascii_digits_is_refused() {
        for grouped in ["123 456", "123-456", "123\u{a0}456", "123\u{2011}456"] {
            assert!(TotpCode::parse(grouped).is_some(), "{grouped}");
        }
        for bad in ["", "12345", "1234567", "12345a", "１２３４５６", &"1".repeat(99)] {
            assert!(TotpCode::parse(bad).is_none(), "{bad}");
        }
    }
}
