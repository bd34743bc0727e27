//! Strict JSON: refuses an object with a duplicate member name, because parsers disagree about which of the two members
//! counts (RFC 7515, section 4; RFC 7519, section 4). Names are compared unescaped, at any depth.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor},
};

/// The maximum number of members of one object. The bound keeps the search for duplicates cheap.
const MAX_MEMBERS: usize = 64;

/// The number of members for which there is room without another allocation: the claims of most access tokens.
const TYPICAL_MEMBERS: usize = 16;

/// Parses `bytes` as a `T`. `None` if they are not unambiguous JSON ([`is_unambiguous`]) or not a `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let text = str::from_utf8(bytes).ok()?;
    // Two passes: a `T` does not reveal duplicates of members that it ignores.
    if is_unambiguous_text(text) { serde_json::from_str(text).ok() } else { None }
}

/// Whether `bytes` are one JSON value in which no object has a duplicate member or more than 64 members (`MAX_MEMBERS`).
pub fn is_unambiguous(bytes: &[u8]) -> bool {
    // UTF-8 is checked once here: `serde_json::from_slice` would check each string, which is slower.
    str::from_utf8(bytes).is_ok_and(is_unambiguous_text)
}

fn is_unambiguous_text(text: &str) -> bool {
    serde_json::from_str::<Unambiguous>(text).is_ok()
}

/// Any JSON value without duplicate members. The value itself is not kept.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

/// An unescaped member name; copied only if it was escaped.
#[derive(Deserialize, PartialEq)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = Vec::with_capacity(TYPICAL_MEMBERS);
        while let Some((name, _value)) = map.next_entry::<Name<'de>, Self>()? {
            if names.len() == MAX_MEMBERS || names.contains(&name) {
                return Err(A::Error::custom("a duplicate member, or too many members"));
            }
            names.push(name);
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn ordinary_json_is_parsed() {
        for text in [r#"{"a":1,"b":{"a":[true,null,-1,2.5,"x"]},"c":{"a":1}}"#, "[]", "3", r#""a""#] {
            assert_eq!(from_slice::<Value>(text.as_bytes()), Some(serde_json::from_str(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn duplicate_members_are_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"b":{"a":1,"a":1}}"#,
            r#"[[{"a":1,"a":1}]]"#,
        ] {
            assert_eq!(from_slice::<Value>(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn anything_but_one_json_value_is_refused() {
        let byte_order_mark = "\u{feff}{}";
        let unpaired_surrogate = r#"{"a":"\ud800"}"#;
        // far beyond the recursion limit of serde_json, 128
        let too_deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
        for text in ["", "{}{}", "{} x", r#"{"a":1,}"#, byte_order_mark, unpaired_surrogate, &too_deep] {
            assert_eq!(from_slice::<Value>(text.as_bytes()), None, "{text}");
        }
        let invalid_utf8 = b"{\"a\":\"\xff\"}";
        assert_eq!(from_slice::<Value>(invalid_utf8), None);
    }

    #[test]
    fn object_with_more_than_64_members_is_refused() {
        let object = |member_count: usize| {
            let members: Vec<String> = (0..member_count).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(from_slice::<Value>(object(64).as_bytes()).is_some());
        assert!(from_slice::<Value>(object(65).as_bytes()).is_none());
    }
}
