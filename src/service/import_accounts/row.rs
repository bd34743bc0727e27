//! One line of an import: a JSON object, read strictly, since a misspelt field would lose data and nobody would notice.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, error::Category};

use super::lines::MAX_LINE;
use crate::{
    config::PasswordSettings,
    domain::{
        account::{Email, NameError, NewAccount, Roles, Username},
        clock::Timestamp,
        entropy::Entropy,
        secret::PasswordHash,
    },
    password::{BadHash, check_importable},
};

/// The fields a line may have.
const FIELDS: [&str; 5] = ["email", "username", "password_hash", "roles", "created_at"];

/// Why a line wasn't imported. Its text never quotes a value, so that no hash gets into a terminal or a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// Longer than any account could be.
    #[error("it is longer than {MAX_LINE} bytes")]
    TooLong,
    /// Not JSON, or not UTF-8.
    #[error("it is not JSON, from byte {column} on")]
    NotJson {
        /// Counted from 1.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A field that means nothing here.
    #[error("{0} is not a field of an account; those are email, username, password_hash, roles, created_at")]
    UnknownField(String),
    /// A field that is there twice.
    #[error("{0} is there twice")]
    RepeatedField(&'static str),
    /// A field that has to be there.
    #[error("{0} is missing")]
    MissingField(&'static str),
    /// A field that holds something of another kind.
    #[error("{field} is not {expected}")]
    WrongType {
        /// Which.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Not an e-mail address.
    #[error("email {0}")]
    Email(NameError),
    /// Not a username.
    #[error("username {0}")]
    Username(NameError),
    /// One of the roles isn't a role's name.
    #[error("a role {0}")]
    Role(NameError),
    /// A hash that no sign-in could be checked against.
    #[error("password_hash can't be used: {0}")]
    PasswordHash(BadHash),
    /// Not a time, or one before 1970.
    #[error("created_at is not a time since 1970 as in 2026-01-31T12:00:00Z (RFC 3339)")]
    CreatedAt,
    /// An account has the address; perhaps one from an earlier line.
    #[error("an account with this e-mail address exists")]
    EmailTaken,
    /// An account has the name; perhaps one from an earlier line.
    #[error("an account with this username exists")]
    UsernameTaken,
}

impl BadLine {
    /// For programs; never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "line_too_long",
            Self::NotJson { .. } => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::UnknownField(_) => "unknown_field",
            Self::RepeatedField(_) => "repeated_field",
            Self::MissingField(_) => "missing_field",
            Self::WrongType { .. } => "wrong_type",
            Self::Email(_) => "invalid_email",
            Self::Username(_) => "invalid_username",
            Self::Role(_) => "invalid_role",
            Self::PasswordHash(_) => "invalid_password_hash",
            Self::CreatedAt => "invalid_created_at",
            Self::EmailTaken => "email_taken",
            Self::UsernameTaken => "username_taken",
        }
    }
}

/// Reads a line. The account's id is ordered by when the account was made, wherever that was.
pub(super) fn read(
    line: &[u8],
    now: Timestamp,
    entropy: &Entropy,
    settings: &PasswordSettings,
) -> Result<NewAccount, BadLine> {
    let Fields(fields) = serde_json::from_slice(line).map_err(|error| match error.classify() {
        Category::Data => BadLine::NotAnObject,
        _ => BadLine::NotJson { column: error.column() },
    })?;
    let [email, username, password_hash, roles, created_at] = sort(fields)?;

    let email = email.ok_or(BadLine::MissingField("email"))?;
    let email = Email::parse(&text("email", email)?).map_err(BadLine::Email)?;
    let username = username.map(|value| text("username", value)).transpose()?;
    let username = username.map(|name| Username::parse(&name)).transpose().map_err(BadLine::Username)?;
    let password_hash = password_hash.ok_or(BadLine::MissingField("password_hash"))?;
    let password_hash = text("password_hash", password_hash)?;
    check_importable(&password_hash, settings).map_err(BadLine::PasswordHash)?;
    let roles = roles.map(texts).transpose()?.unwrap_or_default();
    let created_at = created_at.map(|value| text("created_at", value)).transpose()?;
    let created_at = created_at.map_or(Ok(now), |text| time(&text))?;
    Ok(NewAccount {
        id: entropy.account_id(created_at),
        email,
        username,
        password_hash: PasswordHash::new(password_hash),
        roles: Roles::parse(roles).map_err(BadLine::Role)?,
        created_at,
    })
}

/// The values in the order of [`FIELDS`]; null is as good as absent.
fn sort(fields: Vec<(String, Value)>) -> Result<[Option<Value>; FIELDS.len()], BadLine> {
    let mut sorted = FIELDS.map(|_| None);
    let mut seen = FIELDS.map(|_| false);
    for (name, value) in fields {
        let Some(index) = FIELDS.iter().position(|field| *field == name) else {
            return Err(BadLine::UnknownField(presentable(&name)));
        };
        if std::mem::replace(&mut seen[index], true) {
            return Err(BadLine::RepeatedField(FIELDS[index]));
        }
        sorted[index] = Some(value).filter(|value| !value.is_null());
    }
    Ok(sorted)
}

/// A field's name, if it looks like one: anything may have been put there by mistake.
fn presentable(name: &str) -> String {
    let ok = (1..=32).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if ok { format!("`{name}`") } else { "one of its names".to_owned() }
}

fn text(field: &'static str, value: Value) -> Result<String, BadLine> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(BadLine::WrongType { field, expected: "a text" }),
    }
}

fn texts(value: Value) -> Result<Vec<String>, BadLine> {
    let wrong = BadLine::WrongType { field: "roles", expected: "a list of texts" };
    let Value::Array(values) = value else { return Err(wrong) };
    values.into_iter().map(|value| text("roles", value).map_err(|_| wrong.clone())).collect()
}

fn time(text: &str) -> Result<Timestamp, BadLine> {
    let time: jiff::Timestamp = text.parse().map_err(|_| BadLine::CreatedAt)?;
    // An id of version 7 holds no time before 1970 (RFC 9562, section 5.7).
    u64::try_from(time.as_millisecond()).map_err(|_| BadLine::CreatedAt)?;
    Ok(Timestamp::from_millis(time.as_millisecond()))
}

/// An object's fields as they stand there, repeated ones too.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
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
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const HASH: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlLXNhbA$po0WFnpifCbP1nuZu91yGD2dGNwq5zdC4rYCO6zunGs";

    fn settings() -> PasswordSettings {
        PasswordSettings {
            min_length: 8,
            max_length: 128,
            min_score: 2,
            banned_words: Vec::new(),
            memory_kib: 64,
            iterations: 1,
            parallelism: 1,
            threads: 1,
            queue: 1,
            max_import_memory_kib: 1024,
            pepper: None,
            previous_peppers: Vec::new(),
        }
    }

    fn read(line: &str) -> Result<NewAccount, BadLine> {
        super::read(line.replace("HASH", HASH).as_bytes(), NOW, &Entropy::system(), &settings())
    }

    #[test]
    fn an_account_is_read_as_it_is_written() {
        let full = r#" {"email":"Ann@Example.com","username":"Ann","password_hash":"HASH","roles":["b","a","b"],"created_at":"2020-02-03T04:05:06.789+01:00"} "#;
        let account = read(full).unwrap();
        assert_eq!((account.email.as_str(), account.username.unwrap().as_str()), ("Ann@Example.com", "Ann"));
        assert_eq!((account.roles.to_string().as_str(), account.password_hash.expose()), ("a b", HASH));
        assert_eq!(account.created_at.to_string(), "2020-02-03T03:05:06.789Z");
        let (seconds, nanos) = account.id.0.get_timestamp().unwrap().to_unix();
        assert_eq!(seconds * 1000 + u64::from(nanos) / 1_000_000, account.created_at.as_millis().unsigned_abs());

        for least in [
            r#"{"email":"a@b","password_hash":"HASH"}"#,
            r#"{"email":"a@b","password_hash":"HASH","username":null,"roles":null,"created_at":null}"#,
        ] {
            let account = read(least).unwrap();
            assert_eq!((account.username, account.roles, account.created_at), (None, Roles::default(), NOW));
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_quoted() {
        let hash = HASH.to_owned();
        let cases = [
            ("HASH", "not_json"),
            ("\u{0}", "not_json"),
            (r#"{"email":"HASH"#, "not_json"),
            (r#"{"email":"a@b","password_hash":"HASH"} x"#, "not_json"),
            (r#""HASH""#, "not_an_object"),
            (r#"["HASH"]"#, "not_an_object"),
            ("null", "not_an_object"),
            ("17", "not_an_object"),
            (r#"{"email":"a@b","password_hash":"HASH","mail":"x"}"#, "unknown_field"),
            (r#"{"email":"a@b","password_hash":"HASH","HASH":"x"}"#, "unknown_field"),
            (r#"{"email":"a@b","password_hash":"HASH","":"x"}"#, "unknown_field"),
            (r#"{"email":"a@b","password_hash":"x","password_hash":"HASH"}"#, "repeated_field"),
            (r#"{"email":"a@b","username":null,"username":"x","password_hash":"HASH"}"#, "repeated_field"),
            ("{}", "missing_field"),
            (r#"{"password_hash":"HASH"}"#, "missing_field"),
            (r#"{"email":"a@b"}"#, "missing_field"),
            (r#"{"email":"a@b","password_hash":null}"#, "missing_field"),
            (r#"{"email":["HASH"],"password_hash":"HASH"}"#, "wrong_type"),
            (r#"{"email":"a@b","password_hash":["HASH"]}"#, "wrong_type"),
            (r#"{"email":"a@b","password_hash":"HASH","roles":"HASH"}"#, "wrong_type"),
            (r#"{"email":"a@b","password_hash":"HASH","roles":[1]}"#, "wrong_type"),
            (r#"{"email":"a@b","password_hash":"HASH","created_at":17}"#, "wrong_type"),
            (r#"{"email":"HASH","password_hash":"HASH"}"#, "invalid_email"),
            (r#"{"email":"a@b\u0000","password_hash":"HASH"}"#, "invalid_email"),
            (r#"{"email":"a@b","username":"HASH","password_hash":"HASH"}"#, "invalid_username"),
            (r#"{"email":"a@b","password_hash":"HASH","roles":["HASH"]}"#, "invalid_role"),
            (r#"{"email":"a@b","password_hash":"$md5$HASH"}"#, "invalid_password_hash"),
            (r#"{"email":"a@b","password_hash":"tidal engine verse marmalade"}"#, "invalid_password_hash"),
            (r#"{"email":"a@b","password_hash":"HASH","created_at":"yesterday"}"#, "invalid_created_at"),
            (r#"{"email":"a@b","password_hash":"HASH","created_at":"2020-02-03T04:05:06"}"#, "invalid_created_at"),
            (r#"{"email":"a@b","password_hash":"HASH","created_at":"1969-12-31T23:59:59Z"}"#, "invalid_created_at"),
        ];
        for (line, code) in cases {
            let bad = read(line).unwrap_err();
            assert_eq!(bad.code(), code, "{line}: {bad}");
            let said = format!("{bad} {bad:?}");
            assert!(!said.contains(&hash[8..]) && !said.contains("marmalade"), "{said}");
        }
        let invalid_utf8 = super::read(b"{\"email\":\"\xff\"}", NOW, &Entropy::system(), &settings());
        assert_eq!(invalid_utf8.unwrap_err().code(), "not_json");
        let costly = read(&r#"{"email":"a@b","password_hash":"HASH"}"#.replace("HASH", &HASH.replace("256", "2048")));
        assert_eq!(costly.unwrap_err(), BadLine::PasswordHash(BadHash::TooCostly("memory")));
        assert_eq!(
            read(r#"{"email":"a@b","user_name":"x"}"#).unwrap_err().to_string(),
            "`user_name` is not a field of an account; those are email, username, password_hash, roles, created_at"
        );
    }
}
