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

/// Removes and returns the first N bytes. If `bytes` is shorter, zeros follow its bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let available = bytes.len().min(N);
    let (front, rest) = bytes.split_at(available);
    let mut taken = [0; N];
    taken[..available].copy_from_slice(front);
    *bytes = rest;
    taken
}
