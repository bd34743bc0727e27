//! Reads the export files of other systems as they are, without a conversion before the import.

use aws_lc_rs::digest;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    native,
    record::{BadRecord, Record, parse_time, time_from_millis},
    records::{JsonScanner, Splitter, csv_fields},
};
use crate::{
    domain::clock::Timestamp,
    password::{BadHash, FirebaseHashConfig, Pbkdf2Digest, pbkdf2},
};

/// The format of an import.
#[derive(Clone, Debug)]
pub enum Format {
    /// Latchkey's own format: one JSON object a line.
    Native,
    /// The output of `manage.py dumpdata` for `auth.user` or a custom user model.
    Django,
    /// A realm export with users, from `kc.sh export`.
    Keycloak,
    /// A user export or import file, NDJSON or a JSON array, with or without password hashes.
    Auth0,
    /// The output of `firebase auth:export users.json --format=json`.
    Firebase(FirebaseHashConfig),
    /// The table `auth.users` as CSV or JSON.
    Supabase,
}

/// Reads the records of a format.
pub(super) struct RecordReader<'a> {
    format: &'a Format,
    /// The columns of a CSV file, once its first record has been read.
    columns: Option<Vec<String>>,
    is_csv: bool,
}

impl<'a> RecordReader<'a> {
    /// Creates a reader, and chooses how to split the stream that starts with `head`.
    pub(super) fn new(format: &'a Format, head: &[u8]) -> (Self, Splitter) {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head).trim_ascii_start();
        let is_csv = matches!(format, Format::Supabase) && !head.starts_with(b"[") && !head.starts_with(b"{");
        let splitter = match format {
            Format::Native => Splitter::Lines,
            Format::Keycloak | Format::Firebase(_) => Splitter::Json(JsonScanner::users()),
            Format::Supabase if is_csv => Splitter::Csv { quoted: false },
            Format::Django | Format::Auth0 | Format::Supabase => Splitter::Json(JsonScanner::top_level()),
        };
        (Self { format, columns: None, is_csv }, splitter)
    }

    /// Whether the next record is a CSV header. A resumed import must read it although it skips the record.
    pub(super) fn needs_header(&self) -> bool {
        self.is_csv && self.columns.is_none()
    }

    /// Reads a record. Returns `None` if it is no account but, for example, a blank line. `now` decides whether a ban has ended.
    pub(super) fn read(&mut self, bytes: &[u8], now: Timestamp) -> Result<Option<Record>, BadRecord> {
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        if self.is_csv {
            let fields = csv_fields(bytes).ok_or(BadRecord::NotCsv)?;
            let Some(columns) = &self.columns else {
                self.columns = Some(fields);
                return Ok(None);
            };
            if columns.len() != fields.len() {
                return Err(BadRecord::NotCsv);
            }
            let values = fields.into_iter().map(|field| if field.is_empty() { Value::Null } else { field.into() });
            return supabase(&Object(columns.iter().cloned().zip(values).collect()), now);
        }
        let object = || native::parse_json(bytes).map(Object);
        match self.format {
            Format::Native => native::read(bytes).map(Some),
            Format::Django => django(&object()?),
            Format::Keycloak => keycloak(&object()?),
            Format::Auth0 => auth0(&object()?).map(Some),
            Format::Firebase(config) => firebase(&object()?, config).map(Some),
            Format::Supabase => supabase(&object()?, now),
        }
    }
}

/// A JSON object with typed access to its members. Absent and null members are `None`.
struct Object(Map<String, Value>);

impl Object {
    /// A member that is present and not null.
    fn get(&self, name: &'static str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A string; `None` if it is empty.
    fn text(&self, name: &'static str) -> Result<Option<String>, BadRecord> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(BadRecord::WrongType { field: name, expected: "a string" }),
        }
    }

    /// A boolean, also in the text forms of CSV exports.
    fn flag(&self, name: &'static str) -> Result<Option<bool>, BadRecord> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text == "true" || text == "t" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" || text == "f" => Ok(Some(false)),
            Some(_) => Err(BadRecord::WrongType { field: name, expected: "true or false" }),
        }
    }

    /// A time in the form of RFC 3339 or MongoDB's `{"$date": …}`. A space may replace the `T`. Without an offset, the time is in UTC.
    fn time(&self, name: &'static str) -> Result<Option<Timestamp>, BadRecord> {
        let value = self.get(name).map(|value| value.get("$date").unwrap_or(value));
        let text = match value {
            None => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(_) => return Err(BadRecord::WrongType { field: name, expected: "a time" }),
        };
        if let Ok(time) = parse_time(name, &text) {
            return Ok(Some(time));
        }
        let text_in_utc = format!("{text}Z");
        parse_time(name, &text_in_utc).map(Some)
    }

    /// A time in milliseconds since 1970, as a number or a string.
    fn millis(&self, name: &'static str) -> Result<Option<Timestamp>, BadRecord> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_i64(),
        };
        let time = number.and_then(|number| time_from_millis(name, number).ok());
        time.ok_or(BadRecord::Millis(name)).map(Some)
    }
}

/// The id of an imported account. An id that is not a UUID becomes the version 5 UUID of `system:id` in the namespace for URLs (RFC 9562,
/// section 5.5). So applications can compute the new id.
fn account_id(system: &str, id: &str) -> String {
    if let Ok(id) = Uuid::try_parse(id) {
        return id.to_string();
    }
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(Uuid::NAMESPACE_URL.as_bytes());
    context.update(format!("{system}:{id}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid().to_string()
}

/// The username of an imported account. Drops a username that repeats the e-mail address: it only fills a field that the system requires.
fn username(name: Option<String>, email: Option<&String>) -> Option<String> {
    name.filter(|name| email.is_none_or(|email| email.to_lowercase() != name.to_lowercase()))
}

/// A row of `dumpdata`. Rows of models without a password are skipped.
fn django(row: &Object) -> Result<Option<Record>, BadRecord> {
    let Some(Value::Object(fields)) = row.get("fields") else { return Ok(None) };
    let fields = Object(fields.clone());
    if !fields.0.contains_key("password") {
        return Ok(None);
    }
    let email = fields.text("email")?;
    let id = match row.get("pk") {
        Some(Value::String(id)) => Some(account_id("django", id)),
        Some(Value::Number(id)) => Some(account_id("django", &id.to_string())),
        _ => None,
    };
    Ok(Some(Record {
        id,
        username: username(fields.text("username")?, email.as_ref()),
        email,
        // Django writes "!" and random characters for an account without a password.
        password_hash: fields.text("password")?.filter(|hash| !hash.starts_with('!')),
        disabled: !fields.flag("is_active")?.unwrap_or(true),
        created_at: fields.time("date_joined")?,
        ..Record::default()
    }))
}

/// An element of `users` in a realm export. Service accounts are skipped.
fn keycloak(user: &Object) -> Result<Option<Record>, BadRecord> {
    if user.get("serviceAccountClientId").is_some() {
        return Ok(None);
    }
    let email = user.text("email")?;
    let credentials = user.get("credentials").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let password = credentials.iter().find(|credential| credential["type"] == "password");
    Ok(Some(Record {
        id: user.text("id")?.map(|id| account_id("keycloak", &id)),
        username: username(user.text("username")?, email.as_ref()),
        email,
        email_verified: user.flag("emailVerified")?.unwrap_or(false),
        password_hash: password.map(keycloak_hash).transpose().map_err(BadRecord::PasswordHash)?,
        disabled: !user.flag("enabled")?.unwrap_or(true),
        created_at: user.millis("createdTimestamp")?,
        ..Record::default()
    }))
}

/// Converts a password credential of Keycloak. The credential has two JSON documents as strings: `secretData` (value, salt) and
/// `credentialData` (algorithm, parameters).
fn keycloak_hash(credential: &Value) -> Result<String, BadHash> {
    let document = |name: &str| -> Option<Value> { serde_json::from_str(credential[name].as_str()?).ok() };
    let (secret, data) = (document("secretData"), document("credentialData"));
    let (Some(secret), Some(data)) = (secret, data) else { return Err(BadHash::Malformed) };
    let bytes = |name: &str| -> Result<Vec<u8>, BadHash> {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let text = secret[name].as_str().ok_or(BadHash::Malformed)?;
        BASE64_STANDARD.decode(text).map_err(|_| BadHash::Malformed)
    };
    let (hash, salt) = (bytes("value")?, bytes("salt")?);
    let iterations = data["hashIterations"].as_u64().and_then(|number| u32::try_from(number).ok());
    let iterations = iterations.ok_or(BadHash::Malformed)?;
    let digest = match data["algorithm"].as_str() {
        Some("pbkdf2") => Pbkdf2Digest::Sha1,
        Some("pbkdf2-sha256") => Pbkdf2Digest::Sha256,
        Some("pbkdf2-sha512") => Pbkdf2Digest::Sha512,
        Some("argon2") => return keycloak_argon2(&data["additionalParameters"], iterations, &salt, &hash),
        _ => return Err(BadHash::UnknownScheme("an algorithm of a Keycloak extension")),
    };
    Ok(pbkdf2(digest, iterations, &salt, &hash))
}

/// Converts an Argon2 hash of Keycloak to a PHC string. Each member of `parameters` is an array with one string.
fn keycloak_argon2(parameters: &Value, passes: u32, salt: &[u8], hash: &[u8]) -> Result<String, BadHash> {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

    let parameter = |name: &str| parameters[name][0].as_str().ok_or(BadHash::Malformed);
    let version = match parameter("version")? {
        // PHC strings have the version's byte, 0x13 or 0x10, in decimal.
        "1.3" => 19,
        "1.0" => 16,
        _ => return Err(BadHash::Malformed),
    };
    let number = |name: &str| parameter(name)?.parse::<u32>().map_err(|_| BadHash::Malformed);
    let (kind, memory, lanes) = (parameter("type")?, number("memory")?, number("parallelism")?);
    let (salt, hash) = (BASE64_STANDARD_NO_PAD.encode(salt), BASE64_STANDARD_NO_PAD.encode(hash));
    Ok(format!("$argon2{kind}$v={version}$m={memory},t={passes},p={lanes}${salt}${hash}"))
}

/// A user of a bulk export or import file, or of the file of password hashes that Auth0's support provides.
fn auth0(user: &Object) -> Result<Record, BadRecord> {
    let email = user.text("email")?;
    // In the file of password hashes, a user has an id of MongoDB. In the other files, `auth0|` precedes this id.
    let mongo_id = user.get("_id").and_then(|id| id["$oid"].as_str().or(id.as_str()));
    let id_from_mongo = mongo_id.map(|id| format!("auth0|{id}"));
    let hash = match (user.text("passwordHash")?.or(user.text("password_hash")?), user.get("custom_password_hash")) {
        (Some(hash), _) => Some(hash),
        (None, Some(custom)) => {
            let value = custom["hash"]["value"].as_str().filter(|value| !value.is_empty());
            Some(value.ok_or(BadRecord::MissingField("custom_password_hash.hash.value"))?.to_owned())
        }
        (None, None) => None,
    };
    Ok(Record {
        id: user.text("user_id")?.or(id_from_mongo).map(|id| account_id("auth0", &id)),
        username: username(user.text("username")?, email.as_ref()),
        email,
        email_verified: user.flag("email_verified")?.unwrap_or(false),
        password_hash: hash,
        disabled: user.flag("blocked")?.unwrap_or(false),
        created_at: user.time("created_at")?,
        updated_at: user.time("updated_at")?,
        ..Record::default()
    })
}

/// An element of `users` in an export of the Firebase command line.
fn firebase(user: &Object, config: &FirebaseHashConfig) -> Result<Record, BadRecord> {
    let firebase_hash = user.text("passwordHash")?;
    let salt = user.text("salt")?.unwrap_or_default();
    let password_hash = match firebase_hash {
        Some(hash) => Some(config.hash(&salt, &hash).ok_or(BadRecord::PasswordHash(BadHash::Malformed))?),
        None => None,
    };
    Ok(Record {
        id: user.text("localId")?.map(|id| account_id("firebase", &id)),
        email: user.text("email")?,
        email_verified: user.flag("emailVerified")?.unwrap_or(false),
        password_hash,
        disabled: user.flag("disabled")?.unwrap_or(false),
        created_at: user.millis("createdAt")?,
        ..Record::default()
    })
}

/// A row of `auth.users`. Deleted users are skipped; banned ones are disabled.
fn supabase(row: &Object, now: Timestamp) -> Result<Option<Record>, BadRecord> {
    if row.get("deleted_at").is_some() {
        return Ok(None);
    }
    let confirmed = row.time("email_confirmed_at")?.or(row.time("confirmed_at")?);
    Ok(Some(Record {
        id: row.text("id")?.map(|id| account_id("supabase", &id)),
        email: row.text("email")?,
        email_verified: confirmed.is_some(),
        password_hash: row.text("encrypted_password")?,
        disabled: row.time("banned_until")?.is_some_and(|until| until > now),
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        ..Record::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        Object(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn unreadable_time_is_reported_with_the_field_of_the_export_file() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let read_row = |field: &str| supabase(&object(&format!(r#"{{"{field}":"yesterday"}}"#)), now).err();
        for (field, code) in [
            ("created_at", "invalid_created_at"),
            ("updated_at", "invalid_updated_at"),
            ("banned_until", "invalid_time"),
            ("email_confirmed_at", "invalid_time"),
            ("confirmed_at", "invalid_time"),
        ] {
            let bad = read_row(field).unwrap();
            assert_eq!(bad.code(), code);
            assert!(bad.to_string().starts_with(&format!("{field} is not a time since 1970 in the form")), "{bad}");
        }
        let bad = django(&object(r#"{"fields":{"password":"!","date_joined":"yesterday"}}"#)).err().unwrap();
        assert_eq!(bad.code(), "invalid_created_at");
        assert_eq!(bad, BadRecord::Time("date_joined"));
        // Not a number, before 1970, a fraction, and the year 10000.
        for number in [r#""yesterday""#, "-1", "1.5", "253402300800000"] {
            let bad = keycloak(&object(&format!(r#"{{"createdTimestamp":{number}}}"#))).err().unwrap();
            assert_eq!(bad.code(), "invalid_created_at");
            assert_eq!(bad, BadRecord::Millis("createdTimestamp"));
        }
    }

    #[test]
    fn record_whose_hash_object_has_no_value_is_refused() {
        for custom in ["{}", r#"{"algorithm":"argon2","hash":{}}"#, r#"{"hash":{"value":""}}"#] {
            let bad = auth0(&object(&format!(r#"{{"custom_password_hash":{custom}}}"#))).err();
            assert_eq!(bad, Some(BadRecord::MissingField("custom_password_hash.hash.value")), "{custom}");
        }
        let read = auth0(&object(r#"{"passwordHash":"$2b$","custom_password_hash":{}}"#)).ok().unwrap();
        assert_eq!(read.password_hash.as_deref(), Some("$2b$"));
        let read = auth0(&object(r#"{"custom_password_hash":null}"#)).ok().unwrap();
        assert_eq!(read.password_hash, None);

        let hash_from = |secret: Value| {
            let data = r#"{"hashIterations":1,"algorithm":"pbkdf2-sha256"}"#;
            let credential = serde_json::json!({
                "type": "password", "secretData": secret.to_string(), "credentialData": data,
            });
            keycloak_hash(&credential)
        };
        assert!(hash_from(serde_json::json!({ "value": "AAAA", "salt": "AAAA" })).is_ok());
        assert_eq!(hash_from(serde_json::json!({ "salt": "AAAA" })), Err(BadHash::Malformed));
        assert_eq!(hash_from(serde_json::json!({ "value": "AAAA" })), Err(BadHash::Malformed));
    }

    #[test]
    fn id_that_is_not_a_uuid_becomes_a_version_5_uuid() {
        // Python: uuid.uuid5(uuid.NAMESPACE_URL, "django:42")
        assert_eq!(account_id("django", "42"), "72f85f80-28d2-56b6-8571-d6fa81cefb4d");
        let id = "8281cec3-5b48-46eb-a41d-72c15ec3f9e2";
        assert_eq!(account_id("keycloak", id), id);
    }

    #[test]
    fn username_that_repeats_the_email_is_dropped() {
        let email = "Ann@example.com".to_owned();
        assert_eq!(username(Some("ann@Example.com".to_owned()), Some(&email)), None);
        assert_eq!(username(Some("ann".to_owned()), Some(&email)).as_deref(), Some("ann"));
    }
}
