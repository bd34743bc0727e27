//! Parses hash strings in the PHC format, `$scheme$name=value,…$salt$hash`, with base64 salt and hash.
//!
//! The crate that parses argon2's strings limits salts to 48 bytes and parameters to 64 bytes. Other systems' hashes exceed both limits.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::schemes::BadHash;

/// Standard base64. Padding may be absent.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest salt and hash that are accepted, in bytes.
const MAX_BYTES: usize = 1024;

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
        let parts: Vec<&str> = text.split('$').collect();
        let ["", scheme, params, salt, hash] = parts[..] else { return Err(BadHash::Malformed) };
        let params = params.split(',').map(|param| param.split_once('=').ok_or(BadHash::Malformed));
        let params: Vec<_> = params.collect::<Result<_, _>>()?;
        let decode = |text: &str, min: usize| {
            let bytes = BASE64.decode(text).ok();
            bytes.filter(|bytes| (min..=MAX_BYTES).contains(&bytes.len())).ok_or(BadHash::Malformed)
        };
        let (salt, hash) = (decode(salt, 1)?, decode(hash, MIN_HASH_BYTES)?);
        Ok(Self { scheme, params, salt, hash })
    }

    /// Refuses unknown parameters, which could change the hash, and repeated ones.
    pub(super) fn allow_only(&self, names: &[&str]) -> Result<(), BadHash> {
        let mut given = self.params.iter().map(|(name, _)| name).enumerate();
        let are_allowed = given.all(|(index, name)| {
            names.contains(name) && !self.params[..index].iter().any(|(earlier, _)| earlier == name)
        });
        if are_allowed { Ok(()) } else { Err(BadHash::Malformed) }
    }

    /// Whether the string has the parameter.
    pub(super) fn has(&self, name: &str) -> bool {
        self.params.iter().any(|(given, _)| *given == name)
    }

    /// A parameter's value as a number, without sign or leading zeros.
    pub(super) fn number(&self, name: &str) -> Result<u32, BadHash> {
        let value = self.value(name)?;
        let plain = value.bytes().all(|byte| byte.is_ascii_digit()) && (value == "0" || !value.starts_with('0'));
        value.parse().ok().filter(|_| plain).ok_or(BadHash::Malformed)
    }

    /// A parameter's value as bytes.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>, BadHash> {
        BASE64.decode(self.value(name)?).map_err(|_| BadHash::Malformed)
    }

    fn value(&self, name: &str) -> Result<&'a str, BadHash> {
        let param = self.params.iter().find(|(given, _)| *given == name);
        param.map(|(_, value)| *value).ok_or(BadHash::Malformed)
    }
}
