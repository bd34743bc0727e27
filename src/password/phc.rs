//! Parses hash strings in the PHC format, `$scheme$name=value,…$salt$hash`, with base64 salt and hash.
//!
//! The crate that parses argon2's strings limits salts to 48 bytes and parameters to 64 bytes. Other systems' hashes exceed both limits.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::schemes::BadHash;

/// Standard base64. Encodes without padding, and decodes with or without it.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest salt and hash that are accepted, in bytes.
const MAX_BYTES: usize = 1024;

/// The shortest salt that is accepted: a hash without salt is refused.
const MIN_SALT_BYTES: usize = 1;

/// The shortest hash that is accepted: fewer bytes could match by chance.
const MIN_HASH_BYTES: usize = 10;

/// A parsed hash string.
pub(super) struct Phc<'a> {
    pub(super) scheme: &'a str,
    params: Vec<(&'a str, &'a str)>,
    pub(super) salt: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

impl<'a> Phc<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, BadHash> {
        // The text begins with `$`, so the first part is empty.
        let parts: Vec<&str> = text.split('$').collect();
        let ["", scheme, params, salt, hash] = parts[..] else { return Err(BadHash::Malformed) };
        let params = params.split(',').map(|param| param.split_once('=').ok_or(BadHash::Malformed));
        let params: Vec<_> = params.collect::<Result<_, _>>()?;
        let decode = |encoded: &str, min_bytes: usize| -> Result<Vec<u8>, BadHash> {
            let bytes = BASE64.decode(encoded).map_err(|_| BadHash::Malformed)?;
            if (min_bytes..=MAX_BYTES).contains(&bytes.len()) { Ok(bytes) } else { Err(BadHash::Malformed) }
        };
        let salt = decode(salt, MIN_SALT_BYTES)?;
        let hash = decode(hash, MIN_HASH_BYTES)?;
        Ok(Self { scheme, params, salt, hash })
    }

    /// Refuses unknown parameters, which could change the hash, and repeated ones.
    pub(super) fn allow_only(&self, names: &[&str]) -> Result<(), BadHash> {
        for (index, (name, _)) in self.params.iter().enumerate() {
            let is_repeated = self.params[..index].iter().any(|(earlier, _)| earlier == name);
            if is_repeated || !names.contains(name) {
                return Err(BadHash::Malformed);
            }
        }
        Ok(())
    }

    /// Whether the string has the parameter.
    pub(super) fn has(&self, name: &str) -> bool {
        self.params.iter().any(|(given, _)| *given == name)
    }

    /// A parameter's value as a number. Refuses signs and leading zeros.
    pub(super) fn number(&self, name: &str) -> Result<u32, BadHash> {
        let value = self.value(name)?;
        let has_digits_only = value.bytes().all(|byte| byte.is_ascii_digit());
        let has_leading_zero = value.starts_with('0') && value != "0";
        if !has_digits_only || has_leading_zero {
            return Err(BadHash::Malformed);
        }
        value.parse().map_err(|_| BadHash::Malformed)
    }

    /// A parameter's value in base64, as bytes.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>, BadHash> {
        BASE64.decode(self.value(name)?).map_err(|_| BadHash::Malformed)
    }

    fn value(&self, name: &str) -> Result<&'a str, BadHash> {
        let param = self.params.iter().find(|(given, _)| *given == name);
        param.map(|(_, value)| *value).ok_or(BadHash::Malformed)
    }
}
