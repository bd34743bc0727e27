//! Tags of request origins: keyed digests of a client's network and user agent. By them, the rotation rule (I2: reuse of a refresh
//! token ends the session) tells a retry from a second holder of a refresh token.
//!
//! A tag is the output of SipHash-2-4, eight bytes. Every refresh computes a tag, and SipHash is keyed and fast for short texts.

use std::{fmt, hash::Hasher, net::IpAddr};

use siphasher::sip::SipHasher24;

use super::derive::{self, derive};
use crate::{
    config::Secrets,
    domain::{audit::AddressPrecision, session::OriginTag},
};

/// Computes the tags of request origins.
pub struct OriginTagger(SipHasher24);

impl OriginTagger {
    /// Derives a key from each configured secret, and uses the lexicographically smallest of these keys. So nodes that have the same
    /// secrets in a different order, as during a rotation of the secret, compute the same tags.
    pub fn new(secrets: &Secrets) -> Self {
        let first = derive(&secrets.current, derive::ORIGIN_TAGS);
        let others = secrets.previous.iter().map(|secret| derive(secret, derive::ORIGIN_TAGS));
        let key = others.fold(first, |least, other| if other.as_slice() < least.as_slice() { other } else { least });
        // SipHash takes 16 of the 32 bytes.
        let mut siphash_key = [0; 16];
        siphash_key.copy_from_slice(&key[..16]);
        Self(SipHasher24::new_with_key(&siphash_key))
    }

    /// The tag of a network (the /24 of an IPv4 address, the /48 of an IPv6 address) and a user agent.
    pub fn tag(&self, ip: Option<IpAddr>, user_agent: Option<&str>) -> OriginTag {
        let mut hasher = self.0; // copies the keyed hasher
        // The first byte is the IP version, or 0 for an unknown address. It determines where the user agent begins.
        match ip.and_then(|ip| AddressPrecision::Truncated.apply(ip)) {
            None => hasher.write(&[0]),
            Some(IpAddr::V4(ip)) => {
                hasher.write(&[4]);
                hasher.write(&ip.octets());
            }
            Some(IpAddr::V6(ip)) => {
                hasher.write(&[6]);
                hasher.write(&ip.octets());
            }
        }
        hasher.write(user_agent.unwrap_or_default().as_bytes());
        OriginTag(hasher.finish().to_be_bytes())
    }
}

impl fmt::Debug for OriginTagger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[origin tagger]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagger(current: &str, previous: &[&str]) -> OriginTagger {
        OriginTagger::new(&Secrets {
            current: current.into(),
            previous: previous.iter().map(|secret| (*secret).into()).collect(),
        })
    }

    #[test]
    fn tag_depends_on_network_and_user_agent() {
        let tagger = tagger("one secret", &[]);
        let tag = |ip: &str, user_agent| tagger.tag(Some(ip.parse().unwrap()), user_agent);
        let home = tag("192.0.2.7", Some("curl"));
        assert_eq!(home, tag("192.0.2.200", Some("curl")), "the same /24");
        assert_eq!(home, tag("::ffff:192.0.2.7", Some("curl")), "the same address, mapped to IPv6");
        assert_ne!(home, tag("192.0.3.7", Some("curl")), "another /24");
        assert_ne!(home, tag("192.0.2.7", Some("curl/8")), "another user agent");
        assert_ne!(home, tag("192.0.2.7", None), "no user agent");
        assert_eq!(tag("2001:db8:1:2::1", None), tag("2001:db8:1:f::1", None), "the same /48");
        assert_ne!(tag("2001:db8:1::1", None), tag("2001:db8:2::1", None), "another /48");
        assert_ne!(tagger.tag(None, None), tag("0.0.0.0", None), "an unknown address has a tag of its own");
    }

    #[test]
    fn tag_is_equal_on_nodes_with_the_same_secrets_in_another_order() {
        let tag = |tagger: OriginTagger| tagger.tag(None, Some("curl"));
        assert_eq!(tag(tagger("one", &["two"])), tag(tagger("two", &["one"])));
        assert_ne!(tag(tagger("one", &[])), tag(tagger("two", &[])), "the secrets differ");
    }
}
