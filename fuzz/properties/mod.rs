//! Properties that must hold for every input from outside. Each function panics if an input violates its property. The fuzz
//! targets search for such inputs, and `tests/it/corpora.rs` checks the properties for the inputs stored in `fuzz/corpus`.

mod codecs;
mod config;
mod forwarded;
mod jwt;

/// A property of arbitrary bytes.
pub type Property = fn(&[u8]);

/// Every property, by the name of its folder in `fuzz/corpus`.
pub const ALL: [(&str, Property); 5] = [
    ("refresh_token", codecs::refresh_token),
    ("session_record", codecs::session_record),
    ("jwt", jwt::jwt),
    ("forwarded", forwarded::forwarded),
    ("config", config::config),
];

/// Removes the first N bytes and returns them. Missing bytes are zeros.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let (front, rest) = bytes.split_at(bytes.len().min(N));
    taken[..front.len()].copy_from_slice(front);
    *bytes = rest;
    taken
}
