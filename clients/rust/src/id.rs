//! Ids of accounts and sessions: UUIDs as numbers.

use std::fmt;

/// A UUID as a number: smaller and faster to look up than its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(u128);

impl Id {
    /// Parses the form with hyphens (RFC 9562, section 4), in lower or upper case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // 32 hexadecimal digits and 4 hyphens
        if text.len() != 36 {
            return None;
        }
        let mut number = 0_u128;
        for (position, byte) in text.bytes().enumerate() {
            if matches!(position, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return None;
                }
            } else {
                let digit = char::from(byte).to_digit(16)?;
                number = (number << 4) | u128::from(digit);
            }
        }
        Some(Self(number))
    }

    /// The index of this id's shard, below `shards`, which is the number of shards.
    pub(crate) fn shard(self, shards: usize) -> usize {
        // The last digits of a UUID are random in every version in use. A `usize` always holds 16 bits.
        let last_digits = usize::try_from(self.0 & 0xffff).unwrap_or_default();
        last_digits % shards.max(1)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parse_accepts_hyphenated_form_only() {
        let id = Id::parse("01a20697-5375-7a3f-a5d0-8181bd56c321");
        assert_eq!(id, Some(Id(0x01a2_0697_5375_7a3f_a5d0_8181_bd56_c321)));
        assert_eq!(Id::parse("01A20697-5375-7A3F-A5D0-8181BD56C321"), id);
        for wrong in [
            "",
            "01a2069753757a3fa5d08181bd56c321",
            "{01a20697-5375-7a3f-a5d0-8181bd56c321}",
            "01a20697-5375-7a3f-a5d0-8181bd56c32",  // too short
            "01a20697-5375-7a3f-a5d0-8181bd56c32g", // not hexadecimal
            "01a206975-375-7a3f-a5d0-8181bd56c321", // a misplaced hyphen
            "01a20697-5375-7a3f-a5d0-8181bd56c3é",  // 36 bytes, but not ASCII
        ] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(text in any::<String>()) {
            let _ = Id::parse(&text);
        }
    }
}
