//! Strict JSON: refuses an object with a duplicate member name, because parsers disagree about which of the two members
//! counts (RFC 7515, section 4; RFC 7519, section 4). Names are compared unescaped, at any depth.

mod checking;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use self::checking::Checking;

/// Parses `bytes` as a `T`. `None` if they are not strict JSON ([`Strict`]) or not a `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    // UTF-8 is checked once here: `serde_json::from_slice` would check each string, which is slower.
    let text = str::from_utf8(bytes).ok()?;
    let Strict(value) = serde_json::from_str(text).ok()?;
    Some(value)
}

/// Deserializes a `T`, and refuses objects with a duplicate member or with more than 64 members (`MAX_MEMBERS`), also where `T`
/// ignores them. The keys of maps in `T` must be strings.
#[derive(Debug)]
pub struct Strict<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Checking(deserializer)).map(Self)
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
    fn duplicate_members_are_refused_wherever_a_type_ignores_or_keeps_them() {
        #[derive(Debug, Deserialize, PartialEq)]
        enum Choice {
            Unit,
            Newtype(Value),
            Tuple(u8, Value),
            Struct { value: Value },
        }
        #[derive(Debug, Deserialize, PartialEq)]
        struct Newtype(Value);
        #[derive(Debug, Deserialize, PartialEq)]
        #[serde(tag = "kind")]
        enum Tagged {
            One { value: Value },
        }
        #[derive(Debug, Deserialize, PartialEq)]
        #[serde(untagged)]
        enum Untagged {
            Number(u8),
            Object(serde_json::Map<String, Value>),
        }
        #[derive(Debug, Deserialize, PartialEq)]
        struct Flattened {
            #[serde(flatten)]
            rest: Option<Value>,
        }
        #[derive(Debug, Deserialize, PartialEq)]
        struct Example {
            flattened: Option<Flattened>,
            untagged: Option<Untagged>,
            skipped: Option<serde::de::IgnoredAny>,
            option: Option<Value>,
            newtype: Option<Newtype>,
            choice: Option<Vec<Choice>>,
            tagged: Option<Tagged>,
            map: Option<std::collections::BTreeMap<String, Value>>,
        }
        // `OBJECT` stands for an object, once without and once with a duplicate member.
        for text in [
            r#"{"ignored":OBJECT}"#,
            r#"{"ignored":[[OBJECT]]}"#,
            r#"{"flattened":OBJECT}"#,
            r#"{"flattened":{"rest":OBJECT}}"#,
            r#"{"untagged":OBJECT}"#,
            r#"{"skipped":OBJECT}"#,
            r#"{"option":OBJECT}"#,
            r#"{"\u006fption":OBJECT}"#, // an escaped `o`
            r#"{"newtype":OBJECT}"#,
            r#"{"choice":["Unit",{"Newtype":OBJECT}]}"#,
            r#"{"choice":[{"Tuple":[1,OBJECT]}]}"#,
            r#"{"choice":[{"Struct":{"value":OBJECT}}]}"#,
            r#"{"choice":[{"Struct":{"value":1,"ignored":OBJECT}}]}"#,
            r#"{"tagged":{"value":OBJECT,"kind":"One"}}"#,
            r#"{"tagged":{"value":1,"kind":"One","ignored":OBJECT}}"#,
            r#"{"map":{"a":OBJECT}}"#,
        ] {
            let strict = text.replace("OBJECT", r#"{"a":1,"b":1}"#);
            assert_eq!(
                from_slice::<Example>(strict.as_bytes()),
                Some(serde_json::from_str(&strict).unwrap()),
                "{text}"
            );
            let duplicate = text.replace("OBJECT", r#"{"a":1,"a":1}"#);
            assert_eq!(from_slice::<Example>(duplicate.as_bytes()), None, "{text}");
        }
        let duplicate_variant = r#"{"choice":[{"Struct":{"value":1,"a":1,"a":1}}]}"#;
        assert_eq!(from_slice::<Example>(duplicate_variant.as_bytes()), None);
    }

    #[test]
    fn array_of_a_structs_values_is_refused() {
        #[derive(Deserialize)]
        struct One {
            #[expect(dead_code, reason = "only parsed")]
            value: u8,
        }
        assert!(from_slice::<One>(br#"{"value":1}"#).is_some());
        assert!(from_slice::<One>(b"[1]").is_none());
        assert!(from_slice::<Vec<One>>(b"[[1]]").is_none());
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
        assert!(from_slice::<serde::de::IgnoredAny>(object(65).as_bytes()).is_none());
    }
}
