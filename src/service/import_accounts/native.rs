//! Latchkey's own import format: one JSON object a line. The format is read strictly, because a misspelt field would lose data silently.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, error::Category};

use super::record::{BadRecord, Record, RecordEmail, parse_time};

/// The fields of a record. [`read`] depends on their order.
const FIELDS: [&str; 11] = [
    "id",
    "email",
    "email_verified",
    "username",
    "password_hash",
    "roles",
    "disabled",
    "created_at",
    "updated_at",
    "totp_secret",
    "secondary_emails",
];

/// Reads the account of one line.
pub(super) fn read(line: &[u8]) -> Result<Record, BadRecord> {
    let Fields(fields) = parse_json(line)?;
    let mut given = FIELDS.map(|_| None);
    for (name, value) in fields {
        let Some(index) = FIELDS.iter().position(|field| *field == name) else {
            return Err(BadRecord::UnknownField(quote_name(&name)));
        };
        if given[index].replace(value).is_some() {
            return Err(BadRecord::RepeatedField(FIELDS[index]));
        }
    }
    // Null stands for an absent field, so nulls are removed below. But the hash must not be absent: an account without a password has an
    // explicit null.
    let [_, _, _, _, given_hash, ..] = &given;
    let is_hash_given = given_hash.is_some();
    let [id, email, verified, username, hash, roles, disabled, created, updated, totp, secondary] =
        given.map(|value| value.filter(|value| !value.is_null()));
    let text = |field, value: Option<Value>| value.map(|value| string(field, value)).transpose();
    let email = text("email", email)?.ok_or(BadRecord::MissingField("email"))?;
    if !is_hash_given {
        return Err(BadRecord::MissingHash);
    }
    let password_hash = text("password_hash", hash)?;
    Ok(Record {
        id: text("id", id)?,
        email: Some(email),
        email_verified: boolean("email_verified", verified)?,
        username: text("username", username)?,
        password_hash,
        roles: roles.map(roles_array).transpose()?.unwrap_or_default(),
        disabled: boolean("disabled", disabled)?,
        created_at: text("created_at", created)?.map(|text| parse_time("created_at", &text)).transpose()?,
        updated_at: text("updated_at", updated)?.map(|text| parse_time("updated_at", &text)).transpose()?,
        totp_secret: text("totp_secret", totp)?,
        secondary_emails: secondary.map(secondary_emails).transpose()?.unwrap_or_default(),
    })
}

/// Parses a JSON object.
pub(super) fn parse_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, BadRecord> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        // valid JSON of another type
        Category::Data => BadRecord::NotAnObject,
        _ => BadRecord::NotJson { column: error.column() },
    })
}

/// Quotes a field's name for a message. Hides a text that does not look like a name, because it may be a misplaced value.
fn quote_name(name: &str) -> String {
    // longer than every field's name
    const MAX_NAME_BYTES: usize = 32;
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_name { format!("`{name}`") } else { "(name not shown)".to_owned() }
}

fn string(field: &'static str, value: Value) -> Result<String, BadRecord> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(BadRecord::WrongType { field, expected: "a string" }),
    }
}

fn boolean(field: &'static str, value: Option<Value>) -> Result<bool, BadRecord> {
    match value {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(value),
        Some(_) => Err(BadRecord::WrongType { field, expected: "true or false" }),
    }
}

/// Reads the array of roles.
fn roles_array(value: Value) -> Result<Vec<String>, BadRecord> {
    let wrong = BadRecord::WrongType { field: "roles", expected: "an array of strings" };
    let Value::Array(values) = value else { return Err(wrong) };
    values.into_iter().map(|value| string("roles", value).map_err(|_| wrong.clone())).collect()
}

/// Reads the array of secondary addresses: `[{"email": "ada@work.example", "verified": true}]`.
fn secondary_emails(value: Value) -> Result<Vec<RecordEmail>, BadRecord> {
    let wrong = || BadRecord::WrongType {
        field: "secondary_emails",
        expected: "an array of objects with `email` and, optionally, `verified`",
    };
    let Value::Array(values) = value else { return Err(wrong()) };
    let read_entry = |value: Value| {
        let Value::Object(mut object) = value else { return Err(wrong()) };
        let (email, verified) = (object.remove("email"), object.remove("verified"));
        match (email, verified.unwrap_or(Value::Bool(false))) {
            // a member that is left has an unknown name
            (Some(Value::String(email)), Value::Bool(verified)) if object.is_empty() => {
                Ok(RecordEmail { email, verified })
            }
            _ => Err(wrong()),
        }
    };
    values.into_iter().map(read_entry).collect()
}

/// An object's fields in order, including repeated ones, of which [`serde_json::Map`] would keep only the last.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::PasswordSettings,
        domain::{
            account::{NewAccount, Roles},
            clock::Timestamp,
            entropy::Entropy,
        },
        password::BadHash,
        service::import_accounts::tests::settings,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const HASH: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlLXNhbA$po0WFnpifCbP1nuZu91yGD2dGNwq5zdC4rYCO6zunGs";

    /// Imports a line, in which the word HASH stands for [`HASH`].
    fn import(line: &str) -> Result<NewAccount, BadRecord> {
        import_with(line, &settings())
    }

    fn import_with(line: &str, settings: &PasswordSettings) -> Result<NewAccount, BadRecord> {
        read(line.replace("HASH", HASH).as_bytes())?.validate(NOW, &Entropy::system(), settings)
    }

    #[test]
    fn record_keeps_the_values_of_its_fields() {
        let line = r#" {"id":"8281cec3-5b48-46eb-a41d-72c15ec3f9e2","email":"Ann@Example.com","email_verified":true,
            "username":"Ann","password_hash":"HASH","roles":["b","a","b"],"disabled":true,
            "created_at":"2020-02-03T04:05:06.789+01:00","updated_at":"2021-02-03T04:05:06Z"} "#;
        let account = import(line).unwrap();
        assert_eq!(account.id.to_string(), "8281cec3-5b48-46eb-a41d-72c15ec3f9e2");
        assert_eq!(account.email.as_str(), "Ann@Example.com");
        assert_eq!(account.username.unwrap().as_str(), "Ann");
        assert!(account.email_verified);
        assert_eq!(account.roles.to_string(), "a b");
        assert_eq!(account.password_hash.unwrap().expose(), HASH);
        assert_eq!(account.disabled_at, Some(NOW));
        assert_eq!(account.created_at.to_string(), "2020-02-03T03:05:06.789Z");
        assert_eq!(account.updated_at.to_string(), "2021-02-03T04:05:06.000Z");
    }

    #[test]
    fn secondary_addresses_are_read_and_invalid_lists_are_refused() {
        // the primary address and two more
        const MAX_EMAILS: usize = 3;
        let emails = |list: &str| {
            let line = format!(r#"{{"email":"a@b.c","password_hash":null,"secondary_emails":{list}}}"#);
            read(line.as_bytes()).and_then(|record| record.secondary_emails(MAX_EMAILS))
        };
        let addresses = emails(r#"[{"email":"D@e.f","verified":true},{"email":"g@h.i"}]"#).unwrap();
        let addresses: Vec<_> = addresses.iter().map(|(email, verified)| (email.as_str(), *verified)).collect();
        assert_eq!(addresses, [("D@e.f", true), ("g@h.i", false)]);
        assert_eq!(emails("null").unwrap(), []);
        for (list, code) in [
            (r#"["d@e.f"]"#, "wrong_type"),
            (r#"[{"email":"d@e.f","primary":true}]"#, "wrong_type"),
            (r#"[{"verified":true}]"#, "wrong_type"),
            (r#"[{"email":"d@e"}]"#, "invalid_email"),
            // the primary address
            (r#"[{"email":"A@b.c"}]"#, "repeated_email"),
            (r#"[{"email":"d@e.f"},{"email":"D@E.F"}]"#, "repeated_email"),
            (r#"[{"email":"d@e.f"},{"email":"g@h.i"},{"email":"j@k.l"}]"#, "too_many_emails"),
        ] {
            assert_eq!(emails(list).unwrap_err().code(), code, "{list}");
        }
    }

    #[test]
    fn record_without_id_gets_a_version_7_id_of_its_creation_time() {
        let line = r#"{"email":"a@b.c","password_hash":"HASH","created_at":"2020-02-03T04:05:06.789Z"}"#;
        let account = import(line).unwrap();
        let (seconds, nanos) = account.id.0.get_timestamp().unwrap().to_unix();
        assert_eq!(seconds * 1000 + u64::from(nanos) / 1_000_000, account.created_at.as_millis().unsigned_abs());
    }

    #[test]
    fn record_with_required_fields_only_gets_defaults() {
        for line in [
            r#"{"email":"a@b.c","password_hash":"HASH"}"#,
            r#"{"email":"a@b.c","password_hash":"HASH","id":null,"username":null,"roles":null,"disabled":null,
                "email_verified":null,"created_at":null,"updated_at":null}"#,
        ] {
            let account = import(line).unwrap();
            assert_eq!(account.username, None);
            assert_eq!(account.roles, Roles::default());
            assert_eq!(account.created_at, NOW);
            assert_eq!(account.updated_at, NOW);
            assert_eq!(account.disabled_at, None);
            assert!(!account.email_verified);
        }
    }

    #[test]
    fn record_with_null_hash_is_an_account_without_password() {
        assert_eq!(import(r#"{"email":"a@b.c","password_hash":null}"#).unwrap().password_hash, None);
    }

    #[test]
    fn error_of_invalid_record_does_not_quote_its_values() {
        let parameters_and_hash = HASH.strip_prefix("$argon2id$").unwrap();
        let cases = [
            ("HASH", "not_json"),
            ("\u{0}", "not_json"),
            (r#"{"email":"HASH"#, "not_json"),
            (r#"{"email":"a@b.c","password_hash":"HASH"} x"#, "not_json"),
            (r#""HASH""#, "not_an_object"),
            (r#"["HASH"]"#, "not_an_object"),
            ("null", "not_an_object"),
            ("17", "not_an_object"),
            (r#"{"email":"a@b.c","password_hash":"HASH","mail":"x"}"#, "unknown_field"),
            (r#"{"email":"a@b.c","password_hash":"HASH","HASH":"x"}"#, "unknown_field"),
            (r#"{"email":"a@b.c","password_hash":"HASH","":"x"}"#, "unknown_field"),
            (r#"{"email":"a@b.c","password_hash":"x","password_hash":"HASH"}"#, "repeated_field"),
            (r#"{"email":"a@b.c","username":null,"username":"x","password_hash":"HASH"}"#, "repeated_field"),
            ("{}", "missing_field"),
            (r#"{"password_hash":"HASH"}"#, "missing_field"),
            (r#"{"email":"a@b.c"}"#, "missing_field"),
            (r#"{"email":null,"password_hash":"HASH"}"#, "missing_field"),
            (r#"{"email":["HASH"],"password_hash":"HASH"}"#, "wrong_type"),
            (r#"{"email":"a@b.c","password_hash":["HASH"]}"#, "wrong_type"),
            (r#"{"email":"a@b.c","password_hash":"HASH","roles":"HASH"}"#, "wrong_type"),
            (r#"{"email":"a@b.c","password_hash":"HASH","roles":[1]}"#, "wrong_type"),
            (r#"{"email":"a@b.c","password_hash":"HASH","created_at":17}"#, "wrong_type"),
            (r#"{"email":"a@b.c","password_hash":"HASH","disabled":"HASH"}"#, "wrong_type"),
            (r#"{"email":"a@b.c","password_hash":"HASH","email_verified":1}"#, "wrong_type"),
            (r#"{"email":"a@b.c","password_hash":"HASH","id":"HASH"}"#, "invalid_id"),
            (r#"{"email":"a@b.c","password_hash":"HASH","id":"00000000-0000-0000-0000-000000000000"}"#, "invalid_id"),
            (r#"{"email":"HASH","password_hash":"HASH"}"#, "invalid_email"),
            (r#"{"email":"a@b","password_hash":"HASH"}"#, "invalid_email"),
            (r#"{"email":"a@b.c\u0000","password_hash":"HASH"}"#, "invalid_email"),
            (r#"{"email":"a@b.c","username":"HASH","password_hash":"HASH"}"#, "invalid_username"),
            (r#"{"email":"a@b.c","password_hash":"HASH","roles":["HASH"]}"#, "invalid_role"),
            (r#"{"email":"a@b.c","password_hash":"$md5$HASH"}"#, "invalid_password_hash"),
            (r#"{"email":"a@b.c","password_hash":"tidal engine verse marmalade"}"#, "invalid_password_hash"),
            (r#"{"email":"a@b.c","password_hash":"HASH","created_at":"yesterday"}"#, "invalid_created_at"),
            (r#"{"email":"a@b.c","password_hash":"HASH","created_at":"2020-02-03T04:05:06"}"#, "invalid_created_at"),
            (r#"{"email":"a@b.c","password_hash":"HASH","created_at":"1969-12-31T23:59:59Z"}"#, "invalid_created_at"),
            (r#"{"email":"a@b.c","password_hash":"HASH","updated_at":"yesterday"}"#, "invalid_updated_at"),
        ];
        for (line, code) in cases {
            let bad = import(line).unwrap_err();
            assert_eq!(bad.code(), code, "{line}: {bad}");
            let text = format!("{bad} {bad:?}");
            // a message may name the scheme, but nothing after it
            assert!(!text.contains(parameters_and_hash) && !text.contains("marmalade"), "{text}");
        }
        assert_eq!(read(b"{\"email\":\"\xff\"}").err().map(|bad| bad.code()), Some("not_json"));
        // more memory than `settings` allows
        let costly_hash = HASH.replace("m=256", "m=2048");
        let line = r#"{"email":"a@b.c","password_hash":"HASH"}"#.replace("HASH", &costly_hash);
        assert_eq!(import(&line).unwrap_err(), BadRecord::PasswordHash(BadHash::TooCostly("memory")));
        // a misspelt name is quoted, because it looks like a name and not like a value
        assert_eq!(
            import(r#"{"email":"a@b.c","user_name":"x"}"#).unwrap_err().to_string(),
            "unknown field `user_name`; an account has id, email, email_verified, username, password_hash, roles, \
             disabled, created_at, updated_at, totp_secret and secondary_emails"
        );
    }
}
