//! What must hold of whatever bytes come from outside. Each function panics where it doesn't. The fuzz targets look for
//! such bytes, and `tests/it/corpora.rs` tries all that are in `fuzz/corpus` again.

mod codecs;
mod config;
mod forwarded;
mod jwt;

/// A target: what is tried with bytes.
pub type Property = fn(&[u8]);

/// All of them, by the names of their folders in `fuzz/corpus`.
pub const ALL: [(&str, Property); 5] = [
    ("refresh_token", codecs::refresh_token),
    ("session_record", codecs::session_record),
    ("jwt", jwt::jwt),
    ("forwarded", forwarded::forwarded),
    ("config", config::config),
];

/// Takes bytes from the front, zeros when there are none left.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let (front, rest) = bytes.split_at(bytes.len().min(N));
    taken[..front.len()].copy_from_slice(front);
    *bytes = rest;
    taken
}
