//! The address of a recipient, as SMTP needs it.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::domain::account::Email;

/// The longest local part in bytes (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_PART_BYTES: usize = 64;
/// The longest address in bytes: a path of 256 bytes (RFC 5321, section 4.5.3.1.3) without its angle brackets.
const MAX_ADDRESS_BYTES: usize = 254;
/// The longest domain name in bytes (RFC 1035, section 2.3.4: 255 bytes with a length byte and the root).
const MAX_DOMAIN_BYTES: usize = 253;
/// The longest label of a domain name in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// The address of a recipient: a local part that is a dot-atom, possibly with UTF-8 characters (RFC 5321, section 4.1.2; RFC 6531, section 3.3), and an ASCII
/// domain (IDNA 2008) or an address literal (RFC 5321, section 4.1.3). It contains no character that a mail header or an SMTP command interprets.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    text: String,
    /// The position of the `@`.
    at: usize,
}

/// Why no mail can be sent to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// The part before the `@` is not a dot-atom of at most 64 bytes.
    #[error("the part before the @ has characters that mail servers do not accept, or more than 64 bytes")]
    LocalPart,
    /// The domain is missing, or is neither a name of the DNS nor an address literal.
    #[error("the domain is not a valid name")]
    Domain,
    /// The address has more than 254 bytes once its domain is written in ASCII.
    #[error("the address is longer than 254 bytes")]
    Length,
}

impl Recipient {
    /// The recipient of an account's address. An internationalized domain is converted to ASCII.
    ///
    /// # Errors
    /// [`RecipientError`]
    pub fn new(email: &Email) -> Result<Self, RecipientError> {
        let (local, domain) = email.as_str().rsplit_once('@').ok_or(RecipientError::Domain)?;
        if !is_dot_atom(local) || local.len() > MAX_LOCAL_PART_BYTES {
            return Err(RecipientError::LocalPart);
        }
        let domain = ascii_domain(domain)?;
        let text = format!("{local}@{domain}");
        if text.len() > MAX_ADDRESS_BYTES {
            return Err(RecipientError::Length);
        }
        Ok(Self { at: local.len(), text })
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`.
    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// The domain, in ASCII.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.text)
    }
}

/// Whether a local part is a dot-atom (RFC 5322, section 3.2.3), in which non-ASCII characters are allowed (RFC 6532, section 3.2).
fn is_dot_atom(local: &str) -> bool {
    let is_atext = |c: char| {
        c.is_ascii_alphanumeric()
            || "!#$%&'*+-/=?^_`{|}~".contains(c)
            || !c.is_ascii() && !c.is_control() && !c.is_whitespace()
    };
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// Converts a domain to ASCII. An address literal such as `[192.0.2.1]` is checked and returned unchanged.
fn ascii_domain(domain: &str) -> Result<String, RecipientError> {
    if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return if is_ip_address(literal) { Ok(domain.to_owned()) } else { Err(RecipientError::Domain) };
    }
    let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| RecipientError::Domain)?;
    // Checked again, so that headers and SMTP commands do not depend on the rules of `idna`.
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_domain = ascii.len() <= MAX_DOMAIN_BYTES && ascii.split('.').all(is_label);
    if is_domain { Ok(ascii) } else { Err(RecipientError::Domain) }
}

/// Whether the text between the brackets of an address literal is an IP address: IPv4, or IPv6 after its tag.
fn is_ip_address(literal: &str) -> bool {
    const IPV6_TAG: &str = "IPv6:";
    match literal.split_at_checked(IPV6_TAG.len()) {
        Some((tag, address)) if tag.eq_ignore_ascii_case(IPV6_TAG) => address.parse::<Ipv6Addr>().is_ok(),
        _ => literal.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(text: &str) -> Result<String, RecipientError> {
        Recipient::new(&Email::from_stored(text.to_owned())).map(|recipient| recipient.as_str().to_owned())
    }

    #[test]
    fn internationalized_domain_is_converted_to_ascii_and_other_domains_are_kept() {
        assert_eq!(recipient("Ann@Bücher.example").as_deref(), Ok("Ann@xn--bcher-kva.example"));
        assert_eq!(recipient("zoë@例え.テスト").as_deref(), Ok("zoë@xn--r8jz45g.xn--zckzah"));
        assert_eq!(recipient("ann@[192.0.2.1]").as_deref(), Ok("ann@[192.0.2.1]"));
        assert_eq!(recipient("ann@[IPv6:::1]").as_deref(), Ok("ann@[IPv6:::1]"));
        assert_eq!(recipient("ann@localhost").as_deref(), Ok("ann@localhost"));
    }

    #[test]
    fn address_with_a_character_that_headers_or_commands_interpret_is_refused() {
        for bad in [
            "a\r\nBcc: b@c.example@d.example",
            "a\nb@c.example",
            "a\rb@c.example",
            "a\0b@c.example",
            "a<b>@c.example",
            "a,b@c.example",
            "a;b@c.example",
            "a:b@c.example",
            "\"a b\"@c.example",
            "a b@c.example",
            "a\u{2028}b@c.example",
            // an empty part before a dot
            ".a@c.example",
            "a..b@c.example",
        ] {
            assert_eq!(recipient(bad), Err(RecipientError::LocalPart), "{bad:?}");
        }
        for bad in ["a@b\r\n.example", "a@b>.example", "a@-b.example", "a@b_c.example", "a@[b]", "a@[1.2.3]", "a@"] {
            assert_eq!(recipient(bad), Err(RecipientError::Domain), "{bad:?}");
        }
    }

    #[test]
    fn address_longer_than_rfc_5321_allows_is_refused() {
        let local = "a".repeat(MAX_LOCAL_PART_BYTES);
        assert!(recipient(&format!("{local}@b.example")).is_ok());
        assert_eq!(recipient(&format!("a{local}@b.example")), Err(RecipientError::LocalPart));
        let label = "b".repeat(MAX_LABEL_BYTES);
        assert_eq!(recipient(&format!("a@b{label}.example")), Err(RecipientError::Domain));
        // 64 + 1 + 191 bytes, in parts that are each short enough
        assert_eq!(recipient(&format!("{local}@{label}.{label}.{label}")), Err(RecipientError::Length));
    }
}
