//! Detects service secrets that cannot have enough entropy.
//!
//! All keys are derived from the secret, and derivation adds no entropy. The check computes an upper bound, so it accepts
//! 128 random bits in every common encoding, and it cannot detect a long sentence that is easy to guess.

use std::collections::BTreeSet;

/// The entropy that a secret should have.
const REQUIRED_BITS: f64 = 128.0;

/// Whether a secret cannot have 128 bits of entropy.
pub(super) fn is_weak(secret: &str) -> bool {
    max_bits(secret) < REQUIRED_BITS
}

/// An upper bound of the entropy in bits: the smaller of a bound by the alphabet and a bound by the characters that occur. In a text
/// that repeats a block, both bounds count the block once.
fn max_bits(secret: &str) -> f64 {
    let characters: Vec<char> = secret.chars().collect();
    let block_length = to_f64(period(&characters));
    let alphabet = to_f64(alphabet_size(secret));
    let occurring: BTreeSet<_> = characters.iter().collect();
    let distinct = to_f64(occurring.len());
    let by_alphabet = block_length * alphabet.log2();
    // First the choice of the characters that occur, then the choice of one of them for each position. An empty secret has none, and
    // log2(0) is infinite.
    let by_distinct = distinct * alphabet.log2() + block_length * distinct.max(1.0).log2();
    by_alphabet.min(by_distinct)
}

/// The length of the shortest block whose repetition gives the text. The length of the text if no block occurs twice in full.
fn period(characters: &[char]) -> usize {
    let length = characters.len();
    // whether each character equals the one `block` places before it
    let repeats = |block: usize| characters[block..] == characters[..length - block];
    (1..=length / 2).find(|block| repeats(*block)).unwrap_or(length)
}

/// The size of the smallest common alphabet that contains all characters of the secret.
fn alphabet_size(secret: &str) -> usize {
    /// A class of characters: the function that reports whether a character belongs to it.
    type Class = fn(&char) -> bool;
    let all = |contains: Class| secret.chars().all(|character| contains(&character));
    if all(char::is_ascii_digit) {
        return 10;
    }
    if all(|character| matches!(character, '0'..='9' | 'a'..='f'))
        || all(|character| matches!(character, '0'..='9' | 'A'..='F'))
    {
        return 16;
    }
    let classes: [(Class, usize); 5] = [
        (char::is_ascii_digit, 10),
        (char::is_ascii_lowercase, 26),
        (char::is_ascii_uppercase, 26),
        (|character| character.is_ascii() && !character.is_ascii_alphanumeric(), 33), // punctuation and the space
        (|character| !character.is_ascii(), 1 << 16),                                 // the first plane of Unicode
    ];
    let occurring = classes.iter().filter(|(contains, _)| secret.chars().any(|character| contains(&character)));
    occurring.map(|(_, size)| size).sum()
}

/// Converts a number without loss. Any number above `u32::MAX` becomes `f64::MAX`, which keeps the result an upper bound.
fn to_f64(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;
    use crate::domain::entropy::Entropy;

    #[test]
    fn secret_of_128_random_bits_is_strong_in_every_encoding() {
        let entropy = Entropy::system();
        for _ in 0..200 {
            let bytes = entropy.bytes::<16>();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for secret in [&hex, &hex.to_uppercase(), &BASE64_STANDARD.encode(bytes)] {
                assert!(!is_weak(secret), "{secret}");
            }
        }
    }

    #[test]
    fn secret_of_repetitions_or_few_characters_is_weak() {
        for secret in [
            &"a".repeat(32),
            &"ab".repeat(100),
            "12345678901234567890123456789012",
            "00000000000000000000000000000001",
            "abcdefghabcdefghabcdefghabcdefgh",
            "changemechangemechangemechangeme",
            "01101001100101101001011001101001", // only two different characters
        ] {
            assert!(is_weak(secret), "{secret}");
        }
    }
}
